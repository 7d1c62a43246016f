package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"

	"github.com/locker-project/locker/crypto"
	"github.com/locker-project/locker/daemon/replica"
)

// A copied folder, or one put back from a backup, becomes a new device by itself: keys
// are made and kept, the old device admits the new one, and the next opening of the
// locker writes a device file with them. Each step can be cut off: before the
// admission it is done again with the same keys, after it the opening completes it.

// renewalNote is where the keys are kept meanwhile: in the store, encrypted.
const renewalNote = "daemon/renewal"

// A renewal is what this device is becoming.
type renewal struct {
	Keyring  []byte `json:"keyring"`
	Admitted bool   `json:"admitted"` // the new device is a member
}

// renewal reads the note; nil is none.
func (l *Locker) renewal(ctx context.Context) (*renewal, error) {
	raw, err := l.store.Note(ctx, renewalNote)
	if err != nil || raw == nil {
		return nil, err
	}
	var r renewal
	if err := json.Unmarshal(raw, &r); err != nil {
		return nil, fmt.Errorf("the keys of the device that this one becomes are damaged: %w", err)
	}
	return &r, nil
}

func (l *Locker) keepRenewal(ctx context.Context, r *renewal) error {
	raw, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return l.store.SetNotes(ctx, map[string][]byte{renewalNote: raw})
}

// renew makes a new device of this one, of which another copy is in use. The error is
// never nil: this process still has the old keys, and must open the locker anew.
func (l *Locker) renew(ctx context.Context) error {
	r, err := l.renewal(ctx)
	if err != nil {
		return err
	}
	if r == nil {
		keys, err := crypto.Join(l.keys.Invite(), l.nextName())
		if err != nil {
			return err
		}
		r = &renewal{Keyring: keys.Secret()}
		if err := l.keepRenewal(ctx, r); err != nil {
			return err
		}
	}
	keys, err := crypto.Load(r.Keyring)
	if err != nil {
		return err
	}
	err = l.replica.Yield(ctx, keys.Device(), keys.Request())
	if errors.Is(err, replica.ErrRemoved) {
		return err
	}
	if err != nil {
		return fmt.Errorf("another copy of this device is in use, and this one could not become a new one yet: %w", err)
	}
	r.Admitted = true
	if err := l.keepRenewal(ctx, r); err != nil {
		return err
	}
	select {
	case l.renewed <- struct{}{}:
	default:
	}
	name := keys.DeviceName(keys.Device())
	return failed("run the command again", "this folder is a second copy of %s (it was copied, or put back from a backup); it has become a new device, %s", l.device.Name, name)
}

// counted is a name that ends as nextName ends one.
var counted = regexp.MustCompile(` \([0-9]+\)$`)

// maxDeviceName is how long the name of a device may be, in bytes.
const maxDeviceName = 64

// nextName is what a new device is called that was a copy of this one.
func (l *Locker) nextName() string {
	base := counted.ReplaceAllString(l.device.Name, "")
	var taken []string
	for _, id := range l.keys.Members() {
		taken = append(taken, l.keys.DeviceName(id))
	}
	for n := 2; ; n++ {
		end := fmt.Sprintf(" (%d)", n)
		short := base
		for len(short)+len(end) > maxDeviceName {
			runes := []rune(short)
			short = string(runes[:len(runes)-1])
		}
		if name := short + end; !slices.Contains(taken, name) {
			return name
		}
	}
}

// completeRenewal writes the device file of the device that this one has become, if it
// has, and returns the locker opened with its keys; else it returns l. passphrase is
// what protects the device file, where one does.
func (l *Locker) completeRenewal(ctx context.Context, passphrase string, storeKey [32]byte) (*Locker, error) {
	r, err := l.renewal(ctx)
	if err != nil || r == nil {
		return l, err
	}
	keys, err := crypto.Load(r.Keyring)
	if err != nil {
		return l, err
	}
	if keys.Device() == l.keys.Device() { // it is done
		return l, l.store.SetNotes(ctx, map[string][]byte{renewalNote: nil})
	}
	if !r.Admitted {
		return l, nil
	}
	device, err := newDevice(keys, storeKey, passphrase)
	if err != nil {
		return l, err
	}
	if err := device.write(l.home); err != nil {
		return l, err
	}
	if err := l.Close(); err != nil {
		return nil, err
	}
	next, err := assemble(ctx, l.home, l.options, device, keys, storeKey)
	if err != nil {
		return nil, err
	}
	l.log.Info("this device was a second copy and is a new device now", "device", device.Device, "name", device.Name)
	return next, next.store.SetNotes(ctx, map[string][]byte{renewalNote: nil})
}

// remembered is ask, asked once.
func remembered(ask func() (string, error)) func() (string, error) {
	if ask == nil {
		return nil
	}
	var known bool
	var passphrase string
	return func() (string, error) {
		if known {
			return passphrase, nil
		}
		typed, err := ask()
		known, passphrase = err == nil, typed
		return typed, err
	}
}
