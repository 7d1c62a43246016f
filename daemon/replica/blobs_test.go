package replica_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/locker-project/locker/daemon/replica"
	"github.com/locker-project/locker/daemon/replica/replicatest"
)

// noise is so many bytes that do not compress.
func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16), 1}).Read(b)
	return b
}

// refer makes a record refer to a blob.
func (d *device) refer(record, blob string) {
	d.state.write("photos", record, map[string]json.RawMessage{"image": json.RawMessage(strconv.Quote(blob))})
}

func (d *device) unrefer(record string) { d.state.write("photos", record, nil) }

// holds says whether a device has the bytes of a blob.
func (s *memState) holds(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.blobs[id] != nil
}

// packs counts the packs on a cloud, of those that a device made up to some number.
func packs(d *device, c *replicatest.Cloud) (n int) {
	for number := uint64(1); number < 200; number++ {
		if c.Object(d.keys.Name(replica.Ref{Kind: "pack", Writer: d.keys.Device(), Number: number})) != nil {
			n++
		}
	}
	return n
}

// A ranged is a remote that says what was read of it.
type ranged struct {
	replica.Remote
	mu    sync.Mutex
	reads [][2]int64 // from, how many; -1: all
}

func (r *ranged) Get(ctx context.Context, name string, off, n int64) (io.ReadCloser, error) {
	r.mu.Lock()
	r.reads = append(r.reads, [2]int64{off, n})
	r.mu.Unlock()
	return r.Remote.Get(ctx, name, off, n)
}

// TestReadBlob reads parts of blobs of many sizes: what comes is what was stored, in
// whole pieces of 1 MiB, few of them, and nothing is kept of a large blob.
func TestReadBlob(t *testing.T) {
	w := newWorld(t)
	laptop := w.found("laptop")
	blobs := map[string][]byte{}
	for i, size := range []int{0, 1, 5000, 1<<20 - 1, 1 << 20, 1<<20 + 1, 40<<20 + 77} {
		data := noise(uint64(i), size)
		blobs[laptop.state.addBlob(data)] = data
	}
	laptop.sync(replica.SyncOptions{})
	phone := w.restore("phone")
	counting := &ranged{Remote: w.cloud}
	phone.SetRemotes([]replica.Named{{Name: "remote0", Remote: counting}})
	rnd := rand.New(rand.NewPCG(1, 2))
	for id, data := range blobs {
		size := int64(len(data))
		for i, off := range []int64{0, 1, size / 2, 1<<20 - 1, 1 << 20, 14<<20 - 3, size - 1, size, size + 5, rnd.Int64N(size + 1)} {
			for _, n := range []int64{0, 1, 4096, 1<<20 + 1, 3 << 20} {
				if off < 0 {
					continue
				}
				want := data[min(off, size):min(off+n, size)]
				counting.reads = nil
				got, total, err := phone.ReadBlob(context.Background(), id, off, n)
				if err != nil || total != size || !bytes.Equal(got, want) {
					t.Fatalf("%d bytes, %d from %d on: %d of %d, %v", size, n, off, len(got), total, err)
				}
				for _, r := range counting.reads {
					if r[0]%(1<<20) != 0 || r[1] < 0 || r[1] > n+5<<20 {
						t.Errorf("%d bytes, %d from %d on: read %d from %d on", size, n, off, r[1], r[0])
					}
				}
				if len(counting.reads) > 6 || i == 0 && n == 0 && len(counting.reads) > 0 {
					t.Errorf("%d bytes, %d from %d on: %d requests", size, n, off, len(counting.reads))
				}
			}
		}
		if phone.state.holds(id) {
			t.Errorf("a blob of %d bytes is kept", size)
		}
	}
	for _, id := range []string{"unknown", strings.Repeat("ab", 32)} {
		if _, _, err := phone.ReadBlob(context.Background(), id, 0, 1); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a blob that nobody told of: %v", err)
		}
	}
	phone.well()
}

// TestReadBlobSequential: who reads on gets each piece once.
func TestReadBlobSequential(t *testing.T) {
	w := newWorld(t)
	laptop := w.found("laptop")
	data := noise(1, 20<<20)
	id := laptop.state.addBlob(data)
	laptop.sync(replica.SyncOptions{})
	phone := w.restore("phone")
	counting := &ranged{Remote: w.cloud}
	phone.SetRemotes([]replica.Named{{Name: "remote0", Remote: counting}})
	var sum int64
	for off := int64(0); off < int64(len(data)); off += 256 << 10 {
		got, _, err := phone.ReadBlob(context.Background(), id, off, 256<<10)
		if err != nil || !bytes.Equal(got, data[off:off+256<<10]) {
			t.Fatalf("at %d: %v", off, err)
		}
	}
	for _, r := range counting.reads {
		sum += r[1]
	}
	if sum > 2*int64(len(data)) {
		t.Errorf("%d bytes were fetched for %d", sum, len(data))
	}
}

