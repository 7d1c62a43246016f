package manifests

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/locker-project/locker/plugins/locker"
)

// The model of a narrowed query, written for being right and not for being fast:
// it decodes everything, keeps what is granted, and only then filters and cuts.

// keep returns the parts of a value that paths name; nil where nothing is left.
func keep(value any, paths [][]string) any {
	leaf := slices.ContainsFunc(paths, func(p []string) bool { return len(p) == 0 })
	switch v := value.(type) {
	case map[string]any:
		out := map[string]any{}
		for name, inner := range v {
			var below [][]string
			for _, p := range paths {
				if len(p) > 0 && p[0] == name {
					below = append(below, p[1:])
				}
			}
			if kept := keep(inner, below); kept != nil {
				out[name] = kept
			}
		}
		if len(out) == 0 {
			return nil
		}
		return out
	case []any:
		out := []any{}
		for _, inner := range v {
			if kept := keep(inner, paths); kept != nil {
				out = append(out, kept)
			}
		}
		if len(out) == 0 && !leaf {
			return nil
		}
		return out
	}
	if !leaf {
		return nil
	}
	if value == nil {
		return "<null>"
	}
	return value
}

// canonical is a record in a form that can be compared.
func canonical(id string, at time.Time, source string, fields any) string {
	if fields == nil {
		fields = map[string]any{}
	}
	b, _ := json.Marshal(fields)
	return fmt.Sprintf("%s|%s|%s|%s", id, at.Format(time.RFC3339), source, b)
}

func decode(t *testing.T, raw json.RawMessage) any {
	t.Helper()
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatalf("%s: %v", raw, err)
	}
	return mark(v)
}

// mark makes nulls visible, as keep does.
func mark(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for name, inner := range v {
			v[name] = mark(inner)
		}
	case []any:
		for i, inner := range v {
			v[i] = mark(inner)
		}
	case nil:
		return "<null>"
	}
	return v
}

type model struct {
	t       *testing.T
	m       *memory
	granted []string
	window  bool
	l       *limited
}

func (x *model) has(path string) bool {
	return slices.ContainsFunc(x.granted, func(g string) bool { return g == path || strings.HasPrefix(g, path+".") })
}

// query returns what may come out, as a set, in groups that may be in any order;
// denied says that the query must be refused.
func (x *model) query(q locker.Query, whereFields []string) (groups [][]string, denied bool) {
	for _, path := range append(slices.Clone(q.Fields), whereFields...) {
		denied = denied || !x.has(path)
	}
	if denied || !x.has("time") && (!q.Since.IsZero() || !q.Until.IsZero() || q.Descending) {
		return nil, true
	}
	where, err := locker.ParseFilter(q.Where)
	if err != nil {
		x.t.Fatal(err)
	}
	list := x.m.list(q.Collection)
	if q.Descending {
		slices.Reverse(list)
	}
	var last time.Time
	for _, r := range list {
		if r.Deleted || x.window && r.Time.Before(day(90)) || !q.Since.IsZero() && r.Time.Before(q.Since) || !q.Until.IsZero() && (r.Time.IsZero() || !r.Time.Before(q.Until)) {
			continue
		}
		if !matchRecord(where, x.filtered(r)) {
			continue
		}
		selected := x.granted
		if q.Fields != nil {
			selected = nil
			for _, g := range x.granted {
				if slices.ContainsFunc(q.Fields, func(f string) bool { return f == g || strings.HasPrefix(g, f+".") }) || isPseudo(g) {
					selected = append(selected, g)
				}
			}
		}
		out := x.see(r, selected)
		text := canonical(out.ID, out.Time, out.Source, decode(x.t, out.Fields))
		if len(groups) == 0 || x.has("time") && !r.Time.Equal(last) {
			groups = append(groups, nil)
		}
		last = r.Time
		groups[len(groups)-1] = append(groups[len(groups)-1], text)
	}
	return groups, false
}

