package host

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"testing"
	"time"

	"github.com/locker-project/locker/plugins"
	"github.com/locker-project/locker/plugins/locker"
)

// manyRows is a view with rows of about 200 bytes, encoded as the gate would hand
// them over.
type manyRows struct {
	locker.View
	n      int
	fields json.RawMessage
}

func (v manyRows) Query(ctx context.Context, q locker.Query) iter.Seq2[locker.Record, error] {
	return func(yield func(locker.Record, error) bool) {
		when := time.Date(2026, 1, 2, 3, 4, 5, 0, time.FixedZone("", 3600))
		for i := range v.n {
			r := locker.Record{Collection: "in", ID: "2026-000001234567", Time: when.Add(time.Duration(i) * time.Second), Source: "bank/CH93", Fields: v.fields}
			if !yield(r, nil) {
				return
			}
		}
	}
}

// textOut keeps what an app says.
type textOut struct {
	lines  bool // each text is a line
	text   string
	tables []plugins.Table
}

func (o *textOut) Text(s string) error {
	o.text += s
	if o.lines {
		o.text += "\n"
	}
	return nil
}

func (o *textOut) Table(t plugins.Table) error { o.tables = append(o.tables, t); return nil }

func row200() json.RawMessage {
	return json.RawMessage(fmt.Sprintf(`{"amount":"-12.30","currency":"CHF","payee":"%-60s","text":"%-80s"}`, "Coffee", "lunch"))
}

// BenchmarkStream is an app that reads rows of 200 bytes; each operation is one row.
func BenchmarkStream(b *testing.B) {
	for _, bench := range []struct {
		name string
		only *layers
	}{{"sandboxed", nil}, {"plain", &layers{}}} {
		b.Run(bench.name, func(b *testing.B) {
			p := startWith(b, Spec{only: bench.only}, "app")
			view := manyRows{n: max(b.N, 1000), fields: row200()}
			b.SetBytes(int64(len(view.fields)))
			b.ResetTimer()
			out := &textOut{}
			if err := p.App(context.Background(), plugins.AppEnv{Args: []string{"count"}, View: view, Out: out}); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(view.n)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}

// BenchmarkStart is the time from Start until the plugin answers.
func BenchmarkStart(b *testing.B) {
	for _, bench := range []struct {
		name string
		only *layers
	}{{"sandboxed", nil}, {"plain", &layers{}}, {"fallback", &fallbackLayers}} {
		b.Run(bench.name, func(b *testing.B) {
			for b.Loop() {
				p := startWith(b, Spec{only: bench.only}, "app")
				p.Kill()
			}
		})
	}
}
