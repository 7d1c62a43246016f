package store

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/locker-project/locker/plugins/locker"
)

// A blob is a file blobs/XX/ID in the store's folder, encrypted like the others, and
// a key in the database, written once the file is durable: a file without its key is
// what a crash left, and is not there.

const blobChunk = 256 << 10

func (s *Store) blobPath(id string) (dir, name string) {
	dir = s.fs.PathJoin(s.dir, "blobs", id[:2])
	return dir, s.fs.PathJoin(dir, id)
}

// blobInfo is the value of a blob's key.
type blobInfo struct {
	size int64
	seq  uint64
}

func blobKey(id string) []byte { return append([]byte{spaceBlobs}, id...) }

func (s *Store) blob(id string) (info blobInfo, ok bool, err error) {
	val, err := get(s.db, blobKey(id))
	if err != nil || val == nil {
		return info, false, err
	}
	if len(val) != 16 {
		return info, false, fmt.Errorf("blob %s: damaged entry", id)
	}
	return blobInfo{int64(binary.BigEndian.Uint64(val)), binary.BigEndian.Uint64(val[8:])}, true, nil
}

// PutBlob stores the bytes of r and returns their id and how many there are. The id
// is the hex HMAC-SHA256, under BlobKey, of their SHA-256: the same bytes have the
// same id on all devices, and nobody without the key can tell which. The blob is
// durable when PutBlob returns nil.
func (s *Store) PutBlob(ctx context.Context, r io.Reader) (id string, size int64, err error) {
	return s.putBlob(ctx, r, "", true)
}

// PutBlobAs stores a blob that came from elsewhere, after checking that its bytes
// are those that id stands for. It is not among NewBlobs.
func (s *Store) PutBlobAs(ctx context.Context, id string, r io.Reader) error {
	if !isBlobID(id) {
		return fmt.Errorf("%w blob id", locker.ErrInvalid)
	}
	_, _, err := s.putBlob(ctx, r, id, false)
	return err
}

func isBlobID(id string) bool {
	raw, err := hex.DecodeString(id)
	return err == nil && len(raw) == sha256.Size && hex.EncodeToString(raw) == id
}

func (s *Store) putBlob(ctx context.Context, r io.Reader, want string, local bool) (id string, size int64, err error) {
	done, err := s.use(ctx)
	if err != nil {
		return "", 0, err
	}
	defer done()
	dir := s.fs.PathJoin(s.dir, "blobs")
	if err := s.fs.MkdirAll(dir, 0o700); err != nil {
		return "", 0, err
	}
	temporary := s.fs.PathJoin(dir, leftover+rand.Text())
	id, size, err = s.fill(ctx, temporary, r)
	if err == nil && want != "" && id != want {
		err = fmt.Errorf("%w blob: its bytes are not those of %s", locker.ErrInvalid, want)
	}
	if err == nil {
		err = s.keepBlob(temporary, id, size, local)
	}
	if err != nil {
		if gone := s.fs.Remove(temporary); gone != nil && !errors.Is(gone, fs.ErrNotExist) {
			err = errors.Join(err, gone)
		}
		return "", 0, err
	}
	return id, size, nil
}

// leftover is how the name of a blob begins that is on its way.
const leftover = "new-"

// dropLeftovers removes what a crash left of blobs on their way.
func (s *Store) dropLeftovers() error {
	dir := s.fs.PathJoin(s.dir, "blobs")
	names, err := s.fs.List(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, name := range names {
		if strings.HasPrefix(name, leftover) {
			err = errors.Join(err, s.fs.Remove(s.fs.PathJoin(dir, name)))
		}
	}
	return err
}

// fill writes the bytes of r to a new file and returns their id.
func (s *Store) fill(ctx context.Context, name string, r io.Reader) (id string, size int64, err error) {
	f, err := s.fs.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return "", 0, err
	}
	h := sha256.New()
	size, err = s.copy(ctx, f, r, h)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return "", 0, err
	}
	mac := hmac.New(sha256.New, s.blobKey)
	mac.Write(h.Sum(nil))
	return hex.EncodeToString(mac.Sum(nil)), size, nil
}

