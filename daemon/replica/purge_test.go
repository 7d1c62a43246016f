package replica_test

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/locker-project/locker/daemon/replica"
	"github.com/locker-project/locker/daemon/replica/replicatest"
)

// readable is what lies on a cloud in entries and runs of some devices, as d opens it,
// by what it is.
func (w *world) readable(d *device, cloud *replicatest.Cloud, writers ...*device) map[string]string {
	w.t.Helper()
	dec, err := zstd.NewReader(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	defer dec.Close()
	texts := map[string]string{}
	for _, writer := range writers {
		for _, kind := range []string{"entry", "run", "pack"} {
			for number := uint64(1); number < 200; number++ {
				ref := replica.Ref{Kind: kind, Writer: writer.keys.Device(), Number: number}
				object := cloud.Object(d.keys.Name(ref))
				if object == nil {
					continue
				}
				_, frames, _, err := d.keys.Open(ref, object)
				if err != nil {
					w.t.Fatal(err)
				}
				text, err := dec.DecodeAll(frames, nil)
				if err != nil {
					w.t.Fatal(err)
				}
				texts[fmt.Sprintf("%s %d of %s", kind, number, writer.name)] = string(text)
			}
		}
	}
	return texts
}

// newest is the highest number of a device's objects of a kind on the cloud.
func (w *world) newest(d *device, kind string) (newest uint64) {
	for number := uint64(1); number < 200; number++ {
		if w.cloud.Object(d.keys.Name(replica.Ref{Kind: kind, Writer: d.keys.Device(), Number: number})) != nil {
			newest = number
		}
	}
	return newest
}

// holding names what of it holds a text.
func holding(texts map[string]string, text string) (found []string) {
	for name, t := range texts {
		if strings.Contains(t, text) {
			found = append(found, name)
		}
	}
	slices.Sort(found)
	return found
}

// keeps says whether the folder of sealed objects of d has one that holds a text.
func (d *device) keeps(text string, writers ...*device) bool {
	d.w.t.Helper()
	dec, err := zstd.NewReader(nil)
	if err != nil {
		d.w.t.Fatal(err)
	}
	defer dec.Close()
	byName := map[string]replica.Ref{}
	for _, writer := range writers {
		for _, kind := range []string{"entry", "run"} {
			for number := uint64(1); number < 200; number++ {
				ref := replica.Ref{Kind: kind, Writer: writer.keys.Device(), Number: number}
				byName[filepath.Base(d.keys.Name(ref))] = ref
			}
		}
	}
	found := false
	err = filepath.WalkDir(d.dir, func(path string, e fs.DirEntry, err error) error {
		ref, ok := byName[filepath.Base(path)]
		if err != nil || !ok {
			return err
		}
		object, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		_, frames, _, err := d.keys.Open(ref, object)
		if err != nil {
			return err
		}
		lines, err := dec.DecodeAll(frames, nil)
		found = found || bytes.Contains(lines, []byte(text))
		return err
	})
	if err != nil {
		d.w.t.Fatal(err)
	}
	return found
}

// clean fails the test unless the cleanliness is as wanted: REMOTE/NAME and yes or no.
func (d *device) clean(want map[string]bool, names ...*device) {
	d.w.t.Helper()
	list, err := d.Cleanliness(context.Background())
	if err != nil {
		d.w.t.Fatal(err)
	}
	got := map[string]bool{}
	for _, c := range list {
		name := c.Device
		for _, other := range names {
			if other.keys.Device() == c.Device {
				name = other.name
			}
		}
		got[c.Remote+"/"+name] = c.Clean
		if c.Clean == (c.What != "") || c.Clean == c.Since.IsZero() {
			d.w.t.Fatalf("%s: %+v does not say what is in the way, or since when it is clean", d.name, c)
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		d.w.t.Fatalf("%s: clean %v, want %v\n%+v", d.name, got, want, list)
	}
}

// TestPurge: what is purged on one device leaves what all devices have put on all
// remotes, and what they keep; and who asks is told what is in the way.
func TestPurge(t *testing.T) {
	w := newWorld(t)
	other := &replicatest.Cloud{Now: w.now}
	laptop := w.found("laptop", w.cloud, other)
	laptop.sync(full)
	phone := w.restore("phone", w.cloud, other)
	for i := range 30 {
		laptop.state.put(fmt.Sprint("l", i), "stays")
		phone.state.put(fmt.Sprint("p", i), "stays")
		if i%7 == 0 {
			laptop.state.put("secret", fmt.Sprint("unmistakable", i))
			phone.sync(replica.SyncOptions{})
			phone.state.put("secret", fmt.Sprint("unmistakable too", i))
		}
		laptop.sync(replica.SyncOptions{})
		phone.sync(replica.SyncOptions{})
		w.pass(time.Minute)
	}
	all := []*device{laptop, phone}
	for i, cloud := range []*replicatest.Cloud{w.cloud, other} {
		if n := len(holding(w.readable(laptop, cloud, all...), "unmistakable")); n < 10 {
			t.Fatalf("only %d objects with the secret on remote %d", n, i)
		}
	}
	laptop.clean(map[string]bool{})
	laptop.state.ban("secret")
	laptop.clean(map[string]bool{"remote0/laptop": false, "remote1/laptop": false, "remote0/phone": false, "remote1/phone": false}, all...)
	laptop.sync(replica.SyncOptions{})
	laptop.sync(replica.SyncOptions{})
	laptop.clean(map[string]bool{"remote0/laptop": true, "remote1/laptop": true, "remote0/phone": false, "remote1/phone": false}, all...)
	for range 3 {
		phone.sync(replica.SyncOptions{})
		laptop.sync(replica.SyncOptions{})
		w.pass(2 * time.Hour)
	}
	for i, cloud := range []*replicatest.Cloud{w.cloud, other} {
		if found := holding(w.readable(laptop, cloud, all...), "unmistakable"); len(found) > 0 {
			t.Fatalf("still on remote %d: %v", i, found)
		}
	}
	for _, d := range all {
		d.clean(map[string]bool{"remote0/laptop": true, "remote1/laptop": true, "remote0/phone": true, "remote1/phone": true}, all...)
		d.well()
		if d.keeps("unmistakable", all...) {
			t.Fatalf("%s still keeps it", d.name)
		}
		if !d.keeps("stays", d) {
			t.Fatal("nothing is kept at all")
		}
	}
	w.same(all...)
	fresh := w.restore("fresh", w.cloud, other)
	w.same(laptop, phone, fresh)
	fresh.well()
	// Nothing more is done for what is clean.
	before := w.newest(laptop, "base")
	for range 3 {
		w.pass(2 * time.Hour)
		laptop.sync(replica.SyncOptions{})
	}
	if n := w.newest(laptop, "base"); n != before {
		t.Fatalf("base %d, and then base %d", before, n)
	}
	for _, d := range []*device{laptop, phone, fresh} {
		if r, err := d.Verify(context.Background(), "", nil); err != nil || len(r.Missing)+len(r.Bad)+r.Repaired != 0 {
			t.Errorf("%s: verify: %+v, %v", d.name, r, err)
		}
	}
}

// TestPurgeOfAnAbsentDevice: it is named as what is in the way, and writes its log anew
// when it comes back; what it wrote to the record meanwhile goes too.
func TestPurgeOfAnAbsentDevice(t *testing.T) {
	w := newWorld(t)
	laptop := w.found("laptop")
	laptop.sync(full)
	phone := w.restore("phone")
	phone.state.put("secret", "unmistakable")
	phone.sync(full)
	laptop.sync(full)
	laptop.state.ban("secret")
	phone.state.put("secret", "unmistakable, written meanwhile")
	w.pass(40 * 24 * time.Hour)
	for range 3 {
		laptop.sync(full)
	}
	laptop.clean(map[string]bool{"remote0/laptop": true, "remote0/phone": false}, laptop, phone)
	for range 3 {
		phone.sync(full)
		laptop.sync(full)
		w.pass(2 * time.Hour)
	}
	laptop.clean(map[string]bool{"remote0/laptop": true, "remote0/phone": true}, laptop, phone)
	if found := holding(w.readable(laptop, w.cloud, laptop, phone), "unmistakable"); len(found) > 0 {
		t.Fatalf("still there: %v", found)
	}
	w.same(laptop, phone)
}

// TestPurgeOfARemovedDevice: who has adopted its log deletes it.
func TestPurgeOfARemovedDevice(t *testing.T) {
	w := newWorld(t)
	laptop := w.found("laptop")
	laptop.sync(full)
	phone := w.restore("phone")
	phone.state.put("secret", "unmistakable")
	phone.state.put("other", "stays")
	phone.sync(full)
	laptop.sync(full)
	laptop.state.ban("secret")
	laptop.sync(full)
	laptop.clean(map[string]bool{"remote0/laptop": true, "remote0/phone": false}, laptop, phone)
	if _, err := laptop.Remove(context.Background(), phone.keys.Device()); err != nil {
		t.Fatal(err)
	}
	for range 4 {
		laptop.sync(full)
		w.pass(2 * time.Hour)
	}
	laptop.clean(map[string]bool{"remote0/laptop": true, "remote0/phone": true}, laptop, phone)
	if found := holding(w.readable(laptop, w.cloud, laptop, phone), "unmistakable"); len(found) > 0 {
		t.Fatalf("still there: %v", found)
	}
	laptop.well()
	fresh := w.restore("fresh")
	w.same(laptop, fresh)
	fresh.well()
}

// TestPurgeOfABlob: its pack goes from the remote once all devices have read that it
// is forgotten; what is beside it in the pack stays.
func TestPurgeOfABlob(t *testing.T) {
	w := newWorld(t)
	laptop := w.found("laptop")
	laptop.sync(full)
	phone := w.restore("phone")
	secret, stays := laptop.state.addBlob([]byte("unmistakable picture")), laptop.state.addBlob([]byte("another picture"))
	laptop.state.put("secret", secret)
	laptop.state.put("other", stays)
	laptop.sync(full)
	phone.sync(full)
	if err := phone.Blob(context.Background(), secret); err != nil {
		t.Fatal(err)
	}
	if found := holding(w.readable(laptop, w.cloud, laptop), "unmistakable picture"); len(found) == 0 {
		t.Fatal("the blob is not on the cloud")
	}
	laptop.state.ban("secret")
	laptop.sync(full)
	laptop.clean(map[string]bool{"remote0/laptop": false, "remote0/phone": false}, laptop, phone)
	for range 4 {
		w.pass(2 * time.Hour)
		phone.sync(full)
		laptop.sync(full)
	}
	laptop.clean(map[string]bool{"remote0/laptop": true, "remote0/phone": true}, laptop, phone)
	// The id, a keyed hash, stays: in the lines that tell that it is forgotten.
	if found := holding(w.readable(laptop, w.cloud, laptop, phone), "unmistakable picture"); len(found) > 0 {
		t.Errorf("still in %v", found)
	}
	for _, d := range []*device{laptop, phone} {
		if _, _, err := d.state.OpenBlob(context.Background(), secret); err == nil {
			t.Errorf("%s still has the blob", d.name)
		}
		d.well()
	}
	fresh := w.restore("fresh")
	if err := fresh.Blob(context.Background(), stays); err != nil {
		t.Fatal(err)
	}
}

// TestPurgeWithARemoteThatIsAway: that remote is named, and follows when it is back.
func TestPurgeWithARemoteThatIsAway(t *testing.T) {
	w := newWorld(t)
	other := &replicatest.Cloud{Now: w.now}
	laptop := w.found("laptop", w.cloud, other)
	laptop.state.put("secret", "unmistakable")
	laptop.sync(full)
	down := true
	other.Fault = func(string, string) error {
		if down {
			return fmt.Errorf("no route")
		}
		return nil
	}
	laptop.state.ban("secret")
	for range 3 {
		laptop.sync(full)
		w.pass(time.Hour)
	}
	laptop.clean(map[string]bool{"remote0/laptop": true, "remote1/laptop": false}, laptop)
	for i := range 60 { // compaction goes on meanwhile
		laptop.state.put(fmt.Sprint(i), "more")
		laptop.sync(replica.SyncOptions{})
	}
	down = false
	for range 3 {
		laptop.sync(full)
		w.pass(time.Hour)
	}
	laptop.clean(map[string]bool{"remote0/laptop": true, "remote1/laptop": true}, laptop)
	if found := holding(w.readable(laptop, other, laptop), "unmistakable"); len(found) > 0 {
		t.Fatalf("still there: %v", found)
	}
	laptop.well()
}

// TestPurgeTwice: a device that was away for two purges learns of both in one pass.
func TestPurgeTwice(t *testing.T) {
	w := newWorld(t)
	laptop := w.found("laptop")
	for _, id := range []string{"1", "2", "3"} {
		laptop.state.put(id, "text "+id)
	}
	laptop.sync(replica.SyncOptions{})
	phone := w.restore("phone")
	for _, id := range []string{"2", "3"} {
		laptop.state.ban(id)
		w.pass(time.Second)
		laptop.restart()
		laptop.sync(replica.SyncOptions{})
		w.pass(time.Second)
	}
	phone.restart()
	phone.sync(replica.SyncOptions{})
	w.same(laptop, phone)
}

// TestPurgeAfterACrash: at whatever step of a purge a device is cut off, it goes on.
func TestPurgeAfterACrash(t *testing.T) {
	for at, blown := int64(1), true; blown; at++ {
		w := newWorld(t)
		f := &fuse{}
		laptop := w.found("laptop")
		laptop.fragile(f)
		laptop.restart()
		for i := range 3 {
			laptop.state.put("secret", fmt.Sprint("unmistakable", i))
			laptop.state.put("other", fmt.Sprint("stays", i))
			laptop.sync(replica.SyncOptions{})
		}
		laptop.state.ban("secret")
		f.left.Store(at)
		for range 3 {
			_, _ = laptop.Sync(context.Background(), full) // it may be cut off
		}
		blown = f.blown.Load()
		f.left.Store(0)
		f.blown.Store(false)
		if blown {
			laptop.restart()
		}
		for range 3 {
			laptop.sync(full)
			w.pass(time.Hour)
		}
		laptop.clean(map[string]bool{"remote0/laptop": true}, laptop)
		if found := holding(w.readable(laptop, w.cloud, laptop), "unmistakable"); len(found) > 0 || laptop.keeps("unmistakable", laptop) {
			t.Fatalf("cut off at step %d: still there: %v", at, found)
		}
		laptop.well()
		if !blown {
			t.Logf("%d steps", at)
			w.same(laptop, w.restore("fresh"))
		}
	}
}
