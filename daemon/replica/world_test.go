package replica_test

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/locker-project/locker/crypto"
	"github.com/locker-project/locker/daemon/replica"
	"github.com/locker-project/locker/daemon/replica/replicatest"
)

// A world is a cloud, a clock and the devices of one locker.
type world struct {
	t     testing.TB
	cloud *replicatest.Cloud
	seed  crypto.Seed
	off   replica.Rules // what of the protocol is switched off
	mu    sync.Mutex
	time  time.Time
	often bool // devices compact their logs often
	packs int  // bytes of frames in one pack, where they are to be small
}

func newWorld(t testing.TB) *world {
	w := &world{t: t, cloud: &replicatest.Cloud{}, seed: crypto.NewSeed(), time: time.Date(2026, 11, 25, 8, 0, 0, 0, time.UTC)}
	w.cloud.Now = w.now
	return w
}

func (w *world) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.time
}

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.time = w.time.Add(d)
}

// A device is one replica with its state and keys.
type device struct {
	*replica.Replica
	w       *world
	name    string
	keys    *crypto.Keyring
	state   *memState
	wrap    func(replica.State) replica.State
	dir     string
	remotes []replica.Named
}

// device makes a device whose keyring is given; it is not part of the locker yet.
func (w *world) device(name string, keys *crypto.Keyring, err error, remotes ...replica.Remote) *device {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
	if remotes == nil {
		remotes = []replica.Remote{w.cloud}
	}
	d := &device{w: w, name: name, keys: keys, state: newMemState(keys.Device(), w.now), dir: fastDir(w.t)}
	for i, remote := range remotes {
		d.remotes = append(d.remotes, replica.Named{Name: fmt.Sprint("remote", i), Remote: remote})
	}
	if err := d.start(); err != nil {
		w.t.Fatal(err)
	}
	return d
}

// start opens the replica on what is durable.
func (d *device) start() error {
	var state replica.State = d.state
	if d.wrap != nil {
		state = d.wrap(state)
	}
	config := replica.Config{Sealer: d.keys, State: state, Objects: d.dir, Remotes: d.remotes, Clock: d.w.now}
	if d.w.often {
		config.CompactOften()
	}
	if d.w.packs > 0 {
		config.SmallPacks(d.w.packs, int64(4*d.w.packs))
	}
	var err error
	d.Replica, err = replica.New(context.Background(), config.Without(d.w.off))
	return err
}

// restart is a crash, and what follows it: keys from their secret, no phrase.
func (d *device) restart() {
	d.w.t.Helper()
	keys, err := crypto.Load(d.keys.Secret())
	if err != nil {
		d.w.t.Fatal(err)
	}
	d.keys = keys
	if err := d.start(); err != nil {
		d.w.t.Fatal(err)
	}
}

// found makes the first device of the locker.
func (w *world) found(name string, remotes ...replica.Remote) *device {
	w.t.Helper()
	keys, err := crypto.Found(w.seed, name)
	d := w.device(name, keys, err, remotes...)
	if err := d.Found(context.Background()); err != nil {
		w.t.Fatal(err)
	}
	return d
}

// blank makes a device that holds the phrase and nothing else.
func (w *world) blank(name string, remotes ...replica.Remote) *device {
	w.t.Helper()
	keys, err := crypto.Recover(w.seed, name)
	return w.device(name, keys, err, remotes...)
}

// restore makes a further device from the cloud and the phrase.
func (w *world) restore(name string, remotes ...replica.Remote) *device {
	w.t.Helper()
	d := w.blank(name, remotes...)
	if _, err := d.Restore(context.Background(), nil); err != nil {
		w.t.Fatalf("restoring %s: %v", name, err)
	}
	return d
}

// sync makes a pass, which must work.
func (d *device) sync(o replica.SyncOptions) replica.Summary {
	d.w.t.Helper()
	s, err := d.Sync(context.Background(), o)
	if err != nil {
		d.w.t.Fatalf("%s: sync: %v", d.name, err)
	}
	return s
}

// well fails the test if anything is pending or wrong.
func (d *device) well() {
	d.w.t.Helper()
	s, err := d.Status(context.Background())
	if err != nil {
		d.w.t.Fatal(err)
	}
	if len(s.Pending)+len(s.Alarms) > 0 {
		d.w.t.Fatalf("%s: pending %+v, alarms %+v", d.name, s.Pending, s.Alarms)
	}
}

// same fails the test if devices do not hold the same.
func (w *world) same(devices ...*device) {
	w.t.Helper()
	for _, d := range devices[1:] {
		if d.state.hash() != devices[0].state.hash() {
			for _, d := range devices {
				st, err := d.Status(context.Background())
				w.t.Logf("%s (%s): %+v %v", d.name, d.keys.Device(), st, err)
			}
			w.t.Fatalf("%s has %s, %s has %s", devices[0].name, devices[0].state.hash(), d.name, d.state.hash())
		}
	}
}

var full = replica.SyncOptions{Full: true}

// soak says whether the long versions of tests are to run.
func soak() bool { return os.Getenv("LOCKER_SOAK") != "" }

// howMany is how much of a suite runs: little with -short, a share of it usually, and
// all where LOCKER_SUITES is set (make suites).
func howMany(short, share, all int) int {
	switch {
	case os.Getenv("LOCKER_SUITES") != "":
		return all
	case testing.Short():
		return short
	}
	return share
}

// restartWithPhrase is restart with the phrase typed in again.
func (d *device) restartWithPhrase() {
	d.w.t.Helper()
	keys, err := crypto.Load(d.keys.Secret())
	if err == nil {
		err = keys.Hold(d.w.seed)
	}
	if err != nil {
		d.w.t.Fatal(err)
	}
	d.keys = keys
	if err := d.start(); err != nil {
		d.w.t.Fatal(err)
	}
}

// copyFolder copies files and folders.
func copyFolder(t testing.TB, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

// fastDir is a folder for sealed objects, in memory where the system has one: what
// a crash loses is simulated above, and syncing to a busy disk makes the tests slow.
func fastDir(t testing.TB) string {
	dir, err := os.MkdirTemp("/dev/shm", "replica-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}
