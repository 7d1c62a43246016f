package replica

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

// What this device holds of a removed device's log it publishes in its own, with the
// revisions that it has, for two reasons.
//
// Beyond the pin: whoever had read more than counts holds what others will never get
// from that log. Each that does publishes it at once, once for each pin. So whatever an
// honest device holds is in the logs that count, and all come to the same state.
//
// Up to the pin: a removed device does not keep its log in repair, and may delete it.
// So one of the members, the most senior that is awake and has read it to the pin,
// adopts it: publishes what it holds of it, and says in its headers that it did. From
// then on nobody needs the removed device's own log.
//
// Both are a jobNote that is worked off entry by entry, so that a crash repeats one
// entry at most.

// awake is how long ago the last sign of life of a senior member may be for it to be
// left to do what the most senior does, and patient when others do it anyway.
const (
	awake   = 2 * lifeEvery
	patient = 30 * lifeEvery
)

// A jobNote is what is being published again of a removed device's log.
type jobNote struct {
	Pin   seen   `json:"pin"`
	Adopt bool   `json:"adopt,omitempty"` // the log up to the pin; else what is beyond it
	Upto  uint64 `json:"upto"`            // the last entry that was read of the log
	By    reach  `json:"by"`              // what is still to be published, without what State.Written has told
	Blobs bool   `json:"blobs,omitempty"` // lines that tell where blobs lie are, too
	Extra bool   `json:"extra,omitempty"` // lines of newer kinds are, too
	After []byte `json:"after,omitempty"` // State.Written: of the first device in By
}

func againKey(device string) string { return "again/" + device }

// publishAgain publishes what is owed of the logs of removed devices.
func (p *pass) publishAgain(ctx context.Context) error {
	removed := p.sealer.Removed()
	p.waiting.Lock()
	renewed := p.waits["renewed"]
	p.waiting.Unlock()
	if renewed != nil && !slices.Contains(p.sealer.Members(), renewed.Device) {
		if err := p.clear(ctx, "renewed"); err != nil { // the owner removed the other copy
			return err
		}
	}
	for device, peer := range p.peers {
		if _, out := removed[device]; !out && peer.Out != 0 {
			if err := p.isBack(ctx, device); err != nil {
				return err
			}
		}
	}
	for _, device := range slices.Sorted(maps.Keys(removed)) {
		if device == p.sealer.Device() {
			continue
		}
		job, err := p.owed(ctx, device)
		if err != nil {
			return err
		}
		if job == nil || job.Adopt && p.without.adopt || !job.Adopt && p.without.again {
			continue
		}
		if err := p.work(ctx, device, *job); err != nil {
			return fmt.Errorf("publishing what is held of %s: %w", p.nameOf(device), err)
		}
	}
	return nil
}

// isBack forgets what belongs to the removal of a device that is a member again.
func (p *pass) isBack(ctx context.Context, device string) error {
	peer := p.peer(device).copy()
	peer.Out = 0
	n := notes{againKey(device): nil}
	n.set(peerKey(device), peer)
	if err := p.state.SetNotes(ctx, n); err != nil {
		return err
	}
	p.peers[device] = peer
	return nil
}

// owed returns what is to be published of a removed device's log, or nil.
func (p *pass) owed(ctx context.Context, device string) (*jobNote, error) {
	pin, _ := p.sealer.PinOf(device)
	at := seen{pin.Number, pin.ID}
	peer := p.peer(device)
	if peer.Out == 0 {
		peer.Out = p.now()
		p.dirty[device] = true
	}
	var job jobNote
	has, err := p.note(ctx, againKey(device), &job)
	if err != nil {
		return nil, err
	}
	from := at.N + 1
	if p.forked(peer, device, at) {
		from = 1 // what was read up to the pin is not what the pin stands for
	}
	end := peer.end()
	done := peer.Again != nil && peer.Again.Upto >= end && (peer.Again.Pin == at || peer.Again.Pin.N < at.N)
	switch {
	case end >= from && !done:
		if !has || job.Adopt || job.Pin != at || job.Upto != end {
			job = jobNote{Pin: at, Upto: end, Extra: true}
			job.By, job.Blobs = peer.reachOf(from, end)
		}
		return &job, nil
	case has && job.Adopt && job.Pin == at:
		return &job, nil
	case !p.mayAdopt(peer, device, at):
		return nil, nil
	}
	job = jobNote{Pin: at, Adopt: true, Upto: at.N, Extra: true}
	job.By, job.Blobs = peer.reachOf(1, at.N)
	return &job, nil
}

// forked says whether what was read of a log is not what its pin stands for.
func (p *pass) forked(peer *peerNote, device string, pin seen) bool {
	if id, known := peer.idOf(pin.N); known && pin.N > 0 {
		return id != pin.ID
	}
	return false
}

