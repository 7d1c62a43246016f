package plugins

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"

	"github.com/locker-project/locker/plugins/internal/wire"
)

// A server answers the host's calls with an App, a Connector or a Remote.
type server struct {
	wire.UnimplementedPluginServer
	app       App
	connector Connector
	remote    Remote
	broker    *plugin.GRPCBroker

	mu   sync.Mutex
	host wire.HostClient // set by Attach
}

// Attach connects to what the host serves, over the connection that is there.
func (s *server) Attach(ctx context.Context, r *wire.AttachRequest) (*wire.AttachReply, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.host != nil {
		return nil, wire.Status(errors.New("attached already"))
	}
	if s.remote != nil { // it asks its host for nothing
		return &wire.AttachReply{Kind: s.kind()}, nil
	}
	conn, err := s.broker.DialWithOptions(r.GetStream(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(wire.MaxToPlugin)),
		grpc.WithIdleTimeout(0))
	if err != nil {
		return nil, wire.Status(err)
	}
	// A connection that comes about later could be under way when the host ends this
	// process.
	conn.Connect()
	for state := conn.GetState(); state != connectivity.Ready; state = conn.GetState() {
		if !conn.WaitForStateChange(ctx, state) {
			conn.Close()
			return nil, wire.Status(ctx.Err())
		}
	}
	s.host = wire.NewHostClient(conn)
	return &wire.AttachReply{Kind: s.kind()}, nil
}

func (s *server) attached() (wire.HostClient, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.host == nil {
		return nil, errors.New("the host has not attached yet")
	}
	return s.host, nil
}

// status is err as a gRPC error; a *FileError keeps its parts.
func status(err error) error {
	var file *FileError
	if !errors.As(err, &file) {
		return wire.Status(err)
	}
	p := wire.NewProblem(err)
	p.Kind = wire.Problem_FILE
	p.At, p.Why = wire.Cut(file.At), wire.Cut(file.Why)
	return p.Status()
}

func (s *server) RunApp(ctx context.Context, r *wire.RunRequest) (*wire.Nothing, error) {
	host, err := s.attached()
	if err == nil && s.app == nil {
		err = fmt.Errorf("this is a %s, not an app", s.kind())
	}
	if err != nil {
		return nil, wire.Status(err)
	}
	env := AppEnv{
		View: &wire.View{Host: host, Session: r.GetSession()},
		Out:  &output{ctx: ctx, host: host, session: r.GetSession()},
		Args: r.GetArgs(),
	}
	return &wire.Nothing{}, status(s.app.Run(ctx, env))
}

func (s *server) Recognise(ctx context.Context, r *wire.FileRequest) (*wire.RecogniseReply, error) {
	f, err := s.file(ctx, r)
	if err != nil {
		return nil, wire.Status(err)
	}
	confidence, err := s.connector.Recognise(ctx, f)
	if err != nil {
		return nil, status(err)
	}
	return &wire.RecogniseReply{Confidence: int64(confidence)}, nil
}

func (s *server) Parse(ctx context.Context, r *wire.FileRequest) (*wire.Nothing, error) {
	f, err := s.file(ctx, r)
	if err != nil {
		return nil, wire.Status(err)
	}
	out, err := newSink(ctx, f.host, f.session)
	if err != nil {
		return nil, wire.Status(err)
	}
	err = s.connector.Parse(ctx, f, out)
	if sent := out.close(); err == nil {
		err = sent
	}
	return &wire.Nothing{}, status(err)
}

func (s *server) file(ctx context.Context, r *wire.FileRequest) (*file, error) {
	host, err := s.attached()
	if err == nil && s.connector == nil {
		err = fmt.Errorf("this is a %s, not a connector", s.kind())
	}
	if err != nil {
		return nil, err
	}
	return &file{ctx: ctx, host: host, session: r.GetSession(), name: r.GetName(), size: r.GetSize()}, nil
}

// needRemote is the error of the object calls where the plugin is no remote.
func (s *server) needRemote() error {
	if s.remote == nil {
		return wire.Status(fmt.Errorf("this is a %s, not a remote", s.kind()))
	}
	return nil
}

func (s *server) PutObject(stream grpc.ClientStreamingServer[wire.PutObjectPart, wire.Nothing]) error {
	if err := s.needRemote(); err != nil {
		return err
	}
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	rest := first.GetData()
	body := wire.PartReader(func() ([]byte, error) {
		if data := rest; data != nil {
			rest = nil
			return data, nil
		}
		part, err := stream.Recv()
		return part.GetData(), wire.Error(err)
	})
	if err := s.remote.Put(stream.Context(), first.GetName(), body, first.GetSize()); err != nil {
		return status(err)
	}
	return stream.SendAndClose(&wire.Nothing{})
}

func (s *server) GetObject(r *wire.GetObjectRequest, stream grpc.ServerStreamingServer[wire.Bytes]) error {
	if err := s.needRemote(); err != nil {
		return err
	}
	body, err := s.remote.Get(stream.Context(), r.GetName(), r.GetOffset(), r.GetLength())
	if err != nil {
		return status(err)
	}
	defer body.Close()
	return status(wire.SendParts(body, func(part []byte) error {
		return stream.Send(&wire.Bytes{Data: part})
	}))
}

func (s *server) ListObjects(r *wire.ListRequest, stream grpc.ServerStreamingServer[wire.ObjectList]) error {
	if err := s.needRemote(); err != nil {
		return err
	}
	var list wire.ObjectList
	size := 0
	for o, err := range s.remote.List(stream.Context(), r.GetPrefix()) {
		if err != nil {
			return status(err)
		}
		object := &wire.ObjectList_Object{Name: o.Name, Size: o.Size}
		if !o.ModTime.IsZero() {
			object.Modified = o.ModTime.UnixNano()
		}
		list.Objects = append(list.Objects, object)
		if size += len(o.Name) + 32; size < wire.Part {
			continue
		}
		if err := stream.Send(&list); err != nil {
			return err
		}
		list, size = wire.ObjectList{}, 0
	}
	if len(list.Objects) == 0 {
		return nil
	}
	return stream.Send(&list)
}

func (s *server) DeleteObjects(ctx context.Context, r *wire.DeleteRequest) (*wire.Nothing, error) {
	if err := s.needRemote(); err != nil {
		return nil, err
	}
	return &wire.Nothing{}, status(s.remote.Delete(ctx, r.GetNames()...))
}
