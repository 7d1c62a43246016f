package manifests

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/locker-project/locker/plugins/locker"
	"github.com/locker-project/locker/plugins/locker/lockertest"
)

func TestConformance(t *testing.T) {
	lockertest.View(t, func(t *testing.T) locker.View {
		g := grantOf()
		g.Reads = []Read{{Collection: lockertest.Collection, Fields: []string{"id", "time", "source", "import", "name", "text", "n", "list", "list.deep"}}}
		g.Writes = []string{lockertest.Collection}
		return Limit(newMemory(), g, at0)
	})
}

const hiddenFields = `{"amount":"-5.00","currency":"CHF","payee":"Shop","memo":"secret","balance":"123.45","Amount":"1","extra":{"amount":"2"}}`

// secretView holds one record with hidden fields, and grants amount and payee.
func secretView(t *testing.T, fields ...string) (*memory, locker.View) {
	m := newMemory()
	fill(t, m, locker.Record{ID: "bank:1", Time: day(3), Source: "bank/CH93", Import: "i-1", Fields: json.RawMessage(hiddenFields)})
	return m, Limit(m, grantOf(fields...), at0)
}

// Every way to name a field that is not granted is refused with an error that says
// which, before anything is read.
func TestUngrantedIsDenied(t *testing.T) {
	for _, tt := range []struct {
		name, field string
		q           locker.Query
	}{
		{"select", "memo", locker.Query{Fields: []string{"amount", "memo"}}},
		{"select what no schema knows", "extra", locker.Query{Fields: []string{"extra"}}},
		{"select a twin by case", "Amount", locker.Query{Fields: []string{"Amount"}}},
		{"select below a leaf", "amount.x", locker.Query{Fields: []string{"amount.x"}}},
		{"select nothing by name", "", locker.Query{Fields: []string{""}}},
		{"select id", "id", locker.Query{Fields: []string{"id"}}},
		{"select time", "time", locker.Query{Fields: []string{"time"}}},
		{"select source", "source", locker.Query{Fields: []string{"source"}}},
		{"select import", "import", locker.Query{Fields: []string{"import"}}},
		{"filter", "memo", locker.Query{Where: `memo = "secret"`}},
		{"filter that can never matter", "memo", locker.Query{Where: `amount = 1 and not memo = null`}},
		{"filter behind a granted field", "balance", locker.Query{Where: `payee = "x" or balance > 100`}},
		{"filter below a leaf", "payee.x", locker.Query{Where: `payee.x = "1"`}},
		{"filter by id", "id", locker.Query{Where: `id = "bank:1"`}},
		{"filter by time", "time", locker.Query{Where: `time > "2026-01-01"`}},
		{"filter below time", "time.x", locker.Query{Where: `time.x = null`}},
		{"filter by source", "source", locker.Query{Where: `source ~ "CH93"`}},
		{"filter by import", "import", locker.Query{Where: `import = "i-1"`}},
		{"since", "time", locker.Query{Since: day(1)}},
		{"until", "time", locker.Query{Until: day(9)}},
		{"order by time", "time", locker.Query{Descending: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m, v := secretView(t, "amount", "payee")
			tt.q.Collection = "transactions"
			got, err := all(v, tt.q)
			var denied *locker.Denied
			if len(got) != 0 || !errors.As(err, &denied) || denied.Field != tt.field || denied.Collection != "transactions" || denied.Verb != "read" {
				t.Fatalf("%d records, error %v; want field %q denied", len(got), err, tt.field)
			}
			if len(m.queries) != 0 {
				t.Errorf("the store was asked %+v", m.queries)
			}
		})
	}
}

func TestUngrantedCollections(t *testing.T) {
	_, v := secretView(t, "amount", "id")
	for _, collection := range []string{"messages", "_grants", "_audit", "", "Transactions", "transactions ", "*"} {
		isDenied := func(what string, err error) {
			t.Helper()
			var denied *locker.Denied
			if !errors.As(err, &denied) || denied.Collection != collection {
				t.Errorf("%s of %q: %v", what, collection, err)
			}
		}
		_, err := all(v, locker.Query{Collection: collection})
		isDenied("query", err)
		_, err = v.Get(t.Context(), collection, "bank:1")
		isDenied("get", err)
		for _, err = range v.Changes(t.Context(), collection, 0) {
		}
		isDenied("changes", err)
		isDenied("put", v.Put(t.Context(), locker.Record{Collection: collection, ID: "x", Fields: json.RawMessage(`{}`)}))
	}
}

