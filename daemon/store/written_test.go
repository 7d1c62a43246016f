package store

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/locker-project/locker/plugins/locker"
)

// written reads all that Written says of a device, in portions, and calls between
// after each.
func written(t *testing.T, s *Store, device string, from, to uint64, max int, between func()) []byte {
	t.Helper()
	var all, pos []byte
	for {
		lines, next, err := s.Written(t.Context(), device, from, to, pos, max)
		if err != nil {
			t.Fatal(err)
		}
		if len(lines) > max+1000 {
			t.Fatalf("%d bytes where %d were asked for", len(lines), max)
		}
		all = append(all, lines...)
		if next == nil {
			return all
		}
		between()
		pos = next
	}
}

// TestWritten: what a device wrote, and is still part of the state, is handed out
// whole, in portions between which records change and move; nothing of another device
// is, and nothing outside the clocks that were asked for. A store that is given all
// that all devices wrote is equal.
func TestWritten(t *testing.T) {
	r := rand.New(rand.NewPCG(seed(t), 5))
	a, b := testStore(t, "a"), testStore(t, "b")
	join := func(s *Store, lines []byte) {
		t.Helper()
		if _, _, err := s.Join(t.Context(), lines, nil); err != nil {
			t.Fatal(err)
		}
	}
	var middle uint64
	for round := range 40 {
		for range 50 {
			s, id := []*Store{a, b}[r.IntN(2)], fmt.Sprint(r.IntN(400))
			if r.IntN(8) == 0 {
				if _, err := s.Delete(t.Context(), ownerAuthor, "notes", id); err != nil && !strings.Contains(err.Error(), "not found") {
					t.Fatal(err)
				}
				continue
			}
			write(t, s, ownerAuthor, at(note(id, fmt.Sprintf(`{"f%d":%d}`, r.IntN(3), r.IntN(1000))), r.IntN(1000)))
		}
		join(a, written(t, b, "b", 0, maxClock, 4000, func() {}))
		join(b, written(t, a, "a", 0, maxClock, 4000, func() {}))
		if round == 20 {
			a.mu.Lock()
			middle = a.meta.clock
			a.mu.Unlock()
		}
	}
	if dump(t, a) != dump(t, b) {
		t.Fatal("two stores that were given what the other wrote differ")
	}
	whole := testStore(t, "c")
	join(whole, written(t, a, "", 0, maxClock, 3000, func() {}))
	if dump(t, a) != dump(t, whole) {
		t.Error("a store that was given everything differs")
	}
	early, late := written(t, a, "b", 0, middle, 3000, func() {}), written(t, a, "b", middle, maxClock, 3000, func() {})
	all := written(t, a, "b", 0, maxClock, 3000, func() {})
	if len(early) == 0 || len(late) == 0 || bytes.Count(early, []byte("\n"))+bytes.Count(late, []byte("\n")) != bytes.Count(all, []byte("\n")) {
		t.Errorf("%d and %d bytes of %d, before and after a clock", len(early), len(late), len(all))
	}
	if bytes.Contains(all, []byte(`"device":"a"`)) {
		t.Error("it has values of another device")
	}
	if lines, next, err := a.Written(t.Context(), "nobody", 0, maxClock, nil, 1000); lines != nil || next != nil || err != nil {
		t.Errorf("of a device that is not known: %q, %q, %v", lines, next, err)
	}
	if _, _, err := a.Written(t.Context(), "b", 0, maxClock, []byte{9, 9}, 1000); err == nil {
		t.Error("a damaged position: no error")
	}
}

// TestWrittenMeanwhile: what moves behind the reader while it reads is not missed.
func TestWrittenMeanwhile(t *testing.T) {
	r := rand.New(rand.NewPCG(seed(t), 6))
	from, here, to := testStore(t, "far"), testStore(t, "here"), testStore(t, "to")
	var records []locker.Record
	for i := range 1500 {
		records = append(records, at(note(fmt.Sprint(i), fmt.Sprintf(`{"x":%d}`, i)), 500+r.IntN(500)))
	}
	write(t, from, ownerAuthor, records...)
	lines, _, _, err := from.Cut(t.Context(), nil, 10<<20)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := here.Join(t.Context(), lines, nil); err != nil {
		t.Fatal(err)
	}
	moves := 0
	got := written(t, here, "far", 0, maxClock, 3000, func() {
		for range 5 { // to the front, behind the reader
			moves++
			write(t, here, ownerAuthor, at(note(fmt.Sprint(r.IntN(1500)), `{"y":1}`), r.IntN(400)))
		}
	})
	if moves < 100 {
		t.Fatalf("only %d records moved meanwhile", moves)
	}
	if _, _, err := to.Join(t.Context(), got, nil); err != nil {
		t.Fatal(err)
	}
	if n, err := to.Collections(); err != nil || n["notes"] != 1500 {
		t.Errorf("%d records of 1500 came over, %v", n["notes"], err)
	}
}

// TestCutAfterBecomingOtherTwice: a store that became a new device twice before
// anything was handed out hands out what was written under all three.
func TestCutAfterBecomingOtherTwice(t *testing.T) {
	mem := vfs.NewMem()
	var pos []byte
	for i, device := range []string{"first", "second", "third"} {
		s, err := Open("store", options(mem, device))
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			lines, next, _, err := s.Cut(t.Context(), nil, 0)
			if err != nil || len(lines) > 0 {
				t.Fatalf("%s, %v", lines, err)
			}
			pos = next
		}
		write(t, s, ownerAuthor, note(device, fmt.Sprintf(`{"x":%d}`, i)))
		lines, next, _, err := s.Cut(t.Context(), pos, 0)
		if err != nil || len(lines) > 0 {
			t.Fatalf("%s, %v", lines, err)
		}
		pos = next
		if i == 2 {
			if lines, _, _, err = s.Cut(t.Context(), pos, 1<<20); err != nil || bytes.Count(lines, []byte("\n")) != 3 {
				t.Errorf("%s, %v", lines, err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
