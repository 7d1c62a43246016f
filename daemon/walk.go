package daemon

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
)

// A found is one file that an import came upon.
type found struct {
	path string // where it is
	name string // below the root of the import, as connectors see it
	size int64
	note string // why it is not looked at; empty where it is
}

// walk returns the files below paths, in order. It follows no symbolic links but
// those that the owner named, and does not enter the locker itself.
func walk(ctx context.Context, paths []string, home Home) ([]found, error) {
	own, err := os.Stat(string(home))
	if err != nil {
		return nil, err
	}
	var files []found
	seen := map[string]bool{}
	add := func(f found) {
		if !seen[f.path] {
			seen[f.path] = true
			files = append(files, f)
		}
	}
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return nil, usage("check the path", "cannot read %s: %v", path, err)
		}
		if !info.IsDir() {
			add(look(path, filepath.Base(path), info))
			continue
		}
		if real, err := filepath.EvalSymlinks(path); err == nil {
			path = real
		}
		err = filepath.WalkDir(path, func(at string, entry fs.DirEntry, err error) error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			name, rerr := filepath.Rel(path, at)
			if rerr != nil {
				return rerr
			}
			if err != nil {
				add(found{path: at, name: name, note: "cannot be read: " + plainReason(err)})
				return nil
			}
			info, err := entry.Info()
			switch {
			case err != nil:
				add(found{path: at, name: name, note: "cannot be read: " + plainReason(err)})
			case entry.IsDir() && os.SameFile(info, own):
				add(found{path: at, name: name, note: "is this locker itself; it was left alone"})
				return fs.SkipDir
			case !entry.IsDir():
				add(look(at, name, info))
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return files, nil
}

// look judges a file by what the file system says of it.
func look(path, name string, info fs.FileInfo) found {
	f := found{path: path, name: filepath.ToSlash(name), size: info.Size()}
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		f.note = "is a link; name what it points to if you want that"
	case !info.Mode().IsRegular():
		f.note = "is not a file"
	case info.Size() == 0:
		f.note = "is empty"
	}
	return f
}

// plainReason is an error of the file system without the path, which is said
// beside it.
func plainReason(err error) string {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err.Error()
	}
	return err.Error()
}

// An input is a file that connectors read, and how far they have come.
type input struct {
	file *os.File
	name string
	size int64
	read atomic.Int64 // the furthest that was read
	busy atomic.Int64 // grows with each read
}

func openInput(f found) (*input, error) {
	file, err := os.Open(f.path)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err != nil {
		file.Close()
		return nil, err
	}
	return &input{file: file, name: strings.ToValidUTF8(f.name, "\uFFFD"), size: info.Size()}, nil
}

func (i *input) Name() string { return i.name }

func (i *input) Size() int64 { return i.size }

// ReadAt reads within the size that the file had when it was opened.
func (i *input) ReadAt(p []byte, off int64) (int, error) {
	i.busy.Add(1)
	if off >= i.size {
		return 0, io.EOF
	}
	short := false
	if most := i.size - off; int64(len(p)) > most {
		p, short = p[:most], true
	}
	n, err := i.file.ReadAt(p, off)
	for end := off + int64(n); ; {
		old := i.read.Load()
		if end <= old || i.read.CompareAndSwap(old, end) {
			break
		}
	}
	if err == nil && short {
		err = io.EOF
	}
	return n, err
}

func (i *input) close() { i.file.Close() }
