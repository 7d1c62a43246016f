package replica

import (
	"context"
	"fmt"
	"slices"
)

// A tuning says when and how a device compacts its log.
type tuning struct {
	every  uint64 // so many entries that are not covered are worth a new base
	spare  uint64 // the newest entries, which are never covered
	wait   uint64 // at most so many covered entries wait for slow devices
	fan    int    // so many groups of one level become one of the next
	large  int64  // an entry of this size stays as it is
	batch  int64  // bytes of entries that become one group
	lines  int    // bytes of lines in one run
	frames int    // the same, compressed
	memory int    // bytes of lines that are joined at once
}

var usualTuning = tuning{every: 48, spare: 8, wait: 32, fan: 8, large: 8 << 20, batch: 24 << 20, lines: 24 << 20, frames: 14 << 20, memory: 16 << 20}

// A baseNote is the newest base that is known of a device, note base/DEVICE.
type baseNote struct {
	N    uint64 `json:"n"`
	ID   string `json:"id"`
	Seq  uint64 `json:"seq,omitempty"` // of the outbox, where it is this device's
	Base base   `json:"base"`
}

func baseKey(device string) string { return "base/" + device }

// A coverNote is what a base of this device lets go, note cover/NUMBER of the base,
// until it is gone from all remotes.
type coverNote struct {
	Upto uint64 `json:"upto"`
	Refs []Ref  `json:"refs,omitempty"` // runs and bases that it replaces, and entries that are no longer kept
	Made int64  `json:"made"`           // ms
	Told uint64 `json:"told,omitempty"` // line of the outbox of the first mark that names the base
	Now  bool   `json:"now,omitempty"`  // nothing waits for anybody: it holds what was purged
}

func coverKey(number uint64) string { return fmt.Sprintf("cover/%016x", number) }

// A group is runs that together are the join of some entries, or the inputs of them.
type group struct {
	from, to uint64
	level    int
	runs     []ownRun
	inputs   []input // where the runs are not made yet
}

// An ownRun is a run of this device.
type ownRun struct {
	runItem
	note runNote
}

// sources are what is joined to make a group, or a part of a larger one.
func (p *pass) sources(g *group) []input {
	list := slices.Clone(g.inputs)
	for _, r := range g.runs {
		ref := Ref{Kind: "run", Writer: p.sealer.Device(), Number: r.N}
		list = append(list, input{ref: ref, id: r.ID, sum: r.note.Sum, size: r.Size, first: r.note.First, last: r.note.Last})
	}
	return list
}

// A dirtyFunc says whether the lines of an object are to be joined again. It is
// called with some of them at a time.
type dirtyFunc func(ref Ref, lines []byte) bool

// compact makes a new base where there is enough for one.
func (p *pass) compact(ctx context.Context) error {
	own, err := p.ownBase(ctx)
	if err != nil {
		return err
	}
	newest := p.getSelf().Entry.N
	switch {
	case p.o.Metered || p.o.Push:
		return nil
	case newest < own.Base.Upto.N+p.tune.every:
		return p.clear(ctx, "compact") // that it failed may have been of a note that was not read
	}
	if may, err := p.mayCompact(ctx); err != nil || !may {
		return err
	}
	return p.compactTo(ctx, own, newest-p.tune.spare, nil)
}

// compactWithout makes a new base that covers all entries of this device. What dirty
// says of runs, and of entries that would stay as they are, is joined again; State's
// Clean takes out of it what is not to be there. ok is false where this device must
// not compact.
func (p *pass) compactWithout(ctx context.Context, dirty dirtyFunc) (ok bool, err error) {
	if may, err := p.mayCompact(ctx); err != nil || !may {
		return false, err
	}
	own, err := p.ownBase(ctx)
	if err != nil {
		return false, err
	}
	newest := p.getSelf().Entry.N
	return newest > 0, p.compactTo(ctx, own, newest, dirty)
}

