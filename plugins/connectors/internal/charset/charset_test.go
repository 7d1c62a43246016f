package charset

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestDetect(t *testing.T) {
	long := strings.Repeat("a", block-1)
	for _, tt := range []struct{ name, in, declared, charset, text string }{
		{"empty", "", "", "utf-8", ""},
		{"ascii", "Zurich", "1252", "utf-8", "Zurich"},
		{"utf-8 that claims to be 1252", "Zürich", "1252", "utf-8", "Zürich"},
		{"utf-8 with a mark", "\xEF\xBB\xBFZürich", "", "utf-8", "Zürich"},
		{"a character across blocks", long + "ü", "", "utf-8", long + "ü"},
		{"latin far into the text", long + long + "\xfc", "", "windows-1252", long + long + "ü"},
		{"latin cut like utf-8", "Caf\xe9", "", "windows-1252", "Café"},
		{"the euro of 1252", "\x80 5", "ISO-8859-1", "windows-1252", "€ 5"},
		{"latin that claims to be utf-8", "Caf\xe9", "UTF-8", "windows-1252", "Café"},
		{"cyrillic as declared", "\xcf\xf0\xe8", "1251", "windows-1251", "При"},
		{"latin-2 as OFX writes it", "\xb1", "8859-2", "iso-8859-2", "ą"},
		{"utf-16 little", "\xff\xfeZ\x00\xfc\x00", "", "utf-16le", "Zü"},
		{"utf-16 big", "\xfe\xff\x00Z\x00\xfc", "", "utf-16be", "Zü"},
		{"utf-16 without a mark", "D\x00a\x00t\x00e\x00;\x00", "", "utf-16le", "Date;"},
		{"half a character of utf-16", "\xff\xfeZ\x00\xfc", "", "utf-16le", "Z\uFFFD"},
		{"unknown name", "\xe9", "klingon", "windows-1252", "é"},
	} {
		r := bytes.NewReader([]byte(tt.in))
		c, err := Detect(t.Context(), r, r.Size(), tt.declared)
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		text, err := io.ReadAll(c.Reader(r, r.Size()))
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		if c.String() != tt.charset || string(text) != tt.text {
			t.Errorf("%s: %v %.20q, want %s %.20q", tt.name, c, text, tt.charset, tt.text)
		}
	}
}

func TestGuessIgnoresACutCharacter(t *testing.T) {
	if c := Guess([]byte("Zürich ü")[:9], ""); c.String() != "utf-8" {
		t.Errorf("cut text is %v", c)
	}
	if c := Guess([]byte("Z\xfcrich"), ""); c.String() != "windows-1252" {
		t.Errorf("latin text is %v", c)
	}
}

func FuzzDetect(f *testing.F) {
	f.Add([]byte("\xff\xfeZ\x00"), "1252")
	f.Add([]byte("Z\xfcrich"), "shift_jis")
	f.Fuzz(func(t *testing.T, b []byte, declared string) {
		if s := Text(b, declared); !utf8.ValidString(s) {
			t.Errorf("%q is no UTF-8", s)
		}
		c, err := Detect(t.Context(), bytes.NewReader(b), int64(len(b)), declared)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(c.Reader(bytes.NewReader(b), int64(len(b)))); err != nil {
			t.Fatal(err)
		}
	})
}
