package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/locker-project/locker/daemon"
)

// peekFolder builds the app peek, as its author would hand it out.
func peekFolder(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command("go", "build", "-o", filepath.Join(dir, "peek"), "./testdata/peek")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building peek: %v\n%s", err, out)
	}
	manifest, err := os.ReadFile("testdata/peek/manifest.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "manifest.json"), manifest, 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// withPeek is a locker with transactions in it and peek installed.
func withPeek(t *testing.T) *device {
	t.Helper()
	d := newDevice(t, "home")
	d.run("init", "--phrase-out", filepath.Join(t.TempDir(), "phrase"))
	d.run("import", statement(t, 50))
	d.run("app", "install", peekFolder(t))
	return d
}

// grantPeek grants peek what it asks, or only some of it, and returns the grant.
func grantPeek(d *device, only ...string) string {
	d.t.Helper()
	args := []string{"grant", "peek", "--offer", "permit", "--json"}
	if len(only) > 0 {
		args = append(args, "--only", strings.Join(only, ","))
	}
	var g daemon.GrantInfo
	if err := json.Unmarshal([]byte(d.run(args...)), &g); err != nil {
		d.t.Fatal(err)
	}
	return g.Grant
}

// TestAppSeesItsFields: whatever an app asks for, it gets the granted fields or an
// error with the exit code of a refusal, and the audit log has both.
func TestAppSeesItsFields(t *testing.T) {
	d := withPeek(t)
	if _, stderr, code := d.try("app", "run", "peek", "all"); code != daemon.CodeRefused {
		t.Fatalf("without a grant: exit code %d\n%s", code, stderr)
	}
	grantPeek(d, "transactions.amount", "transactions.time")
	d.daemon()

	out := d.run("app", "run", "peek", "fields", "amount")
	if !strings.Contains(out, "50 records") || !strings.Contains(out, `"amount":`) {
		t.Errorf("granted fields:\n%s", out)
	}
	for _, secret := range []string{"payee", "Merchant", "CH93", "T0000", "purchase"} {
		if strings.Contains(out, secret) {
			t.Errorf("the app sees %q:\n%s", secret, out)
		}
	}
	for _, args := range [][]string{
		{"fields", "payee"},
		{"fields", "amount", "payee"},
		{"fields", "id"},
		{"where", "payee ~ 'Merchant'"},
		{"where", "source = 'transactions'"},
		{"collection", "contacts"},
		{"collection", "_audit"},
	} {
		out, stderr, code := d.try(append([]string{"app", "run", "peek"}, args...)...)
		if code != daemon.CodeRefused && code != daemon.CodeUsage || strings.Contains(out, "records") {
			t.Errorf("%v: exit code %d\n%s%s", args, code, out, stderr)
		}
	}

	granted, denied := 0, 0
	for line := range strings.Lines(d.run("audit", "--app", "peek", "--json")) {
		var a daemon.AuditLine
		if err := json.Unmarshal([]byte(line), &a); err != nil {
			t.Fatal(err)
		}
		switch {
		case a.Rows == 50 && strings.Join(a.Fields, ",") == "amount":
			granted++
		case a.Rows == 0:
			denied++
		default:
			t.Errorf("unexpected line of the audit log: %s", line)
		}
	}
	if granted != 1 || denied < 6 {
		t.Errorf("the audit log has %d granted and %d denied reads, want 1 and at least 6", granted, denied)
	}
}

// TestRevokeCuts: a revocation stops an app that runs.
func TestRevokeCuts(t *testing.T) {
	d := withPeek(t)
	grant := grantPeek(d)
	d.daemon()
	running := d.command("app", "run", "peek", "wait")
	var out, stderr bytes.Buffer
	running.Stdout, running.Stderr = &out, &stderr
	if err := running.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = running.Wait(); close(ended) }()
	eventually(t, "reading", 20*time.Second, func() bool {
		return strings.Contains(d.run("audit", "--app", "peek", "--json"), `"rows":50`)
	})
	d.run("revoke", grant)
	select {
	case <-ended:
	case <-time.After(3 * time.Second):
		_ = running.Process.Kill()
		t.Fatal("the app still runs three seconds after its grant was revoked")
	}
	if code := running.ProcessState.ExitCode(); code != daemon.CodeRefused {
		t.Errorf("exit code %d, want %d\n%s%s", code, daemon.CodeRefused, out.String(), stderr.String())
	}
	if _, _, code := d.try("app", "run", "peek", "wait"); code != daemon.CodeRefused {
		t.Errorf("after the revocation: exit code %d, want %d", code, daemon.CodeRefused)
	}
}

// TestAppProgramIsBound: a program that changed after the app was installed is not
// started.
func TestAppProgramIsBound(t *testing.T) {
	d := withPeek(t)
	grantPeek(d)
	program := filepath.Join(d.home, "apps", "peek", "peek")
	raw, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(program, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(program, append(raw, 0), 0o700); err != nil {
		t.Fatal(err)
	}
	if out, stderr, code := d.try("app", "run", "peek", "all"); code == 0 || !strings.Contains(stderr, "install") {
		t.Errorf("exit code %d\n%s%s", code, out, stderr)
	}
}
