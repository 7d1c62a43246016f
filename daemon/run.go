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

// shutdown is how long calls that go on may take to end.
const shutdown = 1500 * time.Millisecond

// Run holds the locker of c.Home open, answers calls, and syncs: soon after a
// change, and to look for those of other devices (see pace). It returns nil
// when ctx ends. A process that is killed instead loses nothing that was acknowledged.
func Run(ctx context.Context, c Config) error {
	if ok, err := c.Home.exists(); err != nil {
		return err
	} else if !ok {
		return c.Home.missing()
	}
	c.Passphrase = remembered(c.Passphrase)
	for {
		again, err := runOnce(ctx, c)
		if !again {
			return err
		}
		c.Ready = nil
	}
}

// runOnce is Run until the locker has to be opened anew, because this device became
// another one.
func runOnce(ctx context.Context, c Config) (again bool, err error) {
	l, err := Open(ctx, c.Home, "locker daemon", c.Options)
	if err != nil {
		return false, withCode(err)
	}
	defer func() {
		if cerr := l.Close(); cerr != nil {
			l.log.Error("closing", "err", cerr)
		}
	}()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	l.heed = func(r replica.Remote) { go l.tellOf(ctx, r) }
	for _, named := range l.remotes.named() {
		l.heed(named.Remote)
	}
	stop, served, err := l.serve(ctx)
	if err != nil {
		return false, err
	}
	synced := make(chan struct{})
	go func() { defer close(synced); l.keepSynced(ctx) }()
	if c.Ready != nil {
		c.Ready()
	}
	l.log.Info("serving", "home", string(c.Home), "version", l.version)

	select {
	case <-ctx.Done():
	case <-l.renewed:
		again = true
	case err = <-served:
	}
	cancel()
	stop()
	<-synced
	return again && err == nil, err
}

// serve answers calls of other processes until stop is called or ctx ends. What it
// sends on served is why it does not any more.
func (l *Locker) serve(ctx context.Context) (stop func(), served <-chan error, err error) {
	listener, err := listen(l.home)
	if err != nil {
		return nil, nil, err
	}
	l.serving = true
	server := newServer(ctx, l)
	ended := make(chan error, 1)
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			ended <- fmt.Errorf("serving calls: %w", err)
		}
	}()
	return func() {
		most, done := context.WithTimeout(context.WithoutCancel(ctx), shutdown)
		defer done()
		if err := server.Shutdown(most); err != nil {
			l.log.Warn("calls were cut off", "err", errors.Join(err, server.Close()))
		}
	}, ended, nil
}

// keepSynced syncs until ctx ends, as its pace says. Between passes it sleeps:
// nothing but a change, a call, a remote that tells of news, or the timer wakes it.
func (l *Locker) keepSynced(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	p := newPace(time.Now())
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.store.Changed():
			p.change(time.Now())
		case <-l.changed:
			p.change(time.Now())
		case <-l.called:
			p.act(time.Now())
		case <-l.told:
			p.tell(time.Now())
		case <-timer.C:
			now := time.Now()
			o, due := p.due(now)
			if !due {
				break
			}
			s, err := l.pass(ctx, o)
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				l.log.Warn("sync", "err", err)
			}
			p.passed(time.Now(), o, s, err)
		}
		timer.Reset(time.Until(p.next()))
	}
}

// pass is one sync that nobody asked for.
func (l *Locker) pass(ctx context.Context, o replica.SyncOptions) (replica.Summary, error) {
	if _, list, _ := l.remotes.get(""); len(list) == 0 {
		return replica.Summary{}, nil
	}
	may := l.allowed(ctx)
	if !may.Sync {
		l.log.Debug("no sync", "why", may.Why)
		return replica.Summary{}, nil
	}
	o.Metered = !may.Bulk
	s, err := l.sync(ctx, o)
	for name, why := range s.Failed {
		l.log.Warn("a remote could not be synced with", "remote", name, "err", why)
	}
	return s, err
}

// tellOf passes on until ctx ends that a remote tells of news, where it can.
func (l *Locker) tellOf(ctx context.Context, r replica.Remote) {
	n, ok := r.(interface {
		Changed(context.Context) <-chan struct{}
	})
	if !ok {
		return
	}
	for range n.Changed(ctx) {
		signal(l.told)
	}
}

// signal wakes who waits for c.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// touch notes that there is something to send.
func (l *Locker) touch() { signal(l.changed) }
