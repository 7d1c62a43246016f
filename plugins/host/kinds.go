package host

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"

	"google.golang.org/grpc"

	"github.com/locker-project/locker/plugins"
	"github.com/locker-project/locker/plugins/internal/wire"
)

// Connector is the connector that the process serves. The files and sinks given
// to its methods are not used after they return.
func (p *Process) Connector() plugins.Connector { return &connector{p} }

type connector struct{ p *Process }

func (c *connector) Recognise(ctx context.Context, f plugins.File) (int, error) {
	if err := c.p.need("connector"); err != nil {
		return 0, err
	}
	id, end := c.p.sessions.begin(ctx, &session{file: f})
	defer end()
	reply, err := c.p.conn.Client.Recognise(ctx, fileRequest(id, f))
	return int(max(0, min(reply.GetConfidence(), 100))), c.p.result(ctx, err)
}

func (c *connector) Parse(ctx context.Context, f plugins.File, out plugins.Sink) error {
	if err := c.p.need("connector"); err != nil {
		return err
	}
	id, end := c.p.sessions.begin(ctx, &session{file: f, sink: out})
	defer end()
	_, err := c.p.conn.Client.Parse(ctx, fileRequest(id, f))
	return c.p.result(ctx, err)
}

func fileRequest(session uint64, f plugins.File) *wire.FileRequest {
	return &wire.FileRequest{Session: session, Name: wire.Valid(f.Name()), Size: f.Size()}
}

// Remote is the remote that the process serves.
func (p *Process) Remote() plugins.Remote { return &remote{p} }

type remote struct{ p *Process }

func (r *remote) Open(ctx context.Context, config plugins.RemoteConfig) error {
	if err := r.p.need("remote"); err != nil {
		return err
	}
	return r.open(ctx, config)
}

func (r *remote) Put(ctx context.Context, name string, body io.Reader, size int64) error {
	if err := r.p.need("remote"); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := r.p.conn.Client.PutObject(ctx)
	if err != nil {
		return r.p.result(ctx, err)
	}
	var sent error
	if sent = stream.Send(&wire.PutObjectPart{Name: name, Size: size}); sent == nil {
		err = wire.SendParts(body, func(part []byte) error {
			sent = stream.Send(&wire.PutObjectPart{Data: part})
			return sent
		})
		if err != nil && sent == nil {
			return err // body is broken
		}
	}
	_, err = stream.CloseAndRecv()
	return r.p.result(ctx, err)
}

func (r *remote) Get(ctx context.Context, name string, off, n int64) (io.ReadCloser, error) {
	if err := r.p.need("remote"); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	stream, err := r.p.conn.Client.GetObject(ctx, &wire.GetObjectRequest{Name: name, Offset: off, Length: n})
	o := &object{p: r.p, ctx: ctx, cancel: cancel, stream: stream, left: n}
	if err == nil {
		o.first, err = stream.Recv() // a missing object shows here
	}
	switch {
	case err == io.EOF:
		o.ended = true
	case err != nil:
		err = r.p.result(ctx, err)
		cancel()
		return nil, err
	}
	return &struct {
		io.Reader
		io.Closer
	}{wire.PartReader(o.next), o}, nil
}

// An object is the body of an object that comes in.
type object struct {
	p      *Process
	ctx    context.Context
	cancel context.CancelFunc
	stream grpc.ServerStreamingClient[wire.Bytes]
	first  *wire.Bytes
	left   int64 // < 0 is no limit
	ended  bool
}

func (o *object) next() ([]byte, error) {
	if o.ended {
		return nil, io.EOF
	}
	part := o.first
	o.first = nil
	if part == nil {
		var err error
		if part, err = o.stream.Recv(); err == io.EOF {
			return nil, io.EOF
		} else if err != nil {
			return nil, o.p.result(o.ctx, err)
		}
	}
	data := part.GetData()
	if o.left >= 0 {
		if int64(len(data)) > o.left {
			return nil, errors.New("the remote sends more than it was asked for")
		}
		o.left -= int64(len(data))
	}
	return data, nil
}

func (o *object) Close() error {
	o.cancel()
	return nil
}

func (r *remote) List(ctx context.Context, prefix string) iter.Seq2[plugins.RemoteObject, error] {
	return func(yield func(plugins.RemoteObject, error) bool) {
		err := r.p.need("remote")
		if err == nil {
			err = r.list(ctx, prefix, yield)
		}
		if err != nil {
			yield(plugins.RemoteObject{}, err)
		}
	}
}

func (r *remote) list(ctx context.Context, prefix string, yield func(plugins.RemoteObject, error) bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := r.p.conn.Client.ListObjects(ctx, &wire.ListRequest{Prefix: prefix})
	if err != nil {
		return r.p.result(ctx, err)
	}
	for {
		list, err := stream.Recv()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return r.p.result(ctx, err)
		}
		for _, o := range list.GetObjects() {
			object := plugins.RemoteObject{Name: o.GetName(), Size: o.GetSize()}
			if t := o.GetModified(); t != 0 {
				object.ModTime = time.Unix(0, t)
			}
			if !yield(object, nil) {
				return nil
			}
		}
	}
}

func (r *remote) Delete(ctx context.Context, names ...string) error {
	if err := r.p.need("remote"); err != nil {
		return err
	}
	_, err := r.p.conn.Client.DeleteObjects(ctx, &wire.DeleteRequest{Names: names})
	return r.p.result(ctx, err)
}
