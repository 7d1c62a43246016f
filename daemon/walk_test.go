package daemon

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestWalk: every file is there once, in order, with a note where it is left alone.
func TestWalk(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"b/two.csv": "2", "a.csv": "1", "b/empty": "", ".hidden": "3", "home/device.json": "keys", "z.zip": "4",
	} {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	links := os.Symlink(filepath.Join(dir, "a.csv"), filepath.Join(dir, "link")) == nil
	home := Home(filepath.Join(dir, "home"))
	files, err := walk(context.Background(), []string{filepath.Join(dir, "a.csv"), dir, filepath.Join(dir, "b")}, home)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range files {
		line := f.name
		if f.note != "" {
			line += ": " + f.note
		}
		if links || f.name != "link" {
			got = append(got, line)
		}
	}
	want := []string{"a.csv", ".hidden", "b/empty: is empty", "b/two.csv", "home: is this locker itself; it was left alone"}
	if links {
		want = append(want, "link: is a link; name what it points to if you want that")
	}
	want = append(want, "z.zip")
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if _, err := walk(context.Background(), []string{filepath.Join(dir, "none")}, home); err == nil {
		t.Error("a path that is not there is no error")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := walk(ctx, []string{dir}, home); err != context.Canceled {
		t.Errorf("canceled: %v", err)
	}
}

// TestInput: a connector reads what the file held when it was opened, and no more.
func TestInput(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, []byte("0123456789"), 0o600); err != nil {
		t.Fatal(err)
	}
	in, err := openInput(found{path: path, name: "f"})
	if err != nil {
		t.Fatal(err)
	}
	defer in.close()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString("more"); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		off  int64
		n    int
		want string
		err  error
	}{{0, 4, "0123", nil}, {8, 4, "89", io.EOF}, {10, 1, "", io.EOF}, {20, 1, "", io.EOF}, {6, 4, "6789", nil}} {
		p := make([]byte, test.n)
		n, err := in.ReadAt(p, test.off)
		if string(p[:n]) != test.want || err != test.err {
			t.Errorf("ReadAt(%d, %d) = %q, %v; want %q, %v", test.n, test.off, p[:n], err, test.want, test.err)
		}
	}
	if in.read.Load() != 10 {
		t.Errorf("it has come to %d, want 10", in.read.Load())
	}
}
