// Package charset turns the text of exports into UTF-8. It decides by the bytes:
// a byte order mark, else whether the whole is valid UTF-8, and only then by
// what a file says of itself, which is often wrong. Start with [Detect].
package charset

import (
	"bytes"
	"context"
	"io"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"
)

// block is how much is read of a file at once.
const block = 256 << 10

// A Charset is the encoding of a text. The zero Charset is UTF-8.
type Charset struct {
	name string
	enc  encoding.Encoding // nil: UTF-8
	bom  int               // bytes to skip at the start
}

// String returns the name of the encoding, such as "windows-1252".
func (c Charset) String() string {
	if c.name == "" {
		return "utf-8"
	}
	return c.name
}

// Detect reads all of r and returns its encoding. The encoding named by declared
// (as in an OFX header or a CHARSET parameter; empty when there is none) counts
// only for text that has no byte order mark and is no UTF-8; where it is unknown
// the encoding is Windows-1252, which includes Latin-1.
func Detect(ctx context.Context, r io.ReaderAt, size int64, declared string) (Charset, error) {
	head := make([]byte, min(size, block))
	if n, err := r.ReadAt(head, 0); err != nil && (err != io.EOF || n < len(head)) {
		return Charset{}, err
	}
	if c, ok := marked(head); ok {
		return c, nil
	}
	valid, err := validUTF8(ctx, io.NewSectionReader(r, 0, size))
	switch {
	case err != nil:
		return Charset{}, err
	case valid:
		return Charset{}, nil
	}
	return fallback(declared), nil
}

// Guess is [Detect] for the beginning of a text. A character that is cut at the
// end of head does not count.
func Guess(head []byte, declared string) Charset {
	if c, ok := marked(head); ok {
		return c
	}
	if utf8.Valid(trimPartial(head)) {
		return Charset{}
	}
	return fallback(declared)
}

// Reader returns the text of r in UTF-8, without its byte order mark. Bytes that
// are no character become U+FFFD.
func (c Charset) Reader(r io.ReaderAt, size int64) io.Reader {
	body := io.NewSectionReader(r, int64(c.bom), size-int64(c.bom))
	if c.enc == nil {
		return body
	}
	return transform.NewReader(body, c.enc.NewDecoder())
}

// Decode returns b, which has no byte order mark, as a string of UTF-8.
func (c Charset) Decode(b []byte) string {
	if c.enc == nil {
		return strings.ToValidUTF8(string(b), "\uFFFD")
	}
	s, err := c.enc.NewDecoder().Bytes(b)
	if err != nil {
		return strings.ToValidUTF8(string(b), "\uFFFD")
	}
	return strings.ToValidUTF8(string(s), "\uFFFD")
}

// Text returns b, one value of a text, as UTF-8: see [Guess].
func Text(b []byte, declared string) string {
	if utf8.Valid(b) {
		return string(b)
	}
	return fallback(declared).Decode(b)
}

var (
	latin   = Charset{name: "windows-1252", enc: charmap.Windows1252}
	utf16LE = unicode.UTF16(unicode.LittleEndian, unicode.IgnoreBOM)
	utf16BE = unicode.UTF16(unicode.BigEndian, unicode.IgnoreBOM)
)

// marked returns the encoding that a byte order mark, or the zero bytes of
// UTF-16 without one, tell.
func marked(head []byte) (Charset, bool) {
	switch {
	case bytes.HasPrefix(head, []byte("\xEF\xBB\xBF")):
		return Charset{bom: 3}, true
	case bytes.HasPrefix(head, []byte("\xFF\xFE")):
		return Charset{name: "utf-16le", enc: utf16LE, bom: 2}, true
	case bytes.HasPrefix(head, []byte("\xFE\xFF")):
		return Charset{name: "utf-16be", enc: utf16BE, bom: 2}, true
	}
	sample := head[:min(len(head), 512)&^1]
	if len(sample) < 8 {
		return Charset{}, false
	}
	var even, odd int
	for i := 0; i < len(sample); i += 2 {
		if sample[i] == 0 {
			even++
		}
		if sample[i+1] == 0 {
			odd++
		}
	}
	switch most := len(sample) / 2 * 3 / 4; {
	case odd > most && even == 0:
		return Charset{name: "utf-16le", enc: utf16LE}, true
	case even > most && odd == 0:
		return Charset{name: "utf-16be", enc: utf16BE}, true
	}
	return Charset{}, false
}

// fallback returns the encoding with a name as MIME, OFX or vCard write it.
func fallback(declared string) Charset {
	name := strings.ToLower(strings.TrimSpace(declared))
	switch name {
	case "", "none", "ansi", "usascii", "us-ascii", "utf-8", "utf8", "unicode":
		return latin
	}
	if len(name) == 4 && strings.HasPrefix(name, "125") {
		name = "windows-" + name
	}
	enc, err := htmlindex.Get(strings.Replace(name, "8859-", "iso-8859-", 1))
	if err != nil {
		enc, err = htmlindex.Get(name)
	}
	if err != nil {
		return latin
	}
	if enc == unicode.UTF8 {
		return latin
	}
	canonical, err := htmlindex.Name(enc)
	if err != nil {
		canonical = name
	}
	return Charset{name: canonical, enc: enc}
}

// validUTF8 says whether all of r is UTF-8.
func validUTF8(ctx context.Context, r io.Reader) (bool, error) {
	buf := make([]byte, block)
	kept := 0
	for {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		n, err := r.Read(buf[kept:])
		text := buf[:kept+n]
		if err != nil && err != io.EOF {
			return false, err
		}
		if err == io.EOF {
			return utf8.Valid(text), nil
		}
		whole := trimPartial(text)
		if !utf8.Valid(whole) {
			return false, nil
		}
		kept = copy(buf, text[len(whole):])
	}
}

// trimPartial returns b without a character that is cut at its end.
func trimPartial(b []byte) []byte {
	for i := len(b) - 1; i >= 0 && i >= len(b)-utf8.UTFMax; i-- {
		if utf8.RuneStart(b[i]) {
			if !utf8.FullRune(b[i:]) {
				return b[:i]
			}
			break
		}
	}
	return b
}
