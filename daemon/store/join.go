package store

import (
	"bytes"
	"context"
	"crypto/sha256"
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
	j := &joiner{txn: s.begin()}
	j.limit = wall(s.now().Add(aheadLimit))
	for n := 1; len(lines) > 0; n++ {
		one, rest, _ := bytes.Cut(lines, []byte{'\n'})
		lines = rest
		if len(bytes.TrimSpace(one)) == 0 {
			continue
		}
		if err := j.line(one); err != nil {
			return 0, false, fmt.Errorf("%w change line %d: %w", locker.ErrInvalid, n, err)
		}
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
}

func (j *joiner) line(b []byte) error {
	var l line
	if err := l.parse(b); err != nil {
		return err
	}
	if !l.hasRef {
		if l.hasBlob {
			return nil
		}
		h := sha256.Sum256(b)
		return j.batch.Set(append([]byte{spaceUnknown}, h[:]...), b, nil)
	}
	names := j.s.names
	e, err := j.load(names.number(string(l.collection)), string(l.id))
	if err != nil {
		return err
	}
	if l.clock > j.limit {
		j.ahead = true
	} else {
		j.meta.clock = max(j.meta.clock, l.clock)
	}
	at := stamp{class: l.class, clock: l.clock, device: names.number(string(l.device))}
	if l.deleted && e.rec.joinTomb(at, names) {
		j.touch(e)
	}
	if !isSystem(string(l.collection)) {
		at.imp = names.number(string(l.imp))
	}
	return l.values(at, func(v value) {
		j.put(e, v)
	})
}
