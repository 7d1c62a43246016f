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
package store

import (
	"context"
	"errors"
	"io"
	"iter"
	"log/slog"
	"time"

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
	// collections; nil accepts all.
	Validate func(locker.Record) error
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
	// Source is what the author's records come from. A record that names a source
	// of its own must name this one or one below it ("transactions/CH93…").
	Source string
	// Import is the import that the records belong to; empty for none.
	Import string
	// System may reach the collections whose names begin with "_".
	System bool
}

// Counts say what a write did: how many records are new, were the same already,
// were changed.
type Counts struct{ New, Same, Changed int }

// A Store is one device's data. Its methods may be called concurrently.
type Store struct{}

// Open opens the store in a folder, and makes one where there is none. The error
// is [ErrWrongKey] when the folder holds a store of another key or foreign files.
func Open(dir string, o Options) (*Store, error) { return nil, errors.ErrUnsupported }

// Close waits for reads and writes to end and closes the store.
func (s *Store) Close() error { return errors.ErrUnsupported }

// View is the store as an author may see it: all collections, but those whose
// names begin with "_" only for a System author. Put is Write.
func (s *Store) View(a Author) locker.View { return nil }

// Write writes records, all or none, and only what differs. They are durable
// when it returns nil.
func (s *Store) Write(ctx context.Context, a Author, records ...locker.Record) (Counts, error) {
	return Counts{}, errors.ErrUnsupported
}

// Compare returns what Write would.
func (s *Store) Compare(ctx context.Context, a Author, records ...locker.Record) (Counts, error) {
	return Counts{}, errors.ErrUnsupported
}

// Delete puts tombstones on records and returns how many were there.
func (s *Store) Delete(ctx context.Context, a Author, collection string, ids ...string) (int, error) {
	return 0, errors.ErrUnsupported
}

// Undo takes an import back.
func (s *Store) Undo(ctx context.Context, importID string) (removed, restored int, err error) {
	return 0, 0, errors.ErrUnsupported
}

// Collections returns how many records each collection has.
func (s *Store) Collections() (map[string]int64, error) { return nil, errors.ErrUnsupported }

// StateHash is a hash over all live records outside system collections.
func (s *Store) StateHash() string { return "" }

// Changed is signalled after writes on this device that should reach others soon.
func (s *Store) Changed() <-chan struct{} { return nil }

// PutBlob stores the bytes of r and returns their id and how many there are.
func (s *Store) PutBlob(ctx context.Context, r io.Reader) (id string, size int64, err error) {
	return "", 0, errors.ErrUnsupported
}

// OpenBlob returns a blob and its size, or an error that is fs.ErrNotExist. The
// reader is an io.Seeker and an io.ReaderAt too.
func (s *Store) OpenBlob(ctx context.Context, id string) (io.ReadCloser, int64, error) {
	return nil, 0, errors.ErrUnsupported
}

// PutBlobAs stores a blob that came from elsewhere, after checking its id.
func (s *Store) PutBlobAs(ctx context.Context, id string, r io.Reader) error {
	return errors.ErrUnsupported
}

// NewBlobs returns the ids of blobs that were stored here after a position.
func (s *Store) NewBlobs(ctx context.Context, after []byte) (ids []string, next []byte, err error) {
	return nil, nil, errors.ErrUnsupported
}

// Cut returns what was written here after a position, as change lines.
func (s *Store) Cut(ctx context.Context, after []byte, max int) (lines, next []byte, urgent bool, err error) {
	return nil, nil, false, errors.ErrUnsupported
}

// Join merges change lines and stores notes, in one durable write.
func (s *Store) Join(ctx context.Context, lines []byte, notes map[string][]byte) (changed int, ahead bool, err error) {
	return 0, false, errors.ErrUnsupported
}

// Note returns one note, or nil.
func (s *Store) Note(ctx context.Context, key string) ([]byte, error) {
	return nil, errors.ErrUnsupported
}

// Notes yields the notes whose keys begin with prefix, in order.
func (s *Store) Notes(ctx context.Context, prefix string) iter.Seq2[string, []byte] {
	return func(func(string, []byte) bool) {}
}

// SetNotes stores notes, all or none, and deletes those that are nil.
func (s *Store) SetNotes(ctx context.Context, notes map[string][]byte) error {
	return errors.ErrUnsupported
}
