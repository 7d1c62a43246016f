package daemon

import (
	"math/rand/v2"
	"time"

	"github.com/locker-project/locker/daemon/replica"
)

// How the daemon paces itself. What was written here is sent when no more came for a
// moment, some twenty times in a row, and then, while writing goes on, every ten
// seconds. Other devices' changes are looked for often while something happens here, and
// ever more rarely afterwards, again after a share of the time that has passed since;
// the replica says how often for the sake of what happens elsewhere.
const (
	settle     = 100 * time.Millisecond
	settleMost = time.Second
	spaceLeast = time.Second
	spaceMost  = 10 * time.Second
	inARow     = 20

	pollShare = 40
	pollLeast = 750 * time.Millisecond
	pollAlone = 15 * time.Second
	pollBusy  = 40 * time.Minute // for so long it is often
	pollMost  = 27 * time.Minute
	pollAway  = 2 * time.Hour // after so long it looks at everything
	pollEarly = 0.2           // up to this part of it earlier, so that devices do not meet

	retryLeast = 2 * time.Second // after a pass that reached no remote, then ever later
	retryMost  = time.Minute

	fillFor = 5 * time.Second // how long a pass reads what a new device has not read yet

	ownNews = 2 * time.Second // for so long what a remote tells is what was sent
)

// A pace says when the next pass is due, and what it is to do.
type pace struct {
	started bool
	active  time.Time // when something last happened
	changed time.Time // the first change that is not sent; zero: there is none
	latest  time.Time // the newest one
	sent    time.Time
	left    float64 // how often more it may be sent in a row, after sent
	looked  time.Time
	within  time.Duration // how long the next look may wait
	least   time.Duration // how long it waits at least
	early   float64
	told    bool // a remote tells of news
	more    bool // this device is new, and has not read all yet
	failed  time.Time
	retry   time.Duration // zero: the last pass reached a remote
}

func newPace(now time.Time) *pace {
	return &pace{active: now, left: inARow, within: pollMost, least: pollLeast}
}

// act notes that the person does something.
func (p *pace) act(now time.Time) { p.active = now }

// change notes that there is something to send.
func (p *pace) change(now time.Time) {
	if p.changed.IsZero() {
		p.changed = now
	}
	p.active, p.latest = now, now
}

// tell notes that a remote tells of news.
func (p *pace) tell(now time.Time) {
	if now.Sub(p.sent) > ownNews {
		p.told = true
	}
}

// next is when a pass is due.
func (p *pace) next() time.Time {
	if !p.started {
		return p.active
	}
	at := p.lookAt()
	if p.more {
		at = p.looked
	}
	if send := p.sendAt(); !p.changed.IsZero() && (send.Before(at) || send.Sub(p.latest) <= settleMost) {
		at = send // what was written goes first
	}
	if again := p.failed.Add(p.retry); p.retry > 0 && again.After(at) {
		at = again
	}
	return at
}

// lookAt is when other devices' logs are next looked at.
func (p *pace) lookAt() time.Time {
	if p.told {
		return p.looked.Add(pollLeast)
	}
	wait := min(p.within, pollMost)
	if quiet := p.looked.Sub(p.active); quiet < pollBusy {
		wait = min(wait, max(quiet/pollShare, p.least))
	}
	return p.looked.Add(time.Duration(float64(wait) * (1 - p.early)))
}

// sendAt is when the changes that wait are sent.
func (p *pace) sendAt() time.Time {
	at := p.latest.Add(settle)
	if most := p.changed.Add(settleMost); most.Before(at) {
		at = most
	}
	space := max(spaceLeast, time.Duration((1-p.left)*float64(spaceMost)))
	if next := p.sent.Add(space); next.After(at) {
		at = next
	}
	return at
}

// due says whether a pass is due now, and what it does. The first looks at everything
// that is new.
func (p *pace) due(now time.Time) (o replica.SyncOptions, due bool) {
	o.For = fillFor
	if now.Before(p.next()) || !p.started {
		return o, !p.started
	}
	if now.Round(0).Sub(p.looked.Round(0)) >= pollAway { // on the wall: it was asleep
		return o, true
	}
	o.Hold = true
	if !p.changed.IsZero() && !now.Before(p.sendAt()) {
		o.Push = true
		return o, true
	}
	o.Told, o.Pull = p.told, !p.changed.IsZero()
	return o, true
}

// passed notes what came of a pass that ended now.
func (p *pace) passed(now time.Time, o replica.SyncOptions, s replica.Summary, err error) {
	p.started = true
	if err != nil {
		p.failed, p.retry = now, min(max(2*p.retry, retryLeast), retryMost)
		return
	}
	p.retry = 0
	if !p.changed.IsZero() && !o.Pull {
		p.left = min(inARow, p.left+float64(now.Sub(p.sent))/float64(spaceMost)) - 1
		p.sent, p.changed = now, time.Time{}
	}
	if o.Push {
		return
	}
	p.more = s.More
	p.looked, p.told, p.early = now, false, pollEarly*rand.Float64()
	if s.Within > 0 {
		p.within, p.least = s.Within, pollLeast
		if s.Alone {
			p.least = pollAlone
		}
	}
}
