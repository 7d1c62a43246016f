package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// A record refers to a blob where one of its stored values has the blob's id as a
// JSON string, at any depth: {"image":"b3f0…"}, {"attachment":[{"blob":"b3f0…"}]}. So
// no schema has to say which fields are references, and a value that an import
// replaced and may restore (_prior) refers as any other does. Values that an undo
// hides count; those that a tombstone beat are not stored any more. The index of
// references changes in one batch with the record.
//
//	'R' BLOB32 COLLECTION4 ID → nothing

// refsIn returns the blobs that the bytes of a stored record refer to, sorted, each
// once: 64 hex digits between quotes. It looks at one byte of 64 where there are
// none.
func refsIn(b []byte) (refs [][sha256.Size]byte) {
	const digits = 2 * sha256.Size
	for at := digits; at < len(b)-1; at += digits {
		if !isHex(b[at]) {
			continue
		}
		from, to := at, at+1
		for from > 0 && isHex(b[from-1]) {
			from--
		}
		for to < len(b) && isHex(b[to]) {
			to++
		}
		if to-from == digits && from > 0 && b[from-1] == '"' && to < len(b) && b[to] == '"' {
			var id [sha256.Size]byte
			if _, err := hex.Decode(id[:], b[from:to]); err == nil {
				refs = append(refs, id)
			}
		}
		at = max(at, to-1)
	}
	slices.SortFunc(refs, func(a, b [sha256.Size]byte) int { return bytes.Compare(a[:], b[:]) })
	return slices.Compact(refs)
}

func isHex(c byte) bool { return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' }

func refKey(b []byte, blob [sha256.Size]byte, collection uint32, id string) []byte {
	b = append(append(b, spaceRefs), blob[:]...)
	b = binary.BigEndian.AppendUint32(b, collection)
	return append(b, id...)
}

// putRefs puts what changed of a record's references into a batch: those that it
// has now, given those that it had.
func putRefs(b *pebble.Batch, collection uint32, id string, had, has [][sha256.Size]byte) error {
	for _, ref := range has {
		if !slices.Contains(had, ref) {
			if err := b.Set(refKey(nil, ref, collection, id), nil, nil); err != nil {
				return err
			}
		}
	}
	for _, ref := range had {
		if !slices.Contains(has, ref) {
			if err := b.Delete(refKey(nil, ref, collection, id), nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// refsMade is there once the index of references is whole: a store of an earlier
// version has none.
var refsMade = []byte("mrefs")

// makeRefs makes the index of references of a store that has none.
func (s *Store) makeRefs() error {
	made, err := get(s.db, refsMade)
	if err != nil || made != nil {
		return err
	}
	b := s.db.NewBatch()
	defer func() { b.Close() }()
	err = scan(s.db, []byte{spaceRecords}, func(key, val []byte) error {
		collection, _, id, err := splitRecordKey(key)
		if err != nil {
			return err
		}
		if err := putRefs(b, collection, string(id), nil, refsIn(val)); err != nil || b.Len() < 1<<20 {
			return err
		}
		err = errors.Join(b.Commit(pebble.NoSync), b.Close())
		b = s.db.NewBatch()
		return err
	})
	if err != nil {
		return err
	}
	if err := b.Set(refsMade, []byte{1}, nil); err != nil {
		return err
	}
	return b.Commit(pebble.Sync)
}

// BlobRecords calls f with the records that refer to a blob, until it returns false:
// their collection and their time in milliseconds since 1970, 0 where they have none.
func (s *Store) BlobRecords(ctx context.Context, id string, f func(collection string, millis int64) bool) error {
	done, err := s.use(ctx)
	if err != nil {
		return err
	}
	defer done()
	if !isBlobID(id) {
		return nil
	}
	raw, err := hex.DecodeString(id)
	if err != nil {
		return err
	}
	err = scan(s.db, append([]byte{spaceRefs}, raw...), func(key, _ []byte) error {
		if len(key) < 1+sha256.Size+4 {
			return fmt.Errorf("damaged reference to blob %s", id)
		}
		key = key[1+sha256.Size:]
		millis, err := s.timeOfRecord(binary.BigEndian.Uint32(key), string(key[4:]))
		if err == nil && !f(s.names.text(binary.BigEndian.Uint32(key)), millis) {
			err = errStop
		}
		return err
	})
	if err == errStop {
		return nil
	}
	return err
}

// timeOfRecord is the visible time of a record, in milliseconds since 1970, or 0.
func (s *Store) timeOfRecord(collection uint32, id string) (int64, error) {
	place, err := get(s.db, idKey(nil, collection, id))
	if err != nil || len(place) == 0 || place[0] != placeTime {
		return 0, err
	}
	sec := int64(place[1])<<32 | int64(binary.BigEndian.Uint32(place[2:])) + yearZero
	return time.Unix(sec, int64(binary.BigEndian.Uint32(place[6:]))).UnixMilli(), nil
}

// refs checks the index of references against the records.
func (c *checker) refs() error {
	want := map[string]bool{}
	err := scan(c.s.db, []byte{spaceRecords}, func(key, val []byte) error {
		collection, _, id, err := splitRecordKey(key)
		for _, ref := range refsIn(val) {
			want[string(refKey(nil, ref, collection, string(id)))] = true
		}
		return err
	})
	if err != nil {
		return err
	}
	n := 0
	err = scan(c.s.db, []byte{spaceRefs}, func(key, _ []byte) error {
		n++
		if !want[string(key)] {
			return fmt.Errorf("the index of references has %x, which no record has", key)
		}
		return nil
	})
	if err == nil && n != len(want) {
		err = fmt.Errorf("the index of references has %d of %d", n, len(want))
	}
	return err
}
