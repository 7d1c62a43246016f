package remote_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/locker-project/locker/daemon/remote"
	"github.com/locker-project/locker/daemon/remote/fault"
	"github.com/locker-project/locker/daemon/remote/remotetest"
	"github.com/locker-project/locker/daemon/replica"
	"github.com/locker-project/locker/daemon/replica/replicatest"
	"github.com/locker-project/locker/plugins"
	"github.com/locker-project/locker/plugins/host"
)

var anyName = "d/" + strings.Repeat("a", 52)

// built is the folder of the program, once it was needed.
var built string

func TestMain(m *testing.M) {
	host.Shim()
	code := m.Run()
	if built != "" {
		_ = os.RemoveAll(built)
	}
	os.Exit(code)
}

// program builds locker-rclone, as it is installed.
var program = sync.OnceValues(func() (path string, err error) {
	if built, err = os.MkdirTemp("", "locker-rclone"); err != nil {
		return "", err
	}
	path = filepath.Join(built, "locker-rclone")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, "../../plugins/remotes/rclone")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return path, nil
})

func start(ctx context.Context, t testing.TB, files []string) (*host.Process, error) {
	path, err := program()
	if err != nil {
		t.Error(err)
		return nil, err
	}
	return host.Start(ctx, host.Spec{Name: "rclone", Path: path, Own: true, Network: true, ReadOnly: files,
		Stderr: func(line string) { t.Logf("the process says: %s", line) }})
}

// A confined is a remote whose process is really one, in its sandbox.
type confined struct {
	*remote.PluginRemote
	starts  atomic.Int64
	running atomic.Pointer[host.Process]
}

func newConfined(t *testing.T, spec string, idle time.Duration) *confined {
	t.Helper()
	if mode := host.Probe(t.Context()); strings.HasPrefix(mode.String(), "none") {
		t.Skipf("processes cannot be confined here: %s", mode)
	}
	s, err := remote.ParseSpec(spec, nil)
	if err != nil {
		t.Fatal(err)
	}
	c := &confined{}
	c.PluginRemote = remote.Plugin(func(ctx context.Context) (remote.Client[plugins.RemoteObject], func(), error) {
		p, err := start(ctx, t, s.Files)
		if err != nil {
			return nil, nil, err
		}
		c.starts.Add(1)
		if err := p.Remote().Open(ctx, plugins.RemoteConfig(s.Config(nil))); err != nil {
			p.Kill()
			return nil, nil, err
		}
		c.running.Store(p)
		return p.Remote(), p.Kill, nil
	}, idle)
	t.Cleanup(func() { c.Close() })
	return c
}

func TestProcessConformance(t *testing.T) {
	replicatest.Remote(t, func(t *testing.T) replica.Remote { return newConfined(t, remotetest.NewWebDAV(t).Spec(), time.Minute) })
}

// TestProcessSFTP: the process may read the key files that its spec names.
func TestProcessSFTP(t *testing.T) {
	s := remotetest.NewSFTP(t)
	c := newConfined(t, s.Spec("locker"), time.Minute)
	result, err := remote.Check(t.Context(), c)
	if err != nil || len(result.Warnings) > 0 {
		t.Errorf("check: %+v, %v", result, err)
	}
}

// TestProcessFaults: what is wrong, and that it may pass, come through the pipe.
func TestProcessFaults(t *testing.T) {
	d := remotetest.NewWebDAV(t)
	c := newConfined(t, d.Spec(), time.Minute)
	x := d.Trouble(&remotetest.Trouble{Method: "PUT", Times: 1, Do: remotetest.Answer(503)})
	if err := c.Put(t.Context(), anyName, strings.NewReader("x"), 1); err != nil {
		t.Fatal(err)
	}
	if x.Seen() != 2 {
		t.Errorf("%d requests, want 2", x.Seen())
	}
	d.Trouble(&remotetest.Trouble{Method: "PUT", Times: 1000, Do: remotetest.Answer(507)})
	wantFault(t, c.Put(t.Context(), anyName, strings.NewReader("y"), 1), fault.Full, "make room")
	if n := c.starts.Load(); n != 1 {
		t.Errorf("the process was started %d times", n)
	}
	wrong := newConfined(t, d.SpecAs("bob"), time.Minute)
	wantFault(t, wrong.Delete(t.Context(), anyName), fault.Denied, "password")
}

// TestProcessEndsWhenIdle, and is started again when it is needed.
func TestProcessEndsWhenIdle(t *testing.T) {
	d := remotetest.NewWebDAV(t)
	c := newConfined(t, d.Spec(), 200*time.Millisecond)
	if err := c.Put(t.Context(), anyName, strings.NewReader("x"), 1); err != nil {
		t.Fatal(err)
	}
	select {
	case <-c.running.Load().Done():
	case <-time.After(10 * time.Second):
		t.Fatal("the process still runs")
	}
	if err := c.Delete(t.Context(), anyName); err != nil {
		t.Fatal(err)
	}
	if n := c.starts.Load(); n != 2 {
		t.Errorf("the process was started %d times", n)
	}
}

// TestProcessKilled: another process takes over in the middle of a download.
func TestProcessKilled(t *testing.T) {
	d := remotetest.NewWebDAV(t)
	c := newConfined(t, d.Spec(), time.Minute)
	object := bytes.Repeat([]byte("0123456789abcdef"), 1<<18) // 4 MiB
	if err := c.Put(t.Context(), anyName, bytes.NewReader(object), int64(len(object))); err != nil {
		t.Fatal(err)
	}
	body, err := c.Get(t.Context(), anyName, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	got := make([]byte, 1000)
	if _, err := io.ReadFull(body, got); err != nil {
		t.Fatal(err)
	}
	c.running.Load().Kill()
	rest, err := io.ReadAll(body)
	if got = append(got, rest...); err != nil || !bytes.Equal(got, object) {
		t.Errorf("got %d bytes of %d, %v", len(got), len(object), err)
	}
	if n := c.starts.Load(); n != 2 {
		t.Errorf("the process was started %d times", n)
	}
}

// TestProcessMissing: a program that cannot be started is told at once.
func TestProcessMissing(t *testing.T) {
	r := remote.Plugin(func(ctx context.Context) (remote.Client[plugins.RemoteObject], func(), error) {
		_, err := host.Start(ctx, host.Spec{Name: "rclone", Path: filepath.Join(t.TempDir(), "none"), Own: true, Network: true})
		return nil, nil, err
	}, time.Minute)
	began := time.Now()
	if err := r.Delete(t.Context(), anyName); err == nil || errors.Is(err, replica.ErrNotFound) {
		t.Errorf("got %v", err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("that took %s", took)
	}
}

// BenchmarkProcessStart is from nothing to a process that answers.
func BenchmarkProcessStart(b *testing.B) {
	if _, err := program(); err != nil { // it is built before the clock runs
		b.Fatal(err)
	}
	for b.Loop() {
		p, err := start(b.Context(), b, nil)
		if err != nil {
			b.Fatal(err)
		}
		p.Kill()
	}
}

// wantFault checks the kind of an error, and that its text has some words in it.
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
}
