package posts

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

const (
	maxElement = 2 << 20 // bytes of one element of a list
	maxKey     = 4 << 10
	maxDepth   = 200
)

// A syntaxError says why, and on which line, something is no JSON.
type syntaxError struct {
	line int
	why  string
}

func (e *syntaxError) Error() string { return fmt.Sprintf("line %d: %s", e.line, e.why) }

var errLong = errors.New("is longer than 2 MiB")

// A stream reads JSON bytes, value by value, so that a list of any length needs
// the memory of one element.
type stream struct {
	r    *bufio.Reader
	line int
}

func newStream(r io.Reader) *stream {
	return &stream{r: bufio.NewReaderSize(r, 64<<10), line: 1}
}

func (s *stream) bad(format string, args ...any) error {
	return &syntaxError{s.line, fmt.Sprintf(format, args...)}
}

// cut makes the end of the file within a value an error of its own.
func (s *stream) cut(err error) error {
	if err == io.EOF {
		return s.bad("the file ends in the middle: it was cut off")
	}
	return err
}

func (s *stream) byte() (byte, error) {
	c, err := s.r.ReadByte()
	if c == '\n' && err == nil {
		s.line++
	}
	return c, err
}

// peek returns the next byte that is no white space, without reading it.
func (s *stream) peek() (byte, error) {
	for {
		b, err := s.r.Peek(1)
		if err != nil {
			return 0, err
		}
		switch b[0] {
		case ' ', '\t', '\r', '\n':
			s.byte() // cannot fail: it was peeked
		default:
			return b[0], nil
		}
	}
}

// expect reads one byte, after white space.
func (s *stream) expect(want byte) error {
	c, err := s.peek()
	if err != nil {
		return s.cut(err)
	}
	if c != want {
		return s.bad("%q stands where %q should be", c, want)
	}
	s.byte() // cannot fail: it was peeked
	return nil
}

// until reads up to and with a byte and returns what was before, for the names
// before the value in the archives of Twitter.
func (s *stream) until(end byte, most int) (string, error) {
	var b []byte
	for len(b) < most {
		c, err := s.byte()
		if err != nil {
			return "", s.cut(err)
		}
		if c == end {
			return string(b), nil
		}
		b = append(b, c)
	}
	return "", s.bad("there is no %q where it should be", end)
}

// list reads a list and calls do with each element and the line where it
// begins. An element that is too long comes as errLong and no bytes.
func (s *stream) list(do func(element []byte, line int, err error) error) error {
	return s.values('[', ']', func() error {
		line := s.line
		element, err := s.value(maxElement)
		if err != nil && !errors.Is(err, errLong) {
			return err
		}
		return do(element, line, err)
	})
}

// object reads an object and calls do with the name of each member; do must read
// its value.
func (s *stream) object(do func(name string) error) error {
	return s.values('{', '}', func() error {
		raw, err := s.value(maxKey)
		if err != nil {
			return err
		}
		var name string
		if json.Unmarshal(raw, &name) != nil {
			return s.bad("the name of a member is no string")
		}
		if err := s.expect(':'); err != nil {
			return err
		}
		if _, err := s.peek(); err != nil {
			return s.cut(err)
		}
		return do(name)
	})
}

// values reads what stands between brackets, separated by commas.
func (s *stream) values(open, end byte, one func() error) error {
	if err := s.expect(open); err != nil {
		return err
	}
	for first := true; ; first = false {
		c, err := s.peek()
		if err != nil {
			return s.cut(err)
		}
		if c == end {
			s.byte() // cannot fail: it was peeked
			return nil
		}
		if !first {
			if err := s.expect(','); err != nil {
				return err
			}
			if _, err := s.peek(); err != nil {
				return s.cut(err)
			}
		}
		if err := one(); err != nil {
			return err
		}
	}
}

// value reads one value and returns its bytes. A value longer than most is read
// to its end and given up with errLong.
func (s *stream) value(most int) ([]byte, error) {
	if _, err := s.peek(); err != nil {
		return nil, s.cut(err)
	}
	var b []byte
	long, depth, quoted := false, 0, false
	for {
		c, err := s.byte()
		if err != nil {
			if err == io.EOF && depth == 0 && !quoted && len(b) > 0 {
				break
			}
			return nil, s.cut(err)
		}
		if len(b) < most {
			b = append(b, c)
		} else {
			long = true
		}
		switch {
		case quoted && c == '\\':
			c, err := s.byte()
			if err != nil {
				return nil, s.cut(err)
			}
			b = append(b, c)
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			depth++
		case c == '}' || c == ']':
			depth--
		}
		if depth < 0 || depth > maxDepth {
			return nil, s.bad("brackets do not fit together")
		}
		if depth == 0 && !quoted && s.ended(c) {
			break
		}
	}
	if long {
		return nil, errLong
	}
	return b, nil
}

// ended says whether a value ends after c: at its last bracket or quote, or
// before what cannot belong to a number or a word.
func (s *stream) ended(c byte) bool {
	if c == '}' || c == ']' || c == '"' {
		return true
	}
	next, err := s.r.Peek(1)
	if err != nil {
		return true
	}
	switch next[0] {
	case ',', ']', '}', ':', ' ', '\t', '\r', '\n', ';':
		return true
	}
	return false
}

// end checks that nothing but white space and a semicolon follows.
func (s *stream) end() error {
	for {
		c, err := s.peek()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if c != ';' {
			return s.bad("%q stands where the file should end", c)
		}
		s.byte() // cannot fail: it was peeked
	}
}
