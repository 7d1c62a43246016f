package transactions

import (
	"slices"
	"strings"
	"unicode"

	"github.com/shopspring/decimal"
)

// withoutHeader finds the columns of a table that does not name them, by their
// content alone. It is stricter than withHeader: there must be one column of
// dates, amounts that look like money and a text. It returns nil for anything
// else, and an unclear error where it is a statement with two readings.
func withoutHeader(rows [][]string, delimiter rune) (*layout, error) {
	rows = slices.DeleteFunc(rows, blank)
	if len(rows) == 0 {
		return nil, nil
	}
	width := usualWidth(rows)
	if width < 3 || width > maxColumns || len(rows[0]) != width {
		return nil, nil
	}
	l := &layout{delimiter: delimiter, names: make([]string, width), plain: make([]string, width), money: true, bare: true}
	for j := range l.col {
		l.col[j] = -1
	}
	var amounts, texts []int
	for i := range width {
		cells := column(rows, i)
		switch {
		case len(cells) == 0:
		case len(cells)*10 >= len(rows)*9 && all(isDate)(cells):
			l.dates = append(l.dates, i)
		case all(looksLikeMoney)(cells):
			amounts = append(amounts, i)
		case len(cells)*2 >= len(rows) && mostly(hasLetters)(cells):
			texts = append(texts, i)
		}
	}
	if len(l.dates) == 0 || len(amounts) == 0 || len(texts) == 0 || !isDate(rows[0][l.dates[0]]) {
		return nil, nil
	}
	l.findTexts(rows, texts)
	if len(l.dates) > 1 {
		l.col[roleValueDate], l.dates = l.dates[1], l.dates[:1]
	}
	switch found, signed := l.findAmounts(rows, amounts), signed(rows, amounts) || l.has(roleDirection); {
	case !found && signed:
		return nil, unclear("the table has no header, and more than one of its columns can be the amount; put a line above it that names the columns, such as date, payee, amount, balance")
	case !found, !signed && !l.has(roleBalance) && !l.has(roleDebit):
		return nil, nil // readings of a meter, or prices
	}
	return l, nil
}

// foreignHeader finds a statement below a header in words that we do not know.
// It is stricter still: the amounts must carry a currency, or be proved by the
// balances.
func foreignHeader(rows [][]string, delimiter rune) *layout {
	for i, row := range rows[:min(len(rows), 15)] {
		if len(row) < 3 || len(row) != usualWidth(rows[i:]) || slices.ContainsFunc(row, isDate) || slices.ContainsFunc(row, looksLikeMoney) {
			continue
		}
		l, err := withoutHeader(rows[i+1:], delimiter)
		if err != nil || l == nil {
			continue
		}
		proved := l.has(roleBalance)
		for j := range row {
			if cells := column(rows[i+1:], j); len(cells) > 0 && all(isCurrency)(cells) {
				l.col[roleCurrency], proved = j, true
			}
		}
		for _, c := range column(rows[i+1:], l.col[roleAmount]) {
			m, _ := parseMoney(c)
			proved = proved || m.currency != ""
		}
		if !proved {
			continue
		}
		l.skip, l.names = i+1, clipAll(row)
		for j, n := range row {
			l.plain[j], _ = plainHeader(n)
		}
		l.preamble(rows[:i])
		return l
	}
	return nil
}

// signed says whether an amount has a sign. Readings of a meter and prices have
// none.
func signed(rows [][]string, amounts []int) bool {
	for _, i := range amounts {
		for _, c := range column(rows, i) {
			if m, _ := parseMoney(c); m.signed {
				return true
			}
		}
	}
	return false
}

// findTexts chooses the payee, the column of the longest texts; the direction and
// the currency, which are words of their own; and the account, one number in all
// rows.
func (l *layout) findTexts(rows [][]string, texts []int) {
	payee, longest := -1, -1
	for _, i := range texts {
		n := len(strings.Join(column(rows, i), "")) / len(rows)
		if n > longest {
			payee, longest = i, n
		}
	}
	l.payees = []int{payee}
	for _, i := range texts {
		switch cells := column(rows, i); {
		case i == payee:
		case all(func(s string) bool { return direction(s) != 0 })(cells):
			l.col[roleDirection] = i
		case len(cells) == len(rows) && all(isCurrency)(cells):
			l.col[roleCurrency] = i
		}
	}
	for i := range l.names {
		cells := column(rows, i)
		if len(cells) < 2 || len(cells) < len(rows) || len(slices.Compact(slices.Clone(cells))) > 1 {
			continue
		}
		if c := strings.ReplaceAll(cells[0], " ", ""); len(c) >= 8 && isNumber(c) && !isDate(c) || iban(c) != "" {
			l.col[roleAccount] = i
			return
		}
	}
}

