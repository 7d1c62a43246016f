package crypto

import (
	"bytes"
	"errors"
	"io"
	mrand "math/rand/v2"
	"testing"
)

// countingAt counts what is read of it, and fails where it is told to.
type countingAt struct {
	b    []byte
	read int
	fail func(off int64) error
}

func (c *countingAt) ReadAt(p []byte, off int64) (int, error) {
	if c.fail != nil {
		if err := c.fail(off); err != nil {
			return 0, err
		}
	}
	n, err := bytes.NewReader(c.b).ReadAt(p, off)
	c.read += n
	return n, err
}

// TestOpenAt reads parts of objects of many sizes: what comes is what was sealed,
// and no more is read than the front, the end and the pieces of 64 KiB that hold it.
func TestOpenAt(t *testing.T) {
	a, b := two(t)
	rnd := mrand.New(mrand.NewPCG(2, 1))
	for _, size := range []int{0, 1, 4096, 65536, 200_000, 3 << 20} {
		frames := make([]byte, size)
		for i := range frames {
			frames[i] = byte(rnd.Uint32())
		}
		r := Ref{"pack", a.Device(), uint64(size + 1), ""}
		object, id, err := a.Seal(r, []byte(`{"clock":12}`), frames)
		if err != nil {
			t.Fatal(err)
		}
		for range 20 {
			src := &countingAt{b: object}
			log, part, got, err := b.OpenAt(r, src, int64(len(object)))
			if err != nil || got != id || string(log) != `{"clock":12}` || part.Size() != int64(size) {
				t.Fatalf("%d bytes: %s %s %v", size, log, got, err)
			}
			off := rnd.IntN(size + 1)
			want := frames[off : off+rnd.IntN(size-off+1)]
			p := make([]byte, len(want))
			if n, err := part.ReadAt(p, int64(off)); n != len(p) || err != nil && err != io.EOF || !bytes.Equal(p, want) {
				t.Fatalf("%d bytes, %d from %d on: %d, %v", size, len(p), off, n, err)
			}
			if most := len(p) + 6*(ageChunk+ageTag) + 8192; src.read > most {
				t.Errorf("%d bytes were read for %d, want at most %d", src.read, len(p), most)
			}
		}
	}
}

// TestOpenAtBad flips, cuts and swaps: an error, or the bytes that were sealed.
func TestOpenAtBad(t *testing.T) {
	a, b := two(t)
	frames := bytes.Repeat([]byte("0123456789abcdef"), 20_000)
	r := Ref{"pack", a.Device(), 1, ""}
	object, _, err := a.Seal(r, nil, frames)
	if err != nil {
		t.Fatal(err)
	}
	try := func(what string, r Ref, object []byte) (failed bool) {
		t.Helper()
		_, part, _, err := b.OpenAt(r, &countingAt{b: object}, int64(len(object)))
		if err != nil {
			return true
		}
		got, err := io.ReadAll(part)
		if err == nil && !bytes.Equal(got, frames) {
			t.Fatalf("%s: other bytes without an error", what)
		}
		return err != nil
	}
	rnd := mrand.New(mrand.NewPCG(3, 1))
	for range 300 {
		at := rnd.IntN(len(object))
		if rnd.IntN(2) == 0 {
			at = rnd.IntN(4096)
		}
		flipped := bytes.Clone(object)
		flipped[at] ^= 1 << rnd.IntN(8)
		if !try("flip", r, flipped) && at < ageOverhead+len(frames) {
			t.Errorf("a flip at %d is not noticed", at)
		}
		try("cut", r, object[:at])
	}
	for _, other := range []Ref{{"pack", a.Device(), 2, ""}, {"pack", b.Device(), 1, ""}, {"entry", a.Device(), 1, ""}} {
		if !try("swap", other, object) {
			t.Errorf("it is taken for %v", other)
		}
	}
	if !try("longer", r, append(bytes.Clone(object), make([]byte, padme(len(object)+1)-len(object))...)) {
		t.Error("an object that was made longer is taken")
	}
}

// TestOpenAtTellsErrors: an error of reading is not taken for damage.
func TestOpenAtTellsErrors(t *testing.T) {
	a, b := two(t)
	r := Ref{"pack", a.Device(), 1, ""}
	object, _, err := a.Seal(r, nil, make([]byte, 300_000))
	if err != nil {
		t.Fatal(err)
	}
	broken := errors.New("no route to host")
	for _, at := range []int64{0, 100_000, int64(len(object)) - 1} {
		src := &countingAt{b: object, fail: func(off int64) error {
			if off <= at && at < off+ageChunk+ageTag {
				return broken
			}
			return nil
		}}
		_, part, _, err := b.OpenAt(r, src, int64(len(object)))
		if err == nil {
			_, err = io.ReadAll(part)
		}
		if !errors.Is(err, broken) {
			t.Errorf("broken at %d: %v", at, err)
		}
	}
}

// TestOpenAtForged shows what OpenAt does not check, and Open does: who knows the
// key of the epoch puts a good header before other frames.
func TestOpenAtForged(t *testing.T) {
	a, b := two(t)
	r := Ref{"pack", a.Device(), 1, ""}
	frames := bytes.Repeat([]byte{1}, 5000)
	object, _, err := a.Seal(r, nil, frames)
	if err != nil {
		t.Fatal(err)
	}
	plain, _, err := decrypt(object, []namedKey{{"", a.current.identity, a.current}})
	if err != nil {
		t.Fatal(err)
	}
	signed, signature, _, err := splitHeader(plain)
	if err != nil {
		t.Fatal(err)
	}
	front := append(append(appendFrameHead(nil, magicHeader, len(signed)+len(signature)), signed...), signature...)
	forged, err := encrypt(a.current.recipient, front, bytes.Repeat([]byte{2}, 5000))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := b.Open(r, forged); err == nil {
		t.Error("Open takes it")
	}
	_, part, _, err := b.OpenAt(r, bytes.NewReader(forged), int64(len(forged)))
	if err != nil {
		t.Fatalf("OpenAt does more than it says: %v", err)
	}
	if got, err := io.ReadAll(part); err != nil || got[0] != 2 {
		t.Errorf("%v, %v", got[:1], err)
	}
}
