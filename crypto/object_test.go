package crypto

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"io"
	mrand "math/rand/v2"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"
)

// zstdFrames compresses as a caller of Seal does.
func zstdFrames(t testing.TB, data []byte) []byte {
	t.Helper()
	e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		t.Fatal(err)
	}
	return e.EncodeAll(data, nil)
}

// two is a locker with two members that know each other and one epoch.
func two(t testing.TB) (a, b *Keyring) {
	t.Helper()
	a = founded(t, testSeed(1))
	b, err := Join(a.Invite(), "phone")
	if err != nil {
		t.Fatal(err)
	}
	admission, err := a.Admit(b.Request())
	if err != nil {
		t.Fatal(err)
	}
	door, err := a.Door(0)
	if err != nil {
		t.Fatal(err)
	}
	r := Ref{"door", "phrase", 0, ""}
	s := &statement{Version: 1, Admit: &a.self}
	object, id, err := a.Seal(r, nil, marshalExact(s))
	if err != nil {
		t.Fatal(err)
	}
	_ = door
	if _, payload, again, err := b.Open(r, object); err != nil || again != id {
		t.Fatal(err)
	} else if _, err := b.Absorb(r, id, nil, payload); err != nil {
		t.Fatal(err)
	}
	sealed := absorbSealed(t, a, Ref{"member", a.Device(), 0, ""}, admission, a)
	makeEpoch(t, a, a, b)
	_, payload, id, err := b.Open(Ref{"member", a.Device(), 0, ""}, sealed)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Absorb(Ref{"member", a.Device(), 0, ""}, id, nil, payload); err != nil {
		t.Fatal(err)
	}
	if len(b.Members()) != 2 {
		t.Fatalf("members %v", b.Members())
	}
	return a, b
}

func TestSealAndOpen(t *testing.T) {
	a, b := two(t)
	rnd := mrand.New(mrand.NewPCG(1, 1))
	for _, size := range []int{0, 1, 100, 2047, 4096, 65536 - 2500, 65536, 200_000, 3 << 20} {
		frames := make([]byte, size)
		for i := range frames {
			frames[i] = byte(rnd.Uint32())
		}
		r := Ref{"entry", a.Device(), uint64(size), ""}
		object, id, err := a.Seal(r, []byte(`{ "clock": 12, "odd": "<&> \u2028" }`), frames)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(object); n < 4096 || n != padme(n) {
			t.Errorf("%d bytes: an object of %d bytes is not of a Padmé size", size, n)
		}
		if size > 0 && size >= 4096 && len(object) > (size+2500)*113/100 {
			t.Errorf("%d bytes: an object of %d bytes is padded too much", size, len(object))
		}
		log, got, gotID, err := b.Open(r, object)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, frames) || gotID != id || !isHexID(id) {
			t.Errorf("%d bytes: something else came back", size)
		}
		if string(log) != `{"clock":12,"odd":"<&> \u2028"}` {
			t.Errorf("log %s", log)
		}
		again, idAgain, err := a.Seal(r, []byte(`{"clock":12,"odd":"<&> \u2028"}`), frames)
		if err != nil || idAgain != id || bytes.Equal(again, object) {
			t.Errorf("sealing again: id %s, want %s; same bytes: %v; %v", idAgain, id, bytes.Equal(again, object), err)
		}
	}
}

// TestStockToolsReadIt reads an object with age and zstd alone.
func TestStockToolsReadIt(t *testing.T) {
	k := founded(t, testSeed(1))
	lines := []byte(strings.Repeat(`{"collection":"posts","id":"1"}`+"\n", 500))
	r := Ref{"entry", k.Device(), 1, ""}
	object, _, err := k.Seal(r, nil, slices.Concat(zstdFrames(t, lines[:3100]), zstdFrames(t, lines[3100:])))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := age.Decrypt(bytes.NewReader(object), k.current.identity)
	if err != nil {
		t.Fatal(err)
	}
	d, err := zstd.NewReader(plain)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	got, err := io.ReadAll(d)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, lines) {
		t.Errorf("age -d | zstd -d gives %d bytes, want %d", len(got), len(lines))
	}
}