// findAmounts chooses among the columns that look like money. It is false where
// nothing decides.
func (l *layout) findAmounts(rows [][]string, amounts []int) bool {
	full := slices.DeleteFunc(slices.Clone(amounts), func(i int) bool { return len(column(rows, i)) < len(rows) })
	switch {
	case len(amounts) == 1:
		l.col[roleAmount] = amounts[0]
		return len(full) == 1
	case len(amounts) == 2 && len(full) == 2:
		return l.amountAndBalance(rows, full[0], full[1]) || l.amountAndBalance(rows, full[1], full[0]) || l.sides(rows, full[0], full[1], -1)
	case len(amounts) == 2 && len(full) == 1: // the other may be a price or a fee
		l.col[roleAmount] = full[0]
		return signed(rows, full)
	case len(amounts) == 2:
		return l.sides(rows, amounts[0], amounts[1], -1)
	case len(amounts) == 3:
		for i, balance := range slices.Backward(amounts) { // it is mostly the last
			rest := slices.Delete(slices.Clone(amounts), i, i+1)
			if slices.Contains(full, balance) && l.sides(rows, rest[0], rest[1], balance) {
				return true
			}
		}
	}
	return false
}

// amountAndBalance says whether b runs as the balance of a.
func (l *layout) amountAndBalance(rows [][]string, a, b int) bool {
	if !balances(rows, b, func(row []string) decimal.Decimal { return loose(cell(row, a)) }) {
		return false
	}
	l.col[roleAmount], l.col[roleBalance] = a, b
	return true
}

// balances says whether a column runs as the balance of amounts, upwards or
// downwards.
func balances(rows [][]string, balance int, amount func(row []string) decimal.Decimal) bool {
	var up, down int
	for i := 1; i < len(rows); i++ {
		x, y := loose(cell(rows[i-1], balance)), loose(cell(rows[i], balance))
		if x.Add(amount(rows[i])).Equal(y) {
			up++
		}
		if y.Add(amount(rows[i-1])).Equal(x) {
			down++
		}
	}
	return len(rows) > 1 && max(up, down)*10 >= (len(rows)-1)*9
}

// loose reads an amount by itself.
func loose(s string) decimal.Decimal {
	m, _ := parseMoney(s)
	st, _ := m.style()
	plain, err := m.decimal(st)
	if err != nil {
		return decimal.Zero
	}
	d, err := decimal.NewFromString(plain)
	if err != nil {
		return decimal.Zero
	}
	return d
}

// sides says whether of a and b each row fills one, and which is the debit: the
// one with minus signs, else the one by which the balance falls.
func (l *layout) sides(rows [][]string, a, b, balance int) bool {
	var minusA, minusB int
	for _, row := range rows {
		x, y := loose(cell(row, a)), loose(cell(row, b))
		if x.IsZero() == y.IsZero() {
			return false
		}
		if x.IsNegative() {
			minusA++
		}
		if y.IsNegative() {
			minusB++
		}
	}
	falls := func(debit, credit int) bool {
		return balance >= 0 && balances(rows, balance, func(row []string) decimal.Decimal {
			return loose(cell(row, credit)).Sub(loose(cell(row, debit)).Abs())
		})
	}
	switch {
	case minusA > 0 && minusB == 0, minusA == minusB && falls(a, b):
		l.col[roleDebit], l.col[roleCredit] = a, b
	case minusB > 0 && minusA == 0, minusA == minusB && falls(b, a):
		l.col[roleDebit], l.col[roleCredit] = b, a
	default:
		return false
	}
	l.col[roleBalance] = balance
	return true
}

// usualWidth returns the number of columns that most rows have, or 0.
func usualWidth(rows [][]string) int {
	count := make(map[int]int)
	for _, row := range rows {
		count[len(row)]++
	}
	for width, n := range count {
		if n*10 >= len(rows)*9 {
			return width
		}
	}
	return 0
}

func hasLetters(s string) bool { return strings.IndexFunc(s, unicode.IsLetter) >= 0 }
