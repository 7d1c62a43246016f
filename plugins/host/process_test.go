package host

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/locker-project/locker/plugins"
	"github.com/locker-project/locker/plugins/locker"
)

// start starts the test plugin; args are its role and more.
func start(t testing.TB, args ...string) *Process {
	t.Helper()
	return startWith(t, Spec{}, args...)
}

func startWith(t testing.TB, spec Spec, args ...string) *Process {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	spec.Name, spec.Path, spec.Args = args[0], pluginPath, args
	spec.Own, spec.SHA256 = true, hashOf(t, pluginPath)
	p, err := Start(ctx, spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return p
}

func hashOf(t testing.TB, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// run runs the app once.
func run(t *testing.T, p *Process, v locker.View, args ...string) (*textOut, error) {
	t.Helper()
	out := &textOut{}
	err := p.App(t.Context(), plugins.AppEnv{View: v, Out: out, Args: args})
	return out, err
}

func TestApp(t *testing.T) {
	p := start(t, "app")
	v := &memory{}
	if err := v.Put(t.Context(), locker.Record{Collection: "in", ID: "1", Fields: []byte(`{"a":1,"b":2}`)}); err != nil {
		t.Fatal(err)
	}
	if _, err := run(t, p, v, "copy"); err != nil {
		t.Fatal(err)
	}
	if r, err := v.Get(t.Context(), "out", "1"); err != nil || string(r.Fields) != `{"a":1}` {
		t.Errorf("the app wrote %s, %v", r.Fields, err)
	}
	if out, err := run(t, p, v, "get", "in", "1"); err != nil || out.text != `{"a":1,"b":2}` {
		t.Errorf("get: %q, %v", out.text, err)
	}
	if out, err := run(t, p, v, "text"); err != nil || out.text != "one\ttwo\nthree�[2J�drawkcab" {
		t.Errorf("text: %q, %v", out.text, err)
	}
	out, err := run(t, p, v, "table")
	if err != nil || len(out.tables) != 1 {
		t.Fatalf("table: %v, %v", out.tables, err)
	}
	if got, want := fmt.Sprint(out.tables[0]), "{T�[31m [a b] [[1 2 3] [4]]}"; got != want {
		t.Errorf("table %q, want %q", got, want)
	}
	if err := p.Connector().Parse(t.Context(), &memoryFile{}, &found{}); err == nil || !strings.Contains(err.Error(), `serves "app"`) {
		t.Errorf("an app as connector: %v", err)
	}
}

// TestErrors checks that errors keep what they are, in both directions.
func TestErrors(t *testing.T) {
	p := start(t, "app")
	for _, want := range []error{locker.ErrNotFound, locker.ErrRevoked, locker.ErrInvalid, context.DeadlineExceeded} {
		_, err := run(t, p, broken{err: fmt.Errorf("around: %w", want)}, "get", "in", "1")
		if !errors.Is(err, want) || err.Error() != "getting: around: "+want.Error() {
			t.Errorf("%v came back as %v", want, err)
		}
	}
	denied := &locker.Denied{Collection: "in", Field: "a", Verb: "read"}
	_, err := run(t, p, broken{err: denied}, "get", "in", "1")
	var got *locker.Denied
	if !errors.As(err, &got) || *got != *denied {
		t.Errorf("%v came back as %v", denied, err)
	}
	_, err = run(t, p, broken{err: denied}, "count")
	if !errors.As(err, &got) {
		t.Errorf("from a stream, %v came back as %v", denied, err)
	}
	_, err = run(t, p, nil, "error")
	var file *plugins.FileError
	if !errors.As(err, &file) || file.At != "line 3" || file.Why != "no� good" {
		t.Errorf("a file error came back as %v", err)
	}
	if _, err := run(t, p, nil, "get", "in", "1"); !errors.Is(err, locker.ErrInvalid) {
		t.Errorf("without a view: %v", err)
	}
}

// broken is a view that only fails.
type broken struct {
	locker.View
	err error
}

func (b broken) Get(context.Context, string, string) (locker.Record, error) {
	return locker.Record{}, b.err
}

func (b broken) Query(context.Context, locker.Query) iter.Seq2[locker.Record, error] {
	return func(yield func(locker.Record, error) bool) { yield(locker.Record{}, b.err) }
}

// TestCut checks that nothing goes to an app after its context has ended.
func TestCut(t *testing.T) {
	for _, what := range []string{"wait", "hang", "spin", "count"} {
		t.Run(what, func(t *testing.T) {
			p := start(t, "app")
			ctx, cancel := context.WithCancelCause(t.Context())
			time.AfterFunc(200*time.Millisecond, func() { cancel(locker.ErrRevoked) })
			v := &watched{View: manyRows{n: 1 << 40, fields: row200()}}
			err := p.App(ctx, plugins.AppEnv{View: v, Args: []string{what}, Out: &textOut{}})
			if !errors.Is(err, locker.ErrRevoked) {
				t.Errorf("the app ended with %v", err)
			}
			if v.reading() {
				t.Error("the view is still being read")
			}
			select {
			case <-p.Done():
			case <-time.After(5 * time.Second):
				t.Error("the process goes on")
			}
			if _, err := run(t, p, nil, "print"); err == nil {
				t.Error("a dead process ran an app")
			}
		})
	}
}

// watched knows whether somebody reads from it.
type watched struct {
	locker.View
	mu sync.Mutex
	n  int
}

func (w *watched) reading() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.n != 0
}

func (w *watched) Query(ctx context.Context, q locker.Query) iter.Seq2[locker.Record, error] {
	return func(yield func(locker.Record, error) bool) {
		add := func(n int) { w.mu.Lock(); w.n += n; w.mu.Unlock() }
		add(1)
		defer add(-1)
		w.View.Query(ctx, q)(yield)
	}
}

func TestEnds(t *testing.T) {
	t.Run("panic", func(t *testing.T) {
		if _, err := run(t, start(t, "app"), nil, "panic"); err == nil || !strings.Contains(err.Error(), "panic: for the test") {
			t.Errorf("a panic: %v", err)
		}
	})
	t.Run("exit", func(t *testing.T) {
		if _, err := run(t, start(t, "app"), nil, "exit"); err == nil || !strings.Contains(err.Error(), "exit status 3") {
			t.Errorf("an exit: %v", err)
		}
	})
	t.Run("kill", func(t *testing.T) {
		p := start(t, "app")
		time.AfterFunc(100*time.Millisecond, p.Kill)
		if _, err := run(t, p, nil, "hang"); err == nil {
			t.Error("a killed app returned")
		}
		p.Kill()
	})
	t.Run("deadline", func(t *testing.T) {
		p := startWith(t, Spec{Limits: Limits{Wall: 300 * time.Millisecond}}, "app")
		if _, err := run(t, p, nil, "hang"); err == nil {
			t.Error("an app outlived its deadline")
		}
	})
}

func TestWords(t *testing.T) {
	var mu sync.Mutex
	var said []string
	spec := Spec{Stderr: func(line string) { mu.Lock(); said = append(said, line); mu.Unlock() }}
	p := startWith(t, spec, "app")
	if _, err := run(t, p, nil, "print"); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		mu.Lock()
		done := slices.Contains(said, "printed") && slices.Contains(said, "complained")
		mu.Unlock()
		if done {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Errorf("heard %q", said)
}

func TestRefusals(t *testing.T) {
	for _, tt := range []struct {
		name string
		spec Spec
		is   error
		says string
	}{
		{"no file", Spec{Path: "/nowhere", Name: "x"}, os.ErrNotExist, "plugin x"},
		{"a folder", Spec{Path: os.TempDir()}, nil, "not a program"},
		{"another file", Spec{Path: pluginPath, SHA256: strings.Repeat("0", 64)}, ErrHash, hashOf(t, pluginPath)},
		{"not a program", Spec{Path: "host_test.go", Own: true, SHA256: hashOf(t, "host_test.go")}, nil, "perm"},
		{"started by hand", Spec{Path: pluginPath, Own: true, SHA256: hashOf(t, pluginPath)}, nil, "exit status 2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := Start(t.Context(), tt.spec)
			if err == nil {
				p.Kill()
				t.Fatal("it started")
			}
			if tt.is != nil && !errors.Is(err, tt.is) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("the error is %v", err)
			}
		})
	}
}

