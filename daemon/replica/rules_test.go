package replica_test

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/locker-project/locker/daemon/replica"
)

// TestRules switches each rule of the protocol off and sees that a suite fails then.
func TestRules(t *testing.T) {
	if howMany(0, 0, 1) == 0 {
		t.Skip("it takes minutes: make suites")
	}
	whole, pair := newTarget(t), newPair(t)
	for _, name := range replica.RuleNames() {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			off := replica.Off(name)
			simulation := func(seed uint64, _ int, r replica.Rules) error {
				_, err := simulate(t, seed, false, r)
				return err
			}
			suites := []struct {
				name string
				most int
				run  func(seed uint64, i int, r replica.Rules) error
			}{
				{"simulation", 60, simulation},
				{"members", 60, func(seed uint64, _ int, r replica.Rules) error { return members(t, seed, r) }},
				{"laggy", 100, func(seed uint64, _ int, r replica.Rules) error { return pair.without(r).schedule(t, seed).run() }},
				{"hostile", 6 * len(attackClasses), func(seed uint64, i int, r replica.Rules) error { return whole.without(r).attack(t, seed, i) }},
				{"simulation", 1500, simulation},
			}
			for _, s := range suites {
				// With all rules the same must pass: else it is not the rule that fails.
				tried, err := firstFailure(s.most, func(seed uint64, i int) error {
					err := s.run(seed, i, off)
					if err != nil && s.run(seed, i, replica.Rules{}) != nil {
						t.Logf("seed %d fails with all rules, too: %.300s", seed, err)
						return nil
					}
					return err
				})
				if err != nil {
					t.Logf("without %s: %s fails after %d, %v: %.200s", name, s.name, tried, time.Since(start).Round(time.Millisecond), err)
					return
				}
			}
			t.Errorf("without %s all suites pass", name)
		})
	}
}

// firstFailure calls run until it fails, side by side, and returns how often it did.
func firstFailure(most int, run func(seed uint64, i int) error) (tried int, first error) {
	base := uint64(time.Now().UnixNano()) % 1e15
	var mu sync.Mutex
	var group sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		group.Go(func() {
			for {
				mu.Lock()
				i := tried
				if first != nil || i == most {
					mu.Unlock()
					return
				}
				tried++
				mu.Unlock()
				if err := run(base+uint64(i), i); err != nil {
					mu.Lock()
					first = errors.Join(first, fmt.Errorf("seed %d: %w", base+uint64(i), err))
					mu.Unlock()
				}
			}
		})
	}
	group.Wait()
	return tried, first
}

// without is a target whose devices lack a rule.
func (g *target) without(r replica.Rules) *target {
	other := *g
	other.off = r
	return &other
}

// attack makes one attack, the i-th, and returns what is not as it must be.
func (g *target) attack(t testing.TB, seed uint64, i int) (err error) {
	c := &attackClasses[i%len(attackClasses)]
	rec := &recorder{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.attack(g.shoot(rec, seed), i/len(attackClasses))
	}()
	<-done
	return rec.failure()
}

// A recorder is a test that keeps why it failed, and fails nobody.
type recorder struct {
	testing.TB
	mu  sync.Mutex
	err error
}

func (r *recorder) Helper() {}

func (r *recorder) failure() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

func (r *recorder) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
}

func (r *recorder) Fatal(args ...any) {
	r.Errorf("%s", fmt.Sprint(args...))
	runtime.Goexit()
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}
