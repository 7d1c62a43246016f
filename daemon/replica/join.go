package replica

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"slices"
)

// A joiner joins lines: what it emits tells a State all that the lines told it, and
// no more. Of each value of a record the greatest revision stays, and what lies below
// a tombstone of the record goes. Everything else is kept as it is, each line once:
// lines that tell of blobs or are of kinds that are not known, and change lines with
// members that are not known.
//
// It compares strings as they stand in the lines. Two values that only their hashes
// order, because a copied device wrote both, stay both: State decides.
type joiner struct {
	// within says what of the lines is kept; nil: all. It is told how long a line is.
	within func(key []byte, size int) bool
	arena  []byte // keys and lines
	spans  []lineSpan
	line   changeLine
}

// A lineSpan is a line in the arena, after its key.
type lineSpan struct{ key, line, end int }

// size is how much memory the lines take that are kept, in bytes.
func (j *joiner) size() int { return len(j.arena) + 24*len(j.spans) }

// A joinedRecord is what lines of one key come to.
type joinedRecord struct {
	collection, id []byte
	tomb           *revision
	tombImport     []byte
	values         []joinedValue
	verbatim       [][]byte // lines that are kept as they are, each once
	there          map[string]bool
}

// A revision orders values. Its strings are as in a line: quoted, and empty where the
// line has none.
type revision struct {
	lift, clock, device string
	owner               bool
}

type joinedValue struct {
	member
	at  revision
	imp string
}

// Names of what is merged like a field; a field's name is quoted.
const (
	timeName   = "time"
	sourceName = "source"
)

func (a revision) compare(b revision) int {
	if c := cmp.Compare(a.lift, b.lift); c != 0 {
		return c
	}
	if a.owner != b.owner {
		if a.owner {
			return 1
		}
		return -1
	}
	if c := cmp.Compare(a.clock, b.clock); c != 0 {
		return c
	}
	return cmp.Compare(a.device, b.device)
}

// Keys of what lines are about: records sort first, by collection and id.
const (
	blobKey  = "\xfeblob\x00"
	otherKey = "\xff"
)

// appendKey appends what a line is about. Lines about one thing have one key.
func appendKey(b, line []byte, l *changeLine) ([]byte, error) {
	blob := bytes.HasPrefix(line, blobPrefix)
	if !blob {
		if err := l.parse(line); err != nil {
			return b, err
		}
		if l.collection != nil {
			return append(append(append(b, l.collection...), 0), l.id...), nil
		}
	}
	if blob || l.blob {
		parsed, err := parseBlobLine(line)
		return append(append(b, blobKey...), parsed.Blob...), err
	}
	return append(b, otherKey...), nil
}

// add takes lines, each of which ends with a line feed. The bytes are only lent.
func (j *joiner) add(lines []byte) error {
	for len(lines) > 0 {
		end := bytes.IndexByte(lines, '\n')
		if end < 0 {
			return errors.New("its last line has no end")
		}
		line, start := lines[:end], len(j.arena)
		var err error
		if j.arena, err = appendKey(j.arena, line, &j.line); err != nil {
			return err
		}
		if key := j.arena[start:]; j.within == nil || j.within(key, len(line)) {
			s := lineSpan{key: start, line: len(j.arena)}
			j.arena = append(j.arena, line...)
			s.end = len(j.arena)
			j.spans = append(j.spans, s)
		} else {
			j.arena = j.arena[:min(start, len(j.arena))]
		}
		lines = lines[end+1:]
	}
	return nil
}

// emit joins the lines, and calls f with each key and the lines of it, in order of
// the keys. The bytes are only lent. The joiner is empty then.
func (j *joiner) emit(f func(key, lines []byte) error) error {
	key := func(s lineSpan) []byte { return j.arena[s.key:s.line] }
	slices.SortStableFunc(j.spans, func(a, b lineSpan) int { return bytes.Compare(key(a), key(b)) })
	var buf []byte
	for spans := j.spans; len(spans) > 0; {
		var r joinedRecord
		first := key(spans[0])
		for len(spans) > 0 && bytes.Equal(key(spans[0]), first) {
			if err := r.add(first, j.arena[spans[0].line:spans[0].end], &j.line); err != nil {
				return err
			}
			spans = spans[1:]
		}
		if buf = r.append(buf[:0]); len(buf) > 0 {
			if err := f(first, buf); err != nil {
				return err
			}
		}
	}
	j.arena, j.spans = j.arena[:0], j.spans[:0]
	return nil
}

// add joins a line.
func (r *joinedRecord) add(key, line []byte, l *changeLine) error {
	if key[0] == otherKey[0] || key[0] == blobKey[0] {
		r.keep(line)
		return nil
	}
	if err := l.parse(line); err != nil {
		return err
	}
	switch {
	case !l.plain, len(l.values) == 0 && !l.deleted && l.lift != nil: // that a ban was lifted, it tells
		r.keep(line)
	default:
		r.join(l)
	}
	return nil
}

