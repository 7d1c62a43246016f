package contacts

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
)

// What one card may take, so that a hostile file cannot fill the memory.
const (
	maxLine       = 12 << 20 // bytes of one property, a photo in base64 mostly
	maxProperties = 10_000   // properties of one card
	maxDepth      = 8        // cards within cards
)

var errLong = errors.New("one property is longer than 12 MiB")

// A property is one line of a card, unfolded but not yet decoded.
type property struct {
	line   int    // where it begins, counted from 1
	group  string // "item1" of "item1.TEL"
	name   string // in capitals
	params map[string][]string
	value  []byte
	long   bool // the value was cut at maxLine
}

// param returns the first value of a parameter, "" where it is absent.
func (p *property) param(name string) string {
	if v := p.params[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// is says whether a parameter has a value, whatever the case.
func (p *property) is(name, value string) bool {
	for _, v := range p.params[name] {
		if strings.EqualFold(v, value) {
			return true
		}
	}
	return false
}

func (p *property) quotedPrintable() bool { return p.is("ENCODING", "QUOTED-PRINTABLE") }

func (p *property) base64() bool { return p.is("ENCODING", "BASE64") || p.is("ENCODING", "B") }

// A lexer reads properties. It knows the three ways in which lines continue: by
// white space at the start of the next (all versions), by "=" at the end in
// quoted-printable (2.1), and until a blank line in base64 (2.1).
type lexer struct {
	r    *bufio.Reader
	line int  // lines read so far
	old  bool // the card is of version 2.1, where a fold keeps its white space
}

func newLexer(r io.Reader) *lexer { return &lexer{r: bufio.NewReaderSize(r, 64<<10)} }

// next returns the next line that is not blank as a property. A line that is
// none is returned with the whole line as value and an empty name. The error is
// io.EOF after the last line, or that of the file.
func (l *lexer) next() (*property, error) {
	for {
		value, long, err := l.physical(nil)
		if err != nil {
			return nil, err
		}
		if len(bytes.TrimSpace(value)) == 0 {
			continue
		}
		p := &property{line: l.line, value: value, long: long}
		if err := l.unfold(p); err != nil {
			return nil, err
		}
		if !p.split() {
			return p, nil
		}
		return p, l.extend(p)
	}
}

// physical appends one line of the file, without its end, to b. It cuts what
// goes beyond maxLine and says so.
func (l *lexer) physical(b []byte) (line []byte, long bool, err error) {
	some := false
	for {
		part, err := l.r.ReadSlice('\n')
		if err != nil && err != bufio.ErrBufferFull && (err != io.EOF || len(part) == 0 && !some) {
			return b, long, err
		}
		some = true
		if room := maxLine - len(b); len(part) > room {
			part, long = part[:max(room, 0)], true
		}
		b = append(b, part...)
		if err != bufio.ErrBufferFull {
			l.line++
			return bytes.TrimRight(b, "\r\n"), long, nil
		}
	}
}

// unfold joins the lines that begin with white space.
func (l *lexer) unfold(p *property) error {
	for {
		c, err := l.r.Peek(1)
		if err == io.EOF || err == nil && c[0] != ' ' && c[0] != '\t' {
			return nil
		}
		if err != nil {
			return err
		}
		if !l.old {
			l.r.Discard(1) // cannot fail: it was peeked
		}
		if err := l.join(p, ""); err != nil {
			return err
		}
	}
}

// join appends the next line of the file, after some text.
func (l *lexer) join(p *property, between string) error {
	value, long, err := l.physical(append(p.value, between...))
	if err != nil && err != io.EOF {
		return err
	}
	p.value, p.long = value, p.long || long
	return nil
}

// extend adds the lines by which version 2.1 continues an encoded value.
func (l *lexer) extend(p *property) error {
	switch {
	case p.quotedPrintable():
		for bytes.HasSuffix(p.value, []byte("=")) {
			if _, err := l.r.Peek(1); err == io.EOF {
				return nil
			}
			p.value = p.value[:len(p.value)-1]
			if err := l.join(p, ""); err != nil {
				return err
			}
		}
	case p.base64():
		for {
			ahead, err := l.r.Peek(80)
			if err != nil && err != io.EOF {
				return err
			}
			line, _, _ := bytes.Cut(ahead, []byte("\n"))
			line = bytes.TrimSpace(line)
			if len(line) == 0 || bytes.ContainsAny(line, ":;") {
				return nil
			}
			if err := l.join(p, ""); err != nil {
				return err
			}
		}
	}
	return nil
}

// split takes "group.NAME;PARAM=a,b:value" apart. It is false, and changes
// nothing, for a line that is no property.
func (p *property) split() bool {
	head, value, ok := cutHead(p.value)
	if !ok {
		return false
	}
	parts := splitQuoted(head, ';')
	name := parts[0]
	group, rest, dotted := strings.Cut(name, ".")
	if dotted {
		name = rest
	} else {
		group = ""
	}
	if !isName(name) || dotted && !isName(group) {
		return false
	}
	p.group, p.name, p.value = group, strings.ToUpper(name), value
	p.params = make(map[string][]string)
	for _, part := range parts[1:] {
		p.setParam(part)
	}
	return true
}

// setParam adds "NAME=a,b" or one of the bare words of version 2.1.
func (p *property) setParam(s string) {
	name, value, named := strings.Cut(s, "=")
	name = strings.ToUpper(strings.TrimSpace(name))
	if !named {
		value = name
		switch name {
		case "":
			return
		case "QUOTED-PRINTABLE", "BASE64", "7BIT", "8BIT":
			name = "ENCODING"
		case "URL", "INLINE", "CONTENT-ID", "CID":
			name = "VALUE"
		default:
			name = "TYPE"
		}
	}
	if name == "TYPE" {
		value = strings.ReplaceAll(value, `"`, "") // in TYPE="voice,home" the quotes hold a list
	}
	for _, v := range splitQuoted(value, ',') {
		if v = strings.Trim(strings.TrimSpace(v), `"`); v != "" {
			p.params[name] = append(p.params[name], v)
		}
	}
}

// cutHead cuts a line at the first colon outside of quotes; where a quote is
// never closed, at the first colon.
func cutHead(line []byte) (head string, value []byte, ok bool) {
	if head, value, ok = cutColon(line, true); !ok {
		head, value, ok = cutColon(line, false)
	}
	return head, value, ok
}

func cutColon(line []byte, quotes bool) (head string, value []byte, ok bool) {
	quoted := false
	for i, c := range line {
		switch {
		case c == '"' && quotes:
			quoted = !quoted
		case c == ':' && !quoted:
			return string(line[:i]), line[i+1:], true
		case i > 4096:
			return "", nil, false
		}
	}
	return "", nil, false
}

// splitQuoted splits s at a separator outside of quotes.
func splitQuoted(s string, sep byte) []string {
	var parts []string
	quoted, from := false, 0
	for i := range len(s) {
		switch {
		case s[i] == '"':
			quoted = !quoted
		case s[i] == sep && !quoted:
			parts = append(parts, s[from:i])
			from = i + 1
		}
	}
	return append(parts, s[from:])
}

// isName says whether s may be the name of a property or of a group.
func isName(s string) bool {
	if s == "" || len(s) > 128 {
		return false
	}
	for i := range len(s) {
		c := s[i] | 0x20
		if (c < 'a' || c > 'z') && (s[i] < '0' || s[i] > '9') && s[i] != '-' && s[i] != '_' {
			return false
		}
	}
	return true
}
