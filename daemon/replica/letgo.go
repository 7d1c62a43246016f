package replica

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"time"
)

// How long what a base covers waits for devices that have not read it, and how long
// the runs that it replaced stay for who is reading them.
const (
	ackMost  = 30 * 24 * time.Hour
	runsStay = 24 * time.Hour
)

// Deletions are made in batches, and entries wait until there is a batch.
const (
	deleteAtOnce = 64
	deleteLeast  = 16
)

// A restNote is how far a remote rests on bases of this device, note rest/REMOTE.
type restNote struct {
	Base    uint64 `json:"base"`    // the one that was last found whole there
	Entries uint64 `json:"entries"` // they were deleted up to this one
	Covers  uint64 `json:"covers"`  // what bases up to this one replaced was deleted
}

func restKey(remote string) string { return "rest/" + remote }

func readKey(remote string, run uint64) string { return fmt.Sprintf("read/%s/%016x", remote, run) }

func (r *Replica) restOn(ctx context.Context, remote string) (*restNote, error) {
	var rest restNote
	_, err := r.note(ctx, restKey(remote), &rest)
	return &rest, err
}

func (p *pass) setRest(ctx context.Context, remote string, rest *restNote) error {
	n := notes{}
	n.set(restKey(remote), rest)
	return p.state.SetNotes(ctx, n)
}

// remoteNames are the names of the remotes.
func (r *Replica) remoteNames() (names []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, named := range r.remotes {
		names = append(names, named.Name)
	}
	return names
}

// letGo deletes on the remotes what bases of this device cover, and forgets here what
// is gone from all of them.
func (p *pass) letGo(ctx context.Context) error {
	self := p.getSelf()
	if p.o.Full {
		if err := p.forgetLines(ctx); err != nil {
			return err
		}
	}
	if p.o.Metered || p.o.Push || len(self.Bases) == 0 {
		return nil
	}
	if may, err := p.mayCompact(ctx); err != nil || !may {
		return err
	}
	covers, err := p.covers(ctx)
	if err != nil || len(covers) == 0 {
		return err
	}
	for _, l := range p.links {
		if !l.sure || l.failed() != nil {
			continue
		}
		if err := p.letGoOn(ctx, l, covers); err != nil && l.failed() == nil {
			return err
		}
	}
	return p.forgetOwn(ctx, covers)
}

// A cover is a coverNote with its number.
type cover struct {
	coverNote
	n uint64
}

// covers are what bases of this device let go, older ones first.
func (p *pass) covers(ctx context.Context) (list []cover, err error) {
	err = p.eachNote(ctx, "cover/", func(key string, value []byte) error {
		var c cover
		if _, err := fmt.Sscanf(key, "%x", &c.n); err != nil {
			return err
		}
		err := json.Unmarshal(value, &c.coverNote)
		list = append(list, c)
		return err
	})
	return list, err
}

// letGoOn deletes on one remote.
func (p *pass) letGoOn(ctx context.Context, l *link, covers []cover) error {
	var sent uint64
	if _, err := p.note(ctx, "sent/"+l.Name, &sent); err != nil {
		return err
	}
	rest, err := p.restOn(ctx, l.Name)
	if err != nil {
		return err
	}
	own, err := p.ownBase(ctx)
	if err != nil {
		return err
	}
	newest := covers[len(covers)-1]
	if newest.n != own.N || newest.Told == 0 || newest.Told > sent {
		return nil // the mark that names the base is not there yet
	}
	upto, err := p.mayGo(ctx, newest, rest.Entries)
	if err != nil {
		return err
	}
	if upto < newest.Upto && upto < rest.Entries+deleteLeast {
		upto = rest.Entries
	}
	due := slices.DeleteFunc(slices.Clone(covers), func(c cover) bool {
		return c.n <= rest.Covers || !newest.Now && len(c.Refs) > 0 && p.now()-c.Made < runsStay.Milliseconds()
	})
	if upto <= rest.Entries && len(due) == 0 {
		return nil
	}
	late, err := p.lateNames(ctx, l)
	if err != nil {
		return err
	}
	for number := range own.Base.numbers() {
		if late[p.sealer.Name(Ref{Kind: "run", Writer: p.sealer.Device(), Number: number})] {
			return nil // the remote is full
		}
	}
	if whole, err := p.whole(ctx, l, own, rest); err != nil || !whole {
		return err
	}
	return p.deleteCovered(ctx, l, own, due, upto, rest)
}

