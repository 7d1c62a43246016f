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

func (c *Cloud) set(name string, data []byte) { c.SetAt(name, data, c.now()) }

// SetAt makes name stand for data from some time on, or for nothing where data is nil.
func (c *Cloud) SetAt(name string, data []byte, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.versions == nil {
		c.versions = map[string][]version{}
	}
	i, _ := slices.BinarySearchFunc(c.versions[name], at, func(v version, at time.Time) int {
		if v.at.After(at) {
			return 1
		}
		return -1
	})
	c.versions[name] = slices.Insert(c.versions[name], i, version{data, at})
}

func (c *Cloud) now() time.Time {
	if c.Now != nil {
		return c.Now()
	}
	return time.Now()
}

// versionsOf are all versions of a name that are not of the future.
func (c *Cloud) versionsOf(name string) []version {
	now := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(c.versions[name]), func(v version) bool { return v.at.After(now) })
}

// everyName are the names that ever stood for something, in order.
func (c *Cloud) everyName() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Sorted(maps.Keys(c.versions))
}

// Back returns the objects as they were at some time.
func (c *Cloud) Back(to time.Time) map[string][]byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := map[string][]byte{}
	for name, v := range c.versions {
		if data := current(v, to); data != nil {
			all[name] = data
		}
	}
	return all
}

// Object is what a name stands for, or nil.
func (c *Cloud) Object(name string) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return current(c.versions[name], c.now())
}

// current is what a name stands for at some time.
func current(versions []version, now time.Time) (data []byte) {
	for _, v := range versions {
		if !v.at.After(now) {
			data = v.data
		}
	}
	return data
}

// Objects are all objects by name.
func (c *Cloud) Objects() map[string][]byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := map[string][]byte{}
	now := c.now()
	for name, v := range c.versions {
		if data := current(v, now); data != nil {
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
