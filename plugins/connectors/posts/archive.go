package posts

import (
	"archive/tar"
	"archive/zip"
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/locker-project/locker/plugins"
)

// What an archive may be. A real one is far within; one that is not is refused,
// for it was made to fill a disk or to take a day.
const (
	maxDirectory = 16 << 20 // bytes of a zip's directory: some 150,000 members
	maxMembers   = 500_000
	maxRatio     = 300      // of a member's size to its compressed size
	ratioFree    = 16 << 20 // bytes of a member that may have any ratio
	// What all members may have together: a base, and a multiple of the file.
	maxTotal      = 1 << 30
	maxTotalRatio = 30
)

// A member is one file of an archive. Its reader is good until the visit ends.
type member struct {
	name string // cleaned: no leading slash, no "..", forward slashes
	open func() (io.Reader, error)
}

// A bomb is the reason why an archive is refused.
type bomb string

func (b bomb) Error() string { return string(b) }

// A budget counts what was decompressed of an archive.
type budget struct {
	left int64
}

func newBudget(size int64) *budget {
	return &budget{left: maxTotal + maxTotalRatio*size}
}

// A metered reader takes what it reads from a budget. compressed says how many
// bytes its source has taken so far.
type metered struct {
	r          io.Reader
	b          *budget
	n          int64
	compressed func() int64
}

func (m *metered) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	m.n += int64(n)
	m.b.left -= int64(n)
	if m.b.left < 0 {
		return 0, bomb("unpacks to more than any real archive of its size does")
	}
	if m.n > ratioFree && m.n/maxRatio > m.compressed()+1 {
		return 0, bomb("is compressed more than any real file is")
	}
	return n, err
}

// isZip and isGzip go by the first bytes.
func isZip(head []byte) bool  { return strings.HasPrefix(string(head), "PK\x03\x04") }
func isGzip(head []byte) bool { return strings.HasPrefix(string(head), "\x1f\x8b\x08") }

// walk visits the members of a zip, or of a tar compressed with gzip, in their
// order. Errors of a broken archive are a *plugins.FileError that names the
// member.
func walk(ctx context.Context, f plugins.File, visit func(m member) error) error {
	head := make([]byte, 4)
	if _, err := f.ReadAt(head, 0); err != nil && err != io.EOF {
		return err
	}
	if isZip(head) {
		return walkZip(ctx, f, visit)
	}
	return walkTar(ctx, f, visit)
}

// A boundedReaderAt fails after a number of bytes; it bounds the directory of a
// zip, which is read as a whole.
type boundedReaderAt struct {
	io.ReaderAt
	left int64 // negative: without bound
}

func (b *boundedReaderAt) ReadAt(p []byte, off int64) (int, error) {
	if b.left >= 0 {
		if b.left -= int64(len(p)); b.left < 0 {
			return 0, bomb("has more members than any real archive")
		}
	}
	return b.ReaderAt.ReadAt(p, off)
}

// openZip reads the directory of a zip.
func openZip(f plugins.File) (*zip.Reader, error) {
	at := &boundedReaderAt{f, maxDirectory}
	z, err := zip.NewReader(at, f.Size())
	at.left = -1
	if err != nil && !errors.Is(err, zip.ErrInsecurePath) {
		return nil, broken("archive", err)
	}
	return z, nil
}

func walkZip(ctx context.Context, f plugins.File, visit func(m member) error) error {
	z, err := openZip(f)
	if err != nil {
		return err
	}
	b := newBudget(f.Size())
	for _, file := range z.File {
		if err := ctx.Err(); err != nil {
			return err
		}
		if file.FileInfo().IsDir() {
			continue
		}
		if err := visitZip(file, b, visit); err != nil {
			return err
		}
	}
	return nil
}

func visitZip(file *zip.File, b *budget, visit func(m member) error) error {
	m := member{name: cleanName(file.Name)}
	var opened io.ReadCloser
	m.open = func() (io.Reader, error) {
		if file.Flags&1 != 0 {
			return nil, broken("entry "+m.name, errors.New("is encrypted; unpack the archive with its password first"))
		}
		r, err := file.Open()
		if err != nil {
			return nil, broken("entry "+m.name, err)
		}
		opened = r
		size := int64(file.CompressedSize64)
		return &named{&metered{r, b, 0, func() int64 { return size }}, m.name}, nil
	}
	err := visit(m)
	if opened != nil {
		opened.Close()
	}
	return err
}

func walkTar(ctx context.Context, f plugins.File, visit func(m member) error) error {
	counted := &counter{r: io.NewSectionReader(f, 0, f.Size())}
	z, err := gzip.NewReader(bufio.NewReaderSize(counted, 64<<10))
	if err != nil {
		return broken("archive", err)
	}
	b := newBudget(f.Size())
	t := tar.NewReader(&metered{z, b, 0, func() int64 { return counted.n }})
	for n := 0; ; n++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		h, err := t.Next()
		if err == io.EOF {
			return nil
		}
		if err == nil && n >= maxMembers {
			err = bomb("has more members than any real archive")
		}
		if err != nil {
			return broken("archive", err)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		m := member{name: cleanName(h.Name)}
		m.open = func() (io.Reader, error) { return &named{t, m.name}, nil }
		if err := visit(m); err != nil {
			return err
		}
	}
}

// A counter counts what was read.
type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// A named reader gives its errors the name of a member.
type named struct {
	r    io.Reader
	name string
}

func (n *named) Read(p []byte) (int, error) {
	c, err := n.r.Read(p)
	if err != nil && err != io.EOF {
		err = broken("entry "+n.name, err)
	}
	return c, err
}

// broken makes a *plugins.FileError of what is wrong with the bytes of an
// archive; other errors, such as those of reading the file, stay.
func broken(where string, err error) error {
	var b bomb
	var f *plugins.FileError
	switch {
	case errors.As(err, &f):
		return err
	case errors.As(err, &b):
		return &plugins.FileError{At: where, Why: string(b)}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return &plugins.FileError{At: where, Why: "ends in the middle: the file was cut off; download it again"}
	case errors.As(err, new(*readError)), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s: %w", where, err)
	}
	return &plugins.FileError{At: where, Why: err.Error()}
}

// A source is a file whose own errors can be told from those of its content.
type source struct{ plugins.File }

type readError struct{ err error }

func (e *readError) Error() string { return e.err.Error() }
func (e *readError) Unwrap() error { return e.err }

func (s source) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off > s.Size() {
		return 0, errors.New("points outside of the file")
	}
	n, err := s.File.ReadAt(p, off)
	if err != nil && err != io.EOF {
		err = &readError{err}
	}
	return n, err
}

// cleanName makes a path of a member harmless and comparable.
func cleanName(name string) string {
	return strings.TrimPrefix(path.Clean("/"+strings.ReplaceAll(name, `\`, "/")), "/")
}
