package replica

import (
	"context"
	"io"
	"iter"
	"time"
)

// A Remote keeps objects. It is completely untrusted: whatever it returns is
// checked by the [Sealer] before it is used.
//
// An object whose Put returned nil is durable. Put replaces what is there, whole
// or cut: writing a name once, with the same bytes, is the writer's promise and
// not the remote's. Get may miss what was put lately, and returns an error that
// is [ErrNotFound] where there is nothing; List is a hint and proves nothing.
// Transient errors are retried inside. Methods may be called concurrently.
type Remote interface {
	Put(ctx context.Context, name string, r io.ReadSeeker, size int64) error
	// Get returns n bytes from off on; n < 0 reads to the end.
	Get(ctx context.Context, name string, off, n int64) (io.ReadCloser, error)
	List(ctx context.Context, prefix string) iter.Seq2[ObjectInfo, error]
	// Delete removes objects; one that is not there is no error.
	Delete(ctx context.Context, names ...string) error
}

// An ObjectInfo is one line of a listing.
type ObjectInfo struct {
	Name    string
	Size    int64
	ModTime time.Time // zero where the remote has none
}

// A Ref names one object of the protocol: its kind, who wrote it, the how-manieth
// of that kind it is, and, for an epoch, whom it is for.
type Ref = struct {
	Kind   string // "door", "member", "epoch", "mark", "entry", "run", "base", "pack", "phrase"
	Writer string // device id, or "phrase" for a door
	Number uint64
	To     string // epoch only: device id, or "phrase"
}

// A Pin says how far the log of a removed device counts: up to entry Number, whose
// id is ID; Number 0 is nothing at all. Clock is the greatest clock of that device's
// own revisions up to there.
type Pin = struct {
	Number uint64 `json:"number"`
	ID     string `json:"id"`
	Clock  uint64 `json:"clock"`
}

// A Sealer holds the keys. It makes and opens sealed objects, and judges who is
// a member. crypto.Keyring is the one implementation; the interface keeps to
// basic types so that neither package needs the other. Its methods may be called
// concurrently.
type Sealer interface {
	// Device is this device's id; Locker is the locker's.
	Device() string
	Locker() string
	// DeviceName is what the owner calls a device; empty where it is not known.
	DeviceName(device string) string
	// Name is the name under which a remote keeps an object, folder included.
	Name(r Ref) string

	// Seal makes the object r. log is a JSON object that is signed with the header
	// (the protocol's own part of it); frames are the zstd frames that the object
	// carries, and may be empty. The id is SHA-256 of the signed header, in hex.
	Seal(r Ref, log, frames []byte) (object []byte, id string, err error)
	// Open checks that object is r and nothing else: size, stanza, recipient, format,
	// locker, kind, writer, number, epoch, signature, payload hash, in this order.
	// It decompresses nothing. An error that has a method NotYet() bool and returns
	// true from it says that the object may be good but its epoch or its writer is
	// not known yet; one whose method Newer() bool returns true, that it is of a later
	// version of the format; any other error says that it is bad.
	Open(r Ref, object []byte) (log, frames []byte, id string, err error)

	// OpenAt opens the object r to read parts of its frames; object reads its bytes, of
	// which there are size. It checks all that Open checks but the payload's hash, so
	// what is read has to be held against hashes from elsewhere. Errors are those of
	// Open, and those of reading object.
	OpenAt(r Ref, object io.ReaderAt, size int64) (log []byte, frames *io.SectionReader, id string, err error)

	// Absorb takes the payload (decompressed frames) of an opened door, member or
	// epoch object into the keyring. It reports whether the set of members or of
	// known epochs changed. The order of calls does not matter.
	Absorb(r Ref, id string, log, payload []byte) (changed bool, err error)
	// Members are the devices that count as members now, sorted, this one included
	// if it does; Removed are those that once did and do not any more, each with
	// the highest entry number that still counts (its pin).
	Members() []string
	Removed() map[string]uint64
	// Seniority are the members, the most senior first: who wins when two remove each
	// other. PinOf is the pin of a removed device; ok is false for any other.
	Seniority() []string
	PinOf(device string) (pin Pin, ok bool)
	// RemovedBy tells who removed a device and with which statement; both are empty
	// where nobody did and its admission is void. AdmittedBy tells who admitted it.
	RemovedBy(device string) (by, statement string)
	AdmittedBy(device string) (by, statement string)
	// Tips are the ids of the doors and membership objects that no other one names.
	Tips() []string

	// Door is the payload of this device's own door: its admission by the phrase.
	// It fails where the keyring does not hold the phrase.
	Door(number uint64) (payload []byte, err error)
	// Admit is the payload of a member object that admits the device which made a
	// request. It fails unless this device is a member and the other is not.
	Admit(request []byte) (payload []byte, err error)
	// Invited are the devices that the invitation named by which this device came, the
	// one that made it first; none where it came by the phrase.
	Invited() []string
	// Epochs are the makers of the epochs that are known, each with the highest number.
	Epochs() map[string]uint64
	// AcceptedPhrases are the recovery phrases that replaced another one with the owner's
	// yes, or with the other one's signature, in order; RefusedPhrases those to which he
	// said no. AcceptPhrase and RefusePhrase say so, and say so again at start before
	// anything is absorbed. PendingPhrases wait for an answer.
	AcceptedPhrases() []string
	RefusedPhrases() []string
	AcceptPhrase(id string) error
	RefusePhrase(id string) error
	PendingPhrases() []PhraseOffer
	// Finders are the objects by which accepted phrases find the locker: the names,
	// without their folder, and SHA-256 of the bytes.
	Finders() map[string]string
	// Remove is the payload of a member object that removes a device, Evict that of a
	// door that does so with the phrase's word, which the keyring must hold.
	Remove(device string, pin Pin) (payload []byte, err error)
	Evict(device string, pin Pin, undo ...string) (payload []byte, err error)
	// NeedsEpoch says that there is no epoch that this device may seal to.
	NeedsEpoch() bool
	// NewEpoch makes an epoch for the members as they are known now: a payload for
	// each recipient, to be sealed as an object of its own (Ref.To).
	NewEpoch() (number uint64, payloads map[string][]byte, err error)
}

