// Package replica keeps a locker in step with its copies on remotes and, through
// them, with the owner's other devices.
//
// Start with [New]; [Replica.Sync] is one pass: it reads what other devices wrote,
// merges it, and puts what was written here. [Replica.Found] begins a new locker,
// [Replica.Restore] brings one back from a remote and the recovery phrase. What a
// remote keeps is described in FORMAT.md, beside this file.
//
// What it promises, whatever a remote does: nothing is applied that a member of
// the locker did not sign for just that place; nothing is applied in part; what is
// missing, bad or contradicts what was seen before shows in [Status] as pending or
// as an alarm, and honest data around it still flows. What was written on this
// device is durable here before a remote hears of it, and every object is put with
// the same bytes until the remote has it. A remote that is merely slow raises no
// alarm. The cloud's clock and listings are hints and prove nothing.
package replica

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

var (
	// ErrNotFound says that a remote has no object of a name.
	ErrNotFound = errors.New("no such object")
	// ErrNoLocker says that a remote holds no object of any locker.
	ErrNoLocker = errors.New("there is no locker on this remote")
	// ErrWrongPhrase says that a remote holds a locker, but not one of this phrase.
	ErrWrongPhrase = errors.New("the locker on this remote is not one of this phrase")
	// ErrUnreachable says that no remote could be read.
	ErrUnreachable = errors.New("no remote can be reached")
	// ErrNoRemote says that there is no remote at all.
	ErrNoRemote = errors.New("there is no remote: add one with 'locker remote add'")
)

// Cloned says that somebody else goes on as this device: its own log is further
// on the remote than this device ever wrote. The folder was copied, or put back
// from a backup. Nothing was put. The daemon makes a new device of this one: a
// keyring with new device keys (the owner types the phrase), a fresh folder
// Objects, the same State, then [New] and [Replica.Restore]. The edits that no
// remote has yet are in State, and go out under the new device, unchanged.
type Cloned struct {
	Device string // this device's id
	Object string // the object that this device never made
	Number uint64 // its number in the log
}

func (e *Cloned) Error() string {
	return fmt.Sprintf("another copy of this device (%s) is in use: %s (entry %d) is on the remote and was not made here", e.Device, e.Object, e.Number)
}

// A Config says what a replica works with. All but Clock and Logger are required.
type Config struct {
	Sealer Sealer
	State  State
	// Objects is the folder for the sealed objects of this device, kept so that they
	// can be put again. It is made when missing. Nothing in it is secret.
	Objects string
	// Remotes are where objects are kept; the order is the order of preference.
	Remotes []Named
	// Cache says which bytes of blobs are kept here.
	Cache BlobCache
	// Clock tells the time; nil is time.Now.
	Clock func() time.Time
	// Logger takes what happens; nil is none.
	Logger *slog.Logger

	// Set by tests.
	disk    disk       // nil is the system's
	without rules      // what of the protocol is switched off
	tune    tuning     // zero is usualTuning
	packs   packTuning // zero is usualPacks
}

// Named is a remote and the name by which the owner and the notes know it. A
// remote that changed its place takes a new name.
type Named struct {
	Name   string
	Remote Remote
}

// Progress is told how far a long task has come. total is 0 where it is not known.
// It may be called from several goroutines.
type Progress func(doing string, done, total int64)

func (p Progress) tell(doing string, done, total int64) {
	if p != nil {
		p(doing, done, total)
	}
}

// A Notice is one thing that waits or is wrong. Its JSON is what scripts see.
type Notice struct {
	Kind   string    `json:"kind"`             // "missing", "bad", "newer", "closed", "members", "fork", "ahead", "unseen", "silent", "clock", "blob", "phrase"
	Object string    `json:"object,omitempty"` // name on the remote, or empty
	Device string    `json:"device,omitempty"` // whose it is, or empty
	Since  time.Time `json:"since,omitzero"`   // when it was first noticed
	What   string    `json:"what"`             // a sentence
	Do     string    `json:"do"`               // what the owner can do
}

