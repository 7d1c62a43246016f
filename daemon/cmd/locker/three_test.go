package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/locker-project/locker/daemon/remote/remotetest"
)

// TestThreeDevices: three daemons, each a process of its own, write at the same time to
// one real server over a bad line, and are killed again and again. In the end all three
// hold the same, and every write that was acknowledged. Which server, and what happens
// when, one seed decides; LOCKER_SERVER names a server. With LOCKER_SOAK every server has
// its turn, for longer.
func TestThreeDevices(t *testing.T) {
	random := seeded(t)
	only := os.Getenv("LOCKER_SERVER")
	if os.Getenv("LOCKER_SOAK") == "" {
		kind := remotetest.Servers[random.IntN(len(remotetest.Servers))]
		for _, k := range remotetest.Servers {
			if k.Name == only {
				kind = k
			}
		}
		t.Run(kind.Name, func(t *testing.T) { threeDevices(t, kind.Start(t), random, 6*time.Second) })
		return
	}
	for _, kind := range remotetest.Servers {
		if only != "" && kind.Name != only {
			continue
		}
		t.Run(kind.Name, func(t *testing.T) { threeDevices(t, kind.Start(t), random, 5*time.Minute) })
	}
}

// line is the usual one: 50 ms for a question and its answer.
var line = remotetest.Line{Delay: 25 * time.Millisecond}

func threeDevices(t *testing.T, server *remotetest.Server, random *rand.Rand, lasts time.Duration) {
	server, proxy := server.Behind(t, random.Uint64())
	proxy.Set(line)
	w := &trio{t: t, proxy: proxy, notes: map[string]string{}}
	w.begin(server.Spec("locker"))
	var wg sync.WaitGroup
	ends := time.Now().Add(lasts)
	for i := range w.devices {
		mine := rand.New(rand.NewPCG(random.Uint64(), 1))
		wg.Go(func() { w.live(i, mine, ends) })
	}
	bad := rand.New(rand.NewPCG(random.Uint64(), 1))
	wg.Go(func() { w.trouble(bad, ends) })
	wg.Wait()
	proxy.Set(line)
	if t.Failed() {
		return
	}
	w.converge()
	w.whole()
	t.Logf("%d writes acknowledged, %d kills", w.acknowledged, w.kills)
}

// A trio is three devices of one owner.
type trio struct {
	t       *testing.T
	proxy   *remotetest.Proxy
	devices []*device
	daemons []*daemonProcess

	mu           sync.Mutex
	notes        map[string]string // what was acknowledged, by id; empty: that it is deleted
	acknowledged int
	kills        int
}

// begin makes the locker and restores it twice.
func (w *trio) begin(server string) {
	w.t.Helper()
	dir := w.t.TempDir()
	phrase, spec := filepath.Join(dir, "phrase"), filepath.Join(dir, "spec")
	if err := os.WriteFile(spec, []byte(server+"\n"), 0o600); err != nil {
		w.t.Fatal(err)
	}
	for i, name := range []string{"laptop", "phone", "desk"} {
		d := newDevice(w.t, name)
		if i == 0 {
			d.run("init", "--remote-file", spec, "--phrase-out", phrase, "--name", name)
			d.run("sync")
		} else {
			d.run("restore", "--remote-file", spec, "--phrase-file", phrase, "--name", name)
		}
		w.devices = append(w.devices, d)
	}
	for _, d := range w.devices {
		w.daemons = append(w.daemons, d.daemon())
	}
}

// live is what one device does: it writes, now and then asks for a sync, and is killed.
func (w *trio) live(i int, random *rand.Rand, ends time.Time) {
	d := w.devices[i]
	for n := 0; time.Now().Before(ends); n++ {
		switch random.IntN(12) {
		case 0:
			w.killed(i, random)
		case 1:
			d.try("sync") // which may fail: the line is bad
		case 2:
			if n > 0 {
				w.erase(d, fmt.Sprintf("%d-%d", i, random.IntN(n)))
			}
		default:
			w.write(d, fmt.Sprintf("%d-%d", i, n), random)
		}
		time.Sleep(time.Duration(random.IntN(200)) * time.Millisecond)
	}
}

