package main

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rclone/rclone/fs"

	"github.com/locker-project/locker/daemon/remote"
	"github.com/locker-project/locker/daemon/remote/remotetest"
	"github.com/locker-project/locker/daemon/replica"
	"github.com/locker-project/locker/daemon/replica/replicatest"
	"github.com/locker-project/locker/plugins"
)

func TestMain(m *testing.M) {
	detach()
	flag.Parse()
	if err := flag.Set("test.parallel", "32"); err != nil { // most of them wait
		panic(err)
	}
	os.Exit(m.Run())
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
		return c, func() {}, c.Open(ctx, plugins.RemoteConfig(s.Config(nil)))
	}, time.Minute)
	t.Cleanup(func() { p.Close() })
	return p
}

func TestWebDAVConformance(t *testing.T) {
	replicatest.Remote(t, func(t *testing.T) replica.Remote { return open(t, remotetest.NewWebDAV(t).Spec()) })
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

// filesBelow lists the files of a folder.
func filesBelow(t *testing.T, dir string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			names = append(names, strings.TrimPrefix(path, dir+"/"))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}
