package replica_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/locker-project/locker/daemon/replica"
	"github.com/locker-project/locker/daemon/replica/replicatest"
)

// A habit is the use of a locker over years: how much is changed and how often devices
// have a pass. Pictures are left out of it: they lie in packs, whose number is a matter
// of their bytes alone (see the tests of packs).
type habit struct {
	days, passes, records int // passes and changed records a day, over all devices
	fresh                 int // of a hundred changed records are new
}

// A census counts what devices put: the lines of entries and of runs.
type census struct {
	replica.Remote
	mu      sync.Mutex
	device  *device
	dec     *zstd.Decoder
	entry   uint64
	run     uint64
	entries int // lines in entries, each counted when it is put first
	runs    int // lines in runs
}

func (c *census) Put(ctx context.Context, name string, r io.ReadSeeker, size int64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for kind, number := range map[string]*uint64{"entry": &c.entry, "run": &c.run} {
		ref := replica.Ref{Kind: kind, Writer: c.device.keys.Device(), Number: *number + 1}
		if c.device.keys.Name(ref) != name {
			continue
		}
		object, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		_, frames, _, err := c.device.keys.Open(ref, object)
		if err != nil {
			return err
		}
		lines, err := c.dec.DecodeAll(frames, nil)
		if err != nil {
			return err
		}
		n := 0
		for _, b := range lines {
			if b == '\n' {
				n++
			}
		}
		*number++
		if kind == "run" {
			c.runs += n
		} else {
			c.entries += n
		}
		if _, err := r.Seek(0, io.SeekStart); err != nil {
			return err
		}
	}
	return c.Remote.Put(ctx, name, r, size)
}

// TestYears lives ten years with three devices, of which one lies in a drawer for the
// last of them, and counts: objects on the remote, how often a record is written again,
// and what a restore has to read. The short form lives some weeks; LOCKER_YEARS is
// another form, as days,passes,records.
func TestYears(t *testing.T) {
	l := habit{days: 60, passes: 9, records: 200, fresh: 30}
	if soak() {
		l = habit{days: 3650, passes: 12, records: 2000, fresh: 15}
	}
	if form := os.Getenv("LOCKER_YEARS"); form != "" {
		l.fresh = 15
		if _, err := fmt.Sscanf(form, "%d,%d,%d", &l.days, &l.passes, &l.records); err != nil {
			t.Fatal(err)
		}
	}
	seed := seedOf(t)
	rnd := rand.New(rand.NewPCG(seed, 5))
	w := newWorld(t)
	dec, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer dec.Close()
	var devices []*device
	var counts []*census
	for i := range 3 {
		c := &census{Remote: w.cloud, dec: dec}
		var d *device
		if i == 0 {
			d = w.found("device0", c)
			c.device = d
			d.sync(full)
		} else {
			d = w.blank(fmt.Sprint("device", i), c)
			c.device = d
			if _, err := d.Restore(context.Background(), nil); err != nil {
				t.Fatal(err)
			}
		}
		devices, counts = append(devices, d), append(counts, c)
	}
	ids, most := 0, 0
	start := time.Now()
	for day := range l.days {
		for pass := range l.passes {
			d := devices[pass%3]
			if d == devices[2] && day > l.days-l.days/10 {
				continue // in the drawer
			}
			for range l.records / l.passes {
				id := ids
				if ids > 0 && rnd.IntN(100) >= l.fresh {
					id = max(0, ids-int(rnd.ExpFloat64()*float64(ids)/4)) // mostly of late ones
				} else {
					ids++
				}
				text := fmt.Sprintf("day %d pass %d: %x of the things that change, again and again", day, pass, rnd.Uint64())
				d.state.write("notes", fmt.Sprint(id), map[string]json.RawMessage{"text": json.RawMessage(fmt.Sprintf("%q", text))})
			}
			d.sync(replica.SyncOptions{Hold: pass >= 3})
			w.pass(24 * time.Hour / time.Duration(l.passes))
		}
		if day%50 == 49 || day == l.days-1 {
			objects, bytes := len(w.cloud.Names()), cloudBytes(w.cloud)
			most = max(most, objects)
			if bound := 1.2*float64(bytes)/(16<<20) + 500; float64(objects) > bound {
				t.Fatalf("day %d: %d objects for %d bytes", day, objects, bytes)
			}
		}
		if day%365 == 364 {
			kinds := ""
			for _, kind := range []string{"entry", "run", "base", "mark", "epoch", "pack"} {
				n := 0
				for _, d := range devices {
					n += d.objects(w.cloud, kind)
				}
				kinds += fmt.Sprintf(" %d %s", n, kind)
			}
			t.Logf("year %d: %d objects (%s), %d MB, %d records, %v", day/365+1, len(w.cloud.Names()), kinds, cloudBytes(w.cloud)>>20, ids, time.Since(start).Round(time.Second))
		}
	}
	entries, runs := 0, 0
	for _, c := range counts {
		entries, runs = entries+c.entries, runs+c.runs
	}
	again := float64(runs) / float64(entries)
	if again > 5 {
		t.Errorf("a record is written again %.2f times", again)
	}
	w.pass(2 * time.Hour)
	for range 2 {
		for _, d := range devices {
			d.sync(full)
		}
		w.pass(2 * time.Hour)
	}
	w.same(devices...)
	before := w.cloud.Requests("get")
	fresh := w.blank("fresh")
	r, err := fresh.Restore(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	w.same(devices[0], fresh)
	fresh.well()
	live := 0
	for key, v := range fresh.state.fields {
		live += len(key) + len(v.data) + 100 // a line of its own
	}
	t.Logf("%d objects at most; %d lines in entries, written again %.2f times; a restore reads %d KB in %d requests, for %d KB of live lines and %d KB of history",
		most, entries, again, r.BytesDown>>10, w.cloud.Requests("get")-before, live>>10, entries*220>>10)
	// Each device holds what it wrote last of a record; less than half of that is stale.
	if most := int64(3 * 2 * live); r.BytesDown > most {
		t.Errorf("a restore reads %d bytes, for %d of live lines", r.BytesDown, live)
	}
}

func cloudBytes(c *replicatest.Cloud) (n int64) {
	for _, object := range c.Objects() {
		n += int64(len(object))
	}
	return n
}
