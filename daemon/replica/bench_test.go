package replica_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/locker-project/locker/crypto"
	"github.com/locker-project/locker/daemon/replica"
	"github.com/locker-project/locker/daemon/store"
	"github.com/locker-project/locker/plugins/locker"
)

// benchRecords is how many records the benchmarks use.
func benchRecords(b *testing.B) int {
	n, err := strconv.Atoi(cmpOr(os.Getenv("LOCKER_BENCH_RECORDS"), "1000000"))
	if err != nil {
		b.Fatal(err)
	}
	return n
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

var benchWords = strings.Fields("lunch with Anna train ticket Zürich coffee beans groceries rent payment refund concert evening run park lake meeting notes project weekly family dinner photo album holiday flight hotel booking confirmed thanks see you tomorrow morning call doctor appointment insurance invoice paid subscription renewed book chapter film review bike repair garden")

// benchRecord is a record of about 300 bytes as a line.
func benchRecord(r *rand.Rand, i int) locker.Record {
	text := func(n int) string {
		var s strings.Builder
		for s.Len() < n {
			s.WriteString(benchWords[r.IntN(len(benchWords))])
			s.WriteByte(' ')
		}
		return s.String()
	}
	collection, fields := "transactions", map[string]any{}
	switch i % 4 {
	case 0:
		fields = map[string]any{"account": fmt.Sprintf("CH%020d", r.Int64N(1e9)), "payee": text(10), "amount": fmt.Sprintf("-%d.%02d", r.IntN(200), r.IntN(100)), "currency": "CHF", "memo": text(50)}
	case 1:
		collection, fields = "messages", map[string]any{"chat": text(12), "from": fmt.Sprintf("+41 79 %07d", r.IntN(1e7)), "body": text(100)}
	case 2:
		collection, fields = "measurements", map[string]any{"device": "thermo-" + benchWords[r.IntN(6)], "temperature": r.Float64() * 30, "humidity": r.Float64() * 100, "battery": r.IntN(100), "seq": i}
	case 3:
		collection, fields = "pages", map[string]any{"url": fmt.Sprintf("https://%s.example.org/%x", benchWords[r.IntN(9)], r.Uint64()), "title": text(40), "visits": r.IntN(20)}
	}
	b, err := json.Marshal(fields)
	if err != nil {
		panic(err)
	}
	return locker.Record{Collection: collection, ID: fmt.Sprintf("%024x", r.Uint64()), Time: time.Unix(1500000000+int64(i)*257, 0).UTC(), Fields: b}
}

// benchDevice is a device with its records written, and nothing sent.
func benchDevice(b *testing.B, seed crypto.Seed, folder string, records int) *whole {
	b.Helper()
	keys, err := crypto.Found(seed, "laptop")
	d := newWhole(b, keys, err, folder)
	if err := d.Found(context.Background()); err != nil {
		b.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	author := store.Author{Class: store.Source, Source: "bench", Import: "bench-1"}
	batch := make([]locker.Record, 0, 5000)
	for i := range records {
		batch = append(batch, benchRecord(r, i))
		if len(batch) == cap(batch) || i == records-1 {
			if _, err := d.store.Write(context.Background(), author, batch...); err != nil {
				b.Fatal(err)
			}
			batch = batch[:0]
		}
	}
	return d
}

// resetPeak begins to measure the peak of resident memory; peak returns it, in MB,
// or 0 where the system does not tell.
func resetPeak() { _ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) }

func peak() float64 {
	f, err := os.Open("/proc/self/status")
	if err != nil {
		return 0
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if kb, ok := strings.CutPrefix(s.Text(), "VmHWM:"); ok {
			n, err := strconv.ParseFloat(strings.Fields(kb)[0], 64)
			if err != nil {
				return 0
			}
			return n / 1000
		}
	}
	return 0
}

// folderSize returns how many objects lie in a folder and their bytes.
func folderSize(b *testing.B, folder string) (objects int, size int64) {
	b.Helper()
	err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || len(d.Name()) != 52 {
			return err
		}
		info, err := d.Info()
		if err == nil {
			objects++
			size += info.Size()
		}
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	return objects, size
}

// unpadded is what the objects of a folder come to without their padding.
func unpadded(b *testing.B, keys *crypto.Keyring, folder string, entries uint64) (size int64) {
	b.Helper()
	for n := range entries {
		ref := replica.Ref{Kind: "entry", Writer: keys.Device(), Number: n + 1}
		object, err := os.ReadFile(filepath.Join(folder, keys.Name(ref)))
		if err != nil {
			b.Fatal(err)
		}
		log, frames, _, err := keys.Open(ref, object)
		if err != nil {
			b.Fatal(err)
		}
		const around = 2500 // age header, chunk tags, signed header
		size += int64(len(log)+len(frames)) + around
	}
	return size
}

// stockAge builds the age command from its module.
func stockAge(t testing.TB) (age, keygen string) {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"age", "age-keygen"} {
		cmd := exec.Command("go", "build", "-o", filepath.Join(dir, name), "filippo.io/age/cmd/"+name)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Skipf("the age command cannot be built: %v\n%s", err, out)
		}
	}
	return filepath.Join(dir, "age"), filepath.Join(dir, "age-keygen")
}

