package locker

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

const sample = `{"amount":"-12.30","n":7,"big":12345678901234567890.5,"tiny":1e-9,"payee":"Migros Zürich",
	"ok":true,"off":false,"none":null,"tags":["Food","work"],"address":{"city":"Bern","geo":{"lat":46.9}},
	"quote":"say \"hi\"","posted":"2026-01-04T10:00:00+01:00","day":"2026-01-04","codes":[1,2.50]}`

func getter(t testing.TB, object string) func(string) (json.RawMessage, bool) {
	var m map[string]json.RawMessage
	if err := json.Unmarshal([]byte(object), &m); err != nil {
		t.Fatal(err)
	}
	return func(name string) (json.RawMessage, bool) { v, ok := m[name]; return v, ok }
}

func TestFilter(t *testing.T) {
	get := getter(t, sample)
	for _, tt := range []struct {
		expression string
		want       bool
	}{
		{``, true},
		{`amount = -12.3`, true},
		{`amount = -12.30`, true},
		{`amount < -12.29 and amount > -12.31`, true},
		{`amount < -12.30`, false},
		{`amount <= -1.23e1`, true},
		{`n = 7.000 and n != 8`, true},
		{`big > 12345678901234567890.4`, true},
		{`big = 12345678901234567890.50`, true},
		{`tiny < 0.000000002 and tiny > 0`, true},
		{`payee ~ "zürich"`, true},
		{`payee ~ 'ZÜRICH' and not payee ~ "coop"`, true},
		{`payee = "migros zürich"`, false},
		{`ok = true and off = false and none = null`, true},
		{`ok = false or OK = true`, false},
		{`absent = null and absent != 3`, true},
		{`absent = 3 or absent ~ "" or absent < "x"`, false},
		{`tags = "work" and tags ~ "foo" and codes = 2.5`, true},
		{`tags != "work"`, false},
		{`address.city = "Bern" and address.geo.lat > 46`, true},
		{`address.zip = null and payee.x = null`, true},
		{`quote = "say \"hi\""`, true},
		{`posted = "2026-01-04T09:00:00Z"`, true},
		{`posted >= "2026-01-04" and posted < "2026-01-05"`, true},
		{`day = "2026-01-04T00:00:00Z"`, true},
		{`n = "7"`, false},
		{`NOT (n = 7 OR n = 8)`, false},
		{`not n = 8 and not (n = 9)`, true},
		{`n=7or n=8`, false}, // 7or is no number: an error, see below
	} {
		f, err := ParseFilter(tt.expression)
		if tt.expression == `n=7or n=8` {
			if err == nil {
				t.Errorf("%s: parsed", tt.expression)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", tt.expression, err)
		} else if got := f.Match(get); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.expression, got, tt.want)
		}
	}
}

func TestFilterErrors(t *testing.T) {
	for _, tt := range []struct{ expression, want string }{
		{`amount`, "column 7: expected one of"},
		{`amount <`, "column 9: expected a value"},
		{`amount < 5 5`, `column 12: expected an operator`},
		{`(amount < 5`, "expected ')'"},
		{`"x" = 5`, "column 1: expected a field"},
		{`ü = "open`, "column 5: expected a value"},
		{`a..b = 1`, "expected a field"},
		{`5 = 5`, "expected a field"},
		{`a ~ 5`, `after ~`},
		{`a = 1e999999`, "expected a value"},
		{`a ! 5`, "expected one of"},
		{strings.Repeat("(", 200) + "a=1" + strings.Repeat(")", 200), "levels"},
		{strings.Repeat("not ", 200) + "a=1", "levels"},
		{`a = "` + strings.Repeat("x", maxFilter) + `"`, "longer than"},
	} {
		_, err := ParseFilter(tt.expression)
		if !errors.Is(err, ErrInvalid) || !strings.Contains(fmt.Sprint(err), tt.want) {
			t.Errorf("%.40s: %v, want %q", tt.expression, err, tt.want)
		}
	}
}

func TestFilterFields(t *testing.T) {
	f, err := ParseFilter(`b.c = 1 and (time > "2026-01-01" or not b ~ "x") and a != 2`)
	if err != nil {
		t.Fatal(err)
	}
	if got := f.Fields(); !slices.Equal(got, []string{"a", "b", "time"}) {
		t.Errorf("fields %v", got)
	}
}

// TestDecimal compares with exact rational numbers.
func TestDecimal(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	number := func() string {
		s := fmt.Sprintf("%d", r.Int64N(1<<(1+r.IntN(62)))-r.Int64N(1<<(1+r.IntN(62))))
		if r.IntN(2) == 0 {
			s += fmt.Sprintf(".%0*d", 1+r.IntN(20), r.Int64N(1<<(1+r.IntN(40))))
		}
		if r.IntN(4) == 0 {
			s += fmt.Sprintf("e%d", r.IntN(40)-20)
		}
		return s
	}
	for range 20000 {
		a, b := number(), number()
		if r.IntN(5) == 0 {
			b = a + "0"
			if !strings.Contains(a, ".") || strings.Contains(a, "e") {
				b = a
			}
		}
		x, xok := parseDecimal(a)
		y, yok := parseDecimal(b)
		if !xok || !yok {
			t.Fatalf("%s or %s is not read", a, b)
		}
		p, _ := new(big.Rat).SetString(a)
		q, _ := new(big.Rat).SetString(b)
		if got, want := x.compare(y), p.Cmp(q); got != want {
			t.Fatalf("%s against %s: %d, want %d", a, b, got, want)
		}
	}
}

func FuzzParseFilter(f *testing.F) {
	for _, s := range []string{`a = 1`, `not (a.b ~ "x" or c != null) and d <= -1.5e3`, `'`, `a="\`, `((((`} {
		f.Add(s)
	}
	get := getter(f, sample)
	f.Fuzz(func(t *testing.T, expression string) {
		filter, err := ParseFilter(expression)
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Fatal(err)
			}
			return
		}
		want := filter.Match(get)
		opposite, err := ParseFilter("not (" + expression + ")")
		if err == nil && filter != nil && opposite.Match(get) == want {
			t.Fatalf("%q and its opposite agree", expression)
		}
	})
}

func BenchmarkFilter(b *testing.B) {
	f, err := ParseFilter(`amount < -10 and payee ~ "migros"`)
	if err != nil {
		b.Fatal(err)
	}
	get := getter(b, sample)
	for b.Loop() {
		f.Match(get)
	}
}
