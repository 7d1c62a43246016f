package transactions

import (
	"testing"
	"time"
)

func TestMoney(t *testing.T) {
	for _, tt := range []struct {
		in       string
		style    style // of the file
		want     string
		currency string
	}{
		{"12", anyStyle, "12", ""},
		{"-12.30", pointStyle, "-12.30", ""},
		{"+12.30", pointStyle, "12.30", ""},
		{"12.30-", pointStyle, "-12.30", ""},
		{"(12.30)", pointStyle, "-12.30", ""},
		{"−12.30", pointStyle, "-12.30", ""},
		{"-$1,234.56", pointStyle, "-1234.56", "USD"},
		{"$-5", pointStyle, "-5", "USD"},
		{"1.234.567,8", commaStyle, "1234567.8", ""},
		{"1.234", commaStyle, "1234", ""},
		{"1.234", pointStyle, "1.234", ""},
		{"1 234,50 €", commaStyle, "1234.50", "EUR"},
		{"1\u202f234,50\u00a0€", commaStyle, "1234.50", "EUR"},
		{"CHF 3'000.-", pointStyle, "3000", "CHF"},
		{"Fr. 12.50", pointStyle, "12.50", "CHF"},
		{"3’000.00", pointStyle, "3000.00", ""},
		{"USD5", pointStyle, "5", "USD"},
		{"12,50 CR", commaStyle, "12.50", ""},
		{"12,50 S", commaStyle, "-12.50", ""},
		{".50", pointStyle, "0.50", ""},
		{"-,5", commaStyle, "-0.5", ""},
		{"0007.10", pointStyle, "7.10", ""},
		{"-0.00", pointStyle, "0.00", ""},
		{"250 kr.", anyStyle, "250", ""},
		{"12,34,567.00", pointStyle, "1234567.00", ""},
	} {
		m, ok := parseMoney(tt.in)
		if !ok {
			t.Errorf("%q is no money", tt.in)
			continue
		}
		if got, err := m.decimal(tt.style); got != tt.want || m.currency != tt.currency || err != nil {
			t.Errorf("%q is %q %q, error %v, want %q %q", tt.in, got, m.currency, err, tt.want, tt.currency)
		}
	}
	for _, in := range []string{"", "-", "five", "1a2", "2026-01-05", "03.04.2026 x", "--5", "5 EUR USD", "12:30", "1 2 3", "XYZ 5"} {
		if m, ok := parseMoney(in); ok {
			if got, err := m.decimal(anyStyle); err == nil {
				t.Errorf("%q is money: %q", in, got)
			}
		}
	}
	for _, in := range []string{"1,23.45.6", "1.23,45,6", "12,3456,789"} {
		if m, ok := parseMoney(in); ok {
			if _, bad := m.style(); !bad {
				t.Errorf("%q has a style", in)
			}
		}
	}
}

func TestDates(t *testing.T) {
	for _, tt := range []struct {
		in    string
		order order
		want  string
	}{
		{"2026-01-05", dayFirst, "2026-01-05T00:00:00Z"},
		{"2026/1/5", monthFirst, "2026-01-05T00:00:00Z"},
		{"20260105", dayFirst, "2026-01-05T00:00:00Z"},
		{"20260105120000[-5:EST]", dayFirst, "2026-01-05T12:00:00-05:00"},
		{"05.01.2026", monthFirst, "2026-01-05T00:00:00Z"},
		{"5.1.26", dayFirst, "2026-01-05T00:00:00Z"},
		{"01/05/2026", dayFirst, "2026-05-01T00:00:00Z"},
		{"01/05/2026", monthFirst, "2026-01-05T00:00:00Z"},
		{"05-01-26", dayFirst, "2026-01-05T00:00:00Z"},
		{"05012026", dayFirst, "2026-01-05T00:00:00Z"},
		{"5 Jan 2026", dayFirst, "2026-01-05T00:00:00Z"},
		{"Jan 5, 2026", dayFirst, "2026-01-05T00:00:00Z"},
		{"Mon, 5 January 2026", dayFirst, "2026-01-05T00:00:00Z"},
		{"5. März 2026", dayFirst, "2026-03-05T00:00:00Z"},
		{"5 de enero de 2026", dayFirst, "2026-01-05T00:00:00Z"},
		{"05-JAN-26", dayFirst, "2026-01-05T00:00:00Z"},
		{"2026-01-05 13:14:15", dayFirst, "2026-01-05T13:14:15Z"},
		{"2026-01-05T13:14:15Z", dayFirst, "2026-01-05T13:14:15Z"},
		{"2026-01-05T13:14:15.678+02:00", dayFirst, "2026-01-05T13:14:15+02:00"},
		{"2026-01-05 13:14:15 UTC", dayFirst, "2026-01-05T13:14:15Z"},
		{"05.01.2026 13:14", dayFirst, "2026-01-05T13:14:00Z"},
		{"1/5/2026, 1:14 PM", monthFirst, "2026-01-05T13:14:00Z"},
		{"31/12/99", dayFirst, "1999-12-31T00:00:00Z"},
	} {
		d, ok := parseDate(tt.in)
		if !ok {
			t.Errorf("%q is no date", tt.in)
			continue
		}
		got, ok := d.time(tt.order)
		if s := got.Truncate(time.Second).Format(time.RFC3339); !ok || s != tt.want {
			t.Errorf("%q is %s, want %s", tt.in, s, tt.want)
		}
	}
	for _, in := range []string{"", "5", "2026", "2026-13-01", "32.01.2026", "99/99/2026", "1.234,56", "12.50", "soon enough", "2026-01", "1234567", "Jan 2026", "0001-01-01", "5 Foo 2026", "+44 20 7946 0011"} {
		if d, ok := parseDate(in); ok {
			t.Errorf("%q is the date %+v", in, d)
		}
	}
}

func TestIBAN(t *testing.T) {
	for in, want := range map[string]string{
		"CH93 0076 2011 6238 5295 7":           "CH9300762011623852957",
		"Konto: DE89 3704 0044 0532 0130 00":   "DE89370400440532013000",
		"IBAN GB82WEST12345698765432":          "GB82WEST12345698765432",
		"DE89370400440532013001":               "",
		"a text that is as long as an IBAN is": "",
	} {
		if got := iban(in); got != want {
			t.Errorf("%q holds %q, want %q", in, got, want)
		}
	}
}
