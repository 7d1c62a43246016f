package store

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/locker-project/locker/plugins/locker"
)

// from is bytes for PutBlobAs.
func from(s string) func(int64) (io.ReadCloser, error) {
	return func(off int64) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(s[off:])), nil }
}

// noise is so many bytes that repeat nowhere.
func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	r.Read(b)
	return b
}

// TestBlobID holds the ids of blobs: of up to 1 MiB as in the first version.
func TestBlobID(t *testing.T) {
	s := testStore(t, "d")
	mac := func(b []byte) string {
		m := hmac.New(sha256.New, []byte("blob key"))
		m.Write(b)
		return hex.EncodeToString(m.Sum(nil))
	}
	for _, size := range []int{0, 1, blobPiece - 1, blobPiece, blobPiece + 1, 2 * blobPiece, 5*blobPiece + 7} {
		data := noise(uint64(size), size)
		var sums []byte
		for piece := range slices.Chunk(data, blobPiece) {
			sum := sha256.Sum256(piece)
			sums = append(sums, sum[:]...)
		}
		if size == 0 {
			sum := sha256.Sum256(nil)
			sums = sum[:]
		}
		id, _, err := s.PutBlob(t.Context(), bytes.NewReader(data))
		if err != nil || id != mac(sums) {
			t.Errorf("%d bytes: id %s, %v, want %s", size, id, err, mac(sums))
		}
		if !s.BlobIs(id, int64(size), sums) {
			t.Errorf("%d bytes: not recognised by its hashes", size)
		}
		sums[5] ^= 1
		if s.BlobIs(id, int64(size), sums) || s.BlobIs(id, int64(size), sums[:len(sums)-1]) || s.BlobIs(id, int64(size)+blobPiece, sums) {
			t.Errorf("%d bytes: recognised by other hashes", size)
		}
		whole := sha256.Sum256(data)
		earlier, other := mac(whole[:]), testStore(t, "e")
		if err := other.PutBlobAs(t.Context(), earlier, from(string(data))); err != nil {
			t.Errorf("%d bytes under an id of the first version: %v", size, err)
		}
		if same := earlier == id; same != (size <= blobPiece) {
			t.Errorf("%d bytes: the ids of both versions are equal: %v", size, same)
		}
	}
}

