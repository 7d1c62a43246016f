package daemon

import (
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"slices"

	"github.com/locker-project/locker/crypto"
	"github.com/locker-project/locker/daemon/replica"
)

// Restored is what [Restore] brought back.
type Restored struct {
	Locker        string   `json:"locker"`
	Device        string   `json:"device"`
	Name          string   `json:"name"`
	KeyProtection string   `json:"key_protection"`
	Records       int64    `json:"records"`
	StateHash     string   `json:"state_hash"`
	Devices       []Device `json:"devices"`
	Pending       []Notice `json:"pending"`
	Alarms        []Notice `json:"alarms"`
	// Restoring tells what is still to come, where the owner did not want to wait.
	Restoring *Restoring `json:"restoring,omitempty"`
}

// The kinds of restore that a device file can be in the middle of.
const (
	restoreNew    = "new"    // an empty device fills itself from a remote
	restoreRejoin = "rejoin" // a clone becomes a device of its own
)

// Restore brings a locker back to this device, from a remote and the recovery
// phrase alone. Cut off at any point it leaves nothing, or something that the same
// command completes.
//
// Where there is a locker already that another copy of this device has overtaken
// (see replica.Cloned), or from which this device was removed, it makes a new device of
// this one, which keeps its data and the edits that it has not sent.
func Restore(ctx context.Context, home Home, s SetUp) (*Restored, error) {
	harden()
	seed, err := parsePhrase(s.Phrase)
	if err != nil {
		return nil, err
	}
	release, err := home.claim("locker restore")
	if err != nil {
		return nil, withCode(err)
	}
	restored, err := restoreLocked(ctx, home, s, seed)
	return restored, withCode(errors.Join(err, release()))
}

func restoreLocked(ctx context.Context, home Home, s SetUp, seed crypto.Seed) (*Restored, error) {
	ok, err := home.exists()
	if err != nil {
		return nil, err
	}
	if !ok {
		if _, err := home.clearSetUp(); err != nil {
			return nil, err
		}
		return restoreFresh(ctx, home, s, seed)
	}
	device, err := readDevice(home)
	if err != nil {
		return nil, err
	}
	secret, err := device.open(s.Options.Passphrase)
	if err != nil {
		return nil, err
	}
	keys, err := crypto.Load(secret.Keyring)
	if err != nil {
		return nil, err
	}
	s.held = &seed
	switch device.Restoring {
	case restoreNew:
		return fill(ctx, home, s, device, keys, [32]byte(secret.Store))
	case restoreRejoin:
		return rejoin(ctx, home, s, device, keys, [32]byte(secret.Store))
	}
	cloned, filling, err := inspect(ctx, home, s, device, keys, [32]byte(secret.Store))
	switch {
	case err != nil:
		return nil, err
	case filling:
		return fill(ctx, home, s, device, keys, [32]byte(secret.Store))
	case !cloned:
		return nil, failed("use it, or name another folder with --home", "there is a locker in %s already", string(home))
	}
	return becomeAnother(ctx, home, s, seed, [32]byte(secret.Store))
}

// restoreFresh makes a new device and fills it.
//
// The device file is there before the remote hears of the new device, marked as
// unfinished: if this process dies in between, the next one goes on as the same
// device instead of leaving one behind that never lived.
func restoreFresh(ctx context.Context, home Home, s SetUp, seed crypto.Seed) (*Restored, error) {
	if err := home.noteSetUp(setUpNote{Command: "locker restore"}); err != nil {
		return nil, err
	}
	keys, err := s.recover(ctx, home, seed)
	if err != nil {
		return nil, err
	}
	var storeKey [32]byte
	rand.Read(storeKey[:])
	device, err := newDevice(keys, storeKey, s.Passphrase)
	if err != nil {
		return nil, err
	}
	device.Restoring = restoreNew
	if err := device.write(home); err != nil {
		return nil, err
	}
	return fill(ctx, home, s, device, keys, storeKey)
}

// recover makes the keys of a new device from the phrase: of one that replaced another,
// the remote has what it needs to find the locker.
func (s SetUp) recover(ctx context.Context, home Home, seed crypto.Seed) (*crypto.Keyring, error) {
	place, err := meetingPlace(home, s)
	if err != nil {
		return nil, err
	}
	object, err := replica.Find(ctx, []replica.Named{{Name: "main", Remote: place}}, crypto.FinderName(seed))
	if err := errors.Join(err, place.close()); err != nil {
		return nil, err
	}
	if object == nil {
		return crypto.Recover(seed, s.deviceName())
	}
	return crypto.RecoverReplaced(seed, object, s.deviceName())
}

// holdPhrase has the keys of a restore that goes on hold the phrase, once it is known
// which one stands.
func (s SetUp) holdPhrase(home Home, keys *crypto.Keyring) error {
	if s.held == nil {
		return nil
	}
	if err := keys.Hold(*s.held); errors.Is(err, crypto.ErrReplaced) {
		return refused("use the phrase that replaced it", "%v", err)
	} else if err != nil {
		return refused("use the phrase of that locker, or name another folder with --home", "%s holds another locker, %s", string(home), keys.Locker())
	}
	return nil
}

