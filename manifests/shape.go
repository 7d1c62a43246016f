package manifests

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// A shape is what the fast check and the list of fields know of a JSON Schema:
// the keywords that our schemas use. It is read from the same text that the
// library compiles. Where a schema says more than a shape holds, the shape is
// partial, accepts nothing by itself, and the library decides.
type shape struct {
	kinds       kinds
	partial     bool
	description string
	format      string // date, date-time, decimal, currency; for display
	props       map[string]*shape
	order       []string // of props
	required    map[string]uint64
	all         uint64 // the bits of all that is required
	items       *shape
	text        func([]byte) bool // judges a string without escapes; nil takes all
	enum        [][]byte
	min, max    *float64
	folded      map[string]string // of a collection: lower case to the name of a field
}

// kinds is a set of JSON types.
type kinds uint8

const (
	isString kinds = 1 << iota
	isNumber
	isInteger
	isBoolean
	isObject
	isArray
	isNull
)

var kindNames = map[string]kinds{"string": isString, "number": isNumber, "integer": isInteger, "boolean": isBoolean, "object": isObject, "array": isArray, "null": isNull}

// Forms of strings that are checked without a regular expression.
var knownPatterns = map[string]struct {
	name  string
	check func([]byte) bool
}{
	`^-?[0-9]{1,30}(\.[0-9]{1,18})?$`: {"decimal", isDecimal},
	`^[A-Z]{3}$`:                      {"currency", isCurrency},
}

var knownFormats = map[string]func([]byte) bool{"date": isDate, "date-time": isDateTime}

// parseShape reads a schema.
func parseShape(text []byte) (*shape, error) {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(text, &raw); err != nil {
		return &shape{partial: true}, nil // true, false and what the library refuses
	}
	s := &shape{}
	for keyword, value := range raw {
		if err := s.keyword(keyword, value); err != nil {
			return nil, fmt.Errorf("%s: %w", keyword, err)
		}
	}
	return s, nil
}

// keyword takes one keyword of a schema.
func (s *shape) keyword(name string, value json.RawMessage) (err error) {
	switch name {
	case "$schema", "$id", "$comment", "title", "examples", "default", "deprecated", "readOnly", "writeOnly", "$defs":
	case "description":
		err = json.Unmarshal(value, &s.description)
	case "type":
		err = s.takeType(value)
	case "properties":
		err = s.takeProperties(value)
	case "required":
		err = s.takeRequired(value)
	case "items":
		s.items, err = parseShape(value)
	case "enum":
		err = s.takeEnum(value)
	case "minimum":
		err = json.Unmarshal(value, &s.min)
	case "maximum":
		err = json.Unmarshal(value, &s.max)
	case "pattern", "format":
		err = s.takeForm(name, value)
	default:
		s.partial = true
	}
	return err
}

func (s *shape) takeType(value json.RawMessage) error {
	var names []string
	if len(value) > 0 && value[0] == '"' {
		names = []string{""}
		if err := json.Unmarshal(value, &names[0]); err != nil {
			return err
		}
	} else if err := json.Unmarshal(value, &names); err != nil {
		return err
	}
	for _, n := range names {
		s.kinds |= kindNames[n]
	}
	return nil
}

func (s *shape) takeProperties(value json.RawMessage) error {
	s.props = map[string]*shape{}
	var failed error
	members(value, skipSpace(value, 0), func(m member, at int) int {
		end := skipValue(value, at, 0)
		if end < 0 || failed != nil {
			return -1
		}
		name := string(m.name)
		switch {
		case s.props[name] != nil:
			failed = fmt.Errorf("%s is there twice", name)
			return -1
		case !isFieldName(name):
			failed = fmt.Errorf("%q is no field name: use ASCII letters, digits, _ and -", name)
			return -1
		}
		s.props[name], failed = parseShape(value[at:end])
		s.order = append(s.order, name)
		return end
	})
	return failed
}

func (s *shape) takeRequired(value json.RawMessage) error {
	var names []string
	if err := json.Unmarshal(value, &names); err != nil {
		return err
	}
	s.required = map[string]uint64{}
	for i, n := range names {
		if i == 64 {
			s.partial = true
			break
		}
		s.required[n] = 1 << i
		s.all |= 1 << i
	}
	return nil
}

func (s *shape) takeEnum(value json.RawMessage) error {
	var values []any
	if err := json.Unmarshal(value, &values); err != nil {
		return err
	}
	for _, v := range values {
		text, ok := v.(string)
		if !ok {
			s.partial = true
			return nil
		}
		s.enum = append(s.enum, []byte(text))
	}
	return nil
}

func (s *shape) takeForm(keyword string, value json.RawMessage) error {
	var form string
	if err := json.Unmarshal(value, &form); err != nil {
		return err
	}
	if s.text != nil {
		s.partial = true // a pattern and a format: leave it to the library
		return nil
	}
	if keyword == "format" {
		s.format, s.text = form, knownFormats[form]
		s.partial = s.partial || s.text == nil
		return nil
	}
	if known, ok := knownPatterns[form]; ok {
		s.format, s.text = known.name, known.check
		return nil
	}
	re, err := regexp.Compile(form)
	if err != nil {
		return err
	}
	s.text = func(b []byte) bool { return utf8.Valid(b) && re.Match(b) }
	return nil
}

// accepts says that the whole of b is valid. False means only that the fast check
// is not sure.
func (s *shape) accepts(b []byte) bool {
	end := s.value(b, skipSpace(b, 0), 0)
	return end > 0 && skipSpace(b, end) == len(b)
}

