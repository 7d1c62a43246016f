package replica

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"runtime"
)

// Blobs lie in packs: objects whose frames are the chunks of blobs, one zstd frame
// for each 1 MiB, stored where it does not compress. A blob larger than a pack goes on
// in the next one; its line is told once the last of it is sealed. What is sealed of
// it until then is noted, so that packing goes on after a restart.
const (
	chunkSize = 1 << 20 // of a blob
)

// A packTuning says how large packs are.
type packTuning struct {
	most  int   // bytes of frames in one pack, so that the object stays under 16 MiB
	small int64 // packs with less in them that is needed are merged, when that fills a pack
	held  int64 // bytes of sealed packs that are kept here
}

var usualPacks = packTuning{most: 15 << 20, small: 8 << 20, held: 64 << 20}

// A packNote is a pack that was sealed here.
type packNote struct {
	ID   string `json:"id"`
	Seq  uint64 `json:"seq,omitempty"`  // of the outbox
	Size int64  `json:"size,omitempty"` // of its frames; 0: an earlier version sealed it
}

func packKey(ref Ref) string { return fmt.Sprintf("pack/%s/%016x", ref.Writer, ref.Number) }

// A packing is a pack being filled.
type packing struct {
	p      *pass
	number uint64
	frames []byte
	done   []*growing // blobs whose last chunk is in it
	part   *growing   // the blob that is being added
	moved  *growing   // the blob some of whose chunks are being moved
	buf    []byte
}

// A growing is the line of a blob while the blob is being packed. What is sealed of it
// is noted in parts, note packing/ID/NUMBER, one for each pack.
type growing struct {
	Line  blobLine         `json:"line"`
	Sizes map[string]int64 `json:"sizes"` // of the objects of sealed packs, by packKey
	noted int              // chunks that are noted
	parts int              // notes that tell of them
	old   bool             // its id is of an earlier version: the hashes prove nothing
}

func packingKey(id string, n int) string { return fmt.Sprintf("packing/%s/%08x", id, n) }

// growingBlob reads what is noted of a blob of which a part is sealed.
func (r *Replica) growingBlob(ctx context.Context, id string, size int64) (*growing, error) {
	g := &growing{Line: blobLine{Blob: id, Size: size}, Sizes: map[string]int64{}}
	err := r.eachNote(ctx, "packing/"+id+"/", func(_ string, value []byte) error {
		var part growing
		if err := json.Unmarshal(value, &part); err != nil {
			return err
		}
		g.Line.Chunks, g.Line.Sums = append(g.Line.Chunks, part.Line.Chunks...), append(g.Line.Sums, part.Line.Sums...)
		maps.Copy(g.Sizes, part.Sizes)
		g.noted, g.parts = len(g.Line.Chunks), g.parts+1
		return nil
	})
	return g, err
}

// note adds to notes what was sealed of the blob since the last time.
func (g *growing) note(n notes) {
	part := growing{Line: blobLine{Blob: g.Line.Blob, Size: g.Line.Size, Chunks: g.Line.Chunks[g.noted:], Sums: g.Line.Sums[g.noted*sha256.Size:]}, Sizes: map[string]int64{}}
	for _, ref := range part.Line.packs() {
		part.Sizes[packKey(ref)] = g.Sizes[packKey(ref)]
	}
	n.set(packingKey(g.Line.Blob, g.parts), part)
	g.noted, g.parts = len(g.Line.Chunks), g.parts+1
}

// forget adds to notes that nothing of the blob is noted any more.
func (g *growing) forget(n notes) {
	for i := range g.parts {
		n[packingKey(g.Line.Blob, i)] = nil
	}
}

// errHold says that no more is to be packed in this pass: no remote takes what is
// sealed.
var errHold = errors.New("no remote takes what is packed")

func (p *pass) newPacking() *packing {
	return &packing{p: p, number: p.getSelf().Pack + 1, buf: make([]byte, chunkSize)}
}

// packBlobs puts blobs that came to State since the last time into packs.
func (p *pass) packBlobs(ctx context.Context) error {
	k := p.newPacking()
	for {
		self := p.getSelf()
		ids, next, err := p.state.NewBlobs(ctx, self.Blobs)
		if err != nil {
			return fmt.Errorf("looking for new blobs: %w", err)
		}
		if len(ids) == 0 {
			return nil
		}
		for _, id := range ids {
			if ok, err := p.hasCopy(ctx, id); err != nil {
				return err
			} else if ok {
				continue
			}
			if err := k.add(ctx, id); errors.Is(err, errHold) {
				return nil
			} else if err != nil {
				return fmt.Errorf("packing blob %s: %w", id, err)
			}
		}
		if err := k.seal(ctx); errors.Is(err, errHold) {
			return nil
		} else if err != nil {
			return err
		}
		self = p.getSelf()
		self.Blobs = next
		if err := p.setSelf(ctx, self, nil); err != nil {
			return err
		}
	}
}

// add puts a blob that State has into packs. One that State has not is left out: it
// was taken back, or dropped, meanwhile.
func (k *packing) add(ctx context.Context, id string) error {
	r, size, err := k.p.state.OpenBlob(ctx, id)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer r.Close()
	g, err := k.begin(ctx, id, size, r)
	if err != nil {
		return err
	}
	k.part = g
	defer func() { k.part = nil }()
	if k.frames == nil {
		k.frames = make([]byte, 0, min(size+size>>8+1024, int64(k.p.packs.most)))
	}
	for left := size - int64(len(g.Line.Chunks))*chunkSize; left > 0; {
		data := k.buf[:min(left, chunkSize)]
		if _, err := io.ReadFull(r, data); err != nil {
			return k.damaged(ctx, id, err)
		}
		left -= int64(len(data))
		sum := sha256.Sum256(data)
		at, err := k.chunk(ctx, len(data), func(dst []byte) []byte { return k.p.codec.compress(dst, data) })
		if err != nil {
			return err
		}
		g.Line.Chunks = append(g.Line.Chunks, at)
		g.Line.Sums = append(g.Line.Sums, sum[:]...)
	}
	if ok, err := k.check(ctx, g); err != nil || !ok {
		return err
	}
	k.done = append(k.done, g)
	return nil
}

