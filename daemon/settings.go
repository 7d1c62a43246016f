package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/locker-project/locker/daemon/remote"
	"github.com/locker-project/locker/daemon/remote/metered"
	"github.com/locker-project/locker/daemon/replica"
)

// settingsKey is the note with the settings of this device, which never leave it.
const settingsKey = "daemon/settings"

// Settings are what the owner set for this device.
type Settings struct {
	// Network is what may be done of the network by itself.
	Network remote.Policy `json:"network"`
	// Blobs is what is kept here of pictures and other large bytes.
	Blobs BlobSettings `json:"blobs"`
}

// BlobSettings say which blobs are kept on this device. The remotes have all.
type BlobSettings struct {
	// All fetches every blob that a record refers to; else it is fetched when asked for.
	All bool `json:"all,omitempty"`
	// Bytes bounds what is kept; 0 is no bound. What no remote has is kept in any case.
	Bytes int64 `json:"bytes,omitempty"`
	// Collections pins the blobs of their records, Days those of records that are not
	// older.
	Collections []string `json:"collections,omitempty"`
	Days        int      `json:"days,omitempty"`
}

func (b BlobSettings) cache() replica.BlobCache {
	return replica.BlobCache{All: b.All, Bytes: b.Bytes, Collections: b.Collections, Newer: time.Duration(b.Days) * 24 * time.Hour}
}

// askNetwork is how long what the system says of the network is taken to hold.
const askNetwork = time.Minute

// A network is what the system said of it.
type network struct {
	asked          time.Time
	metered, known bool
}

// loadSettings reads the settings; there may be none.
func (l *Locker) loadSettings(ctx context.Context) error {
	raw, err := l.store.Note(ctx, settingsKey)
	if err != nil || raw == nil {
		return err
	}
	if err := json.Unmarshal(raw, &l.settings); err != nil {
		return fmt.Errorf("the settings of this device are damaged: %w", err)
	}
	return nil
}

// obey makes the parts of the locker follow the settings.
func (l *Locker) obey() {
	l.limiter.Set(l.settings.Network.Up, l.settings.Network.Down)
	l.replica.SetCache(l.settings.Blobs.cache())
}

// current returns the settings.
func (l *Locker) current() Settings {
	l.settingsMu.Lock()
	defer l.settingsMu.Unlock()
	return l.settings
}

// SettingsParams are the parameters of the call settings: what is nil stays as it is.
type SettingsParams struct {
	Network *remote.Policy `json:"network,omitempty"`
	Blobs   *BlobSettings  `json:"blobs,omitempty"`
}

// changeSettings is the call settings: it changes what is given, and tells all.
func (l *Locker) changeSettings(ctx context.Context, p SettingsParams, _ *answer) (any, error) {
	l.settingsMu.Lock()
	defer l.settingsMu.Unlock()
	next := l.settings
	if p.Network != nil {
		next.Network = *p.Network
	}
	if p.Blobs != nil {
		next.Blobs = *p.Blobs
	}
	if p.Network == nil && p.Blobs == nil {
		return next, nil
	}
	raw, err := json.Marshal(next)
	if err != nil {
		return nil, err
	}
	if err := l.store.SetNotes(ctx, map[string][]byte{settingsKey: raw}); err != nil {
		return nil, err
	}
	l.settings = next
	l.obey()
	l.touch()
	return next, nil
}

// allowed says what a pass that nobody asked for may do now.
func (l *Locker) allowed(ctx context.Context) remote.Allowance {
	policy := l.current().Network
	l.settingsMu.Lock()
	defer l.settingsMu.Unlock()
	asks := policy.Metered == remote.Auto || policy.Metered == ""
	if now := time.Now(); asks && now.Sub(l.network.asked) >= askNetwork {
		l.network.asked = now
		l.network.metered, l.network.known = metered.Network(ctx)
	}
	return policy.Now(time.Now(), l.network.metered, l.network.known)
}
