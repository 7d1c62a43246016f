package store

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2"
)

// A txn gathers changes of records and writes them, with everything that depends
// on them, in one batch. There is one at a time: the writer's lock is held from
// begin to the end of commit. A txn that is not committed leaves no trace.
type txn struct {
	s       *Store
	batch   *pebble.Batch
	meta    meta
	marks   marks // as they will be
	old     marks // as records with a rev up to meta.jobRev stand
	entries map[string]*entry
	order   []*entry
	imports map[uint32]importNote
	jobs    map[uint32]uint64
	settled bool // the jobs are done with this txn
	lazy    bool // bans may wait before they are dealt with

	banHash *banHasher
	bansSum sum             // see bans
	purged  map[uint32]bool // imports, as they will be
	hunts   hunts           // what bans leave to be done; see hunt.go and scrub.go
	hollows map[uint32]bool
	shreds  map[string]bool
	scrubs  map[uint32]bool
	scrub   scrubJob

	born, died int  // records that came to be live, and ceased to
	urgent     bool // written on this device, and others should know soon
	key, val   []byte
	scratch    []byte
	room       []entry
	arena      []byte
}

// An entry is a record in a txn.
type entry struct {
	collection uint32
	id         string
	rec        record
	known      bool       // the store has it
	place      []byte     // where the store has it
	refs       [][32]byte // blobs that it referred to
	live       bool       // it was live
	hash       [32]byte
	changed    bool
	encoded    []byte // in place of rec, with the rev that it will have
	gone       bool   // nothing is left of it: it is to be removed
}

// begin begins a txn that will write about size bytes.
func (s *Store) begin(size int) *txn {
	t := &txn{
		s: s, batch: s.db.NewBatchWithSize(size), meta: s.meta.clone(), marks: *s.marks.Load(), old: *s.marks.Load(),
		entries: map[string]*entry{}, imports: map[uint32]importNote{}, jobs: map[uint32]uint64{},
		purged: *s.purged.Load(), bansSum: s.bans.sum, hunts: hunts{}, hollows: map[uint32]bool{}, shreds: map[string]bool{}, scrubs: map[uint32]bool{},
	}
	if len(s.jobs) > 0 {
		t.old = s.oldMarks()
	}
	return t
}

// load returns a record, which may be one that is not there yet.
func (t *txn) load(collection uint32, id string) (*entry, error) {
	t.key = idKey(t.key[:0], collection, id)
	if e, ok := t.entries[string(t.key)]; ok {
		return e, e.decode()
	}
	e := t.newEntry()
	e.collection, e.id = collection, id
	absent, err := t.s.absence.proves(t.s.db, collection, t.key)
	if err == nil && !absent {
		err = t.read(e)
	}
	if err == nil && !absent && !e.known {
		err = t.s.absence.missed(t.s.db, collection)
	}
	if err != nil {
		return nil, err
	}
	t.entries[string(t.key)] = e
	return e, nil
}

// newEntry takes an entry out of those made together.
func (t *txn) newEntry() *entry {
	if len(t.room) == cap(t.room) {
		t.room = make([]entry, 0, min(max(2*cap(t.room), 4), 512))
	}
	t.room = append(t.room, entry{})
	return &t.room[len(t.room)-1]
}

// read fills an entry from the store; t.key is the record's key among ids.
func (t *txn) read(e *entry) error {
	place, err := get(t.s.db, t.key)
	if err != nil || place == nil {
		return err
	}
	t.val = recordKey(t.val[:0], e.collection, place, e.id)
	val, closer, err := t.s.db.Get(t.val)
	if err != nil {
		return fmt.Errorf("record %s %s is in the index but cannot be read: %w", t.s.names.text(e.collection), e.id, err)
	}
	var r row
	err = r.read(val)
	if err == nil {
		e.rec, e.refs = r.record(), refsIn(val)
	}
	if closed := closer.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return fmt.Errorf("record %s %s: %w", t.s.names.text(e.collection), e.id, err)
	}
	e.known, e.place = true, place
	if e.live = place[0] != placeDead; e.live {
		m := t.s.marksOf(e.rec.rev, t.old)
		e.hash, t.scratch = e.rec.hash(t.s.names.text(e.collection), e.id, m, t.scratch)
	}
	return nil
}

