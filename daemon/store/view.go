package store

import (
	"context"
	"encoding/json"
	"errors"
	"iter"

	"github.com/cockroachdb/pebble/v2"
	"github.com/locker-project/locker/plugins/locker"
)

// View is the store as an author may see it: all collections, but those whose
// names begin with "_" only for a System author. Put is [Store.Write].
//
// In a query, records without a time come before all others, or last when it is
// descending; they are left out where a span of time is given. Records of the same
// instant are in the order of their ids. A query without a collection merges all
// that the author may see, in order of time.
func (s *Store) View(a Author) locker.View { return view{s, a} }

type view struct {
	s      *Store
	author Author
}

// Put writes records, all or none.
func (v view) Put(ctx context.Context, records ...locker.Record) error {
	_, err := v.s.Write(ctx, v.author, records...)
	return err
}

// Get returns one record.
func (v view) Get(ctx context.Context, collection, id string) (locker.Record, error) {
	if err := v.author.reach(collection, "read"); err != nil {
		return locker.Record{}, err
	}
	v.s.caughtUp()
	done, err := v.s.use(ctx)
	if err != nil {
		return locker.Record{}, err
	}
	defer done()
	name, ok := v.s.names.find(collection)
	if !ok {
		return locker.Record{}, fail(collection, id, locker.ErrNotFound)
	}
	snap, m := v.s.snapshot()
	defer snap.Close()
	r, err := v.s.record(snap, m, name, id)
	if err != nil {
		return r, fail(collection, id, err)
	}
	if r.Deleted {
		return locker.Record{}, fail(collection, id, locker.ErrNotFound)
	}
	return r, nil
}

// snapshot is the store at one moment, with the marks that belong to it.
func (s *Store) snapshot() (*pebble.Snapshot, marks) {
	s.viewing.RLock()
	defer s.viewing.RUnlock()
	return s.db.NewSnapshot(), *s.marks.Load()
}

// record reads a whole record; one that is not there or cannot be seen is Deleted.
func (s *Store) record(db pebble.Reader, m marks, collection uint32, id string) (locker.Record, error) {
	out := locker.Record{Collection: s.names.text(collection), ID: id, Deleted: true}
	val, err := s.read(db, collection, id)
	if err != nil || val == nil {
		return out, err
	}
	var row row
	if err := row.read(val); err != nil {
		return out, err
	}
	out.Rev = locker.Rev(row.rev)
	p := projector{s: s, marks: m}
	if !p.live(&row) {
		return out, nil
	}
	out.Deleted = false
	p.project(&row, &out)
	return out, nil
}

// Changes yields what changed after a position.
func (v view) Changes(ctx context.Context, collection string, after locker.Rev) iter.Seq2[locker.Record, error] {
	return func(yield func(locker.Record, error) bool) {
		if err := v.changes(ctx, collection, uint64(after), yield); err != nil && !errors.Is(err, errStop) {
			yield(locker.Record{}, err)
		}
	}
}

func (v view) changes(ctx context.Context, collection string, after uint64, yield func(locker.Record, error) bool) error {
	if err := v.author.reach(collection, "read"); err != nil {
		return err
	}
	v.s.caughtUp()
	done, err := v.s.use(ctx)
	if err != nil {
		return err
	}
	defer done()
	name, ok := v.s.names.find(collection)
	if !ok {
		return nil
	}
	snap, m := v.s.snapshot()
	defer snap.Close()
	n := 0
	return scanRange(snap, changeKey(after+1), []byte{spaceChanges + 1}, func(_, val []byte) error {
		if n++; n%256 == 0 {
			if err := v.s.going(ctx); err != nil {
				return err
			}
		}
		ref, err := changeRef(val)
		if err != nil || ref.collection != name {
			return err
		}
		r, err := v.s.record(snap, m, ref.collection, ref.id)
		if err != nil {
			return fail(collection, ref.id, err)
		}
		if !yield(r, nil) {
			return errStop
		}
		return nil
	})
}

// going says whether a long read may go on.
func (s *Store) going(ctx context.Context) error {
	select {
	case <-s.closing:
		return ErrClosed
	default:
		return ctx.Err()
	}
}

// A projector makes records of rows: the fields that are wanted and can be seen.
type projector struct {
	s     *Store
	marks marks
	all   bool
	want  map[string]bool

	shape  *byte // of the row that picks was made for
	size   int
	picks  []pick
	time   int // index of the time in the shape, or -1
	source int
	room   []byte // where fields go; never written twice
	last   struct {
		data []byte
		text string
	} // the source of the record before
}

// A pick is a field that is wanted: its index, and what stands before its value.
type pick struct {
	index int
	intro []byte
}

// newProjector wants some fields; nil: all.
func newProjector(s *Store, m marks, fields []string) *projector {
	p := &projector{s: s, marks: m, all: fields == nil}
	if !p.all {
		p.want = make(map[string]bool, len(fields))
		for _, f := range fields {
			p.want[f] = true
		}
	}
	return p
}

// live says whether anything of a row can be seen.
func (p *projector) live(r *row) bool {
	for i := range r.shape.names {
		if r.visible(i, p.marks) {
			return true
		}
	}
	return false
}

// prepare finds what is wanted in the shape of a row.
func (p *projector) prepare(r *row) {
	if len(r.shape.table) > 0 && p.shape == &r.shape.table[0] {
		return
	}
	p.picks, p.time, p.source = p.picks[:0], -1, -1
	for i, name := range r.shape.names {
		switch {
		case name == timeName:
			p.time = i
		case name == sourceName:
			p.source = i
		case p.want == nil || p.want[name]:
			p.picks = append(p.picks, pick{i, append(quote([]byte{','}, name), ':')})
		}
	}
	if len(r.shape.table) > 0 {
		p.shape = &r.shape.table[0]
	}
}

const projectorRoom = 64 << 10

// project fills in time, source, import, rev and fields.
func (p *projector) project(r *row, out *locker.Record) {
	p.prepare(r)
	out.Rev = locker.Rev(r.rev)
	if p.time >= 0 && r.visible(p.time, p.marks) {
		out.Time = timeOf(r.value(p.time))
	}
	if p.source >= 0 && r.visible(p.source, p.marks) {
		src := r.value(p.source)
		if p.last.text == "" || string(p.last.data) != string(src) {
			p.last.data, p.last.text = append(p.last.data[:0], src...), string(src)
		}
		out.Source, out.Import = p.last.text, p.s.names.text(r.stamp(p.source).imp)
	}
	out.Fields = p.fields(r)
}

// fields makes the JSON object.
func (p *projector) fields(r *row) json.RawMessage {
	need := 2
	for _, k := range p.picks {
		need += len(k.intro) + len(r.value(k.index))
	}
	if cap(p.room)-len(p.room) < need {
		p.room = make([]byte, 0, max(need, p.nextRoom()))
	}
	start := len(p.room)
	b := append(p.room, '{')
	for _, k := range p.picks {
		if !r.visible(k.index, p.marks) {
			continue
		}
		if intro := k.intro; len(b) > start+1 {
			b = append(b, intro...)
		} else {
			b = append(b, intro[1:]...)
		}
		b = append(b, r.value(k.index)...)
	}
	b = append(b, '}')
	p.room = b
	return json.RawMessage(b[start:len(b):len(b)])
}

// nextRoom grows with what was projected, so that one record costs no more than it
// needs.
func (p *projector) nextRoom() int {
	p.size = min(max(4*p.size, 256), projectorRoom)
	return p.size
}
