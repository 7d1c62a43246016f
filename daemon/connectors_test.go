package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/locker-project/locker/plugins/locker"
)

// TestNotes: what a connector says about a file reaches the report, joined and
// bounded; of a file that is refused as a whole only the refusal is told.
func TestNotes(t *testing.T) {
	s := &sink{}
	s.Note("dates were taken day first")
	s.Note(" \n")
	s.Note(strings.Repeat("long ", 1000))
	var f FileReport
	s.report(&f)
	if want := "dates were taken day first; long "; !strings.HasPrefix(f.Note, want) || len(f.Note) > 400 {
		t.Errorf("the note is %q", f.Note)
	}
	for i := range 1000 {
		s.Note(fmt.Sprint("note ", i))
	}
	for range 2 { // a report changes nothing
		s.report(&f)
		if !strings.HasSuffix(f.Note, "; note 5; and 994 more notes") || len(f.Note) > 1000 {
			t.Errorf("the note is %q", f.Note)
		}
	}
	s.failWhole(errors.New("cut off"))
	f = FileReport{}
	s.report(&f)
	if f.Note != "" || len(f.Failed) != 1 {
		t.Errorf("of a file that is refused: %+v", f)
	}
}

// TestBomb: a file may bring far more than it holds, but not without end; what it
// brought then is refused as a whole.
func TestBomb(t *testing.T) {
	imp := &importer{l: &Locker{home: Home(t.TempDir())}}
	if err := imp.l.home.clearSpool(); err != nil {
		t.Fatal(err)
	}
	s := newSink(imp, nil, 1000)
	defer s.spool.close()
	record := locker.Record{Collection: "notes", ID: "n", Fields: json.RawMessage(`{"text":"` + strings.Repeat("x", 1<<20) + `"}`)}
	n := 0
	var err error
	for ; err == nil && n < 100; n++ {
		err = s.Put(context.Background(), record)
	}
	if n != 65 || s.err == nil || !strings.Contains(s.err.Error(), "bomb") {
		t.Errorf("after %d MB: %v", n, s.err)
	}
	if big := newSink(imp, nil, 1<<30); big.most < 100<<30 {
		t.Errorf("a file of 1 GB may bring %d bytes", big.most)
	}
}
