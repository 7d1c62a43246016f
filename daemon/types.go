package daemon

import (
	"encoding/json"
	"time"

	"github.com/locker-project/locker/daemon/replica"
)

// What calls take and answer. These are the JSON shapes that scripts see.

// ImportParams are the parameters of the call import.
type ImportParams struct {
	Paths  []string `json:"paths"` // absolute
	DryRun bool     `json:"dry_run,omitempty"`
}

// A FileReport is what an import found in one file: a row of the call import.
type FileReport struct {
	Path string `json:"path"`
	// Connector read the file; nil where none knows it.
	Connector *string   `json:"connector"`
	New       int       `json:"new"`
	Same      int       `json:"same"`
	Changed   int       `json:"changed"`
	Failed    []Failure `json:"failed"`
	// More counts the failures beyond those listed.
	More int `json:"failed_more,omitempty"`
	// Note is what is to be known about the file as a whole and is no failure: why
	// it brought nothing, what of it was left unread, what was assumed.
	Note string `json:"note,omitempty"`
}

// A Failure says what of a file could not be read, and why.
type Failure struct {
	At  string `json:"at"`
	Why string `json:"why"`
}

// An ImportSummary ends the call import.
type ImportSummary struct {
	Import  string `json:"import,omitempty"`
	Files   int    `json:"files"`
	Unknown int    `json:"unknown"`
	New     int    `json:"new"`
	Same    int    `json:"same"`
	Changed int    `json:"changed"`
	Failed  int    `json:"failed"`
	// Resumed says that an import of the same paths that was cut off went on in this
	// one.
	Resumed bool `json:"resumed,omitempty"`
}

// An ImportInfo is a row of the call imports.
type ImportInfo struct {
	Import  string    `json:"import"`
	Time    time.Time `json:"time"`
	State   string    `json:"state"`
	Device  string    `json:"device,omitempty"`
	Paths   []string  `json:"paths"`
	New     int       `json:"new"`
	Same    int       `json:"same"`
	Changed int       `json:"changed"`
	Failed  int       `json:"failed"`
	// CutOff says that the import is in the state "running" but does not go on: the
	// same import again completes it.
	CutOff bool `json:"cut_off,omitempty"`
}

// UndoSummary ends the call undo.
type UndoSummary struct {
	Import   string `json:"import"`
	Removed  int    `json:"removed"`
	Restored int    `json:"restored"`
}

// QueryParams are the parameters of the call query.
type QueryParams struct {
	Collection string    `json:"collection"`
	Fields     []string  `json:"fields,omitempty"`
	Where      string    `json:"where,omitempty"`
	Since      time.Time `json:"since,omitzero"`
	Until      time.Time `json:"until,omitzero"`
	Limit      int       `json:"limit,omitempty"`
	Descending bool      `json:"descending,omitempty"`
}

// RecordParams name one record, and for put the class of the writer.
type RecordParams struct {
	Collection string `json:"collection"`
	ID         string `json:"id,omitempty"`
	Source     string `json:"source,omitempty"`
}

// A PutSummary ends the calls put and delete.
type PutSummary struct {
	New     int `json:"new"`
	Same    int `json:"same"`
	Changed int `json:"changed"`
	Deleted int `json:"deleted,omitempty"`
}

// A Notice is one thing that waits or is wrong: an element of pending and alarms.
type Notice = replica.Notice

// SyncParams are the parameters of the call sync.
type SyncParams struct {
	Full bool `json:"full,omitempty"`
}

// A SyncSummary ends the call sync.
type SyncSummary struct {
	ObjectsUp   int      `json:"objects_up"`
	ObjectsDown int      `json:"objects_down"`
	BytesUp     int64    `json:"bytes_up"`
	BytesDown   int64    `json:"bytes_down"`
	Requests    int64    `json:"requests"`
	Records     int      `json:"records"`
	Pending     []Notice `json:"pending"`
	Alarms      []Notice `json:"alarms"`
	// Failed names the remotes that could not be synced with, and why.
	Failed map[string]string `json:"failed,omitempty"`
}

// A Device is one device of the locker.
type Device struct {
	ID       string    `json:"id"`
	Name     string    `json:"name"`
	This     bool      `json:"this,omitempty"`
	Removed  bool      `json:"removed,omitempty"`
	LastSeen time.Time `json:"last_seen,omitzero"` // by its own clock
	// Seniority is the place among the members, 1 for the most senior: who wins when two
	// remove each other unawares.
	Seniority  int    `json:"seniority,omitempty"`
	AdmittedBy string `json:"admitted_by,omitempty"` // a device, or "phrase"
	RemovedBy  string `json:"removed_by,omitempty"`
	Why        string `json:"why,omitempty"` // it is removed
	Entries    uint64 `json:"entries"`       // read from it; of a removed one, those that count
}

