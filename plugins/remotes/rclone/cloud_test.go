package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rclone/rclone/fs"
	"golang.org/x/net/webdav"

	"github.com/locker-project/locker/daemon/remote"
	"github.com/locker-project/locker/daemon/replica"
	"github.com/locker-project/locker/daemon/replica/replicatest"
	"github.com/locker-project/locker/plugins"
)

func TestMain(m *testing.M) {
	quiet()
	os.Exit(m.Run())
}

// A dav is a WebDAV server on loopback, with a user and a password.
type dav struct {
	dir  string
	url  string
	wrap atomic.Pointer[func(http.Handler) http.Handler] // what gets in the way
}

const (
	davUser = "alice"
	davPass = "it's, a: \"secret\""
)

func newDav(t *testing.T) *dav {
	t.Helper()
	d := &dav{dir: t.TempDir()}
	files := &webdav.Handler{FileSystem: webdav.Dir(d.dir), LockSystem: webdav.NewMemLS()}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, pass, _ := r.BasicAuth(); user != davUser || pass != davPass {
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
	d.url = server.URL
	return d
}

// spec is what the owner would type.
func (d *dav) spec() string {
	pass := strings.ReplaceAll(davPass, "'", "''")
	return fmt.Sprintf("rclone::webdav,url='%s',vendor=other,user=%s,pass='%s':some/folder", d.url, davUser, pass)
}

// open opens what a spec says, in this process.
func open(t *testing.T, spec string) *remote.PluginRemote {
	t.Helper()
	s, err := remote.ParseSpec(spec, nil)
	if err != nil {
		t.Fatal(err)
	}
	p := remote.Plugin(func(ctx context.Context) (remote.Client[plugins.RemoteObject], func(), error) {
		c := &cloud{}
		return c, func() {}, c.Open(ctx, s.Config())
	}, time.Minute)
	t.Cleanup(func() { p.Close() })
	return p
}

func TestWebDAVConformance(t *testing.T) {
	replicatest.Remote(t, func(t *testing.T) replica.Remote { return open(t, newDav(t).spec()) })
}

// TestMemoryConformance stands for the object stores: nothing is moved there.
func TestMemoryConformance(t *testing.T) {
	info, err := fs.Find("memory")
	if err != nil {
		t.Fatal(err)
	}
	replicatest.Remote(t, func(t *testing.T) replica.Remote {
		root := strings.ToLower(strings.ReplaceAll(filepath.Base(t.TempDir())+t.Name(), "/", "-"))
		return remote.Plugin(func(ctx context.Context) (remote.Client[plugins.RemoteObject], func(), error) {
			c := &cloud{}
			return c, func() {}, c.open(ctx, info, plugins.RemoteConfig{Type: "memory", Root: root})
		}, time.Minute)
	})
}
