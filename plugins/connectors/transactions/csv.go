package transactions

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/locker-project/locker/plugins"
	"github.com/locker-project/locker/plugins/connectors/internal/batch"
	"github.com/locker-project/locker/plugins/connectors/internal/charset"
)

// recogniseCSV says how sure it is that a table is a statement, by its first
// rows.
func recogniseCSV(text string, cut bool) int {
	l, err := findLayout(text, cut)
	switch {
	case err != nil:
		return 10 // a statement, but it has to be refused with a reason
	case l == nil:
		return 0
	case l.bare:
		return 40
	}
	return min(90, 40+5*l.roles())
}

// parseCSV reads the file twice: to find out how its dates and amounts are
// written, and to take the transactions. Memory holds one row, and for each row
// of the file a few bytes by which equal ones are told apart.
func parseCSV(ctx context.Context, f plugins.File, out plugins.Sink) error {
	set, err := charset.Detect(ctx, f, f.Size(), "")
	if err != nil {
		return err
	}
	text := make([]byte, sample)
	n, err := io.ReadFull(set.Reader(f, f.Size()), text)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return err
	}
	l, err := findLayout(string(text[:n]), n == len(text))
	if err != nil {
		return &plugins.FileError{At: "line 1", Why: err.Error()}
	}
	if l == nil {
		return &plugins.FileError{At: "line 1", Why: "no columns with a date, an amount and a payee were found; a line that names them, such as date, payee, amount, helps"}
	}
	p := &profile{layout: l}
	if err := eachRow(ctx, set.Reader(f, f.Size()), l, p.add); err != nil {
		return err
	}
	if err := p.decide(); err != nil {
		return err
	}
	b := batch.New(ctx, out)
	c := &csvParser{layout: l, profile: p, out: out, w: newWriter(b)}
	if err := eachRow(ctx, set.Reader(f, f.Size()), l, c.row); err != nil {
		return err
	}
	if err := c.finish(); err != nil {
		return err
	}
	return b.Flush()
}

// eachRow calls do for each row that is not blank, after the header.
func eachRow(ctx context.Context, text io.Reader, l *layout, do func(row []string, line int) error) error {
	t := newTable(text, l.delimiter)
	for n := 0; ; n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		row, line, err := t.next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fileError(err)
		}
		if n < l.skip || blank(row) {
			continue
		}
		if err := do(row, line); err != nil {
			return err
		}
	}
}

// A csvParser makes transactions of rows.
type csvParser struct {
	*layout
	*profile
	out     plugins.Sink
	w       *writer
	count   int // rows that became transactions
	undated []trouble
	failed  int
	idle    int // rows with neither a date nor an amount

	failedFirst trouble
}

// A trouble is a row that is no transaction. One without a date is a failure
// where a transaction follows, and else part of a footer, such as a total.
type trouble struct {
	line int
	why  string
}

const (
	maxUndated = 1000
	maxFailed  = 1000 // after so many, most rows must be good
)

func (c *csvParser) row(row []string, line int) error {
	t, err := c.transaction(row)
	if err != nil && c.empty(row) {
		c.idle++
		return nil
	}
	var no *noDateError
	if errors.As(err, &no) && len(c.undated) < maxUndated {
		c.undated = append(c.undated, trouble{line, err.Error()})
		return nil
	}
	c.failUndated()
	if err != nil {
		c.fail(line, err.Error())
		if c.failed > maxFailed && c.failed > c.count {
			return &plugins.FileError{At: fmt.Sprintf("line %d", c.failedFirst.line), Why: "most of the rows cannot be read; the first one " + c.failedFirst.why}
		}
		return nil
	}
	c.count++
	return c.w.put(t)
}

// empty says whether a row has nothing where its dates and amounts should be.
func (c *csvParser) empty(row []string) bool {
	for _, i := range append(slices.Clone(c.dates), c.col[roleAmount], c.col[roleDebit], c.col[roleCredit]) {
		if cell(row, i) != "" {
			return false
		}
	}
	return true
}

func (c *csvParser) failUndated() {
	for _, u := range c.undated {
		c.fail(u.line, u.why)
	}
	c.undated = c.undated[:0]
}

