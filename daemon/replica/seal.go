package replica

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"time"
)

// How long acknowledgements and records of audit and apps wait, and how often a
// device shows that it lives.
const (
	holdMost  = time.Hour
	lifeEvery = 24 * time.Hour
)

// A piece is a part of an entry: what State.Cut returned, being compressed.
type piece struct {
	size   int
	next   []byte
	urgent bool
	fresh  []string // keys of the notes of lines that are told so
	frame  chan []byte
}

// cut reads what is new in State, in pieces, and compresses them side by side.
func (p *pass) cut(ctx context.Context, after []byte, pieces chan<- piece) error {
	defer close(pieces)
	i := 0
	send := func(c piece, lines []byte) error {
		c.size, c.frame = len(lines), make(chan []byte, 1)
		go func(i int) { c.frame <- p.codec.compressPiece(i, p.buffer(), lines) }(i)
		i++
		select {
		case pieces <- c:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	err := p.freshLines(ctx, func(keys []string, lines []byte) error {
		return send(piece{urgent: true, fresh: keys}, lines)
	})
	for err == nil {
		var lines []byte
		var c piece
		if lines, c.next, c.urgent, err = p.state.Cut(ctx, after, pieceSize); err != nil || len(lines) == 0 {
			return err
		}
		after = c.next
		err = send(c, lines)
	}
	return err
}

// sealEntries seals what is new in State, as entries of bounded size, and an empty
// one where an answer or a sign of life is due.
func (p *pass) sealEntries(ctx context.Context) error {
	self := p.getSelf()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	pieces, cutting := make(chan piece, 3), make(chan error, 1)
	go func() { cutting <- p.cut(ctx, self.Cut, pieces) }()

	e := entry{cut: self.Cut}
	sealed := false
	for c := range pieces {
		frame := <-c.frame
		if e.size > 0 && (e.size+c.size > entryLines || len(e.frames)+len(frame) > entryFrames) {
			if err := p.sealEntry(ctx, e); err != nil {
				return err
			}
			sealed, e = true, entry{frames: e.frames[:0]}
		}
		e.frames, e.size, e.urgent = append(e.frames, frame...), e.size+c.size, e.urgent || c.urgent
		e.fresh = append(e.fresh, c.fresh...)
		if c.next != nil {
			e.cut = c.next
		}
		p.release(frame)
	}
	if err := <-cutting; err != nil {
		return fmt.Errorf("reading what is new here: %w", err)
	}
	if !sealed && !p.due(e) || sealed && e.size == 0 {
		return nil
	}
	return p.sealEntry(ctx, e)
}

// An entry is one on its way to be sealed.
type entry struct {
	frames []byte
	size   int    // of the lines
	cut    []byte // what is sealed with it
	urgent bool
	fresh  []string // keys of the notes of lines about blobs that it tells
	notes  notes    // stored in the same write
	adopts map[string]seen
}

// due says whether the only entry of a pass is to be sealed now.
func (p *pass) due(e entry) bool {
	self, now := p.getSelf(), p.now()
	waited := func(since int64, d time.Duration) bool { return now-since >= d.Milliseconds() }
	switch {
	case self.Made == 0 || self.Tell || waited(self.Made, lifeEvery):
		return true
	case self.Ack && waited(self.Made, holdMost):
		return true
	case self.Announce != 0 && (!p.o.Hold || waited(self.Announce, holdMost)):
		return true
	case e.size == 0:
		return false
	case e.urgent || !p.o.Hold:
		return true
	case self.Held == 0:
		self.Held = now
		p.remember(self)
		return false
	}
	return waited(self.Held, holdMost)
}

// sealEntry seals the next entry of this device into the outbox, and a mark where
// one is due.
func (p *pass) sealEntry(ctx context.Context, e entry) error {
	self, n := p.getSelf(), notes{}
	maps.Copy(n, e.notes)
	if e.adopts != nil {
		self.Adopts = maps.Clone(self.Adopts)
		if self.Adopts == nil {
			self.Adopts = map[string]seen{}
		}
		maps.Copy(self.Adopts, e.adopts)
	}
	h := p.newHeader(self)
	h.Prev, h.Vector = self.Entry.ID, p.vector()
	ref := Ref{Kind: "entry", Writer: self.Device, Number: self.Entry.N + 1}
	object, id, err := p.sealer.Seal(ref, h.encode(), e.frames)
	if err != nil {
		return fmt.Errorf("sealing an entry: %w", err)
	}
	if err := p.told(n, e.fresh, ref.Number); err != nil {
		return err
	}
	if e.cut != nil {
		self.Cut = e.cut
	}
	self.Entry, self.Made, self.Ack, self.Held = seen{ref.Number, id}, p.now(), false, 0
	self.Tell = false
	n.set(logKey(self.Device, ref.Number), logNote{ID: id, Seq: self.Seq + 1, Made: p.now(), Cut: self.Cut})
	if err := p.stage(ctx, self, n, staged{ref, id, object}); err != nil {
		return err
	}
	if self.Announce != 0 || self.Entry.N-self.Marked >= markEvery || p.now()-self.MarkAt >= lifeEvery.Milliseconds() {
		if err := p.sealMark(ctx); err != nil {
			return err
		}
	}
	p.wake()
	return nil
}

// tell notes that the next line of the outbox is a mark that names the bases by which
// this device stands, as the entry before it does: then what they cover may go. With no
// mark a reader would not find what comes after what went.
func (p *pass) tell(ctx context.Context, self *selfNote, n notes) error {
	if self.Announce == 0 {
		return nil
	}
	self.Announce = 0
	covers, err := p.covers(ctx)
	for _, c := range covers {
		if c.Told == 0 {
			c.Told = self.Seq + 1
			n.set(coverKey(c.n), c.coverNote)
		}
	}
	return err
}

// vector is what this device has read of others, without gaps, and counts.
func (p *pass) vector() map[string]seen {
	v := map[string]seen{}
	for device, peer := range p.peers {
		read := peer.Read
		if pin, out := p.sealer.PinOf(device); out && read.N > pin.Number {
			read = seen{pin.Number, pin.ID}
		}
		if read.N > 0 && device != p.sealer.Device() {
			v[device] = read
		}
	}
	return v
}

// sealMark seals a mark, and puts the deletion of those that it replaces on the list.
func (p *pass) sealMark(ctx context.Context) error {
	self, n := p.getSelf(), notes{}
	h := p.newHeader(self)
	at := self.Entry
	h.Prev, h.Entry, h.Counts = self.Mark.ID, &at, p.recordCounts()
	ref := Ref{Kind: "mark", Writer: self.Device, Number: self.Mark.N + 1}
	object, id, err := p.sealer.Seal(ref, h.encode(), nil)
	if err != nil {
		return fmt.Errorf("sealing a mark: %w", err)
	}
	self.Mark, self.Marked, self.MarkAt = seen{ref.Number, id}, self.Entry.N, p.now()
	self.Marks = maps.Clone(self.Marks)
	if self.Marks == nil {
		self.Marks = map[uint64]uint64{}
	}
	self.Marks[ref.Number] = self.Seq + 1
	if err := p.tell(ctx, self, n); err != nil {
		return err
	}
	list := []staged{{ref, id, object}}
	for _, m := range p.marksGone(ref.Number) {
		seq := self.Marks[m]
		var out outNote
		if ok, err := p.note(ctx, outKey(seq), &out); err != nil {
			return err
		} else if !ok {
			continue
		}
		out.Gone = true
		n.set(outKey(seq), out)
		delete(self.Marks, m)
		list = append(list, staged{ref: out.Ref})
	}
	if err := p.stage(ctx, self, n, list...); err != nil {
		return err
	}
	for _, o := range list[1:] {
		path, err := p.path(o.ref)
		if err != nil {
			return err
		}
		if err := p.disk.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			p.log.Warn("a mark that is no longer needed stays", "err", err)
		}
	}
	return nil
}
