package store

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"net/url"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/locker-project/locker/plugins/locker"
)

// A ban is a record of the system collection _bans. It is named by a keyed hash of
// what it bans, so that nobody without the locker's keys can tell what that was, and
// it has two fields, each merged like any other: "ban" and "lift".
//
// Nothing of a banned record counts, in whatever order things arrive and however new
// they are: a ban is no revision among others, it comes before them. It stands until a
// lift that is newer than it. What is written to a record after that says so: its
// revision carries the lift that its writer had seen, and counts where that is newer
// than the newest ban. So what an absent device wrote, not knowing of the ban, never
// comes back with a lift; and devices that have seen the same lines have the same
// state: the lift is the most significant part of a revision, so whatever a ban takes
// away lost to nothing that it leaves.
//
// An import that was purged is told by its record in _imports. Its values become null,
// with the revisions that they had: it was undone before, so nothing that could be seen
// changes.
const bansCollection = "_bans"

// Names of the fields of a record of _bans.
const (
	banField  = "ban"
	liftField = "lift"
)

// ErrBanned says that a record was purged and cannot be written until its ban is
// lifted.
var ErrBanned = errors.New("it was purged, and is kept out until its ban is lifted")

const (
	banTag = 4  // bytes of a ban's id that are the same for a whole collection
	banMac = 20 // bytes that are the record's own
)

// A banID names what is banned.
type banID [banTag + banMac]byte

func (id banID) text() string { return hex.EncodeToString(id[:]) }

func parseBanID(text string) (id banID, ok bool) {
	if len(text) != 2*len(id) {
		return id, false
	}
	_, err := hex.Decode(id[:], []byte(text))
	return id, err == nil && id.text() == text
}

// A banHasher makes the ids of bans. It is not safe for concurrent use.
type banHasher struct {
	mac  hash.Hash
	room [sha256.Size]byte
	last string // collection
	tag  [banTag]byte
}

func newBanHasher(key []byte) *banHasher {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("locker ban v1"))
	return &banHasher{mac: hmac.New(sha256.New, mac.Sum(nil))}
}

func (h *banHasher) sum(kind byte, name, id string) []byte {
	h.mac.Reset()
	b := append(h.room[:0], kind)
	h.mac.Write(binary.AppendUvarint(b, uint64(len(name))))
	h.mac.Write([]byte(name))
	h.mac.Write([]byte(id))
	return h.mac.Sum(h.room[:0])
}

// record names the ban of a record.
func (h *banHasher) record(collection, id string) (out banID) {
	if h.last != collection {
		copy(h.tag[:], h.sum('c', collection, ""))
		h.last = collection
	}
	copy(out[:banTag], h.tag[:])
	copy(out[banTag:], h.sum('r', collection, id))
	return out
}

// bans tells quickly of most records that there is no ban of them: it knows a part of
// the id of each. It is safe for concurrent use.
type bans struct {
	key []byte

	mu    sync.RWMutex
	known map[uint64]struct{}
	sum   sum // over the bans, lifted or not, and the imports that were purged
}

func (b *bans) add(id banID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.known[binary.BigEndian.Uint64(id[banTag:])] = struct{}{}
}

// none says that there is no ban at all, which is so in most lockers.
func (b *bans) none() bool {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return len(b.known) == 0
}

func (b *bans) may(id banID) bool {
	b.mu.RLock()
	defer b.mu.RUnlock()
	_, ok := b.known[binary.BigEndian.Uint64(id[banTag:])]
	return ok
}

// loadBans reads all bans, beside which there are the imports that were purged.
func (s *Store) loadBans(purged map[uint32]bool) (*bans, error) {
	b := &bans{key: s.blobKey, known: map[uint64]struct{}{}}
	for imp := range purged {
		b.sum.add(banHash("import", s.names.text(imp)))
	}
	name, ok := s.names.find(bansCollection)
	if !ok {
		return b, nil
	}
	var row row
	return b, scan(s.db, recordKey(nil, name, nil, ""), func(key, val []byte) error {
		_, _, text, err := splitRecordKey(key)
		if err != nil {
			return err
		}
		id, ok := parseBanID(string(text))
		if !ok {
			return nil
		}
		if err := row.read(val); err != nil {
			return fmt.Errorf("ban %s: %w", text, err)
		}
		b.add(id)
		rec := row.record()
		if ban := rec.stateOf(s.names).ban; ban != "" {
			b.sum.add(banHash(id.text(), ban))
		}
		return nil
	})
}