func (c *csvParser) fail(line int, why string) {
	if c.failed++; c.failed == 1 {
		c.failedFirst = trouble{line, why}
	}
	c.out.Fail(fmt.Sprintf("line %d", line), why)
}

// finish judges the file as a whole.
func (c *csvParser) finish() error {
	if c.count == 0 && c.failed == 0 && len(c.undated) > 0 {
		c.failedFirst = c.undated[0]
	}
	if c.count == 0 && c.failedFirst.why != "" {
		return &plugins.FileError{At: fmt.Sprintf("line %d", c.failedFirst.line), Why: "none of the rows could be read; the first one " + c.failedFirst.why}
	}
	if c.idle > 0 {
		batch.Note(c.out, "%d lines have neither a date nor an amount and were passed over", c.idle)
	}
	if n := len(c.undated); n > 0 {
		batch.Note(c.out, "the last %d lines have no date and were taken for a footer", n)
	}
	if c.count == 0 {
		batch.Note(c.out, "the statement has no transactions")
	}
	for _, note := range c.profile.notes {
		batch.Note(c.out, "%s", note)
	}
	if c.w.repeated > 0 {
		batch.Note(c.out, "%d transactions were in the file twice under one id of the bank and taken once", c.w.repeated)
	}
	return nil
}

// A noDateError says that a row has nothing where its date should be.
type noDateError struct{ cell string }

func (e *noDateError) Error() string {
	if e.cell == "" {
		return "has no date"
	}
	return fmt.Sprintf("has %q where a date should be", e.cell)
}

func (c *csvParser) transaction(row []string) (*transaction, error) {
	when, err := c.when(row)
	if err != nil {
		return nil, err
	}
	if n := len(c.names); len(row) > n && strings.Join(row[n:], "") != "" {
		return nil, fmt.Errorf("has %d columns, but %d are named", len(row), n)
	}
	t := &transaction{time: when, Account: c.layout.account}
	if err := c.amount(row, t); err != nil {
		return nil, err
	}
	c.texts(row, t)
	return t, nil
}

// when returns the first date of the row, with the time of day beside it.
func (c *csvParser) when(row []string) (time.Time, error) {
	shown := ""
	for _, i := range c.dates {
		s := cell(row, i)
		if s == "" {
			continue
		}
		shown = first(shown, s)
		d, ok := parseDate(s)
		if !ok {
			continue
		}
		if clock := cell(row, c.col[roleClock]); !d.hasClock && c.has(roleClock) && clock != "" {
			if !d.setClock(clock) {
				return time.Time{}, fmt.Errorf("has %q where a time should be", clock)
			}
		}
		when, ok := d.time(c.order)
		if !ok {
			return time.Time{}, fmt.Errorf("has the date %q, which does not exist", s)
		}
		return when, nil
	}
	return time.Time{}, &noDateError{shown}
}

// amount sets the amount, the balance, the fee and the currency.
func (c *csvParser) amount(row []string, t *transaction) error {
	var err error
	var m money
	if c.has(roleAmount) {
		m, t.Amount, err = c.money(row, roleAmount)
		if err == nil && t.Amount == "" {
			err = errors.New("has no amount")
		}
		if err == nil && c.card {
			t.Amount = negate(t.Amount)
		}
		if err == nil && c.directed {
			t.Amount, err = directed(t.Amount, direction(cell(row, c.col[roleDirection])))
		}
	} else {
		m, t.Amount, err = c.eitherSide(row)
	}
	if err != nil {
		return err
	}
	if c.has(roleBalance) {
		if _, t.Balance, err = c.money(row, roleBalance); err != nil {
			return err
		}
	}
	if c.has(roleFee) {
		if _, t.Fee, err = c.money(row, roleFee); err != nil {
			t.Fee = ""
		}
	}
	t.Currency = first(currencyOf(cell(row, c.col[roleCurrency])), m.currency, c.layout.currency)
	return nil
}

// money reads the cell of a role; "" where it is empty.
func (c *csvParser) money(row []string, r role) (money, string, error) {
	s := cell(row, c.col[r])
	if s == "" || s == "-" {
		return money{}, "", nil
	}
	m, ok := parseMoney(s)
	if !ok {
		return m, "", fmt.Errorf("has %q where an amount should be", s)
	}
	st := c.style
	if own, _ := m.style(); own != anyStyle && st == anyStyle {
		st = own
	}
	amount, err := m.decimal(st)
	if err != nil {
		return m, "", fmt.Errorf("has the amount %q: %w", s, err)
	}
	return m, amount, nil
}