// TestSmallObjects checks that what is said of members stays in the smallest size.
func TestSmallObjects(t *testing.T) {
	a, b := two(t)
	c, err := Join(b.Invite(), "a device with a long name, as some have")
	if err != nil {
		t.Fatal(err)
	}
	admission, err := a.Admit(c.Request())
	if err != nil {
		t.Fatal(err)
	}
	object, _, err := a.Seal(Ref{"member", a.Device(), 1, ""}, nil, zstdFrames(t, admission))
	if err != nil {
		t.Fatal(err)
	}
	if len(object) != 4096 {
		t.Errorf("an admission has %d bytes", len(object))
	}
	_, payloads, err := a.NewEpoch()
	if err != nil {
		t.Fatal(err)
	}
	for to, payload := range payloads {
		object, _, err := a.Seal(Ref{"epoch", a.Device(), 9, to}, nil, zstdFrames(t, payload))
		if err != nil {
			t.Fatal(err)
		}
		if len(object) != 4096 {
			t.Errorf("an epoch has %d bytes", len(object))
		}
	}
}

// TestSizes checks the arithmetic of sizes against age itself, and over all sizes
// near the edges of age's chunks.
func TestSizes(t *testing.T) {
	id := identityFrom(make([]byte, 32))
	for _, n := range []int{0, 1, 65535, 65536, 65537, 131072, 131073, 1 << 20} {
		var b bytes.Buffer
		w, err := age.Encrypt(&b, id.Recipient())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(make([]byte, n)); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if b.Len() != ageSize(n) {
			t.Errorf("%d bytes make %d, not %d", n, b.Len(), ageSize(n))
		}
		if got, ok := agePlain(b.Len()); !ok || got != n {
			t.Errorf("%d bytes are said to hold %d, %v", b.Len(), got, ok)
		}
	}
	for n := range 400_000 {
		size := sealedSize(n)
		plain, ok := agePlain(size)
		if !ok || plain < n+frameHead || size < minObject || size != padme(size) {
			t.Fatalf("%d bytes go into %d, which holds %d, %v", n, size, plain, ok)
		}
		if size > minObject && sealedSize(n) > ageSize(n+frameHead)*112/100+64 {
			t.Fatalf("%d bytes go into %d", n, size)
		}
	}
	for size := range 200_000 {
		if n, ok := agePlain(size); ok && ageSize(n) != size {
			t.Fatalf("%d is said to hold %d", size, n)
		}
	}
	// From the paper: 12 % at most.
	for _, c := range [][2]int{{9, 10}, {4096, 4096}, {4097, 4352}, {1_000_000, 1_015_808}} {
		if got := padme(c[0]); got != c[1] {
			t.Errorf("padme(%d) = %d, want %d", c[0], got, c[1])
		}
	}
}

