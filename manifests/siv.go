package manifests

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"sync"
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
	pool     sync.Pool
}

type block [aes.BlockSize]byte

// A scratch is the memory for one operation: what is passed to a cipher.Block
// would be allocated each time.
type scratch struct {
	state, next, key, counter block
	text                      []byte
}

func (p *pseudonymizer) scratch() *scratch {
	s, ok := p.pool.Get().(*scratch)
	if !ok {
		s = &scratch{text: make([]byte, 0, 8*idPadding)}
	}
	return s
}

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
	s := p.scratch()
	p.cmac(s, zero[:], nil)
	p.empty = s.state
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

// cmac leaves the AES-CMAC (RFC 4493) of a message in s.state. tail, where it is
// given, is xored onto the last 16 bytes of the message first.
func (p *pseudonymizer) cmac(s *scratch, message []byte, tail *block) {
	s.state = block{}
	for start := 0; ; start += aes.BlockSize {
		n := copy(s.next[:], message[start:])
		if tail != nil {
			for i := max(0, len(message)-aes.BlockSize-start); i < n; i++ {
				s.next[i] ^= tail[start+i-(len(message)-aes.BlockSize)]
			}
		}
		last := start+aes.BlockSize >= len(message)
		switch {
		case last && n == aes.BlockSize:
			subtle.XORBytes(s.next[:], s.next[:], p.sub1[:])
		case last:
			s.next[n] = 0x80
			clear(s.next[n+1:])
			subtle.XORBytes(s.next[:], s.next[:], p.sub2[:])
		}
		subtle.XORBytes(s.state[:], s.state[:], s.next[:])
		p.mac.Encrypt(s.state[:], s.state[:])
		if last {
			return
		}
	}
}

// iv leaves S2V of one string in s.state.
func (p *pseudonymizer) iv(s *scratch, plain []byte) {
	if len(plain) >= aes.BlockSize {
		p.cmac(s, plain, &p.empty)
		return
	}
	d := p.empty
	d.double()
	var padded block
	padded[copy(padded[:], plain)] = 0x80
	subtle.XORBytes(padded[:], padded[:], d[:])
	p.cmac(s, padded[:], nil)
}

// stream xors text with the key stream that begins at iv.
func (p *pseudonymizer) stream(s *scratch, iv block, text []byte) {
	s.counter = iv
	s.counter[8] &= 0x7f
	s.counter[12] &= 0x7f
	for len(text) > 0 {
		p.ctr.Encrypt(s.key[:], s.counter[:])
		text = text[subtle.XORBytes(text, text, s.key[:]):]
		for i := len(s.counter) - 1; i >= 0; i-- {
			if s.counter[i]++; s.counter[i] != 0 {
				break
			}
		}
	}
}

const idPadding = 32

// pad appends id and its padding: 0x80, then zeros.
func pad(out []byte, id string) []byte {
	start := len(out)
	out = append(out, id...)
	out = append(out, 0x80)
	for (len(out)-start)%idPadding != 0 {
		out = append(out, 0)
	}
	return out
}

// order is a place for an id among the others of the collection that says nothing
// about it: the same for each read under one grant.
func (p *pseudonymizer) order(id string) block {
	s := p.scratch()
	defer p.pool.Put(s)
	s.text = pad(s.text[:0], id)
	p.iv(s, s.text)
	return s.state
}

// seal returns the pseudonym of an id.
func (p *pseudonymizer) seal(id string) string {
	s := p.scratch()
	defer p.pool.Put(s)
	s.text = pad(append(s.text[:0], s.state[:]...), id)
	text := s.text[aes.BlockSize:]
	p.iv(s, text)
	copy(s.text, s.state[:])
	p.stream(s, s.state, text)
	return base64.RawURLEncoding.EncodeToString(s.text)
}

// open returns the id of a pseudonym; false where it is none of this collection
// and grant.
func (p *pseudonymizer) open(pseudonym string) (string, bool) {
	whole, err := base64.RawURLEncoding.Strict().DecodeString(pseudonym)
	if err != nil || len(whole) < aes.BlockSize+idPadding || (len(whole)-aes.BlockSize)%idPadding != 0 {
		return "", false
	}
	s := p.scratch()
	defer p.pool.Put(s)
	text := whole[aes.BlockSize:]
	p.stream(s, block(whole[:aes.BlockSize]), text)
	p.iv(s, text)
	if subtle.ConstantTimeCompare(s.state[:], whole[:aes.BlockSize]) != 1 {
		return "", false
	}
	end := len(text) - 1
	for end > 0 && text[end] == 0 {
		end--
	}
	return string(text[:end]), true
}
