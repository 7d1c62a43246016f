//go:build unix

package store

import (
	"syscall"
	"time"
)

// processTime is how much of the processors this process has used: on a machine that
// does other work, ratios of it say more than ratios of time.
func processTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
