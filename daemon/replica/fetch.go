package replica

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
)

// Bytes of blobs are fetched from packs by range, in whole pieces of 1 MiB at
// multiples of 1 MiB of the sealed object, so that a remote sees neither how large a
// picture is nor which of those in a piece is looked at. A range proves less than a
// whole pack: the signature covers the header, and the header the hash of the whole
// payload. What a range holds is therefore checked against the blob's id, which is
// made of the hashes of all its chunks, and those are in its line. So neither the
// remote, nor who knows a key of the locker, nor another device can give other bytes
// for a part of a blob. Where a line has no hashes, packs are read whole.
const remotePiece = 1 << 20

// maxRead is the most that ReadBlob returns.
const maxRead = 8 << 20

// ReadBlob returns up to n bytes of a blob from off on, fewer only at its end and
// where n is above 8 MiB, and how many bytes the blob has. They come from State where
// the blob is there, else by range from the first remote that has them good. It does
// not wait for a pass. The error is fs.ErrNotExist where no device told of the blob.
func (r *Replica) ReadBlob(ctx context.Context, id string, off, n int64) (data []byte, size int64, err error) {
	if off < 0 {
		return nil, 0, fmt.Errorf("reading blob %s from %d on: there is nothing before its beginning", id, off)
	}
	if data, size, err = r.readHere(ctx, id, off, n); !errors.Is(err, fs.ErrNotExist) {
		return data, size, err
	}
	copies, err := r.copies(ctx, id)
	if err != nil {
		return nil, 0, err
	}
	if len(copies) == 0 {
		return nil, 0, fmt.Errorf("blob %s: no device has told of it: %w", id, fs.ErrNotExist)
	}
	if off >= copies[0].Size || n <= 0 {
		return nil, copies[0].Size, nil
	}
	line := slices.IndexFunc(copies, r.partly)
	if line < 0 { // what tells of it proves nothing of a part
		if err := r.Blob(ctx, id); err != nil {
			return nil, 0, err
		}
		return r.readHere(ctx, id, off, n)
	}
	size, n = copies[line].Size, min(n, maxRead, copies[line].Size-off)
	err = r.withKeys(ctx, func() error {
		data, err = r.readRange(ctx, id, copies, off, n)
		return err
	})
	return data, size, err
}

// withKeys does f, and once more where it met an object whose key was not here,
// after looking for new keys.
func (r *Replica) withKeys(ctx context.Context, f func() error) error {
	err := f()
	var notYet interface{ NotYet() bool }
	if !errors.As(err, &notYet) || !notYet.NotYet() {
		return err
	}
	p, end, failed := r.begin(ctx, SyncOptions{})
	if failed != nil {
		return errors.Join(err, failed)
	}
	failed = p.readMembersOnce(ctx)
	end()
	if failed != nil {
		return errors.Join(err, failed)
	}
	return f()
}

// partly says whether a copy can be read by range.
func (r *Replica) partly(line blobLine) bool {
	return len(line.Objects) > 0 && r.state.BlobIs(line.Blob, line.Size, line.Sums)
}

// readHere reads a part of a blob that State has.
func (r *Replica) readHere(ctx context.Context, id string, off, n int64) (data []byte, size int64, err error) {
	body, size, err := r.state.OpenBlob(ctx, id)
	if err != nil {
		return nil, 0, err
	}
	defer body.Close()
	if n = min(n, maxRead, size-off); n <= 0 {
		return nil, size, nil
	}
	if s, ok := body.(io.Seeker); ok {
		_, err = s.Seek(off, io.SeekStart)
	} else {
		_, err = io.CopyN(io.Discard, body, off)
	}
	if err != nil {
		return nil, 0, err
	}
	data = make([]byte, n)
	_, err = io.ReadFull(body, data)
	return data, size, err
}

// readRange reads a part of a blob from the remotes.
func (r *Replica) readRange(ctx context.Context, id string, copies []blobLine, off, n int64) ([]byte, error) {
	p := r.reader()
	if len(p.links) == 0 {
		return nil, ErrNoRemote
	}
	defer p.finishReading()
	var errs []error
	for _, line := range r.inOrder(ctx, copies) {
		if !r.partly(line) {
			continue
		}
		b := &blobReader{ctx: ctx, p: p, line: line, at: int(off / chunkSize), until: int((off + n + chunkSize - 1) / chunkSize)}
		if _, err := io.CopyN(io.Discard, b, off%chunkSize); err != nil {
			errs = append(errs, err)
			continue
		}
		data := make([]byte, n)
		if _, err := io.ReadFull(b, data); err != nil {
			errs = append(errs, err)
			continue
		}
		return data, nil
	}
	return nil, p.notFetched(ctx, id, copies, errors.Join(errs...))
}

// inOrder puts the copies first that are not condemned.
func (r *Replica) inOrder(ctx context.Context, copies []blobLine) []blobLine {
	var first, last []blobLine
	for _, line := range copies {
		if ok, err := r.usable(ctx, line); ok && err == nil {
			first = append(first, line)
		} else {
			last = append(last, line)
		}
	}
	return append(first, last...)
}

