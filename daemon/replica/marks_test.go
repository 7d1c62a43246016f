package replica

import (
	"slices"
	"testing"
)

func TestMarkSet(t *testing.T) {
	for _, c := range []struct {
		m    uint64
		want []uint64
	}{
		{0, []uint64{}},
		{1, []uint64{1}},
		{8, []uint64{1, 2, 3, 4, 5, 6, 7, 8}},
		{20, []uint64{13, 14, 15, 16, 17, 18, 19, 20}},
		{300, []uint64{256, 288, 293, 294, 295, 296, 297, 298, 299, 300}},
	} {
		if got := markSet(c.m); !slices.Equal(got, c.want) {
			t.Errorf("%d: %v, want %v", c.m, got, c.want)
		}
	}
}

// TestMarksGone makes marks and deletes as it is told: what is there is always what
// it should be, little, and enough for the search, even where the newest ones are
// not seen yet.
func TestMarksGone(t *testing.T) {
	there := map[uint64]bool{}
	const last = 5000
	for m := uint64(1); m <= last; m++ {
		there[m] = true
		for _, gone := range marksGone(m) {
			if !there[gone] {
				t.Fatalf("mark %d is deleted twice", gone)
			}
			delete(there, gone)
		}
		if len(there) > 40 {
			t.Fatalf("%d marks are there after %d", len(there), m)
		}
		if m%97 != 0 && m < last-40 {
			continue
		}
		if !slices.Equal(sorted(there), marksOn(m)) {
			t.Fatalf("after %d there are %v, want %v", m, sorted(there), marksOn(m))
		}
		for unseen := uint64(0); unseen <= markLast && unseen < m; unseen++ {
			if got := ladder(func(n uint64) bool { return there[n] && n <= m-unseen }); got != m-unseen {
				t.Fatalf("the search finds %d, want %d of %d", got, m-unseen, m)
			}
		}
	}
}

// ladder is the search of newestMark over a set.
func ladder(there func(uint64) bool) (number uint64) {
	for step := uint64(1048576); step > 0; step /= markBase {
		for k := uint64(markBase - 1); k > 0; k-- {
			if there(number + k*step) {
				number += k * step
				break
			}
		}
	}
	return number
}

func TestCodec(t *testing.T) {
	c, err := newCodec()
	if err != nil {
		t.Fatal(err)
	}
	random := make([]byte, 300000)
	for i := range random {
		random[i] = byte(i * i * 31 >> 7)
	}
	for name, data := range map[string][]byte{
		"small": []byte("x"), "zeros": make([]byte, 3<<20), "random": random, "empty": nil,
	} {
		frames := c.compress(c.compress(nil, data), data)
		got, err := c.decompress(frames, nil, maxLines)
		if err != nil || !slices.Equal(got, slices.Concat(data, data)) {
			t.Errorf("%s: %d bytes come back as %d: %v", name, 2*len(data), len(got), err)
		}
		if len(data) > 0 {
			if _, err := c.decompress(frames, nil, len(data)); err == nil {
				t.Errorf("%s: more than the limit was opened", name)
			}
			if _, err := c.decompress(frames[:len(frames)-1], nil, maxLines); err == nil {
				t.Errorf("%s: frames that were cut were opened", name)
			}
		}
		stored, err := c.decompress(storedFrame(nil, data), nil, maxLines)
		if err != nil || !slices.Equal(stored, data) {
			t.Errorf("%s, stored: %v", name, err)
		}
	}
}

// FuzzHeader: whatever a header is, it is refused or can be used.
func FuzzHeader(f *testing.F) {
	h := &header{Version: 1, Clock: 1 << 40, Vector: map[string]seen{"abc": {3, "0000000000000000000000000000000000000000000000000000000000000000"}}}
	f.Add(h.encode())
	f.Add([]byte(`{"v":2}`))
	f.Add([]byte(`{"v":1,"vector":{"a":[1]},"bases":[],"clock":"0000000000000001","x":1}`))
	f.Fuzz(func(t *testing.T, log []byte) {
		h, err := parseHeader(log)
		if err != nil {
			return
		}
		again, err := parseHeader(h.encode())
		if err != nil {
			t.Fatalf("what was accepted is not accepted again: %v", err)
		}
		if again.Clock != h.Clock || len(again.Vector) != len(h.Vector) {
			t.Fatal("a header changes when it is written again")
		}
	})
}

// FuzzLines: no lines are lost or made up when they are sorted by kind.
func FuzzLines(f *testing.F) {
	f.Add([]byte(`{"collection":"a"}` + "\n" + `{"future":1}` + "\n" + `{"blob":"b","size":1,"chunks":[{"pack":1,"writer":"a","offset":0,"length":9}]}` + "\n"))
	f.Add([]byte("{\"collection\":1}\n{ \"collection\": 2}\n"))
	f.Fuzz(func(t *testing.T, lines []byte) {
		p, err := splitLines(lines)
		if err != nil {
			return
		}
		count := func(b []byte) int { return len(slices.Collect(linesOf(b))) }
		if got := count(p.changes) + count(p.carried) + len(p.blobs); got != count(lines) {
			t.Fatalf("%d lines of %d", got, count(lines))
		}
		for _, b := range p.blobs {
			if _, err := parseBlobLine(b.encode()[:len(b.encode())-1]); err != nil {
				t.Fatalf("a blob line is not accepted again: %v", err)
			}
		}
	})
}

func linesOf(b []byte) func(func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for start, i := 0, 0; i < len(b); i++ {
			if b[i] == '\n' {
				if !yield(b[start:i]) {
					return
				}
				start = i + 1
			}
		}
	}
}

// FuzzFrames: what is opened is never more than its bound.
func FuzzFrames(f *testing.F) {
	c, err := newCodec()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(c.compress(nil, []byte("hello hello hello hello")))
	f.Add(storedFrame(nil, []byte("hello")))
	f.Fuzz(func(t *testing.T, frames []byte) {
		const limit = 1 << 20
		if out, err := c.decompress(frames, nil, limit); err == nil && len(out) > bound(len(frames), limit) {
			t.Fatalf("%d bytes of %d", len(out), len(frames))
		}
	})
}
