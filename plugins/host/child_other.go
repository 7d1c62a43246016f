//go:build !linux

package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
)

const whyNone = runtime.GOOS + " gives Locker no way to confine a native plugin: only Locker's own run, with a closed environment"

// Shim must be the first call of main in a program that calls [Start] or [Probe].
// It returns at once, except in a process that is to become a confined plugin:
// there it does not return.
func Shim() {}

// Probe finds out how processes are confined on this machine.
func Probe(context.Context) Mode { return Mode{Why: whyNone} }

// A child is the process, from go-plugin's point of view a runner. Nothing
// confines it but its environment.
type child struct {
	spec    Spec
	program *program
	layers  layers
	words   *words
	end     context.CancelFunc
	failure error

	env []string
	dir string

	mu     sync.Mutex
	cmd    *exec.Cmd
	dead   bool
	stdout io.ReadCloser

	done  chan struct{}
	state *os.ProcessState
}

// attempt starts one of Locker's own programs, and refuses others.
func attempt(ctx context.Context, spec Spec, program *program) (*Process, error) {
	if !spec.Own || !program.hashed {
		return nil, fmt.Errorf("%w: %s", ErrUnconfined, whyNone)
	}
	return launch(ctx, spec, program, layers{Environment: true})
}

func (c *child) prepare(env []string, dir string) {
	c.dir = dir
	for _, v := range env {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "PLUGIN_") || name == "LOCKER_PLUGIN" {
			c.env = append(c.env, v)
		}
	}
	for _, name := range []string{"SystemRoot", "TEMP", "TMP", "TMPDIR"} {
		if value, ok := os.LookupEnv(name); ok {
			c.env = append(c.env, name+"="+value)
		}
	}
	if c.spec.Network {
		for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE"} {
			if value, ok := os.LookupEnv(name); ok {
				c.env = append(c.env, name+"="+value)
			}
		}
	}
	c.env = append(c.env, "GOMEMLIMIT="+strconv.FormatInt(c.spec.Limits.Memory*3/4, 10), "GOTRACEBACK=single")
}

// Start starts the program.
func (c *child) Start(context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead {
		return errors.New("ended before it began")
	}
	path, err := filepath.Abs(c.spec.Path)
	if err != nil {
		return err
	}
	cmd := &exec.Cmd{Path: path, Args: append([]string{path}, c.spec.Args...), Env: c.env, Dir: c.dir}
	if c.stdout, err = cmd.StdoutPipe(); err != nil {
		return err
	}
	cmd.Stderr = &mouth{words: c.words}
	if err := cmd.Start(); err != nil {
		c.failure = err
		return err
	}
	c.cmd = cmd
	return nil
}

// Wait waits until the process has ended. go-plugin calls it once.
func (c *child) Wait(context.Context) error {
	err := c.cmd.Wait()
	c.state = c.cmd.ProcessState
	c.end()
	close(c.done)
	return err
}

func (c *child) kill() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dead = true
	c.end()
	if c.cmd != nil {
		_ = c.cmd.Process.Kill()
	}
}

func (c *child) clean() {
	if c.dir != "" {
		_ = os.RemoveAll(c.dir)
	}
}

// PluginToHost lets the host connect to a socket in the folder that was made for
// the process or, on Windows, to a port of this machine.
func (c *child) PluginToHost(network, address string) (string, string, error) {
	switch {
	case network == "unix" && filepath.Dir(address) == filepath.Clean(c.dir):
		return network, address, nil
	case network == "tcp" && runtime.GOOS == "windows":
		if host, _, err := net.SplitHostPort(address); err == nil && host == "127.0.0.1" {
			return network, address, nil
		}
	}
	return "", "", fmt.Errorf("it wants to be reached at %q, which is not its own", network+" "+address)
}

func (c *child) connected() {}

func (c *child) mode() Mode { return Mode{Why: whyNone} }