// eitherSide reads the columns for debit and credit, of which one is filled.
func (c *csvParser) eitherSide(row []string) (money, string, error) {
	debitCell, debit, err := c.money(row, roleDebit)
	if err != nil {
		return money{}, "", err
	}
	creditCell, credit, err := c.money(row, roleCredit)
	if err != nil {
		return money{}, "", err
	}
	if isZero(debit) && credit != "" {
		return creditCell, credit, nil
	}
	if debit == "" {
		return money{}, "", errors.New("has neither a debit nor a credit")
	}
	if !isZero(credit) {
		return money{}, "", errors.New("has both a debit and a credit")
	}
	if !c.negativeDebits {
		debit = negate(debit)
	}
	return debitCell, debit, nil
}

// isZero says whether a plain decimal is 0 or absent.
func isZero(s string) bool { return strings.Trim(s, "-0.") == "" }

func negate(s string) string {
	if isZero(s) {
		return s
	}
	if rest, ok := strings.CutPrefix(s, "-"); ok {
		return rest
	}
	return "-" + s
}

// directed gives an amount the sign that a word beside it says.
func directed(amount string, way int) (string, error) {
	switch {
	case way == 0 && !isZero(amount):
		return "", errors.New("does not say whether it is a debit or a credit")
	case way < 0:
		return negate(strings.TrimPrefix(amount, "-")), nil
	}
	return strings.TrimPrefix(amount, "-"), nil
}

// texts sets what is text, and keeps the columns that have no role.
func (c *csvParser) texts(row []string, t *transaction) {
	text := func(r role) string { return cell(row, c.col[r]) }
	t.Account = first(strings.Join(strings.Fields(text(roleAccount)), ""), t.Account)
	payee, memo := c.words(row)
	t.Payee, t.Memo = cell(row, payee), cell(row, memo)
	if c.has(rolePayer) && !strings.HasPrefix(t.Amount, "-") {
		t.Payee = first(text(rolePayer), t.Payee)
	}
	if c.bare {
		t.key = c.content(row)
	}
	t.CheckNumber, t.Kind, t.Category = text(roleCheck), strings.ToLower(text(roleType)), text(roleCategory)
	t.Counterparty = text(roleCounterparty)
	if c.trusted {
		t.FitID = text(roleReference)
	} else {
		t.Reference = text(roleReference)
	}
	if d, ok := parseDate(text(roleValueDate)); ok {
		if day, ok := d.time(c.order); ok {
			t.ValueDate = day.Format(time.DateOnly)
		}
	}
	switch strings.ToLower(text(roleStatus)) {
	case "pending", "vorgemerkt", "en attente", "pendiente":
		t.Pending = true
	}
	for i, s := range row {
		if s == "" || i == payee || i == memo || !c.spare(i) {
			continue
		}
		if t.Other == nil {
			t.Other = make(map[string]string)
		}
		name := cell(c.names, i)
		if _, twice := t.Other[name]; name == "" || twice {
			name = fmt.Sprintf("column %d", i+1)
		}
		t.Other[name] = s
	}
}

// words returns the columns of the payee and the memo of a row: the best ones
// that are filled, so that they depend on nothing but the row.
func (c *csvParser) words(row []string) (payee, memo int) {
	payee, memo = -1, -1
	for _, i := range slices.Concat(c.payees, c.memos) {
		if cell(row, i) != "" {
			payee = i
			break
		}
	}
	for _, i := range slices.Concat(c.memos, c.payees) {
		if i != payee && cell(row, i) != "" {
			memo = i
			break
		}
	}
	return payee, memo
}

// content is the text of a row of a table without a header, where another export
// may take another column for the payee.
func (c *csvParser) content(row []string) string {
	var b strings.Builder
	for i, s := range row {
		if c.spare(i) {
			b.WriteString(fold(s))
			b.WriteByte(0)
		}
	}
	return b.String()
}
