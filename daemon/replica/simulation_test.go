package replica_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/locker-project/locker/daemon/replica"
)

// A plan is what a seed decides at the beginning.
type plan struct {
	devices int // at most
	clouds  int
	events  int
	removal bool // devices are removed
	harm    bool // clouds lose what they had promised to keep
	calm    bool // nothing but time and interleaving
	// together lets devices join while others do.
	together bool
}

// simulate runs what a seed says, and returns the first thing that is not as it must
// be.
func simulate(t *testing.T, seed uint64, tracing bool, without replica.Rules) (s *sim, err error) {
	return inBubble(t, func() *sim {
		rnd := rand.New(rand.NewPCG(seed, 7))
		p := plan{devices: 2 + rnd.IntN(3), clouds: 1 + rnd.IntN(5)/2, events: 20 + rnd.IntN(60), calm: rnd.IntN(8) == 0}
		p.together = rnd.IntN(3) == 0
		p.removal, p.harm = rnd.IntN(3) == 0, rnd.IntN(4) == 0
		s := newSim(seed, p.clouds)
		s.tracing, s.without, s.small = tracing, without, rnd.IntN(3) > 0
		for _, c := range s.clouds {
			c.delay = time.Duration(rnd.IntN(3)) * 4 * time.Minute
			if !p.calm {
				c.fail, c.failGet = []float64{0, 0.1, 0.3}[rnd.IntN(3)], []float64{0, 0, 0.004}[rnd.IntN(3)]
			}
		}
		s.begin()
		for range p.events {
			s.event(p)
			for s.rnd.IntN(12) > 0 && s.answer(nil) {
			}
			if s.failed() != nil {
				return s
			}
		}
		s.settle()
		return s
	})
}

// begin makes the first device.
func (s *sim) begin() {
	n := s.node(s.clouds...)
	if s.failed() != nil {
		return
	}
	n.do("found", func(r *replica.Replica, _ *life) error {
		err := r.Found(context.Background())
		if err != nil {
			s.fail("founding: %v", err)
		}
		return err
	})
	s.finish(everyNode)
	n.joined = true
	n.untilSent()
}

// untilSent makes passes until a remote has all.
func (n *node) untilSent() {
	for range 200 {
		n.sync(replica.SyncOptions{})
		n.s.finish(func(m *node) bool { return m == n })
		st, err := n.r.Status(context.Background())
		if n.s.failed() != nil {
			return
		}
		if err == nil && slices.ContainsFunc(st.Remotes, func(r replica.RemoteStatus) bool { return r.Unsent == 0 }) {
			return
		}
		time.Sleep(time.Minute)
	}
	n.s.fail("%s does not get what it has onto any remote", n.name)
}

// event is one thing that happens.
func (s *sim) event(p plan) {
	n := s.nodes[s.rnd.IntN(len(s.nodes))]
	time.Sleep(time.Duration(s.rnd.IntN(400)) * time.Second)
	if n.lost || !n.joined {
		return
	}
	if n.busy != "" {
		if s.rnd.IntN(12) == 0 && !p.calm {
			n.crash(s.rnd.IntN(2) == 0)
		}
		return
	}
	if s.now().Before(n.absent) {
		return
	}
	switch what := s.rnd.IntN(30); {
	case what < 7:
		n.edit()
	case what < 8:
		n.state.addBlob([]byte(fmt.Sprintf("canary blob %d", s.rnd.IntN(30))))
	case what < 13:
		n.sync(replica.SyncOptions{Hold: true})
	case what < 18:
		n.sync(replica.SyncOptions{})
	case what < 20:
		n.sync(full)
	case what < 21:
		n.verify()
	case what < 24:
		if len(s.nodes) < p.devices {
			s.join(p)
		}
	default:
		if !p.calm {
			s.trouble(n, p)
		}
	}
}

// edit is something that the owner or a connector does.
func (n *node) edit() {
	n.writes++
	id := fmt.Sprint("canary id ", n.s.rnd.IntN(12))
	switch n.s.rnd.IntN(6) {
	case 0:
		n.state.set(id, "")
	case 1: // a source that two devices import
		n.state.took(fmt.Sprint("canary bank ", n.s.rnd.IntN(4)), "canary balance")
	default:
		n.state.set(id, fmt.Sprintf("canary of %s, %d", n.name, n.writes))
	}
	n.s.log("%s edits %s", n.name, id)
}

