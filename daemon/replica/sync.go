package replica

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// How often logs are looked at by passes that nobody asked for (see Summary.Within):
// while its news flows ever more rarely, again after a share of the time since they
// came; then so that each has its turn within ten minutes.
const (
	lookShare = 40
	lookLeast = 750 * time.Millisecond
	lookFlows = 40 * time.Minute // for so long news flows
	lookMost  = 8 * time.Minute
	doorEvery = 3 * lookMost // whether a device has joined
	doorSpare = time.Minute  // where passes are more frequent than planned
	fullEvery = 24 * time.Hour
	hurry     = 1000
	markLook  = time.Hour          // whether the next mark of a log is there
	markAway  = 6 * 60 * 60 * 1000 // ms: who was away for so long searches the newest
	noteEvery = 10 * time.Minute   // how a remote does: a disk may sleep
)

// A pass is one piece of work with the remotes.
type pass struct {
	*Replica
	o         SyncOptions
	restoring bool // epochs are read as the phrase
	early     early
	fresh     bool // this device is new, and has nothing to put again
	links     []*link
	counts    counts
	summary   Summary

	away        int64 // since the pass before, ms
	readings    map[string]*reading
	dirty       map[string]bool // peers whose notes changed beside any entry
	membersRead bool
	blocked     bool            // a membership statement is named that is not there: no new data
	gaveUp      atomic.Bool     // what was in a lost pack is to be packed again
	lost        bool            // a remote has not what it is known to have had
	healed      map[string]bool // remotes that were looked through for what they lost
	doorProblem error
	entries     int
	mended      atomic.Int64 // objects that were put again
	buffers     sync.Pool
	progress    chan struct{} // a line of the outbox was sent, or sending ended
	pack        *openPack     // the pack that is being read
	spare       []byte        // memory for the next one

	wakers []chan struct{} // one for each remote that is being sent to
}

// begin starts a pass. It returns the pass and what ends it.
func (r *Replica) begin(ctx context.Context, o SyncOptions) (*pass, func(), error) {
	r.pass.Lock()
	if err := ctx.Err(); err != nil { // it ended while another pass went on
		r.pass.Unlock()
		return nil, nil, err
	}
	p := &pass{Replica: r, o: o, readings: map[string]*reading{}, dirty: map[string]bool{}, healed: map[string]bool{}, progress: make(chan struct{}, 1)}
	r.mu.Lock()
	for _, named := range r.remotes {
		p.links = append(p.links, &link{Named: named, count: &p.counts})
	}
	r.mu.Unlock()
	if len(p.links) == 0 {
		r.pass.Unlock()
		return nil, nil, ErrNoRemote
	}
	if err := r.beSureOfSelf(ctx); err != nil {
		r.pass.Unlock()
		return nil, nil, err
	}
	self, now := r.getSelf(), r.now()
	if self.Last != 0 && now > self.Last {
		self.Ran += min(now-self.Last, runningMost.Milliseconds())
	}
	if self.Last != 0 {
		p.away = now - self.Last
	}
	self.Last = now
	r.remember(self)
	return p, func() {
		p.early.group.Wait()
		r.cool()
		if err := r.codec.rest(); err != nil {
			r.log.Warn("memory is not given up", "err", err)
		}
		r.pass.Unlock()
	}, nil
}

// remember changes the note of this device in memory: what is not worth a write of
// its own, and is written with the next one.
func (r *Replica) remember(self *selfNote) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.self = *self
}

// buffer returns memory for lines; release takes it back.
func (p *pass) buffer() []byte {
	if b, ok := p.buffers.Get().(*[]byte); ok {
		return *b
	}
	return nil
}

func (p *pass) release(b []byte) {
	if cap(b) > 0 {
		b = b[:0]
		p.buffers.Put(&b)
	}
}

