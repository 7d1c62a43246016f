package remote

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/locker-project/locker/daemon/remote/fault"
	"github.com/locker-project/locker/daemon/replica"
)

// partPrefix begins the names of files that are being written.
const partPrefix = ".part-"

// A FolderRemote is a remote in a folder: of this computer, of a drive that comes and
// goes, or one that another program keeps in step with a cloud.
//
// The folder holds two folders, k and d, and in those a file for each object. That
// they are there is how it is told from the empty mount point of a drive that is away
// and from a folder that was deleted: nothing but [PrepareFolder] makes them, so that
// objects never land where the owner does not look for them. Nothing is held open
// between calls: a drive can be taken out.
//
// Every path is resolved by [os.Root], which leaves the folder through no symbolic
// link. Its methods may be called concurrently, and several programs may use one
// folder at once.
type FolderRemote struct {
	dir   string
	swept [2]atomic.Bool // per folder: old part files were looked for
	own   own
	files fileWatcher // nil: the system's
}

var _ replica.Remote = (*FolderRemote)(nil)

// folders are what a prepared folder holds.
var folders = []string{"k", "d"}

// Folder returns the remote in the folder dir. It touches no disk: whether the folder
// is there is found out by each call.
func Folder(dir string) (*FolderRemote, error) {
	if dir == "" {
		return nil, &fault.Fault{Kind: fault.Settings, What: "the folder has no path", Do: "write dir:PATH"}
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, &fault.Fault{Kind: fault.Settings, What: fmt.Sprintf("the folder %q cannot be found", dir), Do: "write its whole path", Err: err}
	}
	return &FolderRemote{dir: abs}, nil
}

// PrepareFolder makes a folder into one that [Folder] can use, and makes the folder
// itself where it does not exist, if its parent does. It is for the moment when the
// owner adds the folder; a folder that is ready stays as it is.
func PrepareFolder(dir string) error {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if err := os.Mkdir(abs, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		if errors.Is(err, fs.ErrNotExist) {
			return &fault.Fault{Kind: fault.Offline, What: fmt.Sprintf("there is no folder %s to make one in", filepath.Dir(abs)),
				Do: "connect the drive, or make that folder first", Err: err}
		}
		return folderFault(abs, err)
	}
	root, err := os.OpenRoot(abs)
	if err != nil {
		return folderFault(abs, err)
	}
	defer root.Close()
	for _, sub := range folders {
		if err := root.Mkdir(sub, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return folderFault(abs, err)
		}
		if info, err := root.Lstat(sub); err != nil || !info.IsDir() {
			return &fault.Fault{Kind: fault.Settings, What: fmt.Sprintf("%s is in the way, which is no folder", filepath.Join(abs, sub)),
				Do: "move it elsewhere, or name another folder", Err: err}
		}
	}
	if err := syncFolder(root, "."); err != nil {
		return folderFault(abs, err)
	}
	return syncParent(abs)
}

// syncParent makes the folder's own name durable. A parent that may not be read is
// left alone: then the folder was there before.
func syncParent(dir string) error {
	parent, err := os.OpenRoot(filepath.Dir(dir))
	if err != nil {
		return nil
	}
	defer parent.Close()
	return syncFolder(parent, ".")
}

// open opens the folder for one call and finds out whether it is ready.
func (f *FolderRemote) open(ctx context.Context) (*os.Root, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(f.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &fault.Fault{Kind: fault.Offline, What: fmt.Sprintf("the folder %s is not there", f.dir),
			Do: "connect its drive or mount it; if it was moved, add the remote again", Err: err}
	}
	if err != nil {
		return nil, folderFault(f.dir, err)
	}
	for _, sub := range folders {
		if info, err := root.Lstat(sub); err == nil && info.IsDir() {
			return root, nil
		}
	}
	root.Close()
	return nil, &fault.Fault{Kind: fault.Offline, What: fmt.Sprintf("the folder %s is there, but not what was in it", f.dir),
		Do: "connect its drive or mount it; if it was emptied, add the remote again"}
}

