package replica_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/locker-project/locker/daemon/replica"
)

// A stage is a locker whose cloud shows each device what it likes of what the others
// put, never anything false: new objects of some are hidden from some, for a while.
type stage struct {
	*world
	rnd     *rand.Rand
	mu      sync.Mutex
	put     map[string]putBy
	steps   int
	devices []*actor
	writes  int
	story   []string
}

type putBy struct {
	who  *actor
	step int
}

// An actor is a device on the stage.
type actor struct {
	*device
	stage *stage
	hides map[*actor]int // the others whose objects it does not see, and since when
	fuse  *fuse
}

// curtain is what an actor sees of the cloud.
type curtain struct{ a *actor }

func (c curtain) hidden(name string) bool {
	s := c.a.stage
	s.mu.Lock()
	defer s.mu.Unlock()
	by, ok := s.put[name]
	since, hides := c.a.hides[by.who]
	return ok && hides && by.step >= since
}

func (c curtain) Put(ctx context.Context, name string, r io.ReadSeeker, size int64) error {
	s := c.a.stage
	s.mu.Lock()
	s.put[name] = putBy{c.a, s.steps}
	s.mu.Unlock()
	return s.cloud.Put(ctx, name, r, size)
}

func (c curtain) Get(ctx context.Context, name string, off, n int64) (io.ReadCloser, error) {
	if c.hidden(name) {
		return nil, replica.ErrNotFound
	}
	return c.a.stage.cloud.Get(ctx, name, off, n)
}

func (c curtain) List(ctx context.Context, prefix string) iter.Seq2[replica.ObjectInfo, error] {
	return func(yield func(replica.ObjectInfo, error) bool) {
		for info, err := range c.a.stage.cloud.List(ctx, prefix) {
			if (err != nil || !c.hidden(info.Name)) && !yield(info, err) {
				return
			}
		}
	}
}

func (c curtain) Delete(ctx context.Context, names ...string) error {
	return c.a.stage.cloud.Delete(ctx, names...)
}

func newStage(t testing.TB, seed uint64, off replica.Rules) *stage {
	w := newWorld(t)
	w.off = off
	s := &stage{world: w, rnd: rand.New(rand.NewPCG(seed, 7)), put: map[string]putBy{}}
	a := s.actor()
	a.device = s.found("device0", curtain{a})
	s.devices = append(s.devices, a)
	a.sync(full)
	return s
}

func (s *stage) actor() *actor { return &actor{stage: s, hides: map[*actor]int{}, fuse: &fuse{}} }

// join restores a further device by the phrase.
func (s *stage) join() *actor {
	a := s.actor()
	a.device = s.restore(fmt.Sprint("device", len(s.devices)), curtain{a})
	s.devices = append(s.devices, a)
	s.note("%s (%s) joins", a.name, a.keys.Device())
	return a
}

func (s *stage) note(format string, args ...any) {
	s.story = append(s.story, fmt.Sprintf(format, args...))
}

// hide hides from a what b puts from now on.
func (s *stage) hide(a, b *actor) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := a.hides[b]; !ok && a != b {
		a.hides[b] = s.steps
	}
}

func (s *stage) show(a, b *actor) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(a.hides, b)
}

// try makes a pass. That the device was removed is no failure.
func (a *actor) try(o replica.SyncOptions) {
	a.w.t.Helper()
	sum, err := a.Sync(context.Background(), o)
	if err != nil && !errors.Is(err, replica.ErrRemoved) {
		a.stage.fail("%s: sync: %v", a.name, err)
	}
	for _, n := range sum.Alarms {
		if n.Kind == "fork" || n.Kind == "ahead" || n.Kind == "bad" {
			a.stage.fail("%s: alarm: %+v", a.name, n)
		}
	}
}

func (s *stage) fail(format string, args ...any) {
	s.t.Helper()
	for _, line := range s.story {
		s.t.Log(line)
	}
	s.t.Fatalf(format, args...)
}

// member says whether a counts as a member, as a knows it.
func (a *actor) member() bool { return slices.Contains(a.keys.Members(), a.keys.Device()) }

// write changes a record, now and then with a clock that is long past.
func (a *actor) write() {
	s := a.stage
	s.writes++
	if s.rnd.IntN(6) == 0 {
		clock := a.state.clock
		a.state.clock = 0
		was := a.state.now
		past := s.now().Add(-time.Duration(s.rnd.IntN(100)) * time.Hour)
		a.state.now = func() time.Time { return past }
		a.state.put(fmt.Sprint("old", s.rnd.IntN(12)), fmt.Sprint("write ", s.writes))
		a.state.now, a.state.clock = was, clock
		return
	}
	a.state.put(fmt.Sprint(s.rnd.IntN(12)), fmt.Sprint("write ", s.writes, " by ", a.name))
}

