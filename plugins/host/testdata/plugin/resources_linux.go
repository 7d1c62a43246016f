package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/locker-project/locker/plugins"
)

const much = 512 << 20 // more than the memory that an app gets

func touch(b []byte) {
	for i := 0; i < len(b); i += 4096 {
		b[i] = 1
	}
}

var resourceAttempts = map[string]attempt{
	"heap": func(context.Context, *Targets, plugins.AppEnv) error {
		var keep [][]byte
		for n := 0; n < much; n += 8 << 20 {
			b := make([]byte, 8<<20)
			touch(b)
			keep = append(keep, b)
		}
		runtime.KeepAlive(keep)
		return nil
	},
	"shared memory": func(context.Context, *Targets, plugins.AppEnv) error {
		b, err := unix.Mmap(-1, 0, much, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANON)
		if err != nil {
			return err
		}
		touch(b)
		return unix.Munmap(b)
	},
	"memory in a file": func(context.Context, *Targets, plugins.AppEnv) error {
		fd, err := unix.MemfdCreate("x", 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		data := make([]byte, 1<<20)
		for range much >> 20 {
			if _, err := unix.Write(fd, data); err != nil {
				return err
			}
		}
		return nil
	},
	"System V shared memory": func(context.Context, *Targets, plugins.AppEnv) error {
		id, err := unix.SysvShmGet(unix.IPC_PRIVATE, 1<<20, unix.IPC_CREAT|0o600)
		if err == nil {
			_, err = unix.SysvShmCtl(id, unix.IPC_RMID, nil)
		}
		return err
	},
	"memory for code": func(context.Context, *Targets, plugins.AppEnv) error {
		_, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANON)
		return err
	},
	"memory turned to code": func(context.Context, *Targets, plugins.AppEnv) error {
		b, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
		if err != nil {
			return err
		}
		return unix.Mprotect(b, unix.PROT_READ|unix.PROT_EXEC)
	},
	"locked memory": func(context.Context, *Targets, plugins.AppEnv) error {
		return unix.Mlock(make([]byte, 1<<20))
	},
	"threads": func(context.Context, *Targets, plugins.AppEnv) error {
		var running, finished sync.WaitGroup
		end := make(chan struct{})
		for range 800 {
			running.Add(1)
			finished.Add(1)
			go func() {
				defer finished.Done()
				runtime.LockOSThread()
				running.Done()
				<-end
			}()
		}
		running.Wait()
		close(end)
		finished.Wait()
		return nil
	},
	"open many files": func(context.Context, *Targets, plugins.AppEnv) error {
		for i := range 2000 {
			var p [2]int
			if err := unix.Pipe2(p[:], 0); err != nil {
				return fmt.Errorf("after %d: %w", 2*i, err)
			}
			defer unix.Close(p[0])
			defer unix.Close(p[1])
		}
		return nil
	},
	"raise a limit": func(context.Context, *Targets, plugins.AppEnv) error {
		var limit unix.Rlimit
		if err := unix.Prlimit(0, unix.RLIMIT_DATA, nil, &limit); err != nil {
			return err
		}
		if limit.Max == unix.RLIM_INFINITY {
			return nil // there is none
		}
		limit.Max *= 2
		limit.Cur = limit.Max
		return unix.Prlimit(0, unix.RLIMIT_DATA, &limit, nil)
	},
	"processor time": func(context.Context, *Targets, plugins.AppEnv) error {
		var used unix.Timespec
		for used.Sec < 2 {
			if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &used); err != nil {
				return err
			}
		}
		return nil
	},
	"flood standard error": func(ctx context.Context, _ *Targets, _ plugins.AppEnv) error {
		return flood(ctx, os.Stderr)
	},
	"flood standard output": func(ctx context.Context, _ *Targets, _ plugins.AppEnv) error {
		return flood(ctx, os.Stdout)
	},
	"flood by system calls": func(context.Context, *Targets, plugins.AppEnv) error {
		line := []byte(strings.Repeat("\x1b[31mx", 1000) + "\n")
		for end := time.Now().Add(time.Second); time.Now().Before(end); {
			if _, err := unix.Write(1, line); err != nil {
				return err
			}
		}
		return nil
	},
}

// flood writes for a second; it works if much goes through.
func flood(ctx context.Context, f *os.File) error {
	line, n := strings.Repeat("\x1b[31mx", 1000)+"\n", 0
	for end := time.Now().Add(time.Second); time.Now().Before(end) && ctx.Err() == nil; {
		done := make(chan int, 1)
		go func() { n, _ := f.WriteString(line); done <- n }()
		select {
		case written := <-done:
			n += written
		case <-time.After(time.Until(end)):
			return fmt.Errorf("held up after %d KiB", n>>10)
		}
	}
	if n < 16<<20 {
		return fmt.Errorf("%d KiB", n>>10)
	}
	return errors.Join(ctx.Err())
}
