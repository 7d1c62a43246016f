package replica

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
)

// How much is fetched ahead while entries are joined, and how many missing numbers
// of a log are asked for in one pass.
const (
	readAhead   = 2
	gapsAtOnce  = 64
	maxExpect   = 4096
	gapInterval = 10 * 60 * 1000 // ms
	spareMost   = 16             // of the newest entries, which are asked for whatever is missing before
)

// peer returns the note of a device, made when there is none.
func (p *pass) peer(device string) *peerNote {
	peer, ok := p.peers[device]
	if !ok {
		peer = &peerNote{News: p.now()}
		p.peers[device] = peer
	}
	return peer
}

// A reading is the log of one device during a pass.
type reading struct {
	device  string
	limit   uint64 // the pin, where the device was removed
	removed bool
	strict  bool // nothing beyond a gap
	tried   map[uint64]verdict
	vouched map[uint64]string // of a removed device: the entries that its pin stands for
	seen    uint64            // highest number at which there is something, good or not
	skip    uint64            // a base reaches up to here that is not whole: few of the entries before are asked for
	bases   map[uint64]bool   // those that were tried
	coming  map[uint64]chan fetched
	filling
	comingRuns map[uint64]chan fetched // while a new device is filled
}

// fetched is an entry that was fetched, opened and decompressed.
type fetched struct {
	object
	verdict verdict
	lines   []byte
	err     error
}

func (p *pass) reading(device string) *reading {
	if rd, ok := p.readings[device]; ok {
		return rd
	}
	rd := &reading{device: device, limit: p.limitOf(device), tried: map[uint64]verdict{}, bases: map[uint64]bool{}, coming: map[uint64]chan fetched{},
		comingRuns: map[uint64]chan fetched{}}
	_, rd.removed = p.sealer.PinOf(device)
	rd.strict = p.without.readBeyond
	p.readings[device] = rd
	return rd
}

// candidates are the next numbers to ask for, up to n of them: those that are
// missing below the highest that is known to have been written, and the one after.
func (rd *reading) candidates(peer *peerNote, n int, gaps bool) []uint64 {
	top := max(peer.top(), rd.seen)
	if rd.removed {
		top = min(top, rd.limit)
	}
	var next []uint64
	if !gaps {
		next = append(next, top+1)
	} else if rd.strict {
		next = append(next, peer.Read.N+1)
	} else {
		for number, asked := peer.Read.N+1, 0; number <= top+1 && len(next) < n && asked < gapsAtOnce; number++ {
			if _, ok := peer.Beyond[number]; ok {
				continue
			}
			if _, ok := rd.tried[number]; ok {
				if asked++; asked == gapsAtOnce && number < max(rd.skip, top-min(top, spareMost)) {
					number, asked = max(rd.skip, top-min(top, spareMost)), 0
				}
				continue
			}
			if number > top && len(next) > 0 {
				break // the one after the end is not fetched ahead
			}
			next = append(next, number)
		}
	}
	return slices.DeleteFunc(next, func(number uint64) bool {
		_, tried := rd.tried[number]
		return tried || number > rd.limit
	})
}

// readLog reads what is new in a device's log. quick asks for one number only,
// unless that brings news.
func (p *pass) readLog(ctx context.Context, device string, quick bool) (news bool, err error) {
	if err := errors.Join(p.inherit(ctx, device), p.clearBeyond(ctx, device)); err != nil {
		return false, err
	}
	rd, peer := p.reading(device), p.peer(device)
	tail := p.getSelf().Fill != nil // what was written before comes backwards
	gaps := (!quick || p.now()-peer.Gap >= gapInterval) && !tail
	if gaps {
		peer.Gap = p.now()
	}
	defer rd.drain()
	if peer.Read.N == 0 && !quick && !tail {
		if news, err = p.joinBase(ctx, rd); err != nil {
			return news, err
		}
	}
	for !p.blocked {
		next := rd.candidates(p.peer(device), readAhead, gaps)
		if len(next) == 0 {
			if peer := p.peer(device); tail || min(peer.top(), rd.limit) <= peer.Read.N {
				break
			}
			moved, err := p.joinBase(ctx, rd) // a header that was read since may name one
			if err != nil {
				return news, err
			}
			if !moved {
				break
			}
			news = true
			continue
		}
		f := p.take(ctx, rd, next)
		if f.err != nil {
			return news, f.err
		}
		v, err := p.settle(ctx, rd, f)
		if err != nil {
			return news, err
		}
		rd.tried[next[0]] = v
		if v == found {
			news = true
		} else if v != missing && v != unreachable {
			rd.seen = max(rd.seen, next[0])
		}
		if v == unreachable {
			break
		}
		if v == missing && next[0] <= p.peer(device).top() && !tail {
			moved, err := p.joinBase(ctx, rd)
			if err != nil {
				return news, err
			}
			news = news || moved
		}
		if quick && !news {
			break
		}
	}
	p.peer(device).Looked = p.now()
	if err := p.clearBases(ctx, rd); err != nil {
		return news, err
	}
	return news, p.noteGaps(ctx, rd)
}