// pipe runs zstd -1 | age over a file, and returns how long it takes and how much
// comes out.
func pipe(b *testing.B, lines string) (took time.Duration, size int64) {
	b.Helper()
	if _, err := exec.LookPath("zstd"); err != nil {
		b.Skip("the zstd command is not installed: nothing to compare with")
	}
	age, keygen := stockAge(b)
	key, err := exec.Command(keygen, "-pq").Output()
	if err != nil {
		b.Fatal(err)
	}
	_, recipient, _ := strings.Cut(string(key), "public key: ")
	recipient, _, _ = strings.Cut(recipient, "\n")
	out := filepath.Join(b.TempDir(), "out")
	start := time.Now()
	cmd := exec.Command("sh", "-c", `zstd -q -1 -c "$1" | "$2" -r "$3" -o "$4"`, "sh", lines, age, recipient, out)
	if text, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, text)
	}
	took = time.Since(start)
	info, err := os.Stat(out)
	if err != nil {
		b.Fatal(err)
	}
	return took, info.Size()
}

// BenchmarkFirstSync sends all records to a folder, and compares with zstd -1 | age
// over the same lines.
func BenchmarkFirstSync(b *testing.B) {
	records := benchRecords(b)
	for range b.N {
		b.StopTimer()
		folder := b.TempDir()
		d := benchDevice(b, crypto.NewSeed(), folder, records)
		debug.FreeOSMemory()
		resetPeak()
		b.StartTimer()
		start := time.Now()
		if _, err := d.Sync(context.Background(), replica.SyncOptions{}); err != nil {
			b.Fatal(err)
		}
		took := time.Since(start)
		b.StopTimer()
		most := peak()
		objects, size := folderSize(b, folder)
		lines := filepath.Join(b.TempDir(), "lines")
		raw := writeLines(b, d, lines)
		pipeTook, pipeSize := pipe(b, lines)
		st, err := d.Status(context.Background())
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(raw)/1e6/took.Seconds(), "MB/s")
		b.ReportMetric(pipeTook.Seconds()/took.Seconds(), "x-speed-of-pipe")
		b.ReportMetric(float64(unpadded(b, d.keys, folder, st.Devices[0].Entries))/float64(pipeSize), "x-bytes-unpadded")
		b.ReportMetric(float64(size)/float64(pipeSize), "x-bytes")
		b.ReportMetric(float64(objects), "objects")
		b.ReportMetric(most, "MB-peak")
	}
}

// writeLines writes all change lines of a device to a file.
func writeLines(b *testing.B, d *whole, path string) (size int64) {
	b.Helper()
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	var after []byte
	for {
		lines, next, _, err := d.store.Cut(context.Background(), after, 4<<20)
		if err != nil {
			b.Fatal(err)
		}
		if len(lines) == 0 {
			break
		}
		if _, err := f.Write(lines); err != nil {
			b.Fatal(err)
		}
		size, after = size+int64(len(lines)), next
	}
	if err := f.Close(); err != nil {
		b.Fatal(err)
	}
	return size
}

// BenchmarkRestore brings all records back to a new device, and compares with
// writing the same lines to Pebble in batches.
func BenchmarkRestore(b *testing.B) {
	records := benchRecords(b)
	folder, seed := b.TempDir(), crypto.NewSeed()
	d := benchDevice(b, seed, folder, records)
	if _, err := d.Sync(context.Background(), replica.SyncOptions{}); err != nil {
		b.Fatal(err)
	}
	lines := filepath.Join(b.TempDir(), "lines")
	raw := writeLines(b, d, lines)
	b.ResetTimer()
	for range b.N {
		b.StopTimer()
		keys, err := crypto.Recover(seed, "phone")
		phone := newWhole(b, keys, err, folder)
		debug.FreeOSMemory()
		resetPeak()
		b.StartTimer()
		start := time.Now()
		if _, err := phone.Restore(context.Background(), nil); err != nil {
			b.Fatal(err)
		}
		took := time.Since(start)
		b.StopTimer()
		most := peak()
		if x, y := d.store.StateHash(), phone.store.StateHash(); x != y {
			b.Fatalf("state hashes %s and %s", x, y)
		}
		b.ReportMetric(float64(raw)/1e6/took.Seconds(), "MB/s")
		b.ReportMetric(took.Seconds()/bulk(b, lines).Seconds(), "x-time-of-pebble")
		b.ReportMetric(most, "MB-peak")
	}
}

// bulk writes lines to Pebble in batches, the last one durably.
func bulk(b *testing.B, path string) time.Duration {
	b.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		b.Fatal(err)
	}
	start := time.Now()
	db, err := pebble.Open(b.TempDir(), &pebble.Options{})
	if err != nil {
		b.Fatal(err)
	}
	batch := db.NewBatch()
	commit := func(o *pebble.WriteOptions) {
		if err := batch.Commit(o); err != nil {
			b.Fatal(err)
		}
		batch = db.NewBatch()
	}
	for line := range bytes.Lines(data) {
		_, id, _ := bytes.Cut(line, []byte(`"id":"`))
		if err := batch.Set(id[:24], line, nil); err != nil {
			b.Fatal(err)
		}
		if batch.Len() > 1<<20 {
			commit(pebble.NoSync)
		}
	}
	commit(pebble.Sync)
	if err := db.Close(); err != nil {
		b.Fatal(err)
	}
	return time.Since(start)
}
