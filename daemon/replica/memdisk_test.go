package replica_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/locker-project/locker/daemon/replica"
)

// A memDisk is a disk in memory that loses, when the power fails, what was not
// synced: bytes of files, and names in folders, which are durable only once their
// folder is synced. Of what was not synced any part may stay.
type memDisk struct {
	// before, where it is set, is asked before each call; what it returns is the
	// call's error.
	before func(op, path string) error

	mu    sync.Mutex
	next  int
	files map[string]*inode // as it is now; folders have no inode of their own
	dirs  map[string]bool
	kept  map[string]*inode // what is surely there after a power failure
	keptD map[string]bool
	log   []change // since folders were synced
}

// An inode is a file's bytes, and those of them that are durable.
type inode struct{ data, synced []byte }

// A change is one to the names in a folder.
type change struct {
	dir, path string
	file      *inode // nil: the name is gone
	from      string // of a rename
	mkdir     bool
}

func newMemDisk() *memDisk {
	return &memDisk{files: map[string]*inode{}, dirs: map[string]bool{"/": true}, kept: map[string]*inode{}, keptD: map[string]bool{"/": true}}
}

func (d *memDisk) call(op, path string) error {
	if d.before != nil {
		return d.before(op, path)
	}
	return nil
}

func missingFile(op, path string) error {
	return &fs.PathError{Op: op, Path: path, Err: fs.ErrNotExist}
}

func (d *memDisk) MkdirAll(dir string) error {
	if err := d.call("mkdir", dir); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for at := dir; !d.dirs[at]; at = filepath.Dir(at) {
		d.dirs[at] = true
		d.log = append(d.log, change{dir: filepath.Dir(at), path: at, mkdir: true})
	}
	return nil
}

func (d *memDisk) Create(dir string) (replica.DiskFile, error) {
	if err := d.call("create", dir); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.dirs[dir] {
		return nil, missingFile("create", dir)
	}
	d.next++
	f := &memFile{d: d, path: filepath.Join(dir, fmt.Sprint(".new-", d.next)), inode: &inode{}}
	d.files[f.path] = f.inode
	d.log = append(d.log, change{dir: dir, path: f.path, file: f.inode})
	return f, nil
}

type memFile struct {
	d     *memDisk
	path  string
	inode *inode
}

func (f *memFile) Name() string { return f.path }

func (f *memFile) Write(b []byte) (int, error) {
	if err := f.d.call("write", f.path); err != nil {
		return 0, err
	}
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	f.inode.data = append(f.inode.data, b...)
	return len(b), nil
}

func (f *memFile) Sync() error {
	if err := f.d.call("sync", f.path); err != nil {
		return err
	}
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	f.inode.synced = f.inode.data
	return nil
}

func (f *memFile) Close() error { return f.d.call("close", f.path) }

func (d *memDisk) ReadFile(path string) ([]byte, error) {
	if err := d.call("read", path); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.files[path]
	if f == nil {
		return nil, missingFile("read", path)
	}
	return bytes.Clone(f.data), nil
}

func (d *memDisk) Rename(from, to string) error {
	if err := d.call("rename", to); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.files[from]
	if f == nil {
		return missingFile("rename", from)
	}
	delete(d.files, from)
	d.files[to] = f
	d.log = append(d.log, change{dir: filepath.Dir(to), path: to, file: f, from: from})
	return nil
}

func (d *memDisk) Remove(path string) error {
	if err := d.call("remove", path); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.files[path] == nil {
		return missingFile("remove", path)
	}
	delete(d.files, path)
	d.log = append(d.log, change{dir: filepath.Dir(path), path: path})
	return nil
}

func (d *memDisk) Names(dir string) ([]string, error) {
	if err := d.call("names", dir); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.dirs[dir] {
		return nil, missingFile("names", dir)
	}
	var names []string
	for path := range d.files {
		if filepath.Dir(path) == dir {
			names = append(names, filepath.Base(path))
		}
	}
	slices.Sort(names)
	return names, nil
}

func (d *memDisk) SyncDir(dir string) error {
	if err := d.call("syncdir", dir); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.log = slices.DeleteFunc(d.log, func(c change) bool {
		if c.dir == dir {
			d.keep(c)
		}
		return c.dir == dir
	})
	return nil
}

// keep makes a change of names durable.
func (d *memDisk) keep(c change) {
	switch {
	case c.mkdir:
		d.keptD[c.path] = true
	case c.file == nil:
		delete(d.kept, c.path)
	default:
		delete(d.kept, c.from)
		d.kept[c.path] = c.file
	}
}

// powerFails leaves what was synced, and a random part of the rest.
func (d *memDisk) powerFails(rnd *rand.Rand) {
	d.mu.Lock()
	defer d.mu.Unlock()
	stays := []int{0, 1, 2, 4}[rnd.IntN(4)] // of four
	for _, c := range d.log {
		if rnd.IntN(4) < stays {
			d.keep(c)
		}
	}
	d.log, d.dirs = nil, map[string]bool{}
	for dir := range d.keptD {
		d.dirs[dir] = d.reaches(dir)
	}
	maps.DeleteFunc(d.dirs, func(_ string, there bool) bool { return !there })
	d.keptD = maps.Clone(d.dirs)
	maps.DeleteFunc(d.kept, func(path string, _ *inode) bool { return !d.dirs[filepath.Dir(path)] })
	d.files = maps.Clone(d.kept)
	for _, path := range slices.Sorted(maps.Keys(d.files)) {
		f := d.files[path]
		if len(f.synced) < len(f.data) { // any part of what was written since
			f.data = f.data[:len(f.synced)+rnd.IntN(len(f.data)-len(f.synced)+1)]
			f.synced = f.data
		}
	}
}

// reaches says whether all folders above one are durable.
func (d *memDisk) reaches(dir string) bool {
	for ; dir != "/"; dir = filepath.Dir(dir) {
		if !d.keptD[dir] {
			return false
		}
	}
	return true
}

// copy returns a disk with the same files, all durable.
func (d *memDisk) copy() *memDisk {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := newMemDisk()
	c.next = d.next
	for path, f := range d.files {
		i := &inode{f.data, f.data}
		c.files[path], c.kept[path] = i, i
	}
	c.dirs, c.keptD = maps.Clone(d.dirs), maps.Clone(d.dirs)
	return c
}

// leftovers are the files that were being written and are not there for good.
func (d *memDisk) leftovers() (paths []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for path := range d.files {
		if strings.HasPrefix(filepath.Base(path), ".new-") {
			paths = append(paths, path)
		}
	}
	return paths
}
