package store

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/objstorage/objstorageprovider"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/locker-project/locker/plugins/locker"
	_ "modernc.org/sqlite"
)

// The benchmarks work on a million records of about 300 bytes (LOCKER_BENCH_RECORDS
// for another number), made with a fixed seed, on the disk of TMPDIR. Each measures
// what it is compared with in the same run.

func benchSize(b *testing.B) int {
	if text := os.Getenv("LOCKER_BENCH_RECORDS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			b.Fatal(err)
		}
		return n
	}
	return 1_000_000
}

const (
	benchBatch  = 1000  // records of a batch or transaction
	benchWrites = 10000 // records of a Write
)

// benchData is records without pointers, so that the garbage collector has no more to
// do than a program that reads them from somewhere.
type benchData struct {
	ids   []uint64
	times []int64
	ends  []int // of the fields in text
	text  []byte
}

// benchRecords makes records as a bank's export has them: twenty fields, about 300
// bytes, ids that are hashes, times that mostly grow.
func benchRecords(n int) *benchData {
	r := rand.New(rand.NewPCG(1, 2))
	start := time.Date(2010, 1, 1, 0, 0, 0, 0, time.UTC)
	kinds := []string{"food", "rent", "travel", "books", "health"}
	shops := []string{"Coop", "Migros", "Amazon", "SBB", "Swisscom", "Kiosk", "Apotheke am Platz", "Velo Meier"}
	d := &benchData{text: make([]byte, 0, 330*n)}
	for i := range n {
		d.text = fmt.Appendf(d.text, `{"account":"CH%02d","amount":"-%d.%02d","balance":"%d.%02d","booked":true,"category":%q,"city":"Zug","country":"CH","currency":"CHF","fee":0,"kind":"card","memo":"%x","method":"pos","n":%d,"payee":%q,"rate":1,"ref":"%x","tags":["a","b"],"tax":"7.7","terminal":%d,"year":%d}`,
			i%7, r.IntN(500), r.IntN(100), r.IntN(9999), r.IntN(100), kinds[r.IntN(len(kinds))], r.Uint32(), i, shops[r.IntN(len(shops))], r.Uint64(), r.IntN(1000), 2010+i%15)
		d.ends, d.ids = append(d.ends, len(d.text)), append(d.ids, r.Uint64())
		d.times = append(d.times, start.Add(time.Duration(i)*7*time.Minute+time.Duration(r.IntN(86400))*time.Second).Unix())
	}
	return d
}

func (d *benchData) len() int { return len(d.ids) }

func (d *benchData) record(i int) locker.Record {
	from := 0
	if i > 0 {
		from = d.ends[i-1]
	}
	return locker.Record{
		Collection: "transactions", ID: fmt.Sprintf("%016x", d.ids[i]), Time: time.Unix(d.times[i], 0).UTC(),
		Fields: d.text[from:d.ends[i]:d.ends[i]],
	}
}

// chunks yields the records, n at a time, in some order of theirs; nil is the first.
func (d *benchData) chunks(n int, order []int) func(func([]locker.Record) bool) {
	return func(yield func([]locker.Record) bool) {
		var some []locker.Record
		for i := range d.ids {
			if order != nil {
				i = order[i]
			}
			if some = append(some, d.record(i)); len(some) == n {
				if !yield(some) {
					return
				}
				some = some[:0]
			}
		}
		if len(some) > 0 {
			yield(some)
		}
	}
}

// sorted is the order of the records by key.
func (d *benchData) sorted() []int {
	order := make([]int, d.len())
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(x, y int) int { return cmp.Compare(d.ids[x], d.ids[y]) })
	return order
}

func benchStore(b *testing.B, dir string) *Store {
	b.Helper()
	s, err := Open(dir, Options{Key: testKey, Device: "bench", BlobKey: []byte("k")})
	if err != nil {
		b.Fatal(err)
	}
	return s
}

func must(b testing.TB, err error) {
	if err != nil {
		b.Fatal(err)
	}
}

// took is how long something took, and how much of the processors.
type took struct{ wall, cpu time.Duration }

func (t took) Seconds() float64 { return t.wall.Seconds() }

// timed returns how long f takes.
func timed(f func()) took {
	start, cpu := time.Now(), processTime()
	f()
	return took{time.Since(start), processTime() - cpu}
}

