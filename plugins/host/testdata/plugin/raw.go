package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/locker-project/locker/plugins/internal/wire"
)

// raw are plugins that break the rules of the start itself.
func raw(name string) {
	dir := os.Getenv("PLUGIN_UNIX_SOCKET_DIR")
	target := ""
	if len(os.Args) > 2 {
		target = os.Args[2]
	}
	switch name {
	case "raw-exit42":
		os.Exit(42)
	case "raw-tcp":
		say("tcp", target, "grpc")
	case "raw-unix":
		say("unix", target, "grpc")
	case "raw-symlink":
		check(os.Symlink(target, filepath.Join(dir, "s")))
		say("unix", filepath.Join(dir, "s"), "grpc")
	case "raw-parent":
		say("unix", dir+"/../"+strings.TrimPrefix(target, "/"), "grpc")
	case "raw-file":
		check(os.WriteFile(filepath.Join(dir, "f"), nil, 0o600))
		say("unix", filepath.Join(dir, "f"), "grpc")
	case "raw-folder":
		say("unix", dir+"/.", "grpc")
	case "raw-netrpc":
		listen(dir)
		say("unix", filepath.Join(dir, "l"), "netrpc")
	case "raw-deaf":
		listen(dir)
		say("unix", filepath.Join(dir, "l"), "grpc")
	case "raw-hangup":
		l := listen(dir)
		say("unix", filepath.Join(dir, "l"), "grpc")
		for {
			conn, err := l.Accept()
			check(err)
			conn.Close()
		}
	case "raw-garbage":
		for {
			fmt.Print(strings.Repeat("x", 1<<16))
		}
	case "raw-lines":
		for {
			fmt.Print("1|1|\x1b[2J\n")
		}
	case "raw-stderr":
		for {
			fmt.Fprint(os.Stderr, strings.Repeat("\x1b[2Jx", 1000), "\n")
		}
	case "raw-quit":
		fmt.Fprintln(os.Stderr, "I will\x07 not")
		os.Exit(5)
	case "raw-mute", "raw-giant":
		serve(&rude{mute: name == "raw-mute"})
	}
	time.Sleep(time.Hour)
}

func say(network, address, protocol string) {
	fmt.Printf("1|%d|%s|%s|%s||true\n", wire.Version, network, address, protocol)
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func listen(dir string) net.Listener {
	l, err := net.Listen("unix", filepath.Join(dir, "l"))
	check(err)
	return l
}

func serve(r *rude) {
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig: wire.Handshake(),
		GRPCServer:      plugin.DefaultGRPCServer,
		Plugins: plugin.PluginSet{wire.PluginName: &wire.Glue{Register: func(_ *plugin.GRPCBroker, s *grpc.Server) {
			wire.RegisterPluginServer(s, r)
		}}},
	})
}

// A rude plugin never answers, or answers too much.
type rude struct {
	wire.UnimplementedPluginServer
	mute bool
}

func (r *rude) Attach(context.Context, *wire.AttachRequest) (*wire.AttachReply, error) {
	if r.mute {
		select {}
	}
	return &wire.AttachReply{Kind: "remote"}, nil
}

func (r *rude) OpenRemote(grpc.BidiStreamingServer[wire.OpenPart, wire.OpenNews]) error {
	return wire.Status(errors.New(strings.Repeat("\x1b[31mlong", 100)))
}

func (r *rude) DeleteObjects(context.Context, *wire.DeleteRequest) (*wire.Nothing, error) {
	p := &wire.Problem{Message: strings.Repeat("m", 8<<20)}
	return nil, p.Status()
}

func (r *rude) GetObject(_ *wire.GetObjectRequest, s grpc.ServerStreamingServer[wire.Bytes]) error {
	return s.Send(&wire.Bytes{Data: make([]byte, 64<<20)})
}

func (r *rude) ListObjects(_ *wire.ListRequest, s grpc.ServerStreamingServer[wire.ObjectList]) error {
	for {
		if err := s.Send(&wire.ObjectList{Objects: make([]*wire.ObjectList_Object, 1000)}); err != nil {
			return err
		}
	}
}