// step is one thing that happens.
func (s *stage) step() {
	s.mu.Lock()
	s.steps++
	s.mu.Unlock()
	a := s.devices[s.rnd.IntN(len(s.devices))]
	b := s.devices[s.rnd.IntN(len(s.devices))]
	switch s.rnd.IntN(16) {
	case 0, 1, 2, 3:
		a.write()
	case 4, 5, 6:
		a.try(replica.SyncOptions{})
	case 7:
		a.try(replica.SyncOptions{Hold: true})
	case 8:
		a.try(full)
	case 9, 10:
		s.hide(a, b)
	case 11, 12:
		s.show(a, b)
	case 13:
		if s.rnd.IntN(2) == 0 && len(s.devices) < 5 {
			s.pass(2 * time.Minute)
			s.join()
		}
	case 14:
		switch s.rnd.IntN(4) {
		case 0, 1:
			s.remove(a, b)
		case 2:
			s.readmit(a, b)
		case 3:
			if s.rnd.IntN(2) == 0 {
				s.evict(a, b)
			}
		}
	case 15:
		s.crash(a)
	}
	if s.rnd.IntN(30) == 0 {
		s.pass(time.Duration(s.rnd.IntN(40)) * time.Hour)
	}
	s.pass(time.Duration(s.rnd.IntN(300)) * time.Second)
}

// crash kills a device somewhere in a pass.
func (s *stage) crash(a *actor) {
	a.fuse.left.Store(1 + s.rnd.Int64N(40))
	a.wrap = func(st replica.State) replica.State { return fragileState{st, a.fuse} }
	a.restart()
	if _, err := a.Sync(context.Background(), replica.SyncOptions{}); err != nil && !errors.Is(err, errCrash) && !errors.Is(err, replica.ErrRemoved) {
		s.fail("%s: sync: %v", a.name, err)
	}
	a.fuse.left.Store(0)
	a.fuse.blown.Store(false)
	a.wrap = nil
	a.restart()
}

func (s *stage) remove(a, b *actor) {
	if !a.member() || !slices.Contains(a.keys.Members(), b.keys.Device()) || a == b {
		return
	}
	r, err := a.Remove(context.Background(), b.keys.Device())
	s.note("%s removes %s: %d entries count, %v", a.name, b.name, r.Entries, err)
	if err != nil && !errors.Is(err, replica.ErrRemoved) && !strings.Contains(err.Error(), "removed already") {
		s.fail("%s removes %s: %v", a.name, b.name, err)
	}
}

// readmit brings back a device that was removed.
func (s *stage) readmit(a, b *actor) {
	if !a.member() || slices.Contains(a.keys.Members(), b.keys.Device()) || a == b {
		return
	}
	err := a.Admit(context.Background(), b.keys.Request())
	s.note("%s brings back %s: %v", a.name, b.name, err)
	if err != nil && !strings.Contains(err.Error(), "member") {
		s.fail("%s brings back %s: %v", a.name, b.name, err)
	}
}

func (s *stage) evict(a, b *actor) {
	if a == b || !slices.Contains(slices.Concat(a.keys.Members(), slices.Collect(maps.Keys(a.keys.Removed()))), b.keys.Device()) {
		return
	}
	if err := a.keys.Hold(s.seed); err != nil {
		s.t.Fatal(err)
	}
	defer a.keys.Forget()
	var undo []string
	if s.rnd.IntN(2) == 0 {
		undo = append(undo, a.keys.Device())
	}
	r, err := a.Evict(context.Background(), b.keys.Device(), undo...)
	s.note("%s evicts %s with the phrase, undo %v: %d entries count, %v", a.name, b.name, undo, r.Entries, err)
	if err != nil && !errors.Is(err, replica.ErrRemoved) {
		s.fail("%s evicts %s: %v", a.name, b.name, err)
	}
}

// live are the devices that are members when all is known.
func (s *stage) live() []*actor {
	return slices.DeleteFunc(slices.Clone(s.devices), func(a *actor) bool { return !a.member() })
}

