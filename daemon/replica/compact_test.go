package replica_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/locker-project/locker/daemon/replica"
)

// kinds counts the objects of a cloud by what devices know of them.
func (w *world) count(d *device, kind string, most uint64) (n int) {
	for number := uint64(1); number <= most; number++ {
		if w.cloud.Object(d.keys.Name(replica.Ref{Kind: kind, Writer: d.keys.Device(), Number: number})) != nil {
			n++
		}
	}
	return n
}

// edit makes n entries of one change each.
func (d *device) edit(n int, of string) {
	d.w.t.Helper()
	for i := range n {
		d.state.put(fmt.Sprint(of, i%17), fmt.Sprint(of, i, d.w.now()))
		d.sync(replica.SyncOptions{})
		d.w.pass(time.Minute)
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
	entries, runs, bases := w.count(laptop, "entry", 300), w.count(laptop, "run", 300), w.count(laptop, "base", 300)
	if entries > 60 || runs == 0 || runs > 8 || bases != 1 {
		t.Errorf("%d entries, %d runs, %d bases", entries, runs, bases)
	}
	fresh := w.restore("fresh")
	w.same(laptop, fresh)
	fresh.well()
	phone.sync(full)
	w.same(laptop, phone)
	phone.well()
	for _, d := range []*device{laptop, phone, fresh} {
		r, err := d.Verify(context.Background(), "", nil)
		if err != nil || len(r.Missing)+len(r.Bad)+r.Misfits+r.Repaired != 0 {
			t.Errorf("%s: verify: %+v, %v", d.name, r, err)
		}
	}
	laptop.restart()
	laptop.edit(60, "c")
	phone.sync(full)
	w.same(laptop, phone)
	laptop.well()
}
