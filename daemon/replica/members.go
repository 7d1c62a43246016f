package replica

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// doorsMissing is how many doors in a row must be missing for the search to end.
const doorsMissing = 8

// phrase is the writer of doors.
const phrase = "phrase"

// reader is whom epochs are for that this device reads: itself, or the phrase
// while it restores.
func (p *pass) reader() string {
	if p.restoring {
		return phrase
	}
	return p.sealer.Device()
}

// knows says whether a membership statement was absorbed.
func (p *pass) knows(tip string) bool { return p.statements[tip] }

// readMembers looks for doors, membership objects and epochs that are not known
// yet, until there are none. A thorough look goes on past what is missing.
func (p *pass) readMembers(ctx context.Context, thorough bool) error {
	ahead := uint64(1)
	if thorough {
		ahead = doorsMissing
	}
	for first := true; ; first = false {
		if thorough {
			p.aheadOfMembers(ctx, true)
		}
		news, err := p.readDoors(ctx, ahead)
		if err != nil {
			return err
		}
		if thorough && first && news {
			p.aheadOfMembers(ctx, false) // the doors have named devices
		}
		for _, device := range p.everyone() {
			more, err := p.readOf(ctx, device, thorough)
			if err != nil {
				return err
			}
			news = news || more
		}
		if !news {
			break
		}
	}
	self := p.getSelf()
	self.Looked = p.now()
	p.remember(self)
	return p.clearPrefix(ctx, "members/", func(tip string) bool { return !p.knows(tip[len("members/"):]) })
}

// readDoors reads the doors from the next one on, until so many in a row are
// missing. A thorough look reads the last known one again: two devices may have
// taken the same; and those before it that were missing so far.
func (p *pass) readDoors(ctx context.Context, ahead uint64) (news bool, err error) {
	self := p.getSelf()
	next := self.Doors
	if ahead > 1 && next > 0 {
		next--
		if news, err = p.readMissingDoors(ctx, next); err != nil {
			return news, err
		}
		self = p.getSelf()
	}
	for last := next + ahead; next < last; next++ {
		ok, err := p.readMember(ctx, Ref{Kind: "door", Writer: phrase, Number: next})
		if err != nil {
			return news, err
		}
		if !ok {
			continue
		}
		last = next + 1 + ahead
		if next >= self.Doors {
			news, self.Doors = true, next+1
			p.remember(self)
		}
	}
	return news, nil
}

// readMissingDoors reads the doors before a number that were not there when it was
// their turn: the cloud may have shown them late.
func (p *pass) readMissingDoors(ctx context.Context, before uint64) (news bool, err error) {
	for number, asked := uint64(0), 0; number < before && asked < gapsAtOnce; number++ {
		if p.doors[number] {
			continue
		}
		asked++
		ok, err := p.readMember(ctx, Ref{Kind: "door", Writer: phrase, Number: number})
		if err != nil {
			return news, err
		}
		news = news || ok
	}
	return news, nil
}

// stated notes that a door or member object was absorbed.
func (r *Replica) stated(ref Ref, id string) {
	if ref.Kind == "epoch" {
		return
	}
	r.statements[id] = true
	if ref.Kind == "door" {
		r.doors[ref.Number] = true
	}
}

// readOf reads what a device wrote about members, and its epochs.
func (p *pass) readOf(ctx context.Context, device string, thorough bool) (news bool, err error) {
	peer := p.peer(device)
	if device == p.sealer.Device() {
		return p.readOwn(ctx)
	}
	for {
		ok, err := p.readMember(ctx, Ref{Kind: "member", Writer: device, Number: peer.Member + 1})
		if err != nil || !ok {
			break
		}
		peer.Member++
		news, p.dirty[device] = true, true
	}
	more, err := p.readEpochs(ctx, device, thorough)
	return news || more, err
}

// readEpochs reads the epochs that a device made for this one. Each carries all
// secrets that its maker knew, so a missing one is passed over. One that is not for
// this device, whose maker did not know it yet, is there for the phrase: a thorough
// look goes on behind it; and so it does, for a phrase that replaced another one,
// behind those that are for the other.
func (p *pass) readEpochs(ctx context.Context, device string, thorough bool) (news bool, err error) {
	peer := p.peer(device)
	ahead := uint64(1)
	if thorough {
		ahead = 2
	}
	for next, last := peer.Epoch+1, peer.Epoch+ahead; next <= last; next++ {
		ok, err := p.readMember(ctx, Ref{Kind: "epoch", Writer: device, Number: next, To: p.reader()})
		if err != nil {
			return news, err
		}
		if ok {
			news, peer.Epoch, last = true, next, next+ahead
			p.dirty[device] = true
		} else if thorough {
			there, err := p.anyHas(ctx, Ref{Kind: "epoch", Writer: device, Number: next, To: phrase})
			if err != nil {
				return news, err
			}
			if there && next < peer.Epoch+maxEpochs { // a remote may say so of everything
				last = next + ahead
			}
		}
	}
	return news, nil
}

// anyHas says whether a remote has an object, of whatever content.
func (p *pass) anyHas(ctx context.Context, ref Ref) (bool, error) {
	for _, l := range p.links {
		if there, err := l.has(ctx, p.sealer.Name(ref)); there || ctx.Err() != nil {
			return there, errors.Join(err, ctx.Err())
		}
	}
	return false, nil
}

