package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"
)

// A line is a change line: values of one record, all with one revision.
//
//	{"collection","id","time"?,"source"?,"import"?,"class","clock","device","lift"?,"deleted"?,"fields"?}
//
// lift is part of the revision: the newest lift of a ban of the record that the writer
// had seen. A time and a source "null" are values of a purged import.
type line struct {
	collection, id  []byte
	imp, device     []byte
	lift            []byte
	time, source    []byte
	class           Class
	clock           uint64
	deleted         bool
	parts           []part // its values: fields in the order given, time, source
	hasRef, hasBlob bool
}

var errLine = errors.New("not a change line")

// A lineReader takes many lines apart that are alike.
type lineReader struct {
	drafter
	room []part
}

// parse takes a line apart. Its slices lie within b, where b allows it.
func (lr *lineReader) parse(b []byte, l *line) error {
	*l = line{}
	if !utf8.Valid(b) {
		return errors.New("not valid UTF-8")
	}
	if cap(lr.room)-len(lr.room) < len(lr.names)+2 {
		lr.room = make([]part, 0, max(256, 8*len(lr.names)))
	}
	start := len(lr.room)
	l.parts = lr.room[start:start]
	var hasClass, hasClock, hasDevice bool
	s := scanner{b: b}
	err := s.members(func(name []byte) (err error) {
		if string(name) == "fields" {
			return lr.fieldsOf(&s, l)
		}
		from := s.pos
		if err := s.value(0); err != nil {
			return err
		}
		val := b[from:s.pos:s.pos]
		switch string(name) {
		case "class":
			err = once(&hasClass)
			if err == nil {
				l.class, err = classOf(val)
			}
		case "clock":
			err = once(&hasClock)
			if err == nil {
				l.clock, err = clockOf(val)
			}
		case "device":
			err = once(&hasDevice)
			if err == nil {
				l.device, err = text(val)
			}
		default:
			err = l.member(name, val)
		}
		return err
	})
	if err != nil {
		return err
	}
	if s.space(); s.pos != len(b) {
		return errSyntax
	}
	// After the fields, as they are sorted.
	if len(l.time) > 0 {
		l.parts = append(l.parts, part{timeName, l.time})
	}
	if len(l.source) > 0 {
		l.parts = append(l.parts, part{sourceName, l.source})
	}
	if start+len(l.parts) <= cap(lr.room) {
		lr.room = lr.room[:start+len(l.parts)]
	}
	l.parts = l.parts[:len(l.parts):len(l.parts)]
	if !l.hasRef {
		return nil
	}
	return l.check(hasClass && hasClock)
}

// once refuses a member that two readers could take differently: one that says of
// what revision a line is, and is there twice.
func once(there *bool) error {
	if *there {
		return fmt.Errorf("%w: its revision is there twice", errLine)
	}
	*there = true
	return nil
}

// fieldsOf scans the fields of a line.
func (lr *lineReader) fieldsOf(s *scanner, l *line) error {
	n := 0
	return s.object(false, func(name, val []byte) error {
		l.parts = append(l.parts, part{lr.name(n, name), val})
		n++
		return nil
	})
}

// member takes a member that is a text or a sign.
func (l *line) member(name, val []byte) (err error) {
	switch string(name) {
	case "collection":
		l.hasRef = true
		l.collection, err = text(val)
	case "blob":
		l.hasBlob = true
	case "id":
		l.id, err = text(val)
	case "lift":
		if l.lift, err = text(val); err == nil {
			_, _, err = liftOf(l.lift)
		}
	case "time":
		if string(val) == `"null"` {
			l.time = null
			return nil
		}
		var raw []byte
		if raw, err = text(val); err == nil {
			err = l.setTime(raw)
		}
	case "source":
		l.source, err = text(val)
	case "import":
		l.imp, err = text(val)
	case "deleted":
		l.deleted = string(val) == "true"
	}
	return err
}

func (l *line) setTime(raw []byte) error {
	if len(raw) == 0 {
		return nil
	}
	t, err := time.Parse(time.RFC3339Nano, string(raw))
	if y := t.UTC().Year(); err != nil || y < 1 || y > 9998 {
		return fmt.Errorf("%w: time %.40q", errLine, raw)
	}
	l.time = timeData(t)
	return nil
}

func (l *line) check(complete bool) error {
	if !complete || len(l.device) == 0 || len(l.device) > maxName {
		return fmt.Errorf("%w: class, clock and device are needed", errLine)
	}
	if err := checkRef(string(l.collection), string(l.id)); err != nil {
		return err
	}
	if len(l.source) > maxName || len(l.imp) > maxName {
		return fmt.Errorf("%w: source or import longer than %d bytes", errLine, maxName)
	}
	if l.clock > maxClock {
		return fmt.Errorf("%w: clock out of range", errLine)
	}
	return nil
}

// text unquotes a JSON string.
func text(val []byte) ([]byte, error) {
	if len(val) < 2 || val[0] != '"' {
		return nil, fmt.Errorf("%w: text expected", errLine)
	}
	for _, c := range val {
		if c == '\\' {
			return []byte(unquote(val)), nil
		}
	}
	return val[1 : len(val)-1], nil
}

func classOf(val []byte) (Class, error) {
	switch string(val) {
	case `"owner"`:
		return Owner, nil
	case `"source"`:
		return Source, nil
	}
	return 0, fmt.Errorf("%w: unknown class", errLine)
}

