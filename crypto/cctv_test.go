package crypto

import (
	"bytes"
	"compress/zlib"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"strings"
	"testing"

	agetest "c2sp.org/CCTV/age"
	"filippo.io/age"
)

// An ageVector is one file of the age project's own test vectors.
type ageVector struct {
	expect, payload, passphrase string
	identities                  []string
	armored                     bool
	file                        []byte
}

func readAgeVector(t *testing.T, name string) ageVector {
	t.Helper()
	data, err := fs.ReadFile(agetest.Vectors, name)
	if err != nil {
		t.Fatal(err)
	}
	var v ageVector
	compressed := false
	for {
		line, rest, ok := bytes.Cut(data, []byte("\n"))
		if !ok {
			t.Fatal("no file in the vector")
		}
		data = rest
		if len(line) == 0 {
			break
		}
		key, value, _ := strings.Cut(string(line), ": ")
		switch key {
		case "expect":
			v.expect = value
		case "payload":
			v.payload = value
		case "passphrase":
			v.passphrase = value
		case "identity":
			v.identities = append(v.identities, value)
		case "armored":
			v.armored = true
		case "compressed":
			compressed = true
		}
	}
	v.file = data
	if compressed {
		z, err := zlib.NewReader(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		if v.file, err = io.ReadAll(z); err != nil {
			t.Fatal(err)
		}
	}
	return v
}

// TestAgeVectors runs the vectors of the age project against our settings: the
// opener of objects (without its check of sizes, which would refuse nearly all) and
// the opener of files that a passphrase protects. Neither may accept what has to
// fail; what has to succeed must, if it is of the narrow kind that we make.
func TestAgeVectors(t *testing.T) {
	files, err := fs.Glob(agetest.Vectors, "*")
	if err != nil {
		t.Fatal(err)
	}
	var seen, opened, unprotected, fails int
	for _, name := range files {
		t.Run(name, func(t *testing.T) {
			v := readAgeVector(t, name)
			seen++
			if v.expect != "success" {
				fails++
			}
			opened += v.open(t)
			unprotected += v.unprotect(t)
		})
	}
	t.Logf("%d vectors, %d of which must fail; %d opened as objects, %d with a passphrase", seen, fails, opened, unprotected)
	if seen < 100 || fails < 70 || opened == 0 || unprotected == 0 {
		t.Errorf("too few: %d vectors, %d of which must fail; %d opened as objects, %d with a passphrase", seen, fails, opened, unprotected)
	}
}

// open opens the file as an object and returns 1 if it was accepted.
func (v *ageVector) open(t *testing.T) int {
	t.Helper()
	var keys []namedKey
	for _, text := range v.identities {
		if id, err := age.ParseHybridIdentity(text); err == nil {
			keys = append(keys, namedKey{identity: id})
		}
	}
	plain, _, err := decryptFile(v.file, keys)
	narrow := len(keys) == 1 && len(v.identities) == 1 && checkAgeHeader(v.file) == nil
	switch {
	case err == nil && v.expect != "success":
		t.Errorf("%s is expected, and it opens", v.expect)
	case err == nil:
		v.checkPayload(t, plain)
		return 1
	case v.expect == "success" && narrow:
		t.Errorf("it must open: %v", err)
	}
	return 0
}

// unprotect opens the file with its passphrase and returns 1 if it was accepted.
func (v *ageVector) unprotect(t *testing.T) int {
	t.Helper()
	plain, err := Unprotect(v.file, v.passphrase)
	switch {
	case err == nil && v.expect != "success":
		t.Errorf("%s is expected, and it opens", v.expect)
	case err == nil:
		v.checkPayload(t, plain)
		return 1
	case v.expect == "success" && v.passphrase != "" && len(v.identities) == 0 && !v.armored:
		t.Errorf("it must open: %v", err)
	case errors.Is(err, ErrPassphrase) && v.passphrase != "" && v.expect != "no match":
		t.Errorf("%s is expected, and the passphrase is blamed", v.expect)
	}
	return 0
}

func (v *ageVector) checkPayload(t *testing.T, plain []byte) {
	t.Helper()
	sum := sha256.Sum256(plain)
	if v.payload != "" && hex.EncodeToString(sum[:]) != v.payload {
		t.Error("another payload came out")
	}
}
