package daemon

import (
	"context"
	"strings"
	"time"

	"github.com/locker-project/locker/crypto"
	"github.com/locker-project/locker/daemon/replica"
)

// InviteParams are the parameters of the call device.invite.
type InviteParams struct {
	// Long asks for a code that is to be scanned rather than typed.
	Long       bool   `json:"long,omitempty"`
	Passphrase string `json:"passphrase,omitempty"`
}

// An Invitation is the row of the call device.invite: what the other device needs.
type Invitation struct {
	Code    string    `json:"code"`
	Until   time.Time `json:"until"`
	Remotes []string  `json:"remotes"` // specs, without their secrets
}

// An Invited ends the call device.invite: the device that joined.
type Invited struct {
	Name        string `json:"name"`
	Fingerprint string `json:"fingerprint"`
}

// deviceInvite is the call device.invite. It sends a row when the code works, and
// ends when a device has joined with it, or when its time is over.
func (l *Locker) deviceInvite(ctx context.Context, p InviteParams, a *answer) (any, error) {
	if err := l.confirm(p.Passphrase); err != nil {
		return nil, err
	}
	var code string
	begin := func() (replica.Inviter, error) {
		make := crypto.NewCode
		if p.Long {
			make = crypto.NewLongCode
		}
		in, err := l.keys.Meet(make())
		if err != nil {
			return nil, err
		}
		code = in.Code()
		return in, nil
	}
	_, list, err := l.remotes.get("")
	if err != nil {
		return nil, err
	}
	var specs []string
	for _, o := range list {
		specs = append(specs, o.spec().String())
	}
	done, err := l.replica.Invite(ctx, begin, replica.InviteOptions{
		Show:     func(until time.Time) error { return a.now(Invitation{Code: code, Until: until, Remotes: specs}) },
		Progress: paced(a),
	})
	if err != nil {
		return nil, err
	}
	return Invited{Name: done.Name, Fingerprint: done.Fingerprint}, nil
}

// RemoveParams are the parameters of the call device.remove.
type RemoveParams struct {
	// Device is an id, the beginning of one, or a name that one device alone has.
	Device string `json:"device"`
	// Phrase is the recovery phrase, whose word nobody can undo; with it devices that the
	// removed one removed are back, and those that it admitted are out, where Undo names them.
	Phrase     string   `json:"phrase,omitempty"`
	Undo       []string `json:"undo,omitempty"`
	Passphrase string   `json:"passphrase,omitempty"`
}

// A Removed ends the call device.remove.
type Removed struct {
	Device string `json:"device"`
	Name   string `json:"name"`
	// Entries is how many entries of the device count.
	Entries uint64 `json:"entries"`
	// Standing says that the device is out; a senior device may have removed this one first.
	Standing bool `json:"standing"`
	// Left is what removing does not do, in sentences.
	Left []string `json:"left"`
}

// deviceRemove is the call device.remove.
func (l *Locker) deviceRemove(ctx context.Context, p RemoveParams, a *answer) (any, error) {
	if err := l.confirm(p.Passphrase); err != nil {
		return nil, err
	}
	device, err := l.findDevice(ctx, p.Device)
	if err != nil {
		return nil, err
	}
	var undo []string
	for _, name := range p.Undo {
		id, err := l.findDevice(ctx, name)
		if err != nil {
			return nil, err
		}
		undo = append(undo, id)
	}
	name := l.keys.DeviceName(device)
	removal, err := l.removeDevice(ctx, device, p.Phrase, undo)
	if err != nil {
		return nil, err
	}
	// What it granted is revoked with it: the gate asks who is a member.
	if err := l.gate.Refresh(ctx); err != nil {
		return nil, err
	}
	return Removed{Device: device, Name: name, Entries: removal.Entries, Standing: removal.Standing, Left: append([]string{}, removal.Left...)}, nil
}

func (l *Locker) removeDevice(ctx context.Context, device, phrase string, undo []string) (replica.Removal, error) {
	if phrase == "" {
		return l.replica.Remove(ctx, device)
	}
	if err := l.hold(phrase); err != nil {
		return replica.Removal{}, err
	}
	defer l.keys.Forget()
	return l.replica.Evict(ctx, device, undo...)
}

// findDevice returns the id of the device that a name, an id or the beginning of one
// means.
func (l *Locker) findDevice(ctx context.Context, name string) (string, error) {
	const next = "'locker device list' lists them"
	status, err := l.replica.Status(ctx)
	if err != nil {
		return "", err
	}
	var found []string
	for _, d := range status.Devices {
		switch {
		case d.ID == name:
			return d.ID, nil
		case d.Name == name && !d.Removed, len(name) >= 4 && strings.HasPrefix(d.ID, name):
			found = append(found, d.ID)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return "", failed(next, "there is no device %q", clip(name))
	}
	return "", usage("write the id; "+next, "%q means %d devices", clip(name), len(found))
}
