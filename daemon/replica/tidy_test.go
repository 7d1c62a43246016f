package replica_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/locker-project/locker/daemon/replica"
	"github.com/locker-project/locker/daemon/replica/replicatest"
)

// readable fails the test where a device cannot read a blob from the cloud.
func (d *device) readable(what string, blobs map[string][]byte) {
	d.w.t.Helper()
	for id, data := range blobs {
		got, size, err := d.ReadBlob(context.Background(), id, 0, int64(len(data)))
		if err != nil || size != int64(len(data)) || !bytes.Equal(got, data) {
			d.w.t.Fatalf("%s: %s cannot read a blob of %d bytes: %v", what, d.name, len(data), err)
		}
	}
}

// TestMergePacks: one picture a day makes few packs in the end; each can be read at
// any time; and the records of where they lie are right for who reads them later.
func TestMergePacks(t *testing.T) {
	w := newWorld(t)
	w.packs = 64 << 10
	laptop := w.found("laptop")
	laptop.sync(full)
	phone := w.restore("phone")
	blobs := map[string][]byte{}
	for day := range 60 {
		data := noise(uint64(day), 5000)
		id := laptop.state.addBlob(data)
		laptop.refer(fmt.Sprint(day), id)
		blobs[id] = data
		laptop.sync(full)
		phone.sync(full)
		w.pass(24 * time.Hour)
		if day%10 == 9 {
			phone.readable(fmt.Sprint("day ", day), blobs)
		}
	}
	for range 3 {
		laptop.sync(full)
		phone.sync(full)
		w.pass(24 * time.Hour)
	}
	if n := packs(laptop, w.cloud); n > 60*5000/(64<<10)+14 {
		t.Errorf("%d packs for 60 pictures of 5 kB in packs of 64 kB", n)
	}
	phone.readable("at the end", blobs)
	fresh := w.restore("fresh")
	fresh.readable("after a restore", blobs)
	laptop.well()
	phone.well()
	fresh.well()
	for _, d := range []*device{laptop, fresh} {
		r, err := d.Verify(context.Background(), "", nil)
		if err != nil || len(r.Missing)+len(r.Bad)+r.Misfits > 0 {
			t.Errorf("%s: verify: %+v, %v", d.name, r, err)
		}
	}
}

// TestUnreferenced: bytes to which no record refers go, after 30 days and no sooner;
// what is referred to again in time stays.
func TestUnreferenced(t *testing.T) {
	w := newWorld(t)
	w.packs = 64 << 10
	laptop := w.found("laptop")
	laptop.sync(full)
	phone := w.restore("phone")
	gone, back, stays := noise(1, 30_000), noise(2, 20_000), noise(3, 1000)
	ids := []string{laptop.state.addBlob(gone), laptop.state.addBlob(back), laptop.state.addBlob(stays)}
	for i, id := range ids {
		laptop.refer(fmt.Sprint(i), id)
	}
	live := func(days int) {
		for range days {
			laptop.sync(full)
			phone.sync(full)
			w.pass(24 * time.Hour)
		}
	}
	live(2)
	laptop.unrefer("0")
	laptop.unrefer("1")
	live(20)
	phone.readable("20 days later", map[string][]byte{ids[0]: gone, ids[1]: back, ids[2]: stays})
	phone.refer("again", ids[1])
	live(15)
	phone.readable("35 days later", map[string][]byte{ids[1]: back, ids[2]: stays})
	if _, _, err := phone.ReadBlob(context.Background(), ids[0], 0, 1); err == nil {
		t.Error("the bytes of what was deleted can still be read")
	}
	if laptop.state.holds(ids[0]) {
		t.Error("the bytes of what was deleted are still on the device")
	}
	laptop.well()
	phone.well()
	fresh := w.restore("fresh")
	fresh.readable("after a restore", map[string][]byte{ids[1]: back, ids[2]: stays})
}

// TestDeadlineOfAbsent: a device that is away holds packs back for 90 days, and then
// no more; what it referred to meanwhile is packed again when it comes back.
func TestDeadlineOfAbsent(t *testing.T) {
	w := newWorld(t)
	w.packs = 64 << 10
	laptop := w.found("laptop")
	data := noise(1, 30_000)
	id := laptop.state.addBlob(data)
	laptop.refer("1", id)
	laptop.sync(full)
	phone := w.restore("phone")
	laptop.sync(full)
	phone.state.addBlob(data) // the same picture, offline
	phone.refer("mine", id)
	laptop.unrefer("1")
	days := 0
	for ; packs(laptop, w.cloud) > 0 && days < 200; days++ {
		laptop.sync(full)
		w.pass(24 * time.Hour)
	}
	if days < 120 || days > 130 {
		t.Errorf("the pack went after %d days, want 30 and 90", days)
	}
	for range 3 {
		phone.sync(full)
		laptop.sync(full)
		w.pass(2 * time.Hour)
	}
	w.restore("fresh").readable("after the phone came back", map[string][]byte{id: data})
	w.same(laptop, phone)
}