// mayAdopt says whether this device is the one to adopt a log now.
func (p *pass) mayAdopt(peer *peerNote, device string, pin seen) bool {
	self := p.getSelf()
	if pin.N == 0 || peer.Read.N < pin.N || p.forked(peer, device, pin) || p.excused(device).N >= pin.N {
		return false
	}
	if p.now()-peer.Out >= patient.Milliseconds() {
		return true
	}
	for _, senior := range p.sealer.Seniority() {
		if senior == self.Device {
			return true
		}
		if p.now()-p.peer(senior).News < awake.Milliseconds() {
			return false
		}
	}
	return false
}

// excused is the entry up to which a log is held by others: its missing entries are
// excused by an adoption that counts. Its number is 0 where there is none.
func (p *pass) excused(device string) seen {
	upto, _ := p.adopted(device, false)
	return upto
}

// adopted is excused, and by whom. read asks for adoptions alone that were read here.
func (p *pass) adopted(device string, read bool) (upto seen, by string) {
	if pin, ok := p.getSelf().Adopts[device]; ok {
		upto, by = pin, p.sealer.Device()
	}
	for _, other := range slices.Sorted(maps.Keys(p.peers)) {
		peer := p.peers[other]
		a, ok := peer.Adopts[device]
		if ok && other != device && a.Entry <= p.limitOf(other) && a.Pin.N > upto.N && (!read || peer.Read.N >= a.Entry) {
			upto, by = a.Pin, other
		}
	}
	return upto, by
}

// inherit moves on in a log that somebody adopted, once that somebody's log was read:
// all that counts of it is here.
func (p *pass) inherit(ctx context.Context, device string) error {
	upto, _ := p.adopted(device, true)
	peer := p.peer(device)
	if upto.N <= peer.Read.N {
		return nil
	}
	next := peer.copy()
	next.Read, next.Named = upto, max(next.Named, upto.N)
	maps.DeleteFunc(next.Beyond, func(n uint64, _ string) bool { return n <= upto.N })
	maps.DeleteFunc(next.Expect, func(n uint64, _ string) bool { return n <= upto.N })
	for next.Beyond[next.Read.N+1] != "" {
		next.Read = seen{next.Read.N + 1, next.Beyond[next.Read.N+1]}
		delete(next.Beyond, next.Read.N)
	}
	n := notes{}
	n.set(peerKey(device), next)
	if err := p.state.SetNotes(ctx, n); err != nil {
		return err
	}
	p.peers[device] = next
	return nil
}

// clearBeyond takes back what was noted of entries of a device that do not count, or
// that others hold.
func (p *pass) clearBeyond(ctx context.Context, device string) error {
	limit, excused, read := p.limitOf(device), p.excused(device).N, p.peer(device).Read.N
	var keys []string
	if limit < math.MaxUint64 {
		keys = []string{"unseen/" + device, "clock/" + device} // what it sees and does is of no matter
	}
	p.waiting.Lock()
	for key, w := range p.waits {
		upto := read
		switch kind, _, _ := strings.Cut(key, "/"); kind {
		case "missing", "entry":
		case "lost":
			upto = excused
		default:
			continue
		}
		if w.Device == device && w.Number > 0 && (w.Number > limit || w.Number <= upto) {
			keys = append(keys, key)
		}
	}
	p.waiting.Unlock()
	return p.clear(ctx, keys...)
}

// vouch finds out which entries of a removed device's log are those that its pin
// stands for: from the pin back, each names the one before. Others' vectors name some
// as well. Whatever else lies there was written after the removal.
func (p *pass) vouch(ctx context.Context, rd *reading) error {
	peer := p.peer(rd.device)
	pin, _ := p.sealer.PinOf(rd.device)
	rd.vouched = maps.Clone(peer.Expect)
	if rd.vouched == nil {
		rd.vouched = map[uint64]string{}
	}
	maps.Copy(rd.vouched, peer.Beyond)
	rd.vouched[pin.Number] = pin.ID
	for number := pin.Number; number > peer.Read.N; number-- {
		id, known := rd.vouched[number]
		if _, before := rd.vouched[number-1]; !known || before && number < pin.Number {
			continue
		}
		o, v, err := p.fetchOpen(ctx, Ref{Kind: "entry", Writer: rd.device, Number: number})
		if err != nil {
			return err
		}
		if v == found && o.id == id {
			rd.vouched[number-1] = o.header.Prev
			peer.stand(o.header, number)
			p.dirty[rd.device] = true
		}
	}
	return nil
}

// stranger says whether an entry of a removed device is not one that its pin stands
// for, or not known to be.
func (p *pass) stranger(ctx context.Context, rd *reading, f fetched) (bool, error) {
	if !rd.removed || p.without.pins {
		return false, nil
	}
	if rd.vouched == nil {
		if err := p.vouch(ctx, rd); err != nil {
			return false, err
		}
	}
	id, known := rd.vouched[f.ref.Number]
	if known && id != f.id {
		return true, p.wait(ctx, fmt.Sprintf("fork/%s/%d", rd.device, f.ref.Number), p.forkNotice(rd.device, f.ref.Number, rd.device))
	}
	return !known, nil
}

