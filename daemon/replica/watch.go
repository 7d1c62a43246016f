package replica

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// How long is waited before what may be the fault of a slow cloud is an alarm, in
// time during which this device was looking; how long a device may be silent.
const (
	patience    = 24 * time.Hour
	silent      = 3 * 24 * time.Hour
	silentAlarm = 30 * 24 * time.Hour
	// runningMost bounds what one pass adds to the running time, so that neither a
	// jump of the clock nor a week in a drawer turns pending into alarm at once.
	runningMost = 6 * time.Hour
)

// wait notes that something is pending or wrong, unless it is noted already.
func (p *pass) wait(ctx context.Context, key string, w waitNote) error {
	p.waiting.Lock()
	defer p.waiting.Unlock()
	if p.without.forks && w.Kind == "fork" || p.without.ownAhead && w.Kind == "ahead" || p.without.shown && w.Kind == "unseen" {
		return nil
	}
	if old, ok := p.waits[key]; ok && (old.Alarm || !w.Alarm) && old.Kind == w.Kind {
		return nil
	}
	w.Since, w.Ran = p.now(), p.getSelf().Ran
	n := notes{}
	n.set("wait/"+key, w)
	if err := p.state.SetNotes(ctx, n); err != nil {
		return err
	}
	p.log.Warn("replica: "+w.What, "kind", w.Kind, "object", w.Object, "device", w.Device)
	p.waits[key] = &w
	return nil
}

// clear notes that something is well again.
func (p *pass) clear(ctx context.Context, keys ...string) error {
	p.waiting.Lock()
	defer p.waiting.Unlock()
	n := notes{}
	for _, key := range keys {
		if _, ok := p.waits[key]; ok {
			n["wait/"+key] = nil
		}
	}
	if len(n) == 0 {
		return nil
	}
	if err := p.state.SetNotes(ctx, n); err != nil {
		return err
	}
	for _, key := range keys {
		delete(p.waits, key)
	}
	return nil
}

