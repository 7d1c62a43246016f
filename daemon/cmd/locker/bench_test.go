package main

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// BenchmarkStatus is 'locker status' from start to end, with a daemon that holds
// 40,000 records.
func BenchmarkStatus(b *testing.B) {
	d := newDevice(b, "home")
	d.run("init", "--remote", "dir:"+b.TempDir(), "--phrase-out", filepath.Join(b.TempDir(), "phrase"))
	d.daemon()
	d.run("import", statement(b, 40000))
	for b.Loop() {
		d.run("status")
	}
	b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N), "ms/status")
}

// BenchmarkApp is an app that reads 4 of 20 fields of every record, about 200 bytes
// a row: from the encrypted store on disk, through the gate, into the sandbox. It
// counts what arrives in the app.
func BenchmarkApp(b *testing.B) {
	const records = 300_000
	d := newDevice(b, "home")
	d.run("init", "--phrase-out", filepath.Join(b.TempDir(), "phrase"))
	d.daemon()
	for part := 0; part < records; part += 50_000 {
		put := d.command("put", "transactions", "--source", "bench")
		put.Stdin = wideRecords(part, 50_000)
		if out, err := put.CombinedOutput(); err != nil {
			b.Fatalf("%v\n%s", err, out)
		}
	}
	d.run("app", "install", peekFolder(b))
	grant := d.run("grant", "peek", "--offer", "permit")
	if !strings.Contains(grant, "granted as") {
		b.Fatal(grant)
	}
	var rows, size, nanoseconds int64
	for b.Loop() {
		var n, bytes, took int64
		out := d.run("app", "run", "peek", "count", "amount", "currency", "payee", "memo")
		if _, err := fmt.Sscan(out, &n, &bytes, &took); err != nil || n != records {
			b.Fatalf("%d records, %v\n%s", n, err, out)
		}
		rows, size, nanoseconds = rows+n, size+bytes, nanoseconds+took
	}
	b.ReportMetric(float64(rows)/(float64(nanoseconds)/1e9), "rows/s")
	b.ReportMetric(float64(size)/float64(rows), "bytes/row")
}

// wideRecords are JSON lines of transactions with 20 fields each.
func wideRecords(first, n int) *bytes.Buffer {
	var out bytes.Buffer
	for i := first; i < first+n; i++ {
		fmt.Fprintf(&out, `{"id":"t%07d","time":"2026-%02d-%02dT10:00:00Z","fields":{"amount":"-%d.50","currency":"CHF","payee":"Some shop in a town, number %d","memo":"%s"`,
			i, i%12+1, i%28+1, i, i%1000, strings.Repeat("m", 100))
		for f := range 16 {
			fmt.Fprintf(&out, `,"other%d":"%d"`, f, i*f)
		}
		out.WriteString("}}\n")
	}
	return &out
}
