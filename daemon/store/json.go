package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"
)

// A scanner reads JSON without building anything: what it returns are parts of its
// input. It is as strict as the standard says.
type scanner struct {
	b   []byte
	pos int
	// plain is false once a string had an escape or a space stood between tokens:
	// what was scanned is then not in the form that the store keeps.
	plain bool
}

const maxNesting = 512

var (
	errSyntax  = errors.New("not valid JSON")
	errNesting = fmt.Errorf("JSON nested deeper than %d", maxNesting)
)

func (s *scanner) space() {
	for s.pos < len(s.b) {
		switch s.b[s.pos] {
		case ' ', '\t', '\n', '\r':
			s.plain = false
			s.pos++
		default:
			return
		}
	}
}

func (s *scanner) next() byte {
	if s.pos < len(s.b) {
		return s.b[s.pos]
	}
	return 0
}

// object scans an object and calls member with each name, unquoted, and value, in
// the form that the store keeps if normal is set, else verbatim.
func (s *scanner) object(normal bool, member func(name, val []byte) error) error {
	return s.members(func(name []byte) error {
		s.plain = true
		start := s.pos
		if err := s.value(0); err != nil {
			return err
		}
		val := s.b[start:s.pos:s.pos]
		if normal && !s.plain {
			val = normalise(val)
		}
		return member(name, val)
	})
}

// members scans an object. For each member it calls scan with the name, which has to
// scan the value.
func (s *scanner) members(scan func(name []byte) error) error {
	s.space()
	if s.next() != '{' {
		return errSyntax
	}
	s.pos++
	s.space()
	if s.next() == '}' {
		s.pos++
		return nil
	}
	for {
		name, err := s.name()
		if err != nil {
			return err
		}
		if err := scan(name); err != nil {
			return err
		}
		s.space()
		switch s.next() {
		case ',':
			s.pos++
			s.space()
		case '}':
			s.pos++
			return nil
		default:
			return errSyntax
		}
	}
}

// name scans a quoted name, the colon and the space around it.
func (s *scanner) name() ([]byte, error) {
	s.plain = true
	start := s.pos
	if err := s.str(); err != nil {
		return nil, err
	}
	name := s.b[start+1 : s.pos-1]
	if !s.plain {
		name = []byte(unquote(s.b[start:s.pos]))
	}
	s.space()
	if s.next() != ':' {
		return nil, errSyntax
	}
	s.pos++
	s.space()
	return name, nil
}

// value scans one value.
func (s *scanner) value(depth int) error {
	if depth > maxNesting {
		return errNesting
	}
	switch c := s.next(); {
	case c == '"':
		return s.str()
	case c == '-' || '0' <= c && c <= '9':
		return s.number()
	case c == '{':
		return s.list(depth, '}')
	case c == '[':
		return s.list(depth, ']')
	case c == 't':
		return s.word("true")
	case c == 'f':
		return s.word("false")
	case c == 'n':
		return s.word("null")
	}
	return errSyntax
}

// list scans an array or, where it ends with a brace, an object.
func (s *scanner) list(depth int, end byte) error {
	s.pos++
	s.space()
	if s.next() == end {
		s.pos++
		return nil
	}
	for {
		if end == '}' {
			if err := s.str(); err != nil {
				return err
			}
			s.space()
			if s.next() != ':' {
				return errSyntax
			}
			s.pos++
			s.space()
		}
		if err := s.value(depth + 1); err != nil {
			return err
		}
		s.space()
		switch s.next() {
		case ',':
			s.pos++
			s.space()
		case end:
			s.pos++
			return nil
		default:
			return errSyntax
		}
	}
}

// stops are the bytes at which the scan of a string looks closer.
var stops = func() (t [256]bool) {
	for i := range 0x20 {
		t[i] = true
	}
	t['"'], t['\\'] = true, true
	return t
}()

