package replica_test

import (
	"context"
	"io"
	"testing"
	"time"

	"github.com/locker-project/locker/daemon/replica"
)

// A blind remote is what a cloud shows that is late for one reader: some objects are
// not there yet.
type blind struct {
	replica.Remote
	hidden map[string]bool
}

func (b *blind) Get(ctx context.Context, name string, off, n int64) (io.ReadCloser, error) {
	if b.hidden[name] {
		return nil, replica.ErrNotFound
	}
	return b.Remote.Get(ctx, name, off, n)
}

// TestDoorReplaced: two devices that join by the phrase at once take the same door. The
// one whose door was replaced takes the next, nothing of either is lost, and a device
// that comes later learns of both.
func TestDoorReplaced(t *testing.T) {
	for _, met := range []bool{false, true} { // whether the first device has read the lost door
		w := newWorld(t)
		laptop := w.found("laptop")
		laptop.sync(replica.SyncOptions{})
		door := laptop.keys.Name(replica.Ref{Kind: "door", Writer: "phrase", Number: 1})

		phone := w.restore("phone")
		phone.state.put("1", "by the phone")
		phone.sync(replica.SyncOptions{})
		if met {
			laptop.sync(full)
			laptop.state.put("2", "by the laptop, which knows the phone")
			laptop.sync(replica.SyncOptions{})
		}
		late := &blind{w.cloud, map[string]bool{door: true}}
		for _, ref := range []replica.Ref{
			{Kind: "epoch", Writer: phone.keys.Device(), Number: 1, To: "phrase"}, {Kind: "entry", Writer: phone.keys.Device(), Number: 1},
		} {
			late.hidden[laptop.keys.Name(ref)] = true
		}
		if met { // the laptop's second entry names the phone's door
			late.hidden[laptop.keys.Name(replica.Ref{Kind: "entry", Writer: laptop.keys.Device(), Number: 2})] = true
		}
		tablet := w.restore("tablet", late)
		late.hidden = nil
		tablet.state.put("3", "by the tablet")
		tablet.sync(replica.SyncOptions{})

		w.pass(2 * time.Minute)
		for range 3 {
			for _, d := range []*device{phone, laptop, tablet} {
				d.sync(full)
				w.pass(time.Hour)
			}
		}
		w.same(laptop, phone, tablet)
		for _, d := range []*device{laptop, phone, tablet} {
			d.restart()
			d.sync(full)
			d.well()
			if n := len(d.keys.Members()); n != 3 {
				t.Errorf("met %v: %s knows %d devices", met, d.name, n)
			}
		}
		fresh := w.restore("fresh")
		w.same(laptop, fresh)
		fresh.well()
		if n := len(fresh.keys.Members()); n != 4 {
			t.Errorf("met %v: a device that comes later knows %d devices", met, n)
		}
		for range 2 { // what was put stays put
			laptop.sync(full)
			if r, err := phone.Verify(context.Background(), "", nil); err != nil || len(r.Bad)+len(r.Missing) > 0 || r.Repaired > 0 {
				t.Errorf("met %v: verify: %+v %v", met, r, err)
			}
		}
	}
}
