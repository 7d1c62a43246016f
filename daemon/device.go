package daemon

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"

	"github.com/zalando/go-keyring"
	"golang.org/x/crypto/chacha20poly1305"

	"github.com/locker-project/locker/crypto"
)

// How the keys of a device are protected.
const (
	byPassphrase = "passphrase" // sealed under a passphrase (crypto.Protect)
	byKeyring    = "keyring"    // sealed under a key that the system's keyring holds
	byFile       = "file"       // by nothing but the permissions of the file
)

// A deviceFile is device.json: who this device is, and its keys. It is what makes
// a folder a locker, so it is the last thing that a set-up writes. Who can open it
// is this device: reads everything, and writes as it.
type deviceFile struct {
	Format     int    `json:"v"`
	Locker     string `json:"locker"`
	Device     string `json:"device"`
	Name       string `json:"name"`
	Protection string `json:"protection"`
	// Restoring says that 'locker restore' has not finished: "new" on an empty
	// device, "rejoin" on a clone that is to become a device of its own.
	Restoring string `json:"restoring,omitempty"`
	// Secret is a deviceSecret as JSON, sealed as Protection says.
	Secret []byte `json:"secret"`
}

// deviceFormat is the format of the device file that this program writes.
const deviceFormat = 1

// A deviceSecret is what the device file protects.
type deviceSecret struct {
	Device  string `json:"device"`
	Keyring []byte `json:"keyring"` // crypto.Keyring.Secret
	Store   []byte `json:"store"`   // the key of the store
}

// readDevice reads the device file of home.
func readDevice(home Home) (deviceFile, error) {
	var d deviceFile
	raw, err := os.ReadFile(home.device())
	if err != nil {
		return d, fmt.Errorf("cannot read the keys of this device: %w", err)
	}
	if err := json.Unmarshal(raw, &d); err != nil {
		return d, failed("restore this locker to another folder with 'locker restore', from a remote and the recovery phrase", "%s is damaged: %v", home.device(), err)
	}
	if d.Format > deviceFormat {
		return d, failed("use the newer version", "%s was written by a newer version of Locker", home.device())
	}
	return d, nil
}

// write stores the device file, durably and whole.
func (d deviceFile) write(home Home) error {
	raw, err := json.Marshal(d)
	if err != nil {
		return err
	}
	if err := writeFile(home.device(), append(raw, '\n')); err != nil {
		return fmt.Errorf("cannot write the keys of this device: %w", err)
	}
	return nil
}

// newDevice makes the device file for keys, protected as well as can be here.
func newDevice(keys *crypto.Keyring, storeKey [32]byte, passphrase string) (deviceFile, error) {
	d := deviceFile{Format: deviceFormat, Locker: keys.Locker(), Device: keys.Device(), Name: keys.DeviceName(keys.Device())}
	secret, err := json.Marshal(deviceSecret{Device: d.Device, Keyring: keys.Secret(), Store: storeKey[:]})
	if err != nil {
		return d, err
	}
	if passphrase != "" {
		d.Protection = byPassphrase
		d.Secret, err = crypto.Protect(secret, passphrase)
		return d, err
	}
	if key, ok := newKeyringKey(d.account()); ok {
		d.Protection = byKeyring
		d.Secret, err = sealUnder(key, secret, d.account())
		return d, err
	}
	d.Protection, d.Secret = byFile, secret
	return d, nil
}

// open returns the keys. ask is called for a passphrase where one is needed.
func (d deviceFile) open(ask func() (string, error)) (deviceSecret, error) {
	var s deviceSecret
	raw, err := d.unseal(ask)
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(raw, &s); err != nil || s.Device != d.Device || len(s.Store) != 32 {
		return s, failed("restore this locker to another folder with 'locker restore', from a remote and the recovery phrase", "the keys of this device are damaged")
	}
	return s, nil
}

