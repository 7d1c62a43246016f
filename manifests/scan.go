package manifests

import "encoding/json"

// A small scanner of JSON text. It works on the bytes, so that a row of a query
// can be checked and cut down without being decoded. Every function takes the
// index where it begins and returns the index after what it read, or -1 where the
// text is no JSON.

// maxNesting is how deep a value may nest; deeper ones are refused.
const maxNesting = 64

func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}

// skipString reads a string. plain says that it has no escapes, so that the bytes
// between the quotes are its text.
func skipString(b []byte, i int) (end int, plain bool) {
	if i >= len(b) || b[i] != '"' {
		return -1, false
	}
	plain = true
	for i++; i < len(b); i++ {
		for i < len(b) && !special[b[i]] {
			i++
		}
		switch {
		case i == len(b) || b[i] < 0x20:
			return -1, false
		case b[i] == '"':
			return i + 1, plain
		}
		plain = false
		if i = skipEscape(b, i); i < 0 {
			return -1, false
		}
	}
	return -1, false
}

// special are the bytes that mean something within a string.
var special = func() (t [256]bool) {
	for c := range 0x20 {
		t[c] = true
	}
	t['"'], t['\\'] = true, true
	return t
}()

// skipEscape returns the index of the last byte of an escape.
func skipEscape(b []byte, i int) int {
	if i+1 >= len(b) {
		return -1
	}
	switch b[i+1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return i + 1
	case 'u':
		if i+5 >= len(b) {
			return -1
		}
		for _, c := range b[i+2 : i+6] {
			if !(c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'f') {
				return -1
			}
		}
		return i + 5
	}
	return -1
}

func skipDigits(b []byte, i int) int {
	start := i
	for i < len(b) && b[i] >= '0' && b[i] <= '9' {
		i++
	}
	if i == start {
		return -1
	}
	return i
}

// skipNumber reads a number. whole says that it has neither point nor exponent.
func skipNumber(b []byte, i int) (end int, whole bool) {
	if i < len(b) && b[i] == '-' {
		i++
	}
	first := i
	if i = skipDigits(b, i); i < 0 || (b[first] == '0' && i > first+1) {
		return -1, false
	}
	whole = true
	if i < len(b) && b[i] == '.' {
		whole = false
		if i = skipDigits(b, i+1); i < 0 {
			return -1, false
		}
	}
	if i < len(b) && b[i]|0x20 == 'e' {
		whole = false
		i++
		if i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		if i = skipDigits(b, i); i < 0 {
			return -1, false
		}
	}
	return i, whole
}

func skipWord(b []byte, i int, word string) int {
	if end := i + len(word); end <= len(b) && string(b[i:end]) == word {
		return end
	}
	return -1
}

// skipValue reads any value.
func skipValue(b []byte, i, depth int) int {
	if i >= len(b) || depth > maxNesting {
		return -1
	}
	switch b[i] {
	case '"':
		end, _ := skipString(b, i)
		return end
	case '{':
		return members(b, i, func(_ member, at int) int { return skipValue(b, at, depth+1) })
	case '[':
		return elements(b, i, func(at int) int { return skipValue(b, at, depth+1) })
	case 't':
		return skipWord(b, i, "true")
	case 'f':
		return skipWord(b, i, "false")
	case 'n':
		return skipWord(b, i, "null")
	}
	end, _ := skipNumber(b, i)
	return end
}

// A member is the name of one member of an object.
type member struct {
	start int    // of its opening quote
	name  []byte // unescaped
}

// members reads an object. do is called for each member with the index of its
// value, and returns the index after it, or -1 to give up.
func members(b []byte, i int, do func(m member, value int) int) int {
	if i >= len(b) || b[i] != '{' {
		return -1
	}
	if i = skipSpace(b, i+1); i < len(b) && b[i] == '}' {
		return i + 1
	}
	for {
		end, plain := skipString(b, i)
		if end < 0 {
			return -1
		}
		m := member{start: i, name: b[i+1 : end-1]}
		if !plain {
			var s string
			if json.Unmarshal(b[i:end], &s) != nil {
				return -1
			}
			m.name = []byte(s)
		}
		if i = skipSpace(b, end); i >= len(b) || b[i] != ':' {
			return -1
		}
		if i = do(m, skipSpace(b, i+1)); i < 0 {
			return -1
		}
		switch i = skipSpace(b, i); {
		case i < len(b) && b[i] == ',':
			i = skipSpace(b, i+1)
		case i < len(b) && b[i] == '}':
			return i + 1
		default:
			return -1
		}
	}
}

// elements reads an array.
func elements(b []byte, i int, do func(value int) int) int {
	if i >= len(b) || b[i] != '[' {
		return -1
	}
	if i = skipSpace(b, i+1); i < len(b) && b[i] == ']' {
		return i + 1
	}
	for {
		if i = do(i); i < 0 {
			return -1
		}
		switch i = skipSpace(b, i); {
		case i < len(b) && b[i] == ',':
			i = skipSpace(b, i+1)
		case i < len(b) && b[i] == ']':
			return i + 1
		default:
			return -1
		}
	}
}

// isJSONObject says whether the whole text is one JSON object.
func isJSONObject(b []byte) bool {
	i := skipSpace(b, 0)
	if i >= len(b) || b[i] != '{' {
		return false
	}
	end := skipValue(b, i, 0)
	return end > 0 && skipSpace(b, end) == len(b)
}

// valueOf returns the value of a member of an object.
func valueOf(object []byte, name string) (json.RawMessage, bool) {
	var found json.RawMessage
	members(object, skipSpace(object, 0), func(m member, at int) int {
		end := skipValue(object, at, 0)
		if end > 0 && string(m.name) == name {
			found = object[at:end]
		}
		return end
	})
	return found, found != nil
}
