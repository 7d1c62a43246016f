package remote

import (
	"context"
	"encoding/json"
	"io"
	"iter"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/locker-project/locker/daemon/remote/fault"
	"github.com/locker-project/locker/daemon/replica"
)

// An odd remote is one with a fault of its own.
type odd struct {
	replica.Remote
	readLate, listLate, goneLate time.Duration
	naked                        bool // what is being put can be seen
	keepsOld, mixesUp            bool

	mu  sync.Mutex
	put map[string]time.Time
	was map[string]time.Time // deleted
	cut map[string]string    // seen in part
}

func (o *odd) since(m map[string]time.Time, name string) time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	if at, ok := m[name]; ok {
		return time.Since(at)
	}
	return time.Hour
}

func (o *odd) Put(ctx context.Context, name string, r io.ReadSeeker, size int64) error {
	if o.keepsOld && o.since(o.put, name) < time.Hour {
		return nil
	}
	if o.naked {
		o.mu.Lock()
		o.cut[name] = "half"
		o.mu.Unlock()
	}
	err := o.Remote.Put(ctx, name, r, size)
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.cut, name)
	o.put[name] = time.Now()
	return err
}

func (o *odd) Get(ctx context.Context, name string, off, n int64) (io.ReadCloser, error) {
	o.mu.Lock()
	part, cut := o.cut[name]
	o.mu.Unlock()
	switch {
	case cut || o.mixesUp:
		return io.NopCloser(strings.NewReader(part)), nil
	case o.since(o.put, name) < o.readLate:
		return nil, notFound(name)
	case o.since(o.was, name) < o.goneLate:
		return io.NopCloser(strings.NewReader("still there")), nil
	}
	return o.Remote.Get(ctx, name, off, n)
}

func (o *odd) List(ctx context.Context, prefix string) iter.Seq2[replica.ObjectInfo, error] {
	return func(yield func(replica.ObjectInfo, error) bool) {
		for info, err := range o.Remote.List(ctx, prefix) {
			if (err != nil || o.since(o.put, info.Name) >= o.listLate) && !yield(info, err) {
				return
			}
		}
	}
}

func (o *odd) Delete(ctx context.Context, names ...string) error {
	o.mu.Lock()
	for _, name := range names {
		o.was[name] = time.Now()
	}
	o.mu.Unlock()
	return o.Remote.Delete(ctx, names...)
}

// TestExamine: what a remote is like shows in the report, and nothing is left behind.
func TestExamine(t *testing.T) {
	for _, test := range []struct {
		name  string
		odd   *odd
		check func(Report) bool
		warns string
	}{
		{"a good one", &odd{}, func(r Report) bool {
			return r.ReadAfterMS == 0 && r.ListAfterMS == 0 && r.GoneAfterMS == 0 && r.Partial == "hidden" && r.UpMBs > 0 && r.DownMBs > 0 && r.Traits == nil
		}, ""},
		{"read late", &odd{readLate: 300 * time.Millisecond}, func(r Report) bool { return r.ReadAfterMS >= 50 && r.ReadAfterMS < 3000 }, "read only after"},
		{"listed late", &odd{listLate: 300 * time.Millisecond}, func(r Report) bool { return r.ListAfterMS >= 50 && r.ListAfterMS < 3000 }, "listed only after"},
		{"gone late", &odd{goneLate: 300 * time.Millisecond}, func(r Report) bool { return r.GoneAfterMS >= 100 && r.GoneAfterMS < 3000 }, ""},
		{"seen in part", &odd{naked: true}, func(r Report) bool { return r.Partial == "visible" }, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			f := newFolder(t)
			o := test.odd
			o.Remote, o.put, o.was, o.cut = f, map[string]time.Time{}, map[string]time.Time{}, map[string]string{}
			r, err := Examine(t.Context(), o)
			if err != nil || !test.check(r) || !strings.Contains(strings.Join(r.Warnings, " "), test.warns) || test.warns == "" && len(r.Warnings) > 0 {
				t.Errorf("%+v, %v", r, err)
			}
			for info := range f.List(t.Context(), "") {
				t.Errorf("left behind: %v", info)
			}
		})
	}
	for name, o := range map[string]*odd{"keeps the old": {keepsOld: true}, "mixes up": {mixesUp: true}} {
		f := newFolder(t)
		o.Remote, o.put, o.was, o.cut = f, map[string]time.Time{}, map[string]time.Time{}, map[string]string{}
		if name == "keeps the old" {
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			if r, err := Examine(ctx, o); err == nil {
				t.Errorf("%s: %+v", name, r)
			}
		} else {
			_, err := Examine(t.Context(), o)
			wantFault(t, err, fault.Broken, "do not use this place")
		}
		for info := range f.List(t.Context(), "") {
			t.Errorf("%s: left behind: %v", name, info)
		}
	}
}

// TestReportJSON: scripts depend on the names.
func TestReportJSON(t *testing.T) {
	r, err := Examine(t.Context(), NewBreaker(NewLimiter().Limit(newFolder(t))))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(raw, &got); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"put_ms", "get_ms", "miss_ms", "list_ms", "delete_ms", "up_mb_s", "down_mb_s", "read_after_ms", "list_after_ms", "gone_after_ms", "partial_uploads", "clock_ahead_ms", "traits"} {
		if _, ok := got[key]; !ok {
			t.Errorf("%s is not in %s", key, raw)
		}
	}
	traits, _ := got["traits"].(map[string]any)
	for _, key := range []string{"notifies", "folds_case", "duplicates", "conditional_put", "time_resolution_ms", "free_bytes", "used_bytes"} {
		if _, ok := traits[key]; !ok {
			t.Errorf("traits: %s is not in %s", key, raw)
		}
	}
	if r.Traits.Notifies != "at once" || r.Traits.FreeBytes <= 0 {
		t.Errorf("a folder's traits are %+v", r.Traits)
	}
	if slices.Contains(r.Warnings, "") {
		t.Errorf("warnings: %q", r.Warnings)
	}
}
