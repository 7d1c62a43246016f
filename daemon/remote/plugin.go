package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/locker-project/locker/daemon/remote/fault"
	"github.com/locker-project/locker/daemon/replica"
)

// A Client speaks to the process of a remote. plugins.Remote has these methods, with
// plugins.RemoteObject as O; the type is a parameter so that this package, which
// phones link too, needs nothing of plugins and its gRPC.
type Client[O Object] interface {
	Put(ctx context.Context, name string, r io.Reader, size int64) error
	Get(ctx context.Context, name string, off, n int64) (io.ReadCloser, error)
	List(ctx context.Context, prefix string) iter.Seq2[O, error]
	Delete(ctx context.Context, names ...string) error
}

// An Object is a line of a listing: plugins.RemoteObject or the like.
type Object interface {
	~struct {
		Name    string
		Size    int64
		ModTime time.Time
	}
}

// Plugin returns the remote that a process serves. open starts the process and has it
// connect; it is called when the process is needed, and again after it ended, by
// whatever cause. What it returns beside the client ends the process; that is called
// when nothing was done for as long as idle says.
//
// The daemon writes
//
//	remote.Plugin(func(ctx context.Context) (remote.Client[plugins.RemoteObject], func(), error) { … }, idle)
func Plugin[O Object](open func(ctx context.Context) (client Client[O], end func(), err error), idle time.Duration) *PluginRemote {
	return &PluginRemote{idle: idle, open: func(ctx context.Context) (client, func(), error) {
		c, end, err := open(ctx)
		if err != nil {
			return nil, nil, err
		}
		return converted[O]{c}, end, nil
	}}
}

// A client is a Client with the replica's own type of listing.
type client interface {
	Put(ctx context.Context, name string, r io.Reader, size int64) error
	Get(ctx context.Context, name string, off, n int64) (io.ReadCloser, error)
	List(ctx context.Context, prefix string) iter.Seq2[replica.ObjectInfo, error]
	Delete(ctx context.Context, names ...string) error
}

type converted[O Object] struct{ Client[O] }

// Changes is for a process that tells of changes.
func (c converted[O]) Changes(ctx context.Context, changed func(name string)) error {
	if n, ok := c.Client.(notifier); ok {
		return n.Changes(ctx, changed)
	}
	return errors.ErrUnsupported
}

func (c converted[O]) List(ctx context.Context, prefix string) iter.Seq2[replica.ObjectInfo, error] {
	return func(yield func(replica.ObjectInfo, error) bool) {
		for o, err := range c.Client.List(ctx, prefix) {
			if !yield(replica.ObjectInfo(o), err) {
				return
			}
		}
	}
}

// A PluginRemote is a remote that a process of its own talks to. Its methods may be
// called concurrently; they share one process. Transient errors are tried again, as
// told with [Plugin]'s package.
type PluginRemote struct {
	open func(context.Context) (client, func(), error)
	idle time.Duration
	slow pace // how patient to be; zero is the default

	own  own
	away atomic.Bool // the last call found that it cannot be reached

	mu      sync.Mutex
	process *process // nil: none runs
	timer   *time.Timer
	closed  bool
}

var _ replica.Remote = (*PluginRemote)(nil)

// A process is a running process. Its fields are guarded by the remote's mutex.
type process struct {
	ready  chan struct{} // closed when client or err is set
	client client
	end    func()
	err    error
	users  int
	broken bool // to be ended when the last user is done; new users get another
}

var errClosed = errors.New("the remote was closed")

// acquire returns a client of a running process, which it starts if there is none.
// What it returns beside gives the process back; broken: it is not to be used again.
func (p *PluginRemote) acquire(ctx context.Context) (client, func(broken bool), error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, nil, errClosed
	}
	if p.timer != nil {
		p.timer.Stop()
	}
	proc := p.process
	if proc == nil {
		proc = &process{ready: make(chan struct{})}
		p.process = proc
		go p.start(context.WithoutCancel(ctx), proc)
	}
	proc.users++
	p.mu.Unlock()
	done := func(broken bool) { p.release(proc, broken) }
	select {
	case <-proc.ready:
	case <-ctx.Done():
		done(false)
		return nil, nil, ctx.Err()
	}
	if proc.err != nil {
		done(true)
		return nil, nil, proc.err
	}
	return proc.client, done, nil
}

// start starts a process. It goes on when the caller who needed it first gives up,
// since others may wait for it too, but only so long.
func (p *PluginRemote) start(ctx context.Context, proc *process) {
	ctx, cancel := context.WithTimeout(ctx, p.slow.orDefault().start)
	defer cancel()
	c, end, err := p.open(ctx)
	if err != nil && ctx.Err() != nil {
		err = &fault.Fault{Kind: fault.Offline, What: "the remote did not answer in time", Do: "check the network and the remote's address", Again: true, Err: err}
	}
	p.mu.Lock()
	proc.client, proc.end, proc.err = c, end, err
	p.mu.Unlock()
	close(proc.ready)
	p.mu.Lock()
	var after func()
	if proc.users == 0 {
		after = p.unused(proc)
	}
	p.mu.Unlock()
	if after != nil {
		after()
	}
}