// deleteCovered deletes entries up to one, and what older bases listed.
func (p *pass) deleteCovered(ctx context.Context, l *link, own *baseNote, due []cover, upto uint64, rest *restNote) error {
	var gone []Ref
	for number := rest.Entries + 1; number <= upto; number++ {
		if !own.Base.stays(number) {
			gone = append(gone, Ref{Kind: "entry", Writer: p.sealer.Device(), Number: number})
		}
	}
	for _, c := range due {
		gone = append(gone, c.Refs...)
	}
	for some := range slices.Chunk(gone, deleteAtOnce) {
		var names []string
		for _, ref := range some {
			names = append(names, p.sealer.Name(ref))
		}
		if err := l.delete(ctx, names...); err != nil {
			return err
		}
		if last := some[len(some)-1]; last.Kind == "entry" && last.Number > rest.Entries && last.Number < upto {
			rest.Entries = last.Number
			if err := p.setRest(ctx, l.Name, rest); err != nil {
				return err
			}
		}
	}
	rest.Entries = max(rest.Entries, upto)
	for _, c := range due {
		rest.Covers = max(rest.Covers, c.n)
	}
	return p.setRest(ctx, l.Name, rest)
}

// mayGo is up to which of the entries that a base covers they may be deleted: those
// that every member has read, those that are old, and all but the last few.
func (p *pass) mayGo(ctx context.Context, c cover, from uint64) (uint64, error) {
	if c.Now {
		return c.Upto, nil
	}
	upto := c.Upto
	for _, device := range p.sealer.Members() {
		if device != p.sealer.Device() {
			upto = min(upto, p.peer(device).Shown)
		}
	}
	upto = max(upto, from, c.Upto-min(c.Upto, p.tune.wait))
	for ; upto < c.Upto; upto++ {
		var entry logNote
		if ok, err := p.note(ctx, logKey(p.sealer.Device(), upto+1), &entry); err != nil {
			return 0, err
		} else if ok && p.now()-entry.Made < ackMost.Milliseconds() {
			break
		}
	}
	return upto, nil
}

// whole says whether a remote has a base of this device and all its runs. What was
// not read back from there before is read now, and must be what was put, byte for
// byte; of the rest it is asked whether it is there. What is not is put again, and the
// base counts at a later pass.
func (p *pass) whole(ctx context.Context, l *link, own *baseNote, rest *restNote) (whole bool, err error) {
	whole = true
	for _, item := range own.Base.Runs {
		var run runNote
		if ok, err := p.note(ctx, runKey(item.N), &run); err != nil || !ok {
			return false, errorOr(err, "run %d of this device is not known here", item.N)
		}
		key := readKey(l.Name, item.N)
		read, err := p.state.Note(ctx, key)
		if err != nil {
			return false, err
		}
		k := known{ref: Ref{Kind: "run", Writer: p.sealer.Device(), Number: item.N}, id: item.ID, sum: run.Sum}
		there, err := p.isThere(ctx, l, k, read == nil)
		if err != nil {
			return false, err
		}
		if whole = whole && there; there && read == nil {
			if err := p.state.SetNotes(ctx, notes{key: []byte("{}")}); err != nil {
				return false, err
			}
		}
	}
	var out outNote
	if ok, err := p.note(ctx, outKey(own.Seq), &out); err != nil || !ok {
		return false, errorOr(err, "base %d of this device is not in the outbox", own.N)
	}
	there, err := p.isThere(ctx, l, known{ref: out.Ref, id: out.ID, sum: out.Sum}, true)
	if err != nil || !there || !whole {
		return false, err
	}
	rest.Base = own.N
	return true, nil
}

// isThere says whether a remote has an object of this device, whole if it is to be
// read; it puts it again if not.
func (p *pass) isThere(ctx context.Context, l *link, k known, read bool) (bool, error) {
	name := p.sealer.Name(k.ref)
	if !read {
		if there, err := l.has(ctx, name); err != nil || there {
			return there, err
		}
	} else {
		sealed, err := l.get(ctx, name)
		if err == nil && sumOf(sealed) == k.sum {
			return true, nil
		}
		if err != nil && !errors.Is(err, ErrNotFound) && !errors.Is(err, errTooLong) {
			return false, err
		}
	}
	object, err := p.anywhere(ctx, l, k)
	if err != nil || object == nil {
		return false, err
	}
	return false, p.mend(ctx, l, k, object)
}

