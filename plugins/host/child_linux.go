package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A stageError says at which layer the shim failed.
type stageError struct {
	stage string
	err   string
}

func (e *stageError) Error() string { return "cannot set up " + e.stage + ": " + e.err }

// A child is the process, from go-plugin's point of view a runner.
type child struct {
	spec    Spec
	program *program
	layers  layers
	words   *words
	end     context.CancelFunc // ends the life of what belongs to the process
	failure error              // why it could not be started
	why     string             // why a layer is missing
	probe   bool               // do all but run the program

	env []string
	dir string // made by go-plugin; holds the socket where there are no namespaces

	mu             sync.Mutex
	cmd            *exec.Cmd
	dead           bool
	stdout, stderr *os.File
	socket         *os.File // the process's socket, until it is connected to

	heard chan struct{} // closed when its standard error has ended
	done  chan struct{} // closed when the process has ended
	state *os.ProcessState
}

// attempt starts the process with all layers, or, where the machine does not
// give it namespaces, with the others.
func attempt(ctx context.Context, spec Spec, program *program) (*Process, error) {
	if spec.only != nil {
		return launch(ctx, spec, program, *spec.only)
	}
	p, err := launch(ctx, spec, program, allLayers)
	var stage *stageError
	if !errors.As(err, &stage) || stage.stage != stageNamespaces {
		return p, err
	}
	if landlockVersion() < 1 {
		return nil, fmt.Errorf("%w: %w, and the kernel has no Landlock either", ErrUnconfined, err)
	}
	p, err = launch(ctx, spec, program, fallbackLayers)
	if p != nil {
		p.child.why = stage.Error()
	}
	return p, err
}

// prepare takes what go-plugin wants the process to know.
func (c *child) prepare(env []string, dir string) {
	c.dir = dir
	for _, v := range env {
		name, _, _ := strings.Cut(v, "=")
		switch name {
		case "LOCKER_PLUGIN", "PLUGIN_PROTOCOL_VERSIONS", "PLUGIN_CLIENT_CERT", "PLUGIN_MULTIPLEX_GRPC":
			c.env = append(c.env, v)
		}
	}
}

// Start starts the shim and waits until it has become the program.
func (c *child) Start(ctx context.Context) error {
	err := c.start(ctx)
	if err != nil {
		c.failure = err
		c.kill()
	}
	return err
}

func (c *child) start(ctx context.Context) error {
	plan, err := c.plan()
	if err != nil {
		return err
	}
	pipes, err := makePipes()
	if err != nil {
		return err
	}
	defer pipes.closeTheirs()
	cmd, err := c.command(plan, pipes)
	if err != nil {
		pipes.closeOurs()
		return err
	}
	c.mu.Lock()
	if c.dead {
		c.mu.Unlock()
		pipes.closeOurs()
		return errors.New("ended before it began")
	}
	c.stdout, c.stderr = pipes.stdout, pipes.stderr
	c.heard = make(chan struct{})
	err = c.spawn(cmd)
	if err == nil {
		c.cmd = cmd
		go c.listen(pipes.stderr)
	}
	c.mu.Unlock()
	if err != nil {
		pipes.closeOurs()
		if noNamespaces(err) && c.layers.Namespaces {
			return &stageError{stageNamespaces, err.Error()}
		}
		return err
	}
	pipes.closeTheirs()
	return handOver(ctx, plan, pipes)
}

// handOver gives the shim its plan and waits until it has become the program.
func handOver(ctx context.Context, plan *plan, pipes *pipes) error {
	defer pipes.report.Close()
	deadline := time.Now().Add(startTimeout)
	if d, ok := ctx.Deadline(); ok {
		deadline = d
	}
	_ = pipes.report.SetReadDeadline(deadline)
	_ = pipes.plan.SetWriteDeadline(deadline)
	err := json.NewEncoder(pipes.plan).Encode(plan)
	if closed := pipes.plan.Close(); err == nil {
		err = closed
	}
	report, readErr := io.ReadAll(io.LimitReader(pipes.report, 4<<10))
	switch {
	case len(report) > 0:
		stage, text, _ := strings.Cut(string(report), "\x00")
		return &stageError{stage, text}
	case err != nil:
		return fmt.Errorf("the shim does not listen: %w", err)
	}
	return readErr
}

