package store

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	mrand "math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/locker-project/locker/daemon/store/encfs"
	"github.com/locker-project/locker/plugins/locker"
)

// holds names the files, as they are decrypted, that hold one of some texts. The texts
// are random, so that compression leaves them as they are.
func holds(t testing.TB, files vfs.FS, dir string, texts ...string) (found []string) {
	t.Helper()
	names, err := files.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		path := files.PathJoin(dir, name)
		if info, err := files.Stat(path); errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err == nil && info.IsDir() {
			found = append(found, holds(t, files, path, texts...)...)
			continue
		}
		f, err := files.Open(path)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, encfs.ErrKey) && (name == checkName || name == ballastName) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		raw, err := io.ReadAll(f)
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
		for _, text := range texts {
			if bytes.Contains(raw, []byte(text)) || strings.Contains(path, text) {
				found = append(found, path+" "+text)
			}
		}
	}
	return found
}

// noReuse is a file system in the clear that, as an encrypted one, makes a new file
// where an old one is to be used again.
type noReuse struct{ vfs.FS }

func (f noReuse) ReuseForWrite(old, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if err := f.Remove(old); err != nil {
		return nil, err
	}
	return f.Create(name, c)
}

// A secret is a record whose every part can be recognised.
type secret struct {
	rec   locker.Record
	texts []string
	blob  string
}

