package daemon

import (
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"sync"

	"github.com/locker-project/locker/plugins/host"
)

// programHashes remembers what the programs that come with Locker were when this
// process first used them: one that is exchanged afterwards is not started.
type programHashes struct {
	mu     sync.Mutex
	byPath map[string]string
}

// get returns the SHA-256 of a program, in hex, as it was when first asked for.
func (h *programHashes) get(path string) (string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if sum, ok := h.byPath[path]; ok {
		return sum, nil
	}
	sum, err := hashFile(path)
	if err != nil {
		return "", fmt.Errorf("cannot read %s: %w", path, err)
	}
	if h.byPath == nil {
		h.byPath = map[string]string{}
	}
	h.byPath[path] = sum
	return sum, nil
}

func hashFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// programSpec tells how to start one of the programs that come with Locker. name
// is what the process is called in the log.
func (l *Locker) programSpec(program, name string, args ...string) (host.Spec, error) {
	path, err := l.options.program(program)
	if err != nil {
		return host.Spec{}, err
	}
	sum, err := l.hashes.get(path)
	if err != nil {
		return host.Spec{}, err
	}
	return host.Spec{Name: name, Path: path, Args: args, SHA256: sum, Own: true, Stderr: func(line string) {
		l.log.Debug("a plugin says", "plugin", name, "line", line)
	}}, nil
}

// shipped tells how to start a connector or an app that comes with Locker, such as
// "apps/spend".
func (l *Locker) shipped(name string) (host.Spec, error) {
	return l.programSpec("locker-plugins", name, name)
}

// sameBuild says how a program differs from this one in what it was built from;
// empty where it does not, or where that is not known.
func sameBuild(path string) (string, error) {
	theirs, err := buildinfo.ReadFile(path)
	if err != nil {
		return "", err
	}
	ours, ok := debug.ReadBuildInfo()
	if !ok {
		return "", nil
	}
	for _, key := range []string{"vcs.revision", "vcs.modified", "GOOS", "GOARCH"} {
		if a, b := setting(ours, key), setting(theirs, key); a != "" && b != "" && a != b {
			return fmt.Sprintf("%s is %s, here %s", key, b, a), nil
		}
	}
	return "", nil
}

func setting(info *debug.BuildInfo, key string) string {
	for _, s := range info.Settings {
		if s.Key == key {
			return s.Value
		}
	}
	return ""
}
