// Package connectortest tests connectors: files and a sink in memory, and a
// suite of what every connector promises. Start with [Parse] for one file and
// [Suite] for the promises.
//
// It is for the connectors that ship with Locker and for those of others alike.
package connectortest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/locker-project/locker/manifests"
	"github.com/locker-project/locker/plugins"
	"github.com/locker-project/locker/plugins/locker"
)

// A File is a file of an import, in memory. It counts what is read of it.
type File struct {
	name string
	r    *bytes.Reader
	read int64
}

var _ plugins.File = (*File)(nil)

// NewFile returns a file with a name, which a connector may not rely on, and its
// content.
func NewFile(name string, content []byte) *File {
	return &File{name: name, r: bytes.NewReader(content)}
}

// ReadFile returns the file at path.
func ReadFile(t testing.TB, path string) *File {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return NewFile(filepath.Base(path), b)
}

// Fixture returns a file below the folder of real exports: the one that
// LOCKER_FIXTURES names, else shared/fixtures in a folder above the test's. The
// test is skipped where there is no such file.
func Fixture(t testing.TB, name string) *File {
	t.Helper()
	if dir := os.Getenv("LOCKER_FIXTURES"); dir != "" {
		return ReadFile(t, filepath.Join(dir, name))
	}
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		path := filepath.Join(dir, "shared", "fixtures", name)
		if _, err := os.Stat(path); err == nil {
			return ReadFile(t, path)
		}
		up := filepath.Dir(dir)
		if up == dir {
			t.Skipf("no shared/fixtures/%s in a folder above: set LOCKER_FIXTURES to the folder of real exports", name)
		}
		dir = up
	}
}

// Name returns the name that the file was made with.
func (f *File) Name() string { return f.name }

// Size returns the length of the content in bytes.
func (f *File) Size() int64 { return f.r.Size() }

// ReadAt reads from the content.
func (f *File) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.r.ReadAt(p, off)
	f.read += int64(n)
	return n, err
}

// Bytes returns the content.
func (f *File) Bytes() []byte {
	b := make([]byte, f.Size())
	if _, err := f.r.ReadAt(b, 0); err != nil && err != io.EOF {
		panic(err) // a bytes.Reader has no other error
	}
	return b
}

// A Failure is one record that a connector could not read.
type Failure struct{ At, Why string }

// A Sink keeps what a connector finds. It refuses what the gate would refuse:
// records without collection or id, and fields that do not fit the schema of a
// well-known collection.
type Sink struct {
	Records []locker.Record
	Blobs   map[string][]byte
	Failed  []Failure
	Notes   []string
	// Drop makes Put count records in Dropped and not keep them.
	Drop    bool
	Dropped int
	// OnPut, when set, is called with the number of records put so far.
	OnPut func(n int)
	put   int
}

var _ plugins.Sink = (*Sink)(nil)

// Put keeps records.
func (s *Sink) Put(ctx context.Context, records ...locker.Record) error {
	if s.put += len(records); s.OnPut != nil {
		s.OnPut(s.put)
	}
	if s.Drop {
		s.Dropped += len(records)
		return ctx.Err()
	}
	for _, r := range records {
		if err := manifests.Validate(r.Collection, r.Fields); err != nil {
			return fmt.Errorf("record %q: %w", r.ID, err)
		}
		if r.Collection == "" || r.ID == "" {
			return fmt.Errorf("record %+v has no collection or no id", r)
		}
		s.Records = append(s.Records, r)
	}
	return ctx.Err()
}

// Blob keeps bytes, under the first half of their SHA-256.
func (s *Sink) Blob(_ context.Context, r io.Reader) (string, error) {
	b, err := io.ReadAll(r)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(b)
	id := hex.EncodeToString(sum[:16])
	if s.Blobs == nil {
		s.Blobs = make(map[string][]byte)
	}
	s.Blobs[id] = b
	return id, nil
}

// Fail keeps a failure.
func (s *Sink) Fail(at, why string) { s.Failed = append(s.Failed, Failure{at, why}) }

// Note keeps what a connector says about the file as a whole.
func (s *Sink) Note(what string) { s.Notes = append(s.Notes, what) }

// Record returns the record with an id, which must be there.
func (s *Sink) Record(t testing.TB, id string) locker.Record {
	t.Helper()
	for _, r := range s.Records {
		if r.ID == id {
			return r
		}
	}
	t.Fatalf("no record %q", id)
	return locker.Record{}
}

// Parse runs the connector over a file that it must recognise.
func Parse(t testing.TB, c plugins.Connector, f *File) (*Sink, error) {
	t.Helper()
	ctx := context.Background()
	confidence, err := c.Recognise(ctx, f)
	if err != nil {
		t.Fatalf("recognise %s: %v", f.Name(), err)
	}
	if confidence <= 0 || confidence > 100 {
		t.Fatalf("recognise %s: confidence %d", f.Name(), confidence)
	}
	sink := new(Sink)
	err = c.Parse(ctx, f, sink)
	return sink, err
}

// MustParse is [Parse] for a file without a broken record.
func MustParse(t testing.TB, c plugins.Connector, f *File) *Sink {
	t.Helper()
	sink, err := Parse(t, c, f)
	if err != nil {
		t.Fatalf("parse %s: %v", f.Name(), err)
	}
	for _, fail := range sink.Failed {
		t.Errorf("parse %s: %s: %s", f.Name(), fail.At, fail.Why)
	}
	return sink
}

// IsFileError fails the test unless err is a *plugins.FileError whose place and
// reason hold the given words.
func IsFileError(t testing.TB, err error, words ...string) {
	t.Helper()
	var broken *plugins.FileError
	if !errors.As(err, &broken) {
		t.Fatalf("error %v is no *plugins.FileError", err)
	}
	if broken.At == "" || broken.Why == "" {
		t.Errorf("error %+v has no place or no reason", *broken)
	}
	for _, w := range words {
		if !strings.Contains(broken.Error(), w) {
			t.Errorf("error %q does not say %q", broken, w)
		}
	}
}
