package replica_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/locker-project/locker/crypto"
	"github.com/locker-project/locker/daemon/replica"
	"github.com/locker-project/locker/daemon/replica/replicatest"
)

// replace makes a device put another phrase in the place of the one that stands.
func (d *device) replace(next crypto.Seed) (*crypto.NewPhrase, error) {
	d.w.t.Helper()
	var n *crypto.NewPhrase
	_, err := d.ReplacePhrase(context.Background(), func() (made *crypto.NewPhrase, err error) {
		n, err = d.keys.ReplacePhrase(next)
		return n, err
	})
	return n, err
}

// restoreReplaced restores a device with a phrase that replaced another one.
func (w *world) restoreReplaced(name string, seed crypto.Seed, remotes ...replica.Remote) (*device, error) {
	w.t.Helper()
	if remotes == nil {
		remotes = []replica.Remote{w.cloud}
	}
	finder, err := replica.Find(context.Background(), named(remotes), crypto.FinderName(seed))
	if err != nil || finder == nil {
		return nil, errors.Join(err, errNoFinder)
	}
	keys, err := crypto.RecoverReplaced(seed, finder, name)
	d := w.device(name, keys, err, remotes...)
	_, err = d.Restore(context.Background(), nil)
	return d, err
}

var errNoFinder = errors.New("the new phrase finds nothing")

// TestPhraseReplaced: signed by the phrase that goes, all devices follow; the new one
// restores from one remote alone, also once it was replaced again; the old one does not.
func TestPhraseReplaced(t *testing.T) {
	w := newWorld(t)
	laptop := w.found("laptop")
	laptop.state.put("1", "x")
	laptop.sync(full)
	phone := w.restore("phone")
	phone.state.put("2", "x")
	phone.sync(full)
	second, third := crypto.NewSeed(), crypto.NewSeed()
	laptop.restartWithPhrase()
	n, err := laptop.replace(second)
	if err != nil {
		t.Fatal(err)
	}
	phone.sync(full)
	laptop.state.put("3", "x")
	laptop.sync(full)
	phone.sync(full)
	for _, d := range []*device{laptop, phone} {
		d.restart()
		if d.keys.Phrase() != n.ID || !d.keys.CheckPhrase(second) {
			t.Errorf("%s does not follow after a restart", d.name)
		}
		d.well()
	}
	if _, err := w.blank("thief").Restore(context.Background(), nil); !errors.Is(err, crypto.ErrReplaced) {
		t.Errorf("with the old phrase: %v", err)
	}
	tablet, err := w.restoreReplaced("tablet", second)
	if err != nil {
		t.Fatal(err)
	}
	w.same(laptop, phone, tablet)
	tablet.state.put("4", "x")
	tablet.sync(full)
	tablet.well()
	if _, err := tablet.replace(third); err != nil { // it holds the second one still
		t.Fatal(err)
	}
	joined := w.join(tablet, "joined")
	all := []*device{laptop, phone, tablet, joined}
	for range 2 {
		for _, d := range all {
			d.sync(full)
		}
	}
	fresh, err := w.restoreReplaced("fresh", third)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range append(all, fresh) {
		d.sync(full)
	}
	for _, d := range all {
		d.sync(full)
		d.well()
		if !d.keys.CheckPhrase(third) || len(d.keys.Members()) != 5 {
			t.Errorf("%s: the members are %v", d.name, d.keys.Members())
		}
	}
	w.same(append(all, fresh)...)
	if _, err := w.restoreReplaced("late", second); !errors.Is(err, crypto.ErrReplaced) {
		t.Errorf("with the second phrase: %v", err)
	}
	r, err := phone.Verify(context.Background(), "", nil)
	if err != nil || len(r.Missing)+len(r.Bad) != 0 {
		t.Errorf("verify: %+v, %v", r, err)
	}
}

// TestPhraseOffered: said by a device alone, every other one asks its owner, and goes
// on with the former phrase until he says yes; a no is kept.
func TestPhraseOffered(t *testing.T) {
	w := newWorld(t)
	laptop := w.found("laptop")
	laptop.sync(full)
	phone, tablet := w.restore("phone"), w.restore("tablet")
	all := []*device{laptop, phone, tablet}
	settle := func() {
		for range 3 {
			for _, d := range all {
				d.restart()
				d.sync(full)
				w.pass(time.Hour)
			}
		}
	}
	settle()
	second := crypto.NewSeed()
	n, err := laptop.replace(second)
	if err != nil {
		t.Fatal(err)
	}
	settle()
	for _, d := range all[1:] {
		offers := d.PendingPhrases()
		if len(offers) != 1 || offers[0].ID != n.ID || offers[0].By != laptop.keys.Device() {
			t.Fatalf("%s: offered are %+v", d.name, offers)
		}
		st, err := d.Status(context.Background())
		if err != nil || len(st.Alarms) != 0 || len(st.Pending) != 1 || st.Pending[0].Kind != "phrase" || !strings.Contains(st.Pending[0].Do, n.ID) {
			t.Errorf("%s: %+v, %v", d.name, st.Pending, err)
		}
		d.state.put(d.name, "x")
	}
	settle()
	objects := len(w.cloud.Names())
	laptop.well()
	w.same(all...)
	w.restore("with the former one") // which stands for the phone and the tablet
	if err := tablet.RefusePhrase(context.Background(), n.ID); err != nil {
		t.Fatal(err)
	}
	if err := phone.AcceptPhrase(context.Background(), "aaaabbbbccccdddd"); err == nil {
		t.Error("a phrase that nobody offered is accepted")
	}
	if err := phone.AcceptPhrase(context.Background(), n.ID); err != nil {
		t.Fatal(err)
	}
	settle()
	phone.well()
	tablet.well()
	if !phone.keys.CheckPhrase(second) || !tablet.keys.CheckPhrase(w.seed) || len(tablet.PendingPhrases()) != 0 {
		t.Errorf("the phone has %s, the tablet %s", phone.keys.Phrase(), tablet.keys.Phrase())
	}
	w.same(all...)
	fresh, err := w.restoreReplaced("fresh", second)
	if err != nil {
		t.Fatal(err)
	}
	w.same(laptop, fresh)
	// The owner changes his mind.
	if err := tablet.AcceptPhrase(context.Background(), n.ID); err == nil {
		t.Error("a phrase that was refused is offered")
	}
	if made := len(w.cloud.Names()) - objects; made > 60 {
		t.Errorf("%d objects were made", made)
	}
}