// filtered is a record as a filter sees it: of a granted leaf field whatever it
// holds, of others what is shown.
func (x *model) filtered(r locker.Record) locker.Record {
	out := x.see(r, x.granted)
	var raw, shown map[string]json.RawMessage
	if json.Unmarshal(r.Fields, &raw) != nil || json.Unmarshal(out.Fields, &shown) != nil {
		x.t.Fatalf("%s, %s", r.Fields, out.Fields)
	}
	for name, value := range raw {
		if slices.Contains(x.granted, name) {
			shown[name] = value
		}
	}
	out.Fields, _ = json.Marshal(shown)
	return out
}

// see is a record as the model shows it.
func (x *model) see(r locker.Record, granted []string) locker.Record {
	var paths [][]string
	out := locker.Record{Collection: r.Collection}
	for _, g := range granted {
		switch g {
		case "id":
			out.ID = x.l.policies[r.Collection].ids.seal(r.ID)
		case "time":
			out.Time = r.Time
		case "source":
			out.Source = r.Source
		case "import":
			out.Import = r.Import
		default:
			paths = append(paths, strings.Split(g, "."))
		}
	}
	var v any
	if err := json.Unmarshal(r.Fields, &v); err != nil {
		x.t.Fatal(err)
	}
	kept := keep(v, paths)
	if kept == nil {
		kept = map[string]any{}
	}
	out.Fields, _ = json.Marshal(kept)
	out.Fields = json.RawMessage(strings.ReplaceAll(string(out.Fields), `"\u003cnull\u003e"`, "null"))
	return out
}

// TestAgainstModel compares Limit with the model on random data, grants and queries.
func TestAgainstModel(t *testing.T) {
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	pick := func(list ...string) string { return list[random.IntN(len(list))] }
	leaves := []string{"amount", "payee", "memo", "tags", "address.city", "address.zip", "email.address", "email.label", "id", "time", "source", "import"}
	tops := append([]string{"address", "email", "extra", "Amount"}, leaves...)
	scalar := func() string { return pick(`"a"`, `"b"`, `"-5.00"`, `7`, `null`, `true`, `"2026-01-05"`) }
	value := func(name string) string {
		switch {
		case random.IntN(12) == 0: // what no schema allows
			return pick(`{"x":1}`, `[{"y":2},3]`, `[[1],{}]`, `{}`, `[]`, scalar())
		case name == "address":
			return fmt.Sprintf(`{"city":%s,"zip":%s,"street":"hidden"}`, scalar(), scalar())
		case name == "email":
			return fmt.Sprintf(`[{"address":%s,"label":%s},{"label":%s,"spam":1}]`, scalar(), scalar(), scalar())
		case name == "tags":
			return fmt.Sprintf(`[%s,%s]`, scalar(), scalar())
		}
		return scalar()
	}
	queries, refused := 0, 0
	for round := range 60 {
		m := newMemory()
		for i := range random.IntN(40) {
			var parts []string
			for _, name := range []string{"amount", "payee", "memo", "tags", "address", "email", "extra"} {
				if random.IntN(3) > 0 {
					parts = append(parts, fmt.Sprintf("%q:%s", name, value(name)))
				}
			}
			r := locker.Record{ID: fmt.Sprint("r", i), Source: pick("", "bank", "bank/CH"), Import: pick("", "i-1"), Fields: json.RawMessage("{" + strings.Join(parts, ",") + "}")}
			if random.IntN(6) > 0 {
				r.Time = day(80 + random.IntN(20))
			}
			fill(t, m, r)
			if random.IntN(10) == 0 {
				m.delete("transactions", r.ID)
			}
		}
		var granted []string
		for _, leaf := range leaves {
			if random.IntN(2) == 0 {
				granted = append(granted, leaf)
			}
		}
		if len(granted) == 0 {
			continue
		}
		g := grantOf(granted...)
		if random.IntN(3) == 0 {
			g.Reads[0].Window = "P10D"
		}
		v := Limit(m, g, at0)
		x := &model{t: t, m: m, granted: granted, window: g.Reads[0].Window != "", l: v.(*limited)}
		for range 60 {
			q := locker.Query{Collection: "transactions", Limit: random.IntN(8)}
			for range random.IntN(3) {
				q.Fields = append(q.Fields, pick(tops...))
			}
			var whereFields, parts []string
			for range random.IntN(3) {
				f := pick(tops...)
				whereFields = append(whereFields, f)
				parts = append(parts, pick("", "not ")+f+pick(" = ", " != ", " < ", " >= ")+pick(`"a"`, `"b"`, "-5", "7", "null", "true", `"2026-01-05"`))
			}
			q.Where = strings.Join(parts, pick(" and ", " or "))
			switch random.IntN(8) {
			case 0:
				q.Since = day(80 + random.IntN(20))
			case 1:
				q.Until = day(80 + random.IntN(20))
			case 2:
				q.Descending = true
			}
			queries++
			groups, denied := x.query(q, whereFields)
			got, err := all(v, q)
			if denied {
				refused++
				var d *locker.Denied
				if !errors.As(err, &d) || len(got) > 0 {
					t.Fatalf("seed %d round %d: granted %v, %+v: %d records, %v; want a refusal", seed, round, granted, q, len(got), err)
				}
				continue
			}
			if err != nil {
				t.Fatalf("seed %d round %d: granted %v, %+v: %v", seed, round, granted, q, err)
			}
			x.compare(seed, q, got, groups)
		}
	}
	if refused < queries/10 || refused > queries*9/10 {
		t.Errorf("seed %d: %d of %d queries were refused", seed, refused, queries)
	}
}

