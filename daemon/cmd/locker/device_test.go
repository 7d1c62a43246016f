package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/webdav"

	"github.com/locker-project/locker/daemon"
)

// A device is one home and the commands that are run on it.
type device struct {
	t    testing.TB
	home string
	env  []string
}

func newDevice(t testing.TB, name string) *device {
	t.Helper()
	dir := t.TempDir()
	return &device{t: t, home: filepath.Join(dir, name), env: append(os.Environ(),
		"HOME="+dir, "XDG_CONFIG_HOME="+dir, "XDG_RUNTIME_DIR=", "DBUS_SESSION_BUS_ADDRESS=", "LOCKER_PASSPHRASE_FILE=")}
}

func (d *device) command(args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(bin, "locker"), append([]string{"--home", d.home}, args...)...)
	cmd.Env = d.env
	return cmd
}

// try runs a command and returns what it printed and its exit code.
func (d *device) try(args ...string) (stdout, stderr string, code int) {
	d.t.Helper()
	cmd := d.command(args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if _, ok := err.(*exec.ExitError); err != nil && !ok {
		d.t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// run runs a command that must succeed.
func (d *device) run(args ...string) string {
	d.t.Helper()
	out, errs, code := d.try(args...)
	if code != 0 {
		d.t.Fatalf("locker %s: exit code %d\n%s%s", strings.Join(args, " "), code, out, errs)
	}
	return out
}

// status is what 'locker status' says; an alarm is not an error here.
func (d *device) status() daemon.Status {
	d.t.Helper()
	out, errs, code := d.try("status", "--json")
	var s daemon.Status
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		d.t.Fatalf("locker status: exit code %d: %v\n%s%s", code, err, out, errs)
	}
	return s
}

// well is the status of a locker with nothing wrong and nothing waiting.
func (d *device) well() daemon.Status {
	d.t.Helper()
	s := d.status()
	if len(s.Alarms) > 0 || len(s.Pending) > 0 {
		d.t.Fatalf("%s is not well: alarms %+v, pending %+v", d.home, s.Alarms, s.Pending)
	}
	return s
}

// imports are the imports of a locker, newest last.
func (d *device) imports() []daemon.ImportInfo {
	d.t.Helper()
	var list []daemon.ImportInfo
	for line := range strings.Lines(d.run("imports", "--json")) {
		var i daemon.ImportInfo
		if err := json.Unmarshal([]byte(line), &i); err != nil {
			d.t.Fatal(err)
		}
		list = append(list, i)
	}
	return list
}

// A daemonProcess is a running 'locker daemon'.
type daemonProcess struct {
	t     testing.TB
	cmd   *exec.Cmd
	ended chan struct{}
	log   *bytes.Buffer // read it when the process has ended
}

// daemon starts the daemon and waits until it serves.
func (d *device) daemon() *daemonProcess {
	d.t.Helper()
	cmd := d.command("daemon", "--verbose")
	pipe, err := cmd.StderrPipe()
	if err != nil {
		d.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	p := &daemonProcess{t: d.t, cmd: cmd, ended: make(chan struct{}), log: &bytes.Buffer{}}
	serving := make(chan bool, 1)
	go func() {
		lines := bufio.NewScanner(pipe)
		for lines.Scan() {
			fmt.Fprintln(p.log, lines.Text())
			if strings.Contains(lines.Text(), ": serving ") {
				serving <- true
			}
		}
		_ = cmd.Wait()
		close(p.ended)
		close(serving)
	}()
	d.t.Cleanup(p.kill)
	select {
	case ok := <-serving:
		if !ok {
			d.t.Fatalf("the daemon did not start:\n%s", p.log)
		}
	case <-time.After(20 * time.Second):
		d.t.Fatal("the daemon does not serve after 20 s")
	}
	return p
}

// kill ends the daemon as a power cut would.
func (p *daemonProcess) kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// A cloud is a real WebDAV server on loopback.
type cloud struct {
	dir string
	url string
	// stall, while set, holds puts until their caller is gone.
	stall   atomic.Bool
	stalled chan struct{}
}

func newCloud(t testing.TB) *cloud {
	t.Helper()
	c := &cloud{dir: t.TempDir(), stalled: make(chan struct{}, 1000)}
	handler := &webdav.Handler{FileSystem: webdav.Dir(c.dir), LockSystem: webdav.NewMemLS()}
	release := make(chan struct{})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut && c.stall.Load() {
			_, _ = io.CopyN(io.Discard, r.Body, 2048) // some of it has come
			c.stalled <- struct{}{}
			select {
			case <-release:
			case <-r.Context().Done():
			}
			return
		}
		handler.ServeHTTP(w, r)
	})}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { close(release); server.Close() })
	c.url = "http://" + listener.Addr().String()
	return c
}

// spec is the remote spec of the cloud.
func (c *cloud) spec() string {
	return fmt.Sprintf("rclone::webdav,url='%s',vendor=other:locker", c.url)
}

// statement writes a bank statement with n transactions to a new file.
func statement(t testing.TB, n int) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("OFXHEADER:100\nDATA:OFXSGML\nVERSION:102\nSECURITY:NONE\nENCODING:USASCII\nCHARSET:1252\nCOMPRESSION:NONE\nOLDFILEUID:NONE\nNEWFILEUID:NONE\n\n")
	b.WriteString("<OFX><SIGNONMSGSRSV1><SONRS><STATUS><CODE>0<SEVERITY>INFO</STATUS><DTSERVER>20260101<LANGUAGE>ENG</SONRS></SIGNONMSGSRSV1>\n")
	b.WriteString("<BANKMSGSRSV1><STMTTRNRS><TRNUID>1<STATUS><CODE>0<SEVERITY>INFO</STATUS><STMTRS><CURDEF>CHF<BANKACCTFROM><BANKID>100<ACCTID>CH9300762011623852957<ACCTTYPE>CHECKING</BANKACCTFROM><BANKTRANLIST><DTSTART>20200101<DTEND>20260101\n")
	day := time.Date(2020, 1, 1, 12, 0, 0, 0, time.UTC)
	for i := range n {
		fmt.Fprintf(&b, "<STMTTRN><TRNTYPE>DEBIT<DTPOSTED>%s<TRNAMT>-%d.%02d<FITID>T%07d<NAME>Merchant %d<MEMO>purchase number %d with some text</STMTTRN>\n",
			day.AddDate(0, 0, i%2000).Format("20060102150405"), 1+i%90, i%100, i, i%37, i)
	}
	b.WriteString("</BANKTRANLIST><LEDGERBAL><BALAMT>100.00<DTASOF>20260101</LEDGERBAL></STMTRS></STMTTRNRS></BANKMSGSRSV1></OFX>\n")
	path := filepath.Join(t.TempDir(), "statement.ofx")
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// eventually waits until a condition holds.
func eventually(t testing.TB, what string, most time.Duration, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(most); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("after %v: not %s", most, what)
		}
	}
}
