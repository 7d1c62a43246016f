package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/locker-project/locker/plugins"
)

// TestRaw starts plugins that break the rules of the start, or of the answers.
func TestRaw(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the rules are others where sockets are ports")
	}
	dir, err := os.MkdirTemp("", "raw-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	tcp, unix := victim(t, "tcp", "127.0.0.1:0"), victim(t, "unix", filepath.Join(dir, "victim"))
	for _, tt := range []struct{ name, target, says string }{
		{"raw-tcp", tcp, "not a socket in its own folder"},
		{"raw-unix", unix, "not a socket in its own folder"},
		{"raw-parent", unix, "not a socket in its own folder"},
		{"raw-symlink", unix, ""}, // refused when it is made, or when it is followed
		{"raw-file", "", "no socket"},
		{"raw-folder", "", "socket"},
		{"raw-netrpc", "", "unsupported plugin protocol"},
		{"raw-hangup", "", ""},
		{"raw-garbage", "", "Unrecognized remote plugin message"},
		{"raw-lines", "", "Unrecognized remote plugin message"},
		{"raw-quit", "", "exit status 5): I will� not"},
		{"raw-deaf", "", "did not answer"},
		{"raw-stderr", "", "did not answer"},
		{"raw-mute", "", "did not answer"},
	} {
		for _, mode := range modes() {
			t.Run(tt.name+" "+mode.name, func(t *testing.T) {
				patience := 20 * time.Second
				if tt.says == "did not answer" {
					patience = 1500 * time.Millisecond
				}
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				said := 0
				spec := Spec{
					Name: "raw", Path: pluginPath, Args: []string{tt.name, tt.target}, only: mode.only,
					Own: true, SHA256: hashOf(t, pluginPath),
					Stderr: func(line string) {
						if said += len(line); strings.ContainsAny(line, "\x1b\x07") {
							t.Errorf("said %q", line)
						}
					},
				}
				started := time.Now()
				p, err := Start(ctx, spec)
				if err == nil {
					p.Kill()
					t.Fatal("it started")
				}
				// On a busy machine time may be over before it is asked at all.
				late := tt.says == "did not answer" && errors.Is(err, context.DeadlineExceeded)
				if !late && !strings.Contains(err.Error(), tt.says) || strings.ContainsAny(err.Error(), "\x1b\x07") || len(err.Error()) > 8<<10 {
					t.Errorf("the error is %.500q", err)
				}
				if took := time.Since(started); took > patience+3*time.Second {
					t.Errorf("it took %v", took)
				}
				if most := wordBurst + 4*wordRate; said > most {
					t.Errorf("it said %d bytes, more than %d", said, most)
				}
			})
		}
	}
}

type mode struct {
	name string
	only *layers
}

// victim listens and fails the test when somebody connects.
func victim(t *testing.T, network, address string) string {
	return accept(t, network, address, func(net.Conn) {
		t.Errorf("the host was made to connect to %s %s", network, address)
	})
}

// accept listens and hands each connection over, in a goroutine of its own; it is
// closed afterwards. It returns the address.
func accept(t *testing.T, network, address string, take func(net.Conn)) string {
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() { take(conn); conn.Close() }()
		}
	}()
	return l.Addr().String()
}

// TestGiant is a remote whose answers are too large.
func TestGiant(t *testing.T) {
	p := startWith(t, Spec{Network: true}, "raw-giant")
	r := p.Remote()
	if rc, err := r.Get(t.Context(), "x", 0, -1); err == nil {
		rc.Close()
		t.Error("a message of 64 MiB was taken")
	} else if !strings.Contains(err.Error(), "too large") {
		t.Errorf("a message of 64 MiB: %v", err)
	}
	err := r.Open(t.Context(), plugins.RemoteConfig{})
	if err == nil || strings.Contains(err.Error(), "\x1b") {
		t.Errorf("a coloured error: %q", err)
	}
	if err := r.Delete(t.Context(), "x"); err == nil || len(err.Error()) > 8<<10 {
		t.Errorf("an error of 8 MiB: %.200v", err)
	}
	n := 0
	for _, err := range r.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		if n++; n == 10_000 {
			break // an endless list ends where its reader ends
		}
	}
}

// talkative is a stream on which a process says too much.
type talkative struct{ grpc.ClientStream }

func (talkative) RecvMsg(any) error { return nil }

func TestBrokerIsBounded(t *testing.T) {
	streamer := func(context.Context, *grpc.StreamDesc, *grpc.ClientConn, string, ...grpc.CallOption) (grpc.ClientStream, error) {
		return talkative{}, nil
	}
	heard := func(method string) int {
		stream, err := boundBroker(t.Context(), nil, nil, method, streamer)
		if err != nil {
			t.Fatal(err)
		}
		for n := range 1000 {
			if stream.RecvMsg(nil) != nil {
				return n
			}
		}
		return 1000
	}
	if n := heard("/plugin.GRPCBroker/StartStream"); n != maxBrokerTalk {
		t.Errorf("the broker heard %d messages", n)
	}
	if n := heard("/locker.plugin.v1.Plugin/GetObject"); n != 1000 {
		t.Errorf("another stream heard %d messages", n)
	}
}

func TestFirstLine(t *testing.T) {
	for text, want := range map[string]string{
		"a|b\nmore\n":                "a|b\n",
		"":                           "",
		strings.Repeat("x", 100_000): strings.Repeat("x", maxLine),
	} {
		got, err := io.ReadAll(&firstLine{from: strings.NewReader(text)})
		if err != nil || string(got) != want {
			t.Errorf("of %.20q it took %d bytes, %v", text, len(got), err)
		}
	}
}

func TestPlainWords(t *testing.T) {
	var got []string
	w := newWords(t.Context(), func(line string) { got = append(got, line) })
	m := &mouth{words: w}
	for _, part := range []string{"one\ntw", "o\n", "\x1b[2J\r\n", strings.Repeat("long", lineMax), "\nend"} {
		if _, err := m.Write([]byte(part)); err != nil {
			t.Fatal(err)
		}
	}
	m.Flush()
	want := []string{"one", "two", "�[2J ", strings.Repeat("long", lineMax)[:lineMax], "end"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("heard %q", got)
	}
}

func TestWordsAreSlowed(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	m := &mouth{words: newWords(ctx, nil)}
	n, err := 0, error(nil)
	for err == nil {
		_, err = m.Write(make([]byte, 10_000))
		n += 10_000
	}
	if !errors.Is(err, context.DeadlineExceeded) || n > wordBurst+2*wordRate {
		t.Errorf("%d bytes went through, then %v", n, err)
	}
}
