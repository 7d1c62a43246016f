package replica

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// A device joins through the remote: one that is a member shows a code, and the
// other, which knows the remote and the code and nothing else, meets it at names
// that follow from the public half of the code. What is said there, and why it is
// safe, is in package crypto (pair.go); this file carries the messages. They are
// deleted at the end, or by a pass after the invitation has expired.

const (
	meetObjects = 5
	meetSize    = 4096
	// meetFor is how long an invitation is good, and meetFind how long the other side
	// looks for one: a cloud may show it late.
	meetFor  = 10 * time.Minute
	meetFind = time.Minute
	// meetEvery is the time between two looks at the remotes.
	meetEvery = time.Second
	// meetTries is how many codes are tried whose meeting place is in use.
	meetTries = 8
	// meetBear is how often in a row a look at a remote may fail.
	meetBear = 10
	// meetEnd bounds what is still said when a meeting ends.
	meetEnd = 10 * time.Second
)

var (
	// ErrNoInvitation says that there is no invitation on the remote for a code.
	ErrNoInvitation = errors.New("there is no invitation for this code on the remote: check the number and the remote, or make a new code")
	// ErrExpired says that the time of an invitation is over.
	ErrExpired = errors.New("the invitation has expired; make a new one")
	// ErrNotAdmitted says that the device that invited this one has not admitted it.
	ErrNotAdmitted = errors.New("the other device did not admit this one; make a new code there")

	errMeetingUsed = errors.New("somebody meets at the place of this code already")
)

// An Inviter is this device's side of one meeting; crypto.Inviter is the one
// implementation. An error of Answer or Request that has a method NotYet() bool and
// returns true from it says that the message is not whole yet. After any other the
// code is used up.
type Inviter interface {
	// Name is the name of the object with message n, 0 to 4.
	Name(n int) string
	// Hello is message 0. Answer takes message 1 and returns message 2, and what the
	// other device calls itself; with an error, what is to be said instead, or nil.
	Hello() []byte
	Answer(message []byte) (reply []byte, name string, err error)
	// Request takes message 3 and returns what Sealer.Admit takes; Outcome is message
	// 4, with the number of the epoch for the other device.
	Request(message []byte) ([]byte, error)
	Outcome(epoch uint64) ([]byte, error)
	// Fingerprint is what both screens show. Refuse ends the meeting instead of a
	// message.
	Fingerprint() string
	Refuse() []byte
}

// A Joiner is the side of the device that joins; crypto.Joiner is the one
// implementation. Errors are as of Inviter.
type Joiner interface {
	Name(n int) string
	// Answer takes message 0 and returns message 1, Enter takes 2, Request is 3, and
	// Outcome takes 4, with the number of the inviter's epoch for this device.
	Answer(message []byte) ([]byte, error)
	Enter(message []byte) error
	Request() ([]byte, error)
	Outcome(message []byte) (epoch uint64, err error)
	Fingerprint() string
	Refuse() []byte
}

// A Candidate is a device that showed that it has the code.
type Candidate struct {
	Name        string
	Fingerprint string // both screens show it
}

// InviteOptions say how [Replica.Invite] deals with the owner. All may be nil.
type InviteOptions struct {
	// Show is called when the invitation is on a remote: now the code works, until
	// that time.
	Show func(until time.Time) error
	// Ask is called before a device is admitted; an error refuses it.
	Ask      func(ctx context.Context, c Candidate) error
	Progress Progress
	// Every is the time between two looks at the remotes; zero is a second.
	Every time.Duration
}

// Invited says which device joined.
type Invited struct {
	Candidate
	// Summary is of the pass that admitted it.
	Summary Summary
}

// Invite lets one other device join: it puts an invitation on the remotes, waits
// for up to ten minutes until a device answers that has the code, and admits it.
// begin makes a meeting with a new code, and is called again where the place of the
// code is in use. When ctx ends the other device is told so. Nothing that is
// secret is handed over before both sides showed that they have the code, and an
// invitation serves for one attempt. Cut off at any point this device has admitted
// the other or not, and the next pass goes on with what is left.
func (r *Replica) Invite(ctx context.Context, begin func() (Inviter, error), o InviteOptions) (Invited, error) {
	if !r.getSelf().Joined {
		return Invited{}, errors.New("this device is not part of a locker yet")
	}
	if !r.inviting.TryLock() {
		return Invited{}, errors.New("this device is inviting another one already; end that first")
	}
	defer r.inviting.Unlock()
	m := &meet{links: r.newLinks(), every: o.Every, clock: r.clock}
	if len(m.links) == 0 {
		return Invited{}, ErrNoRemote
	}
	in, err := r.openMeeting(ctx, m, begin)
	if err != nil {
		return Invited{}, err
	}
	if o.Show != nil {
		err = o.Show(m.until)
	}
	var done Invited
	if err == nil {
		done, err = r.host(ctx, m, in, o)
	}
	if err != nil {
		r.closeMeeting(ctx, m, in.Name, in.Refuse())
	}
	return done, err
}

