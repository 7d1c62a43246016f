package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// What was purged is gone from the database at once, but not from its files: tables
// keep old values until they are merged, the log until it is reused, and the list of
// tables the first and last key of each table that there was. Scrubbing makes them
// forget. It is a job that a crash does not end:
//
//	'm' "scrub"        TURN8, then the collections concerned, NAME each
//	'm' "shred" ID     a blob that a purged record referred to
//
// TURN grows with each ban, so that a scrub knows whether more came meanwhile.
var (
	scrubKey    = []byte("mscrub")
	shredPrefix = []byte("mshred")
)

const (
	// scrubDelay is how long the store waits for more bans before it begins by itself.
	scrubDelay = 5 * time.Second
	// scrubAgain is how long it waits where something was in the way.
	scrubAgain = time.Minute
	// scrubRounds bounds how often tables are merged.
	scrubRounds = 6
	// rotations bounds how many logs and lists of tables are begun to be rid of old ones.
	rotations = 400
	pollFiles = 5 * time.Millisecond
)

// ErrScrubbing says that files of the store still hold what was purged: the error tells
// what is in the way. The store goes on by itself.
var ErrScrubbing = errors.New("files of the store still hold what was purged")

// A scrubJob says what has to be scrubbed.
type scrubJob struct {
	turn        uint64
	collections map[uint32]bool
}

func (j scrubJob) pending() bool { return j.turn > 0 && j.collections != nil }

// with is the job with more to do.
func (j scrubJob) with(more map[uint32]bool) scrubJob {
	next := scrubJob{j.turn + 1, maps.Clone(more)}
	if next.collections == nil {
		next.collections = map[uint32]bool{}
	}
	maps.Copy(next.collections, j.collections)
	return next
}

func (j scrubJob) encode() []byte {
	b := binary.BigEndian.AppendUint64(nil, j.turn)
	for _, name := range slices.Sorted(maps.Keys(j.collections)) {
		b = binary.BigEndian.AppendUint32(b, name)
	}
	return b
}

func (s *Store) loadScrub() error {
	val, err := get(s.db, scrubKey)
	if err != nil || val == nil {
		return err
	}
	if len(val) < 8 || len(val)%4 != 0 {
		return errors.New("damaged note of what has to be scrubbed")
	}
	s.scrub = scrubJob{binary.BigEndian.Uint64(val), map[uint32]bool{}}
	for val = val[8:]; len(val) > 0; val = val[4:] {
		s.scrub.collections[binary.BigEndian.Uint32(val)] = true
	}
	s.kick()
	return nil
}

// kick makes the store scrub in the background. The caller holds the writer's lock, or
// is Open.
func (s *Store) kick() {
	if s.tidying || !s.scrub.pending() {
		return
	}
	s.tidying = true
	s.users.Add(1)
	go s.tidy()
}

// tidy scrubs once bans have ceased to come, and again where something was in the way.
func (s *Store) tidy() {
	defer s.users.Done()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	wait := scrubDelay
	for turn := uint64(0); ; {
		select {
		case <-s.closing:
			return
		case <-time.After(wait):
		}
		s.caughtUp()
		s.mu.Lock()
		now := s.scrub
		if !now.pending() {
			s.tidying = false
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()
		if wait = scrubDelay; now.turn != turn && turn != 0 {
			turn = now.turn
			continue
		}
		turn = now.turn
		if err := s.Scrub(ctx); err != nil && !errors.Is(err, ErrClosed) {
			s.log.Warn("store: what was purged is still in files", "error", err)
			wait = scrubAgain
		}
	}
}

// Scrub makes the files of the store forget what was purged, and returns when they
// have. The store does so by itself some seconds after a purge; a purge that the owner
// waits for calls it. The error is [ErrScrubbing] where a read that began before the
// purge and still goes on, or a full disk, is in the way.
//
// A file that is gone may still lie on the medium, where it is encrypted like all
// others; that cannot be known or changed from here.
func (s *Store) Scrub(ctx context.Context) error {
	done, err := s.use(ctx)
	if err != nil {
		return err
	}
	defer done()
	s.scrubbing.Lock()
	defer s.scrubbing.Unlock()
	for {
		s.caughtUp()
		s.mu.Lock()
		job := s.scrub
		job.collections = maps.Clone(job.collections)
		s.mu.Unlock()
		if !job.pending() {
			return nil
		}
		if err := s.scrubOnce(ctx, job); err != nil {
			return err
		}
	}
}

// Scrubbed says whether the files of the store hold nothing of what was purged.
func (s *Store) Scrubbed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.scrub.pending() && len(s.hunts)+len(s.hollows) == 0
}