// value reads a value of this shape; -1 is not sure.
func (s *shape) value(b []byte, i, depth int) int {
	if s.partial || i >= len(b) || depth > maxNesting {
		return -1
	}
	switch c := b[i]; {
	case c == '"':
		end, plain := skipString(b, i)
		if end < 0 || !s.takesString(b[i+1:end-1], plain) {
			return -1
		}
		return end
	case c == '{':
		return s.object(b, i, depth)
	case c == '[':
		if !s.has(isArray) || s.enum != nil {
			return -1
		}
		return elements(b, i, func(at int) int {
			if s.items == nil {
				return skipValue(b, at, depth+1)
			}
			return s.items.value(b, at, depth+1)
		})
	case s.enum != nil:
		return -1
	case c == 't' && s.has(isBoolean):
		return skipWord(b, i, "true")
	case c == 'f' && s.has(isBoolean):
		return skipWord(b, i, "false")
	case c == 'n' && s.has(isNull):
		return skipWord(b, i, "null")
	case c == '-' || c >= '0' && c <= '9':
		return s.number(b, i)
	}
	return -1
}

func (s *shape) has(k kinds) bool { return s.kinds == 0 || s.kinds&k != 0 }

func (s *shape) takesString(text []byte, plain bool) bool {
	switch {
	case !s.has(isString):
		return false
	case s.text == nil && s.enum == nil:
		return true
	case !plain:
		return false
	case s.text != nil && !s.text(text):
		return false
	}
	return s.enum == nil || slices.ContainsFunc(s.enum, func(e []byte) bool { return bytes.Equal(e, text) })
}

func (s *shape) number(b []byte, i int) int {
	end, whole := skipNumber(b, i)
	if end < 0 || !(s.has(isNumber) || whole && s.has(isInteger)) {
		return -1
	}
	if s.min == nil && s.max == nil {
		return end
	}
	n, err := strconv.ParseFloat(string(b[i:end]), 64)
	if err != nil || s.min != nil && n < *s.min || s.max != nil && n > *s.max {
		return -1
	}
	return end
}

func (s *shape) object(b []byte, i, depth int) int {
	if !s.has(isObject) || s.enum != nil {
		return -1
	}
	var seen uint64
	end := members(b, i, func(m member, at int) int {
		if s.all != 0 {
			seen |= s.required[string(m.name)]
		}
		if p := s.props[string(m.name)]; p != nil {
			return p.value(b, at, depth+1)
		}
		if s.twin(m.name) != "" {
			return -1
		}
		return skipValue(b, at, depth+1)
	})
	if seen != s.all {
		return -1
	}
	return end
}

// twin returns the field of which a name differs in case only, or "".
func (s *shape) twin(name []byte) string {
	if s.folded == nil || len(name) > 64 {
		return ""
	}
	var lower [64]byte
	for i, c := range name {
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		lower[i] = c
	}
	if field := s.folded[string(lower[:len(name)])]; field != string(name) {
		return field
	}
	return ""
}

// leaves appends the leaf fields below a schema, with their paths. An object of
// which the schema does not say what it holds is no leaf: nothing of it can be
// named, so nothing of it can be granted.
func (s *shape) leaves(out []Field, path string) []Field {
	at := s
	if s.kinds == isArray && s.items != nil {
		at = s.items
	}
	if len(at.props) == 0 && path != "" {
		if at.kinds == isObject || at.kinds == isArray {
			return out
		}
		return append(out, Field{Name: path, Type: s.typeName(), Description: s.description})
	}
	for _, name := range at.order {
		full := name
		if path != "" {
			full = path + "." + name
		}
		n := len(out)
		out = at.props[name].leaves(out, full)
		if path == "" && s.required[name] != 0 && len(out) == n+1 {
			out[n].Required = true
		}
	}
	return out
}

// typeName says in words what a leaf holds.
func (s *shape) typeName() string {
	switch {
	case s.format != "" && s.kinds == isString:
		return s.format
	case s.kinds == isArray && s.items != nil:
		return "list of " + s.items.typeName()
	}
	var names []string
	for name, k := range kindNames {
		if s.kinds&k != 0 {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	if len(names) == 0 {
		return "any"
	}
	return strings.Join(names, " or ")
}

func isDecimal(b []byte) bool {
	if len(b) > 0 && b[0] == '-' {
		b = b[1:]
	}
	end := skipDigits(b, 0)
	if end < 0 || end > 30 {
		return false
	}
	if end == len(b) {
		return true
	}
	return b[end] == '.' && skipDigits(b, end+1) == len(b) && len(b)-end-1 <= 18
}

func isCurrency(b []byte) bool {
	return len(b) == 3 && b[0] >= 'A' && b[0] <= 'Z' && b[1] >= 'A' && b[1] <= 'Z' && b[2] >= 'A' && b[2] <= 'Z'
}

func isDate(b []byte) bool {
	if len(b) != len(time.DateOnly) {
		return false
	}
	_, err := time.Parse(time.DateOnly, string(b))
	return err == nil
}

// isDateTime takes the usual RFC 3339; of leap seconds and lower case it is not sure.
func isDateTime(b []byte) bool {
	if len(b) < len("2006-01-02T15:04:05Z") || len(b) > 35 || bytes.IndexByte(b, ',') >= 0 {
		return false
	}
	_, err := time.Parse(time.RFC3339, string(b))
	return err == nil
}
