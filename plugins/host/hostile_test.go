//go:build linux

package host

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/locker-project/locker/plugins"
	"github.com/locker-project/locker/plugins/locker"
)

// columns of the matrix: no layer, each layer alone, and the two ways in which
// processes are started for real.
var columns = []struct {
	name   string
	letter string // of the layer that is on alone
	on     layers
}{
	{"none", "", layers{}},
	{"namespaces", "n", layers{Namespaces: true}},
	{"landlock", "l", layers{Landlock: true}},
	{"seccomp", "s", layers{Seccomp: true}},
	{"limits", "r", layers{Limits: true}},
	{"environ.", "e", layers{Environment: true}},
	{"fallback", "", fallbackLayers},
	{"full", "", allLayers},
}

// A row is one attempt and what must stop it.
type row struct {
	name string
	// stops are the layers that stop it, each alone: n(amespaces), l(andlock),
	// s(eccomp), r(limits), e(nvironment); in capitals for ordinary users only, whom
	// the kernel limits where root is not limited. h: the host does, in any case.
	// b: it is another thing in the fallback, and tried there too.
	// k: some kernels refuse it anyway, so that it may fail without any layer.
	// f: the fallback lets it through.
	stops string
	// alone runs it in a process of its own, in the columns that must stop it and
	// in none: it may end the process, or takes long.
	alone bool
}

var rows = []row{
	{"read a file", "nl", false},
	{"read /etc/passwd", "nl", false},
	{"list the root", "nl", false},
	{"stat a file", "nf", false},
	{"learn the machine's name", "nf", false},
	{"chmod a file", "ns", false},
	{"set a file's time", "ns", false},
	{"write a file", "nl", false},
	{"overwrite a program", "nl", false},
	{"link to a file", "lsf", false},
	{"make a device", "ls", false},
	{"open by handle", "ns", false},
	{"environment", "e", false},
	{"open files", "e", false},
	{"standard input", "h", false},
	{"fill the disk", "lr", true},
	{"flood with files", "l", true},

	{"connect by TCP", "nls", false},
	{"connect by MPTCP", "ns", false},
	{"send by UDP", "ns", false},
	{"listen on TCP", "s", false},
	{"listen on an abstract socket", "s", false},
	{"connect to a unix socket", "ns", false},
	{"connect to an abstract socket", "nls", false},
	{"netlink socket", "s", false},
	{"vsock socket", "sk", false},
	{"packet socket", "sk", false},
	{"crypto socket", "sk", false},

	{"see processes", "nl", false},
	{"read the host's environment", "nl", false},
	{"signal the host", "nls", false},
	{"signal by thread", "nls", false},
	{"signal by file", "ns", false},
	{"trace the host", "nlsk", false},
	{"read the host's memory", "nlsk", false},
	{"take the host's files", "nlsk", false},
	{"change the host's limits", "ns", false},
	{"change the host's priority", "ns", false},
	{"make a process", "s", false},
	{"run a program", "nls", false},
	{"become a shell", "nls", true},
	{"become itself again", "ns", true},
	{"become a program in memory", "nls", true},
	{"become root", "nk", false},
	{"flood with processes", "sR", true},
	{"stop itself", "hb", true},

	{"heap", "r", true},
	{"shared memory", "s", true},
	{"memory in a file", "sr", true},
	{"System V shared memory", "s", false},
	{"memory for code", "s", false},
	{"memory turned to code", "s", false},
	{"locked memory", "srk", false},
	{"threads", "R", true},
	{"open many files", "r", true},
	{"raise a limit", "r", true},
	{"processor time", "r", true},

	{"mount", "sk", false},
	{"chroot", "sk", true},
	{"unshare", "sk", false},
	{"bpf", "sk", false},
	{"perf", "sk", false},
	{"add a key", "sk", false},
	{"read the keyring", "sk", false},
	{"io_uring", "sk", false},
	{"userfaultfd", "sk", false},
	{"inotify", "s", false},
	{"fanotify", "sk", false},
	{"seccomp listener", "s", false},
	{"personality", "s", false},
	{"int 0x80: socket", "sk", true},
	{"int 0x80: keyring", "sk", true},
	{"int 0x80: open", "lsk", true},
	{"x32: getpid", "sk", true},

	{"a giant text", "h", true},
	{"a giant table", "h", true},
	{"a giant write", "h", true},
	{"a write of garbage", "h", true},
	{"another's session", "h", true},
	{"what is not given", "h", true},
	{"many calls", "h", true},
	{"flood standard error", "h", true},
	{"flood standard output", "h", true},
	{"flood by system calls", "h", true},
}

// hostMemory is what the app tries to read of the host.
var hostMemory = [8]byte([]byte("8 bytes!"))

