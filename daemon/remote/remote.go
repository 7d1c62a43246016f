// Package remote keeps sealed objects where the owner said: in a folder, or in any
// cloud that rclone speaks to.
//
// Start with [ParseSpec], which reads what the owner typed, and then [Folder] or
// [Plugin], which make a [replica.Remote] of it; [Check] tries one out. A folder is
// read and written here. A cloud is talked to by a process of its own, which
// [Plugin] starts when it is needed and ends when it is idle; this package holds no
// cloud's code and no key.
//
// What the package promises: a Put that returned nil is as durable as the place can
// make it; an object is replaced whole where the place can do that; transient errors
// are tried again, with growing pauses, for a bounded time; every method returns soon
// after its context ends; and errors are a [fault.Fault] that tells the owner what to
// do, or are [replica.ErrNotFound].
package remote

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"

	"github.com/locker-project/locker/daemon/remote/fault"
	"github.com/locker-project/locker/daemon/replica"
)

// objectName is what the names of objects look like; nothing else is read, written,
// listed or deleted.
var objectName = regexp.MustCompile(`^[kd]/[a-z2-7]{52}$`)

// probePrefix begins the names of the objects that Check makes. They look like any
// other name; that a sealed object's begins so has a chance of 2^-55.
const probePrefix = "d/lockerprobe"

// probeSize is that of the smallest object that a locker makes.
const probeSize = 4096

// A Result says how a remote did in [Check].
type Result struct {
	Put, Get, List, Delete time.Duration
	// Warnings are what the owner should know though the remote can be used.
	Warnings []string
}

// Check tries a remote out: it puts an object of random bytes, puts it again, reads
// it back whole and in part, lists it, and deletes it. What earlier checks left
// behind is deleted too. The error says which of these failed.
func Check(ctx context.Context, r replica.Remote) (Result, error) {
	c := &checker{remote: r, name: probeName(), body: make([]byte, probeSize)}
	_, _ = rand.Read(c.body)
	if err := c.write(ctx); err != nil {
		return c.result, err
	}
	if err := c.read(ctx); err != nil {
		return c.result, errors.Join(err, c.remove(ctx))
	}
	if err := c.list(ctx); err != nil {
		return c.result, errors.Join(err, c.remove(ctx))
	}
	return c.result, c.remove(ctx)
}

func probeName() string {
	random := make([]byte, 32)
	_, _ = rand.Read(random)
	tail := strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(random))
	return (probePrefix + tail)[:len("d/")+52]
}

// A checker is one run of Check.
type checker struct {
	remote replica.Remote
	name   string
	body   []byte
	result Result
}

func (c *checker) warn(text string) { c.result.Warnings = append(c.result.Warnings, text) }

func (c *checker) write(ctx context.Context) error {
	began := time.Now()
	for i := range 2 { // the second time over what is there
		if err := c.remote.Put(ctx, c.name, bytes.NewReader(c.body), probeSize); err != nil {
			return fmt.Errorf("writing: %w", err)
		}
		if i == 0 {
			c.result.Put = time.Since(began)
		}
	}
	return nil
}

func (c *checker) read(ctx context.Context) error {
	began := time.Now()
	got, err := c.get(ctx, 0, -1)
	c.result.Get = time.Since(began)
	if err == nil && !bytes.Equal(got, c.body) {
		err = &fault.Fault{Kind: fault.Broken, What: "what was read is not what was written", Do: "do not use this place"}
	}
	if err != nil {
		return fmt.Errorf("reading: %w", err)
	}
	got, err = c.get(ctx, 1000, 100)
	if err == nil && !bytes.Equal(got, c.body[1000:1100]) {
		err = &fault.Fault{Kind: fault.Broken, What: "a part was read wrongly", Do: "do not use this place"}
	}
	if err != nil {
		return fmt.Errorf("reading a part: %w", err)
	}
	return nil
}

// get reads a part of the probe. A remote may show late what was put, so it is asked
// a few times.
func (c *checker) get(ctx context.Context, off, n int64) ([]byte, error) {
	for try := 0; ; try++ {
		body, err := c.remote.Get(ctx, c.name, off, n)
		if errors.Is(err, replica.ErrNotFound) && try < 5 {
			if try == 0 {
				c.warn("what was written can be read only after a while")
			}
			if err := sleep(ctx, time.Second<<try); err != nil {
				return nil, err
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		got, err := io.ReadAll(io.LimitReader(body, probeSize+1))
		return got, errors.Join(err, body.Close())
	}
}

func (c *checker) list(ctx context.Context) error {
	began := time.Now()
	found := false
	var stale []string
	for info, err := range c.remote.List(ctx, probePrefix) {
		if err != nil {
			return fmt.Errorf("listing: %w", err)
		}
		switch {
		case info.Name == c.name:
			found = true
			if info.Size != probeSize {
				c.warn("the listing shows a wrong size")
			}
		case strings.HasPrefix(info.Name, probePrefix) && !info.ModTime.IsZero() && time.Since(info.ModTime) > 24*time.Hour:
			stale = append(stale, info.Name)
		}
	}
	c.result.List = time.Since(began)
	if !found {
		c.warn("what was written is listed only after a while")
	}
	if err := c.remote.Delete(ctx, stale...); err != nil {
		c.warn("what an earlier check left behind could not be deleted")
	}
	return nil
}

// remove deletes the probe, also when ctx has ended meanwhile.
func (c *checker) remove(ctx context.Context) error {
	if ctx.Err() != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
	}
	began := time.Now()
	if err := c.remote.Delete(ctx, c.name); err != nil {
		return fmt.Errorf("deleting: %w", err)
	}
	c.result.Delete = time.Since(began)
	return nil
}

// sleep waits, or returns why ctx ended.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