// times is how many times b a is, by the clock and by the processors.
func times(a, b took) (wall, cpu float64) {
	return a.wall.Seconds() / b.wall.Seconds(), a.cpu.Seconds() / b.cpu.Seconds()
}

func fillStore(b *testing.B, s *Store, records *benchData) {
	a := Author{Class: Source, Source: "bank/CH00", Import: "import1"}
	for batch := range records.chunks(benchWrites, nil) {
		n, err := s.Write(context.Background(), a, batch...)
		must(b, err)
		if n.New != len(batch) {
			b.Fatalf("%+v", n)
		}
	}
}

func rawPebble(b *testing.B, dir string) *pebble.DB {
	o := &pebble.Options{FormatMajorVersion: pebble.FormatNewest, MemTableSize: defaultMemTable, CacheSize: defaultCache, Logger: logger{discard(), func() { panic("pebble cannot go on") }}}
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(bloomBits)
	}
	db, err := pebble.Open(dir, o)
	must(b, err)
	return db
}

func rawKey(r *locker.Record) []byte { return []byte(r.Collection + "/" + r.ID) }

func fillPebble(b *testing.B, db *pebble.DB, records *benchData, order []int) {
	for batch := range records.chunks(benchBatch, order) {
		w := db.NewBatch()
		for i := range batch {
			must(b, w.Set(rawKey(&batch[i]), batch[i].Fields, nil))
		}
		must(b, w.Commit(pebble.NoSync))
	}
	must(b, db.LogData(nil, pebble.Sync))
}

func fillSQLite(b *testing.B, file string, records *benchData) {
	db, err := sql.Open("sqlite", file+"?_pragma=journal_mode(wal)&_pragma=synchronous(normal)")
	must(b, err)
	db.SetMaxOpenConns(1)
	_, err = db.Exec(`create table records (collection text, id text, time integer, fields blob, primary key (collection, id)); create index by_time on records (time)`)
	must(b, err)
	for batch := range records.chunks(benchBatch, nil) {
		tx, err := db.Begin()
		must(b, err)
		insert, err := tx.Prepare(`insert into records values (?, ?, ?, ?)`)
		must(b, err)
		for i := range batch {
			r := &batch[i]
			_, err := insert.Exec(r.Collection, r.ID, r.Time.Unix(), []byte(r.Fields))
			must(b, err)
		}
		must(b, tx.Commit())
	}
	must(b, db.Close())
}

// BenchmarkImport writes the records in batches of 1,000 and compares the time until
// all are durable with that of Pebble writing the same bytes, one key a record and
// one sync at the end, and with SQLite's.
func BenchmarkImport(b *testing.B) {
	records := benchRecords(benchSize(b))
	for b.Loop() {
		dir := b.TempDir()
		db := rawPebble(b, filepath.Join(dir, "pebble"))
		raw := timed(func() {
			fillPebble(b, db, records, nil)
			must(b, db.Close())
		})
		s := benchStore(b, filepath.Join(dir, "store"))
		own := timed(func() {
			fillStore(b, s, records)
			must(b, s.Close())
		})
		lite := timed(func() { fillSQLite(b, filepath.Join(dir, "sqlite"), records) })
		n := float64(records.len())
		b.ReportMetric(n/own.Seconds(), "records/s")
		b.ReportMetric(n/raw.Seconds(), "pebble-records/s")
		b.ReportMetric(n/lite.Seconds(), "sqlite-records/s")
		b.ReportMetric(own.cpu.Seconds()*1e6/n, "cpu-us/record")
		b.ReportMetric(raw.cpu.Seconds()*1e6/n, "pebble-cpu-us/record")
		wall, cpu := times(raw, own)
		b.ReportMetric(wall, "of-pebble")
		b.ReportMetric(cpu, "of-pebble-cpu")
		wall, cpu = times(lite, own)
		b.ReportMetric(wall, "of-sqlite")
		b.ReportMetric(cpu, "of-sqlite-cpu")
		b.ReportMetric(0, "ns/op")
	}
}

