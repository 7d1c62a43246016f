package replica_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/locker-project/locker/crypto"
	"github.com/locker-project/locker/daemon/replica"
)

// twin is a second copy of a device: its folder, its keys and its data, as they are.
func (d *device) twin(name string) *device {
	d.w.t.Helper()
	keys, err := crypto.Load(d.keys.Secret())
	if err != nil {
		d.w.t.Fatal(err)
	}
	c := &device{w: d.w, name: name, keys: keys, state: d.state.copy(), dir: fastDir(d.w.t), remotes: slices.Clone(d.remotes)}
	copyFolder(d.w.t, d.dir, c.dir)
	if err := c.start(); err != nil {
		d.w.t.Fatal(err)
	}
	return c
}

// An heir is a device on its way to become another one.
type heir struct {
	*device
	next *crypto.Keyring
}

// step syncs, and goes on with what a clone has to do; the keys of the new device are
// kept, as a daemon keeps them, before anything else. It is called again after a crash.
func (h *heir) step() error {
	ctx := context.Background()
	_, err := h.Sync(ctx, full)
	var cloned *replica.Cloned
	if !errors.As(err, &cloned) {
		return err
	}
	if h.next == nil {
		if h.next, err = crypto.Join(h.keys.Invite(), h.name+" 2"); err != nil {
			return err
		}
	}
	if err := h.Yield(ctx, h.next.Device(), h.next.Request()); err != nil {
		return err
	}
	h.keys, h.next = h.next, nil
	h.state.device = h.keys.Device()
	if err := h.start(); err != nil {
		return err
	}
	_, err = h.Sync(ctx, full)
	return err
}

// linesOf opens what a device wrote on the cloud, in the order of its entries.
func (d *device) linesOf(writer string) (lines []string) {
	d.w.t.Helper()
	dec, err := zstd.NewReader(nil)
	if err != nil {
		d.w.t.Fatal(err)
	}
	defer dec.Close()
	for n := uint64(1); ; n++ {
		ref := replica.Ref{Kind: "entry", Writer: writer, Number: n}
		object := d.w.cloud.Object(d.keys.Name(ref))
		if object == nil {
			return lines
		}
		_, frames, _, err := d.keys.Open(ref, object)
		if err != nil {
			d.w.t.Fatal(err)
		}
		out, err := dec.DecodeAll(frames, nil)
		if err != nil {
			d.w.t.Fatal(err)
		}
		for line := range bytes.Lines(out) {
			lines = append(lines, string(line))
		}
	}
}