// readMember reads one door, membership object or epoch, if it is there.
func (p *pass) readMember(ctx context.Context, ref Ref) (ok bool, err error) {
	o, v, err := p.fetch(ctx, ref)
	key := fmt.Sprintf("%s/%s/%d", ref.Kind, ref.Writer, ref.Number)
	switch {
	case err != nil:
		return false, err
	case v == missing || v == unreachable:
		return false, p.clear(ctx, key)
	case v == newer:
		return false, p.wait(ctx, key, p.newerNotice(o))
	case v == closed && ref.To == phrase:
		return false, nil // for the phrase that was replaced
	case v == closed:
		return false, p.wait(ctx, key, p.closedNotice(o))
	case v == found:
		var bad error
		if bad, err = p.absorb(ctx, o); bad == nil {
			return err == nil, errors.Join(err, p.clear(ctx, key))
		}
		o.why = bad
		if later := (errLater{}); errors.As(bad, &later) {
			return false, errors.Join(err, p.wait(ctx, key, p.closedNotice(o)))
		}
	}
	if ref.Kind == "door" && p.restoring && ref.Number == 0 {
		p.doorProblem = o.why
	}
	return false, errors.Join(err, p.wait(ctx, key, p.badNotice(o, ref.Kind)))
}

// absorb gives the keyring a door, membership object or epoch and keeps it. bad is
// why it was refused.
func (p *pass) absorb(ctx context.Context, o object) (bad, err error) {
	payload, err := p.codec.decompress(o.frames, nil, maxPayload)
	if err != nil {
		return err, nil
	}
	if c, ok := parseCopy(payload); ok && (o.ref.Kind == "door" || o.ref.Kind == "member") {
		return p.absorbCopy(ctx, o, c, payload)
	}
	changed, err := p.sealer.Absorb(o.ref, o.id, o.log, payload)
	if err != nil {
		return err, nil
	}
	p.stated(o.ref, o.id)
	self, m := p.getSelf(), memberNote{Ref: o.ref, ID: o.id, Log: o.log, Payload: payload}
	twin, err := p.twin(ctx, o)
	if err != nil {
		return nil, err
	}
	if own := o.ref.Kind == "door" && self.DoorSeq != 0 && o.ref.Number == self.Door.N; !own && !twin && o.ref.Kind != "epoch" {
		if err := p.keep(o.ref, o.sealed); err != nil {
			return nil, err
		}
		m.Sum = sumOf(o.sealed)
	}
	self.Ack = self.Ack || changed && o.ref.Kind != "epoch"
	n := notes{}
	n.set("member/"+o.name+"/"+o.id, m)
	if err := p.notePhrases(ctx, n); err != nil {
		return nil, err
	}
	return nil, p.setSelf(ctx, self, n)
}

// everyone are the devices whose objects are read: members, and after them those that
// once were, up to their pins, whose logs the members may hold.
func (p *pass) everyone() []string {
	return append(p.sealer.Members(), slices.Sorted(maps.Keys(p.sealer.Removed()))...)
}

// Found begins a new locker: its first door, which the phrase signs, and its first
// epoch are put into the outbox. It asks no remote, and does nothing the second time.
func (r *Replica) Found(ctx context.Context) error {
	r.pass.Lock()
	defer r.pass.Unlock()
	if r.getSelf().Joined {
		return nil
	}
	self, n := r.getSelf(), notes{}
	payload, err := r.sealer.Door(0)
	if err != nil {
		return err
	}
	door, err := r.statement(doorRef(0), self, n, payload)
	if err != nil {
		return err
	}
	objects, err := r.newEpoch(self, n)
	if err != nil {
		return err
	}
	self.Joined, self.Door, self.DoorSeq, self.Doors = true, seen{0, door.id}, self.Seq+1, 1
	return r.stage(ctx, self, n, append([]staged{door}, objects...)...)
}

// statement seals a door, membership object or epoch and absorbs it, unless it is
// an epoch for somebody else.
func (r *Replica) statement(ref Ref, self *selfNote, n notes, payload []byte) (staged, error) {
	log := r.newHeader(self)
	raw := log.encode()
	object, id, err := r.sealer.Seal(ref, raw, r.codec.compress(nil, payload))
	if err != nil {
		return staged{}, fmt.Errorf("sealing %s: %w", ref.Kind, err)
	}
	if ref.Kind == "epoch" && ref.To != self.Device {
		return staged{ref, id, object}, nil
	}
	if _, err := r.sealer.Absorb(ref, id, raw, payload); err != nil {
		return staged{}, err
	}
	r.stated(ref, id)
	n.set("member/"+r.sealer.Name(ref)+"/"+id, memberNote{Ref: ref, ID: id, Log: raw, Payload: payload})
	return staged{ref, id, object}, nil
}

// newEpoch makes an epoch, if there is none that this device may seal to.
func (r *Replica) newEpoch(self *selfNote, n notes) ([]staged, error) {
	if !r.sealer.NeedsEpoch() {
		return nil, nil
	}
	number, payloads, err := r.sealer.NewEpoch()
	if err != nil {
		return nil, fmt.Errorf("making an epoch: %w", err)
	}
	var objects []staged
	for _, to := range slices.Sorted(maps.Keys(payloads)) {
		o, err := r.statement(Ref{Kind: "epoch", Writer: self.Device, Number: number, To: to}, self, n, payloads[to])
		if err != nil {
			return nil, err
		}
		objects = append(objects, o)
	}
	return objects, nil
}

// newHeader begins the header of an object of this device.
func (r *Replica) newHeader(self *selfNote) *header {
	self.Clock = max(clock(r.now()<<16), self.Clock+1)
	return &header{Version: logVersion, Tips: r.sealer.Tips(), Bases: self.Bases, Adopts: self.Adopts, Clean: self.Clean, Clock: self.Clock}
}
