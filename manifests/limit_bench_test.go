package manifests

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"strings"
	"testing"
	"time"

	"github.com/locker-project/locker/plugins/locker"
)

// given yields the same records for every query: the cost of a benchmark is that
// of Limit alone.
type given struct {
	locker.View
	records []locker.Record
}

func (g given) Query(ctx context.Context, q locker.Query) iter.Seq2[locker.Record, error] {
	return func(yield func(locker.Record, error) bool) {
		for _, r := range g.records {
			if !yield(r, nil) {
				return
			}
		}
	}
}

// BenchmarkLimit measures what Limit adds to rows of 200 bytes with four fields,
// which are already no more than what is granted; and to rows of 20 fields of which
// four are granted, as if the view underneath left everything in.
func BenchmarkLimit(b *testing.B) {
	const rows = 100_000
	four := make([]locker.Record, rows)
	twenty := make([]locker.Record, rows)
	for i := range four {
		fields := fmt.Sprintf(`"amount":"-%d.50","currency":"CHF","payee":"Some shop in a town, number %d","memo":"%s"`, i%1000, i%1000, strings.Repeat("m", 100))
		four[i] = locker.Record{Collection: "transactions", ID: fmt.Sprintf("bank:%07d", i), Time: day(0).Add(time.Duration(i) * time.Second), Fields: json.RawMessage("{" + fields + "}")}
		twenty[i] = four[i]
		var more strings.Builder
		for f := range 16 {
			fmt.Fprintf(&more, `,"other%d":"%d"`, f, i*f)
		}
		twenty[i].Fields = json.RawMessage("{" + fields + more.String() + "}")
	}
	plain := []string{"time", "amount", "currency", "payee", "memo"}
	for _, bench := range []struct {
		name    string
		records []locker.Record
		fields  []string
		where   string
	}{
		{"projected", four, plain, ""},
		{"with id", four, append([]string{"id"}, plain...), ""},
		{"without time", four, plain[1:], ""},
		{"projecting", twenty, plain, ""},
		{"filtering", four, append([]string{"id"}, plain...), `id = "x" or amount < -900`},
	} {
		b.Run(bench.name, func(b *testing.B) {
			v := Limit(given{records: bench.records}, grantOf(bench.fields...), at0)
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				for _, err := range v.Query(context.Background(), locker.Query{Collection: "transactions", Where: bench.where}) {
					if err != nil {
						b.Fatal(err)
					}
				}
				n += rows
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}
