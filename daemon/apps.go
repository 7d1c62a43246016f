package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/locker-project/locker/daemon/gate"
	"github.com/locker-project/locker/manifests"
	"github.com/locker-project/locker/plugins"
	"github.com/locker-project/locker/plugins/apps"
	"github.com/locker-project/locker/plugins/host"
	"github.com/locker-project/locker/plugins/locker"
)

// shippedApp is the folder of an app that comes with Locker, in package apps.
func shippedApp(id string) ([]byte, bool) {
	if !fs.ValidPath(id) || strings.Contains(id, "/") {
		return nil, false
	}
	raw, err := fs.ReadFile(apps.Manifests, id+"/manifest.json")
	return raw, err == nil
}

// shippedApps are the manifests of the apps that come with Locker.
func shippedApps() (list []*manifests.Manifest, err error) {
	names, err := fs.Glob(apps.Manifests, "*/manifest.json")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		raw, err := fs.ReadFile(apps.Manifests, name)
		if err != nil {
			return nil, err
		}
		m, err := manifests.ParseManifest(raw)
		if err != nil {
			return nil, fmt.Errorf("app %s: %w", path.Dir(name), err)
		}
		list = append(list, m)
	}
	return list, nil
}

// appInstall is the call app.install.
func (l *Locker) appInstall(ctx context.Context, p AppParams, _ *answer) (any, error) {
	raw, ships := shippedApp(p.Path)
	if !ships {
		if !filepath.IsAbs(p.Path) {
			return nil, usage("'locker app list' lists those that do; another is installed by its folder, as in ./my-app", "no app %q comes with Locker", p.Path)
		}
		var err error
		if raw, err = readManifest(p.Path); err != nil {
			return nil, err
		}
	}
	m, err := manifests.ParseManifest(raw)
	if err != nil {
		return nil, err
	}
	if m.Kind != manifests.App {
		return nil, usage("only apps are installed", "%s is a %s", m.ID, m.Kind)
	}
	if _, reserved := shippedApp(m.ID); reserved && !ships {
		return nil, refused("its vendor must name it otherwise", "an app of the name %s comes with Locker", m.ID)
	}
	program := gate.Program{Shipped: m.Program}
	if !ships {
		if program, err = l.takeProgram(p.Path, m); err != nil {
			return nil, err
		}
	}
	if err := l.gate.Install(ctx, raw, program); err != nil {
		return nil, err
	}
	l.touch()
	return AppInfo{ID: m.ID, Name: m.Name, Vendor: m.Vendor, Version: m.Version, Installed: true}, nil
}

// maxManifest and maxProgram bound what an app brings.
const (
	maxManifest = 1 << 20
	maxProgram  = 256 << 20
)

func readManifest(dir string) ([]byte, error) {
	const next = "name the folder of an app: it holds manifest.json and the program that it names"
	f, err := os.Open(filepath.Join(dir, "manifest.json"))
	if err != nil {
		return nil, usage(next, "%v", err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxManifest+1))
	if err == nil && len(raw) > maxManifest {
		err = errors.New("it is too large")
	}
	if err != nil {
		return nil, usage(next, "%s cannot be read: %v", f.Name(), err)
	}
	return raw, nil
}

// takeProgram copies the program of an app into the home, so that what runs later
// is what was installed.
func (l *Locker) takeProgram(dir string, m *manifests.Manifest) (gate.Program, error) {
	name := m.Program
	if name == "" || name != filepath.Base(name) || strings.HasPrefix(name, ".") {
		return gate.Program{}, usage("", "the manifest names %q as its program: it must be a file beside the manifest", name)
	}
	from, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		return gate.Program{}, usage("build it, then install it again", "the program of the app is missing: %v", err)
	}
	defer from.Close()
	info, err := from.Stat()
	if err != nil {
		return gate.Program{}, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxProgram {
		return gate.Program{}, usage("", "the program of the app, %s, is no file, or larger than %d MB", from.Name(), maxProgram>>20)
	}
	to := filepath.Join(l.home.apps(), m.ID, name)
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return gate.Program{}, err
	}
	if err := copyProgram(to, from); err != nil {
		return gate.Program{}, fmt.Errorf("cannot take over the program of the app: %w", err)
	}
	sum, err := hashFile(to)
	return gate.Program{Path: to, SHA256: sum}, err
}

