package plugins

import (
	"context"
	"errors"
	"io"
	"sync"

	"google.golang.org/grpc"

	"github.com/locker-project/locker/plugins/internal/wire"
	"github.com/locker-project/locker/plugins/locker"
)

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

func (s *sink) Note(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.send(&wire.SinkPart{Note: wire.Cut(what)})
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
