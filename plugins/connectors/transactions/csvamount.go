package transactions

import (
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/currency"
)

// A style says which sign separates the fraction of an amount.
type style byte

const (
	anyStyle   style = 0 // no separator, or nothing that decides
	pointStyle style = '.'
	commaStyle style = ','
)

// A money is a cell that holds an amount, before it is known what its
// separators mean.
type money struct {
	negative bool
	signed   bool   // a sign, or a word for one, is written
	digits   string // digits with "." and "," alone
	currency string // by its code or sign, "" when none is written
	dollar   bool   // the sign was a bare "$"
}

// symbols are the signs of currencies that have one meaning, and the dollar.
var symbols = map[string]string{
	"€": "EUR", "£": "GBP", "US$": "USD", "$US": "USD", "C$": "CAD", "CA$": "CAD", "A$": "AUD", "AU$": "AUD", "NZ$": "NZD", "HK$": "HKD", "S$": "SGD",
	"R$": "BRL", "₹": "INR", "ZŁ": "PLN", "KČ": "CZK", "FR": "CHF", "SFR": "CHF", "₽": "RUB", "₺": "TRY", "₩": "KRW", "₪": "ILS", "฿": "THB",
	"₴": "UAH", "FT": "HUF", "LEI": "RON", "¥": "JPY", "$": "USD", "EURO": "EUR",
}

// parseMoney takes a cell apart: "-1.234,50 €", "(12.00)", "USD 5", "3'000.-",
// "12,50 CR". ok is false for anything else.
func parseMoney(s string) (m money, ok bool) {
	s = strings.TrimSpace(s)
	if s == "" || len(s) > 64 {
		return m, false
	}
	if strings.HasPrefix(s, "(") && strings.HasSuffix(s, ")") {
		m.negative, m.signed, s = true, true, s[1:len(s)-1]
	}
	start := strings.IndexFunc(s, isDigit)
	end := strings.LastIndexFunc(s, isDigit)
	if start < 0 {
		return m, false
	}
	if start > 0 && (s[start-1] == '.' || s[start-1] == ',') { // ".50", but not "Fr.50"
		if start == 1 || !unicode.IsLetter(lastRune(s[:start-1])) {
			start--
		}
	}
	if m.digits, ok = plainDigits(s[start : end+1]); !ok {
		return m, false
	}
	return m, m.affix(s[:start], true) && m.affix(s[end+1:], false)
}

// affix reads what stands before or after the digits.
func (m *money) affix(s string, before bool) bool {
	s = strings.ToUpper(strings.TrimSpace(s))
	if !before {
		s = strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(s, ".--"), ".-"), ".")
	}
	var word strings.Builder
	for _, r := range s {
		switch r {
		case '-', '−', '–':
			if m.signed && m.negative {
				return false
			}
			m.negative, m.signed = true, true
		case '+':
			m.signed = true
		case ' ', '\u00a0', '\u202f':
		default:
			word.WriteRune(r)
		}
	}
	w := strings.TrimSuffix(word.String(), ".")
	switch {
	case w == "":
		return true
	case !before && (w == "CR" || w == "C" || w == "H"):
		m.signed = true
		return true
	case !before && (w == "DR" || w == "D" || w == "S" || w == "DB"):
		m.negative, m.signed = true, true
		return true
	}
	if m.currency != "" {
		return false
	}
	if code, ok := symbols[w]; ok {
		m.currency, m.dollar = code, w == "$"
		return true
	}
	if w == "KR" {
		return true // of three countries: unknown
	}
	m.currency = currencyCode(w)
	return m.currency != ""
}

// currencyCode returns s when it is the code of a currency, else "".
func currencyCode(s string) string {
	if len(s) != 3 {
		return ""
	}
	unit, err := currency.ParseISO(s)
	if err != nil {
		return ""
	}
	return unit.String()
}

func isDigit(r rune) bool { return r >= '0' && r <= '9' }

func lastRune(s string) rune {
	r, _ := utf8.DecodeLastRuneInString(strings.TrimSpace(s))
	return r
}

// plainDigits removes the spaces and apostrophes by which thousands are grouped.
func plainDigits(s string) (string, bool) {
	var b strings.Builder
	for i, r := range s {
		switch {
		case isDigit(r), r == '.', r == ',':
			b.WriteRune(r)
		case r == ' ' || r == '\'' || r == '’' || r == '\u00a0' || r == '\u202f' || r == '`':
			rest := s[i+utf8.RuneLen(r):]
			if len(rest) < 3 || !isNumber(rest[:3]) || len(rest) > 3 && isDigit(rune(rest[3])) {
				return "", false
			}
		default:
			return "", false
		}
	}
	return b.String(), true
}

// style says what the separators of the cell decide on their own. bad is set
// where they make no sense.
func (m money) style() (s style, bad bool) {
	points, commas := strings.Count(m.digits, "."), strings.Count(m.digits, ",")
	switch {
	case points == 0 && commas == 0:
		return anyStyle, false
	case points > 0 && commas > 0:
		s = pointStyle
		if strings.LastIndexByte(m.digits, ',') > strings.LastIndexByte(m.digits, '.') {
			s = commaStyle
		}
		_, err := m.decimal(s)
		return s, err != nil
	case points > 1:
		_, err := m.decimal(commaStyle)
		return commaStyle, err != nil
	case commas > 1:
		_, err := m.decimal(pointStyle)
		return pointStyle, err != nil
	}
	sep := strings.IndexAny(m.digits, ".,")
	whole, part := m.digits[:sep], m.digits[sep+1:]
	if len(part) == 3 && len(whole) >= 1 && len(whole) <= 3 && whole[0] != '0' {
		return anyStyle, false // 1.234: thousands, or three places
	}
	return style(m.digits[sep]), false
}

// open says whether the cell has a separator and yet decides nothing.
func (m money) open() bool {
	s, bad := m.style()
	return s == anyStyle && !bad && strings.ContainsAny(m.digits, ".,")
}

var errGroups = errors.New("the digits are not grouped as an amount is")

// decimal returns the amount as a plain decimal with its sign.
func (m money) decimal(s style) (string, error) {
	thousands := ","
	if s == commaStyle {
		thousands = "."
	}
	whole, part, pointed := strings.Cut(m.digits, string(rune(s)))
	if s == anyStyle {
		whole, part, pointed = m.digits, "", false
	}
	if strings.ContainsAny(part, ".,") {
		return "", errGroups
	}
	if groups := strings.Split(whole, thousands); len(groups) > 1 {
		for i, g := range groups {
			last := i == len(groups)-1
			// Groups of two before the last three are India's.
			if i == 0 && (len(g) == 0 || len(g) > 3) || last && len(g) != 3 || i > 0 && !last && len(g) != 3 && len(g) != 2 {
				return "", errGroups
			}
		}
		whole = strings.Join(groups, "")
	}
	out := whole
	if pointed && part != "" {
		out += "." + part
	}
	if m.negative {
		out = "-" + out
	}
	return plainDecimal(out)
}

// places is how many digits of fraction the cell has, as far as it is known.
func (m money) places() int {
	s, _ := m.style()
	if s == anyStyle {
		return 0
	}
	return len(m.digits) - strings.LastIndexByte(m.digits, byte(s)) - 1
}
