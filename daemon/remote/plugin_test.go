package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/locker-project/locker/daemon/remote/fault"
	"github.com/locker-project/locker/daemon/replica"
	"github.com/locker-project/locker/daemon/replica/replicatest"
	"github.com/locker-project/locker/plugins/locker"
)

// quick is a pace for tests.
var quick = pace{tries: 4, offline: 2, first: 10 * time.Millisecond, most: 20 * time.Millisecond, total: 5 * time.Second, start: 2 * time.Second, stall: 300 * time.Millisecond}

// A fakeProcess serves a folder, and fails when fail says so.
type fakeProcess struct {
	folder *FolderRemote
	fail   func(op string) error
	stop   chan struct{} // closed when the process ended
	once   sync.Once

	changes func(ctx context.Context, changed func(string)) error
}

func (f *fakeProcess) Changes(ctx context.Context, changed func(string)) error {
	if f.changes == nil {
		return errors.ErrUnsupported
	}
	return f.changes(ctx, changed)
}

type line struct {
	Name    string
	Size    int64
	ModTime time.Time
}

func (f *fakeProcess) ask(op string) error {
	select {
	case <-f.stop:
		return errors.New("the pipe broke")
	default:
	}
	if f.fail != nil {
		return f.fail(op)
	}
	return nil
}

func (f *fakeProcess) Put(ctx context.Context, name string, r io.Reader, size int64) error {
	object, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if err := f.ask("put"); err != nil {
		return err
	}
	return f.folder.Put(ctx, name, bytes.NewReader(object), size)
}

func (f *fakeProcess) Get(ctx context.Context, name string, off, n int64) (io.ReadCloser, error) {
	if err := f.ask("get"); err != nil {
		return nil, err
	}
	body, err := f.folder.Get(ctx, name, off, n)
	if errors.Is(err, replica.ErrNotFound) {
		return io.NopCloser(failingReader{fmt.Errorf("over there: %w", locker.ErrNotFound)}), nil // known when read, as through a pipe
	}
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{&askingReader{f, body}, body}, nil
}

type failingReader struct{ err error }

func (f failingReader) Read([]byte) (int, error) { return 0, f.err }

// An askingReader may fail at each piece.
type askingReader struct {
	f *fakeProcess
	r io.Reader
}

func (a *askingReader) Read(p []byte) (int, error) {
	if err := a.f.ask("read"); err != nil {
		return 0, err
	}
	return a.r.Read(p[:min(len(p), 10_000)])
}

func (f *fakeProcess) List(ctx context.Context, prefix string) iter.Seq2[line, error] {
	return func(yield func(line, error) bool) {
		if err := f.ask("list"); err != nil {
			yield(line{}, err)
			return
		}
		for info, err := range f.folder.List(ctx, prefix) {
			if !yield(line(info), err) {
				return
			}
		}
	}
}

func (f *fakeProcess) Delete(ctx context.Context, names ...string) error {
	if err := f.ask("delete"); err != nil {
		return err
	}
	return f.folder.Delete(ctx, names...)
}

// A fakeRemote counts what happens to its processes.
type fakeRemote struct {
	*PluginRemote
	starts, ends atomic.Int64
	fail         atomic.Pointer[func(op string) error]
	open         func(ctx context.Context) error
	changes      func(ctx context.Context, changed func(string)) error // nil: it does not tell
}

func newFake(t *testing.T, idle time.Duration) *fakeRemote {
	r := &fakeRemote{}
	folder := newFolder(t)
	r.PluginRemote = Plugin(func(ctx context.Context) (Client[line], func(), error) {
		r.starts.Add(1)
		if r.open != nil {
			if err := r.open(ctx); err != nil {
				return nil, nil, err
			}
		}
		p := &fakeProcess{folder: folder, stop: make(chan struct{}), fail: func(op string) error {
			if fail := r.fail.Load(); fail != nil {
				return (*fail)(op)
			}
			return nil
		}, changes: r.changes}
		return p, func() { p.once.Do(func() { close(p.stop); r.ends.Add(1) }) }, nil
	}, idle)
	r.slow = quick
	t.Cleanup(func() { r.Close() })
	return r
}

// failing makes the first so many calls of an operation fail.
func (r *fakeRemote) failing(op string, times int64, err error) *atomic.Int64 {
	var n atomic.Int64
	fail := func(o string) error {
		if o == op && n.Add(1) <= times {
			return err
		}
		return nil
	}
	r.fail.Store(&fail)
	return &n
}

