package daemon

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/locker-project/locker/crypto"
	"github.com/locker-project/locker/daemon/replica"
)

// Made is what [Init] made.
type Made struct {
	Locker        string `json:"locker"`
	Device        string `json:"device"`
	Name          string `json:"name"`
	KeyProtection string `json:"key_protection"`
	Phrase        string `json:"phrase,omitempty"` // absent where it went to a file
}

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
}

// A setUpNote is kept in a home while a locker is being made there. device.json is
// written last: until then there is no locker, and the next set-up clears away
// what the one that was cut off left.
type setUpNote struct {
	Command   string    `json:"command"`
	PhraseOut string    `json:"phrase_out,omitempty"`
	Since     time.Time `json:"since"`
}

// Init makes a new locker on this device. Cut off at any point it leaves either no
// locker, and the same command starts over, or a locker that is complete.
func Init(ctx context.Context, home Home, s SetUp) (*Made, error) {
	harden()
	release, err := home.claim("locker init")
	if err != nil {
		return nil, err
	}
	made, err := initLocked(ctx, home, s)
	return made, errors.Join(err, release())
}

func initLocked(ctx context.Context, home Home, s SetUp) (*Made, error) {
	if ok, err := home.exists(); err != nil {
		return nil, err
	} else if ok {
		if d, err := readDevice(home); err == nil && d.Restoring {
			return nil, failed("complete it with 'locker restore', or name another folder with --home", "a locker is being restored to %s", string(home))
		}
		return nil, failed("use it, or name another folder with --home", "there is a locker in %s already", string(home))
	}
	former, err := home.clearSetUp()
	if err != nil {
		return nil, err
	}
	phraseOut, err := s.checkPhraseOut(former)
	if err != nil {
		return nil, err
	}
	if err := home.noteSetUp(setUpNote{Command: "locker init", PhraseOut: phraseOut}); err != nil {
		return nil, err
	}
	made, err := build(ctx, home, s, phraseOut)
	if err != nil {
		// What is left is cleared by the next set-up; now would be better, and no more.
		_, cerr := home.clearSetUp()
		return nil, errors.Join(err, cerr)
	}
	return made, home.finishSetUp()
}

// build makes everything that a locker is, the device file last.
func build(ctx context.Context, home Home, s SetUp, phraseOut string) (made *Made, err error) {
	seed := crypto.NewSeed()
	keys, err := crypto.Found(seed, s.deviceName())
	if err != nil {
		return nil, err
	}
	var storeKey [32]byte
	rand.Read(storeKey[:])
	device, err := newDevice(keys, storeKey, s.Passphrase)
	if err != nil {
		return nil, err
	}
	l, err := assemble(ctx, home, s.Options, device, keys, storeKey)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	if s.Remote != "" {
		if err := l.firstRemote(ctx, s.Remote, true); err != nil {
			return nil, err
		}
	}
	if err := l.replica.Found(ctx); err != nil {
		return nil, err
	}
	made = &Made{Locker: keys.Locker(), Device: keys.Device(), Name: device.Name, KeyProtection: device.protection()}
	switch {
	case phraseOut != "":
		if err := writeFile(phraseOut, []byte(seed.Phrase()+"\n")); err != nil {
			return nil, fmt.Errorf("cannot write the recovery phrase: %w", err)
		}
	case s.Show != nil:
		if err := s.Show(seed.Phrase()); err != nil {
			return nil, err
		}
	default:
		made.Phrase = seed.Phrase()
	}
	return made, device.write(home)
}

