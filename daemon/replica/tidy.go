package replica

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"
)

// Packs go, too. A device empties a pack of its own that is worth it: what is still
// needed of it is packed again, and a line in an entry condemns it. From then on it
// does not count as a copy, for anybody who reads that line. It is deleted when all
// of this holds:
//
//   - The vector of every live member has passed that entry, in an entry of theirs
//     before which this device has read all: so this device knows every reference that
//     was made by somebody who still counted on the pack. Who is silent for 90 days
//     after all remotes had the entry is not waited for, unless some of its log is
//     known and not read.
//   - No blob in it that a record refers to lacks another copy in packs of this device
//     that count and stand before the deletion in its outbox: so each remote has that
//     copy first, and no two devices can each count on the other's.
//
// The counterpart is consent: a device whose State refers to a blob of which a
// condemnation takes the last copy that counts packs it anew before it seals an entry
// whose vector passes that condemnation. And the bytes of a blob are dropped from a
// device only when it has read all that is there and told all that was written.

const (
	deadFor     = 30 * 24 * time.Hour // without a reference, until the bytes may go
	absentFor   = 90 * 24 * time.Hour
	lateFor     = time.Hour // what was put may not show yet
	emptyAtOnce = 4         // packs are filled by one look
)

// A packUse is what a pack of this device holds.
type packUse struct {
	ref       Ref
	note      packNote
	size      int64 // of the frames
	live      int64 // bytes of frames that are needed here
	forgotten bool  // it holds a blob that was purged
	condemned *condemnNote
	needed    bool // it has the only copy of this device of a blob that a record refers to
	moved     bool // it is a former copy of a blob that is needed
}

// A mover is a look at all blobs.
type mover struct {
	p         *pass
	now       int64
	own       map[Ref]*packUse
	condemned condemnedSet
	dead      map[string]int64 // blobs without a reference, and since when
	n         notes            // what has changed of that
}

// consent packs anew what records refer to and nothing that counts holds any more.
// ok is false where that has to be tried again before an entry may be sealed.
func (p *pass) consent(ctx context.Context) (ok bool, err error) {
	due, err := p.state.Note(ctx, "consent")
	if err != nil || due == nil {
		return err == nil, err
	}
	var lost []string
	set, err := p.allCondemned(ctx)
	if err != nil {
		return false, err
	}
	err = p.eachNote(ctx, "blob/", func(id string, value []byte) error {
		var copies []blobLine
		if err := json.Unmarshal(value, &copies); err != nil || slices.ContainsFunc(copies, set.usable) {
			return err
		}
		is, err := p.wanted(ctx, id)
		if is {
			lost = append(lost, id)
		}
		return err
	})
	if err != nil {
		return false, err
	}
	k := p.newPacking()
	for _, id := range lost {
		if err := p.bring(ctx, id); err != nil {
			if p.allFailed() || ctx.Err() != nil {
				return false, ctx.Err()
			}
			continue // it is noted
		}
		if err := k.add(ctx, id); errors.Is(err, errHold) {
			return false, nil
		} else if err != nil {
			return false, err
		}
	}
	if err := k.seal(ctx); errors.Is(err, errHold) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	if err := p.state.SetNotes(ctx, notes{"consent": nil}); err != nil {
		return false, err
	}
	return true, p.clearCondemned(ctx, set)
}

// clearCondemned takes back that condemned packs are missing or damaged: they may be.
func (p *pass) clearCondemned(ctx context.Context, set condemnedSet) error {
	names := map[string]bool{}
	for ref := range set {
		names[p.sealer.Name(ref)] = true
	}
	return p.clearPrefix(ctx, "verify/", func(key string) bool { return !names[key[strings.LastIndexByte(key, '/')-1:]] })
}

// wanted says whether a blob is to be packed that nothing holds which counts: a
// record refers to it, or it is here and was not purged.
func (p *pass) wanted(ctx context.Context, id string) (bool, error) {
	if is, err := p.referred(ctx, id); err != nil || is {
		return is, err
	}
	if forget, err := p.state.Note(ctx, "forget/"+id); err != nil || forget != nil {
		return false, err
	}
	body, _, err := p.state.OpenBlob(ctx, id)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, body.Close()
}

