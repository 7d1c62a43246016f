package store

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"time"
)

// A stamp is a revision: who wrote a value, and when by the hybrid logical clock
// (milliseconds since 1970 << 16 | counter). Device and import are names.
type stamp struct {
	class  Class
	clock  uint64
	device uint32
	imp    uint32
	lift   uint32 // of a ban of the record, that the writer had seen; see bansCollection
}

// A value is one merged part of a record: a field, or its time or source.
type value struct {
	name string
	at   stamp
	data []byte // JSON for a field; see timeData; null: removed
}

// Time and source are merged like fields, under names that no field can have
// because they are not UTF-8. They sort after all fields.
const (
	timeName   = "\xff\x01"
	sourceName = "\xff\x02"
)

func (v value) isField() bool { return v.name == "" || v.name[0] != 0xff }

func (v value) isNull() bool { return len(v.data) == 4 && v.data[0] == 'n' && string(v.data) == "null" }

// A record holds all that is known of an item, visible or not: for each name the
// greatest value seen that is newer than the tombstone.
type record struct {
	rev     uint64
	deleted bool
	tomb    stamp
	values  []value // sorted by name
}

// find returns where a name is or would be.
func (r *record) find(name string) (int, bool) {
	return slices.BinarySearchFunc(r.values, name, func(v value, name string) int { return cmp.Compare(v.name, name) })
}

// order compares revisions; names tells device ids, which decide between equal
// clocks.
func (s stamp) order(o stamp, names *names) int {
	if s.lift != o.lift {
		return strings.Compare(names.text(s.lift), names.text(o.lift))
	}
	if c := cmp.Compare(s.class, o.class); c != 0 {
		return c
	}
	if c := cmp.Compare(s.clock, o.clock); c != 0 {
		return c
	}
	if s.device == o.device {
		return 0
	}
	return strings.Compare(names.text(s.device), names.text(o.device))
}

// newer says whether v wins over o: by revision, else by hash, else by import, so
// that any two values that differ are ordered.
func (v value) newer(o value, names *names) bool {
	if c := v.at.order(o.at, names); c != 0 {
		return c > 0
	}
	if !bytes.Equal(v.data, o.data) {
		a, b := sha256.Sum256(v.data), sha256.Sum256(o.data)
		return bytes.Compare(a[:], b[:]) > 0
	}
	return v.at.imp != o.at.imp && names.text(v.at.imp) > names.text(o.at.imp)
}

// join merges a value into the record and reports whether the record changed.
func (r *record) join(v value, names *names) bool {
	if r.deleted && v.at.order(r.tomb, names) <= 0 {
		return false
	}
	i, found := r.find(v.name)
	if !found {
		r.values = slices.Insert(r.values, i, v)
		return true
	}
	if !v.newer(r.values[i], names) {
		return false
	}
	r.values[i] = v
	return true
}

// joinTomb merges a tombstone. Values that are not newer go for good.
func (r *record) joinTomb(t stamp, names *names) bool {
	t.imp = 0
	if r.deleted && t.order(r.tomb, names) <= 0 {
		return false
	}
	r.deleted, r.tomb = true, t
	r.values = slices.DeleteFunc(r.values, func(v value) bool { return v.at.order(t, names) <= 0 })
	return true
}

// clone returns a record that can be changed without changing r.
func (r *record) clone() record {
	c := *r
	c.values = slices.Clone(r.values)
	return c
}

// latest is the greatest clock in the record.
func (r *record) latest() uint64 {
	clock := uint64(0)
	if r.deleted {
		clock = r.tomb.clock
	}
	for _, v := range r.values {
		clock = max(clock, v.at.clock)
	}
	return clock
}

// visible says whether a value can be seen: it was not removed and its import was
// not undone.
func (v value) visible(m marks) bool { return !v.isNull() && !m.hide(v.at) }

// live says whether anything of the record can be seen.
func (r *record) live(m marks) bool {
	for _, v := range r.values {
		if v.visible(m) {
			return true
		}
	}
	return false
}

// get returns the visible value of a name.
func (r *record) get(name string, m marks) ([]byte, bool) {
	if i, ok := r.find(name); ok && r.values[i].visible(m) {
		return r.values[i].data, true
	}
	return nil, false
}

// place says where the record belongs in its collection.
func (r *record) place(m marks) []byte {
	if t, ok := r.get(timeName, m); ok {
		return append([]byte{placeTime}, t[:timeSize]...)
	}
	if r.live(m) {
		return []byte{placeNoTime}
	}
	return []byte{placeDead}
}

// Times are kept as SEC5 NSEC4 and the offset from UTC in minutes.

func timeData(t time.Time) []byte {
	_, offset := t.Zone()
	b := instantKey(make([]byte, 0, timeSize+2), t.Unix(), uint32(t.Nanosecond()))
	return binary.BigEndian.AppendUint16(b, uint16(int16(offset/60)))
}

func timeOf(data []byte) time.Time {
	sec := int64(data[0])<<32 | int64(binary.BigEndian.Uint32(data[1:])) + yearZero
	t := time.Unix(sec, int64(binary.BigEndian.Uint32(data[5:])))
	return t.In(zone(int16(binary.BigEndian.Uint16(data[timeSize:]))))
}

