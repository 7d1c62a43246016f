// Package encfs encrypts the files of a Pebble file system. Start with [New].
//
// A file is a header and the content, encrypted with AES-256 in counter mode:
//
//	offset  bytes
//	0       8   magic, "LKENC\x00\x00\x01" (the last byte is the version)
//	8       32  salt, random for each file and for each reuse of a file
//	40      16  check
//	56      8   zero
//	64      …   content
//
// HKDF-SHA256 of the key and the salt gives the file's AES key, its first counter
// block and the check, which tells a foreign file or a wrong key from a good one.
// A file is only ever written from its beginning to its end, once, so that no part of
// a key stream covers two contents; [vfs.FS.ReuseForWrite] makes a fresh file and
// OpenReadWrite is refused.
//
// What it gives: who has the disk but not the key learns the names, sizes and times
// of files and nothing of what is in them. What it does not give: integrity. Whoever
// can write to the disk can flip bits of the content, swap or roll back whole files;
// Pebble's checksums find accidents, not intent.
//
// A file that is shorter than its header, or whose header was never written though
// its length was, is what a crash leaves of a file that was never synced. It reads
// as empty.
package encfs

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// ErrKey says that a file was not written by a file system with this key.
var ErrKey = errors.New("not a file of this store and key")

const (
	headerSize = 64
	magic      = "LKENC\x00\x00\x01"
	saltSize   = 32
	checkSize  = 16
	label      = "locker store file v1"
)

// New returns a file system that keeps its files encrypted in base. Directories,
// locks, names and the sizes of files (but for the header) are those of base. It is
// safe for concurrent use if base is.
func New(base vfs.FS, key [32]byte) vfs.FS {
	return &encrypted{FS: base, key: key}
}

type encrypted struct {
	vfs.FS
	key [32]byte
}

// Unwrap returns the file system below.
func (f *encrypted) Unwrap() vfs.FS { return f.FS }

// Create makes a file with a key stream of its own.
func (f *encrypted) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	inner, err := f.FS.Create(name, category)
	if err != nil {
		return nil, err
	}
	header := make([]byte, headerSize)
	copy(header, magic)
	rand.Read(header[len(magic) : len(magic)+saltSize])
	s, check, err := f.stream(header[len(magic) : len(magic)+saltSize])
	if err == nil {
		copy(header[len(magic)+saltSize:], check)
		_, err = inner.Write(header)
	}
	if err != nil {
		return nil, errors.Join(err, inner.Close())
	}
	return &file{File: inner, stream: s, writer: s.at(0)}, nil
}

// ReuseForWrite drops the old file and makes a new one: written over, the old
// file's key stream would cover a second content.
func (f *encrypted) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if _, err := f.FS.Stat(oldname); err != nil {
		return nil, err
	}
	if err := f.FS.Remove(oldname); err != nil {
		return nil, err
	}
	return f.Create(newname, category)
}

// Open opens a file for reading, or a directory.
func (f *encrypted) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	inner, err := f.FS.Open(name)
	if err != nil {
		return nil, err
	}
	opened, err := f.open(inner)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", name, err), inner.Close())
	}
	for _, o := range opts {
		o.Apply(inner)
	}
	return opened, nil
}

func (f *encrypted) open(inner vfs.File) (vfs.File, error) {
	info, err := inner.Stat()
	if err != nil || info.IsDir() {
		return inner, err
	}
	header := make([]byte, headerSize)
	if n, err := inner.ReadAt(header, 0); n < headerSize {
		if err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return &file{File: inner}, nil
		}
		return nil, err
	}
	if bytes.Equal(header, make([]byte, headerSize)) {
		return &file{File: inner}, nil
	}
	salt, check := header[len(magic):len(magic)+saltSize], header[len(magic)+saltSize:][:checkSize]
	s, want, err := f.stream(salt)
	if err != nil {
		return nil, err
	}
	if string(header[:len(magic)]) != magic || subtle.ConstantTimeCompare(check, want) != 1 {
		return nil, ErrKey
	}
	return &file{File: inner, stream: s}, nil
}

