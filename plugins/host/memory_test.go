package host

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"sync"

	"github.com/locker-project/locker/plugins/locker"
)

// memory is a View for tests: everything in a map.
type memory struct {
	mu      sync.Mutex
	rev     locker.Rev
	records map[[2]string]locker.Record
}

func (m *memory) Get(_ context.Context, collection, id string) (locker.Record, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, ok := m.records[[2]string{collection, id}]
	if !ok {
		return r, fmt.Errorf("%s %s: %w", collection, id, locker.ErrNotFound)
	}
	return r, nil
}

func (m *memory) Query(ctx context.Context, q locker.Query) iter.Seq2[locker.Record, error] {
	return func(yield func(locker.Record, error) bool) {
		where, err := locker.ParseFilter(q.Where)
		if err != nil {
			yield(locker.Record{}, err)
			return
		}
		n := 0
		for _, r := range m.all(q.Collection, func(a, b locker.Record) int {
			c := cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.ID, b.ID))
			if q.Descending {
				return -c
			}
			return c
		}) {
			if err := ctx.Err(); err != nil {
				yield(locker.Record{}, err)
				return
			}
			fields := fieldsOf(r)
			if !q.Since.IsZero() && r.Time.Before(q.Since) || !q.Until.IsZero() && !r.Time.Before(q.Until) ||
				!where.Match(func(name string) (json.RawMessage, bool) { v, ok := fields[name]; return v, ok }) {
				continue
			}
			if q.Fields != nil {
				for name := range fields {
					if !slices.Contains(q.Fields, name) {
						delete(fields, name)
					}
				}
				r.Fields, _ = json.Marshal(fields)
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

func (m *memory) Changes(ctx context.Context, collection string, after locker.Rev) iter.Seq2[locker.Record, error] {
	return func(yield func(locker.Record, error) bool) {
		for _, r := range m.all(collection, func(a, b locker.Record) int { return cmp.Compare(a.Rev, b.Rev) }) {
			if r.Rev > after && !yield(r, nil) {
				return
			}
		}
	}
}

func (m *memory) Put(_ context.Context, records ...locker.Record) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range records {
		if r.ID == "" || json.Unmarshal(r.Fields, &map[string]json.RawMessage{}) != nil {
			return fmt.Errorf("%w record", locker.ErrInvalid)
		}
	}
	if m.records == nil {
		m.records = map[[2]string]locker.Record{}
	}
	for _, r := range records {
		key := [2]string{r.Collection, r.ID}
		old, fields := m.records[key], map[string]json.RawMessage{}
		if old.Fields != nil {
			fields = fieldsOf(old)
		}
		for name, value := range fieldsOf(r) {
			if fields[name] = value; string(value) == "null" {
				delete(fields, name)
			}
		}
		if r.Time.IsZero() {
			r.Time = old.Time
		}
		m.rev++
		r.Rev = m.rev
		r.Fields, _ = json.Marshal(fields)
		m.records[key] = r
	}
	return nil
}

// all are the records of a collection, sorted.
func (m *memory) all(collection string, order func(a, b locker.Record) int) []locker.Record {
	m.mu.Lock()
	defer m.mu.Unlock()
	var records []locker.Record
	for key, r := range m.records {
		if key[0] == collection {
			records = append(records, r)
		}
	}
	slices.SortFunc(records, order)
	return records
}

func fieldsOf(r locker.Record) map[string]json.RawMessage {
	fields := map[string]json.RawMessage{}
	_ = json.Unmarshal(r.Fields, &fields)
	return fields
}
