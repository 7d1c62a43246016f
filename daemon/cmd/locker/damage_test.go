package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestDamagedRemote: a restore from a remote that has lost an object, or has a
// damaged one, brings the rest and says so; verify names the object, with the exit
// code of an alarm, until the device that wrote it has put it again.
func TestDamagedRemote(t *testing.T) {
	for name, damage := range map[string]func(path string) error{
		"deleted":   os.Remove,
		"truncated": func(path string) error { return os.Truncate(path, 5000) },
		"changed":   func(path string) error { return flip(path) },
	} {
		t.Run(name, func(t *testing.T) {
			cloud, phrase := t.TempDir(), filepath.Join(t.TempDir(), "phrase")
			d := newDevice(t, "writer")
			d.run("init", "--remote", "dir:"+cloud, "--phrase-out", phrase)
			d.run("import", statement(t, 3000))
			d.run("sync")
			before := objects(t, cloud)
			d.run("import", statement(t, 6000))
			d.run("sync")
			witness := newDevice(t, "witness") // names what it has read
			witness.run("restore", "--remote", "dir:"+cloud, "--phrase-file", phrase)
			hit := ""
			for path, size := range objects(t, cloud) {
				if before[path] == 0 && size > 5000 {
					hit = path
				}
			}
			if err := damage(hit); err != nil {
				t.Fatal(err)
			}

			fresh := newDevice(t, "fresh")
			stdout := fresh.run("restore", "--remote", "dir:"+cloud, "--phrase-file", phrase)
			if !strings.Contains(stdout, ": 3000 records") || !strings.Contains(stdout, "This is not all of it") {
				t.Errorf("restore says %q", stdout)
			}
			if stdout, _, code := fresh.try("verify"); code != 4 || !strings.Contains(stdout, filepath.Base(hit)) {
				t.Errorf("verify: exit code %d, %q", code, stdout)
			}
			d.run("verify") // puts it again
			fresh.run("sync")
			fresh.run("verify")
			if got, want := fresh.well(), d.well(); got.StateHash != want.StateHash {
				t.Errorf("state %s, want %s", got.StateHash, want.StateHash)
			}
		})
	}
}

// objects are the sizes of the files of a remote's data, by path.
func objects(t *testing.T, cloud string) map[string]int64 {
	t.Helper()
	files, err := os.ReadDir(filepath.Join(cloud, "d"))
	if err != nil {
		t.Fatal(err)
	}
	sizes := map[string]int64{}
	for _, f := range files {
		info, err := f.Info()
		if err != nil {
			t.Fatal(err)
		}
		sizes[filepath.Join(cloud, "d", f.Name())] = info.Size()
	}
	return sizes
}

// flip changes one bit of a file.
func flip(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	data[len(data)/2] ^= 1
	return os.WriteFile(path, data, 0o600)
}
