package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/locker-project/locker/crypto"
	"github.com/locker-project/locker/daemon/remote"
	"github.com/locker-project/locker/daemon/replica"
	"github.com/locker-project/locker/plugins"
	"github.com/locker-project/locker/plugins/host"
)

// remotePrefix is before the name of a remote in the key of its note. The notes
// are in the store, encrypted, and never leave this device: a remote's credentials
// are this device's own.
const remotePrefix = "daemon/remote/"

// remoteIdle is how long the process of a remote may do nothing before it is ended:
// a little longer than the looks that follow each other closely are apart.
const remoteIdle = pollBusy/pollShare + 15*time.Second

// A remoteSetting is what is kept of a remote.
type remoteSetting struct {
	Spec  remote.Spec `json:"spec"`
	Added time.Time   `json:"added"`
}

// remotes are the remotes of a locker on this device.
type remotes struct {
	mu   sync.Mutex
	list map[string]*openRemote
}

// An openRemote is one remote, ready to be used. Its process, if it has one, is
// started when needed.
type openRemote struct {
	replica.Remote
	close   func() error
	breaker *remote.Breaker // nil where there is nothing to leave alone

	mu      sync.Mutex
	name    string // empty: it is not stored
	setting remoteSetting
	known   bool // it was opened, and worked
}

// spec is what the remote is now: tokens are renewed while it is used.
func (o *openRemote) spec() remote.Spec {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.setting.Spec
}

// forget keeps a process that still runs from storing settings again.
func (o *openRemote) forget() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.name = ""
}

// loadRemotes reads the settings of the remotes.
func (l *Locker) loadRemotes(ctx context.Context) (*remotes, error) {
	r := &remotes{list: map[string]*openRemote{}}
	for key, raw := range l.store.Notes(ctx, remotePrefix) {
		name := strings.TrimPrefix(key, remotePrefix)
		var s remoteSetting
		if err := json.Unmarshal(raw, &s); err != nil {
			return nil, fmt.Errorf("the settings of the remote %s are damaged: %w", name, err)
		}
		open, err := l.openRemote(s)
		if err != nil {
			l.log.Warn("a remote cannot be used", "remote", name, "err", err)
			open = &openRemote{setting: s, Remote: broken{err}, close: func() error { return nil }}
		}
		open.name = name
		r.list[name] = open
	}
	return r, nil
}

// named are the remotes as the replica wants them, in order of their names.
func (r *remotes) named() []replica.Named {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []replica.Named
	for _, name := range slices.Sorted(maps.Keys(r.list)) {
		out = append(out, replica.Named{Name: name, Remote: r.list[name].Remote})
	}
	return out
}

// get returns the remotes of a name, or all where it is empty, in order of names.
func (r *remotes) get(name string) (names []string, list []*openRemote, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if name != "" && r.list[name] == nil {
		return nil, nil, failed("'locker remote list' lists them", "there is no remote %q", name)
	}
	for _, n := range slices.Sorted(maps.Keys(r.list)) {
		if name == "" || n == name {
			names, list = append(names, n), append(list, r.list[n])
		}
	}
	return names, list, nil
}

// try has remotes tried that are left alone since they failed: the owner asks.
func (r *remotes) try() {
	_, list, _ := r.get("")
	for _, o := range list {
		if o.breaker != nil {
			o.breaker.Reset()
		}
	}
}

// closePatience is how long the processes of remotes may take to end. One that
// takes longer ends with this process.
const closePatience = 500 * time.Millisecond

func (r *remotes) close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	closed := make(chan error, len(r.list))
	for _, o := range r.list {
		go func() { closed <- o.close() }()
	}
	var errs []error
	late := time.After(closePatience)
	for range r.list {
		select {
		case err := <-closed:
			errs = append(errs, err)
		case <-late:
			return errors.Join(errs...)
		}
	}
	return errors.Join(errs...)
}

