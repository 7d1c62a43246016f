package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/fs/object"

	"github.com/locker-project/locker/daemon/remote/fault"
	"github.com/locker-project/locker/plugins"
)

// objectName is what the names of objects look like; nothing else is touched.
var objectName = regexp.MustCompile(`^[kd]/[a-z2-7]{52}$`)

// folders are where objects lie.
var folders = []string{"k", "d"}

// partPrefix begins the names of objects while they are being uploaded. It has no dot:
// some servers refuse such names, or hide them.
const partPrefix = "new-"

// A cloud is the plugin: one remote, once it was opened.
type cloud struct {
	mu     sync.RWMutex
	opened *opened
	walk   *walk // of the owner who signs in
}

var (
	_ plugins.Remote          = (*cloud)(nil)
	_ plugins.RemoteNotifier  = (*cloud)(nil)
	_ plugins.RemoteDescriber = (*cloud)(nil)
	_ plugins.RemoteSigner    = (*cloud)(nil)
)

// An opened remote does the work.
type opened struct {
	kind       string // rclone's name of the backend
	fs         fs.Fs
	ctx        context.Context // carries rclone's configuration
	clean      func(string) string
	move       bool // upload under another name, then rename
	duplicates bool // several objects can have one name
	blind      bool // an object is not looked up before it is read: its size is not known

	mu     sync.Mutex
	newest map[string]fs.Object // of names that a listing showed more than once
}

func (c *cloud) set(o *opened) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.opened = o
}

// get returns the opened remote, if name is one that it can have.
func (c *cloud) get(ctx context.Context, names ...string) (*opened, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if err := ctx.Err(); err != nil {
		return nil, err // some backends do not look
	}
	if c.opened == nil {
		return nil, &fault.Fault{Kind: fault.Broken, What: "the remote was not opened"}
	}
	for _, name := range names {
		if !objectName.MatchString(name) {
			return nil, &fault.Fault{Kind: fault.Broken, What: fmt.Sprintf("%.80q is not the name of an object", name)}
		}
	}
	return c.opened, nil
}

// with gives a call's context rclone's configuration of this remote.
func (o *opened) with(ctx context.Context) context.Context { return fs.CopyConfig(ctx, o.ctx) }

// Put stores an object.
func (c *cloud) Put(ctx context.Context, name string, r io.Reader, size int64) error {
	o, err := c.get(ctx, name)
	if err != nil {
		return err
	}
	body := &exact{r: r, left: size, size: size}
	err = o.put(o.with(ctx), name, body, size)
	o.forget(name)
	if body.err != nil {
		return body.err
	}
	if err != nil {
		return o.fault(ctx, err, atPut)
	}
	return nil
}

// small is the size in bytes up to which a new object is put at once under its name,
// also where that can be seen in part for a moment: putting it under another name takes
// half as many requests again. Not so where there is an object already, which rclone
// deletes when it cannot replace it.
const small = 32 << 10

// isNew says that there is no object of that name, as far as can be seen.
func (o *opened) isNew(ctx context.Context, name string) bool {
	_, err := o.fs.NewObject(ctx, name)
	return errors.Is(err, fs.ErrorObjectNotFound) || errors.Is(err, fs.ErrorDirNotFound)
}

func (o *opened) put(ctx context.Context, name string, r io.Reader, size int64) error {
	upload, move := name, o.move
	if move && size <= small && o.isNew(ctx, name) {
		whole, err := io.ReadAll(r) // a body that fails must not leave a part of it there
		if err != nil {
			return err
		}
		r, move = bytes.NewReader(whole), false
	}
	if move {
		random := make([]byte, 16)
		_, _ = rand.Read(random)
		upload = name[:2] + partPrefix + hex.EncodeToString(random)
	}
	obj, err := o.fs.Put(ctx, r, object.NewStaticObjectInfo(upload, time.Now(), size, true, nil, nil))
	if err == nil {
		err = check(obj, size)
	}
	if err == nil && move {
		obj, err = o.rename(ctx, obj, name)
		if err == nil {
			err = check(obj, size)
		}
	}
	if err != nil && move && obj != nil {
		o.abandon(ctx, upload)
	}
	return err
}

// check compares what a remote says that it stored with what it was given.
func check(obj fs.Object, size int64) error {
	if got := obj.Size(); got >= 0 && got != size {
		return &fault.Fault{Kind: fault.Broken, What: fmt.Sprintf("the remote stored %d bytes of %d", got, size), Again: true}
	}
	return nil
}

