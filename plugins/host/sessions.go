package host

import (
	"context"
	"fmt"
	"io"
	"iter"
	"sync"

	"google.golang.org/grpc"

	"github.com/locker-project/locker/plugins"
	"github.com/locker-project/locker/plugins/internal/wire"
	"github.com/locker-project/locker/plugins/locker"
)

var errEnded = fmt.Errorf("the run has ended: %w", context.Canceled)

// A session is one run of an app or one file of a connector: what the process may
// use meanwhile. Fields that are nil are not given.
type session struct {
	ctx  context.Context // ends with the session; its cause is what the process is told
	view locker.View
	out  plugins.Output
	file plugins.File
	sink plugins.Sink

	sinkMu sync.Mutex // a sink is used by one goroutine at a time
	putMu  sync.Mutex // one write is gathered at a time, which bounds memory

	mu    sync.Mutex
	ended bool
	calls sync.WaitGroup // calls of the values above that are going on
}

// enter begins a call that uses the session's values; leave ends it. After the
// session has ended no call begins.
func (s *session) enter() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return cause(s.ctx)
	}
	s.calls.Add(1)
	return nil
}

func (s *session) leave() { s.calls.Done() }

// cause is why ctx ended, for the process to know.
func cause(ctx context.Context) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	return errEnded
}

// within returns a context for one call: it ends with the call and with the session.
func (s *session) within(call context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(call)
	stop := context.AfterFunc(s.ctx, func() { cancel(cause(s.ctx)) })
	return ctx, func() { stop(); cancel(nil) }
}

// sessions are what the Host service of one process serves.
type sessions struct {
	wire.UnimplementedHostServer

	mu   sync.Mutex
	last uint64
	open map[uint64]*session
}

// begin opens a session. end closes it: it cuts off the calls that are going on
// and returns when none of them uses the session's values any more.
func (h *sessions) begin(ctx context.Context, s *session) (id uint64, end func()) {
	var cancel context.CancelCauseFunc
	s.ctx, cancel = context.WithCancelCause(ctx)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.open == nil {
		h.open = make(map[uint64]*session)
	}
	h.last++
	id = h.last
	h.open[id] = s
	return id, func() {
		h.mu.Lock()
		delete(h.open, id)
		h.mu.Unlock()
		cancel(errEnded)
		s.mu.Lock()
		s.ended = true
		s.mu.Unlock()
		s.calls.Wait()
	}
}

// enter finds a session and begins a call in it.
func (h *sessions) enter(id uint64) (*session, error) {
	h.mu.Lock()
	s := h.open[id]
	h.mu.Unlock()
	if s == nil {
		return nil, errEnded
	}
	return s, s.enter()
}

var errNotGiven = fmt.Errorf("%w: that is not given to this plugin", locker.ErrInvalid)

// call runs use within a session.
func (h *sessions) call(ctx context.Context, id uint64, use func(context.Context, *session) error) error {
	s, err := h.enter(id)
	if err != nil {
		return wire.Status(err)
	}
	defer s.leave()
	ctx, stop := s.within(ctx)
	defer stop()
	return wire.Status(use(ctx, s))
}

func (h *sessions) Get(ctx context.Context, r *wire.GetRequest) (*wire.Rows, error) {
	var rows wire.RowWriter
	err := h.call(ctx, r.GetSession(), func(ctx context.Context, s *session) error {
		if s.view == nil {
			return errNotGiven
		}
		record, err := s.view.Get(ctx, r.GetCollection(), r.GetId())
		if err == nil {
			rows.Add(&record)
		}
		return err
	})
	return &wire.Rows{Rows: rows.Take()}, err
}

func (h *sessions) Query(r *wire.QueryRequest, stream grpc.ServerStreamingServer[wire.Rows]) error {
	q := locker.Query{
		Collection: r.GetCollection(), Fields: r.GetFields(), Where: r.GetWhere(),
		Since: r.GetSince().Time(), Until: r.GetUntil().Time(),
		Descending: r.GetDescending(), Limit: int(r.GetLimit()),
	}
	switch {
	case r.GetAllFields():
		q.Fields = nil
	case q.Fields == nil:
		q.Fields = []string{}
	}
	return h.answer(r.GetSession(), stream, func(ctx context.Context, v locker.View) iter.Seq2[locker.Record, error] {
		return v.Query(ctx, q)
	})
}

