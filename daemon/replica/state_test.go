package replica_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/locker-project/locker/daemon/replica"
)

// A memState is a State in memory: the per-field maximum over all lines. What it
// holds is what a disk would hold: a crash loses nothing that returned nil.
type memState struct {
	mu     sync.Mutex
	device string
	now    func() time.Time
	fields map[string]value  // collection 0 id 0 field
	log    [][]byte          // lines written here
	latest map[string]uint64 // the highest clock of each record; nil: not looked up yet
	notes  map[string][]byte
	blobs  map[string][]byte
	order  []string // of blobs stored here
	used   map[string]int64
	purged map[string]bool // blobs
	clock  uint64
}

// A value is one field with its revision.
type value struct {
	rev  string // class, clock, device and hash, so that strings compare as revisions do
	data string
}

var _ replica.State = (*memState)(nil)

func newMemState(device string, now func() time.Time) *memState {
	return &memState{device: device, now: now, fields: map[string]value{}, notes: map[string][]byte{}, blobs: map[string][]byte{}, used: map[string]int64{}, purged: map[string]bool{}}
}

type line struct {
	Collection string                     `json:"collection"`
	ID         string                     `json:"id"`
	Class      string                     `json:"class"`
	Clock      string                     `json:"clock"`
	Device     string                     `json:"device"`
	Deleted    bool                       `json:"deleted,omitempty"`
	Fields     map[string]json.RawMessage `json:"fields,omitempty"`
}

// write changes a record on this device.
func (s *memState) write(collection, id string, fields map[string]json.RawMessage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writeLine(line{Collection: collection, ID: id, Class: "owner", Deleted: fields == nil, Fields: fields})
}

// writeLine gives a line of this device its clock and applies it.
func (s *memState) writeLine(l line) {
	s.clock = max(s.clock+1, uint64(s.now().UnixMilli())<<16, s.replaced(l.Collection, l.ID)+1)
	l.Clock, l.Device = fmt.Sprintf("%016x", s.clock), s.device
	b, err := json.Marshal(l)
	if err != nil {
		panic(err)
	}
	s.log = append(s.log, append(b, '\n'))
	s.apply(l)
}

// replaced is the highest clock of a record's values.
func (s *memState) replaced(collection, id string) uint64 {
	if s.latest == nil {
		s.latest = map[string]uint64{}
		for key, v := range s.fields {
			s.later(key[:strings.LastIndexByte(key, 0)], v.rev[1:17])
		}
	}
	return s.latest[collection+"\x00"+id]
}

// later notes the clock of a value of a record.
func (s *memState) later(record, clock string) {
	n, err := strconv.ParseUint(clock, 16, 64)
	if err != nil {
		panic(err)
	}
	s.latest[record] = max(s.latest[record], n)
}

// put is write with one field.
func (s *memState) put(id, v string) {
	s.write("notes", id, map[string]json.RawMessage{"text": json.RawMessage(strconv.Quote(v))})
}

// ban purges a record here and, once they know, on all devices. Its ban is named in
// the clear.
func (s *memState) ban(id string) {
	s.write("_bans", "notes/"+id, map[string]json.RawMessage{"ban": json.RawMessage("true")})
}

// banned says whether a record is banned.
func (s *memState) banned(collection, id string) bool {
	_, ok := s.fields["_bans\x00"+collection+"/"+id+"\x00ban"]
	return ok
}

// Bans names the set of bans.
func (s *memState) Bans() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	h, any := sha256.New(), false
	for _, key := range slices.Sorted(maps.Keys(s.fields)) {
		if strings.HasPrefix(key, "_bans\x00") {
			any = true
			fmt.Fprintf(h, "%q %s\n", key, s.fields[key].rev)
		}
	}
	if !any {
		return ""
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// PurgedBlobs are those to which purged records referred, and no others.
func (s *memState) PurgedBlobs(ctx context.Context) (ids []string, all bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(s.purged)) {
		if _, ok := s.blobs[id]; !ok {
			ids = append(ids, id)
		}
	}
	return ids, true, ctx.Err()
}

// Clean leaves out lines of banned records.
func (s *memState) Clean(lines []byte) (cleaned []byte, changed bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for text := range bytes.Lines(lines) {
		var l line
		if err := json.Unmarshal(text, &l); err != nil {
			return nil, false, err
		}
		if s.banned(l.Collection, l.ID) {
			changed = true
		} else {
			cleaned = append(cleaned, text...)
		}
	}
	if !changed {
		return lines, false, nil
	}
	return cleaned, true, nil
}