func (s *Store) copy(ctx context.Context, f vfs.File, r io.Reader, h hash.Hash) (size int64, err error) {
	buf := make([]byte, blobChunk)
	for {
		if err := s.going(ctx); err != nil {
			return size, err
		}
		n, err := io.ReadFull(r, buf)
		if n > 0 {
			if err := s.room(int64(n)); err != nil {
				return size, err
			}
			h.Write(buf[:n]) // before the file encrypts it in place
			if _, err := f.Write(buf[:n]); err != nil {
				return size, err
			}
			size += int64(n)
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return size, nil
		}
		if err != nil {
			return size, err
		}
	}
}

// keepBlob moves a durable file to its place and notes it in the database.
func (s *Store) keepBlob(temporary, id string, size int64, local bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed != nil {
		return s.failed
	}
	if _, ok, err := s.blob(id); err != nil {
		return err
	} else if ok {
		return s.fs.Remove(temporary)
	}
	dir, name := s.blobPath(id)
	if err := s.fs.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := s.fs.Rename(temporary, name); err != nil {
		return err
	}
	for _, d := range []string{dir, s.fs.PathDir(dir), s.dir} {
		if err := syncDir(s.fs, d); err != nil {
			return err
		}
	}
	b := s.db.NewBatch()
	defer b.Close()
	m := s.meta.clone()
	val := binary.BigEndian.AppendUint64(nil, uint64(size))
	if local {
		m.blobs++
		val = binary.BigEndian.AppendUint64(val, m.blobs)
		if err := b.Set(binary.BigEndian.AppendUint64([]byte{spaceNewBlobs}, m.blobs), []byte(id), nil); err != nil {
			return err
		}
	} else {
		val = binary.BigEndian.AppendUint64(val, 0)
	}
	if err := errors.Join(b.Set(blobKey(id), val, nil), b.Set(metaKey, m.encode(), nil)); err != nil {
		return err
	}
	if err := b.Commit(pebble.Sync); err != nil {
		s.failed = err
		return err
	}
	s.meta = m
	return nil
}

// OpenBlob returns a blob and its size, or an error that is fs.ErrNotExist. The
// reader is an io.Seeker and an io.ReaderAt too.
func (s *Store) OpenBlob(ctx context.Context, id string) (io.ReadCloser, int64, error) {
	done, err := s.use(ctx)
	if err != nil {
		return nil, 0, err
	}
	defer done()
	if !isBlobID(id) {
		return nil, 0, fmt.Errorf("blob %.80q: %w", id, fs.ErrNotExist)
	}
	info, ok, err := s.blob(id)
	if err != nil {
		return nil, 0, err
	}
	if !ok {
		return nil, 0, fmt.Errorf("blob %s: %w", id, fs.ErrNotExist)
	}
	_, name := s.blobPath(id)
	f, err := s.fs.Open(name)
	if err != nil {
		return nil, 0, fmt.Errorf("blob %s: %w", id, err)
	}
	if stat, err := f.Stat(); err != nil || stat.Size() != info.size {
		return nil, 0, errors.Join(fmt.Errorf("blob %s: the file is damaged: it should have %d bytes", id, info.size), err, f.Close())
	}
	return blobReader{io.NewSectionReader(f, 0, info.size), f}, info.size, nil
}

type blobReader struct {
	*io.SectionReader
	io.Closer
}

// NewBlobs returns the ids of blobs that were stored on this device after a
// position, in the order in which they came, and the position after them. It returns
// at most some thousands at a time: none means that there are no more.
func (s *Store) NewBlobs(ctx context.Context, after []byte) (ids []string, next []byte, err error) {
	done, err := s.use(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer done()
	seq := uint64(0)
	if len(after) == 8 {
		seq = binary.BigEndian.Uint64(after)
	} else if len(after) != 0 {
		return nil, nil, errors.New("damaged position among blobs")
	}
	const most = 4096
	err = scanRange(s.db, binary.BigEndian.AppendUint64([]byte{spaceNewBlobs}, seq+1), []byte{spaceNewBlobs + 1}, func(key, val []byte) error {
		ids, seq = append(ids, string(val)), decodeRev(key)
		if len(ids) == most {
			return errStop
		}
		return nil
	})
	if err != nil && err != errStop {
		return nil, nil, err
	}
	return ids, binary.BigEndian.AppendUint64(nil, seq), nil
}
