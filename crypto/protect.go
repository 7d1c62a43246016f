package crypto

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"filippo.io/age"
)

const (
	// workFactor is log2 of scrypt's N: 128 MiB and about half a second.
	workFactor = 17
	// maxWorkFactor is the largest that is accepted: 256 MiB.
	maxWorkFactor = 18
	// maxProtected bounds what Protect and Unprotect take.
	maxProtected = 1 << 20
)

// Protect encrypts a secret with a passphrase, as a stock age file that asks for
// one: about half a second and 128 MiB, which is what a guess costs too.
func Protect(secret []byte, passphrase string) ([]byte, error) {
	if passphrase == "" {
		return nil, errors.New("an empty passphrase protects nothing")
	}
	if len(secret) > maxProtected/2 {
		return nil, fmt.Errorf("%d bytes are too many to protect with a passphrase", len(secret))
	}
	r, err := age.NewScryptRecipient(passphrase)
	if err != nil {
		return nil, err
	}
	r.SetWorkFactor(workFactor)
	var out bytes.Buffer
	w, err := age.Encrypt(&out, r)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(secret); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// Unprotect decrypts what Protect made. The error is [ErrPassphrase] if the
// passphrase is another one; a file that asks for more work than Locker ever does
// is refused.
func Unprotect(file []byte, passphrase string) ([]byte, error) {
	if len(file) > maxProtected {
		return nil, fmt.Errorf("protected file: %d bytes are too many", len(file))
	}
	if passphrase == "" {
		return nil, ErrPassphrase
	}
	id, err := age.NewScryptIdentity(passphrase)
	if err != nil {
		return nil, err
	}
	id.SetMaxWorkFactor(maxWorkFactor)
	r, err := age.Decrypt(bytes.NewReader(file), id)
	var other *age.NoIdentityMatchError
	if errors.As(err, &other) && len(other.StanzaTypes) == 1 && other.StanzaTypes[0] == "scrypt" {
		return nil, ErrPassphrase
	}
	if err != nil {
		return nil, fmt.Errorf("protected file: %w", err)
	}
	secret, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("protected file: %w", err)
	}
	return secret, nil
}
