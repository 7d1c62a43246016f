package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/locker-project/locker/plugins/locker"
)

// A blob that comes from elsewhere comes in parts, files of their own: the file
// system below encrypts a file once, from its beginning to its end, so that one file
// could not be gone on with. Each part is durable once it has its name,
// blobs/parts/ID.1 and so on, and a transfer that was cut off goes on behind those
// that are there. When all are, they become the blob without being copied. What is
// checked is the whole, at the end, which is read again where an earlier call wrote
// it.

// blobPart is how many bytes each part has but the last.
const blobPart = 16 << 20

// partsStale is when the parts of a transfer that nobody went on with are removed.
const partsStale = 7 * 24 * time.Hour

// PutBlobAs stores a blob that came from elsewhere, after checking that its bytes
// are those that id stands for. It is not among NewBlobs. open returns the bytes from
// an offset on; where an earlier call for the blob was cut off, they are wanted from
// where that ended.
func (s *Store) PutBlobAs(ctx context.Context, id string, open func(from int64) (io.ReadCloser, error)) error {
	if !isBlobID(id) {
		return fmt.Errorf("%w blob id", locker.ErrInvalid)
	}
	done, err := s.use(ctx)
	if err != nil {
		return err
	}
	defer done()
	filled, err := s.alone(ctx, id)
	if err != nil {
		return err
	}
	defer filled()
	if _, ok, err := s.blob(id); err != nil || ok {
		return err
	}
	if err := s.fs.MkdirAll(s.partsDir(), 0o700); err != nil {
		return err
	}
	h := newBlobHash(true)
	parts, err := s.partsHere(ctx, id, h)
	if err == nil {
		parts, err = s.fetchParts(ctx, id, parts, h, open)
	}
	if err != nil {
		return err
	}
	if !s.is(id, h) {
		return errors.Join(fmt.Errorf("%w blob: its bytes are not those of %s", locker.ErrInvalid, id), s.removeAll(parts...))
	}
	info := blobInfo{size: h.size}
	if len(parts) > 1 {
		info.parts = blobPart
	}
	return s.keepBlob(id, info, false, parts)
}

// alone waits until nobody else transfers the blob: two would write the same parts.
func (s *Store) alone(ctx context.Context, id string) (done func(), err error) {
	ended := make(chan struct{})
	for {
		other, busy := s.filling.LoadOrStore(id, ended)
		if !busy {
			return func() { s.filling.Delete(id); close(ended) }, nil
		}
		select {
		case <-other.(chan struct{}):
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-s.closing:
			return nil, ErrClosed
		}
	}
}

func (s *Store) partsDir() string { return s.fs.PathJoin(s.dir, "blobs", "parts") }

func (s *Store) partName(id string, i int) string {
	return s.fs.PathJoin(s.partsDir(), fmt.Sprintf("%s.%d", id, i))
}

// partsHere hashes the full parts that an earlier call left.
func (s *Store) partsHere(ctx context.Context, id string, h io.Writer) (parts []string, err error) {
	for {
		name := s.partName(id, len(parts)+1)
		f, err := s.fs.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			return parts, nil
		}
		if err != nil {
			return parts, err
		}
		stat, err := f.Stat()
		if err == nil && stat.Size() == blobPart {
			_, err = io.Copy(h, &goingReader{s, ctx, f})
		} else if err == nil { // the last part, of a call that did not come to its end
			return parts, errors.Join(f.Close(), s.removeAll(name))
		}
		if err := errors.Join(err, f.Close()); err != nil {
			return parts, err
		}
		parts = append(parts, name)
	}
}

// goingReader reads until the store is closed or the context ends.
type goingReader struct {
	s   *Store
	ctx context.Context
	r   io.Reader
}

func (g *goingReader) Read(p []byte) (int, error) {
	if err := g.s.going(g.ctx); err != nil {
		return 0, err
	}
	return g.r.Read(p)
}

// fetchParts writes the parts that are not here.
func (s *Store) fetchParts(ctx context.Context, id string, parts []string, h io.Writer, open func(from int64) (io.ReadCloser, error)) ([]string, error) {
	r, err := open(int64(len(parts)) * blobPart)
	if err != nil {
		return parts, err
	}
	for {
		temporary := s.fs.PathJoin(s.dir, "blobs", leftover+rand.Text())
		n, err := s.fill(ctx, temporary, io.LimitReader(r, blobPart), h)
		name := s.partName(id, len(parts)+1)
		if err == nil && (n > 0 || len(parts) == 0) {
			err = s.fs.Rename(temporary, name)
			parts = append(parts, name)
		}
		if err == nil && n < blobPart {
			return parts, errors.Join(s.removeAll(temporary), r.Close())
		}
		if err == nil {
			err = syncDir(s.fs, s.partsDir())
		}
		if err != nil {
			return parts, errors.Join(err, s.removeAll(temporary), r.Close())
		}
	}
}

// dropStale removes the parts of transfers that nobody went on with.
func (s *Store) dropStale() error {
	names, err := s.fs.List(s.partsDir())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	newest := map[string]time.Time{}
	for _, name := range names {
		info, err := s.fs.Stat(s.fs.PathJoin(s.partsDir(), name))
		if err != nil {
			return err
		}
		id, _, _ := strings.Cut(name, ".")
		if info.ModTime().After(newest[id]) {
			newest[id] = info.ModTime()
		}
	}
	for _, name := range names {
		id, _, _ := strings.Cut(name, ".")
		if s.now().Sub(newest[id]) > partsStale {
			err = errors.Join(err, s.removeAll(s.fs.PathJoin(s.partsDir(), name)))
		}
	}
	return err
}