// marksOf are the marks by which a record of that rev stands.
func (s *Store) marksOf(rev uint64, old marks) marks {
	if rev <= s.meta.jobRev {
		return old
	}
	return *s.marks.Load()
}

// fresh makes a record that is not there yet of parts that are sorted, and reports
// whether there are any. It is encoded at once: most are never looked at again.
func (t *txn) fresh(e *entry, parts []part, at stamp) bool {
	if len(parts) == 0 {
		return false
	}
	t.touch(e)
	size := 64
	for _, p := range parts {
		size += len(p.name) + len(p.data) + 8
	}
	if cap(t.arena)-len(t.arena) < size {
		t.arena = make([]byte, 0, max(size, arenaSize))
	}
	start := len(t.arena)
	t.arena = appendFresh(t.arena, t.meta.rev+uint64(len(t.order)), at, parts)
	e.encoded = t.arena[start:len(t.arena):len(t.arena)]
	t.note(at)
	return true
}

// blank says that nothing is known of the record.
func (e *entry) blank() bool {
	return !e.known && e.encoded == nil && len(e.rec.values) == 0 && !e.rec.deleted
}

const arenaSize = 64 << 10

// decode makes e.rec of what fresh encoded.
func (e *entry) decode() error {
	if e.encoded == nil {
		return nil
	}
	var r row
	if err := r.read(e.encoded); err != nil {
		return err
	}
	e.rec, e.encoded = r.record(), nil
	return nil
}

// touch notes that a record has changed.
func (t *txn) touch(e *entry) {
	if !e.changed {
		e.changed = true
		t.order = append(t.order, e)
	}
}

// join joins a value into a record and reports whether that changed it.
func (t *txn) join(e *entry, v value) bool {
	if !e.rec.join(v, t.s.names) {
		return false
	}
	e.gone = false
	t.touch(e)
	t.note(v.at)
	return true
}

// note keeps what undo needs to know of an import.
func (t *txn) note(at stamp) {
	if at.imp == 0 {
		return
	}
	n, ok := t.imports[at.imp]
	if !ok {
		if n, ok = t.s.imports[at.imp]; !ok {
			n.first = t.meta.rev + 1
		}
	} else if n.clock >= at.clock {
		return
	}
	n.clock = max(n.clock, at.clock)
	t.imports[at.imp] = n
}

// commit writes what changed. When it returns nil it is durable.
func (t *txn) commit() error {
	defer t.batch.Close()
	if len(t.order) == 0 && t.batch.Empty() {
		return nil
	}
	if err := t.mark(); err != nil {
		return err
	}
	if err := t.placeAll(); err != nil {
		return err
	}
	if err := t.putJobs(); err != nil {
		return err
	}
	for imp, n := range t.imports {
		val := binary.BigEndian.AppendUint64(nil, n.first)
		if err := t.batch.Set(nameKey(spaceFirst, imp), binary.BigEndian.AppendUint64(val, n.clock), nil); err != nil {
			return err
		}
	}
	saved, err := t.s.names.unsaved(func(key, val []byte) error { return t.batch.Set(key, val, nil) })
	if err != nil {
		return err
	}
	if err := t.batch.Set(metaKey, t.meta.encode(), nil); err != nil {
		return err
	}
	if err := t.s.room(int64(t.batch.Len())); err != nil {
		return err
	}
	return t.apply(saved)
}