// banHash is a ban's part in what [Store.Bans] returns.
func banHash(id, ban string) [32]byte { return sha256.Sum256([]byte(id + " " + ban)) }

// A banState is what a record of _bans says: the newest ban and lift, each as text
// that compares as they do, or empty.
type banState struct{ ban, lift string }

// banText is a revision as a lift stands in lines.
func banText(clock uint64, device string) string { return fmt.Sprintf("%016x %s", clock, device) }

func (b banState) banned() bool { return b.ban != "" && b.lift <= b.ban }

// counts says whether what carries that lift counts.
func (b banState) counts(lift string) bool { return b.ban == "" || lift > b.ban }

// stateOf reads a record of _bans.
func (r *record) stateOf(names *names) (b banState) {
	for _, v := range r.values {
		switch v.name {
		case banField:
			b.ban = banText(v.at.clock, names.text(v.at.device))
		case liftField:
			b.lift = banText(v.at.clock, names.text(v.at.device))
		}
	}
	return b
}

// subject is the record by whose ban a record stands: itself or, of what an import
// replaced in another one, that one. A system record cannot be banned.
func subject(collection, id string) (string, string, bool) {
	if collection == priorCollection {
		_, target, ok := strings.Cut(id, "/")
		escaped, id, found := strings.Cut(target, "/")
		collection, err := url.PathUnescape(escaped)
		return collection, id, ok && found && err == nil && !isSystem(collection)
	}
	return collection, id, !isSystem(collection)
}

// hasher returns the txn's own.
func (t *txn) hasher() *banHasher {
	if t.banHash == nil {
		t.banHash = newBanHasher(t.s.bans.key)
	}
	return t.banHash
}

// banOf says how a record is banned.
func (t *txn) banOf(collection, id string) (banState, error) {
	if t.s.bans.none() {
		return banState{}, nil
	}
	collection, id, ok := subject(collection, id)
	if !ok {
		return banState{}, nil
	}
	return t.banState(t.hasher().record(collection, id))
}

func (t *txn) banState(id banID) (banState, error) {
	if !t.s.bans.may(id) {
		return banState{}, nil
	}
	e, err := t.load(t.s.names.number(bansCollection), id.text())
	if err != nil {
		return banState{}, err
	}
	return e.rec.stateOf(t.s.names), nil
}

// ban joins a field into a record of _bans.
func (t *txn) ban(id banID, field string, at stamp) error {
	e, err := t.load(t.s.names.number(bansCollection), id.text())
	if err != nil {
		return err
	}
	before := e.rec.stateOf(t.s.names).ban
	at.class, at.imp, at.lift = Owner, 0, 0
	t.join(e, value{name: field, at: at, data: []byte("true")})
	t.banned(e, before)
	return nil
}

// banned notes what a change of a record of _bans leads to; before is the ban that
// there was.
func (t *txn) banned(e *entry, before string) {
	id, ok := parseBanID(e.id)
	if !ok {
		return
	}
	t.s.bans.add(id)
	now := e.rec.stateOf(t.s.names).ban
	if now == before {
		return
	}
	t.hunts[id] = true
	if before != "" {
		t.bansSum.subtract(banHash(e.id, before))
	}
	t.bansSum.add(banHash(e.id, now))
}

// A hunt looks for the record of a ban. Where its id is known there is nothing to look
// for but what imports replaced in it.
type hunts map[banID]bool

// A Purged says what a purge did: how many records were banned that had not been, and
// how many records went.
type Purged struct{ Bans, Records int }

