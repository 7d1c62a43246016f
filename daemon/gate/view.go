package gate

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"slices"
	"strings"

	"github.com/locker-project/locker/plugins/locker"
)

// gated is the view of a session: the narrowed view, with each call decided about
// and written down.
type gated struct{ s *Session }

// A read is held back until it has ended or until this much of it is there: then a
// short read needs one line in the log, and a long one two.
const (
	heldRows  = 512
	heldBytes = 64 << 10
)

// Get implements [locker.View].
func (v gated) Get(ctx context.Context, collection, id string) (locker.Record, error) {
	c, err := v.s.begin(ctx, AuditLine{Verb: "get", Collection: collection})
	if err != nil {
		return locker.Record{}, err
	}
	r, err := v.s.view.Get(c.ctx, collection, id)
	if err != nil {
		defer c.end(err)
		if err = c.failed(err); errors.Is(err, locker.ErrNotFound) {
			// That there is no such record is an answer too.
			if failed := c.record(true); failed != nil {
				err = failed
			}
		}
		return locker.Record{}, err
	}
	c.entry.Rows, c.entry.Bytes = 1, sizeOf(r)
	err = c.record(true)
	c.end(err)
	if err == nil && v.s.over.Load() {
		err = locker.ErrRevoked
	}
	if err != nil {
		return locker.Record{}, err
	}
	return r, nil
}

// Query implements [locker.View].
func (v gated) Query(ctx context.Context, q locker.Query) iter.Seq2[locker.Record, error] {
	line := AuditLine{Verb: "query", Collection: q.Collection, Fields: q.Fields, Where: q.Where, Since: q.Since, Until: q.Until}
	return v.stream(ctx, line, func(ctx context.Context) iter.Seq2[locker.Record, error] { return v.s.view.Query(ctx, q) })
}

// Changes implements [locker.View].
func (v gated) Changes(ctx context.Context, collection string, after locker.Rev) iter.Seq2[locker.Record, error] {
	line := AuditLine{Verb: "changes", Collection: collection}
	return v.stream(ctx, line, func(ctx context.Context) iter.Seq2[locker.Record, error] {
		return v.s.view.Changes(ctx, collection, after)
	})
}

func sizeOf(r locker.Record) int64 {
	return int64(len(r.ID) + len(r.Source) + len(r.Import) + len(r.Fields))
}

// stream passes a sequence of records on.
func (v gated) stream(ctx context.Context, line AuditLine, open func(context.Context) iter.Seq2[locker.Record, error]) iter.Seq2[locker.Record, error] {
	return func(yield func(locker.Record, error) bool) {
		c, err := v.s.begin(ctx, line)
		if err != nil {
			yield(locker.Record{}, err)
			return
		}
		out := &outflow{c: c, yield: yield}
		for r, err := range open(c.ctx) {
			if err != nil {
				out.fail(err)
				return
			}
			if !out.take(r) {
				return
			}
		}
		out.finish()
	}
}

// An outflow writes a stream down before it lets it out.
type outflow struct {
	c     *call
	yield func(locker.Record, error) bool
	held  []locker.Record
	done  bool
}

// take takes a record. It returns false when the stream has ended.
func (o *outflow) take(r locker.Record) bool {
	if o.c.open {
		return o.give(r)
	}
	o.held = append(o.held, r)
	o.c.entry.Rows++
	o.c.entry.Bytes += sizeOf(r)
	if o.c.entry.Bytes < heldBytes && len(o.held) < heldRows {
		return true
	}
	if err := o.c.record(false); err != nil {
		o.stop(err)
		return false
	}
	o.c.entry.Rows, o.c.entry.Bytes = 0, 0
	return o.giveHeld()
}

func (o *outflow) giveHeld() bool {
	for _, r := range o.held {
		if !o.give(r) {
			return false
		}
	}
	o.held = nil
	return true
}

// give lets one record out, unless the grant has ended.
func (o *outflow) give(r locker.Record) bool {
	if o.c.s.over.Load() {
		o.stop(locker.ErrRevoked)
		return false
	}
	if o.c.open {
		o.c.entry.Rows++
		o.c.entry.Bytes += sizeOf(r)
	}
	if !o.yield(r, nil) {
		o.done = true
		o.c.end(nil)
		return false
	}
	return true
}

