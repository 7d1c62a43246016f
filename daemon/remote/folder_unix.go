//go:build !windows

package remote

import (
	"errors"
	"os"
	"syscall"
)

// syncFolder makes the names in a folder durable. File systems that cannot do that
// say so, and then nothing more can be done.
func syncFolder(root *os.Root, name string) error {
	dir, err := root.Open(name)
	if err != nil {
		return err
	}
	err = dir.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP) || errors.Is(err, syscall.ENOSYS) || errors.Is(err, syscall.EBADF) {
		err = nil
	}
	return errors.Join(err, dir.Close())
}

// room is how many bytes are free for us, and used, where a folder lies.
func room(dir string) (free, used int64, err error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return 0, 0, err
	}
	block := uint64(s.Bsize)
	return int64(uint64(s.Bavail) * block), int64((uint64(s.Blocks) - uint64(s.Bfree)) * block), nil
}

// full says whether there is no room left.
func full(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG)
}

// gone says whether the disk went away.
func gone(err error) bool {
	return errors.Is(err, syscall.EIO) || errors.Is(err, syscall.ENXIO) || errors.Is(err, syscall.ENODEV) ||
		errors.Is(err, syscall.ESTALE) || errors.Is(err, syscall.ENOTCONN) || errors.Is(err, syscall.ENOENT) ||
		errors.Is(err, syscall.EHOSTDOWN) || errors.Is(err, syscall.ETIMEDOUT)
}

// sharing says whether another program has the file open and so is in the way.
func sharing(error) bool { return false }
