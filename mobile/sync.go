package mobile

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync/atomic"
	"time"

	"github.com/locker-project/locker/daemon/remote"
	"github.com/locker-project/locker/daemon/replica"
)

// A Remote keeps sealed objects where the app can reach: what it is given is
// ciphertext, and what it returns is checked. A name that is not there makes Get
// return no bytes and no error. It may be called from several threads at once.
type Remote interface {
	Put(name string, object []byte) error
	// Get returns n bytes from off on; n < 0 reads to the end.
	Get(name string, off, n int64) ([]byte, error)
	// List returns the names that begin with prefix as a JSON array of texts.
	List(prefix string) (string, error)
	Delete(name string) error
}

// AddRemote adds a place that the app reaches. The app adds its remotes each time
// that it opens the locker.
func (l *Locker) AddRemote(name string, r Remote) { l.add(name, adapter{r}) }

// PrepareFolder makes a folder into one for sealed objects. Call it once, when the
// owner chooses the folder: so an empty mount point is never taken for it later.
func PrepareFolder(path string) error { return remote.PrepareFolder(path) }

// AddFolder adds a prepared folder, such as one that another app keeps in step with
// a cloud. The app adds its remotes each time that it opens the locker.
func (l *Locker) AddFolder(name, path string) error {
	folder, err := remote.Folder(path)
	if err != nil {
		return err
	}
	l.add(name, folder)
	return nil
}

func (l *Locker) add(name string, r replica.Remote) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.remotes = append(l.remotes, replica.Named{Name: name, Remote: r})
	l.rep.SetRemotes(l.remotes)
}

// errBudget ends a sync whose bytes are used up.
var errBudget = errors.New("the byte budget of this sync is used up")

// Sync exchanges changes with the remotes, for at most so many seconds and bytes
// (0 is no bound). The object under way when the bytes run out is still
// transferred. What was not done goes on with the next call. It returns
// {"complete","objects_up","objects_down","bytes_up","bytes_down","requests",
// "records","pending","alarms","failed"}.
func (l *Locker) Sync(seconds int, maxBytes int64, progress Progress) (string, error) {
	l.syncing.Lock()
	defer l.syncing.Unlock()
	ctx := l.ctx
	if seconds > 0 {
		timed, cancel := context.WithTimeout(ctx, time.Duration(seconds)*time.Second)
		defer cancel()
		ctx = timed
	}
	l.mu.Lock()
	remotes := l.remotes
	l.mu.Unlock()
	b := &budget{max: maxBytes}
	bounded := make([]replica.Named, len(remotes))
	for i, r := range remotes {
		bounded[i] = replica.Named{Name: r.Name, Remote: metered{r.Remote, b}}
	}
	l.rep.SetRemotes(bounded)
	defer l.rep.SetRemotes(remotes)
	summary, err := l.rep.Sync(ctx, replica.SyncOptions{Progress: report(progress)})
	cut := b.spent() || (ctx.Err() != nil && l.ctx.Err() == nil)
	if err != nil && !cut {
		return "", err
	}
	return encodeSummary(summary, !cut)
}

// A budget counts the bytes of one sync; max 0 is no bound.
type budget struct {
	max  int64
	used atomic.Int64
}

func (b *budget) spent() bool { return b.max > 0 && b.used.Load() >= b.max }

// metered counts what passes through a remote and refuses to begin anything once
// the budget is spent.
type metered struct {
	replica.Remote
	budget *budget
}

func (m metered) Put(ctx context.Context, name string, r io.ReadSeeker, size int64) error {
	if m.budget.spent() {
		return errBudget
	}
	m.budget.used.Add(size)
	return m.Remote.Put(ctx, name, r, size)
}

func (m metered) Get(ctx context.Context, name string, off, n int64) (io.ReadCloser, error) {
	if m.budget.spent() {
		return nil, errBudget
	}
	r, err := m.Remote.Get(ctx, name, off, n)
	if err != nil {
		return nil, err
	}
	return meteredReader{r, m.budget}, nil
}

type meteredReader struct {
	io.ReadCloser
	budget *budget
}

func (r meteredReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	r.budget.used.Add(int64(n))
	return n, err
}

// adapter makes a replica.Remote of the app's.
type adapter struct{ remote Remote }

func (a adapter) Put(ctx context.Context, name string, r io.ReadSeeker, size int64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	object, err := io.ReadAll(r)
	if err == nil && int64(len(object)) != size {
		err = fmt.Errorf("put %s: %d bytes instead of %d", name, len(object), size)
	}
	if err != nil {
		return err
	}
	return a.remote.Put(name, object)
}

func (a adapter) Get(ctx context.Context, name string, off, n int64) (io.ReadCloser, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	object, err := a.remote.Get(name, off, n)
	if err != nil {
		return nil, err
	}
	if len(object) == 0 {
		return nil, fmt.Errorf("get %s: %w", name, replica.ErrNotFound)
	}
	return io.NopCloser(bytes.NewReader(object)), nil
}

func (a adapter) List(ctx context.Context, prefix string) iter.Seq2[replica.ObjectInfo, error] {
	return func(yield func(replica.ObjectInfo, error) bool) {
		var names []string
		raw, err := a.remote.List(prefix)
		if err == nil {
			err = json.Unmarshal([]byte(raw), &names)
		}
		if err = errors.Join(err, ctx.Err()); err != nil {
			yield(replica.ObjectInfo{}, err)
			return
		}
		for _, name := range names {
			if !yield(replica.ObjectInfo{Name: name}, nil) {
				return
			}
		}
	}
}

func (a adapter) Delete(ctx context.Context, names ...string) error {
	var errs []error
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return err
		}
		errs = append(errs, a.remote.Delete(name))
	}
	return errors.Join(errs...)
}