// take returns the first of the numbers, and begins to fetch the others.
func (p *pass) take(ctx context.Context, rd *reading, next []uint64) fetched {
	for _, number := range next {
		p.start(ctx, rd, number)
	}
	f := <-rd.coming[next[0]]
	delete(rd.coming, next[0])
	return f
}

// start begins to fetch an entry, unless that was done.
func (p *pass) start(ctx context.Context, rd *reading, number uint64) {
	if rd.coming[number] != nil {
		return
	}
	c := make(chan fetched, 1)
	rd.coming[number] = c
	go func() { c <- p.fetchEntry(ctx, rd.device, number) }()
}

// drain waits for what is still being fetched.
func (rd *reading) drain() {
	for _, coming := range []map[uint64]chan fetched{rd.coming, rd.comingRuns} {
		for number, c := range coming {
			<-c
			delete(coming, number)
		}
	}
}

func (p *pass) fetchEntry(ctx context.Context, device string, number uint64) fetched {
	o, v, err := p.fetch(ctx, Ref{Kind: "entry", Writer: device, Number: number})
	f := fetched{object: o, verdict: v, err: err}
	if err == nil && v == found {
		f.expand(p)
	}
	return f
}

// expand decompresses the lines.
func (f *fetched) expand(p *pass) {
	f.lines, f.why = p.codec.decompress(f.frames, p.buffer(), maxLines)
	if f.frames = nil; len(f.sealed) > copyMost {
		f.sealed = nil
	}
	if f.why != nil {
		f.verdict = bad
	}
}

// settle deals with what came of asking for an entry, and returns the verdict.
func (p *pass) settle(ctx context.Context, rd *reading, f fetched) (verdict, error) {
	defer p.release(f.lines)
	if f.verdict == closed {
		sealed := f.sealed
		if err := p.readMembersOnce(ctx); err != nil {
			return closed, err
		}
		f.object, f.verdict = p.open(f.ref, sealed)
		if f.verdict == found {
			f.expand(p)
		}
	}
	key := fmt.Sprintf("entry/%s/%d", rd.device, f.ref.Number)
	switch f.verdict {
	case found:
		return p.apply(ctx, rd, f, key)
	case bad:
		return bad, p.wait(ctx, key, p.badNotice(f.object, "entry"))
	case closed:
		if out, err := p.expelled(ctx); err != nil || out {
			return closed, err // it is not meant for this device any more
		}
		return closed, p.wait(ctx, key, p.closedNotice(f.object))
	case newer:
		return newer, p.wait(ctx, key, p.newerNotice(f.object))
	case missing:
		return missing, p.clear(ctx, key)
	}
	return f.verdict, nil
}

// apply merges an entry: its lines, and what it says of logs, in one durable write.
func (p *pass) apply(ctx context.Context, rd *reading, f fetched, key string) (verdict, error) {
	if ok, err := p.closeMembership(ctx, f.header, rd.device); err != nil || !ok {
		return closed, err
	}
	if p.removedBefore(rd, f.ref.Number) {
		return missing, nil
	}
	if strange, err := p.stranger(ctx, rd, f); err != nil || strange {
		return missing, err
	}
	lines, err := splitLines(f.lines)
	if err != nil {
		f.why = err
		return bad, p.wait(ctx, key, p.badNotice(f.object, "entry"))
	}
	self, n := p.getSelf(), notes{}
	peer, forks := p.peer(rd.device).advance(f)
	if self.Fill != nil {
		self.Fill, peer.Back = self.Fill.one(), f.header.Clock
	}
	if p.without.stopAtGap && f.ref.Number > peer.Read.N {
		peer.Read = seen{f.ref.Number, f.id}
	}
	peer.News, peer.Clock = p.now(), max(peer.Clock, f.header.Clock)
	peer.took(f.ref.Number, f.ref.Number, lines)
	peer.adopts(f.header.Adopts, f.ref.Number)
	peer.stand(f.header, f.ref.Number)
	others, err := p.named(ctx, rd.device, f.header)
	if err != nil {
		return found, err
	}
	if shown := f.header.Vector[self.Device]; shown.N <= self.Entry.N {
		peer.Shown = max(peer.Shown, shown.N)
		if peer.Read.N >= f.ref.Number {
			peer.Passed = max(peer.Passed, shown.N)
		}
	}
	if len(f.lines) > 0 {
		self.Ack, peer.Spoke = true, p.now()
	}
	self.Ack = self.Ack || p.without.quietAck
	for device, other := range others {
		n.set(peerKey(device), other)
	}
	n.set(peerKey(rd.device), peer)
	entry := logNote{ID: f.id, More: f.header.more}
	if err := p.keepCopy(ctx, rd, f, peer, &entry, n); err != nil {
		return found, err
	}
	n.set(logKey(rd.device, f.ref.Number), entry)
	n.set("self", self)
	gone := fmt.Sprintf("missing/%s/%d", rd.device, f.ref.Number)
	n["wait/"+key], n["wait/"+gone] = nil, nil
	if err := p.placeNotes(ctx, n, rd.device, lines); err != nil {
		return found, err
	}
	if err := p.noteSkew(ctx, rd.device, f.header, lines.carried); err != nil {
		return found, err
	}
	if lines.carried != nil {
		n[carryKey(rd.device, f.ref.Number)] = slices.Clone(lines.carried)
	}
	if bad, err := p.merge(ctx, rd.device, lines.changes, n); err != nil {
		return found, err
	} else if bad != nil {
		f.why = bad
		return verdictBad, p.wait(ctx, key, p.badNotice(f.object, "entry"))
	}
	maps.Copy(p.peers, others)
	p.peers[rd.device] = peer
	p.remember(self)
	p.forget(key, gone)
	p.entries++
	return found, p.afterApply(ctx, rd, f, peer, forks)
}