// A meetNote is a meeting whose objects are to be deleted.
type meetNote struct {
	Names []string        `json:"names"`
	Until int64           `json:"until"`          // ms
	Done  map[string]bool `json:"done,omitempty"` // remotes on which they are
}

// openMeeting puts the invitation.
func (r *Replica) openMeeting(ctx context.Context, m *meet, begin func() (Inviter, error)) (Inviter, error) {
	for range meetTries {
		in, err := begin()
		if err != nil {
			return nil, err
		}
		m.name, m.until = in.Name, m.clock().Add(meetFor)
		n := notes{}
		n.set("meet/"+in.Name(0), meetNote{Names: m.names(), Until: m.until.UnixMilli()})
		if err := r.state.SetNotes(ctx, n); err != nil {
			return nil, err
		}
		err = m.hello(ctx, in.Hello())
		if err == nil {
			return in, nil
		}
		if !errors.Is(err, errMeetingUsed) {
			return nil, err
		}
		if err := r.state.SetNotes(ctx, notes{"meet/" + in.Name(0): nil}); err != nil {
			return nil, err
		}
	}
	return nil, errMeetingUsed
}

// host is the part of Invite from the invitation on.
func (r *Replica) host(ctx context.Context, m *meet, in Inviter, o InviteOptions) (Invited, error) {
	var done Invited
	o.Progress.tell("waiting for the other device", 0, 0)
	m.next = 2
	err := m.await(ctx, 1, func(message []byte) (err error) {
		var reply []byte
		reply, done.Name, err = in.Answer(message)
		if reply != nil {
			err = errors.Join(err, m.put(ctx, 2, reply))
		}
		return err
	})
	if err != nil {
		return done, err
	}
	done.Fingerprint, m.next = in.Fingerprint(), 4
	var request []byte
	err = m.await(ctx, 3, func(message []byte) (err error) {
		request, err = in.Request(message)
		return err
	})
	if err == nil && o.Ask != nil {
		err = o.Ask(ctx, done.Candidate)
	}
	if err != nil {
		return done, err
	}
	var admitted bool
	done.Summary, admitted, err = r.admit(ctx, request, o.Progress)
	if err != nil {
		m.said[4] = admitted // not refused: a later pass tells the remotes
		return done, err
	}
	outcome, err := in.Outcome(r.sealer.Epochs()[r.sealer.Device()])
	if err == nil {
		err = m.put(ctx, 4, outcome)
	}
	if err != nil { // it is admitted, and finds that out without this message too
		r.log.Warn("the device that joined could not be told", "err", err)
	}
	return done, nil
}

// admit makes another device a member, and sees to it that a remote knows.
func (r *Replica) admit(ctx context.Context, request []byte, progress Progress) (s Summary, admitted bool, err error) {
	p, end, err := r.begin(ctx, SyncOptions{Progress: progress})
	if err != nil {
		return s, false, err
	}
	defer end()
	admitted, err = p.admit(ctx, request)
	s, err = p.finish(ctx, err)
	return s, admitted, err
}

func (p *pass) admit(ctx context.Context, request []byte) (admitted bool, err error) {
	if p.cloned != nil {
		return false, p.cloned
	}
	if err := p.pull(ctx); err != nil { // who is a member now
		return false, err
	}
	if err := p.checkClones(ctx); err != nil {
		return false, err
	}
	if p.allFailed() {
		return false, p.reachError()
	}
	payload, err := p.sealer.Admit(request)
	if err != nil {
		return false, err
	}
	if err := p.sealMember(ctx, payload); err != nil {
		return false, err
	}
	if err := p.push(ctx); err != nil {
		return true, err
	}
	if p.allFailed() {
		return true, p.reachError()
	}
	return true, nil
}