// release gives a process back.
func (p *PluginRemote) release(proc *process, broken bool) {
	p.mu.Lock()
	proc.users--
	if broken {
		proc.broken = true
		if p.process == proc {
			p.process = nil
		}
	}
	var after func()
	if proc.users == 0 {
		after = p.unused(proc)
	}
	p.mu.Unlock()
	if after != nil {
		after()
	}
}

// unused decides what becomes of a process that nobody uses now: it is ended at once,
// by what unused returns, or later. p.mu is held.
func (p *PluginRemote) unused(proc *process) func() {
	select {
	case <-proc.ready:
	default:
		return nil // start comes back to it
	}
	if proc.end == nil || proc.broken || p.closed || p.idle <= 0 {
		return p.drop(proc)
	}
	p.timer = time.AfterFunc(p.idle, func() {
		p.mu.Lock()
		var end func()
		if proc.users == 0 && p.process == proc {
			end = p.drop(proc)
		}
		p.mu.Unlock()
		if end != nil {
			end()
		}
	})
	return nil
}

// drop forgets a process and returns what ends it, or nil. p.mu is held.
func (p *PluginRemote) drop(proc *process) func() {
	if p.process == proc {
		p.process = nil
	}
	end := proc.end
	proc.end = nil
	return end
}

// Close ends the process and what it is doing. The remote cannot be used any more.
func (p *PluginRemote) Close() error {
	p.mu.Lock()
	p.closed = true
	if p.timer != nil {
		p.timer.Stop()
	}
	proc := p.process
	p.mu.Unlock()
	if proc == nil {
		return nil
	}
	<-proc.ready
	p.mu.Lock()
	end := p.drop(proc)
	p.mu.Unlock()
	if end != nil {
		end()
	}
	return nil
}

// Put stores an object, from r's present position on.
func (p *PluginRemote) Put(ctx context.Context, name string, r io.ReadSeeker, size int64) error {
	if err := checkName(name); err != nil {
		return err
	}
	begin, err := r.Seek(0, io.SeekCurrent)
	if err != nil {
		return fmt.Errorf("the object cannot be read: %w", err)
	}
	if end, err := r.Seek(0, io.SeekEnd); err == nil && end-begin != size {
		return wrongSize(end-begin, size)
	}
	p.own.add(name)
	return p.do(ctx, func(ctx context.Context, c client, w *watch) error {
		if _, err := r.Seek(begin, io.SeekStart); err != nil {
			return &local{fmt.Errorf("the object cannot be read: %w", err)}
		}
		body := &sourceReader{r: r, left: size, size: size, w: w}
		err := c.Put(ctx, name, body, size)
		if body.err != nil {
			return &local{body.err}
		}
		if err == nil && body.left > 0 {
			return &fault.Fault{Kind: fault.Broken, What: "the remote did not take the whole object", Again: true}
		}
		return err
	})
}

// Get opens an object. When reading it breaks off, it is opened again where it broke.
func (p *PluginRemote) Get(ctx context.Context, name string, off, n int64) (io.ReadCloser, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	b := &body{remote: p, ctx: ctx, name: name, off: off, left: n}
	if err := b.reopen(); err != nil {
		return nil, err
	}
	return b, nil
}

// List yields the objects whose names begin with prefix, in no order. Names that no
// object has are passed over. A listing that breaks off begins anew, and may then
// yield a name twice.
func (p *PluginRemote) List(ctx context.Context, prefix string) iter.Seq2[replica.ObjectInfo, error] {
	return func(yield func(replica.ObjectInfo, error) bool) {
		err := p.do(ctx, func(ctx context.Context, c client, w *watch) error {
			for info, err := range c.List(ctx, prefix) {
				if err != nil {
					return err
				}
				w.pause() // the caller may take its time
				if objectName.MatchString(info.Name) && strings.HasPrefix(info.Name, prefix) && !yield(info, nil) {
					return &local{nil}
				}
				w.moved()
			}
			return nil
		})
		if err != nil {
			yield(replica.ObjectInfo{}, err)
		}
	}
}

// Delete removes objects.
func (p *PluginRemote) Delete(ctx context.Context, names ...string) error {
	for _, name := range names {
		if err := checkName(name); err != nil {
			return err
		}
	}
	const batch = 100 // bounds how long one call takes
	for len(names) > 0 {
		n := min(batch, len(names))
		err := p.do(ctx, func(ctx context.Context, c client, _ *watch) error { return c.Delete(ctx, names[:n]...) })
		if err != nil && !errors.Is(err, replica.ErrNotFound) {
			return err
		}
		names = names[n:]
	}
	return nil
}
