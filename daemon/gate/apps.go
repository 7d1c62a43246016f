package gate

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/locker-project/locker/manifests"
	"github.com/locker-project/locker/plugins/locker"
)

// A Program says what runs for an app on this device.
type Program struct {
	// Shipped is the name of an app within locker-plugins, such as "apps/spend",
	// for those that come with Locker.
	Shipped string `json:"shipped,omitempty"`
	// Path is the file that runs, for others, and SHA256 its hash in hexadecimal.
	Path   string `json:"path,omitempty"`
	SHA256 string `json:"sha256,omitempty"`
}

// An App is an app that is installed on this device.
type App struct {
	Manifest  *manifests.Manifest
	Program   Program
	Installed time.Time
}

// ownVendor is the vendor of what comes with Locker; no other app may claim it.
const ownVendor = "locker"

// An installed is the document that says that an app is installed. It is signed by
// the device, so that no other device can exchange the program or the manifest.
type installed struct {
	Device    string    `json:"device"`
	Manifest  string    `json:"manifest"` // its exact text
	Program   Program   `json:"program"`
	Installed time.Time `json:"installed"`
}

const installedContext = "locker installed app v1"

func (g *Gate) appKey(id string) string { return g.Device + "/" + id }

// Install installs an app on this device, or puts another version in its place. It
// gets nothing yet; and what was granted to a manifest that differs in any byte is
// not valid for this one.
func (g *Gate) Install(ctx context.Context, manifest []byte, program Program) error {
	m, err := manifests.ParseManifest(manifest)
	if err != nil {
		return err
	}
	switch {
	case m.Kind != manifests.App:
		return fmt.Errorf("%w: %s is a %s; only apps are installed", locker.ErrInvalid, m.ID, m.Kind)
	case m.Vendor == ownVendor && program.Shipped == "":
		return fmt.Errorf("%w: %s claims to come with Locker, and does not", locker.ErrInvalid, m.ID)
	}
	old, err := g.App(ctx, m.ID)
	if err == nil && old.Manifest.Vendor != m.Vendor {
		return fmt.Errorf("%w: an app %s by %s is installed; remove it before you install the one by %s", locker.ErrInvalid, m.ID, old.Manifest.Vendor, m.Vendor)
	}
	document, err := json.Marshal(installed{Device: g.Device, Manifest: string(manifest), Program: program, Installed: g.time.Now().UTC()})
	if err != nil {
		return err
	}
	fields, err := json.Marshal(sealed{Link: string(document), Signature: g.Sign(installedContext, document)})
	if err != nil {
		return err
	}
	_, err = g.Store.Write(ctx, system, locker.Record{Collection: appsCollection, ID: g.appKey(m.ID), Fields: fields})
	return err
}

// Uninstall removes an app from this device and revokes its grants here.
func (g *Gate) Uninstall(ctx context.Context, id string) error {
	if _, err := g.Store.View(system).Get(ctx, appsCollection, g.appKey(id)); err != nil {
		return fmt.Errorf("app %s: %w", id, err)
	}
	list, err := g.Grants(ctx)
	if err != nil {
		return err
	}
	for _, grant := range list {
		if grant.App != id || grant.State != Active {
			continue
		}
		if _, err := g.Revoke(ctx, grant.ID); err != nil {
			return err
		}
	}
	_, err = g.Store.Delete(ctx, system, appsCollection, g.appKey(id))
	return err
}

// Apps returns what is installed on this device, in order of the ids. What cannot
// be believed is left out and logged.
func (g *Gate) Apps(ctx context.Context) ([]App, error) {
	var out []App
	for r, err := range g.Store.View(system).Query(ctx, locker.Query{Collection: appsCollection}) {
		if err != nil {
			return nil, err
		}
		id, ok := strings.CutPrefix(r.ID, g.appKey(""))
		if !ok {
			continue
		}
		app, err := g.readApp(id, r)
		if err != nil {
			g.Logger.Warn("an installed app cannot be believed", "app", id, "error", err)
			continue
		}
		out = append(out, app)
	}
	slices.SortFunc(out, func(a, b App) int { return strings.Compare(a.Manifest.ID, b.Manifest.ID) })
	return out, nil
}

// App returns an installed app; the error is [locker.ErrNotFound] where it is not.
func (g *Gate) App(ctx context.Context, id string) (App, error) {
	r, err := g.Store.View(system).Get(ctx, appsCollection, g.appKey(id))
	if err != nil {
		return App{}, fmt.Errorf("app %s: %w", id, err)
	}
	return g.readApp(id, r)
}

func (g *Gate) readApp(id string, r locker.Record) (App, error) {
	var s sealed
	if err := r.Decode(&s); err != nil {
		return App{}, err
	}
	if err := g.Verify(g.Device, installedContext, []byte(s.Link), s.Signature); err != nil {
		return App{}, fmt.Errorf("app %s was not installed by this device: %w", id, err)
	}
	var doc installed
	if err := json.Unmarshal([]byte(s.Link), &doc); err != nil {
		return App{}, fmt.Errorf("app %s: %w", id, err)
	}
	m, err := manifests.ParseManifest([]byte(doc.Manifest))
	if err != nil {
		return App{}, fmt.Errorf("app %s: %w", id, err)
	}
	if m.ID != id || doc.Device != g.Device {
		return App{}, fmt.Errorf("%w: the record of app %s is of app %s", locker.ErrInvalid, id, m.ID)
	}
	return App{Manifest: m, Program: doc.Program, Installed: doc.Installed}, nil
}
