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
)

// Made is what [Init] made.
type Made struct {
	Locker        string `json:"locker"`
	Device        string `json:"device"`
	Name          string `json:"name"`
	KeyProtection string `json:"key_protection"`
	Phrase        string `json:"phrase,omitempty"` // absent where it went to a file
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
		return nil, withCode(err)
	}
	made, err := initLocked(ctx, home, s)
	return made, withCode(errors.Join(err, release()))
}

func initLocked(ctx context.Context, home Home, s SetUp) (*Made, error) {
	if ok, err := home.exists(); err != nil {
		return nil, err
	} else if ok {
		if d, err := readDevice(home); err == nil && d.Restoring != "" {
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
		case "device.json", "store", "objects", "apps", "lock", "lock.json", "run", "spool", "setup.json":
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
