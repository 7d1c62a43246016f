package replica

import (
	"context"
	"fmt"
	"slices"
	"sync"
)

// Marks are small signposts into a log, numbered from 1: each names the newest
// entry when it was made. For the newest mark m those of the numbers
// floor(m/16^j)*16^j, for all j, and the last eight are kept; what falls out of
// that set is deleted eight numbers later, because a reader may not see the newest
// ones yet. So the newest is found without a listing: level by level, from 16^5
// down to 1, fifteen numbers at a time.
const (
	markEvery  = 16 // entries
	markLast   = 8
	markBase   = 16
	markLevels = 6
)

// markSet are the numbers of the marks that are kept when m is the newest.
func markSet(m uint64) []uint64 {
	set := map[uint64]bool{}
	for step := uint64(1); step <= m; step *= markBase {
		set[m/step*step] = true
	}
	for i := range min(m, markLast) {
		set[m-i] = true
	}
	return sorted(set)
}

// marksOn are the numbers of the marks that are on a remote when m is the newest
// there: kept now, or by one of the eight before.
func marksOn(m uint64) []uint64 {
	set := map[uint64]bool{}
	for i := range min(m, markLast+1) {
		for _, n := range markSet(m - i) {
			set[n] = true
		}
	}
	return sorted(set)
}

// marksGone are the numbers that are deleted when mark m is made.
func marksGone(m uint64) []uint64 {
	if m < 2 {
		return nil
	}
	now := marksOn(m)
	return slices.DeleteFunc(marksOn(m-1), func(n uint64) bool { return slices.Contains(now, n) })
}

func (p *pass) marksGone(m uint64) []uint64 {
	if p.without.ladder && m > 1 {
		now := markSet(m)
		return slices.DeleteFunc(markSet(m-1), func(n uint64) bool { return slices.Contains(now, n) })
	}
	return marksGone(m)
}

func sorted(set map[uint64]bool) []uint64 {
	numbers := make([]uint64, 0, len(set))
	for n := range set {
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	return numbers
}

// newestMark searches for the newest mark of a device's log: six round trips of 15
// GETs side by side. What is there but no mark counts as missing; it is noted. The
// number is 0 where there is none.
func (p *pass) newestMark(ctx context.Context, device string) (number uint64, h *header, err error) {
	step := uint64(1)
	for range markLevels - 1 {
		step *= markBase
	}
	for ; step > 0; step /= markBase {
		var group sync.WaitGroup
		headers, errs := make([]*header, markBase), make([]error, markBase)
		for k := uint64(1); k < markBase; k++ {
			group.Go(func() { headers[k], errs[k] = p.mark(ctx, device, number+k*step) })
		}
		group.Wait()
		base := number
		for k, found := range headers {
			if errs[k] != nil {
				return 0, nil, errs[k]
			}
			if found != nil {
				number, h = base+uint64(k)*step, found
			}
		}
	}
	return number, h, nil
}

// mark returns the header of a mark, or nil where it is not there, not good or not
// to be had.
func (p *pass) mark(ctx context.Context, device string, number uint64) (*header, error) {
	o, v, err := p.fetch(ctx, Ref{Kind: "mark", Writer: device, Number: number})
	key := fmt.Sprintf("mark/%s/%d", device, number)
	switch {
	case err != nil:
		return nil, err
	case v == bad:
		return nil, p.wait(ctx, key, p.badNotice(o, "mark"))
	case v == missing:
		return nil, p.clear(ctx, key) // it may have been deleted
	case v != found:
		return nil, nil
	}
	if o.header.Entry == nil {
		return nil, nil
	}
	return o.header, p.clear(ctx, key)
}
