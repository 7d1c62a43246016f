package replica

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Where blobs lie is told by lines in entries, and kept in notes: for each blob its
// copies, each of which is a list of places in packs. A copy counts, for dedup and
// for deletion, while none of its packs is condemned; it can be read as long as its
// packs are there.

// maxCopies is how many copies of a blob are remembered, where more are told of than
// any honest set of devices makes.
const maxCopies = 16

// A condemnNote is a pack that will go.
type condemnNote struct {
	Entry uint64 `json:"entry,omitempty"` // of this device, which condemned it; 0: another's, or not sealed yet
	Put   int64  `json:"put,omitempty"`   // since when all remotes have that entry, ms
	Gone  bool   `json:"gone,omitempty"`  // its deletion is in the outbox
}

func condemnKey(ref Ref) string { return fmt.Sprintf("condemned/%s/%016x", ref.Writer, ref.Number) }

// condemned says whether a pack is condemned.
func (r *Replica) condemned(ctx context.Context, ref Ref) (bool, error) {
	b, err := r.state.Note(ctx, condemnKey(ref))
	return b != nil, err
}

// usable says whether a copy counts: none of its packs is condemned.
func (r *Replica) usable(ctx context.Context, line blobLine) (bool, error) {
	for _, ref := range line.packs() {
		if is, err := r.condemned(ctx, ref); err != nil || is {
			return false, err
		}
	}
	return true, nil
}

// A condemnedSet is all packs that are condemned.
type condemnedSet map[Ref]bool

func (r *Replica) allCondemned(ctx context.Context) (condemnedSet, error) {
	set := condemnedSet{}
	return set, r.eachNote(ctx, "condemned/", func(key string, _ []byte) error {
		ref, err := parsePackKey(key)
		set[ref] = true
		return err
	})
}

// usable says whether a copy counts.
func (s condemnedSet) usable(line blobLine) bool {
	return !slices.ContainsFunc(line.Chunks, func(c chunk) bool { return s[c.ref()] })
}

// hasCopy says whether there is a copy of a blob that counts.
func (r *Replica) hasCopy(ctx context.Context, id string) (bool, error) {
	copies, err := r.copies(ctx, id)
	if err != nil {
		return false, err
	}
	for _, line := range copies {
		if ok, err := r.usable(ctx, line); err != nil || ok {
			return ok, err
		}
	}
	return false, nil
}

// copies are the places where a blob is known to lie.
func (r *Replica) copies(ctx context.Context, id string) ([]blobLine, error) {
	var copies []blobLine
	_, err := r.note(ctx, "blob/"+id, &copies)
	return copies, err
}

// referred says whether any record refers to a blob.
func (r *Replica) referred(ctx context.Context, id string) (bool, error) {
	is := false
	err := r.state.BlobRecords(ctx, id, func(string, int64) bool {
		is = true
		return false
	})
	return is, err
}

// placeNotes adds to notes what lines by a device tell of blobs and packs.
func (p *pass) placeNotes(ctx context.Context, n notes, by string, lines payload) error {
	for _, c := range lines.condemn {
		ref := Ref{Kind: "pack", Writer: c.Writer, Number: c.Pack}
		if c.Writer != by && slices.Contains(p.sealer.Members(), c.Writer) {
			continue // nobody condemns a member's; who has adopted a log says what it said
		}
		is, err := p.condemned(ctx, ref)
		if err != nil {
			return err
		}
		if !is && n[condemnKey(ref)] == nil {
			n.set(condemnKey(ref), condemnNote{})
			n["consent"] = []byte("{}")
		}
	}
	for _, f := range lines.forget {
		n["forget/"+f.Blob], n["hurry"] = []byte("{}"), []byte("{}")
	}
	return p.blobNotes(ctx, n, lines.blobs)
}

// blobNotes adds to notes where blobs lie.
func (p *pass) blobNotes(ctx context.Context, n notes, lines []blobLine) error {
	for _, line := range lines {
		key := "blob/" + line.Blob
		var copies []blobLine
		if earlier, ok := n[key]; ok {
			if err := json.Unmarshal(earlier, &copies); err != nil {
				return err
			}
		} else if _, err := p.note(ctx, key, &copies); err != nil {
			return err
		}
		copies, news, err := p.addCopy(ctx, copies, line)
		if err != nil {
			return err
		}
		if news {
			n.set(key, copies)
			n["wanting"] = []byte("{}")
		}
	}
	return nil
}

// addCopy adds a copy to those of a blob. Of too many, others' condemned ones go
// first, then others' latest; what lies in this device's own packs stays known.
func (p *pass) addCopy(ctx context.Context, copies []blobLine, line blobLine) (all []blobLine, news bool, err error) {
	if i := slices.IndexFunc(copies, func(c blobLine) bool { return slices.Equal(c.Chunks, line.Chunks) }); i >= 0 {
		if len(copies[i].Sums) == 0 && len(line.Sums) > 0 {
			copies[i] = line
			return copies, true, nil
		}
		return copies, false, nil
	}
	copies = append(copies, line)
	for len(copies) > maxCopies {
		drop := -1
		for i, c := range copies {
			ok, err := p.usable(ctx, c)
			if err != nil {
				return nil, false, err
			}
			if own := c.writtenBy(p.sealer.Device()); !own && (!ok || drop < 0 || i == len(copies)-1) {
				if drop = i; !ok {
					break
				}
			}
		}
		if drop < 0 {
			break
		}
		copies = slices.Delete(copies, drop, drop+1)
	}
	return copies, true, nil
}