// replace gives up a pack of this device that all remotes have lost or damaged, and
// whose sealed bytes are not here: it is condemned, and what is in it is packed again
// by the next look at references. A pack that was put lately may only be slow to show.
// replaced says whether the object is such a pack, and given up.
func (p *pass) replace(ctx context.Context, k known) (replaced bool, err error) {
	if k.ref.Kind != "pack" || k.ref.Writer != p.sealer.Device() || slices.ContainsFunc(p.links, func(l *link) bool { return l.failed() != nil }) {
		return false, nil
	}
	if is, err := p.condemned(ctx, k.ref); err != nil || is {
		return is, err
	}
	var pack packNote
	var out outNote
	if _, err := p.note(ctx, packKey(k.ref), &pack); err != nil {
		return false, err
	}
	if ok, err := p.note(ctx, outKey(pack.Seq), &out); err != nil || !ok || out.Put == 0 || p.now()-out.Put < lateFor.Milliseconds() {
		return false, err
	}
	p.log.Warn("a pack is lost; what is in it is packed again", "object", p.sealer.Name(k.ref))
	n := notes{"consent": []byte("{}")}
	p.condemnNotes(n, k.ref)
	p.gaveUp.Store(true)
	return true, p.state.SetNotes(ctx, n)
}

// repack packs again what was in packs that were given up in this pass.
func (p *pass) repack(ctx context.Context) error {
	if !p.gaveUp.Swap(false) || p.allFailed() {
		return nil
	}
	return p.push(ctx)
}

// condemnNotes adds to notes that a pack of this device is condemned.
func (p *pass) condemnNotes(n notes, ref Ref) {
	n.set(condemnKey(ref), condemnNote{})
	n[sayCondemn+fmt.Sprintf("%s/%016x", ref.Writer, ref.Number)] = encodeLine(condemnLine{ref.Number, ref.Writer})
}

