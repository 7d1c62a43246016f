package daemon

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
	"sync/atomic"
	"time"

	"github.com/locker-project/locker/daemon/gate"
	"github.com/locker-project/locker/daemon/store"
	"github.com/locker-project/locker/plugins/locker"
)

// importsCollection is where imports are recorded. Other devices have them too, so
// that an import can be undone on any.
const importsCollection = "_imports"

// The states of an import.
const (
	importRunning = "running" // it is going on, or was cut off
	importDone    = "done"
	importUndone  = "undone"
)

// systemAuthor writes what the locker itself keeps.
var systemAuthor = store.Author{Class: store.Owner, System: true}

// An importRecord is what is kept of an import: the fields of its record.
type importRecord struct {
	State   string   `json:"state"`
	Device  string   `json:"device"`
	Paths   []string `json:"paths"`
	New     int      `json:"new"`
	Same    int      `json:"same"`
	Changed int      `json:"changed"`
	Failed  int      `json:"failed"`
}

// An importer runs one import.
//
// The record of the import is written just before the first record that it brings,
// in the state "running", so an import that changes nothing leaves no trace, and
// one that is cut off leaves something to complete or to undo.
type importer struct {
	l       *Locker
	answer  *answer
	dry     bool
	readers []*reader

	id      string
	begun   bool
	started time.Time
	former  importRecord // of the import that was cut off and goes on in this one
	paths   []string
	saved   time.Time // when the record was last written

	sum   ImportSummary
	total int64 // bytes of all files
	past  int64 // bytes of the files that are done

	finding, stored atomic.Int64 // records of the file that is being stored; 0 while it is read
}

// importFiles is the call import: it takes in files, and sends a row for each.
func (l *Locker) importFiles(ctx context.Context, p ImportParams, a *answer) (any, error) {
	if len(p.Paths) == 0 {
		return nil, usage("name files or folders", "there is nothing to import")
	}
	if !l.importing.TryLock() {
		return nil, failed("wait for it to end, then try again", "another import is going on")
	}
	defer l.importing.Unlock()
	files, err := walk(ctx, p.Paths, l.home)
	if err != nil {
		return nil, err
	}
	imp := &importer{l: l, answer: a, dry: p.DryRun, paths: p.Paths, started: time.Now()}
	for _, f := range files {
		imp.total += f.size
	}
	if imp.readers, err = l.newReaders(); err != nil {
		return nil, err
	}
	defer func() {
		for _, r := range imp.readers {
			r.stop()
		}
		releaseMemory(imp.sum.New + imp.sum.Same + imp.sum.Changed)
	}()
	if err := imp.choose(ctx); err != nil {
		return nil, err
	}
	for _, f := range files {
		if err := imp.file(ctx, f); err != nil {
			return nil, imp.cutOff(err)
		}
	}
	return imp.sum, imp.finish(ctx)
}

// choose gives the import its id: a new one, or that of an import of the same
// paths that was cut off.
func (imp *importer) choose(ctx context.Context) error {
	for r, err := range imp.l.importRecords(ctx) {
		if err != nil {
			return err
		}
		if r.State == importRunning && r.Device == imp.l.keys.Device() && slices.Equal(r.Paths, imp.paths) && !imp.dry {
			imp.id, imp.former, imp.begun, imp.started = r.id, r.importRecord, true, r.time
			imp.sum.Resumed = true
		}
	}
	if imp.begun {
		if err := imp.recount(ctx); err != nil {
			return err
		}
	}
	if imp.id == "" {
		imp.id = "i-" + imp.started.Format("20060102") + "-" + strings.ToLower(rand.Text()[:6])
	}
	if imp.begun {
		imp.sum.Import = imp.id
	}
	return nil
}

// recount looks how many records an import that was cut off has brought: its record
// was last brought up to date some time before.
func (imp *importer) recount(ctx context.Context) error {
	collections, err := imp.l.store.Collections()
	if err != nil {
		return err
	}
	brought := 0
	for name := range collections {
		q := locker.Query{Collection: name, Fields: []string{}, Where: fmt.Sprintf("import = %q", imp.id)}
		for _, err := range imp.l.store.View(owner).Query(ctx, q) {
			if err != nil {
				return err
			}
			brought++
		}
	}
	imp.former.New = max(imp.former.New, brought-imp.former.Changed)
	return nil
}