func (s *Store) scrubOnce(ctx context.Context, job scrubJob) error {
	if err := s.shred(ctx); err != nil {
		return err
	}
	sc := scrubber{s: s, ctx: ctx, dir: s.fs.PathJoin(s.dir, "db")}
	for _, step := range []func() error{func() error { return sc.tables(job.spans()) }, sc.logs, sc.lists} {
		if err := step(); err != nil {
			if ctx.Err() == nil && !errors.Is(err, ErrClosed) {
				err = fmt.Errorf("%w: %w", ErrScrubbing, err)
			}
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.scrub.turn != job.turn {
		return nil
	}
	if err := s.db.Delete(scrubKey, pebble.Sync); err != nil {
		return err
	}
	s.scrub = scrubJob{}
	return nil
}

// spans are the ranges of keys in which there may be something of what was purged.
func (j scrubJob) spans() (spans []pebble.KeyRange) {
	add := func(prefix []byte) { spans = append(spans, pebble.KeyRange{Start: prefix, End: after(prefix)}) }
	for name := range j.collections {
		add(recordKey(nil, name, nil, ""))
		add(idKey(nil, name, ""))
	}
	add([]byte{spaceChanges})
	add([]byte{spaceBlobs})
	add([]byte{spaceNewBlobs})
	add([]byte{spaceUsed})
	add([]byte{spaceRefs})
	add([]byte{spaceMeta})
	return spans
}

// shred removes blobs of purged records to which nothing else refers.
func (s *Store) shred(ctx context.Context) error {
	var ids []string
	err := scan(s.db, shredPrefix, func(key, _ []byte) error {
		ids = append(ids, string(key[len(shredPrefix):]))
		return nil
	})
	for _, id := range ids {
		if err == nil {
			err = s.going(ctx)
		}
		if err == nil {
			err = s.shredOne(ctx, id)
		}
	}
	return err
}

// shredOne removes the files of a blob, then its keys together with the note that it
// has to be removed: so a crash between the two is made good.
func (s *Store) shredOne(ctx context.Context, id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	alone := true
	err := s.BlobRecords(ctx, id, func(string, int64) bool { alone = false; return false })
	if err != nil {
		return err
	}
	b := s.db.NewBatch()
	defer b.Close()
	if alone {
		if err := s.dropBlob(b, id); err != nil {
			return err
		}
		if err := b.Set(append(bytes.Clone(gonePrefix), id...), nil, nil); err != nil {
			return err
		}
	}
	if err := b.Delete(append(bytes.Clone(shredPrefix), id...), nil); err != nil {
		return err
	}
	return b.Commit(pebble.Sync)
}

// dropBlob removes the files of a blob, and its keys with a batch.
func (s *Store) dropBlob(b *pebble.Batch, id string) error {
	info, ok, err := s.blob(id)
	if err != nil || !ok {
		return err
	}
	if err := s.removeAll(s.files(id, info)...); err != nil {
		return err
	}
	dir, _ := s.blobPath(id)
	if err := syncDir(s.fs, dir); err != nil {
		return err
	}
	return dropBlobKeys(b, id, info)
}

// gonePrefix is how keys begin that name blobs that a purge removed.
var gonePrefix = []byte("mgone")

// PurgedBlobs returns the ids of blobs that purges removed on this device, because
// nothing else refers to them, and that are not here again. all says that there are no
// others still to be looked at.
func (s *Store) PurgedBlobs(ctx context.Context) (ids []string, all bool, err error) {
	done, err := s.use(ctx)
	if err != nil {
		return nil, false, err
	}
	defer done()
	all = !s.hunting.Load()
	err = scan(s.db, shredPrefix, func(_, _ []byte) error {
		all = false
		return errStop
	})
	if err != nil && err != errStop {
		return nil, false, err
	}
	return ids, all, scan(s.db, gonePrefix, func(key, _ []byte) error {
		id := string(key[len(gonePrefix):])
		_, ok, err := s.blob(id)
		if err == nil && !ok {
			ids = append(ids, id)
		}
		return err
	})
}

// A scrubber makes the files of the database forget.
type scrubber struct {
	s   *Store
	ctx context.Context
	dir string
}

// fence returns the sequence number of a write that was made now.
func (c *scrubber) fence() (uint64, error) {
	b := c.s.db.NewBatch()
	defer b.Close()
	if err := errors.Join(b.Delete(append(bytes.Clone(scrubKey), 0), nil), b.Commit(pebble.Sync)); err != nil {
		return 0, err
	}
	return uint64(b.SeqNum()), nil
}

// tables merges tables until those that hold the spans hold nothing that was deleted.
func (c *scrubber) tables(spans []pebble.KeyRange) error {
	fence, err := c.fence()
	if err != nil {
		return err
	}
	if err := c.noSnapshots(fence); err != nil {
		return err
	}
	for range scrubRounds {
		for _, span := range spans {
			size, err := c.s.db.EstimateDiskUsage(span.Start, span.End)
			if err != nil {
				return err
			}
			if err := c.s.room(int64(size / 3)); err != nil {
				return err
			}
			if err := c.s.db.Compact(c.ctx, span.Start, span.End, false); err != nil {
				return err
			}
		}
		clean, err := c.disturb(spans, fence)
		if err != nil {
			return err
		}
		if clean {
			return c.await("a table is still being read", c.deadTables)
		}
	}
	return errors.New("tables are changing too fast to be merged")
}

// noSnapshots waits for reads that began before the fence: for them old values are
// kept.
func (c *scrubber) noSnapshots(fence uint64) error {
	return c.await("a read that began before the purge is still going on", func() (bool, error) {
		m := c.s.db.Metrics()
		return m.Snapshots.Count == 0 || uint64(m.Snapshots.EarliestSeqNum) > fence, nil
	})
}

// disturb finds tables with deletions that merging has only moved down, and lays
// another one over each, so that the next merge rewrites it. clean says that there
// are none.
func (c *scrubber) disturb(spans []pebble.KeyRange, fence uint64) (clean bool, err error) {
	clean = true
	for _, span := range spans {
		levels, err := c.s.db.SSTables(pebble.WithProperties(), pebble.WithKeyRangeFilter(span.Start, span.End))
		if err != nil {
			return false, err
		}
		for _, level := range levels {
			for _, t := range level {
				if t.Properties.NumDeletions == 0 || uint64(t.SmallestSeqNum) > fence {
					continue
				}
				clean = false
				// No key ends with a zero byte, but where a table has one key only this may
				// lie beside it; then the key itself, which is a deletion.
				key := append(bytes.Clone(t.Smallest.UserKey), 0)
				if t.Properties.NumEntries == 1 {
					key = key[:len(key)-1]
				}
				if err := c.s.db.Delete(key, pebble.NoSync); err != nil {
					return false, err
				}
			}
		}
	}
	return clean, nil
}

// await asks until it is so, for some seconds.
func (c *scrubber) await(what string, ready func() (bool, error)) error {
	for end := time.Now().Add(10 * time.Second); ; {
		ok, err := ready()
		if ok || err != nil {
			return err
		}
		if time.Now().After(end) {
			return errors.New(what)
		}
		select {
		case <-c.ctx.Done():
			return c.ctx.Err()
		case <-c.s.closing:
			return ErrClosed
		case <-time.After(pollFiles):
		}
	}
}

// numbers lists the files of a kind: those whose names begin or end as given.
func (c *scrubber) numbers(prefix, suffix string) (map[uint64]string, error) {
	names, err := c.s.fs.List(c.dir)
	out := map[uint64]string{}
	for _, name := range names {
		digits, ok := strings.CutPrefix(name, prefix)
		digits, found := strings.CutSuffix(digits, suffix)
		if n, err := strconv.ParseUint(digits, 10, 64); err == nil && ok && found {
			out[n] = name
		}
	}
	return out, err
}

// deadTables says whether all tables that there are belong to the database, but those
// that are just being made.
func (c *scrubber) deadTables() (bool, error) {
	files, err := c.numbers("", ".sst")
	if err != nil || len(files) == 0 {
		return err == nil, err
	}
	newest := slices.Max(slices.Collect(maps.Keys(files)))
	m := c.s.db.Metrics()
	if m.Compact.NumInProgress > 0 {
		return false, nil
	}
	levels, err := c.s.db.SSTables()
	if err != nil {
		return false, err
	}
	for _, level := range levels {
		for _, t := range level {
			delete(files, uint64(t.BackingSSTNum))
		}
	}
	delete(files, newest) // of a flush that ended since
	return len(files) == 0, nil
}

// logs begins new logs until those that there were are gone: Pebble keeps some for
// reuse.
func (c *scrubber) logs() error {
	old, err := c.numbers("", ".log")
	if err != nil {
		return err
	}
	for range rotations {
		if err := c.s.db.Flush(); err != nil {
			return err
		}
		now, err := c.numbers("", ".log")
		if err != nil {
			return err
		}
		if !shared(old, now) {
			return nil
		}
		if err := c.going(); err != nil {
			return err
		}
	}
	return errors.New("an old log stays")
}

func shared(a, b map[uint64]string) bool {
	for n := range a {
		if _, ok := b[n]; ok {
			return true
		}
	}
	return false
}

func (c *scrubber) going() error { return c.s.going(c.ctx) }

// lists makes Pebble begin a new list of tables, by changing them, and removes the old
// ones.
func (c *scrubber) lists() error {
	old, err := c.numbers("MANIFEST-", "")
	if err != nil {
		return err
	}
	for range rotations {
		current, err := c.currentList()
		if err != nil {
			return err
		}
		if _, ok := old[current]; !ok {
			return c.removeLists(old)
		}
		if err := c.touch(); err != nil {
			return err
		}
		if err := c.going(); err != nil {
			return err
		}
	}
	return errors.New("the list of tables stays")
}

// currentList is the number of the list of tables that a file beside it, named
// marker.manifest.N.MANIFEST-NUMBER, says is the one that counts: that with the highest
// N.
func (c *scrubber) currentList() (number uint64, err error) {
	names, err := c.s.fs.List(c.dir)
	if err != nil {
		return 0, err
	}
	highest := uint64(0)
	for _, name := range names {
		rest, ok := strings.CutPrefix(name, "marker.manifest.")
		turn, list, found := strings.Cut(rest, ".MANIFEST-")
		if !ok || !found {
			continue
		}
		n, err := strconv.ParseUint(turn, 10, 64)
		if err != nil || n < highest {
			continue
		}
		highest = n
		if number, err = strconv.ParseUint(list, 10, 64); err != nil {
			return 0, fmt.Errorf("%s: %w", name, err)
		}
	}
	if highest == 0 {
		return 0, errors.New("no list of tables is the current one")
	}
	return number, nil
}

// touch adds a table and takes it away again.
func (c *scrubber) touch() error {
	key := append(bytes.Clone(scrubKey), 1)
	if err := errors.Join(c.s.db.Set(key, nil, pebble.NoSync), c.s.db.Flush()); err != nil {
		return err
	}
	if err := errors.Join(c.s.db.Delete(key, pebble.NoSync), c.s.db.Flush()); err != nil {
		return err
	}
	return c.s.db.Compact(c.ctx, key, append(key, 0), false)
}

// removeLists removes lists of tables that Pebble has left behind, once that is durable.
func (c *scrubber) removeLists(old map[uint64]string) error {
	if err := syncDir(c.s.fs, c.dir); err != nil {
		return err
	}
	for _, name := range old {
		if err := c.s.fs.Remove(c.s.fs.PathJoin(c.dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return syncDir(c.s.fs, c.dir)
}
