package replica_test

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/locker-project/locker/crypto"
	"github.com/locker-project/locker/daemon/replica"
	"github.com/locker-project/locker/daemon/store"
)

// A peer keeps a folder of files on a remote folder.
type peer struct {
	name    string
	program string
	init    []string // arguments that make the repository, not measured
	save    []string
	restore []string // into the working folder
	env     []string
}

// peers are other people's programs that do something like it. What is installed of
// them is compared with.
func peers(data, dir string) []peer {
	repo := filepath.Join(dir, "repo")
	conf := filepath.Join(dir, "rclone.conf")
	return []peer{
		{"restic", "restic", []string{"-q", "-r", repo, "init"}, []string{"-q", "-r", repo, "backup", data}, []string{"-q", "-r", repo, "restore", "latest", "--target", "."}, []string{"RESTIC_PASSWORD=bench", "RESTIC_CACHE_DIR=" + filepath.Join(dir, "cache")}},
		{"borg, zstd", "borg", []string{"init", "-e", "repokey", repo}, []string{"create", "-C", "zstd,1", repo + "::{now:%Y%m%d%H%M%S%f}", data}, nil, []string{"BORG_PASSPHRASE=bench", "BORG_BASE_DIR=" + dir, "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes"}},
		{"rclone crypt", "rclone", []string{"--config", conf, "config", "create", "crypt", "crypt", "remote=" + repo, "password=bench-bench-bench", "--obscure"}, []string{"--config", conf, "sync", data, "crypt:"}, []string{"--config", conf, "copy", "crypt:", "."}, nil},
	}
}

// A cost is what one step took.
type cost struct{ wall, cpu time.Duration }

func (c cost) String() string {
	if c.wall == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f s (%.2f)", c.wall.Seconds(), c.cpu.Seconds())
}

// run runs a peer's program.
func (p peer) run(b *testing.B, in string, args []string) cost {
	b.Helper()
	if args == nil {
		return cost{}
	}
	cmd := exec.Command(p.program, args...)
	cmd.Dir, cmd.Env = in, append(os.Environ(), p.env...)
	start := time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("%s: %v\n%s", p.name, err, out)
	}
	return cost{time.Since(start), cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()}
}

// BenchmarkPeers saves records and pictures to a folder for the first time, saves one
// more record, saves nothing, and restores, and compares with other people's programs
// that are installed. The table has seconds of wall and, in brackets, of CPU.
func BenchmarkPeers(b *testing.B) {
	records, pictures := benchRecords(b), benchPictures(b)
	for range b.N {
		b.StopTimer()
		ours, seed := b.TempDir(), crypto.NewSeed()
		d := benchDevice(b, seed, ours, records)
		d.addPictures(b, pictures)
		data := filepath.Join(b.TempDir(), "data")
		if err := os.Mkdir(data, 0o700); err != nil {
			b.Fatal(err)
		}
		writeLines(b, d, filepath.Join(data, "records.jsonl"))
		d.writePictures(b, data)
		b.Logf("| | first | one more record | nothing new | restore | MB stored | first: wall, CPU to ours |")
		b.Logf("| --- | --- | --- | --- | --- | --- | --- |")
		b.StartTimer()
		first := d.lockerRow(b, seed, ours)
		b.StopTimer()
		for _, p := range peers(data, b.TempDir()) {
			if _, err := exec.LookPath(p.program); err != nil {
				b.Logf("| %s | not installed | | | | | |", p.name)
				continue
			}
			dir := b.TempDir()
			for _, fresh := range peers(data, dir) {
				if fresh.name == p.name {
					p = fresh
				}
			}
			p.row(b, data, dir, first)
		}
	}
}

// row measures one peer.
func (p peer) row(b *testing.B, data, dir string, ours cost) {
	b.Helper()
	p.run(b, dir, p.init)
	first := p.run(b, dir, p.save)
	lines := filepath.Join(data, "records.jsonl")
	f, err := os.OpenFile(lines, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := fmt.Fprintf(f, "{\"collection\":\"notes\",\"id\":\"one more for %s\"}\n", p.name); err != nil {
		b.Fatal(err)
	}
	if err := f.Close(); err != nil {
		b.Fatal(err)
	}
	one := p.run(b, dir, p.save)
	none := p.run(b, dir, p.save)
	back := p.run(b, b.TempDir(), p.restore)
	b.Logf("| %s | %v | %v | %v | %v | %.0f | %.2f, %.2f |", p.name, first, one, none, back, megabytes(b, filepath.Join(dir, "repo")),
		first.wall.Seconds()/ours.wall.Seconds(), first.cpu.Seconds()/ours.cpu.Seconds())
}

// lockerRow measures the same of ours. A restore brings the records to a store that
// answers queries, and no picture.
func (w *whole) lockerRow(b *testing.B, seed crypto.Seed, folder string) cost {
	b.Helper()
	ctx := context.Background()
	measure := func(do func() error) cost {
		rest()
		start, before := time.Now(), cpuTime()
		if err := do(); err != nil {
			b.Fatal(err)
		}
		return cost{time.Since(start), cpuTime() - before}
	}
	sync := func(o replica.SyncOptions) func() error {
		return func() error {
			_, err := w.Sync(ctx, o)
			return err
		}
	}
	first := measure(sync(replica.SyncOptions{}))
	if _, err := w.store.Write(ctx, store.Author{Class: store.Owner}, record("notes", "one more", "x")); err != nil {
		b.Fatal(err)
	}
	one := measure(sync(replica.SyncOptions{Hold: true, Push: true}))
	none := measure(sync(replica.SyncOptions{Hold: true}))
	keys, err := crypto.Recover(seed, "phone")
	phone := newWhole(b, keys, err, folder)
	back := measure(func() error {
		_, err := phone.Restore(ctx, nil)
		return err
	})
	if x, y := w.store.StateHash(), phone.store.StateHash(); x != y {
		b.Fatalf("state hashes %s and %s", x, y)
	}
	b.Logf("| locker | %v | %v | %v | records alone: %v | %.0f | 1, 1 |", first, one, none, back, megabytes(b, folder))
	b.ReportMetric(first.wall.Seconds(), "s-first")
	b.ReportMetric(first.cpu.Seconds(), "cpu-s-first")
	return first
}

// writePictures writes the pictures of a device to files.
func (w *whole) writePictures(b *testing.B, dir string) {
	b.Helper()
	ids, _, err := w.store.NewBlobs(context.Background(), nil)
	if err != nil {
		b.Fatal(err)
	}
	for _, id := range ids {
		body, _, err := w.store.OpenBlob(context.Background(), id)
		if err != nil {
			b.Fatal(err)
		}
		f, err := os.Create(filepath.Join(dir, id+".jpg"))
		if err == nil {
			_, err = f.ReadFrom(body)
		}
		if err != nil {
			b.Fatal(err)
		}
		if err := f.Close(); err != nil {
			b.Fatal(err)
		}
		if err := body.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// megabytes are the bytes of the files in a folder.
func megabytes(b *testing.B, dir string) (sum float64) {
	b.Helper()
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			sum += float64(info.Size()) / 1e6
		}
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	return sum
}
