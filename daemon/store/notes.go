package store

import (
	"context"
	"iter"

	"github.com/cockroachdb/pebble/v2"
)

func noteKey(key string) []byte { return append([]byte{spaceNotes}, key...) }

// Note returns one note, or nil where there is none.
func (s *Store) Note(ctx context.Context, key string) ([]byte, error) {
	done, err := s.use(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	return get(s.db, noteKey(key))
}

// Notes yields the notes whose keys begin with prefix, in order. It cannot return
// an error: it logs it, and the sequence ends early.
func (s *Store) Notes(ctx context.Context, prefix string) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		done, err := s.use(ctx)
		if err == nil {
			defer done()
			err = scan(s.db, noteKey(prefix), func(key, val []byte) error {
				if err := s.going(ctx); err != nil {
					return err
				}
				if !yield(string(key[1:]), append([]byte{}, val...)) {
					return errStop
				}
				return nil
			})
		}
		if err != nil && err != errStop {
			s.log.Error("store: reading notes", "prefix", prefix, "error", err)
		}
	}
}

// SetNotes stores notes durably, all or none, and deletes those that are nil.
func (s *Store) SetNotes(ctx context.Context, notes map[string][]byte) error {
	done, err := s.use(ctx)
	if err != nil {
		return err
	}
	defer done()
	b := s.db.NewBatch()
	if err := setNotes(b, notes); err != nil {
		return err
	}
	if err := s.room(int64(b.Len())); err != nil {
		return err
	}
	defer b.Close()
	return b.Commit(pebble.Sync)
}

func setNotes(b *pebble.Batch, notes map[string][]byte) error {
	for key, val := range notes {
		var err error
		if val == nil {
			err = b.Delete(noteKey(key), nil)
		} else {
			err = b.Set(noteKey(key), val, nil)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