// work publishes what a job says, entry by entry.
func (p *pass) work(ctx context.Context, device string, job jobNote) error {
	p.o.Progress.tell("publishing again", 0, 0)
	for done := false; !done; {
		e := entry{notes: notes{}}
		if err := p.extra(ctx, device, &job, &e); err != nil {
			return err
		}
		for len(job.By) > 0 && e.size < entryLines-pieceSize && len(e.frames) < entryFrames-pieceSize {
			lines, err := p.written(ctx, &job)
			if err != nil {
				return err
			}
			e.frames, e.size = p.codec.compressPiece(0, e.frames, lines), e.size+len(lines)
		}
		done = len(job.By) == 0
		e.notes.set(againKey(device), job)
		if done {
			p.finishJob(device, &job, &e)
		}
		var err error
		if e.size > 0 || e.adopts != nil {
			err = p.sealEntry(ctx, e)
		} else {
			err = p.setSelf(ctx, p.getSelf(), e.notes)
		}
		if err != nil {
			return err
		}
	}
	p.log.Info("replica: published what is held of a removed device", "device", device, "pin", job.Pin.N, "adopted", job.Adopt)
	return nil
}

// written reads on in what a job is to publish.
func (p *pass) written(ctx context.Context, job *jobNote) ([]byte, error) {
	device := slices.Min(slices.Collect(maps.Keys(job.By)))
	c := job.By[device]
	lines, next, err := p.state.Written(ctx, device, uint64(max(c[0], 1)-1), uint64(c[1]), job.After, pieceSize)
	if err != nil {
		return nil, err
	}
	if job.After = next; next == nil {
		job.By = maps.Clone(job.By)
		delete(job.By, device)
	}
	return lines, nil
}

// extra adds the lines that are not State's: where blobs lie, and of newer kinds.
func (p *pass) extra(ctx context.Context, device string, job *jobNote, e *entry) error {
	var lines []byte
	if job.Blobs {
		more, err := p.blobLinesOf(ctx, device)
		if err != nil {
			return err
		}
		lines = append(lines, more...)
	}
	if job.Extra {
		err := p.eachNote(ctx, "carry/"+device+"/", func(key string, carried []byte) error {
			number, err := hexNumber(key)
			if err == nil && (number <= job.Pin.N) == job.Adopt {
				lines = append(lines, carried...)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	job.Blobs, job.Extra = false, false
	for len(lines) > 0 {
		end := min(len(lines), pieceSize)
		if i := slices.Index(lines[end-1:], '\n'); i >= 0 {
			end += i
		}
		if e.size > 0 && (e.size+end > entryLines || len(e.frames)+end > entryFrames) {
			if err := p.sealEntry(ctx, *e); err != nil {
				return err
			}
			*e = entry{notes: notes{}}
		}
		e.frames, e.size, lines = p.codec.compressPiece(0, e.frames, lines[:end]), e.size+end, lines[end:]
	}
	return nil
}

// blobLinesOf are lines that tell where the blobs lie that a device packed.
func (p *pass) blobLinesOf(ctx context.Context, device string) (lines []byte, err error) {
	err = p.eachNote(ctx, "blob/", func(id string, _ []byte) error {
		copies, err := p.copies(ctx, id)
		for _, line := range copies {
			if slices.ContainsFunc(line.Chunks, func(c chunk) bool { return c.Writer == device }) {
				lines = append(lines, line.encode()...)
			}
		}
		return err
	})
	return lines, err
}

// finishJob notes, with the last entry of a job, that it is done.
func (p *pass) finishJob(device string, job *jobNote, e *entry) {
	e.notes[againKey(device)] = nil
	if job.Adopt {
		e.adopts = map[string]seen{device: job.Pin}
		for other, a := range p.peer(device).Adopts { // which its log held
			if a.Entry <= job.Pin.N && a.Pin.N > p.getSelf().Adopts[other].N {
				e.adopts[other] = a.Pin
			}
		}
		return
	}
	peer := p.peer(device).copy()
	peer.Again = &againNote{Pin: job.Pin, Upto: job.Upto}
	e.notes.set(peerKey(device), peer)
	p.peers[device] = peer
}

// adopts notes the logs that an entry, or what it marks, says it has adopted.
func (n *peerNote) adopts(logs map[string]seen, entry uint64) {
	for device, pin := range logs {
		if old, ok := n.Adopts[device]; ok && (old.Pin.N > pin.N || old.Pin.N == pin.N && old.Entry <= entry) {
			continue
		}
		n.Adopts = maps.Clone(n.Adopts)
		if n.Adopts == nil {
			n.Adopts = map[string]adoption{}
		}
		n.Adopts[device] = adoption{Pin: pin, Entry: entry}
	}
}