func newSecret(t testing.TB, s *Store, hour int) secret {
	t.Helper()
	id, text, content := rand.Text()+rand.Text(), rand.Text()+rand.Text(), rand.Text()+rand.Text()
	blob, _, err := s.PutBlob(t.Context(), strings.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	rec := at(note(id, fmt.Sprintf(`{"text":%q,"more":[{"blob":%q}]}`, text, blob)), hour)
	return secret{rec, []string{id, text, content}, blob}
}

// fillAround writes records enough to make tables, with flushes in between.
func fillAround(t testing.TB, s *Store, n int) {
	t.Helper()
	for i := range n {
		write(t, s, importAuthor("i"), at(note(rand.Text(), fmt.Sprintf(`{"x":%q}`, strings.Repeat(rand.Text(), 4))), i%20))
	}
}

// What was purged is in no file of the store any more: not its text, not its id, not
// what it was before, not what imports replaced, not its blob.
func TestScrub(t *testing.T) {
	for name, inClear := range map[string]bool{"encrypted": false, "in the clear": true} {
		t.Run(name, func(t *testing.T) {
			mem := vfs.NewMem()
			files := encfs.New(mem, testKey)
			s := testStore(t, "a", func(o *Options) {
				o.FS, o.MemTable, o.bulk = mem, 64<<10, 16<<10
				if inClear {
					o.clear = func(fs vfs.FS) vfs.FS { return noReuse{fs} }
					files = mem
				}
			})
			var texts []string
			var secrets []secret
			for round := range 4 {
				for range 3 {
					x := newSecret(t, s, round)
					secrets, texts = append(secrets, x), append(texts, x.texts...)
					write(t, s, importAuthor("i"), x.rec)
				}
				fillAround(t, s, 150)
				for i, x := range secrets { // it moves, and what was there is kept
					former := rand.Text() + rand.Text()
					texts = append(texts, former)
					moved := x.rec
					moved.Fields = fmt.Appendf(nil, `{"text":%q}`, former)
					write(t, s, importAuthor(fmt.Sprint("j", round)), at(moved, (round+i)%24))
				}
				if err := s.db.Flush(); err != nil {
					t.Fatal(err)
				}
			}
			shared := newSecret(t, s, 1)
			keeper := note("keeper", fmt.Sprintf(`{"blob":%q}`, shared.blob))
			write(t, s, ownerAuthor, shared.rec, keeper)
			texts = append(texts, shared.texts[:2]...)
			there := 0
			for _, text := range texts {
				there += min(1, len(holds(t, files, "store", text)))
			}
			if there < len(texts)*2/3 { // some was written over and merged away before
				t.Fatalf("only %d of %d texts can be found before the purge", there, len(texts))
			}
			reader, _ := s.snapshot()
			ids := []string{shared.rec.ID}
			for _, x := range secrets {
				ids = append(ids, x.rec.ID)
			}
			if got := ban(t, s, ids...); got.Records != len(ids) {
				t.Fatalf("purged %+v", got)
			}
			blocked, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			if err := s.Scrub(blocked); !errors.Is(err, context.DeadlineExceeded) || s.Scrubbed() {
				t.Fatalf("scrubbed while it is being read: %v", err)
			}
			cancel()
			if err := reader.Close(); err != nil {
				t.Fatal(err)
			}
			if err := s.Scrub(t.Context()); err != nil || !s.Scrubbed() {
				t.Fatal(err)
			}
			if found := holds(t, files, "store", texts...); len(found) > 0 {
				t.Fatalf("still there:\n%s", strings.Join(found, "\n"))
			}
			if r, _, err := s.OpenBlob(t.Context(), shared.blob); err != nil {
				t.Fatalf("a blob that another record refers to is gone: %v", err)
			} else if err := r.Close(); err != nil {
				t.Fatal(err)
			}
			gone, all, err := s.PurgedBlobs(t.Context())
			if err != nil || !all || len(gone) != len(secrets) {
				t.Fatalf("%d blobs are told to be gone, all: %v, %v", len(gone), all, err)
			}
			if err := s.Check(t.Context()); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// Another device forgets as well, though a ban names its record by a hash only.
func TestScrubOfWhatCameFromElsewhere(t *testing.T) {
	mem := vfs.NewMem()
	a, b := testStore(t, "a"), testStore(t, "b", func(o *Options) { o.FS, o.MemTable = mem, 64<<10 })
	x := newSecret(t, a, 1)
	write(t, a, ownerAuthor, x.rec)
	fillAround(t, b, 200)
	join(t, b, lines(t, a))
	ban(t, a, x.rec.ID)
	join(t, b, lines(t, a))
	if err := b.Scrub(t.Context()); err != nil {
		t.Fatal(err)
	}
	if found := holds(t, encfs.New(mem, testKey), "store", x.texts[:2]...); len(found) > 0 {
		t.Fatalf("still there:\n%s", strings.Join(found, "\n"))
	}
}

// A crash at any step of a purge leaves a store that goes on with it.
func TestScrubAfterACrash(t *testing.T) {
	n := seed(t)
	for round := range uint64(4) {
		r := mrand.New(mrand.NewPCG(n, round))
		mem := vfs.NewCrashableMem()
		w := &clones{fs: mem, r: r}
		open := func(fs vfs.FS) *Store {
			o := options(fs, "a")
			o.MemTable, o.bulk = 64<<10, 16<<10
			s, err := Open("store", o)
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		s := open(errorfs.Wrap(mem, w))
		x, y := newSecret(t, s, 1), newSecret(t, s, 2)
		write(t, s, ownerAuthor, x.rec, y.rec)
		fillAround(t, s, 60)
		other := testStore(t, "b") // whose ban names only a hash
		other.bans.key = s.bans.key
		ban(t, other, y.rec.ID)
		theirs := lines(t, other)
		w.active.Store(true)
		ban(t, s, x.rec.ID)
		join(t, s, theirs)
		w.acknowledged.Store(true)
		if err := s.Scrub(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.active.Store(false)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if len(w.taken) < 20 {
			t.Fatalf("only %d crashes", len(w.taken))
		}
		for _, c := range w.taken {
			s := open(c.fs)
			join(t, s, theirs)
			if got := ban(t, s, x.rec.ID); c.acknowledged && got.Bans != 0 {
				t.Fatalf("crash at %s: the ban is lost", c.where)
			}
			if err := errors.Join(s.Scrub(t.Context()), s.Check(t.Context())); err != nil {
				t.Fatalf("crash at %s: %v", c.where, err)
			}
			if found := holds(t, encfs.New(c.fs, testKey), "store", append(x.texts, y.texts...)...); len(found) > 0 {
				t.Fatalf("crash at %s: still there:\n%s", c.where, strings.Join(found, "\n"))
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// clones is an errorfs.Injector that takes copies of what a crash would leave.
type clones struct {
	fs                   *vfs.MemFS
	active, acknowledged atomic.Bool

	mu    sync.Mutex
	r     *mrand.Rand
	taken []clone
}

type clone struct {
	fs           *vfs.MemFS
	where        string
	acknowledged bool
}

func (w *clones) String() string { return "clones" }

func (w *clones) MaybeError(op errorfs.Op) error {
	if !w.active.Load() || op.Kind.ReadOrWrite() != errorfs.OpIsWrite {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.r.IntN(4) == 0 && len(w.taken) < 60 {
		percent := []int{0, 50, 100}[w.r.IntN(3)]
		fs := w.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: w.r})
		w.taken = append(w.taken, clone{fs, fmt.Sprintf("operation %d on %s", op.Kind, op.Path), w.acknowledged.Load()})
	}
	return nil
}
