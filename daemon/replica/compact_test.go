package replica_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/locker-project/locker/daemon/replica"
	"github.com/locker-project/locker/daemon/replica/replicatest"
)

// ref is an object of a device.
func (d *device) ref(kind string, number uint64) string {
	return d.keys.Name(replica.Ref{Kind: kind, Writer: d.keys.Device(), Number: number})
}

// objects counts the objects of a kind of a device on a cloud.
func (d *device) objects(c *replicatest.Cloud, kind string) (n int) {
	for number := uint64(1); number <= 60000; number++ {
		if c.Object(d.ref(kind, number)) != nil {
			n++
		}
	}
	return n
}

// newest is the name of the newest object of a kind of a device.
func (d *device) newest(c *replicatest.Cloud, kind string) (name string) {
	for number := uint64(1); number <= 3000; number++ {
		if one := d.ref(kind, number); c.Object(one) != nil {
			name = one
		}
	}
	return name
}

// edit makes n entries of one change each.
func (d *device) edit(n int, of string) {
	d.w.t.Helper()
	for i := range n {
		d.state.put(fmt.Sprint(of, i%17), fmt.Sprint(of, i, d.w.now()))
		if i%5 == 4 {
			d.state.write("notes", fmt.Sprint(of, i%17), nil)
		}
		d.sync(replica.SyncOptions{})
		d.w.pass(time.Minute)
	}
}

// verified fails the test unless devices find all as it should be.
func (w *world) verified(devices ...*device) {
	w.t.Helper()
	for _, d := range devices {
		r, err := d.Verify(context.Background(), "", nil)
		if err != nil || len(r.Missing)+len(r.Bad)+r.Misfits+r.Repaired != 0 {
			w.t.Errorf("%s: verify: %+v, %v", d.name, r, err)
		}
		d.well()
	}
}

// TestCompact: entries go once a base covers them; who has read some, all or none of
// them ends with the same.
func TestCompact(t *testing.T) {
	w := newWorld(t)
	laptop := w.found("laptop")
	laptop.sync(full)
	phone := w.restore("phone")
	laptop.edit(20, "a")
	phone.sync(full) // has read some
	laptop.edit(200, "b")
	w.pass(40 * 24 * time.Hour)
	laptop.sync(full)
	entries, runs, bases := laptop.objects(w.cloud, "entry"), laptop.objects(w.cloud, "run"), laptop.objects(w.cloud, "base")
	if entries > 60 || runs == 0 || runs > 8 || bases != 1 {
		t.Errorf("%d entries, %d runs, %d bases", entries, runs, bases)
	}
	fresh := w.restore("fresh")
	w.same(laptop, fresh)
	phone.sync(full)
	w.same(laptop, phone)
	w.verified(laptop, phone, fresh)
	laptop.restart()
	laptop.edit(60, "c")
	phone.sync(full)
	w.same(laptop, phone)
	laptop.well()
}

// compacted is a world in which the laptop has compacted its log many times, and a
// phone that has read all of it.
func compacted(t testing.TB, remotes ...replica.Remote) (w *world, laptop, phone *device) {
	w = newWorld(t)
	w.often = true
	laptop = w.found("laptop", remotes...)
	laptop.sync(full)
	phone = w.restore("phone", remotes...)
	for i := range 4 {
		laptop.edit(12, fmt.Sprint("a", i))
		phone.edit(3, fmt.Sprint("p", i))
		phone.sync(full)
	}
	laptop.sync(full)
	w.pass(25 * time.Hour)
	laptop.sync(full)
	if laptop.objects(w.cloud, "base") == 0 && remotes == nil {
		t.Fatal("nothing is compacted")
	}
	return w, laptop, phone
}

// TestCompactAbsent: a device that was away for a year, with edits of its own that no
// remote has, loses none of them and learns all that happened. A device in a drawer
// stops nobody's deletions.
func TestCompactAbsent(t *testing.T) {
	w, laptop, phone := compacted(t)
	drawer := w.restore("drawer")
	laptop.sync(full)
	drawer.sync(full)
	for i := range 20 {
		drawer.state.put(fmt.Sprint("offline ", i), "of the drawer")
	}
	drawer.state.put("a0", "of the drawer")
	for day := range 60 {
		laptop.edit(2, fmt.Sprint("y", day%7))
		phone.edit(1, fmt.Sprint("z", day%7))
		w.pass(6 * 24 * time.Hour)
		laptop.sync(full)
		phone.sync(full)
	}
	for _, d := range []*device{laptop, phone} {
		if n := d.objects(w.cloud, "entry"); n > 16 {
			t.Errorf("%s has %d entries on the cloud", d.name, n)
		}
	}
	drawer.restart()
	drawer.sync(replica.SyncOptions{Hold: true})
	for range 2 {
		w.pass(2 * time.Hour)
		laptop.sync(full)
		phone.sync(full)
		drawer.sync(full)
	}
	if v := laptop.state.fields["notes\x00offline 7\x00text"]; v.data != `"of the drawer"` {
		t.Errorf("what the drawer wrote offline is %q", v.data)
	}
	w.same(laptop, phone, drawer, w.restore("fresh"))
	w.verified(laptop, phone, drawer)
}

