package host

import (
	"context"
	"errors"

	"github.com/locker-project/locker/plugins"
)

var errUnfinished = errors.New("host: not written yet")

// A Process is a running plugin. Its methods may be called from several
// goroutines at once.
type Process struct{}

// Start starts a plugin and waits until it answers. The process lives until Kill,
// until a limit, or until the host ends, however that ends; ctx bounds the start only.
func Start(ctx context.Context, spec Spec) (*Process, error) { return nil, errUnfinished }

// App runs the app that the process serves, with env as all that it has, and
// returns what the app's Run returns. When ctx ends nothing more goes to the app,
// and its process is killed.
func (p *Process) App(ctx context.Context, env plugins.AppEnv) error { return errUnfinished }

// Connector is the connector that the process serves. The files and sinks given
// to its methods are not used after they return.
func (p *Process) Connector() plugins.Connector { return nil }

// Remote is the remote that the process serves.
func (p *Process) Remote() plugins.Remote { return nil }

// Mode tells how the process is confined.
func (p *Process) Mode() Mode { return Mode{} }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return nil }

// Kill ends the process at once, and returns when it has ended. It may be called
// more than once.
func (p *Process) Kill() {}

// Shim must be the first call of main in a program that calls [Start] or [Probe].
// It returns at once, except in a process that is to become a confined plugin:
// there it does not return.
func Shim() {}

// Probe finds out, by trying, how processes are confined on this machine.
func Probe(ctx context.Context) Mode { return Mode{} }

// A Mode says what confines a process.
type Mode struct {
	Namespaces bool   // its own users, files, processes and network
	Landlock   int    // version of the kernel's Landlock interface; 0 is none
	Seccomp    bool   // only the system calls that a plugin needs
	Limits     bool   // resource limits
	Why        string // what is missing, and why; empty where all is well
}

// String is one line, beginning with "full", "fallback" or "none".
func (m Mode) String() string { return "none" }
