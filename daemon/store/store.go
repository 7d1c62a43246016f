// Package store keeps a person's records, imports and blobs on this device.
//
// Start with [Open], [Store.View] for reading and writing as somebody, and
// [Store.Write] for batches. A Store is also what package replica calls a State:
// it hands out what was written here as change lines ([Store.Cut]) and merges
// what other devices wrote ([Store.Join]).
//
// What it promises: a write that returned nil survives a crash, a write that did
// not is there wholly or not at all; the state is a join, so two devices that
// have seen the same lines, in any order, have the same [Store.StateHash];
// everything on disk but file names and sizes is encrypted (see package encfs
// for what that does and does not give).
//
// The state is, for each record and each of its fields, time and source, the
// greatest value seen by (class: owner over source; clock; device; hash of the
// value). A record is what is newer than its tombstone, and is there if any of that
// can be seen: null removes a field, and the values of an import that was undone
// are hidden. What was purged ([Store.Ban]) does not count, whatever its revision, and
// [Store.Scrub] makes the files forget it.
package store

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/locker-project/locker/plugins/locker"
)

var (
	// ErrWrongKey says that the folder is not a store, or not one of this key.
	ErrWrongKey = errors.New("the key does not open this store")
	// ErrDiskFull says that a write was refused because the disk is nearly full.
	// Nothing was lost: free some space and write again.
	ErrDiskFull = errors.New("the disk is nearly full")
	// ErrClosed says that the store was closed.
	ErrClosed = errors.New("the store is closed")
)

// Options say how a store is opened. Key and Device are required.
type Options struct {
	// Key encrypts everything that the store puts on disk.
	Key [32]byte
	// Device is the id of this device: the author of what is written here.
	Device string
	// BlobKey makes ids of blobs from their content; the same on all devices.
	BlobKey []byte
	// Clock tells the time; nil is time.Now.
	Clock func() time.Time
	// Logger takes what happens inside; nil is none.
	Logger *slog.Logger
	// FS is where the files are; nil is the disk.
	FS vfs.FS
	// Cache and MemTable are the bytes of memory for blocks that were read and for
	// writes on their way; 0 is 16 MiB each. A phone takes 4 to 8 MiB.
	Cache, MemTable int64
	// Validate judges a record as it would be after a write, except in system
	// collections; nil accepts all. It may be called concurrently.
	Validate func(locker.Record) error

	// Set by tests.
	ballast, reserve int64
	bulk             int                 // bytes of a batch that is written as tables
	exit             func()              // ends the process
	clear            func(vfs.FS) vfs.FS // in place of encryption
}

// A Class says on whose behalf a value was written. Owner outranks Source.
type Class uint8

// The classes.
const (
	Source Class = iota // a connector, an app, an import
	Owner               // the owner, in person
)

// An Author is on whose behalf a View reads and writes.
type Author struct {
	Class Class
	// Source is what the author's records come from. A record may name a source below
	// it ("transactions/CH93…"); where Source is empty, any.
	Source string
	// Import is the import that the records belong to; empty for none. What a record
	// itself says of its import does not count.
	Import string
	// System may reach the collections whose names begin with "_".
	System bool
}

// Counts say what a write did: how many records are new, were the same already,
// were changed, and how many were left out because they are banned.
type Counts struct{ New, Same, Changed, Banned int }

// A Store is one device's data. Its methods may be called concurrently.
type Store struct {
	db       *pebble.DB
	fs       vfs.FS // encrypting
	dir      string
	disk     *disk
	device   uint32
	blobKey  []byte
	now      func() time.Time
	log      *slog.Logger
	validate func(locker.Record) error
	names    *names
	changed  chan struct{}
	bulk     int

	// One writer at a time holds mu, which guards what follows.
	mu      sync.Mutex
	meta    meta
	jobs    map[uint32]uint64 // imports whose records have to move: their old marks
	imports map[uint32]importNote
	absence absence
	failed  error // after it nothing is written any more
	hunts   hunts // what bans left to be done
	hollows map[uint32]bool
	scrub   scrubJob
	tidying bool // a goroutine sees to scrub

	hunted   time.Time // when the last hunt ended
	huntTook time.Duration

	bans      *bans
	hunting   atomic.Bool // there are hunts or hollows
	scrubbing sync.Mutex  // held while files are scrubbed; taken before mu

	// Readers take viewing for reading while they take marks and a snapshot that
	// belong together; a writer that changes marks, for writing.
	viewing sync.RWMutex
	marks   atomic.Pointer[marks]
	purged  atomic.Pointer[map[uint32]bool] // imports; replaced, never changed
	shown   atomic.Pointer[shown]

	filling sync.Map // ids of blobs that come from elsewhere → chan struct{}, closed at the end

	closing chan struct{}
	users   sync.WaitGroup
	gate    sync.RWMutex // held for reading while users is added to
	closed  bool
}

// shown is what of meta can be read without the writer's lock.
type shown struct {
	hash   string
	counts map[string]int64
}

// use begins a call; the caller calls done at its end.
func (s *Store) use(ctx context.Context) (done func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.gate.RLock()
	defer s.gate.RUnlock()
	if s.closed {
		return nil, ErrClosed
	}
	s.users.Add(1)
	return s.users.Done, nil
}

// write begins a call that writes: it takes the writer's lock, and finishes what a
// write before it may have left.
func (s *Store) write(ctx context.Context) (done func(), err error) {
	release, err := s.use(ctx)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	done = func() {
		s.mu.Unlock()
		release()
	}
	err = s.failed
	if err == nil {
		_, err = s.settle()
	}
	if err != nil {
		done()
		return nil, err
	}
	return done, nil
}

// Close ends sequences that are being read, waits for writes, and closes the store.
func (s *Store) Close() error {
	s.gate.Lock()
	if s.closed {
		s.gate.Unlock()
		return nil
	}
	s.closed = true
	close(s.closing)
	s.gate.Unlock()
	s.users.Wait()
	return s.db.Close()
}

// publish makes meta readable without the writer's lock. While records wait to be
// moved, hash and counts stay as they were.
func (s *Store) publish() {
	if (len(s.jobs) > 0 || s.hunting.Load()) && s.shown.Load() != nil {
		return
	}
	p := &shown{counts: map[string]int64{}}
	var b []byte
	for _, limb := range s.meta.hash {
		b = binary.BigEndian.AppendUint64(b, limb)
	}
	p.hash = hex.EncodeToString(b)
	for name, n := range s.meta.counts {
		if text := s.names.text(name); n != 0 && !isSystem(text) {
			p.counts[text] = n
		}
	}
	s.shown.Store(p)
}

// Collections returns how many records each collection has, without those whose
// names begin with "_".
func (s *Store) Collections() (map[string]int64, error) {
	done, err := s.use(context.Background())
	if err != nil {
		return nil, err
	}
	defer done()
	s.caughtUp()
	out := map[string]int64{}
	for name, n := range s.shown.Load().counts {
		out[name] = n
	}
	return out, nil
}

// StateHash is 64 hex digits that are equal on all stores with the same live
// records outside system collections: their collections, ids, times, sources and
// fields. It is a checksum between devices that trust each other (see sum).
func (s *Store) StateHash() string {
	s.caughtUp()
	return s.shown.Load().hash
}

// Changed is signalled after writes on this device that other devices should have
// soon: not after those of the audit log and of collections that apps declare.
// Several writes may give one signal.
func (s *Store) Changed() <-chan struct{} { return s.changed }

var _ io.Closer = (*Store)(nil)

// fail names a record in an error.
func fail(collection, id string, err error) error {
	return fmt.Errorf("record %s %s: %w", collection, id, err)
}
