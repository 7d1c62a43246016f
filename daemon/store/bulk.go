package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/objstorage/objstorageprovider"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// A large batch does not go through the log: it is sorted, written as tables, one for
// each space of keys, and these are taken into the database together. Each byte is so
// written once where nothing lies in its way yet, as in a restore.

// bulkSize is how many bytes of a batch are worth that.
const bulkSize = 4 << 20

// bulkName is how the names of tables begin that are on their way.
const bulkName = "bulk-"

// commitBulk writes a batch as tables. It is durable when commitBulk returns nil.
func (s *Store) commitBulk(b *pebble.Batch) error {
	ops, err := batchOps(b)
	if err != nil {
		return err
	}
	// What was written before must not be lost when this is not.
	if err := s.db.LogData(nil, pebble.Sync); err != nil {
		return err
	}
	var files []string
	for len(ops) > 0 && err == nil {
		n := 1
		for n < len(ops) && ops[n].key[0] == ops[0].key[0] {
			n++
		}
		file := s.fs.PathJoin(s.dir, fmt.Sprint(bulkName, len(files), ".sst"))
		files = append(files, file)
		err = s.writeTable(file, ops[:n])
		ops = ops[n:]
	}
	if err == nil {
		err = s.db.Ingest(context.Background(), files)
	}
	if err != nil {
		return errors.Join(err, s.dropBulk())
	}
	return nil
}

// A batchOp is an operation of a batch; its slices lie within it.
type batchOp struct {
	key, val []byte
	kind     pebble.InternalKeyKind
	at       int // where it stands in the batch
}

// batchOps returns the operations of a batch in order of their keys, of each key the
// last.
func batchOps(b *pebble.Batch) ([]batchOp, error) {
	ops := make([]batchOp, 0, b.Count())
	r := b.Reader()
	for {
		kind, key, val, ok, err := r.Next()
		if err != nil {
			return nil, err
		}
		if !ok {
			break
		}
		ops = append(ops, batchOp{key, val, kind, len(ops)})
	}
	return sortOps(ops), nil
}

// sortOps sorts by key and keeps of each key the last operation. Each space is sorted
// on its own: most come sorted.
func sortOps(ops []batchOp) []batchOp {
	var spaces [256][]batchOp
	for _, op := range ops {
		spaces[op.key[0]] = append(spaces[op.key[0]], op)
	}
	order := func(x, y batchOp) int {
		if c := bytes.Compare(x.key, y.key); c != 0 {
			return c
		}
		return y.at - x.at
	}
	ops = ops[:0]
	for _, space := range spaces {
		if !slices.IsSortedFunc(space, order) {
			slices.SortFunc(space, order)
		}
		ops = append(ops, space...)
	}
	return slices.CompactFunc(ops, func(x, y batchOp) bool { return bytes.Equal(x.key, y.key) })
}

// writeTable writes a table and syncs it.
func (s *Store) writeTable(file string, ops []batchOp) error {
	f, err := s.fs.Create(file, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	w := sstable.NewWriter(objstorageprovider.NewFileWritable(f), sstable.WriterOptions{
		TableFormat: s.db.TableFormat(), FilterPolicy: bloom.FilterPolicy(bloomBits),
	})
	for _, op := range ops {
		switch op.kind {
		case pebble.InternalKeyKindSet:
			err = w.Set(op.key, op.val)
		case pebble.InternalKeyKindDelete:
			err = w.Delete(op.key)
		default:
			err = fmt.Errorf("unexpected operation %v in a batch", op.kind)
		}
		if err != nil {
			return errors.Join(err, w.Close())
		}
	}
	return w.Close()
}

// dropBulk removes tables that were not taken in.
func (s *Store) dropBulk() error {
	names, err := s.fs.List(s.dir)
	for _, name := range names {
		if strings.HasPrefix(name, bulkName) {
			if gone := s.fs.Remove(s.fs.PathJoin(s.dir, name)); !errors.Is(gone, fs.ErrNotExist) {
				err = errors.Join(err, gone)
			}
		}
	}
	return err
}
