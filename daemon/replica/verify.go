package replica

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
)

// Bounds of one look at what a remote has lost.
const (
	verifyAtOnce = 2   // objects in memory while verifying
	lostAtOnce   = 256 // entries of others that are asked for
)

// A known is an object that should be on every remote.
type known struct {
	ref  Ref
	id   string // empty where it is not known
	sum  string // of its sealed bytes, where this device keeps them
	size int64  // of the object, where it is known
}

// everything lists the objects that should be on every remote, as far as this
// device knows, in the order in which they should be put.
func (p *pass) everything(ctx context.Context) ([]known, error) {
	var all []known
	self := p.getSelf()
	err := p.eachNote(ctx, "member/", func(_ string, value []byte) error {
		var m memberNote
		err := json.Unmarshal(value, &m)
		own := m.Ref.Writer == self.Device && m.Sum == "" || m.Ref.Kind == "door" && self.DoorSeq != 0 && m.Ref.Number == self.Door.N
		if !own { // what this device made is in the outbox
			all = append(all, known{ref: m.Ref, id: m.ID, sum: m.Sum})
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	err = p.eachNote(ctx, "out/", func(_ string, value []byte) error {
		var out outNote
		err := json.Unmarshal(value, &out)
		if !out.Delete && !out.Gone {
			all = append(all, known{out.Ref, out.ID, out.Sum, out.Size})
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, f := range p.finders() {
		if !slices.ContainsFunc(all, func(k known) bool { return k.ref == f.ref }) {
			all = append(all, f)
		}
	}
	bases, err := p.othersBases(ctx)
	if err != nil {
		return nil, err
	}
	all = append(all, bases...)
	err = p.eachNote(ctx, "log/", func(key string, value []byte) error {
		var entry logNote
		device, number, _ := strings.Cut(key, "/")
		ref := Ref{Kind: "entry", Writer: device}
		var err error
		if ref.Number, err = hexNumber(number); err != nil {
			return err
		}
		err = json.Unmarshal(value, &entry)
		if device != self.Device && ref.Number > p.excused(device).N && ref.Number <= p.limitOf(device) {
			all = append(all, known{ref: ref, id: entry.ID, sum: entry.Sum, size: entry.Size})
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	packs, err := p.packsOf(ctx)
	for ref, id := range packs {
		if ref.Writer != self.Device {
			all = append(all, known{ref: ref, id: id})
		}
	}
	return all, err
}

// othersBases lists the newest bases of other devices and their runs.
func (p *pass) othersBases(ctx context.Context) (list []known, err error) {
	err = p.eachNote(ctx, "base/", func(writer string, value []byte) error {
		var b baseNote
		if err := json.Unmarshal(value, &b); err != nil {
			return err
		}
		if writer == p.sealer.Device() || p.excused(writer).N >= b.Base.Upto.N {
			return nil
		}
		for _, r := range b.Base.Runs {
			list = append(list, known{ref: Ref{Kind: "run", Writer: writer, Number: r.N}, id: r.ID, size: r.Size})
		}
		list = append(list, known{ref: Ref{Kind: "base", Writer: writer, Number: b.N}, id: b.ID})
		return nil
	})
	return list, err
}

// everythingOn lists what should be on one remote: everything but what was deleted
// there because a base covers it.
func (p *pass) everythingOn(ctx context.Context, l *link) ([]known, error) {
	all, err := p.everything(ctx)
	if err != nil {
		return nil, err
	}
	own, err := p.ownBase(ctx)
	if err != nil {
		return nil, err
	}
	rest, err := p.restOn(ctx, l.Name)
	return slices.DeleteFunc(all, func(k known) bool { return p.isGone(k.ref, own, rest) }), err
}

// logged says that an object is a part of a log: one that is lost is noted.
func (k known) logged() bool {
	return k.ref.Kind == "entry" || k.ref.Kind == "run" || k.ref.Kind == "base"
}

// lostKey is where it is noted that a remote has lost a part of a log.
func (k known) lostKey(l *link) string {
	if k.ref.Kind == "entry" {
		return fmt.Sprintf("lost/%s/%s/%d", l.Name, k.ref.Writer, k.ref.Number)
	}
	return fmt.Sprintf("lost/%s/%s-%s/%d", l.Name, k.ref.Kind, k.ref.Writer, k.ref.Number)
}

// heal puts again what a remote has lost of what this device keeps: its own
// objects, and everybody's doors and membership. Entries of others that are lost
// are noted. The listing only tells where to look.
func (p *pass) heal(ctx context.Context) error {
	if err := p.readBases(ctx); err != nil {
		return err
	}
	if err := p.keepFinders(ctx); err != nil {
		return err
	}
	all, err := p.everything(ctx)
	if err != nil || p.without.putAgain {
		return err
	}
	for _, l := range p.links {
		if !l.sure || l.failed() != nil {
			continue
		}
		err := p.healOn(ctx, l, all)
		if err == nil {
			err = p.copyStatements(ctx, l)
		}
		p.healed[l.Name] = err == nil
		if err != nil && l.failed() == nil {
			return err
		}
	}
	return nil
}

func (p *pass) healOn(ctx context.Context, l *link, all []known) error {
	names, _, err := l.list(ctx)
	if err != nil {
		return err
	}
	own, err := p.ownBase(ctx)
	if err != nil {
		return err
	}
	rest, err := p.restOn(ctx, l.Name)
	if err != nil {
		return err
	}
	late, err := p.lateNames(ctx, l)
	if err != nil {
		return err
	}
	asked, due := 0, map[string]bool{} // the keys of notices of what should be there
	for _, k := range all {
		name := p.sealer.Name(k.ref)
		size, listed := names[name]
		if !p.isGone(k.ref, own, rest) {
			due["verify/"+l.Name+"/"+name], due[k.lostKey(l)] = true, true
		}
		switch {
		case late[name]: // it waits for room
		case p.isGone(k.ref, own, rest):
		case p.waitsFor("verify/" + l.Name + "/" + name), listed && k.size != 0 && size != k.size: // a part of it, perhaps
			_, err = p.verifyOne(ctx, l, k)
		case listed && !p.waitsFor(k.lostKey(l)) || k.sum == "" && (!k.logged() && len(p.links) < 2 || asked >= lostAtOnce):
		default:
			asked++
			err = p.healOne(ctx, l, k, name)
		}
		if err != nil {
			return err
		}
	}
	for _, prefix := range []string{"verify/", "lost/"} { // what was covered meanwhile is not missed
		if err := p.clearPrefix(ctx, prefix+l.Name+"/", func(key string) bool { return due[key] }); err != nil {
			return err
		}
	}
	if err := p.clearRemoved(ctx, l, names); err != nil {
		return err
	}
	return p.sweep(ctx, l, names, own, rest)
}

// healOne looks whether an object that is not listed is there, and puts it again
// if not.
func (p *pass) healOne(ctx context.Context, l *link, k known, name string) error {
	there, err := l.has(ctx, name)
	if err != nil {
		return err
	}
	there = there && !p.without.listIsHint
	key := k.lostKey(l)
	switch {
	case there:
		return p.clear(ctx, key)
	case k.sum != "" || len(p.links) > 1: // it may never have been on this remote
		object, err := p.anywhere(ctx, l, k)
		if err != nil {
			return err
		}
		if object != nil {
			return errors.Join(p.mend(ctx, l, k, object), p.settled(ctx, l, k))
		}
		if !k.logged() {
			_, err := p.replace(ctx, k)
			return err
		}
	}
	w := p.missingNotice(k.ref.Writer, k.ref.Number)
	w.Object = name
	w.What = fmt.Sprintf("%s %d of %s was read here and is not on %s any more", k.ref.Kind, k.ref.Number, p.nameOf(k.ref.Writer), l.Name)
	return p.wait(ctx, key, w)
}

// A mendNote is an object that is being put again. It is noted before, because a
// put that fails may leave a part, and is put until that worked.
type mendNote struct {
	Ref Ref    `json:"ref"`
	ID  string `json:"id"`
	Sum string `json:"sum,omitempty"`
}

// mend puts an object again that a remote has lost or damaged.
func (p *pass) mend(ctx context.Context, l *link, k known, object []byte) error {
	name := p.sealer.Name(k.ref)
	key := "mend/" + l.Name + "/" + name
	n := notes{}
	n.set(key, mendNote{k.ref, k.id, k.sum})
	if k.ref.Kind == "run" && k.ref.Writer == p.sealer.Device() {
		n[readKey(l.Name, k.ref.Number)] = nil
	}
	if err := p.state.SetNotes(ctx, n); err != nil {
		return err
	}
	if err := l.put(ctx, name, object); err != nil {
		return err
	}
	p.mended.Add(1)
	return p.state.SetNotes(ctx, notes{key: nil})
}

// mendAll goes on with what was being put again when a pass ended.
func (p *pass) mendAll(ctx context.Context, l *link) error {
	prefix := "mend/" + l.Name + "/"
	var all []mendNote
	err := p.eachNote(ctx, prefix, func(_ string, value []byte) error {
		var m mendNote
		err := json.Unmarshal(value, &m)
		all = append(all, m)
		return err
	})
	for _, m := range all {
		if err != nil {
			return err
		}
		var object []byte
		k := known{ref: m.Ref, id: m.ID, sum: m.Sum}
		if object, err = p.anywhere(ctx, l, k); err == nil && object != nil {
			err = p.mend(ctx, l, k, object)
		}
	}
	return err
}

// Verify reads everything back that should be on a remote and checks it, after a
// full pass, and repairs what this device keeps or another remote has.
func (r *Replica) Verify(ctx context.Context, remote string, progress Progress) (Report, error) {
	p, end, err := r.begin(ctx, SyncOptions{Full: true, Progress: progress})
	if err != nil {
		return Report{}, err
	}
	defer end()
	i := slices.IndexFunc(p.links, func(l *link) bool { return l.Name == remote || remote == "" })
	if i < 0 {
		return Report{}, fmt.Errorf("there is no remote %q", remote)
	}
	report, err := p.verify(ctx, p.links[i])
	_, err = p.finish(ctx, err)
	return report, err
}

func (p *pass) verify(ctx context.Context, l *link) (Report, error) {
	report := Report{Remote: l.Name}
	if err := p.run(ctx); err != nil {
		return report, err
	}
	if err := p.readBases(ctx); err != nil {
		return report, err
	}
	all, err := p.everythingOn(ctx, l)
	if err != nil {
		return report, err
	}
	if err := l.failed(); err != nil {
		return report, fmt.Errorf("%s: %w", l.Name, err)
	}
	late, err := p.lateNames(ctx, l)
	if err != nil {
		return report, err
	}
	var group sync.WaitGroup
	var mu sync.Mutex
	work := make(chan known)
	var errs []error
	for range verifyAtOnce {
		group.Go(func() {
			for k := range work {
				one, err := p.verifyOne(ctx, l, k)
				mu.Lock()
				report.add(one)
				errs = append(errs, err)
				done := int64(report.Objects)
				mu.Unlock()
				p.o.Progress.tell("verifying", done, int64(len(all)))
			}
		})
	}
	for _, k := range all {
		if ctx.Err() != nil || l.failed() != nil {
			break
		}
		if !late[p.sealer.Name(k.ref)] {
			work <- k
		}
	}
	close(work)
	group.Wait()
	if err := errors.Join(append(errs, l.failed(), ctx.Err())...); err != nil {
		return report, err
	}
	if err := p.repack(ctx); err != nil {
		return report, err
	}
	if err := p.verifyUnread(ctx, l, all, &report); err != nil {
		return report, err
	}
	if err := p.copyEpochs(ctx, l); err != nil {
		return report, err
	}
	report.Repaired = int(p.mended.Load())
	slices.Sort(report.Missing)
	slices.Sort(report.Bad)
	return report, p.misfits(ctx, l, all, &report)
}

// verifyUnread reports what this device was to read and could not, because it is
// missing or damaged on a remote. That it waits is noted already, and whether it
// becomes an alarm is a matter of time: the cloud may only be slow.
func (p *pass) verifyUnread(ctx context.Context, l *link, all []known, report *Report) error {
	read := map[string]bool{}
	for _, k := range all {
		read[p.sealer.Name(k.ref)] = true
	}
	p.waiting.Lock()
	unread := map[string]waitNote{}
	for _, w := range p.waits {
		if (w.Kind == "missing" || w.Kind == "bad") && w.Object != "" && !read[w.Object] {
			unread[w.Object] = *w
		}
	}
	p.waiting.Unlock()
	for name, w := range unread {
		sealed, err := l.get(ctx, name)
		ref := Ref{Kind: "entry", Writer: w.Device, Number: w.Number}
		switch {
		case errors.Is(err, ErrNotFound):
			report.Missing = append(report.Missing, name)
		case errors.Is(err, errTooLong):
			report.Bad = append(report.Bad, name)
		case err != nil:
			return err
		case p.sealer.Name(ref) != name || !p.good(known{ref: ref}, sealed):
			report.Bad = append(report.Bad, name)
		}
		report.Objects++
		report.Bytes += int64(len(sealed))
	}
	return nil
}

func (r *Report) add(one Report) {
	r.Objects += one.Objects
	r.Bytes += one.Bytes
	r.Missing, r.Bad = append(r.Missing, one.Missing...), append(r.Bad, one.Bad...)
}

// verifyOne reads one object back, and repairs it where it is missing or bad.
func (p *pass) verifyOne(ctx context.Context, l *link, k known) (Report, error) {
	name := p.sealer.Name(k.ref)
	sealed, err := l.get(ctx, name)
	if err != nil && !errors.Is(err, ErrNotFound) && !errors.Is(err, errTooLong) {
		return Report{}, err
	}
	r := Report{Objects: 1, Bytes: int64(len(sealed))}
	absent := errors.Is(err, ErrNotFound)
	if err == nil && p.good(k, sealed) {
		return r, p.settled(ctx, l, k)
	}
	object, err := p.anywhere(ctx, l, k)
	if err != nil {
		return r, err
	}
	if object != nil {
		if err := p.mend(ctx, l, k, object); err != nil {
			return r, err
		}
		return r, p.settled(ctx, l, k)
	}
	if absent {
		r.Missing = []string{name}
	} else {
		r.Bad = []string{name}
	}
	if replaced, err := p.replace(ctx, k); err != nil || replaced {
		return r, errors.Join(err, p.settled(ctx, l, k))
	}
	return r, p.wait(ctx, fmt.Sprintf("verify/%s/%s", l.Name, name), waitNote{
		Kind: map[bool]string{true: "missing", false: "bad"}[absent], Object: name, Device: k.ref.Writer, Number: k.ref.Number,
		What: fmt.Sprintf("%s %d of %s is %s on %s", k.ref.Kind, k.ref.Number, p.nameOf(k.ref.Writer), map[bool]string{true: "missing", false: "damaged"}[absent], l.Name),
		Do:   "run 'locker verify' on the device that wrote it; it puts the good one again",
	})
}

// settled takes back what was noted of an object that is well.
func (p *pass) settled(ctx context.Context, l *link, k known) error {
	keys := []string{fmt.Sprintf("verify/%s/%s", l.Name, p.sealer.Name(k.ref))}
	if k.logged() {
		keys = append(keys, k.lostKey(l))
	}
	return p.clear(ctx, keys...)
}

// good says whether bytes are the object. What is sealed to others is compared with
// the copy kept here.
func (p *pass) good(k known, sealed []byte) bool {
	if k.ref.Kind == "epoch" && k.ref.To != p.sealer.Device() {
		if k.sum == "" {
			return true // sealed to the phrase, read when this device was restored
		}
		return sumOf(sealed) == k.sum
	}
	if k.ref.Kind == "phrase" {
		return sumOf(sealed) == k.sum
	}
	o, v := p.open(k.ref, sealed)
	if v == found && (k.ref.Kind == "door" || k.ref.Kind == "member") {
		return true // another one took its place, of which there are copies then
	}
	return v == found && (k.id == "" || k.id == o.id) || v == newer
}

// anywhere returns the good bytes of an object, from here or from another remote, or
// nil.
func (p *pass) anywhere(ctx context.Context, l *link, k known) ([]byte, error) {
	if k.sum != "" {
		object, err := p.kept(k.ref, k.sum)
		if err == nil {
			return object, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			p.log.Warn("a sealed object is damaged here", "err", err)
		}
	}
	for _, other := range p.links {
		if other == l {
			continue
		}
		sealed, err := other.get(ctx, p.sealer.Name(k.ref))
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err == nil && p.good(k, sealed) {
			return sealed, nil
		}
	}
	return nil, nil
}

// copyEpochs copies verbatim, from other remotes, the epochs that others made for
// others and for the phrase. This device cannot check them; whoever reads them does.
func (p *pass) copyEpochs(ctx context.Context, l *link) error {
	if len(p.links) < 2 {
		return nil
	}
	members := p.sealer.Members()
	for _, maker := range members {
		if maker == p.sealer.Device() {
			continue
		}
		for number := range p.peer(maker).Epoch {
			for _, to := range append(slices.Clone(members), phrase) {
				ref := Ref{Kind: "epoch", Writer: maker, Number: number + 1, To: to}
				there, err := l.has(ctx, p.sealer.Name(ref))
				if err != nil {
					return err
				}
				if there {
					continue
				}
				object, err := p.anywhere(ctx, l, known{ref: ref})
				if err != nil {
					return err
				}
				if object == nil {
					continue // that device was not a member then
				}
				if err := p.mend(ctx, l, known{ref: ref}, object); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// misfits counts the names on a remote that are no object of this locker that this
// device knows of.
func (p *pass) misfits(ctx context.Context, l *link, all []known, report *Report) error {
	names, misfits, err := l.list(ctx)
	if err != nil {
		return err
	}
	for _, k := range all {
		delete(names, p.sealer.Name(k.ref))
	}
	meetings, err := p.meetingNames(ctx)
	if err != nil {
		return err
	}
	for _, name := range meetings {
		delete(names, name)
	}
	self := p.getSelf()
	devices := p.everyone()
	for _, device := range devices {
		peer := p.peer(device)
		mark, epoch := peer.Mark, peer.Epoch
		if device == self.Device {
			mark, epoch = self.Mark.N, maxEpochs
		}
		for number := range mark + 2*markLast {
			delete(names, p.sealer.Name(Ref{Kind: "mark", Writer: device, Number: number}))
		}
		for number := uint64(1); number <= min(epoch+2, maxEpochs); number++ {
			for _, to := range append(slices.Clone(devices), phrase) {
				delete(names, p.sealer.Name(Ref{Kind: "epoch", Writer: device, Number: number, To: to}))
			}
		}
		if peer.Looked != 0 && device != self.Device { // written since the pass began
			for number := range uint64(4) {
				delete(names, p.sealer.Name(Ref{Kind: "entry", Writer: device, Number: peer.Read.N + number}))
			}
		}
		if err := p.notMisfits(ctx, names, device); err != nil {
			return err
		}
	}
	report.Misfits = misfits + len(names)
	return nil
}

// notMisfits takes out of a listing what bases cover, or have replaced, and is not
// deleted yet, and the next base.
func (p *pass) notMisfits(ctx context.Context, names map[string]int64, device string) error {
	self := p.getSelf()
	run, number, upto := self.Run, self.Base, self.Entry.N
	if device != self.Device {
		var b baseNote
		if ok, err := p.note(ctx, baseKey(device), &b); err != nil || !ok {
			return err
		}
		for n := range b.Base.numbers() {
			run = max(run, n)
		}
		run, number, upto = run+16, b.N+1, b.Base.Upto.N
	}
	for kind, most := range map[string]uint64{"run": run, "base": number, "entry": upto} {
		for n := range most {
			delete(names, p.sealer.Name(Ref{Kind: kind, Writer: device, Number: n + 1}))
		}
	}
	return nil
}

// maxEpochs bounds the names of epochs for others that are told from misfits.
const maxEpochs = 64