// TestEveryBitCounts flips each bit of an object.
func TestEveryBitCounts(t *testing.T) {
	k := founded(t, testSeed(1))
	r := Ref{"entry", k.Device(), 1, ""}
	object, _, err := k.Seal(r, nil, []byte("frames"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range object {
		for bit := range 8 {
			object[i] ^= 1 << bit
			if _, _, _, err := k.Open(r, object); err == nil {
				t.Errorf("bit %d of byte %d does not matter", bit, i)
			}
			object[i] ^= 1 << bit
		}
	}
	if _, _, _, err := k.Open(r, object); err != nil {
		t.Error(err)
	}
}

// TestEveryCut cuts an object at each length, and lengthens it.
func TestEveryCut(t *testing.T) {
	k := founded(t, testSeed(1))
	r := Ref{"pack", k.Device(), 1, ""}
	object, _, err := k.Seal(r, nil, make([]byte, 150_000))
	if err != nil {
		t.Fatal(err)
	}
	for n := range object {
		if _, _, _, err := k.Open(r, object[:n]); err == nil {
			t.Fatalf("it opens when cut to %d of %d bytes", n, len(object))
		}
	}
	for _, more := range []int{1, 16, 4096, padme(len(object)+1) - len(object)} {
		if _, _, _, err := k.Open(r, append(slices.Clone(object), make([]byte, more)...)); err == nil {
			t.Errorf("it opens with %d bytes more", more)
		}
	}
}

// TestEverySwap serves each object under the name of each other.
func TestEverySwap(t *testing.T) {
	a, b := two(t)
	objects := map[Ref][]byte{}
	for _, k := range []*Keyring{a, b} {
		for _, kind := range []string{"member", "mark", "entry", "run", "base", "pack"} {
			for _, number := range []uint64{1, 2} {
				r := Ref{kind, k.Device(), number, ""}
				object, _, err := k.Seal(r, nil, []byte("the same"))
				if err != nil {
					t.Fatal(err)
				}
				objects[r] = object
			}
		}
		for _, to := range []string{a.Device(), b.Device(), "phrase"} {
			r := Ref{"epoch", k.Device(), 7, to}
			object, _, err := k.Seal(r, nil, []byte("the same"))
			if err != nil {
				t.Fatal(err)
			}
			objects[r] = object
		}
	}
	for _, number := range []uint64{0, 1} {
		r := Ref{"door", "phrase", number, ""}
		object, _, err := a.Seal(r, nil, []byte("the same"))
		if err != nil {
			t.Fatal(err)
		}
		objects[r] = object
	}
	opened := 0
	for r := range objects {
		for other, object := range objects {
			_, _, _, err := a.Open(r, object)
			if r == other && err == nil {
				opened++
			}
			if r != other && err == nil {
				t.Errorf("%v is taken for %v", other, r)
			}
		}
	}
	if want := len(objects) - 2; opened != want { // all but the two epochs for b
		t.Errorf("%d of %d objects open as what they are, want %d", opened, len(objects), want)
	}
}

// forge makes an object as a member could that is not bound by Seal.
func forge(t testing.TB, k *Keyring, signer ed25519.PrivateKey, h header, frames []byte, to age.Recipient) []byte {
	t.Helper()
	signed := h.append(nil)
	front := appendFrameHead(nil, magicHeader, len(signed)+ed25519.SignatureSize)
	front = append(front, signed...)
	front = append(front, ed25519.Sign(signer, k.message("object", signed))...)
	object, err := encrypt(to, front, frames)
	if err != nil {
		t.Fatal(err)
	}
	return object
}

// TestAMemberCannotForgeForOthers lets a member, who knows every epoch, write as
// another.
func TestAMemberCannotForgeForOthers(t *testing.T) {
	a, b := two(t)
	r := Ref{"entry", a.Device(), 1, ""}
	object, _, err := a.Seal(r, []byte(`{"x":1}`), []byte("by a"))
	if err != nil {
		t.Fatal(err)
	}
	plain, key, err := decrypt(object, []namedKey{{name: b.current.name(), identity: b.current.identity}})
	if err != nil {
		t.Fatal(err)
	}
	signed, signature, _, err := splitHeader(plain)
	if err != nil {
		t.Fatal(err)
	}
	h, err := parseHeader(signed)
	if err != nil {
		t.Fatal(err)
	}
	forged := forge(t, b, b.sign, *h, []byte("by a"), b.current.recipient)
	if _, _, _, err := a.Open(r, forged); err == nil || isNotYet(err) {
		t.Errorf("a's header with b's signature: %v", err)
	}
	// a's own header and signature, other payload or padding.
	front := appendFrameHead(nil, magicHeader, len(signed)+len(signature))
	front = append(append(front, signed...), signature...)
	for name, frames := range map[string]string{"other bytes": "by b", "longer": "by a and b", "shorter": "by"} {
		forged, err := encrypt(b.current.recipient, front, []byte(frames))
		if err != nil {
			t.Fatal(err)
		}
		if _, _, _, err := a.Open(r, forged); err == nil || isNotYet(err) {
			t.Errorf("a's header with %s: %v", name, err)
		}
	}
	// Encrypting again what a signed is harmless: it is the same object.
	again, err := encrypt(b.current.recipient, front, []byte("by a"))
	if err != nil {
		t.Fatal(err)
	}
	if _, frames, _, err := a.Open(r, again); err != nil || string(frames) != "by a" {
		t.Errorf("encrypted again: %q, %v", frames, err)
	}
	_ = key
	if _, _, err := b.Seal(r, nil, nil); err == nil {
		t.Error("b seals in a's name")
	}
	if _, _, err := b.Seal(Ref{"door", "phrase", 1, ""}, nil, nil); err == nil {
		t.Error("b makes a door without the phrase")
	}
	if _, _, _, err := a.Open(Ref{"door", "phrase", 1, ""}, forge(t, b, b.sign, header{
		Version: 1, Locker: b.locker, Kind: "door", Writer: "phrase", Number: 1, Epoch: doorEpoch, Log: []byte("{}"),
		SHA256: strings.Repeat("0", 64)}, nil, b.door.Recipient())); err == nil || isNotYet(err) {
		t.Errorf("a door signed by a member: %v", err)
	}
}

// TestANewerVersion is told apart from a bad object, but only if it is authentic.
func TestANewerVersion(t *testing.T) {
	a, b := two(t)
	r := Ref{"entry", b.Device(), 1, ""}
	h := header{Version: 2, Locker: b.locker, Kind: "entry", Writer: b.Device(), Number: 1, Epoch: b.current.name(), Log: []byte("{}")}
	if _, _, _, err := a.Open(r, forge(t, b, b.sign, h, nil, b.current.recipient)); !isNotYet(err) || !isNewer(err) {
		t.Errorf("a newer version: %v", err)
	}
	if _, _, _, err := a.Open(r, forge(t, b, a.sign, h, nil, b.current.recipient)); err == nil || isNewer(err) {
		t.Errorf("a newer version by another: %v", err)
	}
}

func TestSealRefuses(t *testing.T) {
	k := founded(t, testSeed(1))
	d := k.Device()
	for name, r := range map[string]Ref{
		"an unknown kind":      {"head", d, 1, ""},
		"no writer":            {"entry", "", 1, ""},
		"the phrase":           {"entry", "phrase", 1, ""},
		"a device's door":      {"door", d, 1, ""},
		"somebody else":        {"entry", "aaaaaaaaaaaaaaaa", 1, ""},
		"a recipient":          {"entry", d, 1, d},
		"an epoch for nobody":  {"epoch", d, 1, ""},
		"an epoch for a guest": {"epoch", d, 1, "aaaaaaaaaaaaaaaa"},
		"epoch zero":           {"epoch", d, 0, "phrase"},
		"a huge number":        {"entry", d, 1 << 53, ""},
		"too many statements":  {"member", d, maxMember + 1, ""},
	} {
		if _, _, err := k.Seal(r, nil, nil); err == nil {
			t.Errorf("%s: sealed", name)
		}
		if _, _, _, err := k.Open(r, make([]byte, 4096)); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
	r := Ref{"entry", d, 1, ""}
	for _, log := range []string{"[]", "1", `{"a":}`, "{}{}", "null"} {
		if _, _, err := k.Seal(r, []byte(log), nil); err == nil {
			t.Errorf("the log %s is sealed", log)
		}
	}
	if _, _, err := k.Seal(r, nil, make([]byte, MaxObject)); err == nil {
		t.Error("an object larger than any is sealed")
	}
	if _, _, _, err := k.Open(r, make([]byte, MaxObject+1)); err == nil {
		t.Error("an object larger than any is opened")
	}
}

func BenchmarkSeal(b *testing.B) { benchmarkObjects(b, true) }

func BenchmarkOpen(b *testing.B) { benchmarkObjects(b, false) }

// benchmarkObjects counts the bytes of the object.
func benchmarkObjects(b *testing.B, seal bool) {
	k := founded(b, testSeed(1))
	r := Ref{"entry", k.Device(), 1, ""}
	for _, c := range []struct {
		name string
		size int
	}{{"4KiB", 4096}, {"1MiB", 1 << 20}, {"16MiB", 16 << 20}} {
		b.Run(c.name, func(b *testing.B) {
			frames := make([]byte, c.size-c.size/200-2100)
			rand.Read(frames)
			object, _, err := k.Seal(r, nil, frames)
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(object)))
			b.ReportAllocs()
			for b.Loop() {
				if seal {
					_, _, err = k.Seal(r, nil, frames)
				} else {
					_, _, _, err = k.Open(r, object)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
