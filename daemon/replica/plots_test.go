package replica_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/locker-project/locker/crypto"
	"github.com/locker-project/locker/daemon/replica"
	"github.com/locker-project/locker/daemon/replica/replicatest"
)

// TestPlots counts what things cost against the size of the locker, checks that what
// should not grow does not, and draws plots into the folder LOCKER_PLOTS, where that is
// set: 'make plots'.
func TestPlots(t *testing.T) {
	t.Run("records", plotRecords)
	t.Run("devices", plotDevices)
	t.Run("age", plotAge)
}

// draw writes a plot.
func draw(t *testing.T, name string, p replicatest.Plot) {
	t.Helper()
	for _, line := range p.Lines {
		t.Logf("%s: %s: %v", name, line.Name, line.Points)
	}
	dir := os.Getenv("LOCKER_PLOTS")
	if dir == "" {
		return
	}
	if err := os.WriteFile(filepath.Join(dir, name+".svg"), p.SVG(), 0o644); err != nil {
		t.Fatal(err)
	}
}

// add adds a point to the line of a name.
func add(lines map[string][][2]float64, name string, x, y float64) {
	lines[name] = append(lines[name], [2]float64{x, y})
}

func plotLines(lines map[string][][2]float64, names ...string) (out []replicatest.PlotLine) {
	for _, name := range names {
		out = append(out, replicatest.PlotLine{Name: name, Points: lines[name]})
	}
	return out
}

// plotSizes are the powers of ten of records: up to LOCKER_PLOT_RECORDS.
func plotSizes(t *testing.T) (sizes []int) {
	most := 1000
	if text := os.Getenv("LOCKER_PLOT_RECORDS"); text != "" {
		var err error
		if most, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	for n := 100; n <= most; n *= 10 {
		sizes = append(sizes, n)
	}
	return sizes
}

// plotRecords: a change and a look cost the same whatever the number of records; the
// first upload and a restore grow with the bytes.
func plotRecords(t *testing.T) {
	lines := map[string][][2]float64{}
	for _, n := range plotSizes(t) {
		w := newWorld(t)
		keys, err := crypto.Found(w.seed, "laptop")
		d := w.device("laptop", keys, err)
		if err := d.Found(context.Background()); err != nil {
			t.Fatal(err)
		}
		for i := range n {
			d.state.put(fmt.Sprint("record ", i), fmt.Sprint("a text of a record, number ", i, strings.Repeat(" and more", i%5)))
		}
		first := d.sync(replica.SyncOptions{})
		d.state.put("changed", "x")
		change := d.sync(replica.SyncOptions{Hold: true, Push: true})
		fresh := w.blank("fresh")
		restored, err := fresh.Restore(context.Background(), nil)
		if err != nil {
			t.Fatal(err)
		}
		d.sync(full) // it learns of the new device
		w.pass(time.Minute)
		look := d.sync(replica.SyncOptions{Hold: true, Pull: true})
		if change.Requests != 1 || change.BytesUp > 4096 || look.Requests != 1 {
			t.Errorf("%d records: a change costs %d requests and %d bytes, a look %d requests", n, change.Requests, change.BytesUp, look.Requests)
		}
		x := float64(n)
		add(lines, "first upload", x, float64(first.Requests))
		add(lines, "one change", x, float64(change.Requests))
		add(lines, "nothing to do", x, float64(look.Requests))
		add(lines, "restore", x, float64(restored.Requests))
		add(lines, "first upload, bytes", x, float64(first.BytesUp))
		add(lines, "one change, bytes", x, float64(change.BytesUp))
		add(lines, "restore, bytes", x, float64(restored.BytesDown))
	}
	draw(t, "records-requests", replicatest.Plot{Title: "Requests against the number of records", X: "records", Y: "requests", Lines: plotLines(lines, "first upload", "restore", "one change", "nothing to do")})
	draw(t, "records-bytes", replicatest.Plot{Title: "Bytes against the number of records", X: "records", Y: "bytes", Lines: plotLines(lines, "first upload, bytes", "restore, bytes", "one change, bytes")})
}

// plotDevices: a look costs one request however many devices there are.
func plotDevices(t *testing.T) {
	lines := map[string][][2]float64{}
	w := newWorld(t)
	laptop := w.found("laptop")
	laptop.sync(replica.SyncOptions{})
	for n := 1; n <= 10; n++ {
		if n > 1 {
			w.pass(time.Minute)
			d := w.restore(fmt.Sprint("device", n))
			laptop.sync(full)
			d.sync(full)
		}
		if n != 1 && n != 2 && n != 3 && n != 5 && n != 10 {
			continue
		}
		w.pass(time.Hour)
		whole := laptop.sync(full)
		w.pass(time.Minute)
		look := laptop.sync(replica.SyncOptions{Hold: true, Pull: true})
		laptop.state.put(fmt.Sprint(n), "x")
		change := laptop.sync(replica.SyncOptions{Hold: true, Push: true})
		if look.Requests != 1 || change.Requests > 2 || change.BytesUp > 2*4608 {
			t.Errorf("%d devices: a look costs %d requests, a change %d and %d bytes", n, look.Requests, change.Requests, change.BytesUp)
		}
		add(lines, "a look", float64(n), float64(look.Requests))
		add(lines, "one change", float64(n), float64(change.Requests))
		add(lines, "the daily full look", float64(n), float64(whole.Requests))
	}
	draw(t, "devices-requests", replicatest.Plot{Title: "Requests against the number of devices", X: "devices", Y: "requests", Lines: plotLines(lines, "the daily full look", "one change", "a look")})
}

// plotAge: compaction bounds the objects on the remote, and the requests of a restore.
func plotAge(t *testing.T) {
	lines := map[string][][2]float64{}
	w := newWorld(t)
	laptop := w.found("laptop")
	laptop.sync(full)
	most := 200
	if os.Getenv("LOCKER_PLOTS") != "" {
		most = 5000
	}
	done := 0
	for _, n := range []int{10, 50, 100, 200, 500, 1000, 2000, 5000} {
		if n > most {
			break
		}
		for ; done < n; done++ {
			laptop.state.put(fmt.Sprint(done%200), fmt.Sprint(done))
			laptop.sync(replica.SyncOptions{Hold: true})
			w.pass(2 * time.Hour)
		}
		laptop.sync(full)
		objects, copied := len(w.cloud.Names()), &replicatest.Cloud{} // a new device would have to be waited for
		for _, name := range w.cloud.Names() {
			copied.Set(name, w.cloud.Object(name))
		}
		restored, err := w.blank("fresh", copied).Restore(context.Background(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if objects > 250 || restored.Requests > 400 {
			t.Errorf("after %d entries: %d objects, a restore of %d requests", n, objects, restored.Requests)
		}
		add(lines, "entries written", float64(n), float64(n))
		add(lines, "objects on the remote", float64(n), float64(objects))
		add(lines, "requests of a restore", float64(n), float64(restored.Requests))
	}
	draw(t, "age-objects", replicatest.Plot{Title: "A locker of one device as it grows old", X: "entries written (12 a day)", Y: "objects, requests", Lines: plotLines(lines, "entries written", "objects on the remote", "requests of a restore")})
}
