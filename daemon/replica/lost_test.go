package replica_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/locker-project/locker/daemon/replica"
	"github.com/locker-project/locker/daemon/replica/replicatest"
)

// TestVerifyUnread: what a new device could not read is missing or bad in what
// verify reports, and not only pending.
func TestVerifyUnread(t *testing.T) {
	for _, name := range []string{"flip", "cut", "empty", "swap", "drop", "junk"} {
		t.Run(name, func(t *testing.T) {
			h := newHistory(t)
			old := h.cloud.Objects()
			h.laptop.state.put("first", "x")
			h.laptop.sync(replica.SyncOptions{})
			first, other := "", ""
			for object := range h.cloud.Objects() {
				switch {
				case old[object] == nil && object[:2] == "d/":
					first = object
				case object[:2] == "d/":
					other = object
				}
			}
			h.news()
			h.phone.sync(replica.SyncOptions{})
			h.phone.state.put("later", "x")
			h.phone.sync(replica.SyncOptions{}) // names what it has read
			attacks[name](h.cloud, first, other)
			fresh := h.restore("fresh")
			for range 2 {
				r, err := fresh.Verify(context.Background(), "", nil)
				if err != nil {
					t.Fatal(err)
				}
				if len(r.Missing)+len(r.Bad) == 0 {
					t.Errorf("verify reports nothing: %+v", r)
				}
			}
			h.healed()
		})
	}
}

// TestRolledBack: when the cloud shows an earlier state, a device that has read more
// says so, and one that wrote more puts it again, in the first ordinary pass after
// its start.
func TestRolledBack(t *testing.T) {
	for _, empty := range []bool{false, true} {
		h := newHistory(t)
		old := h.cloud.Objects()
		h.news()
		h.phone.sync(replica.SyncOptions{})
		h.same(h.laptop, h.phone)
		h.pass(5 * time.Minute)
		lost := h.cloud.Objects()
		for name := range lost {
			if old[name] == nil || empty {
				h.cloud.Remove(name)
			}
		}
		h.phone.restart()
		s := h.phone.sync(replica.SyncOptions{})
		if len(s.Pending)+len(s.Alarms)+s.Mended == 0 { // it puts again what it keeps of others
			t.Errorf("empty %v: the phone does not notice", empty)
		}
		h.laptop.restart()
		h.laptop.sync(replica.SyncOptions{})
		for name := range lost {
			if old[name] == nil && h.cloud.Object(name) == nil {
				t.Errorf("empty %v: %s was not put again", empty, name)
			}
		}
		h.healed()
	}
}

// TestRestoreOfWhatIsLeft: a restore from a damaged remote brings everything else, and
// lists exactly what is missing.
func TestRestoreOfWhatIsLeft(t *testing.T) {
	h := newHistory(t)
	lostBlob, kept := h.laptop.state.addBlob([]byte("lost picture")), h.phone.state.addBlob([]byte("kept picture"))
	h.laptop.state.put("picture", lostBlob)
	h.phone.state.put("other picture", kept)
	h.laptop.sync(full)
	h.phone.sync(full)
	h.laptop.state.put("what is lost", "x")
	h.laptop.sync(replica.SyncOptions{})
	entry := h.newest(h.laptop, "entry")
	h.laptop.state.put("after it", "x")
	h.laptop.sync(replica.SyncOptions{})
	h.phone.sync(full)
	device := h.laptop.keys.Device()
	entryName := h.laptop.keys.Name(replica.Ref{Kind: "entry", Writer: device, Number: entry})
	pack := h.newest(h.laptop, "pack")
	packName := h.laptop.keys.Name(replica.Ref{Kind: "pack", Writer: device, Number: pack})
	good := map[string][]byte{entryName: h.cloud.Object(entryName), packName: h.cloud.Object(packName)}
	h.cloud.Set(entryName, good[entryName][:3000])
	h.cloud.Remove(packName)

	fresh := h.blank("fresh")
	r, err := fresh.Restore(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range r.Missing {
		got = append(got, fmt.Sprintf("%s %d of %s is %s: %d blobs, %v", m.Kind, m.Number, m.Name, m.Why, len(m.Blobs), m.Collections))
		if m.Object != entryName && m.Object != packName || m.Kind == "pack" && m.Blobs[0] != lostBlob {
			t.Errorf("%+v is not missing", m)
		}
	}
	want := []string{
		fmt.Sprintf("entry %d of laptop is bad: 0 blobs, []", entry),
		fmt.Sprintf("pack %d of laptop is missing: 1 blobs, [notes]", pack),
	}
	if !slices.Equal(got, want) {
		t.Errorf("missing are %v, want %v", got, want)
	}
	text := fresh.state.hash()
	for name, object := range good {
		h.cloud.Set(name, object)
	}
	fresh.sync(full)
	if fresh.state.hash() == text {
		t.Error("nothing was missing")
	}
	h.same(h.laptop, h.phone, fresh)
	if m, err := fresh.Missing(context.Background()); err != nil || len(m) > 0 {
		t.Errorf("still missing: %+v, %v", m, err)
	}
	if err := fresh.Blob(context.Background(), kept); err != nil {
		t.Error(err)
	}
}

// TestRemoteAdded: a remote that is added later gets what others wrote, too. That it
// was never there is no alarm, and a new device restores from it alone.
func TestRemoteAdded(t *testing.T) {
	for _, o := range []replica.SyncOptions{{}, full} {
		h := newHistory(t)
		second := &replicatest.Cloud{Now: h.now}
		h.phone.SetRemotes(append(h.phone.remotes, replica.Named{Name: "second", Remote: second}))
		h.phone.sync(o)
		h.phone.well()
		h.laptop.state.put("later", "x")
		h.laptop.sync(replica.SyncOptions{})
		h.pass(25 * time.Hour) // whatever is looked at once a day has its turn
		h.phone.sync(replica.SyncOptions{})
		h.phone.well()
		h.same(h.laptop, h.phone, h.restore("fresh", second))
	}
}

// TestProbesAreNoObjects: a pass that finds nothing new brings no objects.
func TestProbesAreNoObjects(t *testing.T) {
	h := newHistory(t)
	h.phone.restart()
	if s := h.phone.sync(replica.SyncOptions{}); s.ObjectsDown != 0 {
		t.Errorf("an idle pass brought %d objects", s.ObjectsDown)
	}
}