// apply commits the batch and makes its outcome the store's state.
func (t *txn) apply(saved int) error {
	s := t.s
	marked, bulk := len(t.jobs) > 0, t.batch.Len() >= s.bulk
	if marked || bulk {
		s.viewing.Lock()
		defer s.viewing.Unlock()
	}
	if err := t.write(bulk); err != nil {
		s.failed = fmt.Errorf("a write failed and may be on disk or not; open the store again: %w", err)
		return s.failed
	}
	s.names.saved = saved
	s.meta = t.meta
	maps.Copy(s.imports, t.imports)
	if marked {
		s.jobs = t.jobs
		s.marks.Store(&t.marks)
	}
	if t.settled {
		s.jobs = map[uint32]uint64{}
	}
	t.tookJobs()
	s.kick()
	s.publish()
	if t.urgent {
		select {
		case s.changed <- struct{}{}:
		default:
		}
	}
	return nil
}

// write makes the batch durable.
func (t *txn) write(bulk bool) error {
	if bulk {
		return t.s.commitBulk(t.batch, t.meta.rev)
	}
	return t.batch.Commit(pebble.Sync)
}

// mark finds the imports whose marks change with this txn, and leaves jobs to move
// the records that this concerns.
func (t *txn) mark() error {
	name, ok := t.s.names.find(importsCollection)
	if !ok {
		return nil
	}
	for _, e := range t.order {
		if e.collection != name {
			continue
		}
		if err := e.decode(); err != nil {
			return err
		}
		imp := t.s.names.number(e.id)
		if e.rec.isPurged() && !t.purged[imp] {
			t.purged = maps.Clone(t.purged)
			t.purged[imp], t.hollows[imp] = true, true
			t.bansSum.add(banHash("import", e.id))
		}
		if clock := e.rec.markOf(); clock != t.marks[imp] {
			t.jobs[imp] = t.marks[imp]
			t.marks = t.marks.with(imp, clock)
		}
	}
	if len(t.jobs) == 0 {
		return nil
	}
	// Those that this txn moves are done: only what was there before waits.
	t.meta.jobRev = t.s.meta.rev
	for imp, clock := range t.jobs {
		if err := t.batch.Set(jobKey(imp), binary.BigEndian.AppendUint64(nil, clock), nil); err != nil {
			return err
		}
	}
	return nil
}

// A placed record is a changed one with all that has to be computed before it is
// written.
type placed struct {
	*entry
	old   uint64 // its rev until now
	place []byte
	live  bool
	hash  [32]byte   // of a live record outside system collections
	val   []byte     // as stored
	refs  [][32]byte // blobs that it refers to
}

// judgeAtOnce is how many records are judged before they are written.
const judgeAtOnce = 256

// placeAll writes the changed records, and what depends on them. Where they are many,
// some are judged while others are written.
func (t *txn) placeAll() error {
	rev := t.meta.rev + 1
	if len(t.order) <= judgeAtOnce {
		return t.store(t.judge(t.order, rev))
	}
	ready := make(chan []placed, 4)
	go func() {
		defer close(ready)
		for some := range slices.Chunk(t.order, judgeAtOnce) {
			ready <- t.judge(some, rev)
			rev += uint64(len(some))
		}
	}()
	var err error
	for some := range ready {
		if err == nil {
			err = t.store(some)
		}
	}
	return err
}

// judge finds out where records belong now; the first gets rev, and so on. It reads
// the txn and changes nothing but the records.
func (t *txn) judge(entries []*entry, rev uint64) []placed {
	out := make([]placed, len(entries))
	var (
		scratch, room []byte
		r             row
	)
	for i, e := range entries {
		p := &out[i]
		if e.encoded != nil {
			scratch = t.judgeEncoded(p, e, &r, scratch)
			continue
		}
		p.entry, p.old, p.place = e, e.rec.rev, e.rec.place(t.marks)
		p.live = p.place[0] != placeDead
		if name := t.s.names.text(e.collection); p.live && !isSystem(name) {
			p.hash, scratch = e.rec.hash(name, e.id, t.marks, scratch)
		}
		e.rec.rev = rev + uint64(i)
		start := len(room)
		room = e.rec.append(room)
		p.val = room[start:len(room):len(room)]
		p.refs = refsIn(p.val)
	}
	return out
}