// rename gives an uploaded object its name. Where a backend cannot rename over what is
// there, that is deleted first. An answer can be lost: an upload that is gone, where
// there is an object as large as it was, has its name.
func (o *opened) rename(ctx context.Context, obj fs.Object, name string) (fs.Object, error) {
	upload := obj.Remote()
	moved, err := o.fs.Features().Move(ctx, obj, name)
	if err == nil {
		return moved, nil
	}
	old, findErr := o.fs.NewObject(ctx, name)
	if findErr != nil || ctx.Err() != nil {
		return obj, err
	}
	if old.Size() == obj.Size() && o.isNew(ctx, upload) {
		return old, nil
	}
	if old.Remove(ctx) == nil {
		if moved, err = o.fs.Features().Move(ctx, obj, name); err == nil {
			return moved, nil
		}
	}
	return obj, err
}

// abandon deletes what was uploaded in vain, also when ctx has ended.
func (o *opened) abandon(ctx context.Context, upload string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if obj, err := o.fs.NewObject(ctx, upload); err == nil {
		_ = obj.Remove(ctx)
	}
}

// find looks an object up.
func (o *opened) find(ctx context.Context, name string) (fs.Object, error) {
	o.mu.Lock()
	obj := o.newest[name]
	o.mu.Unlock()
	if obj != nil {
		return obj, nil
	}
	return o.fs.NewObject(ctx, name)
}

// forget forgets which of several objects of a name is the newest.
func (o *opened) forget(name string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.newest, name)
}

// Get opens an object.
func (c *cloud) Get(ctx context.Context, name string, off, n int64) (io.ReadCloser, error) {
	o, err := c.get(ctx, name)
	if err != nil {
		return nil, err
	}
	if off < 0 {
		return nil, &fault.Fault{Kind: fault.Broken, What: "a part begins before the object"}
	}
	obj, err := o.find(o.with(ctx), name)
	if err != nil {
		return nil, o.fault(ctx, err, atGet)
	}
	size := obj.Size()
	if o.blind {
		size = -1
	}
	if n == 0 || (size >= 0 && off >= size) {
		return io.NopCloser(strings.NewReader("")), nil
	}
	end := int64(-1) // of what is read; < 0: not known
	if n > 0 {
		end = off + n - 1
	}
	if size >= 0 && (end < 0 || end >= size) {
		end = size - 1
	}
	var options []fs.OpenOption
	if off > 0 || n > 0 && end != size-1 {
		options = append(options, o.span(off, end))
	}
	body, err := obj.Open(o.with(ctx), options...)
	if err != nil && o.blind && statusOf(err) == http.StatusRequestedRangeNotSatisfiable {
		return io.NopCloser(strings.NewReader("")), nil // the object ends before
	}
	if err != nil {
		return nil, o.fault(ctx, err, atGet)
	}
	part := &part{o: o, ctx: ctx, body: body, left: -1}
	if end >= 0 {
		part.left, part.short = end-off+1, o.blind
	}
	return part, nil
}

// span is the option to read a part of an object. rclone changes its own where it knows
// a size.
func (o *opened) span(off, end int64) fs.OpenOption {
	if !o.blind {
		return &fs.RangeOption{Start: off, End: end}
	}
	value := fmt.Sprintf("bytes=%d-", off)
	if end >= 0 {
		value += fmt.Sprint(end)
	}
	return &fs.HTTPOption{Key: "Range", Value: value}
}

// A part reads as many bytes as are there, and says so when there are fewer.
type part struct {
	o    *opened
	ctx  context.Context
	body io.ReadCloser
	left int64 // < 0: not known
	// short: fewer are no mistake, since it is not known how many there are. The
	// connection itself tells then whether it broke.
	short bool
}

func (p *part) Read(b []byte) (int, error) {
	if p.left == 0 {
		return 0, io.EOF
	}
	if p.left > 0 && int64(len(b)) > p.left {
		b = b[:p.left]
	}
	n, err := p.body.Read(b)
	if p.left > 0 {
		p.left -= int64(n)
	}
	switch {
	case err == io.EOF && p.left > 0 && !p.short:
		err = &fault.Fault{Kind: fault.Broken, What: fmt.Sprintf("the object broke off, %d bytes before its end", p.left), Again: true}
	case err != nil && err != io.EOF:
		err = p.o.fault(p.ctx, err, atGet)
	}
	return n, err
}

func (p *part) Close() error {
	_ = p.body.Close() // what was read was read
	return nil
}

// errEnough ends a listing.
var errEnough = errors.New("enough")

// List yields the objects whose names begin with prefix.
func (c *cloud) List(ctx context.Context, prefix string) iter.Seq2[plugins.RemoteObject, error] {
	return func(yield func(plugins.RemoteObject, error) bool) {
		o, err := c.get(ctx)
		for _, folder := range folders {
			if err == nil && (strings.HasPrefix(folder+"/", prefix) || strings.HasPrefix(prefix, folder+"/")) {
				err = o.list(o.with(ctx), folder, prefix, func(r plugins.RemoteObject) bool { return yield(r, nil) })
			}
		}
		if err == errEnough || err == nil {
			return
		}
		if o != nil {
			err = o.fault(ctx, err, atList)
		}
		yield(plugins.RemoteObject{}, err)
	}
}