// What comes out is what is granted, and nothing tells of the rest.
func TestProjection(t *testing.T) {
	_, v := secretView(t, "amount", "payee")
	got, err := all(v, locker.Query{Collection: "transactions"})
	if err != nil || len(got) != 1 {
		t.Fatalf("%v, %v", got, err)
	}
	want := locker.Record{Collection: "transactions", Fields: json.RawMessage(`{"amount":"-5.00","payee":"Shop"}`)}
	if fmt.Sprintf("%+v", got[0]) != fmt.Sprintf("%+v", want) {
		t.Errorf("got %+v, want %+v", got[0], want)
	}
	_, v = secretView(t, "amount", "id", "time", "source", "import")
	got, err = all(v, locker.Query{Collection: "transactions", Fields: []string{"time"}})
	if err != nil || len(got) != 1 {
		t.Fatalf("%v, %v", got, err)
	}
	r := got[0]
	if r.ID == "" || strings.Contains(r.ID, "bank") || !r.Time.Equal(day(3)) || r.Source != "bank/CH93" || r.Import != "i-1" || r.Rev != 0 || string(r.Fields) != "{}" {
		t.Errorf("got %+v", r)
	}
}

func TestNestedFields(t *testing.T) {
	const fields = `{"name":"Ada","email":[{"address":"a@x","label":"home","spam":1},{"label":"work"}],"address":{"addressLocality":"Bern","streetAddress":"Secret 1"},"url":["u",{"x":1}],"note":{"deep":1}}`
	m := newMemory()
	fill(t, m, locker.Record{Collection: "contacts", ID: "1", Fields: json.RawMessage(fields)})
	for _, tt := range []struct {
		grant []string
		q     locker.Query
		want  string // fields, "none" or "denied"
	}{
		{[]string{"name", "email.address"}, locker.Query{}, `{"name":"Ada","email":[{"address":"a@x"}]}`},
		{[]string{"address.addressLocality"}, locker.Query{}, `{"address":{"addressLocality":"Bern"}}`},
		{[]string{"address.postalCode"}, locker.Query{}, `{}`},
		{[]string{"url"}, locker.Query{}, `{"url":["u"]}`},
		{[]string{"note"}, locker.Query{}, `{}`},
		{[]string{"name", "address.addressLocality"}, locker.Query{Where: `address.addressLocality = "Bern"`, Fields: []string{"name"}}, `{"name":"Ada"}`},
		{[]string{"name", "address.addressLocality"}, locker.Query{Where: `address.streetAddress ~ "Secret"`}, "denied"},
		{[]string{"name", "address.addressLocality"}, locker.Query{Where: `address.spam = null`}, "denied"},
		{[]string{"name", "address.postalCode"}, locker.Query{Where: `address = null`, Fields: []string{"name"}}, `{"name":"Ada"}`},
		{[]string{"name", "address.postalCode"}, locker.Query{Where: `address != null`}, "none"},
		{[]string{"name", "email.address", "email.label"}, locker.Query{Fields: []string{"email.label"}}, `{"email":[{"label":"home"},{"label":"work"}]}`},
		{[]string{"name", "email.address"}, locker.Query{Fields: []string{"email.label"}}, "denied"},
		{[]string{"name", "email.address"}, locker.Query{Fields: []string{"email"}}, `{"email":[{"address":"a@x"}]}`},
		{[]string{"name"}, locker.Query{Fields: []string{"email"}}, "denied"},
	} {
		g := grantOf()
		g.Reads = []Read{{Collection: "contacts", Fields: tt.grant}}
		tt.q.Collection = "contacts"
		got, err := all(Limit(m, g, at0), tt.q)
		result := "none"
		var denied *locker.Denied
		switch {
		case errors.As(err, &denied):
			result = "denied"
		case err != nil:
			result = err.Error()
		case len(got) == 1:
			result = string(got[0].Fields)
		}
		if !sameJSON(result, tt.want) {
			t.Errorf("%v %+v: got %s, want %s", tt.grant, tt.q, result, tt.want)
		}
	}
}

