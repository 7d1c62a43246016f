package manifests

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/locker-project/locker/plugins/locker"
)

// Limit narrows a view to what a grant covers. now is the clock by which the grant
// expires and its windows are counted; nil is time.Now.
//
// The rules, each of which holds whatever the view underneath does:
//
//   - A field that is not granted is a [*locker.Denied] where it is selected,
//     filtered by or written, and is never in a result. Selecting nothing in
//     particular gives all that is granted. Of nested fields just the granted
//     leaves remain, and no trace of others.
//   - id, time, source and import need granting like fields. Without id the ids of
//     results are empty and Get is denied; with it they are pseudonyms that mean
//     nothing outside this grant, which Get and Put take. Ids that the app chose
//     itself in Put stay as it knows them, and can never be those of records that
//     others wrote.
//   - Results are in order of time where time is granted, and otherwise in an
//     order that is the same for each read and says nothing. So are records of the
//     same time. Without time, a query cannot be bounded or reversed by it.
//   - A window hides older records, and those without a time.
//   - Rev is set by Changes alone, and counts what this grant can see: a change to
//     anything else does not show in it. Within what changed since the last look
//     the order says nothing. A position from before the locker was last started
//     gives all records again.
//   - Put writes to the granted collections only; beside a collection of its own,
//     the fields must be granted. Source and import are never the app's to set.
//   - Errors of the view underneath are passed on by their class alone.
//   - After the grant's expiry everything is [locker.ErrRevoked].
//
// Without time a result is sorted in memory: at most 64 MiB at a time, else the
// error says to narrow the query.
func Limit(v locker.View, g Grant, now func() time.Time) locker.View {
	if now == nil {
		now = time.Now
	}
	l := &limited{inner: v, now: now, expires: g.Expires, own: ownPrefix(g.App), vendor: g.Vendor, policies: map[string]*policy{}}
	for _, r := range g.Reads {
		p := l.policies[r.Collection]
		if p == nil {
			p = &policy{collection: r.Collection, window: r.Window}
			l.policies[r.Collection] = p
		}
		p.paths = append(p.paths, r.Fields...)
		if p.window != r.Window {
			l.broken = fmt.Errorf("%w: grant %s has two windows on %s", locker.ErrInvalid, g.ID, r.Collection)
		}
	}
	for _, c := range g.Writes {
		if l.policies[c] == nil {
			l.policies[c] = &policy{collection: c}
		}
		l.policies[c].write = true
	}
	for _, p := range l.policies {
		if err := p.prepare(g.Key); err != nil {
			l.broken = err
		}
	}
	return l
}

// ownPrefix begins the ids of what an app wrote.
func ownPrefix(app string) string { return "apps/" + app + ":" }

// limited is the view of [Limit].
type limited struct {
	inner    locker.View
	now      func() time.Time
	expires  time.Time
	own      string // ids of the app's own records begin with it
	vendor   string
	policies map[string]*policy
	broken   error        // a grant that makes no sense gives nothing
	held     atomic.Int64 // bytes that queries hold back, all together
}

// A policy is what a grant says of one collection.
type policy struct {
	collection string
	paths      []string // granted, with id, time, source, import
	window     string
	write      bool

	fields                  *node
	names                   []string // top-level names of fields
	id, time, source, batch bool     // granted; batch is import
	ids                     *pseudonymizer

	once    sync.Once
	changes *tracker
}

func (p *policy) prepare(key []byte) (err error) {
	var fields []string
	for _, path := range p.paths {
		switch path {
		case fieldID:
			p.id = true
		case fieldTime:
			p.time = true
		case fieldSource:
			p.source = true
		case fieldImport:
			p.batch = true
		default:
			fields = append(fields, path)
		}
	}
	p.fields = tree(fields)
	p.names = p.fields.names()
	if len(key) < 32 {
		return fmt.Errorf("%w: the grant has no key", locker.ErrInvalid)
	}
	if _, err := since(p.window, time.Time{}); err != nil {
		return fmt.Errorf("%w: the grant's window %w", locker.ErrInvalid, err)
	}
	p.ids, err = newPseudonymizer(key, p.collection)
	return err
}

// reads says whether anything of the collection may be read.
func (p *policy) reads() bool { return p != nil && len(p.paths) > 0 }

