package crypto

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"time"

	"filippo.io/age"
)

func TestProtect(t *testing.T) {
	secret := founded(t, testSeed(1)).Secret()
	file, err := Protect(secret, "correct horse")
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(file, []byte("name_key")) {
		t.Error("the file holds the secret in the clear")
	}
	if got, err := Unprotect(file, "correct horse"); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("unprotect: %v", err)
	}
	for _, wrong := range []string{"", "Correct horse", "correct horse "} {
		if _, err := Unprotect(file, wrong); !errors.Is(err, ErrPassphrase) {
			t.Errorf("with %q: %v", wrong, err)
		}
	}
	for name, file := range map[string][]byte{
		"nothing":     nil,
		"cut":         file[:len(file)-1],
		"longer":      append(bytes.Clone(file), 0),
		"changed":     mutate(file, len(file)-1),
		"no age file": []byte("passphrase"),
		"too long":    make([]byte, maxProtected+1),
	} {
		if _, err := Unprotect(file, "correct horse"); err == nil || errors.Is(err, ErrPassphrase) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Protect(secret, ""); err == nil {
		t.Error("an empty passphrase is taken")
	}
	id, err := age.NewScryptIdentity("correct horse")
	if err != nil {
		t.Fatal(err)
	}
	r, err := age.Decrypt(bytes.NewReader(file), id)
	if err != nil {
		t.Fatalf("stock age does not open it: %v", err)
	}
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("stock age: %v", err)
	}
}

// TestUnprotectBoundsItsWork gives it a file that asks for 4 GiB.
func TestUnprotectBoundsItsWork(t *testing.T) {
	r, err := age.NewScryptRecipient("x")
	if err != nil {
		t.Fatal(err)
	}
	r.SetWorkFactor(10)
	var b bytes.Buffer
	w, err := age.Encrypt(&b, r)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Unprotect(b.Bytes(), "x"); err != nil {
		t.Fatal(err)
	}
	for _, factor := range []string{" 19\n", " 22\n", " 63\n", " 99999\n"} {
		begin := time.Now()
		_, err := Unprotect(bytes.Replace(b.Bytes(), []byte(" 10\n"), []byte(factor), 1), "x")
		if err == nil || errors.Is(err, ErrPassphrase) {
			t.Errorf("work factor%q: %v", factor, err)
		}
		if d := time.Since(begin); d > 100*time.Millisecond {
			t.Errorf("work factor%q: refused only after %v", factor, d)
		}
	}
}

// TestOpenBoundsItsWork gives Open what is meant to cost it much.
func TestOpenBoundsItsWork(t *testing.T) {
	k := founded(t, testSeed(1))
	r := Ref{"entry", k.Device(), 1, ""}
	flood := bytes.NewBufferString("age-encryption.org/v1\n")
	for flood.Len() < 4<<20 {
		flood.WriteString("-> mlkem768x25519 ")
		flood.Write(bytes.Repeat([]byte("A"), 1494))
		flood.WriteString("\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n")
	}
	flood.Write(make([]byte, sealedSize(flood.Len())-flood.Len()))
	for name, object := range map[string][]byte{
		"zeros":   make([]byte, MaxObject),
		"stanzas": flood.Bytes(),
		"scrypt":  append([]byte("age-encryption.org/v1\n-> scrypt AAAAAAAAAAAAAAAAAAAAAA 30\n"), make([]byte, minObject-60)...),
	} {
		begin := time.Now()
		if _, _, _, err := k.Open(r, object); err == nil {
			t.Errorf("%s: it opens", name)
		}
		if d := time.Since(begin); d > 100*time.Millisecond {
			t.Errorf("%s: refused only after %v", name, d)
		}
	}
}
