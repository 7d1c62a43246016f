package crypto

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/bits"

	"filippo.io/age"
)

// An object is an age file with exactly one hybrid stanza. All that comes before
// the payload has a fixed length, and all that is not secret in it stands at a
// fixed place:
//
//	age-encryption.org/v1
//	-> mlkem768x25519 (1494 characters of base64: 1120 bytes)
//	(43 characters of base64: the wrapped file key)
//	--- (43 characters of base64: the header's MAC)
//	(16 bytes: nonce)
const (
	ageIntro    = "age-encryption.org/v1\n-> mlkem768x25519 "
	ageStanza   = len(ageIntro) + 1494 // where the stanza's first line ends
	ageBody     = ageStanza + 1 + 43   // where its body ends
	ageMAC      = ageBody + 1
	ageHeader   = ageMAC + len("--- ") + 43 + 1
	ageOverhead = ageHeader + 16
	ageChunk    = 64 << 10
	ageTag      = 16

	minObject = 4096
)

// ageSize is the size of an object with n bytes of plaintext.
func ageSize(n int) int {
	return ageOverhead + n + ageTag*max(1, (n+ageChunk-1)/ageChunk)
}

// agePlain is the inverse of ageSize; ok is false for a size that no object has.
func agePlain(size int) (n int, ok bool) {
	chunks := (size - ageOverhead + ageChunk + ageTag - 1) / (ageChunk + ageTag)
	n = size - ageOverhead - ageTag*chunks
	return n, n >= 0 && ageSize(n) == size
}

// sealedSize is the size of the object whose header frame and payload have n bytes
// together: the smallest Padmé size, at least 4096, that has room for them and a
// padding frame and that an age file can have.
func sealedSize(n int) int {
	size := padme(max(minObject, ageSize(n+frameHead)))
	for {
		if _, ok := agePlain(size); ok {
			return size
		}
		size = padme(size + 1)
	}
}

// padme rounds n up so that only as many of its leading bits vary as its length in
// bits has bits: 12 % more at most, less the larger it is.
func padme(n int) int {
	e := bits.Len(uint(n)) - 1
	mask := 1<<(e-bits.Len(uint(e))) - 1
	return (n + mask) &^ mask
}

// encrypt makes an object of front and frames, with its padding.
func encrypt(to age.Recipient, front, frames []byte) ([]byte, error) {
	size := sealedSize(len(front) + len(frames))
	if size > MaxObject {
		return nil, fmt.Errorf("%d bytes are too many for one object", len(frames))
	}
	plain, _ := agePlain(size)
	padding := plain - len(front) - len(frames) - frameHead
	out := bytes.NewBuffer(make([]byte, 0, size))
	w, err := age.Encrypt(out, to)
	if err != nil {
		return nil, err
	}
	zeros := make([]byte, min(padding, ageChunk))
	parts := [][]byte{front, frames, appendFrameHead(nil, magicPadding, padding)}
	for ; padding > 0; padding -= len(zeros) {
		zeros = zeros[:min(padding, len(zeros))]
		parts = append(parts, zeros)
	}
	for _, part := range parts {
		if _, err := w.Write(part); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	if out.Len() != size {
		return nil, fmt.Errorf("the object has %d bytes instead of %d: is this age another format?", out.Len(), size)
	}
	return out.Bytes(), nil
}

// checkShape refuses what cannot be an object, at no cost.
func checkShape(object []byte) error {
	if err := checkSize(len(object)); err != nil {
		return err
	}
	return checkAgeHeader(object)
}

// checkSize refuses a size that no object has.
func checkSize(size int) error {
	switch _, ok := agePlain(size); {
	case size < minObject:
		return bad("it has %d bytes, fewer than any object", size)
	case size > MaxObject:
		return bad("it has %d bytes, more than any object", size)
	case size != padme(size) || !ok:
		return bad("it has %d bytes, as no object has", size)
	}
	return nil
}

// checkAgeHeader says whether an age file has exactly one hybrid stanza.
func checkAgeHeader(object []byte) error {
	if len(object) < ageOverhead ||
		string(object[:len(ageIntro)]) != ageIntro ||
		object[ageStanza] != '\n' || object[ageBody] != '\n' ||
		string(object[ageMAC:ageMAC+4]) != "--- " || object[ageHeader-1] != '\n' {
		return bad("it is no age file with exactly one hybrid stanza")
	}
	return nil
}

// decrypt opens an object with one of several keys, and says which it was.
func decrypt(object []byte, keys []namedKey) (plain []byte, key namedKey, err error) {
	if err := checkShape(object); err != nil {
		return nil, namedKey{}, err
	}
	return decryptFile(object, keys)
}

// decryptFile is decrypt without the check of the size.
func decryptFile(file []byte, keys []namedKey) (plain []byte, key namedKey, err error) {
	if err := checkAgeHeader(file); err != nil {
		return nil, namedKey{}, err
	}
	n, ok := agePlain(len(file))
	if !ok {
		return nil, namedKey{}, bad("it is cut")
	}
	choice := &chooser{keys: keys}
	r, err := age.Decrypt(bytes.NewReader(file), choice)
	if errors.Is(err, age.ErrIncorrectIdentity) {
		return nil, namedKey{}, notYet("no key that is known here opens it")
	}
	if err != nil {
		return nil, namedKey{}, bad("its age header is damaged") // age's own error quotes the file
	}
	plain = make([]byte, n)
	if _, err := io.ReadFull(r, plain); err != nil {
		return nil, namedKey{}, bad("its bytes are damaged")
	}
	var more [1]byte
	if m, err := r.Read(more[:]); m != 0 || err != io.EOF {
		return nil, namedKey{}, bad("it does not end where it should")
	}
	return plain, choice.chosen, nil
}

// A chooser is an age identity that tries several and remembers which one fitted.
type chooser struct {
	keys   []namedKey
	chosen namedKey
}

// Unwrap implements [age.Identity].
func (c *chooser) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	if len(stanzas) != 1 || stanzas[0].Type != "mlkem768x25519" {
		return nil, errors.New("not exactly one hybrid stanza")
	}
	for _, key := range c.keys {
		fileKey, err := key.identity.Unwrap(stanzas)
		if errors.Is(err, age.ErrIncorrectIdentity) {
			continue
		}
		c.chosen = key
		return fileKey, err
	}
	return nil, age.ErrIncorrectIdentity
}
