package wire

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math"
	"time"

	"github.com/locker-project/locker/plugins/locker"
)

// Records are encoded one after another:
//
//	record  = flags [collection] id [source] [import] [time] [rev] fields
//	flags   = byte: 1 collection, 2 source, 4 import are those of the record before
//	          (empty before the first), and left out; 8 time, 16 rev are there;
//	          32 the record is deleted; 64 the offset is that of the time before
//	text    = uvarint length, bytes: collection, id, source, import, fields
//	time    = varint seconds since 1970, uvarint nanoseconds, [varint offset in seconds]
//	rev     = uvarint
//
// The reader copies all that it keeps, so that a program which keeps one record
// does not keep the message that it came in.
const (
	sameCollection = 1 << iota
	sameSource
	sameImport
	hasTime
	hasRev
	isDeleted
	sameOffset
)

const (
	batchFirst = 8 << 10   // bytes of rows in the first message of an answer
	batchMax   = 128 << 10 // bytes of rows in a later one
)

var errRows = errors.New("malformed records")

// A RowWriter encodes records. The zero RowWriter is ready to use.
type RowWriter struct {
	buf                         []byte
	collection, source, import_ string
	offset                      int
	max                         int
}

// Add appends a record.
func (w *RowWriter) Add(r *locker.Record) {
	at := len(w.buf)
	w.buf = append(w.buf, 0)
	var flags byte
	if r.Collection == w.collection {
		flags |= sameCollection
	} else {
		w.buf, w.collection = appendText(w.buf, r.Collection), r.Collection
	}
	w.buf = appendText(w.buf, r.ID)
	if r.Source == w.source {
		flags |= sameSource
	} else {
		w.buf, w.source = appendText(w.buf, r.Source), r.Source
	}
	if r.Import == w.import_ {
		flags |= sameImport
	} else {
		w.buf, w.import_ = appendText(w.buf, r.Import), r.Import
	}
	if !r.Time.IsZero() {
		flags |= hasTime | w.addTime(r.Time)
	}
	if r.Rev != 0 {
		flags |= hasRev
		w.buf = binary.AppendUvarint(w.buf, uint64(r.Rev))
	}
	if r.Deleted {
		flags |= isDeleted
	}
	w.buf = binary.AppendUvarint(w.buf, uint64(len(r.Fields)))
	w.buf = append(w.buf, r.Fields...)
	w.buf[at] = flags
}

