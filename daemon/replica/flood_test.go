package replica_test

import (
	"context"
	"io"
	"iter"
	"strings"
	"testing"

	"github.com/locker-project/locker/daemon/replica"
	"github.com/locker-project/locker/daemon/replica/replicatest"
)

// A floodCloud lists names that are weapons, and serves bodies without an end.
type floodCloud struct {
	*replicatest.Cloud
	names   int
	endless string
}

var weapons = []string{"../../etc/passwd", "k/../../x", "k/\x00", "K/abc", "d/" + strings.Repeat("a", 300), "k/" + strings.Repeat("A", 52), "d/.", "", "/", "k/" + strings.Repeat("a", 51) + "/"}

func (f *floodCloud) List(ctx context.Context, prefix string) iter.Seq2[replica.ObjectInfo, error] {
	return func(yield func(replica.ObjectInfo, error) bool) {
		for i := range f.names {
			if !yield(replica.ObjectInfo{Name: weapons[i%len(weapons)]}, nil) {
				return
			}
		}
		for info, err := range f.Cloud.List(ctx, prefix) {
			if !yield(info, err) {
				return
			}
		}
	}
}

func (f *floodCloud) Get(ctx context.Context, name string, off, n int64) (io.ReadCloser, error) {
	if name == f.endless {
		return io.NopCloser(zeroReader{}), nil
	}
	return f.Cloud.Get(ctx, name, off, n)
}

type zeroReader struct{}

func (zeroReader) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// TestFlood: names are counted, never followed; bodies without an end are cut.
func TestFlood(t *testing.T) {
	h := newHistory(t)
	flood := &floodCloud{Cloud: h.cloud, names: 100000}
	h.laptop.remotes[0].Remote = flood
	h.laptop.restart()
	r, err := h.laptop.Verify(context.Background(), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if r.Misfits != 2*flood.names {
		t.Errorf("%d misfits, want %d", r.Misfits, 2*flood.names)
	}
	h.laptop.well()
	flood.endless = h.phone.keys.Name(replica.Ref{Kind: "entry", Writer: h.phone.keys.Device(), Number: h.phone.next()})
	if s := h.laptop.sync(full); len(s.Pending) != 1 || s.Pending[0].Kind != "bad" {
		t.Errorf("a body without an end: %+v", s.Pending)
	}
}