// TestCompactCrash kills a device at every step of passes that compact and delete.
// Whatever the step, nothing is lost for anybody, and what is left is bounded.
func TestCompactCrash(t *testing.T) {
	stride := int64(howMany(40, 16, 0)) // steps that are passed over between two crashes
	if soak() {
		stride = 0
	}
	last := int64(0)
	for at := int64(1); ; at += 1 + last/40 { // further apart where steps are alike
		w, laptop, phone := compacted(t)
		f := &fuse{}
		laptop.fragile(f)
		laptop.restart()
		blown := false
		f.left.Store(at)
		for i := range 10 {
			laptop.state.put(fmt.Sprint("crash ", i), fmt.Sprint(at))
			if _, err := laptop.Sync(context.Background(), full); err != nil && !f.blown.Load() {
				t.Fatal(err)
			}
			w.pass(13 * time.Hour)
			if blown = blown || f.blown.Load(); f.blown.Load() {
				f.left.Store(0)
				f.blown.Store(false)
				laptop.restart()
			}
		}
		f.left.Store(0)
		laptop.sync(full)
		laptop.edit(14, "after")
		w.pass(25 * time.Hour)
		for range 3 {
			laptop.sync(full)
			phone.sync(full)
			w.pass(61 * time.Minute)
		}
		w.same(laptop, phone, w.restore("fresh"))
		laptop.sync(full)
		w.verified(laptop, phone)
		if n := laptop.objects(w.cloud, "entry") + laptop.objects(w.cloud, "run") + laptop.objects(w.cloud, "base"); n > 40 {
			t.Errorf("%d objects are left", n)
		}
		if t.Failed() {
			t.Fatalf("crash at step %d", at)
		}
		if last = at; !blown {
			if at < 60 {
				t.Fatalf("there are only %d steps", at)
			}
			t.Logf("crashes up to step %d", at)
			return
		}
		at += stride
	}
}

// TestCompactRolledBack: a remote that is put back to what it was before the newest
// compactions, or that loses parts of a base, gets everything again before the writer
// relies on it, and what was deleted is deleted again.
func TestCompactRolledBack(t *testing.T) {
	attack := map[string]func(w *world, laptop *device, old map[string][]byte){
		"rolled back": func(w *world, _ *device, old map[string][]byte) { w.cloud.Reset(old) },
		"emptied":     func(w *world, _ *device, _ map[string][]byte) { w.cloud.Reset(nil) },
		"entries back": func(w *world, _ *device, old map[string][]byte) {
			for name, object := range old {
				if w.cloud.Object(name) == nil {
					w.cloud.Set(name, object)
				}
			}
		},
		"run lost":    func(w *world, laptop *device, _ map[string][]byte) { w.cloud.Remove(laptop.newest(w.cloud, "run")) },
		"base lost":   func(w *world, laptop *device, _ map[string][]byte) { w.cloud.Remove(laptop.newest(w.cloud, "base")) },
		"run damaged": func(w *world, laptop *device, _ map[string][]byte) { damage(w.cloud, laptop.newest(w.cloud, "run")) },
		"base damaged": func(w *world, laptop *device, _ map[string][]byte) {
			damage(w.cloud, laptop.newest(w.cloud, "base"))
		},
	}
	for name, do := range attack {
		t.Run(name, func(t *testing.T) {
			w, laptop, phone := compacted(t)
			old := w.cloud.Objects()
			laptop.edit(30, "later")
			phone.sync(full)
			w.pass(25 * time.Hour)
			laptop.sync(full)
			phone.sync(full)
			do(w, laptop, old)
			laptop.restart()
			phone.restart()
			for range 3 {
				laptop.edit(8, "more")
				laptop.sync(full)
				phone.sync(full)
				w.pass(25 * time.Hour)
			}
			if strings.Contains(name, "damaged") { // what is of the right size is found by reading it
				if _, err := laptop.Verify(context.Background(), "", nil); err != nil {
					t.Fatal(err)
				}
			}
			for range 2 {
				laptop.sync(full)
				phone.sync(full)
				w.pass(61 * time.Minute)
			}
			w.same(laptop, phone, w.restore("fresh"))
			laptop.sync(full)
			w.verified(laptop, phone)
			if n := laptop.objects(w.cloud, "entry") + laptop.objects(w.cloud, "run") + laptop.objects(w.cloud, "base"); n > 40 {
				t.Errorf("%d objects are left", n)
			}
		})
	}
}

