package replica_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/locker-project/locker/daemon/replica"
	"github.com/locker-project/locker/daemon/replica/replicatest"
)

// notices are the kinds of what is pending and of what is an alarm.
func (d *device) notices() (pending, alarms string) {
	d.w.t.Helper()
	s, err := d.Status(context.Background())
	if err != nil {
		d.w.t.Fatal(err)
	}
	kinds := func(list []replica.Notice) string {
		var out []string
		for _, n := range list {
			if n.What == "" || n.Do == "" {
				d.w.t.Errorf("%+v does not say what is wrong and what to do", n)
			}
			out = append(out, n.Kind)
		}
		return strings.Join(slices.Compact(out), " ")
	}
	return kinds(s.Pending), kinds(s.Alarms)
}

// shows fails the test unless just these kinds are pending and alarms.
func (d *device) shows(when, pending, alarms string) {
	d.w.t.Helper()
	if p, a := d.notices(); p != pending || a != alarms {
		d.w.t.Fatalf("%s, %s: pending %q and alarms %q, want %q and %q", d.name, when, p, a, pending, alarms)
	}
}

// days lets a day go by n times, with a full pass on each device in between.
func (w *world) days(n int, devices ...*device) {
	w.t.Helper()
	for range n {
		for range 4 {
			w.pass(6 * time.Hour)
			for _, d := range devices {
				d.sync(full)
			}
		}
	}
}

func entryName(d *device, number uint64) string {
	return d.keys.Name(replica.Ref{Kind: "entry", Writer: d.keys.Device(), Number: number})
}

// TestNoticesOfALog: what is missing or damaged of a log is pending, then an alarm, is
// healed by its writer, and comes back where it is lost again.
func TestNoticesOfALog(t *testing.T) {
	for kind, damage := range map[string]func(w *world, name string){
		"missing": func(w *world, name string) { w.cloud.Set(name, nil) },
		"bad":     func(w *world, name string) { w.cloud.Set(name, []byte("not what it was")) },
	} {
		t.Run(kind, func(t *testing.T) {
			w := newWorld(t)
			laptop := w.found("laptop")
			laptop.sync(full)
			phone := w.restore("phone")
			laptop.sync(full)
			for range 2 {
				laptop.state.put("a", fmt.Sprint("first", w.now()))
				laptop.sync(replica.SyncOptions{})
				n := w.newest(laptop, "entry")
				w.pass(25 * time.Hour)
				laptop.state.put("b", fmt.Sprint("second", w.now()))
				laptop.sync(replica.SyncOptions{}) // with a mark, which tells of it
				damage(w, entryName(laptop, n))
				phone.sync(full)
				phone.shows("at once", kind, "")
				w.days(2, phone)
				phone.shows("after two days", "", kind)
				phone.restart()
				phone.shows("after a restart", "", kind)
				laptop.sync(full)
				laptop.sync(full)
				phone.sync(full)
				w.same(laptop, phone)
				phone.shows("healed", "", "")
			}
		})
	}
}

// TestNoticesEndWithADevice: what is noted of a device's log ends when the device is
// removed, and its log is taken over.
func TestNoticesEndWithADevice(t *testing.T) {
	w := newWorld(t)
	laptop := w.found("laptop")
	laptop.sync(full)
	phone := w.restore("phone")
	laptop.sync(full)
	phone.state.put("a", "1")
	phone.sync(full)
	n := w.newest(phone, "entry")
	w.pass(25 * time.Hour)
	phone.state.put("b", "2")
	phone.sync(full)
	w.cloud.Set(entryName(phone, n), nil)
	w.days(2, laptop)
	laptop.shows("a gap", "", "missing")
	if _, err := laptop.Remove(context.Background(), phone.keys.Device()); err != nil {
		t.Fatal(err)
	}
	w.days(2, laptop)
	laptop.shows("removed", "", "")
}

