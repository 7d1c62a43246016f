package daemon

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/locker-project/locker/daemon/replica"
	"github.com/locker-project/locker/daemon/store"
	"github.com/locker-project/locker/plugins/locker"
)

// PurgeParams are the parameters of the call purge: one record, all of an import, or all
// that were deleted. With none of them it purges nothing and tells how far it is.
type PurgeParams struct {
	Collection string `json:"collection,omitempty"`
	ID         string `json:"id,omitempty"`
	Import     string `json:"import,omitempty"`
	Deleted    bool   `json:"deleted,omitempty"`
	// Lift takes the ban of a record back: it may be written and imported again. What was
	// purged does not come back by that.
	Lift       bool   `json:"lift,omitempty"`
	Passphrase string `json:"passphrase,omitempty"`
}

// A PurgePlace is a row of the call purge: whether what was purged is gone at one place.
type PurgePlace struct {
	Remote string    `json:"remote,omitempty"` // empty: this device's own disk
	Device string    `json:"device"`
	Name   string    `json:"name"`
	Clean  bool      `json:"clean"`
	Since  time.Time `json:"since,omitzero"`
	What   string    `json:"what,omitempty"`
	Do     string    `json:"do,omitempty"`
}

// A PurgeSummary ends the call purge.
type PurgeSummary struct {
	// Records is how many records are gone from here, Bans how many ids stay out for ever.
	Records int  `json:"records"`
	Bans    int  `json:"bans"`
	Lifted  int  `json:"lifted,omitempty"`
	Clean   bool `json:"clean"` // everywhere
}

// purge is the call purge. What it bans is gone from the store when it returns, and from
// the remotes as far as they can be reached; a row for each place says so.
func (l *Locker) purge(ctx context.Context, p PurgeParams, a *answer) (any, error) {
	if err := l.confirm(p.Passphrase); err != nil {
		return nil, err
	}
	if !l.importing.TryLock() {
		return nil, failed("try again when it has ended; 'locker imports' shows it", "an import is going on")
	}
	defer l.importing.Unlock()
	sum, err := l.ban(ctx, p)
	if err != nil {
		return nil, err
	}
	here := PurgePlace{Device: l.keys.Device(), Name: l.keys.DeviceName(l.keys.Device()), Clean: true, Since: time.Now()}
	_ = a.progress("purging this device's disk", 0, 0)
	if err := l.store.Scrub(ctx); errors.Is(err, store.ErrScrubbing) {
		here.Clean, here.Since, here.What, here.Do = false, time.Time{}, err.Error(), "nothing: it goes on by itself"
	} else if err != nil {
		return nil, err
	}
	places, err := l.cleanRemotes(ctx, paced(a))
	if err != nil {
		return nil, err
	}
	rows := []PurgePlace{here}
	for _, c := range places {
		rows = append(rows, PurgePlace{Remote: c.Remote, Device: c.Device, Name: l.keys.DeviceName(c.Device), Clean: c.Clean, Since: c.Since, What: c.What, Do: c.Do})
	}
	sum.Clean = true
	for _, row := range rows {
		sum.Clean = sum.Clean && row.Clean
		if err := a.row(row); err != nil {
			return nil, err
		}
	}
	return sum, nil
}

// purgePasses is how many passes it takes at most until what this device put is
// rewritten, read back and deleted, where its remotes work.
const purgePasses = 4

// cleanRemotes syncs until what was purged is gone from what this device put on the
// remotes, or something is in the way.
func (l *Locker) cleanRemotes(ctx context.Context, progress replica.Progress) ([]replica.Clean, error) {
	for i := 0; ; i++ {
		places, err := l.replica.Cleanliness(ctx)
		own := func(c replica.Clean) bool { return c.Device == l.keys.Device() && !c.Clean }
		if err != nil || i == purgePasses || i > 0 && !slices.ContainsFunc(places, own) {
			return places, err
		}
		if _, list, _ := l.remotes.get(""); len(list) == 0 {
			return places, nil
		}
		l.remotes.try()
		if _, err := l.sync(ctx, replica.SyncOptions{Progress: progress}); err != nil {
			l.log.Warn("after a purge", "err", err) // each place says what is in the way
			return l.replica.Cleanliness(ctx)
		}
	}
}

// ban does what the parameters of a purge say to the store.
func (l *Locker) ban(ctx context.Context, p PurgeParams) (PurgeSummary, error) {
	var done store.Purged
	var err error
	switch {
	case p.Lift:
		n, err := l.store.Lift(ctx, p.Collection, p.ID)
		if err == nil && n == 0 {
			err = failed("only what was purged can be let in again", "%s %s is not purged", p.Collection, p.ID)
		}
		return PurgeSummary{Lifted: n}, err
	case p.Deleted:
		done, err = l.store.BanDeleted(ctx)
	case p.Import != "":
		if done, err = l.store.BanImport(ctx, p.Import); errors.Is(err, locker.ErrNotFound) {
			err = failed("'locker imports' lists them", "there is no import %s", clip(p.Import))
		}
	case p.Collection != "" || p.ID != "":
		if err = public(p.Collection); err == nil {
			done, err = l.store.Ban(ctx, p.Collection, p.ID)
		}
	}
	return PurgeSummary{Records: done.Records, Bans: done.Bans}, err
}