// keep keeps a line as it is, once.
func (r *joinedRecord) keep(line []byte) {
	if !r.there[string(line)] {
		if r.there == nil {
			r.there = map[string]bool{}
		}
		r.there[string(line)] = true
		r.verbatim = append(r.verbatim, line)
	}
}

// join merges a change line.
func (r *joinedRecord) join(l *changeLine) {
	r.collection, r.id = l.collection, l.id
	at := revision{lift: string(l.lift), owner: l.owner, clock: string(l.clock), device: string(l.device)}
	if l.deleted && (r.tomb == nil || at.compare(*r.tomb) > 0) {
		r.tomb, r.tombImport = &at, l.imp
		r.values = slices.DeleteFunc(r.values, func(v joinedValue) bool { return v.at.compare(at) <= 0 })
	}
	if r.tomb != nil && at.compare(*r.tomb) <= 0 {
		return
	}
	for _, m := range l.values {
		r.joinValue(joinedValue{m, at, string(l.imp)})
	}
}

// joinValue merges one value of a line.
func (r *joinedRecord) joinValue(v joinedValue) {
	for i := 0; i < len(r.values); i++ {
		old := &r.values[i]
		if !bytes.Equal(old.name, v.name) {
			continue
		}
		switch c := v.at.compare(old.at); {
		case c < 0, c == 0 && old.imp == v.imp && bytes.Equal(old.value, v.value):
			return
		case c > 0:
			r.values = slices.Delete(r.values, i, i+1)
			i--
		}
	}
	r.values = append(r.values, v)
}

// append appends the lines of a record: one for each revision.
func (r *joinedRecord) append(b []byte) []byte {
	if r.tomb != nil {
		b = append(r.appendHead(b, nil, nil, *r.tomb, string(r.tombImport)), `,"deleted":true}`+"\n"...)
	}
	slices.SortStableFunc(r.values, func(a, b joinedValue) int {
		return cmp.Or(a.at.compare(b.at), cmp.Compare(a.imp, b.imp), bytes.Compare(a.name, b.name))
	})
	for values := r.values; len(values) > 0; {
		var line, rest []joinedValue
		for _, v := range values {
			same := len(line) == 0 || v.at == line[0].at && v.imp == line[0].imp
			if twice := len(line) > 0 && bytes.Equal(v.name, line[len(line)-1].name); same && !twice {
				line = append(line, v)
			} else {
				rest = append(rest, v)
			}
		}
		b, values = r.appendLine(b, line), rest
	}
	for _, line := range r.verbatim {
		b = append(append(b, line...), '\n')
	}
	return b
}

// appendLine appends a change line of values that have one revision.
func (r *joinedRecord) appendLine(b []byte, values []joinedValue) []byte {
	var at, source []byte
	for _, v := range values {
		switch string(v.name) {
		case timeName:
			at = v.value
		case sourceName:
			source = v.value
		}
	}
	b = r.appendHead(b, at, source, values[0].at, values[0].imp)
	n := 0
	for _, v := range values {
		if v.name[0] != '"' {
			continue
		}
		if n++; n == 1 {
			b = append(b, `,"fields":{`...)
		} else {
			b = append(b, ',')
		}
		b = append(append(append(b, v.name...), ':'), v.value...)
	}
	if n > 0 {
		b = append(b, '}')
	}
	return append(b, '}', '\n')
}

// appendHead appends what begins a change line, all but its values and its end.
func (r *joinedRecord) appendHead(b, at, source []byte, rev revision, imp string) []byte {
	b = append(append(b, `{"collection":`...), r.collection...)
	class := `"source"`
	if rev.owner {
		class = `"owner"`
	}
	for _, m := range []struct{ key, value string }{
		{`,"id":`, string(r.id)}, {`,"time":`, string(at)}, {`,"source":`, string(source)}, {`,"import":`, imp},
		{`,"class":`, class}, {`,"clock":`, rev.clock}, {`,"device":`, rev.device}, {`,"lift":`, rev.lift},
	} {
		if m.value != "" {
			b = append(append(b, m.key...), m.value...)
		}
	}
	return b
}

// sketchSize is how many hashes a sketch has; the estimate is good to a sixteenth.
const sketchSize = 256

// A sketch tells about how many different keys there are, in one set and in the union
// of several: it holds the least hashes of the keys, sorted.
type sketch []uint64

func (s *sketch) add(key []byte) {
	sum := sha256.Sum256(key)
	s.insert(binary.BigEndian.Uint64(sum[:]))
}

func (s *sketch) insert(h uint64) {
	if len(*s) == sketchSize && h >= (*s)[sketchSize-1] {
		return
	}
	if i, there := slices.BinarySearch(*s, h); !there {
		*s = slices.Insert(*s, i, h)
		*s = (*s)[:min(len(*s), sketchSize)]
	}
}

func (s *sketch) union(o sketch) {
	for _, h := range o {
		s.insert(h)
	}
}

// count estimates how many keys there are.
func (s sketch) count() float64 {
	if len(s) < sketchSize {
		return float64(len(s))
	}
	return (sketchSize - 1) / (float64(s[sketchSize-1]) / (1 << 64))
}
