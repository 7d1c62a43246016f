package replica

import (
	"context"
	"errors"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"time"
)

// A new device is filled newest first: the ends of all logs, and then each log
// backwards, always the one whose next entry is likely the newest. What was read lies
// beyond a gap until the beginning of the log is reached; so a filling that is cut off
// goes on where it was, and no number that is not read yet counts as missing. The
// device is a member and can be used from the first entry on.

// A fillNote says in the note self that a filling goes on.
type fillNote struct {
	Since   int64            `json:"since"` // ms
	Read    int              `json:"read"`
	Objects int              `json:"objects"` // how many there are to be read, as far as is known
	Counts  map[string]int64 `json:"counts"`  // how many records each collection has elsewhere
}

var errBlocked = errors.New("a change of the devices that others know of is missing on the remote, so it cannot be told whose data counts: switch on a device that has it, or restore from another remote")

// errFilling keeps a device that is being filled from saying where logs of others end.
var errFilling = errors.New("this device is new and has not read everything yet, so it cannot tell what of the other counts: wait until the restore is complete ('locker status'), or use another device")

// startFilling finds how far each log goes, and notes that they are to be read.
func (p *pass) startFilling(ctx context.Context) error {
	note := &fillNote{Since: p.now(), Counts: map[string]int64{}}
	for _, device := range p.everyone() {
		number, h, err := p.newestMark(ctx, device)
		if err != nil {
			return err
		}
		p.noteMark(device, number, h)
		if h == nil {
			continue
		}
		for collection, n := range h.Counts {
			note.Counts[collection] = max(note.Counts[collection], n)
		}
	}
	for _, device := range p.everyone() {
		if device != p.sealer.Device() {
			note.Objects += len(p.itemsOf(p.reading(device), math.MaxInt))
		}
	}
	self, n := p.getSelf(), notes{}
	self.Fill = note
	for device := range p.dirty {
		n.set(peerKey(device), p.peer(device))
	}
	return p.setSelf(ctx, self, n)
}

// A fillItem is an object to be read while a device is filled: a run, or an entry.
type fillItem struct {
	run   *runItem
	entry uint64
}

// A filling is what remains to be read of a log, backwards: the entries above floor,
// and what a base that reaches up to there lists.
type filling struct {
	planned bool
	closed  bool // a base is named that is not to be had: no entry is asked for below one that is missing
	floor   uint64
	base    *base // nil: there is none, or it is joined, or it is not whole
	part    partNote
}

// fill reads on in what a new device has not read yet, until it has all or, where most
// is not zero, for about so long.
func (p *pass) fill(ctx context.Context, most time.Duration) error {
	p.measure()
	defer func() {
		for _, rd := range p.readings {
			rd.drain()
		}
	}()
	for _, device := range p.others() {
		if err := p.findEnd(ctx, p.reading(device)); err != nil {
			return err
		}
	}
	began := time.Now()
	for late := false; !p.blocked && !late; late = most > 0 && time.Since(began) >= most {
		if err := p.planAll(ctx); err != nil {
			return err
		}
		rd := p.newestUnread(nil)
		if rd == nil {
			break
		}
		if err := p.fillOne(ctx, rd); err != nil {
			return err
		}
	}
	if p.blocked || p.allFailed() {
		return nil // what is here is put; a later pass goes on
	}
	if p.newestUnread(nil) != nil {
		p.summary.More = true
		return nil
	}
	return p.filled(ctx)
}

// findEnd looks how far a log goes beyond what is known of it: the newest mark is up to
// sixteen entries old.
func (p *pass) findEnd(ctx context.Context, rd *reading) error {
	for range endTries {
		var group sync.WaitGroup
		top := max(p.peer(rd.device).top(), rd.seen)
		there, errs := make([]bool, markEvery), make([]error, markEvery)
		for i := range there {
			number := top + 1 + uint64(i)
			if number > rd.limit {
				break
			}
			group.Go(func() {
				there[i], errs[i] = p.anyHas(ctx, Ref{Kind: "entry", Writer: rd.device, Number: number})
			})
		}
		group.Wait()
		if err := errors.Join(errs...); err != nil {
			return err
		}
		for i, is := range there {
			if is {
				rd.seen = top + 1 + uint64(i)
			}
		}
		if rd.seen <= top {
			break
		}
	}
	return nil
}

// endTries bounds how often findEnd goes on: a remote may say that it has everything.
const endTries = 4

// others are the devices whose logs are read.
func (p *pass) others() []string {
	return slices.DeleteFunc(p.everyone(), func(device string) bool { return device == p.sealer.Device() })
}

// planAll finds out what there is to be read of logs for which that was not done yet.
func (p *pass) planAll(ctx context.Context) error {
	planned := true
	for _, device := range p.others() {
		if rd := p.reading(device); !rd.planned {
			planned, rd.planned = false, true
			if err := p.planLog(ctx, rd); err != nil {
				return err
			}
		}
	}
	if planned {
		return nil
	}
	self, left := p.getSelf(), 0
	for _, device := range p.others() {
		left += len(p.itemsOf(p.reading(device), math.MaxInt))
	}
	fill := *self.Fill
	fill.Objects = fill.Read + left
	self.Fill = &fill
	p.remember(self)
	p.tellFilled()
	return nil
}

