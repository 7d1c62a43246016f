package locker

import (
	"cmp"
	"encoding/json"
	"math/big"
	"strconv"
	"strings"
	"time"
)

// A constant is the literal of a comparison, read once.
type constant struct {
	kind    byte // '"' text, '0' number, 't' true, 'f' false, 'n' null
	text    string
	folded  string // text in lower case
	number  decimal
	instant time.Time
	isTime  bool
}

// newConstant reads a literal.
func newConstant(t token) (constant, bool) {
	switch {
	case t.kind == tokenText:
		c := constant{kind: '"', text: t.text, folded: strings.ToLower(t.text)}
		c.instant, c.isTime = parseInstant(t.text)
		return c, true
	case t.kind != tokenWord:
		return constant{}, false
	case strings.EqualFold(t.text, "true"), strings.EqualFold(t.text, "false"), strings.EqualFold(t.text, "null"):
		return constant{kind: strings.ToLower(t.text)[0]}, true
	}
	n, ok := parseDecimal(t.text)
	return constant{kind: '0', number: n}, ok
}

// compare applies an operator to a JSON value that is no list; nil is none at all.
func (c constant) compare(op string, raw json.RawMessage) bool {
	if len(raw) == 0 {
		return c.kind == 'n' && op == "="
	}
	switch c.kind {
	case 'n', 't', 'f':
		return op == "=" && raw[0] == c.kind
	case '0':
		n, ok := decimalOf(raw)
		return ok && ordered(op, n.compare(c.number))
	}
	text, ok := textOf(raw)
	switch {
	case !ok:
		return false
	case op == "~":
		return strings.Contains(strings.ToLower(text), c.folded)
	case c.isTime:
		if t, ok := parseInstant(text); ok {
			return ordered(op, t.Compare(c.instant))
		}
	}
	return ordered(op, strings.Compare(text, c.text))
}

func ordered(op string, order int) bool {
	switch op {
	case "=":
		return order == 0
	case "<":
		return order < 0
	case "<=":
		return order <= 0
	case ">":
		return order > 0
	case ">=":
		return order >= 0
	}
	return false
}

// textOf returns the text of a JSON string.
func textOf(raw json.RawMessage) (string, bool) {
	if raw[0] != '"' || len(raw) < 2 {
		return "", false
	}
	body := raw[1 : len(raw)-1]
	plain := true
	for _, b := range body {
		plain = plain && b != '\\'
	}
	if plain {
		return string(body), true
	}
	var s string
	return s, json.Unmarshal(raw, &s) == nil
}

// decimalOf returns the number that a JSON number or a JSON string holds.
func decimalOf(raw json.RawMessage) (decimal, bool) {
	if raw[0] == '"' {
		text, ok := textOf(raw)
		if !ok {
			return decimal{}, false
		}
		return parseDecimal(text)
	}
	return parseDecimal(string(raw))
}

// parseInstant reads RFC 3339, or a date as its midnight in UTC.
func parseInstant(s string) (time.Time, bool) {
	if len(s) < len(time.DateOnly) || s[4] != '-' || s[7] != '-' {
		return time.Time{}, false
	}
	layout := time.RFC3339
	if len(s) == len(time.DateOnly) {
		layout = time.DateOnly
	}
	t, err := time.Parse(layout, s)
	return t, err == nil
}

// A decimal is small × 10^-scale where it fits, else big.
type decimal struct {
	small int64
	scale int
	big   *big.Rat // nil where small holds the value
}

// maxExponent bounds what an exponent may ask of the memory.
const maxExponent = 400

// parseDecimal reads a decimal number, with an exponent or without.
func parseDecimal(s string) (decimal, bool) {
	if len(s) == 0 || len(s) > maxExponent {
		return decimal{}, false
	}
	digits := strings.TrimPrefix(s, "-")
	if len(digits) == len(s) {
		digits = strings.TrimPrefix(s, "+")
	}
	d, count, dot := decimal{}, 0, false
	for i := range len(digits) {
		switch c := digits[i]; {
		case c >= '0' && c <= '9':
			count++
			if count <= 18 {
				d.small = d.small*10 + int64(c-'0')
			}
			if dot {
				d.scale++
			}
		case c == '.' && !dot:
			dot = true
		case (c == 'e' || c == 'E') && count > 0:
			return parseBig(s, digits[i+1:])
		default:
			return decimal{}, false
		}
	}
	if count == 0 {
		return decimal{}, false
	}
	if count > 18 {
		return parseBig(s, "0")
	}
	if s[0] == '-' {
		d.small = -d.small
	}
	return d, true
}

func parseBig(s, exponent string) (decimal, bool) {
	e, err := strconv.Atoi(exponent)
	if err != nil || e > maxExponent || e < -maxExponent {
		return decimal{}, false
	}
	r, ok := new(big.Rat).SetString(s)
	return decimal{big: r}, ok
}

func (d decimal) rat() *big.Rat {
	if d.big != nil {
		return d.big
	}
	ten := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(d.scale)), nil)
	return new(big.Rat).SetFrac(big.NewInt(d.small), ten)
}

// compare returns -1, 0 or +1.
func (d decimal) compare(e decimal) int {
	if d.big == nil && e.big == nil {
		a, aok := rescale(d, max(d.scale, e.scale))
		b, bok := rescale(e, max(d.scale, e.scale))
		if aok && bok {
			return cmp.Compare(a, b)
		}
	}
	return d.rat().Cmp(e.rat())
}

// rescale returns d × 10^scale, if it fits.
func rescale(d decimal, scale int) (int64, bool) {
	n := d.small
	for range scale - d.scale {
		if n > 1<<59 || n < -(1<<59) {
			return 0, false
		}
		n *= 10
	}
	return n, true
}
