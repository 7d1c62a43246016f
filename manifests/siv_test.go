package manifests

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strings"
	"sync"
	"testing"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// RFC 4493, section 4: AES-CMAC.
func TestCMACVectors(t *testing.T) {
	key := unhex(t, "2b7e151628aed2a6abf7158809cf4f3c")
	message := unhex(t, "6bc1bee22e409f96e93d7e117393172a ae2d8a571e03ac9c9eb76fac45af8e51 30c81c46a35ce411e5fbc1191a0a52ef f69f2445df4f9b17ad2b417be66c3710")
	p, err := newSIV(append(append([]byte{}, key...), key...))
	if err != nil {
		t.Fatal(err)
	}
	for n, want := range map[int]string{
		0:  "bb1d6929e95937287fa37d129b756746",
		16: "070a16b46b4d4144f79bdd9dd04a287c",
		40: "dfa66747de9ae63030ca32611497c827",
		64: "51f0bebf7e3b9d92fc49741779363cfe",
	} {
		s := p.scratch()
		p.cmac(s, message[:n], nil)
		if hex.EncodeToString(s.state[:]) != want {
			t.Errorf("CMAC of %d bytes is %x, want %s", n, s.state, want)
		}
	}
}

// AES-SIV without associated data, made with the pyca cryptography package's
// AESSIV for this key.
func TestSIVVectors(t *testing.T) {
	key := unhex(t, "fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0 f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff")
	p, err := newSIV(key)
	if err != nil {
		t.Fatal(err)
	}
	for plain, want := range sivVectors {
		text := unhex(t, plain)
		s := p.scratch()
		p.iv(s, text)
		sealed := append([]byte{}, s.state[:]...)
		p.stream(s, s.state, text)
		if got := hex.EncodeToString(append(sealed, text...)); got != want {
			t.Errorf("SIV of %s is %s, want %s", plain, got, want)
		}
	}
}

func TestSealAndOpen(t *testing.T) {
	key := bytes.Repeat([]byte{1}, 32)
	p, err := newPseudonymizer(key, "transactions")
	if err != nil {
		t.Fatal(err)
	}
	other, err := newPseudonymizer(key, "posts")
	if err != nil {
		t.Fatal(err)
	}
	lengths := map[int]bool{}
	seen := map[string]bool{}
	for n := range 300 {
		id := strings.Repeat("ä\x80", n/3) + fmt.Sprint(n)
		sealed := p.seal(id)
		if got, ok := p.open(sealed); !ok || got != id {
			t.Fatalf("open(seal(%q)) = %q, %v", id, got, ok)
		}
		if p.seal(id) != sealed || seen[sealed] || other.seal(id) == sealed {
			t.Fatalf("pseudonym of %q: %q", id, sealed)
		}
		if _, ok := other.open(sealed); ok {
			t.Fatalf("another collection opens the pseudonym of %q", id)
		}
		seen[sealed] = true
		lengths[len(sealed)] = true
	}
	if len(lengths) > 300*4/idPadding {
		t.Errorf("%d different lengths", len(lengths))
	}
	for range 1000 {
		for sealed := range seen {
			bad := []byte(sealed)
			bad[len(bad)/2] ^= 1
			if _, ok := p.open(string(bad)); ok {
				t.Fatalf("a changed pseudonym opens: %s", bad)
			}
			break
		}
	}
}

func TestSealConcurrently(t *testing.T) {
	p, err := newPseudonymizer(bytes.Repeat([]byte{1}, 32), "transactions")
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for w := range 4 {
		group.Go(func() {
			for i := range 2000 {
				id := fmt.Sprint(w, i)
				if got, ok := p.open(p.seal(id)); !ok || got != id {
					t.Errorf("got %q, want %q", got, id)
					return
				}
			}
		})
	}
	group.Wait()
}

func BenchmarkSeal(b *testing.B) {
	p, err := newPseudonymizer(bytes.Repeat([]byte{1}, 32), "transactions")
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		p.seal("transactions:2026-01-04/12345")
	}
}

// plaintext to synthetic IV and ciphertext
var sivVectors = map[string]string{
	"00":                               "467bcb1a213d98c0701e6462c5eb68a4b0",
	"00010203040506":                   "dfef3a511b1ec5683e23a0ee0cf5670676a3689252f80a",
	"000102030405060708090a0b0c0d0e0f": "ab87061923a7da1f2ce6ef8b23aa3b231c863e68fc9511f50d751b5eb1884853",
	"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f":                                                                 "03f805eae1372991fa396c833a01ffd850b8d62ea3bdffc46ba0dda689bd847fc2e1742e365cb61a5dca0e9fc544d9b9",
	"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f3031":                             "db9d63b8a00c01b786cc27a3b47b7b837aa98ea007d4ae6ffde756db4484f45fe76867b9aab929b6596f6ea456ad7ec161aa2949ac15e1d3b378b74ccdedb138400a",
	"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f": "c76a27898d386613ec3112d0f867b8538fe1d37d48e4ec4656f1f0896db592c238acf184500cbc745a7cba88437114f12bc9debb783c711da3d29af61273a796fee1bde6c67ed90714e2a2617ac0606c",
}
