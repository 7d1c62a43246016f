package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"time"
)

// A ban that came from another device names its record by a hash only, so the record
// has to be looked for; and what a purged import wrote has to be found. That work is
// left behind as notes of jobs, in the same write as the ban, and done by hunt: at
// once, but where bans keep coming it waits so that it takes a small part of the time.
//
//	'm' "hunt" BAN       1: look for the record; 0: for what imports replaced in it
//	'm' "hollow" NAME    an import whose values have to become null
var (
	huntPrefix   = []byte("mhunt")
	hollowPrefix = []byte("mhollow")
)

// purgedField is the field of a record of _imports that says that the import was
// purged.
const purgedField = "purged"

// huntShare is how much longer than the last hunt bans wait for the next one.
const huntShare = 10

// isPurged says whether a record of _imports says that the import was purged.
func (r *record) isPurged() bool {
	i, ok := r.find(purgedField)
	return ok && string(r.values[i].data) == "true"
}

// drop removes what does not count of a record by a ban, and returns it.
func (r *record) drop(b banState, names *names) (dropped []value, changed bool) {
	if r.deleted && !b.counts(names.text(r.tomb.lift)) {
		r.deleted, r.tomb, changed = false, stamp{}, true
	}
	kept := r.values[:0:0]
	for _, v := range r.values {
		if b.counts(names.text(v.at.lift)) {
			kept = append(kept, v)
		} else {
			dropped = append(dropped, v)
		}
	}
	if len(dropped) > 0 {
		r.values = kept
	}
	return dropped, changed || len(dropped) > 0
}

// expel removes of a record what does not count: by its ban, and of purged imports. It
// reports whether anything of it was there.
func (t *txn) expel(collection uint32, id string) (there bool, err error) {
	e, err := t.load(collection, id)
	if err != nil || e.blank() {
		return false, err
	}
	b, err := t.banOf(t.s.names.text(collection), id)
	if err != nil {
		return false, err
	}
	dropped, changed := e.rec.drop(b, t.s.names)
	dropped = append(dropped, t.hollow(e)...)
	if !changed && len(dropped) == 0 {
		return false, nil
	}
	for _, v := range dropped {
		for _, blob := range refsIn(v.data) {
			t.shreds[hex.EncodeToString(blob[:])] = true
		}
	}
	t.scrubs[collection] = true
	t.touch(e)
	e.gone = len(e.rec.values) == 0 && !e.rec.deleted
	return true, nil
}

var null = []byte("null")

// hollow makes the values of purged imports null, and returns what they were.
func (t *txn) hollow(e *entry) (was []value) {
	if len(t.purged) == 0 {
		return nil
	}
	for i, v := range e.rec.values {
		data := hollowed(t.s.names, t.purged, e.collection, v.name, v.at.imp, v.data)
		if data != nil {
			was = append(was, v)
			e.rec.values[i].data = data
		}
	}
	return was
}

// hollowed is what a value becomes where it is one of a purged import, or nil: null or,
// in a record of _prior, what is left of what the import wrote and another replaced.
func hollowed(names *names, purged map[uint32]bool, collection uint32, name string, imp uint32, data []byte) []byte {
	switch names.text(collection) {
	case priorCollection:
		if _, ok := valueName(name); !ok {
			return nil
		}
		var p priorValue
		if json.Unmarshal(data, &p) != nil || p.Import == "" || string(p.Value) == "null" {
			return nil
		}
		if of, ok := names.find(p.Import); !ok || !purged[of] {
			return nil
		}
		p.Value = null
		raw, err := json.Marshal(p)
		if err != nil {
			panic(err) // it was just read
		}
		return normalise(raw)
	default:
		if !purged[imp] || string(data) == "null" {
			return nil
		}
		return null
	}
}

// putJobs puts what a txn leaves to be done into its batch.
func (t *txn) putJobs() error {
	for id, look := range t.hunts {
		val := []byte{0}
		if look {
			val[0] = 1
		}
		if err := t.batch.Set(append(bytes.Clone(huntPrefix), id[:]...), val, nil); err != nil {
			return err
		}
	}
	for imp := range t.hollows {
		if err := t.batch.Set(binary.BigEndian.AppendUint32(bytes.Clone(hollowPrefix), imp), nil, nil); err != nil {
			return err
		}
	}
	for blob := range t.shreds {
		if err := t.batch.Set(append(bytes.Clone(shredPrefix), blob...), nil, nil); err != nil {
			return err
		}
	}
	if len(t.scrubs) == 0 && len(t.hunts) == 0 {
		return nil
	}
	t.scrub = t.s.scrub.with(t.scrubs)
	return t.batch.Set(scrubKey, t.scrub.encode(), nil)
}

