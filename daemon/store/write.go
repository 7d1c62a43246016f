package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/locker-project/locker/plugins/locker"
)

const (
	maxName   = 256       // bytes of a collection's name, a source or an import
	maxID     = 4 << 10   // bytes of an id
	maxFields = 256 << 20 // bytes of a record's fields
)

// Write writes records, all or none, and only what differs from what can be seen.
// They are durable when it returns nil. Given fields replace those that are there,
// a null removes one, others are left alone, and so are time and source where a
// record has none. A value of class Source never replaces one of the owner's, nor
// does it bring back what the owner deleted.
//
// Where the author writes for an import, what class Source replaces is kept in the
// system collection _prior, from which [Store.Undo] restores it.
//
// Errors are [locker.ErrInvalid], *[locker.Denied], [ErrDiskFull] or of the disk.
func (s *Store) Write(ctx context.Context, a Author, records ...locker.Record) (Counts, error) {
	return s.edit(ctx, a, records, true)
}

// Compare returns what Write would, and changes nothing.
func (s *Store) Compare(ctx context.Context, a Author, records ...locker.Record) (Counts, error) {
	return s.edit(ctx, a, records, false)
}

func (s *Store) edit(ctx context.Context, a Author, records []locker.Record, keep bool) (n Counts, err error) {
	drafts, err := s.drafts(a, records)
	if err != nil {
		return Counts{}, err
	}
	done, err := s.write(ctx)
	if err != nil {
		return Counts{}, err
	}
	defer done()
	w := &editor{txn: s.begin(), author: a, clock: s.tick()}
	w.imp = s.names.number(a.Import)
	for i := range drafts {
		if err := w.write(&drafts[i], &n); err != nil {
			return Counts{}, fail(drafts[i].collection, drafts[i].id, err)
		}
	}
	if !keep || len(w.order) == 0 {
		return n, w.batch.Close()
	}
	if err := w.commit(); err != nil {
		return Counts{}, err
	}
	return n, nil
}

// A draft is a record to write, checked and in the form that is stored.
type draft struct {
	collection string
	id         string
	parts      []part // in the order given
}

type part struct {
	name string
	data []byte
}

// drafts checks records before any lock is taken.
func (s *Store) drafts(a Author, records []locker.Record) ([]draft, error) {
	if err := checkAuthor(a); err != nil {
		return nil, err
	}
	out := make([]draft, len(records))
	for i, r := range records {
		d, err := newDraft(a, r)
		if err != nil {
			return nil, fail(r.Collection, r.ID, err)
		}
		out[i] = d
	}
	return out, nil
}

func checkAuthor(a Author) error {
	if a.Class > Owner {
		return fmt.Errorf("%w author: class %d", locker.ErrInvalid, a.Class)
	}
	if err := checkText("source", a.Source, maxName); err != nil {
		return err
	}
	return checkText("import", a.Import, maxName)
}

func checkText(what, text string, most int) error {
	if len(text) > most {
		return fmt.Errorf("%w %s: longer than %d bytes", locker.ErrInvalid, what, most)
	}
	if !utf8.ValidString(text) || strings.IndexByte(text, 0) >= 0 {
		return fmt.Errorf("%w %s: not valid UTF-8, or with a zero byte", locker.ErrInvalid, what)
	}
	return nil
}

// checkRef checks what names a record.
func checkRef(collection, id string) error {
	if collection == "" || id == "" {
		return fmt.Errorf("%w record: it needs a collection and an id", locker.ErrInvalid)
	}
	if err := checkText("collection", collection, maxName); err != nil {
		return err
	}
	return checkText("id", id, maxID)
}

// reach says whether an author may reach a collection.
func (a Author) reach(collection, verb string) error {
	if !a.System && isSystem(collection) {
		return &locker.Denied{Collection: collection, Verb: verb}
	}
	return nil
}

func newDraft(a Author, r locker.Record) (draft, error) {
	d := draft{collection: r.Collection, id: r.ID}
	if err := a.reach(r.Collection, "write"); err != nil {
		return d, err
	}
	if err := checkRef(r.Collection, r.ID); err != nil {
		return d, err
	}
	source, err := a.source(r.Source)
	if err != nil {
		return d, err
	}
	if len(r.Fields) > maxFields {
		return d, fmt.Errorf("%w fields: more than %d bytes; large bytes belong in a blob", locker.ErrInvalid, maxFields)
	}
	if len(r.Fields) > 0 {
		d.parts = make([]part, 0, 8)
		err := fields(r.Fields, true, func(name, val []byte) error {
			d.parts = append(d.parts, part{string(name), val})
			return nil
		})
		if err != nil {
			return d, fmt.Errorf("%w fields: %w", locker.ErrInvalid, err)
		}
	}
	if !r.Time.IsZero() {
		if y := r.Time.UTC().Year(); y < 1 || y > 9998 {
			return d, fmt.Errorf("%w time: the year %d", locker.ErrInvalid, y)
		}
		d.parts = append(d.parts, part{timeName, timeData(r.Time)})
	}
	if source != "" {
		d.parts = append(d.parts, part{sourceName, []byte(source)})
	}
	if len(d.parts) == 0 {
		return d, fmt.Errorf("%w record: it has neither fields nor a time", locker.ErrInvalid)
	}
	return d, d.twice()
}

