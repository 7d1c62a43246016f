package replica

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// A disk holds the folder Objects. It is the system's; tests put one in its place
// that loses, when the power fails, what was not synced.
type disk interface {
	MkdirAll(dir string) error
	// Create makes a file of a new name in dir, which begins with ".new-".
	Create(dir string) (diskFile, error)
	ReadFile(path string) ([]byte, error)
	Rename(from, to string) error
	Remove(path string) error
	Names(dir string) ([]string, error)
	// SyncDir makes the names in a folder durable, where the system knows how.
	SyncDir(dir string) error
}

type diskFile interface {
	io.WriteCloser
	Sync() error
	Name() string
}

// A disk may be able to read into memory that is there.
type intoReader interface {
	ReadInto(path string, buf []byte) ([]byte, error)
}

// ReadInto reads a file into buf, where that has room for it.
func (osDisk) ReadInto(path string, buf []byte) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil {
		if buf = buf[:0]; int64(cap(buf)) < info.Size() {
			buf = make([]byte, info.Size())
		}
		buf = buf[:info.Size()]
		_, err = io.ReadFull(f, buf)
	}
	return buf, errors.Join(err, f.Close())
}

// newPrefix begins the names of files that are being written.
const newPrefix = ".new-"

// osDisk is the disk of the system.
type osDisk struct{}

func (osDisk) MkdirAll(dir string) error            { return os.MkdirAll(dir, 0o700) }
func (osDisk) Create(dir string) (diskFile, error)  { return os.CreateTemp(dir, newPrefix+"*") }
func (osDisk) ReadFile(path string) ([]byte, error) { return os.ReadFile(path) }
func (osDisk) Rename(from, to string) error         { return os.Rename(from, to) }
func (osDisk) Remove(path string) error             { return os.Remove(path) }

func (osDisk) Names(dir string) ([]string, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	names, err := d.Readdirnames(-1)
	return names, errors.Join(err, d.Close())
}

func (osDisk) SyncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// prepareDisk makes the folders of sealed objects durable, and removes files that
// were being written when this device was cut off.
func (r *Replica) prepareDisk() error {
	for _, folder := range []string{"k", "d"} {
		dir := filepath.Join(r.objects, folder)
		if err := r.disk.MkdirAll(dir); err != nil {
			return fmt.Errorf("folder of sealed objects: %w", err)
		}
		names, err := r.disk.Names(dir)
		if err != nil {
			return fmt.Errorf("folder of sealed objects: %w", err)
		}
		for _, name := range names {
			if !strings.HasPrefix(name, newPrefix) {
				continue
			}
			if err := r.disk.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				r.log.Warn("a file that was being written stays", "err", err)
			}
		}
	}
	for _, dir := range []string{r.objects, filepath.Dir(r.objects)} {
		if err := r.disk.SyncDir(dir); err != nil {
			return fmt.Errorf("folder of sealed objects: %w", err)
		}
	}
	return nil
}

// writeFile replaces a file, whole or not at all, and makes its bytes durable. Its
// name is durable once its folder is synced.
func (r *Replica) writeFile(path string, data []byte) (err error) {
	f, err := r.disk.Create(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.disk.Remove(f.Name()))
		}
	}()
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return r.disk.Rename(f.Name(), path)
}
