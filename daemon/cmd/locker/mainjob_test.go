package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestMainJob walks the main job against a real WebDAV server, through rclone in
// its sandbox: a daemon is killed in the middle of an import and in the middle of
// a sync, and in the end three devices hold the same.
func TestMainJob(t *testing.T) {
	cloud := newCloud(t)
	phrase := filepath.Join(t.TempDir(), "phrase")
	spec := filepath.Join(t.TempDir(), "spec")
	if err := os.WriteFile(spec, []byte(cloud.spec()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	laptop := newDevice(t, "laptop")
	laptop.run("init", "--remote-file", spec, "--phrase-out", phrase, "--name", "laptop")

	const records = 40000
	file := statement(t, records)
	killedInImport(t, laptop, file)
	killedInSync(t, laptop, cloud)

	p := laptop.daemon()
	laptop.run("sync")
	want := laptop.well()
	if want.Records != records || want.Unsent != 0 {
		t.Fatalf("%d records, %d objects unsent; want %d and none", want.Records, want.Unsent, records)
	}
	nothingReadable(t, cloud.dir)

	var others []*device
	for _, name := range []string{"phone", "desk"} {
		d := newDevice(t, name)
		d.run("restore", "--remote-file", spec, "--phrase-file", phrase, "--name", name)
		if got := d.well(); got.StateHash != want.StateHash || got.Records != want.Records {
			t.Fatalf("%s: %d records, state %s; want %d, %s", name, got.Records, got.StateHash, want.Records, want.StateHash)
		}
		others = append(others, d)
	}

	// What one device edits, the others get: the laptop's daemon by itself.
	put := others[0].command("put", "notes")
	put.Stdin = strings.NewReader(`{"id":"n1","time":"2026-01-04T10:00:00Z","fields":{"name":"from the phone"}}` + "\n")
	if out, err := put.CombinedOutput(); err != nil {
		t.Fatalf("put: %v\n%s", err, out)
	}
	others[0].run("sync")
	others[1].run("sync")
	laptop.run("sync")
	hash := others[0].well().StateHash
	if hash == want.StateHash {
		t.Fatal("the note changed nothing")
	}
	for _, d := range []*device{laptop, others[1]} {
		if got := d.well().StateHash; got != hash {
			t.Errorf("%s has state %s, the phone %s", d.home, got, hash)
		}
	}
	if n := len(laptop.status().Devices); n != 3 {
		t.Errorf("the laptop knows %d devices, want 3", n)
	}
	laptop.run("verify")
	p.kill()
}

// killedInImport kills the daemon in the middle of an import. The same import
// completes what is there.
func killedInImport(t *testing.T, d *device, file string) {
	t.Helper()
	p := d.daemon()
	cut := d.command("import", file)
	if err := cut.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "in the middle of the import", time.Minute, func() bool { return d.status().Records > 0 })
	p.kill()
	if err := cut.Wait(); err == nil {
		t.Fatal("the import says that it was done, but its daemon was killed")
	}
	p = d.daemon()
	list := d.imports()
	if len(list) != 1 || list[0].State != "running" || !list[0].CutOff {
		t.Fatalf("after the kill: imports %+v, want one that is cut off", list)
	}
	out := d.run("import", file)
	if !strings.Contains(out, "cut off is complete now") {
		t.Errorf("the second import does not say that it completed the first:\n%s", out)
	}
	again := d.imports()
	if len(again) != 1 || again[0].State != "done" || again[0].Import != list[0].Import {
		t.Fatalf("after the second import: %+v", again)
	}
	p.kill()
}

// killedInSync kills the daemon while a put is on its way. The next one goes on.
func killedInSync(t *testing.T, d *device, c *cloud) {
	t.Helper()
	c.stall.Store(true)
	p := d.daemon()
	select {
	case <-c.stalled:
	case <-time.After(time.Minute):
		t.Fatal("the daemon put nothing within a minute")
	}
	p.kill()
	c.stall.Store(false)
	if left := d.status().Unsent; left == 0 {
		t.Fatal("everything was sent before the kill")
	}
}

// nothingReadable looks for words of the records on the remote.
func nothingReadable(t *testing.T, dir string) {
	t.Helper()
	words := regexp.MustCompile(`Merchant|purchase|payee|STMTTRN|transactions`)
	objects := 0
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		objects++
		raw, err := os.ReadFile(path)
		if found := words.Find(raw); found != nil {
			t.Errorf("%s holds %q", path, found)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if objects < 3 {
		t.Errorf("the remote holds %d objects", objects)
	}
}

// TestTwoWriters: one process at a time has a locker open, and the other is told
// which.
func TestTwoWriters(t *testing.T) {
	d := newDevice(t, "home")
	d.run("init", "--phrase-out", filepath.Join(t.TempDir(), "phrase"))

	// A put that waits for its input has the locker open.
	put := d.command("put", "notes")
	in, err := put.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := put.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the put has the locker open", 10*time.Second, func() bool {
		note, err := os.ReadFile(filepath.Join(d.home, "lock.json"))
		return err == nil && strings.Contains(string(note), "locker put")
	})
	_, stderr, code := d.try("status")
	if code != 1 {
		t.Errorf("status beside it: exit code %d", code)
	}
	if !strings.Contains(stderr, "locker put") || !strings.Contains(stderr, "next: wait") {
		t.Errorf("the refusal does not say who has it:\n%s", stderr)
	}
	if _, stderr, code := d.try("daemon"); code != 1 || !strings.Contains(stderr, "locker put") {
		t.Errorf("a daemon beside it: exit code %d\n%s", code, stderr)
	}
	in.Close()
	if err := put.Wait(); err != nil {
		t.Errorf("the put: %v", err)
	}

	d.daemon()
	if _, stderr, code := d.try("daemon"); code != 1 || !strings.Contains(stderr, "locker daemon") {
		t.Errorf("a second daemon: exit code %d\n%s", code, stderr)
	}
	if s := d.status(); s.Daemon == 0 {
		t.Error("the status does not come from the daemon")
	}
}

