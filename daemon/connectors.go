package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/locker-project/locker/daemon/gate"
	"github.com/locker-project/locker/manifests"
	"github.com/locker-project/locker/plugins"
	"github.com/locker-project/locker/plugins/connectors"
	"github.com/locker-project/locker/plugins/host"
	"github.com/locker-project/locker/plugins/locker"
)

// A reader is one connector in one import: its process, which is started when it
// is first needed and again when it has died, and the gate that its records pass.
type reader struct {
	l        *Locker
	name     string
	manifest *manifests.Manifest
	program  host.Spec

	process   *host.Process
	connector plugins.Connector

	mu      sync.Mutex
	intakes map[bool]*gate.Intake // by whether it only counts
}

// newReaders returns the connectors that come with Locker.
func (l *Locker) newReaders() ([]*reader, error) {
	names, err := fs.Glob(connectors.Manifests, "*/manifest.json")
	if err != nil {
		return nil, err
	}
	var readers []*reader
	for _, name := range names {
		raw, err := fs.ReadFile(connectors.Manifests, name)
		if err != nil {
			return nil, err
		}
		m, err := manifests.ParseManifest(raw)
		if err != nil {
			return nil, fmt.Errorf("connector %s: %w", path.Dir(name), err)
		}
		spec, err := l.shipped("connectors/" + path.Dir(name))
		if err != nil {
			return nil, err
		}
		readers = append(readers, &reader{l: l, name: m.ID, manifest: m, program: spec, intakes: map[bool]*gate.Intake{}})
	}
	sortReaders(readers)
	return readers, nil
}

// start starts the connector's process unless it runs.
func (r *reader) start(ctx context.Context) error {
	if r.process != nil {
		return nil
	}
	p, err := host.Start(ctx, r.program)
	if err != nil {
		return fmt.Errorf("starting the connector %s: %w", r.name, err)
	}
	r.process, r.connector = p, p.Connector()
	return nil
}

func (r *reader) stop() {
	if r.process != nil {
		r.process.Kill()
		r.process, r.connector = nil, nil
	}
}

// recognisePatience is how long a connector may think about what a file is;
// parsePatience is how long it may go on without reading or saying anything.
const (
	recognisePatience = 30 * time.Second
	parsePatience     = 2 * time.Minute
)

// recognise returns the connector that is surest that it can read a file, or nil.
func (imp *importer) recognise(ctx context.Context, in *input) (*reader, error) {
	var best *reader
	most := 0
	for _, r := range imp.readers {
		sure, err := r.recognise(ctx, in)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			if r.process == nil {
				return nil, err // it could not be started
			}
			imp.l.log.Warn("a connector failed to look at a file", "connector", r.name, "err", err)
			r.stop() // what became of the process is unknown; the next file gets a new one
			continue
		}
		if sure > most {
			best, most = r, sure
		}
	}
	return best, nil
}

func (r *reader) recognise(ctx context.Context, in *input) (int, error) {
	if err := r.start(ctx); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, recognisePatience)
	defer cancel()
	return r.connector.Recognise(ctx, in)
}

// parse lets the connector read a file. It is stopped when it makes no headway.
func (r *reader) parse(ctx context.Context, in *input, out *sink) error {
	if err := r.start(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		tick := time.NewTicker(parsePatience)
		defer tick.Stop()
		for before := int64(-1); ; {
			select {
			case <-ended:
				return
			case <-tick.C:
				now := in.busy.Load() + out.busy()
				if now == before {
					cancel(fmt.Errorf("it made no headway for %v", parsePatience))
					return
				}
				before = now
			}
		}
	}()
	err := r.connector.Parse(ctx, in, out)
	if err == nil {
		err = out.err
	}
	var broken *plugins.FileError
	if err != nil && !errors.As(err, &broken) {
		// It may have crashed, or been stopped at a limit: the next file gets a new one.
		r.stop()
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
	}
	return err
}

// intake is the gate for what the connector finds; dry: it stores nothing.
func (r *reader) intake(ctx context.Context, importID string, dry bool) (*gate.Intake, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.intakes[dry] == nil {
		intake, err := r.l.gate.Connector(ctx, r.manifest, importID, dry)
		if err != nil {
			return nil, err
		}
		r.intakes[dry] = intake
	}
	return r.intakes[dry], nil
}