// tookJobs makes them the store's, once the batch is committed.
func (t *txn) tookJobs() {
	s := t.s
	maps.Copy(s.hunts, t.hunts)
	maps.Copy(s.hollows, t.hollows)
	if len(t.scrub.collections) > 0 || t.scrub.turn > s.scrub.turn {
		s.scrub = t.scrub
	}
	if len(t.hollows) > 0 {
		s.purged.Store(&t.purged)
	}
	s.hunting.Store(len(s.hunts)+len(s.hollows) > 0)
	s.bans.mu.Lock()
	defer s.bans.mu.Unlock()
	s.bans.sum = t.bansSum
}

// loadHunts reads what a crash interrupted.
func (s *Store) loadHunts() error {
	s.hunts, s.hollows = hunts{}, map[uint32]bool{}
	err := scan(s.db, huntPrefix, func(key, val []byte) error {
		var id banID
		if len(key) != len(huntPrefix)+len(id) || len(val) != 1 {
			return fmt.Errorf("damaged note of a ban")
		}
		copy(id[:], key[len(huntPrefix):])
		s.hunts[id] = val[0] == 1
		return nil
	})
	if err != nil {
		return err
	}
	err = scan(s.db, hollowPrefix, func(key, _ []byte) error {
		if len(key) != len(hollowPrefix)+4 {
			return fmt.Errorf("damaged note of an import")
		}
		s.hollows[binary.BigEndian.Uint32(key[len(hollowPrefix):])] = true
		return nil
	})
	s.hunting.Store(len(s.hunts)+len(s.hollows) > 0)
	return err
}

// huntDue says whether bans that have come are to be dealt with at once.
func (s *Store) huntDue() bool { return time.Since(s.hunted) >= huntShare*s.huntTook }

// hunt does what bans left to be done. The caller holds the writer's lock.
func (s *Store) hunt() error {
	if len(s.hunts)+len(s.hollows) == 0 {
		return nil
	}
	began := time.Now()
	h := &hunter{s: s, hash: newBanHasher(s.bans.key), tags: map[[banTag]byte]bool{}}
	for id, look := range s.hunts {
		if look {
			h.tags[[banTag]byte(id[:banTag])] = true
		}
	}
	err := h.run()
	s.hunted, s.huntTook = time.Now(), time.Since(began)
	return err
}

// A hunter finds records and expels them.
type hunter struct {
	s    *Store
	hash *banHasher
	tags map[[banTag]byte]bool // of collections that have to be looked through
	refs []recordRef
}

func (h *hunter) run() error {
	s := h.s
	for number, name := range s.names.all() {
		if isSystem(name) || !h.tags[[banTag]byte(h.hash.sum('c', name, "")[:banTag])] {
			continue
		}
		err := h.each(idKey(nil, uint32(number), ""), func(id string) bool {
			_, ok := s.hunts[h.hash.record(name, id)]
			return ok
		})
		if err != nil {
			return err
		}
	}
	if prior, ok := s.names.find(priorCollection); ok {
		err := h.each(idKey(nil, prior, ""), func(id string) bool {
			collection, target, ok := subject(priorCollection, id)
			_, wanted := s.hunts[h.hash.record(collection, target)]
			return ok && wanted || len(s.hollows) > 0
		})
		if err != nil {
			return err
		}
	}
	for imp := range s.hollows {
		if err := h.ofImport(imp); err != nil {
			return err
		}
	}
	return h.end()
}

// each expels the records of a collection that are wanted.
func (h *hunter) each(prefix []byte, wanted func(id string) bool) error {
	collection := binary.BigEndian.Uint32(prefix[1:])
	err := scan(h.s.db, prefix, func(key, _ []byte) error {
		if id := string(key[5:]); wanted(id) {
			return h.found(recordRef{collection, id})
		}
		return h.s.going(context.Background())
	})
	if err != nil {
		return err
	}
	return h.flush()
}

// ofImport expels the values of an import.
func (h *hunter) ofImport(imp uint32) error {
	var row row
	s := h.s
	err := scanRange(s.db, changeKey(s.imports[imp].first), []byte{spaceChanges + 1}, func(_, val []byte) error {
		ref, err := changeRef(val)
		if err != nil {
			return err
		}
		stored, err := s.read(s.db, ref.collection, ref.id)
		if err != nil || stored == nil {
			return err
		}
		if err := row.read(stored); err != nil {
			return err
		}
		if row.has(imp) {
			return h.found(ref)
		}
		return s.going(context.Background())
	})
	if err != nil {
		return err
	}
	return h.flush()
}

func (h *hunter) found(ref recordRef) error {
	if h.refs = append(h.refs, ref); len(h.refs) < purgeBatch {
		return nil
	}
	return h.flush()
}

// flush expels what was found.
func (h *hunter) flush() error {
	t := h.s.begin(0)
	for _, ref := range h.refs {
		if _, err := t.expel(ref.collection, ref.id); err != nil {
			return fail(h.s.names.text(ref.collection), ref.id, err)
		}
	}
	h.refs = h.refs[:0]
	return t.commit()
}

