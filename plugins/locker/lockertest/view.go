// Package lockertest tests implementations of locker.View: the store, a grant's
// narrowed view and the view at the other end of a plugin's pipe all promise the
// same. Start with [View].
package lockertest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/locker-project/locker/plugins/locker"
)

// Collection is where the suite writes. A view under test must allow all of its
// fields: name, text, n, list.
const Collection = "notes"

// View runs the suite. open returns an empty view for each test, in which
// [Collection] can be read and written.
func View(t *testing.T, open func(t *testing.T) locker.View) {
	for _, tt := range []struct {
		name string
		run  func(*testing.T, locker.View)
	}{
		{"put and get", putAndGet},
		{"given fields replace others", replaceFields},
		{"query in order of time", queryOrder},
		{"query a span of time", querySpan},
		{"query fields and filter", queryFields},
		{"query stops early", queryStops},
		{"changes once each", changes},
		{"put all or none", putAllOrNone},
		{"a cancelled context", cancelled},
		{"many writers and readers", concurrent},
	} {
		t.Run(tt.name, func(t *testing.T) { tt.run(t, open(t)) })
	}
}

var noon = time.Date(2026, 1, 4, 12, 0, 0, 0, time.FixedZone("", 3600))

// note is a record of the suite; hour is counted from noon.
func note(id string, hour int, fields string) locker.Record {
	return locker.Record{Collection: Collection, ID: id, Time: noon.Add(time.Duration(hour) * time.Hour), Fields: json.RawMessage(fields)}
}

func put(t *testing.T, v locker.View, records ...locker.Record) {
	t.Helper()
	if err := v.Put(t.Context(), records...); err != nil {
		t.Fatalf("put: %v", err)
	}
}

// query returns the records that q selects.
func query(t *testing.T, v locker.View, q locker.Query) []locker.Record {
	t.Helper()
	q.Collection = Collection
	var out []locker.Record
	for r, err := range v.Query(t.Context(), q) {
		if err != nil {
			t.Fatalf("query %+v: %v", q, err)
		}
		out = append(out, r)
	}
	return out
}

// names are the name fields of records.
func names(t *testing.T, records []locker.Record) []string {
	t.Helper()
	var out []string
	for _, r := range records {
		var f struct{ Name string }
		if err := r.Decode(&f); err != nil {
			t.Fatal(err)
		}
		out = append(out, f.Name)
	}
	return out
}

func wantNames(t *testing.T, got []locker.Record, want ...string) {
	t.Helper()
	if n := names(t, got); !slices.Equal(n, want) {
		t.Fatalf("got %q, want %q", n, want)
	}
}

func wantFields(t *testing.T, r locker.Record, want string) {
	t.Helper()
	var a, b any
	if err := json.Unmarshal(r.Fields, &a); err != nil {
		t.Fatalf("fields of %s: %v", r.ID, err)
	}
	if err := json.Unmarshal([]byte(want), &b); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(a) != fmt.Sprint(b) {
		t.Fatalf("fields of %s are %s, want %s", r.ID, r.Fields, want)
	}
}

