package store

import (
	"encoding/binary"
	"hash/maphash"

	"github.com/cockroachdb/pebble/v2"
)

// absence proves without reading that records are not there, which most of what an
// import brings is not. For a collection that it follows it has a Bloom filter that
// every record was added to; it follows one that it meets empty, and one in which it
// was asked often for what is not there.
//
// It takes about two bytes for each record, and gives up a collection for which that
// grows beyond absenceMost. The writer's lock guards it.
type absence struct {
	seed        maphash.Seed
	collections map[uint32]*collectionFilter
}

const (
	absenceMost  = 4 << 20 // records of a collection
	filterSteps  = 6       // bits set for each key, of 16
	absenceAsked = 4096    // answers of "not there" after which a filter is made
)

type collectionFilter struct {
	layers   []filterLayer // each four times the size of the one before
	complete bool          // every record was added
	misses   int
}

// filterLayer is a Bloom filter.
type filterLayer struct {
	bits []uint64
	room int // keys that it still takes
}

const firstLayer = 1 << 14 // keys

func newAbsence() absence {
	return absence{seed: maphash.MakeSeed(), collections: map[uint32]*collectionFilter{}}
}

// proves says that a record is certainly not there. key is its key among ids.
func (a *absence) proves(db pebble.Reader, collection uint32, key []byte) (bool, error) {
	f, ok := a.collections[collection]
	if !ok {
		f = &collectionFilter{}
		a.collections[collection] = f
		empty := true
		err := scan(db, binary.BigEndian.AppendUint32([]byte{spaceIDs}, collection), func(_, _ []byte) error {
			empty = false
			return errStop
		})
		if err != nil && err != errStop {
			return false, err
		}
		f.complete = empty
	}
	return f.complete && !f.has(maphash.Bytes(a.seed, key)), nil
}

// missed notes that a record was looked for and was not there.
func (a *absence) missed(db pebble.Reader, collection uint32) error {
	f := a.collections[collection]
	if f == nil || f.complete || f.misses < 0 {
		return nil
	}
	if f.misses++; f.misses < absenceAsked {
		return nil
	}
	f.layers = nil
	err := scan(db, binary.BigEndian.AppendUint32([]byte{spaceIDs}, collection), func(key, _ []byte) error {
		return f.add(maphash.Bytes(a.seed, key))
	})
	if f.complete = err == nil; err == errStop {
		err = nil
	}
	return err
}

// add notes a record that is about to be written.
func (a *absence) add(collection uint32, key []byte) {
	if f := a.collections[collection]; f != nil && f.complete && f.add(maphash.Bytes(a.seed, key)) != nil {
		f.complete = false
	}
}

// add returns errStop when the filter has become too large; it is of no use then.
func (f *collectionFilter) add(h uint64) error {
	n := len(f.layers)
	if n == 0 || f.layers[n-1].room == 0 {
		keys := firstLayer << (2 * n)
		if keys > absenceMost {
			f.layers, f.misses = nil, -1
			return errStop
		}
		f.layers = append(f.layers, filterLayer{make([]uint64, keys*16/64), keys})
		n++
	}
	l := &f.layers[n-1]
	l.room--
	for step := range uint64(filterSteps) {
		i := l.bit(h, step)
		l.bits[i/64] |= 1 << (i % 64)
	}
	return nil
}

func (f *collectionFilter) has(h uint64) bool {
	for i := len(f.layers) - 1; i >= 0; i-- {
		if f.layers[i].has(h) {
			return true
		}
	}
	return false
}

func (l *filterLayer) has(h uint64) bool {
	for step := range uint64(filterSteps) {
		if i := l.bit(h, step); l.bits[i/64]&(1<<(i%64)) == 0 {
			return false
		}
	}
	return true
}

// bit is the number of one of the bits of a hash; there are a power of two.
func (l *filterLayer) bit(h, step uint64) uint64 {
	return (h + step*(h>>32|1)) & uint64(len(l.bits)*64-1)
}
