package transactions

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/shopspring/decimal"

	"github.com/locker-project/locker/plugins"
)

// A profile is what the whole file says about how it is written.
type profile struct {
	layout *layout

	// What decide finds.
	order          order
	style          style
	directed       bool // the direction column gives the sign
	negativeDebits bool // the debit column has minus signs
	trusted        bool // the reference column is the bank's id
	notes          []string

	rows                  int
	example               string // of a date with two readings
	exampleLine           int
	dayAfter12, monAfter  int // dates that can only be day first, month first
	dayLine, monLine      int
	open                  bool // some date has two readings
	asDay, asMonth        run
	pointCell, commaCell  string // amounts that can only be read so
	pointLine, commaLine  int
	openCell              string // an amount with two readings
	openLine              int
	minus, plus           int // amounts
	minusDebit, plusDebit int
	agree, oppose         int // direction and sign, where both are there
	wordless              int // amounts without a direction
	currencies            map[string]bool
	dollar                bool
	references            []uint64 // hashes
	unsigned              string   // an amount that the balances show to be a debit, though it has no sign
	unsignedLine          int
	lastBalance           decimal.Decimal // of the row before
}

// A run says whether times only rise or only fall.
type run struct {
	last        time.Time
	up, down, n int
}

func (r *run) add(t time.Time) {
	if r.n > 0 {
		switch t.Compare(r.last) {
		case 1:
			r.up++
		case -1:
			r.down++
		}
	}
	r.last = t
	r.n++
}

func (r *run) ordered() bool { return (r.up == 0) != (r.down == 0) }

// add takes one row into account.
func (p *profile) add(row []string, line int) error {
	p.rows++
	l := p.layout
	for _, i := range l.dates {
		if c := cell(row, i); c != "" {
			p.addDate(c, line)
		}
	}
	if l.has(roleValueDate) {
		p.addDate(cell(row, l.col[roleValueDate]), line)
	}
	for _, r := range []role{roleAmount, roleDebit, roleCredit, roleBalance} {
		if m, ok := parseMoney(cell(row, l.col[r])); ok && l.has(r) {
			p.addMoney(m, cell(row, l.col[r]), line)
			p.addSign(m, r)
		}
	}
	if l.has(roleAmount) && l.has(roleDirection) {
		p.addDirection(row)
	}
	if l.has(roleAmount) && l.has(roleBalance) {
		p.addBalance(cell(row, l.col[roleAmount]), cell(row, l.col[roleBalance]), line)
	}
	if l.has(roleCurrency) {
		p.addCurrency(currencyOf(cell(row, l.col[roleCurrency])))
	}
	if l.has(roleReference) {
		if ref := cell(row, l.col[roleReference]); ref != "" {
			sum := sha256.Sum256([]byte(ref))
			p.references = append(p.references, binary.BigEndian.Uint64(sum[:]))
		}
	}
	return nil
}

func (p *profile) addDate(s string, line int) {
	d, ok := parseDate(s)
	if !ok || !d.numeric || d.dotted {
		return
	}
	switch {
	case d.first > 12:
		p.dayAfter12++
		if p.dayLine == 0 {
			p.dayLine = line
		}
	case d.other > 12:
		p.monAfter++
		if p.monLine == 0 {
			p.monLine = line
		}
	case d.first != d.other:
		if !p.open {
			p.open, p.example, p.exampleLine = true, s, line
		}
	}
	if t, ok := d.time(dayFirst); ok {
		p.asDay.add(t)
	}
	if t, ok := d.time(monthFirst); ok {
		p.asMonth.add(t)
	}
}

func (p *profile) addMoney(m money, s string, line int) {
	switch own, bad := m.style(); {
	case bad:
	case own == pointStyle && p.pointLine == 0:
		p.pointCell, p.pointLine = s, line
	case own == commaStyle && p.commaLine == 0:
		p.commaCell, p.commaLine = s, line
	case m.open() && p.openLine == 0:
		p.openCell, p.openLine = s, line
	}
	if m.currency != "" {
		p.addCurrency(m.currency)
		p.dollar = p.dollar || m.dollar
	}
}

func (p *profile) addCurrency(code string) {
	if code == "" || len(p.currencies) > 20 {
		return
	}
	if p.currencies == nil {
		p.currencies = make(map[string]bool)
	}
	p.currencies[code] = true
}

func (p *profile) addSign(m money, r role) {
	zero := strings.Trim(m.digits, "0.,") == ""
	switch {
	case zero:
	case r == roleAmount && m.negative:
		p.minus++
	case r == roleAmount:
		p.plus++
	case r == roleDebit && m.negative:
		p.minusDebit++
	case r == roleDebit:
		p.plusDebit++
	}
}

func (p *profile) addDirection(row []string) {
	m, ok := parseMoney(cell(row, p.layout.col[roleAmount]))
	if !ok || strings.Trim(m.digits, "0.,") == "" {
		return
	}
	switch way := direction(cell(row, p.layout.col[roleDirection])); {
	case way == 0:
		p.wordless++
	case (way < 0) == m.negative:
		p.agree++
	default:
		p.oppose++
	}
}

