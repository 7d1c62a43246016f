package wire

import (
	"context"
	"fmt"
	"io"
	"iter"

	"google.golang.org/grpc"

	"github.com/locker-project/locker/plugins/locker"
)

// A View is the host's View, seen from the plugin.
type View struct {
	Host    HostClient
	Session uint64
}

// Get returns one record.
func (v *View) Get(ctx context.Context, collection, id string) (locker.Record, error) {
	rows, err := v.Host.Get(ctx, &GetRequest{Session: v.Session, Collection: collection, Id: id})
	if err != nil {
		return locker.Record{}, Error(err)
	}
	return ReadRows(rows.GetRows()).Next()
}

// Query yields the records that q selects.
func (v *View) Query(ctx context.Context, q locker.Query) iter.Seq2[locker.Record, error] {
	return answer(ctx, func(ctx context.Context) (grpc.ServerStreamingClient[Rows], error) {
		return v.Host.Query(ctx, &QueryRequest{
			Session: v.Session, Collection: q.Collection, Fields: q.Fields, AllFields: q.Fields == nil,
			Since: FromTime(q.Since), Until: FromTime(q.Until), Where: q.Where,
			Descending: q.Descending, Limit: int64(q.Limit),
		})
	})
}

// Changes yields what changed after a position.
func (v *View) Changes(ctx context.Context, collection string, after locker.Rev) iter.Seq2[locker.Record, error] {
	return answer(ctx, func(ctx context.Context) (grpc.ServerStreamingClient[Rows], error) {
		return v.Host.Changes(ctx, &ChangesRequest{Session: v.Session, Collection: collection, After: uint64(after)})
	})
}

// answer yields the records of a stream.
func answer(ctx context.Context, ask func(context.Context) (grpc.ServerStreamingClient[Rows], error)) iter.Seq2[locker.Record, error] {
	return func(yield func(locker.Record, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		stream, err := ask(ctx)
		if err != nil {
			yield(locker.Record{}, Error(err))
			return
		}
		for {
			message, err := stream.Recv()
			if err == io.EOF {
				return
			}
			if err != nil {
				yield(locker.Record{}, Error(err))
				return
			}
			for rows := ReadRows(message.GetRows()); rows.More(); {
				r, err := rows.Next()
				if !yield(r, err) || err != nil {
					return
				}
			}
		}
	}
}

// Put writes records, all of them or none: at most [MaxPut] bytes.
func (v *View) Put(ctx context.Context, records ...locker.Record) error {
	var rows RowWriter
	for i := range records {
		rows.Add(&records[i])
	}
	if rows.Len() > MaxPut {
		return fmt.Errorf("%w: one write has %d bytes of records, and at most %d are taken", locker.ErrInvalid, rows.Len(), MaxPut)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := v.Host.Put(ctx)
	if err != nil {
		return Error(err)
	}
	rest := rows.Take()
	for first := true; first || len(rest) > 0; first = false {
		part := rest[:min(len(rest), Part)]
		rest = rest[len(part):]
		if err := stream.Send(&PutPart{Session: v.Session, Rows: part}); err != nil {
			break // the answer says why
		}
	}
	_, err = stream.CloseAndRecv()
	return Error(err)
}