// TestTerm: the daemon stops within two seconds, in the middle of an import too,
// and what was acknowledged is there.
func TestTerm(t *testing.T) {
	d := newDevice(t, "home")
	d.run("init", "--phrase-out", filepath.Join(t.TempDir(), "phrase"))
	file := statement(t, 40000)
	for _, busy := range []bool{false, true} {
		p := d.daemon()
		var cut *exec.Cmd
		if busy {
			cut = d.command("import", file)
			if err := cut.Start(); err != nil {
				t.Fatal(err)
			}
			eventually(t, "in the middle of the import", time.Minute, func() bool { return d.status().Records > 0 })
		}
		begin := time.Now()
		if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		<-p.ended
		if took := time.Since(begin); took > 2*time.Second {
			t.Errorf("busy %v: it took %v to stop", busy, took)
		}
		if code := p.cmd.ProcessState.ExitCode(); code != 0 {
			t.Errorf("busy %v: exit code %d\n%s", busy, code, p.log)
		}
		if busy && cut.Wait() == nil {
			t.Error("the import says that it was done")
		}
	}
	if out := d.run("import", file); !strings.Contains(out, "cut off is complete now") {
		t.Errorf("the import does not go on:\n%s", out)
	}
	if s := d.well(); s.Records != 40000 {
		t.Errorf("%d records, want 40000", s.Records)
	}
}

// TestInterrupt: who interrupts a command ends what it asked of the daemon, and the
// daemon goes on.
func TestInterrupt(t *testing.T) {
	d := newDevice(t, "home")
	d.run("init", "--phrase-out", filepath.Join(t.TempDir(), "phrase"))
	file := statement(t, 40000)
	d.daemon()
	cut := d.command("import", file)
	if err := cut.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "in the middle of the import", time.Minute, func() bool { return d.status().Records > 0 })
	if _, stderr, code := d.try("import", file); code != 1 || !strings.Contains(stderr, "another import is going on") {
		t.Errorf("a second import beside it: exit code %d\n%s", code, stderr)
	}
	if err := cut.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cut.Wait(); err == nil {
		t.Error("the import says that it was done")
	}
	eventually(t, "cut off", 5*time.Second, func() bool {
		list := d.imports()
		return len(list) == 1 && list[0].CutOff
	})
	d.run("undo", d.imports()[0].Import)
	if n := d.well().Records; n != 0 {
		t.Errorf("%d records are left", n)
	}
}
