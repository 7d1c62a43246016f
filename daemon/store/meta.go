package store

import (
	"encoding/binary"
	"errors"
	"maps"
	"math/bits"
	"slices"
)

var (
	metaKey   = []byte("mmeta")
	jobPrefix = []byte("mjob")
)

// meta is what the store knows of itself as a whole. It is written with each batch.
type meta struct {
	rev    uint64           // of the latest change
	clock  uint64           // the greatest used or adopted
	blobs  uint64           // SEQ of the latest blob stored here
	hash   sum              // over live records outside system collections
	counts map[uint32]int64 // live records of each collection
	jobRev uint64           // rev of the change that left jobs behind
}

func (m meta) clone() meta {
	m.counts = maps.Clone(m.counts)
	return m
}

func (m *meta) encode() []byte {
	b := []byte{1}
	b = binary.BigEndian.AppendUint64(b, m.rev)
	b = binary.BigEndian.AppendUint64(b, m.clock)
	b = binary.BigEndian.AppendUint64(b, m.blobs)
	b = binary.BigEndian.AppendUint64(b, m.jobRev)
	for _, limb := range m.hash {
		b = binary.BigEndian.AppendUint64(b, limb)
	}
	for _, name := range slices.Sorted(maps.Keys(m.counts)) {
		if m.counts[name] != 0 {
			b = binary.AppendUvarint(b, uint64(name))
			b = binary.AppendVarint(b, m.counts[name])
		}
	}
	return b
}

func decodeMeta(b []byte) (meta, error) {
	m := meta{counts: map[uint32]int64{}}
	if b == nil {
		return m, nil
	}
	if len(b) < 1+4*8+32 || b[0] != 1 {
		return m, errors.New("damaged counters of the store")
	}
	b = b[1:]
	next := func() uint64 {
		n := binary.BigEndian.Uint64(b)
		b = b[8:]
		return n
	}
	m.rev, m.clock, m.blobs, m.jobRev = next(), next(), next(), next()
	for i := range m.hash {
		m.hash[i] = next()
	}
	for len(b) > 0 {
		name, n := binary.Uvarint(b)
		if n <= 0 {
			return m, errors.New("damaged counters of the store")
		}
		count, k := binary.Varint(b[n:])
		if k <= 0 {
			return m, errors.New("damaged counters of the store")
		}
		m.counts[uint32(name)] = count
		b = b[n+k:]
	}
	return m, nil
}

// A sum is a number modulo 2^256, most significant part first: the sum of the
// hashes of all live records. It changes with a record in constant time and does
// not depend on order. It tells honest devices whether they hold the same data. It
// is not collision resistant against somebody who can choose records: sums of
// SHA-256 can be forged with feasible work, so nothing may be trusted for having
// the right sum.
type sum [4]uint64

func sumOf(h [32]byte) (s sum) {
	for i := range s {
		s[i] = binary.BigEndian.Uint64(h[i*8:])
	}
	return s
}

func (s *sum) add(h [32]byte) {
	o, carry := sumOf(h), uint64(0)
	for i := 3; i >= 0; i-- {
		s[i], carry = bits.Add64(s[i], o[i], carry)
	}
}

func (s *sum) subtract(h [32]byte) {
	o, borrow := sumOf(h), uint64(0)
	for i := 3; i >= 0; i-- {
		s[i], borrow = bits.Sub64(s[i], o[i], borrow)
	}
}
