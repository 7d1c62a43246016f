package mobile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/locker-project/locker/daemon/store"
	"github.com/locker-project/locker/plugins/locker"
)

// owner is on whose behalf the app reads and writes: the person who holds the phone.
var owner = store.Author{Class: store.Owner}

// Put writes records of a collection, given as JSON lines with "id", "time" and
// "fields": all of them or none, durable when it returns. It returns
// {"new","same","changed"}.
func (l *Locker) Put(collection string, lines []byte) (string, error) {
	var records []locker.Record
	dec := json.NewDecoder(bytes.NewReader(lines))
	for {
		var r locker.Record
		if err := dec.Decode(&r); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return "", fmt.Errorf("%w record %d: %v", locker.ErrInvalid, len(records)+1, err)
		}
		r.Collection = collection
		records = append(records, r)
	}
	n, err := l.store.Write(l.ctx, owner, records...)
	if err != nil {
		return "", err
	}
	return encode(map[string]int{"new": n.New, "same": n.Same, "changed": n.Changed})
}

// Get returns one record as JSON.
func (l *Locker) Get(collection, id string) (string, error) {
	r, err := l.store.View(owner).Get(l.ctx, collection, id)
	if err != nil {
		return "", err
	}
	return encode(r)
}

// Delete deletes one record, on every device.
func (l *Locker) Delete(collection, id string) error {
	n, err := l.store.Delete(l.ctx, owner, collection, id)
	if err == nil && n == 0 {
		err = fmt.Errorf("%s %s: %w", collection, id, locker.ErrNotFound)
	}
	return err
}

// A query is the parameter of Query: a locker.Query in JSON.
type query struct {
	Collection string    `json:"collection"`
	Fields     []string  `json:"fields"`
	Since      time.Time `json:"since"`
	Until      time.Time `json:"until"`
	Where      string    `json:"where"`
	Descending bool      `json:"descending"`
	Limit      int       `json:"limit"`
}

// Query returns the records that a query selects, as JSON lines in order of time.
// The query is JSON: {"collection", "fields", "where", "since", "until",
// "descending", "limit"}, of which only collection is needed. Set a limit: what is
// returned is held in memory.
func (l *Locker) Query(parameters string) ([]byte, error) {
	var q query
	dec := json.NewDecoder(bytes.NewReader([]byte(parameters)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&q); err != nil {
		return nil, fmt.Errorf("%w query: %v", locker.ErrInvalid, err)
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	for r, err := range l.store.View(owner).Query(l.ctx, locker.Query(q)) {
		if err != nil {
			return nil, err
		}
		if err := enc.Encode(r); err != nil {
			return nil, err
		}
	}
	return out.Bytes(), nil
}

func encode(v any) (string, error) {
	raw, err := json.Marshal(v)
	return string(raw), err
}