// TestBecomeNew: a backup that is put back after the device had gone on becomes a new
// device by itself. What it had not sent, and what was written after, goes out once,
// unchanged; what had been sent does not go out again; the owner is told.
func TestBecomeNew(t *testing.T) {
	for _, test := range []struct {
		name   string
		unsent bool // edits were sealed before the backup, and not sent
		live   bool // the other copy goes on
	}{{"backup", false, false}, {"unsent", true, false}, {"two copies", false, true}, {"two copies, unsent", true, true}} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			laptop := w.found("laptop")
			laptop.state.put("sent", "before")
			laptop.sync(full)
			phone := w.restore("phone")
			laptop.sync(full)
			if test.unsent {
				laptop.state.put("unsent", "sealed")
				w.cloud.Fault = func(op, name string) error {
					if op == "put" {
						return errors.New("no put")
					}
					return nil
				}
				laptop.sync(full)
				w.cloud.Fault = nil
			}
			backup := laptop.twin("backup")
			w.pass(time.Hour)
			laptop.state.put("sent", "after")
			laptop.state.put("lost", "by the disk")
			laptop.sync(full)
			phone.sync(full)
			w.pass(time.Hour)
			backup.state.put("edit", "of the backup")
			h := &heir{device: backup}
			if err := h.step(); err != nil {
				t.Fatal(err)
			}
			if test.live {
				laptop.state.put("more", "of the laptop")
			}
			for range 3 {
				w.pass(time.Hour)
				for _, d := range []*device{laptop, phone, h.device} {
					d.sync(full)
				}
			}
			w.same(laptop, phone, h.device, w.restore("tablet"))
			laptop.well()
			phone.well()
			st, err := h.Status(context.Background())
			if err != nil || len(st.Alarms) > 0 || len(st.Pending) != 1 || st.Pending[0].Kind != "renewed" || st.Pending[0].Device != laptop.keys.Device() {
				t.Errorf("the new device says %+v, %v", st, err)
			}
			lines := h.linesOf(h.keys.Device())
			want := 1
			if test.unsent && !slices.ContainsFunc(laptop.linesOf(laptop.keys.Device()), func(l string) bool { return strings.Contains(l, `"unsent"`) }) {
				want = 2
			}
			if len(lines) != want || !strings.Contains(lines[len(lines)-1], "of the backup") {
				t.Errorf("the new device wrote %q", lines)
			}
			if _, err := laptop.Remove(context.Background(), h.keys.Device()); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestBecomeNewCrash kills a clone at every step of becoming a new device. Whatever the
// step, it becomes one when it is started again, nothing is lost, and all agree.
func TestBecomeNewCrash(t *testing.T) {
	points := 0
	for at := int64(1); ; at++ {
		w := newWorld(t)
		laptop := w.found("laptop")
		laptop.sync(full)
		phone := w.restore("phone")
		laptop.sync(full)
		backup := laptop.twin("backup")
		laptop.state.put("lost", "by the disk")
		laptop.sync(full)
		backup.state.put("edit", "of the backup")
		f := &fuse{}
		backup.fragile(f)
		if err := backup.start(); err != nil {
			t.Fatal(err)
		}
		h := &heir{device: backup}
		f.left.Store(at)
		err := h.step()
		if err == nil && !f.blown.Load() {
			break
		}
		points++
		f.left.Store(0)
		f.blown.Store(false)
		h.restart()
		for range 2 {
			w.pass(time.Hour)
			if err := h.step(); err != nil {
				t.Fatalf("crash at %d: %v", at, err)
			}
		}
		for range 2 {
			w.pass(time.Hour)
			laptop.sync(full)
			phone.sync(full)
			h.sync(full)
		}
		w.same(laptop, phone, h.device, w.restore("tablet"))
		if n := len(laptop.keys.Members()); n != 3 {
			t.Fatalf("crash at %d: there are %d members", at, n)
		}
		if lines := h.linesOf(h.keys.Device()); len(lines) != 1 {
			t.Fatalf("crash at %d: the new device wrote %q", at, lines)
		}
	}
	if points < 20 {
		t.Errorf("there are only %d points of crash", points)
	}
	t.Logf("%d points of crash", points)
}

// TestBecomeNewTwice: a clone that became a new device and is put back from a backup once
// more, before and after it had sent anything, loses nothing either.
func TestBecomeNewTwice(t *testing.T) {
	stages(t, 6, func(t *testing.T, seed uint64) {
		rnd := rand.New(rand.NewPCG(seed, 3))
		w := newWorld(t)
		laptop := w.found("laptop")
		if rnd.IntN(2) == 0 {
			laptop.sync(full)
		}
		d, writes := laptop, 0
		var all []*device
		write := func(d *device) {
			writes++
			d.state.put(fmt.Sprint("record ", writes), d.name)
		}
		for range 3 {
			write(d)
			twin := d.twin("twin")
			write(d)
			d.sync(full)
			all = append(all, d)
			w.pass(time.Hour)
			write(twin)
			h := &heir{device: twin}
			if err := h.step(); err != nil {
				t.Fatal(err)
			}
			d = h.device
		}
		all = append(all, d)
		for range 4 {
			w.pass(time.Hour)
			for _, d := range all {
				d.sync(full)
			}
		}
		w.same(append(all, w.restore("tablet"))...)
		if n := len(d.state.fields); n != writes {
			t.Errorf("of %d records there are %d", writes, n)
		}
	})
}

// TestBecomeNewOfRemoved: a backup of a device that was removed meanwhile cannot become a
// new one by itself.
func TestBecomeNewOfRemoved(t *testing.T) {
	w := newWorld(t)
	laptop := w.found("laptop")
	laptop.sync(full)
	phone := w.restore("phone")
	backup := phone.twin("backup")
	phone.state.put("1", "x")
	phone.sync(full)
	laptop.sync(full)
	if _, err := laptop.Remove(context.Background(), phone.keys.Device()); err != nil {
		t.Fatal(err)
	}
	if err := (&heir{device: backup}).step(); !errors.Is(err, replica.ErrRemoved) {
		t.Errorf("a backup of a removed device: %v", err)
	}
	keys, err := crypto.Join(backup.keys.Invite(), "another")
	if err != nil {
		t.Fatal(err)
	}
	if err := backup.Yield(context.Background(), keys.Device(), keys.Request()); !errors.Is(err, replica.ErrRemoved) {
		t.Errorf("it yields: %v", err)
	}
	if err := laptop.Yield(context.Background(), keys.Device(), keys.Request()); err == nil {
		t.Error("a device that is no copy yields")
	}
}
