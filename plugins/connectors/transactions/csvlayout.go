package transactions

import (
	"slices"
	"strings"
)

const (
	sampleRows   = 300
	maxColumns   = 500
	maxName      = 64 // characters of a column's name, or of an account's, which go into each record
	preambleRows = 40 // how far down the names of the columns are looked for
)

// A layout says how a table is to be read: which columns mean what.
type layout struct {
	delimiter rune
	skip      int      // rows before the first transaction
	names     []string // of the columns; "" where the table has no header
	plain     []string // the names as plainHeader leaves them
	dates     []int    // the columns of dates, best first: the first that is filled counts
	payees    []int    // the columns of payees, best first: the first that is filled counts
	memos     []int
	bare      bool // there is no header
	card      bool // purchases have no minus sign
	col       [roleCategory + 1]int
	currency  string // from the header or from the lines before it
	account   string // from the lines before the header
	local     bool   // the header is in a language in which the day comes first
	money     bool   // the amounts of the sample look like money
}

// has says whether there is a column of a role.
func (l *layout) has(r role) bool { return l.col[r] >= 0 }

// spare says whether a column has no role.
func (l *layout) spare(i int) bool {
	return !slices.Contains(l.dates, i) && !slices.Contains(l.col[:], i)
}

// roles counts the columns that have one.
func (l *layout) roles() int {
	n := len(l.dates) + min(1, len(l.payees)) + min(1, len(l.memos))
	for _, c := range l.col {
		if c >= 0 {
			n++
		}
	}
	return n
}

// An unclear is an error that says what is missing to read a table that is a
// statement.
type unclear string

func (u unclear) Error() string { return string(u) }

var delimiters = []rune{',', ';', '\t', '|'}

// findLayout finds out how the table that begins with text is to be read. It
// returns nil for a table that is no statement, and an error that is unclear for
// one that is but leaves a choice. cut says that text is not all of the file.
func findLayout(text string, cut bool) (*layout, error) {
	var best *layout
	var vague error
	for _, d := range delimiters {
		rows := sampleOf(text, d, cut)
		if l := withHeader(rows, d); l != nil && (best == nil || l.roles() > best.roles()) {
			best = l
		}
	}
	if best != nil {
		return best, nil
	}
	for _, d := range delimiters {
		rows := sampleOf(text, d, cut)
		l, err := withoutHeader(rows, d)
		if err != nil {
			vague = err
		}
		if l == nil {
			l = foreignHeader(rows, d)
		}
		if l != nil && (best == nil || l.roles() > best.roles()) {
			best = l
		}
	}
	if best != nil {
		return best, nil
	}
	return nil, vague
}

// sampleOf returns the first rows of a text. A row that is cut at the end is
// left out.
func sampleOf(text string, delimiter rune, cut bool) [][]string {
	if cut {
		if i := strings.LastIndexByte(text, '\n'); i >= 0 {
			text = text[:i+1]
		}
	}
	t := newTable(strings.NewReader(text), delimiter)
	var rows [][]string
	for len(rows) < sampleRows {
		row, _, err := t.next()
		if err != nil {
			break
		}
		rows = append(rows, slices.Clone(row))
	}
	return rows
}

// withHeader looks for the row that names the columns; nil when there is none.
func withHeader(rows [][]string, delimiter rune) *layout {
	for i, row := range rows[:min(len(rows), preambleRows)] {
		if len(row) < 2 || len(row) > maxColumns {
			continue
		}
		l := &layout{delimiter: delimiter, skip: i + 1, names: clipAll(row)}
		for j := range l.col {
			l.col[j] = -1
		}
		body := rows[i+1:]
		l.assign(body)
		if l.sound(body) {
			l.preamble(rows[:i])
			return l
		}
	}
	return nil
}

