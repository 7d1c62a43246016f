package batch

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/locker-project/locker/plugins"
	"github.com/locker-project/locker/plugins/locker"
)

type sink struct {
	plugins.Sink
	batches []int
	ids     []string
	err     error
}

func (s *sink) Put(_ context.Context, records ...locker.Record) error {
	s.batches = append(s.batches, len(records))
	for _, r := range records {
		s.ids = append(s.ids, r.ID)
	}
	return s.err
}

type noting struct {
	sink
	notes []string
}

func (n *noting) Note(what string) { n.notes = append(n.notes, what) }

func TestBatches(t *testing.T) {
	for _, tt := range []struct{ records, size, most int }{{0, 10, 0}, {1, 10, 1}, {1200, 10, maxRecords}, {30, maxBytes / 10, 11}} {
		s := new(sink)
		w := New(t.Context(), s)
		for i := range tt.records {
			if err := w.Put("notes", fmt.Sprint(i), "", time.Time{}, map[string]string{"text": strings.Repeat("<", tt.size)}); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		if len(s.ids) != tt.records {
			t.Errorf("%d of %d records came", len(s.ids), tt.records)
		}
		for i, id := range s.ids {
			if id != fmt.Sprint(i) {
				t.Fatalf("record %d is %s", i, id)
			}
		}
		for _, n := range s.batches {
			if n == 0 || n > tt.most {
				t.Errorf("a batch of %d, want at most %d", n, tt.most)
			}
		}
	}
}

func TestErrors(t *testing.T) {
	full := errors.New("full")
	w := New(t.Context(), &sink{err: full})
	w.Put("notes", "1", "", time.Time{}, 1)
	if err := w.Flush(); !errors.Is(err, full) {
		t.Errorf("error %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := New(ctx, new(sink)).Flush(); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if err := w.Put("notes", "2", "", time.Time{}, func() {}); err == nil {
		t.Error("a function became JSON")
	}
}

func TestNote(t *testing.T) {
	n := new(noting)
	Note(n, "%d of %s", 3, "them")
	if len(n.notes) != 1 || n.notes[0] != "3 of them" {
		t.Errorf("notes %q", n.notes)
	}
}
