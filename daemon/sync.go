package daemon

import (
	"context"
	"errors"
	"time"

	"github.com/locker-project/locker/daemon/replica"
)

// sync makes one pass over all remotes; one at a time. hold keeps back what is not
// urgent: what apps and the gate write causes no traffic of its own.
func (l *Locker) sync(ctx context.Context, o replica.SyncOptions) (replica.Summary, error) {
	select {
	case <-l.syncing:
	case <-ctx.Done():
		return replica.Summary{}, ctx.Err()
	}
	defer func() { l.syncing <- struct{}{} }()
	s, err := l.replica.Sync(ctx, o)
	var cloned *replica.Cloned
	if errors.As(err, &cloned) {
		err = l.renew(ctx)
	}
	if s.Records > 0 { // a revocation may be among them
		err = errors.Join(err, l.gate.Refresh(ctx))
	}
	if s.BytesUp+s.BytesDown > bigTransfer {
		releaseMemory(bigJob)
	}
	return s, err
}

// bigTransfer is how many bytes a sync moves before the memory that it used is
// given back at once: sealing takes some hundred times as much.
const bigTransfer = 64 << 10

// syncNow is the call sync.
func (l *Locker) syncNow(ctx context.Context, p SyncParams, a *answer) (any, error) {
	if _, list, _ := l.remotes.get(""); len(list) == 0 {
		return nil, failed("add one with 'locker remote add NAME SPEC'", "there is no remote to sync with")
	}
	l.remotes.try()
	bans := l.store.Bans()
	s, err := l.sync(ctx, replica.SyncOptions{Full: p.Full, Progress: paced(a)})
	for i := 0; i < 2 && err == nil && l.store.Bans() != bans; i++ { // something was purged elsewhere: write its traces anew, and say so
		var more replica.Summary
		more, err = l.sync(ctx, replica.SyncOptions{Progress: paced(a)})
		s = together(s, more)
	}
	if err != nil {
		return nil, err
	}
	failed := map[string]string{}
	for name, why := range s.Failed {
		failed[name] = why.Error()
	}
	return SyncSummary{
		ObjectsUp: s.ObjectsUp, ObjectsDown: s.ObjectsDown, BytesUp: s.BytesUp, BytesDown: s.BytesDown, Requests: s.Requests, Records: s.Records,
		Pending: notices(s.Pending), Alarms: notices(s.Alarms), Failed: failed,
	}, nil
}

// together is what two passes did, and how it is after the second.
func together(a, b replica.Summary) replica.Summary {
	b.ObjectsUp += a.ObjectsUp
	b.ObjectsDown += a.ObjectsDown
	b.BytesUp += a.BytesUp
	b.BytesDown += a.BytesDown
	b.Requests += a.Requests
	b.Records += a.Records
	return b
}

// paced passes progress on, but not more often than somebody can look.
func paced(a *answer) replica.Progress {
	var last time.Time
	return func(doing string, done, total int64) {
		if time.Since(last) >= progressEvery {
			last = time.Now()
			_ = a.progress(doing, done, total) // who cannot be told is told nothing
		}
	}
}

// verify is the call verify: a row for each remote.
func (l *Locker) verify(ctx context.Context, p RemoteParams, a *answer) (any, error) {
	names, _, err := l.remotes.get(p.Name)
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, failed("add one with 'locker remote add NAME SPEC'", "there is no remote to verify")
	}
	l.remotes.try()
	for _, name := range names {
		r, err := l.replica.Verify(ctx, name, paced(a))
		if err != nil {
			return nil, err
		}
		row := VerifySummary{Remote: name, Objects: r.Objects, Bytes: r.Bytes, Missing: append([]string{}, r.Missing...), Bad: append([]string{}, r.Bad...), Misfits: r.Misfits, Repaired: r.Repaired}
		if err := a.now(row); err != nil {
			return nil, err
		}
	}
	releaseMemory(bigJob)
	return nil, nil
}
