package manifests

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/locker-project/locker/plugins/locker"
)

func amounts(t *testing.T, records []locker.Record) string {
	t.Helper()
	var out []string
	for _, r := range records {
		var f struct{ Amount string }
		if !r.Deleted {
			if err := r.Decode(&f); err != nil {
				t.Fatal(err)
			}
		}
		if r.Deleted {
			f.Amount = "deleted"
		}
		out = append(out, f.Amount)
	}
	return fmt.Sprint(out)
}

// A change shows where a granted field changed, and nowhere else.
func TestChangesShowGrantedFieldsOnly(t *testing.T) {
	m := newMemory()
	put := func(id, fields string, at time.Time) {
		fill(t, m, locker.Record{ID: id, Time: at, Fields: json.RawMessage(fields)})
	}
	put("a", `{"amount":"1","memo":"x"}`, day(1))
	put("b", `{"amount":"2","memo":"x"}`, day(2))
	v := Limit(m, grantOf("amount"), at0)
	first := allChanges(t, v, "transactions", 0)
	if len(first) != 2 {
		t.Fatalf("%d changes", len(first))
	}
	last := first[1].Rev
	for _, tt := range []struct {
		name string
		do   func()
		want string
	}{
		{"nothing", func() {}, "[]"},
		{"a hidden field", func() { put("a", `{"memo":"y"}`, time.Time{}) }, "[]"},
		{"a new hidden field", func() { put("a", `{"balance":"5"}`, time.Time{}) }, "[]"},
		{"a hidden field removed", func() { put("a", `{"memo":null}`, time.Time{}) }, "[]"},
		{"the time, which is hidden", func() { put("a", `{}`, day(9)) }, "[]"},
		{"another collection", func() {
			fill(t, m, locker.Record{Collection: "messages", ID: "1", Fields: json.RawMessage(`{"amount":"9"}`)})
		}, "[]"},
		{"a granted field", func() { put("a", `{"amount":"3"}`, time.Time{}) }, "[3]"},
		{"there and back", func() { put("a", `{"amount":"4"}`, time.Time{}); put("a", `{"amount":"3"}`, time.Time{}) }, "[]"},
		{"a granted and a hidden one", func() { put("b", `{"amount":"5","memo":"z"}`, time.Time{}) }, "[5]"},
		{"a new record", func() { put("c", `{"amount":"6"}`, day(3)) }, "[6]"},
		{"a deleted record", func() { m.delete("transactions", "c") }, "[deleted]"},
		{"deleted again", func() { m.delete("transactions", "c") }, "[]"},
		{"back again", func() { put("c", `{"amount":"6"}`, day(3)) }, "[6]"},
	} {
		tt.do()
		got := allChanges(t, v, "transactions", last)
		if s := amounts(t, got); s != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, s, tt.want)
		}
		if len(got) > 0 {
			if r := got[len(got)-1]; r.Rev != last+locker.Rev(len(got)) || r.ID != "" || !r.Time.IsZero() {
				t.Errorf("%s: %+v after %d", tt.name, r, last)
			}
			last = got[len(got)-1].Rev
		}
	}
	if got := allChanges(t, v, "transactions", 0); len(got) != 3 {
		t.Errorf("all changes: %s", amounts(t, got))
	}
	for _, err := range v.Changes(t.Context(), "transactions", last+1) {
		if !errors.Is(err, locker.ErrInvalid) {
			t.Errorf("a position of the future: %v", err)
		}
	}
	// Another run of the locker begins again, with positions above the old ones.
	again := Limit(m, grantOf("amount"), func() time.Time { return at0().Add(time.Second) })
	got := allChanges(t, again, "transactions", last)
	if len(got) != 3 || got[0].Rev <= last {
		t.Errorf("after a restart: %s from %d after %d", amounts(t, got), got[0].Rev, last)
	}
}

// What grew too old went without a change, and what becomes of it does not show.
func TestChangesInAWindow(t *testing.T) {
	m := newMemory()
	now := day(100)
	g := grantOf("amount")
	g.Reads[0].Window = "P10D"
	for i := 85; i < 100; i++ {
		fill(t, m, locker.Record{ID: fmt.Sprint(i), Time: day(i), Fields: json.RawMessage(fmt.Sprintf(`{"amount":"%d"}`, i))})
	}
	v := Limit(m, g, func() time.Time { return now })
	first := allChanges(t, v, "transactions", 0)
	if len(first) != 10 {
		t.Fatalf("%d changes, want 10", len(first))
	}
	last := first[9].Rev
	now = day(105)
	fill(t, m,
		locker.Record{ID: "86", Fields: json.RawMessage(`{"amount":"0"}`)}, // never seen
		locker.Record{ID: "92", Fields: json.RawMessage(`{"memo":"x"}`)},   // too old by now
		locker.Record{ID: "93", Fields: json.RawMessage(`{"amount":"0"}`)}, // too old by now
		locker.Record{ID: "97", Fields: json.RawMessage(`{"memo":"x"}`)})   // hidden
	m.delete("transactions", "94") // too old by now
	if got := allChanges(t, v, "transactions", last); len(got) != 0 {
		t.Errorf("changes outside the window show: %s", amounts(t, got))
	}
	m.delete("transactions", "98")
	fill(t, m, locker.Record{ID: "99", Time: day(1), Fields: json.RawMessage(`{}`)}) // moved out
	if got := amounts(t, allChanges(t, v, "transactions", last)); got != "[deleted deleted]" {
		t.Errorf("within the window: %s", got)
	}
}

// The order of what changed between two looks says nothing about which changed
// first, nor whether anything hidden changed after.
func TestChangesOrder(t *testing.T) {
	a, b := newMemory(), newMemory()
	v, w := Limit(a, grantOf("amount"), at0), Limit(b, grantOf("amount"), at0)
	for _, m := range []*memory{a, b} {
		for i := range 30 {
			fill(t, m, locker.Record{ID: fmt.Sprint(i), Fields: json.RawMessage(`{"amount":"0"}`)})
		}
	}
	x, y := allChanges(t, v, "transactions", 0), allChanges(t, w, "transactions", 0)
	for i := range 30 {
		fill(t, a, locker.Record{ID: fmt.Sprint(i), Fields: json.RawMessage(fmt.Sprintf(`{"amount":"%d"}`, i))})
		fill(t, b, locker.Record{ID: fmt.Sprint(29 - i), Fields: json.RawMessage(fmt.Sprintf(`{"amount":"%d"}`, 29-i))})
		fill(t, b, locker.Record{ID: fmt.Sprint(i * 7 % 30), Fields: json.RawMessage(fmt.Sprintf(`{"memo":"%d"}`, i))})
	}
	x, y = allChanges(t, v, "transactions", x[29].Rev), allChanges(t, w, "transactions", y[29].Rev)
	if amounts(t, x) != amounts(t, y) || len(x) != 29 {
		t.Errorf("got %s and %s", amounts(t, x), amounts(t, y))
	}
}

// Many changes do not make the tracker grow without bound.
func TestTrackerForgets(t *testing.T) {
	m := newMemory()
	v := Limit(m, grantOf("amount"), at0)
	for i := range 5000 {
		fill(t, m, locker.Record{ID: "a", Fields: json.RawMessage(fmt.Sprintf(`{"amount":"%d"}`, i))})
		allChanges(t, v, "transactions", 0)
	}
	tracker := v.(*limited).policies["transactions"].changes
	if len(tracker.log) > 2000 || len(tracker.known) != 1 {
		t.Errorf("%d positions for %d records", len(tracker.log), len(tracker.known))
	}
}
