package crypto

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"strings"

	"github.com/tyler-smith/go-bip39"
	"github.com/tyler-smith/go-bip39/wordlists"
)

// A Seed is what the recovery phrase says: 256 bits from which the locker's own
// keys are derived. Whoever has it has the locker. It prints as "(secret)".
type Seed [32]byte

// NewSeed returns a random seed.
func NewSeed() Seed {
	var s Seed
	rand.Read(s[:])
	return s
}

// phraseWords is the length of a phrase: 256 bits and 8 of checksum, 11 a word.
const phraseWords = 24

// ParsePhrase reads a recovery phrase: 24 English words of BIP-39. Case, line
// breaks, extra blanks and numbers before the words ("1 abandon", "2. ability")
// do not matter. The error says which word is wrong, as far as that can be known.
func ParsePhrase(words string) (Seed, error) {
	var seed Seed
	if len(words) > 4096 {
		return seed, fmt.Errorf("recovery phrase: too long; it has %d words", phraseWords)
	}
	var list []string
	for _, w := range strings.Fields(strings.ToLower(words)) {
		if w = strings.TrimLeft(w, "0123456789.:)"); w != "" {
			list = append(list, strings.TrimRight(w, ",;."))
		}
	}
	for i, w := range list {
		if _, ok := bip39.GetWordIndex(w); !ok {
			return seed, fmt.Errorf("recovery phrase: word %d, %q, is not one of the 2048 words%s", i+1, w, suggest(w))
		}
	}
	if len(list) != phraseWords {
		return seed, fmt.Errorf("recovery phrase: %d words; it has %d", len(list), phraseWords)
	}
	entropy, err := bip39.EntropyFromMnemonic(strings.Join(list, " "))
	if err != nil || len(entropy) != len(seed) {
		return seed, fmt.Errorf("recovery phrase: each word exists, but together they are no phrase: one of them is another word, or they are out of order")
	}
	copy(seed[:], entropy)
	return seed, nil
}

// suggest proposes the word that begins with the same four letters: there is
// never more than one.
func suggest(w string) string {
	if len(w) < 4 {
		return ""
	}
	for _, word := range wordlists.English {
		if len(word) >= 4 && word[:4] == w[:4] {
			return fmt.Sprintf("; is it %q?", word)
		}
	}
	return ""
}

// Phrase returns the seed as 24 words with single blanks between them.
func (s Seed) Phrase() string {
	words, err := bip39.NewMnemonic(s[:])
	if err != nil {
		panic("crypto: " + err.Error()) // 32 bytes always make 24 words
	}
	return words
}

// String hides the seed.
func (s Seed) String() string { return "(secret)" }

// GoString hides the seed.
func (s Seed) GoString() string { return "(secret)" }

// Identity returns the phrase's age identity, "AGE-SECRET-KEY-PQ-1…", with which
// the stock age command opens the epochs, and with what they hold everything
// else. It is a secret like the phrase itself.
func (s Seed) Identity() string {
	return identityText(derive(s[:], "recovery identity", 32))
}

// derive returns n bytes derived from secret for one purpose.
func derive(secret []byte, label string, n int) []byte {
	out, err := hkdf.Key(sha256.New, secret, nil, "locker/1 "+label, n)
	if err != nil {
		panic("crypto: " + err.Error()) // only for absurd lengths
	}
	return out
}