// Ban bans records of a collection, whether they are here or not, and removes what is
// here of them: the record, its entries in indexes and in the change log, what imports
// replaced in it, and blobs that nothing else refers to. It is durable when Ban returns
// nil, and reaches other devices like any change. That the files of the store have
// forgotten them too takes longer: see [Store.Scrub].
func (s *Store) Ban(ctx context.Context, collection string, ids ...string) (Purged, error) {
	for _, id := range ids {
		if err := checkRef(collection, id); err != nil {
			return Purged{}, err
		}
	}
	if isSystem(collection) {
		return Purged{}, &locker.Denied{Collection: collection, Verb: "purge"}
	}
	done, err := s.write(ctx)
	if err != nil {
		return Purged{}, err
	}
	defer done()
	p := &purger{txn: s.begin(0), clock: s.tick()}
	for _, id := range ids {
		if err := p.ban(collection, id); err != nil {
			return Purged{}, fail(collection, id, err)
		}
	}
	return p.sum, p.finish()
}

// A purger bans records in a txn.
type purger struct {
	*txn
	clock uint64
	sum   Purged
}

// stamp is the revision of a ban or lift over those that there are.
func (p *purger) stamp(e *entry) (stamp, error) {
	clock, err := over(p.clock, e.rec.latest())
	p.meta.clock = max(p.meta.clock, clock)
	return stamp{clock: clock, device: p.s.device}, err
}

// ban bans a record that is not banned yet, and removes it.
func (p *purger) ban(collection, record string) error {
	id := p.hasher().record(collection, record)
	e, err := p.load(p.s.names.number(bansCollection), id.text())
	if err != nil || e.rec.stateOf(p.s.names).banned() {
		return err
	}
	at, err := p.stamp(e)
	if err != nil {
		return err
	}
	if err := p.txn.ban(id, banField, at); err != nil {
		return err
	}
	p.sum.Bans++
	p.urgent, p.hunts[id] = true, false
	name, ok := p.s.names.find(collection)
	if !ok {
		return nil
	}
	there, err := p.expel(name, record)
	if err == nil && there {
		p.sum.Records++
	}
	return err
}

// finish commits what was banned and removes what imports replaced in it.
func (p *purger) finish() error {
	if len(p.order) == 0 {
		return p.batch.Close()
	}
	_, err := p.txn.finish()
	return err
}

// purgeBatch is how many records are banned in one write.
const purgeBatch = 4096

// BanDeleted bans all records that are not there any more, because they were deleted
// or the imports that brought them undone.
func (s *Store) BanDeleted(ctx context.Context) (sum Purged, err error) {
	done, err := s.write(ctx)
	if err != nil {
		return sum, err
	}
	defer done()
	names := s.names.all()
	for number, collection := range names {
		if isSystem(collection) {
			continue
		}
		prefix := recordKey(nil, uint32(number), []byte{placeDead}, "")
		err := s.banBatches(ctx, prefix, after(prefix), func(key, _ []byte) (ref recordRef, ok bool, err error) {
			return recordRef{uint32(number), string(key[len(prefix):])}, true, nil
		}, &sum)
		if err != nil {
			return sum, err
		}
	}
	return sum, nil
}

// banBatches bans the records that pick finds between two keys, in batches.
func (s *Store) banBatches(ctx context.Context, from, to []byte, pick func(key, val []byte) (recordRef, bool, error), sum *Purged) error {
	for {
		var refs []recordRef
		err := scanRange(s.db, from, to, func(key, val []byte) error {
			ref, ok, err := pick(key, val)
			if err != nil {
				return err
			}
			if ok {
				refs = append(refs, ref)
			}
			from = append(append(from[:0:0], key...), 0)
			if len(refs) == purgeBatch {
				return errStop
			}
			return s.going(ctx)
		})
		if err != nil && err != errStop {
			return err
		}
		p := &purger{txn: s.begin(0), clock: s.tick()}
		for _, ref := range refs {
			if err := p.ban(s.names.text(ref.collection), ref.id); err != nil {
				return fail(s.names.text(ref.collection), ref.id, err)
			}
		}
		sum.Bans, sum.Records = sum.Bans+p.sum.Bans, sum.Records+p.sum.Records
		if e := p.finish(); e != nil || len(refs) < purgeBatch {
			return e
		}
	}
}

