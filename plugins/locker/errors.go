package locker

import (
	"errors"
	"fmt"
)

// Errors that cross the pipe between a process and the gate: errors.Is and
// errors.As find them on either side.
var (
	// ErrNotFound says that there is no such record, blob or file.
	ErrNotFound = errors.New("not found")
	// ErrRevoked says that the grant was revoked or has expired: nothing can be
	// read under it any more.
	ErrRevoked = errors.New("the grant was revoked or has expired")
	// ErrInvalid says that a request makes no sense, whoever sends it.
	ErrInvalid = errors.New("invalid")
)

// Denied is the error for what a grant does not cover.
type Denied struct {
	Collection string
	Field      string // empty: the whole collection
	Verb       string // "read" or "write"
}

func (d *Denied) Error() string {
	if d.Field == "" {
		return fmt.Sprintf("%s is not granted on %s", d.Verb, d.Collection)
	}
	return fmt.Sprintf("%s is not granted on %s.%s", d.Verb, d.Collection, d.Field)
}