// SyncOptions say what a pass does.
type SyncOptions struct {
	// Full looks at everyone: every log's newest, what was missing, epochs,
	// membership, and whether each remote still has what this device put.
	Full bool
	// Hold is for passes that nobody asked for: records of audit and apps, and
	// acknowledgements, wait up to an hour, and one log is looked at (one GET for each
	// remote when there is nothing new), so that each has its turn within ten minutes
	// where passes follow each other as Summary.Within says.
	Hold bool
	// Push goes with Hold, and reads nothing: it is for what was just written here.
	// Pull goes with Hold, and seals nothing: what was written here waits.
	Push, Pull bool
	// Told goes with Hold, and looks at the next entry of every log: something tells
	// that there is news.
	Told bool
	// Metered is for connections that cost by the byte: the log is not compacted.
	Metered bool
	// For is for how long a new device may go on reading what it has not read yet,
	// about; zero is until it has all.
	For time.Duration
	// Progress may be nil.
	Progress Progress
}

// A Summary says what a pass did.
type Summary struct {
	ObjectsUp, ObjectsDown int
	BytesUp, BytesDown     int64
	Requests               int64
	// Records is how many records changed here by what others wrote.
	Records int
	// Mended is how many objects were put again because a remote had lost them.
	Mended          int
	Pending, Alarms []Notice
	// Within is how long the next pass that holds may wait; zero where this one did
	// not look. It is short while news flows. Alone: there is no other device.
	Within time.Duration
	Alone  bool
	// More: this device is new and has not read all yet; the next pass goes on.
	More bool
	// Failed are the remotes that could not be synced with, and why.
	Failed map[string]error
}

// Restored says what a restore brought.
type Restored struct {
	Summary
	// Devices are the devices of the locker. The owner should be asked which are
	// still theirs.
	Devices []DeviceStatus
	// Entries is how many entries were read, from all devices.
	Entries int
	// Newest is the newest signed sign of life of any device. That nothing newer was
	// withheld cannot be known by a device that has only the phrase.
	Newest time.Time
	// Missing is what was written, as far as that is known, and could not be had. A
	// restore that goes on in the background learns more: see [Replica.Missing].
	Missing []Missing
}

// A Report says what [Replica.Verify] found on a remote.
type Report struct {
	Remote  string
	Objects int
	Bytes   int64
	// Missing and Bad are names of objects that should be there, still so after the
	// repair.
	Missing, Bad []string
	// Misfits is how many names in the listing fit no known object.
	Misfits  int
	Repaired int
}

// A Status is what is known without asking a remote.
type Status struct {
	Devices         []DeviceStatus
	Remotes         []RemoteStatus
	Blobs           BlobStatus
	Pending, Alarms []Notice
	// Fill is not nil while this device is new and has not read all yet.
	Fill *FillStatus
}

// A DeviceStatus is one device of the locker.
type DeviceStatus struct {
	ID, Name string
	This     bool
	// Seniority is the device's place among the members, 1 for the most senior; 0 for
	// one that is no member. Who is senior wins when two remove each other unawares.
	Seniority int
	Removed   bool
	// RemovedBy is the device that removed it, or "phrase"; empty where its admission is
	// void. Why says it in a sentence, RemovedAt when, by the clock of who did.
	RemovedBy string
	RemovedAt time.Time
	Why       string
	// AdmittedBy is the device that admitted it, or "phrase".
	AdmittedBy string
	Entries    uint64    // the newest entry that was read, of a removed device that counts
	LastSeen   time.Time // when its newest entry was made, by its own clock; zero: never
	// Copies is how many of its newest entries this device keeps as they were sealed,
	// in CopyBytes bytes, to put them again where a remote loses them.
	Copies    int
	CopyBytes int64
}

// A RemoteStatus is one remote.
type RemoteStatus struct {
	Name     string
	Unsent   int       // objects not yet put there, and one for changes that are not sealed yet
	LastSync time.Time // the last pass that reached it and sent everything
	Problem  string    // of the last pass, or empty
	// Waiting packs of so many bytes in all wait for room on it: it is full. Changes of
	// records go on.
	Waiting      int
	WaitingBytes int64
}

