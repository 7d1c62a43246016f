package replica

import (
	"context"
	"errors"
	"fmt"
)

// Restore brings a locker back to this device from its remotes and the recovery
// phrase, which the keyring must hold, and makes this device one of the locker's:
// it takes the next door and publishes. State may be empty, may hold a part from a
// restore that was cut off, which then goes on, or the data of a device that was
// cloned. The error is [ErrNoLocker], [ErrWrongPhrase] or [ErrUnreachable] where
// that is so.
//
// Nobody who has only the phrase can know that the remotes show the newest:
// Restored.Newest is the newest that they showed.
func (r *Replica) Restore(ctx context.Context, progress Progress) (Restored, error) {
	p, end, err := r.begin(ctx, SyncOptions{Full: true, Progress: progress})
	if err != nil {
		return Restored{}, err
	}
	defer end()
	err = p.restore(ctx)
	return p.restored(ctx, err)
}

// restored ends the pass of a restore, and says what it brought.
func (p *pass) restored(ctx context.Context, err error) (Restored, error) {
	lacking, lerr := p.missing(context.WithoutCancel(ctx))
	summary, err := p.finish(ctx, errors.Join(err, lerr))
	restored := Restored{Summary: summary, Entries: p.entries, Missing: lacking}
	self := p.getSelf()
	devices, derr := p.devices(context.WithoutCancel(ctx), self, p.peers)
	restored.Devices, err = devices, errors.Join(err, derr)
	for _, d := range restored.Devices {
		if !d.This && d.LastSeen.After(restored.Newest) {
			restored.Newest = d.LastSeen
		}
	}
	return restored, err
}

func (p *pass) restore(ctx context.Context) error {
	if err := p.enterByPhrase(ctx); err != nil {
		return err
	}
	return p.runFilled(ctx)
}

// runFilled is a pass that has to bring everything.
func (p *pass) runFilled(ctx context.Context) error {
	p.fresh = true
	err := p.run(ctx)
	if err == nil && p.getSelf().Fill != nil {
		err = errBlocked
	}
	return err
}

// Enter is the first part of Restore: it reads who the members are and how far their
// logs go, and makes this device one of them. From then on it can be used, the phrase
// is not needed any more, and passes of [Replica.Sync] bring what was written, newest
// first. It does nothing where that was done. The errors are those of Restore.
func (r *Replica) Enter(ctx context.Context, progress Progress) (Restored, error) {
	p, end, err := r.begin(ctx, SyncOptions{Full: true, Progress: progress})
	if err != nil {
		return Restored{}, err
	}
	defer end()
	return p.restored(ctx, p.enterByPhrase(ctx))
}

// enterByPhrase makes this device a member, unless it is one.
func (p *pass) enterByPhrase(ctx context.Context) error {
	if p.getSelf().Joined {
		return nil
	}
	p.restoring = true
	if err := p.find(ctx); err != nil {
		return err
	}
	p.restoring = false
	p.beSure()
	return p.takeDoor(ctx)
}

// beSure says that remotes may be put on: nobody went on as this device, which is new.
func (p *pass) beSure() {
	for _, l := range p.links {
		l.sure = l.failed() == nil
		p.checked[l.Name] = p.checked[l.Name] || l.sure
	}
}

// takeDoor makes this device's door, and puts it, or a spare of it, where no other
// device's is. It counts, and is named by what this device says of members, only once
// a remote has it and shows that it is this device's.
func (p *pass) takeDoor(ctx context.Context) error {
	for range doorsMissing {
		if p.getSelf().DoorSeq == 0 {
			if err := p.sealDoor(ctx); err != nil {
				return err
			}
		}
		err := p.putDoor(ctx)
		if err == nil {
			return p.enter(ctx)
		}
		if !errors.Is(err, errDoorTaken) {
			return err
		}
		if _, err := p.readDoors(ctx, doorsMissing); err != nil {
			return err
		}
		if err := p.moveDoor(ctx); err != nil {
			return err
		}
	}
	return fmt.Errorf("%w, again and again: restore again later", errDoorTaken)
}

