package crypto

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha512"
	"encoding/binary"

	"github.com/gtank/ristretto255"
)

// This file is CPace, the CFRG's balanced password-authenticated key exchange:
// suite CPACE-RISTR255-SHA512 of draft-irtf-cfrg-cpace-21, in the setting with an
// initiator and a responder (sections 7, 8.1 and 8.3), and the explicit key
// confirmation of its section 10.4. The names in comments are the draft's.

const (
	cpaceDSI    = "CPaceRistretto255"
	cpaceDSIISK = "CPaceRistretto255_ISK"
	cpaceMAC    = "CPaceMac"
	shareSize   = 32
	tagSize     = sha512.Size
)

// A cpace is one party's run: made before it sends its share, used up by finish.
type cpace struct {
	sid   []byte
	ad    []byte // what this party says beside its share
	y     *ristretto255.Scalar
	share []byte
}

// newCPace draws this party's share, for a password (PRS) and a context (CI).
func newCPace(prs, ci, sid, ad []byte) *cpace {
	var y [32]byte
	rand.Read(y[:])
	y[31] &= 0x0f // 252 bits: always below the order of the group
	return cpaceFrom(prs, ci, sid, ad, y)
}

func cpaceFrom(prs, ci, sid, ad []byte, y [32]byte) *cpace {
	c := &cpace{sid: sid, ad: ad, y: ristretto255.NewScalar()}
	if err := c.y.Decode(y[:]); err != nil {
		panic("crypto: " + err.Error()) // not of 252 bits
	}
	sum := sha512.Sum512(generatorString(prs, ci, sid))
	g := ristretto255.NewElement().FromUniformBytes(sum[:])
	c.share = ristretto255.NewElement().ScalarMult(c.y, g).Encode(nil)
	return c
}

// generatorString is lv_cat(DSI, PRS, zeros, CI, sid), with as many zeros as make
// the part with the password fill a block of the hash, however long it is.
func generatorString(prs, ci, sid []byte) []byte {
	used := len(lvCat([]byte(cpaceDSI), prs)) + 1
	return lvCat([]byte(cpaceDSI), prs, make([]byte, max(0, sha512.BlockSize-used)), ci, sid)
}

// finish returns the shared key (ISK) and both tags that confirm it: ours goes to
// the other party, theirs is what it must send. initiator says whose share comes
// first. What is no point of the group, or has no secret in it, is refused.
func (c *cpace) finish(share, ad []byte, initiator bool) (isk, ours, theirs []byte, err error) {
	k, ok := scalarMultVfy(c.y, share)
	if !ok {
		return nil, nil, nil, bad("its share is no point of the group")
	}
	mine, other := lvCat(c.share, c.ad), lvCat(share, ad)
	first, second := mine, other
	if !initiator {
		first, second = other, mine
	}
	sum := sha512.Sum512(append(append(lvCat([]byte(cpaceDSIISK), c.sid, k), first...), second...))
	isk = sum[:]
	key := sha512.Sum512(append(append([]byte(cpaceMAC), c.sid...), isk...))
	return isk, cpaceTag(key[:], mine), cpaceTag(key[:], other), nil
}

func cpaceTag(key, said []byte) []byte {
	mac := hmac.New(sha512.New, key)
	mac.Write(said)
	return mac.Sum(nil)
}

// scalarMultVfy is y·X, unless X is no point or the product is the neutral one.
func scalarMultVfy(y *ristretto255.Scalar, x []byte) ([]byte, bool) {
	point := ristretto255.NewElement()
	if len(x) != shareSize || point.Decode(x) != nil {
		return nil, false
	}
	point.ScalarMult(y, point)
	return point.Encode(nil), point.Equal(ristretto255.NewElement()) == 0
}

// lvCat joins strings, each after its length in LEB128.
func lvCat(parts ...[]byte) []byte {
	var out []byte
	for _, part := range parts {
		out = binary.AppendUvarint(out, uint64(len(part)))
		out = append(out, part...)
	}
	return out
}
