package replica

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"
)

// A BlobCache says which bytes of blobs this device keeps. The zero value keeps what
// was stored or asked for here, without a bound.
type BlobCache struct {
	// All fetches, after a pass, what records refer to and is not here.
	All bool
	// Bytes bounds what is kept; 0 is no bound. What was not asked for longest goes
	// first. What no remote has never goes, nor what is pinned: the bound gives way.
	Bytes int64
	// Collections pins the blobs that records of these collections refer to, and Newer
	// those of records whose time is not longer ago than that.
	Collections []string
	Newer       time.Duration
}

const (
	fillMost   = 64 << 20 // bytes that are fetched after one pass, about
	wantAtOnce = 4096     // blobs that are looked for after one pass
)

// SetCache replaces what Config.Cache said.
func (r *Replica) SetCache(c BlobCache) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cache = c
}

func (r *Replica) getCache() BlobCache {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.cache
}

// A BlobStatus says what of blobs is on this device.
type BlobStatus struct {
	Here      int   // blobs
	HereBytes int64 // and their bytes
	Unsent    int   // blobs that are not in a sealed pack yet
}

// blobStatus counts blobs.
func (r *Replica) blobStatus(ctx context.Context) (s BlobStatus, err error) {
	err = r.state.Blobs(ctx, func(_ string, size, _ int64) error {
		s.Here, s.HereBytes = s.Here+1, s.HereBytes+size
		return nil
	})
	if err != nil {
		return s, err
	}
	ids, _, err := r.state.NewBlobs(ctx, r.getSelf().Blobs)
	if err != nil {
		return s, err
	}
	for _, id := range ids {
		if ok, err := r.hasCopy(ctx, id); err != nil {
			return s, err
		} else if !ok {
			s.Unsent++
		}
	}
	return s, nil
}

// A localBlob is one whose bytes are here.
type localBlob struct {
	id         string
	size, used int64
}

// trimBlobs drops bytes that are more than the cache may keep, in passes that look at
// everyone and after something was fetched.
func (p *pass) trimBlobs(ctx context.Context) error {
	c := p.getCache()
	if c.Bytes <= 0 || p.o.Push || len(p.behind()) > 0 || !p.o.Full && !p.fetched.Load() {
		return nil
	}
	var all []localBlob
	var sum int64
	err := p.state.Blobs(ctx, func(id string, size, used int64) error {
		all, sum = append(all, localBlob{id, size, used}), sum+size
		return nil
	})
	if err != nil {
		return err
	}
	p.fetched.Store(false)
	if sum <= c.Bytes {
		return nil
	}
	if ok, err := p.allTold(ctx); err != nil || !ok {
		return err
	}
	slices.SortFunc(all, func(a, b localBlob) int { return cmp.Or(cmp.Compare(a.used, b.used), cmp.Compare(a.id, b.id)) })
	there := map[Ref]bool{}
	for _, b := range all {
		if sum <= c.Bytes {
			break
		}
		if ok, err := p.mayDrop(ctx, c, b.id, there); err != nil {
			return err
		} else if !ok {
			continue
		}
		if err := p.state.DropBlob(ctx, b.id); err != nil {
			return err
		}
		sum -= b.size
	}
	return nil
}

// allTold says whether a remote has all that was written here. Before that a record
// that nobody knows may count on a blob that only this device can pack again.
func (p *pass) allTold(ctx context.Context) (bool, error) {
	self := p.getSelf()
	lines, _, _, err := p.state.Cut(ctx, self.Cut, 1)
	if err != nil || len(lines) > 0 {
		return false, err
	}
	has, _, err := p.sentBy(ctx, self.Seq)
	return has > 0, err
}

