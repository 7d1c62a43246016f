package manifests

import (
	"context"
	"fmt"
	"hash/maphash"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/locker-project/locker/plugins/locker"
)

// Changes implements [locker.View].
func (l *limited) Changes(ctx context.Context, collection string, after locker.Rev) iter.Seq2[locker.Record, error] {
	return func(yield func(locker.Record, error) bool) {
		p, err := l.reader(collection)
		if err != nil {
			yield(locker.Record{}, err)
			return
		}
		p.once.Do(func() { p.changes = newTracker(l.now()) })
		list, err := p.changes.since(ctx, l, p, after)
		if err != nil {
			yield(locker.Record{}, err)
			return
		}
		for _, c := range list {
			r, err := l.changed(ctx, p, c)
			if err == locker.ErrNotFound {
				continue // it went between; the next look tells
			}
			if !yield(r, err) || err != nil {
				return
			}
		}
	}
}

// changed returns a record as it is now, under the position of its change.
func (l *limited) changed(ctx context.Context, p *policy, c change) (locker.Record, error) {
	if err := l.check(); err != nil {
		return locker.Record{}, err
	}
	r := locker.Record{ID: c.id, Deleted: true}
	if !c.deleted {
		var err error
		if r, err = l.get(ctx, p, c.id); err != nil {
			return locker.Record{}, err
		}
	}
	r = l.show(p, p.fields, r)
	r.Rev = c.rev
	return r, nil
}

// A tracker tells changes of what a grant shows from changes of the rest. The view
// underneath knows only that something of a record changed. So the tracker keeps,
// for each record that was ever shown, a digest of what the app could see of it,
// and gives a record a new position when the digest is another one. The cost is
// some 100 bytes of memory for each record, only where an app asks for changes.
//
// Its positions count from the moment it was made, so that one of an earlier
// tracker is recognised: then everything is shown again.
type tracker struct {
	seed  maphash.Seed
	epoch locker.Rev

	mu    sync.Mutex
	inner locker.Rev // how far the view underneath was read
	last  locker.Rev // the last position given
	known map[string]change
	log   []change // in order of position; outdated where known says another position
}

// A change is where a record last changed, as far as the app can see.
type change struct {
	id      string
	rev     locker.Rev
	digest  uint64
	time    time.Time
	deleted bool
}

const (
	epochTick  = 64 * time.Millisecond
	epochShift = 28 // bits that count changes within one epoch
)

func newTracker(now time.Time) *tracker {
	ticks := now.Sub(time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)) / epochTick
	epoch := locker.Rev(max(ticks, 1)) << epochShift
	return &tracker{seed: maphash.MakeSeed(), epoch: epoch, last: epoch, known: map[string]change{}}
}

// since reads on from the view underneath and returns what changed after a position.
func (t *tracker) since(ctx context.Context, l *limited, p *policy, after locker.Rev) ([]change, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.read(ctx, l, p); err != nil {
		return nil, err
	}
	if after > t.last {
		return nil, fmt.Errorf("%w: position %d is not one of this grant's; begin again at 0", locker.ErrInvalid, after)
	}
	first, _ := slices.BinarySearchFunc(t.log, after, func(c change, after locker.Rev) int {
		if c.rev <= after {
			return -1
		}
		return 1
	})
	var out []change
	for _, c := range t.log[first:] {
		if t.known[c.id].rev == c.rev {
			out = append(out, c)
		}
	}
	return out, nil
}

// read takes over what changed in the view underneath.
func (t *tracker) read(ctx context.Context, l *limited, p *policy) error {
	inner := t.inner
	var found []change
	for r, err := range l.inner.Changes(ctx, p.collection, t.inner) {
		if err != nil {
			return opaque(err)
		}
		inner = max(inner, r.Rev)
		if c, ok := t.compare(l, p, r); ok {
			found = append(found, c)
		}
	}
	t.inner = inner
	t.append(p, found)
	return nil
}

// compare says whether the app can see that a record changed. What left the window
// by growing old went without a change, so that nothing that happens to it later
// can show.
func (t *tracker) compare(l *limited, p *policy, r locker.Record) (change, bool) {
	before, known := t.known[r.ID]
	oldest := l.oldest(p)
	outside := func(at time.Time) bool { return !oldest.IsZero() && at.Before(oldest) }
	visible := known && !before.deleted && !outside(before.time)
	if r.Deleted || outside(r.Time) {
		return change{id: r.ID, deleted: true}, visible
	}
	c := change{id: r.ID, time: r.Time, digest: t.digest(l.show(p, p.fields, r))}
	if visible && before.digest == c.digest {
		before.time = r.Time
		t.known[r.ID] = before
		return c, false
	}
	return c, true
}

// digest is of all that an app sees of a record.
func (t *tracker) digest(seen locker.Record) uint64 {
	var h maphash.Hash
	h.SetSeed(t.seed)
	for _, s := range []string{seen.Source, seen.Import, seen.Time.Format(time.RFC3339Nano)} {
		h.WriteString(s)
		h.WriteByte(0)
	}
	return digest(t.seed, seen.Fields) + h.Sum64()
}

// append gives positions to changes, in an order that says nothing about them.
func (t *tracker) append(p *policy, found []change) {
	type placed struct {
		order block
		change
	}
	list := make([]placed, len(found))
	for i, c := range found {
		list[i] = placed{p.ids.order(c.id), c}
	}
	slices.SortFunc(list, func(a, b placed) int { return slices.Compare(a.order[:], b.order[:]) })
	for _, c := range list {
		t.last++
		c.rev = t.last
		t.log = append(t.log, c.change)
		t.known[c.id] = c.change
	}
	if len(t.log) > 2*len(t.known)+1000 {
		t.log = slices.DeleteFunc(t.log, func(c change) bool { return t.known[c.id].rev != c.rev })
	}
}