// TestPhraseFinder: the object that the new phrase needs is put again by any device
// that can, and goes to every remote.
func TestPhraseFinder(t *testing.T) {
	w := newWorld(t)
	second := &replicatest.Cloud{Now: w.now}
	laptop := w.found("laptop")
	laptop.sync(full)
	phone := w.restore("phone")
	next := crypto.NewSeed()
	laptop.restartWithPhrase()
	n, err := laptop.replace(next)
	if err != nil {
		t.Fatal(err)
	}
	phone.sync(full)
	finder := w.cloud.Object(n.At)
	if finder == nil {
		t.Fatal("the new phrase's object is not on the remote")
	}
	w.cloud.Remove(n.At)
	phone.sync(full)
	if !bytes.Equal(w.cloud.Object(n.At), finder) {
		t.Error("the new phrase's object is not put again by another device")
	}
	w.cloud.Set(n.At, append(slices.Clone(finder[:100]), finder[99:]...))
	if r, err := phone.Verify(context.Background(), "", nil); err != nil || r.Repaired == 0 || !bytes.Equal(w.cloud.Object(n.At), finder) {
		t.Errorf("verify: %+v, %v", r, err)
	}
	phone.SetRemotes(append(slices.Clone(phone.remotes), replica.Named{Name: "second", Remote: second}))
	phone.sync(full)
	if r, err := phone.Verify(context.Background(), "second", nil); err != nil || len(r.Missing)+len(r.Bad) != 0 {
		t.Errorf("verify: %+v, %v", r, err)
	}
	fresh, err := w.restoreReplaced("fresh", next, second)
	if err != nil {
		t.Fatal(err)
	}
	w.same(laptop, phone, fresh)
	if _, err := replica.Find(context.Background(), named([]replica.Remote{w.cloud}), "../x"); err == nil {
		t.Error("a path is looked for")
	}
	if object, err := replica.Find(context.Background(), named([]replica.Remote{w.cloud}), crypto.FinderName(crypto.NewSeed())); err != nil || object != nil {
		t.Errorf("%d bytes are found for another phrase (%v)", len(object), err)
	}
}

// TestPhraseKilled kills a device at each step of the replacement. What stands then is
// one of the two, on all devices the same, and that one restores.
func TestPhraseKilled(t *testing.T) {
	step := int64(3)
	if testing.Short() {
		step = 11
	}
	for _, signed := range []bool{true, false} {
		before, after := 0, 0
		for at := int64(1); ; at += step {
			w := newWorld(t)
			laptop := w.found("laptop")
			laptop.state.put("1", "x")
			laptop.sync(full)
			phone := w.restore("phone")
			f := &fuse{}
			laptop.fragile(f)
			if signed {
				laptop.restartWithPhrase()
			} else {
				laptop.restart()
			}
			next := crypto.NewSeed()
			f.left.Store(at)
			n, err := laptop.replace(next)
			done := !f.blown.Load()
			if done && err != nil || !done && !signed && err == nil {
				t.Fatalf("step %d: %v", at, err)
			}
			f.left.Store(0)
			f.blown.Store(false)
			laptop.restart()
			laptop.sync(full)
			laptop.sync(full)
			phone.sync(full)
			if offers := phone.PendingPhrases(); len(offers) == 1 {
				if err := phone.AcceptPhrase(context.Background(), offers[0].ID); err != nil {
					t.Fatal(err)
				}
				phone.sync(full)
			}
			if len(laptop.PendingPhrases()) != 0 {
				t.Errorf("step %d: the device asks about what it said itself", at)
			}
			for _, d := range []*device{laptop, phone} {
				d.sync(full)
				d.state.put(d.name, "x")
				d.sync(full)
			}
			laptop.sync(full)
			if laptop.keys.Phrase() != phone.keys.Phrase() {
				t.Fatalf("step %d: the laptop has %s, the phone %s", at, laptop.keys.Phrase(), phone.keys.Phrase())
			}
			var fresh *device
			if n != nil && laptop.keys.Phrase() == n.ID {
				after++
				if fresh, err = w.restoreReplaced("fresh", next); err != nil {
					t.Fatalf("step %d: the new phrase does not restore: %v", at, err)
				}
			} else {
				before++
				fresh = w.restore("fresh")
			}
			w.same(laptop, phone, fresh)
			if done {
				break
			}
		}
		if before == 0 || after < 2 {
			t.Errorf("signed %v: %d times the old one stood, %d the new one: that is no test of both", signed, before, after)
		}
	}
}