// pipes connect the host with the shim and the program.
type pipes struct {
	plan, report, stdout, stderr                     *os.File // ours
	theirPlan, theirReport, theirStdout, theirStderr *os.File
}

func makePipes() (*pipes, error) {
	p := &pipes{}
	for _, end := range []struct{ read, write **os.File }{
		{&p.theirPlan, &p.plan}, {&p.report, &p.theirReport},
		{&p.stdout, &p.theirStdout}, {&p.stderr, &p.theirStderr},
	} {
		r, w, err := os.Pipe()
		if err != nil {
			p.closeOurs()
			p.closeTheirs()
			return nil, err
		}
		*end.read, *end.write = r, w
	}
	return p, nil
}

func (p *pipes) closeOurs() {
	for _, f := range []*os.File{p.plan, p.report, p.stdout, p.stderr} {
		f.Close()
	}
}

func (p *pipes) closeTheirs() {
	for _, f := range []*os.File{p.theirPlan, p.theirReport, p.theirStdout, p.theirStderr} {
		f.Close()
	}
}

// Files that the shim begins with, after standard input, output and error.
const (
	fdPlan = 3 + iota
	fdReport
	fdProgram
)

// command is the shim as it is to be started.
func (c *child) command(plan *plan, pipes *pipes) (*exec.Cmd, error) {
	cmd := &exec.Cmd{
		Path:       "/proc/self/exe",
		Args:       []string{shimName, c.spec.Name},
		Env:        []string{},
		Stdout:     pipes.theirStdout,
		Stderr:     pipes.theirStderr,
		ExtraFiles: []*os.File{pipes.theirPlan, pipes.theirReport, c.program.File},
		SysProcAttr: &syscall.SysProcAttr{
			Setsid:    true,
			Pdeathsig: syscall.SIGKILL,
		},
	}
	attr := cmd.SysProcAttr
	uid, gid := os.Geteuid(), os.Getegid()
	switch {
	case c.layers.Namespaces:
		attr.Cloneflags = unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP
		if !c.spec.Network {
			attr.Cloneflags |= unix.CLONE_NEWNET
		}
		attr.AmbientCaps = []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_SETPCAP}
		if uid == 0 {
			if id := someUID(); mapped(id) {
				uid, gid = id, id
			}
			attr.GidMappingsEnableSetgroups = true
		}
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: innerID, HostID: uid, Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: innerID, HostID: gid, Size: 1}}
		attr.Credential = &syscall.Credential{Uid: innerID, Gid: innerID, NoSetGroups: !attr.GidMappingsEnableSetgroups}
	case uid == 0 && c.layers == fallbackLayers && len(c.spec.ReadOnly) == 0:
		// Files that the owner named may be root's alone; then the process stays root,
		// without root's capabilities.
		if id := someUID(); mapped(id) {
			attr.Credential = &syscall.Credential{Uid: uint32(id), Gid: uint32(id)}
			attr.AmbientCaps = []uintptr{unix.CAP_SETPCAP} // to drop the others for good
			if err := os.Chown(c.dir, id, id); err != nil {
				return nil, err
			}
			if err := chownScratch(plan, id); err != nil {
				return nil, err
			}
		}
	}
	return cmd, nil
}

// innerID is the process's user and group in its own namespace.
const innerID = 1000

// mapped reports whether a user id and the same group id exist for this process.
func mapped(id int) bool {
	for _, name := range []string{"/proc/self/uid_map", "/proc/self/gid_map"} {
		text, err := os.ReadFile(name)
		if err != nil {
			return false
		}
		found := false
		for line := range strings.Lines(string(text)) {
			var inner, outer, size int64
			if _, err := fmt.Sscan(line, &inner, &outer, &size); err == nil && int64(id) >= inner && int64(id) < inner+size {
				found = true
			}
		}
		if !found {
			return false
		}
	}
	return true
}

