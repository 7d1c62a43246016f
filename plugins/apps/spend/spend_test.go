package spend

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"math/big"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/locker-project/locker/manifests"
	"github.com/locker-project/locker/plugins"
	"github.com/locker-project/locker/plugins/locker"
)

// A view holds transactions and takes what the app writes. It denies the fields
// that are not granted, and fails the test when the app asks for more than the
// manifest does.
type view struct {
	locker.View
	t       *testing.T
	records []locker.Record
	granted []string
	put     []locker.Record
	queries int
}

func (v *view) Query(_ context.Context, q locker.Query) iter.Seq2[locker.Record, error] {
	v.queries++
	return func(yield func(locker.Record, error) bool) {
		if q.Collection != "transactions" || q.Fields == nil {
			v.t.Errorf("the app asks for all of %q", q.Collection)
		}
		for _, f := range q.Fields {
			if !slices.Contains([]string{"time", "amount", "currency", "payee"}, f) {
				v.t.Errorf("the app asks for %q", f)
			}
			if v.granted != nil && !slices.Contains(v.granted, f) {
				yield(locker.Record{}, fmt.Errorf("query: %w", &locker.Denied{Collection: "transactions", Field: f, Verb: "read"}))
				return
			}
		}
		for _, r := range v.records {
			if (q.Since.IsZero() || !r.Time.Before(q.Since)) && (q.Until.IsZero() || r.Time.Before(q.Until)) && !yield(r, nil) {
				return
			}
		}
	}
}

func (v *view) Put(_ context.Context, records ...locker.Record) error {
	v.put = append(v.put, records...)
	return nil
}

// output keeps what the app says.
type output struct {
	tables []plugins.Table
	texts  []string
}

func (o *output) Text(s string) error         { o.texts = append(o.texts, s); return nil }
func (o *output) Table(t plugins.Table) error { o.tables = append(o.tables, t); return nil }
func (o *output) rows(i int) (lines []string) {
	for _, r := range o.tables[i].Rows {
		lines = append(lines, strings.Join(r, "|"))
	}
	return lines
}

func record(day, fields string) locker.Record {
	t, err := time.Parse(time.RFC3339, day)
	if err != nil && day != "" {
		panic(err)
	}
	return locker.Record{Collection: "transactions", Time: t, Fields: json.RawMessage(fields)}
}

func run(t *testing.T, v *view, args ...string) (*output, error) {
	t.Helper()
	v.t = t
	out := new(output)
	err := New().Run(t.Context(), plugins.AppEnv{View: v, Args: args, Out: out})
	return out, err
}

var sample = []locker.Record{
	record("2025-12-31T23:30:00Z", `{"amount":"-1.00","currency":"CHF","payee":"Last year"}`),
	record("2026-01-01T00:30:00+01:00", `{"amount":"-0.10","currency":"CHF","payee":"Bakery 0042"}`),
	record("2026-01-05T00:00:00Z", `{"amount":"-0.20","currency":"CHF","payee":"BAKERY"}`),
	record("2026-01-06T00:00:00Z", `{"amount":"-50","currency":"EUR","payee":"Books"}`),
	record("2026-01-07T00:00:00Z", `{"amount":"100.005","currency":"CHF","payee":"Pay"}`),
	record("2026-02-01T00:00:00Z", `{"amount":"-7.30","payee":"No currency"}`),
	record("2026-02-02T00:00:00Z", `{"currency":"CHF","payee":"No amount"}`),
	record("2026-02-03T00:00:00Z", `{"amount":"much","currency":"CHF"}`),
	record("", `{"amount":"-1","currency":"CHF"}`),
}

func TestRun(t *testing.T) {
	v := &view{records: sample}
	out, err := run(t, v)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"2026-02|(unknown)|7.30|0.00|1", "2026-01|CHF|0.30|100.005|3", "2026-01|EUR|50.00|0.00|1", "2025-12|CHF|1.00|0.00|1"}; !slices.Equal(out.rows(0), want) {
		t.Errorf("months %q, want %q", out.rows(0), want)
	}
	if want := []string{"No currency|(unknown)|7.30|1", "Last year|CHF|1.00|1", "Bakery|CHF|0.30|2", "Books|EUR|50.00|1"}; !slices.Equal(out.rows(1), want) {
		t.Errorf("merchants %q, want %q", out.rows(1), want)
	}
	if want := []string{"2 transactions were left out: they have no amount that is a number.", "1 transactions were left out: they have no time."}; !slices.Equal(out.texts, want) {
		t.Errorf("texts %q, want %q", out.texts, want)
	}
	var ids []string
	for _, r := range v.put {
		ids = append(ids, r.Collection+" "+r.ID)
	}
	if want := []string{"locker/spend 2025-12", "locker/spend 2026-01", "locker/spend 2026-02"}; !slices.Equal(ids, want) {
		t.Errorf("wrote %q, want %q", ids, want)
	}
	want := `{"month":"2026-01","totals":[{"currency":"CHF","spent":"0.30","received":"100.005","transactions":3,"merchants":[{"payee":"Bakery","spent":"0.30","payments":2}]},` +
		`{"currency":"EUR","spent":"50.00","received":"0.00","transactions":1,"merchants":[{"payee":"Books","spent":"50.00","payments":1}]}]}`
	if string(v.put[1].Fields) != want {
		t.Errorf("wrote\n%s, want\n%s", v.put[1].Fields, want)
	}
}