// mayCompact says whether this device may write bases and delete: it is a member, and
// has met nothing that a newer version of this program wrote.
func (p *pass) mayCompact(ctx context.Context) (bool, error) {
	if !slices.Contains(p.sealer.Members(), p.sealer.Device()) {
		return false, nil
	}
	skewed, err := p.skewed(ctx)
	return !skewed, err
}

// notCompacted notes that this device could not compact its log: nothing is lost by
// that, and it is tried again at each pass.
func (p *pass) notCompacted(ctx context.Context, failed error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return p.wait(ctx, "compact", waitNote{
		Kind: "compact", Device: p.sealer.Device(), Never: true,
		What: fmt.Sprintf("the log of this device could not be compacted: %v", failed),
		Do:   "nothing, if it goes away; else see what the error says: until then the remotes hold more than they need to",
	})
}

// ownBase is the newest base of this device; its number is 0 where there is none.
func (p *pass) ownBase(ctx context.Context) (*baseNote, error) {
	var own baseNote
	_, err := p.note(ctx, baseKey(p.sealer.Device()), &own)
	return &own, err
}

// compactTo makes a base that covers this device's log up to an entry.
func (p *pass) compactTo(ctx context.Context, own *baseNote, upto uint64, dirty dirtyFunc) error {
	if upto == 0 {
		return nil
	}
	p.o.Progress.tell("compacting", 0, 0)
	p.log.Info("replica: compacting", "from", own.Base.Upto.N+1, "to", upto)
	groups, err := p.groupsOf(ctx, own)
	if err != nil {
		return err
	}
	b := base{Upto: own.Base.Upto}
	if dirty != nil {
		if err := p.redo(ctx, groups, dirty); err != nil {
			return err
		}
	}
	var batch group
	size := int64(0)
	take := func(in input) {
		if size += in.size; size > p.tune.batch && len(batch.inputs) > 0 {
			groups = append(groups, batch)
			batch, size = group{}, in.size
		}
		if len(batch.inputs) == 0 {
			batch.from, batch.level = in.ref.Number, 1
		}
		batch.to, batch.inputs = in.ref.Number, append(batch.inputs, in)
	}
	for _, e := range own.Base.Entries {
		in, again, err := p.entryInput(ctx, e.N, dirty)
		switch {
		case err != nil:
			return err
		case again:
			take(in)
		default:
			b.Entries = append(b.Entries, e)
		}
	}
	for number := own.Base.Upto.N + 1; number <= upto; number++ {
		in, again, err := p.entryInput(ctx, number, dirty)
		if err != nil {
			return err
		}
		if b.Upto = (seen{number, in.id}); again {
			take(in)
		} else {
			b.Entries = append(b.Entries, b.Upto)
		}
	}
	if len(batch.inputs) > 0 {
		groups = append(groups, batch)
	}
	return p.makeBase(ctx, own, b, p.tier(groups), dirty != nil)
}

// entryInput is an entry of this device, and whether it is to be joined: not when it
// is large, and not dirty.
func (p *pass) entryInput(ctx context.Context, number uint64, dirty dirtyFunc) (in input, again bool, err error) {
	ref := Ref{Kind: "entry", Writer: p.sealer.Device(), Number: number}
	var entry logNote
	if ok, err := p.note(ctx, logKey(ref.Writer, number), &entry); err != nil || !ok {
		return in, false, errorOr(err, "entry %d of this device is not known here", number)
	}
	var out outNote
	if ok, err := p.note(ctx, outKey(entry.Seq), &out); err != nil || !ok {
		return in, false, errorOr(err, "entry %d of this device is not in the outbox", number)
	}
	in = input{ref: ref, id: entry.ID, sum: out.Sum, size: out.Size}
	if in.size < p.tune.large {
		return in, true, nil
	}
	again, err = p.isDirty(ctx, in, dirty)
	return in, again, err
}

func errorOr(err error, format string, args ...any) error {
	if err != nil {
		return err
	}
	return fmt.Errorf(format, args...)
}

