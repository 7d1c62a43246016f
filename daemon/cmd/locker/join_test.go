package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/locker-project/locker/daemon"
)

// An invitation is a running 'locker device invite'.
type invitation struct {
	daemon.Invitation
	lines *bufio.Scanner
	errs  *bytes.Buffer
	end   func() error
}

// invite runs 'locker device invite' until it shows a code.
func (d *device) invite() *invitation {
	d.t.Helper()
	cmd := d.command("device", "invite", "--json")
	out, err := cmd.StdoutPipe()
	if err != nil {
		d.t.Fatal(err)
	}
	i := &invitation{lines: bufio.NewScanner(out), errs: &bytes.Buffer{}, end: cmd.Wait}
	cmd.Stderr = i.errs
	if err := cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { _ = cmd.Process.Kill() })
	if !i.lines.Scan() {
		d.t.Fatalf("no invitation: %v\n%s", cmd.Wait(), i.errs)
	}
	if err := json.Unmarshal(i.lines.Bytes(), &i.Invitation); err != nil {
		d.t.Fatal(err)
	}
	return i
}

// codeFile writes a code where 'locker device join' can read it.
func codeFile(t testing.TB, code string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "code")
	if err := os.WriteFile(path, []byte(code+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestJoin: a second device joins by the code that the first one shows, through a
// real WebDAV server and without the phrase; what either writes reaches the other.
// A wrong code gets nothing, uses the invitation up, and both sides are told.
func TestJoin(t *testing.T) {
	c := newCloud(t)
	laptop, phone := newDevice(t, "laptop"), newDevice(t, "phone")
	phrase := filepath.Join(t.TempDir(), "phrase")
	laptop.run("init", "--remote", c.spec(), "--phrase-out", phrase, "--name", "laptop")
	laptop.put("1", "from the laptop")
	laptop.run("sync")
	laptop.daemon()

	wrong := laptop.invite()
	number, _, _ := strings.Cut(wrong.Code, "-")
	_, errs, code := phone.try("device", "join", "--remote", c.spec(), "--code-file", codeFile(t, number+"-abandon-abandon-abandon"))
	if code != 3 || !strings.Contains(errs, "next: run 'locker device invite' again") {
		t.Fatalf("a wrong code: exit code %d\n%s", code, errs)
	}
	if err := wrong.end(); err == nil || !strings.Contains(wrong.errs.String(), "not the one that was shown") {
		t.Fatalf("the inviting side of a wrong code: %v\n%s", err, wrong.errs)
	}
	if _, err := os.Stat(filepath.Join(phone.home, "device.json")); err == nil {
		t.Fatal("a wrong code left a device behind")
	}

	in := laptop.invite()
	if left := time.Until(in.Until); left < 8*time.Minute || left > 10*time.Minute {
		t.Errorf("the code is good for %v", left)
	}
	_, errs, code = phone.try("device", "join", "--remote", c.spec(), "--code-file", codeFile(t, in.Code), "--name", "phone")
	if code != 0 {
		t.Fatalf("join: exit code %d\n%s", code, errs)
	}
	if !in.lines.Scan() {
		t.Fatalf("the invitation has no end: %s", in.errs)
	}
	var done daemon.Invited
	if err := json.Unmarshal(in.lines.Bytes(), &done); err != nil || done.Name != "phone" || !strings.Contains(errs, "Both screens show "+done.Fingerprint) {
		t.Fatalf("%s: %v\n%s", in.lines.Text(), err, errs)
	}
	if err := in.end(); err != nil {
		t.Fatalf("the invitation: %v\n%s", err, in.errs)
	}

	phone.put("2", "from the phone")
	phone.run("sync")
	laptop.run("sync")
	a, b := laptop.well(), phone.well()
	if a.StateHash != b.StateHash || a.Records != 2 || len(a.Devices) != 2 {
		t.Fatalf("laptop %+v, phone %+v", a, b)
	}
	// The phrase finds what the joined device wrote as well.
	tablet := newDevice(t, "tablet")
	tablet.run("restore", "--remote", c.spec(), "--phrase-file", phrase, "--name", "tablet")
	if s := tablet.well(); s.StateHash != b.StateHash || len(s.Devices) != 3 {
		t.Fatalf("tablet %+v, phone %+v", s, b)
	}
}