// twice refuses a field that is given twice.
func (d *draft) twice() error {
	for i := range d.parts {
		for j := range i {
			if d.parts[i].name == d.parts[j].name {
				return fmt.Errorf("%w fields: %q is there twice", locker.ErrInvalid, d.parts[i].name)
			}
		}
		if i > 64 {
			return d.twiceOfMany()
		}
	}
	return nil
}

func (d *draft) twiceOfMany() error {
	seen := make(map[string]bool, len(d.parts))
	for _, p := range d.parts {
		if seen[p.name] {
			return fmt.Errorf("%w fields: %q is there twice", locker.ErrInvalid, p.name)
		}
		seen[p.name] = true
	}
	return nil
}

// source is what a record of the author comes from.
func (a Author) source(own string) (string, error) {
	switch {
	case own == "" || own == a.Source:
		return a.Source, nil
	case a.Source != "" && !strings.HasPrefix(own, a.Source+"/"):
		return "", fmt.Errorf("%w source: %q is not of %q", locker.ErrInvalid, own, a.Source)
	}
	return own, checkText("source", own, maxName)
}

// An editor writes records in a txn on behalf of an author.
type editor struct {
	*txn
	author Author
	clock  uint64
	imp    uint32
}

// write brings one record in line with a draft and counts what that took.
func (w *editor) write(d *draft, n *Counts) error {
	collection := w.s.names.number(d.collection)
	e, err := w.load(collection, d.id)
	if err != nil {
		return err
	}
	clock, err := over(w.clock, e.rec.latest())
	if err != nil {
		return err
	}
	at := stamp{class: w.author.Class, clock: clock, device: w.s.device, imp: w.imp}
	system := isSystem(d.collection)
	if system {
		at.imp = 0 // a system record belongs to no import, so that undo cannot hide it
	}
	was := e.rec.live(w.marks)
	var replaced []value
	differs := false
	for _, p := range d.parts {
		old, there := e.rec.find(p.name)
		var before value
		if there {
			before = e.rec.values[old]
		}
		seen := there && before.visible(w.marks)
		given := value{name: p.name, at: at, data: p.data}
		if seen && bytes.Equal(before.data, p.data) || !seen && given.isNull() {
			continue
		}
		if !w.put(e, given) {
			continue
		}
		differs = true
		if seen && before.at.imp != at.imp {
			replaced = append(replaced, before)
		}
	}
	w.count(n, was, differs, e)
	if !differs {
		return nil
	}
	w.urgent = w.urgent || !isQuiet(d.collection)
	w.meta.clock = max(w.meta.clock, w.clock)
	if at.imp != 0 && w.author.Class == Source && len(replaced) > 0 {
		if err := w.keepPrior(e, replaced); err != nil {
			return err
		}
	}
	if w.s.validate != nil && !system {
		return w.validate(e, d)
	}
	return nil
}

func (w *editor) count(n *Counts, was, differs bool, e *entry) {
	switch {
	case !differs:
		n.Same++
	case !was && e.rec.live(w.marks):
		n.New++
	default:
		n.Changed++
	}
}

// validate judges the record as it is now.
func (w *editor) validate(e *entry, d *draft) error {
	r := locker.Record{Collection: d.collection, ID: d.id}
	if t, ok := e.rec.get(timeName, w.marks); ok {
		r.Time = timeOf(t)
	}
	if src, ok := e.rec.get(sourceName, w.marks); ok {
		r.Source = string(src)
	}
	r.Fields = e.rec.fields(w.marks)
	if err := w.s.validate(r); err != nil {
		if errors.Is(err, locker.ErrInvalid) {
			return err
		}
		return fmt.Errorf("%w: %w", locker.ErrInvalid, err)
	}
	return nil
}

// fields is the JSON object of the visible fields.
func (r *record) fields(m marks) json.RawMessage {
	b := []byte{'{'}
	for _, v := range r.values {
		if v.isField() && v.visible(m) {
			if len(b) > 1 {
				b = append(b, ',')
			}
			b = append(append(quote(b, v.name), ':'), v.data...)
		}
	}
	return append(b, '}')
}

