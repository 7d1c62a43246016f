// Package remotetest runs real servers on loopback for tests of remotes, and troubles
// that come between.
//
// [NewWebDAV] is a server of golang.org/x/net/webdav with a password, [NewSFTP] one of
// OpenSSH's where that is installed; [Trouble] makes a WebDAV server misbehave.
package remotetest

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/net/webdav"
)

// A WebDAV is a server that asks for a user and a password.
type WebDAV struct {
	Dir            string // what it serves
	URL            string
	User, Password string
	wrap           atomic.Pointer[func(http.Handler) http.Handler] // what gets in the way
}

// NewWebDAV starts a server that ends with the test. Its password has all that must be
// quoted.
func NewWebDAV(t testing.TB) *WebDAV {
	t.Helper()
	d := &WebDAV{Dir: t.TempDir(), User: "alice", Password: "it's, a: \"secret\""}
	files := &webdav.Handler{FileSystem: webdav.Dir(d.Dir), LockSystem: webdav.NewMemLS()}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, pass, _ := r.BasicAuth(); user != d.User || pass != d.Password {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		if wrap := d.wrap.Load(); wrap != nil {
			(*wrap)(files).ServeHTTP(w, r)
			return
		}
		files.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	d.URL = server.URL
	return d
}

// Spec is what the owner would type.
func (d *WebDAV) Spec() string { return d.SpecAs(d.User) }

// SpecAs is that of another user, with the same password.
func (d *WebDAV) SpecAs(user string) string {
	pass := strings.ReplaceAll(d.Password, "'", "''")
	return fmt.Sprintf("rclone::webdav,url='%s',vendor=other,user=%s,pass='%s':some/folder", d.URL, user, pass)
}