// begin begins a blob, or goes on with the one of which a part is sealed.
func (k *packing) begin(ctx context.Context, id string, size int64, r io.Reader) (*growing, error) {
	g, err := k.p.growingBlob(ctx, id, size)
	if err != nil || len(g.Line.Chunks) == 0 {
		return g, err
	}
	skip := int64(len(g.Line.Chunks)) * chunkSize
	if s, ok := r.(io.Seeker); ok {
		_, err = s.Seek(skip, io.SeekStart)
	} else {
		_, err = io.CopyN(io.Discard, r, skip)
	}
	return g, err
}

// chunk adds a frame, which frame appends to the frames, and says where it lies.
// It takes n bytes, and little more.
func (k *packing) chunk(ctx context.Context, n int, frame func(dst []byte) []byte) (chunk, error) {
	if len(k.frames) > 0 && len(k.frames)+n+n>>8+64 > k.p.packs.most {
		if err := k.seal(ctx); err != nil {
			return chunk{}, err
		}
	}
	start := len(k.frames)
	k.frames = frame(k.frames)
	return chunk{k.number, k.p.sealer.Device(), int64(start), int64(len(k.frames) - start)}, nil
}

// check says whether the bytes that were packed are the blob's. It is not told of
// otherwise: the file was damaged.
func (k *packing) check(ctx context.Context, g *growing) (bool, error) {
	line := &g.Line
	if line.Size == 0 || k.p.state.BlobIs(line.Blob, line.Size, line.Sums) {
		return true, nil
	}
	r, _, err := k.p.state.OpenBlob(ctx, line.Blob)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer r.Close()
	whole := sha256.New()
	if _, err := io.Copy(whole, r); err != nil {
		return false, k.damaged(ctx, line.Blob, err)
	}
	if !k.p.state.BlobIs(line.Blob, 1, whole.Sum(nil)) {
		return false, k.damaged(ctx, line.Blob, errors.New("its bytes are others than when it was stored"))
	}
	g.old = true
	return true, nil
}

// damaged notes that the bytes of a blob here are not what they were. The others are
// packed all the same.
func (k *packing) damaged(ctx context.Context, id string, why error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return k.p.wait(ctx, "packing/"+id, waitNote{
		Kind: "blob", Device: k.p.sealer.Device(),
		What: fmt.Sprintf("the bytes of blob %s on this device are damaged, so they are not sent: %v", id, why),
		Do:   "import what it came from again",
	})
}

// seal seals the pack, and notes where the blobs lie that are whole with it.
func (k *packing) seal(ctx context.Context) error {
	p := k.p
	if len(k.frames) > 0 {
		if err := p.room(ctx); err != nil {
			return err
		}
	}
	self, n := p.getSelf(), notes{}
	var list []staged
	if len(k.frames) > 0 {
		ref := Ref{Kind: "pack", Writer: self.Device, Number: k.number}
		object, id, err := p.sealer.Seal(ref, p.newHeader(self).encode(), k.frames)
		if err != nil {
			return fmt.Errorf("sealing a pack: %w", err)
		}
		self.Pack = k.number
		list = append(list, staged{ref, id, object})
		n.set(packKey(ref), packNote{ID: id, Seq: self.Seq + 1, Size: int64(len(k.frames))})
		n.set(heldKey(self.Seq+1), heldNote{Ref: ref, Size: int64(len(object))})
		for _, g := range append(k.done, k.part, k.moved) {
			if g != nil {
				g.Sizes[packKey(ref)] = int64(len(object))
			}
		}
	}
	if err := k.tell(ctx, n); err != nil || len(n) == 0 {
		return err
	}
	if err := p.stage(ctx, self, n, list...); err != nil {
		return err
	}
	if len(list) > 0 {
		k.number, k.frames = k.number+1, k.frames[:0]
		p.wake()
		list = nil
		// What was sealed is 16 MiB of garbage, with no pointers in it. Left to itself
		// the heap would grow to twice what is needed before it is collected.
		runtime.GC()
	}
	k.done = nil
	return nil
}

// tell adds to notes the lines of blobs that are whole now, and the one of which a
// part is sealed.
func (k *packing) tell(ctx context.Context, n notes) error {
	var lines []blobLine
	for _, g := range k.done {
		lines = append(lines, g.finished())
		n["fresh/"+g.Line.Blob] = lines[len(lines)-1].encode()
		g.forget(n)
	}
	if k.part != nil && len(k.part.Line.Chunks) > k.part.noted {
		k.part.note(n)
	}
	return k.p.blobNotes(ctx, n, lines)
}

// finished is the line of a blob all of whose packs are sealed.
func (g *growing) finished() blobLine {
	line := g.Line
	if g.old {
		line.Sums = nil
	}
	line.Objects = nil
	for _, ref := range line.packs() {
		size, ok := g.Sizes[packKey(ref)]
		if !ok {
			line.Objects = nil
			break
		}
		line.Objects = append(line.Objects, size)
	}
	return line
}
