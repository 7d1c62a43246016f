package replica

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
)

// Blobs lie in packs: objects whose frames are the chunks of blobs, one zstd frame
// for each 1 MiB, stored where it does not compress. Lines in entries tell where
// they lie. A blob larger than a pack goes on in the next one.
const (
	chunkSize = 1 << 20
	packSize  = 15 << 20 // frames in one pack, so that the object stays under 16 MiB
	maxCopies = 4        // places of one blob that are remembered
)

// A packing is a pack being filled.
type packing struct {
	p      *pass
	number uint64
	frames []byte
	done   []blobLine // blobs whose last chunk is in it
	buf    []byte
}

// packBlobs puts blobs that came to State since the last time into packs.
func (p *pass) packBlobs(ctx context.Context) error {
	self := p.getSelf()
	ids, next, err := p.state.NewBlobs(ctx, self.Blobs)
	if err != nil {
		return fmt.Errorf("looking for new blobs: %w", err)
	}
	if len(ids) == 0 {
		return nil
	}
	k := &packing{p: p, number: self.Pack + 1, buf: make([]byte, chunkSize)}
	for _, id := range ids {
		if known, err := p.state.Note(ctx, "blob/"+id); err != nil {
			return err
		} else if known != nil {
			continue
		}
		if err := k.add(ctx, id); err != nil {
			return fmt.Errorf("packing blob %s: %w", id, err)
		}
	}
	if err := k.seal(ctx); err != nil {
		return err
	}
	self = p.getSelf()
	self.Blobs = next
	return p.setSelf(ctx, self, nil)
}

// add puts a blob into packs.
func (k *packing) add(ctx context.Context, id string) error {
	r, size, err := k.p.state.OpenBlob(ctx, id)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it was taken back meanwhile
	}
	if err != nil {
		return err
	}
	defer r.Close()
	line := blobLine{Blob: id, Size: size}
	for left := size; left > 0; {
		data := k.buf[:min(left, chunkSize)]
		if _, err := io.ReadFull(r, data); err != nil {
			return err
		}
		left -= int64(len(data))
		if len(k.frames)+chunkSize+1024 > packSize {
			if err := k.seal(ctx); err != nil {
				return err
			}
		}
		start := len(k.frames)
		k.frames = k.p.codec.compress(k.frames, data)
		line.Chunks = append(line.Chunks, chunk{k.number, k.p.sealer.Device(), int64(start), int64(len(k.frames) - start)})
	}
	k.done = append(k.done, line)
	return nil
}

// seal seals the pack, and notes where the blobs lie that are whole with it.
func (k *packing) seal(ctx context.Context) error {
	self, n := k.p.getSelf(), notes{}
	for _, line := range k.done {
		n.set("blob/"+line.Blob, []blobLine{line})
		n["fresh/"+line.Blob] = []byte("{}")
	}
	if len(k.frames) == 0 {
		if len(n) == 0 {
			return nil
		}
		k.done = nil
		return k.p.setSelf(ctx, self, n) // empty blobs lie nowhere
	}
	ref := Ref{Kind: "pack", Writer: self.Device, Number: k.number}
	object, id, err := k.p.sealer.Seal(ref, k.p.newHeader(self).encode(), k.frames)
	if err != nil {
		return fmt.Errorf("sealing a pack: %w", err)
	}
	self.Pack = k.number
	n.set(packKey(self.Device, k.number), logNote{ID: id, Seq: self.Seq + 1})
	if err := k.p.stage(ctx, self, n, staged{ref, id, object}); err != nil {
		return err
	}
	k.number, k.frames, k.done = k.number+1, k.frames[:0], nil
	k.p.wake()
	return nil
}

func packKey(device string, n uint64) string { return fmt.Sprintf("pack/%s/%016x", device, n) }

// freshBlobs are the blobs of which no entry tells yet, and the lines that do.
func (p *pass) freshBlobs(ctx context.Context) (ids []string, lines []byte, err error) {
	err = p.eachNote(ctx, "fresh/", func(id string, _ []byte) error {
		copies, err := p.copies(ctx, id)
		if err != nil || len(copies) == 0 {
			return err
		}
		ids = append(ids, id)
		lines = append(lines, copies[0].encode()...)
		return nil
	})
	return ids, lines, err
}

// copies are the places where a blob is known to lie.
func (r *Replica) copies(ctx context.Context, id string) ([]blobLine, error) {
	var copies []blobLine
	_, err := r.note(ctx, "blob/"+id, &copies)
	return copies, err
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
		same := func(c blobLine) bool { return slices.Equal(c.Chunks, line.Chunks) }
		if len(copies) < maxCopies && !slices.ContainsFunc(copies, same) {
			n.set(key, append(copies, line))
		}
	}
	return nil
}