// compare checks that what came is what the model says: group after group, and
// within a group any of it.
func (x *model) compare(seed uint64, q locker.Query, got []locker.Record, groups [][]string) {
	x.t.Helper()
	total := 0
	for _, g := range groups {
		total += len(g)
	}
	if want := total; len(got) != want && (q.Limit == 0 || len(got) != min(want, q.Limit)) {
		x.t.Fatalf("seed %d: granted %v, %+v: %d records, want %d of %d", seed, x.granted, q, len(got), q.Limit, total)
	}
	for _, r := range got {
		for len(groups) > 0 && len(groups[0]) == 0 {
			groups = groups[1:]
		}
		if !x.has("import") && r.Import != "" || r.Rev != 0 {
			x.t.Fatalf("seed %d: granted %v: %+v", seed, x.granted, r)
		}
		text := canonical(r.ID, r.Time, r.Source, decode(x.t, r.Fields))
		i := slices.Index(groups[0], text)
		if i < 0 {
			x.t.Fatalf("seed %d: granted %v, %+v: got %s, want one of %v", seed, x.granted, q, text, groups[0])
		}
		groups[0] = slices.Delete(groups[0], i, i+1)
	}
}

// FuzzProject compares the projection of any text with the model.
func FuzzProject(f *testing.F) {
	for _, object := range []string{`{"a":1,"b":{"c":[1,{"d":2}]},"x":null}`, `{"b":[{"c":1},{"d":[{"e":1}]}],"\u0061":"\ud83d"}`, ` { "a" : [ ] } `, `{"a":1}x`} {
		f.Add(uint8(3), object)
	}
	paths := []string{"a", "b", "b.c", "b.d", "b.c.d", "x", "e"}
	f.Fuzz(func(t *testing.T, which uint8, object string) {
		var granted []string
		var split [][]string
		for i, p := range paths {
			if which&(1<<i) != 0 {
				granted = append(granted, p)
				split = append(split, strings.Split(p, "."))
			}
		}
		got := tree(granted).project([]byte(object))
		var v, w any
		if err := json.Unmarshal(got, &w); err != nil {
			t.Fatalf("%v of %q: %q is no JSON", granted, object, got)
		}
		if json.Unmarshal([]byte(object), &v) != nil || strings.Contains(object, "null") {
			return
		}
		if _, ok := v.(map[string]any); !ok {
			v = nil
		}
		want := keep(v, split)
		if v == nil || want == nil {
			want = map[string]any{}
		}
		a, _ := json.Marshal(w)
		b, _ := json.Marshal(want)
		if string(a) != string(b) && string(got) != "{}" && !hasTwins(object) {
			t.Errorf("%v of %q: %s, want %s", granted, object, a, b)
		}
	})
}

// hasTwins says whether an object has a member twice: the model keeps the last,
// the projection both.
func hasTwins(object string) bool {
	return findTwin([]byte(object), skipSpace([]byte(object), 0), "") != ""
}
