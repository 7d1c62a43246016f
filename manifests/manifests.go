// Package manifests decides what an app may see and do: what it asks for (its
// manifest), what the owner gave (a grant), and what follows for a read or a
// write ([Limit]).
//
// Start with [ParseManifest], [Manifest.Accept] and [Limit]. The package also
// holds the JSON Schemas of the collections, the one source for what a field is:
// [Validate] checks records against them, [Fields] lists what a manifest may name.
//
// Everything here is pure: no files, no network, no clock but the one passed in.
// A grant never widens by itself: it names leaf fields, and carries the hash of
// the manifest and of each schema that it was made from. SPEC.md has the format.
package manifests

//go:generate go run ./internal/collections

import (
	"encoding/json"
	"errors"
	"time"
)

// ErrPayment says that an offer costs money, which this version of Locker cannot
// pay.
var ErrPayment = errors.New("payment is not there yet")

// A Kind says what a plugin does.
type Kind string

// The kinds of plugins.
const (
	App       Kind = "app"       // reads what was granted and answers its owner
	Connector Kind = "connector" // reads files of exports, or hosts, and writes records
	Remote    Kind = "remote"    // keeps sealed objects in a cloud
)

// The fields that every record has beside those of its collection. They are
// granted like others.
const (
	fieldID     = "id"
	fieldTime   = "time"
	fieldSource = "source"
	fieldImport = "import"
)

// A Manifest is what a plugin asks for, as its vendor wrote it. Make one with
// [ParseManifest]; it is not to be changed.
type Manifest struct {
	ID      string `json:"id"`
	Kind    Kind   `json:"kind"`
	Name    string `json:"name"`
	Vendor  string `json:"vendor"`
	Version string `json:"version"`
	// Purpose is what it is for, in the vendor's words.
	Purpose  string    `json:"purpose"`
	Requests []Request `json:"requests,omitempty"`
	// Writes are the collections that it writes to.
	Writes []string `json:"writes,omitempty"`
	// Collections are JSON Schemas of the collections that it declares, each named
	// VENDOR/NAME.
	Collections map[string]json.RawMessage `json:"collections,omitempty"`
	Offers      []Offer                    `json:"offers,omitempty"`
	// Program is what runs: a name within locker-plugins ("apps/spend") for what
	// ships with Locker, a file beside the manifest for others.
	Program   string         `json:"program"`
	Connector *ConnectorPart `json:"connector,omitempty"`

	hash    string
	schemas map[string]*schema
}

// A ConnectorPart is what a connector asks for beside its writes: files or hosts,
// never both.
type ConnectorPart struct {
	// Reads are the kinds of files that it recognises, such as "vcard".
	Reads []string `json:"reads,omitempty"`
	// Hosts are the host names that it may ask through the host.
	Hosts []string `json:"hosts,omitempty"`
}

// A Request asks for fields of one collection.
type Request struct {
	ID         string `json:"id"`
	Collection string `json:"collection"`
	// Fields are dotted paths: leaf fields of the collection's schema, objects (all
	// leaf fields below), and id, time, source, import.
	Fields []string `json:"fields"`
	// Required are those of Fields without which the app is of no use.
	Required []string `json:"required,omitempty"`
	// Window bounds the age of records: an ISO 8601 duration such as P90D, counted
	// back from each read. Empty is no bound.
	Window string `json:"window,omitempty"`
	// Purpose are terms of the W3C Data Privacy Vocabulary, such as
	// "dpv:RequestedServiceProvision".
	Purpose []string `json:"purpose"`
	// Plain is why, in the vendor's words.
	Plain string `json:"plain,omitempty"`
}

// What an offer takes in return.
const (
	Permit = "permit" // data alone
	Pay    = "pay"    // money alone
	Mixed  = "mixed"  // some of both
)

// An Offer is one way to accept a manifest.
type Offer struct {
	ID       string   `json:"id"`
	Kind     string   `json:"kind"` // Permit, Pay or Mixed
	Requests []string `json:"requests,omitempty"`
	Price    *Price   `json:"price,omitempty"`
	// Expires is how long a grant lasts where the owner says nothing: an ISO 8601
	// duration, at most P90D, which is also what stands for an empty one.
	Expires string `json:"expires,omitempty"`
}

// A Price is what an offer costs.
type Price struct {
	Amount   string `json:"amount"`        // decimal
	Currency string `json:"currency"`      // ISO 4217
	Per      string `json:"per,omitempty"` // ISO 8601 duration; empty is once
}

// Hash is the SHA-256 of the manifest's exact bytes, in hexadecimal.
func (m *Manifest) Hash() string { return m.hash }

// A Grant is the owner's narrowed, expiring acceptance of an offer. Make one with
// [Manifest.Accept]; the device that makes it adds its own id, signs it
// ([Grant.Sign]) and keeps it.
type Grant struct {
	ID       string   `json:"grant"`
	App      string   `json:"app"`
	Vendor   string   `json:"vendor"`
	Version  string   `json:"version"`
	Manifest string   `json:"manifest"` // Manifest.Hash
	Offer    string   `json:"offer"`
	Reads    []Read   `json:"reads,omitempty"`
	Writes   []string `json:"writes,omitempty"`
	// Issued and Expires are by the clock of the device that made the grant.
	Issued  time.Time `json:"issued"`
	Expires time.Time `json:"expires"`
	// Devices are those on which the grant works.
	Devices []string `json:"devices"`
	// Signer is the device that signed it.
	Signer string `json:"signer"`
	// Key makes the ids that the app sees. It is secret: a copy for the vendor is
	// made without it.
	Key []byte `json:"key"`
}

// A Read is what a grant lets the app read of one collection.
type Read struct {
	Collection string `json:"collection"`
	// Requests are the ids of the requests that this answers.
	Requests []string `json:"requests"`
	// Fields are leaf fields, dotted, and id, time, source, import; sorted.
	Fields  []string `json:"fields"`
	Window  string   `json:"window,omitempty"`
	Purpose []string `json:"purpose"`
	// Schema is the SHA-256 of the collection's schema that Fields are from.
	Schema string `json:"schema"`
}
