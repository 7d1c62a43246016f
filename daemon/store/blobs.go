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
	"io"
	"io/fs"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// A blob is a file blobs/XX/ID in the store's folder, encrypted like the others, and
// a key in the database, written once the file is durable: a file without its key is
// what a crash left, and is not there. A large blob that came from elsewhere is
// several files, blobs/XX/ID.1 and so on, so that a transfer that was cut off goes
// on (see fill.go).

const blobBuffer = 256 << 10

// blobPiece is how much of a blob one hash of its id covers.
const blobPiece = 1 << 20

func (s *Store) blobPath(id string) (dir, name string) {
	dir = s.fs.PathJoin(s.dir, "blobs", id[:2])
	return dir, s.fs.PathJoin(dir, id)
}

// blobInfo is the value of a blob's key.
type blobInfo struct {
	size  int64
	seq   uint64 // among those stored here; 0: it came from elsewhere
	parts int64  // bytes of each of its files but the last; 0: it is one file
}

func (i blobInfo) encode() []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(i.size))
	b = binary.BigEndian.AppendUint64(b, i.seq)
	if i.parts != 0 {
		b = binary.BigEndian.AppendUint64(b, uint64(i.parts))
	}
	return b
}

func decodeBlobInfo(val []byte) (i blobInfo, err error) {
	if len(val) != 16 && len(val) != 24 {
		return i, errors.New("damaged entry")
	}
	i = blobInfo{size: int64(binary.BigEndian.Uint64(val)), seq: binary.BigEndian.Uint64(val[8:])}
	if len(val) == 24 {
		i.parts = int64(binary.BigEndian.Uint64(val[16:]))
	}
	return i, nil
}

func blobKey(id string) []byte { return append([]byte{spaceBlobs}, id...) }

func usedKey(id string) []byte { return append([]byte{spaceUsed}, id...) }

func newBlobKey(seq uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{spaceNewBlobs}, seq)
}

func (s *Store) blob(id string) (info blobInfo, ok bool, err error) {
	val, err := get(s.db, blobKey(id))
	if err != nil || val == nil {
		return info, false, err
	}
	if info, err = decodeBlobInfo(val); err != nil {
		return info, false, fmt.Errorf("blob %s: %w", id, err)
	}
	return info, true, nil
}

// A blobHash makes ids of blobs: the hex HMAC-SHA256, under BlobKey, of the SHA-256
// of each piece of 1 MiB, one after the other, of which there is one at least. So who
// has those hashes can tell for each piece that it is the blob's. Blobs of up to 1 MiB
// have the HMAC of the SHA-256 of the whole, and so had all blobs in earlier versions;
// those are still accepted.
type blobHash struct {
	pieces []byte // hashes of the pieces that are done
	piece  hashWriter
	whole  hashWriter // nil where nobody asks for an id of the earlier kind
	left   int        // bytes that the piece still takes
	size   int64
}

type hashWriter interface {
	io.Writer
	Sum(b []byte) []byte
	Reset()
}

func newBlobHash(earlier bool) *blobHash {
	h := &blobHash{piece: sha256.New(), left: blobPiece}
	if earlier {
		h.whole = sha256.New()
	}
	return h
}

func (h *blobHash) Write(p []byte) (int, error) {
	if h.whole != nil {
		h.whole.Write(p)
	}
	h.size += int64(len(p))
	for n := len(p); ; {
		if h.left == 0 && len(p) > 0 {
			h.pieces = h.piece.Sum(h.pieces)
			h.piece.Reset()
			h.left = blobPiece
		}
		if len(p) == 0 {
			return n, nil
		}
		some := p[:min(len(p), h.left)]
		h.piece.Write(some)
		p, h.left = p[len(some):], h.left-len(some)
	}
}

// sums are the hashes of all pieces.
func (h *blobHash) sums() []byte { return h.piece.Sum(h.pieces[:len(h.pieces):len(h.pieces)]) }

func (s *Store) blobID(sums []byte) string {
	mac := hmac.New(sha256.New, s.blobKey)
	mac.Write(sums)
	return hex.EncodeToString(mac.Sum(nil))
}

// is says whether id is that of the bytes that were hashed.
func (s *Store) is(id string, h *blobHash) bool {
	return id == s.blobID(h.sums()) || h.whole != nil && id == s.blobID(h.whole.Sum(nil))
}

