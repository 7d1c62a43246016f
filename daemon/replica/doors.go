package replica

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
)

// Two devices that join by the phrase at once may take the same door, where a remote
// shows late what was put: the one that comes later replaces the other, whose
// admission is then nowhere on the remote, though it was read by some and is named by
// what they wrote. A door can be made with the phrase alone, which is not kept. So a
// device makes, together with its door, spares for the numbers after it: doors that
// say nothing but carry the first one as it is. It looks after its door for an hour,
// and daily, and puts a spare where another device has its place.

// A mineNote is the door of this device, with its spares.
type mineNote struct {
	Door   seen    `json:"door"`
	At     int64   `json:"at"` // ms
	Spares []spare `json:"spares"`
	Used   int     `json:"used"` // spares that were tried; the last of them stands for the door
}

// A spare is a sealed door that is put when it is needed.
type spare struct {
	Number uint64 `json:"number"`
	ID     string `json:"id"`
	Object []byte `json:"object"`
}

// at is the door that stands for this device's own.
func (m *mineNote) at() seen {
	if m.Used == 0 {
		return m.Door
	}
	s := m.Spares[m.Used-1]
	return seen{s.Number, s.ID}
}

// next is the spare to put next: one whose number is free, and not always the first
// of them, or devices that saw each other's doors at the same time would go on to meet.
func (m *mineNote) next(self *selfNote) int {
	first := m.Used
	for first < len(m.Spares) && m.Spares[first].Number < self.Doors {
		first++
	}
	h := fnv.New32a()
	fmt.Fprint(h, self.Device, m.Used)
	if free := len(m.Spares) - first; free > 0 {
		first += int(h.Sum32() % uint32(min(3, free)))
	}
	return first
}

const (
	mineKey = "mine"
	// doorWatch is how long after it was made a door is looked at by each pass.
	doorWatch = 60 * 60 * 1000 // ms
)

// A copyOf is the payload of a door or member object that carries another one: sealed,
// verbatim.
type copyOf struct {
	Version int     `json:"v"`
	Copy    *copied `json:"copy"`
}

type copied struct {
	Kind   string `json:"kind,omitempty"`   // empty for a door
	Writer string `json:"writer,omitempty"` // empty for a door
	Number uint64 `json:"number"`
	Object []byte `json:"object"`
}

// ref is what is carried.
func (c copied) ref() Ref {
	if c.Kind == "" {
		return doorRef(c.Number)
	}
	return Ref{Kind: c.Kind, Writer: c.Writer, Number: c.Number}
}

// parseCopy reads the payload of a door or member object that carries another one; ok is
// false for what does not.
func parseCopy(payload []byte) (c copied, ok bool) {
	var d copyOf
	if json.Unmarshal(payload, &d) != nil || d.Copy == nil || d.Version != 1 || d.Copy.Kind != "" && d.Copy.Kind != "member" {
		return c, false
	}
	return *d.Copy, true
}

// spareDoors seals the spares of a door, for which the keyring must hold the phrase.
func (p *pass) spareDoors(self *selfNote, ref Ref, id string, object []byte) (mineNote, error) {
	mine := mineNote{Door: seen{ref.Number, id}, At: p.now()}
	payload, err := json.Marshal(copyOf{1, &copied{Number: ref.Number, Object: object}})
	if err != nil {
		return mine, err
	}
	frames := p.codec.compress(nil, payload)
	for i := range uint64(doorsMissing - 1) {
		s := spare{Number: ref.Number + 1 + i}
		s.Object, s.ID, err = p.sealer.Seal(doorRef(s.Number), p.newHeader(self).encode(), frames)
		if err != nil {
			return mine, fmt.Errorf("sealing a spare door: %w", err)
		}
		mine.Spares = append(mine.Spares, s)
	}
	return mine, nil
}

// checkDoor looks whether another device has this one's door on a remote, and puts a
// spare into the outbox if so. often is for passes that look at everything.
func (p *pass) checkDoor(ctx context.Context, l *link, often bool) error {
	var mine mineNote
	if ok, err := p.note(ctx, mineKey, &mine); err != nil || !ok || p.without.nextDoor {
		return err
	}
	if !often && p.now()-mine.At >= doorWatch {
		return nil
	}
	at := mine.at()
	ref := doorRef(at.N)
	sealed, err := l.getPart(ctx, p.sealer.Name(ref), -1)
	if err != nil {
		return ctx.Err() // not shown yet, or the remote is left alone
	}
	o, v := p.open(ref, sealed)
	if v != found || o.id == at.ID {
		return nil
	}
	if bad, err := p.absorb(ctx, o); err != nil || bad != nil {
		return err
	}
	if _, err := p.readDoors(ctx, doorsMissing); err != nil {
		return err
	}
	return p.moveDoor(ctx)
}

