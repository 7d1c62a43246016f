package replica

import (
	"bytes"
	"errors"
	"slices"
	"strconv"
)

// Of a device that is removed only the entries up to its pin count. Whoever had read
// more holds values that others will never get from that log, and publishes them in
// its own. Which those are is known by spans: of each stretch of a log that was read,
// in whose name its lines have values, and between which clocks. (The clock of the pin
// alone would not do: who was removed can date back what it writes, a device writes
// what it has of others that were removed before, and one that was a copy of another
// writes in the name of that one.)

// clocks are the lowest and the highest clock of some values.
type clocks [2]clock

// reach says in whose name some lines have values, and between which clocks.
type reach map[string]clocks

func (r reach) add(device string, c clocks) {
	if old, ok := r[device]; ok {
		c = clocks{min(old[0], c[0]), max(old[1], c[1])}
	}
	r[device] = c
}

func (r reach) union(other reach) {
	for device, c := range other {
		r.add(device, c)
	}
}

// A span is a stretch of a log that was read.
type span struct {
	From  uint64 `json:"from"` // the first and the last entry
	To    uint64 `json:"to"`
	By    reach  `json:"by,omitempty"`
	Blobs bool   `json:"blobs,omitempty"` // it tells of blobs
}

// maxSpans is how many spans of a log are kept apart.
const maxSpans = 24

// took notes that the entries from..to of the log were read, with the lines p.
func (n *peerNote) took(from, to uint64, p payload) {
	i := slices.IndexFunc(n.Spans, func(s span) bool { return s.To >= from })
	if i < 0 {
		i = len(n.Spans)
	}
	// It is joined with those that it overlaps.
	s, end := span{From: from, To: to, By: reach{}, Blobs: len(p.blobs) > 0}, i
	s.By.union(p.by)
	for ; end < len(n.Spans) && n.Spans[end].From <= to; end++ {
		s.join(n.Spans[end])
	}
	spans := slices.Concat(n.Spans[:i], []span{s}, n.Spans[end:])
	if len(spans) > maxSpans {
		spans = thin(spans)
	}
	n.Spans = spans
}

// join makes s the stretch that spans both.
func (s *span) join(o span) {
	s.From, s.To, s.Blobs = min(s.From, o.From), max(s.To, o.To), s.Blobs || o.Blobs
	s.By.union(o.By)
}

// thin joins two neighbours: those that are short for how long ago they were, so that
// the newest stay apart and the oldest are the longest.
func thin(spans []span) []span {
	last, best, worst := spans[len(spans)-1].To, 0, 0.0
	for i := range len(spans) - 1 {
		length, age := spans[i+1].To-spans[i].From+1, last-spans[i].From+1
		if old := float64(age) / float64(length); old > worst {
			best, worst = i, old
		}
	}
	joined := span{From: spans[best].From, To: spans[best].To, By: reach{}}
	joined.join(spans[best])
	joined.join(spans[best+1])
	return slices.Concat(spans[:best], []span{joined}, spans[best+2:])
}

// reachOf is in whose name the entries from..to of the log have values, or more; and
// whether they tell of blobs.
func (n *peerNote) reachOf(from, to uint64) (by reach, blobs bool) {
	by = reach{}
	for _, s := range n.Spans {
		if s.To >= from && s.From <= to {
			by.union(s.By)
			blobs = blobs || s.Blobs
		}
	}
	return by, blobs
}

// end is the last entry of the log that was read.
func (n *peerNote) end() uint64 {
	if len(n.Spans) == 0 {
		return 0
	}
	return n.Spans[len(n.Spans)-1].To
}

var errStamp = errors.New("a change line does not say first of which record, class, clock and device it is")

// stampOf reads the clock and the device of a change line. They come before all that is
// no string, and State refuses a line that has them twice: so this cannot be deceived.
func stampOf(line []byte) (device []byte, at clock, err error) {
	rest := line
	if len(rest) == 0 || rest[0] != '{' {
		return nil, 0, errStamp
	}
	var hasClock bool
	for {
		var name, value []byte
		if name, rest, err = quoted(rest[1:]); err != nil || len(rest) == 0 || rest[0] != ':' {
			return nil, 0, errStamp
		}
		if value, rest, err = quoted(rest[1:]); err != nil || len(rest) == 0 || rest[0] != ',' && rest[0] != '}' {
			return nil, 0, errStamp
		}
		switch string(name) {
		case "clock":
			n, err := strconv.ParseUint(string(value), 16, 64)
			if hasClock = err == nil && len(value) == 16; !hasClock {
				return nil, 0, errStamp
			}
			at = clock(n)
		case "device":
			if !hasClock || len(value) == 0 || bytes.IndexByte(value, '\\') >= 0 {
				return nil, 0, errStamp
			}
			return value, at, nil
		}
		if rest[0] == '}' {
			return nil, 0, errStamp
		}
	}
}

// quoted returns what stands between the quotes with which b begins, and what follows.
func quoted(b []byte) (text, rest []byte, err error) {
	if len(b) == 0 || b[0] != '"' {
		return nil, nil, errStamp
	}
	for i := 1; ; i++ {
		n := bytes.IndexByte(b[i:], '"')
		if n < 0 {
			return nil, nil, errStamp
		}
		i += n
		slashes := 0
		for b[i-1-slashes] == '\\' {
			slashes++
		}
		if slashes%2 == 0 {
			return b[1:i], b[i+1:], nil
		}
	}
}
