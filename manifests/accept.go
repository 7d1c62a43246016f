package manifests

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/locker-project/locker/plugins/locker"
)

// longest is how long a grant can last where the owner says so.
const longest = 366 * 24 * time.Hour

// Accept makes the grant that an owner gives by accepting an offer.
//
// only narrows it: each is a field as COLLECTION.FIELD, or a collection; empty
// grants all that the offer asks. Leaving out a required field is an error that
// names it. until is when the grant ends, at most a year from now; zero is what
// the offer says, at most 90 days.
//
// The error is [ErrPayment] for an offer that costs money. The grant is not signed
// and names no device yet.
func (m *Manifest) Accept(offer string, only []string, until, now time.Time) (Grant, error) {
	o, err := m.offer(offer)
	if err != nil {
		return Grant{}, err
	}
	if o.Kind != Permit {
		return Grant{}, fmt.Errorf("%w: offer %s of %s costs %s, and this version of Locker cannot pay; choose an offer of kind permit, or none", ErrPayment, o.ID, m.ID, o.Price)
	}
	g := Grant{App: m.ID, Vendor: m.Vendor, Version: m.Version, Manifest: m.hash, Offer: o.ID, Writes: slices.Clone(m.Writes), Issued: now.UTC().Truncate(time.Second)}
	if g.Expires, err = o.end(until, now); err != nil {
		return Grant{}, err
	}
	keep, err := m.narrow(o, only)
	if err != nil {
		return Grant{}, err
	}
	for _, r := range m.requestsOf(o) {
		if err := m.accept(&g, r, keep); err != nil {
			return Grant{}, err
		}
	}
	if len(g.Reads) == 0 {
		return Grant{}, fmt.Errorf("%w: nothing would be granted", locker.ErrInvalid)
	}
	g.ID, g.Key = newID(), make([]byte, 32)
	rand.Read(g.Key)
	return g, nil
}

func newID() string {
	b := make([]byte, 10)
	rand.Read(b)
	return "g-" + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b))[:12]
}

// end is when a grant of the offer ends.
func (o *Offer) end(until, now time.Time) (time.Time, error) {
	switch {
	case until.IsZero():
		until = o.span().after(now)
		if most := now.AddDate(0, 0, defaultDays); until.After(most) {
			until = most
		}
	case !until.After(now):
		return until, fmt.Errorf("%w: the grant would end at %s, which is past", locker.ErrInvalid, until.Format(time.RFC3339))
	case until.Sub(now) > longest:
		return until, fmt.Errorf("%w: the grant would end at %s; a grant lasts a year at most", locker.ErrInvalid, until.Format(time.DateOnly))
	}
	return until.UTC().Truncate(time.Second), nil
}

// narrow turns the owner's choice into leaf fields by collection; nil is all.
func (m *Manifest) narrow(o *Offer, only []string) (map[string][]string, error) {
	if len(only) == 0 {
		return nil, nil
	}
	requests := m.requestsOf(o)
	keep := map[string][]string{}
	for _, item := range only {
		found := false
		for i := range requests {
			r := &requests[i]
			path, ok := strings.CutPrefix(item, r.Collection+".")
			leaves := m.leaves(r)
			if item != r.Collection {
				leaves = slices.DeleteFunc(leaves, func(leaf string) bool {
					return !ok || leaf != path && !strings.HasPrefix(leaf, path+".")
				})
			}
			keep[r.Collection] = append(keep[r.Collection], leaves...)
			found = found || len(leaves) > 0
		}
		if !found {
			return nil, fmt.Errorf("%w: offer %s of %s does not ask for %q; name fields as COLLECTION.FIELD, as in %q", locker.ErrInvalid, o.ID, m.ID, item, m.example(requests))
		}
	}
	return keep, nil
}

func (m *Manifest) example(requests []Request) string {
	for i := range requests {
		return requests[i].Collection + "." + m.leaves(&requests[i])[0]
	}
	return "transactions.amount"
}

// accept adds to a grant what it gives of one request.
func (m *Manifest) accept(g *Grant, r Request, keep map[string][]string) error {
	for _, name := range r.Purpose {
		if p, _ := findPurpose(name); p.refused {
			return fmt.Errorf("%w: request %s of %s wants to %s, which Locker does not grant", locker.ErrInvalid, r.ID, m.ID, p.words)
		}
	}
	fields := m.leaves(&r)
	if keep != nil {
		fields = slices.DeleteFunc(fields, func(f string) bool { return !slices.Contains(keep[r.Collection], f) })
	}
	var missing []string
	for _, path := range r.Required {
		for _, leaf := range m.expand(r.Collection, path) {
			if !slices.Contains(fields, leaf) {
				missing = append(missing, r.Collection+"."+leaf)
			}
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("%w: %s cannot do without %s; grant it too, or do not accept offer %s", locker.ErrInvalid, m.ID, list(missing), g.Offer)
	}
	if len(fields) == 0 {
		return nil
	}
	read := Read{Collection: r.Collection, Window: r.Window}
	i := slices.IndexFunc(g.Reads, func(other Read) bool { return other.Collection == r.Collection })
	if i < 0 {
		if s := m.schemaOf(r.Collection); s != nil {
			read.Schema = s.hash
		}
		i, g.Reads = len(g.Reads), append(g.Reads, read)
	}
	to := &g.Reads[i]
	to.Requests = append(to.Requests, r.ID)
	to.Fields = compact(append(to.Fields, fields...))
	to.Purpose = compact(append(to.Purpose, r.Purpose...))
	return nil
}

func compact(s []string) []string {
	slices.Sort(s)
	return slices.Compact(s)
}

// grantContext labels the signature of a grant.
const grantContext = "locker grant v1"

// Sign returns the grant as the document that is kept, and its signature by the
// device that Signer names. sign signs a message under a label with the key of
// that device.
func (g Grant) Sign(sign func(context string, message []byte) []byte) (document, signature []byte, err error) {
	if g.Signer == "" || len(g.Devices) == 0 {
		return nil, nil, fmt.Errorf("%w: grant %s names no device", locker.ErrInvalid, g.ID)
	}
	if document, err = json.Marshal(g); err != nil {
		return nil, nil, err
	}
	return document, sign(grantContext, document), nil
}

// OpenGrant reads a document that [Grant.Sign] made. verify checks a signature of a
// device that is or was a member of the locker.
func OpenGrant(document, signature []byte, verify func(device, context string, message, signature []byte) error) (Grant, error) {
	var g Grant
	if err := json.Unmarshal(document, &g); err != nil {
		return Grant{}, fmt.Errorf("grant: %w", err)
	}
	if err := verify(g.Signer, grantContext, document, signature); err != nil {
		return Grant{}, fmt.Errorf("grant %s: %w", g.ID, err)
	}
	return g, nil
}

// Missing says what of a read the grant does not cover, as in "transactions.{memo}"
// or "older transactions"; empty where it covers all.
func (g Grant) Missing(r Read) string {
	i := slices.IndexFunc(g.Reads, func(own Read) bool { return own.Collection == r.Collection })
	if i < 0 {
		return fmt.Sprintf("%s.{%s}", r.Collection, strings.Join(r.Fields, ","))
	}
	missing := slices.DeleteFunc(slices.Clone(r.Fields), func(f string) bool { return slices.Contains(g.Reads[i].Fields, f) })
	switch {
	case len(missing) > 0:
		return fmt.Sprintf("%s.{%s}", r.Collection, strings.Join(missing, ","))
	case !windowCovers(g.Reads[i].Window, r.Window):
		return "older " + r.Collection
	}
	return ""
}