// A State is the data that the replica keeps in step with other devices. Package
// store implements it.
//
// Data moves as change lines: JSON objects, one a line, each with one revision
// (FORMAT.md). Notes are the replica's own small bookkeeping, kept beside the data
// so that both change in one durable write.
type State interface {
	// Cut returns what was written on this device after a position, as change lines
	// of about max bytes in all, and the position after them. urgent is false when
	// they hold nothing but audit and app records. No lines: there is nothing new. With
	// a max of 0 there are none, and next is the position, bound to this device: handed
	// to a State that has become another device's it returns what was written here as
	// either.
	Cut(ctx context.Context, after []byte, max int) (lines, next []byte, urgent bool, err error)
	// Join merges change lines and stores notes in the same durable write: all of it
	// or nothing. The lines are only lent: their memory is used again afterwards. It
	// returns how many records changed, and whether a clock in the lines was too far
	// ahead to be adopted. An error with a method Malformed() bool that returns true
	// says that the lines are not change lines: the entry is then treated as bad, and
	// the pass goes on. Any other error ends the pass.
	Join(ctx context.Context, lines []byte, notes map[string][]byte) (changed int, ahead bool, err error)

	// Bans names the set of all that was purged, 32 hexadecimal digits that are equal
	// where the same is known; it is empty where nothing was. What was purged State does
	// not hold and does not take in. Clean takes it out of change lines: cleaned is lines
	// itself, and changed false, where there is nothing of it. Lines of other kinds stay.
	Bans() string
	Clean(lines []byte) (cleaned []byte, changed bool, err error)
	// PurgedBlobs returns the ids of blobs that purges took away here. all is false
	// while others have still to be looked at.
	PurgedBlobs(ctx context.Context) (ids []string, all bool, err error)

	// Written returns what a device wrote (empty: any device) with a clock above from
	// and up to to, as far as it is still part of the state, as change lines with the
	// revisions that it has, of about max bytes in all. after is nil at first; next is
	// where the next call goes on, and nil at the end.
	Written(ctx context.Context, device string, from, to uint64, after []byte, max int) (lines, next []byte, err error)

	// Note returns one note, or nil; Notes yields those whose key begins with prefix,
	// in order; SetNotes stores notes durably, all or none, and deletes those that are nil.
	Note(ctx context.Context, key string) ([]byte, error)
	Notes(ctx context.Context, prefix string) iter.Seq2[string, []byte]
	SetNotes(ctx context.Context, notes map[string][]byte) error

	// NewBlobs returns the ids of blobs that were stored on this device after a
	// position, in the order in which they came, and the position after them; some of
	// them, none when there are no more. One that was stored again is among them again.
	NewBlobs(ctx context.Context, after []byte) (ids []string, next []byte, err error)
	// OpenBlob returns a blob and its size, or an error that is fs.ErrNotExist.
	OpenBlob(ctx context.Context, id string) (io.ReadCloser, int64, error)
	// PutBlobAs stores a blob that came from elsewhere, after checking that its bytes
	// are those that id stands for; one that is here already is left alone. open returns
	// the bytes from an offset on: where an earlier call for the blob was cut off, they
	// are wanted from where that ended.
	PutBlobAs(ctx context.Context, id string, open func(from int64) (io.ReadCloser, error)) error
	// BlobIs says whether id is that of a blob of so many bytes whose pieces of 1 MiB
	// have these SHA-256 hashes, one after the other. It may say no where it cannot tell.
	BlobIs(id string, size int64, sums []byte) bool
	// Blobs calls f with each blob that State holds: its size in bytes, and when it was
	// last asked for, in milliseconds since 1970. DropBlob removes the bytes of one.
	Blobs(ctx context.Context, f func(id string, size, used int64) error) error
	DropBlob(ctx context.Context, id string) error
	// BlobRecords calls f with the records that refer to a blob, until it returns false:
	// their collection and their time in milliseconds since 1970, 0 for none.
	BlobRecords(ctx context.Context, id string, f func(collection string, millis int64) bool) error
}
