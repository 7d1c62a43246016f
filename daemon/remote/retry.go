package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"github.com/locker-project/locker/daemon/remote/fault"
	"github.com/locker-project/locker/daemon/replica"
	"github.com/locker-project/locker/plugins/locker"
)

// A pace says how patient a PluginRemote is.
type pace struct {
	tries   int           // how often a call is made in all
	offline int           // the same, when the remote cannot be reached at all
	first   time.Duration // the longest pause after the first try; it doubles with each
	most    time.Duration // the longest pause
	total   time.Duration // no try begins later than this after the call
	start   time.Duration // for the process to start and to connect
	stall   time.Duration // a try during which nothing moves for so long is given up
}

// usual outlasts a server's restart and a short break of the network. What takes
// longer is left to the next sync.
var usual = pace{
	tries: 6, offline: 3, first: time.Second, most: 30 * time.Second,
	total: 3 * time.Minute, start: time.Minute, stall: 3 * time.Minute,
}

func (p pace) orDefault() pace {
	if p == (pace{}) {
		return usual
	}
	return p
}

// pause is how long to wait after a number of tries: any part of a time that doubles,
// so that many devices do not come back at once.
func (p pace) pause(tries int) time.Duration { return jitter(p.first, p.most, tries) }

// jitter is a pause up to first after the first failure in a row, up to twice that
// after the second, and so on, up to most.
func jitter(first, most time.Duration, failures int) time.Duration {
	return rand.N(doubled(first, most, failures) + 1)
}

// doubled is first after the first failure, twice that after the second, up to most.
func doubled(first, most time.Duration, failures int) time.Duration {
	if failures > 30 || first > most>>(failures-1) {
		return most
	}
	return first << (failures - 1)
}

// A local error is one of this side: no try mends it. A nil one ends the call well.
type local struct{ err error }

func (l *local) Error() string { return fmt.Sprint(l.err) }

// retry calls op until it succeeds, fails for good, or patience ends.
func (p *PluginRemote) retry(ctx context.Context, op func() error) error {
	pace := p.slow.orDefault()
	began := time.Now()
	for tries := 1; ; tries++ {
		err := op()
		if err == nil {
			p.away.Store(false)
			return nil
		}
		if stop := (*local)(nil); errors.As(err, &stop) {
			return stop.err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if errors.Is(err, replica.ErrNotFound) || errors.Is(err, locker.ErrNotFound) {
			return replica.ErrNotFound
		}
		f, ok := fault.Parse(err)
		if !ok {
			return err
		}
		most, pause := pace.tries, max(pace.pause(tries), f.Pause)
		if f.Kind == fault.Offline {
			most = pace.offline
			if p.away.Swap(true) && tries == 1 {
				most = 1 // it was away before
			}
		}
		if !f.Again || tries >= most || time.Since(began)+pause > pace.total {
			return f
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
}

// do makes a call with retries.
func (p *PluginRemote) do(ctx context.Context, call func(context.Context, client, *watch) error) error {
	return p.retry(ctx, func() error {
		c, done, err := p.acquire(ctx)
		if err != nil {
			return err
		}
		w := newWatch(ctx, p.slow.orDefault().stall)
		err = w.judge(call(w.ctx, c, w))
		w.end()
		done(unusable(err))
		return err
	})
}

// unusable says whether an error means that the process cannot be used any more: it
// is none of those that the process itself tells.
func unusable(err error) bool {
	var stop *local
	if err == nil || errors.As(err, &stop) || errors.Is(err, replica.ErrNotFound) || errors.Is(err, locker.ErrNotFound) || errors.Is(err, context.Canceled) {
		return false
	}
	f, ok := fault.Parse(err)
	return !ok || f.Err == errStalled || errors.Is(f.Err, errEnded)
}

var (
	errStalled = errors.New("nothing moved")
	errEnded   = errors.New("the process of the remote ended")
)

// A watch gives a try up when nothing moves for too long.
type watch struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer
	stall  time.Duration
}

func newWatch(ctx context.Context, stall time.Duration) *watch {
	w := &watch{stall: stall}
	w.ctx, w.cancel = context.WithCancelCause(ctx)
	w.timer = time.AfterFunc(stall, func() { w.cancel(errStalled) })
	return w
}

// moved tells that something moved. pause suspends the watch until then.
func (w *watch) moved() { w.timer.Reset(w.stall) }
func (w *watch) pause() { w.timer.Stop() }

// end ends the watch and its context.
func (w *watch) end() {
	w.timer.Stop()
	w.cancel(nil)
}

// judge says what an error of a try means.
func (w *watch) judge(err error) error {
	var stop *local
	switch {
	case err == nil, errors.As(err, &stop):
		return err
	case context.Cause(w.ctx) == errStalled:
		return &fault.Fault{Kind: fault.Offline, What: fmt.Sprintf("the remote did not answer for %s", w.stall.Round(time.Second)),
			Do: "check the network and the remote's address", Again: true, Err: errStalled}
	case w.ctx.Err() != nil, errors.Is(err, replica.ErrNotFound), errors.Is(err, locker.ErrNotFound):
		return err
	}
	if f, ok := fault.Parse(err); ok {
		return f
	}
	return &fault.Fault{Kind: fault.Broken, What: fmt.Sprintf("the process of the remote ended: %v", err),
		Do: "see 'locker doctor' if this happens again", Again: true, Err: errEnded}
}

// A sourceReader hands out the bytes that a Put was given, keeps their number, and
// remembers what went wrong on this side.
type sourceReader struct {
	r    io.Reader
	left int64
	size int64
	w    *watch
	err  error
}

func (s *sourceReader) Read(p []byte) (int, error) {
	s.w.moved()
	if s.left == 0 {
		return 0, io.EOF
	}
	if int64(len(p)) > s.left {
		p = p[:s.left]
	}
	n, err := s.r.Read(p)
	s.left -= int64(n)
	if err == io.EOF && s.left > 0 {
		err = wrongSize(s.size-s.left, s.size)
	}
	if err != nil && err != io.EOF {
		s.err = err
		return n, err
	}
	return n, nil
}