// OpenReadWrite is refused: writing in place would use a key stream twice.
func (f *encrypted) OpenReadWrite(name string, _ vfs.DiskWriteCategory, _ ...vfs.OpenOption) (vfs.File, error) {
	return nil, fmt.Errorf("%s: opening for reading and writing: %w", name, errors.ErrUnsupported)
}

// Stat describes a file; its size is that of the content.
func (f *encrypted) Stat(name string) (vfs.FileInfo, error) {
	info, err := f.FS.Stat(name)
	if err != nil || info.IsDir() {
		return info, err
	}
	return sized{info, max(0, info.Size()-headerSize)}, nil
}

// stream derives what encrypts a file, and the check in its header.
func (f *encrypted) stream(salt []byte) (*stream, []byte, error) {
	secret, err := hkdf.Key(sha256.New, f.key[:], salt, label, 32+aes.BlockSize+checkSize)
	if err != nil {
		return nil, nil, err
	}
	block, err := aes.NewCipher(secret[:32])
	if err != nil {
		return nil, nil, err
	}
	s := &stream{block: block}
	copy(s.iv[:], secret[32:])
	return s, secret[32+aes.BlockSize:], nil
}

// A stream is the key stream of one file.
type stream struct {
	block cipher.Block
	iv    [aes.BlockSize]byte
}

// at returns the key stream from an offset of the content on.
func (s *stream) at(off int64) cipher.Stream {
	iv := s.iv
	lo := binary.BigEndian.Uint64(iv[8:])
	sum := lo + uint64(off)/aes.BlockSize
	binary.BigEndian.PutUint64(iv[8:], sum)
	if sum < lo {
		binary.BigEndian.PutUint64(iv[:8], binary.BigEndian.Uint64(iv[:8])+1)
	}
	c := cipher.NewCTR(s.block, iv[:])
	if skip := off % aes.BlockSize; skip > 0 {
		var dropped [aes.BlockSize]byte
		c.XORKeyStream(dropped[:skip], dropped[:skip])
	}
	return c
}

// A file that was created writes at its end through writer. One without a stream
// is what a crash left: it reads as empty.
type file struct {
	vfs.File
	stream *stream
	writer cipher.Stream
	end    int64 // where Write continues
	pos    int64 // where Read continues
}

// Write encrypts p in place, as a vfs.File may, and writes it.
func (f *file) Write(p []byte) (int, error) {
	if f.writer == nil {
		return 0, fmt.Errorf("write to a file that was opened for reading: %w", errors.ErrUnsupported)
	}
	f.writer.XORKeyStream(p, p)
	n, err := f.File.Write(p)
	f.end += int64(n)
	if n < len(p) {
		f.writer = f.stream.at(f.end)
	}
	return n, err
}

// WriteAt is refused like OpenReadWrite.
func (f *file) WriteAt([]byte, int64) (int, error) {
	return 0, fmt.Errorf("write in place: %w", errors.ErrUnsupported)
}

// ReadAt may be called concurrently.
func (f *file) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("read at %d: negative offset", off)
	}
	if f.stream == nil {
		return 0, io.EOF
	}
	n, err := f.File.ReadAt(p, off+headerSize)
	if n > 0 {
		f.stream.at(off).XORKeyStream(p[:n], p[:n])
	}
	return n, err
}

// Read goes on where the last Read ended.
func (f *file) Read(p []byte) (int, error) {
	n, err := f.ReadAt(p, f.pos)
	f.pos += int64(n)
	if n > 0 && errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

func (f *file) Stat() (vfs.FileInfo, error) {
	info, err := f.File.Stat()
	if err != nil {
		return nil, err
	}
	if f.stream == nil {
		return sized{info, 0}, nil
	}
	return sized{info, max(0, info.Size()-headerSize)}, nil
}

func (f *file) Preallocate(off, length int64) error {
	return f.File.Preallocate(off+headerSize, length)
}

func (f *file) SyncTo(length int64) (bool, error) { return f.File.SyncTo(length + headerSize) }

func (f *file) Prefetch(off, length int64) error { return f.File.Prefetch(off+headerSize, length) }

// sized is a FileInfo with the size of the content.
type sized struct {
	vfs.FileInfo
	size int64
}

func (s sized) Size() int64 { return s.size }
