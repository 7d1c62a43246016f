package remote

import (
	"context"
	"errors"
	"io"
	"iter"
	"sync"
	"time"

	"github.com/locker-project/locker/daemon/remote/fault"
	"github.com/locker-project/locker/daemon/replica"
)

const (
	firstRest = 15 * time.Second // how long a remote is left alone after it failed
	mostRest  = 30 * time.Minute // the same after it failed again and again
)

// A Breaker leaves a remote alone that does not work: after a call failed, with all
// that was tried inside, later calls fail at once with the same error, for a time that
// doubles with each failure in a row and is cut short by chance, so that many devices
// do not come back at once; or for as long as the remote asked. RetryAfter of the error
// says for how long. Then one call at a time may try whether the remote works again.
//
// Only what may pass by itself counts: that the remote cannot be reached, is busy or is
// broken. Its methods may be called concurrently.
type Breaker struct {
	remote replica.Remote
	now    func() time.Time

	mu       sync.Mutex
	failures int // in a row
	until    time.Time
	why      *fault.Fault // nil: it works, as far as is known
	trying   bool         // one call tries
}

var _ replica.Remote = (*Breaker)(nil)

// NewBreaker returns a breaker before r.
func NewBreaker(r replica.Remote) *Breaker { return &Breaker{remote: r, now: time.Now} }

// Reset lets the next call try at once: for when the owner asks, or when the network
// came back.
func (b *Breaker) Reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failures, b.until, b.why = 0, time.Time{}, nil
}

// Open tells until when the remote is left alone, and why; a nil error: it is not.
func (b *Breaker) Open() (until time.Time, why error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.why == nil || !b.now().Before(b.until) {
		return time.Time{}, nil
	}
	return b.until, b.why
}

// begin says why a call may not be made now. probe: it is the one that tries.
func (b *Breaker) begin() (probe bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.why == nil:
		return false, nil
	case b.now().Before(b.until) || b.trying:
		alone := *b.why
		alone.Pause, alone.Again = max(b.until.Sub(b.now()), time.Second), true
		return false, &alone
	}
	b.trying = true
	return true, nil
}

// end takes the result of a call.
func (b *Breaker) end(probe bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if probe {
		b.trying = false
	}
	f, ok := passing(err)
	if !ok {
		if answered(err) {
			b.failures, b.until, b.why = 0, time.Time{}, nil
		}
		return
	}
	if b.why != nil && !probe {
		return // one of several that failed at once
	}
	b.failures++
	whole := doubled(firstRest, mostRest, b.failures)
	rest := max(whole/2+jitter(firstRest/2, mostRest/2, b.failures), f.Pause)
	b.until, b.why = b.now().Add(rest), f
}

// passing says whether an error is one that may pass by itself.
func passing(err error) (*fault.Fault, bool) {
	f, ok := fault.Parse(err)
	if !ok || errors.Is(err, context.Canceled) {
		return nil, false
	}
	return f, f.Kind == fault.Offline || f.Kind == fault.Busy || f.Kind == fault.Broken && f.Again
}

// answered says whether the remote answered, with nil or an error of its own.
func answered(err error) bool {
	f, ok := fault.Parse(err)
	return err == nil || errors.Is(err, replica.ErrNotFound) || ok && (f.Kind == fault.Full || f.Kind == fault.Denied)
}

func (b *Breaker) call(do func() error) error {
	probe, err := b.begin()
	if err != nil {
		return err
	}
	err = do()
	if err == errEnough {
		b.end(probe, nil)
	} else {
		b.end(probe, err)
	}
	return err
}

// Put stores an object.
func (b *Breaker) Put(ctx context.Context, name string, r io.ReadSeeker, size int64) error {
	return b.call(func() error { return b.remote.Put(ctx, name, r, size) })
}

// Get opens an object. What happens while it is read does not count.
func (b *Breaker) Get(ctx context.Context, name string, off, n int64) (body io.ReadCloser, err error) {
	err = b.call(func() error {
		body, err = b.remote.Get(ctx, name, off, n)
		return err
	})
	return body, err
}

// List yields objects.
func (b *Breaker) List(ctx context.Context, prefix string) iter.Seq2[replica.ObjectInfo, error] {
	return func(yield func(replica.ObjectInfo, error) bool) {
		err := b.call(func() error {
			for info, err := range b.remote.List(ctx, prefix) {
				if err != nil {
					return err
				}
				if !yield(info, nil) {
					return errEnough
				}
			}
			return nil
		})
		if err != nil && err != errEnough {
			yield(replica.ObjectInfo{}, err)
		}
	}
}

// errEnough ends a listing that its reader ended.
var errEnough = errors.New("enough")

// Delete removes objects.
func (b *Breaker) Delete(ctx context.Context, names ...string) error {
	return b.call(func() error { return b.remote.Delete(ctx, names...) })
}

// Changed is for a remote that tells of changes.
func (b *Breaker) Changed(ctx context.Context) <-chan struct{} { return changed(ctx, b.remote) }
