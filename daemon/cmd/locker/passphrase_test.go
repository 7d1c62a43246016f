package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestPassphraseWithDaemon: the daemon is told the passphrase once; commands that
// give something away ask for it again, the others do not.
func TestPassphraseWithDaemon(t *testing.T) {
	d := newDevice(t, "home")
	dir := t.TempDir()
	good, bad := filepath.Join(dir, "good"), filepath.Join(dir, "bad")
	for path, text := range map[string]string{good: "correct horse\n", bad: "wrong horse\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d.run("init", "--passphrase-file", good, "--phrase-out", filepath.Join(dir, "phrase"))
	if _, stderr, code := d.try("daemon"); code != 3 || !strings.Contains(stderr, "--passphrase-file") {
		t.Errorf("a daemon without the passphrase: exit code %d\n%s", code, stderr)
	}
	env := d.env
	d.env = append(env, "LOCKER_PASSPHRASE_FILE="+good)
	d.daemon()
	d.env = env

	if s := d.status(); s.KeyProtection != "passphrase" || s.Daemon == 0 {
		t.Errorf("keys by %q, daemon %d", s.KeyProtection, s.Daemon)
	}
	add := []string{"remote", "add", "usb", "dir:" + filepath.Join(dir, "usb")}
	for _, pass := range [][]string{nil, {"--passphrase-file", bad}} {
		if _, stderr, code := d.try(append(add, pass...)...); code != 3 || !strings.Contains(stderr, "passphrase") {
			t.Errorf("remote add %v: exit code %d\n%s", pass, code, stderr)
		}
	}
	d.run(append(add, "--passphrase-file", good)...)
	d.run("sync")

	raw, err := os.ReadFile(filepath.Join(d.home, "device.json"))
	if err != nil || strings.Contains(string(raw), "correct horse") || !strings.Contains(string(raw), `"protection":"passphrase"`) {
		t.Errorf("device.json: %v\n%s", err, raw)
	}
}
