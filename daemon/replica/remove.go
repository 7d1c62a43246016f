package replica

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// ErrRemoved says that this device is not one of the locker's any more: another one
// removed it, or the phrase did. It keeps what it has, reads nothing new, and what it
// writes reaches nobody.
var ErrRemoved = errors.New("this device was removed from the locker")

// A Removal says what came of removing a device.
type Removal struct {
	Summary
	Device string
	// Entries is how many entries of the device count: those that this device had read.
	Entries uint64
	// Standing says that the device is out. It is not where somebody senior to this
	// device had removed it before: see 'locker status'.
	Standing bool
	// Left is what removing does not do, in sentences for the owner.
	Left []string
}

// Remove removes a device from the locker: its entries count up to the last one that
// was read here, nothing more is sealed to it, and whoever has read more of it
// publishes that as their own. Before, it reads what there is to read.
//
// A removal loses against one that goes the other way, if the other device is senior
// to this one and made its own before it saw this. [Replica.Evict] never loses.
func (r *Replica) Remove(ctx context.Context, device string) (Removal, error) {
	p, end, err := r.begin(ctx, SyncOptions{Full: true})
	if err != nil {
		return Removal{}, err
	}
	defer end()
	if p.getSelf().Fill != nil {
		return Removal{}, errFilling
	}
	senior := p.senior(device)
	err = p.removeDevice(ctx, device)
	return p.removal(ctx, device, senior, err)
}

// Evict is Remove with the word of the recovery phrase, which the keyring must hold.
// Nobody is senior to the phrase: what the device says of members, and was not seen
// here, does not count any more. What was seen counts, but for what it said of the
// devices in undo: whom it removed is back, whom it admitted is out. This device need
// not be a member itself.
func (r *Replica) Evict(ctx context.Context, device string, undo ...string) (Removal, error) {
	p, end, err := r.begin(ctx, SyncOptions{Full: true})
	if err != nil {
		return Removal{}, err
	}
	defer end()
	if p.getSelf().Fill != nil {
		return Removal{}, errFilling
	}
	err = p.evict(ctx, device, undo)
	return p.removal(ctx, device, false, err)
}

// senior says whether a device wins where it and this one remove each other unawares.
func (p *pass) senior(device string) bool {
	order := p.sealer.Seniority()
	other, self := slices.Index(order, device), slices.Index(order, p.sealer.Device())
	return other >= 0 && (self < 0 || other < self)
}

// removal ends a pass that removed a device, which was senior to this one or not.
func (p *pass) removal(ctx context.Context, device string, senior bool, failed error) (Removal, error) {
	summary, err := p.finish(ctx, failed)
	pin, out := p.sealer.PinOf(device)
	return Removal{Summary: summary, Device: device, Entries: pin.Number, Standing: out, Left: p.left(device, senior)}, err
}

// left is what removing a device does not do.
func (p *pass) left(device string, senior bool) []string {
	name := p.nameOf(device)
	list := []string{
		fmt.Sprintf("revoke the login of %s at every cloud that keeps this locker, and change the passwords that it knew: with them it can delete everything there", name),
		fmt.Sprintf("%s keeps what it has read; what changes from now on it cannot read", name),
		fmt.Sprintf("what %s wrote and this device has not read is not taken, except where another device had read it", name),
	}
	if !senior {
		return list
	}
	return append(list, fmt.Sprintf("%s was senior to this device: if it removes this one without having seen its own removal, that wins; removing it with the recovery phrase settles it", name))
}

// removable says why a device cannot be removed from here.
func (p *pass) removable(device string) error {
	switch {
	case device == p.sealer.Device():
		return errors.New("a device does not remove itself: remove it on another one, or with 'locker restore' on a new one")
	case !slices.Contains(p.everyone(), device):
		return fmt.Errorf("there is no device %q in this locker; 'locker device list' shows them", device)
	}
	return nil
}