// verdictBad is bad, where a variable of that name hides it.
const verdictBad = bad

// merge gives lines to State together with notes. bad is why they are no lines.
func (p *pass) merge(ctx context.Context, device string, changes []byte, n notes) (bad, err error) {
	if len(changes) == 0 {
		return nil, p.state.SetNotes(ctx, n)
	}
	if p.without.atOnce {
		if err := p.state.SetNotes(ctx, n); err != nil {
			return nil, err
		}
		n = nil
	}
	changed, ahead, err := p.state.Join(ctx, changes, n)
	var malformed interface{ Malformed() bool }
	if errors.As(err, &malformed) && malformed.Malformed() {
		return err, nil
	}
	if err != nil {
		return nil, fmt.Errorf("merging an entry of %s: %w", p.nameOf(device), err)
	}
	p.summary.Records += changed
	if !ahead {
		return nil, p.clear(ctx, "clock/"+device)
	}
	return nil, p.wait(ctx, "clock/"+device, waitNote{
		Kind: "clock", Device: device, Never: true,
		What: "the clock of " + p.nameOf(device) + " is more than ten minutes ahead",
		Do:   "set the clock of that device, or of this one",
	})
}

// afterApply tells what the entry showed.
func (p *pass) afterApply(ctx context.Context, rd *reading, f fetched, peer *peerNote, forks []uint64) error {
	for _, number := range forks {
		if err := p.wait(ctx, fmt.Sprintf("fork/%s/%d", rd.device, number), p.forkNotice(rd.device, number, rd.device)); err != nil {
			return err
		}
	}
	return p.watchOwn(ctx, rd.device, f.header, peer)
}

// advance returns the note of a log after one more entry of it, and the numbers of
// which there are two different entries.
func (n *peerNote) advance(f fetched) (*peerNote, []uint64) {
	peer, number := n.copy(), f.ref.Number
	var forks []uint64
	if want, ok := peer.Expect[number]; ok && want != f.id {
		forks = append(forks, number)
	}
	delete(peer.Expect, number)
	if before, known := peer.idOf(number - 1); known && before != f.header.Prev {
		forks = append(forks, number-1)
	} else if !known && number > 1 {
		peer.expect(number-1, f.header.Prev)
	}
	if peer.Beyond == nil {
		peer.Beyond = map[uint64]string{}
	}
	peer.Beyond[number] = f.id
	peer.Named = max(peer.Named, number)
	peer.goOn()
	return peer, forks
}

// goOn moves what was read without a gap on.
func (n *peerNote) goOn() {
	for {
		id, ok := n.Beyond[n.Read.N+1]
		if !ok {
			return
		}
		delete(n.Beyond, n.Read.N+1)
		n.Read = seen{n.Read.N + 1, id}
	}
}

// idOf is the id of an entry that was read, where the note knows it: the newest
// one without a gap before it, and those beyond gaps.
func (n *peerNote) idOf(number uint64) (string, bool) {
	if number == n.Read.N {
		return n.Read.ID, true // of number 0: the empty id, which the first entry names
	}
	id, ok := n.Beyond[number]
	return id, ok
}

