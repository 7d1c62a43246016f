package plugins

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync"

	"google.golang.org/grpc"

	"github.com/locker-project/locker/plugins/internal/wire"
	"github.com/locker-project/locker/plugins/locker"
)

// A view is the host's View, seen from the plugin.
type view struct {
	host    wire.HostClient
	session uint64
}

func (v *view) Get(ctx context.Context, collection, id string) (locker.Record, error) {
	rows, err := v.host.Get(ctx, &wire.GetRequest{Session: v.session, Collection: collection, Id: id})
	if err != nil {
		return locker.Record{}, wire.Error(err)
	}
	return wire.ReadRows(rows.GetRows()).Next()
}

func (v *view) Query(ctx context.Context, q locker.Query) iter.Seq2[locker.Record, error] {
	return answer(ctx, func(ctx context.Context) (grpc.ServerStreamingClient[wire.Rows], error) {
		return v.host.Query(ctx, &wire.QueryRequest{
			Session: v.session, Collection: q.Collection, Fields: q.Fields, AllFields: q.Fields == nil,
			Since: wire.FromTime(q.Since), Until: wire.FromTime(q.Until), Where: q.Where,
			Descending: q.Descending, Limit: int64(q.Limit),
		})
	})
}

func (v *view) Changes(ctx context.Context, collection string, after locker.Rev) iter.Seq2[locker.Record, error] {
	return answer(ctx, func(ctx context.Context) (grpc.ServerStreamingClient[wire.Rows], error) {
		return v.host.Changes(ctx, &wire.ChangesRequest{Session: v.session, Collection: collection, After: uint64(after)})
	})
}

// answer yields the records of a stream.
func answer(ctx context.Context, ask func(context.Context) (grpc.ServerStreamingClient[wire.Rows], error)) iter.Seq2[locker.Record, error] {
	return func(yield func(locker.Record, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		stream, err := ask(ctx)
		if err != nil {
			yield(locker.Record{}, wire.Error(err))
			return
		}
		for {
			message, err := stream.Recv()
			if err == io.EOF {
				return
			}
			if err != nil {
				yield(locker.Record{}, wire.Error(err))
				return
			}
			for rows := wire.ReadRows(message.GetRows()); rows.More(); {
				r, err := rows.Next()
				if !yield(r, err) || err != nil {
					return
				}
			}
		}
	}
}

func (v *view) Put(ctx context.Context, records ...locker.Record) error {
	var rows wire.RowWriter
	for i := range records {
		rows.Add(&records[i])
	}
	if rows.Len() > wire.MaxPut {
		return fmt.Errorf("%w: one write has %d bytes of records, and at most %d are taken", locker.ErrInvalid, rows.Len(), wire.MaxPut)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := v.host.Put(ctx)
	if err != nil {
		return wire.Error(err)
	}
	rest := rows.Take()
	for first := true; first || len(rest) > 0; first = false {
		part := rest[:min(len(rest), wire.Part)]
		rest = rest[len(part):]
		if err := stream.Send(&wire.PutPart{Session: v.session, Rows: part}); err != nil {
			break // the answer says why
		}
	}
	_, err = stream.CloseAndRecv()
	return wire.Error(err)
}

// An output shows text through the host.
type output struct {
	ctx     context.Context
	host    wire.HostClient
	session uint64
}

func (o *output) Text(s string) error {
	_, err := o.host.ShowText(o.ctx, &wire.Text{Session: o.session, Text: wire.Valid(s)})
	return wire.Error(err)
}

func (o *output) Table(t Table) error {
	message := &wire.Table{Session: o.session, Title: wire.Valid(t.Title)}
	for _, name := range t.Columns {
		message.Columns = append(message.Columns, wire.Valid(name))
	}
	for _, row := range t.Rows {
		cells := make([]string, len(row))
		for i, cell := range row {
			cells[i] = wire.Valid(cell)
		}
		message.Rows = append(message.Rows, &wire.Table_Row{Cells: cells})
	}
	_, err := o.host.ShowTable(o.ctx, message)
	return wire.Error(err)
}

// A file is a file of an import. It keeps what it read last in blocks, because
// connectors read in small pieces and each call to the host takes a while.
type file struct {
	ctx     context.Context
	host    wire.HostClient
	session uint64
	name    string
	size    int64

	mu     sync.Mutex
	blocks [8]block // the one read last is first
}

// A block is the part of a file that begins at number × Part.
type block struct {
	number int64
	data   []byte // nil: none
}

func (f *file) Name() string { return f.name }
func (f *file) Size() int64  { return f.size }

func (f *file) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, errors.New("negative offset")
	}
	for n < len(p) {
		data, err := f.block(off / wire.Part)
		if err != nil {
			return n, err
		}
		at := int(off % wire.Part)
		if at >= len(data) {
			return n, io.EOF
		}
		copied := copy(p[n:], data[at:])
		n, off = n+copied, off+int64(copied)
	}
	return n, nil
}

