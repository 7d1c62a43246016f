package main

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/locker-project/locker/daemon/remote/fault"
	"github.com/locker-project/locker/daemon/remote/remotetest"
	"github.com/locker-project/locker/daemon/replica"
	"github.com/locker-project/locker/daemon/replica/replicatest"
	"github.com/locker-project/locker/plugins"
)

// TestSFTPConformance speaks to a server that is neither rclone's nor Go's.
func TestSFTPConformance(t *testing.T) {
	s := remotetest.NewSFTP(t)
	replicatest.Remote(t, func(t *testing.T) replica.Remote {
		return open(t, s.Spec(strings.ReplaceAll(t.Name(), "/", "-")+"/locker"))
	})
}

// TestSFTPUnknownHost: nothing goes to a server but the one that is known.
func TestSFTPUnknownHost(t *testing.T) {
	s := remotetest.NewSFTP(t)
	known, err := os.ReadFile(s.KnownHosts)
	if err != nil {
		t.Fatal(err)
	}
	address, _, _ := strings.Cut(string(known), " ")
	other := filepath.Join(t.TempDir(), "known_hosts")
	line := address + " " + remotetest.NewKey(t, filepath.Join(t.TempDir(), "other"))
	if err := os.WriteFile(other, []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	wantFault(t, open(t, s.SpecKnowing(other, "locker")).Delete(t.Context(), anyName), fault.Denied, "known_hosts_file")
}

// TestSFTPFirstUse: the key of a server that nobody named is kept when it is met first,
// and from then on no other one gets as much as a user's name.
func TestSFTPFirstUse(t *testing.T) {
	first, other := remotetest.NewSFTP(t), remotetest.NewSFTP(t)
	spec := parseSpec(t, first.SpecUnknown("locker"))
	keep := func(_ context.Context, key, value string) (err error) {
		if kept, err := spec.Kept(key, value); err == nil {
			spec = kept
			return nil
		}
		return err
	}
	connect := func() error {
		return (&cloud{}).Open(t.Context(), plugins.RemoteConfig(spec.Config(keep)))
	}
	if err := connect(); err != nil {
		t.Fatal(err)
	}
	keys := spec.HostKeys()
	if len(keys) != 1 || keys[0] != first.Fingerprint(t) {
		t.Fatalf("kept are %q, the server has %q", keys, first.Fingerprint(t))
	}
	if err := connect(); err != nil {
		t.Fatalf("the same server again: %v", err)
	}
	spec.Options["port"] = parseSpec(t, other.SpecUnknown("x")).Options["port"] // as if another one answered
	err := connect()
	_, fingerprint, _ := strings.Cut(other.Fingerprint(t), " ")
	wantFault(t, err, fault.Denied, "another key", fingerprint, "add it again")
	if strings.Contains(err.Error(), "sftp-pin-host-key") {
		t.Errorf("it tells of rclone's flags: %v", err)
	}
	if got := spec.HostKeys(); !slices.Equal(got, keys) {
		t.Errorf("the key that is kept became %q", got)
	}
}