// Sync is one pass: it reads what others wrote and puts what was written here. One
// remote that fails stops nothing; the error is [ErrUnreachable] when all do, and
// *[Cloned] when another copy of this device is in use. What is wrong with what the
// remotes hold is no error: it is in the summary.
//
// Where the cache is to hold all blobs, some of those that are not here are fetched
// after the pass; the next goes on.
func (r *Replica) Sync(ctx context.Context, o SyncOptions) (Summary, error) {
	s, err := r.syncOnce(ctx, o)
	if err == nil && !o.Push && !o.Metered {
		if err := r.fillCache(ctx, o.Full); err != nil {
			r.log.Warn("blobs could not be fetched", "err", err)
		}
	}
	return s, err
}

func (r *Replica) syncOnce(ctx context.Context, o SyncOptions) (Summary, error) {
	p, end, err := r.begin(ctx, o)
	if err != nil {
		return Summary{}, err
	}
	defer end()
	if !r.getSelf().Joined {
		return Summary{}, errors.New("this device is not part of a locker yet")
	}
	err = p.run(ctx)
	return p.finish(ctx, err)
}

func (p *pass) run(ctx context.Context) error {
	if p.cloned != nil {
		return p.cloned
	}
	switch self := p.getSelf(); {
	case self.Full == 0:
		self.Full = p.now()
		p.remember(self)
	case !p.o.Push && p.now()-self.Full >= fullEvery.Milliseconds():
		p.o.Full = true
	}
	if p.o.Push && slices.ContainsFunc(p.links, func(l *link) bool { return !p.checked[l.Name] }) {
		p.o.Push, p.o.Hold = false, true // before its first put a device reads
	}
	if err := errors.Join(p.inheritEdits(ctx), p.resumeEviction(ctx)); err != nil {
		return err
	}
	if err := p.pull(ctx); err != nil {
		return err
	}
	if out, err := p.expelled(ctx); err != nil {
		return err
	} else if out {
		return fmt.Errorf("%w: %s", ErrRemoved, p.whyOut(p.sealer.Device()))
	}
	if err := p.checkClones(ctx); err != nil {
		return err
	}
	if p.allFailed() {
		return p.reachError()
	}
	if err := p.push(ctx); err != nil {
		return err
	}
	if err := p.cleanMeetings(ctx); err != nil {
		return err
	}
	if err := p.letGo(ctx); err != nil {
		return err
	}
	if err := p.purged(ctx); err != nil {
		return err
	}
	if err := p.trimBlobs(ctx); err != nil {
		return err
	}
	if !p.o.Full && !p.lost || p.fresh {
		return nil
	}
	if err := p.heal(ctx); err != nil || !p.o.Full {
		return err
	}
	if err := p.repack(ctx); err != nil {
		return err
	}
	self := p.getSelf()
	self.Full = p.now()
	return p.setSelf(ctx, self, nil)
}

// pull reads what is new.
func (p *pass) pull(ctx context.Context) error {
	p.o.Progress.tell("looking for news", 0, 0)
	if out, err := p.expelled(ctx); err != nil {
		return err
	} else if out { // to learn whether it is back
		return p.readMembers(ctx, true)
	}
	switch {
	case p.getSelf().Fill != nil:
		return p.goOnFilling(ctx)
	case p.o.Push && !p.o.Full:
		return nil
	case p.o.Told && !p.o.Full:
		defer p.plan()
		return p.readAll(ctx, p.polled(), true)
	case p.o.Hold && !p.o.Full:
		return p.poll(ctx)
	case p.o.Full:
		if err := p.readMembersOnce(ctx); err != nil {
			return err
		}
		if err := p.readBad(ctx); err != nil {
			return err
		}
		if err := p.readMarks(ctx, true); err != nil {
			return err
		}
	default:
		if err := p.readMembers(ctx, false); err != nil {
			return err
		}
		if err := p.readMarks(ctx, p.away >= markAway); err != nil {
			return err
		}
	}
	if out, err := p.expelled(ctx); err != nil || out {
		return err
	}
	return p.readAll(ctx, p.everyone(), false)
}