// openRemote makes a remote of its settings.
func (l *Locker) openRemote(s remoteSetting) (*openRemote, error) {
	o := &openRemote{setting: s, close: func() error { return nil }}
	if s.Spec.Kind == remote.KindFolder {
		folder, err := remote.Folder(s.Spec.Root)
		if err == nil {
			o.Remote = l.limited(folder)
		}
		return o, err
	}
	plugin := remote.Plugin(func(ctx context.Context) (remote.Client[plugins.RemoteObject], func(), error) {
		return l.startRclone(ctx, o)
	}, remoteIdle)
	o.breaker = remote.NewBreaker(plugin)
	o.Remote, o.close = l.limited(o.breaker), plugin.Close
	return o, nil
}

// limited is a remote within the owner's limits.
func (l *Locker) limited(r replica.Remote) replica.Remote {
	if l.limiter == nil { // there is no locker yet
		return r
	}
	return l.limiter.Limit(r)
}

// A broken remote is one whose settings cannot be used on this device.
type broken struct{ why error }

func (b broken) Put(context.Context, string, io.ReadSeeker, int64) error { return b.why }

func (b broken) Get(context.Context, string, int64, int64) (io.ReadCloser, error) {
	return nil, b.why
}

func (b broken) List(context.Context, string) iter.Seq2[replica.ObjectInfo, error] {
	return func(yield func(replica.ObjectInfo, error) bool) { yield(replica.ObjectInfo{}, b.why) }
}

func (b broken) Delete(context.Context, ...string) error { return b.why }

// startRclone starts the process that talks to a cloud, and has it connect.
func (l *Locker) startRclone(ctx context.Context, o *openRemote) (remote.Client[plugins.RemoteObject], func(), error) {
	s := o.spec()
	spec, err := l.programSpec("locker-rclone", "rclone")
	if err != nil {
		return nil, nil, err
	}
	spec.Network = true
	spec.ReadOnly = s.Files
	p, err := host.Start(ctx, spec)
	if err != nil {
		return nil, nil, err
	}
	client := p.Remote()
	keep := func(ctx context.Context, key, value string) error { return l.keepSetting(ctx, o, key, value) }
	config := plugins.RemoteConfig(s.Config(keep))
	o.mu.Lock()
	config.Known = o.known
	o.mu.Unlock()
	if err := client.Open(ctx, config); err != nil {
		p.Kill()
		return nil, nil, err
	}
	o.mu.Lock()
	o.known = true
	o.mu.Unlock()
	return client, p.Kill, nil
}

// keepSetting stores a setting that the process of a remote handed back, such as a
// token that was renewed.
func (l *Locker) keepSetting(ctx context.Context, o *openRemote, key, value string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	s, err := o.setting.Spec.Kept(key, value)
	if err != nil {
		return err
	}
	o.setting.Spec = s
	return l.storeSetting(ctx, o)
}

// storeSetting stores the settings of a remote that has a name. o.mu is held.
func (l *Locker) storeSetting(ctx context.Context, o *openRemote) error {
	if o.name == "" {
		return nil
	}
	raw, err := json.Marshal(o.setting)
	if err != nil {
		return err
	}
	return l.store.SetNotes(ctx, map[string][]byte{remotePrefix + o.name: raw})
}

// parseRemote reads a spec, with what the owner's rclone settings say of it.
func parseRemote(text string) (remote.Spec, error) {
	s, err := remote.ParseSpec(text, remote.RcloneConfig)
	if err != nil {
		e := asError(err)
		return s, usage(e.Next, "%s", e.Message)
	}
	return s, nil
}

