package store

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/locker-project/locker/daemon/replica"
	"github.com/locker-project/locker/plugins/locker"
	"github.com/locker-project/locker/plugins/locker/lockertest"
)

var _ replica.State = (*Store)(nil)

var testKey = [32]byte{1, 2, 3}

// options are those of a small store in memory.
func options(fs vfs.FS, device string) Options {
	return Options{Key: testKey, Device: device, BlobKey: []byte("blob key"), FS: fs, Cache: 1 << 20, MemTable: 1 << 20}
}

// testStore opens an empty store in memory, and closes and checks it at the end.
func testStore(t testing.TB, device string, change ...func(*Options)) *Store {
	t.Helper()
	o := options(vfs.NewMem(), device)
	for _, f := range change {
		f(&o)
	}
	s, err := Open("store", o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Check(context.Background()); err != nil && !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestView(t *testing.T) {
	lockertest.View(t, func(t *testing.T) locker.View {
		return testStore(t, "device1").View(Author{Class: Owner})
	})
}

func note(id, fields string) locker.Record {
	return locker.Record{Collection: "notes", ID: id, Fields: json.RawMessage(fields)}
}

func at(r locker.Record, hour int) locker.Record {
	r.Time = time.Date(2026, 1, 1, hour, 0, 0, 0, time.UTC)
	return r
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func isNotFound(err error) bool { return errors.Is(err, locker.ErrNotFound) }

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }
