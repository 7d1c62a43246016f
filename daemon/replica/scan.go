package replica

import (
	"bytes"
	"errors"
)

// A member is a member of a JSON object, as it stands there.
type member struct{ name, value []byte }

// A changeLine is a line taken apart without copying. Strings are as they stand in
// the line, quotes included.
type changeLine struct {
	collection, id      []byte
	imp, lift           []byte
	clock, device       []byte
	owner, deleted      bool
	blob                bool     // it has a member "blob"
	values              []member // fields, time and source
	plain               bool     // all that it has is known
	hasClass, hasFields bool
}

var errNoObject = errors.New("a line is no JSON object")

// parse takes a line apart.
func (l *changeLine) parse(line []byte) error {
	*l = changeLine{values: l.values[:0], plain: true}
	rest, err := eachMember(line, l.member)
	if err != nil {
		return err
	}
	if len(bytes.TrimSpace(rest)) > 0 {
		return errNoObject
	}
	l.plain = l.plain && l.collection != nil && len(l.id) > 0 && l.hasClass && plainText(l.device) && plainClock(l.clock) && !l.blob
	return nil
}

// member takes one member of a line.
func (l *changeLine) member(name, value []byte) error {
	text := func(to *[]byte) {
		if *to != nil || len(value) < 2 || value[0] != '"' {
			l.plain = false
		}
		*to = value
	}
	switch string(name) {
	case `"collection"`:
		text(&l.collection)
	case `"id"`:
		text(&l.id)
	case `"import"`:
		if text(&l.imp); len(value) == 2 {
			l.imp = nil
		}
	case `"lift"`:
		text(&l.lift)
		l.plain = l.plain && plainText(value)
	case `"clock"`:
		text(&l.clock)
	case `"device"`:
		text(&l.device)
	case `"class"`:
		l.owner = string(value) == `"owner"`
		l.plain = l.plain && !l.hasClass && (l.owner || string(value) == `"source"`)
		l.hasClass = true
	case `"deleted"`:
		l.deleted = string(value) == "true"
		l.plain = l.plain && l.deleted
	case `"time"`, `"source"`:
		l.plain = l.plain && value[0] == '"'
		if string(value) != `""` { // which says nothing
			l.values = append(l.values, member{name[1 : len(name)-1], value})
		}
	case `"fields"`:
		return l.fields(value)
	case `"blob"`:
		l.blob = true
	default:
		l.plain = false
	}
	return nil
}

func (l *changeLine) fields(object []byte) error {
	if l.hasFields || object[0] != '{' {
		l.plain = false
		return nil
	}
	l.hasFields = true
	_, err := eachMember(object, func(name, value []byte) error {
		l.values = append(l.values, member{name, value})
		return nil
	})
	return err
}

// plainText says whether a token is a string that has no escapes and is not empty, so
// that two that are equal are equal as tokens, and order as tokens do.
func plainText(token []byte) bool {
	return len(token) > 2 && token[0] == '"' && !bytes.ContainsRune(token, '\\')
}

// plainClock says whether a token is a clock.
func plainClock(token []byte) bool {
	if len(token) != 18 || token[0] != '"' {
		return false
	}
	for _, c := range token[1:17] {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// eachMember calls f with each member of the JSON object with which b begins, and
// returns what follows it. It is not strict about what a value is: State is.
func eachMember(b []byte, f func(name, value []byte) error) (rest []byte, err error) {
	s := tokens{b: b}
	if s.space() != '{' {
		return nil, errNoObject
	}
	s.at++
	if s.space() == '}' {
		return b[s.at+1:], nil
	}
	for {
		start := s.at
		if s.space(); !s.text() {
			return nil, errNoObject
		}
		name := bytes.TrimLeft(b[start:s.at], " \t\r\n")
		if s.space() != ':' {
			return nil, errNoObject
		}
		s.at++
		s.space()
		start = s.at
		if !s.value() {
			return nil, errNoObject
		}
		if err := f(name, b[start:s.at]); err != nil {
			return nil, err
		}
		switch s.space() {
		case ',':
			s.at++
		case '}':
			return b[s.at+1:], nil
		default:
			return nil, errNoObject
		}
	}
}

// tokens walks over JSON.
type tokens struct {
	b  []byte
	at int
}

// space passes over blanks and returns what follows, 0 at the end.
func (s *tokens) space() byte {
	for ; s.at < len(s.b); s.at++ {
		if c := s.b[s.at]; c != ' ' && c != '\t' && c != '\r' && c != '\n' {
			return c
		}
	}
	return 0
}

// text passes over a string.
func (s *tokens) text() bool {
	if s.at >= len(s.b) || s.b[s.at] != '"' {
		return false
	}
	for s.at++; s.at < len(s.b); s.at++ {
		switch s.b[s.at] {
		case '\\':
			s.at++
		case '"':
			s.at++
			return true
		}
	}
	return false
}

// value passes over a value, which is not empty.
func (s *tokens) value() bool {
	start, depth := s.at, 0
	for s.at < len(s.b) {
		switch c := s.b[s.at]; c {
		case '"':
			if !s.text() {
				return false
			}
		case '{', '[':
			depth++
			s.at++
		case '}', ']', ',', ' ', '\t', '\r', '\n':
			if depth == 0 {
				return s.at > start
			}
			if c == '}' || c == ']' {
				depth--
			}
			s.at++
		default:
			s.at++
		}
		if depth == 0 && (s.b[start] == '"' || s.b[start] == '{' || s.b[start] == '[') {
			return true
		}
	}
	return depth == 0 && s.at > start
}