func (p *pass) removeDevice(ctx context.Context, device string) error {
	if !p.getSelf().Joined {
		return errors.New("this device is not part of a locker yet")
	}
	if err := p.run(ctx); err != nil && !errors.Is(err, ErrUnreachable) {
		return err
	}
	if err := p.removable(device); err != nil {
		return err
	}
	if _, out := p.sealer.PinOf(device); out {
		return fmt.Errorf("%s is removed already", p.nameOf(device))
	}
	payload, err := p.sealer.Remove(device, p.pinFor(device))
	if err != nil {
		return err
	}
	if err := p.sealMember(ctx, payload); err != nil {
		return err
	}
	if p.allFailed() {
		return nil // it goes out when a remote is there again
	}
	return p.push(ctx)
}

// pinFor is the pin of a device that is removed now: what was read of it here.
func (p *pass) pinFor(device string) Pin {
	if pin, out := p.sealer.PinOf(device); out {
		return pin // of what is beyond it nothing is taken in again
	}
	peer := p.peer(device)
	by, _ := peer.reachOf(1, peer.Read.N)
	return Pin{Number: peer.Read.N, ID: peer.Read.ID, Clock: uint64(by[device][1])}
}

func (p *pass) evict(ctx context.Context, device string, undo []string) error {
	p.restoring = true // the phrase reads what is for it: this device may have been removed
	err := p.readMembers(ctx, true)
	p.restoring = false
	if err != nil {
		return err
	}
	if p.allFailed() {
		return p.reachError()
	}
	if err := p.removable(device); err != nil {
		return err
	}
	if err := p.finishDoor(ctx); err != nil {
		return err
	}
	for range doorsMissing {
		if err := p.sealEviction(ctx, device, undo); err != nil {
			return err
		}
		err := p.finishDoor(ctx)
		if err == nil {
			break
		}
		if !errors.Is(err, errDoorTaken) {
			return err
		}
		if _, err := p.readDoors(ctx, doorsMissing); err != nil {
			return err
		}
	}
	return p.run(ctx)
}

// sealEviction seals the door that removes a device into the outbox. It counts once it
// is on a remote: a number that another device took first leads nobody to it.
func (p *pass) sealEviction(ctx context.Context, device string, undo []string) error {
	payload, err := p.sealer.Evict(device, p.pinFor(device), undo...)
	if err != nil {
		return err
	}
	return p.sealDoorOf(ctx, device, payload)
}

// sealDoorOf seals a door that says something other than that this device is a member.
// device is whom it removes, or empty.
func (p *pass) sealDoorOf(ctx context.Context, device string, payload []byte) error {
	self := p.getSelf()
	ref := doorRef(self.Doors)
	object, id, err := p.sealer.Seal(ref, p.newHeader(self).encode(), p.codec.compress(nil, payload))
	if err != nil {
		return fmt.Errorf("sealing a door: %w", err)
	}
	self.Pending = &doorNote{Door: seen{ref.Number, id}, Seq: self.Seq + 1, Device: device}
	return p.stage(ctx, self, notes{}, staged{ref, id, object})
}

// finishDoor puts the door of an eviction on the remotes, if there is one under way,
// reads it back, and lets it count. The error is errDoorTaken where another device has
// that door; then the eviction is dropped.
func (p *pass) finishDoor(ctx context.Context) error {
	d := p.getSelf().Pending
	if d == nil {
		return nil
	}
	ref := doorRef(d.Door.N)
	taken, put := false, false
	for _, l := range p.links {
		if l.failed() != nil {
			continue
		}
		err := p.putDoorOn(ctx, l, d)
		switch {
		case errors.Is(err, errDoorTaken):
			taken = true
		case err == nil && l.failed() == nil:
			put = true
		case l.failed() == nil:
			return err
		}
	}
	if !taken && !put {
		return p.reachError()
	}
	var out outNote
	if _, err := p.note(ctx, outKey(d.Seq), &out); err != nil {
		return err
	}
	self, n := p.getSelf(), notes{}
	self.Pending = nil
	if !put { // where one remote has it, it counts
		out.Gone = true
		n.set(outKey(d.Seq), out)
		return errors.Join(errDoorTaken, p.setSelf(ctx, self, n))
	}
	sealed, err := p.kept(ref, out.Sum)
	if err != nil {
		return err
	}
	o, v := p.open(ref, sealed)
	if v != found {
		return o.why
	}
	if bad, err := p.absorb(ctx, o); err != nil || bad != nil {
		return errors.Join(err, bad)
	}
	self = p.getSelf()
	self.Pending, self.Tell, self.Doors = nil, true, max(self.Doors, ref.Number+1)
	return p.setSelf(ctx, self, nil)
}

