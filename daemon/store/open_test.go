package store

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/locker-project/locker/daemon/store/encfs"
	"github.com/locker-project/locker/plugins/locker"
)

func TestWrongKey(t *testing.T) {
	mem := vfs.NewMem()
	s, err := Open("store", options(mem, "d"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, s, ownerAuthor, note("1", `{"x":1}`))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	other := options(mem, "d")
	other.Key[0]++
	if _, err := Open("store", other); !errors.Is(err, ErrWrongKey) {
		t.Errorf("another key: %v", err)
	}
	spoil := func(name, content string) {
		t.Helper()
		f, err := mem.Create(name, vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(f, content); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	check := readAll(t, mem, "store/check")
	for name, content := range map[string]string{"cut": check[:20], "foreign": "hello", "flipped": check[:len(check)-1] + string(check[len(check)-1]^1), "empty": ""} {
		spoil("store/check", content)
		if _, err := Open("store", options(mem, "d")); !errors.Is(err, ErrWrongKey) {
			t.Errorf("a check file that is %s: %v", name, err)
		}
	}
	if err := mem.Remove("store/check"); err != nil {
		t.Fatal(err)
	}
	if _, err := Open("store", options(mem, "d")); !errors.Is(err, ErrWrongKey) {
		t.Errorf("data without a check file: %v", err)
	}
	spoil("store/check", check)
	s, err = Open("store", options(mem, "d"))
	if err != nil {
		t.Fatalf("the right key and file again: %v", err)
	}
	wantState(t, s, `1{"x":1}`)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// Files of a store with another key, put in the place of ours one at a time, are an
// error that says so.
func TestForeignFiles(t *testing.T) {
	build := func(key byte) *vfs.MemFS {
		mem := vfs.NewMem()
		o := options(mem, "d")
		o.Key = [32]byte{key}
		s, err := Open("store", o)
		if err != nil {
			t.Fatal(err)
		}
		write(t, s, ownerAuthor, note("1", `{"x":1}`))
		if err := errors.Join(s.db.Flush(), s.Close()); err != nil {
			t.Fatal(err)
		}
		return mem
	}
	foreign := build(2)
	for _, prefix := range []string{"MANIFEST", "OPTIONS", "0"} {
		mine := build(1)
		names, err := mine.List("store/db")
		if err != nil {
			t.Fatal(err)
		}
		swapped := 0
		for _, name := range names {
			if strings.HasPrefix(name, prefix) {
				if _, err := vfs.Clone(foreign, mine, "store/db/"+name, "store/db/"+name); err == nil {
					swapped++
				}
			}
		}
		if swapped == 0 {
			t.Fatalf("no file %s… in %q", prefix, names)
		}
		o := options(mine, "d")
		o.Key = [32]byte{1}
		s, err := Open("store", o)
		if err == nil {
			_, err = s.View(ownerAuthor).Get(t.Context(), "notes", "1")
			err = errors.Join(err, s.Close())
		}
		if err == nil || !strings.Contains(err.Error(), encfs.ErrKey.Error()) {
			t.Errorf("foreign %s: %v", prefix, err)
		}
	}
}

func readAll(t *testing.T, f vfs.FS, name string) string {
	t.Helper()
	r, err := f.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Nothing that was written can be read in the folder.
func TestNoPlaintext(t *testing.T) {
	dir := t.TempDir()
	o := options(nil, "device-with-a-name")
	s, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	const secret = "unmistakable"
	write(t, s, importAuthor(secret), locker.Record{Collection: secret, ID: secret, Fields: []byte(`{"` + secret + `":"` + secret + `"}`)})
	if _, _, err := s.PutBlob(t.Context(), strings.NewReader(strings.Repeat(secret, 1000))); err != nil {
		t.Fatal(err)
	}
	if err := s.SetNotes(t.Context(), map[string][]byte{secret: []byte(secret)}); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.db.Flush(), s.Close()); err != nil {
		t.Fatal(err)
	}
	files := 0
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		files++
		raw, err := os.ReadFile(path)
		if bytes.Contains(raw, []byte(secret)) || bytes.Contains(raw, []byte("device-with")) || strings.Contains(path, secret) {
			t.Errorf("%s has plaintext", path)
		}
		return err
	})
	if err != nil || files < 6 {
		t.Fatalf("%d files, %v", files, err)
	}
}

func TestNotes(t *testing.T) {
	s := testStore(t, "d")
	set := func(notes map[string][]byte) {
		t.Helper()
		if err := s.SetNotes(t.Context(), notes); err != nil {
			t.Fatal(err)
		}
	}
	set(map[string][]byte{"a/2": []byte("two"), "a/1": []byte("one"), "b": {}, "c": []byte("x")})
	set(map[string][]byte{"c": nil, "none": nil})
	var got string
	for key, val := range s.Notes(t.Context(), "a/") {
		got += key + "=" + string(val) + " "
	}
	if got != "a/1=one a/2=two " {
		t.Errorf("notes %s", got)
	}
	for range s.Notes(t.Context(), "") {
		break
	}
	if v, err := s.Note(t.Context(), "b"); v == nil || len(v) != 0 || err != nil {
		t.Errorf("an empty note: %v, %v", v, err)
	}
	if v, err := s.Note(t.Context(), "c"); v != nil || err != nil {
		t.Errorf("a deleted note: %v, %v", v, err)
	}
}

func TestBlobs(t *testing.T) {
	s := testStore(t, "d")
	content := strings.Repeat("0123456789", 100_000)
	id, size, err := s.PutBlob(t.Context(), strings.NewReader(content))
	if err != nil || size != int64(len(content)) || !isBlobID(id) {
		t.Fatal(id, size, err)
	}
	again, _, err := s.PutBlob(t.Context(), strings.NewReader(content))
	if again != id || err != nil {
		t.Fatalf("the same bytes: %s, %v", again, err)
	}
	second, _, err := s.PutBlob(t.Context(), strings.NewReader(""))
	if err != nil {
		t.Fatal(err)
	}
	ids, next, err := s.NewBlobs(t.Context(), nil)
	if err != nil || len(ids) != 2 || ids[0] != id || ids[1] != second {
		t.Fatalf("new blobs %q, %v", ids, err)
	}
	if ids, _, err := s.NewBlobs(t.Context(), next); err != nil || len(ids) != 0 {
		t.Fatalf("new blobs after the last: %q, %v", ids, err)
	}
	other := testStore(t, "e")
	if err := other.PutBlobAs(t.Context(), id, from(content+"x")); !errors.Is(err, locker.ErrInvalid) {
		t.Errorf("other bytes: %v", err)
	}
	if _, _, err := other.OpenBlob(t.Context(), id); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a blob that is not there: %v", err)
	}
	if err := other.PutBlobAs(t.Context(), id, from(content)); err != nil {
		t.Fatal(err)
	}
	if ids, _, err := other.NewBlobs(t.Context(), nil); err != nil || len(ids) != 0 {
		t.Errorf("a blob from elsewhere is new: %q, %v", ids, err)
	}
	r, size, err := other.OpenBlob(t.Context(), id)
	if err != nil || size != int64(len(content)) {
		t.Fatal(size, err)
	}
	b := make([]byte, 10)
	if n, err := r.(io.ReaderAt).ReadAt(b, 500_003); n != 10 || string(b) != "3456789012" {
		t.Errorf("ReadAt: %q, %v", b, err)
	}
	if _, err := r.(io.Seeker).Seek(-3, io.SeekEnd); err != nil {
		t.Error(err)
	}
	if rest, err := io.ReadAll(r); string(rest) != "789" || err != nil {
		t.Errorf("after Seek: %q, %v", rest, err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"", "x", "../../etc/passwd", strings.ToUpper(id)} {
		if _, _, err := s.OpenBlob(t.Context(), bad); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("blob %q: %v", bad, err)
		}
		if err := s.PutBlobAs(t.Context(), bad, from("")); !errors.Is(err, locker.ErrInvalid) {
			t.Errorf("put as %q: %v", bad, err)
		}
	}
	failing := io.MultiReader(strings.NewReader("abc"), errReader{})
	if _, _, err := s.PutBlob(t.Context(), failing); err == nil {
		t.Error("a reader that fails: no error")
	}
	names, err := s.fs.List("store/blobs")
	for _, name := range names {
		if err != nil || strings.HasPrefix(name, leftover) {
			t.Errorf("left over: %s, %v", name, err)
		}
	}
}

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, errors.New("broken") }