// bring makes sure that State has a blob.
func (p *pass) bring(ctx context.Context, id string) error {
	body, _, err := p.state.OpenBlob(ctx, id)
	if err == nil {
		return body.Close()
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	copies, err := p.copies(ctx, id)
	if err != nil {
		return err
	}
	return p.fetchBlob(ctx, id, copies)
}

// tidyPacks empties, condemns and deletes packs: in full passes, and so daily, and
// when something was purged.
func (p *pass) tidyPacks(ctx context.Context) error {
	hurry, err := p.state.Note(ctx, "hurry")
	if err != nil || !p.o.Full && hurry == nil {
		return err
	}
	if p.o.Metered && hurry == nil {
		return nil
	}
	if skewed, err := p.skewed(ctx); err != nil || skewed {
		return err // what a newer version needs is not known here
	}
	m, err := p.look(ctx)
	if err != nil {
		return err
	}
	empty := m.choose()
	if err := m.move(ctx, empty); errors.Is(err, errHold) {
		return nil
	} else if err != nil {
		return err
	}
	if err := m.condemn(ctx, empty); err != nil {
		return err
	}
	if err := m.delete(ctx); err != nil || hurry == nil {
		return err
	}
	return p.state.SetNotes(ctx, notes{"hurry": nil})
}

// look finds out what the packs of this device hold, and since when blobs are not
// referred to.
func (p *pass) look(ctx context.Context) (*mover, error) {
	m := &mover{p: p, now: p.now(), own: map[Ref]*packUse{}, dead: map[string]int64{}, n: notes{}}
	var err error
	if m.condemned, err = p.allCondemned(ctx); err != nil {
		return nil, err
	}
	err = p.eachNote(ctx, "pack/", func(key string, value []byte) error {
		ref, err := parsePackKey(key)
		if err != nil || ref.Writer != p.sealer.Device() {
			return err
		}
		u := &packUse{ref: ref}
		if err := json.Unmarshal(value, &u.note); err != nil {
			return err
		}
		if u.size = u.note.Size; u.size == 0 {
			var out outNote
			if _, err := p.note(ctx, outKey(u.note.Seq), &out); err != nil {
				return err
			}
			u.size = out.Size * 7 / 8 // the rest may be padding
		}
		var c condemnNote
		if ok, err := p.note(ctx, condemnKey(ref), &c); err != nil {
			return err
		} else if ok {
			u.condemned = &c
		}
		m.own[ref] = u
		return nil
	})
	if err == nil {
		err = p.eachNote(ctx, "dead/", func(id string, value []byte) error {
			var since int64
			err := json.Unmarshal(value, &since)
			m.dead[id] = since
			return err
		})
	}
	if err == nil {
		err = p.eachNote(ctx, "blob/", func(id string, value []byte) error {
			var copies []blobLine
			if err := json.Unmarshal(value, &copies); err != nil {
				return err
			}
			return m.blob(ctx, id, copies)
		})
	}
	if err == nil {
		err = m.growing(ctx)
	}
	if err == nil && len(m.n) > 0 {
		err = p.state.SetNotes(ctx, m.n)
	}
	return m, err
}

// growing adds up what is sealed of blobs that are not whole yet, of which no line
// tells. What was begun and is not here any more is forgotten.
func (m *mover) growing(ctx context.Context) error {
	return m.p.eachNote(ctx, "packing/", func(key string, value []byte) error {
		id, _, _ := strings.Cut(key, "/")
		body, _, err := m.p.state.OpenBlob(ctx, id)
		if errors.Is(err, fs.ErrNotExist) {
			m.n["packing/"+key] = nil
			return nil
		}
		if err != nil {
			return err
		}
		var part growing
		if err := errors.Join(body.Close(), json.Unmarshal(value, &part)); err != nil {
			return err
		}
		for _, c := range part.Line.Chunks {
			if u := m.own[c.ref()]; u != nil {
				u.live += c.Length
			}
		}
		return nil
	})
}

// blob adds up what is known of a blob.
func (m *mover) blob(ctx context.Context, id string, copies []blobLine) error {
	alive, referred, forgotten, err := m.alive(ctx, id)
	if err != nil {
		return err
	}
	if !alive {
		if err := m.p.state.DropBlob(ctx, id); err != nil {
			return err
		}
	}
	keep := m.keeper(copies)
	for i, line := range copies {
		for _, c := range line.Chunks {
			u := m.own[c.ref()]
			if u == nil {
				continue
			}
			u.forgotten = u.forgotten || forgotten
			switch {
			case alive && i == keep, alive && keep < 0 && m.condemned.usable(line):
				u.live += c.Length
			case alive && keep >= 0:
				u.moved = true
			case referred:
				u.needed = true
			}
		}
	}
	return m.prune(ctx, id, copies, alive, forgotten)
}

// alive says whether the bytes of a blob are to be kept: a record refers to it, or
// did not long ago and the blob was not purged.
func (m *mover) alive(ctx context.Context, id string) (alive, referred, forgotten bool, err error) {
	referred, err = m.p.referred(ctx, id)
	if err != nil {
		return false, false, false, err
	}
	since, dead := m.dead[id]
	if referred {
		if dead {
			m.n["dead/"+id] = nil
			delete(m.dead, id)
		}
		return true, true, false, nil
	}
	if !dead {
		since = m.now
		m.dead[id] = since
		m.n.set("dead/"+id, since)
	}
	b, err := m.p.state.Note(ctx, "forget/"+id)
	return b == nil && m.now-since < deadFor.Milliseconds(), false, b != nil, err
}

// keeper is the latest copy of a blob that counts and lies in packs of this device
// that are not deleted, or -1.
func (m *mover) keeper(copies []blobLine) int {
	for i := len(copies) - 1; i >= 0; i-- {
		if len(copies[i].Chunks) > 0 && m.here(copies[i]) && m.condemned.usable(copies[i]) {
			return i
		}
	}
	return -1
}

// here says whether all packs of a copy are this device's, and not deleted.
func (m *mover) here(line blobLine) bool {
	return !slices.ContainsFunc(line.packs(), func(ref Ref) bool { return m.own[ref] == nil })
}

// prune drops copies that are no more: those in packs of this device that are
// deleted, others' condemned ones where a better one is known or none is needed. Of a
// blob that was purged a copy is known until it is gone from all remotes.
func (m *mover) prune(ctx context.Context, id string, copies []blobLine, alive, forgotten bool) error {
	better := slices.ContainsFunc(copies, m.condemned.usable)
	var left []blobLine
	for _, line := range copies {
		drop := len(line.Chunks) == 0 && !alive
		if own := line.writtenBy(m.p.sealer.Device()); len(line.Chunks) > 0 && !m.condemned.usable(line) {
			drop = own && !m.here(line) || !own && (better || !alive)
		}
		if drop && forgotten && len(line.Chunks) > 0 {
			gone, err := m.p.goneEverywhere(ctx, line.packs())
			if err != nil {
				return err
			}
			drop = gone
		}
		if !drop {
			left = append(left, line)
		}
	}
	switch {
	case len(left) == 0:
		m.n["blob/"+id], m.n["dead/"+id], m.n["forget/"+id] = nil, nil, nil
	case len(left) < len(copies):
		m.n.set("blob/"+id, left)
	}
	return nil
}

// goneEverywhere says whether no remote has any of the packs, as far as they show.
func (p *pass) goneEverywhere(ctx context.Context, packs []Ref) (bool, error) {
	for _, l := range p.links {
		for _, ref := range packs {
			there, err := l.has(ctx, p.sealer.Name(ref))
			if err != nil || there {
				return false, ctx.Err()
			}
		}
	}
	return true, nil
}

// choose picks the packs that are to be emptied: those that hold what was purged,
// those of which less than half is needed, and small ones when together they fill a
// pack; and condemned ones that still hold what only they have.
func (m *mover) choose() map[Ref]bool {
	packs := slices.SortedFunc(maps.Values(m.own), func(a, b *packUse) int { return cmp.Compare(a.ref.Number, b.ref.Number) })
	empty, budget := map[Ref]bool{}, emptyAtOnce*int64(m.p.packs.most)
	take := func(u *packUse) {
		empty[u.ref] = true
		budget -= u.live
	}
	full := m.p.anyFull()
	for _, u := range packs {
		switch {
		case full && u.live > 0: // what is packed again would not go anywhere
		case u.condemned != nil && (u.needed || u.live > 0),
			u.condemned == nil && (u.forgotten || u.live*2 < u.size) && u.live <= budget:
			take(u)
		}
	}
	var small []*packUse
	var sum int64
	for _, u := range packs {
		if u.condemned != nil || empty[u.ref] || u.live >= m.p.packs.small {
			continue
		}
		if sum+u.live > int64(m.p.packs.most) {
			break
		}
		small, sum = append(small, u), sum+u.live
	}
	if !full && len(small) > 1 && sum > int64(m.p.packs.most)-m.p.packs.small && sum <= budget {
		for _, u := range small {
			take(u)
		}
	}
	return empty
}

// A moving is a blob of which some chunks are to be packed again.
type moving struct {
	id    string
	first chunk
}

// move packs again what is needed of packs.
func (m *mover) move(ctx context.Context, empty map[Ref]bool) error {
	if len(empty) == 0 {
		return nil
	}
	var all []moving
	err := m.p.eachNote(ctx, "blob/", func(id string, value []byte) error {
		var copies []blobLine
		if err := json.Unmarshal(value, &copies); err != nil {
			return err
		}
		line, err := m.source(ctx, id, copies, empty)
		if err == nil && line != nil {
			i := slices.IndexFunc(line.Chunks, func(c chunk) bool { return empty[c.ref()] })
			all = append(all, moving{id, line.Chunks[i]})
		}
		return err
	})
	if err != nil {
		return err
	}
	slices.SortFunc(all, func(a, b moving) int {
		return cmp.Or(cmp.Compare(a.first.Pack, b.first.Pack), cmp.Compare(a.first.Offset, b.first.Offset))
	})
	k := m.p.newPacking()
	for _, b := range all {
		copies, err := m.p.copies(ctx, b.id)
		if err != nil {
			return err
		}
		line, err := m.source(ctx, b.id, copies, empty)
		if err != nil || line == nil {
			return err
		}
		if err := m.moveBlob(ctx, k, *line, empty); err != nil {
			return err
		}
	}
	return k.seal(ctx)
}

// source is the copy of a blob of which chunks have to leave the packs, or nil.
func (m *mover) source(ctx context.Context, id string, copies []blobLine, empty map[Ref]bool) (*blobLine, error) {
	leaves := func(line blobLine) bool {
		return m.here(line) && slices.ContainsFunc(line.Chunks, func(c chunk) bool { return empty[c.ref()] })
	}
	keep := m.keeper(copies)
	if keep >= 0 && !leaves(copies[keep]) {
		return nil, nil
	}
	alive, referred, _, err := m.alive(ctx, id)
	if err != nil {
		return nil, err
	}
	if keep >= 0 && alive {
		return &copies[keep], nil
	}
	if i := slices.IndexFunc(copies, leaves); i >= 0 && referred {
		return &copies[i], nil
	}
	return nil, nil
}

// moveBlob packs the chunks of a blob again that lie in packs to be emptied.
func (m *mover) moveBlob(ctx context.Context, k *packing, line blobLine, empty map[Ref]bool) error {
	g := &growing{Line: line, Sizes: map[string]int64{}, old: len(line.Sums) == 0}
	g.Line.Chunks = slices.Clone(line.Chunks)
	for i, ref := range line.packs() {
		if len(line.Objects) > 0 {
			g.Sizes[packKey(ref)] = line.Objects[i]
		}
	}
	b := &blobReader{ctx: ctx, p: m.p, line: line, until: len(line.Chunks)}
	k.moved = g
	defer func() { k.moved = nil }()
	for i, c := range line.Chunks {
		if !empty[c.ref()] {
			continue
		}
		data, err := m.chunk(ctx, b, i)
		if err != nil {
			return m.unmoved(ctx, line, err)
		}
		at, err := k.chunk(ctx, len(data), func(dst []byte) []byte { return k.p.codec.compress(dst, data) })
		if err != nil {
			return err
		}
		g.Line.Chunks[i] = at
	}
	k.done = append(k.done, g)
	return nil
}

// chunk returns the bytes of a chunk: from State, or from the pack on a remote.
func (m *mover) chunk(ctx context.Context, b *blobReader, i int) ([]byte, error) {
	data, _, err := m.p.readHere(ctx, b.line.Blob, int64(i)*chunkSize, chunkSize)
	if err == nil && b.isChunk(i, data) {
		return data, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		m.p.log.Warn("a blob cannot be read here", "blob", b.line.Blob, "err", err)
	}
	b.at = i
	err = b.next()
	return b.data, err
}

// unmoved notes that a blob could not be packed again: its pack stays.
func (m *mover) unmoved(ctx context.Context, line blobLine, why error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	m.p.log.Warn("a blob cannot be packed again", "blob", line.Blob, "err", why)
	return nil
}

// condemn puts lines on the way that condemn the packs from which all was moved.
func (m *mover) condemn(ctx context.Context, empty map[Ref]bool) error {
	if len(empty) == 0 {
		return nil
	}
	again, err := m.p.look(ctx)
	if err != nil {
		return err
	}
	n := notes{}
	for ref := range empty {
		u := again.own[ref]
		if u == nil || u.condemned != nil || u.live > 0 {
			continue
		}
		m.p.condemnNotes(n, ref)
	}
	m.own = again.own
	if len(n) == 0 {
		return nil
	}
	return m.p.state.SetNotes(ctx, n)
}

// delete puts on the list the deletion of packs that nobody counts on any more.
func (m *mover) delete(ctx context.Context) error {
	packs := slices.SortedFunc(maps.Values(m.own), func(a, b *packUse) int { return cmp.Compare(a.ref.Number, b.ref.Number) })
	for _, u := range packs {
		if u.condemned == nil || u.condemned.Entry == 0 || u.live > 0 || u.needed {
			continue
		}
		if ok, err := m.passed(ctx, u); err != nil {
			return err
		} else if !ok {
			continue
		}
		if err := m.deleteOne(ctx, u); err != nil {
			return err
		}
	}
	return nil
}

// passed says whether every live member has passed the entry that condemned a pack.
func (m *mover) passed(ctx context.Context, u *packUse) (bool, error) {
	c := u.condemned
	if c.Put == 0 {
		var entry logNote
		if _, err := m.p.note(ctx, logKey(m.p.sealer.Device(), c.Entry), &entry); err != nil {
			return false, err
		}
		if has, all, err := m.p.sentBy(ctx, entry.Seq); err != nil {
			return false, err
		} else if has == all {
			c.Put = m.now
			n := notes{}
			n.set(condemnKey(u.ref), c)
			if err := m.p.state.SetNotes(ctx, n); err != nil {
				return false, err
			}
		}
	}
	for _, device := range m.p.sealer.Members() {
		peer := m.p.peer(device)
		if device == m.p.sealer.Device() || peer.Passed >= c.Entry {
			continue
		}
		if peer.top() > peer.Read.N || c.Put == 0 || m.now-c.Put < absentFor.Milliseconds() {
			return false, nil
		}
	}
	return true, nil
}

// deleteOne puts the deletion of a pack on the list.
func (m *mover) deleteOne(ctx context.Context, u *packUse) error {
	self, n := m.p.getSelf(), notes{}
	var out outNote
	if ok, err := m.p.note(ctx, outKey(u.note.Seq), &out); err != nil {
		return err
	} else if ok {
		out.Gone = true
		n.set(outKey(u.note.Seq), out)
	}
	n[packKey(u.ref)], n[heldKey(u.note.Seq)] = nil, nil
	if u.moved {
		n[behindKey(self.Seq+1)] = []byte("{}")
	}
	c := *u.condemned
	c.Gone = true
	n.set(condemnKey(u.ref), c)
	if err := m.p.stage(ctx, self, n, staged{ref: u.ref}); err != nil {
		return err
	}
	m.p.wake()
	return m.p.dropFile(u.ref)
}