// assign gives each role the column whose name fits it best and whose content
// does not speak against it.
func (l *layout) assign(body [][]string) {
	taken := make([]bool, len(l.names))
	currencies := make([]string, len(l.names))
	l.plain = make([]string, len(l.names))
	for i, n := range l.names {
		l.plain[i], currencies[i] = plainHeader(n)
	}
	l.card = isCard(l.plain)
	find := func(r role, fits func(cells []string) bool) int {
		best, bestRank := -1, 0
		for i, name := range l.plain {
			k := rank(r, name)
			if taken[i] || k == 0 || best >= 0 && k >= bestRank {
				continue
			}
			if fits == nil || fits(column(body, i)) {
				best, bestRank = i, k
			}
		}
		if best >= 0 {
			taken[best] = true
		}
		return best
	}
	for {
		i := find(roleDate, partly(isDate))
		if i < 0 {
			break
		}
		l.dates = append(l.dates, i)
		l.local = l.local || !slices.Contains(english, l.plain[i]) && !strings.Contains(l.plain[i], "date") && !strings.Contains(l.plain[i], "created")
	}
	l.col[roleValueDate] = find(roleValueDate, mostly(isDate))
	for _, r := range []role{roleAmount, roleDebit, roleCredit, roleBalance, roleFee} {
		i := find(r, partly(isMoney))
		l.col[r] = i
		if i >= 0 && currencies[i] != "" {
			l.currency = currencies[i]
		}
	}
	l.col[roleCurrency] = find(roleCurrency, mostly(isCurrency))
	l.col[roleDirection] = find(roleDirection, mostly(func(s string) bool { return direction(s) != 0 }))
	l.col[roleReference] = find(roleReference, unlikeRowNumbers)
	for _, r := range []role{roleAccount, roleCheck, rolePayer} {
		l.col[r] = find(r, nil)
	}
	for i := find(rolePayee, nil); i >= 0; i = find(rolePayee, nil) {
		l.payees = append(l.payees, i)
	}
	for i := find(roleMemo, nil); i >= 0; i = find(roleMemo, nil) {
		l.memos = append(l.memos, i)
	}
	for _, r := range []role{roleType, roleCounterparty, roleStatus, roleCategory} {
		l.col[r] = find(r, nil)
	}
	l.col[roleClock] = find(roleClock, mostly(isClock))
}

// isCard says whether the names are of a card that writes purchases without a
// minus sign.
func isCard(plain []string) bool {
	for _, name := range plain {
		if slices.Contains(cardHeaders, name) {
			return true
		}
	}
	return slices.Equal(plain, []string{"trans date", "post date", "description", "amount", "category"})
}

// sound says whether the columns found make the table a statement.
func (l *layout) sound(body [][]string) bool {
	amount := l.col[roleAmount]
	sides := l.has(roleDebit) || l.has(roleCredit)
	if len(l.dates) == 0 || amount < 0 && !sides {
		return false
	}
	if amount < 0 {
		l.money = true
	} else {
		l.money = partly(looksLikeMoney)(column(body, amount)) && len(column(body, amount)) > 0
	}
	beside := l.currency != "" || l.has(roleCurrency) || l.has(roleBalance) || l.has(roleDirection) || l.has(roleAccount) || l.has(roleReference)
	payee := len(l.payees)+len(l.memos) > 0
	if amount >= 0 && slices.Contains(weakAmounts, l.plain[amount]) {
		return payee && (beside || l.money)
	}
	return payee || beside && l.money || sides && l.has(roleBalance)
}

// preamble reads what stands before the header: the account, the currency.
func (l *layout) preamble(rows [][]string) {
	for _, row := range rows {
		for i, c := range row {
			if l.account == "" {
				l.account = iban(c)
			}
			name, _ := plainHeader(c)
			next := cell(row, i+1)
			if before, after, ok := strings.Cut(c, ":"); ok && strings.TrimSpace(after) != "" {
				name, _ = plainHeader(before)
				next = strings.TrimSpace(after)
			}
			if code := currencyCode(next); code != "" && l.currency == "" && rank(roleCurrency, name) > 0 {
				l.currency = code
			}
			if l.account == "" && rank(roleAccount, name) > 0 && strings.IndexFunc(next, isDigit) >= 0 {
				l.account = first(iban(next), clip(strings.Join(strings.Fields(next), "")))
			}
		}
	}
}