// sealMember puts a statement of this device about another into the outbox, and
// counts it once it is durable. The epoch that it calls for, and an entry that
// names it, are made when this pass pushes, or the next one.
func (p *pass) sealMember(ctx context.Context, payload []byte) error {
	self, n := p.getSelf(), notes{}
	epoch, err := p.newEpoch(self, n)
	if err == nil && len(epoch) > 0 {
		err = p.stage(ctx, self, n, epoch...)
	}
	if err != nil {
		return err
	}
	self, n = p.getSelf(), notes{}
	ref := Ref{Kind: "member", Writer: self.Device, Number: self.Member + 1}
	log := p.newHeader(self).encode()
	object, id, err := p.sealer.Seal(ref, log, p.codec.compress(nil, payload))
	if err != nil {
		return fmt.Errorf("sealing what this device says of another: %w", err)
	}
	self.Member, self.Tell = ref.Number, true
	n.set("member/"+p.sealer.Name(ref)+"/"+id, memberNote{Ref: ref, ID: id, Log: log, Payload: payload})
	if err := p.stage(ctx, self, n, staged{ref, id, object}); err != nil {
		return err
	}
	p.statements[id] = true
	_, err = p.sealer.Absorb(ref, id, log, payload)
	return err
}

// newLinks are the remotes as they are now, for one task.
func (r *Replica) newLinks() []*link {
	r.mu.Lock()
	defer r.mu.Unlock()
	var links []*link
	for _, named := range r.remotes {
		links = append(links, &link{Named: named, count: &counts{}})
	}
	return links
}

// closeMeeting says that this side gave up, unless the other was told already why.
// What was put is deleted later: the other side is to read it.
func (r *Replica) closeMeeting(ctx context.Context, m *meet, name func(int) string, refuse []byte) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), meetEnd)
	defer cancel()
	for _, l := range m.links {
		err := l.delete(ctx, name(0))
		if err == nil && !m.said[m.next] {
			err = l.put(ctx, name(m.next), refuse)
		}
		if err != nil {
			r.log.Warn("an invitation stays on the remote until the next pass after it expired", "remote", l.Name, "err", err)
		}
	}
}

// cleanMeetings deletes what is left of this device's invitations that are over.
func (p *pass) cleanMeetings(ctx context.Context) error {
	n := notes{}
	err := p.eachNote(ctx, "meet/", func(key string, value []byte) error {
		var note meetNote
		if err := json.Unmarshal(value, &note); err != nil || p.now() < note.Until {
			return err
		}
		switch gone, changed := p.cleanMeeting(ctx, &note); {
		case gone:
			n["meet/"+key] = nil
		case changed:
			n.set("meet/"+key, note)
		}
		return ctx.Err()
	})
	if err != nil || len(n) == 0 {
		return err
	}
	return p.state.SetNotes(ctx, n)
}

// cleanMeeting deletes what is left of one meeting, and says whether it is gone from
// all remotes, and from more than before.
func (p *pass) cleanMeeting(ctx context.Context, note *meetNote) (gone, changed bool) {
	if note.Done == nil {
		note.Done = map[string]bool{}
	}
	gone = true
	for _, l := range p.links {
		if !note.Done[l.Name] && l.sure && l.failed() == nil {
			for _, name := range note.Names {
				if l.delete(ctx, name) != nil {
					break
				}
			}
			note.Done[l.Name] = l.failed() == nil && ctx.Err() == nil
			changed = changed || note.Done[l.Name]
		}
		gone = gone && note.Done[l.Name]
	}
	return gone, changed
}

// MeetOptions say how [Meet] deals with the owner and the disk.
type MeetOptions struct {
	// Keep is called once the keys of the new device are there, and before the other
	// device can admit it: it makes them durable.
	Keep func() error
	// Show is called with what both screens show. It may be nil.
	Show     func(fingerprint string)
	Progress Progress
	// Every is the time between two looks at the remotes; zero is a second.
	Every time.Duration
	// Find is how long an invitation is looked for; zero is a minute.
	Find time.Duration
	// Clock tells the time; nil is time.Now.
	Clock func() time.Time
}

// Meet is the side of a device that joins, up to where the other device has
// admitted it: then [Replica.Join] goes on, with the number of the epoch that Meet
// returns. When it fails after MeetOptions.Keep was called, the other device may
// have admitted this one all the same: Join tells.
func Meet(ctx context.Context, remotes []Named, j Joiner, o MeetOptions) (epoch uint64, err error) {
	m := &meet{every: o.Every, clock: o.Clock, name: j.Name}
	if m.clock == nil {
		m.clock = time.Now
	}
	for _, named := range remotes {
		m.links = append(m.links, &link{Named: named, count: &counts{}})
	}
	if len(m.links) == 0 {
		return 0, ErrNoRemote
	}
	epoch, err = m.join(ctx, j, o)
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), meetEnd)
	defer cancel()
	switch {
	case err == nil:
		m.deleteMost(end)
	case m.next > 0 && !m.ended && !m.said[m.next]:
		err = errors.Join(err, m.put(end, m.next, j.Refuse()))
	}
	return epoch, err
}