// TestCache keeps what was asked for last within a bound, never drops what no remote
// has or what is pinned, and fetches everything where it is to.
func TestCache(t *testing.T) {
	w := newWorld(t)
	laptop := w.found("laptop")
	laptop.sync(full)
	var ids []string
	for i := range 10 {
		ids = append(ids, laptop.state.addBlob(noise(uint64(i), 10_000)))
		laptop.refer(fmt.Sprint(i), ids[i])
	}
	here := func(d *device) (list []int) {
		for i, id := range ids {
			if d.state.holds(id) {
				list = append(list, i)
			}
		}
		return list
	}
	// Nothing goes that is on no remote.
	laptop.SetCache(replica.BlobCache{Bytes: 30_000})
	down := true
	w.cloud.Fault = func(op, _ string) error {
		if down && op == "put" {
			return fullError{}
		}
		return nil
	}
	if s, err := laptop.Sync(context.Background(), full); err == nil && len(s.Failed) == 0 {
		t.Error("a remote without any room is no problem")
	}
	if got := here(laptop); len(got) != 10 {
		t.Fatalf("dropped though no remote has them: %v are left", got)
	}
	down = false
	laptop.sync(full)
	laptop.sync(full)
	if got := here(laptop); len(got) > 3 {
		t.Errorf("%v are left of a bound of three", got)
	}
	// What was asked for last stays, and what is pinned.
	phone := w.restore("phone")
	for i, id := range ids {
		w.pass(2 * time.Hour)
		if err := phone.Blob(context.Background(), id); err != nil {
			t.Fatalf("blob %d: %v", i, err)
		}
	}
	w.pass(2 * time.Hour)
	if _, _, err := phone.ReadBlob(context.Background(), ids[2], 0, 10); err != nil {
		t.Fatal(err)
	}
	phone.SetCache(replica.BlobCache{Bytes: 30_000})
	phone.sync(full)
	if got := here(phone); !slices.Equal(got, []int{2, 8, 9}) {
		t.Errorf("%v are left, want those asked for last", got)
	}
	phone.SetCache(replica.BlobCache{Bytes: 10_000, Collections: []string{"photos"}})
	phone.sync(full)
	if got := here(phone); !slices.Equal(got, []int{2, 8, 9}) {
		t.Errorf("%v are left, though all are pinned", got)
	}
	// A pack that the remote has lost is no reason to drop the last bytes.
	for n := range uint64(10) {
		w.cloud.Remove(laptop.keys.Name(replica.Ref{Kind: "pack", Writer: laptop.keys.Device(), Number: n}))
	}
	phone.SetCache(replica.BlobCache{Bytes: 1})
	if _, err := phone.Sync(context.Background(), full); err != nil {
		t.Fatal(err)
	}
	if got := here(phone); !slices.Equal(got, []int{2, 8, 9}) {
		t.Errorf("%v are left, though no remote has them", got)
	}
}

// TestCacheAll fetches what records refer to, and nothing else.
func TestCacheAll(t *testing.T) {
	w := newWorld(t)
	laptop := w.found("laptop")
	var ids []string
	for i := range 5 {
		ids = append(ids, laptop.state.addBlob(noise(uint64(i), 10_000)))
		if i > 0 {
			laptop.refer(fmt.Sprint(i), ids[i])
		}
	}
	laptop.sync(full)
	phone := w.restore("phone")
	phone.SetCache(replica.BlobCache{All: true})
	phone.sync(full)
	for i, id := range ids {
		if got := phone.state.holds(id); got != (i > 0) {
			t.Errorf("blob %d is here: %v", i, got)
		}
	}
	id := laptop.state.addBlob(noise(9, 10_000))
	laptop.refer("new", id)
	laptop.sync(replica.SyncOptions{})
	phone.sync(replica.SyncOptions{})
	if !phone.state.holds(id) {
		t.Error("a new blob is not fetched")
	}
}

