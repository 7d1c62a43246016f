package replica

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
)

// Two different doors can want one name, when two devices took the same number unseen
// by each other; two member objects, when their writer is a thief or runs twice. A
// remote keeps one of them. Who has the other puts a copy of it into a member object
// of its own, so that all come to know both: until then nobody could tell who is a
// member.

// errLater says that what a copy holds cannot be opened yet.
type errLater struct{ error }

// copyStatements looks, on one remote, under the name of each door and member object
// that is known here, and copies those in whose place another one is.
func (p *pass) copyStatements(ctx context.Context, l *link) error {
	var all []memberNote
	err := p.eachNote(ctx, "member/", func(_ string, value []byte) error {
		var m memberNote
		err := json.Unmarshal(value, &m)
		if m.Ref.Kind != "epoch" && m.Copy == "" && !p.copied[m.ID] {
			all = append(all, m)
		}
		return err
	})
	for _, m := range all {
		if err == nil {
			err = p.copyStatement(ctx, l, m)
		}
	}
	return err
}

func (p *pass) copyStatement(ctx context.Context, l *link, m memberNote) error {
	sealed, err := l.get(ctx, p.sealer.Name(m.Ref))
	if err != nil {
		return ctx.Err() // healed elsewhere, or the remote is left alone
	}
	o, v := p.open(m.Ref, sealed)
	if v != found || o.id == m.ID {
		return nil
	}
	if bad, err := p.absorb(ctx, o); err != nil || bad != nil {
		return err
	}
	object, err := p.keptStatement(ctx, m)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errDamaged) {
		return nil // somebody else has it
	}
	if err != nil {
		return err
	}
	p.log.Warn("replica: another object took the place of what is said of members; publishing a copy", "kind", m.Ref.Kind, "writer", m.Ref.Writer, "number", m.Ref.Number)
	return p.sealCopy(ctx, m, object)
}

// keptStatement returns the sealed bytes of a door or member object that is known.
func (p *pass) keptStatement(ctx context.Context, m memberNote) ([]byte, error) {
	if m.Sum != "" {
		return p.kept(m.Ref, m.Sum)
	}
	sum := "" // this device made it: it is in the outbox
	err := p.eachNote(ctx, "out/", func(_ string, value []byte) error {
		var out outNote
		err := json.Unmarshal(value, &out)
		if out.ID == m.ID && !out.Delete {
			sum = out.Sum
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return p.kept(m.Ref, sum)
}

// sealCopy puts a member object into the outbox that holds a copy.
func (p *pass) sealCopy(ctx context.Context, m memberNote, sealed []byte) error {
	self, n := p.getSelf(), notes{}
	c := copied{Number: m.Ref.Number, Object: sealed}
	if m.Ref.Kind != "door" {
		c.Kind, c.Writer = m.Ref.Kind, m.Ref.Writer
	}
	payload, err := json.Marshal(copyOf{1, &c})
	if err != nil {
		return err
	}
	ref := Ref{Kind: "member", Writer: self.Device, Number: self.Member + 1}
	log := p.newHeader(self).encode()
	object, id, err := p.sealer.Seal(ref, log, p.codec.compress(nil, payload))
	if err != nil {
		return fmt.Errorf("sealing a copy: %w", err)
	}
	self.Member, self.Tell = ref.Number, true
	n.set("member/"+p.sealer.Name(ref)+"/"+id, memberNote{Ref: ref, ID: id, Log: log, Payload: payload, Copy: m.ID})
	if err := p.stage(ctx, self, n, staged{ref, id, object}); err != nil {
		return err
	}
	p.copied[m.ID] = true
	return nil
}
