package replica_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/locker-project/locker/crypto"
	"github.com/locker-project/locker/daemon/replica"
	"github.com/locker-project/locker/daemon/replica/replicatest"
)

// TestDeadRemote: one remote that does not answer stops nobody, is named, and gets
// everything once it is back. A remote that is added gets everything too.
func TestDeadRemote(t *testing.T) {
	w := newWorld(t)
	dead := true
	second := &replicatest.Cloud{Now: w.now, Fault: func(string, string) error {
		if dead {
			return errors.New("no route to host")
		}
		return nil
	}}
	laptop := w.found("laptop", second, w.cloud)
	laptop.state.put("1", "x")
	s := laptop.sync(replica.SyncOptions{})
	if s.Failed["remote0"] == nil || len(s.Failed) != 1 {
		t.Errorf("failed: %v", s.Failed)
	}
	phone := w.restore("phone")
	w.same(laptop, phone)
	phone.state.put("2", "x")
	phone.sync(full)
	laptop.sync(replica.SyncOptions{})
	w.same(laptop, phone)
	st, err := laptop.Status(context.Background())
	if err != nil || st.Remotes[0].Problem == "" || st.Remotes[0].Unsent == 0 || st.Remotes[1].Unsent != 0 {
		t.Errorf("status: %+v, %v", st.Remotes, err)
	}
	dead = false
	laptop.sync(replica.SyncOptions{})
	own := ownNames(laptop, w.cloud)
	for _, name := range own {
		if !bytes.Equal(second.Object(name), w.cloud.Object(name)) {
			t.Errorf("%s is not the same on both remotes", name)
		}
	}
	third := &replicatest.Cloud{Now: w.now}
	laptop.SetRemotes([]replica.Named{{Name: "third", Remote: third}, laptop.remotes[1]})
	laptop.sync(replica.SyncOptions{})
	if len(third.Names()) < len(own) {
		t.Errorf("a new remote has %d objects, want %d", len(third.Names()), len(own))
	}
	// The rest are the phone's, which does not know that remote: they are copied.
	r, err := laptop.Verify(context.Background(), "third", nil)
	if err != nil || len(r.Missing)+len(r.Bad) != 0 || r.Repaired == 0 {
		t.Errorf("verify: %+v, %v", r, err)
	}
	w.same(laptop, phone, w.restore("from the copy", third))
}

// ownNames are the names of the entries of a device on a cloud.
func ownNames(d *device, c *replicatest.Cloud) (names []string) {
	for n := uint64(1); ; n++ {
		name := d.keys.Name(replica.Ref{Kind: "entry", Writer: d.keys.Device(), Number: n})
		if c.Object(name) == nil {
			return names
		}
		names = append(names, name)
	}
}

// TestRestoreErrors: what stands in the way of a restore is said.
func TestRestoreErrors(t *testing.T) {
	w := newWorld(t)
	laptop := w.found("laptop")
	laptop.state.put("1", "x")
	laptop.sync(full)
	for name, c := range map[string]struct {
		remote replica.Remote
		seed   crypto.Seed
		want   error
	}{
		"empty":       {&replicatest.Cloud{}, w.seed, replica.ErrNoLocker},
		"wrong":       {w.cloud, crypto.NewSeed(), replica.ErrWrongPhrase},
		"unreachable": {&replicatest.Cloud{Fault: func(string, string) error { return errors.New("down") }}, w.seed, replica.ErrUnreachable},
	} {
		keys, err := crypto.Recover(c.seed, "phone")
		phone := w.device("phone", keys, err, c.remote)
		if _, err := phone.Restore(context.Background(), nil); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if len(keys.Members()) != 0 {
			t.Errorf("%s: the device has become a member", name)
		}
	}
	name := laptop.keys.Name(replica.Ref{Kind: "door", Writer: "phrase", Number: 0})
	door := w.cloud.Object(name)
	w.cloud.Set(name, bytes.Repeat([]byte{1}, len(door)))
	if _, err := w.blank("phone").Restore(context.Background(), nil); err == nil {
		t.Error("a damaged door lets a device in")
	}
	w.cloud.Remove(name)
	if _, err := w.blank("phone").Restore(context.Background(), nil); !errors.Is(err, replica.ErrWrongPhrase) {
		t.Errorf("no first door: %v", err)
	}
}

