package replica_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/locker-project/locker/daemon/replica"
)

// A breaker lets the n-th call of a device to what is outside of it fail: of its
// remotes, its State, its disk.
type breaker struct {
	mu     sync.Mutex
	left   int // calls until it breaks; 0 is never
	how    breaking
	broken bool
	where  string
}

type breaking int

const (
	onceBefore breaking = iota // the call fails
	onceAfter                  // it was done, and fails nevertheless
	dead                       // the process is dead from then on; the power fails, too
	diskFull                   // the disk is full from then on: what writes to it fails
)

var breakings = map[string]breaking{"a call fails": onceBefore, "a call fails that was done": onceAfter, "a crash": dead, "a full disk": diskFull}

var errBroken = errors.New("broken by the test")

// call does one call. writes says that it takes room on the disk.
func (b *breaker) call(what string, writes bool, do func() error) error {
	b.mu.Lock()
	now := false
	if b.left > 0 && (b.how != diskFull || writes) {
		b.left--
		now = b.left == 0
	}
	if now {
		b.broken, b.where = true, what
	}
	fails := now || b.broken && (b.how == dead || b.how == diskFull && writes)
	b.mu.Unlock()
	switch {
	case fails && b.how == diskFull:
		return fmt.Errorf("%s: %w", what, syscall.ENOSPC)
	case fails && b.how != onceAfter:
		return errBroken
	}
	err := do()
	if fails {
		err = errors.Join(err, errBroken)
	}
	return err
}

func nothing() error { return nil }

// A brokenRemote is a remote whose calls a breaker counts.
type brokenRemote struct {
	replica.Remote
	b *breaker
}

func (r brokenRemote) Put(ctx context.Context, name string, body io.ReadSeeker, size int64) error {
	return r.b.call("put", false, func() error { return r.Remote.Put(ctx, name, body, size) })
}

func (r brokenRemote) Get(ctx context.Context, name string, off, n int64) (body io.ReadCloser, err error) {
	err = r.b.call("get", false, func() error { body, err = r.Remote.Get(ctx, name, off, n); return err })
	if err != nil {
		return nil, err
	}
	return body, nil
}

func (r brokenRemote) List(ctx context.Context, prefix string) iter.Seq2[replica.ObjectInfo, error] {
	return func(yield func(replica.ObjectInfo, error) bool) {
		if err := r.b.call("list", false, nothing); err != nil {
			yield(replica.ObjectInfo{}, err)
			return
		}
		r.Remote.List(ctx, prefix)(yield)
	}
}

func (r brokenRemote) Delete(ctx context.Context, names ...string) error {
	return r.b.call("delete", false, func() error { return r.Remote.Delete(ctx, names...) })
}

// A brokenState is a State whose calls a breaker counts.
type brokenState struct {
	*memState
	b *breaker
}

func (s brokenState) Cut(ctx context.Context, after []byte, max int) (lines, next []byte, urgent bool, err error) {
	err = s.b.call("cut", false, func() error { lines, next, urgent, err = s.memState.Cut(ctx, after, max); return err })
	return lines, next, urgent, err
}

func (s brokenState) Join(ctx context.Context, lines []byte, notes map[string][]byte) (changed int, ahead bool, err error) {
	err = s.b.call("join", true, func() error { changed, ahead, err = s.memState.Join(ctx, lines, notes); return err })
	return changed, ahead, err
}

func (s brokenState) Written(ctx context.Context, device string, from, to uint64, after []byte, max int) (lines, next []byte, err error) {
	err = s.b.call("written", false, func() error {
		lines, next, err = s.memState.Written(ctx, device, from, to, after, max)
		return err
	})
	return lines, next, err
}

func (s brokenState) Note(ctx context.Context, key string) (value []byte, err error) {
	err = s.b.call("note", false, func() error { value, err = s.memState.Note(ctx, key); return err })
	return value, err
}

func (s brokenState) SetNotes(ctx context.Context, notes map[string][]byte) error {
	return s.b.call("set notes", true, func() error { return s.memState.SetNotes(ctx, notes) })
}

func (s brokenState) NewBlobs(ctx context.Context, after []byte) (ids []string, next []byte, err error) {
	err = s.b.call("new blobs", false, func() error { ids, next, err = s.memState.NewBlobs(ctx, after); return err })
	return ids, next, err
}

func (s brokenState) OpenBlob(ctx context.Context, id string) (body io.ReadCloser, size int64, err error) {
	err = s.b.call("open blob", false, func() error { body, size, err = s.memState.OpenBlob(ctx, id); return err })
	return body, size, err
}

func (s brokenState) PutBlobAs(ctx context.Context, id string, open func(from int64) (io.ReadCloser, error)) error {
	return s.b.call("put blob", true, func() error { return s.memState.PutBlobAs(ctx, id, open) })
}

