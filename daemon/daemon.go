// Package daemon wires the parts of Locker together: the store, the keys, the
// replica, the remotes, the gate and the processes that it guards. Only commands
// import it.
//
// Start with [Init] and [Restore], which make a locker on this device, and
// [Connect], which returns a [Client] for one that is there. A client sends calls
// by name; they are answered by the daemon that runs ([Run]), over a unix socket,
// or, when none does, by this very process, which then opens the locker itself. In
// both cases the same function answers ([calls]). A lock makes sure that one
// process at a time has a locker open.
//
// # Calls
//
// A call is one POST to /v1/NAME. The first line of the body is a JSON object of
// parameters; what follows it, if anything, is the call's input. The answer is
// JSON, one [Event] a line; the last one is an end or an error.
package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/locker-project/locker/plugins/locker"
)

// An Event is one line of the answer to a call. One of its fields is set.
type Event struct {
	Row      json.RawMessage `json:"row,omitempty"`      // one item of the answer
	Progress *Progress       `json:"progress,omitempty"` // how far a long call has come
	End      json.RawMessage `json:"end,omitempty"`      // the call is done; its summary
	Error    *Error          `json:"error,omitempty"`    // the call failed
}

// Progress says how far a call has come. Total is 0 where it is not known.
type Progress struct {
	Doing string `json:"doing"`
	Done  int64  `json:"done"`
	Total int64  `json:"total,omitempty"`
}

// The exit codes of the command, which are also the codes of an [Error].
const (
	CodeFailed    = 1 // it did not work
	CodeUsage     = 2 // it was asked wrongly
	CodeRefused   = 3 // no grant, or a wrong key
	CodeIntegrity = 4 // what the cloud or the disk returned is not what was written
)

// An Error is how a call fails: what happened, and what to do next.
type Error struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
	Next    string `json:"next,omitempty"`
}

func (e *Error) Error() string { return e.Message }

// usage returns an error for a call that was asked wrongly.
func usage(next, format string, args ...any) error {
	return &Error{Code: CodeUsage, Message: fmt.Sprintf(format, args...), Next: next}
}

// failed returns an error with a next step.
func failed(next, format string, args ...any) error {
	return &Error{Code: CodeFailed, Message: fmt.Sprintf(format, args...), Next: next}
}

// refused returns an error for what the caller may not do.
func refused(next, format string, args ...any) error {
	return &Error{Code: CodeRefused, Message: fmt.Sprintf(format, args...), Next: next}
}

// An answer writes the events of one call. Its methods may be called from several
// goroutines.
type answer struct {
	mu    sync.Mutex
	enc   *json.Encoder
	flush func() error
}

// newAnswer returns an answer that goes to w, through a buffer that flush empties.
func newAnswer(w io.Writer, flush func() error) *answer {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return &answer{enc: enc, flush: flush}
}

// row sends one item, some time before the call ends.
func (a *answer) row(v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.enc.Encode(Event{Row: raw})
}

// now sends one item at once.
func (a *answer) now(v any) error {
	if err := a.row(v); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.flush()
}

// progress says at once how far the call has come.
func (a *answer) progress(doing string, done, total int64) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.enc.Encode(Event{Progress: &Progress{doing, done, total}}); err != nil {
		return err
	}
	return a.flush()
}

// end closes the answer: with the summary v, or with err.
func (a *answer) end(v any, err error) error {
	if v == nil {
		v = struct{}{}
	}
	e := Event{}
	if err == nil {
		e.End, err = json.Marshal(v)
	}
	if err != nil {
		e = Event{Error: asError(err)}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return errors.Join(a.enc.Encode(e), a.flush())
}

// withCode is err as an [*Error], or nil.
func withCode(err error) error {
	if err == nil {
		return nil
	}
	return asError(err)
}

// asError gives an error its exit code.
func asError(err error) *Error {
	var e *Error
	var denied *locker.Denied
	switch {
	case errors.As(err, &e):
		if e.Message == err.Error() {
			return e
		}
		return &Error{Code: e.Code, Message: err.Error(), Next: e.Next}
	case errors.As(err, &denied), errors.Is(err, locker.ErrRevoked):
		return &Error{Code: CodeRefused, Message: err.Error()}
	case errors.Is(err, locker.ErrInvalid):
		return &Error{Code: CodeUsage, Message: err.Error()}
	case errors.Is(err, context.Canceled):
		return &Error{Code: CodeFailed, Message: "interrupted", Next: "nothing is lost; run the command again"}
	default:
		return classify(err)
	}
}