// readBad looks again at doors, epochs and marks that were bad once and that the usual
// look has passed by.
func (p *pass) readBad(ctx context.Context) error {
	var again []Ref
	p.waiting.Lock()
	for key, w := range p.waits {
		switch kind, _, _ := strings.Cut(key, "/"); kind {
		case "door", "mark":
			again = append(again, Ref{Kind: kind, Writer: w.Device, Number: w.Number})
		case "epoch":
			again = append(again, Ref{Kind: kind, Writer: w.Device, Number: w.Number, To: p.reader()})
		}
	}
	p.waiting.Unlock()
	slices.SortFunc(again, func(a, b Ref) int { return strings.Compare(p.sealer.Name(a), p.sealer.Name(b)) })
	for _, ref := range again {
		var err error
		if ref.Kind == "mark" {
			_, err = p.mark(ctx, ref.Writer, ref.Number)
		} else {
			_, err = p.readMember(ctx, ref)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// waitsFor says whether something is noted under a key.
func (p *pass) waitsFor(key string) bool {
	p.waiting.Lock()
	defer p.waiting.Unlock()
	return p.waits[key] != nil
}

// forget is clear for what a write of other notes has cleared already.
func (p *pass) forget(keys ...string) {
	p.waiting.Lock()
	defer p.waiting.Unlock()
	for _, key := range keys {
		delete(p.waits, key)
	}
}

// clearPrefix clears all whose key begins with prefix and that keep does not hold.
func (p *pass) clearPrefix(ctx context.Context, prefix string, keep func(key string) bool) error {
	var keys []string
	p.waiting.Lock()
	for key := range p.waits {
		if strings.HasPrefix(key, prefix) && !keep(key) {
			keys = append(keys, key)
		}
	}
	p.waiting.Unlock()
	return p.clear(ctx, keys...)
}

// loadWaits reads what is pending or wrong.
func (r *Replica) loadWaits(ctx context.Context) (map[string]*waitNote, error) {
	waits := map[string]*waitNote{}
	return waits, r.eachNote(ctx, "wait/", func(key string, value []byte) error {
		var w waitNote
		err := json.Unmarshal(value, &w)
		waits[key] = &w
		return err
	})
}

// notices sorts what waits into pending and alarms, and adds devices from which
// there was no news for long.
func (r *Replica) notices(waits map[string]*waitNote, peers map[string]*peerNote, self *selfNote) (pending, alarms []Notice) {
	for _, w := range waits {
		n := Notice{Kind: w.Kind, Object: w.Object, Device: w.Device, Since: at(w.Since), What: w.What, Do: w.Do}
		if w.Alarm || !w.Never && (self.Ran-w.Ran >= patience.Milliseconds() || r.without.patience) {
			alarms = append(alarms, n)
		} else {
			pending = append(pending, n)
		}
	}
	now := r.now()
	for _, device := range r.sealer.Members() {
		peer := peers[device]
		if peer == nil || device == self.Device || peer.News == 0 || peer.Looked-peer.News < silent.Milliseconds() {
			continue
		}
		n := Notice{
			Kind: "silent", Device: device, Since: at(peer.News),
			What: fmt.Sprintf("no news from %s since %s", r.nameOf(device), at(peer.News).UTC().Format("2 January 2006")),
			Do:   "switch that device on, or remove it if it is lost; if it is in use, the remote withholds what it writes",
		}
		if now-peer.News >= silentAlarm.Milliseconds() {
			alarms = append(alarms, n)
		} else {
			pending = append(pending, n)
		}
	}
	waiting, conflicts := r.phraseNotices()
	pending, alarms = append(pending, waiting...), append(alarms, conflicts...)
	order := func(a, b Notice) int {
		return strings.Compare(a.Kind+a.Device+a.Object+a.What, b.Kind+b.Device+b.Object+b.What)
	}
	slices.SortFunc(pending, order)
	slices.SortFunc(alarms, order)
	return pending, alarms
}

// nameOf is what the owner calls a device.
func (r *Replica) nameOf(device string) string {
	if name := r.sealer.DeviceName(device); name != "" {
		return name
	}
	return "device " + device
}

// What the owner can do about what is noticed.
const (
	doWait   = "nothing yet: the cloud may be slow; it becomes an alarm after a day"
	doUpdate = "update Locker on this device"
)

func (p *pass) missingNotice(device string, number uint64) waitNote {
	ref := Ref{Kind: "entry", Writer: device, Number: number}
	return waitNote{
		Kind: "missing", Object: p.sealer.Name(ref), Device: device, Number: number,
		What: fmt.Sprintf("entry %d of %s is not on the remote, though it was written", number, p.nameOf(device)),
		Do:   "switch that device on: it puts what is missing again; if it stays away, the remote lost or withholds it",
	}
}

func (p *pass) badNotice(o object, what string) waitNote {
	return waitNote{
		Kind: "bad", Object: o.name, Device: o.ref.Writer, Number: o.ref.Number,
		What: fmt.Sprintf("%s %d of %s on the remote is damaged or was tampered with: %v", what, o.ref.Number, p.nameOf(o.ref.Writer), o.why),
		Do:   "run 'locker verify' on the device that wrote it; it puts the good one again",
	}
}

func (p *pass) closedNotice(o object) waitNote {
	return waitNote{
		Kind: "closed", Object: o.name, Device: o.ref.Writer, Number: o.ref.Number,
		What: fmt.Sprintf("%s %d of %s cannot be opened yet: its key has not arrived", o.ref.Kind, o.ref.Number, p.nameOf(o.ref.Writer)),
		Do:   doWait,
	}
}

func (p *pass) newerNotice(o object) waitNote {
	return waitNote{
		Kind: "newer", Object: o.name, Device: o.ref.Writer, Number: o.ref.Number, Never: true,
		What: fmt.Sprintf("%s wrote entry %d with a newer version of Locker", p.nameOf(o.ref.Writer), o.ref.Number),
		Do:   doUpdate,
	}
}

func (p *pass) forkNotice(device string, number uint64, by string) waitNote {
	ref := Ref{Kind: "entry", Writer: device, Number: number}
	return waitNote{
		Kind: "fork", Object: p.sealer.Name(ref), Device: device, Number: number, Alarm: true,
		What: fmt.Sprintf("there are two different entries %d of %s, says %s", number, p.nameOf(device), p.nameOf(by)),
		Do:   "either that device runs twice (a copied folder, a backup put back), or the remote shows devices different things; compare 'locker status' on all devices",
	}
}

// watchOwn looks at what a peer's entry says of this device's log: a number that
// was never made, other content, or not what was put long before.
func (p *pass) watchOwn(ctx context.Context, device string, h *header, peer *peerNote) error {
	self := p.getSelf()
	shown := h.Vector[self.Device]
	if shown.N > self.Entry.N {
		return p.wait(ctx, "ahead/"+device, waitNote{
			Kind: "ahead", Device: device, Number: shown.N, Alarm: true,
			What: fmt.Sprintf("%s has read entry %d of this device, which made only %d", p.nameOf(device), shown.N, self.Entry.N),
			Do:   "another copy of this device is in use: stop one of them, and restart this one",
		})
	}
	if shown.N > 0 {
		var own logNote
		if ok, err := p.note(ctx, logKey(self.Device, shown.N), &own); err != nil {
			return err
		} else if ok && own.ID != shown.ID {
			if err := p.wait(ctx, fmt.Sprintf("fork/%s/%d", self.Device, shown.N), p.forkNotice(self.Device, shown.N, device)); err != nil {
				return err
			}
		}
	}
	return p.watchShown(ctx, device, peer, self)
}

// watchShown is the sender's watch: an entry of a peer, made a day after this
// device put something, that does not name it.
func (p *pass) watchShown(ctx context.Context, device string, peer *peerNote, self *selfNote) error {
	key := "unseen/" + device
	if peer.Shown >= self.Entry.N {
		return p.clear(ctx, key)
	}
	owed, err := p.unshown(ctx, device, peer, self)
	if err != nil || owed == nil {
		return err
	}
	day := patience.Milliseconds()
	if peer.Clock.millis()-owed.Put <= day || p.now()-owed.Put <= day {
		return p.clear(ctx, key)
	}
	ref := Ref{Kind: "entry", Writer: self.Device, Number: owed.Entry}
	return p.wait(ctx, key, waitNote{
		Kind: "unseen", Object: p.sealer.Name(ref), Device: device, Number: ref.Number, Alarm: true,
		What: fmt.Sprintf("%s is not shown what this device wrote (entry %d, put on %s)", p.nameOf(device), ref.Number, at(owed.Put).UTC().Format(time.RFC3339)),
		Do:   "run 'locker sync --full' on both devices; if it stays, the remote withholds what this device writes",
	})
}

// unshown is the oldest entry of this device that a peer has not seen, where a remote has it.
func (p *pass) unshown(ctx context.Context, device string, peer *peerNote, self *selfNote) (*owedNote, error) {
	if peer.Owed != nil && peer.Owed.Entry > peer.Shown {
		return peer.Owed, nil
	}
	var own logNote
	number := max(peer.Shown, self.Forgot) + 1
	if ok, err := p.note(ctx, logKey(self.Device, number), &own); err != nil || !ok {
		return nil, err
	}
	var out outNote
	if ok, err := p.note(ctx, outKey(own.Seq), &out); err != nil || !ok || out.Put == 0 {
		return nil, err
	}
	peer.Owed, p.dirty[device] = &owedNote{number, out.Put}, true
	return peer.Owed, nil
}
