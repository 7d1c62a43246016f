package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
)

// A row is a stored record taken apart without copying: what a scan needs. Its
// slices lie within the bytes given to read and in room of its own that the next
// read overwrites.
type row struct {
	rev    uint64
	stamps []stamp
	tomb   int // index in stamps + 1; 0: none
	shape  shape
	index  []int    // of each value, its stamp; empty: all have the first
	ends   []uint32 // of each value, where it ends in data
	data   []byte
}

// A shape is the list of the names of a record's values.
type shape struct {
	table []byte // as stored
	names []string
}

// read takes a stored record apart.
func (r *row) read(b []byte) error {
	if len(b) < 2 || b[0] != recordVersion {
		return errRecord
	}
	d := decoder{b: b[1:]}
	r.rev = d.uvarint()
	n := d.count()
	r.stamps = r.stamps[:0]
	for range n {
		r.stamps = append(r.stamps, d.stamp())
	}
	r.tomb = int(d.uvarint())
	table := d.bytes(d.uvarint())
	if d.bad || r.tomb > n {
		return errRecord
	}
	if r.shape.table == nil || !bytes.Equal(table, r.shape.table) {
		if !r.shape.read(table) {
			r.shape.table = nil
			return errRecord
		}
	}
	r.readStamps(&d)
	end := uint64(0)
	r.ends = r.ends[:0]
	for range r.shape.names {
		end += d.uvarint()
		r.ends = append(r.ends, uint32(end))
	}
	if d.bad || end != uint64(len(d.b)) || (len(r.shape.names) > 0 && n == 0) {
		return errRecord
	}
	r.data = d.b
	return nil
}

// readStamps reads which revision each value has.
func (r *row) readStamps(d *decoder) {
	r.index = r.index[:0]
	if len(d.b) > 0 && d.b[0] == allFirst {
		d.b = d.b[1:]
		return
	}
	for range r.shape.names {
		i := d.index()
		if i >= len(r.stamps) {
			d.bad = true
			return
		}
		r.index = append(r.index, i)
	}
}

// read takes a table of names apart.
func (s *shape) read(table []byte) bool {
	d := decoder{b: table}
	n := d.count()
	s.names = make([]string, 0, n)
	for range n {
		s.names = append(s.names, string(d.bytes(d.uvarint())))
	}
	s.table = bytes.Clone(table)
	return !d.bad && len(d.b) == 0
}

// stamp returns the revision of a value.
func (r *row) stamp(i int) stamp {
	if len(r.index) > 0 {
		return r.stamps[r.index[i]]
	}
	return r.stamps[0]
}

// value returns the bytes of a value.
func (r *row) value(i int) []byte {
	start := uint32(0)
	if i > 0 {
		start = r.ends[i-1]
	}
	return r.data[start:r.ends[i]:r.ends[i]]
}

// visible says whether a value can be seen.
func (r *row) visible(i int, m marks) bool {
	v := r.value(i)
	if len(v) == 4 && v[0] == 'n' && string(v) == "null" {
		return false
	}
	return len(m) == 0 || !m.hide(r.stamp(i))
}

// find returns the index of a name, or -1.
func (r *row) find(name string) int {
	for i, n := range r.shape.names {
		if n == name {
			return i
		}
	}
	return -1
}

// place says where the record belongs in its collection.
func (r *row) place(m marks) []byte {
	place := []byte{placeDead}
	for i, name := range r.shape.names {
		if !r.visible(i, m) {
			continue
		}
		if name == timeName {
			return append([]byte{placeTime}, r.value(i)[:timeSize]...)
		}
		place[0] = placeNoTime
	}
	return place
}

// hash is the hash of a live record; see record.hash.
func (r *row) hash(collection, id string, m marks, scratch []byte) ([32]byte, []byte) {
	b := appendPair(append(scratch[:0], hashLabel...), collection, id)
	for i, name := range r.shape.names {
		if r.visible(i, m) {
			b = appendPair(b, name, r.value(i))
		}
	}
	return sha256.Sum256(b), b
}

// record returns the row as a record of its own, sharing nothing.
func (r *row) record() record {
	data := bytes.Clone(r.data)
	out := record{rev: r.rev, values: make([]value, len(r.shape.names))}
	if r.tomb > 0 {
		out.deleted, out.tomb = true, r.stamps[r.tomb-1]
	}
	start := uint32(0)
	for i, name := range r.shape.names {
		out.values[i] = value{name: name, at: r.stamp(i), data: data[start:r.ends[i]:r.ends[i]]}
		start = r.ends[i]
	}
	return out
}

// A decoder reads numbers off the front of b. After the first that is not there,
// bad is set.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) uvarint() uint64 {
	if len(d.b) > 0 && d.b[0] < 0x80 {
		n := uint64(d.b[0])
		d.b = d.b[1:]
		return n
	}
	n, size := binary.Uvarint(d.b)
	if size <= 0 {
		d.bad = true
		return 0
	}
	d.b = d.b[size:]
	return n
}

// count is a uvarint of things that take a byte at least.
func (d *decoder) count() int {
	n := d.uvarint()
	if n > uint64(len(d.b)) {
		d.bad = true
		return 0
	}
	return int(n)
}

func (d *decoder) bytes(n uint64) []byte {
	if n > uint64(len(d.b)) {
		d.bad = true
		return nil
	}
	b := d.b[:n:n]
	d.b = d.b[n:]
	return b
}

func (d *decoder) index() int {
	n := 0
	for len(d.b) > 0 {
		c := d.b[0]
		d.b = d.b[1:]
		n += int(c)
		if c < 0x7f {
			return n
		}
	}
	d.bad = true
	return 0
}

func (d *decoder) stamp() stamp {
	head := d.bytes(1 + 8)
	if head == nil {
		return stamp{}
	}
	s := stamp{class: Class(head[0] &^ withLift), clock: binary.BigEndian.Uint64(head[1:])}
	s.device = uint32(d.uvarint())
	s.imp = uint32(d.uvarint())
	if head[0]&withLift != 0 {
		if s.lift = uint32(d.uvarint()); s.lift == 0 {
			d.bad = true
		}
	}
	return s
}
