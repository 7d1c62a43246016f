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
	"golang.org/x/sync/errgroup"
)

// Of a large batch, records and the change log do not go through the log: they are
// written as tables, which are taken into the database as they are. Each byte of them
// is so written once where nothing lies in its way yet, as in a restore. The rest of
// the batch, the index of ids above all, is small and comes in no order; it goes the
// usual way, and names the tables: that is the moment at which all of it is there. If
// a crash follows before the tables are taken in, Open takes them in.

// bulkSize is how many bytes of a batch are worth that.
const bulkSize = 1 << 20

// bulkName is how the names of tables begin that are on their way.
const bulkName = "bulk-"

// bulkKey holds the names of tables that have to be taken in.
var bulkKey = []byte("mbulk")

// commitBulk writes a batch partly as tables. It is durable when commitBulk returns
// nil. Readers must not look meanwhile: the caller holds viewing.
func (s *Store) commitBulk(b *pebble.Batch, rev uint64) error {
	rest := s.db.NewBatchWithSize(b.Len() / 8)
	defer rest.Close()
	spaces, err := batchOps(b, rest)
	if err != nil {
		return err
	}
	var (
		files []string
		group errgroup.Group
	)
	for _, ops := range append(ends(sortOps(spaces[1])), sortOps(spaces[0])) {
		if len(ops) > 0 {
			file := fmt.Sprintf("%s%d-%d.sst", bulkName, rev, len(files))
			files = append(files, file)
			group.Go(func() error { return s.writeTable(s.fs.PathJoin(s.dir, file), ops) })
		}
	}
	for _, op := range sortOps(spaces[2]) { // in order they go in faster
		if err == nil {
			err = rest.Set(op.key, op.val, nil)
		}
	}
	if err = errors.Join(err, group.Wait()); err != nil {
		return errors.Join(err, s.dropBulk())
	}
	if err := errors.Join(syncDir(s.fs, s.dir), rest.Set(bulkKey, []byte(strings.Join(files, "\n")), nil)); err != nil {
		return errors.Join(err, s.dropBulk())
	}
	if err := rest.Commit(pebble.Sync); err != nil {
		return err
	}
	return s.takeIn(files)
}

// takeIn takes tables into the database.
func (s *Store) takeIn(files []string) error {
	paths := make([]string, len(files))
	for i, file := range files {
		paths[i] = s.fs.PathJoin(s.dir, file)
	}
	if err := s.db.Ingest(context.Background(), paths); err != nil {
		return err
	}
	return s.db.Delete(bulkKey, pebble.NoSync)
}

// finishBulk takes in what a crash kept from it. Where a table is not there any more,
// all were taken in: they are removed after that.
func (s *Store) finishBulk() error {
	names, err := get(s.db, bulkKey)
	if err != nil {
		return err
	}
	if names != nil {
		files := strings.Split(string(names), "\n")
		all := true
		for _, file := range files {
			_, err := s.fs.Stat(s.fs.PathJoin(s.dir, file))
			if all = all && err == nil; err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		if all {
			err = s.takeIn(files)
		}
		if err == nil {
			err = s.db.Delete(bulkKey, pebble.Sync)
		}
	}
	if err != nil {
		return err
	}
	return s.dropBulk()
}

// A batchOp is an operation of a batch; its slices lie within it.
type batchOp struct {
	key, val []byte
	kind     pebble.InternalKeyKind
	at       int // where it stands in the batch
}

// batchOps returns the operations of a batch on the change log, on records and on the
// index of ids, and puts all others into rest.
func batchOps(b, rest *pebble.Batch) (spaces [3][]batchOp, err error) {
	for i := range spaces {
		spaces[i] = make([]batchOp, 0, b.Count()/2)
	}
	r := b.Reader()
	for n := 0; ; n++ {
		kind, key, val, ok, err := r.Next()
		if err != nil || !ok {
			return spaces, err
		}
		switch {
		case key[0] == spaceChanges:
			spaces[0] = append(spaces[0], batchOp{key, val, kind, n})
		case key[0] == spaceRecords:
			spaces[1] = append(spaces[1], batchOp{key, val, kind, n})
		case key[0] == spaceIDs && kind == pebble.InternalKeyKindSet:
			spaces[2] = append(spaces[2], batchOp{key, val, kind, n})
		case kind == pebble.InternalKeyKindSet:
			err = rest.Set(key, val, nil)
		case kind == pebble.InternalKeyKindDelete:
			err = rest.Delete(key, nil)
		default:
			err = fmt.Errorf("unexpected operation %v in a batch", kind)
		}
		if err != nil {
			return spaces, err
		}
	}
}

// ends cuts off both ends. Batches of an import follow each other in time, but not
// exactly: where two overlap, only their ends do, and what lies between can be taken
// in where it will stay. That is written as two tables, on two cores.
func ends(ops []batchOp) [][]batchOp {
	n, half := len(ops)/16, len(ops)/2
	return [][]batchOp{ops[:n], ops[n:half], ops[half : len(ops)-n], ops[len(ops)-n:]}
}

// sortOps sorts by key, in which order most come, and keeps of each key the last
// operation.
func sortOps(ops []batchOp) []batchOp {
	order := func(x, y batchOp) int {
		if c := bytes.Compare(x.key, y.key); c != 0 {
			return c
		}
		return y.at - x.at
	}
	if !slices.IsSortedFunc(ops, order) {
		slices.SortFunc(ops, order)
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
