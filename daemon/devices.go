package daemon

import (
	"context"
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
