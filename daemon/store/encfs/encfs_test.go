package encfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

var testKey = [32]byte{7}

const category = vfs.WriteCategoryUnspecified

// systems are the file systems that must behave alike: the plain ones of Pebble and
// ours over them.
func systems(t *testing.T) map[string]struct {
	fs   vfs.FS
	base vfs.FS
	dir  string
} {
	type system = struct {
		fs   vfs.FS
		base vfs.FS
		dir  string
	}
	mem := vfs.NewMem()
	return map[string]system{
		"mem":       {vfs.NewMem(), nil, "/"},
		"disk":      {vfs.Default, nil, t.TempDir()},
		"enc(mem)":  {New(mem, testKey), mem, "/"},
		"enc(disk)": {New(vfs.Default, testKey), vfs.Default, t.TempDir()},
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t testing.TB, f vfs.FS, name, content string) {
	t.Helper()
	w, err := f.Create(name, category)
	must(t, err)
	_, err = w.Write([]byte(content))
	must(t, err)
	must(t, w.Sync())
	must(t, w.Close())
}

func read(t testing.TB, f vfs.FS, name string) string {
	t.Helper()
	r, err := f.Open(name)
	must(t, err)
	b, err := io.ReadAll(r)
	must(t, err)
	info, err := r.Stat()
	must(t, err)
	if info.Size() != int64(len(b)) {
		t.Fatalf("%s: %d bytes read of %d", name, len(b), info.Size())
	}
	must(t, r.Close())
	if info, err = f.Stat(name); err != nil || info.Size() != int64(len(b)) {
		t.Fatalf("%s: %d bytes read, stat says %v, %v", name, len(b), info, err)
	}
	return string(b)
}

// The behaviours that Pebble's own tests of vfs ask for.
func TestConformance(t *testing.T) {
	for name, s := range systems(t) {
		path := func(n string) string { return s.fs.PathJoin(s.dir, n) }
		for _, tt := range []struct {
			name string
			run  func(t *testing.T)
		}{
			{"create and read", func(t *testing.T) {
				write(t, s.fs, path("a"), "hello")
				if got := read(t, s.fs, path("a")); got != "hello" {
					t.Fatalf("read %q", got)
				}
				write(t, s.fs, path("empty"), "")
				if got := read(t, s.fs, path("empty")); got != "" {
					t.Fatalf("read %q", got)
				}
			}},
			{"create makes a new file where a link is", func(t *testing.T) {
				write(t, s.fs, path("foo"), "foo")
				must(t, s.fs.Link(path("foo"), path("bar")))
				if read(t, s.fs, path("bar")) != "foo" {
					t.Fatal("a link has another content")
				}
				write(t, s.fs, path("bar"), "bar")
				if read(t, s.fs, path("foo")) != "foo" || read(t, s.fs, path("bar")) != "bar" {
					t.Fatal("writing to a link's name changed the other")
				}
			}},
			{"link to what exists", func(t *testing.T) {
				write(t, s.fs, path("x"), "x")
				if err := s.fs.Link(path("foo"), path("x")); !errors.Is(err, fs.ErrExist) {
					t.Fatalf("%v, want ErrExist", err)
				}
				if err := s.fs.Link(path("none"), path("y")); !errors.Is(err, fs.ErrNotExist) {
					t.Fatalf("%v, want ErrNotExist", err)
				}
			}},
			{"rename replaces", func(t *testing.T) {
				write(t, s.fs, path("old"), "old")
				write(t, s.fs, path("new"), "new")
				must(t, s.fs.Rename(path("old"), path("new")))
				if read(t, s.fs, path("new")) != "old" {
					t.Fatal("rename kept what was there")
				}
				if _, err := s.fs.Open(path("old")); !errors.Is(err, fs.ErrNotExist) {
					t.Fatalf("%v, want ErrNotExist", err)
				}
			}},
			{"link or copy, and clone", func(t *testing.T) {
				must(t, vfs.LinkOrCopy(s.fs, path("foo"), path("copy")))
				must(t, s.fs.MkdirAll(path("from"), 0o755))
				write(t, s.fs, path("from/deep"), "deep")
				ok, err := vfs.Clone(s.fs, s.fs, path("from"), path("to"), vfs.CloneSync)
				if must(t, err); !ok || read(t, s.fs, path("to/deep")) != "deep" || read(t, s.fs, path("copy")) != "foo" {
					t.Fatal("not cloned")
				}
			}},
			{"reuse", func(t *testing.T) {
				write(t, s.fs, path("log1"), "a long content of the first log")
				w, err := s.fs.ReuseForWrite(path("log1"), path("log2"), category)
				must(t, err)
				_, err = w.Write([]byte("second"))
				must(t, err)
				must(t, w.Close())
				if _, err := s.fs.Stat(path("log1")); !errors.Is(err, fs.ErrNotExist) {
					t.Fatalf("the old name: %v", err)
				}
				if got := read(t, s.fs, path("log2")); got[:6] != "second" {
					t.Fatalf("read %q", got)
				}
				if _, err := s.fs.ReuseForWrite(path("none"), path("log3"), category); !errors.Is(err, fs.ErrNotExist) {
					t.Fatalf("reuse of nothing: %v", err)
				}
			}},
			{"list and remove", func(t *testing.T) {
				must(t, s.fs.MkdirAll(path("d/e"), 0o755))
				must(t, s.fs.MkdirAll(path("d/e"), 0o755))
				write(t, s.fs, path("d/f"), "f")
				names, err := s.fs.List(path("d"))
				must(t, err)
				if slices.Sort(names); !slices.Equal(names, []string{"e", "f"}) {
					t.Fatalf("list: %q", names)
				}
				must(t, s.fs.Remove(path("d/f")))
				if err := s.fs.Remove(path("d/f")); !errors.Is(err, fs.ErrNotExist) {
					t.Fatalf("%v, want ErrNotExist", err)
				}
				must(t, s.fs.RemoveAll(path("d")))
				if _, err := s.fs.Stat(path("d")); !errors.Is(err, fs.ErrNotExist) {
					t.Fatalf("%v, want ErrNotExist", err)
				}
			}},
			{"directories", func(t *testing.T) {
				must(t, s.fs.MkdirAll(path("dir"), 0o755))
				d, err := s.fs.OpenDir(path("dir"))
				must(t, err)
				must(t, errors.Join(d.Sync(), d.Close()))
				d, err = s.fs.Open(path("dir"))
				must(t, err)
				info, err := d.Stat()
				if must(t, errors.Join(err, d.Close())); !info.IsDir() {
					t.Fatal("not a directory")
				}
			}},
			{"sync, preallocate and prefetch", func(t *testing.T) {
				w, err := s.fs.Create(path("p"), category)
				must(t, err)
				_ = w.Preallocate(0, 1<<16) // may be unsupported; must not change the content
				_, err = w.Write([]byte("12345678"))
				must(t, err)
				_, err = w.SyncTo(4)
				must(t, errors.Join(err, w.SyncData(), w.Sync(), w.Close()))
				r, err := s.fs.Open(path("p"), vfs.RandomReadsOption, vfs.SequentialReadsOption)
				must(t, err)
				_ = r.Prefetch(0, 8) // Pebble's own gives "errno 0" on Linux; must not change what is read
				b := make([]byte, 4)
				if n, err := r.ReadAt(b, 3); n != 4 || string(b) != "4567" {
					t.Fatalf("ReadAt: %q, %v", b[:n], err)
				}
				if n, err := r.ReadAt(b, 6); n != 2 || err != io.EOF {
					t.Fatalf("ReadAt over the end: %d, %v", n, err)
				}
				if n, err := r.ReadAt(b, 100); n != 0 || err != io.EOF {
					t.Fatalf("ReadAt beyond the end: %d, %v", n, err)
				}
				must(t, r.Close())
			}},
			{"lock", func(t *testing.T) {
				l, err := s.fs.Lock(path("LOCK"))
				must(t, err)
				if _, err := s.fs.Lock(path("LOCK")); err == nil {
					t.Fatal("locked twice")
				}
				must(t, l.Close())
			}},
		} {
			t.Run(name+"/"+tt.name, tt.run)
		}
		if s.base != nil && s.fs.Unwrap() != s.base {
			t.Errorf("%s: Unwrap is not the base", name)
		}
	}
}

func seed(t testing.TB) uint64 {
	t.Helper()
	n := rand.Uint64()
	if text := os.Getenv("LOCKER_SEED"); text != "" {
		var err error
		n, err = strconv.ParseUint(text, 10, 64)
		must(t, err)
	}
	t.Logf("LOCKER_SEED=%d", n)
	return n
}

// Random operations have the outcome that they have on a plain file system.
func TestRandomOperations(t *testing.T) {
	r := rand.New(rand.NewPCG(seed(t), 1))
	for range 20 {
		base := vfs.NewMem()
		w := &walk{t: t, r: r, plain: vfs.NewMem(), enc: New(base, testKey)}
		for range 400 {
			w.step()
		}
		w.compare()
	}
}

type walk struct {
	t          *testing.T
	r          *rand.Rand
	plain, enc vfs.FS
}

func (w *walk) name() string { return fmt.Sprintf("/%c", 'a'+w.r.IntN(6)) }

func (w *walk) step() {
	a, b := w.name(), w.name()
	switch w.r.IntN(7) {
	case 0, 1, 2:
		w.write(a)
	case 3:
		w.same("rename", func(f vfs.FS) error { return f.Rename(a, b) })
	case 4:
		w.same("link", func(f vfs.FS) error { return f.Link(a, b) })
	case 5:
		w.same("remove", func(f vfs.FS) error { return f.Remove(a) })
	case 6:
		w.read(a)
	}
}

// same does something to both and compares what kind of error it gives.
func (w *walk) same(what string, do func(vfs.FS) error) {
	w.t.Helper()
	p, e := do(w.plain), do(w.enc)
	for _, kind := range []error{fs.ErrExist, fs.ErrNotExist} {
		if errors.Is(p, kind) != errors.Is(e, kind) || (p == nil) != (e == nil) {
			w.t.Fatalf("%s: %v, want %v", what, e, p)
		}
	}
}

func (w *walk) write(name string) {
	pieces := make([][]byte, w.r.IntN(6))
	for i := range pieces {
		pieces[i] = make([]byte, w.r.IntN(200))
		for j := range pieces[i] {
			pieces[i][j] = byte(w.r.Uint32())
		}
	}
	w.same("write", func(f vfs.FS) error {
		out, err := f.Create(name, category)
		if err != nil {
			return err
		}
		for _, p := range pieces {
			if _, err := out.Write(bytes.Clone(p)); err != nil {
				return err
			}
		}
		return errors.Join(out.Sync(), out.Close())
	})
}

func (w *walk) read(name string) {
	size, off := w.r.IntN(300), int64(w.r.IntN(600))
	var got [2][]byte
	var n [2]int
	i := 0
	w.same("read", func(f vfs.FS) error {
		defer func() { i++ }()
		in, err := f.Open(name)
		if err != nil {
			return err
		}
		got[i] = make([]byte, size)
		n[i], err = in.ReadAt(got[i], off)
		if err != nil && err != io.EOF {
			return err
		}
		return in.Close()
	})
	if n[0] != n[1] || !bytes.Equal(got[0][:n[0]], got[1][:n[1]]) {
		w.t.Fatalf("read of %d at %d: other bytes", size, off)
	}
}

func (w *walk) compare() {
	plain, err := w.plain.List("/")
	must(w.t, err)
	enc, err := w.enc.List("/")
	must(w.t, err)
	slices.Sort(plain)
	slices.Sort(enc)
	if !slices.Equal(plain, enc) {
		w.t.Fatalf("files %q, want %q", enc, plain)
	}
	for _, name := range plain {
		if read(w.t, w.enc, "/"+name) != read(w.t, w.plain, "/"+name) {
			w.t.Fatalf("%s has another content", name)
		}
	}
}

// No key stream is used twice: equal contents, and a log written over another,
// differ in every block.
func TestKeyStreams(t *testing.T) {
	base := vfs.NewMem()
	enc := New(base, testKey)
	content := string(bytes.Repeat([]byte("the same sixteen"), 64))
	write(t, enc, "/a", content)
	first := read(t, base, "/a")
	write(t, enc, "/b", content)
	w, err := enc.ReuseForWrite("/a", "/c", category)
	must(t, err)
	_, err = w.Write([]byte(content))
	must(t, errors.Join(err, w.Close()))
	seen := map[string]bool{}
	for _, raw := range []string{first, read(t, base, "/b"), read(t, base, "/c")} {
		if len(raw) != headerSize+len(content) {
			t.Fatalf("%d bytes", len(raw))
		}
		for i := headerSize; i < len(raw); i += 16 {
			if seen[raw[i:i+16]] {
				t.Fatal("a block of the key stream was used twice")
			}
			seen[raw[i:i+16]] = true
		}
	}
}

// What a crash leaves of a file reads as empty; what is of another key or damaged is
// an error.
func TestBrokenFiles(t *testing.T) {
	base := vfs.NewMem()
	enc := New(base, testKey)
	write(t, enc, "/good", "content")
	good := read(t, base, "/good")
	for _, tt := range []struct {
		name, raw string
		want      error
	}{
		{"nothing", "", nil},
		{"a byte", good[:1], nil},
		{"a header but for a byte", good[:headerSize-1], nil},
		{"zeros in place of the header", string(make([]byte, headerSize)) + "rest", nil},
		{"foreign", string(bytes.Repeat([]byte("x"), 100)), ErrKey},
		{"another magic", "X" + good[1:], ErrKey},
		{"another version", good[:7] + "\x02" + good[8:], ErrKey},
		{"another salt", good[:8] + string(good[8]^1) + good[9:], ErrKey},
		{"another check", good[:40] + string(good[40]^1) + good[41:], ErrKey},
	} {
		write(t, base, "/x", tt.raw)
		r, err := enc.Open("/x")
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
		if err != nil {
			continue
		}
		if b, err := io.ReadAll(r); err != nil || len(b) > 0 {
			t.Errorf("%s: read %d bytes, %v", tt.name, len(b), err)
		}
		must(t, r.Close())
	}
	if _, err := New(base, [32]byte{8}).Open("/good"); !errors.Is(err, ErrKey) {
		t.Errorf("another key: %v", err)
	}
	if _, err := enc.OpenReadWrite("/good", category); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("OpenReadWrite: %v", err)
	}
}

