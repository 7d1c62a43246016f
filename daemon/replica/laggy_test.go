package replica_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/locker-project/locker/crypto"
	"github.com/locker-project/locker/daemon/replica"
	"github.com/locker-project/locker/daemon/replica/replicatest"
)

// newPair makes a target of two devices that know each other, and little else.
func newPair(t testing.TB) *target {
	g := &target{seed: crypto.NewSeed(), now: time.Date(2026, 11, 25, 8, 0, 0, 0, time.UTC), devices: map[string]*victim{}, refs: map[string]replica.Ref{}, opened: &sync.Map{}}
	cloud := &replicatest.Cloud{Now: func() time.Time { return g.now }}
	for _, name := range []string{"laptop", "phone"} {
		keys, err := crypto.Recover(g.seed, name)
		if err != nil {
			t.Fatal(err)
		}
		a := &victim{name: name, secret: keys.Secret(), state: newMemState(keys.Device(), func() time.Time { return g.now }), disk: newMemDisk(), remote: cloud, now: &g.now}
		a.boot(t, &g.seed)
		if name == "laptop" {
			err = a.Found(context.Background())
		} else {
			_, err = a.Restore(context.Background(), nil)
		}
		if err != nil {
			t.Fatal(err)
		}
		g.devices[name] = a
		for range 2 {
			for _, d := range g.devices {
				g.now = g.now.Add(5 * time.Minute)
				d.state.put(d.name, g.now.String())
				if _, err := d.Sync(context.Background(), full); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	for range 2 {
		g.now = g.now.Add(61 * time.Minute)
		for _, d := range g.devices {
			if _, err := d.Sync(context.Background(), full); err != nil {
				t.Fatal(err)
			}
		}
	}
	g.cloud = cloud.Objects()
	return g
}

// A schedule is what two devices do on a cloud that is slow and lossy, and honest.
type schedule struct {
	*shot
	views map[string]*replicatest.View
	delay time.Duration
}

func (g *target) schedule(t testing.TB, seed uint64) *schedule {
	s := &schedule{shot: g.shoot(t, seed), views: map[string]*replicatest.View{}}
	s.cloud.Now = func() time.Time { return s.time }
	s.delay = []time.Duration{30 * time.Second, 4 * time.Minute, 15 * time.Minute}[s.rnd.IntN(3)]
	fail, failGet := []float64{0.05, 0.2, 0.5}[s.rnd.IntN(3)], []float64{0, 0.01, 0.1}[s.rnd.IntN(3)]
	for i, name := range []string{"laptop", "phone"} {
		s.views[name] = &replicatest.View{Cloud: s.cloud, Seed: seed*2 + uint64(i), Delay: s.delay, Fail: fail, FailGet: failGet}
		s.deviceOn(name, s.views[name])
	}
	return s
}

// run lets the devices do a few things, and then lets all arrive.
func (s *schedule) run() error {
	for range 4 + s.rnd.IntN(8) {
		s.time = s.time.Add(time.Duration(s.rnd.IntN(300)) * time.Second)
		d := s.device([]string{"laptop", "phone"}[s.rnd.IntN(2)])
		switch s.rnd.IntN(8) {
		case 0, 1:
			d.state.put(fmt.Sprint(s.rnd.IntN(3)), s.time.String())
			continue
		case 2:
			d.boot(s.t, nil)
			continue
		}
		o := []replica.SyncOptions{{Hold: true}, {}, full}[s.rnd.IntN(3)]
		if err := s.pass(d, o); err != nil {
			return err
		}
	}
	for _, v := range s.views {
		v.Fail, v.FailGet = 0, 0
	}
	problem := ""
	for range 8 {
		s.time = s.time.Add(2*s.delay + time.Minute)
		for _, name := range []string{"laptop", "phone"} {
			if err := s.pass(s.device(name), full); err != nil {
				return err
			}
		}
		if problem = s.differ(); problem == "" {
			return nil
		}
	}
	return fmt.Errorf("it does not settle: %s", problem)
}

// pass makes a pass, which may fail as a bad line fails; nothing is an alarm.
func (s *schedule) pass(d *victim, o replica.SyncOptions) error {
	sum, err := d.Sync(context.Background(), o)
	if err != nil && !errors.Is(err, replica.ErrUnreachable) && !errors.Is(err, replicatest.ErrDropped) {
		return fmt.Errorf("%s: a pass fails: %w", d.name, err)
	}
	if len(sum.Alarms) > 0 {
		return fmt.Errorf("%s: false alarm: %+v", d.name, sum.Alarms)
	}
	return nil
}

func (s *schedule) differ() string {
	laptop, phone := s.device("laptop"), s.device("phone")
	if a, b := laptop.state.hash(), phone.state.hash(); a != b {
		return fmt.Sprintf("the laptop has %s, the phone %s", a, b)
	}
	for _, d := range []*victim{laptop, phone} {
		st, err := d.Status(context.Background())
		if err != nil {
			return err.Error()
		}
		if len(st.Pending)+len(st.Alarms) > 0 {
			return fmt.Sprintf("%s: %+v", d.name, append(st.Pending, st.Alarms...))
		}
		if slices.ContainsFunc(st.Remotes, func(r replica.RemoteStatus) bool { return r.Unsent > 0 }) {
			return d.name + " has unsent objects"
		}
	}
	return ""
}

// TestLaggy runs schedules on honest clouds that show changes late and in part, lack
// names in listings or have them twice, fail when they did what was asked, and cut
// connections: no alarm, and all converge.
func TestLaggy(t *testing.T) {
	n := howMany(200, 2000, 10_000)
	g := newPair(t)
	for _, d := range g.devices {
		d.same = true
	}
	list := seeds(t, n)
	start := time.Now()
	eachSeed(t, list, func(seed uint64) error { return g.schedule(t, seed).run() })
	t.Logf("%d schedules from seed %d on, %v", len(list), list[0], time.Since(start).Round(time.Millisecond))
}

// eachSeed calls f for seeds, side by side, until one fails.
func eachSeed(t *testing.T, list []uint64, f func(seed uint64) error) {
	t.Helper()
	var next atomic.Int64
	var group sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		group.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(list)) && !t.Failed(); i = next.Add(1) - 1 {
				if err := f(list[i]); err != nil {
					t.Errorf("LOCKER_SEED=%d: %v", list[i], err)
				}
			}
		})
	}
	group.Wait()
}
