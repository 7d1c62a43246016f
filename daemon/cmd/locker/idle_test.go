package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestIdle: a daemon that has nothing to do takes little memory, all its processes
// together, and sleeps.
func TestIdle(t *testing.T) {
	if _, err := os.Stat("/proc/self/smaps_rollup"); err != nil {
		t.Skip("the memory of processes is read from /proc")
	}
	d := newDevice(t, "home")
	d.run("init", "--remote", "dir:"+t.TempDir(), "--phrase-out", filepath.Join(t.TempDir(), "phrase"))
	p := d.daemon()
	d.run("import", statement(t, 40000))
	d.run("sync")
	pids := func() []int { return append(children(t, p.cmd.Process.Pid), p.cmd.Process.Pid) }
	eventually(t, "alone and below 60 MB", 40*time.Second, func() bool {
		memory := 0
		for _, pid := range pids() {
			memory += statusField(t, pid, "VmRSS")
		}
		t.Logf("%d processes, %d kB resident", len(pids()), memory)
		return memory < 60000
	})

	eventually(t, "asleep", 40*time.Second, func() bool {
		before := switches(t, p.cmd.Process.Pid)
		time.Sleep(3 * time.Second)
		woken := switches(t, p.cmd.Process.Pid) - before
		t.Logf("woken %d times in 3 s", woken)
		return woken < 5
	})
}

// children are the processes that a process started.
func children(t testing.TB, pid int) []int {
	t.Helper()
	var list []int
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		raw, _ := os.ReadFile(task) // the thread may have ended
		for word := range strings.FieldsSeq(string(raw)) {
			if child, err := strconv.Atoi(word); err == nil {
				list = append(list, child)
			}
		}
	}
	return list
}

// switches is how often the threads of a process began to sleep.
func switches(t testing.TB, pid int) int {
	t.Helper()
	sum := 0
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		sum += statusField(t, pid, "voluntary_ctxt_switches", "task", task.Name())
	}
	return sum
}

// statusField is a number of /proc/PID/status; 0 where the process has ended.
func statusField(t testing.TB, pid int, name string, below ...string) int {
	t.Helper()
	path := filepath.Join(append([]string{"/proc", strconv.Itoa(pid)}, append(below, "status")...)...)
	raw, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(raw)) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			n, err := strconv.Atoi(strings.Fields(value)[0])
			if err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			return n
		}
	}
	return 0
}