// granted says whether a path may be named: a granted leaf, or what lies above one.
func (p *policy) granted(path string) bool {
	switch path {
	case fieldID:
		return p.id
	case fieldTime:
		return p.time
	case fieldSource:
		return p.source
	case fieldImport:
		return p.batch
	}
	return p.fields.find(path) != nil
}

func (p *policy) denied(field, verb string) error {
	return &locker.Denied{Collection: p.collection, Field: field, Verb: verb}
}

// reader returns the policy for reading a collection.
func (l *limited) reader(collection string) (*policy, error) {
	if err := l.check(); err != nil {
		return nil, err
	}
	p := l.policies[collection]
	if !p.reads() {
		return nil, &locker.Denied{Collection: collection, Verb: "read"}
	}
	return p, nil
}

func (l *limited) check() error {
	if l.broken != nil {
		return l.broken
	}
	if !l.now().Before(l.expires) {
		return locker.ErrRevoked
	}
	return nil
}

// oldest is the time before which the policy shows nothing; zero is no bound.
func (l *limited) oldest(p *policy) time.Time {
	t, _ := since(p.window, l.now()) // the window was read in prepare
	return t
}

// opaque passes an error of the view underneath on by its class. Its words could
// tell what is not granted.
func opaque(err error) error {
	for _, class := range []error{locker.ErrNotFound, locker.ErrRevoked, locker.ErrInvalid, context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, class) {
			return class
		}
	}
	return errUnreadable
}

var errUnreadable = errors.New("the locker could not do this; its own log says why")

// show makes of a record what the app sees.
func (l *limited) show(p *policy, fields *node, r locker.Record) locker.Record {
	out := locker.Record{Collection: p.collection, Deleted: r.Deleted}
	if p.id {
		out.ID = l.pseudonym(p, r.ID)
	}
	if r.Deleted {
		return out
	}
	if p.time {
		out.Time = r.Time
	}
	if p.source {
		out.Source = r.Source
	}
	if p.batch {
		out.Import = r.Import
	}
	out.Fields = fields.project(r.Fields)
	return out
}

// pseudonym is the id as the app knows it.
func (l *limited) pseudonym(p *policy, id string) string {
	if own, ok := strings.CutPrefix(id, l.own); ok {
		return own
	}
	return p.ids.seal(id)
}

// real is the id behind one that the app knows; foreign says that it is of a
// record that the app was shown and did not write.
func (l *limited) real(p *policy, id string) (real string, foreign bool) {
	if p.id {
		if real, ok := p.ids.open(id); ok {
			return real, true
		}
	}
	return l.own + id, false
}

// Get implements [locker.View].
func (l *limited) Get(ctx context.Context, collection, id string) (locker.Record, error) {
	p, err := l.reader(collection)
	if err != nil {
		return locker.Record{}, err
	}
	if !p.id {
		return locker.Record{}, p.denied(fieldID, "read")
	}
	real, _ := l.real(p, id)
	r, err := l.get(ctx, p, real)
	if err != nil {
		return locker.Record{}, err
	}
	return l.show(p, p.fields, r), nil
}

// get reads a record by its real id; one outside the window is not found.
func (l *limited) get(ctx context.Context, p *policy, id string) (locker.Record, error) {
	r, err := l.inner.Get(ctx, p.collection, id)
	if err != nil {
		return locker.Record{}, opaque(err)
	}
	if oldest := l.oldest(p); r.Deleted || !oldest.IsZero() && r.Time.Before(oldest) {
		return locker.Record{}, locker.ErrNotFound
	}
	return r, nil
}

// Query implements [locker.View].
func (l *limited) Query(ctx context.Context, q locker.Query) iter.Seq2[locker.Record, error] {
	return func(yield func(locker.Record, error) bool) {
		plan, err := l.plan(q)
		if err != nil {
			yield(locker.Record{}, err)
			return
		}
		plan.run(ctx, yield)
	}
}

// Put implements [locker.View].
func (l *limited) Put(ctx context.Context, records ...locker.Record) error {
	if err := l.check(); err != nil {
		return err
	}
	out := make([]locker.Record, len(records))
	for i, r := range records {
		var err error
		if out[i], err = l.writable(ctx, r); err != nil {
			return err
		}
	}
	if err := l.inner.Put(ctx, out...); err != nil {
		return opaque(err)
	}
	return nil
}