// isDirty asks dirty, which may be nil, about the lines of an object.
func (p *pass) isDirty(ctx context.Context, in input, dirty dirtyFunc) (is bool, err error) {
	if dirty == nil {
		return false, nil
	}
	err = p.eachLines(ctx, in, func(lines []byte) error {
		is = is || dirty(in.ref, lines)
		return nil
	})
	return is, err
}

// groupsOf are the groups of the runs of a base, older ones first.
func (p *pass) groupsOf(ctx context.Context, own *baseNote) (groups []group, err error) {
	for _, item := range own.Base.Runs {
		run := ownRun{runItem: item}
		if ok, err := p.note(ctx, runKey(item.N), &run.note); err != nil || !ok {
			return nil, errorOr(err, "run %d of this device is not known here", item.N)
		}
		if n := len(groups); n == 0 || groups[n-1].from != item.From || groups[n-1].to != item.To || groups[n-1].level != item.Level {
			groups = append(groups, group{from: item.From, to: item.To, level: item.Level})
		}
		last := &groups[len(groups)-1]
		last.runs = append(last.runs, run)
	}
	return groups, nil
}

// redo marks the groups that have dirty runs as not made.
func (p *pass) redo(ctx context.Context, groups []group, dirty dirtyFunc) error {
	for i := range groups {
		g := &groups[i]
		for _, in := range p.sources(g) {
			is, err := p.isDirty(ctx, in, dirty)
			if err != nil {
				return err
			}
			if is {
				g.inputs, g.runs = p.sources(g), nil
				break
			}
		}
	}
	return nil
}

// tier joins groups: the newest that are of one level, once there are enough of them;
// and all, once joining them would leave less than half.
func (p *pass) tier(groups []group) []group {
	for n := len(groups); n > 0; n = len(groups) {
		level, first := groups[n-1].level, n-1
		for first > 0 && groups[first-1].level <= level {
			first--
		}
		if n-first < p.tune.fan {
			break
		}
		groups = append(groups[:first], p.together(groups[first:], level+1))
	}
	if n := len(groups); n > 1 && p.wasteful(groups) {
		level := 0
		for _, g := range groups {
			level = max(level, g.level)
		}
		groups = []group{p.together(groups, level)}
	}
	return groups
}

// together is the group of several.
func (p *pass) together(groups []group, level int) group {
	all := group{from: groups[0].from, level: level, inputs: []input{}}
	for _, g := range groups {
		all.from, all.to = min(all.from, g.from), max(all.to, g.to)
		all.inputs = append(all.inputs, p.sources(&g)...)
	}
	return all
}

// wasteful says whether the runs of groups tell of things more than twice, on
// average.
func (p *pass) wasteful(groups []group) bool {
	var all sketch
	sum := 0.0
	for _, g := range groups {
		for _, r := range g.runs {
			sum += r.note.Keys.count()
			all.union(r.note.Keys)
		}
	}
	return sum > 2*all.count() && sum > sketchSize
}

// makeBase makes the runs of the groups that have none, and a base of them all. They
// are noted in one write: until then there are files that nothing names, and that the
// next attempt replaces.
func (p *pass) makeBase(ctx context.Context, former *baseNote, b base, groups []group, now bool) error {
	self, n := p.getSelf(), notes{}
	var fresh []ownRun
	for _, g := range groups {
		if g.inputs != nil {
			m := &runMaker{p: p, self: self, item: runItem{From: g.from, To: g.to, Level: g.level}}
			if err := p.joinInputs(ctx, g.inputs, m); err != nil {
				return err
			}
			if err := m.finish(); err != nil {
				return err
			}
			g.runs, fresh = m.runs, append(fresh, m.runs...)
		}
		for _, r := range g.runs {
			b.Runs = append(b.Runs, r.runItem)
		}
	}
	for _, r := range fresh {
		self.Seq++
		r.note.Seq = self.Seq
		n.set(runKey(r.N), r.note)
		ref := Ref{Kind: "run", Writer: self.Device, Number: r.N}
		n.set(outKey(self.Seq), outNote{Ref: ref, ID: r.ID, Size: r.Size, Sum: r.note.Sum})
	}
	return p.stageBase(ctx, self, n, former, b, now)
}