// poll looks at one log, the one that is most overdue, or, when that is due or there
// is no other device, whether one has joined: one GET when there is nothing new,
// however many devices there are.
func (p *pass) poll(ctx context.Context) error {
	defer p.plan()
	doors := p.getSelf().Looked
	next, most := "", -1.0
	for _, device := range p.polled() {
		l := p.late(p.peer(device).Looked, p.lookAgain(device))
		if turn := p.late(p.peer(device).Looked, lookMost); turn >= 0.5 {
			l = max(l, hurry*turn) // many may be due at once, and news of one flow between
		}
		if l > most {
			next, most = device, l
		}
	}
	turn := p.late(doors, doorEvery)
	due := turn >= 1 && hurry*turn > most
	spare := p.late(doors, doorSpare) >= 1 && most < 0.5
	if next == "" || due || spare {
		return p.pollDoors(ctx)
	}
	if peer := p.peer(next); p.late(peer.Marked, markLook) >= 1 {
		return p.pollMark(ctx, next)
	}
	return p.readAll(ctx, []string{next}, true)
}

// pollMark looks whether there is a newer mark of a log: one GET when there is none.
// The entries before it may be gone, so that looking for the next one brings nothing.
func (p *pass) pollMark(ctx context.Context, device string) error {
	peer := p.peer(device)
	peer.Marked, peer.Looked = p.now(), p.now()
	h, err := p.mark(ctx, device, peer.Mark+1)
	if err != nil || h == nil {
		return err
	}
	p.noteMark(device, peer.Mark+1, h)
	if _, err := p.readMarksOf(ctx, device, false); err != nil {
		return err
	}
	return p.readAll(ctx, []string{device}, false)
}

// late says how late something is that is due so long after it was looked at: 1 is
// just now.
func (p *pass) late(looked int64, every time.Duration) float64 {
	return float64(p.now()-looked) / float64(every.Milliseconds())
}

// lookAgain is how long after a look at a log the next one is due.
func (p *pass) lookAgain(device string) time.Duration {
	silence := time.Duration(p.now()-p.peer(device).Spoke) * time.Millisecond
	if silence >= lookFlows {
		return lookMost
	}
	return max(silence/lookShare, lookLeast)
}

// plan says when the next look is due, so that none is late.
func (p *pass) plan() {
	rate, peers := 1/doorEvery.Seconds(), p.polled()
	p.summary.Alone = len(peers) == 0
	for _, device := range peers {
		rate += 1 / p.lookAgain(device).Seconds()
	}
	p.summary.Within = time.Duration(float64(time.Second) / rate)
}

// polled are the devices whose logs may go on.
func (p *pass) polled() []string {
	removed, members := p.sealer.Removed(), p.sealer.Members()
	return slices.DeleteFunc(p.everyone(), func(device string) bool {
		pin, ok := removed[device]
		done := ok && !slices.Contains(members, device) && p.peer(device).Read.N >= pin
		return done || device == p.sealer.Device()
	})
}

// pollDoors looks whether a device has joined: one GET when none has.
func (p *pass) pollDoors(ctx context.Context) error {
	news, err := p.readDoors(ctx, 1)
	if err != nil {
		return err
	}
	if news {
		return p.readMembersOnce(ctx)
	}
	self := p.getSelf()
	self.Looked = p.now()
	p.remember(self)
	return nil
}

// readMarks looks for newer marks of all: they tell of entries that are kept from this
// device, and of those whose next one is gone, since a base covers it.
func (p *pass) readMarks(ctx context.Context, thorough bool) error {
	for _, device := range p.polled() {
		if _, err := p.readMarksOf(ctx, device, thorough); err != nil {
			return err
		}
	}
	return nil
}

