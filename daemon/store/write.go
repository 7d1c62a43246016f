package store

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/locker-project/locker/plugins/locker"
	"golang.org/x/sync/errgroup"
)

const (
	maxName   = 256       // bytes of a collection's name, a source or an import
	maxID     = 4 << 10   // bytes of an id
	maxFields = 256 << 20 // bytes of a record's fields
)

// Write writes records, all or none, and only what differs from what can be seen.
// They are durable when it returns nil. Given fields replace those that are there, a
// null removes one, others are left alone, and so are time and source where a record
// has none. A value of class Source never replaces one of the owner's, nor
// does it bring back what the owner deleted. What class Source writes to a record that
// was purged is left out and counted; there class Owner gets [ErrBanned], as does who
// writes for an import that was purged.
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
	size := 0
	for i := range records {
		size += len(records[i].Fields) + 3*len(records[i].ID) + recordCost
	}
	w := &editor{txn: s.begin(size), author: a, clock: s.tick()}
	w.imp = s.names.number(a.Import)
	if w.purged[w.imp] {
		return Counts{}, errors.Join(fmt.Errorf("import %s: %w: %w", a.Import, locker.ErrInvalid, ErrBanned), w.batch.Close())
	}
	for i := range drafts {
		if err := w.write(&drafts[i], &n); err != nil {
			return Counts{}, fail(drafts[i].collection, drafts[i].id, err)
		}
	}
	if !keep || len(w.order) == 0 {
		return n, w.batch.Close()
	}
	if _, err := w.txn.finish(); err != nil {
		return Counts{}, err
	}
	return n, nil
}

// recordCost is about what a batch takes for a record beside its fields and ids.
const recordCost = 160

// A draft is a record to write, checked and in the form that is stored.
type draft struct {
	collection string
	id         string
	parts      []part // sorted by name
}

type part struct {
	name string
	data []byte
}

// parallelDrafts is how many records are worth a second goroutine.
const parallelDrafts = 256

// drafts checks records before any lock is taken.
func (s *Store) drafts(a Author, records []locker.Record) ([]draft, error) {
	if err := checkAuthor(a); err != nil {
		return nil, err
	}
	out := make([]draft, len(records))
	if len(records) < parallelDrafts {
		return out, draftAll(a, records, out)
	}
	var group errgroup.Group
	half := len(records) / 2
	group.Go(func() error { return draftAll(a, records[:half], out[:half]) })
	err := draftAll(a, records[half:], out[half:])
	if first := group.Wait(); first != nil {
		return nil, first
	}
	return out, err
}

func draftAll(a Author, records []locker.Record, out []draft) error {
	var d drafter
	for i := range records {
		if err := d.draft(a, &records[i], &out[i]); err != nil {
			return fail(records[i].Collection, records[i].ID, err)
		}
	}
	return nil
}

// A drafter makes drafts of many records that are alike.
type drafter struct {
	names []string // of the fields of the record before, in the order given
	room  []part
}

