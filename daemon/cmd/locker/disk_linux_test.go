package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestDiskFull: an import that fills the disk ends with a clear error, nothing that
// was acknowledged is lost, and with more room the same import completes.
func TestDiskFull(t *testing.T) {
	disk := t.TempDir()
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=256m,mode=700"); err != nil {
		t.Skipf("no small disk can be made here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(disk, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	d := newDevice(t, "unused")
	d.home = filepath.Join(disk, "home")
	d.run("init", "--phrase-out", filepath.Join(t.TempDir(), "phrase"))
	put := d.command("put", "notes")
	put.Stdin = strings.NewReader(`{"id":"n1","fields":{"name":"acknowledged"}}` + "\n")
	if out, err := put.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	file := statement(t, 40000)
	filler := filepath.Join(disk, "filler")
	fill(t, filler, 67<<20) // a little more than what the store wants to be free
	out, stderr, code := d.try("import", file)
	if code != 1 || !strings.Contains(stderr, "next: free some space") {
		t.Fatalf("with a full disk: exit code %d\n%s%s", code, out, stderr)
	}
	if out := d.run("get", "notes", "n1"); !strings.Contains(out, "acknowledged") {
		t.Errorf("the note is %s", out)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	d.run("import", file)
	if n := d.well().Records; n != 40001 {
		t.Errorf("%d records, want 40001", n)
	}
}

// fill writes a file that leaves so many bytes of its disk free.
func fill(t *testing.T, path string, left int64) {
	t.Helper()
	var st syscall.Statfs_t
	if err := syscall.Statfs(filepath.Dir(path), &st); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, make([]byte, int64(st.Bavail)*st.Bsize-left), 0o600); err != nil {
		t.Fatal(err)
	}
}