// breakable boots a device so that a breaker counts its calls.
func (a *shot) breakable(d *victim, b *breaker) {
	d.breaker = b
	d.disk.before = func(op, path string) error {
		return b.call("disk "+op, op != "read" && op != "names" && op != "remove" && op != "close", nothing)
	}
	d.boot(a.t, d.phrase)
}

// again boots a device after what broke it is over.
func (a *shot) again(d *victim, how breaking) {
	d.breaker, d.disk.before = nil, nil
	if how == dead {
		d.disk.powerFails(rand.New(rand.NewPCG(1, a.rnd.Uint64())))
	}
	d.boot(a.t, d.phrase)
}

// scenarios are what a device does when a call fails.
var scenarios = map[string]func(a *shot) (d *victim, do func() error){
	"sync": func(a *shot) (*victim, func() error) {
		phone, laptop := a.device("phone"), a.device("laptop")
		for i := range 3 {
			phone.state.put("of the phone", fmt.Sprint(i))
			a.must(phone.Sync(context.Background(), replica.SyncOptions{}))
		}
		laptop.state.put("of the laptop", "x")
		laptop.state.put("picture", laptop.state.addBlob([]byte("picture")))
		return laptop, func() error { _, err := laptop.Sync(context.Background(), full); return err }
	},
	"compact": func(a *shot) (*victim, func() error) {
		laptop := a.device("laptop")
		for i := range 12 {
			laptop.state.put(fmt.Sprint(i%3), fmt.Sprint(i))
			a.must(laptop.Sync(context.Background(), replica.SyncOptions{Metered: true}))
			a.time = a.time.Add(time.Minute)
		}
		a.must(a.device("phone").Sync(context.Background(), full))
		return laptop, func() error {
			_, err := laptop.Sync(context.Background(), full)
			if err == nil {
				_, err = laptop.Sync(context.Background(), full)
			}
			return err
		}
	},
	"mend": func(a *shot) (*victim, func() error) {
		laptop := a.device("laptop")
		for i, name := range a.names() {
			if i%3 == 0 {
				a.cloud.Remove(name)
			}
		}
		return laptop, func() error { _, err := laptop.Verify(context.Background(), "", nil); return err }
	},
	"restore": func(a *shot) (*victim, func() error) {
		d := a.fresh()
		d.phrase = &a.seed
		return d, func() error { _, err := d.Restore(context.Background(), nil); return err }
	},
}

func (a *shot) must(_ replica.Summary, err error) {
	a.t.Helper()
	if err != nil {
		a.t.Fatal(err)
	}
}

// TestNthCall lets each call of a device to its remotes, its State and its disk fail,
// one after the other, in every way and in each scenario. When it is over, nothing is
// lost, nothing is wrong, and all hold the same.
func TestNthCall(t *testing.T) {
	g := newPair(t)
	step := howMany(29, 7, 1)
	for name, scenario := range scenarios {
		for way, how := range breakings {
			t.Run(name+", "+way, func(t *testing.T) {
				points := 0
				for n := 1; ; n += step {
					more := g.breakOne(t, scenario, how, n)
					if t.Failed() {
						t.Fatalf("at call %d", n)
					}
					if !more {
						break
					}
					points++
				}
				t.Logf("%d calls", points)
				if points*step < 10 && step == 1 {
					t.Errorf("only %d calls", points)
				}
			})
		}
	}
}

// breakOne lets one call fail, and says whether there was one.
func (g *target) breakOne(t *testing.T, scenario func(a *shot) (*victim, func() error), how breaking, n int) (more bool) {
	a := g.shoot(t, uint64(n))
	d, do := scenario(a)
	b := &breaker{how: how}
	a.breakable(d, b)
	b.left = n
	failed := do()
	if !b.broken {
		if failed != nil {
			t.Errorf("without a failure: %v", failed)
		}
		return false
	}
	a.again(d, how)
	if err := do(); err != nil {
		t.Errorf("after %s failed (%v): %v", b.where, failed, err)
		return true
	}
	d.state.put("after", "x")
	devices := []*victim{d, a.device("laptop"), a.device("phone")}
	for range 3 {
		a.time = a.time.Add(61 * time.Minute)
		for _, d := range devices {
			a.must(d.Sync(context.Background(), full))
		}
	}
	fresh := a.fresh()
	if _, err := fresh.Restore(context.Background(), nil); err != nil {
		t.Errorf("after %s failed: restoring: %v", b.where, err)
	}
	for _, o := range append(devices, fresh) {
		if o.state.hash() != d.state.hash() {
			t.Errorf("after %s failed (%v): %s holds something else", b.where, failed, o.name)
		}
		st, err := o.Status(context.Background())
		if err != nil || len(st.Pending)+len(st.Alarms) > 0 {
			t.Errorf("after %s failed (%v): %s: %+v %+v %v", b.where, failed, o.name, st.Pending, st.Alarms, err)
		}
		if left := o.disk.leftovers(); len(left) > 0 {
			t.Errorf("after %s failed: %s has left %v", b.where, o.name, left)
		}
	}
	return true
}
