package replica

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
)

// The outbox is one list of objects, in the order in which they were sealed. An
// object is in it once its bytes are durable in the folder Objects. Each remote has
// a place in the list, and is sent what follows, one after the other: so a number
// is put only after its predecessor, a membership object before what it admits, a
// pack before the entry that names it. The files stay, to be put again when a
// remote has lost them, but for packs (see lanes.go).

// staged is an object on its way into the outbox, or, without bytes, the deletion
// of one.
type staged struct {
	ref    Ref
	id     string
	object []byte
}

// stage makes objects durable and puts them on the list, in the same write as
// other notes and the new self. self is changed only if that worked.
func (r *Replica) stage(ctx context.Context, self *selfNote, n notes, objects ...staged) error {
	dirs := map[string]bool{}
	for _, o := range objects {
		if o.object == nil {
			continue
		}
		path, err := r.path(o.ref)
		if err != nil {
			return err
		}
		if err := r.writeFile(path, o.object); err != nil {
			return fmt.Errorf("keeping a sealed object: %w", err)
		}
		dirs[filepath.Dir(path)] = true
	}
	for dir := range dirs {
		if err := r.disk.SyncDir(dir); err != nil {
			return fmt.Errorf("keeping a sealed object: %w", err)
		}
	}
	for _, o := range objects {
		self.Seq++
		out := outNote{Ref: o.ref, ID: o.id, Size: int64(len(o.object)), Delete: o.object == nil}
		if !out.Delete {
			out.Sum = sumOf(o.object)
		}
		n.set(outKey(self.Seq), out)
	}
	if err := r.setSelf(ctx, self, n); err != nil {
		return err
	}
	if last := len(objects) - 1; last >= 0 && len(objects[last].object) >= hotSize {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.hot = hotObject{self.Seq, objects[last].object}
	}
	return nil
}

// hotSize is how large an object is that is not read again from its file, and checked,
// by who sends it at once.
const hotSize = 1 << 20

// A hotObject is the newest line of the outbox, still in memory.
type hotObject struct {
	seq    uint64
	object []byte
}

// keptOf returns the sealed bytes of a line of the outbox, read into the link's memory
// where they are not in memory still.
func (p *pass) keptOf(l *link, seq uint64, out outNote) ([]byte, error) {
	p.mu.Lock()
	hot := p.hot
	p.mu.Unlock()
	if hot.seq == seq && hot.object != nil {
		return hot.object, nil
	}
	object, err := p.keptInto(out.Ref, out.Sum, l.room)
	if err == nil {
		l.room = object
	}
	return object, err
}

// cool forgets what is in memory of the outbox.
func (r *Replica) cool() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hot = hotObject{}
}

// setSelf stores notes together with a new self.
func (r *Replica) setSelf(ctx context.Context, self *selfNote, n notes) error {
	if n == nil {
		n = notes{}
	}
	n.set("self", self)
	err := r.state.SetNotes(ctx, n)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.unsure = true // it may have been done all the same
		return err
	}
	r.self = *self
	return nil
}

// beSureOfSelf reads the note self again where it is not known whether a write of it
// was done.
func (r *Replica) beSureOfSelf(ctx context.Context) error {
	r.mu.Lock()
	unsure := r.unsure
	r.mu.Unlock()
	if !unsure {
		return nil
	}
	var self selfNote
	if _, err := r.note(ctx, "self", &self); err != nil {
		return err
	}
	self.Device = r.sealer.Device()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.self, r.unsure = self, false
	return nil
}

// getSelf returns a copy of the note of this device.
func (r *Replica) getSelf() *selfNote {
	r.mu.Lock()
	defer r.mu.Unlock()
	self := r.self
	return &self
}

// path is where the sealed bytes of an object are kept.
func (r *Replica) path(ref Ref) (string, error) {
	name := r.sealer.Name(ref)
	if !validName(name) {
		return "", fmt.Errorf("%q is no name of an object", name)
	}
	return filepath.Join(r.objects, filepath.FromSlash(name)), nil
}

// errDamaged says that the file of a sealed object is not what was written.
var errDamaged = errors.New("the file of a sealed object is damaged")

// kept returns the sealed bytes of an object that this device keeps, or an error
// that is fs.ErrNotExist or errDamaged: a damaged file is never put.
func (r *Replica) kept(ref Ref, sum string) ([]byte, error) { return r.keptInto(ref, sum, nil) }