func (f *file) block(number int64) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, b := range f.blocks {
		if b.data != nil && b.number == number {
			copy(f.blocks[1:i+1], f.blocks[:i])
			f.blocks[0] = b
			return b.data, nil
		}
	}
	reply, err := f.host.ReadFile(f.ctx, &wire.ReadRequest{Session: f.session, Offset: number * wire.Part, Length: wire.Part})
	if err != nil {
		return nil, wire.Error(err)
	}
	copy(f.blocks[1:], f.blocks[:])
	f.blocks[0] = block{number, append([]byte{}, reply.GetData()...)}
	return f.blocks[0].data, nil
}

// A sink gathers what a connector finds and sends it in batches, so an error of
// one Put may come out of a later one, and at the latest when Parse returns.
type sink struct {
	ctx     context.Context
	host    wire.HostClient
	session uint64

	mu     sync.Mutex
	stream grpc.ClientStreamingClient[wire.SinkPart, wire.Nothing]
	rows   wire.RowWriter
	err    error
}

func newSink(ctx context.Context, host wire.HostClient, session uint64) (*sink, error) {
	stream, err := host.Sink(ctx)
	if err != nil {
		return nil, wire.Error(err)
	}
	s := &sink{ctx: ctx, host: host, session: session, stream: stream}
	s.send(&wire.SinkPart{Session: session})
	return s, s.err
}

func (s *sink) Put(ctx context.Context, records ...locker.Record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	for i := range records {
		s.rows.Add(&records[i])
		if s.rows.Full() {
			s.flush()
		}
	}
	return s.err
}

func (s *sink) Fail(at, why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flush()
	s.send(&wire.SinkPart{Failure: &wire.SinkPart_Failure{At: wire.Cut(at), Why: wire.Cut(why)}})
}

// flush sends the rows that are waiting. A record larger than a message is cut.
func (s *sink) flush() {
	if s.rows.Len() == 0 {
		return
	}
	for rest := s.rows.Take(); len(rest) > 0; {
		part := rest[:min(len(rest), wire.MaxToHost/2)]
		rest = rest[len(part):]
		s.send(&wire.SinkPart{Rows: part, More: len(rest) > 0})
	}
}

func (s *sink) send(part *wire.SinkPart) {
	if s.err != nil {
		return
	}
	err := s.stream.Send(part)
	if err == io.EOF {
		_, err = s.stream.CloseAndRecv() // the answer says why
		if err == nil {
			err = errors.New("the host ended the file early")
		}
	}
	s.err = wire.Error(err)
}

// close sends what is left and waits until the host has taken it.
func (s *sink) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flush()
	if s.err == nil {
		_, err := s.stream.CloseAndRecv()
		s.err = wire.Error(err)
		if s.err == nil {
			s.err = errClosed
			return nil
		}
	}
	return s.err
}

var errClosed = errors.New("Parse has returned: nothing more is taken")

func (s *sink) Blob(ctx context.Context, r io.Reader) (string, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := s.host.Blob(ctx)
	if err != nil {
		return "", wire.Error(err)
	}
	if err := stream.Send(&wire.BlobPart{Session: s.session}); err == nil {
		var sent error
		err = wire.SendParts(r, func(part []byte) error {
			sent = stream.Send(&wire.BlobPart{Data: part})
			return sent
		})
		if err != nil && sent == nil {
			return "", err // r is broken
		}
	}
	reply, err := stream.CloseAndRecv()
	if err != nil {
		return "", wire.Error(err)
	}
	return reply.GetId(), nil
}