// end takes the jobs from the list.
func (h *hunter) end() error {
	t := h.s.begin(0)
	for id := range h.s.hunts {
		if err := t.batch.Delete(append(bytes.Clone(huntPrefix), id[:]...), nil); err != nil {
			return err
		}
	}
	for imp := range h.s.hollows {
		if err := t.batch.Delete(binary.BigEndian.AppendUint32(bytes.Clone(hollowPrefix), imp), nil); err != nil {
			return err
		}
	}
	if err := t.commit(); err != nil {
		return err
	}
	clear(h.s.hunts)
	clear(h.s.hollows)
	h.s.hunting.Store(false)
	h.s.publish()
	return nil
}

// caughtUp does what bans left to be done, before anything is read: a record that was
// purged on another device is not shown for a moment longer.
func (s *Store) caughtUp() {
	if !s.hunting.Load() {
		return
	}
	done, err := s.write(context.Background())
	if err == nil {
		err = s.hunt()
		done()
	}
	if err != nil {
		s.log.Warn("store: what was purged is still to be looked for", "error", err)
	}
}

// Clean returns change lines without what was purged: lines of banned records are left
// out, values of purged imports are null. Lines of other kinds stay as they are. What
// it returns is lines itself where nothing was purged of it.
func (s *Store) Clean(lines []byte) (cleaned []byte, changed bool, err error) {
	done, err := s.use(context.Background())
	if err != nil {
		return nil, false, err
	}
	defer done()
	purged := *s.purged.Load()
	if s.bans.none() && len(purged) == 0 {
		return lines, false, nil
	}
	c := cleaner{s: s, hash: newBanHasher(s.bans.key), purged: purged}
	for rest := lines; len(rest) > 0; {
		one, after, _ := bytes.Cut(rest, []byte{'\n'})
		kept, err := c.line(one)
		if err != nil {
			return nil, false, err
		}
		if !changed && !bytes.Equal(kept, one) {
			changed = true
			cleaned = append(make([]byte, 0, len(lines)), lines[:len(lines)-len(rest)]...)
		}
		if changed && len(kept) > 0 {
			cleaned = append(append(cleaned, kept...), '\n')
		}
		rest = after
	}
	if !changed {
		return lines, false, nil
	}
	return cleaned, true, nil
}

// A cleaner cleans lines.
type cleaner struct {
	s      *Store
	hash   *banHasher
	purged map[uint32]bool
	reader lineReader
}

// line returns a line as it may stay, or nil.
func (c *cleaner) line(one []byte) ([]byte, error) {
	var l line
	if len(bytes.TrimSpace(one)) == 0 {
		return one, nil
	}
	if err := c.reader.parse(one, &l); err != nil {
		return nil, err
	}
	if !l.hasRef {
		return one, nil
	}
	if collection, id, ok := subject(string(l.collection), string(l.id)); ok {
		b, err := c.s.banState(c.s.db, c.hash.record(collection, id))
		if err != nil || !b.counts(string(l.lift)) {
			return nil, err
		}
	}
	collection, ok := c.s.names.find(string(l.collection))
	imp, _ := c.s.names.find(string(l.imp))
	if !ok || len(c.purged) == 0 || isSystem(string(l.collection)) && string(l.collection) != priorCollection {
		return one, nil
	}
	changed := false
	for i, p := range l.parts {
		if data := hollowed(c.s.names, c.purged, collection, p.name, imp, p.data); data != nil {
			l.parts[i].data, changed = data, true
		}
	}
	if !changed {
		return one, nil
	}
	return l.encode(), nil
}

// encode is the line as text.
func (l *line) encode() []byte {
	b := append([]byte(nil), `{"collection":`...)
	b = append(quote(b, string(l.collection)), `,"id":`...)
	b = quote(b, string(l.id))
	for _, p := range l.parts {
		switch {
		case p.name == timeName && string(p.data) == "null":
			b = append(b, `,"time":"null"`...)
		case p.name == timeName:
			b = quote(append(b, `,"time":`...), timeText(p.data))
		case p.name == sourceName:
			b = quote(append(b, `,"source":`...), string(p.data))
		}
	}
	if len(l.imp) > 0 {
		b = quote(append(b, `,"import":`...), string(l.imp))
	}
	b = append(b, `,"class":`...)
	b = append(quote(b, map[Class]string{Source: "source", Owner: "owner"}[l.class]), fmt.Sprintf(`,"clock":"%016x","device":`, l.clock)...)
	b = quote(b, string(l.device))
	if len(l.lift) > 0 {
		b = quote(append(b, `,"lift":`...), string(l.lift))
	}
	if l.deleted {
		b = append(b, `,"deleted":true`...)
	}
	open := len(b)
	for _, p := range l.parts {
		if p.name >= "\xff" {
			continue
		}
		if len(b) == open {
			b = append(b, `,"fields":{`...)
		} else {
			b = append(b, ',')
		}
		b = append(append(quote(b, p.name), ':'), p.data...)
	}
	if len(b) > open {
		b = append(b, '}')
	}
	return append(b, '}')
}
