// Package wire is what package plugins and package host agree on: the gRPC
// services (wire.proto and the code generated from it), how records and errors
// are encoded, and the settings of go-plugin that must be the same on both sides.
//
// The host reads what a hostile process sends, so every decoder here checks each
// length before it uses it. The two sides are built from one tree and speak one
// version; [Version] is what go-plugin compares.
package wire

//go:generate sh -c "GOBIN=$PWD/bin go install google.golang.org/protobuf/cmd/protoc-gen-go google.golang.org/grpc/cmd/protoc-gen-go-grpc && PATH=$PWD/bin:$PATH protoc --go_out=. --go_opt=paths=source_relative --go-grpc_out=. --go-grpc_opt=paths=source_relative wire.proto && rm -r bin"

import (
	"context"
	"errors"

	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
)

const (
	// Version of the protocol that go-plugin compares.
	Version = 1
	// Cookie is the environment variable by which a plugin knows that it was
	// started by a host. It protects nothing; it makes for a better message.
	Cookie = "LOCKER_PLUGIN"
	// CookieValue is the value of Cookie.
	CookieValue = "1"
	// PluginName is the name of the one plugin in go-plugin's set.
	PluginName = "locker"

	// MaxToHost is the largest message that the host takes, in bytes.
	MaxToHost = 1 << 20
	// MaxToPlugin is the largest message that a plugin takes, in bytes. The host
	// sends larger ones than a batch for a record that is larger itself.
	MaxToPlugin = 64 << 20
	// Part is how many bytes of a file, an object or a blob go into a message.
	Part = 256 << 10
	// MaxPut is how many bytes of records go into one write by an app.
	MaxPut = 16 << 20
)

// Handshake is what go-plugin compares before anything else.
func Handshake() plugin.HandshakeConfig {
	return plugin.HandshakeConfig{ProtocolVersion: Version, MagicCookieKey: Cookie, MagicCookieValue: CookieValue}
}

// Glue joins the services to go-plugin. A plugin sets Register; a host dispenses
// a *Conn.
type Glue struct {
	plugin.NetRPCUnsupportedPlugin
	Register func(*plugin.GRPCBroker, *grpc.Server)
}

// A Conn is the host's side of the connection to a plugin.
type Conn struct {
	Client PluginClient
	Broker *plugin.GRPCBroker
}

// GRPCServer is called by go-plugin in the plugin.
func (g *Glue) GRPCServer(broker *plugin.GRPCBroker, s *grpc.Server) error {
	if g.Register == nil {
		return errors.New("wire: nothing to serve")
	}
	g.Register(broker, s)
	return nil
}

// GRPCClient is called by go-plugin in the host.
func (g *Glue) GRPCClient(_ context.Context, broker *plugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return &Conn{Client: NewPluginClient(conn), Broker: broker}, nil
}