func copyProgram(to string, from io.Reader) (err error) {
	f, err := os.CreateTemp(filepath.Dir(to), ".program-*.tmp")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	_, err = io.Copy(f, from)
	if err = errors.Join(err, f.Chmod(0o555), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), to); err != nil {
		return err
	}
	return syncDir(filepath.Dir(to))
}

// appList is the call app.list: a row for each app, installed or not.
func (l *Locker) appList(ctx context.Context, _ struct{}, a *answer) (any, error) {
	installed, err := l.gate.Apps(ctx)
	if err != nil {
		return nil, err
	}
	active := map[string]int{}
	grants, err := l.gate.Grants(ctx)
	if err != nil {
		return nil, err
	}
	for _, g := range grants {
		if g.State == gate.Active {
			active[g.App]++
		}
	}
	there := map[string]bool{}
	for _, app := range installed {
		m := app.Manifest
		there[m.ID] = true
		if err := a.row(AppInfo{ID: m.ID, Name: m.Name, Vendor: m.Vendor, Version: m.Version, Installed: true, Grants: active[m.ID]}); err != nil {
			return nil, err
		}
	}
	shipped, err := shippedApps()
	if err != nil {
		return nil, err
	}
	for _, m := range shipped {
		if there[m.ID] {
			continue
		}
		if err := a.row(AppInfo{ID: m.ID, Name: m.Name, Vendor: m.Vendor, Version: m.Version}); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// appRemove is the call app.remove.
func (l *Locker) appRemove(ctx context.Context, p AppParams, _ *answer) (any, error) {
	if err := l.gate.Uninstall(ctx, p.App); err != nil {
		return nil, notInstalled(p.App, err)
	}
	if fs.ValidPath(p.App) && !strings.Contains(p.App, "/") {
		if err := os.RemoveAll(filepath.Join(l.home.apps(), p.App)); err != nil {
			return nil, err
		}
	}
	l.touch()
	return AppInfo{ID: p.App}, nil
}

// appRun is the call app.run: it runs an app in its sandbox, on what was granted to
// it. What the app says comes as rows.
func (l *Locker) appRun(ctx context.Context, p AppParams, a *answer) (any, error) {
	app, err := l.gate.App(ctx, p.App)
	if err != nil {
		return nil, notInstalled(p.App, err)
	}
	session, err := l.gate.Open(ctx, p.App)
	if err != nil {
		return nil, err
	}
	defer session.Close()
	spec := host.Spec{Name: p.App, Path: app.Program.Path, SHA256: app.Program.SHA256, Stderr: func(line string) {
		l.log.Info("an app says", "app", p.App, "line", line)
	}}
	if app.Program.Shipped != "" {
		if spec, err = l.shipped(app.Program.Shipped); err != nil {
			return nil, err
		}
	}
	process, err := host.Start(ctx, spec)
	if errors.Is(err, host.ErrHash) {
		return nil, refused("install it again with 'locker app install' if you trust what is there now", "the program of %s is not the one that was installed", p.App)
	}
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", p.App, err)
	}
	defer process.Kill()
	ctx, cancel := joined(ctx, session.Context())
	defer cancel()
	err = process.App(ctx, plugins.AppEnv{View: session.View(), Args: p.Args, Out: output{a}})
	if cause := context.Cause(session.Context()); cause != nil {
		return nil, cause // it was cut: that is why it failed
	}
	return nil, err
}

// notInstalled says what to do about an app that is not there.
func notInstalled(id string, err error) error {
	if errors.Is(err, locker.ErrNotFound) {
		return failed("install it with 'locker app install "+id+"'; 'locker app list' lists what there is", "no app %q is installed", id)
	}
	return err
}

// joined returns a context that ends with either.
func joined(ctx, other context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(other, func() { cancel(context.Cause(other)) })
	return ctx, func() { stop(); cancel(nil) }
}

// output sends what an app says as rows.
type output struct{ a *answer }

func (o output) Text(s string) error { return o.a.now(AppOutput{Text: s}) }

func (o output) Table(t plugins.Table) error {
	raw, err := json.Marshal(t)
	if err != nil {
		return err
	}
	return o.a.now(AppOutput{Table: raw})
}

// appManifest is the manifest of an app that is installed, or comes with Locker.
func (l *Locker) appManifest(ctx context.Context, id string) (*manifests.Manifest, error) {
	app, err := l.gate.App(ctx, id)
	if err == nil {
		return app.Manifest, nil
	}
	if raw, ok := shippedApp(id); ok {
		return manifests.ParseManifest(raw)
	}
	return nil, notInstalled(id, err)
}

// offers is the call offers: a row for each way to accept an app.
func (l *Locker) offers(ctx context.Context, p AppParams, a *answer) (any, error) {
	m, err := l.appManifest(ctx, p.App)
	if err != nil {
		return nil, err
	}
	for _, o := range m.Offers {
		row := OfferInfo{App: m.ID, Offer: o.ID, Kind: o.Kind, Price: o.Price.String(), Sentence: m.Sentence(o.ID), Requests: []RequestInfo{}}
		for _, r := range m.Requests {
			for _, id := range o.Requests {
				if id == r.ID {
					row.Requests = append(row.Requests, RequestInfo{ID: r.ID, Collection: r.Collection, Fields: r.Fields, Required: r.Required, Purpose: r.Purpose, Plain: r.Plain, Window: r.Window})
				}
			}
		}
		if err := a.row(row); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// grant is the call grant.
func (l *Locker) grant(ctx context.Context, p GrantParams, _ *answer) (any, error) {
	if err := l.confirm(p.Passphrase); err != nil {
		return nil, err
	}
	g, err := l.gate.Grant(ctx, p.App, p.Offer, p.Only, p.Until)
	if err != nil {
		return nil, notInstalled(p.App, err)
	}
	l.touch()
	return grantRow(g, gate.Active), nil
}

// grants is the call grants: a row for each grant.
func (l *Locker) grants(ctx context.Context, _ struct{}, a *answer) (any, error) {
	list, err := l.gate.Grants(ctx)
	if err != nil {
		return nil, err
	}
	for _, g := range list {
		if err := a.row(grantRow(g.Grant, g.State)); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

func grantRow(g manifests.Grant, state string) GrantInfo {
	row := GrantInfo{Grant: g.ID, App: g.App, Offer: g.Offer, Purpose: []string{}, Fields: map[string][]string{}, Writes: g.Writes, Issued: g.Issued, Expires: g.Expires, State: state}
	for _, r := range g.Reads {
		row.Fields[r.Collection] = r.Fields
		row.Purpose = append(row.Purpose, r.Purpose...)
	}
	return row
}

// revoke is the call revoke.
func (l *Locker) revoke(ctx context.Context, p GrantInfo, _ *answer) (any, error) {
	g, err := l.gate.Revoke(ctx, p.Grant)
	if errors.Is(err, locker.ErrNotFound) {
		return nil, failed("'locker grants' lists them", "there is no grant %q", p.Grant)
	}
	if err != nil {
		return nil, err
	}
	l.touch()
	return grantRow(g, gate.Revoked), nil
}

// An AuditLine is a row of the call audit: one read, or one refusal.
type AuditLine = gate.AuditLine

// audit is the call audit: a row for each time that an app read or was refused.
func (l *Locker) audit(ctx context.Context, p AuditParams, a *answer) (any, error) {
	for line, err := range l.gate.Audit(ctx, p.App, p.Since) {
		if err != nil {
			return nil, err
		}
		if err := a.row(line); err != nil {
			return nil, err
		}
	}
	return nil, nil
}