// BlobIs says whether id is that of a blob of so many bytes whose pieces of 1 MiB
// have these SHA-256 hashes, one after the other. Ids of earlier versions are never
// recognised where there are several pieces.
func (s *Store) BlobIs(id string, size int64, sums []byte) bool {
	pieces := max(1, (size+blobPiece-1)/blobPiece)
	return int64(len(sums)) == pieces*sha256.Size && id == s.blobID(sums)
}

func isBlobID(id string) bool {
	raw, err := hex.DecodeString(id)
	return err == nil && len(raw) == sha256.Size && hex.EncodeToString(raw) == id
}

// PutBlob stores the bytes of r and returns their id and how many there are. The id
// is a hash of the bytes under BlobKey: the same bytes have the same id on all
// devices, and nobody without the key can tell which. The blob is durable when PutBlob
// returns nil, and among NewBlobs, even where it was here before.
func (s *Store) PutBlob(ctx context.Context, r io.Reader) (id string, size int64, err error) {
	done, err := s.use(ctx)
	if err != nil {
		return "", 0, err
	}
	defer done()
	dir := s.fs.PathJoin(s.dir, "blobs")
	if err := s.fs.MkdirAll(dir, 0o700); err != nil {
		return "", 0, err
	}
	temporary, h := s.fs.PathJoin(dir, leftover+rand.Text()), newBlobHash(false)
	if _, err = s.fill(ctx, temporary, r, h); err == nil {
		id, size = s.blobID(h.sums()), h.size
		err = s.keepBlob(id, blobInfo{size: size}, true, []string{temporary})
	}
	if err != nil {
		return "", 0, errors.Join(err, s.removeAll(temporary))
	}
	return id, size, nil
}

