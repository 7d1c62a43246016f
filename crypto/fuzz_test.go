package crypto

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// The fuzz targets, one for each parser of bytes from outside. Each checks that
// what is accepted means one thing only.

func FuzzParsePhrase(f *testing.F) {
	f.Add(testSeed(1).Phrase())
	f.Add("1. abandon 2) ability")
	f.Fuzz(func(t *testing.T, text string) {
		seed, err := ParsePhrase(text)
		if err != nil {
			return
		}
		if again, err := ParsePhrase(seed.Phrase()); err != nil || again != seed {
			t.Errorf("the phrase of %q is not the same seed", text)
		}
	})
}

func FuzzHeader(f *testing.F) {
	h := header{Version: 1, Locker: strings.Repeat("a", 26), Kind: "entry", Writer: strings.Repeat("b", 16), Number: 3,
		Epoch: strings.Repeat("b", 16) + "/2", Log: []byte(`{"x":[1]}`), Length: 5, SHA256: strings.Repeat("0", 64)}
	f.Add(h.append(nil))
	h.To = "phrase"
	f.Add(h.append(nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		h, err := parseHeader(data)
		if err == nil && h.Version == 1 && !bytes.Equal(h.append(nil), data) {
			t.Errorf("%q is read as %q", data, h.append(nil))
		}
	})
}

// FuzzObject changes an object's plaintext, as a member could: outside age, every
// change is refused.
func FuzzObject(f *testing.F) {
	k := founded(f, testSeed(1))
	r := Ref{"entry", k.Device(), 1, ""}
	object, _, err := k.Seal(r, []byte(`{"x":1}`), []byte("frames"))
	if err != nil {
		f.Fatal(err)
	}
	plain, _, err := decrypt(object, []namedKey{{identity: k.current.identity}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(plain[:400])
	f.Fuzz(func(t *testing.T, data []byte) {
		n, _ := agePlain(minObject)
		if len(data) > n {
			data = data[:n]
		}
		data = append(slices.Clone(data), make([]byte, n-len(data))...)
		signed, signature, rest, err := splitHeader(data)
		if err != nil {
			return
		}
		h, err := parseHeader(signed)
		if err != nil {
			return
		}
		frames, err := splitFrames(rest, h)
		if err != nil || k.checkSigned(r, r.Writer, signed, signature) != nil {
			return
		}
		if !bytes.Equal(signed, plain[frameHead:frameHead+len(signed)]) || string(frames) != "frames" {
			t.Errorf("%q is accepted, which nobody signed", data[:200])
		}
	})
}

// FuzzOpen gives Open any bytes.
func FuzzOpen(f *testing.F) {
	k := founded(f, testSeed(1))
	r := Ref{"entry", k.Device(), 1, ""}
	object, _, err := k.Seal(r, nil, []byte("frames"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(object)
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, _, _, err := k.Open(r, data); err == nil && !bytes.Equal(data, object) {
			t.Error("bytes that nobody sealed are opened")
		}
	})
}

// vectorPayloads are the payloads of the vectors of some kinds.
func vectorPayloads(f *testing.F, kinds ...string) {
	f.Helper()
	keys := readKeys(f)
	files, err := filepath.Glob(filepath.Join(vectorDir, "*-*"))
	if err != nil || len(files) == 0 {
		f.Fatalf("no vectors: %v", err)
	}
	d, err := zstd.NewReader(nil)
	if err != nil {
		f.Fatal(err)
	}
	defer d.Close()
	k, added := keys.reader(f), 0
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		v, err := decodeVector(data)
		if err != nil || !slices.Contains(kinds, v.Ref.Kind) {
			continue
		}
		_, frames, _, err := k.Open(v.Ref, v.Object)
		if err != nil {
			continue
		}
		if payload, err := d.DecodeAll(frames, nil); err == nil {
			f.Add(payload)
			added++
		}
	}
	if added == 0 {
		f.Fatal("no payloads among the vectors")
	}
}

func FuzzStatement(f *testing.F) {
	vectorPayloads(f, "door", "member")
	keys := readKeys(f)
	k := keys.reader(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, kind := range []string{"door", "member"} {
			if s, err := k.parseStatement(kind, data); err == nil && !bytes.Equal(marshalExact(s), data) {
				t.Errorf("%q is read as %q", data, marshalExact(s))
			}
		}
	})
}

func FuzzEpoch(f *testing.F) {
	vectorPayloads(f, "epoch")
	keys := readKeys(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		k := keys.reader(t)
		before := len(k.Members())
		r := Ref{"epoch", k.Device(), 9, k.Device()}
		if _, err := k.Absorb(r, strings.Repeat("a", 64), nil, data); err != nil {
			return
		}
		if again, err := k.Absorb(r, strings.Repeat("a", 64), nil, data); err != nil || again {
			t.Errorf("absorbed twice: %v %v", again, err)
		}
		if len(k.Members()) != before {
			t.Error("an epoch changed the members")
		}
		if k.current != nil && !k.fit(k.current) {
			t.Error("it seals to an epoch that does not fit")
		}
	})
}

func FuzzRequest(f *testing.F) {
	k := founded(f, testSeed(1))
	phone, err := Join(k.Invite(), "phone")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(phone.Request())
	f.Fuzz(func(t *testing.T, data []byte) {
		payload, err := k.Admit(data)
		if err != nil {
			return
		}
		if s, err := k.parseStatement("member", payload); err != nil || s.Admit == nil || !bytes.Equal(marshalExact(s.Admit), data) {
			t.Errorf("the request %q becomes the payload %q: %v", data, payload, err)
		}
	})
}

func FuzzDeviceFile(f *testing.F) {
	k := founded(f, testSeed(1))
	f.Add(k.Secret())
	f.Add(k.Invite())
	f.Fuzz(func(t *testing.T, data []byte) {
		if k, err := Load(data); err == nil && !bytes.Equal(k.Secret(), data) {
			t.Errorf("%q is read as %q", data, k.Secret())
		}
		_, _ = Join(data, "phone")
	})
}
