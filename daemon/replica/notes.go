package replica

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"
)

// The replica's notes, kept by State beside the data and changed in the same
// durable write. Numbers in keys are 16 hexadecimal digits, so that they sort.
//
//	self                  selfNote: this device's own counters and positions
//	peer/DEVICE           peerNote: how far another device's log was read
//	log/DEVICE/NUMBER     logNote: one entry that was read, or sealed here
//	out/SEQ               outNote: the outbox, in the order of putting
//	sent/REMOTE           how far of the outbox a remote has it (a number)
//	mend/REMOTE/NAME      mendNote: an object that is being put again
//	state/REMOTE          remoteNote: how the last pass with it went
//	member/NAME/ID        memberNote: what the keyring absorbed, to be absorbed at start
//	mine                  mineNote: this device's door, and spares of it
//	blob/ID               []blobLine: where copies of the bytes of a blob lie
//	base/DEVICE           baseNote: the newest base that is known of a device
//	run/NUMBER            runNote: a run of this device
//	cover/NUMBER          coverNote: what base NUMBER of this device lets go
//	rest/REMOTE           restNote: how far a remote rests on bases of this device
//	read/REMOTE/NUMBER    a run of this device that was read back from a remote
//	purged/ID             a blob that was purged here and is forgotten
//	purge                 purgeNote: how far the purge of this device's objects has come
//	gone/REMOTE/DEVICE    goneNote: the log of a removed device is gone from a remote
//	part/DEVICE           partNote: what was joined of a base that is not joined whole yet
//	pack/DEVICE/NUMBER    packNote: a pack that was sealed here and is not deleted
//	packing/ID/NUMBER     growing: what is in a sealed pack of a blob that is not whole yet
//	held/SEQ              a pack whose sealed bytes are kept here
//	late/REMOTE/SEQ       lateNote: a line of the outbox that waits for room
//	behind/SEQ            the deletion of a pack that waits for all packs before it
//	probe/REMOTE          when a full remote was last tried, ms
//	condemned/DEVICE/NUM  condemnNote: a pack that will go
//	consent               something was condemned since references were looked through
//	dead/ID               since when no record refers to a blob, ms
//	forget/ID             a blob that was purged
//	wanting               blobs were told of that the cache may want
//	hurry                 something was purged since packs were last tidied
//	fresh/ID              a line about a blob that is not in an entry yet
//	fresh/~1/ID           the same of one that forgets a blob
//	fresh/~2/DEVICE/NUM   the same of one that condemns a pack
//	carry/DEVICE/NUMBER   lines of newer kinds, verbatim
//	phrases               phrasesNote: what the owner said of recovery phrases
//	meet/NAME             meetNote: a meeting whose objects are to be deleted
//	clone                 cloneNote: another copy of this device was found
//	again/DEVICE          jobNote: what is being published again of a removed log
//	wait/KEY              waitNote: what is pending, or an alarm

// A selfNote is what this device knows of itself.
type selfNote struct {
	Device  string            `json:"device"`
	Joined  bool              `json:"joined,omitempty"`  // its door is made
	Door    seen              `json:"door"`              // its number and id
	DoorSeq uint64            `json:"door_seq"`          // its line of the outbox
	Seq     uint64            `json:"seq"`               // newest line of the outbox
	Entry   seen              `json:"entry"`             // newest entry that was sealed
	Mark    seen              `json:"mark"`              // newest mark
	Marked  uint64            `json:"marked"`            // the entry that the newest mark names
	MarkAt  int64             `json:"mark_at"`           // when it was made, ms
	Pack    uint64            `json:"pack"`              // newest pack
	Cut     []byte            `json:"cut,omitempty"`     // State.Cut: what is sealed
	Blobs   []byte            `json:"blobs,omitempty"`   // State.NewBlobs: what is packed
	Clock   clock             `json:"clock"`             // of the newest object
	Made    int64             `json:"made"`              // when the newest entry was sealed, ms
	Ack     bool              `json:"ack,omitempty"`     // something was read that calls for an answer
	Held    int64             `json:"held,omitempty"`    // since when changes wait that are not urgent, ms
	Marks   map[uint64]uint64 `json:"marks,omitempty"`   // marks that are not deleted: number to line of the outbox
	Ran     int64             `json:"ran"`               // how long passes have been going on, ms
	Last    int64             `json:"last"`              // when the last one began, ms
	Looked  int64             `json:"looked"`            // when membership was last probed, ms
	Full    int64             `json:"full"`              // when everyone was last looked at, ms
	Doors   uint64            `json:"doors"`             // next door to probe
	Fill    *fillNote         `json:"fill,omitempty"`    // this device is new, and has not read all yet
	Member  uint64            `json:"member,omitempty"`  // newest member object of this device
	Tell    bool              `json:"tell,omitempty"`    // an entry is due, to name what this device said of members
	Pending *doorNote         `json:"pending,omitempty"` // a door that removes a device and does not count yet
	Adopts  map[string]seen   `json:"adopts,omitempty"`  // logs of removed devices that this one has adopted, up to an entry

	Clean  string   `json:"clean,omitempty"`  // State.Bans: nothing of that is left in what this device put on remotes
	Former []string `json:"former,omitempty"` // the devices that this one was before
	Start  []byte   `json:"start,omitempty"`  // State.Cut: where what it writes begins
	Heir   bool     `json:"heir,omitempty"`   // what its former device had not sent is not sealed yet

	// Of compaction:
	Run      uint64 `json:"run,omitempty"`      // newest run
	Base     uint64 `json:"base,omitempty"`     // newest base
	Bases    []seen `json:"bases,omitempty"`    // those by which this device stands
	Announce int64  `json:"announce,omitempty"` // since when no mark names the newest base, ms
	Forgot   uint64 `json:"forgot,omitempty"`   // entry up to which they are forgotten here, but for those that stay
}

