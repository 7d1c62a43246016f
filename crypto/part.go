package crypto

import (
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"filippo.io/age"
)

// OpenAt opens the object r to read parts of its payload: object reads the bytes of
// the object, of which there are size, and only what is needed is read. It checks all
// that Open checks but the payload's hash and the padding. So log and id are the
// writer's word, and each byte of frames is of the age file in which they stand; but
// who knows the key of the epoch can put a good header before other frames. The
// caller must hold what it reads against hashes that it has from elsewhere.
//
// Errors are those of Open, those of reading object as they are. Reads of frames
// may be concurrent; what was tampered with gives an error.
func (k *Keyring) OpenAt(r Ref, object io.ReaderAt, size int64) (log []byte, frames *io.SectionReader, id string, err error) {
	if err := checkRef(r); err != nil {
		return nil, nil, "", err
	}
	src := &sourceAt{r: object}
	log, frames, id, err = k.openAt(r, src, size)
	if err != nil && src.err != nil {
		err = src.err // age tells of it as of damage
	}
	if err != nil {
		return nil, nil, "", fmt.Errorf("%s %s/%d: %w", r.Kind, r.Writer, r.Number, err)
	}
	return log, frames, id, nil
}

// A sourceAt remembers the first error of reading other than the end.
type sourceAt struct {
	r   io.ReaderAt
	err error
}

func (s *sourceAt) ReadAt(p []byte, off int64) (int, error) {
	n, err := s.r.ReadAt(p, off)
	if err != nil && s.err == nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

func (k *Keyring) openAt(r Ref, src *sourceAt, size int64) (log []byte, frames *io.SectionReader, id string, err error) {
	keys, err := k.openWith(r)
	if err != nil {
		return nil, nil, "", err
	}
	if size > MaxObject {
		return nil, nil, "", bad("it has %d bytes, more than any object", size)
	}
	if err := checkSize(int(size)); err != nil {
		return nil, nil, "", err
	}
	head := make([]byte, ageOverhead)
	if _, err := src.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, "", err
	}
	if err := checkAgeHeader(head); err != nil {
		return nil, nil, "", err
	}
	choice := &chooser{keys: keys}
	plain, n, err := age.DecryptReaderAt(src, size, choice)
	switch {
	case errors.Is(err, age.ErrIncorrectIdentity):
		return nil, nil, "", notYet("no key that is known here opens it")
	case err != nil:
		return nil, nil, "", bad("its age header or its end is damaged")
	}
	signed, signature, err := readHeaderAt(plain)
	if err != nil {
		return nil, nil, "", err
	}
	h, err := k.checkHeader(r, signed, signature, choice.chosen.name)
	if err != nil {
		return nil, nil, "", err
	}
	front := int64(frameHead + len(signed) + len(signature))
	if h.Length < 0 || front+h.Length+frameHead > n || int(size) != sealedSize(int(front+h.Length)) {
		return nil, nil, "", bad("it is not padded as it should be")
	}
	return h.Log, io.NewSectionReader(plain, front, h.Length), headerID(signed), nil
}

// readHeaderAt reads the signed header and its signature off the front of a
// plaintext.
func readHeaderAt(plain io.ReaderAt) (signed, signature []byte, err error) {
	damaged := bad("it does not begin with a signed header")
	head := make([]byte, frameHead)
	if _, err := plain.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, bad("its bytes are damaged")
	}
	n := int64(binary.LittleEndian.Uint32(head[4:]))
	if binary.LittleEndian.Uint32(head) != magicHeader || n > maxHeader+ed25519.SignatureSize || n < 2+ed25519.SignatureSize {
		return nil, nil, damaged
	}
	content := make([]byte, n)
	if m, err := plain.ReadAt(content, frameHead); m < len(content) {
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, nil, bad("its bytes are damaged")
		}
		return nil, nil, damaged
	}
	at := len(content) - ed25519.SignatureSize
	return content[:at], content[at:], nil
}
