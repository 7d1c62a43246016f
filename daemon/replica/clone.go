package replica

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"slices"
	"strconv"
)

// A folder that was copied, or put back from a backup, is the same device a second
// time. The log of a device has one writer, so the one that finds its own log further
// on than it knows becomes a device of its own: as the old one it admits the new one,
// and says nothing more; then, with new keys, its notes are made those of the new
// device, which publishes what the other copy cannot know. Every step can be cut off
// and done again.

// A cloneNote is what is known of another copy of this device, note "clone".
type cloneNote struct {
	Common seen   `json:"common"`        // the last entry that both copies have
	Known  bool   `json:"known"`         // Common is known
	For    string `json:"for,omitempty"` // the device that this one becomes, once it is admitted
}

const cloneKey = "clone"

// foundClone notes that another copy of this device made an object.
func (p *pass) foundClone(ctx context.Context, name string, number uint64) error {
	cloned := &Cloned{Device: p.sealer.Device(), Object: name, Number: number}
	p.mu.Lock()
	p.cloned = cloned
	p.mu.Unlock()
	return errors.Join(cloned, p.wait(ctx, "cloned", waitNote{
		Kind: "ahead", Object: name, Device: cloned.Device, Number: number, Alarm: true,
		What: cloned.Error(),
		Do:   "nothing, if this folder was copied or put back from a backup: it becomes a new device by itself; else stop the other copy",
	}))
}

// Yield lets this device, of which there is another copy (see [Cloned]), be followed by
// one with new keys: it reads what there is, and admits the device that made request.
// When it returns nil that device is a member, a remote has it, and this Replica is
// not used any more: [New] with the new keys, the same State and the same folder goes
// on, and publishes what this one had not sent. The error is [ErrRemoved] where this
// device is no member, so that it takes the phrase to become one ([Replica.Restore]).
func (r *Replica) Yield(ctx context.Context, device string, request []byte) error {
	p, end, err := r.begin(ctx, SyncOptions{Full: true})
	if err != nil {
		return err
	}
	defer end()
	err = p.yield(ctx, device, request)
	_, err = p.finish(ctx, err)
	return err
}

func (p *pass) yield(ctx context.Context, device string, request []byte) error {
	if err := p.pull(ctx); err != nil {
		return err
	}
	if _, err := p.readOwn(ctx); err != nil {
		return err
	}
	if _, err := p.readEpochs(ctx, p.sealer.Device(), true); err != nil {
		return err
	}
	if out, err := p.expelled(ctx); err != nil {
		return err
	} else if out {
		return fmt.Errorf("%w: %s", ErrRemoved, p.whyOut(p.sealer.Device()))
	}
	if p.allFailed() {
		return p.reachError()
	}
	if p.cloned == nil {
		var cloned *Cloned
		if err := p.checkClones(ctx); err == nil {
			return errors.New("there is no other copy of this device: it goes on as it is")
		} else if !errors.As(err, &cloned) {
			return err
		}
	}
	common, err := p.common(ctx)
	if err != nil {
		return err
	}
	if !slices.Contains(p.sealer.Members(), device) {
		if err := p.admitHeir(ctx, request); err != nil {
			return err
		}
	}
	n := notes{}
	n.set(cloneKey, cloneNote{Common: common, Known: true, For: device})
	return p.state.SetNotes(ctx, n)
}

// readOwn reads what another copy of this device said of members before it became
// another one, if there was one.
func (p *pass) readOwn(ctx context.Context) (news bool, err error) {
	for {
		self := p.getSelf()
		ok, err := p.readMember(ctx, Ref{Kind: "member", Writer: self.Device, Number: self.Member + 1})
		if err != nil || !ok {
			return news, err
		}
		news, self = true, p.getSelf()
		self.Member++
		if err := p.setSelf(ctx, self, nil); err != nil {
			return news, err
		}
	}
}

// common finds the last entry of this device that is on the remotes as it was made
// here: what comes after it the other copy replaced, or nobody has.
func (p *pass) common(ctx context.Context) (seen, error) {
	self := p.getSelf()
	for number := self.Entry.N; number > 0; number-- {
		var own logNote
		ok, err := p.note(ctx, logKey(self.Device, number), &own)
		if err != nil {
			return seen{}, err
		}
		if !ok {
			return seen{}, nil // it is forgotten here: all is published again
		}
		same, other := false, false
		for _, l := range p.links {
			ref := Ref{Kind: "entry", Writer: self.Device, Number: number}
			sealed, err := l.get(ctx, p.sealer.Name(ref))
			if ctx.Err() != nil {
				return seen{}, ctx.Err()
			}
			if err != nil {
				continue
			}
			if o, v := p.open(ref, sealed); v == found && o.id == own.ID {
				same = true
			} else if v == found || v == closed {
				other = true
			}
		}
		if same && !other {
			return seen{number, own.ID}, nil
		}
	}
	return seen{}, nil
}

