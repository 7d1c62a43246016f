package mobile

import (
	"time"

	"github.com/locker-project/locker/daemon/replica"
)

// These are the JSON shapes of Sync and Status, the same that the command line has.

type syncSummary struct {
	Complete    bool              `json:"complete"`
	ObjectsUp   int               `json:"objects_up"`
	ObjectsDown int               `json:"objects_down"`
	BytesUp     int64             `json:"bytes_up"`
	BytesDown   int64             `json:"bytes_down"`
	Requests    int64             `json:"requests"`
	Records     int               `json:"records"`
	Pending     []replica.Notice  `json:"pending"`
	Alarms      []replica.Notice  `json:"alarms"`
	Failed      map[string]string `json:"failed,omitempty"`
}

type status struct {
	Locker      string           `json:"locker"`
	Device      string           `json:"device"`
	Devices     []device         `json:"devices"`
	Remotes     []remoteInfo     `json:"remotes"`
	Unsent      int              `json:"unsent"`
	Pending     []replica.Notice `json:"pending"`
	Alarms      []replica.Notice `json:"alarms"`
	Records     int64            `json:"records"`
	Collections map[string]int64 `json:"collections"`
	StateHash   string           `json:"state_hash"`
}

type device struct {
	ID       string    `json:"id"`
	Name     string    `json:"name"`
	This     bool      `json:"this,omitempty"`
	Removed  bool      `json:"removed,omitempty"`
	LastSeen time.Time `json:"last_seen,omitzero"`
}

type remoteInfo struct {
	Name     string    `json:"name"`
	Unsent   int       `json:"unsent"`
	LastSync time.Time `json:"last_sync,omitzero"`
	Problem  string    `json:"problem,omitempty"`
}

// Status returns what is known without asking a remote, as JSON: {"locker",
// "device","devices","remotes","unsent","pending","alarms","records",
// "collections","state_hash"}.
func (l *Locker) Status() (string, error) {
	s, err := l.rep.Status(l.ctx)
	if err != nil {
		return "", err
	}
	counts, err := l.store.Collections()
	if err != nil {
		return "", err
	}
	out := status{
		Locker: l.keys.Locker(), Device: l.keys.Device(), Devices: []device{}, Remotes: []remoteInfo{},
		Pending: notices(s.Pending), Alarms: notices(s.Alarms), Collections: counts, StateHash: l.store.StateHash(),
	}
	for _, n := range counts {
		out.Records += n
	}
	for _, d := range s.Devices {
		out.Devices = append(out.Devices, device{d.ID, d.Name, d.This, d.Removed, d.LastSeen})
	}
	for _, r := range s.Remotes {
		out.Unsent = max(out.Unsent, r.Unsent)
		out.Remotes = append(out.Remotes, remoteInfo{r.Name, r.Unsent, r.LastSync, r.Problem})
	}
	return encode(out)
}

func encodeSummary(s replica.Summary, complete bool) (string, error) {
	out := syncSummary{
		Complete: complete, ObjectsUp: s.ObjectsUp, ObjectsDown: s.ObjectsDown, BytesUp: s.BytesUp, BytesDown: s.BytesDown,
		Requests: s.Requests, Records: s.Records, Pending: notices(s.Pending), Alarms: notices(s.Alarms),
	}
	for name, err := range s.Failed {
		if out.Failed == nil {
			out.Failed = map[string]string{}
		}
		out.Failed[name] = err.Error()
	}
	return encode(out)
}

// notices are what the replica has noticed; never nil, which the app would see as null.
func notices(list []replica.Notice) []replica.Notice { return append([]replica.Notice{}, list...) }
