package daemon

import (
	"errors"
	"fmt"
	"strings"
	"testing"
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