// begin records the import before the first record that it brings.
func (imp *importer) begin(ctx context.Context) error {
	imp.begun = true
	imp.sum.Import = imp.id
	return imp.save(ctx, importRunning)
}

// save writes the record of the import.
func (imp *importer) save(ctx context.Context, state string) error {
	f, s := imp.former, imp.sum
	fields, err := json.Marshal(importRecord{
		State: state, Device: imp.l.keys.Device(), Paths: imp.paths,
		New: f.New + s.New, Changed: f.Changed + s.Changed, Failed: s.Failed,
		Same: max(0, s.Same-f.New-f.Changed), // what it brought before it was cut off is the same now
	})
	if err != nil {
		return err
	}
	imp.saved = time.Now()
	_, err = imp.l.store.Write(ctx, systemAuthor, locker.Record{Collection: importsCollection, ID: imp.id, Time: imp.started, Fields: fields})
	return err
}

// saveEvery is how often the record of a long import is brought up to date.
const saveEvery = 2 * time.Second

// finish ends the import.
func (imp *importer) finish(ctx context.Context) error {
	if !imp.begun || imp.dry {
		return nil
	}
	return imp.save(ctx, importDone)
}

// cutOff says what became of an import that could not go on.
func (imp *importer) cutOff(err error) error {
	if !imp.begun {
		return err
	}
	next := fmt.Sprintf("run the same command again to complete it, or 'locker undo %s' to take back what came in", imp.id)
	if errors.Is(err, context.Canceled) {
		return failed(next, "interrupted; import %s is not complete", imp.id)
	}
	e := asError(err)
	return &Error{Code: e.Code, Message: fmt.Sprintf("import %s is not complete: %s", imp.id, e.Message), Next: strings.TrimPrefix(e.Next+"; then "+next, "; then ")}
}

// file imports one file and reports on it. The error is one that ends the import:
// what is wrong with the file itself is in the report.
func (imp *importer) file(ctx context.Context, f found) error {
	report, err := imp.read(ctx, f)
	if err != nil {
		return err
	}
	imp.past += f.size
	s := &imp.sum
	s.Files++
	s.New += report.New
	s.Same += report.Same
	s.Changed += report.Changed
	s.Failed += len(report.Failed) + report.More
	if report.Connector == nil && len(report.Failed) == 0 {
		s.Unknown++
	}
	if err := imp.answer.now(report); err != nil {
		return err
	}
	if imp.begun && !imp.dry && time.Since(imp.saved) > saveEvery {
		return imp.save(ctx, importRunning)
	}
	return nil
}

// read lets the connector that knows a file read it, and stores what it found.
func (imp *importer) read(ctx context.Context, f found) (FileReport, error) {
	report := FileReport{Path: f.path, Failed: []Failure{}, Note: f.note}
	if f.note != "" {
		return report, nil
	}
	in, err := openInput(f)
	if err != nil {
		report.Failed = append(report.Failed, Failure{Why: "cannot be read: " + plainReason(err)})
		return report, nil
	}
	defer in.close()
	stop := imp.tell(in)
	defer stop()
	r, err := imp.recognise(ctx, in)
	if err != nil {
		return report, err
	}
	if r == nil {
		return report, nil
	}
	report.Connector = &r.name
	out := newSink(imp, r, in.size)
	defer out.spool.close()
	if err := r.parse(ctx, in, out); err != nil {
		if ctx.Err() != nil {
			return report, ctx.Err()
		}
		out.failWhole(err)
		out.report(&report)
		return report, nil
	}
	if err := imp.storeFound(ctx, r, out, &report); err != nil {
		return report, err
	}
	out.report(&report)
	if out.spool.n == 0 && report.Note == "" && len(report.Failed) == 0 {
		report.Note = "holds nothing to import"
	}
	return report, nil
}

// importBatch is how many records are written at once.
const importBatch = 10_000

