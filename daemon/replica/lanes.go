package replica

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"
)

// A remote without room takes no packs or runs, and may well take what is small. So each
// remote has two lanes: where one is refused for want of room, its line of the
// outbox is put aside for that remote, everything else goes on, and further packs are
// put aside at once. Those lines are tried again, in their order, after the rest. Of
// deletions those go at once that free room without needing any; where blobs were
// moved before, the deletion waits behind the pack to which they were moved.
//
// Of sealed packs only the newest are kept here, up to a bound: what is in the others
// is in State too, or on the remotes. One that a remote has lost is copied from
// another, or else what was in it is packed again. While packs up to that bound wait
// that no remote has, packing waits.

// fullProbes is between tries of a full remote in passes that nobody asked for.
const fullProbes = time.Hour

func lateKey(remote string, seq uint64) string { return fmt.Sprintf("late/%s/%016x", remote, seq) }

func behindKey(seq uint64) string { return fmt.Sprintf("behind/%016x", seq) }

func heldKey(seq uint64) string { return fmt.Sprintf("held/%016x", seq) }

// A lateNote is a line of the outbox that was put aside for a remote.
type lateNote struct {
	Name string `json:"name"` // of the object
	Size int64  `json:"size,omitempty"`
}

// bulky says whether an object may wait for room: a pack, or a run, whose entries stay
// until it is there.
func bulky(ref Ref) bool { return ref.Kind == "pack" || ref.Kind == "run" }

// isFull says whether an error of a remote says that it has no room.
func isFull(err error) bool {
	var full interface{ Full() bool }
	return errors.As(err, &full) && full.Full()
}

// aside says whether a line of the outbox is to be put aside for a remote.
func (p *pass) aside(ctx context.Context, l *link, seq uint64, out outNote) (bool, error) {
	full := l.isFull()
	if !full || out.Ref.Kind != "pack" || !out.Delete {
		return full && bulky(out.Ref) && !out.Delete && !out.Gone, nil
	}
	behind, err := p.state.Note(ctx, behindKey(seq))
	return behind != nil, err
}

// isFull says whether the remote takes no packs for want of room, as far as was tried.
func (l *link) isFull() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.full
}

func (l *link) setFull(full bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.full = full
}

// putAside notes that a line of the outbox waits for room.
func (p *pass) putAside(ctx context.Context, l *link, seq uint64, out outNote, n notes) error {
	l.setFull(true)
	n.set(lateKey(l.Name, seq), lateNote{p.sealer.Name(out.Ref), out.Size})
	return p.wait(ctx, "full/"+l.Name, waitNote{
		Kind: "full", Never: true,
		What: fmt.Sprintf("remote %s is full: changes of records go on, the bytes of pictures and other blobs wait", l.Name),
		Do:   "make room there, or add another remote with 'locker remote add'",
	})
}

// putAsideFor are the lines of the outbox that wait for room on a remote, in order.
func (r *Replica) putAsideFor(ctx context.Context, remote string) (seqs []uint64, lines []lateNote, err error) {
	err = r.eachNote(ctx, "late/"+remote+"/", func(key string, value []byte) error {
		var seq uint64
		var line lateNote
		if _, err := fmt.Sscanf(key, "%x", &seq); err != nil {
			return err
		}
		err := json.Unmarshal(value, &line)
		seqs, lines = append(seqs, seq), append(lines, line)
		return err
	})
	return seqs, lines, err
}

// lateNames are the names of objects that wait for room on a remote.
func (p *pass) lateNames(ctx context.Context, l *link) (map[string]bool, error) {
	_, lines, err := p.putAsideFor(ctx, l.Name)
	names := map[string]bool{}
	for _, line := range lines {
		names[line.Name] = true
	}
	return names, err
}

// startLanes finds out whether a remote was full.
func (p *pass) startLanes(ctx context.Context, l *link) error {
	seqs, _, err := p.putAsideFor(ctx, l.Name)
	l.setFull(len(seqs) > 0)
	return err
}