// TestBlobLives lets devices live at random with records and pictures: they add,
// refer, delete, drop bytes, are away, crash, see entries late. At the end every
// picture to which a record refers can be read by a new device.
func TestBlobLives(t *testing.T) {
	n := 40
	if testing.Short() {
		n = 10
	}
	if soak() {
		n = 2000
	}
	first := uint64(time.Now().UnixNano())
	if s, err := strconv.ParseUint(os.Getenv("LOCKER_SEED"), 10, 64); err == nil {
		first, n = s, 1
	}
	for i := range n {
		blobLife(t, first+uint64(i))
		if t.Failed() {
			t.Fatalf("LOCKER_SEED=%d", first+uint64(i))
		}
	}
}

func blobLife(t *testing.T, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 1))
	w := newWorld(t)
	w.packs = 40 << 10
	second := &replicatest.Cloud{Now: w.now}
	remotes := []replica.Remote{w.cloud}
	if rnd.IntN(2) == 0 {
		remotes = append(remotes, second)
	}
	first := w.found("device0", remotes...)
	first.sync(full)
	devices := []*device{first, w.restore("device1", remotes...), w.restore("device2", w.cloud)}
	pictures := map[string][]byte{}
	var ids []string
	step := func() {
		d := devices[rnd.IntN(3)]
		record := fmt.Sprint(rnd.IntN(6))
		switch rnd.IntN(12) {
		case 0, 1, 2:
			data := noise(rnd.Uint64N(8), 3000+1000*rnd.IntN(8)) // the same one now and then
			id := d.state.addBlob(data)
			pictures[id] = data
			ids = append(ids, id)
			d.refer(record, id)
		case 3:
			d.unrefer(record)
		case 4:
			if len(ids) > 0 { // of another record, as far as this device has it or can have it
				id := ids[rnd.IntN(len(ids))]
				if d.state.referred(id) {
					d.refer(record, id)
				}
			}
		case 5:
			w.pass(time.Duration(rnd.IntN(20*24)) * time.Hour)
		case 6:
			d.SetCache(replica.BlobCache{Bytes: int64(1 + rnd.IntN(20_000))})
		case 7:
			d.restart()
		default:
			d.sync(replica.SyncOptions{Full: rnd.IntN(2) == 0})
			w.pass(time.Duration(rnd.IntN(26)) * time.Hour)
		}
	}
	for range 120 {
		step()
	}
	for range 4 {
		for _, d := range devices {
			d.sync(full)
			w.pass(5 * time.Hour)
		}
	}
	w.same(devices...)
	fresh := w.restore("fresh")
	for id, data := range pictures {
		if !fresh.state.referred(id) {
			continue
		}
		got, _, err := fresh.ReadBlob(context.Background(), id, 0, int64(len(data)))
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("a picture is lost: %s: %v", id, err)
		}
	}
	for _, d := range devices {
		d.well()
	}
}

// referred says whether a record refers to a blob.
func (s *memState) referred(id string) (is bool) {
	err := s.BlobRecords(context.Background(), id, func(string, int64) bool { is = true; return false })
	return is && err == nil
}

// TestCrashTidy kills a device at every step of passes that merge, condemn and delete
// packs. Afterwards every picture can be read, and what was to go is gone.
func TestCrashTidy(t *testing.T) {
	step := int64(1)
	if testing.Short() {
		step = 4
	}
	for at := int64(1); ; at += step {
		w := newWorld(t)
		w.packs = 20 << 10
		laptop := w.found("laptop")
		laptop.sync(full)
		blobs := map[string][]byte{}
		for i := range 5 {
			data := noise(uint64(i), 4000)
			id := laptop.state.addBlob(data)
			laptop.refer(fmt.Sprint(i), id)
			blobs[id] = data
			laptop.sync(replica.SyncOptions{})
		}
		f := &fuse{}
		laptop.fragile(f)
		laptop.restart()
		f.left.Store(at)
		var err error
		for range 2 { // one that merges and condemns, one that deletes
			if _, err = laptop.Sync(context.Background(), full); err != nil || f.blown.Load() {
				break
			}
		}
		done := err == nil && !f.blown.Load()
		f.left.Store(0)
		f.blown.Store(false)
		laptop.restart()
		for range 3 {
			laptop.sync(full)
		}
		fresh := w.restore("fresh")
		fresh.readable(fmt.Sprint("crash at ", at), blobs)
		laptop.well()
		if n := packs(laptop, w.cloud); n > 2 {
			t.Fatalf("crash at %d: %d packs are left", at, n)
		}
		if done {
			if at < 20 {
				t.Fatalf("two passes have only %d steps", at)
			}
			t.Logf("%d points of crash", at-1)
			return
		}
	}
}
