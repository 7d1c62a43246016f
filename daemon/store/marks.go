package store

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"github.com/cockroachdb/pebble/v2"
)

// Names of system collections that the store itself works with.
const (
	importsCollection = "_imports"
	priorCollection   = "_prior"
)

// marks say which imports were undone, and when by the clock. It is read by many
// and replaced, never changed.
type marks map[uint32]uint64

// hide says whether a value of that revision is invisible: its import was marked
// undone with a clock above it.
func (m marks) hide(at stamp) bool { return at.imp != 0 && len(m) > 0 && m[at.imp] > at.clock }

// markOf is the clock with which a record of _imports marks its import undone, or 0.
func (r *record) markOf() uint64 {
	if i, ok := r.find("state"); ok && string(r.values[i].data) == `"undone"` {
		return r.values[i].at.clock
	}
	return 0
}

// with returns the marks with one of them changed.
func (m marks) with(imp uint32, clock uint64) marks {
	m = maps.Clone(m)
	if m == nil {
		m = marks{}
	}
	if m[imp] = clock; clock == 0 {
		delete(m, imp)
	}
	return m
}

// loadMarks reads the marks from the records of _imports, and which were purged.
func (s *Store) loadMarks() (marks, map[uint32]bool, error) {
	m, purged := marks{}, map[uint32]bool{}
	name, ok := s.names.find(importsCollection)
	if !ok {
		return m, purged, nil
	}
	var row row
	err := scan(s.db, recordKey(nil, name, nil, ""), func(key, val []byte) error {
		_, _, id, err := splitRecordKey(key)
		if err != nil {
			return err
		}
		if err := row.read(val); err != nil {
			return fmt.Errorf("import %s: %w", id, err)
		}
		rec := row.record()
		imp := s.names.number(string(id))
		if clock := rec.markOf(); clock != 0 {
			m[imp] = clock
		}
		if rec.isPurged() {
			purged[imp] = true
		}
		return nil
	})
	return m, purged, err
}

// An importNote is what is known of an import beside its record, so that undoing it
// need not search the whole store.
type importNote struct {
	first uint64 // rev of the first change that had its values
	clock uint64 // the greatest of its values
}

func (s *Store) loadImportNotes() (map[uint32]importNote, error) {
	notes := map[uint32]importNote{}
	err := scan(s.db, []byte{spaceFirst}, func(key, val []byte) error {
		if len(key) != 5 || len(val) != 16 {
			return fmt.Errorf("damaged note of an import")
		}
		notes[binary.BigEndian.Uint32(key[1:])] = importNote{binary.BigEndian.Uint64(val), binary.BigEndian.Uint64(val[8:])}
		return nil
	})
	return notes, err
}

// When a mark changes, records with values of that import must move: to the dead
// or back, to another time. The change of the mark is one small batch that leaves a
// job behind: the import and its mark until then. Reading goes by the new marks at
// once; settle moves the records, in batches, before any other write. A record that
// has not moved yet has a rev up to meta.jobRev and stands as the old marks had it.

func (s *Store) loadJobs() (map[uint32]uint64, error) {
	jobs := map[uint32]uint64{}
	err := scan(s.db, jobPrefix, func(key, val []byte) error {
		if len(key) != len(jobPrefix)+4 || len(val) != 8 {
			return fmt.Errorf("damaged note of a job")
		}
		jobs[binary.BigEndian.Uint32(key[len(jobPrefix):])] = binary.BigEndian.Uint64(val)
		return nil
	})
	return jobs, err
}

func jobKey(imp uint32) []byte {
	return binary.BigEndian.AppendUint32(slices.Clone(jobPrefix), imp)
}

// oldMarks are the marks by which records up to jobRev stand.
func (s *Store) oldMarks() marks {
	m := *s.marks.Load()
	for imp, clock := range s.jobs {
		m = m.with(imp, clock)
	}
	return m
}

const settleBatch = 4096

// finish commits a txn and moves the records that its change of marks concerns. It
// returns how many records came to be live, less those that ceased to.
func (t *txn) finish() (born int, err error) {
	if err := t.commit(); err != nil {
		return 0, err
	}
	more, err := t.s.settle()
	if err == nil && (!t.lazy || t.s.huntDue()) {
		err = t.s.hunt()
	}
	return t.born - t.died + more, err
}

// settle moves the records that jobs wait for and returns how many came to be live
// less how many ceased to. The caller holds the writer's lock.
func (s *Store) settle() (born int, err error) {
	for len(s.jobs) > 0 {
		keys, err := s.unsettled(settleBatch)
		if err != nil {
			return born, err
		}
		t := s.begin(0)
		for _, k := range keys {
			e, err := t.load(k.collection, k.id)
			if err != nil {
				return born, err
			}
			t.touch(e)
		}
		if len(keys) < settleBatch {
			for imp := range s.jobs {
				if err := t.batch.Delete(jobKey(imp), nil); err != nil {
					return born, err
				}
			}
			t.meta.jobRev = 0
			t.settled = true
		}
		if err := t.commit(); err != nil {
			return born, err
		}
		born += t.born - t.died
	}
	return born, nil
}

type recordRef struct {
	collection uint32
	id         string
}

// unsettled finds up to max records that have to move.
func (s *Store) unsettled(max int) ([]recordRef, error) {
	from := s.meta.jobRev + 1
	for imp := range s.jobs {
		if n, ok := s.imports[imp]; ok {
			from = min(from, n.first)
		}
	}
	var (
		refs []recordRef
		row  row
	)
	err := scanRange(s.db, changeKey(from), changeKey(s.meta.jobRev+1), func(_, val []byte) error {
		ref, err := changeRef(val)
		if err != nil {
			return err
		}
		val, err = s.read(s.db, ref.collection, ref.id)
		if err != nil || val == nil {
			return err
		}
		if err := row.read(val); err != nil {
			return err
		}
		for _, at := range row.stamps {
			if _, ok := s.jobs[at.imp]; ok && at.imp != 0 {
				if refs = append(refs, ref); len(refs) == max {
					return errStop
				}
				break
			}
		}
		return nil
	})
	if err == errStop {
		err = nil
	}
	return refs, err
}

// changeRef reads an entry of the change log.
func changeRef(val []byte) (recordRef, error) {
	if len(val) < 5 {
		return recordRef{}, fmt.Errorf("damaged change log")
	}
	return recordRef{binary.BigEndian.Uint32(val), string(val[4:])}, nil
}

// read returns the stored bytes of a record, or nil.
func (s *Store) read(db pebble.Reader, collection uint32, id string) ([]byte, error) {
	key := idKey(make([]byte, 0, 64), collection, id)
	place, err := get(db, key)
	if err != nil || place == nil {
		return nil, err
	}
	val, err := get(db, recordKey(key[:0], collection, place, id))
	if err == nil && val == nil {
		err = fmt.Errorf("record %s %s is in the index but not where it should be", s.names.text(collection), id)
	}
	return val, err
}