// name returns a name as a string; that of the record before, where it is the same.
func (d *drafter) name(i int, name []byte) string {
	if i < len(d.names) && d.names[i] == string(name) {
		return d.names[i]
	}
	d.names = append(d.names[:min(i, len(d.names))], string(name))
	return d.names[i]
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

func (d *drafter) draft(a Author, r *locker.Record, out *draft) error {
	if err := a.reach(r.Collection, "write"); err != nil {
		return err
	}
	if err := checkRef(r.Collection, r.ID); err != nil {
		return err
	}
	source, err := a.source(r.Source)
	if err != nil {
		return err
	}
	if cap(d.room)-len(d.room) < len(d.names)+2 {
		d.room = make([]part, 0, max(64, 8*len(d.names)))
	}
	start := len(d.room)
	parts := d.room[start:start]
	if parts, err = d.fields(r, parts); err != nil {
		return err
	}
	if !r.Time.IsZero() {
		if y := r.Time.UTC().Year(); y < 1 || y > 9998 {
			return fmt.Errorf("%w time: the year %d", locker.ErrInvalid, y)
		}
		parts = append(parts, part{timeName, timeData(r.Time)})
	}
	if source != "" {
		parts = append(parts, part{sourceName, []byte(source)})
	}
	if len(parts) == 0 {
		return fmt.Errorf("%w record: it has neither fields nor a time", locker.ErrInvalid)
	}
	if start+len(parts) <= cap(d.room) {
		d.room = d.room[:start+len(parts)]
	}
	*out = draft{r.Collection, r.ID, parts[:len(parts):len(parts)]}
	return sortParts(parts)
}

// fields appends the fields of a record.
func (d *drafter) fields(r *locker.Record, parts []part) ([]part, error) {
	if len(r.Fields) > maxFields {
		return nil, fmt.Errorf("%w fields: more than %d bytes; large bytes belong in a blob", locker.ErrInvalid, maxFields)
	}
	if len(r.Fields) == 0 {
		return parts, nil
	}
	n := 0
	err := fields(r.Fields, true, func(name, val []byte) error {
		parts = append(parts, part{d.name(n, name), val})
		n++
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("%w fields: %w", locker.ErrInvalid, err)
	}
	return parts, nil
}

// sortParts sorts by name and refuses a name that is there twice.
func sortParts(parts []part) error {
	byName := func(a, b part) int { return cmp.Compare(a.name, b.name) }
	if !slices.IsSortedFunc(parts, byName) {
		slices.SortStableFunc(parts, byName)
	}
	for i := 1; i < len(parts); i++ {
		if parts[i].name == parts[i-1].name {
			return fmt.Errorf("%w fields: %q is there twice", locker.ErrInvalid, parts[i].name)
		}
	}
	return nil
}

// source is what a record of the author comes from.
func (a Author) source(own string) (string, error) {
	switch {
	case own == "null" || a.Source == "null":
		return "", fmt.Errorf("%w source: it cannot be called null", locker.ErrInvalid)
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
	ban, err := w.banOf(d.collection, d.id)
	switch {
	case err != nil:
		return err
	case ban.banned() && w.author.Class == Owner:
		return fmt.Errorf("%w: %w", locker.ErrInvalid, ErrBanned)
	case ban.banned():
		n.Banned++
		return nil
	}
	e, err := w.load(collection, d.id)
	if err != nil {
		return err
	}
	clock, err := over(w.clock, max(e.rec.latest(), w.marks[w.imp]))
	if err != nil {
		return err
	}
	at := stamp{class: w.author.Class, clock: clock, device: w.s.device, imp: w.imp, lift: w.s.names.number(ban.lift)}
	if isSystem(d.collection) {
		at.imp = 0 // a system record belongs to no import, so that undo cannot hide it
	}
	if e.blank() {
		return w.wrote(e, d, w.fresh(e, withoutNulls(d.parts), at), false, nil, n)
	}
	was := e.rec.live(w.marks)
	differs, replaced := w.merge(e, d, at)
	return w.wrote(e, d, differs, was, replaced, n)
}

func withoutNulls(parts []part) []part {
	return slices.DeleteFunc(parts, func(p part) bool { return string(p.data) == "null" })
}

// merge changes what differs in a record, and returns what that replaced of other
// imports.
func (w *editor) merge(e *entry, d *draft, at stamp) (differs bool, replaced []value) {
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
		if !w.join(e, given) {
			continue
		}
		differs = true
		if seen && before.at.imp != at.imp {
			replaced = append(replaced, before)
		}
	}
	return differs, replaced
}

// wrote counts what writing a record did, keeps what it replaced, and lets the
// result be judged.
func (w *editor) wrote(e *entry, d *draft, differs, was bool, replaced []value, n *Counts) error {
	w.count(n, was, differs, e)
	if !differs {
		return nil
	}
	w.urgent = w.urgent || !isQuiet(d.collection)
	w.meta.clock = max(w.meta.clock, w.clock)
	if w.imp != 0 && w.author.Class == Source && !isSystem(d.collection) && len(replaced) > 0 {
		if err := w.keepPrior(e, replaced); err != nil {
			return err
		}
	}
	if w.s.validate == nil || isSystem(d.collection) {
		return nil
	}
	if err := e.decode(); err != nil {
		return err
	}
	return w.validate(e, d)
}

func (w *editor) count(n *Counts, was, differs bool, e *entry) {
	switch {
	case !differs:
		n.Same++
	case !was && (e.encoded != nil || e.rec.live(w.marks)):
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
	ban, err := w.banOf(collection, e.id)
	if err != nil {
		return err
	}
	at := stamp{class: Source, clock: clock, device: w.s.device, lift: w.s.names.number(ban.lift)}
	w.join(p, value{name: "collection", at: at, data: quote(nil, collection)})
	w.join(p, value{name: "id", at: at, data: quote(nil, e.id)})
	if e.rec.deleted {
		w.join(p, value{name: priorTomb, at: at, data: quote(nil, w.tombText(e.rec.tomb))})
	}
	for _, v := range replaced {
		raw, err := json.Marshal(priorValue{
			Value: v.jsonValue(), Clock: fmt.Sprintf("%016x", v.at.clock),
			Device: w.s.names.text(v.at.device), Import: w.s.names.text(v.at.imp),
		})
		if err != nil {
			return err
		}
		w.join(p, value{name: priorName(v.name), at: at, data: normalise(raw)})
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
	w := &editor{txn: s.begin(0), author: a, clock: s.tick()}
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
	if _, err := w.txn.finish(); err != nil {
		return 0, err
	}
	return n, nil
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
	ban, err := w.banOf(collection, id)
	if err != nil {
		return false, err
	}
	at := stamp{class: w.author.Class, clock: clock, device: w.s.device, lift: w.s.names.number(ban.lift)}
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
