package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/locker-project/locker/plugins"
)

var fileAttempts = map[string]attempt{
	"read a file": func(_ context.Context, t *Targets, _ plugins.AppEnv) error {
		data, err := os.ReadFile(t.Secret)
		if err == nil && len(data) == 0 {
			err = errEmpty
		}
		return err
	},
	"read a named file": func(_ context.Context, t *Targets, _ plugins.AppEnv) error {
		_, err := os.ReadFile(t.Named)
		return err
	},
	"write a named file": func(_ context.Context, t *Targets, _ plugins.AppEnv) error {
		f, err := os.OpenFile(t.Named, os.O_RDWR, 0)
		if err == nil {
			f.Close()
		}
		return err
	},
	"write a temporary file": func(context.Context, *Targets, plugins.AppEnv) error {
		return os.WriteFile(filepath.Join(os.TempDir(), "temporary"), []byte("x"), 0o600)
	},
	"read /etc/passwd": func(context.Context, *Targets, plugins.AppEnv) error {
		_, err := os.ReadFile("/etc/passwd")
		return err
	},
	"list the root": func(context.Context, *Targets, plugins.AppEnv) error {
		entries, err := os.ReadDir("/")
		if err == nil && !slices.ContainsFunc(entries, func(e os.DirEntry) bool { return e.Name() == "usr" }) {
			err = errors.New("it is not the host's")
		}
		return err
	},
	"stat a file": func(_ context.Context, t *Targets, _ plugins.AppEnv) error {
		_, err := os.Stat(t.Secret)
		return err
	},
	"learn the machine's name": func(_ context.Context, t *Targets, _ plugins.AppEnv) error {
		var name unix.Utsname
		if err := unix.Uname(&name); err != nil {
			return err
		}
		if got := unix.ByteSliceToString(name.Nodename[:]); got != t.Machine {
			return fmt.Errorf("it is called %q here", got)
		}
		return nil
	},
	"chmod a file": func(_ context.Context, t *Targets, _ plugins.AppEnv) error {
		return os.Chmod(t.Secret, 0o644)
	},
	"set a file's time": func(_ context.Context, t *Targets, _ plugins.AppEnv) error {
		return unix.UtimesNanoAt(unix.AT_FDCWD, t.Secret, []unix.Timespec{{Sec: 1}, {Sec: 1}}, 0)
	},
	"write a file": func(_ context.Context, t *Targets, _ plugins.AppEnv) error {
		return os.WriteFile(filepath.Join(t.Dir, "left behind"), []byte("x"), 0o644)
	},
	"overwrite a program": func(_ context.Context, t *Targets, _ plugins.AppEnv) error {
		f, err := os.OpenFile(t.Other, os.O_RDWR, 0)
		if err == nil {
			f.Close()
		}
		return err
	},
	"link to a file": func(_ context.Context, t *Targets, _ plugins.AppEnv) error {
		for _, dir := range writable(t) {
			if os.Symlink(t.Secret, filepath.Join(dir, "link")) == nil || os.Link(t.Secret, filepath.Join(dir, "hard")) == nil {
				return nil
			}
		}
		return errors.New("nowhere")
	},
	"make a device": func(_ context.Context, t *Targets, _ plugins.AppEnv) error {
		err := errEmpty
		for _, dir := range writable(t) {
			if err = unix.Mknod(filepath.Join(dir, "fifo"), unix.S_IFIFO|0o600, 0); err == nil {
				return nil
			}
		}
		return err
	},
	"open by handle": func(_ context.Context, t *Targets, _ plugins.AppEnv) error {
		_, _, err := unix.NameToHandleAt(unix.AT_FDCWD, t.Secret, 0)
		return err
	},
	"environment": func(_ context.Context, t *Targets, _ plugins.AppEnv) error {
		if os.Getenv(t.Env) == "" {
			return errEmpty
		}
		return nil
	},
	"open files": func(_ context.Context, t *Targets, _ plugins.AppEnv) error {
		_, err := unix.Pread(t.FD, make([]byte, 4), 0)
		return err
	},
	"standard input": func(context.Context, *Targets, plugins.AppEnv) error {
		n, err := os.Stdin.Read(make([]byte, 1))
		if err == nil && n == 0 {
			err = errEmpty
		}
		return err
	},
	"fill the disk": func(_ context.Context, t *Targets, _ plugins.AppEnv) error {
		total, data := 0, make([]byte, 1<<20)
		for _, dir := range writable(t) {
			for i := 0; i < 64 && total < 48<<20; i++ {
				name := filepath.Join(dir, fmt.Sprintf("big %d", i))
				f, err := os.Create(name)
				if err != nil {
					break
				}
				n, err := f.Write(data)
				f.Close()
				defer os.Remove(name)
				if total += n; err != nil {
					break
				}
			}
		}
		if total < 48<<20 {
			return fmt.Errorf("%d MiB", total>>20)
		}
		return nil
	},
	"flood with files": func(_ context.Context, t *Targets, _ plugins.AppEnv) error {
		n := 0
		for _, dir := range writable(t) {
			for i := 0; n < 2000; i++ {
				name := filepath.Join(dir, fmt.Sprint("file ", i))
				f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
				if err != nil {
					break
				}
				f.Close()
				n++
				defer os.Remove(name)
			}
		}
		if n < 2000 {
			return fmt.Errorf("%d files", n)
		}
		return nil
	},
}
