package store

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/locker-project/locker/plugins/locker"
)

// Undo takes an import back: what it wrote is hidden, here and, once its mark has
// reached them, on all devices, in whatever order things arrive; what it replaced is
// written again. It returns how many records are gone and in how many values were
// restored. What the owner has edited since stays. Undoing twice does nothing more.
//
// The error is [locker.ErrNotFound] where there is no record of the import in the
// system collection _imports.
func (s *Store) Undo(ctx context.Context, importID string) (removed, restored int, err error) {
	done, err := s.write(ctx)
	if err != nil {
		return 0, 0, err
	}
	defer done()
	u := &undoer{editor: editor{txn: s.begin(0), author: Author{Class: Source, System: true}, clock: s.tick()}}
	u.undone = s.names.number(importID)
	if err := u.mark(importID); err != nil {
		return 0, 0, err
	}
	if restored, err = u.restore(importID); err != nil {
		return 0, 0, err
	}
	if len(u.order) == 0 {
		return 0, 0, u.batch.Close()
	}
	u.urgent = true
	u.meta.clock = max(u.meta.clock, u.clock)
	born, err := u.finish()
	return -born, restored, err
}

// An undoer takes back one import.
type undoer struct {
	editor
	undone uint32
}

// mark marks the import as undone, with a clock above all of its values.
func (u *undoer) mark(id string) error {
	e, err := u.load(u.s.names.number(importsCollection), id)
	if err != nil {
		return err
	}
	if !e.rec.live(u.marks) {
		return fmt.Errorf("import %s: %w", id, locker.ErrNotFound)
	}
	if e.rec.markOf() != 0 {
		return nil
	}
	latest := max(e.rec.latest(), u.s.imports[u.undone].clock)
	clock, err := over(u.clock, latest)
	if err != nil {
		return err
	}
	u.join(e, value{name: "state", at: stamp{class: Owner, clock: clock, device: u.s.device}, data: []byte(`"undone"`)})
	return nil
}

// restore writes again what the import replaced and nobody has replaced since.
func (u *undoer) restore(id string) (records int, err error) {
	name, ok := u.s.names.find(priorCollection)
	if !ok {
		return 0, nil
	}
	var ids []string
	err = scan(u.s.db, idKey(nil, name, priorPrefix(id)), func(key, _ []byte) error {
		ids = append(ids, string(key[5:]))
		return nil
	})
	if err != nil {
		return 0, err
	}
	for _, prior := range ids {
		n, err := u.restoreRecord(name, prior)
		if err != nil {
			return records, err
		}
		if n > 0 {
			records++
		}
	}
	return records, nil
}

// restoreRecord restores what one record of _prior says, and returns how many values.
func (u *undoer) restoreRecord(priors uint32, id string) (n int, err error) {
	p, err := u.load(priors, id)
	if err != nil {
		return 0, err
	}
	collection, key := p.rec.textOf("collection"), p.rec.textOf("id")
	if collection == "" || key == "" {
		return 0, nil
	}
	e, err := u.load(u.s.names.number(collection), key)
	if err != nil {
		return 0, err
	}
	clock, err := over(u.clock, e.rec.latest())
	if err != nil {
		return 0, err
	}
	ban, err := u.banOf(collection, key)
	if err != nil || ban.banned() {
		return 0, err
	}
	deleted := e.rec.deleted && p.rec.textOf(priorTomb) == u.tombText(e.rec.tomb)
	for _, v := range p.rec.values {
		name, ok := valueName(v.name)
		if !ok {
			continue
		}
		i, found := e.rec.find(name)
		if found && e.rec.values[i].at.imp != u.undone || !found && !deleted {
			continue
		}
		restored, err := u.effective(v, collection, key)
		if err != nil {
			return n, err
		}
		if restored == nil {
			continue
		}
		restored.at = stamp{class: Source, clock: clock, device: u.s.device, imp: restored.at.imp, lift: u.s.names.number(ban.lift)}
		if u.join(e, *restored) {
			n++
		}
	}
	return n, nil
}

// effective is the value to restore for a field of a record of _prior: the one that
// it holds or, where that one's import was undone too, what it had replaced, and so
// on; nil where nothing is left.
func (u *undoer) effective(v value, collection, id string) (*value, error) {
	for range 1000 {
		old, err := u.priorValue(v)
		if err != nil || !u.hides(old.at) && !old.isNull() {
			return old, err
		}
		name, ok := u.s.names.find(priorCollection)
		if !ok {
			return nil, nil
		}
		p, err := u.load(name, priorID(u.s.names.text(old.at.imp), collection, id))
		if err != nil {
			return nil, err
		}
		i, found := p.rec.find(v.name)
		if !found {
			return nil, nil
		}
		v = p.rec.values[i]
	}
	return nil, nil
}

// hides says whether a value is hidden once the import is undone.
func (u *undoer) hides(at stamp) bool { return at.imp == u.undone || u.marks.hide(at) }

// priorValue reads a field of a record of _prior.
func (u *undoer) priorValue(v value) (*value, error) {
	var p priorValue
	if err := json.Unmarshal(v.data, &p); err != nil {
		return nil, fmt.Errorf("what an import replaced: %w", err)
	}
	clock, err := strconv.ParseUint(p.Clock, 16, 64)
	if err != nil {
		return nil, fmt.Errorf("what an import replaced: %w", err)
	}
	name, _ := valueName(v.name)
	out := &value{name: name, data: normalise(p.Value)}
	out.at = stamp{clock: clock, device: u.s.names.number(p.Device), imp: u.s.names.number(p.Import)}
	switch {
	case out.isNull(): // of a purged import
	case name == timeName:
		t, err := time.Parse(time.RFC3339Nano, unquote(p.Value))
		if err != nil {
			return nil, fmt.Errorf("what an import replaced: %w", err)
		}
		out.data = timeData(t)
	case name == sourceName:
		out.data = []byte(unquote(p.Value))
	}
	return out, nil
}

// valueName is the name of the value that a field of a record of _prior is about.
func valueName(prior string) (string, bool) {
	switch prior {
	case "time":
		return timeName, true
	case "source":
		return sourceName, true
	}
	return strings.CutPrefix(prior, "f.")
}

// textOf returns a field that is a string.
func (r *record) textOf(name string) string {
	if i, ok := r.find(name); ok && r.values[i].data[0] == '"' {
		return unquote(r.values[i].data)
	}
	return ""
}