// list lists one folder, a page at a time where the backend can.
func (o *opened) list(ctx context.Context, folder, prefix string, yield func(plugins.RemoteObject) bool) error {
	several := &severals{}
	page := func(entries fs.DirEntries) error {
		for _, e := range entries {
			obj, ok := e.(fs.Object)
			if !ok || !objectName.MatchString(obj.Remote()) || !strings.HasPrefix(obj.Remote(), prefix) {
				continue
			}
			if o.duplicates {
				several.add(ctx, obj)
			} else if !yield(line(ctx, obj)) {
				return errEnough
			}
		}
		return ctx.Err()
	}
	var err error
	if listP := o.fs.Features().ListP; listP != nil {
		err = listP(ctx, folder, page)
	} else {
		var entries fs.DirEntries
		if entries, err = o.fs.List(ctx, folder); err == nil {
			err = page(entries)
		}
	}
	if errors.Is(err, fs.ErrorDirNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	o.mu.Lock()
	if o.newest == nil {
		o.newest = map[string]fs.Object{}
	}
	for _, name := range several.more {
		o.newest[name] = several.newest[name]
	}
	o.mu.Unlock()
	for _, obj := range several.newest {
		if !yield(line(ctx, obj)) {
			return errEnough
		}
	}
	return nil
}

// severals finds the newest of objects that have one name.
type severals struct {
	newest map[string]fs.Object
	more   []string // the names that several have
}

func (s *severals) add(ctx context.Context, obj fs.Object) {
	if s.newest == nil {
		s.newest = map[string]fs.Object{}
	}
	name := obj.Remote()
	old, ok := s.newest[name]
	if ok {
		s.more = append(s.more, name)
	}
	if !ok || obj.ModTime(ctx).After(old.ModTime(ctx)) {
		s.newest[name] = obj
	}
}

func line(ctx context.Context, obj fs.Object) plugins.RemoteObject {
	r := plugins.RemoteObject{Name: obj.Remote(), Size: obj.Size()}
	if obj.Fs().Precision() != fs.ModTimeNotSupported {
		r.ModTime = obj.ModTime(ctx)
	}
	return r
}

// Delete removes objects, several at a time.
func (c *cloud) Delete(ctx context.Context, names ...string) error {
	o, err := c.get(ctx, names...)
	if err != nil {
		return err
	}
	const atOnce = 4
	var (
		wg   sync.WaitGroup
		once sync.Once
		turn = make(chan struct{}, atOnce)
		bad  error
	)
	for _, name := range names {
		turn <- struct{}{}
		wg.Go(func() {
			defer func() { <-turn }()
			if err := o.delete(o.with(ctx), name); err != nil {
				once.Do(func() { bad = o.fault(ctx, err, atDelete) })
			}
		})
	}
	wg.Wait()
	return bad
}

// mostDuplicates bounds how many objects of one name are deleted at once.
const mostDuplicates = 100

// delete removes the object of a name, or all objects of it.
func (o *opened) delete(ctx context.Context, name string) error {
	o.forget(name)
	for range mostDuplicates {
		obj, err := o.fs.NewObject(ctx, name)
		if err == nil {
			err = obj.Remove(ctx)
		}
		if errors.Is(err, fs.ErrorObjectNotFound) || errors.Is(err, fs.ErrorDirNotFound) {
			return nil
		}
		if err != nil || !o.duplicates {
			return err
		}
	}
	return &fault.Fault{Kind: fault.Broken, What: "the remote keeps very many objects of one name", Again: true}
}

// exact hands out a body of a known size and remembers if it was another. The last
// bytes are handed out when it is known that nothing follows them, so that no remote
// takes a body of a wrong size for whole.
type exact struct {
	r          io.Reader
	left, size int64
	err        error
}

func (e *exact) Read(p []byte) (int, error) {
	if e.err != nil {
		return 0, e.err
	}
	if e.left == 0 {
		return 0, io.EOF
	}
	if int64(len(p)) > e.left {
		p = p[:e.left]
	}
	n, err := e.r.Read(p)
	e.left -= int64(n)
	if e.left == 0 && (err == nil || err == io.EOF) {
		err = e.end()
	} else if err == io.EOF {
		err = e.mismatch(fmt.Sprint(e.size - e.left))
	}
	if err != nil {
		e.err = err
		return 0, err
	}
	return n, nil
}

// end makes sure that nothing follows.
func (e *exact) end() error {
	var one [1]byte
	switch n, err := io.ReadFull(e.r, one[:]); {
	case n > 0:
		return e.mismatch("more")
	case err != io.EOF:
		return err
	}
	return nil
}

func (e *exact) mismatch(n string) error {
	return &fault.Fault{Kind: fault.Broken, What: fmt.Sprintf("the object has %s bytes, not %d as announced", n, e.size)}
}
