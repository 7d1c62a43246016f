package locker

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// A Filter is a parsed filter expression (see [ParseFilter]). A nil Filter selects
// everything. It is safe for concurrent use.
type Filter struct {
	root   condition
	fields []string
}

// ParseFilter reads a filter expression:
//
//	expression = comparison | "not" expression | expression "and" expression
//	           | expression "or" expression | "(" expression ")"
//	comparison = field ("=" | "!=" | "<" | "<=" | ">" | ">=" | "~") literal
//	literal    = "text" | 'text' | number | true | false | null
//
// "not" binds closest, then "and", then "or"; words may be in any case. A field may
// lead into nested objects with dots (address.city). Beside the fields of the
// collection, id, time, source and import name the record's own.
//
//   - Numbers compare as exact decimals, also where the field is a string that
//     holds one, as amounts of money do.
//   - Texts compare as instants where both are times (RFC 3339 or a date, which
//     is its midnight in UTC), else by code point. "~" asks whether the field
//     contains the text, in any case.
//   - A field that is a list matches where one of its elements does.
//   - A field that is not there is null, and null matches "= null" alone. "!=" is
//     the opposite of "=".
//
// An empty expression gives a nil Filter. Errors are [ErrInvalid] and name the column.
func ParseFilter(expression string) (*Filter, error) {
	if strings.TrimSpace(expression) == "" {
		return nil, nil
	}
	if len(expression) > maxFilter {
		return nil, fmt.Errorf("%w filter: longer than %d bytes", ErrInvalid, maxFilter)
	}
	p := &filterParser{text: expression}
	p.next()
	root, err := p.or(0)
	if err == nil && p.token.kind != tokenEnd {
		err = p.fail("an operator such as 'and' or the end")
	}
	if err != nil {
		return nil, err
	}
	slices.Sort(p.fields)
	return &Filter{root: root, fields: slices.Compact(p.fields)}, nil
}

const (
	maxFilter = 16 << 10 // bytes of an expression
	maxDepth  = 100      // parentheses and nots inside each other
)

// Fields are the top-level fields that the expression looks at, sorted.
func (f *Filter) Fields() []string {
	if f == nil {
		return nil
	}
	return slices.Clone(f.fields)
}

// Match says whether a record is selected. get returns a top-level field as JSON,
// and id, time, source and import as JSON strings; false where there is none.
func (f *Filter) Match(get func(field string) (json.RawMessage, bool)) bool {
	return f == nil || f.root.match(get)
}

// A condition is a node of the parsed expression.
type condition interface {
	match(get func(string) (json.RawMessage, bool)) bool
}

type (
	allOf    []condition
	anyOf    []condition
	negation struct{ condition }
)

func (c allOf) match(get func(string) (json.RawMessage, bool)) bool {
	for _, part := range c {
		if !part.match(get) {
			return false
		}
	}
	return true
}

func (c anyOf) match(get func(string) (json.RawMessage, bool)) bool {
	for _, part := range c {
		if part.match(get) {
			return true
		}
	}
	return false
}

func (c negation) match(get func(string) (json.RawMessage, bool)) bool {
	return !c.condition.match(get)
}

// A comparison compares one field with a constant.
type comparison struct {
	path  []string // the field, then what lies below it
	op    string   // "=", "<", "<=", ">", ">=" or "~"; "!=" is a not around "="
	value constant
}

func (c comparison) match(get func(string) (json.RawMessage, bool)) bool {
	raw, ok := get(c.path[0])
	for _, name := range c.path[1:] {
		if !ok {
			break
		}
		var object map[string]json.RawMessage
		if json.Unmarshal(raw, &object) != nil {
			return c.matchValue(nil)
		}
		raw, ok = object[name]
	}
	if !ok {
		raw = nil
	}
	return c.matchValue(raw)
}

// matchValue compares one JSON value; nil is a field that is not there.
func (c comparison) matchValue(raw json.RawMessage) bool {
	if len(raw) > 0 && raw[0] == '[' {
		var list []json.RawMessage
		if json.Unmarshal(raw, &list) != nil {
			return false
		}
		return slices.ContainsFunc(list, c.matchValue)
	}
	return c.value.compare(c.op, raw)
}

// The tokens of an expression.
type tokenKind int

const (
	tokenEnd    tokenKind = iota
	tokenWord             // a field, a keyword, a number
	tokenText             // a quoted text, unquoted
	tokenSymbol           // an operator or a parenthesis
	tokenBad              // what cannot be read
)

type token struct {
	kind  tokenKind
	text  string
	start int
}

type filterParser struct {
	text   string
	at     int
	token  token
	fields []string
}

