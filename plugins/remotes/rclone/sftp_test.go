package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/locker-project/locker/daemon/remote/fault"
	"github.com/locker-project/locker/daemon/remote/remotetest"
	"github.com/locker-project/locker/daemon/replica"
	"github.com/locker-project/locker/daemon/replica/replicatest"
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