// admitHeir puts a member object that admits the device of a request on the remotes.
// The number is free on all that answer; where the other copy takes it at the same
// time, the next one is tried.
func (p *pass) admitHeir(ctx context.Context, request []byte) error {
	for range doorsMissing {
		payload, err := p.sealer.Admit(request)
		if err != nil {
			return err
		}
		self := p.getSelf()
		ref := Ref{Kind: "member", Writer: self.Device, Number: self.Member + 1}
		object, id, err := p.sealer.Seal(ref, p.newHeader(self).encode(), p.codec.compress(nil, payload))
		if err != nil {
			return fmt.Errorf("sealing the admission of the device that this one becomes: %w", err)
		}
		stands := false
		for _, l := range p.links {
			if l.failed() != nil {
				continue
			}
			free, err := p.memberIs(ctx, l, ref, id)
			if err != nil || !free {
				stands = false
				break
			}
			if err := l.put(ctx, p.sealer.Name(ref), object); err != nil {
				continue
			}
			if stands, err = p.memberIs(ctx, l, ref, id); err != nil || !stands {
				break
			}
		}
		if p.allFailed() {
			return p.reachError()
		}
		if stands {
			o, v := p.open(ref, object)
			if v != found {
				return o.why
			}
			bad, err := p.absorb(ctx, o)
			return errors.Join(bad, err)
		}
		if _, err := p.readOwn(ctx); err != nil {
			return err
		}
	}
	return errors.New("the other copy of this device is at the same: start one of them later")
}

// memberIs says whether a remote has a member object, or nothing, under its name.
func (p *pass) memberIs(ctx context.Context, l *link, ref Ref, id string) (bool, error) {
	sealed, err := l.get(ctx, p.sealer.Name(ref))
	if err != nil {
		return true, ctx.Err() // free, or not to be had
	}
	o, v := p.open(ref, sealed)
	return v != found || o.id == id, nil
}

// succeed makes the notes of a former device of this State those of a new one: a
// clone that became a device of its own. What the former one sealed but no remote
// got is sealed again under the new one; its log is read like that of any other.
func (r *Replica) succeed(ctx context.Context, former selfNote, device string) (selfNote, error) {
	self := selfNote{Device: device, Ran: former.Ran, Last: former.Last, Doors: former.Doors}
	if former.Device == "" {
		var err error
		_, self.Start, _, err = r.state.Cut(ctx, nil, 0)
		return self, err
	}
	var clone cloneNote
	if _, err := r.note(ctx, cloneKey, &clone); err != nil {
		return self, err
	}
	self.Joined, self.Heir = clone.For == device, clone.For == device
	self.Former = append(slices.Clone(former.Former), former.Device)
	n := notes{cloneKey: nil, mineKey: nil}
	sent, files, err := r.dropOwn(ctx, n)
	if err != nil {
		return self, err
	}
	peer := peerNote{News: r.now(), Bases: former.Bases, Member: former.Member}
	if err := r.formerLog(ctx, former, clone, sent, &self, &peer, n); err != nil {
		return self, err
	}
	if err := errors.Join(r.forgetPacks(ctx, former.Device, n), r.formerSaid(ctx, former, &peer, n), r.oweAgain(ctx, n)); err != nil {
		return self, err
	}
	self.Start = self.Cut
	n.set("self", self)
	n.set(peerKey(former.Device), &peer)
	if err := r.state.SetNotes(ctx, n); err != nil {
		return self, err
	}
	for _, ref := range files {
		path, err := r.path(ref)
		if err == nil {
			err = r.disk.Remove(path)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			r.log.Warn("a sealed object of the former device stays", "err", err)
		}
	}
	return self, nil
}

// dropOwn drops the notes that are of a device itself. It returns how far of its outbox
// any remote has it, and the objects in it that nobody needs here any more: what it said
// of members everybody keeps.
func (r *Replica) dropOwn(ctx context.Context, n notes) (sent uint64, files []Ref, err error) {
	own := []string{"out/", "sent/", "state/", "wait/", "mend/", "run/", "cover/", "rest/", "read/", "packing", "held/", "late/", "behind/", "probe/", "again/", sayCondemn, "purge", "gone/"}
	for _, prefix := range own {
		err := r.eachNote(ctx, prefix, func(key string, value []byte) error {
			n[prefix+key] = nil
			switch prefix {
			case "sent/":
				var here uint64
				err := json.Unmarshal(value, &here)
				sent = max(sent, here)
				return err
			case "out/":
				var out outNote
				err := json.Unmarshal(value, &out)
				if !out.Delete && out.Ref.Kind != "door" && out.Ref.Kind != "member" {
					files = append(files, out.Ref)
				}
				return err
			}
			return nil
		})
		if err != nil {
			return 0, nil, err
		}
	}
	return sent, files, nil
}

