//go:build linux

package host

import (
	"bufio"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/locker-project/locker/plugins"
)

// TestSpy is a remote that was taken over: it has the network, and otherwise no
// more than an app has.
func TestSpy(t *testing.T) {
	text, program := targets(t)
	var laid struct{ Named string }
	if err := json.Unmarshal([]byte(text), &laid); err != nil {
		t.Fatal(err)
	}
	may := map[string]bool{"read a named file": true, "write a temporary file": true, "connect by TCP": true, "send by UDP": true}
	either := map[string]bool{"connect by MPTCP": true, "listen on TCP": true}
	names := []string{"read a named file", "write a named file", "write a temporary file"}
	for _, r := range rows {
		if !r.alone {
			names = append(names, r.name)
		}
	}
	for _, mode := range modes() {
		t.Run(mode.name, func(t *testing.T) {
			p, err := Start(t.Context(), Spec{
				Name: "spy", Path: program, Args: []string{"spy"}, Network: true,
				ReadOnly: []string{laid.Named}, only: mode.only,
			})
			if err != nil {
				t.Fatal(err)
			}
			defer p.Kill()
			options := map[string]string{"targets": text, "attempts": strings.Join(names, ",")}
			if err := p.Remote().Open(t.Context(), plugins.RemoteConfig{Options: options}); err != nil {
				t.Fatal(err)
			}
			n := 0
			for o, err := range p.Remote().List(t.Context(), "") {
				if err != nil {
					t.Fatal(err)
				}
				n++
				name, result, _ := strings.Cut(o.Name, "\t")
				stops := ""
				for _, r := range rows {
					if r.name == name {
						stops = r.stops
					}
				}
				allowed := either[name] || mode.name == "fallback" && strings.Contains(stops, "f") ||
					name == "become root" && mode.name == "fallback" && os.Geteuid() == 0 // who has named files stays root
				if worked := result == "worked"; worked != may[name] && !allowed {
					t.Errorf("%s: %s", name, result)
				}
			}
			if n != len(names) {
				t.Errorf("%d results of %d attempts", n, len(names))
			}
		})
	}
}