// addBalance notices an amount without a sign by which the balance fell, in a
// file that is in order of time or against it.
func (p *profile) addBalance(amount, balance string, line int) {
	step, now := loose(amount), loose(balance)
	if p.rows > 1 && p.unsignedLine == 0 && now.LessThan(p.lastBalance) && now.Add(step).Equal(p.lastBalance) {
		p.unsigned, p.unsignedLine = amount, line
	}
	p.lastBalance = now
}

// decide draws the conclusions, or says what is missing for them.
func (p *profile) decide() error {
	if err := p.decideStyle(); err != nil {
		return err
	}
	if err := p.decideOrder(); err != nil {
		return err
	}
	if err := p.decideSigns(); err != nil {
		return err
	}
	p.decideReference()
	if p.dollar {
		p.notes = append(p.notes, "the sign $ was taken for US dollars")
	}
	return nil
}

func (p *profile) decideStyle() error {
	switch {
	case p.pointLine > 0 && p.commaLine > 0:
		return &plugins.FileError{At: fmt.Sprintf("line %d", max(p.pointLine, p.commaLine)),
			Why: fmt.Sprintf("the file writes amounts in two ways, as %q (line %d) and as %q (line %d)", p.pointCell, p.pointLine, p.commaCell, p.commaLine)}
	case p.pointLine > 0:
		p.style = pointStyle
	case p.commaLine > 0:
		p.style = commaStyle
	case p.openLine > 0:
		return &plugins.FileError{At: fmt.Sprintf("line %d", p.openLine),
			Why: fmt.Sprintf("amounts such as %q can be read as thousands or as a fraction, and nothing in the file decides; an export that has an amount with cents does", p.openCell)}
	}
	return nil
}

// dayFirstCurrencies are those of countries that write the day first.
var dayFirstCurrencies = []string{"EUR", "GBP", "CHF", "AUD", "NZD", "BRL", "INR", "PLN", "CZK", "NOK", "DKK"}

func (p *profile) decideOrder() error {
	switch {
	case p.dayAfter12 > 0 && p.monAfter > 0:
		return &plugins.FileError{At: fmt.Sprintf("line %d", max(p.dayLine, p.monLine)),
			Why: fmt.Sprintf("the file writes dates in two ways, with the day first (line %d) and with the month first (line %d)", p.dayLine, p.monLine)}
	case p.dayAfter12 > 0:
		p.order = dayFirst
	case p.monAfter > 0:
		p.order = monthFirst
	case !p.open:
		p.order = dayFirst // any: the readings are the same
	case p.layout.local || p.style == commaStyle || p.onlyDayFirst():
		p.order = dayFirst
	case p.asDay.ordered() != p.asMonth.ordered() && p.asDay.n >= 5:
		p.order = monthFirst
		if p.asDay.ordered() {
			p.order = dayFirst
		}
	default:
		return &plugins.FileError{At: fmt.Sprintf("line %d", p.exampleLine),
			Why: fmt.Sprintf("dates such as %q can be read with the day or the month first, and nothing in the file decides; an export of a longer time, with a day after the 12th, does", p.example)}
	}
	return nil
}

// onlyDayFirst says whether all currencies of the file are of countries that
// write the day first.
func (p *profile) onlyDayFirst() bool {
	p.addCurrency(p.layout.currency)
	for code := range p.currencies {
		if !slices.Contains(dayFirstCurrencies, code) {
			return false
		}
	}
	return len(p.currencies) > 0
}

// decideSigns finds out which amounts are debits.
func (p *profile) decideSigns() error {
	p.negativeDebits = p.minusDebit > p.plusDebit
	if p.layout.card {
		p.notes = append(p.notes, "as in all files of this card, purchases have no minus sign; the signs were turned")
		return nil
	}
	if p.layout.has(roleDirection) && p.wordless == 0 {
		// With minus signs in the file, words count only where they all say the
		// contrary, as with cards that write purchases without a sign.
		p.directed = p.minus == 0 && p.oppose > 0 || p.oppose > 0 && p.agree == 0
	}
	if p.minus > 0 || p.directed || p.plus < 2 {
		return nil
	}
	if p.unsignedLine > 0 {
		return &plugins.FileError{At: fmt.Sprintf("line %d", p.unsignedLine),
			Why: fmt.Sprintf("the balance falls by %q though the amount has no minus sign, and no column says which amounts are debits; export it with signs, or with a column for debits and one for credits", p.unsigned)}
	}
	p.notes = append(p.notes, "no amount in the file has a minus sign, so all were taken for money received")
	return nil
}

// decideReference trusts a column of ids only where no id is there twice.
func (p *profile) decideReference() {
	slices.Sort(p.references)
	n := len(p.references)
	p.trusted = n > 0 && len(slices.Compact(p.references)) == n
	p.references = nil
}