// TestNoticesOfARemote: what a remote has lost for good is an alarm, until another
// device that keeps it puts it again, or that remote is used no more.
func TestNoticesOfARemote(t *testing.T) {
	w := newWorld(t)
	other := &replicatest.Cloud{Now: w.now}
	laptop := w.found("laptop", w.cloud, other)
	laptop.sync(full)
	phone := w.restore("phone", w.cloud, other)
	big := make([]byte, 1<<20)
	rand.Read(big)
	phone.state.put("a", fmt.Sprintf("%x", big)) // too large to be kept by others
	phone.sync(full)
	laptop.sync(full)
	name := entryName(phone, w.newest(phone, "entry"))
	for _, cloud := range []*replicatest.Cloud{w.cloud, other} {
		cloud.Set(name, nil)
	}
	r, err := laptop.Verify(context.Background(), "remote1", nil)
	if err != nil || len(r.Missing) == 0 {
		t.Fatalf("verify: %+v, %v", r, err)
	}
	laptop.shows("verified", "missing", "")
	w.days(2, laptop)
	laptop.shows("two days later", "", "missing")
	laptop.SetRemotes(laptop.remotes[:1])
	if err := laptop.ForgetRemote(context.Background(), "remote1"); err != nil {
		t.Fatal(err)
	}
	laptop.sync(full)
	laptop.shows("without that remote", "", "missing")
	phone.SetRemotes(phone.remotes[:1])
	phone.sync(full)
	laptop.sync(full)
	laptop.shows("healed", "", "")
}

// TestNoticeOfABlob: a blob that cannot be fetched is pending until it can, or nobody
// wants it any more.
func TestNoticeOfABlob(t *testing.T) {
	for how, end := range map[string]func(laptop, phone *device, id, name string, good []byte){
		"put again": func(laptop, phone *device, id, name string, good []byte) {
			laptop.w.cloud.Set(name, good)
			if err := phone.Blob(context.Background(), id); err != nil {
				laptop.w.t.Fatal(err)
			}
		},
		"purged": func(laptop, phone *device, id, _ string, _ []byte) {
			laptop.state.ban("a")
			for range 4 {
				laptop.sync(full)
				phone.sync(full)
			}
		},
	} {
		t.Run(how, func(t *testing.T) {
			w := newWorld(t)
			laptop := w.found("laptop")
			laptop.sync(full)
			phone := w.restore("phone")
			id := laptop.state.addBlob([]byte("a picture"))
			laptop.state.put("a", id)
			laptop.sync(full)
			phone.sync(full)
			name := laptop.keys.Name(replica.Ref{Kind: "pack", Writer: laptop.keys.Device(), Number: 1})
			good := w.cloud.Object(name)
			w.cloud.Set(name, nil)
			if err := phone.Blob(context.Background(), id); err == nil {
				t.Fatal("it is on the remote")
			}
			phone.shows("lost", "blob", "")
			end(laptop, phone, id, name, good)
			phone.sync(full)
			phone.shows("in the end", "", "")
		})
	}
}

// TestNoticeOfSilence: no news from a device is pending, then an alarm, and ends with
// news, or with the device.
func TestNoticeOfSilence(t *testing.T) {
	w := newWorld(t)
	laptop := w.found("laptop")
	laptop.sync(full)
	phone := w.restore("phone")
	laptop.sync(full)
	for range 2 {
		w.days(4, laptop)
		laptop.shows("after four days", "silent", "")
		w.days(28, laptop)
		laptop.shows("after a month", "", "silent")
		phone.sync(full)
		laptop.sync(full)
		laptop.shows("with news", "", "")
	}
	w.days(4, laptop)
	if _, err := laptop.Remove(context.Background(), phone.keys.Device()); err != nil {
		t.Fatal(err)
	}
	laptop.shows("removed", "", "")
}

