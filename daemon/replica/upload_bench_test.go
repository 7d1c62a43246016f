package replica_test

import (
	"bytes"
	"context"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"strconv"
	"testing"
	"time"

	"github.com/locker-project/locker/crypto"
	"github.com/locker-project/locker/daemon/replica"
)

// benchPictures is how many pictures of about 3 MB a first upload has, which do not
// compress.
func benchPictures(b *testing.B) int {
	text := os.Getenv("LOCKER_BENCH_PICTURES")
	if text == "" {
		return 34
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		b.Fatal(err)
	}
	return n
}

// addPictures stores pictures, and returns how many bytes they have.
func (w *whole) addPictures(b *testing.B, n int) (size int64) {
	b.Helper()
	source := rand.NewChaCha8([32]byte{1})
	picture := make([]byte, 3_200_000)
	for i := range n {
		part := picture[:2_800_000+i%9*50_000]
		if _, err := source.Read(part); err != nil {
			b.Fatal(err)
		}
		if _, _, err := w.store.PutBlob(context.Background(), bytes.NewReader(part)); err != nil {
			b.Fatal(err)
		}
		size += int64(len(part))
	}
	return size
}

// rest waits until the store of a device does nothing in the background any more, and
// gives memory back.
func rest() {
	debug.FreeOSMemory()
	for until := time.Now().Add(time.Minute); time.Now().Before(until); {
		before := cpuTime()
		time.Sleep(500 * time.Millisecond)
		if cpuTime()-before < 10*time.Millisecond {
			return
		}
	}
}

// BenchmarkFirstUpload sends records and pictures to a folder for the first time, and
// then brings the records to a new device.
func BenchmarkFirstUpload(b *testing.B) {
	records, pictures := benchRecords(b), benchPictures(b)
	for range b.N {
		b.StopTimer()
		folder, seed := b.TempDir(), crypto.NewSeed()
		d := benchDevice(b, seed, folder, records)
		size := d.addPictures(b, pictures)
		rest()
		resetPeak()
		b.StartTimer()
		start, spent := time.Now(), cpuTime()
		s, err := d.Sync(context.Background(), replica.SyncOptions{})
		if err != nil {
			b.Fatal(err)
		}
		took := time.Since(start)
		spent = cpuTime() - spent
		b.StopTimer()
		b.ReportMetric(peak(), "MB-peak")
		b.ReportMetric(took.Seconds(), "s-upload")
		b.ReportMetric(spent.Seconds(), "cpu-s-upload")
		b.ReportMetric(float64(s.Requests), "requests-upload")
		b.ReportMetric(float64(s.BytesUp)/1e6, "MB-up")
		b.ReportMetric(float64(size)/1e6, "MB-pictures")
		keys, err := crypto.Recover(seed, "phone")
		phone := newWhole(b, keys, err, folder)
		rest()
		resetPeak()
		start, spent = time.Now(), cpuTime()
		restored, err := phone.Restore(context.Background(), nil)
		if err != nil {
			b.Fatal(err)
		}
		took = time.Since(start)
		b.ReportMetric(took.Seconds(), "s-restore")
		b.ReportMetric((cpuTime() - spent).Seconds(), "cpu-s-restore")
		b.ReportMetric(float64(restored.Records)/took.Seconds(), "records/s-restore")
		b.ReportMetric(peak(), "MB-peak-restore")
		if x, y := d.store.StateHash(), phone.store.StateHash(); x != y {
			b.Fatalf("state hashes %s and %s", x, y)
		}
	}
}
