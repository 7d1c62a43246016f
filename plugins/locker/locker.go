// Package locker is the vocabulary that everything around a person's data
// shares: the record, the query, the errors, and View, the one interface
// through which data is read and written.
//
// Start with [View] and [Record]. The store is a View; a grant turns a View into
// a narrower View; the process on the other side of a plugin's pipe holds a View
// and nothing else. An app author needs this package and package plugins only.
//
// The package uses the standard library alone, and what it exports only grows:
// an app built against it today keeps working.
package locker

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"time"
)

// A Rev is a position in the change log of one device. It grows with every
// change that the device makes or receives, and means nothing on another device.
// The zero Rev is before the first change.
type Rev uint64

// A Record is one item of a person's data: a transaction, a post, a contact.
type Record struct {
	// Collection names what kind of item this is, such as "transactions". The
	// well-known collections are described by JSON Schemas in package manifests;
	// an app's own are named VENDOR/NAME.
	Collection string `json:"collection"`
	// ID is unique within the collection and stable: the same item from the same
	// source has the same id on every device and after every import.
	ID string `json:"id"`
	// Time is when the item happened, with the offset from UTC that its source
	// gave. It is zero where the source gave none.
	Time time.Time `json:"time,omitzero"`
	// Source says where the record came from: the connector, and what the
	// connector tells apart within it, as in "transactions/CH93…". Set by the gate.
	Source string `json:"source,omitempty"`
	// Import is the id of the import that brought the record. Set by the gate.
	Import string `json:"import,omitempty"`
	// Rev is the position of the record's latest change in the change log of the
	// device that answers.
	Rev Rev `json:"rev,omitempty"`
	// Deleted is set by Changes alone: the record is gone and has no fields.
	Deleted bool `json:"deleted,omitempty"`
	// Fields is a JSON object. In a Put, a null removes the field.
	Fields json.RawMessage `json:"fields"`
}

// Decode stores the fields in the value that v points to, as json.Unmarshal does.
func (r Record) Decode(v any) error {
	if err := json.Unmarshal(r.Fields, v); err != nil {
		return fmt.Errorf("record %s %s: %w", r.Collection, r.ID, err)
	}
	return nil
}

// A Query selects records of one collection, in order of their time.
type Query struct {
	Collection string
	// Fields to return; nil returns all that the View may see.
	Fields []string
	// Since and Until bound the record's time: Since ≤ time < Until. Zero is open.
	Since, Until time.Time
	// Where is a filter expression (see [ParseFilter]); empty selects all.
	Where string
	// Descending returns the latest first.
	Descending bool
	// Limit is the largest number of records to return; 0 is no limit.
	Limit int
}

// A View reads and writes a person's data, as far as its holder may. Its methods
// may be called from several goroutines at once.
//
// What the holder may not see is an error (see [Denied]) and never a silent gap:
// in the fields selected and in the filter alike.
type View interface {
	// Get returns one record, or an error that is [ErrNotFound].
	Get(ctx context.Context, collection, id string) (Record, error)
	// Query yields the records that q selects. The sequence ends after the first
	// error. Records are read from one snapshot.
	Query(ctx context.Context, q Query) iter.Seq2[Record, error]
	// Changes yields the records of a collection that changed after a position,
	// oldest change first and each record once, with deleted ones marked.
	Changes(ctx context.Context, collection string, after Rev) iter.Seq2[Record, error]
	// Put writes records, all of them or none. They are durable when it returns nil.
	// Given fields replace those that are there, others are left alone.
	Put(ctx context.Context, records ...Record) error
}
