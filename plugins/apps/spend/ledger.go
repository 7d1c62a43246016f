package spend

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/shopspring/decimal"

	"github.com/locker-project/locker/plugins"
	"github.com/locker-project/locker/plugins/locker"
)

// A ledger adds up transactions, by month and currency.
type ledger struct {
	months     map[string]map[string]*total // by month, then currency
	payees     bool                         // the owner granted payees
	currencies bool                         // the owner granted currencies
	skipped    int                          // transactions without a readable amount
	undated    int                          // transactions without a time
}

// A total is what one month holds in one currency.
type total struct {
	spent, received decimal.Decimal
	count           int
	merchants       map[string]*merchant // by folded name
}

// A merchant is one payee to whom money went.
type merchant struct {
	name  string // as it was written first
	spent decimal.Decimal
	count int
}

func (m *merchant) add(amount decimal.Decimal, count int) {
	m.spent = m.spent.Add(amount)
	m.count += count
}

// add takes one transaction into account.
func (l *ledger) add(r locker.Record) {
	var t struct {
		Amount   json.RawMessage `json:"amount"`
		Currency string          `json:"currency"`
		Payee    string          `json:"payee"`
	}
	if err := r.Decode(&t); err != nil {
		l.skipped++
		return
	}
	amount, err := decimal.NewFromString(strings.Trim(string(t.Amount), `"`))
	if err != nil {
		l.skipped++
		return
	}
	if r.Time.IsZero() {
		l.undated++
		return
	}
	month := l.months[r.Time.Format("2006-01")]
	if month == nil {
		month = make(map[string]*total)
		l.months[r.Time.Format("2006-01")] = month
	}
	sum := month[t.Currency]
	if sum == nil {
		sum = &total{merchants: make(map[string]*merchant)}
		month[t.Currency] = sum
	}
	sum.count++
	if !amount.IsNegative() {
		sum.received = sum.received.Add(amount)
		return
	}
	sum.spent = sum.spent.Add(amount.Neg())
	key, name := fold(t.Payee)
	m := sum.merchants[key]
	if m == nil {
		m = &merchant{name: name}
		sum.merchants[key] = m
	}
	m.add(amount.Neg(), 1)
}

// fold reduces a payee to what makes it the same merchant: not the case, and not
// the numbers of branches, terminals and cards at its end.
func fold(payee string) (key, name string) {
	words := strings.Fields(payee)
	for len(words) > 1 && mostlyDigits(words[len(words)-1]) {
		words = words[:len(words)-1]
	}
	name = strings.Join(words, " ")
	return strings.ToLower(name), name
}

func mostlyDigits(s string) bool {
	digits, letters := 0, 0
	for _, r := range s {
		switch {
		case unicode.IsDigit(r):
			digits++
		case unicode.IsLetter(r):
			letters++
		}
	}
	return digits > letters && digits >= 3 || strings.HasPrefix(s, "#") && digits > 0
}

// show prints the months, latest first, and the merchants, biggest first.
func (l *ledger) show(out plugins.Output, o options) error {
	if len(l.months) == 0 {
		if err := out.Text("There are no transactions" + inYear(o) + ". Import a statement of your bank, then run this again."); err != nil {
			return err
		}
		return l.remarks(out)
	}
	months := plugins.Table{Title: "Spending by month" + inYear(o), Columns: []string{"month", "currency", "spent", "received", "transactions"}}
	for _, month := range slices.Backward(slices.Sorted(maps.Keys(l.months))) {
		for _, currency := range slices.Sorted(maps.Keys(l.months[month])) {
			t := l.months[month][currency]
			months.Rows = append(months.Rows, []string{month, named(currency), money(t.spent), money(t.received), strconv.Itoa(t.count)})
		}
	}
	if err := out.Table(months); err != nil {
		return err
	}
	if l.payees {
		if err := out.Table(l.biggest(o)); err != nil {
			return err
		}
	}
	return l.remarks(out)
}

func inYear(o options) string {
	if o.year == 0 {
		return ""
	}
	return fmt.Sprintf(" in %d", o.year)
}

