package daemon_test

import (
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/locker-project/locker/"

// The rules by which the packages may depend on each other. A rule names the
// package that it binds, what that package may not link, directly or through
// others, and why.
var layers = []struct {
	pkg  string
	deny []string
	why  string
}{
	{"crypto", []string{module + "daemon", module + "plugins", module + "manifests", module + "mobile"},
		"the keys are judged on their own: a reviewer of crypto needs to read nothing else"},
	{"plugins/locker", []string{module + "crypto", module + "daemon", module + "manifests", module + "plugins/", "github.com/", "google.golang.org/", "golang.org/"},
		"the vocabulary is what every app links: standard library only"},
	{"daemon/replica", []string{module + "crypto", module + "daemon/remote", module + "daemon/store", module + "daemon/gate", module + "plugins/host"},
		"the protocol names what it needs, so that it can be run against models and hostile fakes"},
	{"daemon/remote", []string{module + "crypto", module + "daemon/store", module + "daemon/gate", "filippo.io/age", "github.com/rclone/rclone"},
		"what talks to a cloud holds no key, and rclone lives in a process of its own"},
	{"daemon/store", []string{module + "crypto", module + "daemon/replica", module + "daemon/remote", module + "plugins/host", "filippo.io/age"},
		"the store knows records and bytes, not keys nor clouds"},
	{"daemon/gate", []string{module + "plugins/host", module + "daemon/replica", module + "daemon/remote", "github.com/hashicorp/go-plugin", "google.golang.org/grpc"},
		"phones have the gate too, and cannot start processes"},
	{"manifests", []string{module + "daemon", module + "crypto", module + "plugins/host", "github.com/cockroachdb/pebble", "filippo.io/age", "google.golang.org/grpc"},
		"what a grant means is decided by pure functions"},
	{"plugins", []string{module + "daemon", module + "crypto", module + "manifests", "github.com/cockroachdb/pebble", "filippo.io/age"},
		"an app links what plugins links, and must not carry the store or the keys"},
	{"plugins/apps/spend", []string{module + "daemon", module + "crypto", "github.com/cockroachdb/pebble", "filippo.io/age"},
		"apps link neither Pebble nor age"},
	{"plugins/locker-plugins", []string{module + "daemon", module + "crypto", "github.com/cockroachdb/pebble", "filippo.io/age", "github.com/rclone/rclone"},
		"the process that reads hostile files holds no store, no key and no cloud"},
	{"plugins/remotes/rclone", []string{module + "crypto", module + "daemon/store", module + "daemon/gate", "filippo.io/age", "github.com/cockroachdb/pebble"},
		"rclone sees ciphertext only"},
	{"plugins/host", []string{module + "crypto", module + "daemon", "github.com/cockroachdb/pebble", "filippo.io/age", "github.com/rclone/rclone"},
		"the shim of the sandbox is this code: it must not know keys or data"},
	{"daemon", []string{"github.com/rclone/rclone"},
		"rclone's process-global state stays out of the process that holds the keys"},
	{"daemon/cmd/locker", []string{"github.com/rclone/rclone"},
		"rclone's process-global state stays out of the process that holds the keys"},
	{"mobile", []string{"google.golang.org/grpc", "github.com/hashicorp/go-plugin", module + "plugins/host", module + "daemon/cmd"},
		"a phone cannot start child processes, and pays for every megabyte"},
}

func TestLayers(t *testing.T) {
	for _, rule := range layers {
		t.Run(rule.pkg, func(t *testing.T) {
			out, err := exec.Command("go", "list", "-deps", module+rule.pkg).Output()
			if err != nil {
				t.Fatalf("go list %s: %v", rule.pkg, err)
			}
			self := module + rule.pkg
			for _, dep := range strings.Fields(string(out)) {
				for _, denied := range rule.deny {
					if dep != self && matches(dep, denied) && !standard(dep) {
						t.Errorf("%s links %s, but must not: %s", rule.pkg, dep, rule.why)
					}
				}
			}
		})
	}
}

// TestRcloneOnlyInItsProcess looks at every package: only one may link rclone.
func TestRcloneOnlyInItsProcess(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}}: {{join .Imports " "}}`, module+"...").Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		pkg, imports, _ := strings.Cut(line, ":")
		if strings.Contains(imports, "github.com/rclone/rclone") && !strings.HasPrefix(pkg, module+"plugins/remotes/rclone") {
			t.Errorf("%s imports rclone", pkg)
		}
	}
}

// matches says whether dep is the denied package or lies below it. A denied name
// that ends in a slash matches what lies below alone.
func matches(dep, denied string) bool {
	if strings.HasSuffix(denied, "/") {
		return strings.HasPrefix(dep, denied)
	}
	return dep == denied || strings.HasPrefix(dep, denied+"/")
}

// standard says whether a package is of the standard library, which vendors some
// under names with dots.
func standard(dep string) bool { return strings.HasPrefix(dep, "vendor/") }