// TestResumeBlob cuts a transfer off, in every part, and goes on: nothing that is
// here is asked for again, and damage anywhere is found.
func TestResumeBlob(t *testing.T) {
	size := 3*blobPart + 100
	data := noise(1, size)
	id, _, err := testStore(t, "d").PutBlob(t.Context(), bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	disk := vfs.NewMem()
	s, err := Open("store", options(disk, "e"))
	if err != nil {
		t.Fatal(err)
	}
	var asked []int64
	for _, cut := range []int{0, 10, blobPart - 1, blobPart + 1, 2*blobPart + 5, 3 * blobPart, 3*blobPart + 50} {
		err := s.PutBlobAs(t.Context(), id, func(off int64) (io.ReadCloser, error) {
			asked = append(asked, off)
			return io.NopCloser(io.MultiReader(bytes.NewReader(data[off:max(int64(cut), off)]), errReader{})), nil
		})
		if err == nil {
			t.Fatal("a transfer that was cut off: no error")
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if s, err = Open("store", options(disk, "e")); err != nil {
			t.Fatal(err)
		}
	}
	if want := []int64{0, 0, 0, 0, blobPart, 2 * blobPart, 3 * blobPart}; !slices.Equal(asked, want) {
		t.Errorf("asked for the bytes from %v, want %v", asked, want)
	}
	if err := s.PutBlobAs(t.Context(), id, from(string(data))); err != nil {
		t.Fatal(err)
	}
	r, n, err := s.OpenBlob(t.Context(), id)
	if err != nil || n != int64(size) {
		t.Fatal(n, err)
	}
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, data) {
		t.Errorf("the bytes are not those that were put: %d of %d, %v", len(got), size, err)
	}
	b := make([]byte, 64)
	if _, err := r.(io.ReaderAt).ReadAt(b, blobPart-30); err != nil || !bytes.Equal(b, data[blobPart-30:blobPart+34]) {
		t.Errorf("across two parts: %v", err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if err := errors.Join(s.DropBlob(t.Context(), id), s.DropBlob(t.Context(), id)); err != nil {
		t.Fatal(err)
	}
	bad := bytes.Clone(data)
	bad[blobPart+3] ^= 1
	if err := s.PutBlobAs(t.Context(), id, from(string(bad))); !errors.Is(err, locker.ErrInvalid) {
		t.Errorf("other bytes: %v", err)
	}
	if err := s.PutBlobAs(t.Context(), id, from(string(data))); err != nil {
		t.Errorf("good bytes after bad ones: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestStaleParts: what nobody goes on with is removed after a week.
func TestStaleParts(t *testing.T) {
	disk, day := vfs.NewMem(), time.Duration(0)
	o := options(disk, "e")
	o.Clock = func() time.Time { return time.Now().Add(day) }
	id := strings.Repeat("ab", 32)
	for _, c := range []struct {
		after time.Duration
		want  int
	}{{0, 1}, {6 * 24 * time.Hour, 1}, {8 * 24 * time.Hour, 0}} {
		day = c.after
		s, err := Open("store", o)
		if err != nil {
			t.Fatal(err)
		}
		if names, err := s.fs.List(s.partsDir()); c.after > 0 && (err != nil || len(names) != c.want) {
			t.Errorf("after %v: %v, %v", c.after, names, err)
		}
		if c.after == 0 {
			err = s.PutBlobAs(t.Context(), id, func(int64) (io.ReadCloser, error) {
				return io.NopCloser(io.MultiReader(bytes.NewReader(make([]byte, blobPart)), errReader{})), nil
			})
			if err == nil {
				t.Fatal("no error")
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRefsIn(t *testing.T) {
	a, b := strings.Repeat("0a", 32), strings.Repeat("f1", 32)
	for _, c := range []struct {
		text string
		want []string
	}{
		{`"` + a + `"`, []string{a}},
		{`{"x":"` + b + `","y":[{"z":"` + a + `"}]}`, []string{a, b}},
		{`"` + a + `""` + a + `"`, []string{a}},
		{`"` + a + `,"` + b + `"`, []string{b}},
		{a, nil},
		{`"` + a + `0"`, nil},
		{`"` + a[1:] + `"`, nil},
		{`"` + strings.ToUpper(a) + `"`, nil},
		{`" ` + a + `"`, nil},
		{strings.Repeat("deadbeef", 100), nil},
		{"", nil},
	} {
		for pad := range 130 {
			text := strings.Repeat("e", pad) + " " + c.text + strings.Repeat(" ", pad%3)
			var got []string
			for _, id := range refsIn([]byte(text)) {
				got = append(got, hex.EncodeToString(id[:]))
			}
			if !slices.Equal(got, c.want) {
				t.Fatalf("%q: %v, want %v", text, got, c.want)
			}
		}
	}
}

// references are the collections of the records that refer to a blob.
func references(t *testing.T, s *Store, id string) (all []string) {
	t.Helper()
	err := s.BlobRecords(context.Background(), id, func(collection string, millis int64) bool {
		all = append(all, fmt.Sprint(collection, " ", time.UnixMilli(millis).UTC().Hour()))
		return true
	})
	if err != nil {
		t.Error(err)
	}
	return all
}

// TestRefs follows references through writing, replacing, deleting, undoing and
// joining. testStore checks the whole index at the end.
func TestRefs(t *testing.T) {
	s, other := testStore(t, "d"), testStore(t, "e")
	view := s.View(Author{Class: Owner})
	a, b := strings.Repeat("0a", 32), strings.Repeat("f1", 32)
	put := func(r locker.Record) {
		t.Helper()
		if err := view.Put(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	put(at(note("1", `{"image":"`+a+`"}`), 7))
	put(locker.Record{Collection: "posts", ID: "1", Fields: json.RawMessage(`{"attachment":[{"blob":"` + a + `"},{"blob":"` + b + `"}]}`)})
	if got := references(t, s, a); !slices.Equal(got, []string{"notes 7", "posts 0"}) {
		t.Errorf("%v", got)
	}
	put(at(note("1", `{"image":"`+b+`"}`), 7))
	if got := references(t, s, a); !slices.Equal(got, []string{"posts 0"}) {
		t.Errorf("after a value was replaced: %v", got)
	}
	if _, err := s.Delete(t.Context(), Author{Class: Owner}, "posts", "1"); err != nil {
		t.Fatal(err)
	}
	if got := references(t, s, a); len(got) != 0 {
		t.Errorf("after the record was deleted: %v", got)
	}
	lines, _, _, err := s.Cut(t.Context(), nil, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := other.Join(t.Context(), lines, nil); err != nil {
		t.Fatal(err)
	}
	if got := references(t, other, b); !slices.Equal(got, []string{"notes 7"}) {
		t.Errorf("on another device: %v", got)
	}
}

// TestMakeRefs: a store of a version without the index gets it when it is opened.
func TestMakeRefs(t *testing.T) {
	disk, id := vfs.NewMem(), strings.Repeat("0a", 32)
	s, err := Open("store", options(disk, "d"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.View(Author{Class: Owner}).Put(t.Context(), note("1", `{"image":"`+id+`"}`)); err != nil {
		t.Fatal(err)
	}
	if err := s.db.DeleteRange([]byte{spaceRefs}, []byte{spaceRefs + 1}, pebble.Sync); err != nil {
		t.Fatal(err)
	}
	if err := s.db.Delete(refsMade, pebble.Sync); err != nil {
		t.Fatal(err)
	}
	if s.Check(t.Context()) == nil {
		t.Error("Check does not miss the index")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = Open("store", options(disk, "d")); err != nil {
		t.Fatal(err)
	}
	if err := s.Check(t.Context()); err != nil || len(references(t, s, id)) != 1 {
		t.Errorf("%v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestDropBlob: what is dropped is gone, what is put again is new again, and when a
// blob was last asked for is known.
func TestDropBlob(t *testing.T) {
	now := time.Now()
	s := testStore(t, "d", func(o *Options) { o.Clock = func() time.Time { return now } })
	id, _, err := s.PutBlob(t.Context(), strings.NewReader("abc"))
	if err != nil {
		t.Fatal(err)
	}
	listed := func() (all []string) {
		err := s.Blobs(t.Context(), func(id string, size, used int64) error {
			all = append(all, fmt.Sprintf("%s %d %d", id, size, used-now.UnixMilli()))
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		return all
	}
	if got := listed(); !slices.Equal(got, []string{id + " 3 0"}) {
		t.Errorf("%v", got)
	}
	now = now.Add(2 * time.Hour)
	if got := listed(); !slices.Equal(got, []string{fmt.Sprint(id, " 3 ", -2*time.Hour.Milliseconds())}) {
		t.Errorf("%v", got)
	}
	r, _, err := s.OpenBlob(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if got := listed(); !slices.Equal(got, []string{id + " 3 0"}) {
		t.Errorf("after it was opened: %v", got)
	}
	if err := errors.Join(r.Close(), s.DropBlob(t.Context(), id)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.OpenBlob(t.Context(), id); !errors.Is(err, fs.ErrNotExist) || len(listed()) != 0 {
		t.Errorf("it is still there: %v", err)
	}
	_, next, err := s.NewBlobs(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, _, err := s.PutBlob(t.Context(), strings.NewReader("abc")); err != nil {
			t.Fatal(err)
		}
		ids, after, err := s.NewBlobs(t.Context(), next)
		if err != nil || !slices.Equal(ids, []string{id}) {
			t.Errorf("put again: new are %v, %v", ids, err)
		}
		next = after
	}
}