// TestReadBlobBad: whatever a remote shows, a part of a blob is right or an error. With
// another remote it is right.
func TestReadBlobBad(t *testing.T) {
	w := newWorld(t)
	second := &replicatest.Cloud{Now: w.now}
	laptop := w.found("laptop", w.cloud, second)
	data := noise(1, 3<<20)
	id := laptop.state.addBlob(data)
	laptop.sync(replica.SyncOptions{})
	phone, tablet := w.restore("phone"), w.restore("tablet", w.cloud, second)
	pack := laptop.keys.Name(replica.Ref{Kind: "pack", Writer: laptop.keys.Device(), Number: 1})
	honest := w.cloud.Object(pack)
	rnd := rand.New(rand.NewPCG(3, 4))
	for i := range 60 {
		bad := slices.Clone(honest)
		switch i % 5 {
		case 0:
			bad[rnd.IntN(len(bad))] ^= 1
		case 1:
			bad = bad[:rnd.IntN(len(bad))]
		case 2:
			bad = append(bad, 0)
		case 3:
			bad[rnd.IntN(2000)] ^= 1
		case 4:
			bad = nil
		}
		w.cloud.Set(pack, bad)
		off := rnd.Int64N(int64(len(data)) - 5000)
		got, _, err := phone.ReadBlob(context.Background(), id, off, 5000)
		if err == nil && !bytes.Equal(got, data[off:off+5000]) {
			t.Fatalf("case %d: other bytes, and no error", i%5)
		}
		got, _, err = tablet.ReadBlob(context.Background(), id, off, 5000)
		if err != nil || !bytes.Equal(got, data[off:off+5000]) {
			t.Fatalf("case %d, with a good remote: %v", i%5, err)
		}
		w.cloud.Set(pack, honest)
	}
	w.cloud.Set(pack, honest)
	if err := phone.Blob(context.Background(), id); err != nil {
		t.Error(err)
	}
	phone.well()
}

// TestLyingLine: another device's line that leads to other bytes gives no other bytes,
// and does no harm where a true one is known.
func TestLyingLine(t *testing.T) {
	w := newWorld(t)
	laptop := w.found("laptop")
	data, other := noise(1, 100_000), noise(2, 100_000)
	id, wrong := laptop.state.addBlob(data), laptop.state.addBlob(other)
	laptop.sync(replica.SyncOptions{})
	phone := w.restore("phone")
	var right, lie []map[string]any
	for key, v := range map[string]*[]map[string]any{"blob/" + id: &right, "blob/" + wrong: &lie} {
		if err := json.Unmarshal(phone.state.notes[key], v); err != nil {
			t.Fatal(err)
		}
	}
	lie[0]["blob"] = id
	for _, c := range []struct {
		lines []map[string]any
		ok    bool
	}{{lie, false}, {append(slices.Clone(lie), right...), true}} {
		note, err := json.Marshal(c.lines)
		if err != nil {
			t.Fatal(err)
		}
		phone.state.notes["blob/"+id] = note
		got, _, err := phone.ReadBlob(context.Background(), id, 10, 100)
		if c.ok != (err == nil) || err == nil && !bytes.Equal(got, data[10:110]) {
			t.Errorf("%d lines: %v", len(c.lines), err)
		}
		if err := phone.Blob(context.Background(), id); c.ok != (err == nil) {
			t.Errorf("%d lines, the whole blob: %v", len(c.lines), err)
		}
	}
}

// TestEarlierLine: lines of the first version, without hashes, are still good for
// whole blobs, and parts are read of those.
func TestEarlierLine(t *testing.T) {
	w := newWorld(t)
	laptop := w.found("laptop")
	data := noise(1, 3<<20)
	id := laptop.state.addBlob(data)
	laptop.sync(replica.SyncOptions{})
	phone := w.restore("phone")
	var lines []map[string]any
	if err := json.Unmarshal(phone.state.notes["blob/"+id], &lines); err != nil {
		t.Fatal(err)
	}
	delete(lines[0], "sums")
	delete(lines[0], "objects")
	note, err := json.Marshal(lines)
	if err != nil {
		t.Fatal(err)
	}
	phone.state.notes["blob/"+id] = note
	got, _, err := phone.ReadBlob(context.Background(), id, 1<<20-5, 10)
	if err != nil || !bytes.Equal(got, data[1<<20-5:1<<20+5]) || !phone.state.holds(id) {
		t.Errorf("%v", err)
	}
}

