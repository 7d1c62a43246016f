package replica

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"time"
)

// What the owner purges State bans: it holds nothing of it any more and takes nothing
// of it in. This is how it leaves the remotes.
//
// A device that learns of a ban looks through what it put there itself: the runs and
// entries of its own log, opened from the sealed bytes that it keeps. Where one holds
// lines that are banned now, it makes a new base of its whole log, joining again what
// was dirty; what that base replaces is deleted on each remote as soon as the base is
// there and was read back, without waiting for anybody, and here. Blobs that a purge
// took away are forgotten (packs.go). When all of it is gone from all of its remotes,
// its headers say so: the field clean names the set of bans.
//
// So each device answers for its own objects, and who asks can tell what is in the way:
// a device that has not been seen since, or a remote that cannot be reached. For a
// removed device its adopter answers: it has published what counts of that log in its
// own, and deletes the log.

// purgeEvery is how often passes that nobody asked for look through the log of this
// device, which costs reading all of it: where bans keep coming they wait.
const purgeEvery = time.Hour

// A purgeNote is how far the purge of this device's objects has come, note purge.
type purgeNote struct {
	Bans   string           `json:"bans,omitempty"`   // State.Bans: its own log was looked through for them
	Base   uint64           `json:"base,omitempty"`   // what this base and earlier ones of it replaced has to be gone,
	Upto   uint64           `json:"upto,omitempty"`   // as have the entries up to this one
	Looked int64            `json:"looked,omitempty"` // when it was looked through, ms
	Clean  map[string]int64 `json:"clean,omitempty"`  // since when remotes are known to be clean of them, ms
}

// A Clean says whether what was purged is gone from what one device put on one remote.
type Clean struct {
	Remote, Device string
	// Clean is true where nothing of it is left. Since says since when that is known.
	Clean bool
	Since time.Time
	// What is in the way where it is not clean, in a sentence, and what the owner can do.
	What, Do string
}

// bans names the set of what was purged; it is empty where nothing was.
func (r *Replica) bans() string { return r.state.Bans() }

func (r *Replica) purging(ctx context.Context) (*purgeNote, error) {
	var note purgeNote
	_, err := r.note(ctx, "purge", &note)
	return &note, err
}

// purge looks through what this device put on remotes for what was banned since it
// last did, and writes it anew.
func (p *pass) purge(ctx context.Context) error {
	note, err := p.purging(ctx)
	if err != nil {
		return err
	}
	bans, now := p.bans(), p.now()
	switch {
	case p.o.Push:
		return nil
	case bans == "":
		return p.clear(ctx, "purge") // a look that failed
	}
	if err := p.purgeBlobs(ctx); err != nil {
		return err
	}
	switch {
	case bans == note.Bans:
		return p.clear(ctx, "purge")
	case p.o.Metered || p.without.purge:
		return nil
	case p.o.Hold && now-note.Looked < purgeEvery.Milliseconds():
		return nil
	}
	p.o.Progress.tell("purging", 0, 0)
	if err := p.dropCopies(ctx); err != nil {
		return err
	}
	dirty, err := p.dirtyOwn(ctx)
	if err != nil {
		return err
	}
	if len(dirty) > 0 {
		ok, err := p.compactWithout(ctx, func(ref Ref, _ []byte) bool { return dirty[ref] })
		if err != nil || !ok {
			return err
		}
	}
	// What earlier bases replaced is not looked through: it just goes now.
	next := purgeNote{Bans: bans, Looked: now, Base: note.Base, Upto: note.Upto}
	n := notes{}
	covers, err := p.covers(ctx)
	for _, c := range covers {
		next.Base, next.Upto = max(next.Base, c.n), max(next.Upto, c.Upto)
		if !c.Now {
			c.Now = true
			n.set(coverKey(c.n), c.coverNote)
		}
	}
	if err != nil {
		return err
	}
	n.set("purge", next)
	if err := p.state.SetNotes(ctx, n); err != nil {
		return err
	}
	return p.clear(ctx, "purge")
}

// purgeBlobs has the blobs forgotten that purges took away here.
func (p *pass) purgeBlobs(ctx context.Context) error {
	ids, _, err := p.state.PurgedBlobs(ctx)
	if err != nil {
		return err
	}
	n := notes{}
	for _, id := range ids {
		key := "purged/" + id
		if done, err := p.state.Note(ctx, key); err != nil {
			return err
		} else if done == nil {
			n[key] = []byte("{}")
			p.forgetBlobs(n, id)
		}
	}
	if len(n) == 0 {
		return nil
	}
	return p.state.SetNotes(ctx, n)
}