func (m *meet) join(ctx context.Context, j Joiner, o MeetOptions) (epoch uint64, err error) {
	o.Progress.tell("looking for the invitation", 0, 0)
	if o.Find == 0 {
		o.Find = meetFind
	}
	m.until = m.clock().Add(o.Find)
	var answer []byte
	err = m.await(ctx, 0, func(message []byte) error {
		answer, err = j.Answer(message)
		return err
	})
	if errors.Is(err, ErrExpired) {
		return 0, ErrNoInvitation
	}
	if err != nil {
		return 0, err
	}
	m.until, m.next = m.clock().Add(meetFor), 1
	if err := m.put(ctx, 1, answer); err != nil {
		return 0, err
	}
	m.next = 3
	o.Progress.tell("waiting for the other device", 0, 0)
	if err := m.await(ctx, 2, j.Enter); err != nil {
		return 0, err
	}
	if err := o.Keep(); err != nil {
		return 0, err
	}
	request, err := j.Request()
	if err == nil {
		err = m.put(ctx, 3, request)
	}
	if err != nil {
		return 0, err
	}
	if o.Show != nil {
		o.Show(j.Fingerprint())
	}
	o.Progress.tell("waiting to be admitted", 0, 0)
	err = m.await(ctx, 4, func(message []byte) error {
		epoch, err = j.Outcome(message)
		return err
	})
	return epoch, err
}

// A meet carries the messages of one meeting.
type meet struct {
	links []*link // those that are still looked at
	name  func(n int) string
	every time.Duration
	clock func() time.Time
	until time.Time
	next  int // what this side says next
	said  [meetObjects]bool
	ended bool // by the other side, or because what it said is wrong

	troubles int // looks that failed since one did not
}

func (m *meet) names() (names []string) {
	for n := range meetObjects {
		names = append(names, m.name(n))
	}
	return names
}

// hello puts the invitation on all remotes that work, where nobody meets already.
func (m *meet) hello(ctx context.Context, message []byte) error {
	for _, l := range m.links {
		for _, name := range m.names() {
			if there, err := l.has(ctx, name); err == nil && there {
				return errMeetingUsed
			}
			m.bear(l)
		}
	}
	m.said[0] = true
	return m.put(ctx, 0, message)
}

// put puts a message on the remotes that are looked at; one has to take it.
func (m *meet) put(ctx context.Context, n int, message []byte) error {
	m.said[n] = true
	for _, l := range m.links {
		if err := l.put(ctx, m.name(n), message); err != nil && ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return m.reachable()
}

// reachable fails where no remote works any more.
func (m *meet) reachable() error {
	errs := []error{ErrUnreachable}
	for _, l := range m.links {
		err := l.failed()
		if err == nil {
			return nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", l.Name, err))
	}
	return errors.Join(errs...)
}

// await looks for message n until take accepts one, or refuses it for good. From
// then on the meeting is on the remote where that message was.
func (m *meet) await(ctx context.Context, n int, take func(message []byte) error) error {
	for {
		for _, l := range m.links {
			message, err := l.getPart(ctx, m.name(n), meetSize)
			if err != nil {
				m.bear(l)
				continue // not there yet, or not to be had
			}
			err = take(message)
			var notYet interface{ NotYet() bool }
			if errors.As(err, &notYet) && notYet.NotYet() {
				continue
			}
			m.links, m.ended = []*link{l}, err != nil
			return err
		}
		if err := errors.Join(ctx.Err(), m.reachable()); err != nil {
			return err
		}
		if !m.clock().Before(m.until) {
			return ErrExpired
		}
		if err := sleep(ctx, m.every); err != nil {
			return err
		}
	}
}

// bear gives a remote another try that did not answer: a meeting is long, and a
// connection may be dropped meanwhile.
func (m *meet) bear(l *link) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		m.troubles = 0
	} else if m.troubles++; m.troubles < meetBear {
		l.err = nil
	}
}

// sleep waits until it is time for another look.
func sleep(ctx context.Context, d time.Duration) error {
	if d == 0 {
		d = meetEvery
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// deleteMost deletes the messages but number 2: who answered as well sees by it that
// another was taken. That one, and what stays, the inviter deletes later.
func (m *meet) deleteMost(ctx context.Context) {
	for _, l := range m.links {
		for n, name := range m.names() {
			if n != 2 && l.delete(ctx, name) != nil {
				break
			}
		}
	}
}

// meetingNames are the names at which this device meets another, or did.
func (p *pass) meetingNames(ctx context.Context) (names []string, err error) {
	return names, p.eachNote(ctx, "meet/", func(_ string, value []byte) error {
		var note meetNote
		err := json.Unmarshal(value, &note)
		names = append(names, note.Names...)
		return err
	})
}
