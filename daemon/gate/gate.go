// Package gate stands between a person's data and everything that is not the
// person: apps, which read what was granted to them, and connectors, which write
// what they found.
//
// Start with [New]; [Gate.Grant] and [Gate.Revoke] are the owner's, [Gate.Open]
// gives an app its view, [Gate.Connector] takes a connector's records in. On every
// call of an app the gate finds the grant anew, narrows the view to it, counts, and
// writes a line into the audit log before anything goes out. A revoked or expired
// grant ends at once: what runs is cut.
//
// Grants and audit lines are chains of signed links, one chain for each device,
// kept in the system collections _grants and _audit and joined by sync;
// [Gate.VerifyChains] checks them. The package starts no processes and needs no
// network, so phones have it too. Nothing leaves the locker through it: there is
// no way to send data anywhere.
package gate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/locker-project/locker/daemon/store"
	"github.com/locker-project/locker/manifests"
	"github.com/locker-project/locker/plugins/locker"
)

// A Store is what the gate needs of package store.
type Store interface {
	View(a store.Author) locker.View
	Write(ctx context.Context, a store.Author, records ...locker.Record) (store.Counts, error)
	Compare(ctx context.Context, a store.Author, records ...locker.Record) (store.Counts, error)
	Delete(ctx context.Context, a store.Author, collection string, ids ...string) (int, error)
	PutBlob(ctx context.Context, r io.Reader) (id string, size int64, err error)
	Note(ctx context.Context, key string) ([]byte, error)
	SetNotes(ctx context.Context, notes map[string][]byte) error
}

// A Config says what a gate stands on. Store, Sign, Verify and Device are required.
type Config struct {
	Store Store
	// Sign signs a message under a label with this device's key.
	Sign func(context string, message []byte) []byte
	// Verify checks a signature by a device that is or was a member of the locker.
	Verify func(device, context string, message, signature []byte) error
	// Device is the id of this device.
	Device string
	// Member says whether a device is a member now: grants that a removed device
	// signed are void. Nil takes every device whose signature Verify accepts.
	Member func(device string) bool
	// Clock tells the time; nil is time.Now. Where it runs backwards the gate does not.
	Clock func() time.Time
	// Logger takes what an app is not told; nil is none.
	Logger *slog.Logger
}

// The system collections of the gate.
const (
	grantsCollection = "_grants"
	auditCollection  = "_audit"
	appsCollection   = "_apps"
)

// system is the gate itself as an author.
var system = store.Author{Class: store.Owner, System: true}

// ErrNoGrant says that an app has no grant that works here and now. Such an error
// is a [locker.ErrRevoked] as well.
var ErrNoGrant = errors.New("nothing is granted")

// A Gate is safe for concurrent use.
type Gate struct {
	Config
	time   clock
	grants *chain
	audit  *auditor

	// reloading is held while the grants are read, so that what is read later is
	// not replaced by what was read earlier.
	reloading sync.Mutex
	// granting is held while a grant is made or revoked.
	granting sync.Mutex

	mu       sync.Mutex
	state    *grantBook
	views    map[string]locker.View // by grant: its positions in Changes live on
	sessions map[*Session]struct{}
	watching bool
}

// New returns the gate of a store.
func New(ctx context.Context, c Config) (*Gate, error) {
	if c.Store == nil || c.Sign == nil || c.Verify == nil || c.Device == "" {
		return nil, errors.New("gate: Store, Sign, Verify and Device are required")
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	g := &Gate{Config: c, views: map[string]locker.View{}, sessions: map[*Session]struct{}{}}
	g.time.now = c.Clock
	var err error
	if g.grants, err = openChain(ctx, g, grantsCollection); err != nil {
		return nil, fmt.Errorf("grant log: %w", err)
	}
	log, err := openChain(ctx, g, auditCollection)
	if err != nil {
		return nil, fmt.Errorf("audit log: %w", err)
	}
	g.audit = &auditor{chain: log, logger: c.Logger}
	return g, g.Refresh(ctx)
}

// Close ends all sessions and writes down what waits to be written. The store must
// still be open.
func (g *Gate) Close() error {
	g.cut(func(*Session) bool { return true })
	err := g.audit.flush()
	for _, c := range []*chain{g.grants, g.audit.chain} {
		c.mu.Lock()
		if c.number > c.noted {
			c.note(context.Background())
		}
		c.mu.Unlock()
	}
	return err
}

// A clock never runs backwards. Each link of this device's chains holds its time,
// so that it does not run backwards over a restart either.
type clock struct {
	now func() time.Time

	mu     sync.Mutex
	latest time.Time
}

// Now is the later of the time and the latest time told or seen.
func (c *clock) Now() time.Time {
	now := c.now().Round(0)
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.After(c.latest) {
		c.latest = now
	}
	return c.latest
}

// saw takes a time that this device wrote down earlier.
func (c *clock) saw(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t.After(c.latest) {
		c.latest = t
	}
}

// A GrantState is a grant and what has become of it.
type GrantState struct {
	manifests.Grant
	State string // Active, Expired, Revoked or Elsewhere
	// Why says more where State is Revoked.
	Why string
}

// The states of a grant.
const (
	Active    = "active"
	Expired   = "expired"
	Revoked   = "revoked"   // by the owner, or with the device that signed it
	Elsewhere = "elsewhere" // it works on other devices only
)