// remoteNames are what a remote may be called.
var remoteNames = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,31}$`)

// firstRemote adds the remote that a set-up names. empty says that it must not
// hold a locker yet.
func (l *Locker) firstRemote(ctx context.Context, text string, empty bool) error {
	spec, err := parseRemote(text)
	if err != nil {
		return err
	}
	if err := l.home.outside(spec); err != nil {
		return err
	}
	o, err := l.openRemote(remoteSetting{Spec: spec, Added: time.Now().UTC()})
	if err != nil {
		return err
	}
	if empty {
		if err := spec.Prepare(); err != nil {
			return err
		}
		if _, err := remote.Check(ctx, o); err != nil {
			return errors.Join(notReady(spec, err), o.close())
		}
		if err := free(ctx, o); err != nil {
			return errors.Join(err, o.close())
		}
	}
	return l.keepRemote(ctx, "main", o)
}

// outside refuses a remote inside the locker's own folder: it would be lost with
// what it is to save.
func (h Home) outside(s remote.Spec) error {
	if s.Kind != remote.KindFolder {
		return nil
	}
	in, err := filepath.Rel(resolved(string(h)), resolved(s.Root))
	if err == nil && filepath.IsLocal(in) {
		return usage("name a folder elsewhere, at best on another disk or in a cloud", "%s is in the locker's own folder", s.Root)
	}
	return nil
}

// resolved follows the links in as much of a path as there is.
func resolved(path string) string {
	if whole, err := filepath.EvalSymlinks(path); err == nil {
		return whole
	}
	dir := filepath.Dir(path)
	if dir == path {
		return path
	}
	return filepath.Join(resolved(dir), filepath.Base(path))
}

// notAnothers checks that a remote is empty or has this locker.
func (l *Locker) notAnothers(ctx context.Context, r replica.Remote) error {
	door, err := r.Get(ctx, l.keys.Name(crypto.Ref{Kind: "door", Writer: "phrase"}), 0, 1)
	if err == nil {
		return door.Close()
	}
	err = free(ctx, r)
	var taken *Error
	if errors.As(err, &taken) {
		return failed("name an empty place, or one that has this locker", "the remote holds another locker")
	}
	return err
}

// free checks that no locker is kept on a remote.
func free(ctx context.Context, r replica.Remote) error {
	for info, err := range r.List(ctx, "k/") {
		if err != nil {
			return fmt.Errorf("the remote cannot be listed: %w", err)
		}
		if strings.HasPrefix(info.Name, "k/") {
			return failed("name an empty place, or get that locker back with 'locker restore'", "the remote holds a locker already")
		}
	}
	return nil
}

func notReady(spec remote.Spec, err error) error {
	e := asError(err)
	if e.Next == "" {
		e.Next = "check the place, its credentials and the network, then try again"
	}
	return failed(e.Next, "the remote %s does not work: %s", spec, e.Message)
}

// keepRemote stores the settings of a remote and hands it to the replica.
func (l *Locker) keepRemote(ctx context.Context, name string, o *openRemote) error {
	o.mu.Lock()
	o.name = name
	err := l.storeSetting(ctx, o)
	o.mu.Unlock()
	if err != nil {
		return err
	}
	l.remotes.mu.Lock()
	l.remotes.list[name] = o
	l.remotes.mu.Unlock()
	l.replica.SetRemotes(l.remotes.named())
	if l.heed != nil {
		l.heed(o.Remote)
	}
	l.touch()
	return nil
}

// remoteAdd is the call remote.add.
func (l *Locker) remoteAdd(ctx context.Context, p RemoteParams, _ *answer) (any, error) {
	if err := l.confirm(p.Passphrase); err != nil {
		return nil, err
	}
	if !remoteNames.MatchString(p.Name) {
		return nil, usage("use letters, digits, '-', '_' and '.', at most 32", "%q cannot be the name of a remote", p.Name)
	}
	if _, list, _ := l.remotes.get(p.Name); list != nil {
		return nil, failed("name it otherwise", "there is a remote %q already", p.Name)
	}
	spec, err := parseRemote(p.Spec)
	if err != nil {
		return nil, err
	}
	if err := l.home.outside(spec); err != nil {
		return nil, err
	}
	o, err := l.openRemote(remoteSetting{Spec: spec, Added: time.Now().UTC()})
	if err != nil {
		return nil, err
	}
	if err := spec.Prepare(); err != nil {
		return nil, err
	}
	if _, err := remote.Check(ctx, o); err != nil {
		return nil, errors.Join(notReady(spec, err), o.close())
	}
	if err := l.notAnothers(ctx, o); err != nil {
		return nil, errors.Join(err, o.close())
	}
	if err := l.keepRemote(ctx, p.Name, o); err != nil {
		return nil, err
	}
	return RemoteInfo{Name: p.Name, Spec: o.spec().String()}, nil
}

// remoteRemove is the call remote.remove: the remote is not used any more. What lies
// there stays; its credentials are forgotten here.
func (l *Locker) remoteRemove(ctx context.Context, p RemoteParams, _ *answer) (any, error) {
	if err := l.confirm(p.Passphrase); err != nil {
		return nil, err
	}
	names, list, err := l.remotes.get(p.Name)
	if err != nil {
		return nil, err
	}
	if p.Name == "" || len(names) != 1 {
		return nil, usage("'locker remote list' lists them", "which remote is to be removed?")
	}
	list[0].forget()
	if err := l.store.SetNotes(ctx, map[string][]byte{remotePrefix + p.Name: nil}); err != nil {
		return nil, err
	}
	l.remotes.mu.Lock()
	delete(l.remotes.list, p.Name)
	l.remotes.mu.Unlock()
	l.replica.SetRemotes(l.remotes.named())
	if err := l.replica.ForgetRemote(ctx, p.Name); err != nil {
		return nil, err
	}
	return RemoteInfo{Name: p.Name, Spec: list[0].spec().String()}, list[0].close()
}

// remoteList is the call remote.list.
func (l *Locker) remoteList(ctx context.Context, _ struct{}, a *answer) (any, error) {
	status, err := l.replica.Status(ctx)
	if err != nil {
		return nil, err
	}
	for _, r := range l.remoteRows(status) {
		if err := a.row(r); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// A RemoteCheck is a row of the call remote.check: what a remote can do, and how it did.
type RemoteCheck struct {
	Name string `json:"name"`
	remote.Report
}

// check examines a remote; quick: whether it works at all.
func (o *openRemote) check(ctx context.Context, quick bool) (remote.Report, error) {
	if !quick {
		return remote.Examine(ctx, o.Remote)
	}
	r, err := remote.Check(ctx, o)
	return remote.Report{PutMS: r.Put.Milliseconds(), GetMS: r.Get.Milliseconds(), ListMS: r.List.Milliseconds(), DeleteMS: r.Delete.Milliseconds(), Warnings: r.Warnings}, err
}

// remoteCheck is the call remote.check.
func (l *Locker) remoteCheck(ctx context.Context, p RemoteParams, a *answer) (any, error) {
	names, list, err := l.remotes.get(p.Name)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, failed("add one with 'locker remote add NAME SPEC'", "there is no remote")
	}
	l.remotes.try()
	var errs []string
	var next string
	for i, o := range list {
		r, err := o.check(ctx, p.Quick)
		if err != nil {
			e := asError(notReady(o.spec(), err))
			errs, next = append(errs, names[i]+": "+e.Message), e.Next
			continue
		}
		row := RemoteCheck{Name: names[i], Report: r}
		if err := a.now(row); err != nil {
			return nil, err
		}
	}
	if errs != nil {
		return nil, failed(next, "%s", strings.Join(errs, "\n"))
	}
	return nil, nil
}

// confirm checks the passphrase again before the locker gives something away.
func (l *Locker) confirm(passphrase string) error {
	if l.device.Protection != byPassphrase {
		return nil
	}
	if passphrase == "" {
		return refused("run it in a terminal, or name a file with --passphrase-file", "this needs the passphrase again")
	}
	_, err := unprotect(l.device.Secret, passphrase)
	return err
}