// settle shows everybody everything, and checks that all members agree.
func (s *stage) settle() {
	s.t.Helper()
	for _, a := range s.devices {
		clear(a.hides)
	}
	for range 7 {
		for _, a := range s.devices {
			s.pass(time.Minute)
			a.try(full)
		}
		s.pass(5 * time.Hour)
	}
	live := s.live()
	if len(live) == 0 {
		return // the last ones removed each other by the phrase
	}
	for _, a := range live {
		if !slices.Equal(a.keys.Seniority(), live[0].keys.Seniority()) || !maps.Equal(a.keys.Removed(), live[0].keys.Removed()) {
			s.fail("%s knows members %v, removed %v\n%s members %v, removed %v", live[0].name, live[0].keys.Seniority(), live[0].keys.Removed(), a.name, a.keys.Seniority(), a.keys.Removed())
		}
		st, err := a.Status(context.Background())
		if err != nil || len(st.Pending)+len(st.Alarms) > 0 {
			s.fail("%s: pending %+v, alarms %+v, %v", a.name, st.Pending, st.Alarms, err)
		}
	}
	s.equal(live)
	removed := slices.DeleteFunc(slices.Clone(s.devices), (*actor).member)
	s.fresh(live)
	// Who was removed deletes what it put, as far as it can be told apart.
	for name, by := range s.put {
		if slices.Contains(removed, by.who) && name[:2] == "d/" {
			s.cloud.Remove(name)
		}
	}
	for _, a := range live {
		s.pass(time.Minute)
		a.try(full)
	}
	s.fresh(live)
}

func (s *stage) equal(live []*actor) {
	s.t.Helper()
	for _, a := range live[1:] {
		if a.state.hash() != live[0].state.hash() {
			for key, v := range a.state.fields {
				if live[0].state.fields[key] != v {
					s.note("%q: %s has %v, %s has %v", key, a.name, v, live[0].name, live[0].state.fields[key])
				}
			}
			for _, a := range live {
				st, _ := a.Status(context.Background())
				s.note("%s: %+v", a.name, st.Devices)
			}
			s.fail("%s and %s differ", live[0].name, a.name)
		}
	}
}

// fresh restores a new device, which must be equal to the others, and forgets it.
func (s *stage) fresh(live []*actor) {
	s.t.Helper()
	objects := s.cloud.Objects()
	defer s.cloud.Reset(objects)
	a := s.actor()
	a.device = s.blank("fresh", curtain{a})
	if _, err := a.Restore(context.Background(), nil); err != nil {
		s.fail("restoring: %v", err)
	}
	s.equal(append(slices.Clone(live), a))
	st, err := a.Status(context.Background())
	if err != nil || len(st.Alarms) > 0 {
		s.fail("a fresh device: alarms %+v, %v", st.Alarms, err)
	}
}

// stages runs a test with some seeds, and with many others in a soak; LOCKER_SEED
// replays one.
func stages(t *testing.T, runs int, f func(t *testing.T, seed uint64)) {
	base := uint64(1)
	if again := os.Getenv("LOCKER_SEED"); again != "" {
		var err error
		if base, err = strconv.ParseUint(again, 10, 64); err != nil {
			t.Fatal(err)
		}
		runs = 1
	} else if soak() {
		base, runs = uint64(time.Now().UnixNano()), runs*100
	}
	for i := range uint64(runs) {
		if !t.Run(fmt.Sprint("seed=", base+i), func(t *testing.T) { f(t, base+i) }) {
			return
		}
	}
}

// TestMembers plays random histories of devices that write, remove each other, are
// brought back and evicted, while the cloud shows each only a part, and devices crash.
// When all is shown all members hold the same, know the same members, and a fresh
// device is restored to the same, even after those that are out deleted their logs.
func TestMembers(t *testing.T) {
	stages(t, 25, func(t *testing.T, seed uint64) { play(t, seed, replica.Rules{}) })
}

// play is one history, with some rules switched off.
func play(t testing.TB, seed uint64, off replica.Rules) {
	s := newStage(t, seed, off)
	for range 1 + s.rnd.IntN(3) {
		s.join()
		s.devices[0].try(full)
	}
	for range 60 {
		s.step()
	}
	s.settle()
}

// A witness is a test whose failure is an error, and ends the goroutine.
type witness struct {
	testing.TB
	failed error
}

func (r *witness) Helper()             {}
func (r *witness) Log(...any)          {}
func (r *witness) Logf(string, ...any) {}

func (r *witness) Fatal(args ...any) { r.Fatalf("%s", fmt.Sprint(args...)) }

func (r *witness) Fatalf(format string, args ...any) {
	r.failed = fmt.Errorf(format, args...)
	runtime.Goexit()
}

// members is play whose failure is an error.
func members(t testing.TB, seed uint64, off replica.Rules) error {
	r := &witness{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		play(r, seed, off)
	}()
	<-done
	return r.failed
}
