package host

import (
	"context"
	"errors"
	"io"
	"strconv"
	"strings"
)

// This file has what a child is on every system: the parts of go-plugin's runner
// that do not depend on how the process is confined.

// Stdout has the one line in which the process says where it listens. What comes
// after is not read.
func (c *child) Stdout() io.ReadCloser {
	return struct {
		io.Reader
		io.Closer
	}{&firstLine{from: c.stdout}, c.stdout}
}

// Stderr is empty for go-plugin: the host passes on itself what the process says.
func (c *child) Stderr() io.ReadCloser { return io.NopCloser(strings.NewReader("")) }

// Name is the plugin's name.
func (c *child) Name() string { return c.spec.Name }

// ID is the process's number; empty before it has started.
func (c *child) ID() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cmd == nil {
		return ""
	}
	return strconv.Itoa(c.cmd.Process.Pid)
}

// Diagnose says what is known of a process that did not answer.
func (c *child) Diagnose(context.Context) string { return "" }

// Kill ends the process.
func (c *child) Kill(context.Context) error {
	c.kill()
	return nil
}

// started reports whether there is, or was, a process.
func (c *child) started() bool { return c.ID() != "" }

// ended says how the process ended. It is called after done is closed.
func (c *child) ended() string { return c.state.String() }

// HostToPlugin is not used: the host does not listen.
func (c *child) HostToPlugin(string, string) (string, string, error) {
	return "", "", errors.New("a plugin does not dial")
}
