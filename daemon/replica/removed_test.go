package replica_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/locker-project/locker/daemon/replica"
)

// backdate writes a record with a clock that is long past.
func (d *device) backdate(id, text string) {
	was, clock := d.state.now, d.state.clock
	past := d.w.now().Add(-100 * time.Hour)
	d.state.now, d.state.clock = func() time.Time { return past }, 0
	d.state.put(id, text)
	d.state.now, d.state.clock = was, clock
}

// three are a laptop, a phone and a tablet that agree.
func three(t *testing.T) (w *world, laptop, phone, tablet *device) {
	w = newWorld(t)
	laptop = w.found("laptop")
	laptop.state.put("1", "of the laptop")
	laptop.sync(full)
	phone = w.restore("phone")
	tablet = w.restore("tablet")
	phone.state.put("2", "of the phone")
	phone.backdate("3", "of the phone, dated back")
	for range 2 {
		w.pass(2 * time.Hour)
		for _, d := range []*device{laptop, phone, tablet} {
			d.sync(full)
		}
	}
	w.same(laptop, phone, tablet)
	return w, laptop, phone, tablet
}

// agree lets devices sync until all has arrived.
func (w *world) agree(devices ...*device) {
	w.t.Helper()
	for range 4 {
		w.pass(2 * time.Hour)
		for _, d := range devices {
			d.sync(full)
		}
	}
	w.same(devices...)
}

// TestRemove: what a removed device wrote up to its pin stays, even when it deletes its
// log at once; what it writes afterwards reaches nobody; it learns that it is out.
func TestRemove(t *testing.T) {
	w, laptop, phone, tablet := three(t)
	id := phone.keys.Device()
	r, err := laptop.Remove(context.Background(), id)
	if err != nil || !r.Standing || r.Entries == 0 || len(r.Left) < 3 || !strings.Contains(r.Left[0], "revoke the login of phone") {
		t.Fatalf("%+v, %v", r, err)
	}
	if _, err := laptop.Remove(context.Background(), id); err == nil {
		t.Error("it is removed twice")
	}
	if _, err := laptop.Remove(context.Background(), laptop.keys.Device()); err == nil {
		t.Error("a device removes itself")
	}
	phone.state.put("4", "too late")
	if _, err := phone.Sync(context.Background(), full); !errors.Is(err, replica.ErrRemoved) {
		t.Errorf("the removed device syncs: %v", err)
	}
	w.agree(laptop, tablet)
	if _, ok := tablet.state.fields["notes\x002\x00text"]; !ok {
		t.Error("what it wrote before is gone")
	}
	if _, ok := tablet.state.fields["notes\x004\x00text"]; ok {
		t.Error("what it wrote after its removal was taken")
	}
	for n := range uint64(20) {
		w.cloud.Remove(laptop.keys.Name(replica.Ref{Kind: "entry", Writer: id, Number: n}))
	}
	fresh := w.restore("fresh")
	w.agree(laptop, tablet, fresh)
	fresh.well()
	laptop.well()
	st, err := laptop.Status(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	last := st.Devices[len(st.Devices)-1]
	if last.ID != id || !last.Removed || last.RemovedBy != laptop.keys.Device() || last.Why != "laptop removed it" || last.RemovedAt.IsZero() || last.Entries != r.Entries || last.Seniority != 0 || st.Devices[0].Seniority != 1 {
		t.Errorf("the devices are %+v", st.Devices)
	}
}

// TestBeyondThePin: of a removed device one member had read more than the other one,
// which removed it: values that are dated back, and such as it had of a device that was
// removed before. All members get them; the cloud need not have them.
func TestBeyondThePin(t *testing.T) {
	w, laptop, phone, tablet := three(t)
	hidden := map[string]bool{}
	id := phone.keys.Device()
	laptop.SetRemotes([]replica.Named{{Name: "remote0", Remote: shy{w.cloud, hidden}}})
	phone.state.put("5", "read by the tablet alone")
	phone.backdate("6", "read by the tablet alone, dated back")
	before := w.cloud.Objects()
	phone.sync(replica.SyncOptions{})
	tablet.sync(replica.SyncOptions{})
	for name := range w.cloud.Objects() {
		hidden[name] = before[name] == nil
	}
	r, err := laptop.Remove(context.Background(), id)
	if err != nil {
		t.Fatal(err)
	}
	clear(hidden)
	w.pass(time.Hour)
	tablet.sync(full)
	for n := r.Entries + 1; n < r.Entries+20; n++ {
		w.cloud.Remove(laptop.keys.Name(replica.Ref{Kind: "entry", Writer: id, Number: n}))
	}
	w.agree(laptop, tablet)
	for _, id := range []string{"5", "6"} {
		if _, ok := laptop.state.fields[fmt.Sprintf("notes\x00%s\x00text", id)]; !ok {
			t.Errorf("record %s did not come", id)
		}
	}
	puts := w.cloud.Requests("put")
	w.agree(laptop, tablet)
	if n := w.cloud.Requests("put") - puts; n > 8 {
		t.Errorf("%d more puts: it is published again and again", n)
	}
	w.agree(laptop, tablet, w.restore("fresh"))
}

// shy is a remote some of whose objects are not shown.
type shy struct {
	replica.Remote
	names map[string]bool
}

func (h shy) Get(ctx context.Context, name string, off, n int64) (body io.ReadCloser, err error) {
	if h.names[name] {
		return nil, replica.ErrNotFound
	}
	return h.Remote.Get(ctx, name, off, n)
}

// TestRewrittenLog: a removed device puts other entries in place of old ones of its
// own. A device that comes new does not take them.
func TestRewrittenLog(t *testing.T) {
	w, laptop, phone, tablet := three(t)
	id := phone.keys.Device()
	early := phone.twin("thief") // the same device, as it was
	objects := w.cloud.Objects()
	phone.state.put("7", "the last")
	phone.sync(full)
	w.agree(laptop, tablet)
	if _, err := laptop.Remove(context.Background(), id); err != nil {
		t.Fatal(err)
	}
	honest := w.cloud.Objects()
	w.cloud.Reset(objects)
	early.state.put("7", "forged after the removal")
	if _, err := early.Sync(context.Background(), full); err != nil {
		t.Fatal(err)
	}
	forged := map[string][]byte{}
	for name, object := range w.cloud.Objects() {
		if objects[name] == nil && honest[name] != nil && name[:2] == "d/" {
			forged[name] = object
		}
	}
	w.cloud.Reset(honest)
	if len(forged) == 0 {
		t.Fatal("nothing was forged")
	}
	for name, object := range forged {
		w.cloud.Set(name, object)
	}
	fresh := w.blank("fresh")
	if _, err := fresh.Restore(context.Background(), nil); err != nil {
		t.Fatal(err)
	}
	if v := fresh.state.fields["notes\x007\x00text"].data; strings.Contains(v, "forged") {
		t.Error("a forged entry was taken")
	}
	w.agree(laptop, tablet, fresh)
}