// moveDoor puts the next spare whose number is free into the outbox. The door itself
// is not made anew: it may have been read, and then it is named.
func (p *pass) moveDoor(ctx context.Context) error {
	var mine mineNote
	if _, err := p.note(ctx, mineKey, &mine); err != nil {
		return err
	}
	self, n := p.getSelf(), notes{}
	if i := mine.next(self); i < len(mine.Spares) {
		s := mine.Spares[i]
		mine.Used = i + 1
		n.set(mineKey, mine)
		p.log.Info("replica: another device has the door of this one; the next one is taken", "door", s.Number)
		return p.stage(ctx, self, n, staged{doorRef(s.Number), s.ID, s.Object})
	}
	if !self.Joined { // begin again with another door
		n.set(outKey(self.DoorSeq), outNote{Ref: doorRef(self.Door.N), ID: self.Door.ID, Gone: true})
		n[mineKey] = nil
		self.Door, self.DoorSeq = seen{}, 0
		return p.setSelf(ctx, self, n)
	}
	return p.wait(ctx, "door", waitNote{
		Kind: "members", Object: p.sealer.Name(doorRef(mine.Door.N)), Device: self.Device, Alarm: true,
		What: "other devices have the door of this one on the remote, so that devices which join do not learn of it",
		Do:   "let another device admit this one anew: 'locker device invite' there, 'locker device join' here",
	})
}

// mineTaken says whether a line of the outbox is this device's door, or a spare of it,
// whose place on a remote another device took before it was put there: the next look
// puts another spare. It is not so of what the owner is still waiting for.
func (p *pass) mineTaken(ctx context.Context, out outNote, why error) (bool, error) {
	if !errors.Is(why, errDoorTaken) {
		return false, nil
	}
	var mine mineNote
	if _, err := p.note(ctx, mineKey, &mine); err != nil || !p.getSelf().Joined && out.ID == mine.at().ID {
		return false, err
	}
	return out.ID == mine.Door.ID || slices.ContainsFunc(mine.Spares, func(s spare) bool { return s.ID == out.ID }), nil
}

// absorbCopy takes the door or member object that another one carries. bad is why it
// was refused.
func (p *pass) absorbCopy(ctx context.Context, o object, c copied, payload []byte) (bad, err error) {
	if o.ref.Kind == "door" && (c.Kind != "" || c.Number >= o.ref.Number) {
		return errors.New("it carries what is no door that comes before it"), nil
	}
	inner, v := p.open(c.ref(), c.Object)
	switch {
	case v == closed || v == newer:
		return errLater{inner.why}, nil
	case v != found:
		return fmt.Errorf("what it carries is not as it should be: %w", inner.why), nil
	}
	said, err := p.codec.decompress(inner.frames, nil, maxPayload)
	if err != nil {
		return err, nil
	}
	if _, nested := parseCopy(said); nested {
		return errors.New("it carries what carries another"), nil
	}
	if bad, err := p.absorb(ctx, inner); bad != nil || err != nil {
		return bad, err
	}
	p.carries(o.ref, inner.id)
	m := memberNote{Ref: o.ref, ID: o.id, Log: o.log, Payload: payload, Copy: inner.id}
	if twin, err := p.twin(ctx, o); err != nil {
		return nil, err
	} else if !twin {
		if err := p.keep(o.ref, o.sealed); err != nil {
			return nil, err
		}
		m.Sum = sumOf(o.sealed)
	}
	n := notes{}
	n.set("member/"+o.name+"/"+o.id, m)
	return nil, p.setSelf(ctx, p.getSelf(), n)
}

// twin says whether the bytes of another object of the same name are kept here: there is
// one file for both.
func (p *pass) twin(ctx context.Context, o object) (is bool, err error) {
	var mine mineNote
	if _, err := p.note(ctx, mineKey, &mine); err != nil {
		return false, err
	}
	own := func(n uint64, id string) bool { return o.ref == doorRef(n) && o.id != id }
	if own(mine.Door.N, mine.Door.ID) && mine.Spares != nil || slices.ContainsFunc(mine.Spares[:mine.Used], func(s spare) bool { return own(s.Number, s.ID) }) {
		return true, nil
	}
	err = p.eachNote(ctx, "member/"+o.name+"/", func(id string, value []byte) error {
		var m memberNote
		err := json.Unmarshal(value, &m)
		is = is || id != o.id && m.Sum != ""
		return err
	})
	return is, err
}

// carries notes that a door or member object that carries another one was absorbed.
func (r *Replica) carries(ref Ref, inner string) {
	r.copied[inner] = true
	if ref.Kind == "door" {
		r.doors[ref.Number] = true
	}
}