// A doorNote is a door of this device on its way.
type doorNote struct {
	Door   seen   `json:"door"`
	Seq    uint64 `json:"seq"`    // its line of the outbox
	Device string `json:"device"` // whom it removes; empty where it replaces the phrase
}

// A peerNote is how far another device's log was read.
type peerNote struct {
	Read   seen              `json:"read"`             // up to here without a gap
	Beyond map[uint64]string `json:"beyond,omitempty"` // read beyond a gap: number to id
	Expect map[uint64]string `json:"expect,omitempty"` // ids that others named of what is not read yet
	Named  uint64            `json:"named,omitempty"`  // the highest number that anybody named
	Clock  clock             `json:"clock"`            // of the newest entry
	News   int64             `json:"news"`             // when an entry last came, ms by this device's clock
	Spoke  int64             `json:"spoke,omitempty"`  // when one last came that is not empty
	Looked int64             `json:"looked"`           // when it was last looked at, ms
	Gap    int64             `json:"gap,omitempty"`    // when its gaps were last tried, ms
	Mark   uint64            `json:"mark,omitempty"`   // newest mark that was seen
	Marked int64             `json:"marked,omitempty"` // when a newer one was last looked for, ms
	Shown  uint64            `json:"shown,omitempty"`  // newest entry of this device that it has seen
	Owed   *owedNote         `json:"owed,omitempty"`   // the oldest entry of this device that it has not seen
	Passed uint64            `json:"passed,omitempty"` // the same by its entries up to Read: nothing of it from before is unread
	Member uint64            `json:"member,omitempty"` // next membership object to probe
	Epoch  uint64            `json:"epoch,omitempty"`  // newest epoch that was read
	Back   clock             `json:"back,omitempty"`   // how far back it was read while this device was filled

	Spans  []span              `json:"spans,omitempty"`  // in whose name what was read has values
	Again  *againNote          `json:"again,omitempty"`  // what was published again of what is beyond its pin
	Out    int64               `json:"out,omitempty"`    // since when it is known to be removed, ms
	Adopts map[string]adoption `json:"adopts,omitempty"` // logs that it has adopted

	Copies  int    `json:"copies,omitempty"`   // of its entries are kept here as they were sealed,
	Copied  int64  `json:"copied,omitempty"`   // in so many bytes
	Clean   string `json:"clean,omitempty"`    // its newest header says that it is clean of these bans,
	CleanAt clock  `json:"clean_at,omitempty"` // and the first that said so was of then

	Bases    []seen `json:"bases,omitempty"`     // the bases by which it stands,
	Stands   clock  `json:"stands,omitempty"`    // says an entry or mark of this clock,
	StandsAt uint64 `json:"stands_at,omitempty"` // which is this entry, or names it
}

// An owedNote is an entry of this device that a peer has not seen. It is kept because a
// base may cover the entry, and what is known of it here then goes.
type owedNote struct {
	Entry uint64 `json:"entry"`
	Put   int64  `json:"put"` // when a remote first had it, ms
}

// An againNote says that what was read beyond a pin, up to an entry, is published.
type againNote struct {
	Pin  seen   `json:"pin"`
	Upto uint64 `json:"upto"`
}

// An adoption says that what counts of a removed device's log is in another log.
type adoption struct {
	Pin   seen   `json:"pin"`   // the last entry that is
	Entry uint64 `json:"entry"` // of the other log, from which on it says so
}

// top is the highest number known to have been written.
func (n *peerNote) top() uint64 {
	top := max(n.Read.N, n.Named)
	for number := range n.Beyond {
		top = max(top, number)
	}
	return top
}

// copy returns a peerNote that can be changed without changing n.
func (n *peerNote) copy() *peerNote {
	c := *n
	c.Beyond, c.Expect = maps.Clone(n.Beyond), maps.Clone(n.Expect)
	return &c
}

// A logNote is one entry.
type logNote struct {
	ID   string                     `json:"id"`
	Seq  uint64                     `json:"seq,omitempty"`  // of the outbox, where it is this device's
	Made int64                      `json:"made,omitempty"` // when it was sealed, ms, where it is this device's
	Cut  []byte                     `json:"cut,omitempty"`
	Sum  string                     `json:"sum,omitempty"`  // SHA-256 of the sealed bytes, where a copy of another device's is kept here
	Size int64                      `json:"size,omitempty"` // of them
	More map[string]json.RawMessage `json:"more,omitempty"` // header fields of newer versions
}