// checkPhraseOut returns the path of the file for the phrase. It must not exist,
// unless a set-up that was cut off made it: that phrase opens nothing.
func (s SetUp) checkPhraseOut(former setUpNote) (string, error) {
	if s.PhraseOut == "" {
		return "", nil
	}
	path, err := filepath.Abs(s.PhraseOut)
	if err != nil {
		return "", err
	}
	_, err = os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if _, err := os.Stat(filepath.Dir(path)); err != nil {
			return "", usage("make the folder, or name another file with --phrase-out", "cannot write the recovery phrase: %v", err)
		}
		return path, nil
	case err != nil:
		return "", usage("name another file with --phrase-out", "cannot write the recovery phrase: %v", err)
	case former.PhraseOut == path:
		return path, nil
	}
	return "", usage("name a file that does not exist with --phrase-out", "%s exists; it may hold the phrase of another locker", path)
}

// Restore brings a locker back to this device, from a remote and the recovery
// phrase alone. Cut off at any point it leaves something that the same command
// completes.
func Restore(ctx context.Context, home Home, s SetUp) (*Restored, error) {
	harden()
	seed, err := crypto.ParsePhrase(s.Phrase)
	if err != nil {
		return nil, refused("check the words on your sheet: 24 of them, in their order", "%v", err)
	}
	release, err := home.claim("locker restore")
	if err != nil {
		return nil, err
	}
	restored, err := restoreLocked(ctx, home, s, seed)
	return restored, errors.Join(err, release())
}

func restoreLocked(ctx context.Context, home Home, s SetUp, seed crypto.Seed) (*Restored, error) {
	if ok, err := home.exists(); err != nil {
		return nil, err
	} else if ok {
		device, err := readDevice(home)
		if err != nil {
			return nil, err
		}
		if !device.Restoring {
			return nil, failed("use it, or name another folder with --home", "there is a locker in %s already", string(home))
		}
		if restored, err := resume(ctx, home, s, seed, device); restored != nil || err != nil {
			return restored, err
		}
		// It had not told anybody of this device: start over as another one.
		if err := os.Remove(home.device()); err != nil {
			return nil, err
		}
	} else if _, err := home.clearSetUp(); err != nil {
		return nil, err
	}
	if err := home.noteSetUp(setUpNote{Command: "locker restore"}); err != nil {
		return nil, err
	}
	if err := home.clearParts(); err != nil {
		return nil, err
	}
	return fetch(ctx, home, s, seed)
}

// fetch makes a new device and fills it from the remote.
//
// The device file is there before the remote hears of the new device, marked as
// unfinished: if this process dies in between, the next one goes on as the same
// device instead of leaving a device behind that never lived.
func fetch(ctx context.Context, home Home, s SetUp, seed crypto.Seed) (restored *Restored, err error) {
	keys, err := crypto.Recover(seed, s.deviceName())
	if err != nil {
		return nil, err
	}
	var storeKey [32]byte
	rand.Read(storeKey[:])
	device, err := newDevice(keys, storeKey, s.Passphrase)
	if err != nil {
		return nil, err
	}
	l, err := assemble(ctx, home, s.Options, device, keys, storeKey)
	if err != nil {
		return nil, err
	}
	defer func() {
		told := contains(keys.Members(), keys.Device())
		err = errors.Join(err, l.Close())
		switch {
		case err == nil:
			err = home.finishSetUp()
		case !told: // nobody knows of this device: leave nothing
			if rerr := os.Remove(home.device()); rerr == nil || errors.Is(rerr, fs.ErrNotExist) {
				_, rerr = home.clearSetUp()
				err = errors.Join(err, rerr)
			}
		}
	}()
	if err := l.firstRemote(ctx, s.Remote, false); err != nil {
		return nil, err
	}
	device.Restoring = true
	if err := device.write(home); err != nil {
		return nil, err
	}
	if _, err := l.replica.Restore(ctx, s.progress); err != nil {
		return nil, err
	}
	return l.restored(ctx, device)
}

