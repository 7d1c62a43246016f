//go:build unix

package daemon

import (
	"os"
	"runtime"
	"syscall"
)

// harden keeps what this process knows from ending up in files that others can
// read: its files are its user's alone, and it leaves no core dump.
func harden() {
	syscall.Umask(0o077)
	// A limit that cannot be lowered is no reason to deny the owner the locker, and
	// doctor says so.
	_ = syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{})
	if runtime.GOOS == "linux" {
		// The limit does not bind dumps that go to a program; this leaves those empty.
		_ = os.WriteFile("/proc/self/coredump_filter", []byte("0"), 0)
	}
}

// coreDumps says whether this process would leave a core dump.
func coreDumps() bool {
	var limit syscall.Rlimit
	return syscall.Getrlimit(syscall.RLIMIT_CORE, &limit) != nil || limit.Cur != 0
}
