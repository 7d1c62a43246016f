package store

import (
	"context"
	"fmt"
)

// Written returns what a device wrote with a clock above from and up to to, as far as
// it is still part of the state, as change lines with the revisions that it has: of
// about max bytes in all (one record is never cut). An empty device is any. after is
// nil at first; next is where the next call goes on, and nil at the end. What changes
// between the calls is there, before or after the change; some may be there twice.
// It needs the memory for max bytes, and reads every record once.
func (s *Store) Written(ctx context.Context, device string, from, to uint64, after []byte, max int) (lines, next []byte, err error) {
	pos, err := decodePosition(after)
	if err != nil {
		return nil, nil, err
	}
	done, err := s.use(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer done()
	c := &cutter{s: s, max: max, to: to}
	if device != "" {
		number, ok := s.names.find(device)
		if !ok {
			return nil, nil, nil
		}
		c.own = []uint32{number}
	}
	s.mu.Lock()
	snap := s.db.NewSnapshot()
	rev := s.meta.rev
	s.mu.Unlock()
	defer snap.Close()
	if len(after) == 0 {
		pos = position{clock: from, goal: rev, cursor: []byte{spaceRecords}}
	}
	c.db, c.pos = snap, pos
	if len(c.pos.cursor) > 0 {
		if err = c.sweep(ctx); err == nil {
			c.pos.rev, c.pos.goal, c.pos.cursor = c.pos.goal, 0, nil
		}
	}
	if err == nil {
		err = c.follow(ctx)
	}
	switch err {
	case nil:
		return c.lines, nil, nil
	case errStop:
		return c.lines, c.pos.encode(), nil
	}
	return nil, nil, fmt.Errorf("reading what a device wrote: %w", err)
}
