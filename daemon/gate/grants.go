package gate

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/locker-project/locker/manifests"
	"github.com/locker-project/locker/plugins/locker"
)

// An event is the body of a link of the grant log: a grant, or a revocation.
type event struct {
	// Grant is the document that manifests.Grant.Sign made, as text.
	Grant     string `json:"grant,omitempty"`
	Signature []byte `json:"signature,omitempty"`
	// Revoke is the id of a grant that is taken back.
	Revoke string `json:"revoke,omitempty"`
}

// A grantBook is what the grant log says.
type grantBook struct {
	grants  []manifests.Grant
	revoked map[string]string // by id of the grant: why
	checked *checked
}

// What was checked once, by the hashes of links: signatures are slow.
type checked struct {
	links  map[string]bool            // and their signatures
	grants map[string]manifests.Grant // that a link holds
}

func (b *grantBook) find(id string) (manifests.Grant, bool) {
	i := slices.IndexFunc(b.grants, func(g manifests.Grant) bool { return g.ID == id })
	if i < 0 {
		return manifests.Grant{}, false
	}
	return b.grants[i], true
}

// revokedNote remembers a revocation on this device, whatever becomes of the log.
func revokedNote(id string) string { return "gate/revoked/" + id }

// Refresh reads the grant log again and cuts what is no longer granted. The gate
// does so before every call of an app, and five times a second while one runs; the
// daemon does so when a sync brought something.
func (g *Gate) Refresh(ctx context.Context) error {
	_, err := g.reload(ctx)
	return err
}

// reload reads the grant log. It is read whole: grants are few.
func (g *Gate) reload(ctx context.Context) (*grantBook, error) {
	g.reloading.Lock()
	defer g.reloading.Unlock()
	g.mu.Lock()
	before := g.state
	g.mu.Unlock()
	if before == nil {
		before = &grantBook{checked: &checked{map[string]bool{}, map[string]manifests.Grant{}}}
	}
	book := &grantBook{revoked: map[string]string{}, checked: before.checked}
	chains := map[string][]link{}
	for r, err := range g.Store.View(system).Query(ctx, locker.Query{Collection: grantsCollection}) {
		if err != nil {
			return nil, fmt.Errorf("reading the grants: %w", err)
		}
		l := g.checkLink(r, book.checked.links)
		if l.bad != "" {
			l.Device, l.Number = splitLinkID(r.ID)
		}
		chains[l.Device] = append(chains[l.Device], l)
	}
	for device, chain := range chains {
		g.take(book, device, chain)
	}
	if err := g.keepRevoked(ctx, book, before); err != nil {
		return nil, err
	}
	g.mu.Lock()
	g.state = book
	g.mu.Unlock()
	g.cutEnded(book)
	return book, nil
}

// take adds what one device's chain says. Revocations hold wherever they stand;
// grants only of a chain that is not tampered with, by a device that is a member.
// Missing links do not count as tampering, unless the chain is this device's own.
func (g *Gate) take(book *grantBook, device string, chain []link) {
	slices.SortFunc(chain, func(a, b link) int { return cmp.Compare(a.Number, b.Number) })
	void := ""
	for i, l := range chain {
		switch {
		case l.bad != "":
			void = "the grant log of the device that signed it was tampered with"
		case i > 0 && chain[i-1].Number+1 == l.Number && chain[i-1].hash != l.Previous:
			void = "the grant log of the device that signed it was tampered with"
		case device == g.Device && l.Number != uint64(i)+1:
			void = "the grant log of this device has a gap"
		}
	}
	if void == "" && g.Member != nil && !g.Member(device) {
		void = "the device that signed it was removed"
	}
	for _, l := range chain {
		var e event
		if l.bad != "" || json.Unmarshal(l.Body, &e) != nil {
			continue
		}
		if e.Revoke != "" {
			book.revoked[e.Revoke] = byOwner
			continue
		}
		grant, known := book.checked.grants[l.hash]
		var err error
		if !known {
			grant, err = manifests.OpenGrant([]byte(e.Grant), e.Signature, g.Verify)
		}
		if err != nil || grant.Signer != device {
			g.Logger.Warn("a grant cannot be believed", "device", device, "link", l.Number, "error", err)
			continue
		}
		book.checked.grants[l.hash] = grant
		if _, twice := book.find(grant.ID); twice {
			book.revoked[grant.ID] = "two grants have its id"
			continue
		}
		book.grants = append(book.grants, grant)
		if void != "" && book.revoked[grant.ID] == "" {
			book.revoked[grant.ID] = void
		}
	}
}

// byOwner is why a grant is revoked that the owner took back.
const byOwner = "by the owner"

// keepRevoked makes revocations hold for ever: what was once seen to be revoked by
// the owner stays so on this device, even if the log is taken away.
func (g *Gate) keepRevoked(ctx context.Context, book, before *grantBook) error {
	fresh := map[string][]byte{}
	for id, why := range book.revoked {
		if why != byOwner || before.revoked[id] == byOwner {
			continue
		}
		if note, err := g.Store.Note(ctx, revokedNote(id)); err != nil {
			return err
		} else if note == nil {
			fresh[revokedNote(id)] = []byte("1")
		}
	}
	for _, grant := range book.grants {
		if book.revoked[grant.ID] == byOwner {
			continue
		}
		if before.revoked[grant.ID] == byOwner {
			book.revoked[grant.ID] = byOwner
			continue
		}
		if _, seen := before.find(grant.ID); seen {
			continue
		}
		if note, err := g.Store.Note(ctx, revokedNote(grant.ID)); err != nil {
			return err
		} else if note != nil {
			book.revoked[grant.ID] = byOwner
		}
	}
	if len(fresh) == 0 {
		return nil
	}
	return g.Store.SetNotes(ctx, fresh)
}

