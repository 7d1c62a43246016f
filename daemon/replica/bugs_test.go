package replica_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestBugs puts known bugs back, one at a time, into a copy of what they are in, and
// sees that the suites that each one names find it. It takes minutes, and runs where
// LOCKER_BUGS is set: make bugs.
func TestBugs(t *testing.T) {
	if os.Getenv("LOCKER_BUGS") == "" {
		t.Skip("LOCKER_BUGS is not set")
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	patches, err := filepath.Glob("testdata/bugs/*.patch")
	if err != nil || len(patches) == 0 {
		t.Fatalf("no patches: %v", err)
	}
	for _, patch := range patches {
		t.Run(strings.TrimSuffix(filepath.Base(patch), ".patch"), func(t *testing.T) {
			text, err := os.ReadFile(patch)
			if err != nil {
				t.Fatal(err)
			}
			suites := regexp.MustCompile(`(?m)^Caught by: (\S+)$`).FindSubmatch(text)
			file := regexp.MustCompile(`(?m)^--- a/(\S+)$`).FindSubmatch(text)
			if suites == nil || file == nil {
				t.Fatal("the patch does not say what catches it, or what it changes")
			}
			overlay := patched(t, root, string(file[1]), patch)
			// A seed may miss what the next ones find.
			for range 5 {
				cmd := exec.Command("go", "test", "-short", "-count=1", "-overlay", overlay, "-run", "^("+string(suites[1])+")$", "./daemon/replica")
				cmd.Dir = root
				out, err := cmd.CombinedOutput()
				switch {
				case err == nil:
					continue
				case !strings.Contains(string(out), "--- FAIL") && !strings.Contains(string(out), "panic:"):
					t.Fatalf("it does not build: %s", out)
				}
				at := strings.Index(string(out), "_test.go")
				t.Logf("caught: %.300s", out[max(at, 0):])
				return
			}
			t.Errorf("%s pass", suites[1])
		})
	}
}

// patched applies a patch to a copy of a file, and returns an overlay for the go command
// that has the copy in the file's place.
func patched(t *testing.T, root, file, patch string) (overlay string) {
	t.Helper()
	dir := t.TempDir()
	data, err := os.ReadFile(filepath.Join(root, file))
	if err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(dir, file)
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, data, 0o600); err != nil {
		t.Fatal(err)
	}
	patch, err = filepath.Abs(patch)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("git", "apply", "--recount", patch)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("the patch does not apply any more; write it anew: %v\n%s", err, out)
	}
	b, err := json.Marshal(map[string]map[string]string{"Replace": {filepath.Join(root, file): to}})
	if err != nil {
		t.Fatal(err)
	}
	overlay = filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(overlay, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return overlay
}
