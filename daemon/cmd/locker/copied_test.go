package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// copyOf is a second copy of a device's folder, as a backup makes it.
func (d *device) copyOf(name string) *device {
	d.t.Helper()
	c := newDevice(d.t, name)
	if err := os.CopyFS(c.home, os.DirFS(d.home)); err != nil {
		d.t.Fatal(err)
	}
	return c
}

// note puts a record.
func (d *device) note(id, text string) {
	d.t.Helper()
	cmd := d.command("put", "notes")
	cmd.Stdin = strings.NewReader(`{"id":"` + id + `","fields":{"text":"` + text + `"}}` + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		d.t.Fatalf("locker put: %v\n%s", err, out)
	}
}

// TestCopiedFolder: a folder that was put back from a backup, after the device had gone
// on, becomes a new device by itself, and says so; what was written there and had not
// been sent is not lost. So it is under a passphrase, and in a daemon.
func TestCopiedFolder(t *testing.T) {
	for _, by := range []string{"command", "passphrase", "daemon"} {
		t.Run(by, func(t *testing.T) {
			laptop := newDevice(t, "laptop")
			dir, phrase := t.TempDir(), filepath.Join(t.TempDir(), "phrase")
			args := []string{"init", "--remote", "dir:" + dir, "--phrase-out", phrase}
			file := filepath.Join(t.TempDir(), "passphrase")
			if by == "passphrase" {
				if err := os.WriteFile(file, []byte("correct horse\n"), 0o600); err != nil {
					t.Fatal(err)
				}
				laptop.env = append(laptop.env, "LOCKER_PASSPHRASE_FILE="+file)
			}
			laptop.run(args...)
			laptop.note("1", "before")
			laptop.run("sync")
			backup := laptop.copyOf("backup")
			if by == "passphrase" {
				backup.env = append(backup.env, "LOCKER_PASSPHRASE_FILE="+file)
			}
			laptop.note("2", "after the backup")
			laptop.run("sync")
			backup.note("3", "in the backup")
			if by == "daemon" {
				backup.daemon()
				eventually(t, "the copy is a new device", 30*time.Second, func() bool {
					return backup.status().Device != laptop.status().Device
				})
				eventually(t, "the copy is in step", 30*time.Second, func() bool { return backup.status().Unsent == 0 })
			} else {
				_, stderr, code := backup.try("sync")
				if code != 1 || !strings.Contains(stderr, "second copy") || !strings.Contains(stderr, "(2)") {
					t.Fatalf("exit code %d: %s", code, stderr)
				}
				backup.run("sync")
			}
			laptop.run("sync", "--full")
			backup.run("sync", "--full")
			a, b := laptop.well(), backup.status()
			if a.StateHash != b.StateHash || a.Records != 3 {
				t.Errorf("%d records, %s and %s", a.Records, a.StateHash, b.StateHash)
			}
			if a.Device == b.Device || len(a.Devices) != 2 || len(b.Devices) != 2 || len(b.Alarms) > 0 || len(b.Pending) != 1 || b.Pending[0].Kind != "renewed" {
				t.Errorf("%+v\n%+v", a, b)
			}
			if by == "passphrase" && b.KeyProtection != a.KeyProtection {
				t.Errorf("the keys are protected by %s, and were by %s", b.KeyProtection, a.KeyProtection)
			}
			fresh := newDevice(t, "fresh")
			fresh.run("restore", "--remote", "dir:"+dir, "--phrase-file", phrase)
			if s := fresh.status(); s.StateHash != a.StateHash {
				t.Errorf("a fresh device has %s, not %s", s.StateHash, a.StateHash)
			}
		})
	}
}

// TestCopiedFolderKilled kills the copy again and again while it becomes a new device.
func TestCopiedFolderKilled(t *testing.T) {
	random := seeded(t)
	laptop := newDevice(t, "laptop")
	laptop.run("init", "--remote", "dir:"+t.TempDir(), "--phrase-out", filepath.Join(t.TempDir(), "phrase"))
	laptop.note("1", "before")
	whole := laptop.timed("sync")
	backup := laptop.copyOf("backup")
	laptop.note("2", "after the backup")
	laptop.run("sync")
	backup.note("3", "in the backup")
	for range kills {
		backup.killed(time.Duration(random.Int64N(int64(2*whole))), "sync")
	}
	if _, _, code := backup.try("sync"); code != 0 {
		backup.run("sync")
	}
	laptop.run("sync", "--full")
	backup.run("sync", "--full")
	a, b := laptop.well(), backup.status()
	if a.StateHash != b.StateHash || a.Records != 3 || len(a.Devices) != 2 {
		t.Errorf("%+v\n%+v", a, b)
	}
}
