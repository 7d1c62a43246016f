package remote

import (
	"context"
	"errors"
	"io"

	"github.com/locker-project/locker/daemon/remote/fault"
	"github.com/locker-project/locker/daemon/replica"
	"github.com/locker-project/locker/plugins/locker"
)

// A body reads an object, and goes on where it was when the connection breaks.
type body struct {
	remote *PluginRemote
	ctx    context.Context // of the Get that made it, which reads in its stead
	name   string
	off    int64
	left   int64 // bytes still to come; < 0: to the end
	breaks int   // since something was last read

	open    io.ReadCloser // nil: to be opened
	watch   *watch
	done    func(broken bool)
	first   []byte // was read when it was opened
	last    error  // came with first
	ended   error
	scratch [4096]byte
}

// reopen opens the object at the present offset and reads a first piece of it, which
// is when some remotes find out that it is not there.
func (b *body) reopen() error {
	p := b.remote
	return p.retry(b.ctx, func() error {
		c, done, err := p.acquire(b.ctx)
		if err != nil {
			return err
		}
		w := newWatch(b.ctx, p.slow.orDefault().stall)
		rc, err := c.Get(w.ctx, b.name, b.off, b.left)
		if err == nil {
			b.open, b.watch, b.done = rc, w, done
			n, readErr := readSome(rc, b.scratch[:])
			b.first, b.last = b.scratch[:n], readErr
			if n > 0 || readErr == nil || readErr == io.EOF {
				w.pause()
				return nil
			}
			b.open, b.watch, b.done = nil, nil, nil
			rc.Close()
			err = readErr
		}
		err = w.judge(err)
		w.end()
		done(unusable(err))
		return err
	})
}

// readSome reads until it got something or an error.
func readSome(r io.Reader, p []byte) (n int, err error) {
	for range 100 {
		if n, err = r.Read(p); n > 0 || err != nil {
			return n, err
		}
	}
	return 0, io.ErrNoProgress
}

func (b *body) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		if b.ended != nil {
			return 0, b.ended
		}
		if b.left == 0 {
			b.ended = io.EOF
			continue
		}
		if b.open == nil {
			if err := b.reopen(); err != nil {
				b.ended = err
				continue
			}
		}
		n, err := b.piece(p)
		if n > 0 {
			b.breaks = 0
			b.off += int64(n)
			if b.left > 0 {
				b.left -= min(int64(n), b.left)
			}
			return n, nil
		}
		if err != nil {
			b.broke(err)
		}
	}
}

// piece reads what comes next of the open object.
func (b *body) piece(p []byte) (n int, err error) {
	if b.left > 0 && int64(len(p)) > b.left {
		p = p[:b.left]
	}
	if len(b.first) > 0 {
		n = copy(p, b.first)
		b.first = b.first[n:]
		return n, nil
	}
	if b.last != nil {
		return 0, b.last
	}
	b.watch.moved()
	n, b.last = b.open.Read(p)
	b.watch.pause()
	return n, nil
}

// broke decides what follows an error: the end, or another try.
func (b *body) broke(err error) {
	if err == io.EOF {
		b.ended = io.EOF
		return
	}
	err = b.watch.judge(err)
	b.release(unusable(err))
	switch {
	case b.ctx.Err() != nil:
		b.ended = context.Cause(b.ctx)
		return
	case errors.Is(err, replica.ErrNotFound), errors.Is(err, locker.ErrNotFound):
		b.ended = notFound(b.name)
		return
	}
	pace := b.remote.slow.orDefault()
	b.breaks++
	f, ok := fault.Parse(err)
	if !ok || !f.Again || b.breaks >= pace.tries {
		b.ended = err
		return
	}
	if err := sleep(b.ctx, max(pace.pause(b.breaks), min(f.Pause, pace.total))); err != nil {
		b.ended = err
	}
}

// release closes what is open and gives the process back.
func (b *body) release(broken bool) {
	if b.open == nil {
		return
	}
	b.open.Close()
	b.watch.end()
	b.done(broken)
	b.open, b.first, b.last = nil, nil, nil
}

// Close ends reading.
func (b *body) Close() error {
	b.release(false)
	if b.ended == nil {
		b.ended = errors.New("the object was closed")
	}
	return nil
}
