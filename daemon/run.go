package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
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
// looked for every poll.
const (
	settle     = 3 * time.Second
	settleMost = 30 * time.Second
	poll       = time.Minute
	shutdown   = 5 * time.Second
)

// Run holds the locker of c.Home open, answers calls, and syncs: soon after a
// change and at every poll. It returns nil when ctx ends. A process that is killed
// instead loses nothing that was acknowledged.
func Run(ctx context.Context, c Config) error {
	if ok, err := c.Home.exists(); err != nil {
		return err
	} else if !ok {
		return failed("make one with 'locker init', or get yours back with 'locker restore'", "there is no locker in %s", string(c.Home))
	}
	l, err := Open(ctx, c.Home, "locker daemon", c.Options)
	if err != nil {
		return err
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

// keepSynced syncs until ctx ends.
func (l *Locker) keepSynced(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var first time.Time // of the changes that wait; zero when none does
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.changed:
			now := time.Now()
			if first.IsZero() {
				first = now
			}
			timer.Reset(max(0, min(settle, first.Add(settleMost).Sub(now))))
		case <-timer.C:
			first = time.Time{}
			if _, err := l.sync(ctx, false); err != nil && ctx.Err() == nil {
				l.log.Warn("sync", "err", err)
			}
			timer.Reset(poll)
		}
	}
}

// touch notes that there is something to send.
func (l *Locker) touch() {
	select {
	case l.changed <- struct{}{}:
	default:
	}
}
