package gate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/locker-project/locker/daemon/store"
	"github.com/locker-project/locker/manifests"
	"github.com/locker-project/locker/plugins/locker"
)

// A Session is one run of an app under a grant. Close it.
type Session struct {
	gate  *Gate
	app   App
	grant manifests.Grant
	view  locker.View // the store, narrowed

	ctx    context.Context
	cancel context.CancelCauseFunc
	over   atomic.Bool // ctx has ended: cheap to ask for each row
	expiry *time.Timer

	mu      sync.Mutex
	refused map[string]*entry // denials, by what was asked
}

// Open begins a run of an app under its latest grant that works here and now. The
// error is [ErrNoGrant] where there is none.
func (g *Gate) Open(ctx context.Context, app string) (*Session, error) {
	a, err := g.App(ctx, app)
	if err != nil {
		return nil, err
	}
	grant, err := g.resolve(ctx, a)
	if err != nil {
		line := AuditLine{Time: g.time.Now().UTC(), App: a.Manifest.ID, Fields: []string{}, Decision: Denied, Verb: "open", Why: err.Error()}
		return nil, errors.Join(err, g.audit.write(entry{AuditLine: line}))
	}
	s := &Session{gate: g, app: a, grant: grant, refused: map[string]*entry{}}
	s.ctx, s.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	context.AfterFunc(s.ctx, func() { s.over.Store(true) })
	s.expiry = time.AfterFunc(grant.Expires.Sub(g.time.Now()), func() { s.end(locker.ErrRevoked) })
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.state.revoked[grant.ID] != "" { // meanwhile
		s.end(locker.ErrRevoked)
		s.expiry.Stop()
		return nil, noGrant("the grant %s of %s is revoked", grant.ID, app)
	}
	if g.views[grant.ID] == nil {
		// What the app writes names its grant as its source: what the grant let it
		// read is what that was made from.
		author := store.Author{Class: store.Source, Source: "apps/" + grant.App + "/" + grant.ID}
		g.views[grant.ID] = manifests.Limit(g.Store.View(author), grant, g.time.Now)
	}
	s.view = g.views[grant.ID]
	g.sessions[s] = struct{}{}
	if !g.watching {
		g.watching = true
		go g.watch()
	}
	return s, nil
}

// View is what the app may read and write. After the session has ended everything
// is [locker.ErrRevoked].
func (s *Session) View() locker.View { return gated{s} }

// Grant is the grant under which the app runs.
func (s *Session) Grant() manifests.Grant { return s.grant }

// Context ends when the grant is revoked or expires, with [locker.ErrRevoked] as
// its cause, and when the session is closed.
func (s *Session) Context() context.Context { return s.ctx }

// Close ends the session.
func (s *Session) Close() error {
	s.end(context.Canceled)
	s.expiry.Stop()
	s.gate.mu.Lock()
	delete(s.gate.sessions, s)
	s.gate.mu.Unlock()
	s.mu.Lock()
	for _, e := range s.refused {
		if e.Times > 1 {
			s.gate.audit.later(*e)
		}
	}
	clear(s.refused)
	s.mu.Unlock()
	return s.gate.audit.flush()
}

func (s *Session) end(cause error) {
	s.cancel(cause)
	s.over.Store(true)
}

// watchEvery is how often the grants are read while an app runs, so that a
// revocation that came from another device acts on what is going on.
const watchEvery = 200 * time.Millisecond

// watch cuts what is revoked elsewhere, as long as there are sessions.
func (g *Gate) watch() {
	for {
		time.Sleep(watchEvery)
		g.mu.Lock()
		if g.watching = len(g.sessions) > 0; !g.watching {
			g.mu.Unlock()
			return
		}
		g.mu.Unlock()
		if err := g.Refresh(context.Background()); err != nil {
			// Who cannot know whether a grant still stands goes by that it does not.
			g.Logger.Error("cannot read the grants; apps are stopped", "error", err)
			g.cut(func(*Session) bool { return true })
		}
	}
}

// cut ends sessions.
func (g *Gate) cut(which func(*Session) bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for s := range g.sessions {
		if which(s) {
			s.end(locker.ErrRevoked)
		}
	}
}

// cutEnded ends the sessions whose grant does not stand any more.
func (g *Gate) cutEnded(book *grantBook) {
	g.cut(func(s *Session) bool { return !g.stands(book, s.grant.ID) })
	g.mu.Lock()
	defer g.mu.Unlock()
	for id := range g.views {
		if !g.stands(book, id) {
			delete(g.views, id)
		}
	}
}

// stands says whether a grant is active, here and now.
func (g *Gate) stands(book *grantBook, id string) bool {
	grant, ok := book.find(id)
	return ok && g.stateOf(book, grant).State == Active
}

// A call is one call of an app, from the decision to the audit line.
type call struct {
	s     *Session
	entry entry
	ctx   context.Context
	stop  func()
	open  bool // the first entry of two is written
}

