package host

import (
	"context"
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/locker-project/locker/plugins/internal/wire"
	"github.com/locker-project/locker/plugins/locker"
	"github.com/locker-project/locker/plugins/locker/lockertest"
)

// TestViewThroughThePipe runs the suite of all views on the view that an app has.
func TestViewThroughThePipe(t *testing.T) {
	t.Run("the view behind it", func(t *testing.T) {
		lockertest.View(t, func(*testing.T) locker.View { return &memory{} })
	})
	t.Run("the view of an app", func(t *testing.T) {
		lockertest.View(t, func(t *testing.T) locker.View { return pipe(t, &memory{}) })
	})
}

// pipe is v at the other end of a pipe.
func pipe(t *testing.T, v locker.View) locker.View {
	listener := bufconn.Listen(1 << 20)
	server := grpc.NewServer(grpc.MaxRecvMsgSize(wire.MaxToHost))
	var h sessions
	wire.RegisterHostServer(server, &h)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	conn, err := grpc.NewClient("passthrough:pipe", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return listener.Dial() }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	id, end := h.begin(t.Context(), &session{view: v})
	t.Cleanup(end)
	return &wire.View{Host: wire.NewHostClient(conn), Session: id}
}
