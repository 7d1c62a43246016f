package remotetest

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// An SFTP is OpenSSH's server, for the user who runs the test, who has a key.
type SFTP struct {
	Dir        string // where there is room
	KnownHosts string // the file with the server's public key

	addr, user, key string // key is the file of the user's key
	options         string
}

// Spec is that of a folder below Dir.
func (s *SFTP) Spec(folder string) string { return s.SpecKnowing(s.KnownHosts, folder) }

// SpecKnowing is Spec with another file of known hosts.
func (s *SFTP) SpecKnowing(knownHosts, folder string) string {
	return fmt.Sprintf("rclone::sftp,%s,known_hosts_file='%s':%s", s.options, knownHosts, filepath.Join(s.Dir, folder))
}

// SpecUnknown is Spec where nobody says what the server's key is.
func (s *SFTP) SpecUnknown(folder string) string { return s.specAt(s.addr, folder) }

func (s *SFTP) specAt(addr, folder string) string {
	host, port, _ := net.SplitHostPort(addr)
	return fmt.Sprintf("rclone::sftp,host=%s,port=%s,user='%s',key_file='%s':%s", host, port, s.user, s.key, filepath.Join(s.Dir, folder))
}

// Fingerprint is that of the server's key, as OpenSSH prints it.
func (s *SFTP) Fingerprint(t testing.TB) string {
	t.Helper()
	raw, err := os.ReadFile(s.KnownHosts)
	if err != nil {
		t.Fatal(err)
	}
	_, _, key, _, _, err := ssh.ParseKnownHosts(raw)
	if err != nil {
		t.Fatal(err)
	}
	return key.Type() + " " + ssh.FingerprintSHA256(key)
}

// NewSFTP starts a server that ends with the test, and skips the test where OpenSSH's
// is not installed.
func NewSFTP(t testing.TB) *SFTP {
	t.Helper()
	program, err := exec.LookPath("sshd")
	if err != nil {
		if program, err = exec.LookPath("/usr/sbin/sshd"); err != nil {
			t.Skip("sshd is not installed: on Debian, apt-get install openssh-server")
		}
	}
	sftp := ""
	for _, path := range []string{"/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/lib/ssh/sftp-server", "/usr/libexec/sftp-server"} {
		if _, err := os.Stat(path); err == nil {
			sftp = path
		}
	}
	if sftp == "" {
		t.Skip("sftp-server is not installed: on Debian, apt-get install openssh-sftp-server")
	}
	privilegeFolder(t)
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	dir, port := t.TempDir(), FreePort(t)
	file := func(name string) string { return filepath.Join(dir, name) }
	hostKey := NewKey(t, file("host"))
	myKey := NewKey(t, file("me"))
	writeFile(t, file("authorized"), myKey)
	writeFile(t, file("known"), fmt.Sprintf("[127.0.0.1]:%d %s", port, hostKey))
	writeFile(t, file("conf"), fmt.Sprintf(`ListenAddress 127.0.0.1
Port %d
HostKey %s
AuthorizedKeysFile %s
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin yes
MaxStartups 100
Subsystem sftp %s
`, port, file("host"), file("authorized"), sftp))
	var log strings.Builder
	cmd := exec.Command(program, "-D", "-e", "-f", file("conf"))
	cmd.Stderr = &log
	cmd.WaitDelay = time.Second // its sessions go on for as long as their clients
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("sshd says:\n%s", log.String())
		}
	})
	waitFor(t, port)
	store := filepath.Join(dir, "store")
	if err := os.Mkdir(store, 0o700); err != nil {
		t.Fatal(err)
	}
	return &SFTP{Dir: store, KnownHosts: file("known"), addr: fmt.Sprintf("127.0.0.1:%d", port), user: me.Username, key: file("me"),
		options: fmt.Sprintf("host=127.0.0.1,port=%d,user='%s',key_file='%s'", port, me.Username, file("me"))}
}

// privilegeFolder makes the folder that sshd insists on when root starts it, which
// otherwise the system does. It stays: other servers may run.
func privilegeFolder(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		return
	}
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
		t.Fatal(err)
	}
}

// NewKey makes a key in a file and returns its public half as OpenSSH writes it.
func NewKey(t testing.TB, path string) string {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, path, string(pem.EncodeToMemory(block)))
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
}

func writeFile(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// FreePort is a port on which nobody listens. It is not one of those that systems give to
// connections, so that none takes it meanwhile.
func FreePort(t testing.TB) int {
	t.Helper()
	for range 100 {
		port := 20_000 + mathrand.IntN(12_000)
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return 0
}

// waitFor waits until somebody listens.
func waitFor(t testing.TB, port int) {
	t.Helper()
	for range 100 {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			c.Close()
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("nobody listens on port %d", port)
}
