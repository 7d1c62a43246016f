package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync"

	"github.com/locker-project/locker/crypto"
	"github.com/locker-project/locker/daemon/gate"
	"github.com/locker-project/locker/daemon/remote"
	"github.com/locker-project/locker/daemon/remote/fault"
	"github.com/locker-project/locker/daemon/replica"
	"github.com/locker-project/locker/daemon/store"
	"github.com/locker-project/locker/manifests"
	"github.com/locker-project/locker/plugins/host"
	"github.com/locker-project/locker/plugins/locker"
)

// A Locker is a locker that this process has open. It answers calls, which may
// come concurrently.
type Locker struct {
	home    Home
	options Options
	version string
	log     *slog.Logger
	serving bool // calls of other processes are answered
	release func() error

	device  deviceFile
	keys    *crypto.Keyring
	store   *store.Store
	gate    *gate.Gate
	replica *replica.Replica
	remotes *remotes

	renewed    chan struct{} // this device became another one: the locker has to be opened anew
	limiter    *remote.Limiter
	settingsMu sync.Mutex // guards settings
	settings   Settings
	network    network

	importing sync.Mutex           // held by the one import, or undo, that goes on
	syncing   chan struct{}        // holds one token: who has it syncs
	changed   chan struct{}        // there is something to send that no change of the store tells of
	called    chan struct{}        // somebody called: the person is active
	told      chan struct{}        // a remote tells of news
	heed      func(replica.Remote) // begins to listen to what a remote tells; nil: nobody syncs

	hashes  programHashes
	sandbox func() host.Mode // what confines plugins here; found out once
}

// Open opens the locker in home, unless another process has it open. command says
// in the lock what this process is doing.
func Open(ctx context.Context, home Home, command string, options Options) (*Locker, error) {
	harden()
	release, err := home.take(command)
	if err != nil {
		return nil, err
	}
	l, err := openLocked(ctx, home, options)
	if err != nil {
		return nil, errors.Join(err, release())
	}
	l.release = release
	return l, nil
}

// openLocked opens a locker whose lock the caller holds.
func openLocked(ctx context.Context, home Home, options Options) (*Locker, error) {
	device, err := readDevice(home)
	if err != nil {
		return nil, err
	}
	if device.Restoring == restoreJoin {
		return nil, failed("run the same 'locker device join' again; it goes on where it was cut off", "joining the locker was cut off in %s", string(home))
	}
	if device.Restoring != "" {
		return nil, failed("run the same 'locker restore' again; it goes on where it was cut off", "restoring the locker to %s was cut off", string(home))
	}
	var passphrase string
	ask := options.Passphrase
	if ask != nil {
		ask = func() (typed string, err error) {
			typed, err = options.Passphrase()
			passphrase = typed
			return typed, err
		}
	}
	secret, err := device.open(ask)
	if err != nil {
		return nil, err
	}
	keys, err := crypto.Load(secret.Keyring)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(home.finishSetUp(), home.clearSpool()); err != nil {
		return nil, err
	}
	l, err := assemble(ctx, home, options, device, keys, [32]byte(secret.Store))
	if err != nil {
		return nil, err
	}
	next, err := l.completeRenewal(ctx, passphrase, [32]byte(secret.Store))
	if err != nil && next != nil {
		err = errors.Join(err, next.Close())
	}
	return next, err
}

// assemble puts the parts of a locker together.
func assemble(ctx context.Context, home Home, options Options, device deviceFile, keys *crypto.Keyring, storeKey [32]byte) (l *Locker, err error) {
	l = &Locker{
		home: home, options: options, version: options.Version, log: options.logger(), release: func() error { return nil },
		device: device, keys: keys, syncing: make(chan struct{}, 1), changed: make(chan struct{}, 1), renewed: make(chan struct{}, 1), called: make(chan struct{}, 1), told: make(chan struct{}, 1),
		sandbox: sync.OnceValue(func() host.Mode { return host.Probe(context.WithoutCancel(ctx)) }),
	}
	l.syncing <- struct{}{}
	l.limiter = remote.NewLimiter()
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Close())
		}
	}()
	l.store, err = store.Open(home.store(), store.Options{
		Key: storeKey, Device: keys.Device(), BlobKey: keys.BlobKey(), Logger: l.log, Validate: validate, Cache: storeCache, MemTable: storeMemTable,
	})
	if err != nil {
		return l, err
	}
	if err = l.loadSettings(ctx); err != nil {
		return l, err
	}
	l.remotes, err = l.loadRemotes(ctx)
	if err != nil {
		return l, err
	}
	l.replica, err = replica.New(ctx, replica.Config{Sealer: keys, State: l.store, Objects: home.objects(), Remotes: l.remotes.named(), Logger: l.log})
	if err != nil {
		return l, err
	}
	l.obey()
	l.gate, err = gate.New(ctx, gate.Config{
		Store: l.store, Sign: keys.Sign, Verify: keys.Verify, Device: keys.Device(), Logger: l.log,
		Member: func(device string) bool { return slices.Contains(keys.Members(), device) },
	})
	return l, err
}

