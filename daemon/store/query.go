package store

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"iter"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/locker-project/locker/plugins/locker"
)

// Query yields the records that q selects, from one snapshot.
func (v view) Query(ctx context.Context, q locker.Query) iter.Seq2[locker.Record, error] {
	return func(yield func(locker.Record, error) bool) {
		if err := v.query(ctx, q, yield); err != nil && !errors.Is(err, errStop) {
			yield(locker.Record{}, err)
		}
	}
}

func (v view) query(ctx context.Context, q locker.Query, yield func(locker.Record, error) bool) error {
	filter, err := locker.ParseFilter(q.Where)
	if err != nil {
		return err
	}
	if err := v.author.reach(q.Collection, "read"); err != nil {
		return err
	}
	v.s.caughtUp()
	done, err := v.s.use(ctx)
	if err != nil {
		return err
	}
	defer done()
	m, cursors, err := v.s.cursors(v.collections(q.Collection), q)
	if err != nil {
		return err
	}
	run := &querier{s: v.s, q: q, filter: filter, marks: m, fields: newProjector(v.s, m, q.Fields), yield: yield}
	err = run.merge(ctx, cursors)
	for _, c := range cursors {
		if closed := c.it.Close(); err == nil && closed != nil {
			err = closed
		}
	}
	return err
}

// collections are the numbers of those that a query is about.
func (v view) collections(collection string) []uint32 {
	if collection != "" {
		if name, ok := v.s.names.find(collection); ok {
			return []uint32{name}
		}
		return nil
	}
	var all []uint32
	for text := range v.s.shown.Load().counts {
		if name, ok := v.s.names.find(text); ok {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return all
}

// A cursor walks over the records of one collection.
type cursor struct {
	it         *pebble.Iterator
	collection string
}

// cursors opens cursors over collections that see the same moment.
func (s *Store) cursors(collections []uint32, q locker.Query) (marks, []cursor, error) {
	if len(collections) == 0 {
		return nil, nil, nil
	}
	snap, m := s.snapshot()
	defer snap.Close()
	var out []cursor
	for _, c := range collections {
		lower, upper := bounds(c, q)
		it, err := snap.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
		if err != nil {
			for _, c := range out {
				err = errors.Join(err, c.it.Close())
			}
			return nil, nil, err
		}
		out = append(out, cursor{it, s.names.text(c)})
	}
	return m, out, nil
}

// bounds are those of the records of a collection within a query's span of time.
func bounds(collection uint32, q locker.Query) (lower, upper []byte) {
	base := binary.BigEndian.AppendUint32([]byte{spaceRecords}, collection)
	lower = append(slices.Clone(base), placeNoTime)
	upper = append(slices.Clone(base), placeTime+1)
	if !q.Since.IsZero() || !q.Until.IsZero() {
		lower = append(slices.Clone(base), placeTime)
	}
	if !q.Since.IsZero() {
		lower = append(slices.Clone(base), timePlace(q.Since)...)
	}
	if !q.Until.IsZero() {
		upper = append(slices.Clone(base), timePlace(q.Until)...)
	}
	if bytes.Compare(lower, upper) > 0 {
		upper = lower
	}
	return lower, upper
}

// A querier runs one query.
type querier struct {
	s      *Store
	q      locker.Query
	filter *locker.Filter
	marks  marks
	fields *projector
	yield  func(locker.Record, error) bool
	row    row
	seen   int
	given  int
}

// merge yields the records of the cursors in order of place, and id.
func (r *querier) merge(ctx context.Context, cursors []cursor) error {
	open := make([]*cursor, 0, len(cursors))
	for i := range cursors {
		c := &cursors[i]
		if r.q.Descending && c.it.Last() || !r.q.Descending && c.it.First() {
			open = append(open, c)
		} else if err := c.it.Error(); err != nil {
			return err
		}
	}
	for len(open) > 0 {
		c := open[0]
		if len(open) > 1 {
			c = r.nearest(open)
		}
		if err := r.one(ctx, c); err != nil {
			return err
		}
		if r.q.Descending && c.it.Prev() || !r.q.Descending && c.it.Next() {
			continue
		}
		if err := c.it.Error(); err != nil {
			return err
		}
		open = slices.DeleteFunc(open, func(o *cursor) bool { return o == c })
	}
	return nil
}

// nearest is the cursor whose record comes next.
func (r *querier) nearest(open []*cursor) *cursor {
	return slices.MinFunc(open, func(a, b *cursor) int {
		c := cmp.Or(bytes.Compare(a.it.Key()[5:], b.it.Key()[5:]), cmp.Compare(a.collection, b.collection))
		if r.q.Descending {
			return -c
		}
		return c
	})
}

// one yields the record at a cursor, if it is selected.
func (r *querier) one(ctx context.Context, c *cursor) error {
	if r.seen++; r.seen%256 == 0 {
		if err := r.s.going(ctx); err != nil {
			return err
		}
	}
	_, _, id, err := splitRecordKey(c.it.Key())
	if err != nil {
		return err
	}
	val, err := c.it.ValueAndErr()
	if err != nil {
		return err
	}
	if err := r.row.read(val); err != nil {
		return fail(c.collection, string(id), err)
	}
	if len(r.marks) > 0 && !r.fields.live(&r.row) {
		return nil
	}
	if r.filter != nil && !r.match(id) {
		return nil
	}
	out := locker.Record{Collection: c.collection, ID: string(id)}
	r.fields.project(&r.row, &out)
	if !r.yield(out, nil) {
		return errStop
	}
	if r.given++; r.given == r.q.Limit {
		return errStop
	}
	return nil
}

// match asks the filter.
func (r *querier) match(id []byte) bool {
	return r.filter.Match(func(name string) (json.RawMessage, bool) {
		switch name {
		case "id":
			return quote(nil, string(id)), true
		case "time":
			data, ok := r.get(timeName)
			if !ok {
				return nil, false
			}
			return quote(nil, timeText(data)), true
		case "source":
			data, ok := r.get(sourceName)
			return quote(nil, string(data)), ok
		case "import":
			if i := r.row.find(sourceName); i >= 0 && r.row.visible(i, r.marks) && r.row.stamp(i).imp != 0 {
				return quote(nil, r.s.names.text(r.row.stamp(i).imp)), true
			}
			return nil, false
		}
		return r.get(name)
	})
}

func (r *querier) get(name string) (json.RawMessage, bool) {
	if i := r.row.find(name); i >= 0 && r.row.visible(i, r.marks) {
		return r.row.value(i), true
	}
	return nil, false
}