func sameJSON(a, b string) bool {
	var x, y any
	if json.Unmarshal([]byte(a), &x) != nil || json.Unmarshal([]byte(b), &y) != nil {
		return a == b
	}
	return fmt.Sprint(x) == fmt.Sprint(y)
}

// Ids are pseudonyms that work in Get and Put of the same grant and nowhere else.
func TestPseudonyms(t *testing.T) {
	m, v := secretView(t, "id", "amount")
	other := grantOf("id", "amount")
	other.Key = slices.Repeat([]byte{8}, 32)
	w := Limit(m, other, at0)
	q := locker.Query{Collection: "transactions"}
	a, _ := all(v, q)
	b, _ := all(w, q)
	again, _ := all(v, q)
	if a[0].ID == b[0].ID || a[0].ID != again[0].ID {
		t.Fatalf("pseudonyms %q, of another grant %q, again %q", a[0].ID, b[0].ID, again[0].ID)
	}
	if r, err := v.Get(t.Context(), "transactions", a[0].ID); err != nil || string(r.Fields) != `{"amount":"-5.00"}` || r.ID != a[0].ID || r.Rev != 0 {
		t.Errorf("get by pseudonym: %+v, %v", r, err)
	}
	forged := []byte(a[0].ID)
	forged[3] ^= 1
	for _, id := range []string{b[0].ID, "bank:1", "", string(forged), a[0].ID + "A"} {
		if r, err := v.Get(t.Context(), "transactions", id); !errors.Is(err, locker.ErrNotFound) {
			t.Errorf("get %q: %+v, %v", id, r, err)
		}
	}
	where := q
	where.Where = fmt.Sprintf("id = %q", a[0].ID)
	if got, err := all(v, where); err != nil || len(got) != 1 {
		t.Errorf("filter by pseudonym: %d, %v", len(got), err)
	}
	where.Where = `id ~ "bank"`
	if got, err := all(v, where); err != nil || len(got) != 0 {
		t.Errorf("filter by a part of the real id: %d, %v", len(got), err)
	}
	_, v = secretView(t, "amount")
	var denied *locker.Denied
	if _, err := v.Get(t.Context(), "transactions", a[0].ID); !errors.As(err, &denied) || denied.Field != "id" {
		t.Errorf("get without id granted: %v", err)
	}
}