// spawn starts cmd from a thread that lives as long as the process: the kernel
// kills the process when the thread that started it ends.
func (c *child) spawn(cmd *exec.Cmd) error {
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlock: the thread ends with this function
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		_ = cmd.Wait()
		c.state = cmd.ProcessState
		select { // its last words say why
		case <-c.heard:
		case <-time.After(300 * time.Millisecond):
		}
		// Nobody can be left who holds the other ends, but nothing may wait for it.
		c.stdout.Close()
		c.stderr.Close()
		c.end()
		close(c.done)
	}()
	return <-started
}

// noNamespaces recognises the errors of a system that gives no namespaces.
func noNamespaces(err error) bool {
	for _, e := range []error{unix.EPERM, unix.EACCES, unix.ENOSPC, unix.EUSERS, unix.EINVAL, unix.ENOSYS} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// listen passes on what the process writes on its standard error.
func (c *child) listen(stderr io.Reader) {
	defer close(c.heard)
	m := &mouth{words: c.words}
	_, _ = io.CopyBuffer(struct{ io.Writer }{m}, struct{ io.Reader }{stderr}, make([]byte, 4<<10))
	m.Flush()
}

// Wait waits until the process has ended.
func (c *child) Wait(ctx context.Context) error {
	select {
	case <-c.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// kill ends the process, or keeps it from starting.
func (c *child) kill() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dead = true
	if c.cmd == nil {
		c.end()
		return
	}
	_ = c.cmd.Process.Kill()
}

// clean removes what the process leaves.
func (c *child) clean() {
	c.connected()
	if c.dir != "" {
		_ = os.Chmod(c.dir, 0o700)
		_ = os.RemoveAll(c.dir)
	}
}

// PluginToHost turns the address that the process printed into one that the host
// may connect to: a socket in the process's own folder and nothing else.
func (c *child) PluginToHost(network, address string) (string, string, error) {
	dir, err := c.socketDir()
	if err != nil {
		return "", "", err
	}
	defer unix.Close(dir)
	if network != "unix" || filepath.Dir(address) != c.socketPath() {
		return "", "", fmt.Errorf("it wants to be reached at %q, which is not a socket in its own folder", network+" "+address)
	}
	fd, err := unix.Openat2(dir, filepath.Base(address), &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC | unix.O_NOFOLLOW,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV,
	})
	if err != nil {
		return "", "", fmt.Errorf("its socket: %w", err)
	}
	socket := os.NewFile(uintptr(fd), "socket")
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil || stat.Mode&unix.S_IFMT != unix.S_IFSOCK {
		socket.Close()
		return "", "", errors.New("it wants to be reached at what is no socket")
	}
	c.mu.Lock()
	c.socket = socket
	c.mu.Unlock()
	return "unix", "/proc/self/fd/" + strconv.Itoa(fd), nil
}

// socketPath is the folder of the socket as the process sees it.
func (c *child) socketPath() string {
	if c.layers.Namespaces {
		return innerRun
	}
	return c.dir
}

// socketDir opens the folder of the socket.
func (c *child) socketDir() (int, error) {
	path := c.dir
	if c.layers.Namespaces {
		path = "/proc/" + c.ID() + "/root" + innerRun
	}
	return unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
}

// connected is called when the host has its connection.
func (c *child) connected() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.socket != nil {
		c.socket.Close()
		c.socket = nil
	}
	if !c.layers.Namespaces && c.dir != "" {
		_ = os.Chmod(c.dir, 0o500) // the folder is on the host's disk: nothing more goes into it
	}
}

// mode tells how the process is confined.
func (c *child) mode() Mode {
	m := Mode{Namespaces: c.layers.Namespaces, Seccomp: c.layers.Seccomp, Limits: c.layers.Limits, Why: c.why}
	if c.layers.Landlock {
		m.Landlock = landlockVersion()
	}
	if m.Landlock == 0 && m.Why == "" {
		m.Why = "the kernel has no Landlock"
	}
	return m
}
