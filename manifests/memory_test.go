package manifests

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/locker-project/locker/plugins/locker"
)

// memory is a plain View in memory: the view underneath in these tests. It does
// what package locker says, in the simplest way.
type memory struct {
	mu      sync.Mutex
	rev     locker.Rev
	records map[string]*locker.Record // by collection, zero, id
	queries []locker.Query            // that were asked
}

func newMemory() *memory { return &memory{records: map[string]*locker.Record{}} }

func (m *memory) key(collection, id string) string { return collection + "\x00" + id }

func (m *memory) Get(ctx context.Context, collection, id string) (locker.Record, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.records[m.key(collection, id)]
	if r == nil || r.Deleted {
		return locker.Record{}, fmt.Errorf("%s %s: %w", collection, id, locker.ErrNotFound)
	}
	return *r, ctx.Err()
}

func (m *memory) Put(ctx context.Context, records ...locker.Record) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range records {
		var fields map[string]json.RawMessage
		if err := json.Unmarshal(r.Fields, &fields); err != nil || r.ID == "" {
			return fmt.Errorf("%w record", locker.ErrInvalid)
		}
	}
	for _, r := range records {
		m.put(r)
	}
	return ctx.Err()
}

func (m *memory) put(r locker.Record) {
	old := m.records[m.key(r.Collection, r.ID)]
	if old == nil || old.Deleted {
		old = &locker.Record{Collection: r.Collection, ID: r.ID, Fields: json.RawMessage(`{}`)}
	}
	next := *old
	next.Deleted = false
	var fields, given map[string]json.RawMessage
	_, _ = json.Unmarshal(old.Fields, &fields), json.Unmarshal(r.Fields, &given)
	for name, value := range given {
		if fields[name] = value; string(value) == "null" {
			delete(fields, name)
		}
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(fields)
	next.Fields = bytes.TrimSpace(b.Bytes())
	if !r.Time.IsZero() {
		next.Time = r.Time
	}
	if r.Source != "" {
		next.Source = r.Source
	}
	if r.Import != "" {
		next.Import = r.Import
	}
	m.rev++
	next.Rev = m.rev
	m.records[m.key(r.Collection, r.ID)] = &next
}

func (m *memory) delete(collection, id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rev++
	m.records[m.key(collection, id)] = &locker.Record{Collection: collection, ID: id, Rev: m.rev, Deleted: true}
}

// list returns the records of a collection, by time and id.
func (m *memory) list(collection string) []locker.Record {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []locker.Record
	for _, r := range m.records {
		if r.Collection == collection {
			out = append(out, *r)
		}
	}
	slices.SortFunc(out, func(a, b locker.Record) int {
		if c := a.Time.Compare(b.Time); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return out
}

func (m *memory) Query(ctx context.Context, q locker.Query) iter.Seq2[locker.Record, error] {
	return func(yield func(locker.Record, error) bool) {
		where, err := locker.ParseFilter(q.Where)
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			yield(locker.Record{}, err)
			return
		}
		m.mu.Lock()
		m.queries = append(m.queries, q)
		m.mu.Unlock()
		list := m.list(q.Collection)
		if q.Descending {
			slices.Reverse(list)
		}
		n := 0
		for _, r := range list {
			bounded := !q.Since.IsZero() || !q.Until.IsZero()
			if r.Deleted || bounded && (r.Time.IsZero() || r.Time.Before(q.Since) || !q.Until.IsZero() && !r.Time.Before(q.Until)) || !matchRecord(where, r) {
				continue
			}
			if q.Fields != nil {
				r.Fields = tree(q.Fields).whole(r.Fields)
			}
			if !yield(r, nil) {
				return
			}
			if n++; n == q.Limit {
				return
			}
		}
	}
}

// whole keeps the named top-level fields, whatever they hold.
func (n *node) whole(object json.RawMessage) json.RawMessage {
	var fields map[string]json.RawMessage
	_ = json.Unmarshal(object, &fields)
	for name := range fields {
		if n.kids[name] == nil {
			delete(fields, name)
		}
	}
	out, _ := json.Marshal(fields)
	return out
}

func matchRecord(where *locker.Filter, r locker.Record) bool {
	return where.Match(func(name string) (json.RawMessage, bool) {
		switch name {
		case "id":
			return quote(r.ID), true
		case "time":
			return quote(r.Time.Format(time.RFC3339Nano)), !r.Time.IsZero()
		case "source":
			return quote(r.Source), r.Source != ""
		case "import":
			return quote(r.Import), r.Import != ""
		}
		var fields map[string]json.RawMessage
		_ = json.Unmarshal(r.Fields, &fields)
		v, ok := fields[name]
		return v, ok
	})
}

func (m *memory) Changes(ctx context.Context, collection string, after locker.Rev) iter.Seq2[locker.Record, error] {
	return func(yield func(locker.Record, error) bool) {
		list := m.list(collection)
		slices.SortFunc(list, func(a, b locker.Record) int { return int(a.Rev) - int(b.Rev) })
		for _, r := range list {
			if r.Rev > after && !yield(r, ctx.Err()) {
				return
			}
		}
	}
}

// day is midnight of a day, counted from the first of January 2026.
func day(n int) time.Time { return time.Date(2026, 1, 1+n, 0, 0, 0, 0, time.UTC) }

func fill(t testing.TB, m *memory, records ...locker.Record) {
	t.Helper()
	for i := range records {
		if records[i].Collection == "" {
			records[i].Collection = "transactions"
		}
	}
	if err := m.Put(context.Background(), records...); err != nil {
		t.Fatal(err)
	}
}

// grantOf is a grant of fields of transactions.
func grantOf(fields ...string) Grant {
	return Grant{ID: "g-test", App: "spy", Vendor: "evil", Expires: day(365), Key: bytes.Repeat([]byte{7}, 32), Reads: []Read{{Collection: "transactions", Fields: fields}}}
}

func at0() time.Time { return day(100) }

// all collects a query; the error is the one it ended with.
func all(v locker.View, q locker.Query) (out []locker.Record, err error) {
	for r, err := range v.Query(context.Background(), q) {
		if err != nil {
			return out, err
		}
		out = append(out, r)
	}
	return out, nil
}

func allChanges(t testing.TB, v locker.View, collection string, after locker.Rev) []locker.Record {
	t.Helper()
	var out []locker.Record
	for r, err := range v.Changes(context.Background(), collection, after) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, r)
	}
	return out
}