func (n *peerNote) expect(number uint64, id string) {
	if n.Expect == nil {
		n.Expect = map[uint64]string{}
	}
	if len(n.Expect) < maxExpect {
		n.Expect[number] = id
	}
}

// named takes what an entry says of other logs: how far they go, and what their
// entries are. It returns the notes that change.
func (p *pass) named(ctx context.Context, by string, h *header) (map[string]*peerNote, error) {
	changed := map[string]*peerNote{}
	if p.without.named {
		return changed, nil
	}
	all := p.everyone()
	for device, s := range h.Vector {
		if device == by || device == p.sealer.Device() || !slices.Contains(all, device) {
			continue
		}
		peer := p.peer(device)
		var known logNote
		ok, err := p.note(ctx, logKey(device, s.N), &known)
		switch {
		case err != nil:
			return nil, err
		case ok && known.ID != s.ID, !ok && s.N == peer.Read.N && peer.Read.ID != s.ID, !ok && peer.Expect[s.N] != "" && peer.Expect[s.N] != s.ID:
			if err := p.wait(ctx, fmt.Sprintf("fork/%s/%d", device, s.N), p.forkNotice(device, s.N, by)); err != nil {
				return nil, err
			}
		case !ok && s.N > peer.Read.N: // else a base covers it
			peer = peer.copy()
			peer.Named = max(peer.Named, s.N)
			peer.expect(s.N, s.ID)
			changed[device] = peer
		}
	}
	return changed, nil
}

// closeMembership makes sure that every membership statement that an entry names
// is known. Where one is not, no data of others is taken in this pass: it might be
// of a device that was removed.
func (p *pass) closeMembership(ctx context.Context, h *header, device string) (bool, error) {
	unknown := func(tip string) bool { return !p.knows(tip) }
	if p.without.membership || !slices.ContainsFunc(h.Tips, unknown) {
		return true, nil
	}
	if err := p.readMembersOnce(ctx); err != nil {
		return false, err
	}
	i := slices.IndexFunc(h.Tips, unknown)
	if i < 0 {
		return true, nil
	}
	p.blocked = true
	return false, p.wait(ctx, "members/"+h.Tips[i], waitNote{
		Kind: "members", Device: device,
		What: p.nameOf(device) + " knows of a change of the devices that is not on the remote; nothing new is read until it is",
		Do:   "switch that device on: it puts what is missing again",
	})
}

// readMembersOnce looks thoroughly for doors, membership and epochs, once a pass
// unless that brought news.
func (p *pass) readMembersOnce(ctx context.Context) error {
	if p.membersRead {
		return nil
	}
	p.membersRead = true
	before := len(p.statements)
	if err := p.readMembers(ctx, true); err != nil {
		return err
	}
	if len(p.statements) != before {
		p.membersRead = false
		clear(p.readings) // pins may have changed
	}
	return nil
}

// removedBefore says whether the device turned out to be removed before a number.
func (p *pass) removedBefore(rd *reading, number uint64) bool {
	_, rd.removed = p.sealer.PinOf(rd.device)
	rd.limit = p.limitOf(rd.device)
	return number > rd.limit
}

// limitOf is the last entry of a device that counts.
func (p *pass) limitOf(device string) uint64 {
	if pin, out := p.sealer.PinOf(device); out && !p.without.pins {
		return pin.Number
	}
	return math.MaxUint64
}

// noteGaps notes the entries that were written and are not there.
func (p *pass) noteGaps(ctx context.Context, rd *reading) error {
	top := p.peer(rd.device).top()
	for number, v := range rd.tried {
		if v != missing || number > min(top, rd.limit) || number <= max(rd.skip, p.peer(rd.device).Read.N) {
			continue
		}
		w := p.missingNotice(rd.device, number)
		w.Never = rd.removed
		if err := p.wait(ctx, fmt.Sprintf("missing/%s/%d", rd.device, number), w); err != nil {
			return err
		}
	}
	return nil
}

// readAll reads the logs of devices until nothing is new: an entry of one may name
// one of another.
func (p *pass) readAll(ctx context.Context, devices []string, quick bool) error {
	for first := true; ; first = false {
		news := false
		for _, device := range devices {
			if device == p.sealer.Device() {
				continue
			}
			more, err := p.readLog(ctx, device, quick && first)
			if err != nil {
				return err
			}
			news = news || more
		}
		if !news || p.blocked {
			return nil
		}
		devices = p.behind()
	}
}

// behind are the devices of whose logs something is known and not read.
func (p *pass) behind() []string {
	return slices.DeleteFunc(p.everyone(), func(device string) bool {
		peer := p.peer(device)
		return peer.top() <= peer.Read.N
	})
}
