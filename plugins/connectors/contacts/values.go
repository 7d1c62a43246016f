package contacts

import (
	"bytes"
	"encoding/base64"
	"io"
	"mime/quotedprintable"
	"strings"
	"time"

	"github.com/locker-project/locker/plugins/connectors/internal/charset"
)

// raw returns the value as UTF-8, still with its escapes.
func (p *property) raw() string {
	value := p.value
	if p.quotedPrintable() {
		decoded, err := io.ReadAll(quotedprintable.NewReader(bytes.NewReader(value)))
		if err != nil {
			decoded = looseQP(value)
		}
		value = decoded
	}
	return strings.ReplaceAll(charset.Text(value, p.param("CHARSET")), "\r\n", "\n")
}

// looseQP decodes quoted-printable with errors in it: what is no escape stays.
func looseQP(b []byte) []byte {
	var out []byte
	for i := 0; i < len(b); i++ {
		if b[i] == '=' && i+2 < len(b) {
			hi, lo := hex(b[i+1]), hex(b[i+2])
			if hi >= 0 && lo >= 0 {
				out = append(out, byte(hi<<4|lo))
				i += 2
				continue
			}
		}
		out = append(out, b[i])
	}
	return out
}

func hex(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	}
	return -1
}

// text returns the value as one text.
func (c *card) text(p *property) string { return c.unescape(p.raw()) }

// unescape removes backslashes. In version 2.1 a backslash before a letter is
// one, as in the path of a folder.
func (c *card) unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return strings.TrimSpace(s)
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		switch next := s[i+1]; {
		case strings.IndexByte(`\;,:"`, next) >= 0:
			b.WriteByte(next)
			i++
		case c.version == "2.1":
			b.WriteByte('\\')
		case next == 'n' || next == 'N':
			b.WriteByte('\n')
			i++
		default:
			b.WriteByte(next)
			i++
		}
	}
	return strings.TrimSpace(b.String())
}

// split takes a value with several parts apart, each without its escapes.
func (c *card) split(s string, sep byte) []string {
	var parts []string
	from := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case sep:
			parts = append(parts, c.unescape(s[from:i]))
			from = i + 1
		}
	}
	return append(parts, c.unescape(s[min(from, len(s)):]))
}

// components takes the value of N or ADR apart. Within a part of versions 3.0
// and 4.0 commas separate several values, which are joined by a glue.
func (c *card) components(p *property, glue string) func(i int) string {
	s := p.raw()
	var parts []string
	from := 0
	for i := 0; i <= len(s); i++ {
		switch {
		case i == len(s) || s[i] == ';':
			part := s[from:i]
			if c.version == "2.1" {
				parts = append(parts, c.unescape(part))
			} else {
				parts = append(parts, joinFilled(c.split(part, ','), glue))
			}
			from = i + 1
		case s[i] == '\\' && i+1 < len(s):
			i++
		}
	}
	return func(i int) string {
		if i < len(parts) {
			return parts[i]
		}
		return ""
	}
}

func joinFilled(parts []string, glue string) string {
	var filled []string
	for _, p := range parts {
		if p != "" {
			filled = append(filled, p)
		}
	}
	return strings.Join(filled, glue)
}

// bytes decodes a value in base64, or a data URI. ok is false where it is
// neither, such as a link.
func (p *property) bytes() (data []byte, mediaType string, ok bool) {
	value := p.value
	mediaType = mediaTypeOf(p)
	if head, body, found := bytes.Cut(value, []byte(",")); found && bytes.HasPrefix(bytes.ToLower(head), []byte("data:")) {
		kind := strings.TrimPrefix(strings.ToLower(string(head)), "data:")
		kind, _, _ = strings.Cut(kind, ";")
		if !bytes.Contains(bytes.ToLower(head), []byte(";base64")) {
			return nil, "", false
		}
		value = body
		if kind != "" {
			mediaType = kind
		}
	} else if !p.base64() {
		return nil, "", false
	}
	packed := value[:0:0]
	for _, c := range value {
		if c > ' ' && c != '=' {
			packed = append(packed, c)
		}
	}
	data, err := base64.RawStdEncoding.DecodeString(string(packed))
	return data, mediaType, err == nil && len(data) > 0
}

// mediaTypeOf returns the kind of picture that TYPE or MEDIATYPE names.
func mediaTypeOf(p *property) string {
	if t := p.param("MEDIATYPE"); t != "" {
		return strings.ToLower(t)
	}
	for _, t := range p.params["TYPE"] {
		t = strings.ToLower(t)
		switch {
		case strings.Contains(t, "/"):
			return t
		case t == "jpg":
			return "image/jpeg"
		case t == "jpeg", t == "png", t == "gif", t == "webp", t == "bmp", t == "tiff", t == "heic":
			return "image/" + t
		}
	}
	return ""
}

// calendarDate reads the dates of BDAY and ANNIVERSARY: YYYY-MM-DD, or --MM-DD
// without a year. "" is for what is none.
func calendarDate(s string, omitYear string) string {
	s = strings.TrimSpace(s)
	if i := strings.IndexAny(s, "T "); i > 0 {
		s = s[:i]
	}
	for _, layout := range []string{"2006-01-02", "20060102", "2006/01/02"} {
		if t, err := time.Parse(layout, s); err == nil {
			if year := t.Format("2006"); year == omitYear || year == "1604" {
				return "--" + t.Format("01-02") // Apple's way to leave the year out
			}
			return t.Format(time.DateOnly)
		}
	}
	for _, layout := range []string{"--01-02", "--0102"} {
		// A leap year, so that --02-29 is a day.
		if t, err := time.Parse("2006"+layout, "2000"+s); err == nil {
			return "--" + t.Format("01-02")
		}
	}
	return ""
}

// moment reads the time of REV.
func moment(s string) string {
	s = strings.TrimSpace(s)
	for _, layout := range []string{time.RFC3339, "20060102T150405Z", "20060102T150405Z07:00", "20060102T150405", "2006-01-02T15:04:05", "2006-01-02", "20060102"} {
		if t, err := time.Parse(layout, s); err == nil && t.Year() > 1900 {
			return t.Format(time.RFC3339)
		}
	}
	return ""
}
