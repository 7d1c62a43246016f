package replica

import (
	"context"
	"slices"
	"time"
)

// JoinOptions are for [Replica.Join].
type JoinOptions struct {
	// Epoch is what Meet returned; zero where that is not known any more.
	Epoch    uint64
	Progress Progress
	// Every is the time between two looks at the remotes, and Patience how long is
	// waited for a cloud that shows late that this device was admitted; zero is two
	// seconds, and a minute.
	Every, Patience time.Duration
}

// Join fills a device that was admitted by a code: it does what [Replica.Restore]
// does, without the phrase. State may be empty or hold a part from a Join that was
// cut off, which then goes on. The error is [ErrNotAdmitted] where the other device
// did not admit this one after all, and [ErrUnreachable] where no remote works.
func (r *Replica) Join(ctx context.Context, o JoinOptions) (Restored, error) {
	p, end, err := r.begin(ctx, SyncOptions{Full: true, Progress: o.Progress})
	if err != nil {
		return Restored{}, err
	}
	defer end()
	if err = p.join(ctx, o); err == nil {
		err = p.runFilled(ctx)
	}
	return p.restored(ctx, err)
}

// EnterByCode is the first part of Join, as [Replica.Enter] is of Restore.
func (r *Replica) EnterByCode(ctx context.Context, o JoinOptions) (Restored, error) {
	p, end, err := r.begin(ctx, SyncOptions{Full: true, Progress: o.Progress})
	if err != nil {
		return Restored{}, err
	}
	defer end()
	return p.restored(ctx, p.join(ctx, o))
}

// join reads who the members are, and how far their logs go, once this device is one.
func (p *pass) join(ctx context.Context, o JoinOptions) error {
	if p.getSelf().Joined {
		return nil
	}
	if err := p.awaitAdmission(ctx, o); err != nil {
		return err
	}
	if err := p.find(ctx); err != nil {
		return err
	}
	for device, number := range p.sealer.Epochs() {
		// What is older was made for others, and came along in the inviter's.
		if peer := p.peer(device); device != p.sealer.Device() && peer.Epoch < number {
			peer.Epoch, p.dirty[device] = number, true
		}
	}
	p.beSure()
	self := p.getSelf()
	self.Joined = true
	return p.setSelf(ctx, self, nil)
}

// awaitAdmission reads who is a member until this device is one.
func (p *pass) awaitAdmission(ctx context.Context, o JoinOptions) error {
	if o.Every == 0 {
		o.Every = 2 * time.Second
	}
	if o.Patience == 0 {
		o.Patience = time.Minute
	}
	p.o.Progress.tell("looking for the locker", 0, 0)
	for waited := time.Duration(0); ; waited += o.Every {
		if err := p.invitersEpochs(ctx, o.Epoch); err != nil {
			return err
		}
		if err := p.readMembers(ctx, true); err != nil {
			return err
		}
		switch {
		case slices.Contains(p.sealer.Members(), p.sealer.Device()):
			return nil
		case p.allFailed():
			return p.reachError()
		case waited >= o.Patience:
			return ErrNotAdmitted
		}
		if err := sleep(ctx, o.Every); err != nil {
			return err
		}
	}
}

// invitersEpochs reads an epoch of those that the invitation named: until then
// nobody's statements can be read. at is its number, if that is known.
func (p *pass) invitersEpochs(ctx context.Context, at uint64) error {
	if len(p.sealer.Epochs()) > 0 {
		return nil
	}
	from, to := max(at, 1), at+doorsMissing
	if at == 0 {
		to = maxEpochs
	}
	for i, device := range p.sealer.Invited() {
		if at != 0 && i > 0 {
			break
		}
		for number := from; number <= to && !p.allFailed(); number++ {
			ref := Ref{Kind: "epoch", Writer: device, Number: number, To: p.sealer.Device()}
			if ok, err := p.readMember(ctx, ref); err != nil {
				return err
			} else if ok {
				return nil
			}
		}
	}
	return nil
}