func TestWrites(t *testing.T) {
	m := newMemory()
	fill(t, m,
		locker.Record{Collection: "notes", ID: "phone:1", Time: day(3), Fields: json.RawMessage(`{"name":"A","text":"secret"}`)},
		locker.Record{Collection: "notes", ID: "phone:2", Time: day(80), Fields: json.RawMessage(`{"name":"B","text":"secret","items":[{"text":"x","done":false}]}`)})
	g := grantOf()
	g.Reads = []Read{{Collection: "notes", Window: "P30D", Fields: []string{"id", "name", "items.done"}}}
	g.Writes = []string{"notes", "evil/out"}
	v := Limit(m, g, at0)
	wide := g
	wide.Reads = []Read{{Collection: "notes", Fields: []string{"id", "name"}}}
	list, err := all(Limit(m, wide, at0), locker.Query{Collection: "notes"})
	if err != nil || len(list) != 2 {
		t.Fatal(list, err)
	}
	var old, recent string
	for _, r := range list {
		if strings.Contains(string(r.Fields), "A") {
			old = r.ID
		} else {
			recent = r.ID
		}
	}
	rec := func(collection, id, fields string) locker.Record {
		return locker.Record{Collection: collection, ID: id, Fields: json.RawMessage(fields)}
	}
	withTime, withSource, withImport := rec("notes", "x", `{"name":"x"}`), rec("notes", "x", `{"name":"x"}`), rec("notes", "x", `{"name":"x"}`)
	withTime.Time, withSource.Source, withImport.Import = day(1), "bank", "i-1"
	for _, tt := range []struct {
		name string
		r    locker.Record
		want string // "", a field, "notfound" or "invalid"
	}{
		{"own collection, any field", rec("evil/out", "1", `{"anything":{"at":"all"}}`), ""},
		{"granted field of a shown record", rec("notes", recent, `{"name":"B2"}`), ""},
		{"new record", rec("notes", "mine", `{"name":"C"}`), ""},
		{"ungranted field", rec("notes", recent, `{"name":"B3","text":"overwritten"}`), "text"},
		{"removing an ungranted field", rec("notes", recent, `{"text":null}`), "text"},
		{"a twin by case", rec("notes", recent, `{"Name":"x"}`), "Name"},
		{"an escaped name", rec("notes", recent, `{"\u0074ext":"x"}`), "text"},
		{"a field granted in part", rec("notes", recent, `{"items":[{"done":true}]}`), "items"},
		{"an object under a leaf", rec("notes", recent, `{"name":{"x":1}}`), "name"},
		{"time", withTime, "time"},
		{"source", withSource, "source"},
		{"import", withImport, "import"},
		{"outside the window", rec("notes", old, `{"name":"A2"}`), "notfound"},
		{"no id", rec("notes", "", `{"name":"x"}`), "invalid"},
		{"no object", rec("notes", "x", `[1]`), "invalid"},
	} {
		err := v.Put(t.Context(), tt.r)
		var denied *locker.Denied
		got := ""
		switch {
		case errors.As(err, &denied):
			got = denied.Field
			if denied.Verb != "write" {
				t.Errorf("%s: verb %s", tt.name, denied.Verb)
			}
		case errors.Is(err, locker.ErrNotFound):
			got = "notfound"
		case errors.Is(err, locker.ErrInvalid):
			got = "invalid"
		case err != nil:
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
	// One refused record keeps the others out, and a guessed real id is the app's own.
	if err := v.Put(t.Context(), rec("notes", "D", `{"name":"D"}`), rec("notes", "D", `{"text":"x"}`)); err == nil {
		t.Error("half a put was taken")
	}
	if err := v.Put(t.Context(), rec("notes", "phone:2", `{"name":"guessed"}`)); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"phone:1": `{"name":"A","text":"secret"}`, "phone:2": `{"items":[{"done":false,"text":"x"}],"name":"B2","text":"secret"}`, "apps/spy:mine": `{"name":"C"}`, "apps/spy:phone:2": `{"name":"guessed"}`}
	for _, r := range m.list("notes") {
		if !sameJSON(string(r.Fields), want[r.ID]) {
			t.Errorf("%s is %s, want %s", r.ID, r.Fields, want[r.ID])
		}
		delete(want, r.ID)
	}
	if len(want) != 0 {
		t.Errorf("not there: %v", want)
	}
	got, err := v.Get(t.Context(), "notes", "mine")
	if !errors.Is(err, locker.ErrNotFound) { // it has no time, and there is a window
		t.Errorf("own record without time in a window: %+v, %v", got, err)
	}
}

func TestWindow(t *testing.T) {
	m := newMemory()
	for i := range 100 {
		fill(t, m, locker.Record{ID: fmt.Sprint(i), Time: day(i), Fields: json.RawMessage(fmt.Sprintf(`{"amount":"%d"}`, i))})
	}
	fill(t, m, locker.Record{ID: "timeless", Fields: json.RawMessage(`{"amount":"0"}`)})
	g := grantOf("amount", "time", "id")
	g.Reads[0].Window = "P10D"
	v := Limit(m, g, at0)
	for _, tt := range []struct {
		name string
		q    locker.Query
		want int
	}{
		{"all", locker.Query{}, 10},
		{"since before the window", locker.Query{Since: day(0)}, 10},
		{"since within", locker.Query{Since: day(95)}, 5},
		{"until before the window", locker.Query{Until: day(50)}, 0},
		{"descending", locker.Query{Descending: true, Limit: 20}, 10},
		{"filter for what is older", locker.Query{Where: `amount = "5"`}, 0},
	} {
		tt.q.Collection = "transactions"
		if got, err := all(v, tt.q); err != nil || len(got) != tt.want {
			t.Errorf("%s: %d records, %v; want %d", tt.name, len(got), err, tt.want)
		}
	}
	unbounded, _ := all(Limit(m, grantOf("id", "time"), at0), locker.Query{Collection: "transactions"})
	seen := 0
	for _, r := range unbounded {
		_, err := v.Get(t.Context(), "transactions", r.ID)
		if (err == nil) != !r.Time.Before(day(90)) {
			t.Errorf("get of %v: %v", r.Time, err)
		}
		if err == nil {
			seen++
		}
	}
	if seen != 10 {
		t.Errorf("%d records by id, want 10", seen)
	}
	// The window moves with the clock.
	if got, err := all(Limit(m, g, func() time.Time { return day(105) }), locker.Query{Collection: "transactions"}); err != nil || len(got) != 5 {
		t.Errorf("later: %d, %v", len(got), err)
	}
}

func TestExpiry(t *testing.T) {
	m := newMemory()
	for i := range 1000 {
		fill(t, m, locker.Record{ID: fmt.Sprint(i), Time: day(i % 100), Fields: json.RawMessage(`{"amount":"1"}`)})
	}
	g := grantOf("amount", "time", "id")
	g.Writes = []string{"evil/out"}
	now := day(364)
	v := Limit(m, g, func() time.Time { return now })
	n := 0
	var failed error
	for _, err := range v.Query(t.Context(), locker.Query{Collection: "transactions"}) {
		if n++; n == 100 {
			now = g.Expires
		}
		failed = err
	}
	if !errors.Is(failed, locker.ErrRevoked) || n > 600 {
		t.Errorf("a stream over the expiry: %d rows, %v", n, failed)
	}
	if _, err := all(v, locker.Query{Collection: "transactions"}); !errors.Is(err, locker.ErrRevoked) {
		t.Errorf("query: %v", err)
	}
	if _, err := v.Get(t.Context(), "transactions", "1"); !errors.Is(err, locker.ErrRevoked) {
		t.Errorf("get: %v", err)
	}
	if err := v.Put(t.Context(), locker.Record{Collection: "evil/out", ID: "1", Fields: json.RawMessage(`{}`)}); !errors.Is(err, locker.ErrRevoked) {
		t.Errorf("put: %v", err)
	}
	for _, err := range v.Changes(t.Context(), "transactions", 0) {
		if !errors.Is(err, locker.ErrRevoked) {
			t.Errorf("changes: %v", err)
		}
	}
}

// Two stores that differ only in what is not granted give the same answers, in the
// same order, whatever is asked.
func TestNothingShows(t *testing.T) {
	plain, changed := newMemory(), newMemory()
	times := func(i int) time.Time { return day(i / 10) } // ten at a time
	for i := range 200 {
		fields := fmt.Sprintf(`{"amount":"%d","payee":"p%d"`, i, i%7)
		fill(t, plain, locker.Record{ID: fmt.Sprint("a", i), Time: times(i), Fields: json.RawMessage(fields + `}`)})
	}
	for n := range 200 {
		i := 199 - n // another order of arrival
		fields := fmt.Sprintf(`{"amount":"%d","payee":"p%d","memo":"m%d","balance":"%d"`, i, i%7, i*31%17, i)
		fill(t, changed, locker.Record{ID: fmt.Sprint("a", i), Time: times(i), Source: "s", Import: fmt.Sprint(i), Fields: json.RawMessage(fields + `}`)})
	}
	for _, fields := range [][]string{{"amount"}, {"amount", "payee", "time"}, {"payee", "id"}} {
		g := grantOf(fields...)
		for _, q := range []locker.Query{{}, {Limit: 13}, {Where: `payee = "p1"`}, {Fields: []string{"payee"}}, {Where: `amount > 50`, Limit: 5}, {Since: day(3), Limit: 4}, {Descending: true, Limit: 25}} {
			q.Collection = "transactions"
			a, errA := all(Limit(plain, g, at0), q)
			b, errB := all(Limit(changed, g, at0), q)
			if fmt.Sprint(a, errA) != fmt.Sprint(b, errB) {
				t.Errorf("%v %+v: %v %v, and with hidden fields %v %v", fields, q, a, errA, b, errB)
			}
		}
		a, b := Limit(plain, g, at0), Limit(changed, g, at0)
		if x, y := allChanges(t, a, "transactions", 0), allChanges(t, b, "transactions", 0); fmt.Sprint(x) != fmt.Sprint(y) || len(x) != 200 {
			t.Errorf("%v: changes differ, %d and %d", fields, len(x), len(y))
		}
	}
}

// The order without time granted is not that of time, nor of arrival, nor of ids.
func TestOrderWithoutTime(t *testing.T) {
	m := newMemory()
	for i := range 100 {
		fill(t, m, locker.Record{ID: fmt.Sprintf("%03d", i), Time: day(i), Fields: json.RawMessage(fmt.Sprintf(`{"amount":"%d"}`, i))})
	}
	got, err := all(Limit(m, grantOf("amount"), at0), locker.Query{Collection: "transactions"})
	if err != nil || len(got) != 100 {
		t.Fatalf("%d, %v", len(got), err)
	}
	inPlace := 0
	for i, r := range got {
		if string(r.Fields) == fmt.Sprintf(`{"amount":"%d"}`, i) {
			inPlace++
		}
	}
	if inPlace > 10 {
		t.Errorf("%d of 100 records are where time would put them", inPlace)
	}
}

func TestTooManyWithoutTime(t *testing.T) {
	m := newMemory()
	big := strings.Repeat("x", 1<<20)
	for i := range 70 {
		fill(t, m, locker.Record{ID: fmt.Sprint(i), Time: day(i), Fields: json.RawMessage(fmt.Sprintf(`{"payee":"%s","amount":"1"}`, big))})
	}
	q := locker.Query{Collection: "transactions"}
	if got, err := all(Limit(m, grantOf("payee"), at0), q); !errors.Is(err, locker.ErrInvalid) || len(got) != 0 {
		t.Errorf("without time: %d, %v", len(got), err)
	}
	// Several queries at once have no more than one has.
	v := Limit(m, grantOf("payee"), at0)
	q.Where = `payee = "x"`
	if got, err := all(v, q); err != nil || len(got) != 0 {
		t.Errorf("a filter: %d, %v", len(got), err)
	}
	v.(*limited).held.Add(maxHeld - 10<<20)
	q.Where, q.Limit = "", 1
	if got, err := all(v, q); !errors.Is(err, locker.ErrInvalid) || len(got) != 0 {
		t.Errorf("beside others: %d, %v", len(got), err)
	}
	if held := v.(*limited).held.Load(); held != maxHeld-10<<20 {
		t.Errorf("%d bytes were not given back", held-maxHeld+10<<20)
	}
	q.Limit = 0
	if got, err := all(Limit(m, grantOf("payee", "time"), at0), q); err != nil || len(got) != 70 {
		t.Errorf("with time: %d, %v", len(got), err)
	}
	if got, err := all(Limit(m, grantOf("amount"), at0), q); err != nil || len(got) != 70 {
		t.Errorf("a small field: %d, %v", len(got), err)
	}
}

// Errors of the view underneath do not reach the app in words.
func TestErrorsAreOpaque(t *testing.T) {
	secret := errors.New("memo 'secret' is broken")
	for _, tt := range []struct{ give, want error }{
		{secret, errUnreadable},
		{fmt.Errorf("%w: %w", locker.ErrInvalid, secret), locker.ErrInvalid},
		{fmt.Errorf("bank:1: %w", locker.ErrNotFound), locker.ErrNotFound},
		{&locker.Denied{Collection: "c", Field: "memo"}, errUnreadable},
		{context.Canceled, context.Canceled},
	} {
		if got := opaque(tt.give); got != tt.want {
			t.Errorf("%v becomes %v", tt.give, got)
		}
	}
}

// A grant that makes no sense gives nothing, rather than something else.
func TestBrokenGrants(t *testing.T) {
	m, _ := secretView(t)
	noKey, badWindow, twoWindows := grantOf("amount"), grantOf("amount"), grantOf("amount")
	noKey.Key = nil
	badWindow.Reads[0].Window = "yesterday"
	twoWindows.Reads = append(twoWindows.Reads, Read{Collection: "transactions", Fields: []string{"memo"}, Window: "P1D"})
	for name, g := range map[string]Grant{"no key": noKey, "bad window": badWindow, "two windows": twoWindows, "never valid": {}} {
		if got, err := all(Limit(m, g, at0), locker.Query{Collection: "transactions"}); err == nil || len(got) > 0 {
			t.Errorf("%s: %d records, %v", name, len(got), err)
		}
	}
}