// stageBase seals a base and notes it, and what it replaces.
func (p *pass) stageBase(ctx context.Context, self *selfNote, n notes, former *baseNote, b base, now bool) error {
	if err := b.check(); err != nil {
		return fmt.Errorf("a base of this device would not be read: %w", err)
	}
	number := self.Base + 1
	ref := Ref{Kind: "base", Writer: self.Device, Number: number}
	object, id, err := p.sealer.Seal(ref, p.newHeader(self).encode(), p.codec.compress(nil, b.encode()))
	if err != nil {
		return fmt.Errorf("sealing a base: %w", err)
	}
	pending, err := p.pendingNow(ctx)
	if err != nil {
		return err
	}
	cover := coverNote{Upto: b.Upto.N, Made: p.now(), Now: now || pending}
	kept := b.numbers()
	for _, r := range former.Base.Runs {
		if !kept[r.N] {
			cover.Refs = append(cover.Refs, Ref{Kind: "run", Writer: self.Device, Number: r.N})
			if err := p.goneRun(ctx, n, r.N); err != nil {
				return err
			}
		}
	}
	for _, e := range former.Base.Entries {
		if !b.stays(e.N) {
			cover.Refs = append(cover.Refs, Ref{Kind: "entry", Writer: self.Device, Number: e.N})
		}
	}
	if former.N != 0 {
		was := Ref{Kind: "base", Writer: self.Device, Number: former.N}
		cover.Refs = append(cover.Refs, was)
		if err := p.goneOut(ctx, n, former.Seq); err != nil {
			return err
		}
	}
	self.Base = number
	if self.Bases, err = p.standing(ctx, self.Bases, seen{number, id}); err != nil {
		return err
	}
	if self.Announce == 0 {
		self.Announce = p.now()
	}
	n.set(baseKey(self.Device), baseNote{N: number, ID: id, Seq: self.Seq + 1, Base: b})
	n.set(coverKey(number), cover)
	if err := p.stage(ctx, self, n, staged{ref, id, object}); err != nil {
		return err
	}
	if err := p.clear(ctx, "compact"); err != nil {
		return err
	}
	p.wake()
	for _, gone := range cover.Refs {
		if gone.Kind != "entry" {
			p.discard(gone)
		}
	}
	return nil
}

// goneRun notes that a run is not to be put any more.
func (p *pass) goneRun(ctx context.Context, n notes, number uint64) error {
	var run runNote
	if ok, err := p.note(ctx, runKey(number), &run); err != nil || !ok {
		return err
	}
	n[runKey(number)] = nil
	for _, name := range p.remoteNames() {
		n[readKey(name, number)] = nil
	}
	return p.goneOut(ctx, n, run.Seq)
}

// goneOut notes that what a line of the outbox puts is not to be put any more.
func (p *pass) goneOut(ctx context.Context, n notes, seq uint64) error {
	var out outNote
	if ok, err := p.note(ctx, outKey(seq), &out); err != nil || !ok {
		return err
	}
	out.Gone = true
	n.set(outKey(seq), out)
	return nil
}

// standing are the bases by which this device stands with a new one: that, and older
// ones on which some remote still rests.
func (p *pass) standing(ctx context.Context, before []seen, next seen) ([]seen, error) {
	resting := map[uint64]bool{}
	for _, name := range p.remoteNames() {
		var rest restNote
		if _, err := p.note(ctx, restKey(name), &rest); err != nil {
			return nil, err
		}
		resting[rest.Base] = true
	}
	now := []seen{}
	for _, b := range before {
		if resting[b.N] {
			now = append(now, b)
		}
	}
	return append(now, next), nil
}
