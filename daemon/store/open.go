package store

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/locker-project/locker/daemon/store/encfs"
)

const (
	defaultCache    = 16 << 20
	defaultMemTable = 16 << 20
	bloomBits       = 10 // of a Bloom filter, for each key
)

// Open opens the store in a folder, and makes one where there is none. The error is
// [ErrWrongKey] when the folder holds a store of another key, or files that are not
// of a store, and [ErrDiskFull] when there is not even room to open it.
//
// Pebble ends the process when it cannot write its log, as it must: it cannot know
// what is on disk then. What was acknowledged before is there when the process comes
// back.
func Open(dir string, o Options) (*Store, error) {
	if o.Device == "" {
		return nil, errors.New("open the store: no device")
	}
	base, log, now := o.FS, o.Logger, o.Clock
	if base == nil {
		base = vfs.Default
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if now == nil {
		now = time.Now
	}
	if err := base.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open the store: %w", err)
	}
	if err := checkKey(base, dir, o.Key); err != nil {
		return nil, fmt.Errorf("open the store in %s: %w", dir, err)
	}
	if o.bulk == 0 {
		o.bulk = bulkSize
	}
	if o.ballast == 0 {
		o.ballast, o.reserve, o.exit = ballastSize, defaultReserve, func() { os.Exit(1) }
	}
	disk, err := newDisk(base, dir, o.ballast, o.reserve, log)
	if err != nil {
		return nil, fmt.Errorf("open the store in %s: %w", dir, err)
	}
	files := encfs.New(markerFS{disk.fs}, o.Key)
	if o.clear != nil {
		files = o.clear(markerFS{disk.fs})
	}
	s := &Store{
		fs: files, dir: dir, disk: disk, blobKey: o.BlobKey, now: now, log: log, validate: o.Validate,
		changed: make(chan struct{}, 1), closing: make(chan struct{}),
		absence: newAbsence(), bulk: o.bulk,
	}
	if s.db, err = openPebble(base.PathJoin(dir, "db"), s.options(o)); err != nil {
		if foreign := s.foreign(base.PathJoin(dir, "db")); foreign != nil {
			err = fmt.Errorf("%w: %w; %w", ErrWrongKey, foreign, err)
		}
		return nil, fmt.Errorf("open the store in %s: %w", dir, err)
	}
	if err := s.load(o.Device); err != nil {
		return nil, errors.Join(fmt.Errorf("open the store in %s: %w", dir, err), s.db.Close())
	}
	return s, nil
}

// foreign finds out whether a file of the database is not of this store and key.
func (s *Store) foreign(dir string) error {
	names, err := s.fs.List(dir)
	if err != nil {
		return nil
	}
	for _, name := range names {
		if name == "LOCK" {
			continue
		}
		f, err := s.fs.Open(s.fs.PathJoin(dir, name))
		if errors.Is(err, encfs.ErrKey) {
			return err
		}
		if err == nil {
			if err := f.Close(); err != nil {
				s.log.Warn("store: closing a file", "file", name, "error", err)
			}
		}
	}
	return nil
}

// openPebble gives a panic as an error: there is nothing yet that it could leave in
// a state that nobody knows.
func openPebble(dir string, o *pebble.Options) (db *pebble.DB, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the database cannot be opened: %v", p)
		}
	}()
	return pebble.Open(dir, o)
}

func (s *Store) options(o Options) *pebble.Options {
	if o.Cache == 0 {
		o.Cache = defaultCache
	}
	if o.MemTable == 0 {
		o.MemTable = defaultMemTable
	}
	po := &pebble.Options{
		FS:                    s.fs,
		CacheSize:             o.Cache,
		MemTableSize:          uint64(o.MemTable),
		FormatMajorVersion:    pebble.FormatNewest,
		Logger:                logger{s.log, o.exit},
		L0CompactionThreshold: 4,
		L0StopWritesThreshold: 40,
		// A new list of tables is begun as soon as the old one is mostly history, so that
		// scrubbing can make it forget what it named (see scrub.go).
		MaxManifestFileSize: 1,
	}
	// Pebble's own scheduler wakes ten times a second to see whether it may run more
	// compactions at once. This one looks when a compaction or a flush ends: a device
	// that does nothing sleeps.
	po.Experimental.CompactionScheduler = pebble.NewConcurrencyLimitSchedulerWithNoPeriodicGrantingForTest()
	po.MemTableStopWritesThreshold = 4
	for i := range po.Levels {
		po.Levels[i].FilterPolicy = bloom.FilterPolicy(bloomBits)
	}
	po.EventListener = &pebble.EventListener{
		BackgroundError: func(err error) { s.log.Error("store: background work", "error", err) },
		DataCorruption: func(info pebble.DataCorruptionInfo) {
			s.log.Error("store: a file is damaged", "file", info.Path, "error", info.Details)
		},
	}
	return po
}