// readMarksOf looks for newer marks of a device: the next two, and from each that is
// there two more. Thorough is a search, for who was away or has heard nothing for long:
// the marks between may be deleted.
func (p *pass) readMarksOf(ctx context.Context, device string, thorough bool) (news bool, err error) {
	peer := p.peer(device)
	for next, last := peer.Mark+1, peer.Mark+2; next <= last; next++ {
		h, err := p.mark(ctx, device, next)
		if err != nil {
			return news, err
		}
		if h != nil {
			p.noteMark(device, next, h)
			news, last = true, next+2
		}
	}
	if thorough && !news && (peer.Mark == 0 || p.away >= markAway || p.now()-peer.News >= patience.Milliseconds()) {
		number, h, err := p.newestMark(ctx, device)
		if err != nil {
			return false, err
		}
		news = number > peer.Mark
		p.noteMark(device, number, h)
	}
	p.peer(device).Marked = p.now()
	return news, nil
}

func (p *pass) noteMark(device string, number uint64, h *header) {
	if h == nil {
		return
	}
	peer := p.peer(device)
	peer.Mark = max(peer.Mark, number)
	p.dirty[device] = true
	if _, out := p.sealer.PinOf(device); out && !p.without.pins {
		return // it may have been made after that, whatever it says
	}
	peer.Named = max(peer.Named, h.Entry.N)
	peer.adopts(h.Adopts, h.Entry.N)
	peer.stand(h, h.Entry.N)
	if h.Entry.N > peer.Read.N {
		peer.expect(h.Entry.N, h.Entry.ID)
	}
}

// checkClones looks, once for each remote and at every full pass, whether this
// device's own log goes on beyond what this device wrote. Nothing is put on a
// remote before.
func (p *pass) checkClones(ctx context.Context) error {
	for _, l := range p.links {
		if l.failed() != nil {
			continue
		}
		if (!p.checked[l.Name] || p.o.Full) && !p.without.cloneCheck {
			if err := p.checkClone(ctx, l); err != nil {
				return err
			}
			if err := p.checkLost(ctx, l); err != nil {
				return err
			}
		}
		if err := p.checkDoor(ctx, l, p.o.Full || !p.checked[l.Name]); err != nil {
			return err
		}
		l.sure = l.failed() == nil
		if l.sure {
			p.checked[l.Name] = true
		}
	}
	return nil
}

// checkLost looks for the newest entry that this device has put on a remote, and the
// newest that it has read of a peer. Where one is not there the remote may have been
// emptied or put back to an earlier state, and the pass looks for all that is lost.
func (p *pass) checkLost(ctx context.Context, l *link) error {
	var newest []Ref
	self := p.getSelf()
	var sent uint64
	if _, err := p.note(ctx, "sent/"+l.Name, &sent); err != nil {
		return err
	}
	for number := self.Entry.N; number > 0; number-- {
		var own logNote
		if ok, err := p.note(ctx, logKey(self.Device, number), &own); err != nil {
			return err
		} else if !ok {
			break // a base covers it, and all before
		}
		if own.Seq <= sent {
			newest = append(newest, Ref{Kind: "entry", Writer: self.Device, Number: number})
			break
		}
	}
	lively, news := "", int64(0)
	for _, device := range p.sealer.Members() { // who was removed may have deleted its own
		var known baseNote
		if _, err := p.note(ctx, baseKey(device), &known); err != nil {
			return err
		}
		if peer := p.peer(device); device != self.Device && peer.Read.N > known.Base.Upto.N && peer.News > news {
			lively, news = device, peer.News
		}
	}
	if lively != "" {
		newest = append(newest, Ref{Kind: "entry", Writer: lively, Number: p.peer(lively).Read.N})
	}
	for _, ref := range newest {
		there, err := l.has(ctx, p.sealer.Name(ref))
		if err != nil {
			return ctx.Err() // the remote is left alone
		}
		if !there {
			p.lost = true
		}
	}
	return nil
}

