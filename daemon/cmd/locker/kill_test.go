package main

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// kills is how often each test of this file kills; LOCKER_SEED repeats a run.
const kills = 6

func seeded(t *testing.T) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("LOCKER_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		seed = n
	}
	t.Logf("seed: LOCKER_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}

// killed runs a command and kills it after a while, unless it ends before.
func (d *device) killed(after time.Duration, args ...string) {
	d.t.Helper()
	cmd := d.command(args...)
	if err := cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	timer := time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
	_ = cmd.Wait()
	timer.Stop()
}

// timed is how long a command takes.
func (d *device) timed(args ...string) time.Duration {
	d.t.Helper()
	begin := time.Now()
	d.run(args...)
	return time.Since(begin)
}

// TestKilledInit: an init that was killed leaves no locker, and the same command
// makes one; or it leaves a whole one. The phrase in the file is that of the locker.
func TestKilledInit(t *testing.T) {
	random := seeded(t)
	whole := newDevice(t, "whole").timed("init", "--remote", "dir:"+t.TempDir(), "--phrase-out", filepath.Join(t.TempDir(), "phrase"))
	for i := range kills {
		d := newDevice(t, "home")
		phrase := filepath.Join(t.TempDir(), "phrase")
		args := []string{"init", "--remote", "dir:" + t.TempDir(), "--phrase-out", phrase}
		after := time.Duration(random.Int64N(int64(whole)))
		d.killed(after, args...)
		_, stderr, code := d.try("status")
		if code != 0 {
			if code != 1 || !strings.Contains(stderr, "there is no locker in") {
				t.Fatalf("kill %d after %v: status: exit code %d\n%s", i, after, code, stderr)
			}
			d.run(args...)
		}
		d.run("phrase", "check", "--phrase-file", phrase)
		d.well()
	}
}

// TestKilledImport: whatever of an import was written before it was killed, the
// same import completes it, and the state is that of an import that was not.
func TestKilledImport(t *testing.T) {
	random := seeded(t)
	file := statement(t, 20000)
	reference := newDevice(t, "reference")
	reference.run("init", "--phrase-out", filepath.Join(t.TempDir(), "phrase"))
	whole := reference.timed("import", file)
	want := reference.well()

	d := newDevice(t, "home")
	d.run("init", "--phrase-out", filepath.Join(t.TempDir(), "phrase"))
	for range kills {
		d.killed(time.Duration(random.Int64N(int64(whole))), "import", file)
		d.well()
	}
	d.run("import", file)
	if got := d.well(); got.StateHash != want.StateHash || got.Records != want.Records {
		t.Errorf("%d records, state %s; want %d, %s", got.Records, got.StateHash, want.Records, want.StateHash)
	}
	list := d.imports()
	if len(list) != 1 || list[0].State != "done" {
		t.Fatalf("imports: %+v, want one that is done", list)
	}
	if got := list[0]; int64(got.New) != want.Records || got.Same != 0 || got.Changed != 0 {
		t.Errorf("the import tells of %d new, %d same, %d changed; want %d new", got.New, got.Same, got.Changed, want.Records)
	}
	d.run("undo", list[0].Import)
	if got := d.well(); got.Records != 0 {
		t.Errorf("%d records are left after undo", got.Records)
	}
	d.run("import", file)
	if got := d.well(); got.StateHash != want.StateHash {
		t.Errorf("state %s after undo and import, want %s", got.StateHash, want.StateHash)
	}
}

// TestKilledRestore: a restore that was killed is completed by the same command,
// and leaves no device behind that never lived.
func TestKilledRestore(t *testing.T) {
	random := seeded(t)
	phrase, cloud := filepath.Join(t.TempDir(), "phrase"), t.TempDir()
	first := newDevice(t, "first")
	first.run("init", "--remote", "dir:"+cloud, "--phrase-out", phrase)
	first.run("import", statement(t, 20000))
	first.run("sync")
	want := first.well()
	args := []string{"restore", "--remote", "dir:" + cloud, "--phrase-file", phrase}
	whole := newDevice(t, "whole").timed(args...)
	devices := 2
	for i := range kills {
		d := newDevice(t, "home")
		after := time.Duration(random.Int64N(int64(whole)))
		d.killed(after, args...)
		if _, stderr, code := d.try("status"); code != 0 {
			if code != 1 || !strings.Contains(stderr, "locker restore") {
				t.Fatalf("kill %d after %v: status: exit code %d\n%s", i, after, code, stderr)
			}
			d.run(args...)
		} else if d.status().Restoring != nil {
			d.run(args...)
		}
		devices++
		if got := d.well(); got.StateHash != want.StateHash || len(got.Devices) != devices {
			t.Fatalf("kill %d after %v: %d devices, state %s; want %d, %s", i, after, len(got.Devices), got.StateHash, devices, want.StateHash)
		}
	}
}