// sendLate tries again what was put aside for a remote, until that is full.
func (p *pass) sendLate(ctx context.Context, l *link) error {
	seqs, _, err := p.putAsideFor(ctx, l.Name)
	if err != nil || len(seqs) == 0 {
		return err
	}
	var tried int64
	if _, err := p.note(ctx, "probe/"+l.Name, &tried); err != nil {
		return err
	}
	if p.o.Hold && p.now()-tried < fullProbes.Milliseconds() {
		return nil
	}
	l.setFull(false)
	for _, seq := range seqs {
		n := notes{lateKey(l.Name, seq): nil}
		var out outNote
		if ok, err := p.note(ctx, outKey(seq), &out); err != nil {
			return err
		} else if ok {
			if err := p.sendOne(ctx, l, seq, out, n); err != nil {
				return err
			}
		}
		full := n[lateKey(l.Name, seq)] != nil
		if full {
			n.set("probe/"+l.Name, p.now())
		}
		if err := p.state.SetNotes(ctx, n); err != nil || full {
			return err
		}
	}
	return p.clear(ctx, "full/"+l.Name)
}

// hasSent says whether a remote has a line of the outbox.
func (r *Replica) hasSent(ctx context.Context, remote string, seq uint64) (bool, error) {
	var sent uint64
	if _, err := r.note(ctx, "sent/"+remote, &sent); err != nil || sent < seq {
		return false, err
	}
	late, err := r.state.Note(ctx, lateKey(remote, seq))
	return late == nil, err
}

// sentBy counts the remotes, and those that have a line of the outbox.
func (p *pass) sentBy(ctx context.Context, seq uint64) (has, all int, err error) {
	for _, l := range p.links {
		ok, err := p.hasSent(ctx, l.Name, seq)
		if err != nil {
			return 0, 0, err
		}
		if ok {
			has++
		}
	}
	return has, len(p.links), nil
}

// A heldNote is a pack whose sealed bytes are kept here.
type heldNote struct {
	Ref  Ref   `json:"ref"`
	Size int64 `json:"size"`
	seq  uint64
}

// dropHeld removes the oldest sealed packs that all remotes have, while there are too
// many, and then those that one has: the others get them from there. It returns how
// many bytes are kept.
func (p *pass) dropHeld(ctx context.Context) (kept int64, err error) {
	var packs []heldNote
	err = p.eachNote(ctx, "held/", func(key string, value []byte) error {
		var h heldNote
		if _, err := fmt.Sscanf(key, "%x", &h.seq); err != nil {
			return err
		}
		err := json.Unmarshal(value, &h)
		packs, kept = append(packs, h), kept+h.Size
		return err
	})
	for _, partly := range []bool{false, true} {
		for i := range packs {
			if h := &packs[i]; err == nil && kept >= p.packs.held && h.Size > 0 {
				has, all, sent := p.sentBy(ctx, h.seq)
				if err = sent; err == nil && (has == all || partly && has > 0) {
					kept -= h.Size
					h.Size = 0
					err = errors.Join(p.dropFile(h.Ref), p.state.SetNotes(ctx, notes{heldKey(h.seq): nil}))
				}
			}
		}
	}
	return kept, err
}

// dropFile removes the sealed bytes of an object that are kept here.
func (r *Replica) dropFile(ref Ref) error {
	path, err := r.path(ref)
	if err != nil {
		return err
	}
	if err := r.disk.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing a sealed object: %w", err)
	}
	return nil
}

// room waits until there is room for one more sealed pack. The error is errHold where
// no remote takes those that there are.
func (p *pass) room(ctx context.Context) error {
	for {
		kept, err := p.dropHeld(ctx)
		if err != nil || kept < p.packs.held {
			return err
		}
		if !p.anySending() {
			return errHold
		}
		select {
		case <-p.progress:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// anySending says whether a remote is being sent to and takes packs.
func (p *pass) anySending() bool {
	for _, l := range p.links {
		l.mu.Lock()
		sending := l.sending && !l.full && l.err == nil
		l.mu.Unlock()
		if sending {
			return true
		}
	}
	return false
}

// anyFull says whether a remote takes no packs for want of room.
func (p *pass) anyFull() bool {
	for _, l := range p.links {
		if l.isFull() {
			return true
		}
	}
	return false
}

func (l *link) endSending() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sending = false
}

// progressed wakes who waits for room.
func (p *pass) progressed() {
	select {
	case p.progress <- struct{}{}:
	default:
	}
}