func (h *sessions) Changes(r *wire.ChangesRequest, stream grpc.ServerStreamingServer[wire.Rows]) error {
	return h.answer(r.GetSession(), stream, func(ctx context.Context, v locker.View) iter.Seq2[locker.Record, error] {
		return v.Changes(ctx, r.GetCollection(), locker.Rev(r.GetAfter()))
	})
}

// answer sends the records that ask yields. Reading and encoding run ahead of
// sending by a batch. When the session ends reading stops at once, even while a
// process that does not read holds up the sending.
func (h *sessions) answer(id uint64, stream grpc.ServerStreamingServer[wire.Rows], ask func(context.Context, locker.View) iter.Seq2[locker.Record, error]) error {
	batches := make(chan []byte, 1)
	failed := make(chan error, 1)
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	go func() {
		defer close(batches)
		failed <- h.call(ctx, id, func(ctx context.Context, s *session) error {
			if s.view == nil {
				return errNotGiven
			}
			return gather(ctx, ask(ctx, s.view), batches)
		})
	}()
	for rows := range batches {
		if err := stream.Send(&wire.Rows{Rows: rows}); err != nil {
			return err
		}
	}
	return <-failed
}

// gather encodes records into batches until they, or ctx, end.
func gather(ctx context.Context, records iter.Seq2[locker.Record, error], batches chan<- []byte) error {
	var rows wire.RowWriter
	flush := func() error {
		select {
		case batches <- rows.Take():
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	for r, err := range records {
		if ended := ctx.Err(); ended != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			if rows.Len() > 0 {
				_ = flush() // what came before the error was read and is the process's
			}
			return err
		}
		rows.Add(&r)
		if rows.Full() {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if rows.Len() == 0 {
		return nil
	}
	return flush()
}

func (h *sessions) Put(stream grpc.ClientStreamingServer[wire.PutPart, wire.Nothing]) error {
	part, err := stream.Recv()
	if err != nil {
		return err
	}
	err = h.call(stream.Context(), part.GetSession(), func(ctx context.Context, s *session) error {
		if s.view == nil {
			return errNotGiven
		}
		s.putMu.Lock()
		defer s.putMu.Unlock()
		rows := part.GetRows()
		for {
			part, err := receive(ctx, stream.Recv)
			if err == io.EOF {
				break
			}
			if err != nil {
				return err
			}
			if len(rows)+len(part.GetRows()) > wire.MaxPut {
				return fmt.Errorf("%w: one write has more than %d bytes of records", locker.ErrInvalid, wire.MaxPut)
			}
			rows = append(rows, part.GetRows()...)
		}
		records, err := readRows(rows)
		if err != nil {
			return err
		}
		return s.view.Put(ctx, records...)
	})
	if err != nil {
		return err
	}
	return stream.SendAndClose(&wire.Nothing{})
}

// readRows decodes what a process sent.
func readRows(rows []byte) ([]locker.Record, error) {
	records, err := wire.ReadRows(rows).All()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", locker.ErrInvalid, err)
	}
	return records, nil
}

// receive waits for the next part of a stream, or until ctx ends.
func receive[T any](ctx context.Context, recv func() (T, error)) (T, error) {
	type result struct {
		part T
		err  error
	}
	done := make(chan result, 1)
	go func() {
		part, err := recv()
		done <- result{part, err}
	}()
	select {
	case r := <-done:
		return r.part, r.err
	case <-ctx.Done():
		var none T
		return none, context.Cause(ctx)
	}
}

func (h *sessions) ShowText(ctx context.Context, t *wire.Text) (*wire.Nothing, error) {
	return &wire.Nothing{}, h.call(ctx, t.GetSession(), func(_ context.Context, s *session) error {
		if s.out == nil {
			return errNotGiven
		}
		return s.out.Text(plainLines(t.GetText()))
	})
}

func (h *sessions) ShowTable(ctx context.Context, t *wire.Table) (*wire.Nothing, error) {
	table := plugins.Table{Title: wire.Plain(t.GetTitle())}
	for _, name := range t.GetColumns() {
		table.Columns = append(table.Columns, wire.Plain(name))
	}
	for _, row := range t.GetRows() {
		cells := make([]string, 0, len(row.GetCells()))
		for _, cell := range row.GetCells() {
			cells = append(cells, wire.Plain(cell))
		}
		table.Rows = append(table.Rows, cells)
	}
	return &wire.Nothing{}, h.call(ctx, t.GetSession(), func(_ context.Context, s *session) error {
		if s.out == nil {
			return errNotGiven
		}
		return s.out.Table(table)
	})
}

func (h *sessions) ReadFile(ctx context.Context, r *wire.ReadRequest) (*wire.ReadReply, error) {
	reply := &wire.ReadReply{}
	err := h.call(ctx, r.GetSession(), func(_ context.Context, s *session) error {
		if s.file == nil {
			return errNotGiven
		}
		if r.GetOffset() < 0 || r.GetLength() < 0 || r.GetLength() > wire.Part {
			return locker.ErrInvalid
		}
		data := make([]byte, r.GetLength())
		n, err := s.file.ReadAt(data, r.GetOffset())
		reply.Data = data[:n]
		if err == io.EOF {
			return nil
		}
		return err
	})
	return reply, err
}

func (h *sessions) Sink(stream grpc.ClientStreamingServer[wire.SinkPart, wire.Nothing]) error {
	part, err := stream.Recv()
	if err != nil {
		return err
	}
	err = h.call(stream.Context(), part.GetSession(), func(ctx context.Context, s *session) error {
		if s.sink == nil {
			return errNotGiven
		}
		return s.fill(ctx, part, stream.Recv)
	})
	if err != nil {
		return err
	}
	return stream.SendAndClose(&wire.Nothing{})
}

// fill hands the parts of a stream to the sink.
func (s *session) fill(ctx context.Context, part *wire.SinkPart, recv func() (*wire.SinkPart, error)) error {
	var rows []byte
	for {
		if len(rows)+len(part.GetRows()) > wire.MaxPut {
			return fmt.Errorf("%w: a record has more than %d bytes", locker.ErrInvalid, wire.MaxPut)
		}
		rows = append(rows, part.GetRows()...)
		if !part.GetMore() && len(rows) > 0 {
			records, err := readRows(rows)
			if err != nil {
				return err
			}
			s.sinkMu.Lock()
			err = s.sink.Put(ctx, records...)
			s.sinkMu.Unlock()
			if err != nil {
				return err
			}
			rows = nil
		}
		if f := part.GetFailure(); f != nil {
			s.sinkMu.Lock()
			s.sink.Fail(wire.Plain(f.GetAt()), wire.Plain(f.GetWhy()))
			s.sinkMu.Unlock()
		}
		if note := part.GetNote(); note != "" {
			s.sinkMu.Lock()
			s.sink.Note(wire.Plain(note))
			s.sinkMu.Unlock()
		}
		var err error
		part, err = receive(ctx, recv)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (h *sessions) Blob(stream grpc.ClientStreamingServer[wire.BlobPart, wire.BlobReply]) error {
	part, err := stream.Recv()
	if err != nil {
		return err
	}
	var reply wire.BlobReply
	err = h.call(stream.Context(), part.GetSession(), func(ctx context.Context, s *session) error {
		if s.sink == nil {
			return errNotGiven
		}
		s.sinkMu.Lock()
		defer s.sinkMu.Unlock()
		first := part.GetData()
		id, err := s.sink.Blob(ctx, wire.PartReader(func() ([]byte, error) {
			if data := first; len(data) > 0 {
				first = nil
				return data, nil
			}
			part, err := receive(ctx, stream.Recv)
			return part.GetData(), err
		}))
		reply.Id = id
		return err
	})
	if err != nil {
		return err
	}
	return stream.SendAndClose(&reply)
}