// storeFound writes what a connector found in one file, or only counts it.
func (imp *importer) storeFound(ctx context.Context, r *reader, out *sink, report *FileReport) error {
	imp.finding.Store(int64(out.spool.n))
	return out.spool.drain(ctx, importBatch, func(batch []locker.Record) error {
		taken, err := imp.write(ctx, r, batch)
		imp.stored.Add(int64(len(batch)))
		report.New += taken.New
		report.Same += taken.Same
		report.Changed += taken.Changed
		for _, f := range taken.Failed {
			out.Fail("record "+f.ID, f.Why)
		}
		return err
	})
}

// write writes a batch. Until one differs from what is there it only compares.
func (imp *importer) write(ctx context.Context, r *reader, batch []locker.Record) (gate.Taken, error) {
	if imp.dry || !imp.begun {
		taken, err := r.put(ctx, imp.id, true, batch)
		if err != nil || imp.dry || taken.New+taken.Changed == 0 {
			return taken, err
		}
		if err := imp.begin(ctx); err != nil {
			return gate.Taken{}, err
		}
	}
	return r.put(ctx, imp.id, false, batch)
}

// progressEvery is how often the caller is told how far the import has come.
const progressEvery = 300 * time.Millisecond

// tell tells the caller how far the import has come until stop is called.
func (imp *importer) tell(in *input) (stop func()) {
	imp.finding.Store(0)
	imp.stored.Store(0)
	done := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(progressEvery)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				doing, n, total := "reading "+in.name, imp.past+in.read.Load(), imp.total
				if found := imp.finding.Load(); found > 0 {
					doing, n, total = "storing records of "+in.name, imp.stored.Load(), found
				}
				if imp.answer.progress(doing, n, total) != nil {
					return
				}
			}
		}
	}()
	return func() { close(done); <-ended }
}

// A keptImport is the record of one import.
type keptImport struct {
	id   string
	time time.Time
	importRecord
}

// importRecords yields all imports, oldest first.
func (l *Locker) importRecords(ctx context.Context) func(func(keptImport, error) bool) {
	return func(yield func(keptImport, error) bool) {
		for r, err := range l.store.View(systemAuthor).Query(ctx, locker.Query{Collection: importsCollection}) {
			k := keptImport{id: r.ID, time: r.Time}
			if err == nil {
				err = r.Decode(&k.importRecord)
			}
			if !yield(k, err) || err != nil {
				return
			}
		}
	}
}

// imports is the call imports: a row for each import.
func (l *Locker) imports(ctx context.Context, _ struct{}, a *answer) (any, error) {
	idle := l.importing.TryLock()
	if idle {
		defer l.importing.Unlock()
	}
	for k, err := range l.importRecords(ctx) {
		if err != nil {
			return nil, err
		}
		row := ImportInfo{Import: k.id, Time: k.time, State: k.State, Device: k.Device, Paths: k.Paths, New: k.New, Same: k.Same, Changed: k.Changed, Failed: k.Failed}
		if name := l.keys.DeviceName(k.Device); name != "" {
			row.Device = name
		}
		row.CutOff = k.State == importRunning && k.Device == l.keys.Device() && idle
		if err := a.row(row); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// undo is the call undo.
func (l *Locker) undo(ctx context.Context, p ImportInfo, _ *answer) (any, error) {
	if !l.importing.TryLock() {
		return nil, failed("wait for it to end, then try again", "an import is going on")
	}
	defer l.importing.Unlock()
	r, err := l.store.View(systemAuthor).Get(ctx, importsCollection, p.Import)
	if errors.Is(err, locker.ErrNotFound) {
		return nil, failed("'locker imports' lists them", "there is no import %q", p.Import)
	}
	if err != nil {
		return nil, err
	}
	var k importRecord
	if err := r.Decode(&k); err != nil {
		return nil, err
	}
	if k.State == importUndone {
		return nil, failed("", "import %s was taken back already", p.Import)
	}
	removed, restored, err := l.store.Undo(ctx, p.Import)
	releaseMemory(removed + restored)
	return UndoSummary{Import: p.Import, Removed: removed, Restored: restored}, err
}

// sortReaders puts readers in the order of their names, so that which of two
// equally sure connectors reads a file does not depend on chance.
func sortReaders(readers []*reader) {
	sort.Slice(readers, func(i, j int) bool { return readers[i].name < readers[j].name })
}
