package replica

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// A partNote is what was joined of a base that is not joined whole yet, note
// part/DEVICE, so that reading it goes on where it was cut off.
type partNote struct {
	Runs map[string]bool `json:"runs"` // ids
}

func partKey(log string) string { return "part/" + log }

// basesOf are the bases of a device, newest first, as the newest header says that was
// read of it. Of a removed one only what its pin vouches for counts.
func (p *pass) basesOf(rd *reading) []seen {
	peer := p.peer(rd.device)
	if peer.StandsAt > rd.limit {
		return nil
	}
	return slices.SortedFunc(slices.Values(peer.Bases), func(a, b seen) int { return cmp.Compare(b.N, a.N) })
}

// stand takes from the header of an entry, or of a mark that names it, by which bases
// its writer stands.
func (n *peerNote) stand(h *header, entry uint64) {
	if h.Clock >= n.Stands {
		n.Bases, n.Stands, n.StandsAt = h.Bases, h.Clock, entry
		if n.Clean != h.Clean {
			n.Clean, n.CleanAt = h.Clean, h.Clock
		}
	}
}

// joinBase joins a base of a log of which entries are missing, or of which nothing was
// read yet, and moves what was read up to where the base reaches. It tries each base
// once in a pass.
func (p *pass) joinBase(ctx context.Context, rd *reading) (moved bool, err error) {
	for _, named := range p.basesOf(rd) {
		if rd.bases[named.N] {
			continue
		}
		rd.bases[named.N] = true
		note, err := p.readBase(ctx, rd, named)
		if err != nil {
			return false, err
		}
		if note == nil {
			continue
		}
		b := &note.Base
		if upto := b.Upto.N; upto <= p.peer(rd.device).Read.N || upto > min(rd.limit, p.peer(rd.device).StandsAt) {
			continue
		}
		whole, err := p.joinRuns(ctx, rd, b)
		if err != nil {
			return false, err
		}
		if whole {
			return true, p.moveTo(ctx, rd, b)
		}
		rd.skip = max(rd.skip, b.Upto.N)
		if p.blocked {
			break
		}
	}
	return false, nil
}

// readBase returns a base, or nil where it is not to be had; then that is noted.
func (p *pass) readBase(ctx context.Context, rd *reading, named seen) (*baseNote, error) {
	key, wait := baseKey(rd.device), fmt.Sprintf("base/%s/%d", rd.device, named.N)
	var known baseNote
	if _, err := p.note(ctx, key, &known); err != nil {
		return nil, err
	}
	if known.N == named.N && known.ID == named.ID {
		return &known, nil
	}
	o, v, err := p.fetchOpen(ctx, Ref{Kind: "base", Writer: rd.device, Number: named.N})
	if err != nil {
		return nil, err
	}
	fresh := &baseNote{N: named.N, ID: named.ID}
	if v == found {
		var b *base
		if b, v, o.why = p.openBase(o, named); v == found {
			fresh.Base = *b
		}
	}
	if v != found {
		return nil, p.wait(ctx, wait, p.baseNotice(rd, o, v))
	}
	if ok, err := p.closeMembership(ctx, o.header, rd.device); err != nil || !ok {
		return nil, err
	}
	n := notes{}
	if named.N > known.N {
		n.set(key, fresh)
	}
	if err := p.state.SetNotes(ctx, n); err != nil {
		return nil, err
	}
	if err := p.clear(ctx, wait); err != nil {
		return nil, err
	}
	return fresh, p.clearLost(ctx, rd.device)
}

// openBase takes the payload of a base object.
func (p *pass) openBase(o object, named seen) (*base, verdict, error) {
	if o.id != named.ID {
		return nil, bad, errors.New("it is not the one that its writer names")
	}
	payload, err := p.codec.decompress(o.frames, nil, maxPayload)
	if err != nil {
		return nil, bad, err
	}
	b, err := parseBase(payload)
	switch {
	case errors.Is(err, errNewer):
		return nil, newer, err
	case err != nil:
		return nil, bad, err
	}
	return b, found, nil
}

// fetchOpen is fetch that looks for a missing key.
func (p *pass) fetchOpen(ctx context.Context, ref Ref) (object, verdict, error) {
	o, v, err := p.fetch(ctx, ref)
	if err != nil || v != closed {
		return o, v, err
	}
	if err := p.readMembersOnce(ctx); err != nil {
		return o, v, err
	}
	sealed := o.sealed
	if sealed == nil {
		return p.fetch(ctx, ref)
	}
	o, v = p.open(ref, sealed)
	return o, v, nil
}

