package replica

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
)

// A link is a remote during one pass: it counts, bounds what is read, and is left
// alone once it failed.
type link struct {
	Named
	count *counts

	mu      sync.Mutex
	err     error
	full    bool // it takes no packs for want of room
	sending bool // it is being sent to

	room []byte // memory of what is sent; of the one goroutine that sends
	sure bool   // the clone check was made: this device may put
}

// counts are what a pass did, over all remotes.
type counts struct {
	requests, up, down, bytesUp, bytesDown atomic.Int64
}

// failed is why the remote is left alone, or nil.
func (l *link) failed() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// fail notes that the remote does not work, unless the pass itself was ended.
func (l *link) fail(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.err = err
	}
	return err
}

// errTooLong says that an object is longer than any that is made.
var errTooLong = errors.New("it is longer than any object that is made")

// get reads a whole object. The error is ErrNotFound or errTooLong, which are
// answers, or else the remote is left alone from then on.
func (l *link) get(ctx context.Context, name string) ([]byte, error) {
	object, err := l.getPart(ctx, name, -1)
	if err == nil {
		l.count.down.Add(1)
	}
	return object, err
}

// has says whether the remote has an object of this name, of whatever content.
func (l *link) has(ctx context.Context, name string) (bool, error) {
	_, err := l.getPart(ctx, name, 1)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

func (l *link) getPart(ctx context.Context, name string, n int64) ([]byte, error) {
	if err := l.failed(); err != nil {
		return nil, err
	}
	l.count.requests.Add(1)
	body, err := l.Remote.Get(ctx, name, 0, n)
	if errors.Is(err, ErrNotFound) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, l.fail(ctx, fmt.Errorf("reading from the remote: %w", err))
	}
	defer body.Close()
	object, err := io.ReadAll(io.LimitReader(body, maxObject+1))
	l.count.bytesDown.Add(int64(len(object)))
	switch {
	case errors.Is(err, ErrNotFound):
		return nil, ErrNotFound
	case err != nil:
		return nil, l.fail(ctx, fmt.Errorf("reading from the remote: %w", err))
	case len(object) > maxObject:
		return nil, errTooLong
	}
	return object, nil
}

// getRange reads n bytes of an object from off on, into buf where that has room. Fewer
// are an error, which leaves the remote in use: it may only show a part.
func (l *link) getRange(ctx context.Context, name string, off, n int64, buf []byte) ([]byte, error) {
	if err := l.failed(); err != nil {
		return nil, err
	}
	l.count.requests.Add(1)
	body, err := l.Remote.Get(ctx, name, off, n)
	if errors.Is(err, ErrNotFound) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, l.fail(ctx, fmt.Errorf("reading from the remote: %w", err))
	}
	defer body.Close()
	if int64(cap(buf)) < n {
		buf = make([]byte, n)
	}
	m, err := io.ReadFull(body, buf[:n])
	l.count.bytesDown.Add(int64(m))
	switch {
	case err == nil:
		l.count.down.Add(1)
		return buf[:n], nil
	case errors.Is(err, ErrNotFound):
		return nil, ErrNotFound
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return nil, fmt.Errorf("it has %d bytes where there should be %d", off+int64(m), off+n)
	}
	return nil, l.fail(ctx, fmt.Errorf("reading from the remote: %w", err))
}

func (l *link) put(ctx context.Context, name string, object []byte) error {
	err := l.tryPut(ctx, name, object)
	if isFull(err) {
		return l.fail(ctx, err)
	}
	return err
}

// tryPut is put, but that a remote that has no room for the object stays in use.
func (l *link) tryPut(ctx context.Context, name string, object []byte) error {
	if err := l.failed(); err != nil {
		return err
	}
	l.count.requests.Add(1)
	if err := l.Remote.Put(ctx, name, bytes.NewReader(object), int64(len(object))); isFull(err) && ctx.Err() == nil {
		return fmt.Errorf("the remote is full: %w", err)
	} else if err != nil {
		return l.fail(ctx, fmt.Errorf("writing to the remote: %w", err))
	}
	l.count.up.Add(1)
	l.count.bytesUp.Add(int64(len(object)))
	return nil
}