// fail says what was expected where the parser stands.
func (p *filterParser) fail(expected string) error {
	found := "the end"
	if p.token.kind != tokenEnd {
		found = fmt.Sprintf("%q", p.token.text)
	}
	column := utf8.RuneCountInString(p.text[:p.token.start]) + 1
	return fmt.Errorf("%w filter, column %d: expected %s, found %s", ErrInvalid, column, expected, found)
}

func (p *filterParser) keyword(word string) bool {
	return p.token.kind == tokenWord && strings.EqualFold(p.token.text, word)
}

func (p *filterParser) symbol(s string) bool {
	return p.token.kind == tokenSymbol && p.token.text == s
}

func (p *filterParser) or(depth int) (condition, error) {
	return p.list("or", depth, p.and, func(parts []condition) condition { return anyOf(parts) })
}

func (p *filterParser) and(depth int) (condition, error) {
	return p.list("and", depth, p.unary, func(parts []condition) condition { return allOf(parts) })
}

// list reads parts joined by a keyword.
func (p *filterParser) list(word string, depth int, part func(int) (condition, error), join func([]condition) condition) (condition, error) {
	var parts []condition
	for {
		c, err := part(depth)
		if err != nil {
			return nil, err
		}
		parts = append(parts, c)
		if !p.keyword(word) {
			break
		}
		p.next()
	}
	if len(parts) == 1 {
		return parts[0], nil
	}
	return join(parts), nil
}

func (p *filterParser) unary(depth int) (condition, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("%w filter: more than %d levels", ErrInvalid, maxDepth)
	}
	switch {
	case p.keyword("not"):
		p.next()
		c, err := p.unary(depth + 1)
		return negation{c}, err
	case p.symbol("("):
		p.next()
		c, err := p.or(depth + 1)
		if err != nil {
			return nil, err
		}
		if !p.symbol(")") {
			return nil, p.fail("')'")
		}
		p.next()
		return c, nil
	}
	return p.comparison()
}

func (p *filterParser) comparison() (condition, error) {
	if p.token.kind != tokenWord || !isField(p.token.text) {
		return nil, p.fail("a field")
	}
	c := comparison{path: strings.Split(p.token.text, ".")}
	p.fields = append(p.fields, c.path[0])
	p.next()
	if p.token.kind != tokenSymbol || !strings.Contains(" = != < <= > >= ~ ", " "+p.token.text+" ") {
		return nil, p.fail("one of = != < <= > >= ~")
	}
	c.op = p.token.text
	p.next()
	var ok bool
	if c.value, ok = newConstant(p.token); !ok {
		return nil, p.fail(`a value: "text", a number, true, false or null`)
	}
	if c.op == "~" && p.token.kind != tokenText {
		return nil, p.fail(`a "text" after ~`)
	}
	p.next()
	if c.op == "!=" {
		c.op = "="
		return negation{c}, nil
	}
	return c, nil
}

// isField says whether a word can name a field: dotted parts, none of them empty,
// not beginning with a digit or a sign.
func isField(word string) bool {
	for part := range strings.SplitSeq(word, ".") {
		if part == "" {
			return false
		}
	}
	return strings.IndexByte("0123456789+-", word[0]) < 0
}

// next reads the next token.
func (p *filterParser) next() {
	for p.at < len(p.text) && strings.IndexByte(" \t\r\n", p.text[p.at]) >= 0 {
		p.at++
	}
	start := p.at
	if start == len(p.text) {
		p.token = token{tokenEnd, "", start}
		return
	}
	rest := p.text[start:]
	switch {
	case rest[0] == '"' || rest[0] == '\'':
		p.token = p.quoted(rest[0])
		return
	case strings.HasPrefix(rest, "!="), strings.HasPrefix(rest, "<="), strings.HasPrefix(rest, ">="):
		p.at += 2
	case strings.IndexByte("=<>~()", rest[0]) >= 0:
		p.at++
	default:
		n := strings.IndexAny(rest, " \t\r\n\"'=<>~()!")
		if n < 0 {
			n = len(rest)
		}
		if n == 0 { // a lone "!"
			p.at++
			p.token = token{tokenBad, rest[:1], start}
			return
		}
		p.at += n
		p.token = token{tokenWord, rest[:n], start}
		return
	}
	p.token = token{tokenSymbol, p.text[start:p.at], start}
}

// quoted reads a text; a backslash takes the next character as it is.
func (p *filterParser) quoted(quote byte) token {
	start := p.at
	var out []byte
	for i := start + 1; i < len(p.text); i++ {
		switch c := p.text[i]; {
		case c == quote:
			p.at = i + 1
			return token{tokenText, string(out), start}
		case c == '\\' && i+1 < len(p.text):
			i++
			out = append(out, p.text[i])
		default:
			out = append(out, c)
		}
	}
	p.at = len(p.text)
	return token{tokenBad, p.text[start:], start}
}