func zone(minutes int16) *time.Location {
	if minutes == 0 {
		return time.UTC
	}
	return time.FixedZone("", int(minutes)*60)
}

// The hash of a live record, of which StateHash is the sum: SHA-256 over collection,
// id, time, source and fields, each with its length before it. Revisions and imports
// are no part of it.
func (r *record) hash(collection, id string, m marks, scratch []byte) ([32]byte, []byte) {
	b := appendPair(append(scratch[:0], hashLabel...), collection, id)
	for _, v := range r.values {
		if v.visible(m) {
			b = appendPair(b, v.name, v.data)
		}
	}
	return sha256.Sum256(b), b
}

const hashLabel = "locker record v1"

func appendPair[T string | []byte](b []byte, name string, data T) []byte {
	b = binary.AppendUvarint(b, uint64(len(name)))
	b = append(b, name...)
	b = binary.AppendUvarint(b, uint64(len(data)))
	return append(b, data...)
}

var errRecord = errors.New("damaged record")

// A stored record:
//
//	version 1 | rev uvarint
//	revisions: count uvarint, each: class | clock 8 | device uvarint | import uvarint
//	         | and, where the class has withLift added, lift uvarint
//	tombstone: its revision + 1 uvarint, 0 for none
//	names:   bytes uvarint, then each: length uvarint, name
//	stamps:  one uvarint for each value, the revision it has; where all have the
//	         first, a single 255 in their place
//	lengths: one uvarint for each value
//	the values
//
// The table of names begins with the count of values. Records of one kind have the
// same one, so that a scan finds the fields that it wants once and not in each.
const recordVersion = 1

const (
	allFirst = 255
	withLift = 0x80
)

// encode appends a revision.
func (s stamp) encode(b []byte) []byte {
	class := byte(s.class)
	if s.lift != 0 {
		class |= withLift
	}
	b = binary.BigEndian.AppendUint64(append(b, class), s.clock)
	b = binary.AppendUvarint(b, uint64(s.device))
	b = binary.AppendUvarint(b, uint64(s.imp))
	if s.lift != 0 {
		b = binary.AppendUvarint(b, uint64(s.lift))
	}
	return b
}

// stampTable collects the revisions of a record, each once.
type stampTable []stamp

func (t *stampTable) add(s stamp) int {
	for i := len(*t) - 1; i >= 0; i-- {
		if (*t)[i] == s {
			return i
		}
	}
	*t = append(*t, s)
	return len(*t) - 1
}

// append encodes the record.
func (r *record) append(b []byte) []byte {
	var room [4]stamp
	table := stampTable(room[:0])
	for _, v := range r.values {
		table.add(v.at)
	}
	one := len(table) == 1
	tomb := 0
	if r.deleted {
		tomb = table.add(r.tomb) + 1
	}
	b = append(b, recordVersion)
	b = binary.AppendUvarint(b, r.rev)
	b = binary.AppendUvarint(b, uint64(len(table)))
	for _, s := range table {
		b = s.encode(b)
	}
	b = binary.AppendUvarint(b, uint64(tomb))
	size := uvarintSize(uint64(len(r.values)))
	for _, v := range r.values {
		size += uvarintSize(uint64(len(v.name))) + len(v.name)
	}
	b = binary.AppendUvarint(b, uint64(size))
	b = binary.AppendUvarint(b, uint64(len(r.values)))
	for _, v := range r.values {
		b = binary.AppendUvarint(b, uint64(len(v.name)))
		b = append(b, v.name...)
	}
	if one {
		b = append(b, allFirst)
	} else {
		for _, v := range r.values {
			b = appendIndex(b, table.add(v.at))
		}
	}
	for _, v := range r.values {
		b = binary.AppendUvarint(b, uint64(len(v.data)))
	}
	for _, v := range r.values {
		b = append(b, v.data...)
	}
	return b
}

// appendFresh encodes a record all of whose values have one revision, as append does.
func appendFresh(b []byte, rev uint64, at stamp, parts []part) []byte {
	b = append(b, recordVersion)
	b = binary.AppendUvarint(b, rev)
	b = at.encode(append(b, 1))
	size := uvarintSize(uint64(len(parts)))
	for _, p := range parts {
		size += uvarintSize(uint64(len(p.name))) + len(p.name)
	}
	b = append(b, 0)
	b = binary.AppendUvarint(b, uint64(size))
	b = binary.AppendUvarint(b, uint64(len(parts)))
	for _, p := range parts {
		b = binary.AppendUvarint(b, uint64(len(p.name)))
		b = append(b, p.name...)
	}
	b = append(b, allFirst)
	for _, p := range parts {
		b = binary.AppendUvarint(b, uint64(len(p.data)))
	}
	for _, p := range parts {
		b = append(b, p.data...)
	}
	return b
}

// appendIndex appends a small number so that its first byte is never allFirst.
func appendIndex(b []byte, n int) []byte {
	for ; n >= 0x7f; n -= 0x7f {
		b = append(b, 0x7f)
	}
	return append(b, byte(n))
}

func uvarintSize(n uint64) int {
	size := 1
	for ; n >= 0x80; n >>= 7 {
		size++
	}
	return size
}