// A crossed error came through a pipe: text, and whether it may pass.
type crossed struct {
	text      string
	temporary bool
}

func (c crossed) Error() string   { return c.text }
func (c crossed) Temporary() bool { return c.temporary }

var (
	errBusy = crossed{"busy: come back; wait", true}
	errDead = errors.New("the pipe broke: EOF")
)

func TestPluginConformance(t *testing.T) {
	replicatest.Remote(t, func(t *testing.T) replica.Remote { return newFake(t, time.Minute) })
}

func TestPluginRetries(t *testing.T) {
	for _, test := range []struct {
		name   string
		op     string
		times  int64
		err    error
		calls  int64
		starts int64
		kind   fault.Kind // empty: it succeeds
	}{
		{"passes", "put", 3, errBusy, 4, 1, ""},
		{"lasts", "put", 99, errBusy, 4, 1, fault.Busy},
		{"offline", "put", 99, crossed{"offline: no network; look", true}, 2, 1, fault.Offline},
		{"for good", "put", 99, crossed{"full: no room; make some", false}, 1, 1, fault.Full},
		{"denied", "delete", 99, crossed{"denied: no; ask", false}, 1, 1, fault.Denied},
		{"process ends", "put", 1, errDead, 2, 2, ""},
		{"process ends always", "put", 99, errDead, 4, 4, fault.Broken},
		{"asks for a pause", "put", 1, crossed{"busy for 1s: come back; wait", true}, 2, 1, ""},
		{"asks for too long a pause", "put", 1, crossed{"busy for 10m0s: come back; wait", true}, 1, 1, fault.Busy},
		{"a list", "list", 2, errBusy, 3, 1, ""},
		{"opening", "get", 2, errBusy, 3, 1, ""},
		{"reading", "read", 3, errBusy, 5, 1, ""},
		{"reading, process ends", "read", 1, errDead, 3, 2, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := newFake(t, time.Minute)
			n := r.failing(test.op, test.times, test.err)
			err := useAll(t.Context(), r)
			if test.kind == "" && err != nil {
				t.Fatal(err)
			}
			if test.kind != "" {
				wantFault(t, err, test.kind)
			}
			if n.Load() < test.calls || test.kind != "" && n.Load() != test.calls {
				t.Errorf("%d calls, want %d", n.Load(), test.calls)
			}
			if r.starts.Load() != test.starts {
				t.Errorf("%d processes, want %d", r.starts.Load(), test.starts)
			}
		})
	}
}

// useAll does everything once with an object of 15,000 bytes.
func useAll(ctx context.Context, r replica.Remote) error {
	object := bytes.Repeat([]byte("0123456789"), 1500)
	if err := r.Put(ctx, testName, bytes.NewReader(object), int64(len(object))); err != nil {
		return err
	}
	body, err := r.Get(ctx, testName, 0, -1)
	if err != nil {
		return err
	}
	got, err := io.ReadAll(body)
	if err := errors.Join(err, body.Close()); err != nil {
		return err
	}
	if !bytes.Equal(got, object) {
		return fmt.Errorf("read %d bytes that are not those put", len(got))
	}
	n := 0
	for _, err := range r.List(ctx, "d/") {
		if err != nil {
			return err
		}
		n++
	}
	if n != 1 {
		return fmt.Errorf("%d objects are listed", n)
	}
	return r.Delete(ctx, testName)
}

