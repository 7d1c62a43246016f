// Package batch hands records to a sink in batches, so that a connector may find
// them one by one. Start with [New].
package batch

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/locker-project/locker/plugins"
	"github.com/locker-project/locker/plugins/locker"
)

// What one batch holds at most: records, and bytes of their fields.
const (
	maxRecords = 500
	maxBytes   = 256 << 10
)

// A Writer collects records for a sink. It is for one goroutine.
type Writer struct {
	ctx     context.Context
	out     plugins.Sink
	records []locker.Record
	bytes   int
	buf     bytes.Buffer
	enc     *json.Encoder
}

// New returns a writer to out, whose calls end with ctx.
func New(ctx context.Context, out plugins.Sink) *Writer {
	w := &Writer{ctx: ctx, out: out}
	w.enc = json.NewEncoder(&w.buf)
	w.enc.SetEscapeHTML(false)
	return w
}

// Put adds a record, with fields as json.Marshal writes them.
func (w *Writer) Put(collection, id, source string, t time.Time, fields any) error {
	w.buf.Reset()
	if err := w.enc.Encode(fields); err != nil {
		return fmt.Errorf("fields of %s: %w", id, err)
	}
	b := bytes.Clone(bytes.TrimSpace(w.buf.Bytes()))
	w.records = append(w.records, locker.Record{Collection: collection, ID: id, Source: source, Time: t, Fields: b})
	w.bytes += len(b)
	if len(w.records) >= maxRecords || w.bytes >= maxBytes {
		return w.Flush()
	}
	return nil
}

// Flush hands over what is left. It must be called at the end.
func (w *Writer) Flush() error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	if len(w.records) == 0 {
		return nil
	}
	err := w.out.Put(w.ctx, w.records...)
	w.records, w.bytes = nil, 0
	return err
}

// Note tells the owner something about the file that is no failure.
func Note(out plugins.Sink, format string, args ...any) {
	out.Note(fmt.Sprintf(format, args...))
}