// writable turns a record of the app into one for the view underneath.
func (l *limited) writable(ctx context.Context, r locker.Record) (locker.Record, error) {
	p := l.policies[r.Collection]
	if p == nil || !p.write {
		return r, &locker.Denied{Collection: r.Collection, Verb: "write"}
	}
	switch {
	case r.ID == "":
		return r, fmt.Errorf("%w: a record for %s has no id", locker.ErrInvalid, r.Collection)
	case r.Source != "":
		return r, p.denied(fieldSource, "write")
	case r.Import != "":
		return r, p.denied(fieldImport, "write")
	case !isJSONObject(r.Fields):
		return r, fmt.Errorf("%w: the fields of %s %q are no JSON object", locker.ErrInvalid, r.Collection, r.ID)
	}
	if !strings.HasPrefix(p.collection, l.vendor+"/") {
		if !r.Time.IsZero() && !p.time {
			return r, p.denied(fieldTime, "write")
		}
		if field, ok := p.fields.covers(r.Fields); !ok {
			return r, p.denied(field, "write")
		}
	}
	id, foreign := l.real(p, r.ID)
	if foreign {
		if _, err := l.get(ctx, p, id); err != nil {
			return r, err
		}
	}
	return locker.Record{Collection: r.Collection, ID: id, Time: r.Time, Fields: r.Fields}, nil
}

// covers says whether all members of an object are whole fields that the tree
// names, and else the first that is not. Of a field with parts that are not
// granted nothing can be written, as a write replaces all of it.
func (n *node) covers(object json.RawMessage) (field string, ok bool) {
	ok = true
	members(object, skipSpace(object, 0), func(m member, at int) int {
		end := skipValue(object, at, 0)
		kid := n.kids[string(m.name)]
		if ok && end > 0 && (kid == nil || !kid.leaf || kid.clean(object, at, 1, false) < 0) {
			field, ok = string(m.name), false
		}
		return end
	})
	return field, ok
}

// A plan is a query as it is put to the view underneath.
type plan struct {
	l      *limited
	p      *policy
	inner  locker.Query
	fields *node          // to show
	where  *locker.Filter // to apply here, on what may be seen; nil is none
	limit  int
	oldest time.Time
}

// plan checks a query against the grant before anything is read.
func (l *limited) plan(q locker.Query) (*plan, error) {
	p, err := l.reader(q.Collection)
	if err != nil {
		return nil, err
	}
	where, err := locker.ParseFilter(q.Where)
	if err != nil {
		return nil, err
	}
	paths := filterPaths(q.Where)
	for _, path := range append(slices.Clone(q.Fields), paths...) {
		if !p.granted(path) {
			return nil, p.denied(path, "read")
		}
	}
	if !p.time && (!q.Since.IsZero() || !q.Until.IsZero() || q.Descending) {
		return nil, p.denied(fieldTime, "read")
	}
	if q.Limit < 0 {
		return nil, fmt.Errorf("%w: a limit of %d", locker.ErrInvalid, q.Limit)
	}
	pl := &plan{l: l, p: p, fields: p.fields, limit: q.Limit, oldest: l.oldest(p)}
	pl.inner = locker.Query{Collection: q.Collection, Since: q.Since, Until: q.Until, Descending: q.Descending, Fields: p.names}
	if q.Fields != nil {
		pl.fields = p.fields.only(slices.DeleteFunc(slices.Clone(q.Fields), isPseudo))
		pl.inner.Fields = pl.fields.names()
	}
	if pl.oldest.After(q.Since) {
		pl.inner.Since = pl.oldest
	}
	pl.filter(q.Where, where, paths)
	return pl, nil
}

// filter decides where the filter is applied. The view underneath does it where
// all that is named are whole top-level fields; it is done here, on what may be
// seen, where the filter looks at an id, or into a field of which not all may be
// seen.
func (pl *plan) filter(text string, where *locker.Filter, paths []string) {
	if where == nil {
		return
	}
	pushable := true
	for _, path := range paths {
		kid := pl.p.fields.kids[path]
		if isPseudo(path) {
			pushable = pushable && path != fieldID
			continue
		}
		pushable = pushable && kid != nil && kid.leaf && kid.kids == nil
	}
	if pushable {
		pl.inner.Where = text
		return
	}
	pl.where = where
	for _, path := range paths {
		name, _, _ := strings.Cut(path, ".")
		if !isPseudo(name) && !slices.Contains(pl.inner.Fields, name) {
			pl.inner.Fields = append(slices.Clone(pl.inner.Fields), name)
		}
	}
}