// planLog looks for the newest base of a log.
func (p *pass) planLog(ctx context.Context, rd *reading) error {
	for _, named := range p.basesOf(rd) {
		note, err := p.readBase(ctx, rd, named)
		if err != nil {
			return err
		}
		if note == nil || note.Base.Upto.N > rd.limit {
			rd.closed = true
			continue
		}
		if note.Base.Upto.N > p.peer(rd.device).Read.N {
			rd.base, rd.floor, rd.closed = &note.Base, note.Base.Upto.N, false
			_, err = p.note(ctx, partKey(rd.device), &rd.part)
		}
		return err
	}
	return nil
}

// mostItems bounds the entries that are listed at once: a member may name any number as
// the highest of a log.
const mostItems = 4096

// itemsOf are the next objects to read of a log while a device is filled, up to n, and of
// entries up to mostItems.
func (p *pass) itemsOf(rd *reading, n int) (next []fillItem) {
	if rd.removed {
		return nil // what counts of it is found out by ordinary reading
	}
	peer := p.peer(rd.device)
	gaps := 0
	todo := func(number uint64) bool {
		_, read := peer.Beyond[number]
		v, tried := rd.tried[number]
		if tried && v == missing {
			gaps++
		}
		return !read && !tried
	}
	for number := min(max(peer.top(), rd.seen), rd.limit); number > max(peer.Read.N, rd.floor) && len(next) < min(n, mostItems); number-- {
		if todo(number) {
			next = append(next, fillItem{entry: number})
		}
		if gaps == gapsAtOnce || rd.closed && gaps > 0 {
			break
		}
	}
	if rd.base == nil {
		return next
	}
	stays := rd.base.Entries
	for i := len(rd.base.Runs); i >= 0 && len(next) < n; i-- {
		for len(stays) > 0 && (i == 0 || stays[len(stays)-1].N > rd.base.Runs[i-1].To) {
			if last := stays[len(stays)-1].N; last > peer.Read.N && todo(last) {
				next = append(next, fillItem{entry: last})
			}
			stays = stays[:len(stays)-1]
		}
		if i == 0 {
			break
		}
		if run := &rd.base.Runs[i-1]; run.To > peer.Read.N && !rd.part.Runs[run.ID] {
			next = append(next, fillItem{run: run})
		}
	}
	return next[:min(n, len(next))]
}

// newestUnread is the log of which the newest part is to be read next: of those with
// something to read but not, the one whose entries were read back to the latest time,
// and then the one of which the fewest runs were read.
func (p *pass) newestUnread(not *reading) (next *reading) {
	if p.allFailed() {
		return nil
	}
	best := 0.0
	for _, device := range p.others() {
		rd := p.reading(device)
		items := p.itemsOf(rd, 1)
		if rd == not || len(items) == 0 {
			continue
		}
		rank := 1 / float64(2+len(rd.part.Runs))
		if items[0].entry > rd.floor {
			rank = 1 + float64(p.peer(device).Back)
		}
		if p.peer(device).Back == 0 {
			rank = math.Inf(1)
		}
		if next == nil || rank > best {
			next, best = rd, rank
		}
	}
	return next
}

// fillOne reads the newest object of a log that was not read yet. Meanwhile the one
// that is likely next is fetched.
func (p *pass) fillOne(ctx context.Context, rd *reading) error {
	item := p.itemsOf(rd, 1)[0]
	p.startItem(ctx, rd, item)
	p.fetchNext(ctx, rd)
	if item.run != nil {
		return p.fillRun(ctx, rd, *item.run)
	}
	f := p.take(ctx, rd, []uint64{item.entry})
	if f.err != nil {
		return f.err
	}
	v, err := p.settle(ctx, rd, f)
	rd.tried[item.entry] = v
	if err == nil {
		p.tellFilled()
		err = p.closeBase(ctx, rd)
	}
	return err
}

// fillRun joins a run. Where one is not to be had the base is left to the pass's
// ordinary reading.
func (p *pass) fillRun(ctx context.Context, rd *reading, item runItem) error {
	if rd.part.Runs == nil {
		rd.part.Runs = map[string]bool{}
	}
	v, err := p.joinRun(ctx, rd, item, &rd.part)
	if err != nil {
		return err
	}
	if v != found {
		rd.base = nil
		return nil
	}
	p.tellFilled()
	return p.closeBase(ctx, rd)
}

// closeBase notes that a base is joined, if all of it is.
func (p *pass) closeBase(ctx context.Context, rd *reading) error {
	b := rd.base
	if b == nil || slices.ContainsFunc(p.itemsOf(rd, math.MaxInt), func(i fillItem) bool { return i.run != nil || i.entry <= rd.floor }) {
		return nil
	}
	rd.base = nil
	for _, e := range b.Entries {
		if _, read := p.peer(rd.device).Beyond[e.N]; !read && e.N > p.peer(rd.device).Read.N {
			return nil // it was tried, and is not to be had
		}
	}
	return p.moveTo(ctx, rd, b)
}