// TestNoticeOfAClock: a device whose clock is ahead is named until its clock is right.
func TestNoticeOfAClock(t *testing.T) {
	w := newWorld(t)
	laptop := w.found("laptop")
	laptop.sync(full)
	phone := w.restore("phone")
	laptop.sync(full)
	ahead := time.Hour
	phone.state.now = func() time.Time { return w.now().Add(ahead) }
	for range 2 {
		ahead = time.Hour
		phone.state.put("a", fmt.Sprint(w.now()))
		phone.sync(full)
		laptop.sync(full)
		laptop.shows("ahead", "clock", "")
		w.days(2, laptop, phone)
		laptop.shows("never an alarm", "clock", "")
		ahead = 0
		phone.state.put("b", fmt.Sprint(w.now()))
		phone.sync(full)
		laptop.sync(full)
		laptop.shows("right", "", "")
	}
}

// TestNoticeOfTheSender: a device that is not shown what this one wrote says so until
// it is shown it.
func TestNoticeOfTheSender(t *testing.T) {
	w := newWorld(t)
	laptop := w.found("laptop")
	laptop.sync(full)
	withheld := true
	shy := hiding{w.cloud, func(name string) bool { return withheld && name == entryName(laptop, w.newest(laptop, "entry")) }}
	phone := w.restore("phone", shy)
	laptop.sync(full)
	laptop.state.put("a", "1")
	laptop.sync(full)
	for range 2 {
		w.pass(25 * time.Hour)
		phone.state.put("b", fmt.Sprint(w.now()))
		phone.sync(full)
	}
	laptop.sync(replica.SyncOptions{})
	laptop.shows("not shown", "", "unseen")
	withheld = false
	phone.sync(full)
	w.pass(2 * time.Hour)
	phone.state.put("b", "shown")
	phone.sync(full)
	laptop.sync(full)
	laptop.shows("shown", "", "")
}

// hiding is a cloud that does not show some objects.
type hiding struct {
	*replicatest.Cloud
	hides func(name string) bool
}

func (h hiding) Get(ctx context.Context, name string, off, n int64) (io.ReadCloser, error) {
	if h.hides(name) {
		return nil, replica.ErrNotFound
	}
	return h.Cloud.Get(ctx, name, off, n)
}

// TestGapHealedByAReader: what a remote has lost of the last entries of a device that is
// away is put again by another one that has read them, also where the listing of the
// remote still shows a part; within bounds, which status shows.
func TestGapHealedByAReader(t *testing.T) {
	w := newWorld(t)
	laptop := w.found("laptop")
	laptop.sync(full)
	phone := w.restore("phone")
	laptop.sync(full)
	for i := range 100 {
		phone.state.put(fmt.Sprint("note", i%9), fmt.Sprint(i))
		phone.sync(replica.SyncOptions{Metered: true})
		laptop.sync(replica.SyncOptions{})
	}
	status := func() replica.DeviceStatus {
		s, err := laptop.Status(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		return s.Devices[slices.IndexFunc(s.Devices, func(d replica.DeviceStatus) bool { return !d.This })]
	}
	if s := status(); s.Copies < 32 || s.Copies > 64 || s.CopyBytes < int64(s.Copies)*4096 || s.CopyBytes > 8<<20 {
		t.Fatalf("%d copies in %d bytes", s.Copies, s.CopyBytes)
	}
	last := w.newest(phone, "entry")
	for number := last - 20; number <= last; number++ {
		name := entryName(phone, number)
		good := w.cloud.Object(name)
		if number%2 == 0 {
			w.cloud.Set(name, nil)
		} else {
			w.cloud.Set(name, good[:100])
		}
	}
	if s := laptop.sync(full); s.Mended < 20 {
		t.Fatalf("%d objects were put again", s.Mended)
	}
	laptop.well()
	fresh := w.restore("fresh")
	w.same(laptop, fresh)
	fresh.well()
	phone.sync(full) // not metered: its base covers them
	phone.sync(full)
	laptop.sync(full)
	if s := status(); s.Copies > 16 {
		t.Fatalf("%d copies after the log was compacted", s.Copies)
	}
}