// TestPluginStall: a try in which nothing moves is given up, with its process.
func TestPluginStall(t *testing.T) {
	r := newFake(t, time.Minute)
	var n atomic.Int64
	release := make(chan struct{})
	fail := func(op string) error {
		if op == "put" && n.Add(1) == 1 {
			<-release
			return context.Canceled
		}
		return nil
	}
	r.fail.Store(&fail)
	time.AfterFunc(2*quick.stall, func() { close(release) }) // as its client does when the context ends
	if err := useAll(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if n.Load() != 2 || r.starts.Load() != 2 {
		t.Errorf("%d calls, %d processes; want 2 of each", n.Load(), r.starts.Load())
	}
}

func TestPluginIdle(t *testing.T) {
	r := newFake(t, 50*time.Millisecond)
	for i := range int64(3) {
		if err := useAll(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		if r.starts.Load() != i+1 {
			t.Fatalf("%d processes after %d uses", r.starts.Load(), i+1)
		}
		for wait := 0; r.ends.Load() != i+1; wait++ {
			if wait == 500 {
				t.Fatal("the process was not ended")
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
}

// TestPluginBusyIsNotIdle: an object that is being read keeps the process.
func TestPluginBusyIsNotIdle(t *testing.T) {
	r := newFake(t, 20*time.Millisecond)
	object := make([]byte, 50_000)
	if err := r.Put(t.Context(), testName, bytes.NewReader(object), int64(len(object))); err != nil {
		t.Fatal(err)
	}
	body, err := r.Get(t.Context(), testName, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	starts := r.starts.Load()
	time.Sleep(200 * time.Millisecond)
	if got, err := io.ReadAll(body); err != nil || len(got) != len(object) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if r.ends.Load() != starts-1 {
		t.Error("the process was ended while it was used")
	}
	if err := body.Close(); err != nil {
		t.Error(err)
	}
}

// TestPluginOpen: what open says is told; it is called again by the next call.
func TestPluginOpen(t *testing.T) {
	for _, test := range []struct {
		err   error
		tries int64
		kind  fault.Kind
	}{
		{crossed{"denied: wrong password; check it", false}, 1, fault.Denied},
		{crossed{"offline: no network; look", true}, 2, fault.Offline},
		{errors.New("the program is not the one that was installed"), 1, ""},
	} {
		r := newFake(t, time.Minute)
		r.open = func(context.Context) error { return test.err }
		err := r.Delete(t.Context(), testName)
		if test.kind != "" {
			wantFault(t, err, test.kind)
		} else if !errors.Is(err, test.err) {
			t.Errorf("got %v, want %v", err, test.err)
		}
		if r.starts.Load() != test.tries {
			t.Errorf("%v: %d tries, want %d", test.err, r.starts.Load(), test.tries)
		}
		r.open = nil
		if err := useAll(t.Context(), r); err != nil {
			t.Errorf("afterwards: %v", err)
		}
	}
}

// TestPluginContext: a call ends with its context though the process does not answer.
func TestPluginContext(t *testing.T) {
	r := newFake(t, time.Minute)
	r.open = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	began := time.Now()
	if err := r.Delete(ctx, testName); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("that took %s", took)
	}
}

func TestPluginClose(t *testing.T) {
	r := newFake(t, time.Minute)
	if err := useAll(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if r.ends.Load() != 1 {
		t.Errorf("%d processes were ended", r.ends.Load())
	}
	if err := r.Delete(t.Context(), testName); err == nil {
		t.Error("a closed remote was used")
	}
}

// TestPause: the pauses lie anywhere below a time that doubles up to a bound.
func TestPause(t *testing.T) {
	for tries, most := range map[int]time.Duration{1: time.Second, 2: 2 * time.Second, 5: 16 * time.Second, 6: 30 * time.Second, 99: 30 * time.Second} {
		low, high := most, time.Duration(0)
		for range 200 {
			d := usual.pause(tries)
			if d < 0 || d > most {
				t.Fatalf("after %d tries: %s, want at most %s", tries, d, most)
			}
			low, high = min(low, d), max(high, d)
		}
		if low > most/4 || high < most*3/4 {
			t.Errorf("after %d tries: %s to %s of %s", tries, low, high, most)
		}
	}
}

func TestFaultText(t *testing.T) {
	for _, f := range []*fault.Fault{
		{Kind: fault.Offline, What: "the server is away", Do: "check the network", Again: true},
		{Kind: fault.Busy, What: "later: please", Pause: 7 * time.Second, Again: true},
		{Kind: fault.Denied, What: "no"},
	} {
		got, ok := fault.Parse(crossed{f.Error(), f.Temporary()})
		if !ok || got.Kind != f.Kind || got.Pause != f.Pause || got.Again != f.Again || !strings.HasPrefix(got.What, f.What) || got.Error() != f.Error() {
			t.Errorf("%v was read back as %+v", f, got)
		}
	}
	for _, text := range []string{"", "offline", "nonsense: x", "busy for ever: x", "busy for -1s: x", ": x"} {
		if f, ok := fault.Parse(errors.New(text)); ok {
			t.Errorf("%q was read as %+v", text, f)
		}
	}
	if f, ok := fault.Parse(errors.New("busy for 99999h0m0s: x")); !ok || f.Pause > time.Hour {
		t.Errorf("a long pause was read as %+v", f)
	}
}
