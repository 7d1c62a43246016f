package crypto

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"unicode"

	"github.com/tyler-smith/go-bip39/wordlists"
)

// A Code is what one screen shows and the owner types, or scans, on another
// device that is to join: where the two meet, which the cloud may know, and a
// secret, which it may not. It serves for one attempt. It prints as "(secret)".
type Code struct {
	meeting string // public: a number of four digits, or eight characters
	secret  string // three words, or 16 bytes
}

const (
	codeWords   = 3 // 33 bits: one guess in 8,589,934,592
	codeSecret  = 16
	codeMeeting = 5
	codeSum     = 4
	codePrefix  = "LOCKER-JOIN-" // of the long form; QR codes have capitals
)

// NewCode draws a code that is short enough to be typed: a number and three words.
func NewCode() Code {
	var words []string
	for range codeWords {
		words = append(words, wordlists.English[below(len(wordlists.English))])
	}
	return Code{strconv.Itoa(1000 + below(9000)), strings.Join(words, " ")}
}

// NewLongCode draws a code to be scanned, of 128 bits.
func NewLongCode() Code {
	b := make([]byte, codeMeeting+codeSecret)
	rand.Read(b)
	return Code{lowerBase32(b[:codeMeeting]), string(b[codeMeeting:])}
}

// below draws a number from 0 to n-1.
func below(n int) int {
	v, err := rand.Int(rand.Reader, big.NewInt(int64(n)))
	if err != nil {
		panic("crypto: " + err.Error()) // the reader never fails
	}
	return int(v.Int64())
}

// Text is the code as it is shown: "4821-anchor-lunar-tissue", or what a QR code
// holds, capitals, digits and hyphens alone. It is secret until it was used.
func (c Code) Text() string {
	if !c.long() {
		return c.meeting + "-" + strings.ReplaceAll(c.secret, " ", "-")
	}
	b, err := base32Lower.DecodeString(c.meeting)
	if err != nil {
		panic("crypto: " + err.Error()) // it was encoded here
	}
	b = append(b, c.secret...)
	return codePrefix + strings.ToUpper(lowerBase32(append(b, codeCheck(b)...)))
}

func (c Code) long() bool { return len(c.meeting) != 4 }

// codeCheck tells a long code that was typed wrong.
func codeCheck(b []byte) []byte {
	sum := sha256.Sum256(append([]byte("locker/1 code\x00"), b...))
	return sum[:codeSum]
}

// String hides the code.
func (c Code) String() string { return "(secret)" }

// GoString hides the code.
func (c Code) GoString() string { return "(secret)" }

// ParseCode reads a code. Case, blanks and hyphens do not matter, and of a word its
// first four letters are enough. The error says what is wrong.
func ParseCode(text string) (Code, error) {
	if len(text) > 256 {
		return Code{}, errors.New("code: it is too long; a code is a number and three words")
	}
	if long := strings.ToLower(keep(text, func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) })); strings.HasPrefix(long, "lockerjoin") {
		return parseLongCode(long[len("lockerjoin"):])
	}
	number, words := codeParts(text)
	if len(number) != 4 || number[0] == '0' {
		return Code{}, errors.New("code: it begins with a number of four digits, such as 4821-anchor-lunar-tissue")
	}
	if len(words) != codeWords {
		return Code{}, fmt.Errorf("code: %d words after the number; there are %d", len(words), codeWords)
	}
	for i, w := range words {
		full, ok := codeWord(w)
		if !ok {
			return Code{}, fmt.Errorf("code: word %d, %q, is not one of the 2048 words%s", i+1, w, suggest(w))
		}
		words[i] = full
	}
	return Code{number, strings.Join(words, " ")}, nil
}

// codeParts splits a short code into its number and its words, at whatever stands
// between them.
func codeParts(text string) (number string, words []string) {
	text = strings.ToLower(strings.TrimSpace(text))
	rest := strings.TrimLeft(text, "0123456789")
	number = text[:len(text)-len(rest)]
	return number, strings.FieldsFunc(rest, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
}

// codeWord finds the word that is meant: itself, or the one that begins so.
func codeWord(w string) (string, bool) {
	for _, word := range wordlists.English {
		if word == w || len(w) >= 4 && strings.HasPrefix(word, w) {
			return word, true
		}
	}
	return "", false
}

func keep(s string, ok func(rune) bool) string {
	return strings.Map(func(r rune) rune {
		if ok(r) {
			return r
		}
		return -1
	}, s)
}

func parseLongCode(s string) (Code, error) {
	b, err := base32Lower.DecodeString(s)
	if err != nil || len(b) != codeMeeting+codeSecret+codeSum || lowerBase32(b) != s {
		return Code{}, errors.New("code: it is cut, or holds characters that no code has; scan it again")
	}
	b, sum := b[:codeMeeting+codeSecret], b[codeMeeting+codeSecret:]
	if !bytes.Equal(sum, codeCheck(b)) {
		return Code{}, errors.New("code: a character of it is wrong; scan it again")
	}
	return Code{lowerBase32(b[:codeMeeting]), string(b[codeMeeting:])}, nil
}

// meetName is the name of the n-th object of the meeting, which whoever knows the
// public half of the code can tell.
func (c Code) meetName(n int) string {
	sum := sha256.Sum256([]byte("locker/1 meet\x00" + c.meeting + "\x00" + strconv.Itoa(n)))
	return "k/" + lowerBase32(sum[:])
}
