package store

import (
	"errors"
	"math"
	"time"
)

const (
	// aheadLimit is how far ahead of ours a clock may be and still be adopted.
	aheadLimit = 10 * time.Minute
	// maxClock bounds clocks that are accepted, some four thousand years from now,
	// so that an edit can always be newer than what it replaces.
	maxClock = math.MaxInt64
)

var errClock = errors.New("a value was written with the highest clock there is and cannot be replaced")

// wall is the hybrid clock's reading of a time.
func wall(t time.Time) uint64 { return uint64(max(t.UnixMilli(), 0)) << 16 }

// tick is the clock of a write that begins now: the time, but greater than all
// clocks used or adopted before.
func (s *Store) tick() uint64 { return max(wall(s.now()), s.meta.clock+1) }

// over is the clock of an edit that begins at clock and replaces something.
func over(clock, replaced uint64) (uint64, error) {
	c := max(clock, replaced+1)
	if c > maxClock {
		return 0, errClock
	}
	return c, nil
}