// begin decides about a call. Every method of the view calls it first.
func (s *Session) begin(ctx context.Context, line AuditLine) (*call, error) {
	line.Time, line.App, line.Grant = s.gate.time.Now().UTC(), s.grant.App, s.grant.ID
	line.Fields = clip(line.Fields)
	line.Collection, line.Where = clipText(line.Collection), clipText(line.Where)
	c := &call{s: s, entry: entry{AuditLine: line}}
	if err := s.decide(ctx, line); err != nil {
		return nil, c.refuse(err)
	}
	c.entry.Purpose = s.purpose(line.Collection)
	if len(c.entry.Fields) == 0 {
		c.entry.Fields = s.fields(line.Collection)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	release := context.AfterFunc(s.ctx, func() { cancel(context.Cause(s.ctx)) })
	c.ctx, c.stop = ctx, func() { release(); cancel(nil) }
	return c, nil
}

// decide finds out whether the grant stands, now.
func (s *Session) decide(ctx context.Context, line AuditLine) error {
	if s.over.Load() {
		return locker.ErrRevoked
	}
	book, err := s.gate.reload(ctx)
	if err != nil {
		s.gate.Logger.Error("cannot read the grants", "error", err)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return errUnavailable
	}
	if s.over.Load() || !s.gate.stands(book, s.grant.ID) {
		return locker.ErrRevoked
	}
	if collection, missing := uncovered(book, s.grant); collection != "" && collection == line.Collection && line.Verb != "put" {
		s.gate.Logger.Warn("a derived collection is not shown", "app", s.grant.App, "collection", collection, "missing", missing)
		return &locker.Denied{Collection: collection, Verb: "read"}
	}
	return nil
}

var errUnavailable = errors.New("the locker could not do this; its own log says why")

// purpose is the purpose for which the grant gives a collection.
func (s *Session) purpose(collection string) string {
	for _, r := range s.grant.Reads {
		if r.Collection == collection {
			return strings.Join(r.Purpose, ", ")
		}
	}
	return ""
}

func (s *Session) fields(collection string) []string {
	for _, r := range s.grant.Reads {
		if r.Collection == collection {
			return r.Fields
		}
	}
	return []string{}
}

// refuse notes a call that was not allowed, or failed, and returns the error. The
// same refusal is written at once only the first time; how often it came is written
// when the session ends, so that a flood of them does not fill the log.
func (c *call) refuse(err error) error {
	e := c.entry
	e.Decision, e.Why = Denied, clipText(err.Error())
	key := strings.Join([]string{e.Verb, e.Collection, e.Why}, "\x00")
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if len(c.s.refused) >= maxRefused && c.s.refused[key] == nil {
		key = ""
	}
	if before := c.s.refused[key]; before != nil {
		before.Times++
		return err
	}
	e.Times = 1
	kept := e
	c.s.refused[key] = &kept
	e.Times = 0
	c.s.gate.audit.later(e)
	return err
}

// maxRefused is how many different refusals of a session are told apart.
const maxRefused = 500

// record makes the call's only entry durable, or the first of two. Nothing goes out
// before it returns nil.
func (c *call) record(whole bool) error {
	e := c.entry
	e.Decision = Allowed
	if !whole {
		c.entry.Read = c.s.gate.audit.start()
		e.Read, e.Decision, e.Rows, e.Bytes = c.entry.Read, opened, 0, 0
		c.open = true
	}
	if err := c.s.gate.audit.write(e); err != nil {
		c.s.gate.Logger.Error("cannot write the audit log; nothing is given out", "error", err)
		return errUnavailable
	}
	return nil
}

// end closes the call: it writes the second entry where there was a first.
func (c *call) end(err error) {
	c.stop()
	if !c.open {
		return
	}
	e := c.entry
	e.Ended, e.Decision = true, Allowed
	switch {
	case c.s.over.Load() && err != nil:
		e.Decision = Cut
	case err != nil:
		e.Why = clipText(err.Error())
		if e.Verb == "put" && refusal(err) {
			e.Decision = Denied
		}
	}
	c.s.gate.audit.later(e)
}

// failed turns an error of the narrowed view into the app's, and writes it down
// where it is a refusal.
func (c *call) failed(err error) error {
	if c.s.over.Load() {
		err = locker.ErrRevoked
	}
	if !c.open && refusal(err) {
		return c.refuse(err)
	}
	return err
}

// refusal says whether an error is a no, rather than a failure.
func refusal(err error) bool {
	var denied *locker.Denied
	return errors.As(err, &denied) || errors.Is(err, locker.ErrRevoked) || errors.Is(err, locker.ErrInvalid)
}

// Texts and lists of an app are clipped in the log.
const (
	maxClip = 500
	maxList = 64
)

func clipText(s string) string {
	if len(s) > maxClip {
		return strings.ToValidUTF8(s[:maxClip], "") + "…"
	}
	return s
}

func clip(list []string) []string {
	out := make([]string, 0, min(len(list), maxList+1))
	for i, s := range list {
		if i == maxList {
			return append(out, fmt.Sprintf("… and %d more", len(list)-maxList))
		}
		out = append(out, clipText(s))
	}
	return slices.Clip(out)
}
