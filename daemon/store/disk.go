package store

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

const (
	ballastName = "ballast"
	ballastSize = 16 << 20
	ballastStep = 1 << 16
	// defaultReserve is the free space below which writes are refused: what a flush and a
	// compaction that are under way may still need.
	defaultReserve = 64 << 20
	// askEvery is how long an answer of the disk about its space holds.
	askEvery = time.Second
)

// disk keeps Pebble from meeting a full disk, which ends the process. Writes are
// refused while there is little room. Where the disk fills up all the same, a
// ballast file is removed, the write that failed is done again, and no more are
// accepted until there is room to put the ballast back.
type disk struct {
	base    vfs.FS
	fs      vfs.FS // base, but a full disk costs the ballast first
	dir     string
	log     *slog.Logger
	size    int64 // of the ballast
	reserve int64

	mu      sync.Mutex
	full    bool // the ballast is gone
	asked   time.Time
	free    int64 // at the last answer, less what was written since
	unknown bool  // the file system does not tell
}

func newDisk(base vfs.FS, dir string, ballast, reserve int64, log *slog.Logger) (*disk, error) {
	d := &disk{base: base, dir: dir, log: log, size: ballast, reserve: reserve}
	d.fs = vfs.OnDiskFull(base, d.drop)
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, err := base.Stat(d.ballast()); err == nil {
		return d, nil
	}
	if d.ask(); d.unknown {
		return d, nil // in memory, or where a full disk cannot be told in time
	}
	if d.free < d.reserve+2*d.size {
		d.full = true
		return d, nil
	}
	if err := d.load(); err != nil && !errors.Is(err, ErrDiskFull) {
		return nil, err
	}
	return d, nil
}

func (d *disk) ballast() string { return d.base.PathJoin(d.dir, ballastName) }

// load puts the ballast in place.
func (d *disk) load() error {
	f, err := d.base.Create(d.ballast(), vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	for n := int64(0); n < d.size && err == nil; n += ballastStep {
		_, err = f.Write(make([]byte, ballastStep))
	}
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		d.full = true
		return errors.Join(fmt.Errorf("%w: no room for the ballast file: %w", ErrDiskFull, err), d.base.Remove(d.ballast()))
	}
	d.full = false
	return nil
}

// drop frees the ballast. It is called while a write waits to be done again.
func (d *disk) drop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.full = true
	if err := d.base.Remove(d.ballast()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		d.log.Error("store: the disk is full and the ballast cannot be removed", "error", err)
		return
	}
	d.log.Warn("store: the disk is full; the ballast is gone and writes are refused until there is room")
}

// ask learns how much room there is.
func (d *disk) ask() {
	usage, err := d.base.GetDiskUsage(d.dir)
	d.asked, d.unknown = time.Now(), err != nil
	d.free = int64(min(usage.AvailBytes, 1<<62))
}

// admit takes room for a write of n bytes, or refuses it.
func (d *disk) admit(n int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	// A write goes to the log, to a table, and to another when tables are merged.
	need := 3 * n
	if time.Since(d.asked) > askEvery || !d.unknown && d.free-need < 2*d.reserve {
		d.ask()
	}
	if d.full && (d.unknown || d.free-need > d.reserve+2*d.size) {
		if err := d.load(); err != nil {
			return err
		}
		d.ask()
	}
	if d.full || !d.unknown && d.free-need < d.reserve {
		return fmt.Errorf("%w: %d MB are free where %d MB are needed; free some space and write again", ErrDiskFull, d.free>>20, (d.reserve+need)>>20)
	}
	d.free -= need
	return nil
}

// room refuses a write of n bytes for which the disk may have no room.
func (s *Store) room(n int64) error { return s.disk.admit(n) }