// memoryFile is a file of an import.
type memoryFile struct {
	name string
	*bytes.Reader
}

func file(text string) *memoryFile {
	return &memoryFile{"dir/export.txt", bytes.NewReader([]byte(text))}
}
func (f *memoryFile) Name() string { return f.name }
func (f *memoryFile) Size() int64  { return int64(f.Len()) }

// found keeps what a connector found.
type found struct {
	records []locker.Record
	failed  []string
	notes   []string
	blobs   []string
	err     error
}

func (f *found) Put(_ context.Context, records ...locker.Record) error {
	f.records = append(f.records, records...)
	return f.err
}

func (f *found) Blob(_ context.Context, r io.Reader) (string, error) {
	data, err := io.ReadAll(r)
	f.blobs = append(f.blobs, string(data))
	return fmt.Sprint("b", len(f.blobs)), err
}

func (f *found) Fail(at, why string) { f.failed = append(f.failed, at+": "+why) }

func (f *found) Note(what string) { f.notes = append(f.notes, what) }

func TestConnector(t *testing.T) {
	c := start(t, "connector").Connector()
	if n, err := c.Recognise(t.Context(), file("lines\n")); n != 90 || err != nil {
		t.Errorf("recognised its own at %d, %v", n, err)
	}
	if n, err := c.Recognise(t.Context(), file("")); n != 0 || err != nil {
		t.Errorf("recognised nothing at %d, %v", n, err)
	}
	out := &found{}
	if err := c.Parse(t.Context(), file("lines\n1 one\n%half\x1b\n!bad\x1b\n2 two\n@xyz\n%more\n"), out); err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, r := range out.records {
		ids = append(ids, r.ID)
	}
	if got := fmt.Sprint(ids, out.failed, out.notes, len(out.blobs[0])); got != "[1 2 blob] [line 4: bad�] [half� more] 300000" {
		t.Errorf("found %s", got)
	}
	if got := string(out.records[2].Fields); got != `{"file":"dir/export.txt","text":"b1"}` {
		t.Errorf("the blob's record is %s", got)
	}
	err := c.Parse(t.Context(), file("lines\n1 one\n#broken\n"), &found{})
	var where *plugins.FileError
	if !errors.As(err, &where) || *where != (plugins.FileError{At: "line 3", Why: "broken"}) {
		t.Errorf("a broken file: %v", err)
	}
	refused := &found{err: locker.ErrRevoked}
	if err := c.Parse(t.Context(), file("lines\n1 one\n"), refused); !errors.Is(err, locker.ErrRevoked) {
		t.Errorf("a sink that refuses: %v", err)
	}
	long := "lines\n" + strings.Repeat("1 "+strings.Repeat("long ", 100_000)+"\n", 20) // records of 500 KB, 10 MB in all
	out = &found{}
	if err := c.Parse(t.Context(), file(long), out); err != nil || len(out.records) != 20 {
		t.Errorf("a long file: %d records, %v", len(out.records), err)
	}
}

