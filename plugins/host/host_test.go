package host

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// pluginPath is the program that the tests start.
var pluginPath string

func TestMain(m *testing.M) {
	Shim()
	os.Exit(buildAndRun(m))
}

func buildAndRun(m *testing.M) int {
	if path := os.Getenv("LOCKER_TEST_PLUGIN"); path != "" { // this is a test run as another user
		pluginPath = path
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "locker-host-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	pluginPath = filepath.Join(dir, "plugin")
	build := exec.Command("go", "build", "-trimpath", "-o", pluginPath, "./testdata/plugin")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building the test plugin: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}