// fetchNext fetches ahead while an object of a log is joined, if not enough is fetched
// already: the next of another log or, where there is none, of the same.
func (p *pass) fetchNext(ctx context.Context, now *reading) {
	coming := 0
	for _, rd := range p.readings {
		coming += len(rd.coming) + len(rd.comingRuns)
	}
	if coming >= readAhead {
		return
	}
	if rd := p.newestUnread(now); rd != nil {
		p.startItem(ctx, rd, p.itemsOf(rd, 1)[0])
	} else if next := p.itemsOf(now, 2); len(next) == 2 {
		p.startItem(ctx, now, next[1])
	}
}

// startItem begins to fetch an object, unless that was done.
func (p *pass) startItem(ctx context.Context, rd *reading, item fillItem) {
	if item.run == nil {
		p.start(ctx, rd, item.entry)
		return
	}
	if number := item.run.N; rd.comingRuns[number] == nil {
		c := make(chan fetched, 1)
		rd.comingRuns[number] = c
		go func() {
			o, v, err := p.fetch(ctx, Ref{Kind: "run", Writer: rd.device, Number: number})
			f := fetched{object: o, verdict: v, err: err}
			if v == found {
				f.expand(p)
			}
			c <- f
		}()
	}
}

// filled notes that everything was read that is there, and lets the pass go on as that
// of any other device.
func (p *pass) filled(ctx context.Context) error {
	self := p.getSelf()
	self.Fill = nil
	if err := p.setSelf(ctx, self, nil); err != nil {
		return err
	}
	return p.readAll(ctx, p.others(), false)
}

// A FillStatus tells how far the filling of a new device has come.
type FillStatus struct {
	Since time.Time
	// Read of Objects objects are read.
	Read, Objects int
	// Left is how long the rest will take at the present rate; 0 where that is not known.
	Left time.Duration
	// Counts is how many records each of the largest collections has on the other
	// devices, as their newest marks say.
	Counts map[string]int64
}

// A fillRate is how fast a filling goes in this process.
type fillRate struct {
	began time.Time
	first int // objects that were read before
}

// measure begins to measure how fast a filling goes, once in a process.
func (p *pass) measure() {
	p.tellFilled()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.rate == nil {
		p.rate = &fillRate{began: time.Now(), first: p.self.Fill.Read}
	}
}

// tellFilled tells how far a filling has come.
func (p *pass) tellFilled() {
	fill := p.getSelf().Fill
	p.o.Progress.tell("fetching", int64(fill.Read), int64(fill.Objects))
}

// one counts an object that was read.
func (f *fillNote) one() *fillNote {
	if f == nil {
		return nil
	}
	next := *f
	next.Read++
	next.Objects = max(next.Objects, next.Read)
	return &next
}

// fillStatus tells how far a filling has come; nil where there is none.
func (r *Replica) fillStatus(self *selfNote) *FillStatus {
	fill := self.Fill
	if fill == nil {
		return nil
	}
	s := &FillStatus{Since: at(fill.Since), Read: fill.Read, Objects: fill.Objects, Counts: maps.Clone(fill.Counts)}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.rate != nil && s.Read > r.rate.first {
		s.Left = time.Since(r.rate.began) / time.Duration(s.Read-r.rate.first) * time.Duration(s.Objects-s.Read)
	}
	return s
}

// maxCounts is how many collections a mark counts.
const maxCounts = 24

// A counter is a State that knows how many records each collection has.
type counter interface {
	Collections() (map[string]int64, error)
}

// recordCounts are the records of the largest collections, for a mark.
func (r *Replica) recordCounts() map[string]int64 {
	state, ok := r.state.(counter)
	if !ok {
		return nil
	}
	counts, err := state.Collections()
	if err != nil {
		r.log.Warn("the records are not counted for a mark", "err", err)
		return nil
	}
	names := slices.Collect(maps.Keys(counts))
	slices.SortFunc(names, func(a, b string) int {
		if counts[a] != counts[b] {
			return int(counts[b] - counts[a])
		}
		return strings.Compare(a, b)
	})
	for _, name := range names[min(len(names), maxCounts):] {
		delete(counts, name)
	}
	return counts
}

// goOnFilling is what a pass reads while a new device is filled: who the members are,
// and then what it has not read yet.
func (p *pass) goOnFilling(ctx context.Context) error {
	if p.o.Push && !p.o.Full {
		return nil
	}
	// As long as the phrase is held, epochs are read as it: one that shows late may have
	// been made by a device that is gone.
	_, err := p.sealer.Door(0)
	p.restoring = err == nil
	defer func() { p.restoring = false }()
	if !p.o.Hold {
		if err := p.readMembersOnce(ctx); err != nil {
			return err
		}
	}
	return p.fill(ctx, p.o.For)
}