// putDoorOn puts the door of an eviction on one remote, unless another device's is
// there, and reads it back.
func (p *pass) putDoorOn(ctx context.Context, l *link, d *doorNote) error {
	ref := doorRef(d.Door.N)
	if err := p.doorFree(ctx, l, ref, d.Door.ID); err != nil {
		return err
	}
	var out outNote
	if _, err := p.note(ctx, outKey(d.Seq), &out); err != nil {
		return err
	}
	object, err := p.kept(ref, out.Sum)
	if err != nil {
		return err
	}
	if err := l.put(ctx, p.sealer.Name(ref), object); err != nil {
		return err
	}
	return p.doorFree(ctx, l, ref, d.Door.ID)
}

// memberFree fails with *[Cloned] where another copy of this device has put another
// member object under the name of one of this one's.
func (p *pass) memberFree(ctx context.Context, l *link, out outNote) error {
	name := p.sealer.Name(out.Ref)
	sealed, err := l.get(ctx, name)
	if err != nil {
		return ctx.Err() // free, or not to be had
	}
	if o, v := p.open(out.Ref, sealed); v != found || o.id == out.ID {
		return nil
	}
	return p.foundClone(ctx, name, out.Ref.Number)
}

// expelled says whether this device was a member and is none any more, and notes it.
func (p *pass) expelled(ctx context.Context) (bool, error) {
	self := p.getSelf()
	if !self.Joined || slices.Contains(p.sealer.Members(), self.Device) {
		return false, p.clear(ctx, "removed")
	}
	return true, p.wait(ctx, "removed", waitNote{
		Kind: "removed", Device: self.Device, Alarm: true,
		What: "this device was removed from the locker: " + p.whyOut(self.Device) + "; what it writes reaches no other device",
		Do:   "if that is a mistake, restore the locker anew with 'locker restore' and the recovery phrase, which keeps what was written here; if another device did it that is not yours, remove that one with the recovery phrase",
	})
}

// whyOut tells why a device is no member.
func (r *Replica) whyOut(device string) string {
	switch by, _ := r.sealer.RemovedBy(device); by {
	case "":
	case phrase:
		return "the recovery phrase removed it"
	default:
		return r.nameOf(by) + " removed it"
	}
	if by, _ := r.sealer.AdmittedBy(device); by == phrase {
		return "the recovery phrase that admitted it had been replaced by then"
	} else if by != "" {
		return r.nameOf(by) + ", which admitted it, had been removed by then"
	}
	return "nobody admitted it"
}

// resumeEviction goes on with an eviction that was cut off.
func (p *pass) resumeEviction(ctx context.Context) error {
	d := p.getSelf().Pending
	if d == nil {
		return nil
	}
	err := p.finishDoor(ctx)
	switch {
	case errors.Is(err, errDoorTaken):
		return p.wait(ctx, "eviction", waitNote{
			Kind: "members", Device: d.Device, Alarm: true,
			What: "the removal of " + p.nameOf(d.Device) + " with the recovery phrase was cut off, and another device took its place",
			Do:   "remove it again with the recovery phrase",
		})
	case errors.Is(err, ErrUnreachable):
		return nil
	}
	return err
}

// evictionNotice says that a remote cannot be told of a removal by the phrase.
func evictionNotice(remote string) waitNote {
	return waitNote{
		Kind: "members", Alarm: true,
		What: "a removal with the recovery phrase cannot be put on " + remote + ": another device's door is there",
		Do:   "remove the device with the recovery phrase again",
	}
}
