package main

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// put writes one note.
func (d *device) put(id, text string) {
	d.t.Helper()
	cmd := d.command("put", "notes")
	cmd.Stdin = strings.NewReader(fmt.Sprintf(`{"id":%q,"time":"2026-11-25T10:00:00Z","fields":{"text":%q}}`+"\n", id, text))
	if out, err := cmd.CombinedOutput(); err != nil {
		d.t.Fatalf("%v\n%s", err, out)
	}
}

// fill writes n small records.
func (d *device) fill(n int) {
	d.t.Helper()
	const atOnce = 50_000
	for from := 0; from < n; from += atOnce {
		var lines bytes.Buffer
		for i := from; i < min(n, from+atOnce); i++ {
			fmt.Fprintf(&lines, `{"id":"m%07d","time":"2026-%02d-%02dT%02d:%02d:00Z","fields":{"text":"message number %d, as people write them","chat":"c%d","sender":"p%d"}}`+"\n", i, i%12+1, i%28+1, i%24, i%60, i, i%40, i%300)
		}
		cmd := d.command("put", "notes", "--source", "bench")
		cmd.Stdin = &lines
		if out, err := cmd.CombinedOutput(); err != nil {
			d.t.Fatalf("%v\n%s", err, out)
		}
	}
}

// total is the sum of requests of all methods.
func total(requests map[string]int) (n int) {
	for _, m := range slices.Collect(maps.Values(requests)) {
		n += m
	}
	return n
}

// cpu is the CPU time that a process and its children, alive or ended, have taken.
func cpu(t testing.TB, pid int) time.Duration {
	t.Helper()
	sum := 0
	for _, pid := range append(children(t, pid), pid) {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue // it has ended
		}
		_, rest, _ := strings.Cut(string(raw), ") ")
		for _, field := range strings.Fields(rest)[11:15] { // utime, stime, and those of children that ended
			n, err := strconv.Atoi(field)
			if err != nil {
				t.Fatal(err)
			}
			sum += n
		}
	}
	return time.Duration(sum) * 10 * time.Millisecond
}

// BenchmarkOneChange writes one record to a locker that has many and a remote 50 ms
// away, and reports what that costs.
func BenchmarkOneChange(b *testing.B) {
	records := 1_000_000
	if text := os.Getenv("LOCKER_BENCH_RECORDS"); text != "" {
		var err error
		if records, err = strconv.Atoi(text); err != nil {
			b.Fatal(err)
		}
	}
	cloud := newBucket(b, 50*time.Millisecond)
	d := newDevice(b, "home")
	d.run("init", "--remote", cloud.spec(), "--phrase-out", filepath.Join(b.TempDir(), "phrase"))
	p := d.daemon()
	d.fill(records)
	d.run("sync")
	time.Sleep(3 * time.Second)
	var took, spent time.Duration
	var up int64
	requests := map[string]int{}
	n := 0
	for b.Loop() {
		n++
		cloud.counted()
		before := cpu(b, p.cmd.Process.Pid)
		d.put(fmt.Sprint("n", n), "changed")
		start := time.Now()
		sent := map[string]int{}
		for sent["PUT"] == 0 {
			time.Sleep(time.Millisecond)
			r, bytes, _ := cloud.counted()
			up += bytes
			for method, n := range r {
				sent[method] += n
				requests[method] += n
			}
		}
		took += time.Since(start)
		time.Sleep(time.Second)
		spent += cpu(b, p.cmd.Process.Pid) - before
		r, _, _ := cloud.counted()
		b.Logf("then %v", r)
	}
	for method, count := range requests {
		b.ReportMetric(float64(count)/float64(n), method+"/change")
	}
	b.ReportMetric(float64(up)/float64(n), "B-up/change")
	b.ReportMetric(float64(spent.Milliseconds())/float64(n), "cpu-ms/change")
	b.ReportMetric(float64(took.Milliseconds())/float64(n), "ms/change")
}

