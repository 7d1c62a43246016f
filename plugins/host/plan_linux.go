package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A plan tells the shim what to make of itself. It travels over a pipe.
type plan struct {
	Layers  layers
	Network bool
	Probe   bool // set up everything, and end before running anything
	Args    []string
	Env     []string

	// Run is the folder in which the process makes its socket, Scratch one in
	// which it may write (empty: none), both as the process sees them.
	Run, Scratch string
	ScratchSize  int64
	// Files are copied into the process's own root, Folders bound into it. Without
	// namespaces Readable is what it may read where it lies.
	Files    []planFile
	Folders  []string
	Readable []string

	Limits []planLimit
}

type planFile struct {
	Path string
	Data []byte
}

type planLimit struct {
	Resource int
	Value    uint64
}

const (
	// Folders of the process in its own root: where it makes its socket, and where it
	// may write. Their names are none that an owner would name in ReadOnly.
	innerRun     = "/.plugin/run"
	innerScratch = "/.plugin/tmp"
	// addressSpace is what a Go program needs beside its memory: it reserves about
	// 1.2 GiB that it does not use.
	addressSpace = 1536 << 20
	// maxCopied bounds the files that are copied for a process with Network, in bytes.
	maxCopied = 8 << 20
)

// plan is what the shim is to do for this process.
func (c *child) plan() (*plan, error) {
	s := c.spec
	p := &plan{Layers: c.layers, Network: s.Network, Probe: c.probe, Run: innerRun, Scratch: innerScratch, ScratchSize: s.Limits.Scratch}
	p.Args = append([]string{filepath.Base(s.Path)}, s.Args...)
	if !c.layers.Namespaces {
		p.Run, p.Scratch = c.dir, ""
		if s.Network && c.dir != "" {
			p.Scratch = filepath.Join(c.dir, "tmp")
			if err := os.Mkdir(p.Scratch, 0o700); err != nil {
				return nil, err
			}
		}
	}
	if s.Network {
		if err := p.readable(s.ReadOnly); err != nil {
			return nil, err
		}
	}
	p.environment(c)
	p.limits(s.Limits, c.layers)
	return p, nil
}

// environment is all that the process is told.
func (p *plan) environment(c *child) {
	if !c.layers.Environment {
		p.Env = os.Environ()
	}
	p.Env = append(append(p.Env, c.env...),
		"PLUGIN_UNIX_SOCKET_DIR="+p.Run,
		"GOMAXPROCS="+strconv.Itoa(min(runtime.GOMAXPROCS(0), 4)),
		"GOMEMLIMIT="+strconv.FormatInt(c.spec.Limits.Memory*3/4, 10),
		"GOTRACEBACK=single")
	if p.Scratch != "" {
		p.Env = append(p.Env, "TMPDIR="+p.Scratch, "HOME="+p.Scratch)
	}
	if !c.spec.Network {
		return
	}
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"} {
		if value, ok := os.LookupEnv(name); ok {
			p.Env = append(p.Env, name+"="+value)
		}
	}
}

func (p *plan) limits(l Limits, on layers) {
	file := uint64(0) // nothing is written to the host's disk
	if p.Scratch != "" {
		file = uint64(l.Scratch)
	}
	p.Limits = []planLimit{
		{unix.RLIMIT_DATA, uint64(l.Memory)},
		{unix.RLIMIT_AS, uint64(l.Memory) + addressSpace},
		{unix.RLIMIT_NOFILE, uint64(l.Files)},
		{unix.RLIMIT_NPROC, uint64(l.Threads + othersThreads(on))},
		{unix.RLIMIT_FSIZE, file},
		{unix.RLIMIT_CORE, 0},
		{unix.RLIMIT_MEMLOCK, 0},
		{unix.RLIMIT_MSGQUEUE, 0},
	}
	if l.CPU > 0 {
		p.Limits = append(p.Limits, planLimit{unix.RLIMIT_CPU, uint64(max(1, l.CPU.Seconds()))})
	}
}

// othersThreads counts the threads that share the limit with the process: all of
// the same user, unless it has a namespace or a user of its own. As they come and
// go there is some room for more.
func othersThreads(on layers) int {
	uid := os.Geteuid()
	if on.Namespaces || uid == 0 {
		return 0
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 4096
	}
	threads := 256
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err != nil {
			continue
		}
		var stat unix.Stat_t
		if unix.Stat("/proc/"+e.Name(), &stat) != nil || int(stat.Uid) != uid {
			continue
		}
		if stat, err := os.ReadFile("/proc/" + e.Name() + "/stat"); err == nil {
			// The 18th field after the name, which may hold blanks, in parentheses.
			fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
			if len(fields) > 17 {
				n, _ := strconv.Atoi(fields[17])
				threads += n
			}
		}
	}
	return threads
}

// systemFiles are what a program needs to find and to trust hosts.
func systemFiles() []string {
	files := []string{"/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/services", "/etc/localtime"}
	certificates := []string{
		"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem",
		"/etc/pki/tls/cacert.pem", "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "/etc/ssl/cert.pem",
	}
	for _, name := range certificates {
		if _, err := os.Stat(name); err == nil {
			return append(files, name)
		}
	}
	return files
}

// readable adds what a process with Network may read. System files that are not
// there are left out; a file that the owner named must be there.
func (p *plan) readable(named []string) error {
	system := systemFiles()
	if name := os.Getenv("SSL_CERT_FILE"); filepath.IsAbs(name) {
		system = append(system, name)
		p.Env = append(p.Env, "SSL_CERT_FILE="+name)
	}
	for _, path := range system {
		if err := p.addReadable(path); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
			return err
		}
	}
	for _, path := range named {
		if !filepath.IsAbs(path) || path == "/" {
			return fmt.Errorf("%q cannot be made readable: an absolute path is needed", path)
		}
		if err := p.addReadable(filepath.Clean(path)); err != nil {
			return err
		}
	}
	return nil
}

func (p *plan) addReadable(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	switch {
	case !p.Layers.Namespaces:
		p.Readable = append(p.Readable, path)
	case info.IsDir():
		p.Folders = append(p.Folders, path)
	case info.Mode().IsRegular():
		total := info.Size()
		for _, f := range p.Files {
			total += int64(len(f.Data))
		}
		if total > maxCopied {
			return fmt.Errorf("%s is too large to be handed to a plugin", path)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		p.Files = append(p.Files, planFile{path, data})
	default:
		return fmt.Errorf("%s is neither a file nor a folder", path)
	}
	return nil
}