func (n *node) verify() {
	n.do("verify", func(r *replica.Replica, l *life) error {
		_, err := r.Verify(context.Background(), n.clouds[0].name, nil)
		st, errStatus := r.Status(context.Background())
		n.check(l, replica.Summary{Alarms: st.Alarms}, nil)
		return errors.Join(err, errStatus)
	})
}

// trouble is something that goes wrong.
func (s *sim) trouble(n *node, p plan) {
	switch s.rnd.IntN(8) {
	case 0, 1: // a crash somewhere in a pass
		n.life.fuse.Store(1 + s.rnd.Int64N(60))
		n.sync(replica.SyncOptions{Full: s.rnd.IntN(2) == 0})
		s.finish(func(m *node) bool { return m == n })
		n.crash(s.rnd.IntN(2) == 0)
	case 2:
		n.crash(true)
	case 3:
		c := s.clouds[s.rnd.IntN(len(s.clouds))]
		c.downFor[n] = s.now().Add(time.Duration(s.rnd.IntN(8*60)) * time.Minute)
		s.log("%s does not reach %s until %s", n.name, c.name, c.downFor[n])
	case 4:
		n.absent = s.now().Add(time.Duration(s.rnd.IntN(5*24)) * time.Hour)
		s.log("%s is away until %s", n.name, n.absent)
	case 5:
		n.skew = []time.Duration{0, 0, 3 * time.Minute, -7 * time.Minute, 2 * time.Hour, -3 * time.Hour}[s.rnd.IntN(6)]
		s.log("the clock of %s is %s wrong", n.name, n.skew)
	case 6:
		if p.removal {
			s.remove(n)
		}
	case 7:
		if p.harm {
			s.clouds[s.rnd.IntN(len(s.clouds))].harm(s)
		}
	}
}

// remove lets a device remove another one, but never the first.
func (s *sim) remove(n *node) {
	other := s.nodes[s.rnd.IntN(len(s.nodes))]
	if other == n || other == s.nodes[0] || !other.joined || !slices.Contains(n.keys.Members(), other.keys.Device()) {
		return
	}
	s.removal = true
	n.do("remove "+other.name, func(r *replica.Replica, l *life) error {
		got, err := r.Remove(context.Background(), other.keys.Device())
		n.check(l, got.Summary, nil)
		return err
	})
}

// harm is what a provider does that puts back a backup, or loses a disk.
func (c *simCloud) harm(s *sim) {
	c.disturbed = true
	if s.rnd.IntN(2) == 0 {
		to := s.now().Add(-time.Duration(s.rnd.IntN(6*60)) * time.Minute)
		s.log("%s is put back to %s", c.name, to)
		c.Reset(c.Back(to))
		return
	}
	names := c.Names()
	for range min(1+s.rnd.IntN(6), len(names)) {
		name := names[s.rnd.IntN(len(names))]
		s.log("%s loses %s", c.name, name)
		c.Remove(name)
	}
}

// join lets a further device join with the phrase.
func (s *sim) join(p plan) {
	if !p.together {
		if p.harm { // who comes needs what was lost
			for _, c := range s.clouds {
				clear(c.downFor)
			}
			for _, m := range s.nodes {
				if m.busy == "" && m.joined {
					m.sync(full)
				}
			}
			s.finish(everyNode)
		}
		time.Sleep(2 * s.slowest())
	}
	n := s.node(s.clouds...)
	if s.failed() != nil {
		return
	}
	n.restore()
	if p.together {
		return
	}
	s.finish(func(m *node) bool { return m == n })
	if s.failed() != nil || !n.joined {
		return
	}
	n.untilSent()
	time.Sleep(2 * s.slowest())
	for _, m := range s.nodes { // so that the next one is shown it
		if m.busy == "" && m.joined {
			m.sync(full)
		}
	}
}

// restore makes a device one of the locker, if that works within two hours.
func (n *node) restore() {
	n.do("restore", func(r *replica.Replica, l *life) (err error) {
		for range 40 {
			var got replica.Restored
			if got, err = r.Restore(context.Background(), nil); err == nil || l.over.Load() {
				n.check(l, got.Summary, err)
				n.joined = err == nil
				return err
			}
			time.Sleep(3 * time.Minute)
		}
		return err
	})
}

