package transactions

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/locker-project/locker/plugins"
	"github.com/locker-project/locker/plugins/connectors/internal/batch"
	"github.com/locker-project/locker/plugins/connectors/internal/charset"
)

// looksLikeOFX says whether text begins as OFX 1.x or 2.x do.
func looksLikeOFX(text string) bool {
	text = strings.ToUpper(strings.TrimSpace(text))
	switch {
	case strings.HasPrefix(text, "OFXHEADER"), strings.HasPrefix(text, "<?OFX"), strings.HasPrefix(text, "<OFX>"):
		return true
	case strings.HasPrefix(text, "<?XML"), strings.HasPrefix(text, "<!--"):
		return strings.Contains(text, "<?OFX") || strings.Contains(text, "<OFX>")
	}
	return false
}

// An ofxParser follows the tags of one file and makes a transaction of each
// STMTTRN.
type ofxParser struct {
	lex *ofxLexer
	out plugins.Sink
	w   *writer

	currency string            // CURDEF of the statement
	account  map[string]string // BANKACCTFROM or CCACCTFROM of the statement
	inside   string            // the aggregate within STMTTRN whose values are read, such as "PAYEE"
	inFrom   bool              // within BANKACCTFROM
	card     bool              // the account is a card
	trn      map[string]string // values of the open STMTTRN; nil outside
	trnLine  int
	count    int  // STMTTRN so far
	ended    bool // </OFX> was there
	foreign  map[string]int
}

// parseOFX reads a whole file. It streams: memory holds one transaction and the
// ids of all.
func parseOFX(ctx context.Context, f plugins.File, out plugins.Sink) error {
	head := make([]byte, min(f.Size(), 4096))
	if _, err := f.ReadAt(head, 0); err != nil && err != io.EOF {
		return err
	}
	set, err := charset.Detect(ctx, f, f.Size(), declaredCharset(string(head)))
	if err != nil {
		return err
	}
	b := batch.New(ctx, out)
	p := &ofxParser{lex: newOFXLexer(set.Reader(f, f.Size())), out: out, w: newWriter(b), foreign: make(map[string]int)}
	if err := p.run(ctx); err != nil {
		return err
	}
	if err := b.Flush(); err != nil {
		return err
	}
	p.notes()
	return nil
}

// declaredCharset finds the encoding that the header names: CHARSET:1252 of 1.x,
// encoding="…" of 2.x.
func declaredCharset(head string) string {
	for line := range strings.Lines(head) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), "CHARSET:"); ok {
			return value
		}
	}
	if _, rest, ok := strings.Cut(head, `encoding="`); ok {
		name, _, _ := strings.Cut(rest, `"`)
		return name
	}
	return ""
}

func (p *ofxParser) run(ctx context.Context) error {
	if _, err := p.lex.skip(); err != nil {
		return p.broken(err)
	}
	for n := 0; ; n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		t, err := p.lex.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return p.broken(err)
		}
		if err := p.token(t); err != nil {
			return err
		}
	}
	if !p.ended || p.trn != nil {
		return &plugins.FileError{At: p.at(), Why: "the file ends before </OFX>: it was cut off; download it again"}
	}
	return nil
}

func (p *ofxParser) at() string { return fmt.Sprintf("line %d", p.lex.line) }

// broken says where the file is no OFX. Errors of reading stay what they are.
func (p *ofxParser) broken(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return &plugins.FileError{At: p.at(), Why: "the file ends in the middle of a tag: it was cut off; download it again"}
	}
	if bad := formatError(""); errors.As(err, &bad) {
		return &plugins.FileError{At: p.at(), Why: string(bad)}
	}
	return err
}

func (p *ofxParser) token(t token) error {
	switch t.name {
	case "OFX":
		p.ended = p.ended || t.close
	case "STMTTRN":
		if err := p.finish(); err != nil {
			return err
		}
		if !t.close {
			p.trn, p.trnLine, p.inside = make(map[string]string, 12), t.line, ""
			p.count++
		}
	case "STMTRS", "CCSTMTRS", "INVSTMTRS":
		p.currency, p.account, p.inFrom = "", nil, false
	case "CURDEF":
		if !t.close {
			p.currency = clip(strings.ToUpper(t.text))
		}
	case "BANKACCTFROM", "CCACCTFROM", "INVACCTFROM":
		p.inFrom, p.card = !t.close, t.name == "CCACCTFROM"
		if p.inFrom {
			p.account = make(map[string]string)
		}
	case "PAYEE", "CURRENCY", "ORIGCURRENCY", "BANKACCTTO", "CCACCTTO":
		p.inside = t.name
		if t.close {
			p.inside = ""
		}
	case "BUYSTOCK", "BUYMF", "BUYOTHER", "BUYDEBT", "BUYOPT", "SELLSTOCK", "SELLMF", "SELLOTHER", "SELLDEBT", "SELLOPT", "INCOME", "REINVEST", "TRANSFER":
		if !t.close && p.trn == nil {
			p.foreign[t.name]++
		}
	default:
		p.value(t)
	}
	return nil
}

