// Package host starts plugins: each in a process of its own, confined so that
// the pipe to the host is all that it has.
//
// Start with [Start], which returns a running [Process]; its App, Connector and
// Remote methods speak to what the process serves. The program that calls Start
// must call [Shim] first thing in its main function, because a confined process
// begins as a copy of that program. [Probe] tells how well this machine can
// confine, for people to read.
//
// The package promises that a process which cannot be confined is not started,
// that its own methods return when their context ends whatever the process does,
// and that nothing which the process sends can make the host use more than a
// bounded amount of memory. What a plugin may see is not decided here: the values
// that are handed to it decide that.
package host

import (
	"errors"
	"time"
)

// ErrUnconfined is the error of [Start] where this machine cannot confine the
// process, and the process is not allowed to run without.
var ErrUnconfined = errors.New("cannot be confined on this machine")

// ErrHash is the error of [Start] where the program is not the one that was
// installed.
var ErrHash = errors.New("the program is not the one that was installed")

// A Spec says what to start, and how closely to confine it.
type Spec struct {
	// Name is what the plugin is called in errors and in what it says.
	Name string
	// Path is the program's file: a static executable.
	Path string
	// Args are the program's arguments, without its name. They can be seen by
	// every process of the machine and so must hold no secret.
	Args []string
	// SHA256 is the expected hash of the program's file in hexadecimal. The very
	// file that was hashed is the one that runs. Empty is not checked.
	SHA256 string
	// Own says that the program is one of Locker's own. Only such programs, and
	// only with SHA256 given, run where the system has no way to confine them.
	Own bool
	// Network lets the process dial (as the remotes must) and read the system's
	// resolver configuration and certificates.
	Network bool
	// ReadOnly are absolute paths that a process with Network may read: files as
	// they are at the start, folders as they change.
	ReadOnly []string
	// Limits bound what the process uses; zero fields take the default.
	Limits Limits
	// Stderr takes what the process says, a line at a time: plain text, cut to a
	// sensible length, at a bounded rate. nil drops it. It is called from one
	// goroutine at a time, and must not call the Process.
	Stderr func(line string)

	only *layers // for tests: confined by these layers alone
}

// layers are what confines a process. A process of Start has all of them, or all
// but namespaces; tests try each alone.
type layers struct {
	Namespaces, Landlock, Seccomp, Limits bool
	// Environment is the closed environment, and that no open files are inherited.
	Environment bool
}

// Limits bound what a process uses. A process at its limit is refused more or
// killed; the host does not notice.
type Limits struct {
	// Memory is in bytes: the heap and all other private memory. Default 256 MiB,
	// with Network 512 MiB.
	Memory int64
	// Scratch is the size in bytes of the folder for temporary files (TMPDIR), which
	// lives in memory and ends with the process. Default 16 MiB, with Network 64 MiB.
	Scratch int64
	// Threads of the process. Default 32, with Network 128.
	Threads int
	// Files are open files, sockets and pipes. Default 64, with Network 512.
	Files int
	// CPU is the processor time after which the process is killed. Default ten
	// minutes, with Network none.
	CPU time.Duration
	// Wall is the time after its start at which the process is killed. Default none.
	Wall time.Duration
}

var (
	allLayers      = layers{true, true, true, true, true}
	fallbackLayers = layers{false, true, true, true, true}
)