func (d deviceFile) unseal(ask func() (string, error)) ([]byte, error) {
	switch d.Protection {
	case byFile:
		return d.Secret, nil
	case byKeyring:
		key, err := keyringKey(d.account())
		if err != nil {
			return nil, refused("unlock the keyring of your session, or restore this locker to another folder with 'locker restore'", "the keys of this device are sealed under a key in the system's keyring, which did not hand it over: %v", err)
		}
		return openUnder(key, d.Secret, d.account())
	case byPassphrase:
		if ask == nil {
			return nil, refused("name a file with --passphrase-file or LOCKER_PASSPHRASE_FILE", "the locker is protected by a passphrase")
		}
		passphrase, err := ask()
		if err != nil {
			return nil, err
		}
		return unprotect(d.Secret, passphrase)
	}
	return nil, failed("use the version of Locker that made it", "the keys of this device are protected in an unknown way: %q", d.Protection)
}

func unprotect(secret []byte, passphrase string) ([]byte, error) {
	raw, err := crypto.Unprotect(secret, passphrase)
	if errors.Is(err, crypto.ErrPassphrase) {
		return nil, refused("try again; the recovery phrase and a remote get you in without it ('locker restore')", "that is not the passphrase of this locker")
	}
	return raw, err
}

// protection tells the owner how the keys of this device are protected.
func (d deviceFile) protection() string {
	switch d.Protection {
	case byPassphrase:
		return "passphrase"
	case byKeyring:
		return "keyring: sealed under a key in the system's keyring"
	default:
		return "file: no passphrase and no keyring; whoever can read this account's files has the keys"
	}
}

// HasPassphrase says whether the keys of the locker in home are protected by a
// passphrase.
func HasPassphrase(home Home) (bool, error) {
	if ok, err := home.exists(); err != nil || !ok {
		return false, err
	}
	d, err := readDevice(home)
	return d.Protection == byPassphrase, err
}

// account is the name under which the system's keyring has the key.
func (d deviceFile) account() string { return d.Locker + "/" + d.Device }

const keyringService = "locker"

// newKeyringKey stores a new key in the system's keyring, and reads it back. It
// returns false where there is no keyring that works.
func newKeyringKey(account string) ([]byte, bool) {
	if !keyringLikely() {
		return nil, false
	}
	key := make([]byte, chacha20poly1305.KeySize)
	rand.Read(key)
	_, err := inTime(func() (string, error) {
		return "", keyring.Set(keyringService, account, base64.StdEncoding.EncodeToString(key))
	})
	if err != nil {
		return nil, false
	}
	back, err := keyringKey(account)
	return key, err == nil && string(back) == string(key)
}

// keyringKey gets the key from the system's keyring.
func keyringKey(account string) ([]byte, error) {
	text, err := inTime(func() (string, error) { return keyring.Get(keyringService, account) })
	if err != nil {
		return nil, err
	}
	return base64.StdEncoding.DecodeString(text)
}

// keyringLikely says whether it makes sense to ask for a keyring: on Linux asking
// without a session bus would start one.
func keyringLikely() bool {
	switch runtime.GOOS {
	case "darwin", "windows":
		return true
	default:
		return os.Getenv("DBUS_SESSION_BUS_ADDRESS") != ""
	}
}

// keyringPatience is how long a keyring may take: it may ask the owner to unlock it.
const keyringPatience = time.Minute

// inTime calls a function of the keyring, which knows no deadline.
func inTime(do func() (string, error)) (string, error) {
	type result struct {
		text string
		err  error
	}
	done := make(chan result, 1)
	go func() {
		text, err := do()
		done <- result{text, err}
	}()
	select {
	case r := <-done:
		return r.text, r.err
	case <-time.After(keyringPatience):
		return "", errors.New("no answer in a minute")
	}
}

// sealUnder encrypts a secret under a key, bound to the account.
func sealUnder(key, secret []byte, account string) ([]byte, error) {
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, aead.NonceSize(), aead.NonceSize()+len(secret)+aead.Overhead())
	rand.Read(nonce)
	return aead.Seal(nonce, nonce, secret, []byte(account)), nil
}

func openUnder(key, sealed []byte, account string) ([]byte, error) {
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		return nil, err
	}
	if n := aead.NonceSize(); len(sealed) >= n {
		if secret, err := aead.Open(nil, sealed[:n], sealed[n:], []byte(account)); err == nil {
			return secret, nil
		}
	}
	return nil, refused("restore this locker to another folder with 'locker restore'", "the key in the system's keyring does not open the keys of this device")
}
