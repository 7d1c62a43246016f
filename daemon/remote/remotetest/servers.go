package remotetest

import (
	"fmt"
	"net"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
)

// A Server is a real server on loopback that takes what the owner would type as a
// remote.
type Server struct {
	Name string
	Addr string // host:port
	FTP  bool   // its data goes over connections of its own

	spec func(addr, folder string) string
}

// Spec is the remote in a folder of the server.
func (s *Server) Spec(folder string) string { return s.spec(s.Addr, folder) }

// Behind puts a proxy in front of the server.
func (s *Server) Behind(t testing.TB, seed uint64) (*Server, *Proxy) {
	t.Helper()
	p := NewProxy(t, s.Addr, seed)
	if s.FTP {
		p.FTP()
	}
	behind := *s
	behind.Addr = p.Addr()
	return &behind, p
}

// Servers are the kinds of servers, each with what starts one that ends with the test.
// Where its program is not installed, the test is skipped. None of them is rclone's.
var Servers = []struct {
	Name  string
	Start func(t testing.TB) *Server
}{
	{"webdav", newWebDAVServer},
	{"sftp", newSFTPServer},
	{"s3", newS3Server},
	{"ftp", newFTPServer},
}

// newWebDAVServer is golang.org/x/net's.
func newWebDAVServer(t testing.TB) *Server {
	d := NewWebDAV(t)
	u, err := url.Parse(d.URL)
	if err != nil {
		t.Fatal(err)
	}
	return &Server{Name: "webdav", Addr: u.Host, spec: func(addr, folder string) string {
		return fmt.Sprintf("rclone::webdav,url='http://%s',vendor=other,user=%s,pass='%s':%s", addr, d.User, strings.ReplaceAll(d.Password, "'", "''"), folder)
	}}
}

// newSFTPServer is OpenSSH's. Nobody names its key: it is met for the first time.
func newSFTPServer(t testing.TB) *Server {
	s := NewSFTP(t)
	return &Server{Name: "sftp", Addr: s.addr, spec: s.specAt}
}

// newS3Server is gofakes3, with its objects in memory.
func newS3Server(t testing.TB) *Server {
	server := httptest.NewServer(gofakes3.New(s3mem.New()).Server())
	t.Cleanup(server.Close)
	return &Server{Name: "s3", Addr: strings.TrimPrefix(server.URL, "http://"), spec: func(addr, folder string) string {
		return fmt.Sprintf("rclone::s3,provider=Other,endpoint='http://%s',access_key_id=key,secret_access_key=secret,region=us-east-1,force_path_style=true:bucket/%s", addr, folder)
	}}
}

// newFTPServer is ProFTPD, with one user of its own.
func newFTPServer(t testing.TB) *Server {
	t.Helper()
	program, err := exec.LookPath("proftpd")
	if err != nil {
		if program, err = exec.LookPath("/usr/sbin/proftpd"); err != nil {
			t.Skip("proftpd is not installed: on Debian, apt-get install proftpd-core")
		}
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	group, err := user.LookupGroupId(me.Gid)
	if err != nil {
		t.Fatal(err)
	}
	dir, port := t.TempDir(), FreePort(t)
	file := func(name string) string { return filepath.Join(dir, name) }
	if err := os.Mkdir(file("store"), 0o700); err != nil {
		t.Fatal(err)
	}
	// The hash is that of the password, as 'openssl passwd -1' makes it.
	const secret, hash = "secret", "$1$locker$zr4Av/biiPxyIyDr9K1St/"
	writeFile(t, file("passwd"), fmt.Sprintf("alice:%s:%s:%s::%s:/bin/sh\n", hash, me.Uid, me.Gid, file("store")))
	writeFile(t, file("conf"), fmt.Sprintf(`ServerType standalone
Port %d
DefaultAddress 127.0.0.1
UseIPv6 off
User %s
Group %s
PidFile %s
ScoreboardFile %s
DelayEngine off
WtmpLog off
UseReverseDNS off
RequireValidShell off
RootLogin on
AuthOrder mod_auth_file.c
AuthUserFile %s
MaxInstances 100
AllowOverwrite on
AllowStoreRestart on
DefaultRoot ~
SystemLog %s
`, port, me.Username, group.Name, file("pid"), file("scores"), file("passwd"), file("log")))
	cmd := exec.Command(program, "-n", "-q", "-c", file("conf"))
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if log, err := os.ReadFile(file("log")); t.Failed() && err == nil {
			t.Logf("proftpd says:\n%s", log)
		}
	})
	waitFor(t, port)
	return &Server{Name: "ftp", FTP: true, Addr: fmt.Sprintf("127.0.0.1:%d", port), spec: func(addr, folder string) string {
		host, port, _ := net.SplitHostPort(addr)
		return fmt.Sprintf("rclone::ftp,host=%s,port=%s,user=alice,pass=%s:%s", host, port, secret, folder)
	}}
}
