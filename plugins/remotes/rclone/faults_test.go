package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/locker-project/locker/daemon/remote/fault"
	"github.com/locker-project/locker/daemon/remote/remotetest"
	"github.com/locker-project/locker/daemon/replica"
)

var anyName = "d/" + strings.Repeat("a", 52)

// wantFault checks the kind of an error, and that its text has some words in it and
// not the password.
func wantFault(t *testing.T, err error, kind fault.Kind, words ...string) {
	t.Helper()
	f, ok := fault.Parse(err)
	if !ok || f.Kind != kind {
		t.Fatalf("got %v; want a fault of the kind %q", err, kind)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q does not say %q", err, w)
		}
	}
	if strings.Contains(err.Error(), "it's, a") || strings.Contains(err.Error(), "a: \"secret") {
		t.Errorf("%q holds the password", err)
	}
}

// TestTroubleThatPasses: the remote does what it was asked, and needs no more requests
// than it takes.
func TestTroubleThatPasses(t *testing.T) {
	object := make([]byte, 500_000)
	_, _ = rand.Read(object)
	for _, test := range []struct {
		name     string
		trouble  *remotetest.Trouble
		requests int64 // of the method, in all
	}{
		{"503 on a put", &remotetest.Trouble{Method: "PUT", Times: 2, Do: remotetest.Answer(503)}, 3},
		{"429 with Retry-After", &remotetest.Trouble{Method: "PUT", Times: 1, Do: remotetest.Answer(429, "Retry-After", "1")}, 2},
		{"500 on a get", &remotetest.Trouble{Method: "GET", Times: 1, Do: remotetest.Answer(500)}, 2},
		{"an upload that breaks", &remotetest.Trouble{Method: "PUT", Times: 2, Do: remotetest.Reset(200_000)}, 3},
		{"a rename that breaks", &remotetest.Trouble{Method: "MOVE", Times: 1, Do: remotetest.Reset(0)}, 2},
		{"a download that breaks", &remotetest.Trouble{Method: "GET", Times: 2, Do: remotetest.Short(150_000)}, 3},
		{"a slow line", &remotetest.Trouble{Method: "PUT", Times: 1, Do: remotetest.Slowly}, 1},
		{"a list that breaks", &remotetest.Trouble{Method: "PROPFIND", Times: 2, Do: remotetest.Answer(502)}, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			d := remotetest.NewWebDAV(t)
			r := open(t, d.Spec())
			x := d.Trouble(test.trouble)
			if err := r.Put(t.Context(), anyName, bytes.NewReader(object), int64(len(object))); err != nil {
				t.Fatal(err)
			}
			body, err := r.Get(t.Context(), anyName, 0, -1)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(body)
			if err != nil || !bytes.Equal(got, object) {
				t.Fatalf("got %d bytes of %d, %v", len(got), len(object), err)
			}
			if err := body.Close(); err != nil {
				t.Fatal(err)
			}
			n := 0
			for info, err := range r.List(t.Context(), "d/") {
				if err != nil || info.Name != anyName {
					t.Errorf("list: %v, %v", info, err)
				}
				n++
			}
			if n != 1 {
				t.Errorf("%d objects are listed", n)
			}
			if test.requests > 0 && x.Seen() != test.requests {
				t.Errorf("%d requests %s, want %d", x.Seen(), test.trouble.Method, test.requests)
			}
		})
	}
}

// TestTroubleThatStays: an error that says what to do, soon, and the former object is
// as it was.
func TestTroubleThatStays(t *testing.T) {
	for _, test := range []struct {
		name     string
		trouble  *remotetest.Trouble
		kind     fault.Kind
		words    string
		requests int64 // of the method, at most
	}{
		{"no room", &remotetest.Trouble{Method: "PUT", Do: remotetest.Answer(507)}, fault.Full, "make room", 1},
		{"forbidden", &remotetest.Trouble{Method: "PUT", Do: remotetest.Answer(403)}, fault.Denied, "what they may do", 1},
		{"who are you", &remotetest.Trouble{Method: "PUT", Do: remotetest.Answer(401)}, fault.Denied, "password", 1},
		{"a strange request", &remotetest.Trouble{Method: "PUT", Do: remotetest.Answer(400)}, fault.Broken, "settings", 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			d := remotetest.NewWebDAV(t)
			r := open(t, d.Spec())
			old := bytes.Repeat([]byte("old"), 2000)
			if err := r.Put(t.Context(), anyName, bytes.NewReader(old), int64(len(old))); err != nil {
				t.Fatal(err)
			}
			test.trouble.Times = 1000
			x := d.Trouble(test.trouble)
			err := r.Put(t.Context(), anyName, strings.NewReader("new object"), 10)
			wantFault(t, err, test.kind, test.words)
			if x.Seen() > test.requests {
				t.Errorf("%d requests %s, want %d", x.Seen(), x.Method, test.requests)
			}
			d.Trouble(nil)
			body, err := r.Get(t.Context(), anyName, 0, -1)
			if err != nil {
				t.Fatal(err)
			}
			defer body.Close()
			if got, err := io.ReadAll(body); err != nil || !bytes.Equal(got, old) {
				t.Errorf("the former object: %d bytes, %v", len(got), err)
			}
		})
	}
}

func TestWrongPassword(t *testing.T) {
	d := remotetest.NewWebDAV(t)
	err := open(t, d.SpecAs("bob")).Delete(t.Context(), anyName)
	wantFault(t, err, fault.Denied, "password")
}

func TestOffline(t *testing.T) {
	began := time.Now()
	spec := fmt.Sprintf("rclone::webdav,url='http://127.0.0.1:%d/',vendor=other,user=u,pass='it''s, a secret':", remotetest.FreePort(t))
	_, err := open(t, spec).Get(t.Context(), anyName, 0, -1)
	wantFault(t, err, fault.Offline, "network")
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("that took %s", took)
	}
}

// TestContextEndsTries: a call that is trying again ends with its context.
func TestContextEndsTries(t *testing.T) {
	d := remotetest.NewWebDAV(t)
	r := open(t, d.Spec())
	d.Trouble(&remotetest.Trouble{Method: "PUT", Times: 1000, Do: remotetest.Answer(503)})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	began := time.Now()
	if err := r.Put(ctx, anyName, strings.NewReader("x"), 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if took := time.Since(began); took > 6*time.Second {
		t.Errorf("that took %s", took)
	}
}

// TestPartsDoNotShow: an upload that was given up is neither listed nor left behind.
func TestPartsDoNotShow(t *testing.T) {
	d := remotetest.NewWebDAV(t)
	r := open(t, d.Spec())
	d.Trouble(&remotetest.Trouble{Method: "MOVE", Times: 1000, Do: remotetest.Answer(403)})
	object := bytes.Repeat([]byte("x"), small+1)
	wantFault(t, r.Put(t.Context(), anyName, bytes.NewReader(object), int64(len(object))), fault.Denied)
	d.Trouble(nil)
	for info, err := range r.List(t.Context(), "") {
		t.Errorf("listed: %v, %v", info, err)
	}
	if _, err := r.Get(t.Context(), anyName, 0, -1); !errors.Is(err, replica.ErrNotFound) {
		t.Errorf("get: %v", err)
	}
	if left := filesBelow(t, d.Dir); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}