// keptInto is kept into memory that is there, where it has room.
func (r *Replica) keptInto(ref Ref, sum string, buf []byte) ([]byte, error) {
	path, err := r.path(ref)
	if err != nil {
		return nil, err
	}
	var object []byte
	if d, ok := r.disk.(intoReader); ok {
		object, err = d.ReadInto(path, buf)
	} else {
		object, err = r.disk.ReadFile(path)
	}
	if err != nil {
		return nil, err
	}
	if sum != sumOf(object) {
		return nil, fmt.Errorf("%s: %w", path, errDamaged)
	}
	return object, nil
}

// sumOf is SHA-256 of sealed bytes. It stays on this device.
func sumOf(object []byte) string {
	sum := sha256.Sum256(object)
	return hex.EncodeToString(sum[:])
}

// keep stores a verbatim copy of an object of somebody.
func (r *Replica) keep(ref Ref, object []byte) error {
	path, err := r.path(ref)
	if err != nil {
		return err
	}
	if err := r.writeFile(path, object); err != nil {
		return err
	}
	return r.disk.SyncDir(filepath.Dir(path))
}

// sendTo puts on a remote what it has not got of the outbox, up to line upTo.
func (p *pass) sendTo(ctx context.Context, l *link, upTo uint64) error {
	key := "sent/" + l.Name
	if p.without.perRemote {
		key = "sent/" + p.links[0].Name
	}
	var sent uint64
	if _, err := p.note(ctx, key, &sent); err != nil {
		return err
	}
	for next := sent + 1; next <= upTo; next++ {
		seq := next
		if p.without.inOrder {
			seq = upTo - (next - sent - 1)
		}
		n := notes{}
		var out outNote
		if ok, err := p.note(ctx, outKey(seq), &out); err != nil {
			return err
		} else if ok {
			if err := p.sendOne(ctx, l, seq, out, n); err != nil {
				return err
			}
		} else if next < upTo {
			continue // forgotten: a base covers it
		}
		n.set(key, seq)
		if err := p.state.SetNotes(ctx, n); err != nil {
			return err
		}
		p.progressed()
	}
	return nil
}

// sendOne does one line of the outbox on one remote, or puts it aside.
func (p *pass) sendOne(ctx context.Context, l *link, seq uint64, out outNote, n notes) error {
	name := p.sealer.Name(out.Ref)
	aside, err := p.aside(ctx, l, seq, out)
	switch {
	case err != nil:
		return err
	case aside:
		return p.putAside(ctx, l, seq, out, n)
	case out.Delete:
		return l.delete(ctx, name)
	case out.Gone:
		return nil
	}
	object, err := p.keptOf(l, seq, out)
	if err != nil {
		if object, err = p.fromRemotes(ctx, out, err); err != nil {
			return err
		}
		if object == nil {
			return nil
		}
	}
	if out.Ref.Kind == "door" {
		err := p.doorFree(ctx, l, out.Ref, out.ID)
		if taken, nerr := p.mineTaken(ctx, out, err); nerr != nil || taken {
			return nerr
		}
		if self := p.getSelf(); errors.Is(err, errDoorTaken) && seq != self.DoorSeq {
			return p.wait(ctx, "eviction/"+l.Name, evictionNotice(l.Name))
		}
		if err != nil {
			return err
		}
	}
	if out.Ref.Kind == "member" {
		if err := p.memberFree(ctx, l, out); err != nil {
			return err
		}
	}
	put := l.put
	if bulky(out.Ref) {
		put = l.tryPut
	}
	if err := put(ctx, name, object); isFull(err) && l.failed() == nil {
		return p.putAside(ctx, l, seq, out, n)
	} else if err != nil {
		return err
	}
	if out.Put == 0 {
		out.Put = p.now()
		n.set(outKey(seq), out)
	}
	if out.Ref.Kind == "entry" {
		return p.clear(ctx, fmt.Sprintf("own/%d", out.Ref.Number))
	}
	return nil
}

// fromRemotes brings back an object of this device whose file here is lost, from a
// remote that has it.
func (p *pass) fromRemotes(ctx context.Context, out outNote, lost error) ([]byte, error) {
	if !errors.Is(lost, fs.ErrNotExist) && !errors.Is(lost, errDamaged) {
		return nil, lost
	}
	pack := out.Ref.Kind == "pack"
	if !pack {
		p.log.Warn("a sealed object is lost here; looking for it on the remotes", "err", lost)
	}
	for _, l := range p.links {
		object, err := l.get(ctx, p.sealer.Name(out.Ref))
		switch {
		case err != nil || sumOf(object) != out.Sum:
		case pack:
			return object, nil
		default:
			return object, p.keep(out.Ref, object)
		}
	}
	if pack { // what is in it is packed again when it is missed
		return nil, ctx.Err()
	}
	return nil, fmt.Errorf("a sealed object of this device is lost here and on the remotes, so nothing after it can be sent; put the folder of sealed objects back from a backup: %w", lost)
}
