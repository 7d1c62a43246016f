package daemon

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"time"

	"github.com/locker-project/locker/crypto"
	"github.com/locker-project/locker/daemon/replica"
)

// restoreJoin is the kind of restore that 'locker device join' is in the middle of: a
// new device that another one admits, without the phrase.
const restoreJoin = "join"

// A Join is what [JoinDevice] needs beside a [SetUp], of which it uses all but the
// phrase.
type Join struct {
	// Code asks for the code that the other device shows. It is called once the remote
	// works, and not at all where a join that was cut off goes on.
	Code func() (string, error)
	// Meet is called with what both screens show, and the other device's name.
	Meet func(fingerprint, other string)
}

// JoinDevice makes this device one of a locker that another device has invited it to
// with a code. Cut off at any point it leaves nothing, or something that the same
// command completes.
func JoinDevice(ctx context.Context, home Home, s SetUp, j Join) (*Restored, error) {
	harden()
	release, err := home.claim("locker device join")
	if err != nil {
		return nil, withCode(err)
	}
	joined, err := joinLocked(ctx, home, s, j)
	return joined, withCode(errors.Join(err, release()))
}

func joinLocked(ctx context.Context, home Home, s SetUp, j Join) (*Restored, error) {
	ok, err := home.exists()
	if err != nil {
		return nil, err
	}
	if !ok {
		if _, err := home.clearSetUp(); err != nil {
			return nil, err
		}
		return joinFresh(ctx, home, s, j)
	}
	device, err := readDevice(home)
	if err != nil {
		return nil, err
	}
	if device.Restoring != restoreJoin {
		return nil, failed("use it, or name another folder with --home", "there is a locker in %s already", string(home))
	}
	secret, err := device.open(s.Options.Passphrase)
	if err != nil {
		return nil, err
	}
	keys, err := crypto.Load(secret.Keyring)
	if err != nil {
		return nil, err
	}
	return fillJoined(ctx, home, s, device, keys, [32]byte(secret.Store), 0)
}

// joinFresh meets the other device, and fills this one.
func joinFresh(ctx context.Context, home Home, s SetUp, j Join) (*Restored, error) {
	meeting, err := meetingPlace(home, s)
	if err != nil {
		return nil, err
	}
	text, err := j.Code()
	if err != nil {
		return nil, errors.Join(err, meeting.close())
	}
	code, err := crypto.ParseCode(text)
	if err != nil {
		return nil, errors.Join(usage("look at the other screen: a number and three words, or the long code", "that is no code: %v", err), meeting.close())
	}
	joiner, err := crypto.NewJoiner(code, s.deviceName())
	if err != nil {
		return nil, errors.Join(err, meeting.close())
	}
	var storeKey [32]byte
	rand.Read(storeKey[:])
	var device deviceFile
	epoch, err := replica.Meet(ctx, []replica.Named{{Name: "main", Remote: meeting}}, joiner, replica.MeetOptions{
		// The device file is there before the other device can admit this one: if this
		// process dies then, the next one goes on as the same device.
		Keep: func() (err error) {
			if err := home.noteSetUp(setUpNote{Command: "locker device join"}); err != nil {
				return err
			}
			if device, err = newDevice(joiner.Keyring(), storeKey, s.Passphrase); err != nil {
				return err
			}
			device.Restoring = restoreJoin
			return device.write(home)
		},
		Show:     func(fingerprint string) { j.Meet(fingerprint, joiner.Inviter()) },
		Progress: s.progress,
	})
	if err := errors.Join(err, meeting.close()); err != nil {
		if device.Device == "" {
			return nil, err
		}
		return nil, errors.Join(err, home.notAdmitted(err))
	}
	s.Remote = meeting.spec().Text() // with the token that may have been renewed
	return fillJoined(ctx, home, s, device, joiner.Keyring(), storeKey, epoch)
}

// meetingPlace opens the remote while there is no locker yet.
func meetingPlace(home Home, s SetUp) (*openRemote, error) {
	spec, err := parseRemote(s.Remote)
	if err != nil {
		return nil, err
	}
	if err := home.outside(spec); err != nil {
		return nil, err
	}
	l := &Locker{home: home, options: s.Options, version: s.Options.Version, log: s.Options.logger()}
	return l.openRemote(remoteSetting{Spec: spec, Added: time.Now().UTC()})
}

// notAdmitted forgets a device that the other one said it does not admit. Where it
// said nothing, or was cut off, it may have: then the same command finds out.
func (h Home) notAdmitted(why error) error {
	if errors.Is(why, crypto.ErrCancelled) || errors.Is(why, crypto.ErrWrongCode) || errors.Is(why, replica.ErrNotAdmitted) {
		return h.forget()
	}
	return nil
}

// fillJoined brings everything to a device that was admitted by a code.
func fillJoined(ctx context.Context, home Home, s SetUp, device deviceFile, keys *crypto.Keyring, storeKey [32]byte, epoch uint64) (joined *Restored, err error) {
	l, err := assemble(ctx, home, s.Options, device, keys, storeKey)
	if err != nil {
		return nil, err
	}
	defer func() {
		member := slices.Contains(keys.Members(), keys.Device())
		err = errors.Join(err, l.Close())
		if errors.Is(err, replica.ErrNotAdmitted) && !member {
			err = errors.Join(err, home.forget())
		}
	}()
	if _, list, _ := l.remotes.get(""); len(list) == 0 {
		if err := l.firstRemote(ctx, s.Remote, false); err != nil {
			return nil, err
		}
	}
	if _, err := l.replica.EnterByCode(ctx, replica.JoinOptions{Epoch: epoch, Progress: s.progress}); err != nil {
		return nil, err
	}
	return l.bringRest(ctx, s)
}
