package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// bin holds the three programs, built once for all tests of this package.
var bin string

func TestMain(m *testing.M) {
	code, err := buildAndRun(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func buildAndRun(m *testing.M) (int, error) {
	dir, err := os.MkdirTemp("", "locker-bin-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	// The sandbox maps plugins to a user of their own, who must be able to reach them.
	if err := os.Chmod(dir, 0o755); err != nil {
		return 1, err
	}
	bin = dir
	for name, pkg := range map[string]string{"locker": ".", "locker-plugins": "../../../plugins/locker-plugins", "locker-rclone": "../../../plugins/remotes/rclone"} {
		if runtime.GOOS == "windows" {
			name += ".exe"
		}
		cmd := exec.Command("go", "build", "-buildvcs=false", "-ldflags", "-s -w -X main.version=v0.0.0-test", "-o", filepath.Join(dir, name), pkg)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return 1, fmt.Errorf("building %s: %w\n%s", name, err, out)
		}
	}
	return m.Run(), nil
}

// TestScripts runs the command as a person would; each script says what it guards.
func TestScripts(t *testing.T) {
	exports, err := filepath.Abs("../../../testdata/exports")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: "../../../testdata/script",
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", bin+string(os.PathListSeparator)+env.Getenv("PATH"))
			env.Setenv("HOME", filepath.Join(env.WorkDir, "home"))
			env.Setenv("DBUS_SESSION_BUS_ADDRESS", "") // no keyring: the keys lie in a file
			env.Setenv("XDG_RUNTIME_DIR", "")
			env.Setenv("LOCKER_HOME", filepath.Join(env.WorkDir, "locker"))
			env.Setenv("EXPORTS", exports)
			return os.MkdirAll(filepath.Join(env.WorkDir, "home"), 0o700)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exitcode": exitCode,
			"capture":  capture,
			"lose":     lose,
		},
	})
}

// exitCode runs a command and checks its exit code: exitcode 2 locker query.
func exitCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exitcode CODE COMMAND...")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := 0
	if err != nil {
		exit, ok := err.(*exec.ExitError)
		if !ok {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if fmt.Sprint(got) != args[0] {
		ts.Fatalf("exit code %d, want %s", got, args[0])
	}
}

// capture stores what a regular expression's group matches in the last standard
// output in a variable: capture GRANT 'granted as (\S+)'.
func capture(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: capture NAME REGEXP")
	}
	match := regexp.MustCompile(args[1]).FindStringSubmatch(ts.ReadFile("stdout"))
	if len(match) != 2 {
		ts.Fatalf("%s does not match\n%s", args[1], strings.TrimSpace(ts.ReadFile("stdout")))
	}
	ts.Setenv(args[0], match[1])
}

// lose removes one object from the folder of a remote, and names it in LOST: lose DIR.
func lose(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: lose DIR")
	}
	dir := ts.MkAbs(args[0])
	entries, err := os.ReadDir(dir)
	ts.Check(err)
	if len(entries) == 0 {
		ts.Fatalf("%s is empty", dir)
	}
	ts.Setenv("LOST", filepath.Join(dir, entries[0].Name()))
	ts.Check(os.Remove(ts.Getenv("LOST")))
}