func (p *pass) checkClone(ctx context.Context, l *link) error {
	self := p.getSelf()
	var sent uint64
	if _, err := p.note(ctx, "sent/"+l.Name, &sent); err != nil {
		return err
	}
	numbers := []uint64{self.Entry.N + 1}
	for number := self.Entry.N; number > 0; number-- {
		var own logNote
		if _, err := p.note(ctx, logKey(self.Device, number), &own); err != nil {
			return err
		}
		if own.Seq <= sent {
			break
		}
		numbers = append(numbers, number)
	}
	if len(numbers) > 2 { // the first unsent one tells as much as those after it
		numbers = []uint64{numbers[0], numbers[len(numbers)-1]}
	}
	for _, number := range numbers {
		if err := p.checkOwn(ctx, l, self, number); err != nil {
			return err
		}
	}
	return nil
}

// checkOwn looks at one name of this device's log on a remote.
func (p *pass) checkOwn(ctx context.Context, l *link, self *selfNote, number uint64) error {
	ref := Ref{Kind: "entry", Writer: self.Device, Number: number}
	name := p.sealer.Name(ref)
	sealed, err := l.get(ctx, name)
	if err != nil {
		return ctx.Err() // not there, no object, or the remote is left alone
	}
	o, v := p.open(ref, sealed)
	if v == closed { // sealed to an epoch that the other copy made
		if _, err := p.readEpochs(ctx, self.Device, true); err != nil {
			return err
		}
		o, v = p.open(ref, sealed)
	}
	key := fmt.Sprintf("own/%d", number)
	if v != found && number <= self.Entry.N {
		return nil // an upload of this device that was cut, to be put again
	}
	if v != found {
		return p.wait(ctx, key, waitNote{
			Kind: "bad", Object: name, Device: self.Device, Number: number,
			What: fmt.Sprintf("under the name of entry %d of this device the remote has something else: %v", number, o.why),
			Do:   "nothing: the next entry replaces it",
		})
	}
	var own logNote
	if ok, err := p.note(ctx, logKey(self.Device, number), &own); err != nil {
		return err
	} else if ok && own.ID == o.id {
		return p.clear(ctx, key) // an upload that happened though it failed
	}
	return p.foundClone(ctx, name, number)
}

// push seals what is new here and sends it, both at the same time.
func (p *pass) push(ctx context.Context) error {
	var group sync.WaitGroup
	var errs []error
	var mu sync.Mutex
	for _, l := range p.links {
		if !l.sure || l.failed() != nil {
			continue
		}
		wake := make(chan struct{}, 1)
		p.wakers = append(p.wakers, wake)
		l.sending = true
		group.Go(func() {
			err := p.keepSending(ctx, l, wake)
			if err != nil && l.failed() == nil {
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, fmt.Errorf("remote %s: %w", l.Name, err))
			}
		})
	}
	p.wake()
	err := p.seal(ctx)
	for _, wake := range p.wakers {
		close(wake)
	}
	group.Wait()
	p.wakers = nil
	if err == nil && ctx.Err() == nil {
		_, err = p.dropHeld(ctx)
	}
	return errors.Join(append(errs, err)...)
}

// seal seals all that there is to seal.
func (p *pass) seal(ctx context.Context) error {
	if p.o.Pull && !p.o.Full {
		return nil
	}
	p.o.Progress.tell("sealing", 0, 0)
	self, n := p.getSelf(), notes{}
	objects, err := p.newEpoch(self, n)
	if err != nil {
		return err
	}
	if len(objects) > 0 {
		if err := p.stage(ctx, self, n, objects...); err != nil {
			return err
		}
		p.wake()
	}
	if err := p.publishAgain(ctx); err != nil {
		return err
	}
	if err := p.packBlobs(ctx); err != nil {
		return err
	}
	if ok, err := p.consent(ctx); err != nil || !ok {
		return err
	}
	if err := p.tidyPacks(ctx); err != nil {
		return err
	}
	if err := p.compact(ctx); err != nil {
		if err := p.notCompacted(ctx, err); err != nil {
			return err
		}
	}
	if err := p.purge(ctx); err != nil {
		if err := p.notPurged(ctx, err); err != nil {
			return err
		}
	}
	return p.sealEntries(ctx)
}

