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
	Kind   string // "door", "member", "epoch", "mark", "entry", "run", "base", "pack"
	Writer string // device id, or "phrase" for a door
	Number uint64
	To     string // epoch only: device id, or "phrase"
}

// A Sealer holds the keys. It makes and opens sealed objects, and judges who is
// a member. crypto.Keyring is the one implementation; the interface keeps to
// basic types so that neither package needs the other.
type Sealer interface {
	// Device is this device's id; Locker is the locker's.
	Device() string
	Locker() string
	// Name is the name under which a remote keeps an object, folder included.
	Name(r Ref) string

	// Seal makes the object r. log is a JSON object that is signed with the header
	// (the protocol's own part of it); payload is what the object carries, and may
	// be nil. The id is SHA-256 of the signed header, in hex.
	// It fails with an error that is ErrNoEpoch where the current epoch has a recipient that
	// is no member, until NewEpoch is called.
	Seal(r Ref, log []byte, payload []byte) (object []byte, id string, err error)
	// Open checks that object is r and nothing else: format, recipient, locker,
	// kind, writer, number, epoch, signature, payload hash, in this order and
	// before anything is decompressed.
	Open(r Ref, object []byte) (log, payload []byte, id string, err error)

	// Absorb takes the payload of an opened door, member or epoch object into the
	// keyring. It reports whether the set of members or known epochs changed.
	Absorb(r Ref, id string, log, payload []byte) (changed bool, err error)
	// Members are the devices that count as members now, sorted, this one included
	// if it does; Removed are those that once did and do not any more, each with
	// the highest entry number that still counts (its pin).
	Members() []string
	Removed() map[string]uint64
	// Tips are the ids of the membership objects that no other one names.
	Tips() []string
}