// finish ends a stream that came to its end.
func (o *outflow) finish() {
	if !o.c.open {
		if err := o.c.record(true); err != nil {
			o.stop(err)
			return
		}
		if !o.giveHeld() {
			return
		}
	}
	o.done = true
	o.c.end(nil)
}

// fail ends a stream with an error of the narrowed view. What was held back is let
// out first, as it would have been without holding back.
func (o *outflow) fail(err error) {
	if err = o.c.failed(err); len(o.held) > 0 && !o.c.open {
		if failed := o.c.record(true); failed != nil {
			err = failed
		} else if !o.giveHeld() {
			return
		}
	}
	o.stop(err)
}

// stop ends a stream with an error for the app.
func (o *outflow) stop(err error) {
	if o.done {
		return
	}
	o.done = true
	o.c.end(err)
	o.yield(locker.Record{}, err)
}

// Put implements [locker.View].
func (v gated) Put(ctx context.Context, records ...locker.Record) error {
	if len(records) == 0 {
		return nil
	}
	line := AuditLine{Verb: "put", Rows: int64(len(records))}
	var collections []string
	for _, r := range records {
		line.Bytes += sizeOf(r)
		collections = append(collections, r.Collection)
	}
	slices.Sort(collections)
	line.Collection = strings.Join(slices.Compact(collections), " ")
	c, err := v.s.begin(ctx, line)
	if err != nil {
		return err
	}
	c.entry.Fields = fieldNames(records)
	err = v.check(c.ctx, records)
	if err == nil {
		err = c.recordPut(func() error { return v.s.view.Put(c.ctx, records...) })
	}
	if err != nil {
		err = c.failed(err)
	}
	c.end(err)
	return err
}

// recordPut writes the line before it writes the records.
func (c *call) recordPut(put func() error) error {
	rows, bytes := c.entry.Rows, c.entry.Bytes
	if err := c.record(false); err != nil {
		return err
	}
	c.entry.Rows, c.entry.Bytes = rows, bytes
	err := put()
	if err != nil {
		c.entry.Rows, c.entry.Bytes = 0, 0
	}
	return err
}

// check checks records against the schemas that the app's manifest declares, as
// they would be after the write.
func (v gated) check(ctx context.Context, records []locker.Record) error {
	for _, r := range records {
		if v.s.app.Manifest.Collections[r.Collection] == nil {
			continue
		}
		whole, err := v.merged(ctx, r)
		if err != nil {
			return err
		}
		if err := v.s.app.Manifest.Validate(r.Collection, whole); err != nil {
			return err
		}
	}
	return nil
}

// merged is what the app's own record would hold after a write.
func (v gated) merged(ctx context.Context, r locker.Record) (json.RawMessage, error) {
	fields := map[string]json.RawMessage{}
	before, err := v.s.gate.Store.View(system).Get(ctx, r.Collection, "apps/"+v.s.grant.App+":"+r.ID)
	if err == nil {
		err = before.Decode(&fields)
	}
	if err != nil && !errors.Is(err, locker.ErrNotFound) {
		return nil, errUnavailable
	}
	given := map[string]json.RawMessage{}
	if err := json.Unmarshal(r.Fields, &given); err != nil {
		return r.Fields, nil // the narrowed view says what is wrong with it
	}
	for name, value := range given {
		if fields[name] = value; string(value) == "null" {
			delete(fields, name)
		}
	}
	return json.Marshal(fields)
}

// fieldNames are the names of the fields of records, for the log.
func fieldNames(records []locker.Record) []string {
	var names []string
	seen := map[string]bool{}
	for _, r := range records {
		var fields map[string]json.RawMessage
		if json.Unmarshal(r.Fields, &fields) != nil {
			continue
		}
		for name := range fields {
			if !seen[name] {
				seen[name] = true
				names = append(names, name)
			}
		}
	}
	return clip(slices.Sorted(slices.Values(names)))
}