// forgetOwn forgets what is gone from all remotes: notes and files of entries, and
// what bases let go.
func (p *pass) forgetOwn(ctx context.Context, covers []cover) error {
	own, err := p.ownBase(ctx)
	if err != nil || own.N == 0 {
		return err
	}
	upto := own.Base.Upto.N
	done := own.N
	for _, name := range p.remoteNames() {
		rest, err := p.restOn(ctx, name)
		if err != nil {
			return err
		}
		done = min(done, rest.Covers)
		var state remoteNote
		if _, err := p.note(ctx, "state/"+name, &state); err != nil {
			return err
		}
		if state.Sync != 0 && p.now()-state.Sync < ackMost.Milliseconds() {
			upto = min(upto, rest.Entries) // one that is away for long gets the base instead
		}
	}
	n, files := notes{}, []Ref{}
	for _, c := range covers {
		if c.Now && c.Told != 0 {
			upto = max(upto, c.Upto)
		}
		if c.n > done {
			continue
		}
		n[coverKey(c.n)] = nil
		for _, ref := range c.Refs {
			if ref.Kind == "entry" && ref.Writer == p.sealer.Device() {
				if err := p.forgetEntry(ctx, n, ref.Number); err != nil {
					return err
				}
				files = append(files, ref)
			}
		}
	}
	self := p.getSelf()
	for number := self.Forgot + 1; number <= upto; number++ {
		if own.Base.stays(number) {
			continue
		}
		if err := p.forgetEntry(ctx, n, number); err != nil {
			return err
		}
		files = append(files, Ref{Kind: "entry", Writer: self.Device, Number: number})
	}
	if len(n) == 0 {
		return nil
	}
	self.Forgot = max(self.Forgot, upto)
	if err := p.setSelf(ctx, self, n); err != nil {
		return err
	}
	for _, ref := range files {
		p.discard(ref)
	}
	return nil
}

// forgetLines forgets lines of the outbox that were done on all remotes and that none
// needs which is added later: deletions of marks, and marks, runs and bases that are
// not put any more.
func (p *pass) forgetLines(ctx context.Context) error {
	done := p.getSelf().Seq
	for _, name := range p.remoteNames() {
		var sent uint64
		if _, err := p.note(ctx, "sent/"+name, &sent); err != nil {
			return err
		}
		done = min(done, sent)
	}
	n := notes{}
	err := p.eachNote(ctx, "out/", func(key string, value []byte) error {
		var out outNote
		if err := json.Unmarshal(value, &out); err != nil {
			return err
		}
		seq, err := strconv.ParseUint(key, 16, 64)
		if kind := out.Ref.Kind; seq <= done && (out.Delete || out.Gone) && (kind == "mark" || kind == "run" || kind == "base") {
			n["out/"+key] = nil
		}
		return err
	})
	if err != nil || len(n) == 0 {
		return err
	}
	return p.state.SetNotes(ctx, n)
}

// forgetEntry adds to notes that an entry of this device is not needed here.
func (p *pass) forgetEntry(ctx context.Context, n notes, number uint64) error {
	key := logKey(p.sealer.Device(), number)
	var entry logNote
	if ok, err := p.note(ctx, key, &entry); err != nil || !ok {
		return err
	}
	n[key], n[outKey(entry.Seq)] = nil, nil
	return nil
}

// discard removes the file of an object of this device that is not needed.
func (p *pass) discard(ref Ref) {
	path, err := p.path(ref)
	if err == nil {
		err = p.disk.Remove(path)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		p.log.Warn("a sealed object that is no longer needed stays", "err", err)
	}
}

// isGone says whether an object was deleted on a remote because a base of this device
// covers it.
func (p *pass) isGone(ref Ref, own *baseNote, rest *restNote) bool {
	return ref.Kind == "entry" && ref.Writer == p.sealer.Device() && ref.Number <= rest.Entries && !own.Base.stays(ref.Number)
}

// sweep deletes again what a listing shows of this device's objects that are gone: a
// remote that was put back to an earlier state shows them again.
func (p *pass) sweep(ctx context.Context, l *link, listed map[string]int64, own *baseNote, rest *restNote) error {
	if may, err := p.mayCompact(ctx); err != nil || !may || own.N == 0 {
		return err
	}
	covers, err := p.covers(ctx)
	if err != nil {
		return err
	}
	stays := map[Ref]bool{}
	for _, c := range covers {
		if c.n > rest.Covers {
			for _, ref := range c.Refs {
				stays[ref] = true
			}
		}
	}
	device := p.sealer.Device()
	stays[Ref{Kind: "base", Writer: device, Number: own.N}] = true
	for n := range own.Base.numbers() {
		stays[Ref{Kind: "run", Writer: device, Number: n}] = true
	}
	var names []string
	look := func(ref Ref) {
		if name := p.sealer.Name(ref); !stays[ref] {
			if _, ok := listed[name]; ok {
				names = append(names, name)
			}
		}
	}
	self := p.getSelf()
	for n := range self.Run {
		look(Ref{Kind: "run", Writer: device, Number: n + 1})
	}
	for n := range self.Base {
		look(Ref{Kind: "base", Writer: device, Number: n + 1})
	}
	for n := range rest.Entries {
		if ref := (Ref{Kind: "entry", Writer: device, Number: n + 1}); !own.Base.stays(ref.Number) {
			look(ref)
		}
	}
	if len(names) == 0 {
		return nil
	}
	if whole, err := p.whole(ctx, l, own, rest); err != nil || !whole {
		return err
	}
	slices.Sort(names)
	for some := range slices.Chunk(names, deleteAtOnce) {
		if err := l.delete(ctx, some...); err != nil {
			return err
		}
	}
	return nil
}
