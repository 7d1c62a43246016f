package remote

import (
	"context"
	"io"
	"iter"
	"time"

	"golang.org/x/time/rate"

	"github.com/locker-project/locker/daemon/replica"
)

// A Limiter bounds how many bytes a second go to all remotes that it was given, taken
// together, and how many come. Its methods may be called concurrently.
type Limiter struct{ up, down *rate.Limiter }

// NewLimiter returns a limiter that bounds nothing yet.
func NewLimiter() *Limiter {
	return &Limiter{up: rate.NewLimiter(rate.Inf, 0), down: rate.NewLimiter(rate.Inf, 0)}
}

// Set bounds the bytes a second in each direction; 0 is no bound. It holds for what is
// on its way too.
func (l *Limiter) Set(up, down int64) {
	set(l.up, up)
	set(l.down, down)
}

// set bounds one direction. At most a tenth of a second goes at once.
func set(l *rate.Limiter, bytes int64) {
	if bytes <= 0 {
		l.SetLimit(rate.Inf)
		return
	}
	l.SetBurst(int(max(bytes/10, 1)))
	l.SetLimit(rate.Limit(bytes))
}

// Limit returns r with its bytes bounded.
func (l *Limiter) Limit(r replica.Remote) replica.Remote { return &limited{r, l} }

type limited struct {
	remote replica.Remote
	limit  *Limiter
}

func (r *limited) Put(ctx context.Context, name string, body io.ReadSeeker, size int64) error {
	return r.remote.Put(ctx, name, struct {
		io.Reader
		io.Seeker
	}{&limitedReader{ctx, r.limit.up, body}, body}, size)
}

func (r *limited) Get(ctx context.Context, name string, off, n int64) (io.ReadCloser, error) {
	body, err := r.remote.Get(ctx, name, off, n)
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{&limitedReader{ctx, r.limit.down, body}, body}, nil
}

func (r *limited) List(ctx context.Context, prefix string) iter.Seq2[replica.ObjectInfo, error] {
	return r.remote.List(ctx, prefix)
}

func (r *limited) Delete(ctx context.Context, names ...string) error {
	return r.remote.Delete(ctx, names...)
}

// Changed is for a remote that tells of changes.
func (r *limited) Changed(ctx context.Context) <-chan struct{} { return changed(ctx, r.remote) }

// A limitedReader reads no faster than its limit.
type limitedReader struct {
	ctx   context.Context
	limit *rate.Limiter
	r     io.Reader
}

// longestWait bounds a single wait: a limit that is lifted is noticed that soon.
const longestWait = time.Second

func (l *limitedReader) Read(p []byte) (int, error) {
	if l.limit.Limit() == rate.Inf || len(p) == 0 {
		return l.r.Read(p)
	}
	if most := max(l.limit.Burst(), 1); len(p) > most {
		p = p[:most]
	}
	n, err := l.r.Read(p)
	for left := n; left > 0; {
		take := min(left, max(l.limit.Burst(), 1))
		reserved := l.limit.ReserveN(time.Now(), take)
		if !reserved.OK() { // the limit has become smaller meanwhile
			continue
		}
		for wait := reserved.Delay(); wait > 0 && l.limit.Limit() != rate.Inf; wait -= longestWait {
			if err := sleep(l.ctx, min(wait, longestWait)); err != nil {
				return n, err
			}
		}
		left -= take
	}
	return n, err
}
