package remote

import (
	"context"
	"sync"
	"time"
)

// A Notifier is a remote that can tell of changes.
type Notifier interface {
	// Changed returns a channel that gets a value soon after somebody else put objects;
	// many changes make one value. It is closed when ctx ends, and when the place tells
	// of no changes, or not any more. What it tells is a hint, and no change may be
	// missed for want of it: go on asking, if less often.
	Changed(ctx context.Context) <-chan struct{}
}

// changed is r's Changed, or closed at once where r has none.
func changed(ctx context.Context, r any) <-chan struct{} {
	if n, ok := r.(Notifier); ok {
		return n.Changed(ctx)
	}
	never := make(chan struct{})
	close(never)
	return never
}

const (
	// settle is how long nothing must change before that is told, and mostSettle how long
	// the telling is put off at most.
	settle     = 200 * time.Millisecond
	mostSettle = time.Second
)

// debounce tells of the events of a channel, soon after the last of several. It ends
// with ctx or the channel.
func debounce(ctx context.Context, events <-chan struct{}) <-chan struct{} {
	out := make(chan struct{}, 1)
	go func() {
		defer close(out)
		for {
			select {
			case _, ok := <-events:
				if !ok || !calm(ctx, events) {
					return
				}
				select {
				case out <- struct{}{}:
				default: // the reader has not taken the one before
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}

// calm waits until nothing more comes. It returns false when ctx ended.
func calm(ctx context.Context, events <-chan struct{}) bool {
	late := time.After(mostSettle)
	for {
		select {
		case _, ok := <-events:
			if !ok {
				return ctx.Err() == nil
			}
		case <-time.After(settle):
			return true
		case <-late:
			return true
		case <-ctx.Done():
			return false
		}
	}
}

// own are the names that this side put or deleted lately, of whose changes it need not
// be told.
type own struct {
	mu    sync.Mutex
	names map[string]time.Time // until when they are known
}

// ownFor is how long after a put its echo is expected.
const ownFor = 2 * time.Minute

// maxOwn bounds how many names are remembered.
const maxOwn = 10_000

func (o *own) add(names ...string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	if o.names == nil || len(o.names) > maxOwn {
		o.names = map[string]time.Time{}
	}
	for _, name := range names {
		o.names[name] = now.Add(ownFor)
	}
}

func (o *own) has(name string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return time.Now().Before(o.names[name])
}

// A signal is what a place tells with, without waiting for who listens.
type signal chan struct{}

func (s signal) raise() {
	select {
	case s <- struct{}{}:
	default: // one waits already
	}
}