// wake tells those who send that there is more.
func (p *pass) wake() {
	for _, wake := range p.wakers {
		select {
		case wake <- struct{}{}:
		default:
		}
	}
}

// keepSending sends what is sealed until wake is closed.
func (p *pass) keepSending(ctx context.Context, l *link, wake <-chan struct{}) error {
	failed := errors.Join(p.mendAll(ctx, l), p.startLanes(ctx, l))
	for open := true; open; {
		_, open = <-wake
		if failed == nil {
			failed = p.sendTo(ctx, l, p.getSelf().Seq)
		}
		if failed != nil {
			l.endSending()
		}
		p.progressed()
		p.o.Progress.tell("sending", p.counts.bytesUp.Load(), 0)
	}
	if failed == nil {
		failed = p.sendLate(ctx, l)
	}
	return failed
}

// allFailed says whether no remote works.
func (p *pass) allFailed() bool {
	return !slices.ContainsFunc(p.links, func(l *link) bool { return l.failed() == nil })
}

// reachError tells why no remote works.
func (p *pass) reachError() error {
	errs := []error{ErrUnreachable}
	for _, l := range p.links {
		if err := l.failed(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", l.Name, err))
		}
	}
	return errors.Join(errs...)
}

// finish writes down how the pass went.
func (p *pass) finish(ctx context.Context, failed error) (Summary, error) {
	s := &p.summary
	s.ObjectsUp, s.ObjectsDown = int(p.counts.up.Load()), int(p.counts.down.Load())
	s.BytesUp, s.BytesDown, s.Requests = p.counts.bytesUp.Load(), p.counts.bytesDown.Load(), p.counts.requests.Load()
	s.Mended, s.Failed = int(p.mended.Load()), map[string]error{}
	if s.Mended > 0 {
		p.log.Warn("replica: put again what remotes had lost or damaged", "objects", s.Mended)
	}
	// What was learned is kept even when the pass was ended.
	keep := context.WithoutCancel(ctx)
	if err := p.beSureOfSelf(keep); err != nil {
		return *s, errors.Join(failed, err)
	}
	n := notes{}
	for device := range p.dirty {
		n.set(peerKey(device), p.peer(device))
	}
	self := p.getSelf()
	for _, l := range p.links {
		if err := l.failed(); err != nil {
			s.Failed[l.Name] = err
		}
		if err := p.noteRemote(keep, l, self, failed, n); err != nil {
			return *s, errors.Join(failed, err)
		}
	}
	if len(n) > 0 {
		if err := p.setSelf(keep, self, n); err != nil {
			return *s, errors.Join(failed, err)
		}
	}
	if err := p.endNotices(keep); err != nil {
		return *s, errors.Join(failed, err)
	}
	p.waiting.Lock()
	defer p.waiting.Unlock()
	s.Pending, s.Alarms = p.notices(p.waits, p.peers, self)
	return *s, failed
}

// noteRemote notes how the pass went with a remote, where that is news.
func (p *pass) noteRemote(ctx context.Context, l *link, self *selfNote, failed error, n notes) error {
	var old remoteNote
	if _, err := p.note(ctx, "state/"+l.Name, &old); err != nil {
		return err
	}
	var sent uint64
	if _, err := p.note(ctx, "sent/"+l.Name, &sent); err != nil {
		return err
	}
	now := remoteNote{Sync: old.Sync}
	if err := l.failed(); err != nil {
		now.Problem = err.Error()
	} else if failed == nil && sent == self.Seq && !l.isFull() {
		now.Sync = p.now()
	}
	p.mu.Lock()
	p.synced[l.Name] = now.Sync
	p.mu.Unlock()
	if now.Problem != old.Problem || now.Sync-old.Sync >= noteEvery.Milliseconds() {
		n.set("state/"+l.Name, now)
	}
	return nil
}