// settle lets everything arrive, and checks that all is well and the same.
func (s *sim) settle() {
	s.finish(everyNode)
	for _, c := range s.clouds {
		c.fail, c.failGet = 0, 0
		clear(c.downFor)
	}
	for _, n := range s.nodes {
		if !n.lost {
			n.crash(false) // with views that do not fail
		}
	}
	problem := "nothing was tried"
	for round := 0; problem != "" && round < 16; round++ {
		time.Sleep(s.slowest()*2 + time.Minute + time.Duration(round/6)*time.Hour)
		for _, n := range s.nodes {
			if !n.lost && n.joined {
				n.sync(full)
			} else if !n.lost {
				n.restore()
			}
		}
		if s.finish(everyNode); s.failed() != nil {
			return
		}
		problem = s.differ()
	}
	if problem != "" {
		s.fail("it does not settle: %s\n%s", problem, s.status())
		return
	}
	s.written()
	s.restoreFromEach()
}

func (s *sim) slowest() (d time.Duration) {
	for _, c := range s.clouds {
		d = max(d, c.delay)
	}
	return d
}

// differ says how the devices differ, or what is not well with one.
func (s *sim) differ() string {
	first := (*node)(nil)
	for _, n := range s.nodes {
		if n.out = s.removal && n.joined && !slices.Contains(s.nodes[0].keys.Members(), n.keys.Device()); n.out || n.lost {
			continue
		}
		if !n.joined {
			return n.name + " is not restored"
		}
		if first == nil {
			first = n
		}
		if a, b := first.state.hash(), n.state.hash(); a != b {
			return fmt.Sprintf("%s has %s, %s has %s", first.name, a, n.name, b)
		}
		if what := n.notWell(); what != "" {
			return what
		}
	}
	return ""
}

func (n *node) notWell() string {
	st, err := n.r.Status(context.Background())
	if err != nil {
		return err.Error()
	}
	for _, notice := range append(st.Pending, st.Alarms...) {
		if notice.Kind != "clock" && notice.Kind != "silent" {
			return fmt.Sprintf("%s: %+v", n.name, notice)
		}
	}
	for _, r := range st.Remotes {
		if r.Unsent > 0 {
			return fmt.Sprintf("%s has %d unsent for %s", n.name, r.Unsent, r.Name)
		}
	}
	if left := n.disk.leftovers(); len(left) > 0 {
		return fmt.Sprintf("%s has left %v", n.name, left)
	}
	return ""
}

// status tells how the devices are.
func (s *sim) status() string {
	var b strings.Builder
	for _, n := range s.nodes {
		st, err := n.r.Status(context.Background())
		fmt.Fprintf(&b, "%s (%s): joined %v, %s, %+v %v\n", n.name, n.keys.Device(), n.joined, n.state.hash(), st, err)
		for key, value := range n.state.Notes(context.Background(), "wait/") {
			fmt.Fprintf(&b, "  %s: %s\n", key, value)
		}
	}
	return b.String()
}

// written checks that no write is lost, and that nothing is there that nobody wrote.
func (s *sim) written() {
	var logs [][][]byte
	for _, n := range s.nodes {
		state, ok := n.state.(*simState)
		if !ok {
			return
		}
		logs = append(logs, state.log)
	}
	for _, n := range s.nodes {
		if n.lost || n.out {
			continue
		}
		state := n.state.(*simState).memState
		for i, log := range logs {
			if what := state.lacks(log); what != "" && !s.nodes[i].lost && !s.nodes[i].out {
				s.fail("%s lacks what %s wrote: %s", n.name, s.nodes[i].name, what)
			}
		}
		if what := state.invented(logs...); what != "" {
			s.fail("%s has what nobody wrote: %s", n.name, what)
		}
	}
}

// restoreFromEach restores a device from each remote alone.
func (s *sim) restoreFromEach() {
	time.Sleep(s.slowest()*2 + time.Minute)
	devices := len(s.nodes)
	for _, c := range s.clouds {
		n := s.node(c)
		if s.failed() != nil {
			return
		}
		n.restore()
		if s.finish(func(m *node) bool { return m == n }); s.failed() != nil {
			return
		}
		if a, b := s.nodes[0].state.hash(), n.state.hash(); a != b {
			s.fail("restored from %s a device has %s, the others %s: %s", c.name, b, a, s.nodes[0].state.(*simState).differs(n.state.(*simState).memState))
		}
		for _, a := range n.notices() {
			s.fail("restored from %s: %+v", c.name, a)
		}
		n.blobs()
		n.lost = true
		s.bounded(c, devices)
	}
}

