package manifests

import (
	"slices"
	"strings"
	"testing"

	"github.com/locker-project/locker/plugins/locker"
)

func TestFilterPaths(t *testing.T) {
	for expression, want := range map[string]string{
		``:      "",
		`a = 1`: "a",
		`a=1 and not b.c != "x = y" or (d~'e>1')`: "a b.c d",
		`a = and and = b`:                         "a and",
		`not = 1`:                                 "not",
		`a.b.c >= -5 AND a.b.c < 7`:               "a.b.c",
		`x = "a \" b = 1"`:                        "x",
		`id = "1" or time > "2026-01-01"`:         "id time",
	} {
		if got := strings.Join(filterPaths(expression), " "); got != want {
			t.Errorf("%s: %q, want %q", expression, got, want)
		}
	}
}

// FuzzFilterPaths tests that no field of a filter is overlooked: the top-level
// names are those that the parser itself reports.
func FuzzFilterPaths(f *testing.F) {
	for _, s := range []string{`a = 1`, `a=1 and not b.c != "x = y" or (d~'e>1')`, `not not a.b=null`, `and = 1 or or = 2`, "a\n=\r1", `a="\\" and b='\''`, `ä.ö = 1`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, expression string) {
		filter, err := locker.ParseFilter(expression)
		if err != nil {
			return
		}
		var tops []string
		for _, path := range filterPaths(expression) {
			top, _, _ := strings.Cut(path, ".")
			tops = append(tops, top)
		}
		slices.Sort(tops)
		if got, want := slices.Compact(tops), filter.Fields(); !slices.Equal(got, want) {
			t.Errorf("%q: %q, the parser says %q", expression, got, want)
		}
	})
}

func TestProjectIsExact(t *testing.T) {
	for _, tt := range []struct{ paths, object, want string }{
		{"a", `{"a":1}`, `{"a":1}`},
		{"a", ` { "a" : 1 } `, ` { "a" : 1 } `},
		{"a", `{"b":1,"a":2,"c":3}`, `{"a":2}`},
		{"a b", `{"a":1,"x":[{"y":{}}],"b":2}`, `{"a":1,"b":2}`},
		{"a", `{"\u0061":1,"A":2,"a ":3}`, `{"\u0061":1}`},
		{"a", `{}`, `{}`},
		{"", `{"a":1}`, `{}`},
		{"", `{"":1}`, `{}`},
		{"a", `[1]`, `{}`},
		{"a", `{"a":1`, `{}`},
		{"a", `{"a":1}}`, `{}`},
		{"a", `{"a":1} {"b":2}`, `{}`},
		{"a", ``, `{}`},
		{"a", `{"a":{"b":1}}`, `{}`},
		{"a", `{"a":[]}`, `{"a":[]}`},
		{"a", `{"a":[1,{"b":1},[2,{"c":1}]]}`, `{"a":[1,[2]]}`},
		{"a.b", `{"a":1}`, `{}`},
		{"a.b", `{"a":{"b":1,"c":2}}`, `{"a":{"b":1}}`},
		{"a.b", `{"a":{"c":2}}`, `{}`},
		{"a.b", `{"a":{}}`, `{}`},
		{"a.b", `{"a":[]}`, `{}`},
		{"a.b", `{"a":[{"c":1},{"b":2},3,{"b":{"d":1}}]}`, `{"a":[{"b":2}]}`},
		{"a.b.c", `{"a":{"b":[{"c":1,"d":2}],"c":3}}`, `{"a":{"b":[{"c":1}]}}`},
		{"a", `{"a":"}\",\"b\":1"}`, `{"a":"}\",\"b\":1"}`},
	} {
		if got := string(tree(strings.Fields(tt.paths)).project([]byte(tt.object))); got != tt.want {
			t.Errorf("%s of %s: %s, want %s", tt.paths, tt.object, got, tt.want)
		}
	}
	deep := strings.Repeat(`{"a":`, 500) + "1" + strings.Repeat("}", 500)
	if got := tree([]string{"a"}).project([]byte(deep)); string(got) != "{}" {
		t.Errorf("of a deep object: %s", got)
	}
}
