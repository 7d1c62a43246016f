package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/locker-project/locker/daemon/replica"
)

// A Config tells how to run the daemon.
type Config struct {
	Home Home
	Options
	// Ready is called once calls are answered; nil does nothing.
	Ready func()
}

// How the daemon paces itself: a change is sent a little after the last one, and
// not later than the bound even while changes go on; other devices' changes are
// looked for at every poll, the rarer the longer nothing happens; what apps and the
// gate wrote goes along with the rest, or hourly.
const (
	settle     = 3 * time.Second
	settleMost = 30 * time.Second
	poll       = time.Minute
	pollMost   = 10 * time.Minute
	holdMost   = time.Hour
)

// shutdown is how long calls that go on may take to end.
const shutdown = 1500 * time.Millisecond

// Run holds the locker of c.Home open, answers calls, and syncs: soon after a
// change and at every poll. It returns nil when ctx ends. A process that is killed
// instead loses nothing that was acknowledged.
func Run(ctx context.Context, c Config) error {
	if ok, err := c.Home.exists(); err != nil {
		return err
	} else if !ok {
		return c.Home.missing()
	}
	l, err := Open(ctx, c.Home, "locker daemon", c.Options)
	if err != nil {
		return withCode(err)
	}
	l.serving = true
	defer func() {
		if cerr := l.Close(); cerr != nil {
			l.log.Error("closing", "err", cerr)
		}
	}()
	listener, err := listen(c.Home)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	server := newServer(ctx, l)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	synced := make(chan struct{})
	go func() { defer close(synced); l.keepSynced(ctx) }()
	if c.Ready != nil {
		c.Ready()
	}
	l.log.Info("serving", "home", string(c.Home), "version", l.version)

	select {
	case <-ctx.Done():
	case err = <-served:
		err = fmt.Errorf("serving calls: %w", err)
	}
	cancel()
	stop, done := context.WithTimeout(context.WithoutCancel(ctx), shutdown)
	defer done()
	if serr := server.Shutdown(stop); serr != nil {
		l.log.Warn("calls were cut off", "err", errors.Join(serr, server.Close()))
	}
	<-synced
	if errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	return err
}

// keepSynced syncs until ctx ends. Between passes it sleeps: nothing but a change
// or the timer wakes it.
func (l *Locker) keepSynced(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var first time.Time  // of the changes that wait; zero when none does
	var sealed time.Time // when a pass last held nothing back
	wait := poll
	change := func() {
		now := time.Now()
		if first.IsZero() {
			first = now
		}
		timer.Reset(max(0, min(settle, first.Add(settleMost).Sub(now))))
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.store.Changed():
			change()
		case <-l.changed:
			change()
		case <-timer.C:
			hold := first.IsZero() && time.Since(sealed) < holdMost
			quiet, err := l.pass(ctx, hold)
			switch {
			case ctx.Err() != nil:
				return
			case err != nil:
				l.log.Warn("sync", "err", err)
			case !hold:
				sealed = time.Now()
			}
			if wait *= 2; !quiet || !first.IsZero() {
				wait = poll
			}
			wait = min(wait, pollMost)
			first = time.Time{}
			timer.Reset(wait)
		}
	}
}

// pass is one sync that nobody asked for. quiet says that nothing was sent or found.
func (l *Locker) pass(ctx context.Context, hold bool) (quiet bool, err error) {
	if _, list, _ := l.remotes.get(""); len(list) == 0 {
		return true, nil
	}
	s, err := l.sync(ctx, replica.SyncOptions{Hold: hold})
	for name, why := range s.Failed {
		l.log.Warn("a remote could not be synced with", "remote", name, "err", why)
	}
	return s.ObjectsUp+s.ObjectsDown == 0, err
}

// touch notes that there is something to send.
func (l *Locker) touch() {
	select {
	case l.changed <- struct{}{}:
	default:
	}
}