// What the store may hold in memory: a daemon that does nothing should not be felt.
const (
	storeCache    = 8 << 20
	storeMemTable = 4 << 20
)

// validate judges a record of a well-known collection by its schema.
func validate(r locker.Record) error { return manifests.Validate(r.Collection, r.Fields) }

// Close ends the processes that the locker started, and closes it.
func (l *Locker) Close() error {
	var errs []error
	if l.remotes != nil {
		errs = append(errs, l.remotes.close())
	}
	if l.store != nil {
		errs = append(errs, l.store.Close())
	}
	return errors.Join(append(errs, l.release())...)
}

// bigJob is how many records a job handles before memory that it used is given
// back at once rather than when the collector gets to it.
const bigJob = 5000

// releaseMemory gives memory back to the system after a job of so many records.
func releaseMemory(records int) {
	if records >= bigJob {
		debug.FreeOSMemory()
	}
}

// classify gives errors of the packages below an exit code and a next step.
func classify(err error) *Error {
	e := &Error{Code: CodeFailed, Message: err.Error()}
	var cloned *replica.Cloned
	var trouble *fault.Fault
	switch {
	case errors.As(err, &cloned):
		e.Code, e.Next = CodeIntegrity, "see 'locker status'"
	case errors.Is(err, replica.ErrRemoved):
		e.Code, e.Next = CodeRefused, "see 'locker status'; with the recovery phrase, 'locker restore' makes this a device of the locker again, with what was written here"
	case errors.As(err, &trouble):
		e.Message, e.Next = strings.Replace(e.Message, trouble.Error(), trouble.What, 1), trouble.Do
	case errors.Is(err, gate.ErrNoGrant):
		e.Code = CodeRefused
	case errors.Is(err, manifests.ErrPayment):
		e.Code, e.Next = CodeRefused, "choose another offer of 'locker offers', or none"
	case errors.Is(err, replica.ErrNoLocker):
		e.Next = "check the remote's place; 'locker sync' on another device fills it"
	case errors.Is(err, replica.ErrWrongPhrase):
		e.Code, e.Next = CodeRefused, "check whether sheet and remote are of the same locker"
	case errors.Is(err, crypto.ErrReplaced):
		e.Code, e.Next = CodeRefused, "use the phrase of the newer sheet; 'locker phrase check' tells on a device whether one stands"
	case errors.Is(err, replica.ErrRemoved):
		e.Code, e.Next = CodeRefused, "see 'locker status'"
	case errors.Is(err, replica.ErrNoInvitation), errors.Is(err, replica.ErrExpired), errors.Is(err, replica.ErrNotAdmitted):
		e.Next = "run 'locker device invite' on the other device, and use the new code"
	case errors.Is(err, crypto.ErrWrongCode), errors.Is(err, crypto.ErrTaken), errors.Is(err, crypto.ErrCancelled):
		e.Code, e.Next = CodeRefused, "run 'locker device invite' again; a code is good for one attempt"
	case errors.Is(err, replica.ErrUnreachable):
		e.Next = "check the remote's place, its credentials and the network, then try again"
	case errors.Is(err, crypto.ErrPassphrase):
		e.Code, e.Next = CodeRefused, "try again; the recovery phrase and a remote get you in without it ('locker restore')"
	case errors.Is(err, store.ErrWrongKey):
		e.Code, e.Next = CodeRefused, "the store and device.json are not of one locker: put the right ones together, or restore to another folder"
	case errors.Is(err, store.ErrDiskFull):
		e.Next = "free some space, then run the command again: nothing that was acknowledged is lost"
	case errors.Is(err, locker.ErrNotFound):
		e.Next = "'locker status' lists the collections, 'locker query' what they hold"
	case errors.Is(err, errParams):
		e.Code = CodeUsage
	case errors.Is(err, fs.ErrPermission):
		e.Next = "check whose files these are; 'locker doctor' looks at the locker's own"
	}
	return e
}

// clearSpool removes what a process that was killed set aside: it is sealed under
// a key that died with it.
func (h Home) clearSpool() error {
	if err := os.RemoveAll(h.spool()); err != nil {
		return fmt.Errorf("cannot remove what a former process left: %w", err)
	}
	return os.Mkdir(h.spool(), 0o700)
}