// judgeEncoded judges a record that fresh encoded.
func (t *txn) judgeEncoded(p *placed, e *entry, r *row, scratch []byte) []byte {
	p.entry, p.val, p.refs = e, e.encoded, refsIn(e.encoded)
	if err := r.read(e.encoded); err != nil {
		panic(err) // it was just written
	}
	p.place = r.place(t.marks)
	p.live = p.place[0] != placeDead
	if name := t.s.names.text(e.collection); p.live && !isSystem(name) {
		p.hash, scratch = r.hash(name, e.id, t.marks, scratch)
	}
	return scratch
}

// store puts records and their index entries into the batch, and keeps the counters.
func (t *txn) store(records []placed) error {
	for i := range records {
		p := &records[i]
		t.tally(p)
		if err := t.put(p); err != nil {
			return err
		}
	}
	return nil
}

// tally keeps counts and state hash.
func (t *txn) tally(p *placed) {
	system := isSystem(t.s.names.text(p.collection))
	if p.entry.live {
		t.meta.counts[p.collection]--
		if !system {
			t.meta.hash.subtract(p.entry.hash)
		}
	}
	if p.live {
		t.meta.counts[p.collection]++
		if !system {
			t.meta.hash.add(p.hash)
		}
	}
	switch {
	case p.live && !p.entry.live:
		t.born++
	case p.entry.live && !p.live:
		t.died++
	}
}

// put puts a record and its index entries into the batch.
func (t *txn) put(p *placed) error {
	if p.known {
		if err := t.batch.Delete(changeKey(p.old), nil); err != nil {
			return err
		}
	}
	moved := p.gone || !p.known || string(p.place) != string(p.entry.place)
	if p.known && moved {
		t.key = recordKey(t.key[:0], p.collection, p.entry.place, p.id)
		if err := t.batch.Delete(t.key, nil); err != nil {
			return err
		}
	}
	t.meta.rev++
	if p.gone {
		return t.putGone(p)
	}
	t.key = recordKey(t.key[:0], p.collection, p.place, p.id)
	if err := t.batch.Set(t.key, p.val, nil); err != nil {
		return err
	}
	if moved {
		t.key = idKey(t.key[:0], p.collection, p.id)
		if !p.known {
			t.s.absence.add(p.collection, t.key)
		}
		if err := t.batch.Set(t.key, p.place, nil); err != nil {
			return err
		}
	}
	if len(p.entry.refs)+len(p.refs) > 0 {
		if err := putRefs(t.batch, p.collection, p.id, p.entry.refs, p.refs); err != nil {
			return err
		}
	}
	t.val = append(binary.BigEndian.AppendUint32(t.val[:0], p.collection), p.id...)
	return t.batch.Set(changeKey(t.meta.rev), t.val, nil)
}

// putGone takes a record out of the index of ids, the last that is left of it.
func (t *txn) putGone(p *placed) error {
	if !p.known {
		return nil
	}
	t.key = idKey(t.key[:0], p.collection, p.id)
	if err := t.batch.Delete(t.key, nil); err != nil {
		return err
	}
	return putRefs(t.batch, p.collection, p.id, p.entry.refs, nil)
}

func isSystem(collection string) bool { return strings.HasPrefix(collection, "_") }

// isQuiet says that what is written to a collection never causes a put of its own:
// the audit log, what undo needs, and what apps and connectors declare themselves
// (VENDOR/NAME). An import is told by its record in _imports.
func isQuiet(collection string) bool {
	return collection == "_audit" || collection == priorCollection || strings.Contains(collection, "/")
}