// baseNotice says that a part of a base is not as it should be.
func (p *pass) baseNotice(rd *reading, o object, v verdict) waitNote {
	switch v {
	case bad:
		return p.badNotice(o, o.ref.Kind)
	case closed:
		return p.closedNotice(o)
	case newer:
		return p.newerNotice(o)
	}
	return waitNote{
		Kind: "missing", Object: o.name, Device: o.ref.Writer, Number: o.ref.Number, Never: rd.removed,
		What: fmt.Sprintf("%s %d of %s is not on the remote, though older entries were deleted for it", o.ref.Kind, o.ref.Number, p.nameOf(o.ref.Writer)),
		Do:   "switch that device on: it puts what is missing again; if it stays away, the remote lost or withholds it",
	}
}

// joinRuns joins what a base lists and this device has not read, and says whether it
// has all of it then.
func (p *pass) joinRuns(ctx context.Context, rd *reading, b *base) (whole bool, err error) {
	whole = true
	var part partNote
	if _, err := p.note(ctx, partKey(rd.device), &part); err != nil {
		return false, err
	}
	if part.Runs == nil {
		part.Runs = map[string]bool{}
	}
	read := p.peer(rd.device).Read.N
	for _, item := range b.Runs {
		if item.To <= read || part.Runs[item.ID] {
			continue
		}
		v, err := p.joinRun(ctx, rd, item, &part)
		if err != nil {
			return false, err
		}
		if whole = whole && v == found; v == unreachable || p.blocked {
			return false, nil
		}
	}
	for _, e := range b.Entries {
		if rd.vouched != nil {
			rd.vouched[e.N] = e.ID
		}
		peer := p.peer(rd.device)
		if _, ok := peer.Beyond[e.N]; ok || e.N <= peer.Read.N {
			continue
		}
		if _, ok := rd.tried[e.N]; ok {
			whole = false
			continue
		}
		f := p.fetchEntry(ctx, rd.device, e.N)
		if f.err != nil {
			return false, f.err
		}
		v, err := p.settle(ctx, rd, f)
		if err != nil {
			return false, err
		}
		rd.tried[e.N] = v
		whole = whole && v == found
	}
	return whole && !p.blocked, nil
}

// joinRun joins one run.
func (p *pass) joinRun(ctx context.Context, rd *reading, item runItem, part *partNote) (verdict, error) {
	key := fmt.Sprintf("run/%s/%d", rd.device, item.N)
	f := p.fetchRun(ctx, rd, item)
	if f.err != nil {
		return f.verdict, f.err
	}
	defer func() { p.release(f.lines) }()
	var lines payload
	if f.verdict == found {
		var err error
		if lines, err = splitLines(f.lines); err != nil {
			f.verdict, f.why = bad, err
		}
	}
	if f.verdict != found {
		return f.verdict, p.wait(ctx, key, p.baseNotice(rd, f.object, f.verdict))
	}
	if ok, err := p.closeMembership(ctx, f.header, rd.device); err != nil || !ok {
		return closed, err
	}
	self, n := p.getSelf(), notes{}
	next := partNote{Runs: maps.Clone(part.Runs)}
	next.Runs[item.ID] = true
	n.set(partKey(rd.device), next)
	n["wait/"+key] = nil
	peer := p.peer(rd.device).copy()
	peer.took(item.From, item.To, lines)
	n.set(peerKey(rd.device), peer)
	self.Ack, self.Fill = true, self.Fill.one()
	n.set("self", self)
	if err := p.placeNotes(ctx, n, rd.device, lines); err != nil {
		return found, err
	}
	if lines.carried != nil {
		n[fmt.Sprintf("carry/%s/run-%s", rd.device, item.ID)] = slices.Clone(lines.carried)
	}
	if err := p.noteSkew(ctx, rd.device, f.header, lines.carried); err != nil {
		return found, err
	}
	if malformed, err := p.merge(ctx, rd.device, lines.changes, n); err != nil {
		return found, err
	} else if malformed != nil {
		f.why = malformed
		return bad, p.wait(ctx, key, p.badNotice(f.object, "run"))
	}
	p.peers[rd.device] = peer
	p.remember(self)
	p.forget(key)
	*part = next
	p.entries++
	return found, nil
}

// fetchRun returns a run, which may have been fetched ahead.
func (p *pass) fetchRun(ctx context.Context, rd *reading, item runItem) (f fetched) {
	if c := rd.comingRuns[item.N]; c != nil {
		f = <-c
		delete(rd.comingRuns, item.N)
	}
	if f.err == nil && (f.ref.Kind == "" || f.verdict == closed) {
		f.object, f.verdict, f.err = p.fetchOpen(ctx, Ref{Kind: "run", Writer: rd.device, Number: item.N})
		if f.verdict == found && f.id == item.ID {
			f.expand(p)
		}
	}
	if f.verdict == found && f.id != item.ID {
		f.verdict, f.why = bad, errors.New("it is not the one that the base names")
	}
	return f
}

