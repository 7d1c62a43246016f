package remote

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/locker-project/locker/daemon/remote/fault"
	"github.com/locker-project/locker/daemon/replica"
	"github.com/locker-project/locker/daemon/replica/replicatest"
)

var testName = "d/" + strings.Repeat("a", 52)

func newFolder(t *testing.T) *FolderRemote {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "cloud")
	if err := PrepareFolder(dir); err != nil {
		t.Fatal(err)
	}
	f, err := Folder(dir)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// wantFault checks the kind of an error, and that its text has some words in it.
func wantFault(t *testing.T, err error, kind fault.Kind, words ...string) {
	t.Helper()
	f, ok := fault.Parse(err)
	if !ok || f.Kind != kind {
		t.Fatalf("got %v; want a fault of the kind %q", err, kind)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q does not say %q", err, w)
		}
	}
}

func TestFolderConformance(t *testing.T) {
	replicatest.Remote(t, func(t *testing.T) replica.Remote { return newFolder(t) })
}

// TestFolderAway: a folder that is not there, or that is empty as the mount point of a
// drive that is away, is told of, and nothing is made there.
func TestFolderAway(t *testing.T) {
	ctx := t.Context()
	for name, away := range map[string]func(dir string) error{
		"gone":              os.RemoveAll,
		"empty mount point": func(dir string) error { return errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o700)) },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFolder(t)
			if err := f.Put(ctx, testName, strings.NewReader("x"), 1); err != nil {
				t.Fatal(err)
			}
			if err := away(f.dir); err != nil {
				t.Fatal(err)
			}
			wantFault(t, f.Put(ctx, testName, strings.NewReader("x"), 1), fault.Offline, f.dir, "mount")
			_, err := f.Get(ctx, testName, 0, -1)
			wantFault(t, err, fault.Offline)
			wantFault(t, f.Delete(ctx, testName), fault.Offline)
			for _, err := range f.List(ctx, "") {
				wantFault(t, err, fault.Offline)
			}
			_, err = Check(ctx, f)
			wantFault(t, err, fault.Offline)
			if entries, _ := os.ReadDir(f.dir); len(entries) > 0 {
				t.Errorf("made there: %v", entries)
			}
		})
	}
}

func TestPrepareFolder(t *testing.T) {
	dir := t.TempDir()
	wantFault(t, PrepareFolder(filepath.Join(dir, "none", "cloud")), fault.Offline, "make that folder first")
	for range 2 { // the second time it is there
		if err := PrepareFolder(filepath.Join(dir, "cloud")); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "k"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	wantFault(t, PrepareFolder(dir), fault.Settings, "in the way")
}

// TestFolderLinks: nothing outside the folder is read, written or deleted through a link.
func TestFolderLinks(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("links need a privilege on Windows")
	}
	ctx, f, outside := t.Context(), newFolder(t), t.TempDir()
	secret := filepath.Join(outside, testName[2:])
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	check := func(t *testing.T) {
		if body, err := f.Get(ctx, testName, 0, -1); err == nil {
			if got, err := io.ReadAll(body); err != nil || len(got) > 0 {
				t.Errorf("an object was read through a link: %q, %v", got, err)
			}
			body.Close()
		}
		if got, err := os.ReadFile(secret); err != nil || string(got) != "secret" {
			t.Errorf("the file outside: %q, %v", got, err)
		}
		for info, err := range f.List(ctx, "d/") {
			if err == nil {
				t.Errorf("listed: %v", info)
			}
		}
	}
	if err := os.Symlink(secret, filepath.Join(f.dir, testName)); err != nil {
		t.Fatal(err)
	}
	check(t)
	if err := f.Put(ctx, testName, strings.NewReader("new"), 3); err != nil { // takes the link's place
		t.Fatal(err)
	}
	if err := f.Delete(ctx, testName); err != nil {
		t.Fatal(err)
	}
	check(t)
	if err := errors.Join(os.RemoveAll(filepath.Join(f.dir, "d")), os.Symlink(outside, filepath.Join(f.dir, "d"))); err != nil {
		t.Fatal(err)
	}
	check(t)
	if err := f.Put(ctx, testName, strings.NewReader("new"), 3); err == nil {
		t.Error("an object was written through a link")
	}
	_ = f.Delete(ctx, testName)
	check(t)
}

func TestFolderErrors(t *testing.T) {
	if os.Geteuid() == 0 || runtime.GOOS == "windows" {
		t.Skip("nothing is forbidden to this user")
	}
	f := newFolder(t)
	if err := os.Chmod(filepath.Join(f.dir, "d"), 0o500); err != nil {
		t.Fatal(err)
	}
	wantFault(t, f.Put(t.Context(), testName, strings.NewReader("x"), 1), fault.Denied, "right")
}

// TestFolderSweep: files that a crash left behind go after a day, those of others that
// are just being written do not.
func TestFolderSweep(t *testing.T) {
	f := newFolder(t)
	old, fresh := filepath.Join(f.dir, "d", partPrefix+"0001"), filepath.Join(f.dir, "d", partPrefix+"0002")
	for _, path := range []string{old, fresh} {
		if err := os.WriteFile(path, []byte("part"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	day := time.Now().Add(-staleAfter - time.Hour)
	if err := os.Chtimes(old, day, day); err != nil {
		t.Fatal(err)
	}
	if err := f.Put(t.Context(), testName, strings.NewReader("x"), 1); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(old); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the old part: %v", err)
	}
	if _, err := os.Stat(fresh); err != nil {
		t.Errorf("the fresh part: %v", err)
	}
}

func TestCheck(t *testing.T) {
	f := newFolder(t)
	stale := filepath.Join(f.dir, probeName())
	if err := os.WriteFile(stale, []byte("probe"), 0o600); err != nil {
		t.Fatal(err)
	}
	long := time.Now().Add(-48 * time.Hour)
	if err := os.Chtimes(stale, long, long); err != nil {
		t.Fatal(err)
	}
	r, err := Check(t.Context(), f)
	if err != nil || len(r.Warnings) > 0 || r.Put <= 0 || r.Get <= 0 || r.List <= 0 || r.Delete <= 0 {
		t.Errorf("got %+v, %v", r, err)
	}
	for info := range f.List(t.Context(), "") {
		t.Errorf("left behind: %s", info.Name)
	}
}

// lying changes what is read.
type lying struct{ *FolderRemote }

func (l lying) Get(ctx context.Context, name string, off, n int64) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(make([]byte, 4096))), nil
}

func TestCheckFindsLies(t *testing.T) {
	f := newFolder(t)
	_, err := Check(t.Context(), lying{f})
	wantFault(t, err, fault.Broken, "not what was written")
	for info := range f.List(t.Context(), "") {
		t.Errorf("left behind: %s", info.Name)
	}
}

func BenchmarkFolderPut(b *testing.B) {
	dir := filepath.Join(b.TempDir(), "cloud")
	if err := PrepareFolder(dir); err != nil {
		b.Fatal(err)
	}
	f, err := Folder(dir)
	if err != nil {
		b.Fatal(err)
	}
	object := bytes.Repeat([]byte("x"), 16<<20)
	b.SetBytes(int64(len(object)))
	for b.Loop() {
		if err := f.Put(b.Context(), testName, bytes.NewReader(object), int64(len(object))); err != nil {
			b.Fatal(err)
		}
	}
}