// clip cuts a text that goes into each record, so that a file cannot make much of
// little.
func clip(s string) string {
	if len(s) <= maxName {
		return s
	}
	if runes := []rune(s); len(runes) > maxName {
		return string(runes[:maxName])
	}
	return s
}

func clipAll(names []string) []string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = clip(n)
	}
	return out
}

// iban finds an IBAN with a correct check in a text.
func iban(s string) string {
	s = strings.ToUpper(s)
	for _, word := range append(strings.FieldsFunc(s, func(r rune) bool { return r == ':' || r == '/' || r == ';' || r == '(' || r == ')' }), s) {
		w := strings.TrimPrefix(strings.ReplaceAll(strings.TrimSpace(word), " ", ""), "IBAN")
		if len(w) < 15 || len(w) > 34 {
			continue
		}
		rest := 0
		good := true
		for _, c := range w[4:] + w[:4] {
			switch {
			case isDigit(c):
				rest = (rest*10 + int(c-'0')) % 97
			case c >= 'A' && c <= 'Z':
				rest = (rest*100 + int(c-'A') + 10) % 97
			default:
				good = false
			}
		}
		if good && rest == 1 && w[0] >= 'A' && w[1] >= 'A' && isNumber(w[2:4]) {
			return w
		}
	}
	return ""
}

// column returns the filled cells of a column.
func column(rows [][]string, i int) []string {
	var cells []string
	for _, row := range rows {
		if c := cell(row, i); c != "" {
			cells = append(cells, c)
		}
	}
	return cells
}

// mostly makes a test of a column of a test of its cells: true where two thirds
// pass, and where there are none.
func mostly(test func(string) bool) func([]string) bool { return atLeast(test, 2, 3) }

// partly is [mostly] for a third: what is left may be broken, or a footer below
// a short table.
func partly(test func(string) bool) func([]string) bool { return atLeast(test, 1, 3) }

// all is [mostly] for nine of ten.
func all(test func(string) bool) func([]string) bool { return atLeast(test, 9, 10) }

func atLeast(test func(string) bool, part, of int) func([]string) bool {
	return func(cells []string) bool {
		n := 0
		for _, c := range cells {
			if test(c) {
				n++
			}
		}
		return n*of >= len(cells)*part
	}
}

func isDate(s string) bool     { _, ok := parseDate(s); return ok }
func isMoney(s string) bool    { _, ok := parseMoney(s); return ok }
func isCurrency(s string) bool { return currencyOf(s) != "" }
func isClock(s string) bool    { var d date; return d.setClock(s) }

// currencyOf reads a cell that names a currency.
func currencyOf(s string) string {
	s = strings.ToUpper(strings.TrimSpace(s))
	if code, ok := symbols[s]; ok {
		return code
	}
	return currencyCode(s)
}

// looksLikeMoney says whether a cell is written as amounts are: with two places,
// or with a currency, or as nought.
func looksLikeMoney(s string) bool {
	m, ok := parseMoney(s)
	return ok && (m.currency != "" || m.places() == 2 || m.digits == "0")
}

// unlikeRowNumbers is false for a column that counts the rows, which is another
// in each export.
func unlikeRowNumbers(cells []string) bool {
	if len(cells) == 0 {
		return false
	}
	if !isNumber(cells[0]) || len(cells[0]) > 6 {
		return true
	}
	step := 0
	for i := 1; i < len(cells); i++ {
		if !isNumber(cells[i]) {
			return true
		}
		if number(cells[i])-number(cells[i-1]) == 1 || number(cells[i-1])-number(cells[i]) == 1 {
			step++
		}
	}
	return step*2 < len(cells)-1
}
