package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/locker-project/locker/plugins/locker"
)

func TestErrorsCameBack(t *testing.T) {
	for _, want := range []error{
		locker.ErrNotFound, locker.ErrRevoked, locker.ErrInvalid,
		context.Canceled, context.DeadlineExceeded, fs.ErrNotExist, io.ErrUnexpectedEOF,
	} {
		if got := Error(Status(want)); got != want {
			t.Errorf("%v became %v", want, got)
		}
		around := fmt.Errorf("around: %w", want)
		if got := Error(Status(around)); !errors.Is(got, want) || got.Error() != around.Error() {
			t.Errorf("%v became %v", around, got)
		}
	}
	denied := &locker.Denied{Collection: "c", Field: "f", Verb: "read"}
	var got *locker.Denied
	if err := Error(Status(fmt.Errorf("around: %w", denied))); !errors.As(err, &got) || *got != *denied {
		t.Errorf("%v became %v", denied, err)
	}
	if err := Error(Status(errors.New("plain"))); err.Error() != "plain" || errors.Is(err, locker.ErrInvalid) {
		t.Errorf("a plain error became %v", err)
	}
	if Status(nil) != nil || Error(nil) != nil || Error(io.EOF) != io.EOF {
		t.Error("nil and io.EOF must stay")
	}
}

type temporary struct{ error }

func (temporary) Temporary() bool { return true }
func (t temporary) Unwrap() error { return t.error }

func TestTemporaryErrors(t *testing.T) {
	is := func(err error) bool {
		var t interface{ Temporary() bool }
		return errors.As(err, &t) && t.Temporary()
	}
	if err := Error(Status(temporary{locker.ErrNotFound})); !is(err) || !errors.Is(err, locker.ErrNotFound) {
		t.Errorf("a temporary error became %v", err)
	}
	if is(Error(Status(errors.New("for ever")))) {
		t.Error("an error became temporary")
	}
}

func TestErrorsOfThePipe(t *testing.T) {
	for code, want := range map[codes.Code]error{
		codes.Canceled: context.Canceled, codes.DeadlineExceeded: context.DeadlineExceeded, codes.ResourceExhausted: locker.ErrInvalid,
	} {
		if err := Error(status.Error(code, "x")); !errors.Is(err, want) {
			t.Errorf("%v became %v", code, err)
		}
	}
	if err := Error(status.Error(codes.Unavailable, "gone\x1b")); err.Error() != "the pipe broke: rpc error: code = Unavailable desc = gone�" {
		t.Errorf("a broken pipe became %q", err)
	}
}

// TestHostileErrors reads what a hostile process may send.
func TestHostileErrors(t *testing.T) {
	p := &Problem{Kind: 99, Message: "\x1b]0;title\x07" + strings.Repeat("x", 1<<20)}
	if err := p.Err(nil); strings.ContainsAny(err.Error(), "\x1b\x07") || len(err.Error()) > 2*maxText {
		t.Errorf("an error of %d bytes: %.40q", len(err.Error()), err)
	}
	if err := (&Problem{}).Err(nil); err.Error() != "no reason given" {
		t.Errorf("no error: %q", err)
	}
	p = &Problem{Kind: Problem_DENIED, Message: "x", Collection: "\x1b", Field: "\u202e"}
	var denied *locker.Denied
	if err := p.Err(nil); !errors.As(err, &denied) || *denied != (locker.Denied{Collection: "�", Field: "�", Verb: "no reason given"}) {
		t.Errorf("denied became %+v", denied)
	}
}

func TestPlain(t *testing.T) {
	for text, want := range map[string]string{
		"plain Zürich 日本 😀": "plain Zürich 日本 😀", "a\tb\nc\r": "a b c ", "\x1b[1m": "�[1m", "\u202e\u200b\ufeff": "���", "\xff": "�", "\u009b": "�",
	} {
		if got := Plain(text); got != want {
			t.Errorf("%q became %q", text, got)
		}
	}
}

func TestParts(t *testing.T) {
	for _, size := range []int{0, 1, Part - 1, Part, Part + 1, 3 * Part} {
		body := strings.Repeat("x", size)
		var parts [][]byte
		if err := SendParts(strings.NewReader(body), func(part []byte) error { parts = append(parts, part); return nil }); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(PartReader(func() ([]byte, error) {
			if len(parts) == 0 {
				return nil, io.EOF
			}
			part := parts[0]
			parts = parts[1:]
			return part, nil
		}))
		if err != nil || string(got) != body {
			t.Errorf("%d bytes became %d, %v", size, len(got), err)
		}
	}
	broken := io.MultiReader(strings.NewReader("x"), &failing{})
	if err := SendParts(broken, func([]byte) error { return nil }); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("a broken body: %v", err)
	}
}

type failing struct{}

func (*failing) Read([]byte) (int, error) { return 0, fs.ErrClosed }
