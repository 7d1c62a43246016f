// Package mobile is the locker as a phone's app binds it, through gomobile.
//
// Start with [NewPhrase] and [Create], or with [Restore] for a locker that is on
// a remote already; [Open] opens one that is on this phone. The app supplies a
// [KeyStore] (the platform's), and remotes as folders or as a [Remote] of its own.
//
// It is the same store, the same keys and the same objects on the cloud as on a
// laptop; there are no child processes. Only types that gomobile can bind cross
// this package's border: records, queries and reports are JSON, shaped as the
// command line prints them. Methods block; call them off the main thread. They
// may be called from several threads at once.
package mobile

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/locker-project/locker/crypto"
	"github.com/locker-project/locker/daemon/replica"
	"github.com/locker-project/locker/daemon/store"
	"github.com/locker-project/locker/manifests"
	"github.com/locker-project/locker/plugins/locker"
)

// A KeyStore wraps the keys of this device under a key that the platform holds
// (Android Keystore, Secure Enclave), so that the file beside the data is useless
// on another phone.
type KeyStore interface {
	Wrap(secret []byte) ([]byte, error)
	Unwrap(wrapped []byte) ([]byte, error)
}

// A Progress is told how far a long call has come; total is 0 where it is not known.
type Progress interface {
	Report(doing string, done, total int64)
}

// A Locker is an open locker.
type Locker struct {
	ctx    context.Context
	cancel context.CancelFunc
	keys   *crypto.Keyring
	store  *store.Store
	rep    *replica.Replica

	mu      sync.Mutex
	remotes []replica.Named
	syncing sync.Mutex
}

// Memory that the store uses on a phone, in bytes each.
const phoneMemory = 4 << 20

// NewPhrase makes the recovery phrase of a new locker: 24 words. Show it to the
// owner, have it written down, and hand it to [Create].
func NewPhrase() string { return crypto.NewSeed().Phrase() }

// Create makes a new locker in an empty folder. A call that was cut short can be
// made again, with any phrase: nothing was kept.
func Create(dir, phrase, deviceName string, keys KeyStore) (*Locker, error) {
	seed, err := crypto.ParsePhrase(phrase)
	if err != nil {
		return nil, err
	}
	ring, err := crypto.Found(seed, deviceName)
	if err != nil {
		return nil, err
	}
	return setUp(dir, ring, keys, nil, func(l *Locker) error { return l.rep.Found(l.ctx) })
}

// Restore gets a locker back from one remote and the recovery phrase. A call that
// was cut short can be made again.
func Restore(dir, phrase, deviceName string, keys KeyStore, remote Remote, progress Progress) (*Locker, error) {
	seed, err := crypto.ParsePhrase(phrase)
	if err != nil {
		return nil, err
	}
	ring, err := crypto.Recover(seed, deviceName)
	if err != nil {
		return nil, err
	}
	remotes := []replica.Named{{Name: "remote", Remote: adapter{remote}}}
	return setUp(dir, ring, keys, remotes, func(l *Locker) error {
		_, err := l.rep.Restore(l.ctx, report(progress))
		return err
	})
}

// Open opens the locker in a folder.
func Open(dir string, keys KeyStore) (*Locker, error) {
	wrapped, err := os.ReadFile(deviceFile(dir))
	if err != nil {
		return nil, fmt.Errorf("there is no locker in %s: make one or restore one (%w)", dir, err)
	}
	raw, err := keys.Unwrap(wrapped)
	if err != nil {
		return nil, fmt.Errorf("the phone's key store did not open the keys of this device: %w", err)
	}
	var s secret
	if err := json.Unmarshal(raw, &s); err != nil {
		return nil, errors.New("the keys of this device are damaged: restore the locker from a remote and the phrase")
	}
	ring, err := crypto.Load(s.Keyring)
	if err != nil {
		return nil, err
	}
	return open(dir, ring, s.Store, nil)
}

// Close closes the locker; a sync that runs is ended first.
func (l *Locker) Close() error {
	l.cancel()
	l.syncing.Lock()
	defer l.syncing.Unlock()
	return l.store.Close()
}

// A secret is what the key store wraps.
type secret struct {
	Keyring []byte   `json:"keyring"`
	Store   [32]byte `json:"store"`
}

func deviceFile(dir string) string { return filepath.Join(dir, "device.key") }

// setUp makes the folder of a locker. The device file, which makes it a locker, is
// written last: what an earlier attempt left without one is removed.
func setUp(dir string, ring *crypto.Keyring, keys KeyStore, remotes []replica.Named, fill func(*Locker) error) (*Locker, error) {
	if _, err := os.Stat(deviceFile(dir)); !errors.Is(err, fs.ErrNotExist) {
		return nil, errors.Join(fmt.Errorf("there is a locker in %s already", dir), err)
	}
	for _, part := range []string{"store", "objects"} {
		if err := os.RemoveAll(filepath.Join(dir, part)); err != nil {
			return nil, err
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	var key [32]byte
	rand.Read(key[:])
	l, err := open(dir, ring, key, remotes)
	if err != nil {
		return nil, err
	}
	if err = fill(l); err == nil {
		err = writeDevice(dir, ring, key, keys)
	}
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func writeDevice(dir string, ring *crypto.Keyring, key [32]byte, keys KeyStore) error {
	raw, err := json.Marshal(secret{ring.Secret(), key})
	if err != nil {
		return err
	}
	wrapped, err := keys.Wrap(raw)
	if err != nil {
		return fmt.Errorf("the phone's key store did not wrap the keys of this device: %w", err)
	}
	f, err := os.CreateTemp(dir, "device-*.tmp")
	if err != nil {
		return err
	}
	_, err = f.Write(wrapped)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), deviceFile(dir))
	}
	if err != nil {
		os.Remove(f.Name())
		return err
	}
	folder, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

func open(dir string, ring *crypto.Keyring, key [32]byte, remotes []replica.Named) (*Locker, error) {
	data, err := store.Open(filepath.Join(dir, "store"), store.Options{
		Key: key, Device: ring.Device(), BlobKey: ring.BlobKey(), Cache: phoneMemory, MemTable: phoneMemory,
		Validate: func(r locker.Record) error { return manifests.Validate(r.Collection, r.Fields) },
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	rep, err := replica.New(ctx, replica.Config{
		Sealer: ring, State: data, Objects: filepath.Join(dir, "objects"), Remotes: remotes,
		Clock: time.Now, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		cancel()
		return nil, errors.Join(err, data.Close())
	}
	return &Locker{ctx: ctx, cancel: cancel, keys: ring, store: data, rep: rep, remotes: remotes}, nil
}

func report(p Progress) replica.Progress {
	if p == nil {
		return nil
	}
	return p.Report
}