// resume completes a restore that was cut off after the new device had made its
// door. It returns nil where it had not come so far.
func resume(ctx context.Context, home Home, s SetUp, seed crypto.Seed, device deviceFile) (restored *Restored, err error) {
	secret, err := device.open(func() (string, error) { return s.Passphrase, nil })
	if err != nil {
		return nil, err
	}
	keys, err := crypto.Load(secret.Keyring)
	if err != nil {
		return nil, err
	}
	if !keys.CheckPhrase(seed) {
		return nil, refused("use the phrase of that locker, or name another folder with --home", "another locker, %s, is being restored to %s", device.Locker, string(home))
	}
	l, err := assemble(ctx, home, s.Options, device, keys, [32]byte(secret.Store))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	if !contains(keys.Members(), keys.Device()) {
		return nil, nil
	}
	if _, err := l.replica.Sync(ctx, replica.SyncOptions{Full: true, Progress: s.progress}); err != nil {
		return nil, err
	}
	return l.restored(ctx, device)
}

// restored makes the device file final, and says what came back.
func (l *Locker) restored(ctx context.Context, device deviceFile) (*Restored, error) {
	device.Restoring = false
	if err := device.write(l.home); err != nil {
		return nil, err
	}
	status, err := l.replica.Status(ctx)
	if err != nil {
		return nil, err
	}
	collections, err := l.store.Collections()
	if err != nil {
		return nil, err
	}
	r := &Restored{
		Locker: device.Locker, Device: device.Device, Name: device.Name, KeyProtection: device.protection(), StateHash: l.store.StateHash(),
		Devices: l.deviceRows(status), Pending: notices(status.Pending), Alarms: notices(status.Alarms),
	}
	for _, n := range collections {
		r.Records += n
	}
	return r, nil
}

// claim makes the folder of a home that is to get a locker, and takes its lock.
func (h Home) claim(command string) (release func() error, err error) {
	if err := os.MkdirAll(string(h), 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the folder of the locker: %w", err)
	}
	if err := h.checkFree(); err != nil {
		return nil, err
	}
	if err := privateDir(string(h)); err != nil {
		return nil, err
	}
	return h.take(command)
}

// checkFree refuses a folder that holds other things than a locker: they would
// become unreadable to others.
func (h Home) checkFree() error {
	entries, err := os.ReadDir(string(h))
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := e.Name()
		switch name {
		case "device.json", "store", "objects", "apps", "lock", "run", "spool", "setup.json":
			continue
		}
		if strings.HasSuffix(name, ".tmp") && strings.HasPrefix(name, ".") {
			continue
		}
		return usage("name a new or empty folder with --home", "the folder %s holds other things, such as %s", string(h), name)
	}
	return nil
}

// clearSetUp removes what a set-up left that was cut off before there was a
// locker, and returns its note.
func (h Home) clearSetUp() (setUpNote, error) {
	var note setUpNote
	raw, err := os.ReadFile(h.setUp())
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(h.store()); err == nil {
			return note, failed("put device.json back from a copy, or name another folder with --home and restore the locker there", "%s holds a store, but its keys (device.json) are gone", string(h))
		}
		return note, nil
	}
	if err != nil {
		return note, err
	}
	if err := json.Unmarshal(raw, &note); err != nil {
		note = setUpNote{} // it was cut off as it wrote that
	}
	return note, errors.Join(h.clearParts(), os.Remove(h.setUp()))
}

// clearParts removes the store and the objects of a locker that never was.
func (h Home) clearParts() error {
	return errors.Join(os.RemoveAll(h.store()), os.RemoveAll(h.objects()), os.RemoveAll(h.spool()))
}

func (h Home) noteSetUp(note setUpNote) error {
	note.Since = time.Now().UTC()
	raw, err := json.Marshal(note)
	if err != nil {
		return err
	}
	return writeFile(h.setUp(), raw)
}

// finishSetUp removes the note: the locker is there.
func (h Home) finishSetUp() error {
	if err := os.Remove(h.setUp()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func contains(list []string, s string) bool {
	for _, e := range list {
		if e == s {
			return true
		}
	}
	return false
}