// value keeps the text of an element where it belongs.
func (p *ofxParser) value(t token) {
	switch {
	case t.close || t.text == "":
	case p.inFrom:
		p.account[t.name] = clip(t.text)
	case p.trn == nil:
	case p.inside != "":
		p.trn[p.inside+"."+t.name] = t.text
	default:
		if _, twice := p.trn[t.name]; !twice {
			p.trn[t.name] = t.text
		}
	}
}

// finish makes a transaction of the open STMTTRN, if there is one.
func (p *ofxParser) finish() error {
	if p.trn == nil {
		return nil
	}
	values := p.trn
	p.trn, p.inside = nil, ""
	t, err := p.transaction(values)
	if err != nil {
		p.out.Fail(fmt.Sprintf("STMTTRN %d, line %d", p.count, p.trnLine), err.Error())
		return nil
	}
	return p.w.put(t)
}

func (p *ofxParser) transaction(v map[string]string) (*transaction, error) {
	posted, noDate := parseOFXTime(v["DTPOSTED"])
	amount, noAmount := parseOFXAmount(v["TRNAMT"])
	switch {
	case noDate != nil && noAmount != nil:
		return nil, fmt.Errorf("DTPOSTED %q %w, and TRNAMT %q %w", v["DTPOSTED"], noDate, v["TRNAMT"], noAmount)
	case noDate != nil:
		return nil, fmt.Errorf("DTPOSTED %q %w", v["DTPOSTED"], noDate)
	case noAmount != nil:
		return nil, fmt.Errorf("TRNAMT %q %w", v["TRNAMT"], noAmount)
	}
	t := &transaction{
		Amount:       amount,
		Currency:     first(currencyCode(strings.ToUpper(v["CURRENCY.CURSYM"])), currencyCode(p.currency)),
		Payee:        first(v["NAME"], v["PAYEE.NAME"]),
		Memo:         v["MEMO"],
		Account:      strings.Join(strings.Fields(p.account["ACCTID"]), ""),
		AccountType:  p.accountType(),
		BankID:       first(p.account["BANKID"], p.account["BROKERID"]),
		Kind:         ofxKind(v["TRNTYPE"]),
		Reference:    v["REFNUM"],
		FitID:        v["FITID"],
		CheckNumber:  v["CHECKNUM"],
		Counterparty: first(v["BANKACCTTO.ACCTID"], v["CCACCTTO.ACCTID"]),
		time:         posted,
	}
	if t.Payee == "" {
		t.Payee, t.Memo = t.Memo, ""
	}
	if user, err := parseOFXTime(v["DTUSER"]); err == nil {
		t.TransactionDate = user.Format(time.RFC3339)
	}
	if avail, err := parseOFXTime(v["DTAVAIL"]); err == nil {
		t.ValueDate = avail.Format(time.DateOnly)
	}
	if code := currencyCode(strings.ToUpper(v["ORIGCURRENCY.CURSYM"])); code != "" {
		t.OriginalCurrency = code
	}
	for _, name := range known {
		delete(v, name)
	}
	if len(v) > 0 {
		t.Other = v
	}
	return t, nil
}

// known are the elements of a STMTTRN that become fields; the rest is kept
// beside them.
var known = []string{"TRNTYPE", "DTPOSTED", "TRNAMT", "FITID", "NAME", "MEMO", "CHECKNUM", "REFNUM", "PAYEE.NAME",
	"CURRENCY.CURSYM", "ORIGCURRENCY.CURSYM", "DTUSER", "DTAVAIL", "BANKACCTTO.ACCTID", "CCACCTTO.ACCTID"}

func (p *ofxParser) accountType() string {
	switch t := p.account["ACCTTYPE"]; {
	case p.card:
		return "credit"
	case t == "CHECKING", t == "SAVINGS", t == "CD":
		return strings.ToLower(t)
	case t == "MONEYMRKT":
		return "moneymarket"
	case t == "CREDITLINE":
		return "credit"
	case p.account["BROKERID"] != "":
		return "investment"
	}
	return ""
}

// ofxKind translates a TRNTYPE.
func ofxKind(s string) string {
	switch s = strings.ToLower(s); s {
	case "int":
		return "interest"
	case "div":
		return "dividend"
	case "srvchg":
		return "fee"
	case "dep", "directdep":
		return "deposit"
	case "xfer":
		return "transfer"
	case "directdebit", "repeatpmt":
		return strings.Replace(s, "pmt", "payment", 1)
	}
	return s
}

func (p *ofxParser) notes() {
	if p.w.repeated > 0 {
		batch.Note(p.out, "%d transactions were in the file twice under one id of the bank and taken once", p.w.repeated)
	}
	if p.count == 0 {
		batch.Note(p.out, "the statement has no transactions")
	}
	for _, name := range sortedKeys(p.foreign) {
		batch.Note(p.out, "%d of %s (trades) were not read: only the money transactions are", p.foreign[name], name)
	}
}

// first returns the first string that is not empty.
func first(s ...string) string {
	for _, v := range s {
		if v != "" {
			return v
		}
	}
	return ""
}
