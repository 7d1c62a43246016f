package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/locker-project/locker/plugins/locker"
)

// TestSpool: records come back as they went in, in order, from memory and from the
// file, in which nothing of them can be read and which is gone in the end.
func TestSpool(t *testing.T) {
	for _, n := range []int{0, 1, 999, 30000} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			dir := t.TempDir()
			s := newSpool(dir)
			record := func(i int) locker.Record {
				return locker.Record{Collection: "notes", ID: fmt.Sprint(i), Time: time.Date(2026, 1, 1, 0, 0, i, 0, time.FixedZone("", 3600)),
					Fields: json.RawMessage(fmt.Sprintf(`{"text":"%d %s"}`, i, strings.Repeat("secret ", 40)))}
			}
			for i := range n {
				if err := s.add(record(i)); err != nil {
					t.Fatal(err)
				}
			}
			if spilled := s.file != nil; spilled != (n == 30000) {
				t.Errorf("spilled: %v", spilled)
			}
			i := 0
			err := s.drain(context.Background(), 1000, func(batch []locker.Record) error {
				for _, r := range batch {
					want := record(i)
					if r.ID != want.ID || !r.Time.Equal(want.Time) || !bytes.Equal(r.Fields, want.Fields) {
						t.Fatalf("record %d is %+v", i, r)
					}
					i++
				}
				return nil
			})
			if err != nil || i != n {
				t.Fatalf("%d records, %v; want %d", i, err, n)
			}
			if s.file != nil {
				raw, err := os.ReadFile(s.file.Name())
				if err != nil || bytes.Contains(raw, []byte("secret")) || len(raw) == 0 {
					t.Errorf("the file of %d bytes is readable: %v", len(raw), err)
				}
			}
			s.close()
			if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
				t.Errorf("left behind: %v, %v", entries, err)
			}
		})
	}
}
