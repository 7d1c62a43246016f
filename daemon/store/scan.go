package store

import (
	"errors"

	"github.com/cockroachdb/pebble/v2"
)

// errStop ends a scan early.
var errStop = errors.New("stop")

// scan calls f with each key that begins with prefix, in order. Key and value are
// valid until f returns.
func scan(db pebble.Reader, prefix []byte, f func(key, val []byte) error) error {
	return scanRange(db, prefix, after(prefix), f)
}

func scanRange(db pebble.Reader, lower, upper []byte, f func(key, val []byte) error) error {
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return err
	}
	for it.First(); it.Valid(); it.Next() {
		val, err := it.ValueAndErr()
		if err == nil {
			err = f(it.Key(), val)
		}
		if err != nil {
			if closed := it.Close(); closed != nil {
				return errors.Join(err, closed)
			}
			return err
		}
	}
	return errors.Join(it.Error(), it.Close())
}

// get returns a copy of a value, or nil where there is none.
func get(db pebble.Reader, key []byte) ([]byte, error) {
	val, closer, err := db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	out := append(make([]byte, 0, len(val)), val...)
	return out, closer.Close()
}