// TestRemoteKeeps: settings that change are handed back while the remote opens and
// later, one that is refused is known to be, and changes are told.
func TestRemoteKeeps(t *testing.T) {
	r := startWith(t, Spec{Network: true}, "remote").Remote()
	kept := make(chan string, 10)
	keep := func(_ context.Context, key, value string) error {
		if key != "token" {
			return errors.New("not that one")
		}
		kept <- value
		return nil
	}
	if err := r.Open(t.Context(), plugins.RemoteConfig{Options: map[string]string{"secret": "open sesame"}, Keep: keep}); err != nil {
		t.Fatal(err)
	}
	if len(kept) != 1 {
		t.Fatalf("%d settings were kept when the remote was open, want 1", len(kept))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	name := ""
	err := r.(plugins.RemoteNotifier).Changes(ctx, func(n string) { name = n; cancel() })
	if name != "k/new" || !errors.Is(err, context.Canceled) {
		t.Errorf("told of %q, %v", name, err)
	}
	if first, second := <-kept, <-kept; first != "at the start" || second != "later" {
		t.Errorf("kept %q, then %q", first, second)
	}
}

func TestRemote(t *testing.T) {
	r := startWith(t, Spec{Network: true}, "remote").Remote()
	ctx := t.Context()
	if err := r.Open(ctx, plugins.RemoteConfig{Options: map[string]string{"secret": "x"}}); !errors.Is(err, locker.ErrInvalid) {
		t.Errorf("open with a wrong secret: %v", err)
	}
	if err := r.Open(ctx, plugins.RemoteConfig{Options: map[string]string{"secret": "open sesame"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.(plugins.RemoteDescriber).Describe(ctx); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("a remote that does not describe itself: %v", err)
	}
	body := bytes.Repeat([]byte("0123456789"), 100_000)
	for _, name := range []string{"d/a", "d/b", "k/c", "empty", "long"} {
		data := body
		if name == "empty" {
			data = nil
		}
		if err := r.Put(ctx, name, bytes.NewReader(data), int64(len(data))); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Put(ctx, "cut", bytes.NewReader(body), int64(len(body))+1); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a body that is too short: %v", err)
	}
	get := func(name string, off, n int64) (string, error) {
		rc, err := r.Get(ctx, name, off, n)
		if err != nil {
			return "", err
		}
		defer rc.Close()
		data, err := io.ReadAll(rc)
		return string(data), err
	}
	if got, err := get("d/a", 0, -1); err != nil || got != string(body) {
		t.Errorf("the whole: %d bytes, %v", len(got), err)
	}
	if got, err := get("d/a", 13, 4); err != nil || got != "3456" {
		t.Errorf("a part: %q, %v", got, err)
	}
	if got, err := get("empty", 0, -1); err != nil || got != "" {
		t.Errorf("the empty one: %q, %v", got, err)
	}
	if _, err := get("none", 0, -1); !errors.Is(err, locker.ErrNotFound) {
		t.Errorf("what is not there: %v", err)
	}
	if _, err := get("long", 0, 10); err == nil {
		t.Error("more than was asked for was passed on")
	}
	var names []string
	for o, err := range r.List(ctx, "d/") {
		if err != nil {
			t.Fatal(err)
		}
		if o.Size != int64(len(body)) || !o.ModTime.Equal(time.Unix(1e9, 5)) {
			t.Errorf("listed %+v", o)
		}
		names = append(names, o.Name)
	}
	if !slices.Equal(names, []string{"d/a", "d/b"}) {
		t.Errorf("listed %q", names)
	}
	if err := r.Delete(ctx, "d/a", "d/b"); err != nil {
		t.Fatal(err)
	}
	for o := range r.List(ctx, "d/") {
		t.Errorf("%s is still there", o.Name)
	}
}