func (s *scanner) str() error {
	if s.next() != '"' {
		return errSyntax
	}
	i, b := s.pos+1, s.b
	for {
		for i < len(b) && !stops[b[i]] {
			i++
		}
		if i >= len(b) {
			return errSyntax
		}
		switch b[i] {
		case '"':
			s.pos = i + 1
			return nil
		case '\\':
			s.plain = false
			n := escape(b[i:])
			if n == 0 {
				return errSyntax
			}
			i += n
		default:
			return errSyntax
		}
	}
}

// escape is the length of the escape at the front of b, or 0.
func escape(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	switch b[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if len(b) < 6 {
			return 0
		}
		for _, c := range b[2:6] {
			if !('0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F') {
				return 0
			}
		}
		return 6
	}
	return 0
}

func (s *scanner) digits() bool {
	start := s.pos
	for s.pos < len(s.b) && '0' <= s.b[s.pos] && s.b[s.pos] <= '9' {
		s.pos++
	}
	return s.pos > start
}

func (s *scanner) number() error {
	if s.next() == '-' {
		s.pos++
	}
	if s.next() == '0' {
		s.pos++
	} else if !s.digits() {
		return errSyntax
	}
	if s.next() == '.' {
		s.pos++
		if !s.digits() {
			return errSyntax
		}
	}
	if c := s.next(); c == 'e' || c == 'E' {
		s.pos++
		if c := s.next(); c == '+' || c == '-' {
			s.pos++
		}
		if !s.digits() {
			return errSyntax
		}
	}
	return nil
}

func (s *scanner) word(w string) error {
	if len(s.b)-s.pos < len(w) || string(s.b[s.pos:s.pos+len(w)]) != w {
		return errSyntax
	}
	s.pos += len(w)
	return nil
}

// fields takes an object of fields apart and calls member for each. Values are in
// the form that the store keeps: without space and with no more escapes than needed.
func fields(b []byte, normal bool, member func(name, val []byte) error) error {
	if !utf8.Valid(b) {
		return errors.New("not valid UTF-8")
	}
	s := scanner{b: b}
	if err := s.object(normal, member); err != nil {
		return err
	}
	if s.space(); s.pos != len(b) {
		return errSyntax
	}
	return nil
}

// normalise returns a scanned value without space and with no more escapes than
// needed, so that equal values have equal bytes however they were encoded.
func normalise(v []byte) []byte {
	out := make([]byte, 0, len(v))
	for i := 0; i < len(v); {
		switch c := v[i]; c {
		case ' ', '\t', '\n', '\r':
			i++
		case '"':
			end := i + 1
			for v[end] != '"' {
				if v[end] == '\\' {
					end++
				}
				end++
			}
			end++
			if bytes.IndexByte(v[i:end], '\\') < 0 {
				out = append(out, v[i:end]...)
			} else {
				out = quote(out, unquote(v[i:end]))
			}
			i = end
		default:
			out = append(out, c)
			i++
		}
	}
	return out
}

// unquote returns the text of a scanned JSON string.
func unquote(quoted []byte) string {
	if bytes.IndexByte(quoted, '\\') < 0 {
		return string(quoted[1 : len(quoted)-1])
	}
	var text string
	if err := json.Unmarshal(quoted, &text); err != nil {
		return "" // cannot be: it was scanned
	}
	return text
}

const hexDigits = "0123456789abcdef"

// quote appends text as a JSON string, with no more escapes than needed. What is
// not UTF-8 becomes U+FFFD.
func quote(b []byte, text string) []byte {
	b = append(b, '"')
	start := 0
	for i := 0; i < len(text); i++ {
		c := text[i]
		if !stops[c] {
			continue
		}
		b = append(b, text[start:i]...)
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		case '\r':
			b = append(b, '\\', 'r')
		case '\t':
			b = append(b, '\\', 't')
		default:
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
		start = i + 1
	}
	b = append(b, text[start:]...)
	return append(b, '"')
}
