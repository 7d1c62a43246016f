// Package replicatest tests remotes and what is built on them: a conformance suite
// for implementations of replica.Remote, and remotes in memory that are slow,
// broken or hostile in the ways in which clouds are.
package replicatest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/locker-project/locker/daemon/replica"
)

// A Cloud keeps objects in memory. As a Remote it is prompt and honest; its other
// methods are what a hostile operator can do. Its methods may be called
// concurrently. The zero Cloud is empty and ready.
type Cloud struct {
	// Fault, where it is set, is asked before each request; what it returns is the
	// request's error. op is "put", "get", "list" or "delete".
	Fault func(op, name string) error
	// Now stamps versions for readers that see them late; nil is time.Now.
	Now func() time.Time

	mu       sync.Mutex
	versions map[string][]version
	requests map[string]int
}

// A version is what a name stood for from some time on; nil is deleted.
type version struct {
	data []byte
	at   time.Time
}

var _ replica.Remote = (*Cloud)(nil)

func (c *Cloud) ask(op, name string) error {
	c.mu.Lock()
	if c.requests == nil {
		c.requests = map[string]int{}
	}
	c.requests[op]++
	fault := c.Fault
	c.mu.Unlock()
	if fault != nil {
		return fault(op, name)
	}
	return nil
}

// Requests returns how many requests of a kind there were: "put", "get", "list",
// "delete".
func (c *Cloud) Requests(op string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.requests[op]
}

// Put keeps an object.
func (c *Cloud) Put(ctx context.Context, name string, r io.ReadSeeker, size int64) error {
	if err := c.ask("put", name); err != nil {
		return err
	}
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if int64(len(data)) != size {
		return errors.New("the object is not as long as was said")
	}
	c.Set(name, data)
	return ctx.Err()
}

// Get returns a part of an object.
func (c *Cloud) Get(ctx context.Context, name string, off, n int64) (io.ReadCloser, error) {
	if err := c.ask("get", name); err != nil {
		return nil, err
	}
	return part(c.Object(name), off, n)
}

func part(data []byte, off, n int64) (io.ReadCloser, error) {
	if data == nil {
		return nil, replica.ErrNotFound
	}
	data = data[min(off, int64(len(data))):]
	if n >= 0 {
		data = data[:min(n, int64(len(data)))]
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

// List yields the objects under a prefix.
func (c *Cloud) List(ctx context.Context, prefix string) iter.Seq2[replica.ObjectInfo, error] {
	return func(yield func(replica.ObjectInfo, error) bool) {
		if err := c.ask("list", prefix); err != nil {
			yield(replica.ObjectInfo{}, err)
			return
		}
		objects := c.Objects()
		for _, name := range slices.Sorted(maps.Keys(objects)) {
			if strings.HasPrefix(name, prefix) && !yield(replica.ObjectInfo{Name: name, Size: int64(len(objects[name]))}, nil) {
				return
			}
		}
	}
}

// Delete removes objects.
func (c *Cloud) Delete(ctx context.Context, names ...string) error {
	for _, name := range names {
		if err := c.ask("delete", name); err != nil {
			return err
		}
		c.Remove(name)
	}
	return nil
}

// Set makes name stand for data.
func (c *Cloud) Set(name string, data []byte) { c.set(name, slices.Clip(data)) }

// Remove makes name stand for nothing.
func (c *Cloud) Remove(name string) { c.set(name, nil) }

func (c *Cloud) set(name string, data []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.versions == nil {
		c.versions = map[string][]version{}
	}
	now := time.Now()
	if c.Now != nil {
		now = c.Now()
	}
	c.versions[name] = append(c.versions[name], version{data, now})
}

// Object is what a name stands for, or nil.
func (c *Cloud) Object(name string) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	v := c.versions[name]
	if len(v) == 0 {
		return nil
	}
	return v[len(v)-1].data
}

// Objects are all objects by name.
func (c *Cloud) Objects() map[string][]byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := map[string][]byte{}
	for name, v := range c.versions {
		if data := v[len(v)-1].data; data != nil {
			all[name] = data
		}
	}
	return all
}