// BenchmarkScan reads 4 of 20 fields of all records, in order of time.
func BenchmarkScan(b *testing.B) {
	records := benchRecords(benchSize(b))
	s := benchStore(b, b.TempDir())
	defer s.Close()
	fillStore(b, s, records)
	q := locker.Query{Collection: "transactions", Fields: []string{"amount", "currency", "payee", "category"}}
	v := s.View(Author{Class: Owner})
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		took := timed(func() {
			for r, err := range v.Query(context.Background(), q) {
				if err != nil {
					b.Fatal(err)
				}
				n += min(1, len(r.Fields))
			}
		})
		if n != records.len() {
			b.Fatal(n)
		}
		b.ReportMetric(float64(n)/took.Seconds(), "rows/s")
		b.ReportMetric(float64(n)/took.cpu.Seconds(), "rows/cpu-s")
	}
}

// cutAll returns all that a store has written, in portions.
func cutAll(b *testing.B, s *Store, max int) (portions [][]byte) {
	var pos []byte
	for {
		lines, next, _, err := s.Cut(context.Background(), pos, max)
		must(b, err)
		if len(lines) == 0 {
			return portions
		}
		portions, pos = append(portions, lines), next
	}
}

// BenchmarkCut cuts all records as change lines.
func BenchmarkCut(b *testing.B) {
	records := benchRecords(benchSize(b))
	s := benchStore(b, b.TempDir())
	defer s.Close()
	fillStore(b, s, records)
	for b.Loop() {
		size := 0
		took := timed(func() {
			for _, p := range cutAll(b, s, 4<<20) {
				size += len(p)
			}
		})
		b.ReportMetric(float64(records.len())/took.Seconds(), "records/s")
		b.ReportMetric(float64(records.len())/took.cpu.Seconds(), "records/cpu-s")
		b.ReportMetric(float64(size)/took.Seconds()/1e6, "MB/s")
	}
}

// ingest is Pebble's own bulk load: the records sorted, written to a table, taken in.
func ingest(b *testing.B, db *pebble.DB, dir string, records *benchData) {
	file := filepath.Join(dir, "bulk.sst")
	f, err := vfs.Default.Create(file, vfs.WriteCategoryUnspecified)
	must(b, err)
	o := sstable.WriterOptions{TableFormat: db.TableFormat(), FilterPolicy: bloom.FilterPolicy(bloomBits)}
	w := sstable.NewWriter(objstorageprovider.NewFileWritable(f), o)
	for some := range records.chunks(benchBatch, records.sorted()) {
		for i := range some {
			must(b, w.Set(rawKey(&some[i]), some[i].Fields))
		}
	}
	must(b, w.Close())
	must(b, db.Ingest(context.Background(), []string{file}))
}

// BenchmarkJoin joins all records, cut by one store, into an empty one, and compares
// that with Pebble's ways to load the same bytes: a sorted table taken in, and sorted
// batches.
func BenchmarkJoin(b *testing.B) {
	records := benchRecords(benchSize(b))
	from := benchStore(b, b.TempDir())
	fillStore(b, from, records)
	portions := cutAll(b, from, 16<<20)
	want := from.StateHash()
	must(b, from.Close())
	for b.Loop() {
		dir := b.TempDir()
		db := rawPebble(b, filepath.Join(dir, "ingest"))
		bulk := timed(func() { ingest(b, db, dir, records) })
		must(b, db.Close())
		db = rawPebble(b, filepath.Join(dir, "sorted"))
		batches := timed(func() {
			fillPebble(b, db, records, records.sorted())
			must(b, db.Flush())
		})
		must(b, db.Close())
		s := benchStore(b, filepath.Join(dir, "store"))
		own := timed(func() {
			for _, p := range portions {
				_, _, err := s.Join(context.Background(), p, nil)
				must(b, err)
			}
		})
		if s.StateHash() != want {
			b.Fatal("another state")
		}
		must(b, s.Close())
		b.ReportMetric(float64(records.len())/own.Seconds(), "records/s")
		b.ReportMetric(own.cpu.Seconds()*1e6/float64(records.len()), "cpu-us/record")
		wall, cpu := times(own, bulk)
		b.ReportMetric(wall, "times-ingest")
		b.ReportMetric(cpu, "times-ingest-cpu")
		wall, cpu = times(own, batches)
		b.ReportMetric(wall, "times-sorted-batches")
		b.ReportMetric(cpu, "times-sorted-batches-cpu")
		b.ReportMetric(0, "ns/op")
	}
}