func (w *RowWriter) addTime(t time.Time) (flags byte) {
	w.buf = binary.AppendVarint(w.buf, t.Unix())
	w.buf = binary.AppendUvarint(w.buf, uint64(t.Nanosecond()))
	_, offset := t.Zone()
	if offset == w.offset {
		return sameOffset
	}
	w.buf, w.offset = binary.AppendVarint(w.buf, int64(offset)), offset
	return 0
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// Len is the number of bytes that Take would return.
func (w *RowWriter) Len() int { return len(w.buf) }

// Full reports that it is time to send what Take returns. The first batch of an
// answer is small, so that it comes soon, and each later one is larger.
func (w *RowWriter) Full() bool {
	if w.max == 0 {
		w.max = batchFirst
	}
	return len(w.buf) >= w.max
}

// Take returns the records added since the last Take and starts afresh.
func (w *RowWriter) Take() []byte {
	rows := w.buf
	w.max = min(max(w.max, batchFirst)*4, batchMax)
	*w = RowWriter{max: w.max, buf: make([]byte, 0, w.max+w.max/8)}
	return rows
}

// A RowReader decodes records.
type RowReader struct {
	rest                        []byte
	collection, source, import_ string
	zone                        *time.Location
	offset                      int
}

// ReadRows returns a reader of encoded records.
func ReadRows(rows []byte) *RowReader { return &RowReader{rest: rows, zone: time.UTC} }

// More reports whether another record follows.
func (r *RowReader) More() bool { return len(r.rest) > 0 }

// Next returns the next record.
func (r *RowReader) Next() (rec locker.Record, err error) {
	defer func() {
		if err != nil {
			r.rest = nil
		}
	}()
	if len(r.rest) == 0 {
		return rec, errRows
	}
	flags := r.rest[0]
	r.rest = r.rest[1:]
	if rec.Collection, err = r.text(flags&sameCollection != 0, &r.collection); err != nil {
		return rec, err
	}
	id, err := r.bytes()
	if err != nil {
		return rec, err
	}
	rec.ID = string(id)
	if rec.Source, err = r.text(flags&sameSource != 0, &r.source); err != nil {
		return rec, err
	}
	if rec.Import, err = r.text(flags&sameImport != 0, &r.import_); err != nil {
		return rec, err
	}
	if flags&hasTime != 0 {
		if rec.Time, err = r.time(flags&sameOffset != 0); err != nil {
			return rec, err
		}
	}
	if flags&hasRev != 0 {
		rev, err := r.uvarint()
		if err != nil {
			return rec, err
		}
		rec.Rev = locker.Rev(rev)
	}
	rec.Deleted = flags&isDeleted != 0
	fields, err := r.bytes()
	if err != nil {
		return rec, err
	}
	if len(fields) > 0 {
		rec.Fields = json.RawMessage(bytes.Clone(fields))
	}
	return rec, nil
}

// All decodes the records that are left.
func (r *RowReader) All() ([]locker.Record, error) {
	var records []locker.Record
	for r.More() {
		rec, err := r.Next()
		if err != nil {
			return nil, err
		}
		records = append(records, rec)
	}
	return records, nil
}

func (r *RowReader) text(same bool, last *string) (string, error) {
	if same {
		return *last, nil
	}
	b, err := r.bytes()
	if err == nil {
		*last = string(b)
	}
	return *last, err
}

func (r *RowReader) bytes() ([]byte, error) {
	n, err := r.uvarint()
	if err != nil || n > uint64(len(r.rest)) {
		return nil, errRows
	}
	b := r.rest[:n:n]
	r.rest = r.rest[n:]
	return b, nil
}

func (r *RowReader) uvarint() (uint64, error) {
	n, size := binary.Uvarint(r.rest)
	if size <= 0 {
		return 0, errRows
	}
	r.rest = r.rest[size:]
	return n, nil
}

func (r *RowReader) varint() (int64, error) {
	n, size := binary.Varint(r.rest)
	if size <= 0 {
		return 0, errRows
	}
	r.rest = r.rest[size:]
	return n, nil
}

func (r *RowReader) time(same bool) (time.Time, error) {
	seconds, err := r.varint()
	if err != nil {
		return time.Time{}, err
	}
	nanos, err := r.uvarint()
	if err != nil || nanos >= 1e9 {
		return time.Time{}, errRows
	}
	if !same {
		offset, err := r.varint()
		if err != nil || offset < -math.MaxInt32 || offset > math.MaxInt32 {
			return time.Time{}, errRows
		}
		r.offset, r.zone = int(offset), Zone(int(offset))
	}
	return time.Unix(seconds, int64(nanos)).In(r.zone), nil
}

// Zone is the location that lies so many seconds east of UTC.
func Zone(offset int) *time.Location {
	if offset == 0 {
		return time.UTC
	}
	return time.FixedZone("", offset)
}

// FromTime converts a time; the zero time is nil.
func FromTime(t time.Time) *Moment {
	if t.IsZero() {
		return nil
	}
	_, offset := t.Zone()
	return &Moment{Seconds: t.Unix(), Nanos: int32(t.Nanosecond()), Offset: int32(offset)}
}

// Time converts a moment; nil is the zero time.
func (m *Moment) Time() time.Time {
	if m == nil {
		return time.Time{}
	}
	return time.Unix(m.GetSeconds(), int64(m.GetNanos())).In(Zone(int(m.GetOffset())))
}