// forgetPacks takes back where blobs lie in packs of a former device of this
// State, so that they are packed again.
func (r *Replica) forgetPacks(ctx context.Context, device string, n notes) error {
	err := r.eachNote(ctx, "blob/", func(id string, value []byte) error {
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
	return err
}

// Blob fetches a blob that State lacks from the remotes. The error is
// fs.ErrNotExist where no entry told of it.
func (r *Replica) Blob(ctx context.Context, id string) error {
	if body, _, err := r.state.OpenBlob(ctx, id); err == nil {
		return body.Close()
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	copies, err := r.copies(ctx, id)
	if err != nil {
		return err
	}
	if len(copies) == 0 {
		return fmt.Errorf("blob %s: no device has told of it: %w", id, fs.ErrNotExist)
	}
	p, end, err := r.begin(ctx, SyncOptions{})
	if err != nil {
		return err
	}
	defer end()
	var errs []error
	for _, line := range copies {
		err := r.state.PutBlobAs(ctx, id, func(from int64) (io.ReadCloser, error) {
			return io.NopCloser(&blobReader{ctx: ctx, p: p, line: line, at: int(from / chunkSize), read: from}), nil
		})
		if err == nil {
			return p.clear(ctx, "blob/"+id)
		}
		errs = append(errs, err)
	}
	err = errors.Join(errs...)
	if p.allFailed() || ctx.Err() != nil {
		return fmt.Errorf("fetching blob %s: %w", id, err)
	}
	return errors.Join(fmt.Errorf("fetching blob %s: %w", id, err), p.wait(ctx, "blob/"+id, waitNote{
		Kind: "blob", Object: p.sealer.Name(copies[0].pack()), Device: copies[0].pack().Writer,
		What: "the bytes of a blob are not on the remote, or not what they should be",
		Do:   "run 'locker verify' on the device that has it; it puts the good ones again",
	}))
}

// pack is the first pack in which a blob lies.
func (b blobLine) pack() Ref {
	if len(b.Chunks) == 0 {
		return Ref{}
	}
	return Ref{Kind: "pack", Writer: b.Chunks[0].Writer, Number: b.Chunks[0].Pack}
}

// A blobReader reads the bytes of a blob out of packs, one pack at a time.
type blobReader struct {
	ctx    context.Context
	p      *pass
	line   blobLine
	at     int // next chunk
	pack   Ref
	frames []byte
	data   []byte
	read   int64
}

func (b *blobReader) Read(buf []byte) (int, error) {
	for len(b.data) == 0 {
		if b.at == len(b.line.Chunks) {
			if b.read != b.line.Size {
				return 0, errors.New("its chunks are not as long as the blob")
			}
			return 0, io.EOF
		}
		if err := b.next(b.line.Chunks[b.at]); err != nil {
			return 0, err
		}
		b.at++
	}
	n := copy(buf, b.data)
	b.data, b.read = b.data[n:], b.read+int64(n)
	return n, nil
}

// next opens a chunk.
func (b *blobReader) next(c chunk) error {
	if ref := (Ref{Kind: "pack", Writer: c.Writer, Number: c.Pack}); ref != b.pack {
		o, v, err := b.p.fetch(b.ctx, ref)
		if err == nil && v == closed {
			if err := b.p.readMembersOnce(b.ctx); err != nil {
				return err
			}
			o, v = b.p.open(ref, o.sealed)
		}
		switch {
		case err != nil:
			return err
		case v == missing:
			return fmt.Errorf("pack %s: %w", o.name, ErrNotFound)
		case v == unreachable:
			return b.p.reachError()
		case v != found:
			return fmt.Errorf("pack %s is not as it should be: %w", o.name, o.why)
		}
		b.pack, b.frames = ref, o.frames
	}
	if c.Offset+c.Length > int64(len(b.frames)) {
		return errors.New("a chunk lies beyond its pack")
	}
	var err error
	b.data, err = b.p.codec.decompress(b.frames[c.Offset:c.Offset+c.Length], b.data[:0], chunkSize)
	return err
}

// packsOf are the packs in which blobs are known to lie, with their ids where this
// device made or read them.
func (p *pass) packsOf(ctx context.Context) (map[Ref]string, error) {
	packs := map[Ref]string{}
	err := p.eachNote(ctx, "blob/", func(_ string, value []byte) error {
		var copies []blobLine
		if err := json.Unmarshal(value, &copies); err != nil {
			return err
		}
		for _, line := range copies {
			for _, c := range line.Chunks {
				packs[Ref{Kind: "pack", Writer: c.Writer, Number: c.Pack}] = ""
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return packs, p.eachNote(ctx, "pack/", func(key string, value []byte) error {
		var pack logNote
		device, number, _ := strings.Cut(key, "/")
		ref := Ref{Kind: "pack", Writer: device}
		if _, err := fmt.Sscanf(number, "%x", &ref.Number); err != nil {
			return err
		}
		err := json.Unmarshal(value, &pack)
		packs[ref] = pack.ID
		return err
	})
}
