package crypto

import (
	"strings"

	"filippo.io/age"
)

// identityText is the text of the age hybrid identity whose seed is the 32 bytes
// given. age makes identities at random or reads them as text; there is no other
// way to give it a derived one.
func identityText(seed []byte) string {
	return strings.ToUpper(bech32Encode("age-secret-key-pq-", seed))
}

// identityFrom is the age hybrid identity whose seed is the 32 bytes given.
func identityFrom(seed []byte) *age.HybridIdentity {
	id, err := age.ParseHybridIdentity(identityText(seed))
	if err != nil {
		panic("crypto: " + err.Error()) // any 32 bytes are a seed
	}
	return id
}

// recipientBytes returns a recipient's 1,216 bytes, of which its text is the form.
func recipientBytes(r *age.HybridRecipient) []byte {
	text := r.String()
	text = text[len(recipientHRP)+1 : len(text)-6] // without its checksum
	out := make([]byte, 0, len(text)*5/8)
	acc, bits := uint32(0), 0
	for i := range len(text) {
		acc, bits = acc<<5|uint32(strings.IndexByte(bech32Charset, text[i])), bits+5
		if bits >= 8 {
			bits -= 8
			out = append(out, byte(acc>>bits))
		}
	}
	return out
}

// recipientFrom is the inverse of recipientBytes.
func recipientFrom(b []byte) (*age.HybridRecipient, error) {
	return age.ParseHybridRecipient(bech32Encode(recipientHRP, b))
}

const recipientHRP = "age1pq"

const bech32Charset = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"

// bech32Encode encodes data as BIP-173 does, without its limit of 90 characters,
// as age does. hrp is lower case.
func bech32Encode(hrp string, data []byte) string {
	values := make([]byte, 0, len(data)*8/5+1)
	acc, bits := uint32(0), 0
	for _, b := range data {
		acc, bits = acc<<8|uint32(b), bits+8
		for bits >= 5 {
			bits -= 5
			values = append(values, byte(acc>>bits)&31)
		}
	}
	if bits > 0 {
		values = append(values, byte(acc<<(5-bits))&31)
	}
	out := make([]byte, 0, len(hrp)+1+len(values)+6)
	out = append(append(out, hrp...), '1')
	for _, v := range append(values, bech32Checksum(hrp, values)...) {
		out = append(out, bech32Charset[v])
	}
	return string(out)
}

// bech32Checksum returns the six checksum values over hrp and values.
func bech32Checksum(hrp string, values []byte) []byte {
	chk := uint32(1)
	step := func(v byte) {
		top := chk >> 25
		chk = chk&0x1ffffff<<5 ^ uint32(v)
		for i, g := range [5]uint32{0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3} {
			if top>>i&1 == 1 {
				chk ^= g
			}
		}
	}
	for i := range len(hrp) {
		step(hrp[i] >> 5)
	}
	step(0)
	for i := range len(hrp) {
		step(hrp[i] & 31)
	}
	for _, v := range values {
		step(v)
	}
	for range 6 {
		step(0)
	}
	chk ^= 1
	sum := make([]byte, 6)
	for i := range sum {
		sum[i] = byte(chk>>(5*(5-i))) & 31
	}
	return sum
}
