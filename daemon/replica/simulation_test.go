package replica_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/locker-project/locker/daemon/replica"
	"github.com/locker-project/locker/daemon/replica/replicatest"
)

// A simulation is devices of one locker on an honest but slow cloud: each sees
// changes late, uploads fail and happened, or left a part. What the devices do
// follows from the seed.
type simulation struct {
	*world
	rnd     *rand.Rand
	delay   time.Duration
	devices []*device
	fuses   map[*device]*fuse
	slow    []*replicatest.Laggy
	writes  int
}

func newSimulation(t testing.TB, seed uint64) *simulation {
	s := &simulation{world: newWorld(t), rnd: rand.New(rand.NewPCG(seed, 1)), fuses: map[*device]*fuse{}}
	s.delay = time.Duration(s.rnd.IntN(3)) * 4 * time.Minute
	first := s.found("device0", s.remote())
	s.add(first)
	for s.try(first, replica.SyncOptions{}); ; s.pass(time.Minute) { // until it is there
		if st, err := first.Status(context.Background()); err == nil && st.Remotes[0].Unsent == 0 {
			return s
		}
		s.try(first, replica.SyncOptions{})
	}
}

// remote is what one device sees of the cloud.
func (s *simulation) remote() replica.Remote {
	l := replicatest.NewLaggy(s.cloud, rand.New(rand.NewPCG(s.rnd.Uint64(), 2)), s.delay, 0.1)
	s.slow = append(s.slow, l)
	return l
}

func (s *simulation) add(d *device) {
	f := &fuse{}
	d.fragile(f)
	d.restart()
	s.fuses[d] = f
	s.devices = append(s.devices, d)
}

// try makes a pass that may fail as a slow cloud fails, and checks that nothing is
// an alarm.
func (s *simulation) try(d *device, o replica.SyncOptions) {
	s.t.Helper()
	sum, err := d.Sync(context.Background(), o)
	var cloned *replica.Cloned
	if errors.As(err, &cloned) {
		s.t.Fatalf("%s: false alarm: %v", d.name, err)
	}
	if err != nil && s.slow[0].Fail == 0 {
		s.t.Logf("%s: %v", d.name, err)
	}
	for _, a := range sum.Alarms {
		s.t.Fatalf("%s: false alarm: %+v", d.name, a)
	}
}

// step is one thing that happens.
func (s *simulation) step() {
	d := s.devices[s.rnd.IntN(len(s.devices))]
	switch s.rnd.IntN(12) {
	case 0, 1, 2:
		s.writes++
		d.state.put(fmt.Sprint(s.rnd.IntN(20)), fmt.Sprint("write ", s.writes))
	case 3:
		d.state.addBlob([]byte(fmt.Sprint("blob ", s.rnd.IntN(30))))
	case 4, 5, 6:
		s.try(d, replica.SyncOptions{Hold: true})
	case 7:
		s.try(d, replica.SyncOptions{})
	case 8:
		s.try(d, full)
	case 9: // a crash somewhere in a pass
		s.fuses[d].left.Store(1 + s.rnd.Int64N(30))
		s.try(d, replica.SyncOptions{})
		s.fuses[d].left.Store(0)
		s.fuses[d].blown.Store(false)
		d.restart()
	case 10:
		if len(s.devices) < 4 && s.rnd.IntN(3) == 0 {
			s.join()
		}
	}
	s.pass(time.Duration(s.rnd.IntN(400)) * time.Second)
}

// join restores a further device. Two that join at the same time may take one door;
// here one joins after what the one before did can be seen.
func (s *simulation) join() {
	s.pass(2 * s.delay)
	d := s.blank(fmt.Sprint("device", len(s.devices)), s.remote())
	for try := 0; ; try++ {
		if _, err := d.Restore(context.Background(), nil); err == nil {
			break
		} else if try == 20 {
			s.t.Fatalf("restoring %s: %v", d.name, err)
		}
		s.pass(time.Minute)
	}
	for st, err := d.Status(context.Background()); err != nil || st.Remotes[0].Unsent > 0; st, err = d.Status(context.Background()) {
		s.pass(time.Minute)
		s.try(d, replica.SyncOptions{})
	}
	s.pass(2 * s.delay)
	for _, other := range s.devices { // they are shown it, so that the next one can be
		s.try(other, full)
	}
	s.add(d)
}

// settle lets everything arrive, and checks that all is well and the same.
func (s *simulation) settle() {
	for _, l := range s.slow {
		l.Fail = 0
	}
	for range 8 {
		s.pass(2*s.delay + time.Minute)
		for _, d := range s.devices {
			s.try(d, full)
		}
	}
	s.same(s.devices...)
	for _, d := range s.devices {
		d.well()
	}
	s.pass(2*s.delay + time.Minute)
	fresh := s.blank("fresh", s.cloud)
	if _, err := fresh.Restore(context.Background(), nil); err != nil {
		s.t.Fatal(err)
	}
	s.same(s.devices[0], fresh)
	fresh.well()
}

// TestSimulation runs random schedules. A failure prints its seed.
func TestSimulation(t *testing.T) {
	runs, steps := 12, 60
	if soak() {
		runs, steps = 3000, 200
	}
	base := uint64(time.Now().UnixNano())
	if again := os.Getenv("LOCKER_SEED"); again != "" {
		var err error
		if base, err = strconv.ParseUint(again, 10, 64); err != nil {
			t.Fatal(err)
		}
		runs = 1
	}
	for i := range uint64(runs) {
		seed := base + i
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			s := newSimulation(t, seed)
			for range steps {
				s.step()
			}
			s.settle()
		})
	}
}

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
