package replica

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
)

// An openPack is a pack on a remote of which pieces are here. One call at a time
// reads it.
type openPack struct {
	ref    Ref
	name   string
	link   *link // nil: the whole object was opened
	size   int64
	pieces map[int64][]byte // by number
	whole  []byte           // memory of all pieces, where they were fetched at once
	frames *io.SectionReader
	ctx    context.Context // of the call that reads
}

// How the sealed bytes lie: after the header of an age file come blocks of 64 KiB,
// each with a tag.
const (
	ageFront = 1643
	ageBlock = 64 << 10
	ageTag   = 16
	// headGuess is how long the signed header of a pack is, about.
	headGuess = 1 << 10
)

// sealedRange is where the bytes from one offset of the plaintext up to another lie.
func sealedRange(from, to int64) (int64, int64) {
	return ageFront + from/ageBlock*(ageBlock+ageTag), ageFront + (to+ageBlock-1)/ageBlock*(ageBlock+ageTag)
}

// packAt returns the pack with the chunk at of a line, of which those up to until
// will be read: the one that the pass has open, or one that it opens on the first
// remote that has it.
func (p *pass) packAt(ctx context.Context, line blobLine, at, until int) (*openPack, error) {
	ref := line.Chunks[at].ref()
	if p.pack != nil && p.pack.ref == ref {
		p.pack.ctx = ctx
		return p.pack, p.pack.prepare(line, at, until)
	}
	p.dropPack()
	if size := line.objectSize(ref); size > 0 && p.partly(line) {
		return p.openPart(ctx, line, at, until, 0)
	}
	o, v, err := p.fetch(ctx, ref)
	switch {
	case err != nil:
		return nil, err
	case v == missing:
		return nil, fmt.Errorf("pack %s: %w", o.name, ErrNotFound)
	case v == unreachable:
		return nil, p.reachError()
	case v != found:
		return nil, fmt.Errorf("pack %s is not as it should be: %w", o.name, o.why)
	}
	p.pack = &openPack{ref: ref, name: o.name, size: int64(len(o.sealed)), frames: io.NewSectionReader(bytes.NewReader(o.frames), 0, int64(len(o.frames)))}
	return p.pack, nil
}

// objectSize is how many bytes the object of a pack has, or 0.
func (b blobLine) objectSize(ref Ref) int64 {
	if len(b.Objects) == 0 {
		return 0
	}
	for i, r := range b.packs() {
		if r == ref {
			return b.Objects[i]
		}
	}
	return 0
}

// dropPack closes the pack that the pass has open. Its memory is used again.
func (p *pass) dropPack() {
	if p.pack != nil && p.pack.whole != nil {
		p.spare = p.pack.whole
	}
	p.pack = nil
}

// openPart opens the pack of a chunk on the first remote from the i-th on that has it.
func (p *pass) openPart(ctx context.Context, line blobLine, at, until, i int) (*openPack, error) {
	ref := line.Chunks[at].ref()
	var errs []error
	for _, l := range p.links[i:] {
		if l.failed() != nil {
			continue
		}
		o := p.takeOpen(ref, l)
		if o == nil {
			o = &openPack{ref: ref, name: p.sealer.Name(ref), size: line.objectSize(ref), pieces: map[int64][]byte{}, whole: p.spare}
		}
		o.ctx, o.link, p.spare = ctx, l, nil
		err := o.prepare(line, at, until)
		if err == nil {
			_, o.frames, _, err = p.sealer.OpenAt(ref, o, o.size)
		}
		if err == nil {
			p.pack = o
			return o, o.prepare(line, at, until)
		}
		p.spare = o.whole
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		errs = append(errs, fmt.Errorf("pack %s: %w", o.name, err))
	}
	if len(errs) == 0 || p.allFailed() {
		errs = append(errs, p.reachError())
	}
	return nil, errors.Join(errs...)
}

// takeOpen takes what an earlier call fetched of a pack from the same remote.
func (p *pass) takeOpen(ref Ref, l *link) *openPack {
	p.mu.Lock()
	defer p.mu.Unlock()
	o := p.lastPack
	if o == nil || o.ref != ref || o.link.Remote != l.Remote {
		return nil
	}
	p.lastPack = nil
	return o
}

// nextLink gives up the pack on the remote on which it is open, and opens it on the
// next one. It says whether there is one.
func (p *pass) nextLink(ctx context.Context, line blobLine, at, until int) bool {
	pack := p.pack
	p.dropPack()
	if pack == nil || pack.link == nil {
		return false
	}
	for i, l := range p.links {
		if l == pack.link {
			_, err := p.openPart(ctx, line, at, until, i+1)
			return err == nil
		}
	}
	return false
}

// prepare fetches what the chunks of a line from at on, up to until, need of the
// pack, as far as it is not here: the whole pack where that is more than half.
func (o *openPack) prepare(line blobLine, at, until int) error {
	if o.link == nil {
		return nil
	}
	from, to := o.size, int64(0)
	for ; at < until && line.Chunks[at].ref() == o.ref; at++ {
		c := line.Chunks[at]
		from, to = min(from, c.Offset), max(to, c.Offset+c.Length)
	}
	front := int64(headGuess)
	if o.frames != nil {
		_, front, _ = o.frames.Outer()
	}
	if (to-from)*2 > o.size {
		return o.fetch(0, o.last()+1)
	}
	from, to = sealedRange(front+from, front+to)
	first, last := from/remotePiece, min((to-1)/remotePiece, o.last())
	if o.frames == nil && first == 1 {
		first = 0 // one request brings the header too
	}
	if o.frames == nil && last == o.last()-1 {
		last++
	}
	return o.fetch(first, last+1)
}

// last is the number of the last piece.
func (o *openPack) last() int64 { return (o.size - 1) / remotePiece }

// fetch gets the pieces from one number up to another that are not here, those that
// follow each other with one request.
func (o *openPack) fetch(from, to int64) error {
	for from < to {
		if o.pieces[from] != nil {
			from++
			continue
		}
		end := from + 1
		for end < to && o.pieces[end] == nil {
			end++
		}
		start := from * remotePiece
		data := make([]byte, 0)
		if from == 0 && end > o.last() {
			data = o.whole // what all of a pack needs is used for the next one
		}
		data, err := o.link.getRange(o.ctx, o.name, start, min(end*remotePiece, o.size)-start, data)
		if err != nil {
			return err
		}
		if from == 0 && end > o.last() {
			o.whole = data
		}
		for ; from < end; from++ {
			n := min(remotePiece, int64(len(data)))
			o.pieces[from], data = data[:n:n], data[n:]
		}
	}
	return nil
}

// ReadAt reads the sealed bytes, and fetches the pieces that are not here.
func (o *openPack) ReadAt(p []byte, off int64) (n int, err error) {
	for len(p) > 0 && off < o.size {
		number := off / remotePiece
		if o.pieces[number] == nil {
			if err := o.fetch(number, min((off+int64(len(p))-1)/remotePiece, o.last())+1); err != nil {
				return n, err
			}
		}
		m := copy(p, o.pieces[number][off%remotePiece:])
		n, p, off = n+m, p[m:], off+int64(m)
	}
	if len(p) > 0 {
		return n, io.EOF
	}
	return n, nil
}