// writtenBy says whether all packs of a copy are of one device.
func (b blobLine) writtenBy(device string) bool {
	return !slices.ContainsFunc(b.Chunks, func(c chunk) bool { return c.Writer != device })
}

// Keys of lines that are to go out with the next entry begin so; those that condemn
// sort behind those that tell of blobs, and go out with them or later.
const (
	sayForget  = "fresh/~1/"
	sayCondemn = "fresh/~2/"
)

// forgetBlobs puts into notes, to be stored together with a purge, that blobs are to
// be forgotten: where no record refers to them, their bytes go from all devices at
// once, and from all remotes once all devices have read of it.
func (p *pass) forgetBlobs(n notes, ids ...string) {
	for _, id := range ids {
		n["forget/"+id], n["hurry"] = []byte("{}"), []byte("{}")
		n[sayForget+id] = encodeLine(forgetLine{id})
	}
}

// blobsInTheWay are the blobs that were purged and are not gone yet: for each the
// packs, of any device, that may still hold it. An empty list: its bytes are here.
func (r *Replica) blobsInTheWay(ctx context.Context) (map[string][]Ref, error) {
	way := map[string][]Ref{}
	err := r.eachNote(ctx, "forget/", func(id string, _ []byte) error {
		if is, err := r.referred(ctx, id); err != nil || is {
			return err
		}
		copies, err := r.copies(ctx, id)
		if err != nil || len(copies) == 0 {
			return err
		}
		way[id] = []Ref{}
		for _, line := range copies {
			way[id] = append(way[id], line.packs()...)
		}
		return nil
	})
	return way, err
}

// freshLines calls f with the lines that no entry tells of yet, in pieces of about
// pieceSize bytes, and their notes' keys.
func (p *pass) freshLines(ctx context.Context, f func(keys []string, lines []byte) error) error {
	var keys []string
	var lines []byte
	err := p.eachNote(ctx, "fresh/", func(key string, value []byte) error {
		if len(value) <= len("{}") { // an earlier version noted the blob alone
			copies, err := p.copies(ctx, key)
			if err != nil || len(copies) == 0 {
				return err
			}
			value = copies[0].encode()
		}
		keys, lines = append(keys, "fresh/"+key), append(lines, value...)
		if len(lines) < pieceSize {
			return nil
		}
		err := f(keys, lines)
		keys, lines = nil, nil
		return err
	})
	if err == nil && len(keys) > 0 {
		err = f(keys, lines)
	}
	return err
}

// told adds to notes that lines are in an entry: they are not fresh any more, and
// what they condemn counts from that entry on.
func (p *pass) told(n notes, keys []string, number uint64) error {
	for _, key := range keys {
		n[key] = nil
		name, is := strings.CutPrefix(key, sayCondemn)
		if !is {
			continue
		}
		ref, err := parsePackKey(name)
		if err != nil {
			return err
		}
		n.set(condemnKey(ref), condemnNote{Entry: number})
	}
	return nil
}

// parsePackKey reads WRITER/NUMBER.
func parsePackKey(key string) (Ref, error) {
	device, number, _ := strings.Cut(key, "/")
	ref := Ref{Kind: "pack", Writer: device}
	if _, err := fmt.Sscanf(number, "%x", &ref.Number); err != nil {
		return ref, fmt.Errorf("note of a pack %q: %w", key, err)
	}
	return ref, nil
}

// forgetPacks takes back where blobs lie in packs of a former device of this
// State, so that they are packed again.
func (r *Replica) forgetPacks(ctx context.Context, device string, n notes) error {
	return r.eachNote(ctx, "blob/", func(id string, value []byte) error {
		var copies []blobLine
		if err := json.Unmarshal(value, &copies); err != nil {
			return err
		}
		others := slices.DeleteFunc(copies, func(c blobLine) bool {
			return len(c.Chunks) == 0 || slices.ContainsFunc(c.Chunks, func(c chunk) bool { return c.Writer == device })
		})
		if len(others) == 0 {
			n["blob/"+id], n["fresh/"+id] = nil, nil
		}
		return nil
	})
}

// packsOf are the packs that should be on every remote: those in which blobs are
// known to lie, with their ids where this device made them, unless they are
// condemned.
func (p *pass) packsOf(ctx context.Context) (map[Ref]string, error) {
	packs := map[Ref]string{}
	err := p.eachNote(ctx, "blob/", func(_ string, value []byte) error {
		var copies []blobLine
		if err := json.Unmarshal(value, &copies); err != nil {
			return err
		}
		for _, line := range copies {
			for _, ref := range line.packs() {
				packs[ref] = ""
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = p.eachNote(ctx, "pack/", func(key string, value []byte) error {
		var pack packNote
		ref, err := parsePackKey(key)
		if err != nil {
			return err
		}
		err = json.Unmarshal(value, &pack)
		packs[ref] = pack.ID
		return err
	})
	if err != nil {
		return nil, err
	}
	return packs, p.eachNote(ctx, "condemned/", func(key string, _ []byte) error {
		ref, err := parsePackKey(key)
		delete(packs, ref)
		return err
	})
}
