package crypto

import (
	"encoding/hex"
	"strings"
	"testing"

	"filippo.io/age"
)

func TestPhrase(t *testing.T) {
	// From the vectors of BIP-39.
	for _, c := range []struct{ entropy, words string }{
		{strings.Repeat("00", 32), strings.Repeat("abandon ", 23) + "art"},
		{strings.Repeat("ff", 32), strings.Repeat("zoo ", 23) + "vote"},
		{"68a79eaca2324873eacc50cb9c6eca8cc68ea5d936f98787c60c7ebc74e6ce7c",
			"hamster diagram private dutch cause delay private meat slide toddler razor book happy fancy gospel tennis maple dilemma loan word shrug inflict delay length"},
	} {
		seed, err := ParsePhrase(c.words)
		if err != nil {
			t.Fatal(err)
		}
		if got := hex.EncodeToString(seed[:]); got != c.entropy {
			t.Errorf("%q is %s, want %s", c.words, got, c.entropy)
		}
		if got := seed.Phrase(); got != c.words {
			t.Errorf("%s is %q, want %q", c.entropy, got, c.words)
		}
	}
	for range 100 {
		seed := NewSeed()
		if got, err := ParsePhrase(seed.Phrase()); err != nil || got != seed {
			t.Errorf("%q comes back as another seed: %v", seed.Phrase(), err)
		}
	}
}

func TestPhraseAsPeopleTypeIt(t *testing.T) {
	seed := testSeed(5)
	words := strings.Fields(seed.Phrase())
	numbered := func(format func(i int, w string) string) string {
		var b strings.Builder
		for i, w := range words {
			b.WriteString(format(i+1, w))
		}
		return b.String()
	}
	digits := func(i int) string { return string(rune('0'+i/10)) + string(rune('0'+i%10)) }
	for name, text := range map[string]string{
		"upper case":   strings.ToUpper(seed.Phrase()),
		"blanks":       "\n  " + strings.Join(words, " \t\r\n ") + " \n",
		"numbers":      numbered(func(i int, w string) string { return digits(i) + " " + w + "\n" }),
		"numbers dots": numbered(func(i int, w string) string { return digits(i) + ". " + w + "  " }),
		"no blank":     numbered(func(i int, w string) string { return digits(i) + "." + w + "\n" }),
		"commas":       strings.Join(words, ", "),
	} {
		if got, err := ParsePhrase(text); err != nil || got != seed {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPhraseErrorsHelp(t *testing.T) {
	words := strings.Fields(testSeed(5).Phrase())
	change := func(i int, w string) string {
		out := append([]string(nil), words...)
		out[i] = w
		return strings.Join(out, " ")
	}
	swapped := append([]string(nil), words...)
	swapped[0], swapped[1] = swapped[1], swapped[0]
	for _, c := range []struct{ name, text, want string }{
		{"empty", "", "0 words"},
		{"one short", strings.Join(words[1:], " "), "23 words"},
		{"one more", strings.Join(words, " ") + " zoo", "25 words"},
		{"no word", change(6, "lockr"), `word 7, "lockr"`},
		{"nearly a word", change(2, "abandoned"), `is it "abandon"?`},
		{"out of order", strings.Join(swapped, " "), "together they are no phrase"},
		{"endless", strings.Repeat("zoo ", 100_000), "too long"},
		{"another alphabet", change(0, "зоо"), "word 1"},
	} {
		_, err := ParsePhrase(c.text)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q in it", c.name, err, c.want)
		}
	}
}

// TestIdentityText compares the text that we make with age's own.
func TestIdentityText(t *testing.T) {
	for range 20 {
		want, err := age.GenerateHybridIdentity()
		if err != nil {
			t.Fatal(err)
		}
		got, err := recipientFrom(recipientBytes(want.Recipient()))
		if err != nil || got.String() != want.Recipient().String() {
			t.Fatalf("a recipient comes back as another: %v", err)
		}
		seed := NewSeed()
		text := identityText(seed[:])
		id, err := age.ParseHybridIdentity(text)
		if err != nil || id.String() != text {
			t.Fatalf("%v", err)
		}
		if !strings.HasPrefix(text, "AGE-SECRET-KEY-PQ-1") {
			t.Errorf("%q...", text[:20])
		}
	}
	if testSeed(1).Identity() == testSeed(2).Identity() {
		t.Error("two seeds have one identity")
	}
}