func damage(c *replicatest.Cloud, name string) {
	object := bytes.Clone(c.Object(name))
	object[len(object)/2] ^= 1
	c.Set(name, object)
}

// TestCompactHidden: a fresh reader and one that was away say that a base or a run of
// it is kept from them, take what there is, and are well once it is shown.
func TestCompactHidden(t *testing.T) {
	for _, kind := range []string{"run", "base"} {
		t.Run(kind, func(t *testing.T) {
			w, laptop, phone := compacted(t)
			laptop.edit(60, "later")
			w.pass(25 * time.Hour)
			laptop.sync(full)
			phone.edit(2, "p") // newer than all that is hidden
			hidden := map[string]bool{laptop.newest(w.cloud, kind): true}
			fresh := w.restore("fresh", &filtered{w.cloud, hidden})
			st, err := fresh.Status(context.Background())
			if err != nil || len(st.Pending) == 0 || len(st.Alarms) > 0 {
				t.Errorf("pending %+v, alarms %+v, %v", st.Pending, st.Alarms, err)
			}
			if len(st.Pending) > 70 {
				t.Errorf("%d notices for one object", len(st.Pending))
			}
			if fresh.state.fields["notes\x00p1\x00text"].data == "" {
				t.Error("what is not hidden was not read")
			}
			for range 30 {
				w.pass(time.Hour)
				fresh.sync(full)
			}
			if st, err = fresh.Status(context.Background()); err != nil || len(st.Alarms) == 0 {
				t.Errorf("no alarm: %+v, %v", st.Pending, err)
			}
			clear(hidden)
			fresh.sync(full)
			laptop.sync(full)
			phone.sync(full)
			laptop.sync(full)
			w.same(laptop, phone, fresh)
			fresh.well()
		})
	}
}

// TestCompactRemotes: of two remotes one is away for long. The other is compacted
// meanwhile, and the one that comes back is a complete copy again. So is one that is
// added later.
func TestCompactRemotes(t *testing.T) {
	for _, away := range []time.Duration{10 * 24 * time.Hour, 200 * 24 * time.Hour} {
		t.Run(fmt.Sprint(away), func(t *testing.T) {
			down := false
			second := &replicatest.Cloud{Fault: func(string, string) error {
				if down {
					return errors.New("no route to host")
				}
				return nil
			}}
			w := newWorld(t)
			w.often = true
			second.Now = w.now
			laptop := w.found("laptop", w.cloud, second)
			laptop.edit(40, "a")
			w.pass(25 * time.Hour)
			laptop.sync(full)
			before := laptop.objects(second, "entry")
			if before == 0 || before > 12 || laptop.objects(second, "base") == 0 {
				t.Fatalf("%d entries on the second remote", before)
			}
			down = true
			for i := range 20 {
				laptop.edit(3, fmt.Sprint("b", i%5))
				w.pass(away / 20)
				laptop.sync(full)
			}
			if n := laptop.objects(w.cloud, "entry"); n > 12 {
				t.Errorf("%d entries on the remote that works", n)
			}
			if n := laptop.objects(second, "entry"); n < before {
				t.Errorf("on the remote that is away are %d entries of %d", n, before)
			}
			down = false
			third := &replicatest.Cloud{Now: w.now}
			laptop.SetRemotes(append(laptop.remotes, replica.Named{Name: "third", Remote: third}))
			for range 3 {
				laptop.sync(full)
				w.pass(25 * time.Hour)
			}
			laptop.well()
			for name, c := range map[string]*replicatest.Cloud{"first": w.cloud, "second": second, "third": third} {
				w.same(laptop, w.restore("from "+name, c))
				if n := laptop.objects(c, "entry") + laptop.objects(c, "run") + laptop.objects(c, "base"); n > 30 {
					t.Errorf("%d objects on the %s remote", n, name)
				}
			}
			for _, name := range []string{"remote0", "remote1", "third"} {
				r, err := laptop.Verify(context.Background(), name, nil)
				if err != nil || len(r.Missing)+len(r.Bad) != 0 {
					t.Errorf("verify %s: %+v, %v", name, r, err)
				}
			}
		})
	}
}

