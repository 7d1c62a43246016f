package store

import (
	"bytes"
	"context"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2"
)

// Cut returns what was written on this device after a position, as change lines of
// about max bytes in all (one record is never cut), and the position after them. No
// lines: there is nothing new. What it returns may hold again what an earlier call
// returned, which does no harm: lines are joined.
//
// urgent is false when the lines hold nothing but what is never sent for its own
// sake (see [Store.Changed]).
//
// A position remembers the device that it was made for. Handed to a store that has
// another device now (a clone that became a new device, even more than once), it
// returns what was written here under each, with the revisions that it has. With a
// max of 0 no lines are returned, and the position stays.
func (s *Store) Cut(ctx context.Context, after []byte, max int) (lines, next []byte, urgent bool, err error) {
	pos, err := decodePosition(after)
	if err != nil {
		return nil, nil, false, err
	}
	done, err := s.use(ctx)
	if err != nil {
		return nil, nil, false, err
	}
	defer done()
	s.mu.Lock()
	snap := s.db.NewSnapshot()
	rev, clock := s.meta.rev, s.meta.clock
	s.mu.Unlock()
	defer snap.Close()
	c := &cutter{s: s, db: snap, pos: pos, max: max, to: maxClock, own: []uint32{s.device}}
	for _, former := range c.formers() {
		if was, ok := s.names.find(former); ok && was != 0 {
			c.own = append(c.own, was)
		}
	}
	if err := c.run(ctx, rev, clock); err != nil && err != errStop {
		return nil, nil, false, err
	}
	return c.lines, c.pos.encode(), c.urgent, nil
}

// A cutter gathers lines.
type cutter struct {
	s      *Store
	db     pebble.Reader
	pos    position
	max    int
	to     uint64   // clocks above it are not handed out
	own    []uint32 // devices whose values are handed out; none: all
	lines  []byte
	urgent bool
	row    row
	last   []stamp
}

// formers are the devices for which the position was made, but for this one. While
// not all is handed out that they wrote, the position names each device that this
// store had since, with this one added as the last.
func (c *cutter) formers() []string {
	this := c.s.names.text(c.s.device)
	all := strings.FieldsFunc(c.pos.device, func(r rune) bool { return r == ' ' })
	if !slices.Contains(all, this) {
		c.pos.device = strings.Join(append(slices.Clone(all), this), " ")
	}
	return slices.DeleteFunc(all, func(d string) bool { return d == this })
}

// run reads on from the position until there are lines enough or nothing new; the
// store is at rev and clock.
func (c *cutter) run(ctx context.Context, rev, clock uint64) error {
	if c.pos.rev >= rev && len(c.pos.cursor) == 0 {
		return nil
	}
	if len(c.pos.cursor) == 0 && c.many(rev-c.pos.rev) {
		c.pos.cursor, c.pos.goal = []byte{spaceRecords}, rev
	}
	if len(c.pos.cursor) > 0 {
		if err := c.sweep(ctx); err != nil {
			return err
		}
		c.pos.rev, c.pos.goal, c.pos.cursor = c.pos.goal, 0, nil
	}
	if err := c.follow(ctx); err != nil {
		return err
	}
	c.pos = position{rev: rev, clock: clock, device: c.s.names.text(c.s.device)}
	return nil
}

// sweepShare decides how changes are read: a record on its own costs about this many
// times what one in passing does.
const sweepShare = 16

// many says whether so large a part of all records has changed that sweeping over
// them, in the order in which they lie, is the faster way.
func (c *cutter) many(changes uint64) bool {
	total := int64(0)
	c.s.mu.Lock()
	for _, n := range c.s.meta.counts {
		total += n
	}
	c.s.mu.Unlock()
	return changes > sweepLeast && changes*sweepShare > uint64(total)
}

// sweepLeast is how many changes are worth a sweep.
const sweepLeast = 1000

// follow reads the change log. It returns errStop when there are lines enough.
func (c *cutter) follow(ctx context.Context) error {
	n := 0
	return scanRange(c.db, changeKey(c.pos.rev+1), []byte{spaceChanges + 1}, func(key, val []byte) error {
		if n++; n%256 == 0 {
			if err := c.s.going(ctx); err != nil {
				return err
			}
		}
		if len(c.lines) >= c.max {
			return errStop
		}
		ref, err := changeRef(val)
		if err != nil {
			return err
		}
		stored, err := c.s.read(c.db, ref.collection, ref.id)
		if err != nil {
			return err
		}
		if err := c.row.read(stored); err != nil {
			return fail(c.s.names.text(ref.collection), ref.id, err)
		}
		c.add(ref.collection, []byte(ref.id))
		c.pos.rev = decodeRev(key)
		return nil
	})
}

// sweep reads all records from the cursor on. What changes behind the cursor
// meanwhile has a rev above the goal, and comes when the log is followed from there.
func (c *cutter) sweep(ctx context.Context) error {
	n, since := 0, c.pos.rev
	return scanRange(c.db, c.pos.cursor, []byte{spaceRecords + 1}, func(key, val []byte) error {
		if n++; n%256 == 0 {
			if err := c.s.going(ctx); err != nil {
				return err
			}
		}
		if len(c.lines) >= c.max {
			c.pos.cursor = bytes.Clone(key)
			return errStop
		}
		collection, _, id, err := splitRecordKey(key)
		if err != nil {
			return err
		}
		if err := c.row.read(val); err != nil {
			return fail(c.s.names.text(collection), string(id), err)
		}
		if c.row.rev > since {
			c.add(collection, id)
		}
		return nil
	})
}

// add appends what this device wrote of the row after the position's clock: a line
// for each revision.
func (c *cutter) add(collection uint32, id []byte) {
	r := &c.row
	c.last = c.last[:0]
	name := ""
	for i, at := range r.stamps {
		if len(c.own) > 0 && !slices.Contains(c.own, at.device) || at.clock <= c.pos.clock || at.clock > c.to || slices.Contains(c.last, at) {
			continue
		}
		c.last = append(c.last, at)
		if name == "" {
			name = c.s.names.text(collection)
		}
		before := len(c.lines)
		if r.tomb == i+1 {
			c.lines = appendTomb(c.lines, name, id, at, c.s.names)
		}
		if r.tomb != i+1 || r.uses(i) {
			c.lines = r.appendLine(c.lines, name, id, at, c.s.names)
		}
		if len(c.lines) > before && !isQuiet(name) {
			c.urgent = true
		}
	}
}

// uses says whether a value has the revision of that index.
func (r *row) uses(stamp int) bool {
	if len(r.index) == 0 {
		return stamp == 0 && len(r.shape.names) > 0
	}
	return slices.Contains(r.index, stamp)
}
