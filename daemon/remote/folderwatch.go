package remote

import (
	"context"
	"os"
	"path/filepath"
	"time"
)

// A fileWatcher tells what happens in folders. The system's own way is behind it, so
// that it can be replaced.
type fileWatcher interface {
	// watch tells the names of files that change in a folder, not below it, until stop
	// is called. full says that names were lost.
	watch(dir string, changed func(path string, full bool)) (stop func(), err error)
}

// lookAgain is how often a watched folder is looked for: it may have gone away, and
// come back as another one.
const lookAgain = 10 * time.Second

// Changed tells of changes, where the system can: those that other programs of this
// computer make, and not those that another computer makes in a folder on a server.
func (f *FolderRemote) Changed(ctx context.Context) <-chan struct{} {
	events := make(signal, 1)
	out := debounce(ctx, events)
	go func() {
		defer close(events)
		for ctx.Err() == nil {
			f.watchOnce(ctx, events)
			_ = sleep(ctx, lookAgain)
		}
	}()
	return out
}

// watchOnce watches the folder until it is another one.
func (f *FolderRemote) watchOnce(ctx context.Context, events signal) {
	var seen [2]os.FileInfo
	for i, sub := range folders {
		dir := filepath.Join(f.dir, sub)
		info, err := os.Lstat(dir)
		if err != nil || !info.IsDir() {
			continue
		}
		seen[i] = info
		stop, err := f.watcher().watch(dir, func(path string, full bool) {
			name := sub + "/" + filepath.Base(path)
			if full || objectName.MatchString(name) && !f.own.has(name) {
				events.raise()
			}
		})
		if err != nil {
			continue
		}
		defer stop()
	}
	for {
		if sleep(ctx, lookAgain) != nil {
			return
		}
		for i, sub := range folders {
			info, err := os.Lstat(filepath.Join(f.dir, sub))
			if there := err == nil && info.IsDir(); there != (seen[i] != nil) || there && !os.SameFile(info, seen[i]) {
				return
			}
		}
	}
}

func (f *FolderRemote) watcher() fileWatcher {
	if f.files == nil {
		return systemWatcher{}
	}
	return f.files
}