// A Replica is this device's part in the protocol. Its methods may be called
// concurrently; passes wait for each other.
type Replica struct {
	sealer  Sealer
	state   State
	objects string
	disk    disk
	clock   func() time.Time
	log     *slog.Logger
	codec   *codec
	without rules
	tune    tuning
	packs   packTuning

	pass     sync.Mutex // held by Found, Restore, Sync, Verify and Blob
	inviting sync.Mutex // held by Invite

	// Guarded by pass.
	peers      map[string]*peerNote
	statements map[string]bool // ids of the doors and membership objects that were absorbed
	doors      map[uint64]bool // of those, the numbers of the doors
	copied     map[string]bool // of those, the ids of which a member object holds a copy
	cloned     *Cloned         // another copy of this device was found; set while mu is held, too

	fetched atomic.Bool // bytes of blobs came since the cache was last trimmed

	waiting sync.Mutex
	waits   map[string]*waitNote

	mu       sync.Mutex // guards what follows
	remotes  []Named
	cache    BlobCache
	self     selfNote
	lastPack *openPack        // of which the last reading of a part fetched pieces
	checked  map[string]bool  // the remotes on which this process made the clone check
	synced   map[string]int64 // when a remote last had everything, ms
	rate     *fillRate        // how fast a filling goes
	hot      hotObject        // what was staged last, if it is large
	unsure   bool             // whether self is what is durable
}

// New returns a replica. It reads its notes and gives the keyring what is known of
// members and epochs; it asks no remote.
func New(ctx context.Context, c Config) (*Replica, error) {
	r := &Replica{sealer: c.Sealer, state: c.State, objects: c.Objects, clock: c.Clock, log: c.Logger, remotes: c.Remotes, cache: c.Cache, disk: c.disk, without: c.without, tune: c.tune, packs: c.packs,
		statements: map[string]bool{}, doors: map[uint64]bool{}, copied: map[string]bool{}, checked: map[string]bool{}, synced: map[string]int64{}}
	if r.clock == nil {
		r.clock = time.Now
	}
	if r.log == nil {
		r.log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	if r.tune == (tuning{}) {
		r.tune = usualTuning
	}
	if r.packs == (packTuning{}) {
		r.packs = usualPacks
	}
	if r.disk == nil {
		r.disk = osDisk{}
	}
	if err := r.prepareDisk(); err != nil {
		return nil, err
	}
	var err error
	if r.codec, err = newCodec(); err != nil {
		return nil, err
	}
	return r, r.load(ctx)
}

// SetRemotes replaces the remotes. A new one is sent everything by the next pass.
func (r *Replica) SetRemotes(remotes []Named) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.remotes = remotes
}

// ForgetRemote drops what is noted of a remote that is no longer used: under its
// name another place may follow, which has nothing yet. It waits for a pass that goes
// on; the remote must not be among those of SetRemotes any more.
func (r *Replica) ForgetRemote(ctx context.Context, name string) error {
	r.pass.Lock()
	defer r.pass.Unlock()
	n := notes{"sent/" + name: nil, "state/" + name: nil, "probe/" + name: nil, restKey(name): nil, "wait/full/" + name: nil}
	for _, prefix := range []string{"mend/" + name + "/", "late/" + name + "/", "read/" + name + "/", "gone/" + name + "/", "wait/lost/" + name + "/", "wait/verify/" + name + "/"} {
		if err := r.eachNote(ctx, prefix, func(key string, _ []byte) error {
			n[prefix+key] = nil
			return nil
		}); err != nil {
			return err
		}
	}
	if err := r.state.SetNotes(ctx, n); err != nil {
		return err
	}
	r.waiting.Lock()
	for key := range n {
		delete(r.waits, strings.TrimPrefix(key, "wait/"))
	}
	r.waiting.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.checked, name)
	delete(r.synced, name)
	return nil
}
