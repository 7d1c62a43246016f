package replica_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync/atomic"
	"testing"

	"github.com/locker-project/locker/daemon/replica"
)

var errCrash = errors.New("crash")

// A fuse blows at one step of a device: before it, or right after it. Everything
// later fails too, as it does for a process that is dead.
type fuse struct {
	left  atomic.Int64 // steps until it blows; counted in half steps: before and after
	steps atomic.Int64
	blown atomic.Bool
}

// step runs one durable or outward step of the device.
func (f *fuse) step(do func() error) error {
	if f.blown.Load() || f.left.Add(-1) == 0 {
		f.blown.Store(true)
		return errCrash
	}
	f.steps.Add(2)
	err := do()
	if f.left.Add(-1) == 0 {
		f.blown.Store(true)
		return errCrash
	}
	return err
}

// A fragileState is a State whose durable writes are steps of a fuse.
type fragileState struct {
	replica.State
	f *fuse
}

func (s fragileState) Join(ctx context.Context, lines []byte, notes map[string][]byte) (changed int, ahead bool, err error) {
	err = s.f.step(func() error { changed, ahead, err = s.State.Join(ctx, lines, notes); return err })
	return changed, ahead, err
}

func (s fragileState) SetNotes(ctx context.Context, notes map[string][]byte) error {
	return s.f.step(func() error { return s.State.SetNotes(ctx, notes) })
}

// A fragileRemote is a remote whose requests are steps of a fuse. A put that is cut
// by the crash leaves a part.
type fragileRemote struct {
	replica.Remote
	f *fuse
}

func (r fragileRemote) Put(ctx context.Context, name string, body io.ReadSeeker, size int64) error {
	return r.f.step(func() error { return r.Remote.Put(ctx, name, body, size) })
}

func (r fragileRemote) Get(ctx context.Context, name string, off, n int64) (io.ReadCloser, error) {
	if r.f.blown.Load() {
		return nil, errCrash
	}
	return r.Remote.Get(ctx, name, off, n)
}

func (r fragileRemote) List(ctx context.Context, prefix string) iter.Seq2[replica.ObjectInfo, error] {
	return r.Remote.List(ctx, prefix)
}

func (r fragileRemote) Delete(ctx context.Context, names ...string) error {
	return r.f.step(func() error { return r.Remote.Delete(ctx, names...) })
}

// fragile makes the steps of a device blow a fuse.
func (d *device) fragile(f *fuse) {
	d.wrap = func(s replica.State) replica.State { return fragileState{s, f} }
	for i := range d.remotes {
		d.remotes[i].Remote = fragileRemote{d.remotes[i].Remote, f}
	}
}

// TestCrashSync kills a device at every step of a pass that reads, seals and puts.
// Whatever the step: after a restart nothing that was written is lost, nobody sees
// a fork, and all devices hold the same.
func TestCrashSync(t *testing.T) {
	for at := int64(1); ; at++ {
		w := newWorld(t)
		laptop := w.found("laptop")
		laptop.sync(full)
		phone := w.restore("phone")
		phone.state.put("of phone", "unread")
		phone.sync(full)
		f := &fuse{}
		laptop.fragile(f)
		laptop.restart()
		laptop.state.put("of laptop", fmt.Sprint(at))
		blob := laptop.state.addBlob([]byte("picture"))
		f.left.Store(at)
		_, err := laptop.Sync(context.Background(), full)
		if err == nil && !f.blown.Load() {
			if at < 10 {
				t.Fatalf("a pass has only %d steps", at)
			}
			t.Logf("%d points of crash", at-1)
			return
		}
		f.left.Store(0)
		f.blown.Store(false)
		laptop.restart()
		laptop.state.put("after", "the crash")
		laptop.sync(full)
		phone.sync(full)
		laptop.sync(full)
		w.same(laptop, phone)
		laptop.well()
		phone.well()
		if err := phone.Blob(context.Background(), blob); err != nil {
			t.Fatalf("crash at %d: %v", at, err)
		}
		w.same(laptop, phone, w.restore("tablet"))
		if t.Failed() {
			t.Fatalf("crash at step %d", at)
		}
	}
}

// TestCrashRestore kills a device at every step of a restore; the same call
// completes it, or, where it had not made its door, another device does.
func TestCrashRestore(t *testing.T) {
	for at := int64(1); ; at++ {
		w := newWorld(t)
		laptop := w.found("laptop")
		for i := range 3 {
			laptop.state.put(fmt.Sprint(i), "x")
			laptop.sync(full)
		}
		phone := w.blank("phone")
		f := &fuse{}
		phone.fragile(f)
		if err := phone.start(); err != nil {
			t.Fatal(err)
		}
		f.left.Store(at)
		_, err := phone.Restore(context.Background(), nil)
		if err == nil && !f.blown.Load() {
			if at < 10 {
				t.Fatalf("a restore has only %d steps", at)
			}
			t.Logf("%d points of crash", at-1)
			return
		}
		f.left.Store(0)
		f.blown.Store(false)
		phone.restartWithPhrase()
		if _, err := phone.Restore(context.Background(), nil); err != nil {
			t.Fatalf("crash at %d: restoring again: %v", at, err)
		}
		phone.state.put("of phone", "x")
		phone.sync(full)
		laptop.sync(full)
		w.same(laptop, phone, w.restore("tablet"))
		laptop.well()
		phone.well()
		if t.Failed() {
			t.Fatalf("crash at step %d", at)
		}
	}
}

// TestCrashFound kills a device at every step of making a locker and its first pass.
func TestCrashFound(t *testing.T) {
	for at := int64(1); ; at++ {
		w := newWorld(t)
		laptop := w.blank("laptop")
		f := &fuse{}
		laptop.fragile(f)
		if err := laptop.start(); err != nil {
			t.Fatal(err)
		}
		f.left.Store(at)
		err := laptop.Found(context.Background())
		laptop.state.put("1", "x")
		if err == nil {
			_, err = laptop.Sync(context.Background(), replica.SyncOptions{})
		}
		if err == nil && !f.blown.Load() {
			return
		}
		f.left.Store(0)
		f.blown.Store(false)
		laptop.restartWithPhrase()
		if err := laptop.Found(context.Background()); err != nil {
			t.Fatalf("crash at %d: %v", at, err)
		}
		laptop.sync(full)
		w.same(laptop, w.restore("phone"))
		laptop.well()
	}
}