// purge removes what is held of a record.
func (s *memState) purge(l line) {
	collection, id, _ := strings.Cut(l.ID, "/")
	refers := func(blob string) bool {
		for _, v := range s.fields {
			if strings.Contains(v.data, strconv.Quote(blob)) {
				return true
			}
		}
		return false
	}
	var blobs []string
	for _, blob := range slices.Sorted(maps.Keys(s.blobs)) {
		if refers(blob) {
			blobs = append(blobs, blob)
		}
	}
	maps.DeleteFunc(s.fields, func(key string, _ value) bool { return strings.HasPrefix(key, collection+"\x00"+id+"\x00") })
	for _, blob := range blobs {
		if !refers(blob) {
			delete(s.blobs, blob)
			s.purged[blob] = true
		}
	}
	for i, text := range s.log {
		var other line
		if json.Unmarshal(text, &other) == nil && other.Collection == collection && other.ID == id {
			s.log[i] = nil
		}
	}
}

func (s *memState) apply(l line) (changed bool) {
	if l.Collection == "_bans" {
		defer s.purge(l)
	} else if s.banned(l.Collection, l.ID) {
		return false
	}
	class := "0"
	if l.Class == "owner" {
		class = "1"
	}
	set := func(field, data string) {
		sum := sha256.Sum256([]byte(data))
		v := value{class + l.Clock + l.Device + hex.EncodeToString(sum[:8]), data}
		key := l.Collection + "\x00" + l.ID + "\x00" + field
		if old := s.fields[key]; cmp.Compare(v.rev, old.rev) > 0 {
			s.fields[key] = v
			changed = true
			if s.latest != nil {
				s.later(l.Collection+"\x00"+l.ID, l.Clock)
			}
		}
	}
	if l.Deleted {
		set("", "deleted")
	}
	for field, data := range l.Fields {
		set(field, string(data))
	}
	return changed
}

// hash is the same for equal states. A value below its record's tombstone does not
// count.
func (s *memState) hash() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	h, n := sha256.New(), 0
	stamp := func(rev string) string { return rev[:max(len(rev)-16, 0)] } // without the hash
	for _, key := range slices.Sorted(maps.Keys(s.fields)) {
		record := key[:strings.LastIndexByte(key, 0)+1]
		if key == record || stamp(s.fields[key].rev) > stamp(s.fields[record].rev) {
			fmt.Fprintf(h, "%q %q\n", key, s.fields[key])
			n++
		}
	}
	return fmt.Sprintf("%d:%x", n, h.Sum(nil)[:8])
}

func (s *memState) Cut(ctx context.Context, after []byte, max int) (lines, next []byte, urgent bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := 0
	if after != nil {
		if at, err = strconv.Atoi(string(after)); err != nil {
			return nil, nil, false, err
		}
	}
	for max > 0 && at < len(s.log) && (len(lines) == 0 || len(lines)+len(s.log[at]) <= max) {
		lines = append(lines, s.log[at]...)
		urgent = urgent || !bytes.HasPrefix(s.log[at], []byte(`{"collection":"_audit"`))
		at++
	}
	return lines, []byte(strconv.Itoa(at)), urgent, ctx.Err()
}

// Written returns a value a line, and goes on after a key.
func (s *memState) Written(ctx context.Context, device string, from, to uint64, after []byte, max int) (lines, next []byte, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, key := range slices.Sorted(maps.Keys(s.fields)) {
		l := s.lineOf(key)
		clock, err := strconv.ParseUint(l.Clock, 16, 64)
		if err != nil {
			return nil, nil, err
		}
		if key <= string(after) || device != "" && l.Device != device || clock <= from || clock > to {
			continue
		}
		if len(lines) >= max {
			return lines, next, ctx.Err()
		}
		b, err := json.Marshal(l)
		if err != nil {
			return nil, nil, err
		}
		lines, next = append(append(lines, b...), '\n'), []byte(key)
	}
	return lines, nil, ctx.Err()
}

// lineOf is the line of one value.
func (s *memState) lineOf(key string) line {
	v, parts := s.fields[key], strings.Split(key, "\x00")
	class, rest := "source", v.rev[1:]
	if v.rev[0] == '1' {
		class = "owner"
	}
	l := line{Collection: parts[0], ID: parts[1], Class: class, Clock: rest[:16], Device: rest[16 : len(rest)-16]}
	if parts[2] == "" {
		l.Deleted = true
	} else {
		l.Fields = map[string]json.RawMessage{parts[2]: json.RawMessage(v.data)}
	}
	return l
}

type malformed struct{ error }

func (malformed) Malformed() bool { return true }