// A priorValue is a value that an import replaced, as a field of a record of _prior.
// The field's name is "f." and that of the value's field, or "time" or "source".
type priorValue struct {
	Value  json.RawMessage `json:"value"`
	Clock  string          `json:"clock"`
	Device string          `json:"device"`
	Import string          `json:"import,omitempty"`
}

// priorID names the record of _prior for what an import replaced in a record.
func priorID(imp, collection, id string) string {
	return priorPrefix(imp) + url.PathEscape(collection) + "/" + id
}

func priorPrefix(imp string) string { return url.PathEscape(imp) + "/" }

// keepPrior records what the import replaced in a record.
func (w *editor) keepPrior(e *entry, replaced []value) error {
	collection := w.s.names.text(e.collection)
	p, err := w.load(w.s.names.number(priorCollection), priorID(w.author.Import, collection, e.id))
	if err != nil {
		return err
	}
	clock, err := over(w.clock, p.rec.latest())
	if err != nil {
		return err
	}
	at := stamp{class: Source, clock: clock, device: w.s.device}
	w.put(p, value{name: "collection", at: at, data: quote(nil, collection)})
	w.put(p, value{name: "id", at: at, data: quote(nil, e.id)})
	if e.rec.deleted {
		w.put(p, value{name: priorTomb, at: at, data: quote(nil, w.tombText(e.rec.tomb))})
	}
	for _, v := range replaced {
		raw, err := json.Marshal(priorValue{
			Value: v.jsonValue(), Clock: fmt.Sprintf("%016x", v.at.clock),
			Device: w.s.names.text(v.at.device), Import: w.s.names.text(v.at.imp),
		})
		if err != nil {
			return err
		}
		w.put(p, value{name: priorName(v.name), at: at, data: normalise(raw)})
	}
	return nil
}

// priorTomb is the field of a record of _prior that says with which tombstone the
// import deleted the record.
const priorTomb = "tombstone"

func (t *txn) tombText(at stamp) string {
	return fmt.Sprintf("%d %016x %s", at.class, at.clock, t.s.names.text(at.device))
}

func priorName(name string) string {
	switch name {
	case timeName:
		return "time"
	case sourceName:
		return "source"
	}
	return "f." + name
}

// jsonValue is the value as it stands in a change line.
func (v value) jsonValue() json.RawMessage {
	switch v.name {
	case timeName:
		return quote(nil, timeText(v.data))
	case sourceName:
		return quote(nil, string(v.data))
	}
	return v.data
}

// Delete puts tombstones on records and returns how many were there. Values of the
// owner outlive a tombstone of class Source. Where the author writes for an import,
// undoing that brings the values back.
func (s *Store) Delete(ctx context.Context, a Author, collection string, ids ...string) (int, error) {
	if err := a.reach(collection, "write"); err != nil {
		return 0, err
	}
	if err := checkAuthor(a); err != nil {
		return 0, err
	}
	for _, id := range ids {
		if err := checkRef(collection, id); err != nil {
			return 0, err
		}
	}
	done, err := s.write(ctx)
	if err != nil {
		return 0, err
	}
	defer done()
	w := &editor{txn: s.begin(), author: a, clock: s.tick()}
	w.imp = s.names.number(a.Import)
	n := 0
	for _, id := range ids {
		there, err := w.remove(collection, id)
		if err != nil {
			return 0, fail(collection, id, err)
		}
		if there {
			n++
		}
	}
	if n == 0 {
		return 0, w.batch.Close()
	}
	w.urgent = !isQuiet(collection)
	return n, w.commit()
}

// remove puts a tombstone on a record if it is there.
func (w *editor) remove(collection, id string) (bool, error) {
	name, ok := w.s.names.find(collection)
	if !ok {
		return false, nil
	}
	e, err := w.load(name, id)
	if err != nil || !e.rec.live(w.marks) {
		return false, err
	}
	clock, err := over(w.clock, e.rec.latest())
	if err != nil {
		return false, err
	}
	at := stamp{class: w.author.Class, clock: clock, device: w.s.device}
	var replaced []value
	for _, v := range e.rec.values {
		if v.at.class == Source && v.visible(w.marks) && v.at.imp != w.imp {
			replaced = append(replaced, v)
		}
	}
	if !e.rec.joinTomb(at, w.s.names) {
		return false, nil
	}
	w.touch(e)
	w.meta.clock = max(w.meta.clock, w.clock)
	if w.imp != 0 && w.author.Class == Source && !isSystem(collection) && len(replaced) > 0 {
		return true, w.keepPrior(e, replaced)
	}
	return true, nil
}