// fullError says that a remote has no room.
type fullError struct{}

func (fullError) Error() string { return "507 insufficient storage" }
func (fullError) Full() bool    { return true }

// A small is a remote of so many bytes.
type small struct {
	*replicatest.Cloud
	room int
}

func (s *small) Put(ctx context.Context, name string, r io.ReadSeeker, size int64) error {
	used := 0
	for key, data := range s.Objects() {
		if key != name {
			used += len(data)
		}
	}
	if spare := 60 << 10; used+int(size) > s.room || size > 20<<10 && used+int(size) > s.room-spare {
		return fullError{} // what is small still fits in
	}
	return s.Cloud.Put(ctx, name, r, size)
}

// TestFullRemote: a remote that is full gets entries and membership before packs, says
// so, and goes on when there is room. The other remote is complete all the while, and
// this device does not keep all packs sealed.
func TestFullRemote(t *testing.T) {
	w := newWorld(t)
	w.packs = 32 << 10
	tiny := &small{Cloud: &replicatest.Cloud{Now: w.now}, room: 250 << 10}
	laptop := w.found("laptop", tiny, w.cloud)
	var ids []string
	for i := range 30 {
		ids = append(ids, laptop.state.addBlob(noise(uint64(i), 20<<10)))
		laptop.refer(fmt.Sprint(i), ids[i])
	}
	laptop.sync(replica.SyncOptions{})
	laptop.state.put("later", "x")
	s := laptop.sync(replica.SyncOptions{})
	if len(s.Failed) > 0 || !slices.ContainsFunc(s.Pending, func(n replica.Notice) bool { return n.Kind == "full" }) || len(s.Alarms) > 0 {
		t.Errorf("failed %v, pending %+v, alarms %+v", s.Failed, s.Pending, s.Alarms)
	}
	st, err := laptop.Status(context.Background())
	if err != nil || st.Remotes[0].Waiting == 0 || st.Remotes[0].WaitingBytes == 0 || st.Remotes[0].Unsent < st.Remotes[0].Waiting {
		t.Errorf("status: %+v, %v", st.Remotes, err)
	}
	if st.Remotes[1].Waiting != 0 || st.Remotes[1].Unsent != 0 {
		t.Errorf("the other remote waits, too: %+v", st.Remotes[1])
	}
	files, err := filepath.Glob(filepath.Join(laptop.dir, "d", "*"))
	if size := filesSize(t, files); err != nil || size > 6*32<<10+100<<10 {
		t.Errorf("%d bytes of sealed objects are kept", size)
	}
	// Changes of records are all there: a device that has only the full remote reads them.
	phone := w.restore("phone", tiny)
	w.same(laptop, phone)
	if err := phone.Blob(context.Background(), ids[29]); err == nil {
		t.Error("a blob that waits for room can be fetched")
	}
	tiny.room = 10 << 20
	for range 3 {
		w.pass(2 * time.Hour)
		laptop.sync(replica.SyncOptions{})
	}
	if st, err := laptop.Status(context.Background()); err != nil || st.Remotes[0].Waiting != 0 || st.Remotes[0].Unsent != 0 {
		t.Errorf("with room: %+v, %v", st.Remotes[0], err)
	}
	laptop.well()
	for i, id := range ids {
		if err := phone.Blob(context.Background(), id); err != nil {
			t.Errorf("blob %d: %v", i, err)
		}
	}
	tablet := w.restore("tablet", w.cloud)
	for i, id := range ids {
		if err := tablet.Blob(context.Background(), id); err != nil {
			t.Errorf("blob %d from the other remote: %v", i, err)
		}
	}
}

func filesSize(t *testing.T, files []string) (size int64) {
	t.Helper()
	for _, name := range files {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		size += info.Size()
	}
	return size
}