// notPurged notes that the log of this device could not be written anew. It is tried
// again at each pass.
func (p *pass) notPurged(ctx context.Context, failed error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return p.wait(ctx, "purge", waitNote{
		Kind: "purge", Device: p.sealer.Device(),
		What: fmt.Sprintf("what was purged is still in what this device put on remotes, because that could not be written anew: %v", failed),
		Do:   "see what the error says, then run 'locker sync'",
	})
}

// dirtyOwn finds the objects of this device's log that hold what was purged: the runs
// of its base, the entries that this leaves as they are, and those after it.
func (p *pass) dirtyOwn(ctx context.Context) (map[Ref]bool, error) {
	own, err := p.ownBase(ctx)
	if err != nil {
		return nil, err
	}
	groups, err := p.groupsOf(ctx, own)
	if err != nil {
		return nil, err
	}
	var list []input
	for i := range groups {
		list = append(list, p.sources(&groups[i])...)
	}
	for _, e := range own.Base.Entries {
		in, _, err := p.entryInput(ctx, e.N, nil)
		if err != nil {
			return nil, err
		}
		list = append(list, in)
	}
	for number := own.Base.Upto.N + 1; number <= p.getSelf().Entry.N; number++ {
		in, _, err := p.entryInput(ctx, number, nil)
		if err != nil {
			return nil, err
		}
		list = append(list, in)
	}
	dirty := map[Ref]bool{}
	for i, in := range list {
		p.o.Progress.tell("purging", int64(i), int64(len(list)))
		err := p.eachLines(ctx, in, func(lines []byte) error {
			_, changed, err := p.state.Clean(lines)
			if changed {
				dirty[in.ref] = true
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return dirty, nil
}

// purged notes on which remotes nothing is left of what was purged, and has the next
// entry say so once that is all of them.
func (p *pass) purged(ctx context.Context) error {
	note, err := p.purging(ctx)
	bans := p.bans()
	if err != nil || bans == "" || note.Bans != bans {
		return err
	}
	packs, settled, err := p.packsInTheWay(ctx)
	if err != nil || !settled || len(packs) > 0 {
		return err
	}
	self, changed, all := p.getSelf(), false, true
	for _, name := range p.remoteNames() {
		clean, err := p.cleanOn(ctx, note, name)
		if err != nil {
			return err
		}
		if all = all && clean; clean && note.Clean[name] == 0 {
			if note.Clean == nil {
				note.Clean = map[string]int64{}
			}
			note.Clean[name], changed = p.now(), true
		}
	}
	if !changed && (self.Clean == bans || !all) {
		return nil
	}
	n := notes{}
	n.set("purge", note)
	if all && self.Clean != bans {
		if err := p.dropOld(ctx); err != nil {
			return err
		}
		self.Clean, self.Tell = bans, true
	}
	return p.setSelf(ctx, self, n)
}

// dropOld removes the files of own objects that bases of this device have replaced: a
// crash may have kept some.
func (p *pass) dropOld(ctx context.Context) error {
	own, err := p.ownBase(ctx)
	if err != nil {
		return err
	}
	names, err := p.disk.Names(filepath.Join(p.objects, "d"))
	if err != nil {
		return fmt.Errorf("folder of sealed objects: %w", err)
	}
	there := map[string]bool{}
	for _, name := range names {
		there["d/"+name] = true
	}
	self, runs := p.getSelf(), own.Base.numbers()
	drop := func(kind string, last uint64, stays func(uint64) bool) {
		for number := uint64(1); number <= last; number++ {
			ref := Ref{Kind: kind, Writer: self.Device, Number: number}
			if !stays(number) && there[p.sealer.Name(ref)] {
				p.discard(ref)
			}
		}
	}
	drop("entry", self.Forgot, own.Base.stays)
	drop("run", self.Run, func(number uint64) bool { return runs[number] })
	drop("base", self.Base, func(number uint64) bool { return number == own.N })
	return ctx.Err()
}

// cleanOn says whether the log that this device put on a remote is clean of what it was
// looked through for.
func (r *Replica) cleanOn(ctx context.Context, note *purgeNote, remote string) (bool, error) {
	rest, err := r.restOn(ctx, remote)
	return err == nil && rest.Covers >= note.Base && rest.Entries >= note.Upto, err
}

// packsInTheWay are the packs of this device that may still hold purged blobs, on any
// remote. all is false while State is still looking for such blobs.
func (r *Replica) packsInTheWay(ctx context.Context) (packs map[Ref]bool, all bool, err error) {
	ids, all, err := r.state.PurgedBlobs(ctx)
	if err != nil {
		return nil, false, err
	}
	for _, id := range ids {
		if done, err := r.state.Note(ctx, "purged/"+id); err != nil || done == nil {
			return nil, false, err
		}
	}
	way, err := r.blobsInTheWay(ctx)
	packs = map[Ref]bool{}
	for _, refs := range way {
		for _, ref := range refs {
			if ref.Writer == r.sealer.Device() {
				packs[ref] = true
			}
		}
	}
	return packs, all, err
}

// Cleanliness says of each remote and each device whether what was purged is gone from
// there, and what is in the way where it is not: nothing, where nothing was purged. It
// asks no remote.
func (r *Replica) Cleanliness(ctx context.Context) ([]Clean, error) {
	bans := r.bans()
	if bans == "" {
		return nil, nil
	}
	peers, err := r.loadPeers(ctx)
	if err != nil {
		return nil, err
	}
	note, err := r.purging(ctx)
	if err != nil {
		return nil, err
	}
	var list []Clean
	for _, remote := range r.remoteNames() {
		own, err := r.cleanOwn(ctx, note, bans, remote)
		if err != nil {
			return nil, err
		}
		list = append(list, own)
		for _, device := range r.sealer.Members() {
			if device != r.sealer.Device() {
				list = append(list, r.cleanPeer(peers[device], bans, remote, device))
			}
		}
		for _, device := range slices.Sorted(maps.Keys(r.sealer.Removed())) {
			if c, ok := r.cleanRemoved(ctx, peers[device], remote, device); ok {
				list = append(list, c)
			}
		}
	}
	return list, ctx.Err()
}

// cleanOwn is Clean of this device.
func (r *Replica) cleanOwn(ctx context.Context, note *purgeNote, bans, remote string) (Clean, error) {
	c := Clean{Remote: remote, Device: r.sealer.Device(), Do: "run 'locker sync'"}
	clean, err := r.cleanOn(ctx, note, remote)
	if err != nil {
		return c, err
	}
	packs, settled, err := r.packsInTheWay(ctx)
	if err != nil {
		return c, err
	}
	var state remoteNote
	if _, err := r.note(ctx, "state/"+remote, &state); err != nil {
		return c, err
	}
	switch {
	case note.Bans == bans && clean && note.Clean[remote] != 0:
		return Clean{Remote: remote, Device: c.Device, Clean: true, Since: at(note.Clean[remote])}, nil
	case note.Bans != bans || !settled:
		c.What = "this device has not yet looked through what it put there"
	case state.Problem != "":
		c.What, c.Do = fmt.Sprintf("older objects of this device are still on %s, which does not work: %s", remote, state.Problem), "see to that remote, then run 'locker sync'"
	case clean && len(packs) > 0:
		c.What = fmt.Sprintf("%d packs with purged blobs are still there; they go when all devices have read that these are forgotten", len(packs))
		c.Do = "run 'locker sync --full' on the devices that are away; or remove those that are lost"
	default:
		c.What = "older objects of this device are still there; they go with the next passes"
	}
	return c, nil
}

// cleanPeer is Clean of another device, by its own word.
func (r *Replica) cleanPeer(peer *peerNote, bans, remote, device string) Clean {
	c := Clean{Remote: remote, Device: device}
	switch {
	case peer != nil && peer.Clean == bans:
		return Clean{Remote: remote, Device: device, Clean: true, Since: at(peer.CleanAt.millis())}
	case peer == nil || peer.Clock == 0:
		c.What = fmt.Sprintf("nothing was ever heard of %s", r.nameOf(device))
	default:
		c.What = fmt.Sprintf("%s has not said yet that what it put there is clean; it was last seen on %s", r.nameOf(device), at(peer.Clock.millis()).UTC().Format("2 January 2006 15:04"))
	}
	c.Do = "switch that device on: it writes its log anew when it comes back; or remove it, if it does not"
	return c
}

// cleanRemoved is Clean of a removed device; ok is false where it left nothing that
// counts.
func (r *Replica) cleanRemoved(ctx context.Context, peer *peerNote, remote, device string) (c Clean, ok bool) {
	if peer == nil || peer.end() == 0 && peer.Read.N == 0 {
		return c, false
	}
	c = Clean{Remote: remote, Device: device}
	var gone goneNote
	if known, err := r.note(ctx, goneKey(remote, device), &gone); err == nil && known {
		return Clean{Remote: remote, Device: device, Clean: true, Since: at(gone.At)}, true
	}
	pin, _ := r.sealer.PinOf(device)
	if adopted := r.adoptedBy(device, pin.Number); adopted == "" {
		c.What, c.Do = fmt.Sprintf("%s was removed, and no device has taken over its log yet", r.nameOf(device)), "run 'locker sync --full' on a device that has read all of it"
	} else {
		c.What, c.Do = fmt.Sprintf("%s was removed; %s, which has taken over its log, deletes it", r.nameOf(device), r.nameOf(adopted)), "run 'locker sync --full' on that device"
	}
	return c, true
}

// A goneNote says that the log of a removed device is gone from a remote, note
// gone/REMOTE/DEVICE.
type goneNote struct {
	At int64 `json:"at"` // ms
}

func goneKey(remote, device string) string { return "gone/" + remote + "/" + device }

// adoptedBy is who has adopted a log up to an entry, this device first; it is empty
// where nobody has.
func (r *Replica) adoptedBy(device string, upto uint64) string {
	self := r.getSelf()
	if at, ok := self.Adopts[device]; ok && at.N >= upto {
		return self.Device
	}
	for _, member := range r.sealer.Members() {
		if peer := r.peers[member]; peer != nil && peer.Adopts[device].Pin.N >= upto && peer.Adopts[device].Pin.N > 0 {
			return member
		}
	}
	return ""
}

// clearRemoved deletes on a remote the logs of removed devices that were adopted: all
// that counts of them is in the logs of members. What is of a device that nobody
// removed stays: its admission is void, which a recovery phrase that the owner accepts
// later, or an eviction, may change. listed is what the remote showed.
func (p *pass) clearRemoved(ctx context.Context, l *link, listed map[string]int64) error {
	if may, err := p.mayCompact(ctx); err != nil || !may || p.o.Metered {
		return err
	}
	var sent uint64
	if _, err := p.note(ctx, "sent/"+l.Name, &sent); err != nil {
		return err
	}
	self := p.getSelf()
	if sent < self.Seq {
		return nil // the entry that says that it was adopted may not be there yet
	}
	for _, device := range slices.Sorted(maps.Keys(p.sealer.Removed())) {
		pin, out := p.sealer.PinOf(device)
		if by, _ := p.sealer.RemovedBy(device); by == "" {
			continue
		}
		if !out || pin.Number > 0 && p.adoptedBy(device, pin.Number) != self.Device {
			continue
		}
		left, err := p.clearLog(ctx, l, listed, device)
		if err != nil {
			return err
		}
		var gone goneNote
		known, err := p.note(ctx, goneKey(l.Name, device), &gone)
		if err != nil || known || left > 0 {
			return err
		}
		n := notes{}
		n.set(goneKey(l.Name, device), goneNote{p.now()})
		if err := p.state.SetNotes(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

// clearAhead is how many numbers beyond the last known one of a removed device's log
// are looked for in a listing.
const clearAhead = 256

// clearLog deletes what a listing shows of a device's log, and returns how many objects
// that were.
func (p *pass) clearLog(ctx context.Context, l *link, listed map[string]int64, device string) (int, error) {
	peer := p.peer(device)
	var known baseNote
	if _, err := p.note(ctx, baseKey(device), &known); err != nil {
		return 0, err
	}
	last := map[string]uint64{"entry": max(peer.top(), peer.end()), "base": known.N, "run": 0}
	for _, b := range peer.Bases {
		last["base"] = max(last["base"], b.N)
	}
	for n := range known.Base.numbers() {
		last["run"] = max(last["run"], n)
	}
	var names []string
	for kind, n := range last {
		for number := uint64(1); number <= n+clearAhead; number++ {
			if name := p.sealer.Name(Ref{Kind: kind, Writer: device, Number: number}); listed[name] > 0 {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	for some := range slices.Chunk(names, deleteAtOnce) {
		if err := l.delete(ctx, some...); err != nil {
			return 0, err
		}
	}
	return len(names), nil
}

// pendingNow says whether something that has to be gone at once still waits.
func (p *pass) pendingNow(ctx context.Context) (now bool, err error) {
	err = p.eachNote(ctx, "cover/", func(_ string, value []byte) error {
		var c coverNote
		err := json.Unmarshal(value, &c)
		now = now || c.Now
		return err
	})
	return now, err
}
