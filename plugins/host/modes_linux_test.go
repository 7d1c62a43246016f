package host

import (
	"bytes"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
)

// modes are the ways in which processes are started for real on this machine.
func modes() []mode {
	var modes []mode
	if lacks(allLayers) == "" {
		modes = append(modes, mode{"full", &allLayers})
	}
	if lacks(fallbackLayers) == "" {
		modes = append(modes, mode{"fallback", &fallbackLayers})
	}
	return modes
}

// lacks says why these layers cannot be tried on this machine. It does not ask
// the code under test, so that a layer that broke is no layer that is missing.
func lacks(on layers) string {
	if on.Namespaces && namespacesForbidden() {
		return "this machine forbids user namespaces"
	}
	if on.Landlock && !on.Namespaces && landlockVersion() == 0 {
		return "this machine has no Landlock"
	}
	return ""
}

var namespacesForbidden = sync.OnceValue(func() bool {
	restricted, _ := os.ReadFile("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
	if os.Geteuid() != 0 && bytes.HasPrefix(restricted, []byte("1")) {
		return true
	}
	cmd := exec.Command("/bin/true")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER}
	return cmd.Run() != nil
})

// needs skips a test that this machine cannot run.
func needs(t *testing.T, on layers) {
	t.Helper()
	if why := lacks(on); why != "" {
		t.Skip(why)
	}
}
