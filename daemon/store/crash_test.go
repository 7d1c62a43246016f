package store

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/locker-project/locker/plugins/locker"
)

// crashPoints are how many crashes TestCrash tries at least.
const crashPoints = 2000

// TestCrash crashes a store again and again, at each operation on a file that counts,
// with a random part of what was not synced yet. What comes back must have all that
// was acknowledged, nothing in part, and be consistent.
func TestCrash(t *testing.T) {
	n := seed(t)
	points := 0
	for round := uint64(0); points < crashPoints; round++ {
		c := newCrasher(t, rand.New(rand.NewPCG(n, round)))
		c.run()
		points += c.points
	}
	t.Logf("%d crash points", points)
}

// A crasher works on a store and looks at what would be left of it.
type crasher struct {
	t      *testing.T
	r      *rand.Rand // of the work
	cuts   *rand.Rand // of the crashes
	fs     *vfs.MemFS
	s      *Store
	points int

	mu    sync.Mutex
	model model
	next  *model // what the write that is on its way leads to
	clone []crash
}

// A crash is what is left at some moment, and which states may come back.
type crash struct {
	fs    *vfs.MemFS
	may   []model
	where string
}

// A model is what a store must hold: its records as text, notes, blobs.
type model struct {
	hash  string
	notes string
	blobs int
}

func newCrasher(t *testing.T, r *rand.Rand) *crasher {
	return &crasher{t: t, r: r, cuts: rand.New(rand.NewPCG(r.Uint64(), 1)), fs: vfs.NewCrashableMem()}
}

// watch is an errorfs.Injector that takes a clone before some operations.
type watch struct {
	c      *crasher
	active atomic.Bool
}

func (w *watch) String() string { return "watch" }

func (w *watch) MaybeError(op errorfs.Op) error {
	if !w.active.Load() || op.Kind.ReadOrWrite() != errorfs.OpIsWrite {
		return nil
	}
	w.c.snap(fmt.Sprintf("operation %d on %s", op.Kind, op.Path))
	return nil
}

// snap notes a crash at this moment, now and then.
func (c *crasher) snap(where string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cuts.IntN(3) > 0 || len(c.clone) >= 150 {
		return
	}
	may := []model{c.model}
	if c.next != nil {
		may = append(may, *c.next)
	}
	percent := []int{0, 0, 20, 50, 80, 100}[c.cuts.IntN(6)]
	c.clone = append(c.clone, crash{c.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: c.cuts}), may, where})
}

func (c *crasher) options(fs vfs.FS) Options {
	o := options(fs, "device")
	o.MemTable = 64 << 10 // flushes and compactions happen all the time
	o.bulk = 4 << 10      // and about half of the batches are tables
	return o
}

func (c *crasher) run() {
	w := &watch{c: c}
	s, err := Open("store", c.options(errorfs.Wrap(c.fs, w)))
	if err != nil {
		c.t.Fatal(err)
	}
	c.s = s
	c.model = c.look(s)
	w.active.Store(true)
	for range 40 {
		c.work()
	}
	w.active.Store(false)
	if err := s.Close(); err != nil {
		c.t.Fatal(err)
	}
	for _, crash := range c.clone {
		c.points++
		c.recover(crash)
	}
}

// work does one thing that must happen wholly or not at all. What it leads to is
// found by doing it first to a second store.
func (c *crasher) work() {
	do := c.choose()
	twin := c.twin()
	if err := do(twin); err != nil {
		c.t.Fatal(err)
	}
	after := c.look(twin)
	if err := twin.Close(); err != nil {
		c.t.Fatal(err)
	}
	c.mu.Lock()
	c.next = &after
	c.mu.Unlock()
	if err := do(c.s); err != nil {
		c.t.Fatal(err)
	}
	c.mu.Lock()
	c.model, c.next = after, nil
	c.mu.Unlock()
	if got := c.look(c.s); got != after {
		c.t.Fatalf("the store is %+v where its twin is %+v", got, after)
	}
}

// twin is a copy of the store as it is.
func (c *crasher) twin() *Store {
	c.mu.Lock()
	fs := c.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 0})
	c.mu.Unlock()
	s, err := Open("store", c.options(fs))
	if err != nil {
		c.t.Fatal(err)
	}
	return s
}