// targets lays out what the app reaches for. program is a copy that belongs to
// the user of the test.
func targets(t *testing.T) (text, program string) {
	base, err := os.MkdirTemp("", "hostile-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(base) })
	dir := filepath.Join(base, "open")
	at := func(name string) string { return filepath.Join(base, name) }
	program = at("plugin")
	data, err := os.ReadFile(pluginPath)
	for _, err := range []error{
		err, os.Chmod(base, 0o755), os.MkdirAll(filepath.Join(dir, "mnt"), 0o777), os.Chmod(dir, 0o777),
		os.WriteFile(at("secret"), []byte("secret"), 0o644), os.WriteFile(program, data, 0o755),
		os.WriteFile(at("named"), []byte("named"), 0o600), os.WriteFile(at("other"), []byte("other"), 0o755),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	socket := listen(t, "unix", filepath.Join(dir, "socket"))
	if err := os.Chmod(socket, 0o777); err != nil {
		t.Fatal(err)
	}
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { packets.Close() })
	machine, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := json.Marshal(map[string]any{
		"Secret": at("secret"), "Dir": dir, "Program": program, "Other": at("other"), "Named": at("named"),
		"TCP": listen(t, "tcp", "127.0.0.1:0"), "UDP": packets.LocalAddr().String(),
		"Unix": socket, "Abstract": listen(t, "unix", "@locker-test-"+filepath.Base(base)),
		"Env": "LOCKER_TEST_SECRET", "FD": openFile(t, at("secret")), "PID": os.Getpid(),
		"Address": uint64(uintptr(unsafe.Pointer(&hostMemory))), "Machine": machine,
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(encoded), program
}

// listen takes all connections and what they send.
func listen(t *testing.T, network, address string) string {
	return accept(t, network, address, func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) })
}

// openFile opens a file so that it is inherited by every process that is started.
func openFile(t *testing.T, path string) (fd int) {
	fd, err := unix.Open(path, unix.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	high, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD, 100) // where no other is put
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(high) })
	return high
}

// TestHostile runs the hostile app against no layer, each layer alone, the
// fallback and the full sandbox, and prints the matrix. As root it does the same
// as an ordinary user meanwhile.
func TestHostile(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	t.Setenv("LOCKER_TEST_SECRET", "secret")
	var group sync.WaitGroup
	if os.Geteuid() == 0 {
		group.Go(func() { asOrdinaryUser(t) })
	}
	results := make([]map[string]string, len(columns))
	slots := make(chan struct{}, 2)
	for i := range columns {
		if why := lacks(columns[i].on); why != "" {
			t.Logf("without the column %q: %s", columns[i].name, why)
			continue
		}
		text, program := targets(t)
		group.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			results[i] = tryColumn(t, i, text, program)
		})
	}
	group.Wait()
	if t.Failed() {
		return
	}
	judge(t, results)
	t.Logf("as user %d on Linux %s\n%s", os.Geteuid(), kernel(), matrix(results))
	hostIsWell(t)
}

// tryColumn makes all attempts of a column.
func tryColumn(t *testing.T, column int, text, program string) map[string]string {
	results := map[string]string{}
	var together []string
	for _, r := range rows {
		if !r.alone {
			together = append(together, r.name)
		} else if r.tried(column) {
			results[r.name] = attack(t, columns[column].on, program, text, r.name)[r.name]
		}
	}
	for name, result := range attack(t, columns[column].on, program, text, together...) {
		results[name] = result
	}
	return results
}

// stoppedBy reports whether a layer alone must stop the attempt.
func (r row) stoppedBy(letter string) bool {
	return strings.Contains(r.stops, letter) || os.Geteuid() != 0 && strings.Contains(r.stops, strings.ToUpper(letter))
}

// tried reports whether an attempt that is alone is tried in a column.
func (r row) tried(column int) bool {
	c := columns[column]
	switch {
	case c.letter != "":
		return r.stoppedBy(c.letter)
	case strings.Contains(r.stops, "h"):
		return c.name == "full" || c.name == "fallback" && strings.Contains(r.stops, "b")
	}
	return true
}

// attack lets the hostile app make its attempts and returns how each went:
// "worked", or why not.
func attack(t *testing.T, on layers, program, targets string, names ...string) map[string]string {
	t.Helper()
	floodIsOver(t)
	ctx, cancel := context.WithTimeout(context.Background(), 40*time.Second)
	defer cancel()
	spec := Spec{Name: "hostile", Path: program, Args: []string{"hostile"}, only: &on}
	if slices.Contains(names, "processor time") {
		spec.Limits.CPU = time.Second
	}
	if slices.Contains(names, "stop itself") || slices.Contains(names, "flood by system calls") {
		ctx, cancel = context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
	}
	p, err := Start(ctx, spec)
	if err != nil {
		t.Errorf("%+v: %v", on, err)
		return nil
	}
	defer func() {
		started := time.Now()
		p.Kill()
		if took := time.Since(started); took > 3*time.Second {
			t.Errorf("%v: it took %v to kill the app", names, took)
		}
	}()
	out := &textOut{lines: true}
	err = p.App(ctx, plugins.AppEnv{Args: append([]string{targets}, names...), Out: out, View: endless{}})
	results := map[string]string{}
	for line := range strings.Lines(out.text) {
		name, result, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		results[name] = result
	}
	for _, name := range names {
		if results[name] != "" {
			continue
		}
		switch {
		case err == nil:
			t.Errorf("%+v: %s: no result", on, name)
		case strings.Contains(err.Error(), "exit status 42"):
			results[name] = "worked"
		case len(names) > 1:
			t.Errorf("%+v: %v ended it: %v", on, name, err)
		default:
			results[name] = "died: " + err.Error()
		}
	}
	return results
}