// TestCompactOlder: a device whose program is older than another's carries what it
// does not know, and writes no base and deletes nothing; nor does it take a base of a
// newer form for one. Updated, it goes on.
func TestCompactOlder(t *testing.T) {
	w, laptop, phone := compacted(t)
	laptop.state.log = append(laptop.state.log, []byte(`{"later":"kind","n":1}`+"\n"))
	laptop.sync(full)
	phone.sync(full)
	st, err := phone.Status(context.Background())
	if err != nil || len(st.Pending) != 1 || st.Pending[0].Kind != "newer" || len(st.Alarms) != 0 {
		t.Fatalf("pending %+v, alarms %+v, %v", st.Pending, st.Alarms, err)
	}
	bases, entries := phone.newest(w.cloud, "base"), phone.objects(w.cloud, "entry")
	phone.edit(30, "older")
	w.pass(25 * time.Hour)
	phone.sync(full)
	if now := phone.newest(w.cloud, "base"); now != bases || phone.objects(w.cloud, "entry") < entries+30 {
		t.Errorf("the older device compacts: base %s, then %s; %d entries, then %d", bases, now, entries, phone.objects(w.cloud, "entry"))
	}
	laptop.edit(30, "newer") // its own lines are no stranger to it; they are carried in runs
	w.pass(25 * time.Hour)
	laptop.sync(full)
	fresh := w.restore("fresh")
	found := false
	for key, lines := range fresh.state.notes {
		found = found || strings.HasPrefix(key, "carry/") && string(lines) == `{"later":"kind","n":1}`+"\n"
	}
	if !found {
		t.Error("a line of a kind that is not known was not carried through a run")
	}
	phone.sync(full)
	for key := range phone.state.notes { // as if this version knew it
		if strings.HasPrefix(key, "wait/skew/") {
			delete(phone.state.notes, key)
		}
	}
	phone.restart()
	phone.edit(8, "updated")
	if phone.newest(w.cloud, "base") == bases {
		t.Error("the device does not compact after it was updated")
	}
}

// TestCompactSimulation runs random schedules of devices that compact often, on two
// remotes that fail at random. A failure prints its seed.
func TestCompactSimulation(t *testing.T) {
	runs := uint64(4)
	if testing.Short() {
		runs = 1
	}
	if soak() {
		runs = 2000
	}
	for seed, i := seedOf(t), uint64(0); i < runs; i++ {
		t.Run(fmt.Sprint("seed=", seed+i), func(t *testing.T) { compactSchedule(t, rand.New(rand.NewPCG(seed+i, 4))) })
	}
}

