package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/locker-project/locker/plugins"
)

// child makes a process that sleeps for a little and ends.
func child() error {
	pid, _, errno := syscall.RawSyscall(syscall.SYS_CLONE, uintptr(syscall.SIGCHLD), 0, 0)
	if errno != 0 {
		return errno
	}
	if pid == 0 {
		wait := unix.Timespec{Nsec: 2e8}
		syscall.RawSyscall(syscall.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&wait)), 0, 0)
		for {
			syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 0, 0, 0)
		}
	}
	return nil
}

var processAttempts = map[string]attempt{
	"see processes": func(_ context.Context, t *Targets, _ plugins.AppEnv) error {
		entries, err := os.ReadDir("/proc")
		if err != nil {
			return err
		}
		for _, e := range entries {
			if pid, err := strconv.Atoi(e.Name()); err == nil && pid != os.Getpid() {
				return nil
			}
		}
		return errEmpty
	},
	"read the host's environment": func(_ context.Context, t *Targets, _ plugins.AppEnv) error {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", t.PID))
		if err == nil && len(data) == 0 {
			err = errEmpty
		}
		return err
	},
	"signal the host": func(_ context.Context, t *Targets, _ plugins.AppEnv) error {
		return unix.Kill(t.PID, unix.SIGCONT)
	},
	"signal by thread": func(_ context.Context, t *Targets, _ plugins.AppEnv) error {
		return unix.Tgkill(t.PID, t.PID, unix.SIGCONT)
	},
	"signal by file": func(_ context.Context, t *Targets, _ plugins.AppEnv) error {
		var p [2]int
		if err := unix.Pipe2(p[:], 0); err != nil {
			return err
		}
		defer unix.Close(p[0])
		defer unix.Close(p[1])
		_, err := unix.FcntlInt(uintptr(p[0]), unix.F_SETOWN, t.PID)
		return err
	},
	"trace the host": func(_ context.Context, t *Targets, _ plugins.AppEnv) error {
		_, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_SEIZE, uintptr(t.PID), 0, 0, 0, 0)
		return asError(errno)
	},
	"read the host's memory": func(_ context.Context, t *Targets, _ plugins.AppEnv) error {
		var got [8]byte
		local := unix.Iovec{Base: &got[0], Len: 8}
		n, err := unix.ProcessVMReadv(t.PID, []unix.Iovec{local}, []unix.RemoteIovec{{Base: uintptr(t.Address), Len: 8}}, 0)
		if err == nil && (n != 8 || string(got[:]) != "8 bytes!") {
			err = fmt.Errorf("read %q", got[:n])
		}
		return err
	},
	"take the host's files": func(_ context.Context, t *Targets, _ plugins.AppEnv) error {
		fd, err := unix.PidfdOpen(t.PID, 0)
		if err == nil {
			_, err = unix.PidfdGetfd(fd, 0, 0)
		}
		return err
	},
	"change the host's limits": func(_ context.Context, t *Targets, _ plugins.AppEnv) error {
		var limit unix.Rlimit
		return unix.Prlimit(t.PID, unix.RLIMIT_NOFILE, nil, &limit)
	},
	"change the host's priority": func(_ context.Context, t *Targets, _ plugins.AppEnv) error {
		return unix.Setpriority(unix.PRIO_PROCESS, t.PID, 0)
	},
	"make a process": func(context.Context, *Targets, plugins.AppEnv) error { return child() },
	"run a program": func(context.Context, *Targets, plugins.AppEnv) error {
		return exec.Command("/bin/true").Run()
	},
	"become a shell": func(context.Context, *Targets, plugins.AppEnv) error {
		return syscall.Exec("/bin/sh", []string{"sh", "-c", "exit 42"}, nil)
	},
	"become itself again": func(_ context.Context, t *Targets, _ plugins.AppEnv) error {
		return syscall.Exec(t.Program, []string{"plugin", "raw-exit42"}, nil)
	},
	"become a program in memory": func(_ context.Context, t *Targets, _ plugins.AppEnv) error {
		fd, err := unix.MemfdCreate("x", 0)
		if err != nil {
			return err
		}
		if _, err := unix.Write(fd, []byte("#!/bin/sh\nexit 42\n")); err != nil {
			return err
		}
		path, args := []byte{0}, []*byte{&[]byte("x\x00")[0], nil}
		_, _, errno := unix.Syscall6(unix.SYS_EXECVEAT, uintptr(fd), uintptr(unsafe.Pointer(&path[0])),
			uintptr(unsafe.Pointer(&args[0])), uintptr(unsafe.Pointer(&args[1])), unix.AT_EMPTY_PATH, 0)
		return asError(errno)
	},
	"become root": func(context.Context, *Targets, plugins.AppEnv) error {
		if os.Getuid() == 0 {
			return nil
		}
		return unix.Setuid(0)
	},
	"flood with processes": func(context.Context, *Targets, plugins.AppEnv) error {
		for i := range 800 {
			if err := child(); err != nil {
				return fmt.Errorf("after %d: %w", i, err)
			}
		}
		return nil
	},
	"stop itself": func(context.Context, *Targets, plugins.AppEnv) error {
		if err := unix.Tgkill(os.Getpid(), unix.Gettid(), unix.SIGSTOP); err != nil {
			return err
		}
		return errors.New("went on")
	},
}

func asError(errno syscall.Errno) error {
	if errno != 0 {
		return errno
	}
	return nil
}