func clockOf(val []byte) (uint64, error) {
	if len(val) != 18 || val[0] != '"' {
		return 0, fmt.Errorf("%w: a clock has 16 hex digits", errLine)
	}
	n := uint64(0)
	for _, c := range val[1:17] {
		switch {
		case '0' <= c && c <= '9':
			n = n<<4 | uint64(c-'0')
		case 'a' <= c && c <= 'f':
			n = n<<4 | uint64(c-'a'+10)
		default:
			return 0, fmt.Errorf("%w: a clock has 16 hex digits", errLine)
		}
	}
	return n, nil
}

// liftOf reads a lift: its clock and the device that made it.
func liftOf(b []byte) (clock uint64, device []byte, err error) {
	if len(b) < 18 || len(b) > 17+maxName || b[16] != ' ' {
		return 0, nil, fmt.Errorf("%w: lift %.40q", errLine, b)
	}
	quoted := append(append([]byte{'"'}, b[:16]...), '"')
	if clock, err = clockOf(quoted); err == nil && clock > maxClock {
		err = fmt.Errorf("%w: clock out of range", errLine)
	}
	return clock, b[17:], err
}

// timeText is a stored time as it stands in lines and records: RFC 3339.
func timeText(data []byte) string { return timeOf(data).Format(time.RFC3339Nano) }

// appendLine appends the change line of the values of a record that have a
// revision; only picks them.
func (r *row) appendLine(b []byte, collection string, id []byte, at stamp, names *names) []byte {
	b = append(b, `{"collection":`...)
	b = quote(b, collection)
	b = append(b, `,"id":`...)
	b = quote(b, string(id))
	n := len(r.shape.names)
	for i := n - 1; i >= 0 && r.shape.names[i] >= "\xff"; i-- {
		if r.shape.names[i] == timeName && r.stamp(i) == at && string(r.value(i)) == "null" {
			b = append(b, `,"time":"null"`...)
		} else if r.shape.names[i] == timeName && r.stamp(i) == at {
			b = append(b, `,"time":"`...)
			b = timeOf(r.value(i)).AppendFormat(b, time.RFC3339Nano)
			b = append(b, '"')
		}
	}
	if n > 0 && r.shape.names[n-1] == sourceName && r.stamp(n-1) == at {
		b = append(b, `,"source":`...)
		b = quote(b, string(r.value(n-1)))
	}
	b = at.appendTo(b, names)
	start := len(b)
	b = append(b, `,"fields":{`...)
	open := len(b)
	for i, name := range r.shape.names {
		if name >= "\xff" || r.stamp(i) != at {
			continue
		}
		if len(b) > open {
			b = append(b, ',')
		}
		b = append(append(quote(b, name), ':'), r.value(i)...)
	}
	if len(b) == open {
		b = b[:start]
	} else {
		b = append(b, '}')
	}
	return append(b, '}', '\n')
}

// appendTomb appends the change line of a tombstone.
func appendTomb(b []byte, collection string, id []byte, at stamp, names *names) []byte {
	b = append(b, `{"collection":`...)
	b = quote(b, collection)
	b = append(b, `,"id":`...)
	b = quote(b, string(id))
	b = at.appendTo(b, names)
	return append(b, `,"deleted":true}`+"\n"...)
}

// appendTo appends what a line says of a revision.
func (s stamp) appendTo(b []byte, names *names) []byte {
	if s.imp != 0 {
		b = append(b, `,"import":`...)
		b = quote(b, names.text(s.imp))
	}
	if s.class == Owner {
		b = append(b, `,"class":"owner","clock":"`...)
	} else {
		b = append(b, `,"class":"source","clock":"`...)
	}
	var digits [16]byte
	hexClock := strconv.AppendUint(digits[:0], s.clock, 16)
	for range 16 - len(hexClock) {
		b = append(b, '0')
	}
	b = append(b, hexClock...)
	b = append(b, `","device":`...)
	b = quote(b, names.text(s.device))
	if s.lift != 0 {
		b = quote(append(b, `,"lift":`...), names.text(s.lift))
	}
	return b
}

// A position in what this device writes, as Cut hands it out: the change log was
// read up to rev, and what has a clock up to clock was handed out. While all records
// are swept, because most have changed, cursor is where that goes on and goal the rev
// at which it began. device is who wrote, and who wrote since, separated by blanks: all
// but this one were this device once.
//
// clock moves on only at the end of the log: until then, a record may have gone to
// the end of the log with values that were not handed out before.
type position struct {
	rev, clock, goal uint64
	cursor           []byte
	device           string
}

func (p position) encode() []byte {
	b := []byte{1}
	for _, n := range []uint64{p.rev, p.clock, p.goal} {
		b = binary.AppendUvarint(b, n)
	}
	b = binary.AppendUvarint(b, uint64(len(p.device)))
	b = append(b, p.device...)
	return append(b, p.cursor...)
}

func decodePosition(b []byte) (p position, err error) {
	if len(b) == 0 {
		return p, nil
	}
	if b[0] != 1 {
		return p, errors.New("damaged position")
	}
	d := decoder{b: b[1:]}
	p.rev, p.clock, p.goal = d.uvarint(), d.uvarint(), d.uvarint()
	p.device = string(d.bytes(d.uvarint()))
	if p.cursor = d.b; d.bad {
		return p, errors.New("damaged position")
	}
	return p, nil
}