// removeAll removes files, as far as they are there.
func (s *Store) removeAll(names ...string) error {
	var errs []error
	for _, name := range names {
		if err := s.fs.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// fill writes the bytes of r to a new file, makes it durable and returns how many
// there were.
func (s *Store) fill(ctx context.Context, name string, r io.Reader, h io.Writer) (size int64, err error) {
	f, err := s.fs.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return 0, err
	}
	size, err = s.copy(ctx, f, r, h)
	if err == nil {
		err = f.Sync()
	}
	return size, errors.Join(err, f.Close())
}

func (s *Store) copy(ctx context.Context, f vfs.File, r io.Reader, h io.Writer) (size int64, err error) {
	buf := make([]byte, blobBuffer)
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

// files are those of a blob, in order.
func (s *Store) files(id string, info blobInfo) []string {
	_, name := s.blobPath(id)
	if info.parts == 0 {
		return []string{name}
	}
	names := make([]string, (info.size+info.parts-1)/info.parts)
	for i := range names {
		names[i] = fmt.Sprintf("%s.%d", name, i+1)
	}
	return names
}

// keepBlob moves durable files to their places and notes the blob in the database.
func (s *Store) keepBlob(id string, info blobInfo, local bool, from []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed != nil {
		return s.failed
	}
	b := s.db.NewBatch()
	defer b.Close()
	old, ok, err := s.blob(id)
	switch {
	case err != nil:
		return err
	case ok:
		if err := s.removeAll(from...); err != nil || !local {
			return err
		}
		if info = old; old.seq != 0 {
			err = b.Delete(newBlobKey(old.seq), nil)
		}
	default:
		err = s.moveBlob(id, info, from)
	}
	if err != nil {
		return err
	}
	m := s.meta.clone()
	if local {
		m.blobs++
		info.seq = m.blobs
		err = b.Set(newBlobKey(m.blobs), []byte(id), nil)
	}
	used := binary.BigEndian.AppendUint64(nil, uint64(s.now().UnixMilli()))
	err = errors.Join(err, b.Set(blobKey(id), info.encode(), nil), b.Set(usedKey(id), used, nil), b.Set(metaKey, m.encode(), nil))
	if err != nil {
		return err
	}
	if err := b.Commit(pebble.Sync); err != nil {
		s.failed = err
		return err
	}
	s.meta = m
	return nil
}

func (s *Store) moveBlob(id string, info blobInfo, from []string) error {
	dir, _ := s.blobPath(id)
	if err := s.fs.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for i, name := range s.files(id, info) {
		if err := s.fs.Rename(from[i], name); err != nil {
			return err
		}
	}
	for _, d := range []string{dir, s.fs.PathDir(dir), s.dir} {
		if err := syncDir(s.fs, d); err != nil {
			return err
		}
	}
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
	r, err := s.openFiles(id, info)
	if err != nil {
		return nil, 0, fmt.Errorf("blob %s: %w", id, err)
	}
	if err := s.used(id); err != nil {
		return nil, 0, errors.Join(err, r.Close())
	}
	return blobReader{io.NewSectionReader(r, 0, info.size), r}, info.size, nil
}

func (s *Store) openFiles(id string, info blobInfo) (r blobFiles, err error) {
	r.each = max(info.parts, 1)
	if info.parts == 0 {
		r.each = info.size + 1
	}
	left := info.size
	for _, name := range s.files(id, info) {
		f, err := s.fs.Open(name)
		if err != nil {
			return r, errors.Join(err, r.Close())
		}
		r.files = append(r.files, f)
		want := min(left, r.each)
		if stat, err := f.Stat(); err != nil || stat.Size() != want {
			return r, errors.Join(fmt.Errorf("the file is damaged: it should have %d bytes", want), err, r.Close())
		}
		left -= want
	}
	return r, nil
}

// blobFiles are the files of a blob as one.
type blobFiles struct {
	files []vfs.File
	each  int64 // bytes of each but the last
}

// ReadAt may be called concurrently.
func (b blobFiles) ReadAt(p []byte, off int64) (n int, err error) {
	for len(p) > 0 {
		i := off / b.each
		if i >= int64(len(b.files)) {
			return n, io.EOF
		}
		some := p[:min(int64(len(p)), b.each-off%b.each)]
		m, err := b.files[i].ReadAt(some, off%b.each)
		n, off, p = n+m, off+int64(m), p[m:]
		if m < len(some) {
			return n, err
		}
	}
	return n, nil
}

func (b blobFiles) Close() error {
	var errs []error
	for _, f := range b.files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

type blobReader struct {
	*io.SectionReader
	io.Closer
}

// usedEvery is how exactly it is known when a blob was last asked for.
const usedEvery = time.Hour

// used notes that a blob is asked for. Losing that in a crash costs nothing.
func (s *Store) used(id string) error {
	now := s.now().UnixMilli()
	val, err := get(s.db, usedKey(id))
	if err != nil || len(val) == 8 && now-int64(binary.BigEndian.Uint64(val)) < usedEvery.Milliseconds() {
		return err
	}
	return s.db.Set(usedKey(id), binary.BigEndian.AppendUint64(nil, uint64(now)), pebble.NoSync)
}

// Blobs calls f with each blob that is here, in the order of their ids: its size in
// bytes, and when it was last asked for, within an hour, in milliseconds since 1970.
func (s *Store) Blobs(ctx context.Context, f func(id string, size, used int64) error) error {
	done, err := s.use(ctx)
	if err != nil {
		return err
	}
	defer done()
	return scan(s.db, []byte{spaceBlobs}, func(key, val []byte) error {
		id := string(key[1:])
		info, err := decodeBlobInfo(val)
		if err != nil {
			return fmt.Errorf("blob %s: %w", id, err)
		}
		used, err := get(s.db, usedKey(id))
		if err != nil {
			return err
		}
		if len(used) != 8 {
			used = make([]byte, 8)
		}
		return errors.Join(s.going(ctx), f(id, info.size, int64(binary.BigEndian.Uint64(used))))
	})
}

// DropBlob removes the bytes of a blob from this device; one that is not here is no
// error. Whoever has it open reads on. Records that refer to it do not change.
func (s *Store) DropBlob(ctx context.Context, id string) error {
	done, err := s.use(ctx)
	if err != nil {
		return err
	}
	defer done()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed != nil {
		return s.failed
	}
	info, ok, err := s.blob(id)
	if err != nil || !ok {
		return err
	}
	b := s.db.NewBatch()
	defer b.Close()
	if err := dropBlobKeys(b, id, info); err != nil {
		return err
	}
	if err := b.Commit(pebble.Sync); err != nil {
		s.failed = err
		return err
	}
	return s.removeAll(s.files(id, info)...)
}

// dropBlobKeys deletes what the database has of a blob.
func dropBlobKeys(b *pebble.Batch, id string, info blobInfo) (err error) {
	if info.seq != 0 {
		err = b.Delete(newBlobKey(info.seq), nil)
	}
	return errors.Join(err, b.Delete(blobKey(id), nil), b.Delete(usedKey(id), nil))
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
	err = scanRange(s.db, newBlobKey(seq+1), []byte{spaceNewBlobs + 1}, func(key, val []byte) error {
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

// leftover is how the name of a file of a blob begins that is on its way.
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
	return errors.Join(err, s.dropStale())
}