// matches applies the filter to what may be seen of a record. A granted leaf field
// counts as it is, as it does where the view underneath applies the filter; no path
// of a filter leads into it.
func (pl *plan) matches(r locker.Record) bool {
	return pl.where.Match(func(name string) (json.RawMessage, bool) {
		switch name {
		case fieldID:
			return quote(pl.l.pseudonym(pl.p, r.ID)), true
		case fieldTime:
			return quote(r.Time.Format(time.RFC3339Nano)), !r.Time.IsZero()
		case fieldSource:
			return quote(r.Source), r.Source != ""
		case fieldImport:
			return quote(r.Import), r.Import != ""
		}
		value, ok := valueOf(r.Fields, name)
		kid := pl.p.fields.kids[name]
		if !ok || kid.kids == nil {
			return value, ok
		}
		shown, _ := kid.rewrite(nil, value, 0, 1)
		return shown, len(shown) > 0
	})
}

func quote(s string) json.RawMessage {
	b, err := json.Marshal(s)
	if err != nil {
		return json.RawMessage("null")
	}
	return b
}

// run reads, and yields in an order that tells nothing but granted times.
func (pl *plan) run(ctx context.Context, yield func(locker.Record, error) bool) {
	out := &outlet{plan: pl, yield: yield}
	defer out.release()
	seen := 0
	for r, err := range pl.l.inner.Query(ctx, pl.inner) {
		if err != nil {
			err = opaque(err)
		} else if seen++; seen%256 == 0 {
			err = pl.l.check()
		}
		if err != nil {
			out.fail(err)
			return
		}
		if r.Deleted || !pl.oldest.IsZero() && r.Time.Before(pl.oldest) || pl.where != nil && !pl.matches(r) {
			continue
		}
		if !out.take(r) {
			return
		}
	}
	out.flush()
}

// maxHeld is how many bytes of records all queries under a grant hold back at a
// time, to be put in order.
const maxHeld = 64 << 20

// An outlet holds records of one time back until all of them are there, and
// yields them in order of their pseudonyms. Without time granted all records are
// of one time.
type outlet struct {
	plan  *plan
	yield func(locker.Record, error) bool
	held  []held
	bytes int64
	count int // yielded
	ended bool
}

type held struct {
	order block
	locker.Record
}

// take takes a record over. It returns false when no more is wanted.
func (o *outlet) take(r locker.Record) bool {
	if len(o.held) > 0 && o.plan.p.time && !o.held[0].Time.Equal(r.Time) && !o.flush() {
		return false
	}
	o.held = append(o.held, held{Record: r})
	size := int64(len(r.Fields) + len(r.ID) + 160)
	o.bytes += size
	if o.plan.l.held.Add(size) > maxHeld {
		o.fail(fmt.Errorf("%w: more than %d MiB of records are to be put in order; ask for fewer fields, filter with where, or have time granted", locker.ErrInvalid, maxHeld>>20))
		return false
	}
	return true
}

// flush yields what is held.
func (o *outlet) flush() bool {
	if o.ended {
		return false
	}
	if len(o.held) > 1 {
		ids := o.plan.p.ids
		for i := range o.held {
			o.held[i].order = ids.order(o.held[i].ID)
		}
		slices.SortFunc(o.held, func(a, b held) int { return slices.Compare(a.order[:], b.order[:]) })
		if o.plan.inner.Descending {
			slices.Reverse(o.held)
		}
	}
	for i := range o.held {
		r := o.plan.l.show(o.plan.p, o.plan.fields, o.held[i].Record)
		if !o.yield(r, nil) {
			o.ended = true
			return false
		}
		if o.count++; o.count == o.plan.limit {
			o.ended = true
			return false
		}
	}
	clear(o.held)
	o.held = o.held[:0]
	o.release()
	return true
}

// release gives back what the outlet took of the memory for what is held.
func (o *outlet) release() {
	o.plan.l.held.Add(-o.bytes)
	o.bytes = 0
}

// fail ends the sequence. What is held is not yielded.
func (o *outlet) fail(err error) {
	if !o.ended {
		o.ended = true
		o.yield(locker.Record{}, err)
	}
}
