package manifests

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
)

// A pseudonymizer turns the ids of one collection into pseudonyms that mean
// nothing outside one grant, and back. It is AES-SIV (RFC 5297) with 128-bit keys
// that are derived from the grant's key and the collection's name: deterministic,
// so that an app meets the same record under the same pseudonym; authenticated, so
// that an app can make none of its own; and different for each grant and
// collection, so that two apps cannot compare notes. Ids are padded to a multiple
// of 32 bytes first, so that lengths tell little.
//
// It is safe for concurrent use.
type pseudonymizer struct {
	mac, ctr cipher.Block
	sub1     block // the subkeys of CMAC
	sub2     block
	empty    block // CMAC of a block of zeros: S2V without associated data
}

type block [aes.BlockSize]byte

// newPseudonymizer derives the keys of a collection.
func newPseudonymizer(key []byte, collection string) (*pseudonymizer, error) {
	derived, err := hkdf.Key(sha256.New, key, nil, "locker grant ids v1\x00"+collection, 32)
	if err != nil {
		return nil, fmt.Errorf("keys of a grant: %w", err)
	}
	return newSIV(derived)
}

// newSIV makes one of a key for AES-SIV: 32 bytes.
func newSIV(key []byte) (*pseudonymizer, error) {
	mac, err := aes.NewCipher(key[:len(key)/2])
	if err != nil {
		return nil, err
	}
	ctr, err := aes.NewCipher(key[len(key)/2:])
	if err != nil {
		return nil, err
	}
	p := &pseudonymizer{mac: mac, ctr: ctr}
	p.mac.Encrypt(p.sub1[:], p.sub1[:])
	p.sub1.double()
	p.sub2 = p.sub1
	p.sub2.double()
	var zero block
	p.empty = p.cmac(zero[:], nil)
	return p, nil
}

// double multiplies by x in GF(2^128).
func (b *block) double() {
	carry := b[0] >> 7
	for i := range len(b) - 1 {
		b[i] = b[i]<<1 | b[i+1]>>7
	}
	b[len(b)-1] = b[len(b)-1]<<1 ^ carry*0x87
}

// cmac is AES-CMAC (RFC 4493) of the message with tail xored onto its last 16
// bytes; tail may be nil.
func (p *pseudonymizer) cmac(message []byte, tail *block) block {
	var state, next block
	for start := 0; ; start += aes.BlockSize {
		n := copy(next[:], message[start:])
		last := start+aes.BlockSize >= len(message)
		if tail != nil {
			for i := range n {
				if at := start + i - (len(message) - aes.BlockSize); at >= 0 {
					next[i] ^= tail[at]
				}
			}
		}
		switch {
		case last && n == aes.BlockSize:
			subtle.XORBytes(next[:], next[:], p.sub1[:])
		case last:
			next[n] = 0x80
			clear(next[n+1:])
			subtle.XORBytes(next[:], next[:], p.sub2[:])
		}
		subtle.XORBytes(state[:], state[:], next[:])
		p.mac.Encrypt(state[:], state[:])
		if last {
			return state
		}
	}
}

// iv is S2V of one string.
func (p *pseudonymizer) iv(plain []byte) block {
	d := p.empty
	if len(plain) >= aes.BlockSize {
		return p.cmac(plain, &d)
	}
	d.double()
	var padded block
	padded[copy(padded[:], plain)] = 0x80
	subtle.XORBytes(padded[:], padded[:], d[:])
	return p.cmac(padded[:], nil)
}

// stream xors text with the key stream that begins at iv.
func (p *pseudonymizer) stream(iv block, text []byte) {
	iv[8] &= 0x7f
	iv[12] &= 0x7f
	var key block
	for len(text) > 0 {
		p.ctr.Encrypt(key[:], iv[:])
		text = text[subtle.XORBytes(text, text, key[:]):]
		for i := len(iv) - 1; i >= 0; i-- {
			if iv[i]++; iv[i] != 0 {
				break
			}
		}
	}
}

const idPadding = 32

// pad appends id and its padding: 0x80, then zeros.
func pad(out []byte, id string) []byte {
	out = append(out, id...)
	out = append(out, 0x80)
	for len(out)%idPadding != 0 {
		out = append(out, 0)
	}
	return out
}

// order is a place for an id among the others of the collection that says nothing
// about it: the same for each read under one grant.
func (p *pseudonymizer) order(id string) block {
	var buffer [4 * idPadding]byte
	return p.iv(pad(buffer[:0], id))
}

// seal returns the pseudonym of an id.
func (p *pseudonymizer) seal(id string) string {
	var iv block
	var buffer [aes.BlockSize + 4*idPadding]byte
	whole := append(buffer[:0], iv[:]...)
	text := pad(buffer[aes.BlockSize:aes.BlockSize], id)
	iv = p.iv(text)
	p.stream(iv, text)
	whole = append(append(whole[:0], iv[:]...), text...)
	return base64.RawURLEncoding.EncodeToString(whole)
}

// open returns the id of a pseudonym; false where it is none of this collection
// and grant.
func (p *pseudonymizer) open(pseudonym string) (string, bool) {
	whole, err := base64.RawURLEncoding.Strict().DecodeString(pseudonym)
	if err != nil || len(whole) < aes.BlockSize+idPadding || (len(whole)-aes.BlockSize)%idPadding != 0 {
		return "", false
	}
	iv, text := block(whole[:aes.BlockSize]), whole[aes.BlockSize:]
	p.stream(iv, text)
	if got := p.iv(text); subtle.ConstantTimeCompare(got[:], iv[:]) != 1 {
		return "", false
	}
	end := len(text) - 1
	for end > 0 && text[end] == 0 {
		end--
	}
	return string(text[:end]), true
}