func doorRef(number uint64) Ref { return Ref{Kind: "door", Writer: phrase, Number: number} }

// sealDoor seals the next door into the outbox.
func (p *pass) sealDoor(ctx context.Context) error {
	self := p.getSelf()
	ref := doorRef(self.Doors)
	payload, err := p.sealer.Door(ref.Number)
	if err != nil {
		return err
	}
	object, id, err := p.sealer.Seal(ref, p.newHeader(self).encode(), p.codec.compress(nil, payload))
	if err != nil {
		return fmt.Errorf("sealing a door: %w", err)
	}
	mine, err := p.spareDoors(self, ref, id, object)
	if err != nil {
		return err
	}
	n := notes{}
	n.set(mineKey, mine)
	self.Door, self.DoorSeq = seen{ref.Number, id}, self.Seq+1
	return p.stage(ctx, self, n, staged{ref, id, object})
}

// putDoor puts the door on the remotes and reads it back.
func (p *pass) putDoor(ctx context.Context) error {
	self := p.getSelf()
	var mine mineNote
	if _, err := p.note(ctx, mineKey, &mine); err != nil {
		return err
	}
	at := mine.at()
	for _, l := range p.links {
		if !l.sure || l.failed() != nil {
			continue
		}
		err := p.sendTo(ctx, l, self.Seq)
		if err == nil {
			err = p.doorFree(ctx, l, doorRef(at.N), at.ID)
		}
		if err != nil && l.failed() == nil {
			return err
		}
	}
	if p.allFailed() {
		return p.reachError()
	}
	return nil
}

// enter makes this device a member by its own door.
func (p *pass) enter(ctx context.Context) error {
	self := p.getSelf()
	ref := doorRef(self.Door.N)
	var out outNote
	if _, err := p.note(ctx, outKey(self.DoorSeq), &out); err != nil {
		return err
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
	self.Joined, self.Doors = true, max(self.Doors, ref.Number+1)
	return p.setSelf(ctx, self, nil)
}

// find reads doors, epochs, membership and marks.
func (p *pass) find(ctx context.Context) error {
	p.o.Progress.tell("looking for the locker", 0, 0)
	if err := p.readMembers(ctx, true); err != nil {
		return err
	}
	if p.getSelf().Doors == 0 || len(p.everyone()) == 0 {
		return p.noDoor(ctx)
	}
	if p.restoring {
		if _, err := p.sealer.Door(p.getSelf().Doors); err != nil { // it was replaced
			return err
		}
	}
	if err := p.startFilling(ctx); err != nil {
		return err
	}
	if p.allFailed() {
		return p.reachError()
	}
	return nil
}

// noDoor says why there is nothing to restore.
func (p *pass) noDoor(ctx context.Context) error {
	if p.allFailed() {
		return p.reachError()
	}
	if p.doorProblem != nil {
		return fmt.Errorf("the first door of the locker is damaged on the remote; try another remote: %w", p.doorProblem)
	}
	for _, l := range p.links {
		names, _, err := l.list(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err == nil && len(names) > 0 {
			return fmt.Errorf("%w (%s): check the phrase, or name the remote of that locker", ErrWrongPhrase, l.Name)
		}
	}
	if p.allFailed() {
		return p.reachError()
	}
	return fmt.Errorf("%w: check the name of the remote and the folder on it", ErrNoLocker)
}

// errDoorTaken says that another device, restored at the same time, has this
// device's door. Without a door of its own the phrase does not find it.
var errDoorTaken = errors.New("another device has taken the same door: run 'locker restore' on this one again, with the recovery phrase")

// doorFree fails with errDoorTaken where a remote has another device's door under
// a name.
func (p *pass) doorFree(ctx context.Context, l *link, ref Ref, id string) error {
	sealed, err := l.get(ctx, p.sealer.Name(ref))
	if err != nil {
		return ctx.Err() // free, or not to be had
	}
	if o, v := p.open(ref, sealed); v != found || o.id == id || p.without.nextDoor {
		return nil
	}
	return errDoorTaken
}
