package replica_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/locker-project/locker/daemon/replica"
)

// TestOneRequest: a change costs one put, and one more for a mark each sixteen
// entries; nothing is read or listed for it.
func TestOneRequest(t *testing.T) {
	w := newWorld(t)
	laptop := w.found("laptop")
	laptop.sync(replica.SyncOptions{})
	w.restore("phone")
	laptop.sync(full)
	requests := func() (sum [4]int) {
		for i, op := range []string{"put", "get", "list", "delete"} {
			sum[i] = w.cloud.Requests(op)
		}
		return sum
	}
	marks := 0
	for i := range 16 {
		before := requests()
		laptop.state.put(fmt.Sprint(i), "x")
		s := laptop.sync(replica.SyncOptions{Hold: true, Push: true})
		after := requests()
		if after[0]-before[0] == 2 && s.ObjectsUp == 2 {
			marks++
			before[0]++
		}
		if before[0]++; before != after {
			t.Errorf("change %d: puts, gets, lists, deletions %v, expected %v", i, after, before)
		}
		if s.BytesUp > 2*4096 {
			t.Errorf("change %d: %d bytes up", i, s.BytesUp)
		}
	}
	if marks != 1 {
		t.Errorf("%d marks for 16 entries", marks)
	}
	before := requests()
	laptop.sync(replica.SyncOptions{Hold: true, Push: true})
	if after := requests(); after != before {
		t.Errorf("nothing to send: puts, gets, lists, deletions %v, expected %v", after, before)
	}
	laptop.state.put("waits", "x")
	laptop.sync(replica.SyncOptions{Hold: true, Pull: true})
	if after := requests(); after[0] != before[0] || after[1] != before[1]+1 {
		t.Errorf("a look: puts, gets, lists, deletions %v after %v", after, before)
	}
}

// TestPollingMany: with ten devices a look is still one GET, and who looks as soon as
// a pass says has seen everyone within ten minutes.
func TestPollingMany(t *testing.T) {
	w := newWorld(t)
	laptop := w.found("laptop")
	laptop.sync(replica.SyncOptions{})
	var peers []*device
	for i := range 9 {
		peers = append(peers, w.restore(fmt.Sprint("device", i)))
	}
	w.pass(time.Minute)
	laptop.sync(full)
	w.pass(10 * time.Hour)
	within := time.Second
	poll := func() (gets int) {
		w.pass(within)
		before := w.cloud.Requests("get")
		within = laptop.sync(replica.SyncOptions{Hold: true}).Within
		return w.cloud.Requests("get") - before
	}
	for range 30 {
		if n := poll(); n != 1 {
			t.Errorf("%d GETs in a poll", n)
		}
	}
	for i, d := range peers {
		d.state.put(fmt.Sprint(i), d.name)
		d.sync(replica.SyncOptions{})
		wrote, looks := w.now(), 0
		for laptop.state.fields["notes\x00"+fmt.Sprint(i)+"\x00text"].data == "" && w.now().Sub(wrote) < time.Hour {
			poll()
			looks++
		}
		if took := w.now().Sub(wrote); took > 10*time.Minute {
			t.Errorf("what %s wrote came after %v and %d looks", d.name, took, looks)
		}
	}
	peers[4].state.put("told", "of")
	peers[4].sync(replica.SyncOptions{})
	laptop.sync(replica.SyncOptions{Hold: true, Told: true})
	if laptop.state.fields["notes\x00told\x00text"].data == "" {
		t.Error("a remote told of news, and it was not found")
	}
}
