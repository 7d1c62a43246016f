package transactions

import (
	"bytes"
	"encoding/json"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/locker-project/locker/plugins/connectors/connectortest"
	"github.com/locker-project/locker/plugins/locker"
)

// decoded returns the fields of a record.
func decoded(t testing.TB, r locker.Record) transaction {
	t.Helper()
	var tr transaction
	if err := json.Unmarshal(r.Fields, &tr); err != nil {
		t.Fatal(err)
	}
	tr.time = r.Time
	return tr
}

// The real statements have the counts that other programs find in them.
func TestFixtures(t *testing.T) {
	for _, tt := range []struct {
		name    string
		records int
		failed  []string // places
		first   string
	}{
		{"bank/wesabe-checking.ofx", 106, nil, "2010-07-23 -22.04 USD|Apple Store|"},
		{"bank/ofxparse-broken-decimal.ofx", 0, []string{"STMTTRN 1, line 34"}, ""},
		{"bank/chase.csv", 9, nil, "2009-12-24 -85.00 |HOST 037196321563 MO        12/22SLICEHOST|"},
		{"bank/french.csv", 9, nil, "2014-01-22 -10.00 |CHEQUE 012345678901234578ABC000  0000 4381974748378178473744441|"},
		{"bank/two-money-columns.csv", 5, nil, "2008-04-01 -76.00 USD|Check - 0000000122|"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			sink, err := connectortest.Parse(t, New(), connectortest.Fixture(t, tt.name))
			if err != nil {
				t.Fatal(err)
			}
			if len(sink.Records) != tt.records {
				t.Errorf("%d records, want %d", len(sink.Records), tt.records)
			}
			var failed []string
			for _, f := range sink.Failed {
				failed = append(failed, f.At)
			}
			if !slices.Equal(failed, tt.failed) {
				t.Errorf("failed: %v", sink.Failed)
			}
			if tt.records > 0 {
				if got := line(t, decoded(t, sink.Records[0])); got != tt.first {
					t.Errorf("the first is %q, want %q", got, tt.first)
				}
			}
		})
	}
}

// The promises of every connector, for a file of each kind.
func TestSuite(t *testing.T) {
	own := []*connectortest.File{
		connectortest.NewFile("one.ofx", []byte(sgml)),
		connectortest.NewFile("two.ofx", []byte(xml)),
		connectortest.NewFile("swiss.csv", []byte(banks[3].csv)),
		connectortest.NewFile("bare.csv", []byte("2026-01-05,COFFEE,-3.00,97.00\n2026-01-04,RENT,-900.00,100.00\n2026-01-03,PAY,1000.00,1000.00\n")),
	}
	foreign := []*connectortest.File{
		connectortest.NewFile("statement.csv", []byte("Name,Phone\nAda,1\n")),
		connectortest.NewFile("statement.ofx", []byte("OFX is a format\n<OFX> is its root\n")),
		connectortest.NewFile("card.vcf", []byte("BEGIN:VCARD\nVERSION:3.0\nFN:Ada\nEND:VCARD\n")),
	}
	connectortest.Suite(t, New(), own, foreign)
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(sgml))
	f.Add([]byte(xml))
	for _, b := range banks {
		f.Add([]byte(b.csv))
	}
	f.Fuzz(func(t *testing.T, b []byte) { connectortest.Survive(t, New(), connectortest.NewFile("x", b)) })
}

// generated makes a CSV of n rows.
func generated(n int) []byte {
	var b bytes.Buffer
	b.WriteString("Date;Payee;Memo;Amount;Currency;Balance\n")
	day := time.Date(2010, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range n {
		fmt.Fprintf(&b, "%s;Merchant number %d;card payment %d, thank you;-%d,%02d;EUR;%d,00\n", day.AddDate(0, 0, i/40).Format("02.01.2006"), i%997, i, i%300, i%100, i)
	}
	return b.Bytes()
}

// generatedOFX makes an OFX file of n transactions.
func generatedOFX(n int) []byte {
	var b bytes.Buffer
	b.WriteString(strings.Split(sgml, "<STMTTRN>")[0])
	for i := range n {
		fmt.Fprintf(&b, "<STMTTRN>\n<TRNTYPE>DEBIT\n<DTPOSTED>20260105120000[-5:EST]\n<TRNAMT>-%d.%02d\n<FITID>%d\n<NAME>Merchant number %d\n<MEMO>card payment, thank you\n</STMTTRN>\n", i%300, i%100, i, i%997)
	}
	b.WriteString("</BANKTRANLIST></STMTRS></STMTTRNRS></BANKMSGSRSV1></OFX>\n")
	return b.Bytes()
}

func BenchmarkCSV(b *testing.B) { benchmark(b, generated(100_000), 100_000) }

func BenchmarkOFX(b *testing.B) { benchmark(b, generatedOFX(100_000), 100_000) }

func benchmark(b *testing.B, file []byte, records int) {
	b.SetBytes(int64(len(file)))
	b.ReportAllocs()
	for b.Loop() {
		sink := &connectortest.Sink{Drop: true}
		if err := New().Parse(b.Context(), connectortest.NewFile("x", file), sink); err != nil {
			b.Fatal(err)
		}
		if sink.Dropped != records {
			b.Fatalf("%d records", sink.Dropped)
		}
	}
	b.ReportMetric(float64(records)*float64(b.N)/b.Elapsed().Seconds(), "records/s")
}

// A large file needs little more memory than what tells equal rows apart.
func TestMemory(t *testing.T) {
	const rows = 200_000
	file := connectortest.NewFile("x", generated(rows))
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	peak := uint64(0)
	sink := &connectortest.Sink{Drop: true, OnPut: func(n int) {
		if n%100_000 < 500 {
			runtime.GC()
			runtime.ReadMemStats(&after)
			peak = max(peak, after.HeapAlloc)
		}
	}}
	if err := New().Parse(t.Context(), file, sink); err != nil {
		t.Fatal(err)
	}
	if sink.Dropped != rows {
		t.Fatalf("%d records", sink.Dropped)
	}
	if used := int64(peak) - int64(before.HeapAlloc); used > 40<<20 {
		t.Errorf("%d MiB for %d MiB of file", used>>20, file.Size()>>20)
	}
}