func compactSchedule(t *testing.T, rnd *rand.Rand) {
	w := newWorld(t)
	w.often = true
	var down [2]bool
	clouds := []*replicatest.Cloud{w.cloud, {Now: w.now}}
	for i, c := range clouds {
		c.Fault = func(op, name string) error {
			if down[i] {
				return errors.New("no route to host")
			}
			return nil
		}
	}
	remotes := []replica.Remote{clouds[0], clouds[1]}
	first := w.found("device0", remotes...)
	first.sync(full)
	devices, fuses := []*device{first}, []*fuse{{}}
	first.fragile(fuses[0])
	first.restart()
	writes := 0
	for range 150 {
		n := rnd.IntN(len(devices))
		d := devices[n]
		switch rnd.IntN(14) {
		case 0, 1, 2, 3, 4:
			for range 1 + rnd.IntN(4) {
				writes++
				d.state.put(fmt.Sprint(rnd.IntN(30)), strings.Repeat(fmt.Sprint("write ", writes, " "), 1+rnd.IntN(300)))
				if _, err := d.Sync(context.Background(), replica.SyncOptions{}); err != nil && !down[0] && !down[1] {
					t.Fatal(err)
				}
			}
		case 5:
			d.state.write("notes", fmt.Sprint(rnd.IntN(30)), nil)
		case 6, 7:
			_, err := d.Sync(context.Background(), replica.SyncOptions{Full: rnd.IntN(2) == 0, Hold: rnd.IntN(2) == 0})
			if err != nil && !down[0] && !down[1] {
				t.Fatal(err)
			}
		case 8, 9: // a crash
			fuses[n].left.Store(1 + rnd.Int64N(60))
			d.state.put(fmt.Sprint(rnd.IntN(30)), fmt.Sprint("crash ", writes))
			if _, err := d.Sync(context.Background(), replica.SyncOptions{Full: rnd.IntN(2) == 0}); err == nil && fuses[n].blown.Load() {
				t.Fatal("a crash is no error")
			}
			fuses[n].left.Store(0)
			fuses[n].blown.Store(false)
			d.restart()
		case 10:
			down[rnd.IntN(2)] = rnd.IntN(3) == 0
		case 11:
			w.pass(time.Duration(rnd.IntN(20)) * 24 * time.Hour)
		case 12:
			if len(devices) < 3 && !down[0] && !down[1] {
				next := w.restore(fmt.Sprint("device", len(devices)), remotes...)
				f := &fuse{}
				next.fragile(f)
				next.restart()
				devices, fuses = append(devices, next), append(fuses, f)
			}
		case 13:
			if rnd.IntN(4) == 0 { // a remote loses some things
				c := clouds[rnd.IntN(2)]
				for _, name := range c.Names() {
					if strings.HasPrefix(name, "d/") && rnd.IntN(6) == 0 {
						c.Remove(name)
					}
				}
			}
		}
		w.pass(time.Duration(rnd.IntN(400)) * time.Second)
	}
	down = [2]bool{}
	for range 6 {
		for _, d := range devices {
			if _, err := d.Sync(context.Background(), full); err != nil {
				t.Fatalf("%s: %v", d.name, err)
			}
		}
		w.pass(61 * time.Minute)
	}
	w.same(devices...)
	for _, d := range devices {
		d.well()
		for i, c := range clouds {
			if n := d.objects(c, "entry") + d.objects(c, "run") + d.objects(c, "base"); n > 60 {
				t.Errorf("%s has %d objects on remote %d", d.name, n, i)
			}
		}
	}
	for i, c := range clouds {
		fresh := w.restore(fmt.Sprint("fresh", i), c)
		w.same(devices[0], fresh)
		fresh.well()
	}
}

// TestCompactRemoved: what a removed device wrote up to its pin stays, though it had
// compacted its log, and goes on compacting and deleting because it does not know.
func TestCompactRemoved(t *testing.T) {
	for _, unaware := range []bool{false, true} {
		t.Run(fmt.Sprint("unaware=", unaware), func(t *testing.T) {
			w, laptop, phone := compacted(t)
			phone.edit(20, "last")
			w.pass(25 * time.Hour)
			phone.sync(full)
			laptop.sync(full)
			if phone.objects(w.cloud, "base") == 0 {
				t.Fatal("the phone has no base")
			}
			r, err := laptop.Remove(context.Background(), phone.keys.Device())
			if err != nil || !r.Standing {
				t.Fatalf("%+v, %v", r, err)
			}
			if unaware { // the cloud keeps the removal from it
				hidden := map[string]bool{}
				for name := range w.cloud.Objects() {
					hidden[name] = strings.HasPrefix(name, "k/")
				}
				phone.remotes[0].Remote = &filtered{w.cloud, hidden}
				phone.restart()
				phone.edit(30, "beyond")
				w.pass(40 * 24 * time.Hour)
				if _, err := phone.Sync(context.Background(), full); err != nil {
					t.Fatal(err)
				}
			}
			for range 3 {
				laptop.sync(full)
				w.pass(25 * time.Hour)
			}
			fresh := w.restore("fresh")
			w.same(laptop, fresh)
			for i := range 17 {
				if fresh.state.fields[fmt.Sprintf("notes\x00beyond%d\x00text", i)].data != "" {
					t.Error("something beyond the pin is taken")
				}
			}
			laptop.sync(full)
			w.same(laptop, fresh)
		})
	}
}

// TestCompactAsleep: a device that slept for hours learns soon what was written
// meanwhile, though the entry that it looks for is gone, and so may be the next marks.
func TestCompactAsleep(t *testing.T) {
	for _, asleep := range []time.Duration{2 * time.Hour, 13 * time.Hour} {
		w, laptop, phone := compacted(t)
		phone.sync(full)
		edits := 12 * int(asleep/(2*time.Hour))
		for i := range edits {
			laptop.state.put(fmt.Sprint(i%5), fmt.Sprint("while it sleeps ", i))
			laptop.sync(replica.SyncOptions{})
			w.pass(asleep / time.Duration(edits))
		}
		if asleep > 6*time.Hour {
			phone.sync(replica.SyncOptions{})
		}
		for range 8 { // the turn of every peer
			phone.sync(replica.SyncOptions{Hold: true})
			w.pass(2 * time.Minute)
		}
		w.same(laptop, phone)
		phone.well()
	}
}