// load reads what the store keeps in memory, and finishes what a crash interrupted.
func (s *Store) load(device string) error {
	err := errors.Join(s.dropLeftovers(), s.finishBulk())
	if err != nil {
		return err
	}
	if err := s.makeRefs(); err != nil {
		return err
	}
	if s.names, err = loadNames(s.db); err != nil {
		return err
	}
	raw, err := get(s.db, metaKey)
	if err != nil {
		return err
	}
	if s.meta, err = decodeMeta(raw); err != nil {
		return err
	}
	if s.imports, err = s.loadImportNotes(); err != nil {
		return err
	}
	if s.jobs, err = s.loadJobs(); err != nil {
		return err
	}
	m, purged, err := s.loadMarks()
	if err != nil {
		return err
	}
	s.marks.Store(&m)
	s.purged.Store(&purged)
	if s.bans, err = s.loadBans(purged); err != nil {
		return err
	}
	if err := errors.Join(s.loadHunts(), s.loadScrub()); err != nil {
		return err
	}
	s.device = s.names.number(device)
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.settle(); err != nil && !errors.Is(err, ErrDiskFull) {
		return err
	}
	s.publish()
	return nil
}

// The check file tells a wrong key from a right one before anything else is read.
//
//	"LKCHECK" | version 1 | nonce 12 | AES-256-GCM of "locker store"
const (
	checkName  = "check"
	checkMagic = "LKCHECK\x01"
	checkText1 = "locker store"
)

func checkAEAD(key [32]byte) (cipher.AEAD, error) {
	k, err := hkdf.Key(sha256.New, key[:], nil, "locker store check v1", 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(k)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// checkKey reads the check file, or makes it in a folder that has nothing else.
func checkKey(base vfs.FS, dir string, key [32]byte) error {
	aead, err := checkAEAD(key)
	if err != nil {
		return err
	}
	name := base.PathJoin(dir, checkName)
	f, err := base.Open(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return makeCheck(base, dir, aead)
	case err != nil:
		return err
	}
	raw, err := io.ReadAll(io.LimitReader(f, 1024))
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	sealed, ok := strings.CutPrefix(string(raw), checkMagic)
	if !ok || len(sealed) < aead.NonceSize() {
		return fmt.Errorf("%w: %s is not a check file", ErrWrongKey, name)
	}
	n := aead.NonceSize()
	if _, err := aead.Open(nil, []byte(sealed[:n]), []byte(sealed[n:]), []byte(checkMagic)); err != nil {
		return fmt.Errorf("%w: it was made with another key", ErrWrongKey)
	}
	return nil
}

func makeCheck(base vfs.FS, dir string, aead cipher.AEAD) error {
	names, err := base.List(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if name == "db" {
			return fmt.Errorf("%w: it has data but no check file", ErrWrongKey)
		}
	}
	nonce := make([]byte, aead.NonceSize())
	rand.Read(nonce)
	raw := append([]byte(checkMagic), nonce...)
	raw = aead.Seal(raw, nonce, []byte(checkText1), []byte(checkMagic))
	if err := writeFile(base, dir, checkName, raw); err != nil {
		return err
	}
	return syncDir(base, base.PathDir(dir))
}

// writeFile makes a file with that content, all or nothing, durable.
func writeFile(base vfs.FS, dir, name string, raw []byte) error {
	temporary := base.PathJoin(dir, name+".new")
	f, err := base.Create(temporary, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write(raw)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := base.Rename(temporary, base.PathJoin(dir, name)); err != nil {
		return err
	}
	return syncDir(base, dir)
}

func syncDir(base vfs.FS, dir string) error {
	d, err := base.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// markerFS makes the names in a folder durable before a marker is made, which says
// which of them counts. Pebble relies on the order of the two, which not every file
// system keeps.
type markerFS struct{ vfs.FS }

// Create makes a file.
func (f markerFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if strings.HasPrefix(f.PathBase(name), "marker.") {
		if err := syncDir(f.FS, f.PathDir(name)); err != nil {
			return nil, err
		}
	}
	return f.FS.Create(name, c)
}

// Unwrap returns the file system below.
func (f markerFS) Unwrap() vfs.FS { return f.FS }

// logger gives Pebble's messages to slog. Pebble calls Fatalf when it cannot go on
// without lying about what is durable, and counts on it not to return.
type logger struct {
	log  *slog.Logger
	exit func()
}

func (l logger) Infof(format string, args ...any) {
	l.log.Log(context.Background(), slog.LevelDebug, "store: "+fmt.Sprintf(format, args...))
}

func (l logger) Errorf(format string, args ...any) {
	l.log.Error("store: " + fmt.Sprintf(format, args...))
}

func (l logger) Fatalf(format string, args ...any) {
	l.log.Error("store: cannot go on, ending the process: " + fmt.Sprintf(format, args...))
	l.exit()
}

func decodeRev(key []byte) uint64 { return binary.BigEndian.Uint64(key[1:]) }
