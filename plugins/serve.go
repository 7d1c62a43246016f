package plugins

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/locker-project/locker/plugins/internal/wire"
)

// Serve serves v, an [App], a [Connector] or a [Remote], to the host that started
// this process. It is all that a plugin's main function calls, and does not return.
func Serve(v any) {
	name := strings.TrimSuffix(filepath.Base(os.Args[0]), ".exe")
	os.Exit(serve(name, v, os.Stderr))
}

// ServeNamed serves one of several plugins that share a program: the one that the
// first argument names. Only that one is made. It does not return.
func ServeNamed(named map[string]func() any) {
	os.Exit(serveNamed(os.Args, named, os.Stderr))
}

func serveNamed(args []string, named map[string]func() any, stderr io.Writer) (code int) {
	if len(args) > 1 {
		if make, ok := named[args[1]]; ok {
			return serve(args[1], make(), stderr)
		}
		fmt.Fprintf(stderr, "There is no plugin %q in this program.\n", args[1])
	}
	names := make([]string, 0, len(named))
	for name := range named {
		names = append(names, name)
	}
	slices.Sort(names)
	fmt.Fprintf(stderr, "This program holds plugins of Locker: %s.\n%s", strings.Join(names, ", "), byHand)
	return 2
}

const byHand = `Locker starts its plugins itself, each in a process of its own that can reach nothing
but Locker. See 'locker connectors', 'locker app list' and 'locker remote list'.
`

// serve serves v until the host is done with it and returns the exit code.
func serve(name string, v any, stderr io.Writer) (code int) {
	s, err := newServer(v)
	if err != nil {
		fmt.Fprintf(stderr, "%s: %v\n", name, err)
		return 2
	}
	if os.Getenv(wire.Cookie) != wire.CookieValue {
		fmt.Fprintf(stderr, "%s is a plugin of Locker (%s).\n%s", name, s.kind(), byHand)
		return 2
	}
	glue := &wire.Glue{Register: func(broker *plugin.GRPCBroker, g *grpc.Server) {
		s.broker = broker
		wire.RegisterPluginServer(g, s)
	}}
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig: wire.Handshake(),
		Plugins:         plugin.PluginSet{wire.PluginName: glue},
		Logger:          hclog.NewNullLogger(),
		GRPCServer: func(options []grpc.ServerOption) *grpc.Server {
			if s.remote != nil {
				denyUnixSockets()
			}
			return grpc.NewServer(append(options, grpc.MaxRecvMsgSize(wire.MaxToPlugin))...)
		},
	})
	return 0
}

// newServer finds out what v is.
func newServer(v any) (*server, error) {
	s := &server{}
	s.app, _ = v.(App)
	s.connector, _ = v.(Connector)
	s.remote, _ = v.(Remote)
	if s.kind() == "" {
		return nil, fmt.Errorf("Serve was given a %T, which is not just one of App, Connector and Remote", v)
	}
	return s, nil
}

// kind is what the server serves; empty if that is not just one thing.
func (s *server) kind() string {
	kinds := make([]string, 0, 1)
	if s.app != nil {
		kinds = append(kinds, "app")
	}
	if s.connector != nil {
		kinds = append(kinds, "connector")
	}
	if s.remote != nil {
		kinds = append(kinds, "remote")
	}
	if len(kinds) != 1 {
		return ""
	}
	return kinds[0]
}
