package replica_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/locker-project/locker/daemon/replica"
)

// A reader notes which objects of the logs are fetched, in order.
type fetches struct {
	mu    sync.Mutex
	names map[string]replica.Ref
	refs  []replica.Ref
}

// watch begins to note fetches of what devices have written up to now.
func (w *world) watch(devices ...*device) *fetches {
	f := &fetches{names: map[string]replica.Ref{}}
	for _, d := range devices {
		for n := uint64(1); n <= 300; n++ {
			for _, kind := range []string{"entry", "run"} {
				ref := replica.Ref{Kind: kind, Writer: d.keys.Device(), Number: n}
				if name := d.keys.Name(ref); w.cloud.Object(name) != nil {
					f.names[name] = ref
				}
			}
		}
	}
	w.cloud.Fault = func(op, name string) error {
		f.mu.Lock()
		defer f.mu.Unlock()
		if ref, ok := f.names[name]; ok && op == "get" {
			f.refs = append(f.refs, ref)
		}
		return nil
	}
	return f
}

// writers makes two devices that take turns in writing n entries each, a minute apart.
func writers(t *testing.T, n int) (*world, *device, *device) {
	w := newWorld(t)
	laptop := w.found("laptop")
	laptop.sync(replica.SyncOptions{})
	phone := w.restore("phone")
	laptop.sync(full)
	for i := range n {
		for _, d := range []*device{laptop, phone} {
			w.pass(time.Minute)
			d.state.put(fmt.Sprint(d.name, i), fmt.Sprint(i))
			d.sync(replica.SyncOptions{Hold: true, Push: true})
		}
	}
	laptop.sync(full)
	phone.sync(full)
	return w, laptop, phone
}

// has says whether a device has the i-th note of another.
func (d *device) has(other *device, i int) bool {
	d.state.mu.Lock()
	defer d.state.mu.Unlock()
	return d.state.fields[fmt.Sprintf("notes\x00%s%d\x00text", other.name, i)].data != ""
}

// TestFillNewestFirst: a new device is a member before it has read anything, reads all
// logs backwards, the newest entry of any of them next, says how far it is, and lets
// nothing count as missing meanwhile.
func TestFillNewestFirst(t *testing.T) {
	const n = 20
	w, laptop, phone := writers(t, n)
	tablet := w.blank("tablet")
	if _, err := tablet.Enter(context.Background(), nil); err != nil {
		t.Fatal(err)
	}
	if slices.Contains([]bool{tablet.has(laptop, 0), tablet.has(phone, n-1)}, true) || len(tablet.keys.Members()) != 3 {
		t.Fatal("the first part reads data, or does not make a member")
	}
	seen := w.watch(laptop, phone)
	last := map[string]int{"laptop": n, "phone": n}
	passes := 0
	for more := true; more; passes++ {
		more = tablet.sync(replica.SyncOptions{Hold: true, For: 1}).More
		st, err := tablet.Status(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if len(st.Pending)+len(st.Alarms) > 0 || more != (st.Fill != nil) {
			t.Fatalf("pass %d: %+v", passes, st)
		}
		if more && (st.Fill.Read < passes || st.Fill.Objects < st.Fill.Read || st.Fill.Objects > 2*n+10) {
			t.Fatalf("pass %d: %+v", passes, st.Fill)
		}
		for _, d := range []*device{laptop, phone} {
			for last[d.name] > 0 && tablet.has(d, last[d.name]-1) {
				last[d.name]--
			}
			for i := range last[d.name] {
				if tablet.has(d, i) {
					t.Fatalf("pass %d: note %d of %s is here before note %d", passes, i, d.name, last[d.name]-1)
				}
			}
		}
		if a, b := last["laptop"], last["phone"]; max(a, b)-min(a, b) > 4 {
			t.Fatalf("pass %d: notes from %d of the laptop are here, and from %d of the phone", passes, a, b)
		}
	}
	if passes < n {
		t.Errorf("filled in %d passes", passes)
	}
	w.same(laptop, phone, tablet)
	counts := map[replica.Ref]int{}
	for _, ref := range seen.refs {
		if counts[ref]++; counts[ref] > 6 { // one that was looked for beyond the mark, or fetched ahead in a pass that ended
			t.Errorf("%v was fetched %d times", ref, counts[ref])
		}
	}
}

// TestFillRuns: what a base covers comes as its runs, the newest first, and no entry
// that it covers is asked for.
func TestFillRuns(t *testing.T) {
	w, laptop, phone := writers(t, 130)
	seen := w.watch(laptop, phone)
	tablet := w.restore("tablet")
	w.same(laptop, phone, tablet)
	tablet.well()
	newest, runs := map[string]uint64{}, 0
	covered, again := map[string]bool{}, map[replica.Ref]bool{}
	for _, ref := range seen.refs {
		if again[ref] {
			continue // it is looked whether the remote still has the newest
		}
		again[ref] = true
		if ref.Kind == "run" {
			runs, covered[ref.Writer] = runs+1, true
			continue
		}
		if covered[ref.Writer] {
			t.Errorf("%v is fetched after runs of its log", ref)
		}
		if newest[ref.Writer] != 0 && ref.Number > newest[ref.Writer]+1 {
			t.Errorf("%v is fetched after entry %d", ref, newest[ref.Writer])
		}
		newest[ref.Writer] = ref.Number
	}
	if runs == 0 || len(seen.refs) > 200 {
		t.Errorf("%d objects were fetched, %d of them runs", len(seen.refs), runs)
	}
}

// TestFillKilled: a filling that is killed after each object goes on where it was; the
// phrase is not needed for it, and what is written meanwhile is sent.
func TestFillKilled(t *testing.T) {
	w, laptop, phone := writers(t, 60)
	tablet := w.blank("tablet")
	if _, err := tablet.Enter(context.Background(), nil); err != nil {
		t.Fatal(err)
	}
	seen := w.watch(laptop, phone)
	tablet.state.put("meanwhile", "x")
	passes := 0
	for more := true; more && passes < 500; passes++ {
		tablet.restart()
		more = tablet.sync(replica.SyncOptions{For: 1}).More
		if passes == 3 {
			laptop.sync(full)
			if laptop.state.fields["notes\x00meanwhile\x00text"].data == "" {
				t.Error("what is written during a filling is not sent")
			}
			laptop.state.put("late", "x")
			laptop.sync(replica.SyncOptions{})
		}
	}
	tablet.sync(full)
	phone.sync(full)
	w.same(laptop, phone, tablet)
	tablet.well()
	if most := 3*passes + 20; len(seen.refs) > most || passes < 10 {
		t.Errorf("%d objects were fetched in %d passes", len(seen.refs), passes)
	}
}

// TestFillGap: an entry that is not there is pending once everything else is here.
func TestFillGap(t *testing.T) {
	w, laptop, phone := writers(t, 20)
	w.cloud.Remove(laptop.keys.Name(replica.Ref{Kind: "entry", Writer: laptop.keys.Device(), Number: 5}))
	tablet := w.restore("tablet")
	st, err := tablet.Status(context.Background())
	if err != nil || st.Fill != nil || len(st.Pending) != 1 || st.Pending[0].Kind != "missing" {
		t.Fatalf("%+v, %v", st, err)
	}
	if !tablet.has(laptop, 0) || !tablet.has(laptop, 19) || !tablet.has(phone, 0) {
		t.Error("what is there is not here")
	}
	laptop.sync(full) // it puts the entry again
	tablet.sync(full)
	tablet.well()
	w.same(laptop, phone, tablet)
}