func (c *crasher) choose() func(*Store) error {
	ctx, n := c.t.Context(), c.r.IntN(1<<30)
	a := Author{Class: Source, Source: "s", Import: fmt.Sprint("import", c.r.IntN(3))}
	var records []locker.Record
	for range 1 + c.r.IntN(30) {
		records = append(records, at(note(fmt.Sprint(c.r.IntN(60)), fmt.Sprintf(`{"n":%d,"x":%q}`, n, strings.Repeat("x", c.r.IntN(400)))), c.r.IntN(20)))
	}
	switch c.r.IntN(10) {
	case 0:
		return func(s *Store) error {
			_, err := s.Delete(ctx, Author{Class: Owner}, "notes", fmt.Sprint(n%60), fmt.Sprint(n%59), fmt.Sprint(n%58))
			return err
		}
	case 1:
		return func(s *Store) error {
			rec := locker.Record{Collection: importsCollection, ID: a.Import, Fields: fmt.Appendf(nil, `{"state":"running","n":%d}`, n)}
			_, err := s.Write(ctx, Author{Class: Owner, System: true}, rec)
			return err
		}
	case 2:
		return func(s *Store) error {
			if _, _, err := s.Undo(ctx, a.Import); err != nil && !isNotFound(err) {
				return err
			}
			return nil
		}
	case 3:
		return func(s *Store) error {
			return s.SetNotes(ctx, map[string][]byte{"a": fmt.Append(nil, n), "b": fmt.Append(nil, n)})
		}
	case 4:
		return func(s *Store) error {
			_, _, err := s.PutBlob(ctx, strings.NewReader(fmt.Sprint("blob", n)))
			return err
		}
	case 5:
		line := fmt.Sprintf(`{"collection":"notes","id":"%d","class":"owner","clock":"%016x","device":"other","fields":{"n":%d}}`, n%60, 1<<20+n, n)
		return func(s *Store) error {
			_, _, err := s.Join(ctx, []byte(line+"\n"), map[string][]byte{"joined": fmt.Append(nil, n)})
			return err
		}
	case 6:
		return func(s *Store) error {
			_, err := s.Ban(ctx, "notes", fmt.Sprint(n%60), fmt.Sprint(n%59))
			return err
		}
	case 7:
		line := fmt.Sprintf(`{"collection":"_bans","id":%q,"class":"owner","clock":"%016x","device":"other","fields":{%q:true}}`,
			newBanHasher([]byte("blob key")).record("notes", fmt.Sprint(n%60)).text(), 1<<20+n, []string{"ban", "lift"}[n%2])
		return func(s *Store) error {
			_, _, err := s.Join(ctx, []byte(line+"\n"), nil)
			return err
		}
	}
	return func(s *Store) error {
		_, err := s.Write(ctx, a, records...)
		return err
	}
}

// look tells what a store holds.
func (c *crasher) look(s *Store) model {
	m := model{hash: s.StateHash()}
	for key, val := range s.Notes(c.t.Context(), "") {
		m.notes += key + "=" + string(val) + " "
	}
	ids, _, err := s.NewBlobs(c.t.Context(), nil)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, id := range ids {
		r, size, err := s.OpenBlob(c.t.Context(), id)
		if err != nil {
			c.t.Fatal(err)
		}
		raw, err := io.ReadAll(r)
		if err := errors.Join(err, r.Close()); err != nil || int64(len(raw)) != size {
			c.t.Fatalf("blob %s: %d of %d bytes, %v", id, len(raw), size, err)
		}
	}
	m.blobs = len(ids)
	return m
}

// recover opens what a crash left.
func (c *crasher) recover(cr crash) {
	s, err := Open("store", c.options(cr.fs))
	if err != nil {
		c.t.Fatalf("after a crash at %s: %v", cr.where, err)
	}
	if err := s.Check(c.t.Context()); err != nil {
		c.t.Fatalf("after a crash at %s: %v", cr.where, err)
	}
	got := c.look(s)
	ok := false
	for _, m := range cr.may {
		ok = ok || m == got
	}
	if !ok {
		c.t.Fatalf("after a crash at %s: %+v, want one of %+v", cr.where, got, cr.may)
	}
	if err := s.Close(); err != nil {
		c.t.Fatal(err)
	}
}