// stateOf says what has become of a grant.
func (g *Gate) stateOf(book *grantBook, grant manifests.Grant) GrantState {
	s := GrantState{Grant: grant, State: Active}
	switch {
	case book.revoked[grant.ID] != "":
		s.State, s.Why = Revoked, book.revoked[grant.ID]
	case !g.time.Now().Before(grant.Expires):
		s.State = Expired
	case !slices.Contains(grant.Devices, g.Device):
		s.State = Elsewhere
	}
	return s
}

// Grants returns all grants that were ever made, the oldest first.
func (g *Gate) Grants(ctx context.Context) ([]GrantState, error) {
	book, err := g.reload(ctx)
	if err != nil {
		return nil, err
	}
	var out []GrantState
	for _, grant := range book.grants {
		out = append(out, g.stateOf(book, grant))
	}
	slices.SortStableFunc(out, func(a, b GrantState) int { return a.Issued.Compare(b.Issued) })
	return out, nil
}

// Grant accepts an offer of an installed app for the owner, on this device (see
// [manifests.Manifest.Accept]). The owner must have been asked for the passphrase.
//
// Where an offer reads what another app made, the grant must cover what that was
// made from; the error says what is missing.
func (g *Gate) Grant(ctx context.Context, app, offer string, only []string, until time.Time) (manifests.Grant, error) {
	g.granting.Lock()
	defer g.granting.Unlock()
	a, err := g.App(ctx, app)
	if err != nil {
		return manifests.Grant{}, err
	}
	grant, err := a.Manifest.Accept(offer, only, until, g.time.Now())
	if err != nil {
		return manifests.Grant{}, err
	}
	book, err := g.reload(ctx)
	if err != nil {
		return manifests.Grant{}, err
	}
	if collection, missing := uncovered(book, grant); collection != "" {
		return manifests.Grant{}, fmt.Errorf("%w: %s is made from %s, so who reads it needs those too, and offer %s does not ask for them", locker.ErrInvalid, collection, missing, offer)
	}
	grant.Signer, grant.Devices = g.Device, []string{g.Device}
	document, signature, err := grant.Sign(g.Sign)
	if err != nil {
		return manifests.Grant{}, err
	}
	if _, err := g.grants.append(ctx, event{Grant: string(document), Signature: signature}); err != nil {
		return manifests.Grant{}, fmt.Errorf("writing the grant: %w", err)
	}
	return grant, g.Refresh(ctx)
}

// Revoke takes a grant back, on all devices and for ever, and cuts what runs under
// it here before it returns. One that is revoked already is no error.
func (g *Gate) Revoke(ctx context.Context, id string) (manifests.Grant, error) {
	g.granting.Lock()
	defer g.granting.Unlock()
	book, err := g.reload(ctx)
	if err != nil {
		return manifests.Grant{}, err
	}
	grant, ok := book.find(id)
	if !ok {
		return manifests.Grant{}, fmt.Errorf("grant %s: %w", id, locker.ErrNotFound)
	}
	g.cut(func(s *Session) bool { return s.grant.ID == id })
	if book.revoked[id] == byOwner {
		return grant, nil
	}
	if _, err := g.grants.append(ctx, event{Revoke: id}); err != nil {
		return manifests.Grant{}, fmt.Errorf("writing the revocation: %w", err)
	}
	return grant, g.Refresh(ctx)
}

// uncovered checks that a grant covers what derived collections that it reads were
// made from: all that any grant, of any time and device, let their writers read. It
// returns the first collection of which it does not, and what is missing.
func uncovered(book *grantBook, grant manifests.Grant) (collection, missing string) {
	for _, read := range grant.Reads {
		if !strings.Contains(read.Collection, "/") {
			continue
		}
		for _, writer := range book.grants {
			if !slices.Contains(writer.Writes, read.Collection) {
				continue
			}
			for _, input := range writer.Reads {
				if missing := grant.Missing(input); missing != "" {
					return read.Collection, missing
				}
			}
		}
	}
	return "", ""
}

// noGrant is an [ErrNoGrant] with words of its own.
func noGrant(format string, args ...any) error {
	return &noGrantError{fmt.Sprintf(format, args...)}
}

type noGrantError struct{ words string }

func (e *noGrantError) Error() string   { return e.words }
func (e *noGrantError) Unwrap() []error { return []error{ErrNoGrant, locker.ErrRevoked} }

// resolve finds the grant under which an app reads: the latest that is active here
// and was made from the manifest that is installed.
func (g *Gate) resolve(ctx context.Context, app App) (manifests.Grant, error) {
	book, err := g.reload(ctx)
	if err != nil {
		return manifests.Grant{}, err
	}
	id := app.Manifest.ID
	failed := noGrant("nothing is granted to %s; see 'locker offers %s'", id, id)
	var best manifests.Grant
	for _, grant := range book.grants {
		if grant.App != id || grant.Vendor != app.Manifest.Vendor {
			continue
		}
		s := g.stateOf(book, grant)
		switch {
		case s.State == Active && grant.Manifest != app.Manifest.Hash():
			failed = noGrant("%s changed what it asks for since it was granted anything; see 'locker offers %s'", id, id)
		case s.State == Active && !grant.Issued.Before(best.Issued):
			best = grant
		case s.State == Revoked || s.State == Expired:
			failed = noGrant("the grant %s of %s is %s; see 'locker offers %s'", grant.ID, id, s.State, id)
		}
	}
	if best.ID == "" {
		return best, failed
	}
	return best, nil
}