// TestNamedFolder binds a folder into the root of a remote.
func TestNamedFolder(t *testing.T) {
	dir, err := os.MkdirTemp("", "named-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	named := filepath.Join(dir, "key")
	if err := os.WriteFile(named, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	targets, err := json.Marshal(map[string]string{"Named": named})
	if err != nil {
		t.Fatal(err)
	}
	for _, mode := range modes() {
		p, err := Start(t.Context(), Spec{Name: "spy", Path: pluginPath, Args: []string{"spy"}, Network: true, ReadOnly: []string{dir, named}, only: mode.only})
		if err != nil {
			t.Fatal(mode.name, err)
		}
		defer p.Kill()
		options := map[string]string{"targets": string(targets), "attempts": "read a named file,write a named file"}
		if err := p.Remote().Open(t.Context(), plugins.RemoteConfig{Options: options}); err != nil {
			t.Fatal(err)
		}
		var results []string
		for o := range p.Remote().List(t.Context(), "") {
			results = append(results, o.Name)
		}
		if len(results) != 2 || results[0] != "read a named file\tworked" || strings.HasSuffix(results[1], "worked") {
			t.Errorf("%s: %q", mode.name, results)
		}
	}
	if _, err := Start(t.Context(), Spec{Path: pluginPath, Network: true, ReadOnly: []string{"relative"}}); err == nil {
		t.Error("a relative path was taken")
	}
	if _, err := Start(t.Context(), Spec{Path: pluginPath, Network: true, ReadOnly: []string{"/"}}); err == nil {
		t.Error("the root was taken")
	}
}

// again runs tests of this program as another process, which may be set up first.
func again(t *testing.T, tests string, attr *syscall.SysProcAttr, env ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", "-test.run=^("+tests+")$", "-test.v")
	cmd.Env = append(env, "LOCKER_TEST_PLUGIN="+pluginPath, "PATH="+os.Getenv("PATH"), "TMPDIR="+os.TempDir())
	cmd.Dir = "/"
	cmd.SysProcAttr = attr
	return cmd
}

// TestNoNamespaces makes a machine on which nobody gets a namespace, as some
// distributions are, and starts a plugin there.
func TestNoNamespaces(t *testing.T) {
	needs(t, allLayers)
	needs(t, fallbackLayers)
	out, err := again(t, "TestOnMachineWithoutNamespaces", &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
	}, "LOCKER_TEST_NO_NAMESPACES=1").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if !strings.Contains(string(out), "--- PASS: TestOnMachineWithoutNamespaces") {
		t.Fatalf("it did not run:\n%s", out)
	}
}

func TestOnMachineWithoutNamespaces(t *testing.T) {
	if os.Getenv("LOCKER_TEST_NO_NAMESPACES") == "" {
		t.Skip("is run by TestNoNamespaces")
	}
	if err := os.WriteFile("/proc/sys/user/max_user_namespaces", []byte("0"), 0); err != nil {
		t.Fatal(err)
	}
	if m := Probe(t.Context()); !strings.HasPrefix(m.String(), "fallback: landlock") || !strings.Contains(m.Why, "namespaces") {
		t.Errorf("the probe says %q", m)
	}
	p := start(t, "app")
	if m := p.Mode(); m.Namespaces || m.Landlock == 0 || !m.Seccomp || !m.Limits || m.Why == "" {
		t.Errorf("the plugin runs in %q", m)
	}
	if _, err := run(t, p, nil, "print"); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(p.child.dir); err != nil {
		t.Errorf("the folder of the socket: %v", err)
	}
	p.Kill()
	if _, err := os.Stat(p.child.dir); err == nil {
		t.Error("the folder of the socket is left behind")
	}
}

func TestProbe(t *testing.T) {
	m := Probe(t.Context())
	t.Log(m)
	if !m.Seccomp || !m.Limits || !m.Namespaces && m.Landlock == 0 {
		t.Errorf("this machine cannot confine plugins: %s", m)
	}
	if p := start(t, "app"); p.Mode() != m {
		t.Errorf("the probe says %q, and a plugin runs in %q", m, p.Mode())
	}
}

// TestHostDies kills a host, and looks for what it started.
func TestHostDies(t *testing.T) {
	for _, mode := range modes() {
		t.Run(mode.name, func(t *testing.T) {
			cmd := again(t, "TestAsDyingHost", nil, "LOCKER_TEST_DIE="+mode.name)
			stdout, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			pid := ""
			for lines := bufio.NewScanner(stdout); pid == "" && lines.Scan(); {
				pid, _ = strings.CutPrefix(lines.Text(), "started ")
				if pid == lines.Text() {
					pid = ""
				}
			}
			if pid == "" {
				t.Fatal("the other host started nothing")
			}
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait()
			for deadline := time.Now().Add(5 * time.Second); alive(pid); time.Sleep(5 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatal("the plugin outlives its host")
				}
			}
		})
	}
}

func alive(pid string) bool {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

func TestAsDyingHost(t *testing.T) {
	name := os.Getenv("LOCKER_TEST_DIE")
	if name == "" {
		t.Skip("is run by TestHostDies")
	}
	only := &allLayers
	if name == "fallback" {
		only = &fallbackLayers
	}
	p := startWith(t, Spec{only: only}, "app")
	_, _ = os.Stdout.WriteString("started " + p.child.ID() + "\n")
	_ = p.App(context.Background(), plugins.AppEnv{Args: []string{"spin"}})
}

// TestNothingIsLeft starts and ends plugins and looks for open files.
func TestNothingIsLeft(t *testing.T) {
	count := func() int {
		files, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(files)
	}
	start(t, "app").Kill()
	before := count()
	for range 5 {
		p := start(t, "app")
		if _, err := run(t, p, &memory{}, "print"); err != nil {
			t.Fatal(err)
		}
		p.Kill()
	}
	deadline := time.Now().Add(3 * time.Second)
	for count() > before && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
	if after := count(); after > before {
		t.Errorf("%d files are open, after %d before", after, before)
	}
}