// An outNote is one line of the outbox: an object to put, or one to delete.
type outNote struct {
	Ref    Ref    `json:"ref"`
	ID     string `json:"id"`
	Size   int64  `json:"size"`
	Sum    string `json:"sum,omitempty"` // SHA-256 of the sealed bytes, to know a damaged file
	Delete bool   `json:"delete,omitempty"`
	Gone   bool   `json:"gone,omitempty"` // a later line deletes it
	Put    int64  `json:"put,omitempty"`  // when a remote first had it, ms
}

// A memberNote is a door, membership object or epoch that was absorbed.
type memberNote struct {
	Ref     Ref    `json:"ref"`
	ID      string `json:"id"`
	Log     []byte `json:"log"`
	Payload []byte `json:"payload"`
	Sum     string `json:"sum,omitempty"`  // SHA-256 of the sealed bytes, where a copy is kept
	Copy    string `json:"copy,omitempty"` // id of another one that it carries, which has a note of its own
}

// A remoteNote is how the last pass with a remote went.
type remoteNote struct {
	Sync    int64  `json:"sync,omitempty"` // when it last had everything, ms
	Problem string `json:"problem,omitempty"`
}

// A waitNote is what is pending, or an alarm.
type waitNote struct {
	Kind   string `json:"kind"`
	Object string `json:"object,omitempty"`
	Device string `json:"device,omitempty"`
	Number uint64 `json:"number,omitempty"`
	Since  int64  `json:"since"` // ms
	Ran    int64  `json:"ran"`   // selfNote.Ran then
	Alarm  bool   `json:"alarm,omitempty"`
	Never  bool   `json:"never,omitempty"` // never becomes an alarm
	What   string `json:"what"`
	Do     string `json:"do"`
}

func peerKey(device string) string          { return "peer/" + device }
func logKey(device string, n uint64) string { return fmt.Sprintf("log/%s/%016x", device, n) }
func carryKey(device string, n uint64) string {
	return fmt.Sprintf("carry/%s/%016x", device, n)
}

// hexNumber reads a number in a key.
func hexNumber(digits string) (uint64, error) { return strconv.ParseUint(digits, 16, 64) }

func outKey(seq uint64) string { return fmt.Sprintf("out/%016x", seq) }

// notes is a set of notes to be stored together.
type notes map[string][]byte

func (n notes) set(key string, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // plain structs only
	}
	n[key] = b
}

// note reads a note into v; ok is false where there is none.
func (r *Replica) note(ctx context.Context, key string, v any) (ok bool, err error) {
	b, err := r.state.Note(ctx, key)
	if err != nil || b == nil {
		return false, err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return false, fmt.Errorf("note %s: %w", key, err)
	}
	return true, nil
}

// eachNote calls f with the notes under prefix, in order, until it fails.
func (r *Replica) eachNote(ctx context.Context, prefix string, f func(key string, value []byte) error) error {
	for key, value := range r.state.Notes(ctx, prefix) {
		if err := f(strings.TrimPrefix(key, prefix), value); err != nil {
			return fmt.Errorf("note %s: %w", key, err)
		}
	}
	return ctx.Err()
}

// load reads the notes and fills the keyring.
func (r *Replica) load(ctx context.Context) error {
	var self selfNote
	_, err := r.note(ctx, "self", &self)
	if err != nil {
		return err
	}
	device := r.sealer.Device()
	if self.Device != device {
		if self, err = r.succeed(ctx, self, device); err != nil {
			return fmt.Errorf("becoming another device: %w", err)
		}
	}
	r.self = self
	if r.peers, err = r.loadPeers(ctx); err != nil {
		return err
	}
	if r.waits, err = r.loadWaits(ctx); err != nil {
		return err
	}
	if err := r.loadPhrases(ctx); err != nil {
		return err
	}
	err = r.eachNote(ctx, "member/", func(_ string, value []byte) error {
		var m memberNote
		if err := json.Unmarshal(value, &m); err != nil {
			return err
		}
		if m.Copy != "" {
			r.carries(m.Ref, m.Copy)
			return nil
		}
		r.stated(m.Ref, m.ID)
		_, err := r.sealer.Absorb(m.Ref, m.ID, m.Log, m.Payload)
		return err
	})
	return errors.Join(err, r.tellRenewed(ctx))
}

// now is the time in milliseconds.
func (r *Replica) now() int64 { return r.clock().UnixMilli() }

// at is a time of a note.
func at(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}

// loadPeers reads how far each log was read.
func (r *Replica) loadPeers(ctx context.Context) (map[string]*peerNote, error) {
	peers := map[string]*peerNote{}
	return peers, r.eachNote(ctx, "peer/", func(device string, value []byte) error {
		var peer peerNote
		err := json.Unmarshal(value, &peer)
		peers[device] = &peer
		return err
	})
}
