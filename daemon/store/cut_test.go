package store

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/locker-project/locker/plugins/locker"
)

// A sweep over many records, cut in portions between which records change and move,
// hands out everything.
func TestCutSweeps(t *testing.T) {
	r := rand.New(rand.NewPCG(seed(t), 3))
	from, to := testStore(t, "a"), testStore(t, "b")
	var records []locker.Record
	for i := range 3 * sweepLeast {
		records = append(records, at(note(fmt.Sprint(i), fmt.Sprintf(`{"x":%d}`, i)), r.IntN(1000)))
	}
	write(t, from, ownerAuthor, records...)
	var pos []byte
	swept := false
	for portion := 0; ; portion++ {
		lines, next, urgent, err := from.Cut(t.Context(), pos, 20_000)
		if err != nil {
			t.Fatal(err)
		}
		if len(lines) == 0 {
			break
		}
		if !urgent || len(lines) > 21_000 || portion > 100 {
			t.Fatalf("portion %d: %d bytes, urgent %v", portion, len(lines), urgent)
		}
		p, err := decodePosition(next)
		if err != nil {
			t.Fatal(err)
		}
		swept = swept || len(p.cursor) > 0
		if _, _, err := to.Join(t.Context(), lines, nil); err != nil {
			t.Fatal(err)
		}
		for range 3 * min(1, max(0, 10-portion)) {
			id := r.IntN(len(records))
			write(t, from, ownerAuthor, at(note(fmt.Sprint(id), fmt.Sprintf(`{"x":%d,"y":%d}`, -id, portion)), r.IntN(1000)))
			if _, err := from.Delete(t.Context(), ownerAuthor, "notes", fmt.Sprint(r.IntN(len(records)))); err != nil {
				t.Fatal(err)
			}
		}
		pos = next
	}
	if !swept {
		t.Error("no sweep")
	}
	if dump(t, from) != dump(t, to) || from.StateHash() != to.StateHash() {
		t.Error("something was not handed out")
	}
	if lines, _, _, err := to.Cut(t.Context(), nil, 1<<20); err != nil || len(lines) > 0 {
		t.Errorf("what came from elsewhere is handed out: %s, %v", lines, err)
	}
	if _, _, _, err := from.Cut(t.Context(), []byte{9, 9}, 1<<20); err == nil {
		t.Error("a damaged position: no error")
	}
}

// A store whose device became a new one hands out what the old one had not.
func TestCutAfterBecomingAnother(t *testing.T) {
	mem := vfs.NewMem()
	open := func(device string) *Store {
		t.Helper()
		s, err := Open("store", options(mem, device))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := open("old")
	write(t, s, ownerAuthor, note("1", `{"x":1}`))
	_, pos, _, err := s.Cut(t.Context(), nil, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	write(t, s, ownerAuthor, note("2", `{"x":2}`))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open("new")
	defer s.Close()
	write(t, s, ownerAuthor, note("3", `{"x":3}`))
	lines, pos, _, err := s.Cut(t.Context(), pos, 1<<20)
	if err != nil || bytes.Count(lines, []byte("\n")) != 2 || !bytes.Contains(lines, []byte(`"device":"old","fields":{"x":2}`)) || !bytes.Contains(lines, []byte(`"device":"new","fields":{"x":3}`)) {
		t.Fatalf("%s, %v", lines, err)
	}
	write(t, s, ownerAuthor, note("4", `{"x":4}`))
	if lines, _, _, err = s.Cut(t.Context(), pos, 1<<20); err != nil || bytes.Count(lines, []byte("\n")) != 1 {
		t.Fatalf("%s, %v", lines, err)
	}
}