// mayDrop says whether the bytes of a blob may go: nothing pins it, and a remote
// shows every pack of a copy that counts. What was found there is noted.
func (p *pass) mayDrop(ctx context.Context, c BlobCache, id string, there map[Ref]bool) (bool, error) {
	if pinned, err := p.pinned(ctx, c, id); err != nil || pinned {
		return false, err
	}
	copies, err := p.copies(ctx, id)
	if err != nil {
		return false, err
	}
	for _, line := range copies {
		if ok, err := p.usable(ctx, line); err != nil {
			return false, err
		} else if !ok || len(line.Chunks) == 0 {
			continue
		}
		if ok, err := p.shown(ctx, line.packs(), there); err != nil || ok {
			return ok, err
		}
	}
	return false, nil
}

// shown says whether all packs are on some remote.
func (p *pass) shown(ctx context.Context, packs []Ref, there map[Ref]bool) (bool, error) {
	for _, ref := range packs {
		if there[ref] {
			continue
		}
		for _, l := range p.links {
			has, err := l.has(ctx, p.sealer.Name(ref))
			if ctx.Err() != nil {
				return false, ctx.Err()
			}
			if err == nil && has {
				there[ref] = true
				break
			}
		}
		if !there[ref] {
			return false, nil
		}
	}
	return true, nil
}

// pinned says whether a record keeps the bytes of a blob here.
func (p *pass) pinned(ctx context.Context, c BlobCache, id string) (is bool, err error) {
	if len(c.Collections) == 0 && c.Newer <= 0 {
		return false, nil
	}
	since := p.now() - c.Newer.Milliseconds()
	err = p.state.BlobRecords(ctx, id, func(collection string, millis int64) bool {
		is = slices.Contains(c.Collections, collection) || c.Newer > 0 && millis != 0 && millis >= since
		return !is
	})
	return is, err
}

// A wantedBlob is one that a record refers to and that is not here.
type wantedBlob struct {
	id    string
	size  int64
	times int64 // of the newest record that refers to it
}

// fillCache fetches what the cache is to have and has not, those of the newest
// records first, about fillMost bytes at a time.
func (r *Replica) fillCache(ctx context.Context, full bool) error {
	c := r.getCache()
	pending, err := r.state.Note(ctx, "wanting")
	if err != nil || !c.All || pending == nil && !full {
		return err
	}
	want, room, err := r.missing(ctx, c)
	if err != nil {
		return err
	}
	left := int64(fillMost)
	for _, b := range want {
		if c.Bytes > 0 && b.size > room {
			continue
		}
		if left <= 0 {
			return nil // the note stays: the next pass goes on
		}
		if err := r.Blob(ctx, b.id); errors.Is(err, ErrUnreachable) || ctx.Err() != nil {
			return err
		} else if err == nil { // else it is noted
			left, room = left-b.size, room-b.size
		}
	}
	return r.state.SetNotes(ctx, notes{"wanting": nil})
}

// missing are the blobs that records refer to and that are not here, those of the
// newest records first, and how many bytes the cache still takes.
func (r *Replica) missing(ctx context.Context, c BlobCache) (want []wantedBlob, room int64, err error) {
	here := map[string]bool{}
	room = c.Bytes
	err = r.state.Blobs(ctx, func(id string, size, _ int64) error {
		here[id] = true
		room -= size
		return nil
	})
	if err != nil {
		return nil, 0, err
	}
	err = r.eachNote(ctx, "blob/", func(id string, _ []byte) error {
		if here[id] {
			return nil
		}
		b, is := wantedBlob{id: id}, false
		err := r.state.BlobRecords(ctx, id, func(_ string, millis int64) bool {
			is, b.times = true, max(b.times, millis)
			return true
		})
		if err != nil || !is {
			return err
		}
		copies, err := r.copies(ctx, id)
		if err == nil && len(copies) > 0 {
			b.size = copies[0].Size
			want = append(want, b)
		}
		return err
	})
	slices.SortFunc(want, func(a, b wantedBlob) int {
		return cmp.Or(cmp.Compare(b.times, a.times), cmp.Compare(a.id, b.id))
	})
	return want[:min(len(want), wantAtOnce)], room, err
}