func (l *link) delete(ctx context.Context, names ...string) error {
	if err := l.failed(); err != nil {
		return err
	}
	l.count.requests.Add(1)
	if err := l.Remote.Delete(ctx, names...); err != nil && !errors.Is(err, ErrNotFound) {
		return l.fail(ctx, fmt.Errorf("deleting on the remote: %w", err))
	}
	return nil
}

// maxListing bounds how many names of a listing are looked at.
const maxListing = 1 << 20

// list returns the names in the two folders that are names of objects, and counts
// the others. It is a hint: what is missing in it may be there.
func (l *link) list(ctx context.Context) (names map[string]int64, misfits int, err error) {
	names = map[string]int64{}
	for _, prefix := range []string{"k/", "d/"} {
		if err := l.failed(); err != nil {
			return nil, 0, err
		}
		l.count.requests.Add(1)
		for info, err := range l.Remote.List(ctx, prefix) {
			if err != nil {
				return nil, 0, l.fail(ctx, fmt.Errorf("listing the remote: %w", err))
			}
			if len(names)+misfits >= maxListing {
				return names, misfits, nil
			}
			if validName(info.Name) && info.Name[:2] == prefix {
				names[info.Name] = info.Size
			} else {
				misfits++
			}
		}
	}
	return names, misfits, nil
}

// A verdict is what came of looking for an object.
type verdict int

const (
	found       verdict = iota
	missing             // every remote that answered says that it is not there
	bad                 // something is there that is not the object
	closed              // it may be good, but its epoch or its writer is not known yet
	newer               // it is of a newer version of the format
	unreachable         // no remote answered
)

// An object is one that was found and checked.
type object struct {
	ref    Ref
	name   string
	id     string
	log    []byte
	header *header
	frames []byte
	sealed []byte
	why    error // with bad, closed and newer
}

// ask is fetch, asking the remotes now.
func (p *pass) ask(ctx context.Context, ref Ref) (object, verdict, error) {
	best, result := object{ref: ref, name: p.sealer.Name(ref)}, unreachable
	for _, l := range p.links {
		if l.failed() != nil {
			continue
		}
		sealed, err := l.get(ctx, best.name)
		if ctx.Err() != nil {
			return best, unreachable, ctx.Err()
		}
		v, o := missing, object{ref: ref, name: best.name}
		switch {
		case errors.Is(err, ErrNotFound):
		case errors.Is(err, errTooLong):
			v, o.why = bad, err
		case err != nil:
			continue
		default:
			o, v = p.open(ref, sealed)
		}
		if v == found {
			return o, found, nil
		}
		if rank(v) > rank(result) {
			best, result = o, v
		}
	}
	return best, result, nil
}

// rank orders what remotes say of one object: what tells most counts.
func rank(v verdict) int {
	return map[verdict]int{unreachable: 0, missing: 1, bad: 2, closed: 3, newer: 4, found: 5}[v]
}

// open checks an object.
func (p *pass) open(ref Ref, sealed []byte) (object, verdict) {
	o := object{ref: ref, name: p.sealer.Name(ref), sealed: sealed}
	var err error
	o.log, o.frames, o.id, err = p.sealer.Open(ref, sealed)
	if err == nil {
		o.header, err = parseHeader(o.log)
	}
	o.why = err
	var notYet interface{ NotYet() bool }
	var newerVersion interface{ Newer() bool }
	switch {
	case err == nil:
		return o, found
	case errors.Is(err, errNewer), errors.As(err, &newerVersion) && newerVersion.Newer():
		return o, newer
	case errors.As(err, &notYet) && notYet.NotYet():
		return o, closed
	}
	return o, bad
}
