package wire

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/locker-project/locker/plugins/locker"
)

func some(r *rand.Rand, texts ...string) string { return texts[r.IntN(len(texts))] }

// someRecord is a record such as a view may hand out.
func someRecord(r *rand.Rand) locker.Record {
	rec := locker.Record{
		Collection: some(r, "a", "transactions", ""), ID: some(r, "1", "an id", "\xff"),
		Source: some(r, "", "bank", "bank"), Import: some(r, "", "i1"),
		Rev: locker.Rev(r.Uint64N(3) << r.IntN(63)), Deleted: r.IntN(9) == 0,
	}
	if r.IntN(4) > 0 {
		zone := []*time.Location{time.UTC, time.FixedZone("", 3600), time.FixedZone("", -12345)}[r.IntN(3)]
		rec.Time = time.Unix(r.Int64N(1<<34)-1<<33, r.Int64N(1e9)).In(zone)
	}
	if r.IntN(9) > 0 {
		rec.Fields = json.RawMessage(fmt.Sprintf(`{"n":%d,"t":"%s"}`, r.Uint64(), bytes.Repeat([]byte("x"), r.IntN(300))))
	}
	return rec
}

func TestRowsCameBack(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for range 200 {
		var w RowWriter
		var sent, got []locker.Record
		for range r.IntN(400) {
			rec := someRecord(r)
			sent = append(sent, rec)
			w.Add(&rec)
			if w.Full() {
				got = append(got, read(t, w.Take())...)
			}
		}
		got = append(got, read(t, w.Take())...)
		if len(got) != len(sent) {
			t.Fatalf("%d records of %d", len(got), len(sent))
		}
		for i := range sent {
			if !equal(sent[i], got[i]) {
				t.Fatalf("record %d: %+v became %+v", i, sent[i], got[i])
			}
		}
	}
}

func read(t *testing.T, rows []byte) []locker.Record {
	t.Helper()
	records, err := ReadRows(rows).All()
	if err != nil {
		t.Fatal(err)
	}
	return records
}

// equal compares times by instant and offset.
func equal(a, b locker.Record) bool {
	_, offsetA := a.Time.Zone()
	_, offsetB := b.Time.Zone()
	if !a.Time.Equal(b.Time) || a.Time.IsZero() != b.Time.IsZero() || offsetA != offsetB {
		return false
	}
	a.Time, b.Time = time.Time{}, time.Time{}
	return reflect.DeepEqual(a, b)
}

func TestReaderCopies(t *testing.T) {
	var w RowWriter
	w.Add(&locker.Record{Collection: "c", ID: "id", Fields: json.RawMessage(`{"a":1}`)})
	rows := w.Take()
	got := read(t, rows)
	for i := range rows {
		rows[i] = 'x'
	}
	if got[0].ID != "id" || string(got[0].Fields) != `{"a":1}` {
		t.Errorf("the record changed with the message: %+v", got[0])
	}
}

func TestMalformedRows(t *testing.T) {
	var w RowWriter
	w.Add(&locker.Record{Collection: "collection", ID: "id", Time: time.Unix(5, 5).In(Zone(60)), Rev: 1 << 40, Fields: json.RawMessage(`{"a":1}`)})
	rows := w.Take()
	for n := 1; n < len(rows); n++ {
		if _, err := ReadRows(rows[:n]).All(); err == nil {
			t.Errorf("the first %d of %d bytes were taken", n, len(rows))
		}
	}
	for _, bad := range [][]byte{
		{sameCollection, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1},                            // a text of 2^64 bytes
		{sameCollection | sameSource | sameImport | hasTime, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0, 0}, // nanoseconds
	} {
		if _, err := ReadRows(bad).All(); err == nil {
			t.Errorf("%x was taken", bad)
		}
	}
	if _, err := ReadRows(nil).Next(); err == nil {
		t.Error("a record was read from nothing")
	}
}

func FuzzRows(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		var w RowWriter
		for range 3 {
			rec := someRecord(r)
			w.Add(&rec)
		}
		f.Add(w.Take())
	}
	f.Fuzz(func(t *testing.T, rows []byte) {
		records, err := ReadRows(rows).All()
		if err != nil {
			return
		}
		var w RowWriter
		for i := range records {
			w.Add(&records[i])
		}
		for i, got := range read(t, w.Take()) {
			if !equal(records[i], got) {
				t.Fatalf("%+v became %+v", records[i], got)
			}
		}
	})
}

func TestMoments(t *testing.T) {
	for _, when := range []time.Time{{}, time.Unix(0, 0), time.Date(2026, 1, 2, 3, 4, 5, 6, time.FixedZone("", -1800))} {
		got := FromTime(when).Time()
		_, want := when.Zone()
		if _, offset := got.Zone(); !got.Equal(when) || offset != want || got.IsZero() != when.IsZero() {
			t.Errorf("%v became %v", when, got)
		}
	}
}

func benchRecord() locker.Record {
	return locker.Record{
		Collection: "transactions", ID: "2026-000001234567", Source: "bank/CH93",
		Time:   time.Date(2026, 1, 2, 3, 4, 5, 0, time.FixedZone("", 3600)),
		Fields: json.RawMessage(`{"amount":"-12.30","currency":"CHF","payee":"` + fmt.Sprintf("%-60s", "Coffee") + `","text":"` + fmt.Sprintf("%-80s", "x") + `"}`),
	}
}

func BenchmarkAdd(b *testing.B) {
	var w RowWriter
	rec := benchRecord()
	b.ReportAllocs()
	for b.Loop() {
		if w.Add(&rec); w.Full() {
			w.Take()
		}
	}
}

func BenchmarkNext(b *testing.B) {
	var w RowWriter
	rec := benchRecord()
	for range 1000 {
		w.Add(&rec)
	}
	rows := w.Take()
	b.ReportAllocs()
	r := ReadRows(rows)
	for b.Loop() {
		if !r.More() {
			r = ReadRows(rows)
		}
		if _, err := r.Next(); err != nil {
			b.Fatal(err)
		}
	}
}