// Put stores an object. The object's bytes, its name and its folder are flushed to
// the disk before it returns nil.
func (f *FolderRemote) Put(ctx context.Context, name string, r io.ReadSeeker, size int64) error {
	if err := checkName(name); err != nil {
		return err
	}
	root, err := f.open(ctx)
	if err != nil {
		return err
	}
	defer root.Close()
	sub, _, _ := strings.Cut(name, "/")
	if err := root.Mkdir(sub, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return folderFault(f.dir, err)
	}
	f.own.add(name)
	random := make([]byte, 8)
	_, _ = rand.Read(random)
	part := sub + "/" + partPrefix + hex.EncodeToString(random)
	err = writePart(root, part, contextReader{ctx, r}, size)
	if err == nil {
		err = replace(ctx, root, part, name)
	}
	if err == nil {
		err = syncFolder(root, sub)
	} else {
		_ = root.Remove(part) // what is left is swept by sweep
	}
	if err != nil {
		return folderFault(f.dir, err)
	}
	f.sweep(root, sub)
	return nil
}

// writePart writes size bytes to a new file and flushes it.
func writePart(root *os.Root, part string, r io.Reader, size int64) error {
	file, err := root.OpenFile(part, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	n, err := io.Copy(file, io.LimitReader(r, size+1))
	if err == nil && n != size {
		err = wrongSize(n, size)
	}
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

func wrongSize(n, size int64) error {
	more := fmt.Sprint(n)
	if n > size {
		more = "more"
	}
	return &fault.Fault{Kind: fault.Broken, What: fmt.Sprintf("the object has %s bytes, not %d as announced", more, size)}
}

// replace renames part to name. On Windows a file that somebody has open is in the
// way for a moment.
func replace(ctx context.Context, root *os.Root, part, name string) error {
	for try := 0; ; try++ {
		err := root.Rename(part, name)
		if err == nil || !sharing(err) || try == 6 {
			return err
		}
		if err := sleep(ctx, 10*time.Millisecond<<try); err != nil {
			return err
		}
	}
}

// Get opens an object.
func (f *FolderRemote) Get(ctx context.Context, name string, off, n int64) (io.ReadCloser, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	root, err := f.open(ctx)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	if !readable(root, name) {
		return io.NopCloser(strings.NewReader("")), nil // no object: that is for the reader to say
	}
	file, err := root.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, notFound(name)
	}
	if err != nil {
		return nil, folderFault(f.dir, err)
	}
	if _, err = file.Seek(off, io.SeekStart); err != nil {
		file.Close()
		return nil, folderFault(f.dir, err)
	}
	var r io.Reader = folderReader{f.dir, contextReader{ctx, file}}
	if n >= 0 {
		r = io.LimitReader(r, n)
	}
	return struct {
		io.Reader
		io.Closer
	}{r, file}, nil
}

// readable says whether what has an object's name can be opened: not a pipe, at
// which opening would wait for ever, nor a folder or a link that leads away. Such a
// thing stops nobody from reading the other objects.
func readable(root *os.Root, name string) bool {
	info, err := root.Stat(name)
	if err == nil {
		return info.Mode().IsRegular()
	}
	link, linkErr := root.Lstat(name)
	return linkErr != nil || link.Mode()&fs.ModeSymlink == 0 || errors.Is(err, fs.ErrNotExist)
}

// List yields the objects whose names begin with prefix, in no order. Other files are
// passed over.
func (f *FolderRemote) List(ctx context.Context, prefix string) iter.Seq2[replica.ObjectInfo, error] {
	return func(yield func(replica.ObjectInfo, error) bool) {
		root, err := f.open(ctx)
		if err != nil {
			yield(replica.ObjectInfo{}, err)
			return
		}
		defer root.Close()
		for _, sub := range folders {
			if !mayHold(sub, prefix) {
				continue
			}
			more, err := listFolder(ctx, root, sub, prefix, yield)
			if err != nil && more {
				yield(replica.ObjectInfo{}, folderFault(f.dir, err))
			}
			if err != nil || !more {
				return
			}
		}
	}
}

// mayHold says whether names below sub can begin with prefix.
func mayHold(sub, prefix string) bool {
	return strings.HasPrefix(sub+"/", prefix) || strings.HasPrefix(prefix, sub+"/")
}

// listFolder yields what one of the folders holds, a piece at a time. more is false
// once yield wants no more.
func listFolder(ctx context.Context, root *os.Root, sub, prefix string, yield func(replica.ObjectInfo, error) bool) (more bool, err error) {
	dir, err := root.Open(sub)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return true, err
	}
	defer dir.Close()
	for {
		if err := ctx.Err(); err != nil {
			return true, err
		}
		entries, err := dir.ReadDir(512)
		for _, e := range entries {
			name := sub + "/" + e.Name()
			if !strings.HasPrefix(name, prefix) || !objectName.MatchString(name) || !e.Type().IsRegular() {
				continue
			}
			info, err := e.Info()
			if err != nil {
				continue // it was deleted meanwhile
			}
			if !yield(replica.ObjectInfo{Name: name, Size: info.Size(), ModTime: info.ModTime()}, nil) {
				return false, nil
			}
		}
		if err == io.EOF {
			return true, nil
		}
		if err != nil {
			return true, err
		}
	}
}