// A counter block near its end carries over into its upper half.
func TestCounterCarries(t *testing.T) {
	f := &encrypted{key: testKey}
	s, _, err := f.stream(make([]byte, saltSize))
	must(t, err)
	for i := 8; i < 16; i++ {
		s.iv[i] = 0xff
	}
	whole := make([]byte, 200)
	s.at(0).XORKeyStream(whole, whole)
	for off := range 150 {
		part := make([]byte, 50)
		s.at(int64(off)).XORKeyStream(part, part)
		if !bytes.Equal(part, whole[off:off+50]) {
			t.Fatalf("at %d", off)
		}
	}
}

// Pebble itself runs on it, logs reused, and leaves nothing readable.
func TestPebble(t *testing.T) {
	base := vfs.NewMem()
	const secret = "a very recognisable plaintext"
	for round := range 3 {
		db, err := pebble.Open("db", &pebble.Options{FS: New(base, testKey), MemTableSize: 64 << 10, Logger: silent{}})
		must(t, err)
		for i := range 2000 {
			must(t, db.Set(fmt.Appendf(nil, "%s key %d %d", secret, round, i), []byte(secret), pebble.NoSync))
		}
		must(t, db.Flush())
		must(t, db.Compact(t.Context(), []byte("a"), []byte("z"), false))
		must(t, db.Close())
	}
	db, err := pebble.Open("db", &pebble.Options{FS: New(base, testKey), ReadOnly: true, Logger: silent{}})
	must(t, err)
	for round := range 3 {
		_, closer, err := db.Get(fmt.Appendf(nil, "%s key %d %d", secret, round, 1999))
		must(t, err)
		must(t, closer.Close())
	}
	must(t, db.Close())
	names, err := base.List("db")
	must(t, err)
	if len(names) < 5 {
		t.Fatalf("only %q", names)
	}
	for _, name := range names {
		raw := read(t, base, "db/"+name)
		if bytes.Contains([]byte(raw), []byte("recognisable")) || bytes.Contains([]byte(raw), []byte("leveldb.BytewiseComparator")) {
			t.Errorf("%s has plaintext", name)
		}
	}
}

type silent struct{}

func (silent) Infof(string, ...any)  {}
func (silent) Errorf(string, ...any) {}
func (silent) Fatalf(format string, args ...any) {
	panic(fmt.Sprintf(format, args...))
}
