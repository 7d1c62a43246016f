package crypto

import (
	"bytes"
	"crypto/sha512"
	"encoding/hex"
	"testing"

	"github.com/gtank/ristretto255"
)

// The vectors of draft-irtf-cfrg-cpace-21, appendix B.3.
const (
	cpaceCI  = "0b415f696e69746961746f720b425f726573706f6e646572"
	cpaceSID = "7e4b4791d6a8ef019b936c79fb7f2c57"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func wantHex(t testing.TB, what string, got []byte, want string) {
	t.Helper()
	if hex.EncodeToString(got) != want {
		t.Errorf("%s is %x, want %s", what, got, want)
	}
}

func TestCPaceVectors(t *testing.T) {
	ci, sid := unhex(t, cpaceCI), unhex(t, cpaceSID)
	gen := generatorString([]byte("Password"), ci, sid)
	if len(gen) != 170 {
		t.Errorf("the generator string has %d bytes, want 170", len(gen))
	}
	sum := sha512.Sum512(gen)
	wantHex(t, "its hash", sum[:], "da6d3ddc8802fca9058755ffd3ebde08a9c2c74945901a258482a288b6663af06bf645c93cd1c51512307199c80e84908916d983b34af77205f90851a657ee27")
	wantHex(t, "the generator", ristretto255.NewElement().FromUniformBytes(sum[:]).Encode(nil), "222b6b195fe84b1652badb6f6a3ae3d24341e7306967f0b8115b40d5698c7e56")

	a := cpaceFrom([]byte("Password"), ci, sid, []byte("ADa"), [32]byte(unhex(t, "da3d23700a9e5699258aef94dc060dfda5ebb61f02a5ea77fad53f4ff0976d08")))
	b := cpaceFrom([]byte("Password"), ci, sid, []byte("ADb"), [32]byte(unhex(t, "d2316b454718c35362d83d69df6320f38578ed5984651435e2949762d900b80d")))
	wantHex(t, "Ya", a.share, "d6bac480f2c386c394efc7c47adb9925dcd2630b64f240c50f8d0eec482b9157")
	wantHex(t, "Yb", b.share, "3ea7e0b19560d7c0b0f5734f63b955286dfa8232b5ebe63324e2d9e7433f7258")
	for _, c := range []struct {
		y *ristretto255.Scalar
		x []byte
	}{{a.y, b.share}, {b.y, a.share}} {
		k, ok := scalarMultVfy(c.y, c.x)
		if !ok {
			t.Error("a good share is refused")
		}
		wantHex(t, "K", k, "80b69a8a76457ab6a4d7f887a4bf6b55a2f80ac19c333f917a05fc9887c8b40f")
	}
	isk, ta, tb, err := a.finish(b.share, b.ad, true)
	if err != nil {
		t.Fatal(err)
	}
	wantHex(t, "ISK", isk, "b69effbf61b51d56401c0f65601abe428de8206feaaf0e32198896dcae7b35cd2b38950a39dfd5d4a79164614c2984f7daa460b588c1e80c3fa2068af7900447")
	other, tb2, ta2, err := b.finish(a.share, a.ad, false)
	if err != nil || !bytes.Equal(isk, other) || !bytes.Equal(ta, ta2) || !bytes.Equal(tb, tb2) || bytes.Equal(ta, tb) {
		t.Errorf("the two parties do not agree: %v", err)
	}
}

func TestCPaceScalarMult(t *testing.T) {
	y := ristretto255.NewScalar()
	if err := y.Decode(unhex(t, "7cd0e075fa7955ba52c02759a6c90dbbfc10e6d40aea8d283e407d88cf538a05")); err != nil {
		t.Fatal(err)
	}
	k, ok := scalarMultVfy(y, unhex(t, "2c3c6b8c4f3800e7aef6864025b4ed79bd599117e427c41bd47d93d654b4a51c"))
	if !ok {
		t.Error("a valid point is refused")
	}
	wantHex(t, "the product", k, "7c13645fe790a468f62c39beb7388e541d8405d1ade69d1778c5fe3e7f6b600e")
	for name, x := range map[string]string{
		"no point": "2b3c6b8c4f3800e7aef6864025b4ed79bd599117e427c41bd47d93d654b4a51c",
		"neutral":  "0000000000000000000000000000000000000000000000000000000000000000",
		"short":    "2c3c6b8c",
		"empty":    "",
	} {
		if _, ok := scalarMultVfy(y, unhex(t, x)); ok {
			t.Errorf("%s: accepted", name)
		}
		c := newCPace([]byte("x"), nil, nil, nil)
		if _, _, _, err := c.finish(unhex(t, x), nil, true); err == nil {
			t.Errorf("%s: the run goes on", name)
		}
	}
}

// TestCPaceDisagrees: whoever differs in anything gets another key.
func TestCPaceDisagrees(t *testing.T) {
	run := func(prs, ci, sid, ad string) *cpace {
		return newCPace([]byte(prs), []byte(ci), []byte(sid), []byte(ad))
	}
	for name, b := range map[string]*cpace{
		"password": run("other", "ci", "sid", "b"),
		"context":  run("word", "other", "sid", "b"),
		"session":  run("word", "ci", "other", "b"),
	} {
		a := run("word", "ci", "sid", "a")
		isk, ta, _, err := a.finish(b.share, b.ad, true)
		if err != nil {
			t.Fatal(err)
		}
		isk2, _, ta2, err := b.finish(a.share, a.ad, false)
		if err != nil || bytes.Equal(isk, isk2) || bytes.Equal(ta, ta2) {
			t.Errorf("another %s gives the same key (%v)", name, err)
		}
	}
	a, b := run("word", "ci", "sid", "a"), run("word", "ci", "sid", "b")
	isk, _, _, err := a.finish(b.share, []byte("changed"), true)
	if err != nil {
		t.Fatal(err)
	}
	if isk2, _, _, err := b.finish(a.share, a.ad, false); err != nil || bytes.Equal(isk, isk2) {
		t.Errorf("changed associated data gives the same key (%v)", err)
	}
}
