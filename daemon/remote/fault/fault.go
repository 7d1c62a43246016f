// Package fault has the error of a remote: what kind of thing went wrong, whether
// to try again, and what the owner can do.
//
// The process that talks to a cloud knows the kind, and the daemon acts on it.
// Between them lies a pipe that carries text, so the text is the format: [Fault]'s
// Error is read back by [Parse]. A process may lie about the kind; all that it
// gains is a wrong hint, or a few tries more or less.
package fault

import (
	"errors"
	"strings"
	"time"
)

// A Kind says what sort of thing went wrong. It is one word.
type Kind string

// The kinds.
const (
	// Offline: the remote cannot be reached, or it is a folder that is not there.
	Offline Kind = "offline"
	// Denied: the remote does not let us in, or not do this.
	Denied Kind = "denied"
	// Full: no room is left there, or the quota is used up.
	Full Kind = "full"
	// Busy: the remote asks to come back later, or answers with an error of its own.
	Busy Kind = "busy"
	// Settings: the remote's settings cannot work as they are.
	Settings Kind = "settings"
	// Broken: something else.
	Broken Kind = "failed"
)

var kinds = []Kind{Offline, Denied, Full, Busy, Settings, Broken}

// longestPause bounds the pause that a remote can ask for.
const longestPause = 10 * time.Minute

// A Fault is an error of a remote. errors.As finds it.
type Fault struct {
	Kind Kind
	// What happened, as a sentence without its stop, and what the owner can do
	// about it. Do may be empty. Neither holds a secret.
	What, Do string
	// Pause is how long the remote asked to be left alone; 0 if it did not.
	Pause time.Duration
	// Again says that the same call may well succeed later.
	Again bool
	// Err is the cause, if it is known here.
	Err error
}

// Error is the text that [Parse] reads: "offline: the server is away; check the network".
func (f *Fault) Error() string {
	var b strings.Builder
	b.WriteString(string(f.Kind))
	if f.Pause > 0 {
		b.WriteString(" for " + f.Pause.Round(time.Second).String())
	}
	b.WriteString(": " + f.What)
	if f.Do != "" {
		b.WriteString("; " + f.Do)
	}
	return b.String()
}

// Unwrap returns the cause.
func (f *Fault) Unwrap() error { return f.Err }

// Temporary says whether to try again. It crosses the pipe beside the text.
func (f *Fault) Temporary() bool { return f.Again }

// Transient is Temporary: the same call may well succeed later.
func (f *Fault) Transient() bool { return f.Again }

// Full says that the remote has no room: what is smaller may still be taken, and
// nothing larger.
func (f *Fault) Full() bool { return f.Kind == Full }

// RetryAfter is how long the remote asked to be left alone; 0 if it did not.
func (f *Fault) RetryAfter() time.Duration { return f.Pause }

// Parse reads err back as a fault: as the one that it wraps, or from its text. ok
// is false where it is none.
func Parse(err error) (f *Fault, ok bool) {
	if err == nil {
		return nil, false
	}
	if errors.As(err, &f) {
		return f, true
	}
	head, what, ok := strings.Cut(err.Error(), ": ")
	if !ok {
		return nil, false
	}
	kind, pause, _ := strings.Cut(head, " for ")
	for _, k := range kinds {
		if string(k) != kind {
			continue
		}
		f = &Fault{Kind: k, What: what, Err: errors.Unwrap(err)}
		if pause != "" {
			d, err := time.ParseDuration(pause)
			if err != nil || d < 0 {
				return nil, false
			}
			f.Pause = min(d, longestPause)
		}
		var temporary interface{ Temporary() bool }
		if errors.As(err, &temporary) {
			f.Again = temporary.Temporary()
		}
		return f, true
	}
	return nil, false
}
