package daemon

import (
	"context"
	"os"

	"github.com/locker-project/locker/daemon/replica"
)

// status is the call status.
func (l *Locker) status(ctx context.Context, _ struct{}, _ *answer) (any, error) {
	r, err := l.replica.Status(ctx)
	if err != nil {
		return nil, err
	}
	collections, err := l.store.Collections()
	if err != nil {
		return nil, err
	}
	s := Status{
		Version: l.version, Home: string(l.home), Locker: l.keys.Locker(), Device: l.keys.Device(),
		Devices: l.deviceRows(r), Remotes: l.remoteRows(r), Pending: notices(r.Pending), Alarms: notices(r.Alarms),
		Sandbox: l.sandbox().String(), KeyProtection: l.device.protection(), StateHash: l.store.StateHash(), Collections: collections,
	}
	for _, n := range collections {
		s.Records += n
	}
	for _, r := range s.Remotes {
		s.Unsent = max(s.Unsent, r.Unsent)
	}
	if l.serving {
		s.Daemon = os.Getpid()
	}
	s.Restoring = restoring(r.Fill)
	return s, nil
}

// restoring tells how far the filling of a new device has come; nil where there is none.
func restoring(f *replica.FillStatus) *Restoring {
	if f == nil {
		return nil
	}
	r := &Restoring{Since: f.Since, Objects: f.Read, Of: f.Objects, Left: int64(f.Left.Seconds()), Expected: f.Counts}
	if r.Expected == nil {
		r.Expected = map[string]int64{}
	}
	return r
}

// devices is the call device.list: a row for each device.
func (l *Locker) devices(ctx context.Context, _ struct{}, a *answer) (any, error) {
	r, err := l.replica.Status(ctx)
	if err != nil {
		return nil, err
	}
	for _, d := range l.deviceRows(r) {
		if err := a.row(d); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

func (l *Locker) deviceRows(s replica.Status) []Device {
	rows := []Device{}
	for _, d := range s.Devices {
		rows = append(rows, Device{
			ID: d.ID, Name: d.Name, This: d.This, Removed: d.Removed, LastSeen: d.LastSeen, Seniority: d.Seniority,
			AdmittedBy: d.AdmittedBy, RemovedBy: d.RemovedBy, Why: d.Why, Entries: d.Entries,
		})
	}
	return rows
}

func (l *Locker) remoteRows(s replica.Status) []RemoteInfo {
	rows := []RemoteInfo{}
	names, list, _ := l.remotes.get("")
	for i, name := range names {
		row := RemoteInfo{Name: name, Spec: list[i].spec().String()}
		for _, r := range s.Remotes {
			if r.Name == name {
				row.Unsent, row.LastSync, row.Problem = r.Unsent, r.LastSync, r.Problem
			}
		}
		rows = append(rows, row)
	}
	return rows
}

// notices are what the replica has noticed; never nil, which callers would see as null.
func notices(list []Notice) []Notice { return append([]Notice{}, list...) }
