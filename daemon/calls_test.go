package daemon

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/locker-project/locker/plugins/locker"
)

// TestReadRecords: what put reads is all right or names the line that is not.
func TestReadRecords(t *testing.T) {
	for _, test := range []struct {
		in   string
		n    int
		want string // part of the error
	}{
		{"", 0, ""},
		{"\n \n", 0, ""},
		{`{"id":"a","fields":{}}`, 1, ""},
		{`{"id":"a","fields":{}}` + "\n" + `{"id":"b","collection":"notes","time":"2026-01-04T10:00:00Z","rev":7,"source":"x","fields":{"text":"x"}}` + "\n", 2, ""},
		{`{"id":"a","fields":{}}` + "\n" + `{"id":"b",`, 0, "line 2: the JSON object has no end"},
		{`{"id":"a","fields":{}} {}`, 0, "line 1: there is more than one value"},
		{`{"fields":{}}`, 0, "line 1 has no id"},
		{`{"id":"a","feilds":{}}`, 0, `line 1: json: unknown field "feilds"`},
		{`{"id":"a","collection":"posts","fields":{}}`, 0, `line 1 is of collection "posts"`},
		{`{"id":"a","time":"yesterday","fields":{}}`, 0, "line 1"},
		{`[]`, 0, "line 1"},
		{"\x00\xff", 0, "line 1"},
	} {
		records, err := readRecords(strings.NewReader(test.in), "notes")
		if test.want == "" {
			if err != nil || len(records) != test.n {
				t.Errorf("%q: %d records, %v", test.in, len(records), err)
			}
			for _, r := range records {
				if r.Collection != "notes" || r.Source != "" || r.Rev != 0 {
					t.Errorf("%q: %+v", test.in, r)
				}
			}
			continue
		}
		var e *Error
		if !errors.As(err, &e) || e.Code != CodeUsage || !strings.Contains(e.Message, test.want) {
			t.Errorf("%q: %v, want %q", test.in, err, test.want)
		}
	}
}

func FuzzReadRecords(f *testing.F) {
	f.Add([]byte(`{"id":"a","time":"2026-01-04T10:00:00Z","fields":{"text":"x"}}` + "\n"))
	f.Add([]byte(`{"id":"a","fields":`))
	f.Fuzz(func(t *testing.T, in []byte) {
		records, err := readRecords(bytes.NewReader(in), "notes")
		if err != nil && records != nil {
			t.Error("both records and an error")
		}
		for _, r := range records {
			if r.ID == "" || r.Collection != "notes" || r.Source != "" || r.Import != "" {
				t.Errorf("%+v", r)
			}
		}
	})
}

// TestReadLine: parameters may be longer than a buffer, but not endless.
func TestReadLine(t *testing.T) {
	long := strings.Repeat("x", 1<<20)
	in := bufio.NewReaderSize(strings.NewReader(long+"\nrest"), 4096)
	if line, err := readLine(in); err != nil || string(line) != long+"\n" {
		t.Errorf("%d bytes, %v", len(line), err)
	}
	if rest, err := in.ReadString(0); rest != "rest" {
		t.Errorf("%q, %v", rest, err)
	}
	if _, err := readLine(bufio.NewReader(strings.NewReader(strings.Repeat("x", maxParams+1<<20)))); err == nil {
		t.Error("an endless line is no error")
	}
}

// TestErrors: each kind of error has its exit code.
func TestErrors(t *testing.T) {
	for _, test := range []struct {
		err  error
		code int
	}{
		{errors.New("x"), CodeFailed},
		{fmt.Errorf("x: %w", locker.ErrNotFound), CodeFailed},
		{fmt.Errorf("x: %w", locker.ErrInvalid), CodeUsage},
		{fmt.Errorf("x: %w", &locker.Denied{Collection: "notes", Verb: "read"}), CodeRefused},
		{fmt.Errorf("x: %w", locker.ErrRevoked), CodeRefused},
		{fmt.Errorf("x: %w", refused("y", "z")), CodeRefused},
		{context.Canceled, CodeFailed},
	} {
		if e := asError(test.err); e.Code != test.code || e.Message == "" {
			t.Errorf("%v: code %d, want %d", test.err, e.Code, test.code)
		}
	}
	if withCode(nil) != nil {
		t.Error("no error became one")
	}
}