func TestArgs(t *testing.T) {
	v := &view{records: sample}
	out, err := run(t, v, "2026", "--top", "1")
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"2026-02|(unknown)|7.30|0.00|1", "2026-01|CHF|0.30|100.005|3", "2026-01|EUR|50.00|0.00|1"}; !slices.Equal(out.rows(0), want) {
		t.Errorf("months %q, want %q", out.rows(0), want)
	}
	if want := []string{"No currency|(unknown)|7.30|1", "Bakery|CHF|0.30|2", "Books|EUR|50.00|1"}; !slices.Equal(out.rows(1), want) {
		t.Errorf("merchants %q, want %q", out.rows(1), want)
	}
	for _, args := range [][]string{{"soon"}, {"--top", "0"}, {"--top=x"}, {"--top"}, {"2026", "2025"}, {"99"}} {
		if _, err := run(t, &view{}, args...); !errors.Is(err, locker.ErrInvalid) || !strings.Contains(err.Error(), "usage: spend") {
			t.Errorf("%q: error %v", args, err)
		}
	}
}

// The owner may leave fields out that the app can do without.
func TestNarrowed(t *testing.T) {
	out, err := run(t, &view{records: sample[1:4], granted: []string{"time", "amount"}})
	if err != nil {
		t.Fatal(err)
	}
	if len(out.tables) != 1 || len(out.texts) != 2 || !strings.Contains(out.texts[0], "payee was not granted") {
		t.Errorf("tables %v, texts %q", out.tables, out.texts)
	}
	var denied *locker.Denied
	if _, err := run(t, &view{granted: []string{"amount"}}); !errors.As(err, &denied) || denied.Field != "time" {
		t.Errorf("without the time: error %v", err)
	}
}

func TestEmpty(t *testing.T) {
	v := &view{}
	out, err := run(t, v)
	if err != nil || len(out.tables) != 0 || len(out.texts) != 1 || !strings.Contains(out.texts[0], "Import a statement") || len(v.put) != 0 {
		t.Errorf("tables %v, texts %q, wrote %v, error %v", out.tables, out.texts, v.put, err)
	}
}

// Random amounts add up as exact fractions do.
func TestExact(t *testing.T) {
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 2))
	sum := new(big.Rat)
	v := &view{}
	for range 10_000 {
		amount := fmt.Sprintf("-%d.%0*d", random.IntN(1e6), 1+random.IntN(8), random.IntN(10))
		r, ok := new(big.Rat).SetString(amount)
		if !ok {
			t.Fatalf("seed %d: %q", seed, amount)
		}
		sum.Sub(sum, r)
		v.records = append(v.records, record("2026-01-05T00:00:00Z", `{"amount":"`+amount+`"}`))
	}
	out, err := run(t, v)
	if err != nil {
		t.Fatal(err)
	}
	if got, ok := new(big.Rat).SetString(out.tables[0].Rows[0][2]); !ok || got.Cmp(sum) != 0 {
		t.Errorf("seed %d: the sum is %v, want %v", seed, out.tables[0].Rows[0][2], sum.FloatString(8))
	}
}

func TestFold(t *testing.T) {
	for in, want := range map[string]string{
		"TRADER JOE S #552": "TRADER JOE S", "Bakery 0042": "Bakery", "  A   b ": "A b", "7 Eleven": "7 Eleven", "1234": "1234", "": "", "Shop 12": "Shop 12", "Shop T4-9921": "Shop",
	} {
		if _, got := fold(in); got != want {
			t.Errorf("%q is %q, want %q", in, got, want)
		}
	}
}

// The records fit the schema that the manifest declares.
func TestRecordsFitTheManifest(t *testing.T) {
	v := &view{records: sample}
	if _, err := run(t, v); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile("manifest.json")
	if err != nil {
		t.Fatal(err)
	}
	m, err := manifests.ParseManifest(b)
	if err != nil {
		t.Fatal(err)
	}
	var schema struct {
		Required   []string       `json:"required"`
		Properties map[string]any `json:"properties"`
	}
	if err := json.Unmarshal(m.Collections["locker/spend"], &schema); err != nil {
		t.Fatal(err)
	}
	for _, r := range v.put {
		var fields map[string]any
		if err := json.Unmarshal(r.Fields, &fields); err != nil {
			t.Fatal(err)
		}
		for name := range fields {
			if schema.Properties[name] == nil {
				t.Errorf("the manifest does not declare %q", name)
			}
		}
		for _, name := range schema.Required {
			if fields[name] == nil {
				t.Errorf("%s has no %q", r.ID, name)
			}
		}
	}
	if !reflect.DeepEqual(m.Writes, []string{"locker/spend"}) || len(m.Requests) != 1 {
		t.Errorf("the manifest writes %v and asks %v", m.Writes, m.Requests)
	}
}