func (s *memState) Join(ctx context.Context, lines []byte, notes map[string][]byte) (changed int, ahead bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []line
	for text := range bytes.Lines(lines) {
		var l line
		if err := json.Unmarshal(text, &l); err != nil || l.Collection == "" {
			return 0, false, malformed{fmt.Errorf("line %q: %w", text, err)}
		}
		if _, err := strconv.ParseUint(l.Clock, 16, 64); err != nil {
			return 0, false, malformed{err}
		}
		all = append(all, l)
	}
	for _, l := range all {
		clock, _ := strconv.ParseUint(l.Clock, 16, 64)
		if int64(clock>>16) > s.now().Add(10*time.Minute).UnixMilli() {
			ahead = true
		} else {
			s.clock = max(s.clock, clock)
		}
		if s.apply(l) {
			changed++
		}
	}
	s.setNotes(notes)
	return changed, ahead, nil
}

func (s *memState) Note(ctx context.Context, key string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.notes[key]), ctx.Err()
}

func (s *memState) Notes(ctx context.Context, prefix string) iter.Seq2[string, []byte] {
	s.mu.Lock()
	all := maps.Clone(s.notes)
	s.mu.Unlock()
	return func(yield func(string, []byte) bool) {
		for _, key := range slices.Sorted(maps.Keys(all)) {
			if strings.HasPrefix(key, prefix) && !yield(key, all[key]) {
				return
			}
		}
	}
}

func (s *memState) SetNotes(ctx context.Context, notes map[string][]byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.setNotes(notes)
	return nil
}

func (s *memState) setNotes(notes map[string][]byte) {
	for key, v := range notes {
		if v == nil {
			delete(s.notes, key)
		} else {
			s.notes[key] = slices.Clone(v)
		}
	}
}

func (s *memState) addBlob(data []byte) (id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id = blobID(data)
	s.blobs[id] = data
	s.order = append(s.order, id)
	return id
}

// blobID is a hash of the hashes of the pieces, as the store's is.
func blobID(data []byte) string {
	var sums []byte
	for piece := range slices.Chunk(data, 1<<20) {
		sum := sha256.Sum256(piece)
		sums = append(sums, sum[:]...)
	}
	if len(data) == 0 {
		sum := sha256.Sum256(nil)
		sums = sum[:]
	}
	return idOf(sums)
}

func idOf(sums []byte) string {
	sum := sha256.Sum256(append([]byte("key"), sums...))
	return hex.EncodeToString(sum[:])
}

func (s *memState) NewBlobs(ctx context.Context, after []byte) (ids []string, next []byte, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := 0
	if after != nil {
		if at, err = strconv.Atoi(string(after)); err != nil {
			return nil, nil, err
		}
	}
	return slices.Clone(s.order[at:]), []byte(strconv.Itoa(len(s.order))), nil
}

func (s *memState) OpenBlob(ctx context.Context, id string) (io.ReadCloser, int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	data, ok := s.blobs[id]
	if !ok {
		return nil, 0, fs.ErrNotExist
	}
	s.use(id)
	return io.NopCloser(bytes.NewReader(data)), int64(len(data)), nil
}

func (s *memState) PutBlobAs(ctx context.Context, id string, open func(from int64) (io.ReadCloser, error)) error {
	s.mu.Lock()
	_, ok := s.blobs[id]
	s.mu.Unlock()
	if ok {
		return nil
	}
	r, err := open(0)
	if err != nil {
		return err
	}
	data, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil {
		return err
	}
	if blobID(data) != id {
		return errors.New("the bytes are not the blob's")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.use(id)
	s.blobs[id] = data
	return nil
}

// use notes that a blob was asked for. s.mu is held.
func (s *memState) use(id string) {
	if s.used == nil {
		s.used = map[string]int64{}
	}
	s.used[id] = s.now().UnixMilli()
}

func (s *memState) BlobIs(id string, size int64, sums []byte) bool {
	return int64(len(sums)) == max(1, (size+1<<20-1)>>20)*sha256.Size && id == idOf(sums)
}

func (s *memState) Blobs(ctx context.Context, f func(id string, size, used int64) error) error {
	s.mu.Lock()
	all := maps.Clone(s.blobs)
	used := maps.Clone(s.used)
	s.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(all)) {
		if err := f(id, int64(len(all[id])), used[id]); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (s *memState) DropBlob(ctx context.Context, id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.blobs, id)
	return ctx.Err()
}

// BlobRecords looks at all values: a test's records have no times.
func (s *memState) BlobRecords(ctx context.Context, id string, f func(collection string, millis int64) bool) error {
	s.mu.Lock()
	var in []string
	for key, v := range s.fields {
		if strings.Contains(v.data, strconv.Quote(id)) {
			parts := strings.Split(key, "\x00")
			if tomb := s.fields[parts[0]+"\x00"+parts[1]+"\x00"]; tomb.rev < v.rev {
				in = append(in, parts[0])
			}
		}
	}
	s.mu.Unlock()
	slices.Sort(in)
	for _, collection := range in {
		if !f(collection, 0) {
			return nil
		}
	}
	return ctx.Err()
}