// TestFullForAll: while no remote takes packs, packing waits, and does not fill the
// disk with sealed packs.
func TestFullForAll(t *testing.T) {
	w := newWorld(t)
	w.packs = 32 << 10
	tiny := &small{Cloud: &replicatest.Cloud{Now: w.now}, room: 120 << 10}
	laptop := w.found("laptop", tiny)
	var ids []string
	for i := range 40 {
		ids = append(ids, laptop.state.addBlob(noise(uint64(i), 20<<10)))
	}
	for range 3 {
		laptop.sync(replica.SyncOptions{})
	}
	files, err := filepath.Glob(filepath.Join(laptop.dir, "d", "*"))
	if size := filesSize(t, files); err != nil || size > 6*36<<10+50<<10 {
		t.Errorf("%d bytes of sealed objects are kept", size)
	}
	if st, err := laptop.Status(context.Background()); err != nil || st.Blobs.Unsent == 0 || st.Blobs.Here != 40 {
		t.Errorf("status: %+v, %v", st.Blobs, err)
	}
	tiny.room = 10 << 20
	for range 10 {
		laptop.sync(replica.SyncOptions{})
	}
	phone := w.restore("phone", tiny)
	for i, id := range ids {
		if err := phone.Blob(context.Background(), id); err != nil {
			t.Errorf("blob %d: %v", i, err)
		}
	}
	laptop.well()
}

// TestCrashPacking kills a device at every step while it packs a blob of several
// packs. It goes on where it was: no chunk is packed more than twice.
func TestCrashPacking(t *testing.T) {
	data := noise(7, 4<<20+9)
	for at := int64(1); ; at++ {
		w := newWorld(t)
		w.packs = 1 << 20
		laptop := w.found("laptop")
		laptop.sync(full)
		f := &fuse{}
		laptop.fragile(f)
		laptop.restart()
		id := laptop.state.addBlob(data)
		laptop.refer("1", id)
		f.left.Store(at)
		_, err := laptop.Sync(context.Background(), full)
		if err == nil && !f.blown.Load() {
			if at < 20 {
				t.Fatalf("a pass has only %d steps", at)
			}
			t.Logf("%d points of crash", at-1)
			return
		}
		f.left.Store(0)
		f.blown.Store(false)
		laptop.restart()
		laptop.sync(full)
		phone := w.restore("phone")
		if err := phone.Blob(context.Background(), id); err != nil {
			t.Fatalf("crash at %d: %v", at, err)
		}
		if n := packs(laptop, w.cloud); n > 6 {
			t.Errorf("crash at %d: %d packs for 5 chunks", at, n)
		}
		phone.well()
		if t.Failed() {
			t.Fatalf("crash at step %d", at)
		}
	}
}

// TestDamagedHere: a blob whose bytes changed or vanished here is not told of, is
// named, and holds nothing up.
func TestDamagedHere(t *testing.T) {
	w := newWorld(t)
	laptop := w.found("laptop")
	bad, gone, good := laptop.state.addBlob(noise(1, 2<<20)), laptop.state.addBlob(noise(2, 9)), laptop.state.addBlob(noise(3, 5000))
	laptop.state.blobs[bad][1<<20+5] ^= 1
	delete(laptop.state.blobs, gone)
	s := laptop.sync(replica.SyncOptions{})
	if len(s.Pending) != 1 || s.Pending[0].Kind != "blob" || !strings.Contains(s.Pending[0].What, bad) {
		t.Errorf("pending %+v", s.Pending)
	}
	phone := w.restore("phone")
	for id, want := range map[string]bool{bad: false, gone: false, good: true} {
		if err := phone.Blob(context.Background(), id); (err == nil) != want || err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("blob %s: %v", id, err)
		}
	}
}

// TestLostPack: a pack that all remotes have lost, and whose sealed bytes are not here
// any more, is replaced by another, from what State holds.
func TestLostPack(t *testing.T) {
	for _, drop := range []bool{false, true} {
		w := newWorld(t)
		w.packs = 32 << 10
		laptop := w.found("laptop")
		var ids []string
		for i := range 20 {
			ids = append(ids, laptop.state.addBlob(noise(uint64(i), 20<<10)))
			laptop.refer(fmt.Sprint(i), ids[i])
		}
		laptop.sync(full)
		phone := w.restore("phone")
		w.pass(3 * time.Hour)
		name := laptop.keys.Name(replica.Ref{Kind: "pack", Writer: laptop.keys.Device(), Number: 2})
		if drop {
			w.cloud.Remove(name)
		} else {
			w.cloud.Set(name, w.cloud.Object(name)[:1000])
		}
		for range 3 {
			if _, err := laptop.Verify(context.Background(), "", nil); err != nil {
				t.Fatal(err)
			}
			phone.sync(full)
			w.pass(25 * time.Hour)
		}
		for i, id := range ids {
			if err := phone.Blob(context.Background(), id); err != nil {
				t.Errorf("blob %d: %v", i, err)
			}
		}
		laptop.well()
		phone.well()
	}
}
