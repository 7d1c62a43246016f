package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/locker-project/locker/plugins"
)

// call tries one system call. What it returns is closed if it is a file.
func call(number uintptr, file bool, args ...uintptr) attempt {
	return func(context.Context, *Targets, plugins.AppEnv) error {
		var a [6]uintptr
		copy(a[:], args)
		r, _, errno := unix.Syscall6(number, a[0], a[1], a[2], a[3], a[4], a[5])
		if errno == 0 && file {
			unix.Close(int(r))
		}
		return asError(errno)
	}
}

var kernelAttempts = map[string]attempt{
	"mount": func(_ context.Context, t *Targets, _ plugins.AppEnv) error {
		at := filepath.Join(t.Dir, "mnt")
		if err := unix.Mount("tmpfs", at, "tmpfs", 0, "size=64k"); err != nil {
			return err
		}
		return unix.Unmount(at, 0)
	},
	"chroot": func(_ context.Context, t *Targets, _ plugins.AppEnv) error { return unix.Chroot("/") },
	"unshare": func(context.Context, *Targets, plugins.AppEnv) error {
		// A process with several threads may not leave its user namespace; a new
		// process in one of its own shows the same.
		pid, _, errno := unix.RawSyscall(unix.SYS_CLONE, unix.CLONE_NEWUSER|uintptr(unix.SIGCHLD), 0, 0)
		if errno == 0 && pid == 0 {
			for {
				unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
			}
		}
		return asError(errno)
	},
	"bpf": func(context.Context, *Targets, plugins.AppEnv) error {
		attr := struct{ kind, key, value, entries uint32 }{2 /* array */, 4, 8, 1}
		fd, _, errno := unix.Syscall(unix.SYS_BPF, 0 /* create a map */, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
		if errno == 0 {
			unix.Close(int(fd))
		}
		return asError(errno)
	},
	"perf": func(context.Context, *Targets, plugins.AppEnv) error {
		attr := &unix.PerfEventAttr{Type: unix.PERF_TYPE_SOFTWARE, Config: unix.PERF_COUNT_SW_TASK_CLOCK, Bits: unix.PerfBitExcludeKernel | unix.PerfBitExcludeHv}
		attr.Size = uint32(unsafe.Sizeof(*attr))
		fd, err := unix.PerfEventOpen(attr, 0, -1, -1, 0)
		if err == nil {
			unix.Close(fd)
		}
		return err
	},
	"add a key": func(context.Context, *Targets, plugins.AppEnv) error {
		_, err := unix.AddKey("user", "locker-hostile", []byte("x"), unix.KEY_SPEC_PROCESS_KEYRING)
		return err
	},
	"read the keyring": func(context.Context, *Targets, plugins.AppEnv) error {
		_, err := unix.KeyctlGetKeyringID(unix.KEY_SPEC_USER_KEYRING, true)
		return err
	},
	"io_uring": func(context.Context, *Targets, plugins.AppEnv) error {
		var params [120]byte
		fd, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, 4, uintptr(unsafe.Pointer(&params)), 0)
		if errno == 0 {
			unix.Close(int(fd))
		}
		return asError(errno)
	},
	"userfaultfd":      call(unix.SYS_USERFAULTFD, true, unix.O_CLOEXEC|1),
	"inotify":          call(unix.SYS_INOTIFY_INIT1, true, 0),
	"fanotify":         call(unix.SYS_FANOTIFY_INIT, true, 0x200 /* FAN_REPORT_FID */, 0),
	"seccomp listener": call(unix.SYS_SECCOMP, false, unix.SECCOMP_GET_ACTION_AVAIL, 0, uintptr(unsafe.Pointer(&someAction))),
	"personality":      call(unix.SYS_PERSONALITY, false, 0xffffffff),
	"int 0x80: socket": func(context.Context, *Targets, plugins.AppEnv) error {
		return call32(359, unix.AF_INET, unix.SOCK_STREAM, 0)
	},
	"int 0x80: keyring": func(context.Context, *Targets, plugins.AppEnv) error {
		return call32(288, 0 /* KEYCTL_GET_KEYRING_ID */, -4&0xffffffff, 1)
	},
	"int 0x80: open": func(_ context.Context, t *Targets, _ plugins.AppEnv) error {
		n := copy(lowPath[:], t.Secret)
		lowPath[n] = 0
		return call32(5, uintptr(unsafe.Pointer(&lowPath)), 0, 0)
	},
	"x32: getpid": func(context.Context, *Targets, plugins.AppEnv) error {
		if runtime.GOARCH != "amd64" {
			return errors.New("another machine")
		}
		_, _, errno := unix.RawSyscall(0x40000000+39, 0, 0, 0)
		return asError(errno)
	},
}

var (
	someAction = uint32(unix.SECCOMP_RET_USER_NOTIF)
	lowPath    [4096]byte // lies below 4 GiB, where a 32-bit call can find it
)

// call32 makes a system call by the convention of 32-bit programs.
func call32(number, a, b, c uintptr) error {
	if runtime.GOARCH != "amd64" {
		return errors.New("another machine")
	}
	r := int32(int80(number, a, b, c))
	if r < 0 && r > -4096 {
		return unix.Errno(-r)
	}
	if r > 2 {
		os.NewFile(uintptr(r), "").Close()
	}
	return nil
}
