package daemon

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/zalando/go-keyring"

	"github.com/locker-project/locker/crypto"
)

// TestDeviceFile: whatever protects the keys, they come back from the file alone
// and the one thing that opens it, and from nothing else.
func TestDeviceFile(t *testing.T) {
	keyring.MockInit()
	keys, err := crypto.Found(crypto.NewSeed(), "laptop")
	if err != nil {
		t.Fatal(err)
	}
	storeKey := [32]byte{1, 2, 3}
	right := func() (string, error) { return "correct horse", nil }
	wrong := func() (string, error) { return "wrong horse", nil }
	for _, test := range []struct {
		want, bus, passphrase string
		ask                   func() (string, error)
	}{
		{byFile, "", "", nil},
		{byKeyring, "unix:path=/nowhere", "", nil},
		{byPassphrase, "", "correct horse", right},
	} {
		t.Run(test.want, func(t *testing.T) {
			if test.want != byPassphrase && runtime.GOOS != "linux" {
				t.Skip("only there the environment says whether there is a keyring")
			}
			t.Setenv("DBUS_SESSION_BUS_ADDRESS", test.bus)
			made, err := newDevice(keys, storeKey, test.passphrase)
			if err != nil {
				t.Fatal(err)
			}
			home := Home(t.TempDir())
			if err := made.write(home); err != nil {
				t.Fatal(err)
			}
			d, err := readDevice(home)
			if err != nil {
				t.Fatal(err)
			}
			if d.Protection != test.want || d.Name != "laptop" {
				t.Errorf("protected by %q, called %q", d.Protection, d.Name)
			}
			secret, err := d.open(test.ask)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(secret.Store, storeKey[:]) || !bytes.Equal(secret.Keyring, keys.Secret()) {
				t.Error("what comes back is not what was put in")
			}
			if test.want != byFile && bytes.Contains(d.Secret, []byte(`"keyring"`)) {
				t.Error("the secret is in plain text")
			}
			if has, err := HasPassphrase(home); err != nil || has != (test.want == byPassphrase) {
				t.Errorf("HasPassphrase: %v, %v", has, err)
			}
			if info, err := os.Stat(home.device()); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
				t.Errorf("mode %v, %v", info.Mode(), err)
			}
			if test.want != byPassphrase {
				return
			}
			for name, ask := range map[string]func() (string, error){"wrong": wrong, "nobody": nil} {
				var e *Error
				if _, err := d.open(ask); !errors.As(err, &e) || e.Code != CodeRefused || e.Next == "" {
					t.Errorf("%s passphrase: %v", name, err)
				}
			}
		})
	}
}

// TestKeyringGone: a keyring that lost the key, or has another, is a refusal with
// a way out.
func TestKeyringGone(t *testing.T) {
	if runtime.GOOS == "linux" {
		t.Setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nowhere")
	}
	keyring.MockInit()
	keys, err := crypto.Found(crypto.NewSeed(), "laptop")
	if err != nil {
		t.Fatal(err)
	}
	d, err := newDevice(keys, [32]byte{}, "")
	if err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func() error{
		"gone":    func() error { return keyring.Delete(keyringService, d.account()) },
		"another": func() error { return keyring.Set(keyringService, d.account(), strings.Repeat("A", 43)+"=") },
	} {
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		var e *Error
		if _, err := d.open(nil); !errors.As(err, &e) || e.Code != CodeRefused || !strings.Contains(e.Next, "locker restore") {
			t.Errorf("%s: %v", name, err)
		}
	}
	// And one that takes nothing leaves the file's permissions.
	keyring.MockInitWithError(errors.New("locked"))
	t.Cleanup(keyring.MockInit)
	if d, err := newDevice(keys, [32]byte{}, ""); err != nil || d.Protection != byFile {
		t.Errorf("without a keyring: protected by %q, %v", d.Protection, err)
	}
}

// TestDeviceFileDamaged: a file that is damaged or of a newer program says so.
func TestDeviceFileDamaged(t *testing.T) {
	for name, text := range map[string]string{
		"cut":     `{"v":1,"lock`,
		"newer":   `{"v":99}`,
		"unknown": `{"v":1,"protection":"magic","secret":"e30="}`,
		"empty":   `{"v":1,"protection":"file","secret":"e30="}`,
	} {
		home := Home(t.TempDir())
		if err := os.WriteFile(home.device(), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		d, err := readDevice(home)
		if err == nil {
			_, err = d.open(nil)
		}
		var e *Error
		if !errors.As(err, &e) || e.Next == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestWriteFile: the file is replaced whole, and nothing else is left.
func TestWriteFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	for _, text := range []string{"one", "another"} {
		if err := writeFile(path, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != text {
			t.Errorf("%q, %v", got, err)
		}
	}
	if err := writeFile(filepath.Join(dir, "no", "f"), nil); err == nil {
		t.Error("it wrote into a folder that is not there")
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("%v, %v", entries, err)
	}
}