// floodIsOver waits until what a flood of processes left behind was reaped. The
// limit of threads has room for all of the user's others: those that are counted
// when a process starts and gone a moment later are room for an attempt.
func floodIsOver(t *testing.T) {
	t.Helper()
	for range 1000 {
		if othersThreads(layers{}) < 512 {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Error("what a flood of processes left behind is still there after 20 s")
}

// endless is a view without end.
type endless struct{ locker.View }

func (endless) Query(ctx context.Context, q locker.Query) iter.Seq2[locker.Record, error] {
	return manyRows{n: 1 << 30, fields: row200()}.Query(ctx, q)
}

func (endless) Get(ctx context.Context, collection, id string) (locker.Record, error) {
	return locker.Record{Collection: collection, ID: id}, nil
}

func (endless) Put(context.Context, ...locker.Record) error { return nil }

// judge compares the results with what must stop each attempt.
func judge(t *testing.T, results []map[string]string) {
	for _, r := range rows {
		for i, column := range columns {
			if results[i] == nil {
				continue // not on this machine
			}
			result, ran := results[i][r.name]
			worked := result == "worked"
			switch column.name {
			case "none":
				if ran && !worked && !strings.ContainsAny(r.stops, "hk") {
					t.Errorf("%s: without any layer it must work, or it shows nothing: %s", r.name, result)
				}
			case "full":
				if worked {
					t.Errorf("%s: the sandbox did not stop it", r.name)
				}
			case "fallback":
				if worked && !strings.Contains(r.stops, "f") {
					t.Errorf("%s: the fallback did not stop it", r.name)
				}
			default:
				if (r.stoppedBy(column.letter) || strings.Contains(r.stops, "h")) && ran && worked {
					t.Errorf("%s: %s alone did not stop it: is it off?", r.name, column.name)
				}
			}
		}
	}
}

// matrix draws the results. YES: it worked. -: it was refused. died: the app was
// killed for it. A blank was not tried.
func matrix(results []map[string]string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-30s", "")
	for _, c := range columns {
		fmt.Fprintf(&b, "%-11s", c.name)
	}
	for _, r := range rows {
		fmt.Fprintf(&b, "\n%-30s", r.name)
		for i := range columns {
			result, ran := results[i][r.name]
			switch {
			case !ran:
				result = ""
			case result == "worked":
				result = "YES"
			case strings.HasPrefix(result, "died"):
				result = "died"
			default:
				result = "-"
			}
			fmt.Fprintf(&b, "%-11s", result)
		}
		full := results[len(columns)-1][r.name]
		fmt.Fprintf(&b, "%.70s", full)
	}
	return b.String()
}

func kernel() string {
	var name unix.Utsname
	if unix.Uname(&name) != nil {
		return "?"
	}
	return unix.ByteSliceToString(name.Release[:])
}

// hostIsWell checks that the host has neither grown nor got stuck.
func hostIsWell(t *testing.T) {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if peak, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(peak), " kB"))
			if err != nil || kib > 600<<10 {
				t.Errorf("the host's memory reached %s", strings.TrimSpace(peak))
			}
			t.Logf("the host's memory reached %d MiB", kib>>10)
		}
	}
	deadline := time.Now().Add(10 * time.Second)
	for runtime.NumGoroutine() > 60 && time.Now().Before(deadline) {
		time.Sleep(50 * time.Millisecond)
	}
	if n := runtime.NumGoroutine(); n > 60 {
		t.Errorf("%d goroutines are left", n)
	}
	p := start(t, "app")
	defer p.Kill()
	out := &textOut{}
	if err := p.App(context.Background(), plugins.AppEnv{Args: []string{"get", "in", "1"}, Out: out, View: endless{}}); err != nil {
		t.Errorf("a good app afterwards: %v", err)
	}
}

// asOrdinaryUser runs the test once more as nobody.
func asOrdinaryUser(t *testing.T) {
	const nobody = 65534
	dir, err := os.MkdirTemp("", "nobody-")
	if err == nil {
		err = os.Chown(dir, nobody, nobody)
	}
	if err != nil {
		t.Error(err)
		return
	}
	defer os.RemoveAll(dir)
	cmd := exec.Command("/proc/self/exe", "-test.run=^(TestHostile|TestSpy|TestApp|TestNoNamespaces)$", "-test.v")
	cmd.Env = []string{"LOCKER_TEST_PLUGIN=" + pluginPath, "TMPDIR=" + dir, "HOME=" + dir, "PATH=" + os.Getenv("PATH")}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Errorf("as an ordinary user: %v", err)
	}
}
