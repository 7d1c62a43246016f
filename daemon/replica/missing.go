package replica

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
)

// A Missing is an object that was written and that no remote has whole.
type Missing struct {
	Kind   string // "entry", "run", "base", "pack", or of membership
	Device string // whose it is
	Name   string // what the owner calls that device
	Number uint64 // among that device's objects of the kind
	Object string // its name on the remote
	Why    string // "missing", "bad", "closed" or "newer", as for a [Notice]
	// Blobs are the ids of blobs that cannot be fetched without it, Collections those
	// of the records that refer to them. What an entry or a run holds cannot be known.
	Blobs, Collections []string
}

// Missing lists what is known to have been written and could not be had: of the logs
// by what was noted when they were read, of packs by what the remotes show now.
// Everything else was brought; what is listed comes when a device that has it puts it
// again, or another remote does.
func (r *Replica) Missing(ctx context.Context) ([]Missing, error) {
	p, end, err := r.begin(ctx, SyncOptions{})
	if err != nil {
		return nil, err
	}
	defer end()
	return p.missing(ctx)
}

func (p *pass) missing(ctx context.Context) ([]Missing, error) {
	var list []Missing
	seen := map[string]bool{}
	p.waiting.Lock()
	for _, w := range p.waits {
		unread := slices.Contains([]string{"missing", "bad", "closed", "newer"}, w.Kind)
		if !unread || w.Object == "" || seen[w.Object] {
			continue
		}
		if kind := p.kindOf(w); kind != "" {
			seen[w.Object] = true
			list = append(list, Missing{Kind: kind, Device: w.Device, Name: p.nameOf(w.Device), Number: w.Number, Object: w.Object, Why: w.Kind})
		}
	}
	p.waiting.Unlock()
	packs, err := p.packsMissing(ctx)
	list = append(list, packs...)
	slices.SortFunc(list, func(a, b Missing) int {
		return cmp.Or(cmp.Compare(a.Device, b.Device), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Number, b.Number))
	})
	return list, err
}

// kindOf finds out of which kind an object is that a notice names.
func (p *pass) kindOf(w *waitNote) string {
	for _, kind := range []string{"entry", "run", "base", "member", "door", "epoch"} {
		ref := Ref{Kind: kind, Writer: w.Device, Number: w.Number}
		if kind == "epoch" {
			ref.To = p.reader()
		}
		if p.sealer.Name(ref) == w.Object {
			return kind
		}
	}
	return ""
}

// packsMissing are the packs that hold needed blobs and that no remote shows.
func (p *pass) packsMissing(ctx context.Context) ([]Missing, error) {
	listed := map[string]bool{}
	for _, l := range p.links {
		names, _, err := l.list(ctx)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			return nil, nil // nothing can be said of what it has
		}
		for name := range names {
			listed[name] = true
		}
	}
	gone := map[Ref]*Missing{}
	err := p.eachNote(ctx, "blob/", func(id string, value []byte) error {
		var copies []blobLine
		if err := json.Unmarshal(value, &copies); err != nil {
			return err
		}
		return p.blobMissing(ctx, id, copies, listed, gone)
	})
	var list []Missing
	for _, m := range gone {
		slices.Sort(m.Collections)
		m.Collections = slices.Compact(m.Collections)
		list = append(list, *m)
	}
	return list, err
}

// blobMissing adds the packs for want of which a blob cannot be fetched from anywhere.
func (p *pass) blobMissing(ctx context.Context, id string, copies []blobLine, listed map[string]bool, gone map[Ref]*Missing) error {
	var want []Ref
	for _, line := range copies {
		lost := slices.DeleteFunc(line.packs(), func(ref Ref) bool { return listed[p.sealer.Name(ref)] })
		if len(lost) == 0 {
			return nil
		}
		if want == nil {
			want = lost
		}
	}
	var collections []string
	err := p.state.BlobRecords(ctx, id, func(collection string, _ int64) bool {
		collections = append(collections, collection)
		return len(collections) < maxCopies*maxCopies
	})
	if err != nil || len(collections) == 0 {
		return err // nobody wants it
	}
	for _, ref := range want {
		if gone[ref] == nil {
			if there, err := p.anyHas(ctx, ref); err != nil || there {
				return err
			}
			gone[ref] = &Missing{Kind: "pack", Device: ref.Writer, Name: p.nameOf(ref.Writer), Number: ref.Number, Object: p.sealer.Name(ref), Why: "missing"}
		}
		gone[ref].Blobs = append(gone[ref].Blobs, id)
		gone[ref].Collections = append(gone[ref].Collections, collections...)
	}
	return nil
}
