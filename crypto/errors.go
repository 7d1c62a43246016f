package crypto

import (
	"errors"
	"fmt"
)

// ErrPassphrase is returned by [Unprotect] when the passphrase is not the one that
// the file was protected with.
var ErrPassphrase = errors.New("wrong passphrase")

// An objectError says why an object, or what it holds, was not accepted. Callers
// see its two methods.
type objectError struct {
	what   string
	notYet bool
	newer  bool
}

func (e *objectError) Error() string { return e.what }

// NotYet says that the object may be good, but that its epoch, its writer or its
// version is not known here yet.
func (e *objectError) NotYet() bool { return e.notYet }

// Newer says that the object is authentic but of a later version of the format:
// who meets one neither endorses nor deletes.
func (e *objectError) Newer() bool { return e.newer }

func bad(format string, args ...any) error {
	return &objectError{what: fmt.Sprintf(format, args...)}
}

func notYet(format string, args ...any) error {
	return &objectError{what: fmt.Sprintf(format, args...), notYet: true}
}

func newer(version int) error {
	return &objectError{
		what:   fmt.Sprintf("it is of version %d, and this Locker reads version 1; install a newer one", version),
		notYet: true, newer: true,
	}
}
