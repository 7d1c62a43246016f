package main

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/locker-project/locker/daemon/remote/remotetest"
	"github.com/locker-project/locker/daemon/replica"
)

// A counter counts the requests to a server of HTTP.
type counter struct {
	mu   sync.Mutex
	seen []string
}

func (c *counter) take() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	seen := c.seen
	c.seen = nil
	return seen
}

// before puts a counter before a server.
func before(t *testing.T, server *remotetest.Server) *counter {
	t.Helper()
	behind := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: server.Addr})
	c := &counter{}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		c.seen = append(c.seen, r.Method)
		c.mu.Unlock()
		behind.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	server.Addr = strings.TrimPrefix(front.URL, "http://")
	return c
}

// TestRequests: how many requests each call costs, which clouds bill and lines with much
// latency make slow.
func TestRequests(t *testing.T) {
	for _, kind := range remotetest.Servers {
		want, ok := map[string]map[string]string{
			"webdav": {
				"put": "PROPFIND MKCOL PUT PROPFIND", "put over another": "PROPFIND MKCOL PUT PROPFIND MKCOL MOVE PROPFIND",
				"put a large one": "MKCOL PUT PROPFIND MKCOL MOVE PROPFIND",
				"get":             "PROPFIND GET", "get a part": "PROPFIND GET", "get what is not there": "PROPFIND", "delete": "PROPFIND DELETE",
			},
			"s3": {
				"put": "PUT", "put over another": "PUT", "put a large one": "PUT",
				"get": "GET", "get a part": "GET", "get what is not there": "GET", "delete": "DELETE",
			},
		}[kind.Name]
		if !ok {
			continue
		}
		t.Run(kind.Name, func(t *testing.T) {
			server := kind.Start(t)
			c := before(t, server)
			r := open(t, server.Spec("locker"))
			put := func(name string, size int) error {
				return r.Put(t.Context(), name, bytes.NewReader(make([]byte, size)), int64(size))
			}
			get := func(name string, off, n int64) error {
				body, err := r.Get(t.Context(), name, off, n)
				if err != nil {
					return err
				}
				_, err = io.ReadAll(body)
				return errors.Join(err, body.Close())
			}
			if err := put("d/"+strings.Repeat("c", 52), 1); err != nil { // which connects and makes folders
				t.Fatal(err)
			}
			c.take()
			for _, step := range []struct {
				name string
				do   func() error
				err  error
			}{
				{"put", func() error { return put(anyName, 4096) }, nil},
				{"put over another", func() error { return put(anyName, 4096) }, nil},
				{"put a large one", func() error { return put(anyName, 1<<20) }, nil},
				{"get", func() error { return get(anyName, 0, -1) }, nil},
				{"get a part", func() error { return get(anyName, 1000, 1000) }, nil},
				{"get what is not there", func() error { return get("d/"+strings.Repeat("b", 52), 0, -1) }, replica.ErrNotFound},
				{"delete", func() error { return r.Delete(t.Context(), anyName) }, nil},
			} {
				if err := step.do(); !errors.Is(err, step.err) {
					t.Errorf("%s: %v, want %v", step.name, err, step.err)
				}
				if got := strings.Join(c.take(), " "); got != want[step.name] {
					t.Errorf("%s took %s, want %s", step.name, got, want[step.name])
				}
			}
		})
	}
}
