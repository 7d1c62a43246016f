package transactions

import (
	"bufio"
	"html"
	"io"
	"strings"
)

// What one element of an OFX file may take.
const (
	maxTag   = 1 << 10
	maxValue = 64 << 10
)

// A formatError says why bytes are not what they seemed to be.
type formatError string

func (e formatError) Error() string { return string(e) }

const (
	errNotOFX    = formatError("this is no OFX: it is neither tags nor values")
	errLongValue = formatError("a value is longer than 64 KiB")
)

// A token is a tag, or the text that follows a tag.
type token struct {
	name  string // of a tag, in capitals, without namespace
	close bool   // </NAME>
	text  string // trimmed text after the tag and before the next
	line  int    // where the tag begins
}

// An ofxLexer reads the tags of OFX, be it the SGML of versions 1.x, where values
// have no end tags, or the XML of 2.x. No entity is expanded but characters, so
// that no file can grow.
type ofxLexer struct {
	r     *bufio.Reader
	line  int
	again bool // the last byte read, a "<", is to be read once more
}

func newOFXLexer(r io.Reader) *ofxLexer {
	return &ofxLexer{r: bufio.NewReaderSize(r, 64<<10), line: 1}
}

func (l *ofxLexer) byte() (byte, error) {
	if l.again {
		l.again = false
		return '<', nil
	}
	c, err := l.r.ReadByte()
	if c == '\n' && err == nil {
		l.line++
	}
	return c, err
}

// skip passes over what comes before the first tag, such as the header of
// version 1.x, and returns it.
func (l *ofxLexer) skip() (string, error) {
	var head strings.Builder
	for {
		c, err := l.byte()
		if err != nil {
			return "", err
		}
		if c == '<' {
			l.again = true
			return head.String(), nil
		}
		if head.Len() > maxValue {
			return "", errNotOFX
		}
		head.WriteByte(c)
	}
}

// next returns the next tag with its text, or io.EOF.
func (l *ofxLexer) next() (token, error) {
	for {
		c, err := l.byte()
		if err != nil {
			return token{}, err
		}
		if c != '<' {
			continue // what stands after a comment
		}
		t := token{line: l.line}
		name, err := l.tag()
		if err != nil {
			return token{}, err
		}
		if name == "" { // comment, instruction or declaration
			continue
		}
		name, t.close = strings.CutPrefix(name, "/")
		empty := strings.HasSuffix(name, "/")
		name, _, _ = strings.Cut(strings.TrimSuffix(name, "/"), " ")
		if i := strings.LastIndexByte(name, ':'); i >= 0 {
			name = name[i+1:]
		}
		t.name = strings.ToUpper(strings.TrimSpace(name))
		if t.text, err = l.text(); err != nil {
			return token{}, err
		}
		if t.close || empty {
			t.text = ""
		}
		return t, nil
	}
}

// tag reads up to ">" and returns what is within; "" for what is no element.
func (l *ofxLexer) tag() (string, error) {
	var b strings.Builder
	for {
		c, err := l.byte()
		if err != nil {
			return "", cut(err)
		}
		if c == '>' {
			break
		}
		if c < ' ' {
			c = ' '
		}
		b.WriteByte(c)
		if b.String() == "!--" {
			return "", l.until("-->")
		}
		if b.Len() > maxTag {
			return "", errNotOFX
		}
	}
	s := strings.TrimSpace(b.String())
	if s == "" || s[0] == '!' || s[0] == '?' {
		return "", nil
	}
	return s, nil
}

// until passes over everything up to and with an end.
func (l *ofxLexer) until(end string) error {
	matched := 0
	for matched < len(end) {
		c, err := l.byte()
		switch {
		case err != nil:
			return cut(err)
		case c == end[matched]:
			matched++
		case c == '-' && matched == 2: // "--->"
		case c == end[0]:
			matched = 1
		default:
			matched = 0
		}
	}
	return nil
}

// text reads up to the next tag. A "<" that begins no tag is text, as in the
// names of shops that SGML writers forgot to escape.
func (l *ofxLexer) text() (string, error) {
	var b strings.Builder
	for {
		c, err := l.byte()
		if err == io.EOF {
			break
		}
		if err != nil {
			return "", err
		}
		if c == '<' {
			ahead, _ := l.r.Peek(8)
			if strings.HasPrefix(string(ahead), "![CDATA[") {
				if err := l.cdata(&b); err != nil {
					return "", err
				}
				continue
			}
			if len(ahead) == 0 || begins(ahead[0]) {
				l.again = true
				break
			}
		}
		if b.Len() > maxValue {
			return "", errLongValue
		}
		b.WriteByte(c)
	}
	s := strings.TrimSpace(b.String())
	if strings.Contains(s, "&") {
		s = strings.TrimSpace(strings.ReplaceAll(html.UnescapeString(s), "\u00a0", " "))
	}
	return s, nil
}

func (l *ofxLexer) cdata(b *strings.Builder) error {
	l.r.Discard(len("![CDATA[")) // cannot fail: it was peeked
	from := b.Len()
	for {
		c, err := l.byte()
		if err != nil {
			return cut(err)
		}
		b.WriteByte(c)
		if c == '>' && strings.HasSuffix(b.String()[from:], "]]>") {
			whole := strings.TrimSuffix(b.String(), "]]>")
			b.Reset()
			b.WriteString(whole)
			return nil
		}
		if b.Len() > maxValue {
			return errLongValue
		}
	}
}

// begins says whether c may follow "<" in a tag.
func begins(c byte) bool {
	return c == '/' || c == '!' || c == '?' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
}

// cut makes the end of the file within something an error of its own.
func cut(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