// BenchmarkNews is how long a change on one device takes to be seen on another, both
// awake and 50 ms from the remote, with the requests of both.
func BenchmarkNews(b *testing.B) {
	cloud := newBucket(b, 50*time.Millisecond)
	phrase := filepath.Join(b.TempDir(), "phrase")
	laptop := newDevice(b, "laptop")
	laptop.run("init", "--remote", cloud.spec(), "--phrase-out", phrase)
	laptop.daemon()
	laptop.put("first", "x")
	laptop.run("sync")
	phone := newDevice(b, "phone")
	phone.run("restore", "--remote", cloud.spec(), "--phrase-file", phrase)
	phone.daemon()
	laptop.run("sync", "--full")
	time.Sleep(2 * time.Second)
	var took []time.Duration
	cloud.counted()
	began := time.Now()
	for b.Loop() {
		id := fmt.Sprint("n", len(took))
		start := time.Now()
		laptop.put(id, "news")
		for {
			if _, _, code := phone.try("get", "notes", id); code == 0 {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
		took = append(took, time.Since(start))
		time.Sleep(7*time.Second + time.Duration(len(took)%7)*110*time.Millisecond)
	}
	r, _, _ := cloud.counted()
	slices.Sort(took)
	b.ReportMetric(took[len(took)/2].Seconds(), "s-median")
	b.ReportMetric(took[len(took)-1].Seconds(), "s-most")
	b.ReportMetric(float64(total(r))/time.Since(began).Minutes(), "requests/minute")
	b.Logf("%v in %v: %v", r, time.Since(began), took)
}

// TestLive: a change costs one put and no listing, and another device that is awake
// has it within a few looks.
func TestLive(t *testing.T) {
	cloud := newBucket(t, 20*time.Millisecond)
	phrase := filepath.Join(t.TempDir(), "phrase")
	laptop := newDevice(t, "laptop")
	laptop.run("init", "--remote", cloud.spec(), "--phrase-out", phrase)
	laptop.daemon()
	laptop.put("first", "x")
	laptop.run("sync")
	phone := newDevice(t, "phone")
	phone.run("restore", "--remote", cloud.spec(), "--phrase-file", phrase)
	phone.daemon()
	phone.run("status")
	laptop.run("sync", "--full")
	time.Sleep(2 * time.Second)
	cloud.counted()
	laptop.put("news", "x")
	start := time.Now()
	eventually(t, "seen on the other device", 20*time.Second, func() bool {
		_, _, code := phone.try("get", "notes", "news")
		return code == 0
	})
	took := time.Since(start)
	requests, up, _ := cloud.counted()
	t.Logf("seen after %v: %v, %d bytes up", took, requests, up)
	if requests["PUT"] != 1 || requests["LIST"] != 0 || requests["DELETE"] != 0 || up > 4096 {
		t.Errorf("a change cost %v and %d bytes up", requests, up)
	}
	if looks := requests["HEAD"] + requests["GET"]; looks > 8+int(8*took/time.Second) {
		t.Errorf("%d requests to look for it in %v", looks, took)
	}
}

// TestRestoreUse: a locker can be used while it is restored, the newest data is there
// first, status tells how far it is, and a restore that was killed is completed by the
// daemon.
func TestRestoreUse(t *testing.T) {
	remote, phrase := "dir:"+t.TempDir(), filepath.Join(t.TempDir(), "phrase")
	laptop := newDevice(t, "laptop")
	laptop.run("init", "--remote", remote, "--phrase-out", phrase)
	laptop.daemon()
	const parts = 20
	for i := range parts {
		laptop.put(fmt.Sprint("part", i), "x")
		laptop.run("sync")
	}
	phone := newDevice(t, "phone")
	phone.run("restore", "--remote", remote, "--phrase-file", phrase, "--no-wait")
	s := phone.status()
	if s.Restoring == nil || s.Restoring.Objects == 0 || s.Restoring.Objects >= s.Restoring.Of || s.Restoring.Expected["notes"] == 0 {
		t.Fatalf("restoring: %+v", s.Restoring)
	}
	if out := phone.run("status"); !strings.Contains(out, "of about") || !strings.Contains(out, "the newest first") {
		t.Errorf("status:\n%s", out)
	}
	phone.run("get", "notes", fmt.Sprint("part", parts-1))
	if _, _, code := phone.try("get", "notes", "part0"); code == 0 {
		t.Error("the oldest is here with the newest")
	}
	phone.put("mine", "written meanwhile")
	if _, errs, code := phone.try("device", "remove", laptop.status().Device, "--yes"); code == 0 {
		t.Errorf("a device that knows half removes another: %s", errs)
	}
	phone.daemon()
	eventually(t, "complete", 20*time.Second, func() bool {
		s := phone.status()
		return s.Restoring == nil && s.Records == parts+1
	})
	phone.well()
	eventually(t, "sent", 20*time.Second, func() bool {
		laptop.run("sync", "--full")
		return laptop.status().StateHash == phone.status().StateHash
	})
	tablet := newDevice(t, "tablet")
	tablet.run("restore", "--remote", remote, "--phrase-file", phrase, "--no-wait")
	tablet.run("restore", "--remote", remote, "--phrase-file", phrase) // goes on
	if s := tablet.well(); s.Restoring != nil || s.StateHash != laptop.status().StateHash {
		t.Errorf("restored: %+v", s)
	}
}

// BenchmarkFirstQuery restores lockers of ever more records from a remote 50 ms away,
// up to LOCKER_BENCH_RECORDS, and asks meanwhile until a record is there.
func BenchmarkFirstQuery(b *testing.B) {
	most := 100_000
	if text := os.Getenv("LOCKER_BENCH_RECORDS"); text != "" {
		var err error
		if most, err = strconv.Atoi(text); err != nil {
			b.Fatal(err)
		}
	}
	for n := 10_000; n <= most; n *= 10 {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			cloud, phrase := newBucket(b, 50*time.Millisecond), filepath.Join(b.TempDir(), "phrase")
			laptop := newDevice(b, "laptop")
			laptop.run("init", "--remote", cloud.spec(), "--phrase-out", phrase)
			laptop.daemon()
			laptop.fill(n)
			laptop.run("sync")
			var first, whole time.Duration
			rounds := 0
			for b.Loop() {
				rounds++
				phone := newDevice(b, "phone")
				restore := phone.command("restore", "--remote", cloud.spec(), "--phrase-file", phrase)
				start := time.Now()
				if err := restore.Start(); err != nil {
					b.Fatal(err)
				}
				for {
					if out, _, _ := phone.try("query", "notes", "--limit", "1"); strings.Contains(out, "message number") {
						break
					}
					time.Sleep(20 * time.Millisecond)
				}
				first += time.Since(start)
				if err := restore.Wait(); err != nil {
					b.Fatal(err)
				}
				whole += time.Since(start)
			}
			b.ReportMetric(first.Seconds()/float64(rounds), "s-first-query")
			b.ReportMetric(whole.Seconds()/float64(rounds), "s-restored")
		})
	}
}
