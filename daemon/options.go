package daemon

import (
	"log/slog"
	"os"
	"path/filepath"
	"runtime"

	"github.com/locker-project/locker/crypto"
	"github.com/locker-project/locker/plugins/host"
)

// Options tell how to open a locker in this process.
type Options struct {
	// Version is that of the program, as status shows it.
	Version string
	// Passphrase is called for the passphrase where the keys of the device are
	// protected by one. nil: there is nobody to ask.
	Passphrase func() (string, error)
	// Logger takes what happens; nil takes nothing.
	Logger *slog.Logger
	// Programs is the folder of locker-plugins and locker-rclone; empty is that of
	// the running program.
	Programs string
}

// A SetUp tells how to make a locker on this device: a new one, or one that is
// kept by a remote.
type SetUp struct {
	Options
	// Remote is the spec of the first remote. [Init] takes none too.
	Remote string
	// Name is what the owner calls this device; empty is the name of the host.
	Name string
	// Passphrase protects the keys of this device; empty leaves that to the keyring
	// of the system, or to the permissions of a file.
	Passphrase string
	// Phrase is the recovery phrase ([Restore]).
	Phrase string
	held   *crypto.Seed // the phrase of a restore that goes on
	// PhraseOut is a file to be made for the new recovery phrase ([Init]); empty is
	// none.
	PhraseOut string
	// Show shows the new recovery phrase to the owner, before there is a locker
	// that only this phrase recovers. It is not called where PhraseOut is set; nil
	// shows nothing.
	Show func(phrase string) error
	// NoWait ends [Restore] and [JoinDevice] once the locker can be used, with its newest
	// data; the daemon then brings the rest.
	NoWait bool
	// Progress is told how far [Restore] has come; nil is told nothing.
	Progress func(Progress)
}

// Shim must be the first call of main: in a process that is to become a confined
// plugin it never returns.
func Shim() { host.Shim() }

func (o Options) logger() *slog.Logger {
	if o.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return o.Logger
}

// program is the path of one of the programs that come with this one.
func (o Options) program(name string) (string, error) {
	dir := o.Programs
	if dir == "" {
		self, err := os.Executable()
		if err != nil {
			return "", err
		}
		if real, err := filepath.EvalSymlinks(self); err == nil {
			self = real
		}
		dir = filepath.Dir(self)
	}
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); err != nil {
		return "", failed("install "+name+" beside the program locker: they come together, and 'make install' puts them there", "%s is missing: %v", name, err)
	}
	return path, nil
}

// deviceName is the name of this device where the owner gave none.
func (s SetUp) deviceName() string {
	if s.Name != "" {
		return s.Name
	}
	if name, err := os.Hostname(); err == nil && name != "" {
		return name
	}
	return "device"
}

func (s SetUp) progress(doing string, done, total int64) {
	if s.Progress != nil {
		s.Progress(Progress{Doing: doing, Done: done, Total: total})
	}
}