// moveTo notes that all of a log was read up to where a base reaches.
func (p *pass) moveTo(ctx context.Context, rd *reading, b *base) error {
	peer := p.peer(rd.device).copy()
	var forks []uint64
	for _, known := range []string{peer.Expect[b.Upto.N], peer.Beyond[b.Upto.N]} {
		if known != "" && known != b.Upto.ID {
			forks = []uint64{b.Upto.N}
		}
	}
	peer.Read, peer.News = b.Upto, p.now()
	peer.Named = max(peer.Named, b.Upto.N)
	maps.DeleteFunc(peer.Beyond, func(number uint64, _ string) bool { return number <= b.Upto.N })
	maps.DeleteFunc(peer.Expect, func(number uint64, _ string) bool { return number <= b.Upto.N })
	peer.goOn()
	self, n := p.getSelf(), notes{}
	self.Ack = true
	n.set(peerKey(rd.device), peer)
	n[partKey(rd.device)] = nil
	if err := p.setSelf(ctx, self, n); err != nil {
		return err
	}
	p.peers[rd.device] = peer
	for _, number := range forks {
		if err := p.wait(ctx, fmt.Sprintf("fork/%s/%d", rd.device, number), p.forkNotice(rd.device, number, rd.device)); err != nil {
			return err
		}
	}
	return p.forgetCovered(ctx, rd.device, b)
}

// forgetCovered forgets the entries of another device that a base covers, and what was
// noted of them, once they were read.
func (p *pass) forgetCovered(ctx context.Context, device string, b *base) error {
	n := notes{}
	err := p.eachNote(ctx, "log/"+device+"/", func(key string, value []byte) error {
		number, err := strconv.ParseUint(key, 16, 64)
		if err == nil && number <= b.Upto.N && !b.stays(number) {
			err = p.dropCopy(device, number, value)
			n[logKey(device, number)] = nil
		}
		return err
	})
	if err != nil {
		return err
	}
	if len(n) > 0 {
		if err := p.state.SetNotes(ctx, n); err != nil {
			return err
		}
	}
	covered := func(number string) bool {
		n, err := strconv.ParseUint(number, 10, 64)
		return err == nil && n <= b.Upto.N && !b.stays(n)
	}
	for _, prefix := range []string{"missing/" + device + "/", "entry/" + device + "/"} {
		if err := p.clearPrefix(ctx, prefix, func(key string) bool { return !covered(key[len(prefix):]) }); err != nil {
			return err
		}
	}
	return p.clearPrefix(ctx, "lost/", func(key string) bool {
		parts := strings.Split(key, "/")
		n := len(parts)
		return !(n >= 4 && parts[n-2] == device && covered(parts[n-1]))
	})
}

// readBases looks at the newest bases of others, and forgets what they cover. What a
// device has read entry by entry it does not join again.
func (p *pass) readBases(ctx context.Context) error {
	for _, device := range p.everyone() {
		if device == p.sealer.Device() {
			continue
		}
		rd := p.reading(device)
		for _, named := range p.basesOf(rd) {
			note, err := p.readBase(ctx, rd, named)
			if err != nil {
				return err
			}
			if note == nil || note.Base.Upto.N > p.peer(device).Read.N {
				continue
			}
			if err := p.forgetCovered(ctx, device, &note.Base); err != nil {
				return err
			}
			break
		}
	}
	return nil
}

// clearBases clears what was noted of bases of a device and of runs: of all, where
// nothing of its log is missing, else of those that it stands by no longer.
func (p *pass) clearBases(ctx context.Context, rd *reading) error {
	peer := p.peer(rd.device)
	gap := min(peer.top(), rd.limit) > peer.Read.N
	current := func(number string) bool {
		return slices.ContainsFunc(p.basesOf(rd), func(b seen) bool { return strconv.FormatUint(b.N, 10) == number })
	}
	prefix := "base/" + rd.device + "/"
	if err := p.clearPrefix(ctx, prefix, func(key string) bool { return gap && current(key[len(prefix):]) }); err != nil {
		return err
	}
	return p.clearPrefix(ctx, "run/"+rd.device+"/", func(string) bool { return gap })
}

// clearLost clears that runs and bases of a device were lost: a new base takes their
// place, and what of it is lost is noted again.
func (p *pass) clearLost(ctx context.Context, writer string) error {
	return p.clearPrefix(ctx, "lost/", func(key string) bool {
		return !strings.Contains(key, "/run-"+writer+"/") && !strings.Contains(key, "/base-"+writer+"/")
	})
}