// fill brings everything to a device that has nothing, or not all of it.
func fill(ctx context.Context, home Home, s SetUp, device deviceFile, keys *crypto.Keyring, storeKey [32]byte) (restored *Restored, err error) {
	l, err := assemble(ctx, home, s.Options, device, keys, storeKey)
	if err != nil {
		return nil, err
	}
	defer func() {
		unknown := !slices.Contains(keys.Members(), keys.Device())
		err = errors.Join(err, l.Close())
		if err != nil && unknown && ctx.Err() == nil {
			err = errors.Join(err, home.forget()) // no remote has heard of this device
		}
	}()
	if err := s.holdPhrase(home, keys); err != nil {
		return nil, err
	}
	if _, list, _ := l.remotes.get(""); len(list) == 0 {
		if err := l.firstRemote(ctx, s.Remote, false); err != nil {
			return nil, err
		}
	}
	if _, err := l.replica.Enter(ctx, s.progress); err != nil {
		return nil, err
	}
	return l.bringRest(ctx, s)
}

// bringRest brings what was written to a device that is a member already, newest
// first. Meanwhile the locker can be used: calls are answered. Killed from here on, the
// daemon goes on, or the same command. Where the owner does not want to wait it leaves
// all but the newest to them.
func (l *Locker) bringRest(ctx context.Context, s SetUp) (*Restored, error) {
	if err := l.settled(); err != nil {
		return nil, err
	}
	if stop, _, err := l.serve(ctx); err != nil {
		l.log.Warn("the locker cannot be used while it is restored", "err", err)
	} else {
		defer stop()
	}
	for more := true; more; {
		o := replica.SyncOptions{Hold: true, For: fillFor, Progress: s.progress}
		if s.NoWait {
			o.For = 1 // the newest
		}
		sum, err := l.sync(ctx, o)
		if err != nil {
			return nil, err
		}
		more = sum.More && !s.NoWait
	}
	return l.restored(ctx, s.NoWait)
}

// settled says in the device file that there is a locker here.
func (l *Locker) settled() error {
	l.device.Restoring = ""
	if err := l.device.write(l.home); err != nil {
		return err
	}
	return l.home.finishSetUp()
}

// forget removes a locker whose restore came to nothing.
func (h Home) forget() error {
	if err := os.Remove(h.device()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	_, err := h.clearSetUp()
	return err
}

// restored says what came back. It is an error where something keeps the rest away for
// now, unless part of it is enough.
func (l *Locker) restored(ctx context.Context, part bool) (*Restored, error) {
	l.keys.Forget()
	status, err := l.replica.Status(ctx)
	if err != nil {
		return nil, err
	}
	if status.Fill != nil && !part {
		return nil, failed("switch that device on, or name another remote with 'locker remote add'; the daemon then brings the rest",
			"not all was restored: a change of the devices that others know of is missing on the remote, so it cannot be told whose data counts")
	}
	collections, err := l.store.Collections()
	if err != nil {
		return nil, err
	}
	d := l.device
	r := &Restored{
		Locker: d.Locker, Device: d.Device, Name: d.Name, KeyProtection: d.protection(), StateHash: l.store.StateHash(),
		Devices: l.deviceRows(status), Pending: notices(status.Pending), Alarms: notices(status.Alarms), Restoring: restoring(status.Fill),
	}
	for _, n := range collections {
		r.Records += n
	}
	return r, nil
}

// inspect says whether the device in home was found to be a clone, or to be removed from
// the locker, and whether it is new
// and has not read all yet.
func inspect(ctx context.Context, home Home, s SetUp, device deviceFile, keys *crypto.Keyring, storeKey [32]byte) (cloned, filling bool, err error) {
	l, err := assemble(ctx, home, s.Options, device, keys, storeKey)
	if err != nil {
		return false, false, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	if err := s.holdPhrase(home, keys); err != nil {
		return false, false, err
	}
	status, err := l.replica.Status(ctx)
	cloned = slices.ContainsFunc(status.Alarms, func(n replica.Notice) bool {
		return (n.Kind == "ahead" || n.Kind == "removed") && n.Device == keys.Device()
	})
	return cloned, status.Fill != nil, err
}

// becomeAnother gives a clone keys of its own. The data stays.
func becomeAnother(ctx context.Context, home Home, s SetUp, seed crypto.Seed, storeKey [32]byte) (*Restored, error) {
	s.held = nil
	keys, err := s.recover(ctx, home, seed)
	if err != nil {
		return nil, err
	}
	device, err := newDevice(keys, storeKey, s.Passphrase)
	if err != nil {
		return nil, err
	}
	device.Restoring = restoreRejoin
	if err := device.write(home); err != nil {
		return nil, err
	}
	return rejoin(ctx, home, s, device, keys, storeKey)
}

// rejoin makes the new device known, with the edits that it has not sent.
func rejoin(ctx context.Context, home Home, s SetUp, device deviceFile, keys *crypto.Keyring, storeKey [32]byte) (restored *Restored, err error) {
	l, err := assemble(ctx, home, s.Options, device, keys, storeKey)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	if err := s.holdPhrase(home, keys); err != nil {
		return nil, err
	}
	if _, err := l.replica.Restore(ctx, s.progress); err != nil {
		return nil, err
	}
	if err := l.settled(); err != nil {
		return nil, err
	}
	return l.restored(ctx, false)
}
