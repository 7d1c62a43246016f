package gate

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/locker-project/locker/daemon/store"
	"github.com/locker-project/locker/manifests"
	"github.com/locker-project/locker/plugins/locker"
)

// benchRows is how many rows a benchmark's stream has.
const benchRows = 200_000

// wide is a store with rows of 20 fields, four of which are granted, about 200
// bytes of them in all.
var wide = sync.OnceValue(func() []locker.Record {
	records := make([]locker.Record, benchRows)
	for i := range records {
		var b strings.Builder
		fmt.Fprintf(&b, `{"amount":"-%d.50","currency":"CHF","payee":"Some shop in a town, number %d","memo":"%s"`, i, i%1000, strings.Repeat("m", 100))
		for f := range 16 {
			fmt.Fprintf(&b, `,"other%d":"%d"`, f, i*f)
		}
		b.WriteByte('}')
		records[i] = locker.Record{Collection: "transactions", ID: fmt.Sprintf("bank:%07d", i), Time: start.Add(time.Duration(i-benchRows) * time.Second), Fields: json.RawMessage(b.String())}
	}
	return records
})

// BenchmarkStream measures rows a second of the same query: of the store alone,
// through Limit, and through a session of the gate.
func BenchmarkStream(bb *testing.B) {
	b := newBench(bb)
	records := wide()
	for len(records) > 0 {
		n := min(10000, len(records))
		if _, err := b.store.Write(context.Background(), store.Author{Class: store.Owner}, records[:n]...); err != nil {
			bb.Fatal(err)
		}
		records = records[n:]
	}
	b.install(strings.Replace(spyManifest, `["time","amount","payee"],"required"`, `["time","amount","currency","payee","memo"],"required"`, 1))
	grant, err := b.gate.Grant(context.Background(), "spy", "permit", nil, time.Time{})
	if err != nil {
		bb.Fatal(err)
	}
	withID := grant
	withID.Reads = []manifests.Read{{Collection: "transactions", Fields: []string{"id", "time", "amount", "currency", "payee", "memo"}}}
	noTime := grant
	noTime.Reads = []manifests.Read{{Collection: "transactions", Fields: []string{"amount", "currency", "payee"}}}
	session, err := b.gate.Open(context.Background(), "spy")
	if err != nil {
		bb.Fatal(err)
	}
	defer session.Close()
	raw := b.store.View(store.Author{})
	for _, bench := range []struct {
		name string
		view locker.View
		q    locker.Query
	}{
		{"store", raw, locker.Query{Collection: "transactions", Fields: []string{"amount", "currency", "payee", "memo"}}},
		{"limit", manifests.Limit(raw, grant, b.clock), locker.Query{Collection: "transactions"}},
		{"limit with id", manifests.Limit(raw, withID, b.clock), locker.Query{Collection: "transactions"}},
		{"limit without time", manifests.Limit(raw, noTime, b.clock), locker.Query{Collection: "transactions"}},
		{"gate", session.View(), locker.Query{Collection: "transactions"}},
	} {
		bb.Run(bench.name, func(bb *testing.B) {
			rows, bytes := 0, 0
			bb.ReportAllocs()
			for bb.Loop() {
				for r, err := range bench.view.Query(context.Background(), bench.q) {
					if err != nil {
						bb.Fatal(err)
					}
					rows++
					bytes += len(r.Fields)
				}
			}
			bb.ReportMetric(float64(rows)/bb.Elapsed().Seconds(), "rows/s")
			bb.ReportMetric(float64(bytes)/float64(rows), "bytes/row")
		})
	}
}

// BenchmarkCall measures a short read through the gate, audit line and all, on a
// store in memory.
func BenchmarkCall(bb *testing.B) {
	b := newBench(bb)
	b.fill(100)
	session, _ := b.spy("permit")
	for bb.Loop() {
		if _, err := readAll(session.View(), locker.Query{Collection: "transactions", Limit: 5}); err != nil {
			bb.Fatal(err)
		}
	}
}
