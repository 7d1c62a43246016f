package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/locker-project/locker/plugins/locker"
)

// Join merges change lines and stores notes in the same durable write: all of it or
// nothing. It returns how many records changed, and whether a clock in the lines was
// too far ahead of ours to be adopted. Lines about blobs are the caller's; a line of
// a kind that is not known yet is kept as it is.
func (s *Store) Join(ctx context.Context, lines []byte, notes map[string][]byte) (changed int, ahead bool, err error) {
	done, err := s.write(ctx)
	if err != nil {
		return 0, false, err
	}
	defer done()
	j := &joiner{txn: s.begin(len(lines))}
	j.lazy = true
	j.limit = wall(s.now().Add(aheadLimit))
	for parsed := range parseLines(lines) {
		if parsed.err != nil {
			err = errors.Join(err, parsed.err)
		}
		for i := range parsed.lines {
			if err == nil {
				err = j.line(&parsed.lines[i])
			}
		}
	}
	if err != nil {
		return 0, false, err
	}
	if err := setNotes(j.batch, notes); err != nil {
		return 0, false, err
	}
	changed = len(j.order)
	if _, err := j.finish(); err != nil {
		return 0, false, err
	}
	return changed, j.ahead, nil
}

// A joiner merges lines in a txn.
type joiner struct {
	*txn
	limit uint64 // clocks above it are not adopted
	ahead bool

	collection, device, imp, lift knownName
}

// A parsedLines is a stretch of lines taken apart.
type parsedLines struct {
	lines []line
	err   error
}

const stretch = 256 << 10 // bytes

// parseLines takes lines apart, ahead of who reads the channel, which has to be read
// to its end.
func parseLines(lines []byte) <-chan parsedLines {
	out := make(chan parsedLines, 4)
	go func() {
		defer close(out)
		var lr lineReader
		for n := 1; len(lines) > 0; {
			end := min(stretch, len(lines))
			if i := bytes.IndexByte(lines[end:], '\n'); i >= 0 {
				end += i + 1
			} else {
				end = len(lines)
			}
			part, err := lr.stretch(lines[:end], &n)
			if out <- (parsedLines{part, err}); err != nil {
				return
			}
			lines = lines[end:]
		}
	}()
	return out
}

// stretch takes some lines apart; n counts lines.
func (lr *lineReader) stretch(b []byte, n *int) ([]line, error) {
	out := make([]line, 0, bytes.Count(b, []byte{'\n'})+1)
	for ; len(b) > 0; *n++ {
		one, rest, _ := bytes.Cut(b, []byte{'\n'})
		b = rest
		if len(bytes.TrimSpace(one)) == 0 {
			continue
		}
		var l line
		if err := lr.parse(one, &l); err != nil {
			return nil, fmt.Errorf("%w change line %d: %w", locker.ErrInvalid, *n, err)
		}
		if !l.hasRef && !l.hasBlob {
			l.id = one // of a newer kind: kept as it is
		}
		out = append(out, l)
	}
	return out, nil
}

// line merges a line.
func (j *joiner) line(l *line) error {
	if !l.hasRef {
		if l.hasBlob {
			return nil
		}
		h := sha256.Sum256(l.id)
		return j.batch.Set(append([]byte{spaceUnknown}, h[:]...), l.id, nil)
	}
	collection := j.number(&j.collection, l.collection)
	if counts, err := j.counts(l); err != nil || !counts {
		return err
	}
	e, err := j.load(collection, string(l.id))
	if err != nil {
		return err
	}
	if l.clock > j.limit {
		j.ahead = true
	} else {
		j.meta.clock = max(j.meta.clock, l.clock)
	}
	names := j.s.names
	at := stamp{class: l.class, clock: l.clock, device: j.number(&j.device, l.device), lift: j.number(&j.lift, l.lift)}
	if l.deleted && e.rec.joinTomb(at, names) {
		j.touch(e)
	}
	if !isSystem(j.collection.text) {
		at.imp = j.number(&j.imp, l.imp)
	}
	if len(j.purged) > 0 {
		j.hollowLine(l, at.imp)
	}
	if j.collection.text == bansCollection {
		defer j.banned(e, e.rec.stateOf(names).ban)
		return j.parts(e, l, at)
	}
	if e.blank() && distinct(l.parts) {
		j.fresh(e, l.parts, at)
		return nil
	}
	return j.parts(e, l, at)
}

// parts joins the values of a line.
func (j *joiner) parts(e *entry, l *line, at stamp) error {
	for _, p := range l.parts {
		j.join(e, value{name: p.name, at: at, data: p.data})
	}
	return nil
}

// counts says whether a line counts: its record is not banned, or the writer had seen
// the ban lifted. What the line says of a lift is joined first.
func (j *joiner) counts(l *line) (bool, error) {
	if len(l.lift) == 0 && j.s.bans.none() {
		return true, nil
	}
	collection, id, ok := subject(string(l.collection), string(l.id))
	if !ok {
		return true, nil
	}
	ban := j.hasher().record(collection, id)
	if len(l.lift) > 0 {
		clock, device, err := liftOf(l.lift)
		if err == nil {
			err = j.ban(ban, liftField, stamp{clock: clock, device: j.s.names.number(string(device))})
		}
		if err != nil {
			return false, err
		}
	}
	b, err := j.banState(ban)
	return b.counts(string(l.lift)), err
}

// hollowLine makes the values of purged imports null.
func (j *joiner) hollowLine(l *line, imp uint32) {
	for i, p := range l.parts {
		if data := hollowed(j.s.names, j.purged, j.collection.number, p.name, imp, p.data); data != nil {
			l.parts[i].data = data
		}
	}
}

// A known name is the last one that was looked up.
type knownName struct {
	text   string
	number uint32
}

// number returns the number of a name, which is mostly the last one.
func (j *joiner) number(last *knownName, text []byte) uint32 {
	if last.text != string(text) {
		last.text = string(text)
		last.number = j.s.names.number(last.text)
	}
	return last.number
}

// distinct sorts parts by name and says whether no name is there twice.
func distinct(parts []part) bool { return sortParts(parts) == nil }
