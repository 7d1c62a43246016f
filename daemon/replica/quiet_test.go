package replica_test

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/locker-project/locker/daemon/replica"
)

// TestQuiet: devices that have nothing to say to each other soon say nothing but
// their daily signs of life, and nobody answers those.
func TestQuiet(t *testing.T) {
	w := newWorld(t)
	laptop := w.found("laptop")
	laptop.sync(replica.SyncOptions{})
	phone := w.restore("phone")
	laptop.state.put("1", "x")
	puts := func(d time.Duration) int {
		before := w.cloud.Requests("put")
		for passed := time.Duration(0); passed < d; passed += time.Minute {
			w.pass(time.Minute)
			laptop.sync(replica.SyncOptions{Hold: true})
			phone.sync(replica.SyncOptions{Hold: true})
		}
		return w.cloud.Requests("put") - before
	}
	if n := puts(3 * time.Hour); n < 2 || n > 6 {
		t.Errorf("in the hours after a change there are %d puts", n)
	}
	if n := puts(10 * 24 * time.Hour); n < 20 || n > 44 { // an entry and a mark a day each
		t.Errorf("in ten quiet days there are %d puts", n)
	}
	laptop.well()
	phone.well()
	w.same(laptop, phone)
}

// TestHold: what apps and the audit log write waits for an hour, what the owner
// writes does not.
func TestHold(t *testing.T) {
	w := newWorld(t)
	laptop := w.found("laptop")
	laptop.sync(replica.SyncOptions{})
	hold := func() int { return laptop.sync(replica.SyncOptions{Hold: true}).ObjectsUp }
	laptop.state.write("_audit", "1", nil)
	if n := hold(); n != 0 {
		t.Errorf("an audit record caused %d puts at once", n)
	}
	w.pass(59 * time.Minute)
	if n := hold(); n != 0 {
		t.Errorf("an audit record caused %d puts within the hour", n)
	}
	w.pass(2 * time.Minute)
	if n := hold(); n != 1 {
		t.Errorf("an audit record caused %d puts after an hour", n)
	}
	laptop.state.write("_audit", "2", nil)
	laptop.state.put("1", "by the owner")
	if n := hold(); n != 1 {
		t.Errorf("the owner's change caused %d puts", n)
	}
}

// TestPolling: a pass of the timer makes one GET, and every peer has its turn within
// ten minutes.
func TestPolling(t *testing.T) {
	w := newWorld(t)
	laptop := w.found("laptop")
	laptop.sync(replica.SyncOptions{})
	peers := []*device{w.restore("phone"), w.restore("tablet"), w.restore("server")}
	w.pass(time.Minute)
	laptop.sync(full)
	gets := w.cloud.Requests("get")
	for range 60 {
		w.pass(time.Minute)
		laptop.sync(replica.SyncOptions{Hold: true})
	}
	if n := w.cloud.Requests("get") - gets; n > 75 {
		t.Errorf("%d GETs in 60 polls", n)
	}
	for i, d := range peers {
		d.state.put(fmt.Sprint(i), d.name)
		d.sync(replica.SyncOptions{})
		for range 11 {
			w.pass(time.Minute)
			laptop.sync(replica.SyncOptions{Hold: true})
		}
		if laptop.state.fields["notes\x00"+fmt.Sprint(i)+"\x00text"].data == "" {
			t.Errorf("what %s wrote did not arrive within eleven minutes", d.name)
		}
	}
}

// TestDailyLook: passes of the timer alone notice within a day that the remote lost
// something, and put it again.
func TestDailyLook(t *testing.T) {
	w := newWorld(t)
	laptop := w.found("laptop")
	laptop.state.put("1", "x")
	laptop.sync(replica.SyncOptions{Hold: true})
	name := laptop.keys.Name(replica.Ref{Kind: "entry", Writer: laptop.keys.Device(), Number: 1})
	before := w.cloud.Object(name)
	w.cloud.Remove(name)
	for range 25 {
		w.pass(time.Hour)
		laptop.sync(replica.SyncOptions{Hold: true})
	}
	if !bytes.Equal(w.cloud.Object(name), before) {
		t.Error("the lost object was not put again")
	}
}