// write writes a few notes. If that is acknowledged they must be there in the end.
func (w *trio) write(d *device, id string, random *rand.Rand) {
	text := strings.Repeat(fmt.Sprintf("%016x ", random.Uint64()), 1+random.IntN(100))
	var lines strings.Builder
	if err := json.NewEncoder(&lines).Encode(map[string]any{"id": id, "time": "2026-11-25T10:00:00Z", "fields": map[string]string{"text": text}}); err != nil {
		w.t.Error(err)
		return
	}
	put := d.command("put", "notes")
	put.Stdin = strings.NewReader(lines.String())
	if out, err := put.CombinedOutput(); err != nil {
		w.t.Errorf("put on %s: %v\n%s", d.home, err, out)
		return
	}
	w.acknowledge(id, text)
}

func (w *trio) erase(d *device, id string) {
	w.mu.Lock()
	text, known := w.notes[id]
	w.mu.Unlock()
	if !known || text == "" {
		return
	}
	if out, err := d.command("delete", "notes", id).CombinedOutput(); err != nil {
		w.t.Errorf("delete on %s: %v\n%s", d.home, err, out)
		return
	}
	w.acknowledge(id, "")
}

func (w *trio) acknowledge(id, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.notes[id] = text
	w.acknowledged++
}

// killed kills the daemon of a device, while it writes or just so, and starts it again
// after a while.
func (w *trio) killed(i int, random *rand.Rand) {
	d := w.devices[i]
	put := d.command("put", "notes", "--source", "cut")
	var lines bytes.Buffer
	for n := range 2000 { // what is cut off may be there or not
		fmt.Fprintf(&lines, `{"id":"cut-%d-%d","time":"2026-11-25T10:00:00Z","fields":{"text":"x"}}`+"\n", i, n)
	}
	put.Stdin = &lines
	if err := put.Start(); err != nil {
		w.t.Error(err)
		return
	}
	time.Sleep(time.Duration(random.IntN(300)) * time.Millisecond)
	w.daemons[i].kill()
	_ = put.Wait() // with an error, if it was cut off
	time.Sleep(time.Duration(random.IntN(500)) * time.Millisecond)
	w.daemons[i] = d.daemon()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.kills++
}

// trouble makes the line bad in all ways, one after another.
func (w *trio) trouble(random *rand.Rand, ends time.Time) {
	for time.Now().Before(ends) {
		bad := line
		switch random.IntN(6) {
		case 0:
			w.proxy.Cut()
		case 1:
			bad.Stalled = true
		case 2:
			bad.Refused = true
		case 3:
			bad.Cut, bad.Within = 300, 20_000
		case 4:
			bad.Rate = 100_000
		}
		w.proxy.Set(bad)
		time.Sleep(time.Duration(200+random.IntN(800)) * time.Millisecond)
		w.proxy.Set(line)
		time.Sleep(time.Duration(random.IntN(1000)) * time.Millisecond)
	}
}

// converge has all devices exchange what they have, until they hold the same.
func (w *trio) converge() {
	w.t.Helper()
	var hashes map[string]bool
	for began := time.Now(); time.Since(began) < 2*time.Minute; {
		hashes = map[string]bool{}
		unsent := 0
		for _, d := range w.devices {
			d.try("sync")
			s := d.status()
			hashes[s.StateHash] = true
			unsent += s.Unsent
		}
		if len(hashes) == 1 && unsent == 0 {
			return
		}
	}
	for _, d := range w.devices {
		w.t.Logf("%s: %+v", d.home, d.status())
	}
	w.t.Fatalf("after two minutes on a good line the devices hold %d different states", len(hashes))
}

// whole checks that each device holds what was acknowledged, and that nothing is wrong
// with it.
func (w *trio) whole() {
	w.t.Helper()
	for _, d := range w.devices {
		d.well()
		got := map[string]string{}
		for row := range strings.Lines(d.run("query", "notes", "--json")) {
			var r struct {
				ID     string
				Fields struct{ Text string }
			}
			if err := json.Unmarshal([]byte(row), &r); err != nil {
				w.t.Fatal(err)
			}
			got[r.ID] = r.Fields.Text
		}
		for _, id := range slices.Sorted(maps.Keys(w.notes)) {
			if want := w.notes[id]; got[id] != want {
				w.t.Errorf("%s has %.20q as %s, want %.20q", d.home, got[id], id, want)
			}
		}
	}
}
