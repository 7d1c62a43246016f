package daemon

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"

	"github.com/locker-project/locker/plugins/locker"
)

// A spool holds what a connector found in one file until it has read all of it, so
// that nothing of a broken file is stored. It stays in memory while it is small,
// then goes to a temporary file, encrypted under a key that only this process has.
type spool struct {
	dir  string
	key  *age.X25519Identity
	keep []locker.Record
	size int
	file *os.File
	seal io.WriteCloser
	zip  *zstd.Encoder
	enc  *json.Encoder
	n    int
}

// spoolMemory is how many bytes of records a spool keeps in memory.
const spoolMemory = 8 << 20

func newSpool(dir string) *spool { return &spool{dir: dir} }

// add takes records over.
func (s *spool) add(records ...locker.Record) error {
	for _, r := range records {
		s.n++
		if s.file == nil {
			s.keep = append(s.keep, r)
			s.size += len(r.Fields) + len(r.ID) + 128
			if s.size <= spoolMemory {
				continue
			}
			if err := s.spill(); err != nil {
				return fmt.Errorf("cannot set records aside in %s: %w", s.dir, err)
			}
			continue
		}
		if err := s.enc.Encode(r); err != nil {
			return fmt.Errorf("cannot set a record aside in %s: %w", s.dir, err)
		}
	}
	return nil
}

// spill moves what is in memory to a file.
func (s *spool) spill() error {
	var err error
	if s.key, err = age.GenerateX25519Identity(); err != nil {
		return err
	}
	if s.file, err = os.CreateTemp(s.dir, "import-*.tmp"); err != nil {
		return err
	}
	if s.seal, err = age.Encrypt(s.file, s.key.Recipient()); err != nil {
		return err
	}
	if s.zip, err = zstd.NewWriter(s.seal, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1)); err != nil {
		return err
	}
	s.enc = json.NewEncoder(s.zip)
	s.enc.SetEscapeHTML(false)
	for _, r := range s.keep {
		if err := s.enc.Encode(r); err != nil {
			return err
		}
	}
	s.keep = nil
	return nil
}

// drain hands the records over in batches of at most n, in order.
func (s *spool) drain(ctx context.Context, n int, do func([]locker.Record) error) error {
	next := s.fromMemory()
	if s.file != nil {
		reader, err := s.rewind()
		if err != nil {
			return fmt.Errorf("cannot read back what was set aside in %s: %w", s.dir, err)
		}
		defer reader.Close()
		dec := json.NewDecoder(bufio.NewReaderSize(reader, 256<<10))
		next = func() (r locker.Record, err error) { err = dec.Decode(&r); return r, err }
	}
	batch := make([]locker.Record, 0, n)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		r, err := next()
		if err == nil {
			batch = append(batch, r)
		} else if err != io.EOF {
			return fmt.Errorf("cannot read back what was set aside in %s: %w", s.dir, err)
		}
		if len(batch) == n || (err == io.EOF && len(batch) > 0) {
			if err := do(batch); err != nil {
				return err
			}
			batch = batch[:0]
		}
		if err == io.EOF {
			return nil
		}
	}
}

func (s *spool) fromMemory() func() (locker.Record, error) {
	i := 0
	return func() (locker.Record, error) {
		if i == len(s.keep) {
			return locker.Record{}, io.EOF
		}
		i++
		return s.keep[i-1], nil
	}
}

// rewind closes the file for writing and opens it for reading.
func (s *spool) rewind() (io.ReadCloser, error) {
	if err := s.zip.Close(); err != nil {
		return nil, err
	}
	if err := s.seal.Close(); err != nil {
		return nil, err
	}
	if _, err := s.file.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	plain, err := age.Decrypt(s.file, s.key)
	if err != nil {
		return nil, err
	}
	z, err := zstd.NewReader(plain, zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	return z.IOReadCloser(), nil
}

// close removes the file.
func (s *spool) close() {
	if s.file == nil {
		return
	}
	s.file.Close()
	os.Remove(s.file.Name())
}
