package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"

	"github.com/cockroachdb/pebble/v2"
)

// Check reads the whole store and recomputes all that depends on records: places,
// ids, change log, counts, state hash, references, what is known of imports. The error says what
// does not agree.
func (s *Store) Check(ctx context.Context) error {
	done, err := s.write(ctx)
	if err != nil {
		return err
	}
	defer done()
	if err := s.hunt(); err != nil {
		return err
	}
	c := &checker{s: s, txn: s.begin(0), ctx: ctx, marks: *s.marks.Load(), counts: map[uint32]int64{}, revs: map[uint64]recordRef{}, ids: map[recordRef]string{}}
	for _, step := range []func() error{c.records, c.index, c.changes, c.totals, c.undone, c.refs} {
		if err := step(); err != nil {
			return fmt.Errorf("check of the store: %w", err)
		}
	}
	return nil
}

// A checker recomputes.
type checker struct {
	s      *Store
	ctx    context.Context
	txn    *txn // to look up bans
	marks  marks
	counts map[uint32]int64
	hash   sum
	revs   map[uint64]recordRef
	ids    map[recordRef]string // → place
}

func (c *checker) records() error {
	var (
		r       row
		scratch []byte
	)
	return scan(c.s.db, []byte{spaceRecords}, func(key, val []byte) error {
		if err := c.s.going(c.ctx); err != nil {
			return err
		}
		collection, place, id, err := splitRecordKey(key)
		if err != nil {
			return err
		}
		name := c.s.names.text(collection)
		if err := r.read(val); err != nil {
			return fail(name, string(id), err)
		}
		rec := r.record()
		ref := recordRef{collection, string(id)}
		if want := rec.place(c.marks); !bytes.Equal(place, want) {
			return fail(name, ref.id, fmt.Errorf("is at %x and should be at %x", place, want))
		}
		if _, twice := c.ids[ref]; twice {
			return fail(name, ref.id, errors.New("is there twice"))
		}
		if other, taken := c.revs[rec.rev]; taken || rec.rev == 0 || rec.rev > c.s.meta.rev {
			return fail(name, ref.id, fmt.Errorf("has rev %d of %d, as has %q", rec.rev, c.s.meta.rev, other.id))
		}
		if !bytes.Equal(rec.append(nil), val) {
			return fail(name, ref.id, errors.New("is not encoded as it should be"))
		}
		if err := c.banned(name, ref.id, &rec); err != nil {
			return fail(name, ref.id, err)
		}
		c.ids[ref], c.revs[rec.rev] = string(place), ref
		if place[0] == placeDead {
			return nil
		}
		c.counts[collection]++
		if !isSystem(name) {
			var h [32]byte
			h, scratch = rec.hash(name, ref.id, c.marks, scratch)
			c.hash.add(h)
		}
		return c.imports(&rec)
	})
}

// banned checks that nothing is left of what was purged.
func (c *checker) banned(collection, id string, rec *record) error {
	b, err := c.txn.banOf(collection, id)
	if err != nil {
		return err
	}
	left := rec.clone()
	e := entry{collection: c.s.names.number(collection), id: id, rec: left}
	if dropped, changed := e.rec.drop(b, c.s.names); changed || len(dropped)+len(c.txn.hollow(&e)) > 0 {
		return errors.New("has values that were purged")
	}
	return nil
}

// imports checks what is noted of the imports of a record.
func (c *checker) imports(rec *record) error {
	for _, v := range rec.values {
		n, ok := c.s.imports[v.at.imp]
		if v.at.imp != 0 && (!ok || n.first > rec.rev || n.clock < v.at.clock) {
			return fmt.Errorf("the note of import %s is wrong", c.s.names.text(v.at.imp))
		}
	}
	return nil
}

func (c *checker) index() error {
	n := 0
	err := scan(c.s.db, []byte{spaceIDs}, func(key, val []byte) error {
		n++
		ref := recordRef{binary.BigEndian.Uint32(key[1:]), string(key[5:])}
		if c.ids[ref] != string(val) {
			return fmt.Errorf("the index has record %s %s at %x, and it is at %x", c.s.names.text(ref.collection), ref.id, val, c.ids[ref])
		}
		return nil
	})
	if err == nil && n != len(c.ids) {
		err = fmt.Errorf("the index has %d of %d records", n, len(c.ids))
	}
	return err
}

func (c *checker) changes() error {
	n := 0
	err := scan(c.s.db, []byte{spaceChanges}, func(key, val []byte) error {
		n++
		ref, err := changeRef(val)
		if err == nil && c.revs[decodeRev(key)] != ref {
			err = fmt.Errorf("the change log has another record at %d", decodeRev(key))
		}
		return err
	})
	if err == nil && n != len(c.revs) {
		err = fmt.Errorf("the change log has %d of %d records", n, len(c.revs))
	}
	return err
}

func (c *checker) totals() error {
	kept := maps.Clone(c.s.meta.counts)
	maps.DeleteFunc(kept, func(_ uint32, n int64) bool { return n == 0 })
	if !maps.Equal(kept, c.counts) {
		return fmt.Errorf("counts are %v and should be %v", kept, c.counts)
	}
	if c.hash != c.s.meta.hash {
		return errors.New("the state hash is wrong")
	}
	return nil
}

// undone checks marks against the records of _imports, counters against what is
// stored of them.
func (c *checker) undone() error {
	m, purged, err := c.s.loadMarks()
	if err == nil && (!maps.Equal(m, c.marks) || !maps.Equal(purged, *c.s.purged.Load())) {
		err = errors.New("marks of imports are wrong")
	}
	if err != nil {
		return err
	}
	b, err := c.s.loadBans(purged)
	if err != nil {
		return err
	}
	if b.sum != c.s.bans.sum {
		return errors.New("the sum of the bans is wrong")
	}
	raw, err := get(c.s.db, metaKey)
	if errors.Is(err, pebble.ErrNotFound) || raw == nil {
		return err
	}
	stored, err := decodeMeta(raw)
	if err == nil && (stored.rev != c.s.meta.rev || stored.hash != c.s.meta.hash || stored.clock != c.s.meta.clock) {
		err = errors.New("counters differ from those that are stored")
	}
	return err
}