// Blob fetches a blob that State lacks from the remotes. A fetch that was cut off
// goes on where it was. It does not wait for a pass. The error is fs.ErrNotExist where
// no entry told of it.
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
	return r.withKeys(ctx, func() error { return r.fetchBlob(ctx, id, copies) })
}

// fetchBlob fetches a whole blob into State.
func (r *Replica) fetchBlob(ctx context.Context, id string, copies []blobLine) error {
	p := r.reader()
	if len(p.links) == 0 {
		return ErrNoRemote
	}
	errs := []error{}
	for _, line := range r.inOrder(ctx, copies) {
		err := r.state.PutBlobAs(ctx, id, func(from int64) (io.ReadCloser, error) {
			return &blobReader{ctx: ctx, p: p, line: line, at: int(from / chunkSize), read: from, until: len(line.Chunks), whole: true}, nil
		})
		if err == nil {
			r.fetched.Store(true)
			return p.clear(ctx, "blob/"+id)
		}
		errs = append(errs, err)
	}
	return p.notFetched(ctx, id, copies, errors.Join(errs...))
}

// notFetched says why a blob could not be had, and notes it where that is not for
// want of a remote.
func (p *pass) notFetched(ctx context.Context, id string, copies []blobLine, err error) error {
	if p.allFailed() || ctx.Err() != nil {
		return fmt.Errorf("fetching blob %s: %w", id, errors.Join(err, p.reachError()))
	}
	w := waitNote{
		Kind: "blob",
		What: "the bytes of a blob are not on the remote, or not what they should be",
		Do:   "run 'locker verify' on the device that has it; it puts the good ones again",
	}
	if packs := copies[0].packs(); len(packs) > 0 {
		w.Object, w.Device = p.sealer.Name(packs[0]), packs[0].Writer
	}
	return errors.Join(fmt.Errorf("fetching blob %s: %w", id, err), p.wait(ctx, "blob/"+id, w))
}

// reader is a pass that only reads objects, and goes on beside others.
func (r *Replica) reader() *pass {
	p := &pass{Replica: r, readings: map[string]*reading{}, dirty: map[string]bool{}}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, named := range r.remotes {
		p.links = append(p.links, &link{Named: named, count: &p.counts})
	}
	return p
}

// keepMost is how many pieces of a pack are kept for the next call.
const keepMost = 8

// finishReading keeps what was fetched of a pack for the next call.
func (p *pass) finishReading() {
	if o := p.pack; o != nil && o.link != nil && len(o.pieces) <= keepMost {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.lastPack = o
	}
}

// A blobReader reads the bytes of a blob out of packs, one pack at a time, from chunk
// at up to chunk until.
type blobReader struct {
	ctx   context.Context
	p     *pass
	line  blobLine
	at    int // next chunk
	until int
	whole bool   // the length of the blob is checked at its end
	data  []byte // of the chunk, not read yet
	read  int64
	buf   []byte // memory of a frame and of a chunk
	room  []byte
}

func (b *blobReader) Close() error { return nil }

func (b *blobReader) Read(buf []byte) (int, error) {
	for len(b.data) == 0 {
		if b.at == b.until {
			if b.whole && b.read != b.line.Size {
				return 0, errors.New("its chunks are not as long as the blob")
			}
			return 0, io.EOF
		}
		if err := b.next(); err != nil {
			return 0, err
		}
		b.at++
	}
	n := copy(buf, b.data)
	b.data, b.read = b.data[n:], b.read+int64(n)
	return n, nil
}

// next reads and checks the next chunk, from the first remote that has it good.
func (b *blobReader) next() error {
	pack, err := b.p.packAt(b.ctx, b.line, b.at, b.until)
	for {
		if err == nil {
			if b.data, err = b.chunk(pack, b.line.Chunks[b.at]); err == nil {
				return nil
			}
		}
		if b.ctx.Err() != nil {
			return b.ctx.Err()
		}
		if !b.p.nextLink(b.ctx, b.line, b.at, b.until) {
			return err
		}
		pack, err = b.p.pack, nil
	}
}

// chunk reads a chunk out of a pack and checks it where the line has its hash.
func (b *blobReader) chunk(pack *openPack, c chunk) ([]byte, error) {
	if c.Offset+c.Length > pack.frames.Size() {
		return nil, errors.New("a chunk lies beyond its pack")
	}
	b.buf = slices.Grow(b.buf[:0], int(c.Length))[:c.Length]
	if _, err := pack.frames.ReadAt(b.buf, c.Offset); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("pack %s: %w", pack.name, err)
	}
	data, err := b.p.codec.decompress(b.buf, b.room, chunkSize)
	if err != nil {
		return nil, fmt.Errorf("pack %s: %w", pack.name, err)
	}
	b.room = data
	if !b.isChunk(b.at, data) {
		return nil, fmt.Errorf("pack %s holds other bytes than those of the blob", pack.name)
	}
	return data, nil
}

// isChunk says whether bytes are those of chunk i, as far as the line has its hash.
func (b *blobReader) isChunk(i int, data []byte) bool {
	sum := sha256.Sum256(data)
	return len(b.line.Sums) == 0 || string(sum[:]) == string(b.line.Sums[i*sha256.Size:][:sha256.Size])
}
