package wire

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"strings"
	"unicode"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/locker-project/locker/plugins/locker"
)

// kinds are the errors that keep their identity on the way.
var kinds = []struct {
	kind Problem_Kind
	err  error
}{
	{Problem_NOT_FOUND, locker.ErrNotFound},
	{Problem_REVOKED, locker.ErrRevoked},
	{Problem_INVALID, locker.ErrInvalid},
	{Problem_CANCELED, context.Canceled},
	{Problem_DEADLINE, context.DeadlineExceeded},
	{Problem_MISSING_FILE, fs.ErrNotExist},
	{Problem_SHORT, io.ErrUnexpectedEOF},
	{Problem_UNSUPPORTED, errors.ErrUnsupported},
}

// maxText bounds each text of a problem, in bytes.
const maxText = 2 << 10

// NewProblem describes err for the other side. FILE is left to the caller, who
// knows that type.
func NewProblem(err error) *Problem {
	p := &Problem{Message: Cut(err.Error())}
	for _, k := range kinds {
		if errors.Is(err, k.err) {
			p.Kind = k.kind
			break
		}
	}
	var denied *locker.Denied
	if errors.As(err, &denied) {
		p.Kind = Problem_DENIED
		p.Collection, p.Field, p.Verb = Cut(denied.Collection), Cut(denied.Field), Cut(denied.Verb)
	}
	var temporary interface{ Temporary() bool }
	if p.GetKind() != Problem_DEADLINE && errors.As(err, &temporary) {
		p.Temporary = temporary.Temporary()
	}
	return p
}

// Status is the gRPC error that carries the problem.
func (p *Problem) Status() error {
	s, err := status.New(codes.Unknown, "problem").WithDetails(p)
	if err != nil {
		return status.Error(codes.Unknown, p.GetMessage())
	}
	return s.Err()
}

// Status turns err into the gRPC error that carries it; nil stays nil.
func Status(err error) error {
	if err == nil {
		return nil
	}
	return NewProblem(err).Status()
}

// FromStatus returns the problem that a gRPC error carries. ok is false for an
// error of gRPC's own, such as a broken connection.
func FromStatus(err error) (p *Problem, ok bool) {
	s, ok := status.FromError(err)
	if !ok {
		return nil, false
	}
	for _, detail := range s.Details() {
		if p, ok := detail.(*Problem); ok {
			return p, true
		}
	}
	return nil, false
}

// Error turns the error of a gRPC call back into what the other side returned.
// nil and io.EOF stay what they are.
func Error(err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	if p, ok := FromStatus(err); ok {
		return p.Err(nil)
	}
	switch status.Code(err) {
	case codes.Canceled:
		return context.Canceled
	case codes.DeadlineExceeded:
		return context.DeadlineExceeded
	case codes.ResourceExhausted:
		return &remoteError{message: "a message is too large: " + clean(err.Error()), cause: locker.ErrInvalid}
	}
	return &remoteError{message: "the pipe broke: " + clean(err.Error())}
}

// Err is the problem as an error. Its text is plain: what is not printable is
// replaced. file is the error that errors.As finds for a FILE.
func (p *Problem) Err(file error) error {
	e := &remoteError{message: clean(p.GetMessage()), temporary: p.GetTemporary(), cause: file}
	switch p.GetKind() {
	case Problem_DENIED:
		e.cause = &locker.Denied{Collection: clean(p.GetCollection()), Field: clean(p.GetField()), Verb: clean(p.GetVerb())}
	case Problem_FILE, Problem_OTHER:
	default:
		for _, k := range kinds {
			if k.kind == p.GetKind() {
				e.cause = k.err
			}
		}
	}
	if e.cause != nil && e.cause.Error() == e.message && !e.temporary {
		return e.cause
	}
	return e
}

// A remoteError is an error that came from the other side.
type remoteError struct {
	message   string
	cause     error
	temporary bool
}

func (e *remoteError) Error() string   { return e.message }
func (e *remoteError) Unwrap() error   { return e.cause }
func (e *remoteError) Temporary() bool { return e.temporary }

// Cut shortens s and makes it valid UTF-8, as protobuf wants it.
func Cut(s string) string {
	if len(s) > maxText {
		s = s[:maxText] + "…"
	}
	return strings.ToValidUTF8(s, "�")
}

// clean is for text that the other side wrote and a person will read.
func clean(s string) string {
	s = Plain(Cut(s))
	if s == "" {
		return "no reason given"
	}
	return s
}

// Plain replaces all that is not printable, and so cannot move a cursor, change a
// colour or turn the direction of writing. Line ends and tabs become blanks.
func Plain(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t' || r == '\r':
			return ' '
		case r == utf8.RuneError || !unicode.IsPrint(r):
			return '�'
		}
		return r
	}, s)
}

// Valid is s as protobuf wants it: what is not UTF-8 is replaced.
func Valid(s string) string { return strings.ToValidUTF8(s, "�") }