func putAndGet(t *testing.T, v locker.View) {
	put(t, v, note("a", 0, `{"name":"A","n":1.50,"list":[1,"<&>",{"deep":null}]}`))
	listed := query(t, v, locker.Query{})
	if len(listed) != 1 {
		t.Fatalf("%d records, want 1", len(listed))
	}
	r, err := v.Get(t.Context(), Collection, listed[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	wantFields(t, r, `{"name":"A","n":1.50,"list":[1,"<&>",{"deep":null}]}`)
	if !r.Time.Equal(noon) {
		t.Errorf("time %v, want %v", r.Time, noon)
	}
	if _, a := r.Time.Zone(); a != 3600 {
		t.Errorf("the offset of the time is %d s, want 3600", a)
	}
	if r.Collection != Collection {
		t.Errorf("collection %q", r.Collection)
	}
	if _, err := v.Get(t.Context(), Collection, "absent"); !errors.Is(err, locker.ErrNotFound) {
		t.Errorf("get of what is not there: %v", err)
	}
}

func replaceFields(t *testing.T, v locker.View) {
	put(t, v, note("a", 0, `{"name":"A","text":"one","n":1}`))
	id := query(t, v, locker.Query{})[0].ID
	put(t, v, locker.Record{Collection: Collection, ID: id, Fields: json.RawMessage(`{"text":"two","n":null}`)})
	r, err := v.Get(t.Context(), Collection, id)
	if err != nil {
		t.Fatal(err)
	}
	wantFields(t, r, `{"name":"A","text":"two"}`)
	if !r.Time.Equal(noon) {
		t.Errorf("a put without a time changed it to %v", r.Time)
	}
}

func queryOrder(t *testing.T, v locker.View) {
	put(t, v, note("c", 2, `{"name":"C"}`), note("a", 0, `{"name":"A"}`), note("b", 1, `{"name":"B"}`))
	wantNames(t, query(t, v, locker.Query{}), "A", "B", "C")
	wantNames(t, query(t, v, locker.Query{Descending: true}), "C", "B", "A")
	wantNames(t, query(t, v, locker.Query{Limit: 2}), "A", "B")
	wantNames(t, query(t, v, locker.Query{Limit: 2, Descending: true}), "C", "B")
}

func querySpan(t *testing.T, v locker.View) {
	put(t, v, note("a", 0, `{"name":"A"}`), note("b", 1, `{"name":"B"}`), note("c", 2, `{"name":"C"}`))
	at := func(hour int) time.Time { return noon.Add(time.Duration(hour) * time.Hour).UTC() }
	wantNames(t, query(t, v, locker.Query{Since: at(1)}), "B", "C")
	wantNames(t, query(t, v, locker.Query{Until: at(2)}), "A", "B")
	wantNames(t, query(t, v, locker.Query{Since: at(1), Until: at(2)}), "B")
	wantNames(t, query(t, v, locker.Query{Since: at(1), Until: at(1)}))
}

func queryFields(t *testing.T, v locker.View) {
	put(t, v, note("a", 0, `{"name":"A","text":"x","n":"-5.00"}`), note("b", 1, `{"name":"B","text":"x","n":-7}`))
	got := query(t, v, locker.Query{Fields: []string{"name", "list"}, Where: `n < -6 and text = "x"`})
	if len(got) != 1 {
		t.Fatalf("%d records, want 1", len(got))
	}
	wantFields(t, got[0], `{"name":"B"}`)
	var failed error
	for _, err := range v.Query(t.Context(), locker.Query{Collection: Collection, Where: `n <`}) {
		failed = err
	}
	if !errors.Is(failed, locker.ErrInvalid) {
		t.Errorf("a broken filter: %v", failed)
	}
}

func queryStops(t *testing.T, v locker.View) {
	for i := range 50 {
		put(t, v, note(fmt.Sprint(i), i, `{"name":"x"}`))
	}
	for range 100 {
		for _, err := range v.Query(t.Context(), locker.Query{Collection: Collection}) {
			if err != nil {
				t.Fatal(err)
			}
			break
		}
	}
}

func changes(t *testing.T, v locker.View) {
	collect := func(after locker.Rev) (out []locker.Record) {
		t.Helper()
		for r, err := range v.Changes(t.Context(), Collection, after) {
			if err != nil {
				t.Fatal(err)
			}
			if r.Rev <= after {
				t.Fatalf("a change at %d after %d", r.Rev, after)
			}
			after = r.Rev
			out = append(out, r)
		}
		return out
	}
	put(t, v, note("a", 0, `{"name":"A"}`), note("b", 1, `{"name":"B"}`))
	first := collect(0)
	got := names(t, first)
	if slices.Sort(got); !slices.Equal(got, []string{"A", "B"}) {
		t.Fatalf("changes %q", got)
	}
	last := first[1].Rev
	if again := collect(last); len(again) != 0 {
		t.Fatalf("%d changes after the last", len(again))
	}
	id := query(t, v, locker.Query{Where: `name = "A"`})[0].ID
	put(t, v, locker.Record{Collection: Collection, ID: id, Fields: json.RawMessage(`{"name":"A2"}`)})
	put(t, v, locker.Record{Collection: Collection, ID: id, Fields: json.RawMessage(`{"name":"A3"}`)})
	wantNames(t, collect(last), "A3")
	wantNames(t, collect(0), "B", "A3")
}

func putAllOrNone(t *testing.T, v locker.View) {
	for _, bad := range []locker.Record{
		note("z", 0, `{"name":`),
		note("z", 0, `["name"]`),
		note("", 0, `{"name":"Z"}`),
	} {
		if err := v.Put(t.Context(), note("a", 0, `{"name":"A"}`), bad); err == nil {
			t.Errorf("put of %q %s: no error", bad.ID, bad.Fields)
		}
	}
	wantNames(t, query(t, v, locker.Query{}))
}

func cancelled(t *testing.T, v locker.View) {
	put(t, v, note("a", 0, `{"name":"A"}`))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var failed error
	for _, err := range v.Query(ctx, locker.Query{Collection: Collection}) {
		failed = err
	}
	if failed == nil {
		t.Error("a query under a cancelled context: no error")
	}
}

func concurrent(t *testing.T, v locker.View) {
	var group sync.WaitGroup
	for w := range 4 {
		group.Go(func() {
			for i := range 25 {
				r := note(fmt.Sprintf("%d-%d", w, i), i, fmt.Sprintf(`{"name":"%d-%d"}`, w, i))
				if err := v.Put(t.Context(), r); err != nil {
					t.Error(err)
					return
				}
				for _, err := range v.Query(t.Context(), locker.Query{Collection: Collection, Limit: 5}) {
					if err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	group.Wait()
	seen := map[string]bool{}
	for _, name := range names(t, query(t, v, locker.Query{})) {
		seen[name] = true
	}
	if len(seen) != 100 {
		t.Errorf("%d records, want 100: %v", len(seen), slices.Sorted(maps.Keys(seen)))
	}
}
