package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/locker-project/locker/crypto"
	"github.com/locker-project/locker/daemon/replica"
	"github.com/locker-project/locker/daemon/replica/replicatest"
	"github.com/locker-project/locker/daemon/store"
	"github.com/locker-project/locker/plugins/locker"
)

// A liveDevice is a device whose daemon runs on made-up time: its pace, its replica and
// its store are real.
type liveDevice struct {
	*pace
	replica *replica.Replica
	store   *store.Store
	wrote   int
}

// A life is some days of a person with devices.
type life struct {
	t       *testing.T
	now     time.Time
	cloud   *replicatest.Cloud
	devices []*liveDevice
}

func newLife(t *testing.T, devices int) *life {
	l := &life{t: t, now: time.Date(2026, 11, 25, 0, 0, 0, 0, time.UTC), cloud: &replicatest.Cloud{}}
	seed := crypto.NewSeed()
	for i := range devices {
		keys, err := crypto.Recover(seed, fmt.Sprint("device", i))
		if i == 0 {
			keys, err = crypto.Found(seed, "device0")
		}
		if err != nil {
			t.Fatal(err)
		}
		l.add(keys, i == 0)
	}
	for range 2 {
		for _, d := range l.devices {
			l.sync(d, replica.SyncOptions{Full: true})
		}
	}
	return l
}

func (l *life) clock() time.Time { return l.now }

func (l *life) add(keys *crypto.Keyring, first bool) {
	ctx, d := context.Background(), &liveDevice{pace: newPace(l.now)}
	var err error
	d.store, err = store.Open("store", store.Options{FS: vfs.NewMem(), Device: keys.Device(), BlobKey: keys.BlobKey(), Clock: l.clock, Cache: 1 << 20, MemTable: 1 << 20})
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() {
		if err := d.store.Close(); err != nil {
			l.t.Error(err)
		}
	})
	d.replica, err = replica.New(ctx, replica.Config{Sealer: keys, State: d.store, Objects: l.t.TempDir(), Clock: l.clock, Remotes: []replica.Named{{Name: "cloud", Remote: l.cloud}}})
	if err != nil {
		l.t.Fatal(err)
	}
	if first {
		err = d.replica.Found(ctx)
	} else {
		_, err = d.replica.Restore(ctx, nil)
	}
	if err != nil {
		l.t.Fatal(err)
	}
	l.devices = append(l.devices, d)
	for _, d := range l.devices {
		l.sync(d, replica.SyncOptions{Full: true})
	}
}

func (l *life) sync(d *liveDevice, o replica.SyncOptions) replica.Summary {
	s, err := d.replica.Sync(context.Background(), o)
	if err != nil {
		l.t.Fatal(err)
	}
	return s
}

// until lets the daemons do what they do until a time.
func (l *life) until(end time.Time) {
	for {
		next := l.devices[0]
		for _, d := range l.devices {
			if d.next().Before(next.next()) {
				next = d
			}
		}
		if next.next().After(end) {
			l.now = end
			return
		}
		l.now = later(l.now, next.next())
		if o, due := next.due(l.now); due {
			next.passed(l.now, o, l.sync(next, o), nil)
		}
		select {
		case <-next.store.Changed():
		default:
		}
	}
}

// write is a change that the person makes.
func (l *life) write(d *liveDevice) {
	d.wrote++
	fields, err := json.Marshal(map[string]string{"text": fmt.Sprint("changed at ", l.now)})
	if err != nil {
		l.t.Fatal(err)
	}
	_, err = d.store.Write(context.Background(), store.Author{Class: store.Owner}, locker.Record{Collection: "notes", ID: fmt.Sprint(d.wrote % 50), Fields: fields})
	if err != nil {
		l.t.Fatal(err)
	}
	d.change(l.now)
}

// day is a day on which the person makes n changes, in eight sittings, the devices
// taking turns.
func (l *life) day(n int) {
	midnight := l.now
	for sitting := range 8 {
		begin := midnight.Add(7*time.Hour + time.Duration(sitting)*2*time.Hour)
		l.until(begin)
		d := l.devices[sitting%len(l.devices)]
		for range n / 8 {
			l.until(l.now.Add(90 * time.Second))
			l.write(d)
		}
	}
	l.until(midnight.Add(24 * time.Hour))
}

// requests are those so far, by kind.
func (l *life) requests() (counts [4]int) {
	for i, op := range []string{"put", "list", "get", "delete"} {
		counts[i] = l.cloud.Requests(op)
	}
	return counts
}

// prices are list prices in dollars for a million requests that write or list, and for
// a million that read; deletions cost nothing at any of them. (The providers' price
// lists of 2025, standard class, without free tiers.)
var prices = []struct {
	cloud       string
	write, read float64
}{
	{"Amazon S3", 5, 0.4},
	{"Google Cloud Storage", 5, 0.4},
	{"Azure Blob (hot)", 5, 0.4},
	{"Cloudflare R2", 4.5, 0.36},
	{"Backblaze B2", 0, 0.4},
}

// TestYear counts what devices ask a remote on idle and on active days, and writes a
// table of yearly requests and prices to the file LOCKER_YEAR, where that is set:
// 'make plots'.
func TestYear(t *testing.T) {
	var table strings.Builder
	table.WriteString("| devices | day | puts | lists | gets | requests a year, all devices |")
	for _, p := range prices {
		fmt.Fprintf(&table, " %s |", p.cloud)
	}
	table.WriteString("\n|" + strings.Repeat(" --- |", 6+len(prices)) + "\n")
	sizes := []int{2}
	if os.Getenv("LOCKER_YEAR") != "" {
		sizes = []int{1, 3, 10}
	}
	for _, devices := range sizes {
		for _, kind := range []struct {
			name    string
			changes int
		}{{"idle", 0}, {"48 changes in 8 sittings", 48}} {
			if kind.changes > 0 && os.Getenv("LOCKER_YEAR") == "" {
				continue // it takes a while
			}
			l := newLife(t, devices)
			l.day(kind.changes) // settles
			before := l.requests()
			l.day(kind.changes)
			after := l.requests()
			for i := range after {
				after[i] -= before[i]
			}
			year := 365 * (after[0] + after[1] + after[2])
			fmt.Fprintf(&table, "| %d | %s | %d | %d | %d | %d |", devices, kind.name, after[0], after[1], after[2], year)
			for _, p := range prices {
				dollars := 365 / 1e6 * (p.write*float64(after[0]+after[1]) + p.read*float64(after[2]))
				fmt.Fprintf(&table, " $%.2f |", dollars)
			}
			table.WriteString("\n")
			if most := devices * (500 + 250*devices); kind.changes == 0 && after[2] > most {
				t.Errorf("%d idle devices make %d GETs a day", devices, after[2])
			}
			if most := 2 + 2*kind.changes + 30*devices; after[0] > most {
				t.Errorf("%d devices make %d puts on a day of %d changes", devices, after[0], kind.changes)
			}
		}
	}
	t.Log("\n" + table.String())
	if path := os.Getenv("LOCKER_YEAR"); path != "" {
		head := "# Requests in a year\n\nCounted with the real pace, replica and store on made-up time (`make plots`): a second day like the one before, times 365. A day with changes has eight sittings of nine minutes; devices take turns. Prices are the providers' list prices of 2025 for requests alone, about, without free tiers.\n\n"
		if err := os.WriteFile(filepath.Clean(path), []byte(head+table.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