// BanImport undoes an import and bans what it wrote: the records that are not there
// without it, one by one, so that another import of the same files leaves them out;
// in all others its values become null. The error is [locker.ErrNotFound] where there
// is no such import.
func (s *Store) BanImport(ctx context.Context, importID string) (sum Purged, err error) {
	if _, _, err := s.Undo(ctx, importID); err != nil {
		return sum, err
	}
	done, err := s.write(ctx)
	if err != nil {
		return sum, err
	}
	defer done()
	imp := s.names.number(importID)
	var row row
	err = s.banBatches(ctx, changeKey(s.imports[imp].first), changeKey(s.meta.rev+1), func(_, val []byte) (recordRef, bool, error) {
		ref, err := changeRef(val)
		if err != nil || isSystem(s.names.text(ref.collection)) {
			return ref, false, err
		}
		stored, err := s.read(s.db, ref.collection, ref.id)
		if err != nil || stored == nil {
			return ref, false, err
		}
		if err := row.read(stored); err != nil {
			return ref, false, err
		}
		return ref, row.has(imp) && row.place(*s.marks.Load())[0] == placeDead, nil
	}, &sum)
	if err != nil {
		return sum, err
	}
	p := &purger{txn: s.begin(0), clock: s.tick()}
	e, err := p.load(s.names.number(importsCollection), importID)
	if err != nil {
		return sum, err
	}
	at, err := p.stamp(e)
	if err != nil {
		return sum, err
	}
	at.class = Owner
	p.urgent = p.join(e, value{name: purgedField, at: at, data: []byte("true")})
	return sum, p.finish()
}

// has says whether a value of the row belongs to an import.
func (r *row) has(imp uint32) bool {
	for _, at := range r.stamps {
		if imp != 0 && at.imp == imp {
			return true
		}
	}
	return false
}

// Lift takes bans of records back and returns how many there were. What was purged
// does not come back; what is written to the records from now on counts again.
func (s *Store) Lift(ctx context.Context, collection string, ids ...string) (lifted int, err error) {
	done, err := s.write(ctx)
	if err != nil {
		return 0, err
	}
	defer done()
	p := &purger{txn: s.begin(0), clock: s.tick()}
	for _, id := range ids {
		ban := p.hasher().record(collection, id)
		if b, err := p.banState(ban); err != nil {
			return 0, err
		} else if !b.banned() {
			continue
		}
		e, err := p.load(s.names.number(bansCollection), ban.text())
		if err != nil {
			return 0, err
		}
		at, err := p.stamp(e)
		if err != nil {
			return 0, err
		}
		if err := p.txn.ban(ban, liftField, at); err != nil {
			return 0, err
		}
		p.urgent = true
		lifted++
	}
	return lifted, p.finish()
}

// Banned says whether a record is banned.
func (s *Store) Banned(ctx context.Context, collection, id string) (bool, error) {
	done, err := s.use(ctx)
	if err != nil {
		return false, err
	}
	defer done()
	collection, id, ok := subject(collection, id)
	if !ok || s.bans.none() {
		return false, nil
	}
	b, err := s.banState(s.db, newBanHasher(s.bans.key).record(collection, id))
	return b.banned(), err
}

// banState reads a ban outside of any txn.
func (s *Store) banState(db pebble.Reader, id banID) (b banState, err error) {
	name, ok := s.names.find(bansCollection)
	if !ok || !s.bans.may(id) {
		return b, nil
	}
	val, err := s.read(db, name, id.text())
	if err != nil || val == nil {
		return b, err
	}
	var r row
	if err := r.read(val); err != nil {
		return b, err
	}
	rec := r.record()
	return rec.stateOf(s.names), nil
}

// Bans names the set of all bans, lifted or not, and of the imports that were purged:
// 32 hexadecimal digits that are equal on stores that know the same, and empty where
// there are none.
func (s *Store) Bans() string {
	s.bans.mu.RLock()
	defer s.bans.mu.RUnlock()
	if s.bans.sum == (sum{}) {
		return ""
	}
	return fmt.Sprintf("%016x%016x", s.bans.sum[0], s.bans.sum[1])
}
