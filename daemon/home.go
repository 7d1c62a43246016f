package daemon

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
)

// A Home is the folder of one locker on this device:
//
//	device.json   the device's keys: plain, under a passphrase, or under a key in
//	              the keyring of the system
//	store/        the records, encrypted (package store)
//	objects/      the sealed objects that this device wrote, kept to be put again
//	apps/         the programs of apps that do not come with Locker
//	spool/        what an import sets aside, sealed under a key that is never stored
//	setup.json    only while a locker is being made here
//	lock          held by the process that has the locker open
//	lock.json     says which process that is; out of date when the lock is free
//	run/sock      the socket of the daemon, while it runs
type Home string

// DefaultHome is the folder that is used when none is named.
func DefaultHome() (Home, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("no folder for settings is known here (%w): name one with --home", err)
	}
	return Home(filepath.Join(dir, "locker")), nil
}

func (h Home) device() string  { return filepath.Join(string(h), "device.json") }
func (h Home) store() string   { return filepath.Join(string(h), "store") }
func (h Home) objects() string { return filepath.Join(string(h), "objects") }
func (h Home) apps() string    { return filepath.Join(string(h), "apps") }
func (h Home) spool() string   { return filepath.Join(string(h), "spool") }
func (h Home) setUp() string   { return filepath.Join(string(h), "setup.json") }
func (h Home) lock() string    { return filepath.Join(string(h), "lock") }
func (h Home) holder() string  { return filepath.Join(string(h), "lock.json") }

// maxSocket is the longest path of a unix socket that every system takes.
const maxSocket = 100

// socket is where the daemon listens. A home whose path is too long for a socket
// has it in the user's runtime folder instead.
func (h Home) socket() string {
	path := filepath.Join(string(h), "run", "sock")
	if len(path) <= maxSocket {
		return path
	}
	return filepath.Join(runtimeDir(), "locker-"+shortHash(string(h)), "sock")
}

// shortHash tells homes apart in the names of their sockets.
func shortHash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:6])
}

// missing is the error where there is no locker.
func (h Home) missing() error {
	if raw, err := os.ReadFile(h.setUp()); err == nil {
		var note setUpNote
		if json.Unmarshal(raw, &note) == nil && note.Command != "" {
			return failed("run the same '"+note.Command+"' again", "there is no locker in %s yet: '%s' was cut off", string(h), note.Command)
		}
	}
	return failed("make one with 'locker init', or get yours back with 'locker restore'", "there is no locker in %s", string(h))
}

// exists says whether there is a locker.
func (h Home) exists() (bool, error) {
	_, err := os.Stat(h.device())
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// A holder is the process that has a locker open.
type holder struct {
	PID     int       `json:"pid"`
	Command string    `json:"command"`
	Since   time.Time `json:"since"`
}

// take takes the lock, or says who has it. The lock ends with the process.
func (h Home) take(command string) (release func() error, err error) {
	lock := flock.New(h.lock(), flock.SetPermissions(0o600))
	ok, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("cannot lock %s: %w", h.lock(), err)
	}
	if !ok {
		return nil, h.inUse()
	}
	note, err := json.Marshal(holder{os.Getpid(), command, time.Now().UTC().Truncate(time.Second)})
	if err == nil {
		err = os.WriteFile(h.holder(), note, 0o600)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot write %s: %w", h.holder(), err), lock.Unlock())
	}
	return lock.Unlock, nil
}

// inUse describes who holds the lock.
func (h Home) inUse() error {
	var who holder
	note, err := os.ReadFile(h.holder())
	if err == nil {
		err = json.Unmarshal(note, &who)
	}
	if err != nil {
		return failed("wait for it to end, then try again", "another process has the locker in %s open", string(h))
	}
	return failed("wait for it to end, or end it, then try again",
		"the locker in %s is open in process %d (%s, since %s)", string(h), who.PID, who.Command, who.Since.Local().Format("2006-01-02 15:04:05"))
}