// put hands records to the gate, which stores them or, if dry, counts them.
func (r *reader) put(ctx context.Context, importID string, dry bool, batch []locker.Record) (gate.Taken, error) {
	intake, err := r.intake(ctx, importID, dry)
	if err != nil {
		return gate.Taken{}, err
	}
	return intake.Put(ctx, batch...)
}

// A sink takes what a connector finds in one file.
type sink struct {
	imp    *importer
	reader *reader

	mu     sync.Mutex
	spool  *spool
	bytes  int64
	most   int64 // bytes that the file may bring
	failed []Failure
	more   int
	notes  []string
	hushed int   // notes beyond those kept
	err    error // why the file as a whole is refused
	calls  int64
}

// What one file may bring beyond what it holds: exports are compressed, bombs are
// more so.
const (
	sinkBase  = 64 << 20
	sinkRatio = 200
)

// maxFailures is how many failures of one file are listed; the rest is counted.
const maxFailures = 20

// maxNotes is how many notes about one file are kept; the rest is counted.
const maxNotes = 8

// newSink returns a sink for a file of so many bytes.
func newSink(imp *importer, r *reader, size int64) *sink {
	return &sink{imp: imp, reader: r, spool: newSpool(imp.l.home.spool()), most: sinkBase + sinkRatio*size}
}

// Put takes records over.
func (s *sink) Put(ctx context.Context, records ...locker.Record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	if s.err != nil {
		return s.err
	}
	for _, r := range records {
		s.bytes += int64(len(r.ID) + len(r.Source) + len(r.Fields) + 64)
	}
	if s.bytes > s.most {
		s.err = &plugins.FileError{At: "the whole file", Why: fmt.Sprintf("it unpacks to more than %d MB; that looks like a bomb", s.most>>20)}
		return s.err
	}
	if err := s.spool.add(records...); err != nil {
		s.err = err
		return err
	}
	return nil
}

// Blob stores bytes at once: a record that refers to them comes later, and bytes
// that none refers to are swept.
func (s *sink) Blob(ctx context.Context, r io.Reader) (string, error) {
	s.mu.Lock()
	s.calls++
	s.mu.Unlock()
	intake, err := s.reader.intake(ctx, s.imp.id, s.imp.dry)
	if err != nil {
		return "", err
	}
	return intake.Blob(ctx, r)
}

// Fail notes one record that could not be read.
func (s *sink) Fail(at, why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	s.fail(at, why)
}

func (s *sink) fail(at, why string) {
	if len(s.failed) == maxFailures {
		s.more++
		return
	}
	s.failed = append(s.failed, Failure{At: clip(at), Why: clip(why)})
}

// Note keeps something that the owner should know about the file as a whole.
func (s *sink) Note(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	what = strings.TrimSpace(clip(what))
	switch {
	case what == "":
	case len(s.notes) == maxNotes:
		s.hushed++
	default:
		s.notes = append(s.notes, what)
	}
}

// failWhole notes that nothing of the file could be taken in.
func (s *sink) failWhole(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var at *plugins.FileError
	s.failed, s.more, s.notes, s.hushed = nil, 0, nil, 0
	if errors.As(err, &at) {
		s.fail(at.At, at.Why+"; nothing of the file was taken in")
		return
	}
	s.fail("the whole file", err.Error()+"; nothing of the file was taken in")
}

// report puts the failures and notes into the report on the file.
func (s *sink) report(f *FileReport) {
	s.mu.Lock()
	defer s.mu.Unlock()
	notes := s.notes
	if s.hushed > 0 {
		notes = append(slices.Clip(notes), fmt.Sprintf("and %d more notes", s.hushed))
	}
	f.Note = strings.Join(notes, "; ")
	f.Failed = append(f.Failed, s.failed...)
	f.More = s.more
}

func (s *sink) busy() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls
}

// clip bounds a text that a connector wrote.
func clip(s string) string {
	const most = 300
	s = strings.ToValidUTF8(s, "\uFFFD")
	if runes := []rune(s); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return s
}
