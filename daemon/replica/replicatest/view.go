package replicatest

import (
	"context"
	"encoding/binary"
	"errors"
	"hash/fnv"
	"io"
	"iter"
	"strings"
	"sync"
	"time"

	"github.com/locker-project/locker/daemon/replica"
)

// A View is what one reader sees of an honest but poor cloud: objects appear and
// vanish late, in any order; an object may be cut while it becomes visible; listings
// lack names or have them twice; requests fail, and what failed may have happened,
// or a part of it, or happen later. What was put and returned nil stays.
//
// Each answer follows from Seed and from what is asked for the how-manieth time: not
// from the order in which goroutines ask.
type View struct {
	Cloud *Cloud
	Seed  uint64
	// Delay is the most by which a change is seen late.
	Delay time.Duration
	// Fail and FailGet are the probabilities with which an upload or deletion, and
	// any other request, returns an error.
	Fail, FailGet float64
	// Before, where it is set, is asked before each request; what it returns is the
	// request's error. op is "put", "get", "list" or "delete".
	Before func(ctx context.Context, op, name string) error

	mu    sync.Mutex
	asked map[string]uint64
}

var _ replica.Remote = (*View)(nil)

// ErrDropped is the error of requests that chance lets fail.
var ErrDropped = errors.New("the connection was dropped")

// chance is a number in [0, 1) that follows from what is asked.
func (v *View) chance(what, name string, n uint64) float64 {
	h := fnv.New64a()
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:], v.Seed)
	binary.LittleEndian.PutUint64(b[8:], n)
	_, _ = h.Write(b[:])
	_, _ = io.WriteString(h, what)
	_, _ = io.WriteString(h, name)
	x := h.Sum64()
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9 // fnv alone is not even
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return float64((x^x>>31)>>11) / (1 << 53)
}

// ask counts a request and returns the how-manieth of its kind it is.
func (v *View) ask(ctx context.Context, op, name string) (n uint64, err error) {
	if v.Before != nil {
		if err := v.Before(ctx, op, name); err != nil {
			return 0, err
		}
	}
	v.mu.Lock()
	if v.asked == nil {
		v.asked = map[string]uint64{}
	}
	v.asked[op+name]++
	n = v.asked[op+name]
	v.mu.Unlock()
	return n, v.Cloud.ask(op, name)
}

// Put keeps an object, unless chance wants it to fail.
func (v *View) Put(ctx context.Context, name string, r io.ReadSeeker, size int64) error {
	n, err := v.ask(ctx, "put", name)
	if err != nil {
		return err
	}
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if int64(len(data)) != size {
		return errors.New("the object is not as long as was said")
	}
	if v.chance("fails", name, n) >= v.Fail {
		v.Cloud.Set(name, data)
		return ctx.Err()
	}
	switch how := v.chance("how", name, n); {
	case how < 0.3: // it happened
		v.Cloud.Set(name, data)
	case how < 0.6: // a part of it did
		v.Cloud.Set(name, data[:int(v.chance("cut", name, n)*float64(size))])
	case how < 0.7: // it happens later
		v.Cloud.SetAt(name, data, v.Cloud.now().Add(time.Duration(v.chance("late", name, n)*float64(v.Delay))))
	}
	return ErrDropped
}

// Get returns a part of an object as this reader sees it now.
func (v *View) Get(ctx context.Context, name string, off, n int64) (io.ReadCloser, error) {
	count, err := v.ask(ctx, "get", name)
	if err != nil {
		return nil, err
	}
	data := v.see(name, count)
	if v.chance("fails get", name, count) >= v.FailGet {
		return part(data, off, n)
	}
	if data == nil || v.chance("how", name, count) < 0.5 {
		return nil, ErrDropped
	}
	body, err := part(data[:int(v.chance("cut", name, count)*float64(len(data)))], off, n)
	return &cutBody{body}, err
}

// A cutBody is a body whose connection is dropped at its end.
type cutBody struct{ io.ReadCloser }

func (c *cutBody) Read(b []byte) (int, error) {
	n, err := c.ReadCloser.Read(b)
	if err == io.EOF {
		err = ErrDropped
	}
	return n, err
}

// see is the newest version that this reader sees.
func (v *View) see(name string, count uint64) (seen []byte) {
	now := v.Cloud.now()
	for i, version := range v.Cloud.versionsOf(name) {
		at := version.at.Add(time.Duration(v.chance("seen", name, uint64(i)) * float64(v.Delay)))
		since := now.Sub(at)
		switch {
		case since < 0:
		case since < v.Delay/10 && len(version.data) > 0 && v.chance("part", name, count) < 0.25:
			seen = version.data[:int(v.chance("size", name, count)*float64(len(version.data)))]
		default:
			seen = version.data
		}
	}
	return seen
}

// List yields what this reader sees; a name may come twice, or not yet.
func (v *View) List(ctx context.Context, prefix string) iter.Seq2[replica.ObjectInfo, error] {
	return func(yield func(replica.ObjectInfo, error) bool) {
		count, err := v.ask(ctx, "list", prefix)
		if err == nil && v.chance("fails list", prefix, count) < v.FailGet {
			err = ErrDropped
		}
		if err != nil {
			yield(replica.ObjectInfo{}, err)
			return
		}
		for _, name := range v.Cloud.everyName() {
			data := v.see(name, count)
			if data == nil || !strings.HasPrefix(name, prefix) {
				continue
			}
			times := 1
			if v.Delay > 0 {
				times = []int{0, 1, 1, 1, 2}[int(v.chance("times", name, count)*5)]
			}
			for range times {
				if !yield(replica.ObjectInfo{Name: name, Size: int64(len(data))}, nil) {
					return
				}
			}
		}
	}
}

// Delete removes objects, unless chance wants it to fail.
func (v *View) Delete(ctx context.Context, names ...string) error {
	for _, name := range names {
		n, err := v.ask(ctx, "delete", name)
		if err != nil {
			return err
		}
		fails := v.chance("fails delete", name, n) < v.Fail
		if !fails || v.chance("how", name, n) < 0.5 {
			v.Cloud.Remove(name)
		}
		if fails {
			return ErrDropped
		}
	}
	return nil
}