// biggest lists the merchants of each currency.
func (l *ledger) biggest(o options) plugins.Table {
	t := plugins.Table{Title: "Biggest merchants" + inYear(o), Columns: []string{"merchant", "currency", "spent", "payments"}}
	all := make(map[string]map[string]*merchant)
	for _, month := range slices.Sorted(maps.Keys(l.months)) {
		for currency, sum := range l.months[month] {
			if all[currency] == nil {
				all[currency] = make(map[string]*merchant)
			}
			for key, m := range sum.merchants {
				if all[currency][key] == nil {
					all[currency][key] = &merchant{name: m.name}
				}
				all[currency][key].add(m.spent, m.count)
			}
		}
	}
	for _, currency := range slices.Sorted(maps.Keys(all)) {
		for _, m := range top(all[currency], o.top) {
			t.Rows = append(t.Rows, []string{named(m.name), named(currency), money(m.spent), strconv.Itoa(m.count)})
		}
	}
	return t
}

// top returns the n biggest merchants.
func top(merchants map[string]*merchant, n int) []*merchant {
	keys := slices.SortedFunc(maps.Keys(merchants), func(a, b string) int {
		if c := merchants[b].spent.Cmp(merchants[a].spent); c != 0 {
			return c
		}
		return cmp.Compare(a, b)
	})
	var out []*merchant
	for _, k := range keys[:min(n, len(keys))] {
		out = append(out, merchants[k])
	}
	return out
}

// remarks says what the tables leave out.
func (l *ledger) remarks(out plugins.Output) error {
	var lines []string
	if l.skipped > 0 {
		lines = append(lines, fmt.Sprintf("%d transactions were left out: they have no amount that is a number.", l.skipped))
	}
	if l.undated > 0 {
		lines = append(lines, fmt.Sprintf("%d transactions were left out: they have no time.", l.undated))
	}
	if !l.payees {
		lines = append(lines, "Merchants are not shown: the payee was not granted.")
	}
	if !l.currencies {
		lines = append(lines, "The currency was not granted: amounts of different currencies are added as if they were one.")
	}
	for _, line := range lines {
		if err := out.Text(line); err != nil {
			return err
		}
	}
	return nil
}

// A month is the record that is kept of one month.
type monthRecord struct {
	Month  string        `json:"month"`
	Totals []totalRecord `json:"totals"`
}

type totalRecord struct {
	Currency     string           `json:"currency,omitempty"`
	Spent        string           `json:"spent"`
	Received     string           `json:"received"`
	Transactions int              `json:"transactions"`
	Merchants    []merchantRecord `json:"merchants,omitempty"`
}

type merchantRecord struct {
	Payee    string `json:"payee"`
	Spent    string `json:"spent"`
	Payments int    `json:"payments"`
}

// store writes a record for each month, so that the owner and other apps need
// not add up again.
func (l *ledger) store(ctx context.Context, view locker.View) error {
	var records []locker.Record
	for _, month := range slices.Sorted(maps.Keys(l.months)) {
		m := monthRecord{Month: month}
		for _, currency := range slices.Sorted(maps.Keys(l.months[month])) {
			sum := l.months[month][currency]
			t := totalRecord{Currency: currency, Spent: money(sum.spent), Received: money(sum.received), Transactions: sum.count}
			if l.payees {
				for _, shop := range top(sum.merchants, usualTop) {
					t.Merchants = append(t.Merchants, merchantRecord{Payee: shop.name, Spent: money(shop.spent), Payments: shop.count})
				}
			}
			m.Totals = append(m.Totals, t)
		}
		start, err := time.Parse("2006-01", month)
		if err != nil {
			return fmt.Errorf("month %q: %w", month, err)
		}
		fields, err := json.Marshal(m)
		if err != nil {
			return err
		}
		records = append(records, locker.Record{Collection: "locker/spend", ID: month, Time: start, Fields: fields})
	}
	if len(records) == 0 {
		return nil
	}
	return view.Put(ctx, records...)
}

// money writes an amount with two places, or with as many more as it has.
func money(d decimal.Decimal) string {
	return d.StringFixed(max(2, -d.Exponent()))
}

// named stands in for a name that is not known.
func named(s string) string {
	if s == "" {
		return "(unknown)"
	}
	return s
}