// Delete removes objects.
func (f *FolderRemote) Delete(ctx context.Context, names ...string) error {
	if len(names) == 0 {
		return nil
	}
	root, err := f.open(ctx)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, name := range names {
		if err := checkName(name); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return folderFault(f.dir, err)
		}
	}
	return nil
}

// staleAfter is how old a file must be that somebody began to write and did not end.
const staleAfter = 24 * time.Hour

// sweep deletes what a crash left behind: part files that are old. It does so at the
// first Put into each folder.
func (f *FolderRemote) sweep(root *os.Root, sub string) {
	if !f.swept[slices.Index(folders, sub)].CompareAndSwap(false, true) {
		return
	}
	dir, err := root.Open(sub)
	if err != nil {
		return
	}
	defer dir.Close()
	for err == nil {
		var names []string
		names, err = dir.Readdirnames(1024)
		for _, name := range names {
			if !strings.HasPrefix(name, partPrefix) {
				continue
			}
			if info, err := root.Lstat(sub + "/" + name); err == nil && time.Since(info.ModTime()) > staleAfter {
				_ = root.Remove(sub + "/" + name)
			}
		}
	}
}

// checkName refuses what is no object's name.
func checkName(name string) error {
	if objectName.MatchString(name) {
		return nil
	}
	return &fault.Fault{Kind: fault.Broken, What: fmt.Sprintf("%.80q is not the name of an object", name)}
}

func notFound(name string) error { return fmt.Errorf("%s: %w", name, replica.ErrNotFound) }

// folderFault tells what an error of the file system means for a folder.
func folderFault(dir string, err error) error {
	f, ok := fault.Parse(err)
	switch {
	case ok:
		return f
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case full(err):
		return &fault.Fault{Kind: fault.Full, What: fmt.Sprintf("there is no room left in %s", dir), Do: "make room there, then try again", Err: err}
	case errors.Is(err, fs.ErrPermission):
		return &fault.Fault{Kind: fault.Denied, What: fmt.Sprintf("the folder %s may not be used: %v", dir, plain(err)), Do: "give yourself the right to read and write there", Err: err}
	case gone(err):
		return &fault.Fault{Kind: fault.Offline, What: fmt.Sprintf("the folder %s went away: %v", dir, plain(err)), Do: "connect its drive or mount it, then try again", Err: err}
	}
	return &fault.Fault{Kind: fault.Broken, What: fmt.Sprintf("the folder %s: %v", dir, plain(err)), Do: "check the disk", Err: err}
}

// plain is an error without the name of the system call and file.
func plain(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	var link *os.LinkError
	if errors.As(err, &link) {
		return link.Err
	}
	return err
}

// A contextReader ends with its context.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (r contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

// A folderReader says what an error of reading means.
type folderReader struct {
	dir string
	r   io.Reader
}

func (r folderReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if err != nil && err != io.EOF {
		err = folderFault(r.dir, err)
	}
	return n, err
}