// formerLog makes what is noted of the former device's own log what is noted of a log
// that was read: up to the last entry that both copies have, or that a remote got. It
// also finds from where on the new device has to seal.
func (r *Replica) formerLog(ctx context.Context, former selfNote, clone cloneNote, sent uint64, self *selfNote, peer *peerNote, n notes) error {
	beyond := func(number, seq uint64) bool {
		if clone.Known {
			return number > clone.Common.N
		}
		return seq > sent
	}
	self.Cut = former.Start
	var own baseNote
	if _, err := r.note(ctx, baseKey(former.Device), &own); err != nil {
		return err
	}
	if own.N != 0 && !beyond(own.Base.Upto.N, own.Seq) {
		peer.Read = own.Base.Upto
	}
	err := r.eachNote(ctx, "log/"+former.Device+"/", func(key string, value []byte) error {
		var entry logNote
		if err := json.Unmarshal(value, &entry); err != nil {
			return err
		}
		number, err := strconv.ParseUint(key, 16, 64)
		if err != nil {
			return err
		}
		if beyond(number, entry.Seq) {
			n["log/"+former.Device+"/"+key] = nil
			return nil
		}
		if number > peer.Read.N {
			peer.Read = seen{number, entry.ID}
			self.Cut = entry.Cut
		}
		return nil
	})
	if err != nil || peer.Read.N == 0 {
		return err
	}
	by := reach{}
	for _, device := range self.Former {
		by[device] = clocks{0, math.MaxInt64}
	}
	peer.Spans = []span{{From: 1, To: peer.Read.N, By: by, Blobs: true}}
	return nil
}

// formerSaid keeps what the former device said of members among what is put again when
// a remote has lost it, and finds how far its epochs go.
func (r *Replica) formerSaid(ctx context.Context, former selfNote, peer *peerNote, n notes) error {
	sums := map[string]string{}
	err := r.eachNote(ctx, "out/", func(_ string, value []byte) error {
		var out outNote
		err := json.Unmarshal(value, &out)
		if !out.Delete && !out.Gone && (out.Ref.Kind == "door" || out.Ref.Kind == "member") {
			sums[out.ID] = out.Sum
		}
		return err
	})
	if err != nil {
		return err
	}
	return r.eachNote(ctx, "member/", func(key string, value []byte) error {
		var m memberNote
		if err := json.Unmarshal(value, &m); err != nil {
			return err
		}
		if m.Ref.Kind == "epoch" && m.Ref.Writer == former.Device {
			peer.Epoch = max(peer.Epoch, m.Ref.Number)
		}
		if sum := sums[m.ID]; sum != "" && m.Sum == "" {
			m.Sum = sum
			n.set("member/"+key, m)
		}
		return nil
	})
}

// oweAgain lets the new device publish again what the former one did of removed logs:
// that may be in entries that do not count.
func (r *Replica) oweAgain(ctx context.Context, n notes) error {
	peers, err := r.loadPeers(ctx)
	if err != nil {
		return err
	}
	for _, device := range slices.Sorted(maps.Keys(peers)) {
		if peer := peers[device]; peer.Again != nil {
			peer.Again = nil
			n.set(peerKey(device), peer)
		}
	}
	return nil
}

// inheritEdits seals what the former device of this one had not sent, before anything
// of the other copy is read: what both have could not be told apart then.
func (p *pass) inheritEdits(ctx context.Context) error {
	self := p.getSelf()
	if !self.Heir {
		return nil
	}
	if err := p.seal(ctx); err != nil {
		return err
	}
	self = p.getSelf()
	self.Heir = false
	return p.setSelf(ctx, self, nil)
}

// tellRenewed tells the owner that this device was a copy of another one.
func (r *Replica) tellRenewed(ctx context.Context) error {
	if !r.self.Heir || r.waits["renewed"] != nil {
		return nil
	}
	former := r.self.Former[len(r.self.Former)-1]
	w := waitNote{
		Kind: "renewed", Device: former, Since: r.now(), Ran: r.self.Ran, Never: true,
		What: fmt.Sprintf("this device was a second copy of %s (a copied folder, or a backup put back), and became a new device, %s", r.nameOf(former), r.nameOf(r.self.Device)),
		Do:   "if the other copy is not in use any more, remove it: locker device remove " + former,
	}
	n := notes{}
	n.set("wait/renewed", w)
	r.waits["renewed"] = &w
	return r.state.SetNotes(ctx, n)
}
