package manifests

import (
	"cmp"
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
// some 150 bytes of memory for each record, only where an app asks for changes.
//
// Its positions count from the moment it was made, so that one of an earlier
// tracker is recognised: then everything is shown again.
type tracker struct {
	seed maphash.Seed

	mu    sync.Mutex
	inner locker.Rev // how far the view underneath was read
	last  locker.Rev // the last position given
	known map[string]shown
	log   []place // in order of position; outdated where known says another one
}

// shown is what an app knows of a record.
type shown struct {
	rev     locker.Rev
	digest  uint64
	time    int64 // of the record, in seconds since 1970
	deleted bool
}

type place struct {
	rev locker.Rev
	id  string
}

// A change is where a record last changed, as far as the app can see.
type change struct {
	id string
	shown
}

const (
	epochTick  = 64 * time.Millisecond
	epochShift = 28 // bits that count changes within one epoch
)

func newTracker(now time.Time) *tracker {
	ticks := now.Sub(time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)) / epochTick
	return &tracker{seed: maphash.MakeSeed(), last: locker.Rev(max(ticks, 1)) << epochShift, known: map[string]shown{}}
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
	first, found := slices.BinarySearchFunc(t.log, after, func(at place, after locker.Rev) int { return cmp.Compare(at.rev, after) })
	if found {
		first++
	}
	var out []change
	for _, at := range t.log[first:] {
		if s := t.known[at.id]; s.rev == at.rev {
			out = append(out, change{at.id, s})
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
	visible := known && !before.deleted && (oldest.IsZero() || before.time >= oldest.Unix())
	if r.Deleted || !oldest.IsZero() && r.Time.Before(oldest) {
		return change{r.ID, shown{deleted: true}}, visible
	}
	now := shown{time: r.Time.Unix(), digest: t.digest(l.show(p, p.fields, r))}
	if visible && before.digest == now.digest {
		before.time = now.time
		t.known[r.ID] = before
		return change{}, false
	}
	return change{r.ID, now}, true
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
		t.log = append(t.log, place{c.rev, c.id})
		t.known[c.id] = c.shown
	}
	if len(t.log) > 2*len(t.known)+1000 {
		t.log = slices.DeleteFunc(t.log, func(at place) bool { return t.known[at.id].rev != at.rev })
	}
}