// A RemoteInfo is one remote, without its secrets.
type RemoteInfo struct {
	Name     string    `json:"name"`
	Spec     string    `json:"spec"`
	Unsent   int       `json:"unsent"`
	LastSync time.Time `json:"last_sync,omitzero"`
	Problem  string    `json:"problem,omitempty"`
}

// A Status is the summary of the call status.
type Status struct {
	Version       string           `json:"version"`
	Home          string           `json:"home"`
	Locker        string           `json:"locker"`
	Device        string           `json:"device"`
	Devices       []Device         `json:"devices"`
	Remotes       []RemoteInfo     `json:"remotes"`
	Unsent        int              `json:"unsent"`
	Pending       []Notice         `json:"pending"`
	Alarms        []Notice         `json:"alarms"`
	Sandbox       string           `json:"sandbox"`
	KeyProtection string           `json:"key_protection"`
	StateHash     string           `json:"state_hash"`
	Records       int64            `json:"records"`
	Collections   map[string]int64 `json:"collections"`
	Daemon        int              `json:"daemon,omitempty"` // process id, where a daemon answers
	// Restoring is there while a new device has not read all yet.
	Restoring *Restoring `json:"restoring,omitempty"`
}

// Restoring tells how far a restore has come. What is newest comes first; Collections
// in the status tells how much of it is here.
type Restoring struct {
	Since   time.Time `json:"since"`
	Objects int       `json:"objects"` // read
	Of      int       `json:"of"`      // as far as is known
	// Left is about how many seconds the rest takes; 0 where that is not known.
	Left int64 `json:"seconds_left,omitempty"`
	// Expected is how many records the largest collections have on the other devices.
	Expected map[string]int64 `json:"expected"`
}

// RemoteParams name a remote.
type RemoteParams struct {
	Name       string `json:"name,omitempty"`
	Spec       string `json:"spec,omitempty"`
	Passphrase string `json:"passphrase,omitempty"`
	Quick      bool   `json:"quick,omitempty"` // of remote.check: whether it works, no more
}

// A VerifySummary ends the call verify.
type VerifySummary struct {
	Remote   string   `json:"remote"`
	Objects  int      `json:"objects"`
	Bytes    int64    `json:"bytes"`
	Missing  []string `json:"missing"`
	Bad      []string `json:"bad"`
	Misfits  int      `json:"misfits"`
	Repaired int      `json:"repaired"`
}

// PhraseParams carry a phrase to check.
type PhraseParams struct {
	Phrase string `json:"phrase"`
}

// AppParams name an app, or where to find one, and what to tell it.
type AppParams struct {
	App  string   `json:"app,omitempty"`
	Path string   `json:"path,omitempty"`
	Args []string `json:"args,omitempty"`
}

// An AppInfo is a row of the call app.list.
type AppInfo struct {
	ID        string `json:"id"`
	Name      string `json:"name"`
	Vendor    string `json:"vendor"`
	Version   string `json:"version"`
	Installed bool   `json:"installed"`
	Grants    int    `json:"grants"`
}

// AppOutput is a row of the call app.run: text, or a table.
type AppOutput struct {
	Text  string          `json:"text,omitempty"`
	Table json.RawMessage `json:"table,omitempty"`
}

// An OfferInfo is a row of the call offers.
type OfferInfo struct {
	App      string        `json:"app"`
	Offer    string        `json:"offer"`
	Kind     string        `json:"kind"` // permit, pay or mixed
	Price    string        `json:"price,omitempty"`
	Sentence string        `json:"sentence"`
	Requests []RequestInfo `json:"requests"`
}

// A RequestInfo is what an offer asks for.
type RequestInfo struct {
	ID         string   `json:"id"`
	Collection string   `json:"collection"`
	Fields     []string `json:"fields"`
	Required   []string `json:"required,omitempty"` // those of Fields that it cannot do without
	Purpose    []string `json:"purpose"`
	Plain      string   `json:"plain,omitempty"` // why, in the vendor's words
	Window     string   `json:"window,omitempty"`
}

// GrantParams ask for a grant.
type GrantParams struct {
	App        string    `json:"app"`
	Offer      string    `json:"offer"`
	Only       []string  `json:"only,omitempty"`
	Until      time.Time `json:"until,omitzero"`
	Passphrase string    `json:"passphrase,omitempty"`
}

// A GrantInfo is a row of the call grants, and the summary of grant and revoke.
type GrantInfo struct {
	Grant   string              `json:"grant"`
	App     string              `json:"app"`
	Offer   string              `json:"offer"`
	Purpose []string            `json:"purpose"`
	Fields  map[string][]string `json:"fields"`
	Writes  []string            `json:"writes,omitempty"`
	Issued  time.Time           `json:"issued"`
	Expires time.Time           `json:"expires"`
	State   string              `json:"state"` // active, expired, revoked
}

// AuditParams narrow the call audit.
type AuditParams struct {
	App   string    `json:"app,omitempty"`
	Since time.Time `json:"since,omitzero"`
}
