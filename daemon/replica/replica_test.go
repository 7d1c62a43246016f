package replica_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/locker-project/locker/daemon/replica"
)

func TestTwoDevices(t *testing.T) {
	w := newWorld(t)
	laptop := w.found("laptop")
	for i := range 10 {
		laptop.state.put(fmt.Sprint(i), "from the laptop")
	}
	s := laptop.sync(replica.SyncOptions{})
	if s.ObjectsUp < 4 {
		t.Errorf("put %d objects", s.ObjectsUp)
	}
	laptop.well()

	phone := w.restore("phone")
	w.same(laptop, phone)
	phone.well()

	phone.state.put("3", "from the phone")
	phone.sync(replica.SyncOptions{})
	laptop.sync(replica.SyncOptions{})
	w.same(laptop, phone)
	laptop.well()

	w.pass(time.Hour)
	tablet := w.restore("tablet")
	w.same(laptop, phone, tablet)
	laptop.state.put("4", "again")
	laptop.sync(replica.SyncOptions{})
	for _, d := range []*device{phone, tablet, laptop} {
		d.sync(replica.SyncOptions{})
	}
	w.same(laptop, phone, tablet)
	for _, d := range []*device{laptop, phone, tablet} {
		d.well()
	}
}