// notices are all that a device has to say but of clocks.
func (n *node) notices() []replica.Notice {
	st, err := n.r.Status(context.Background())
	if err != nil {
		n.s.fail("%s: %v", n.name, err)
	}
	return slices.DeleteFunc(append(st.Pending, st.Alarms...), func(a replica.Notice) bool { return a.Kind == "clock" || a.Kind == "silent" })
}

// blobs fetches every blob that a device stored.
func (n *node) blobs() {
	for _, m := range n.s.nodes {
		state, ok := m.state.(*simState)
		if !ok {
			continue
		}
		for _, id := range state.order {
			if m.lost || m.out {
				continue
			}
			n.do("blob", func(r *replica.Replica, _ *life) error {
				err := r.Blob(context.Background(), id)
				if err != nil {
					n.s.fail("%s does not get a blob of %s: %v", n.name, m.name, err)
				}
				return err
			})
			n.s.finish(func(m *node) bool { return m == n })
		}
	}
}

// bounded checks that a remote holds no more than it should.
func (s *sim) bounded(c *simCloud, devices int) {
	entries, writes := 0, 0
	st, err := s.nodes[0].r.Status(context.Background())
	if err != nil {
		s.fail("%v", err)
	}
	for _, d := range st.Devices {
		entries += int(d.Entries)
	}
	for _, n := range s.nodes {
		writes += n.writes
	}
	all := len(s.nodes)
	if n := len(c.Names()); n > 2*entries+all*(40+2*all)+16 {
		s.fail("%s holds %d objects for %d entries of %d devices", c.name, n, entries, devices)
	}
	c.maxObjects = max(c.maxObjects, len(c.Names()))
}

// seeds are those that a test tries: as many from a new one on, or that of
// LOCKER_SEED alone.
func seeds(t testing.TB, n int) []uint64 {
	if again := os.Getenv("LOCKER_SEED"); again != "" {
		seed, err := strconv.ParseUint(again, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return []uint64{seed}
	}
	base := uint64(time.Now().UnixNano()) / 1e6 % 1e9 * 1e4
	all := make([]uint64, n)
	for i := range all {
		all[i] = base + uint64(i)
	}
	return all
}

// traceLines is how much of a trace is shown: LOCKER_TRACE, or a little.
func traceLines() int {
	if n, err := strconv.Atoi(os.Getenv("LOCKER_TRACE")); err == nil {
		return n
	}
	return 30
}

// TestSimulation runs random lives of lockers. A failure prints its seed.
func TestSimulation(t *testing.T) {
	n := howMany(60, 1000, 1000)
	var next atomic.Int64
	var group sync.WaitGroup
	var requests atomic.Int64
	list := seeds(t, n)
	start := time.Now()
	for range runtime.GOMAXPROCS(0) {
		group.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(list)) && !t.Failed(); i = next.Add(1) - 1 {
				s, err := simulate(t, list[i], false, replica.Rules{})
				requests.Add(int64(s.steps))
				if err != nil {
					t.Errorf("LOCKER_SEED=%d: %v", list[i], err)
					if again, errAgain := simulate(t, list[i], true, replica.Rules{}); errAgain != nil {
						t.Logf("the end of it:\n%s", again.told(traceLines()))
					}
				}
			}
		})
	}
	group.Wait()
	t.Logf("%d seeds from %d on, %d requests, %v", min(int(next.Load()), len(list)), list[0], requests.Load(), time.Since(start).Round(time.Millisecond))
}

// TestSimulationRepeats: a seed says all that happens.
func TestSimulationRepeats(t *testing.T) {
	for _, seed := range seeds(t, 20) {
		a, errA := simulate(t, seed, true, replica.Rules{})
		b, errB := simulate(t, seed, true, replica.Rules{})
		if a.sum == b.sum && fmt.Sprint(errA) == fmt.Sprint(errB) {
			continue
		}
		for i := range a.trace {
			if i >= len(b.trace) || a.trace[i] != b.trace[i] {
				t.Fatalf("LOCKER_SEED=%d: step %d is not the same twice:\n%s\nand\n%s", seed, i, strings.Join(a.trace[max(0, i-5):min(i+5, len(a.trace))], "\n"), strings.Join(b.trace[max(0, i-5):min(i+5, len(b.trace))], "\n"))
			}
		}
		t.Fatalf("LOCKER_SEED=%d: %v and %v", seed, errA, errB)
	}
}