// TestSameDoor restores two devices at once. The second does not overwrite the
// first one's door but takes the next, and all are found by the phrase.
func TestSameDoor(t *testing.T) {
	w := newWorld(t)
	laptop := w.found("laptop")
	laptop.sync(full)
	phone := w.restore("phone")
	door := laptop.keys.Name(replica.Ref{Kind: "door", Writer: "phrase", Number: 1})
	before := w.cloud.Object(door)
	// The tablet sees that door only once it has sealed its own.
	hidden := map[string]bool{door: true}
	tablet := w.blank("tablet", &filtered{w.cloud, hidden})
	tablet.wrap = func(s replica.State) replica.State { return onSeal{s, func() { clear(hidden) }} }
	if err := tablet.start(); err != nil {
		t.Fatal(err)
	}
	if _, err := tablet.Restore(context.Background(), nil); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(w.cloud.Object(door), before) {
		t.Error("the first device's door was overwritten")
	}
	for _, d := range []*device{laptop, phone, tablet} {
		d.state.put(d.name, "x")
		d.sync(full)
	}
	for _, d := range []*device{laptop, phone, tablet} {
		d.sync(full)
	}
	fresh := w.restore("fresh")
	w.same(laptop, phone, tablet, fresh)
	if n := len(fresh.keys.Members()); n != 4 {
		t.Errorf("%d members", n)
	}
}

// onSeal is a State that tells when the first objects are in the outbox.
type onSeal struct {
	replica.State
	do func()
}

func (s onSeal) SetNotes(ctx context.Context, notes map[string][]byte) error {
	err := s.State.SetNotes(ctx, notes)
	if notes["out/0000000000000001"] != nil {
		s.do()
	}
	return err
}

// TestBlobs: blobs of every size come back, large ones over several packs, those
// that do not compress at their own size; a damaged pack is noticed.
func TestBlobs(t *testing.T) {
	w := newWorld(t)
	laptop := w.found("laptop")
	blobs := map[string][]byte{}
	for _, size := range []int{0, 1, 1000, 1 << 20, 1<<20 + 1, 40 << 20} {
		data := make([]byte, size)
		for i := range data {
			data[i] = byte(i*i>>8 ^ i*2654435761>>13)
		}
		blobs[laptop.state.addBlob(data)] = data
	}
	laptop.sync(replica.SyncOptions{})
	laptop.well()
	phone := w.restore("phone")
	for id, data := range blobs {
		if err := phone.Blob(context.Background(), id); err != nil {
			t.Fatalf("blob of %d bytes: %v", len(data), err)
		}
		if !bytes.Equal(phone.state.blobs[id], data) {
			t.Errorf("blob of %d bytes comes back as another", len(data))
		}
	}
	for _, data := range w.cloud.Objects() {
		if len(data) > 16<<20 {
			t.Errorf("an object has %d bytes", len(data))
		}
	}
	if err := phone.Blob(context.Background(), "unknown"); err == nil {
		t.Error("an unknown blob is found")
	}
	tablet := w.restore("tablet")
	pack := laptop.keys.Name(replica.Ref{Kind: "pack", Writer: laptop.keys.Device(), Number: 2})
	data := slices.Clone(w.cloud.Object(pack))
	data[len(data)/2] ^= 4
	w.cloud.Set(pack, data)
	var failed int
	for id := range maps.Keys(blobs) {
		if tablet.Blob(context.Background(), id) != nil {
			failed++
		}
	}
	st, err := tablet.Status(context.Background())
	if err != nil || failed == 0 || len(st.Pending) != failed {
		t.Errorf("%d blobs failed, pending %+v, %v", failed, st.Pending, err)
	}
	if r, err := laptop.Verify(context.Background(), "", nil); err != nil || r.Repaired != 1 {
		t.Errorf("verify: %+v, %v", r, err)
	}
	for id := range blobs {
		if err := tablet.Blob(context.Background(), id); err != nil {
			t.Error(err)
		}
	}
	tablet.well()
}

// TestManyEntries writes enough for several marks, and restores: the search finds
// the newest, and what is deleted is not missed.
func TestManyEntries(t *testing.T) {
	w := newWorld(t)
	laptop := w.found("laptop")
	for i := range 200 {
		laptop.state.put(fmt.Sprint(i), "x")
		laptop.sync(replica.SyncOptions{})
		w.pass(25 * time.Hour) // a mark each
	}
	laptop.well()
	phone := w.restore("phone")
	w.same(laptop, phone)
	phone.well()
	r, err := phone.Verify(context.Background(), "", nil)
	if err != nil || r.Misfits+len(r.Missing)+len(r.Bad) != 0 {
		t.Errorf("verify: %+v, %v", r, err)
	}
	if n := len(w.cloud.Names()); n > 200+45 {
		t.Errorf("%d objects", n)
	}
}