// Status is what is known without asking a remote.
func (r *Replica) Status(ctx context.Context) (Status, error) {
	self := r.getSelf()
	peers, err := r.loadPeers(ctx)
	if err != nil {
		return Status{}, err
	}
	waits, err := r.loadWaits(ctx)
	if err != nil {
		return Status{}, err
	}
	var s Status
	s.Pending, s.Alarms = r.notices(waits, peers, self)
	if s.Devices, err = r.devices(ctx, self, peers); err != nil {
		return Status{}, err
	}
	s.Fill = r.fillStatus(self)
	if s.Blobs, err = r.blobStatus(ctx); err != nil {
		return s, err
	}
	lines, _, _, err := r.state.Cut(ctx, self.Cut, 1)
	if err != nil {
		return s, err
	}
	unsealed := min(len(lines), 1) // they make one object at least
	r.mu.Lock()
	remotes := slices.Clone(r.remotes)
	r.mu.Unlock()
	for _, named := range remotes {
		var note remoteNote
		var sent uint64
		if _, err := r.note(ctx, "state/"+named.Name, &note); err != nil {
			return s, err
		}
		if _, err := r.note(ctx, "sent/"+named.Name, &sent); err != nil {
			return s, err
		}
		r.mu.Lock()
		last := max(note.Sync, r.synced[named.Name])
		r.mu.Unlock()
		rs := RemoteStatus{Name: named.Name, Unsent: int(self.Seq-sent) + unsealed, LastSync: at(last), Problem: note.Problem}
		_, late, err := r.putAsideFor(ctx, named.Name)
		if err != nil {
			return s, err
		}
		for _, line := range late {
			rs.Waiting, rs.WaitingBytes = rs.Waiting+1, rs.WaitingBytes+line.Size
		}
		rs.Unsent += rs.Waiting
		s.Remotes = append(s.Remotes, rs)
	}
	return s, nil
}

// devices lists those of the locker: the members, the most senior first, and those
// that were removed.
func (r *Replica) devices(ctx context.Context, self *selfNote, peers map[string]*peerNote) ([]DeviceStatus, error) {
	said, err := r.saidAt(ctx)
	if err != nil {
		return nil, err
	}
	members, removed := r.sealer.Seniority(), slices.Sorted(maps.Keys(r.sealer.Removed()))
	var list []DeviceStatus
	for i, id := range slices.Concat(members, removed) {
		d := DeviceStatus{ID: id, Name: r.sealer.DeviceName(id), This: id == self.Device, Removed: i >= len(members)}
		d.AdmittedBy, _ = r.sealer.AdmittedBy(id)
		if d.This {
			d.Entries, d.LastSeen = self.Entry.N, at(self.Made)
		} else if peer := peers[id]; peer != nil {
			d.Entries, d.LastSeen = peer.Read.N, at(peer.Clock.millis())
			d.Copies, d.CopyBytes = peer.Copies, peer.Copied
		}
		if pin, out := r.sealer.PinOf(id); out {
			var statement string
			d.RemovedBy, statement = r.sealer.RemovedBy(id)
			d.Entries, d.RemovedAt, d.Why = min(d.Entries, pin.Number), at(said[statement].millis()), r.whyOut(id)
		} else {
			d.Seniority = i + 1
		}
		list = append(list, d)
	}
	return list, nil
}

// saidAt tells when the doors and membership objects were made, by their ids.
func (r *Replica) saidAt(ctx context.Context) (map[string]clock, error) {
	said := map[string]clock{}
	return said, r.eachNote(ctx, "member/", func(_ string, value []byte) error {
		var m memberNote
		if err := json.Unmarshal(value, &m); err != nil || m.Ref.Kind == "epoch" {
			return err
		}
		h, err := parseHeader(m.Log)
		if err != nil {
			return err
		}
		said[m.ID] = h.Clock
		return nil
	})
}