// Names are the names of all objects, in order.
func (c *Cloud) Names() []string { return slices.Sorted(maps.Keys(c.Objects())) }

// Reset makes the cloud hold these objects and no others: a former state of itself,
// for one.
func (c *Cloud) Reset(objects map[string][]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.versions = map[string][]version{}
	for name, data := range objects {
		c.versions[name] = []version{{data, time.Time{}}}
	}
}

// A Laggy is what one reader sees of an honest but slow cloud: objects appear and
// vanish late, a large one is cut while it becomes visible, uploads fail and
// happened nevertheless, or left a part. What was put and returned nil stays.
type Laggy struct {
	Cloud *Cloud
	// Delay is the most by which a change is seen late.
	Delay time.Duration
	// Fail is the probability with which an upload returns an error.
	Fail float64

	mu    sync.Mutex
	rand  *rand.Rand
	shown map[*byte]time.Time // when this reader sees a version
}

// NewLaggy returns a reader's view of a cloud. Its choices follow from rnd.
func NewLaggy(c *Cloud, rnd *rand.Rand, delay time.Duration, fail float64) *Laggy {
	return &Laggy{Cloud: c, Delay: delay, Fail: fail, rand: rnd, shown: map[*byte]time.Time{}}
}

var _ replica.Remote = (*Laggy)(nil)

var errDropped = errors.New("the connection was dropped")

// Put keeps an object, unless chance wants it to fail.
func (l *Laggy) Put(ctx context.Context, name string, r io.ReadSeeker, size int64) error {
	l.mu.Lock()
	fails, how := l.rand.Float64() < l.Fail, l.rand.IntN(3)
	cut := l.rand.Int64N(size + 1)
	l.mu.Unlock()
	if !fails {
		return l.Cloud.Put(ctx, name, r, size)
	}
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	switch how {
	case 0: // it happened
		l.Cloud.Set(name, data)
	case 1: // a part of it did
		l.Cloud.Set(name, data[:cut])
	}
	return errDropped
}

// Get returns a part of an object as this reader sees it now.
func (l *Laggy) Get(ctx context.Context, name string, off, n int64) (io.ReadCloser, error) {
	if err := l.Cloud.ask("get", name); err != nil {
		return nil, err
	}
	return part(l.see(name), off, n)
}

// see is the newest version that this reader sees.
func (l *Laggy) see(name string) []byte {
	l.Cloud.mu.Lock()
	versions := slices.Clone(l.Cloud.versions[name])
	now := l.Cloud.Now
	l.Cloud.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	var seen []byte
	for _, v := range versions {
		if len(v.data) == 0 {
			seen = v.data
			continue
		}
		at, ok := l.shown[&v.data[0]]
		if !ok {
			at = v.at.Add(time.Duration(l.rand.Int64N(int64(l.Delay) + 1)))
			l.shown[&v.data[0]] = at
		}
		switch since := now().Sub(at); {
		case since < 0:
		case since < l.Delay/10 && l.rand.IntN(4) == 0:
			seen = v.data[:l.rand.IntN(len(v.data))]
		default:
			seen = v.data
		}
	}
	return seen
}

// List yields what this reader sees; a name may come twice, or not yet.
func (l *Laggy) List(ctx context.Context, prefix string) iter.Seq2[replica.ObjectInfo, error] {
	return func(yield func(replica.ObjectInfo, error) bool) {
		for _, name := range l.Cloud.Names() {
			data := l.see(name)
			if data == nil || !strings.HasPrefix(name, prefix) {
				continue
			}
			l.mu.Lock()
			times := []int{0, 1, 1, 1, 2}[l.rand.IntN(5)]
			l.mu.Unlock()
			for range times {
				if !yield(replica.ObjectInfo{Name: name, Size: int64(len(data))}, nil) {
					return
				}
			}
		}
	}
}

// Delete removes objects.
func (l *Laggy) Delete(ctx context.Context, names ...string) error {
	return l.Cloud.Delete(ctx, names...)
}
