package replica_test

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/locker-project/locker/crypto"
	"github.com/locker-project/locker/daemon/remote"
	"github.com/locker-project/locker/daemon/replica"
	"github.com/locker-project/locker/daemon/store"
)

// TestLargeBlob sends and fetches one blob of LOCKER_LARGE bytes, each in a process of
// its own that is killed now and then and goes on: in less than 100 MB of memory, with
// no second copy of it on the disk, and without sending it twice. `make large` runs it
// with 5 GB.
func TestLargeBlob(t *testing.T) {
	if os.Getenv("LOCKER_LARGE_CHILD") != "" {
		largeChild(t)
		return
	}
	size, err := strconv.ParseInt(os.Getenv("LOCKER_LARGE"), 10, 64)
	if err != nil {
		t.Skip("LOCKER_LARGE says of how many bytes: run 'make large'")
	}
	dir := t.TempDir()
	for _, what := range []string{"put", "send", "fetch"} {
		start, kills := time.Now(), 0
		for wait := 5 * time.Second; ; wait *= 3 {
			out, killed := runLarge(t, dir, what, size, wait)
			if killed && what != "put" {
				kills++
				continue
			}
			peak := regexp.MustCompile(`VmHWM:\s*(\d+) kB`).FindStringSubmatch(out)
			if peak == nil {
				t.Fatalf("%s: %s", what, out)
			}
			kilobytes, err := strconv.Atoi(peak[1])
			if err != nil || kilobytes > 100_000_000/1024 {
				t.Errorf("%s: %d kB of memory, %v", what, kilobytes, err)
			}
			t.Logf("%s: %d MB at most, %v, killed %d times", what, kilobytes/1024, time.Since(start).Round(time.Second), kills)
			break
		}
	}
	for folder, most := range map[string]int64{"sealed": 100 << 20, "remote": size + size/20 + 200<<20, "phone": size + size/20 + 200<<20} {
		if got := treeSize(t, filepath.Join(dir, folder)); got > most {
			t.Errorf("%s has %d bytes, want at most %d", folder, got, most)
		} else {
			t.Logf("%s: %d MB", folder, got>>20)
		}
	}
}

// runLarge runs a child. It is killed after a while.
func runLarge(t *testing.T, dir, what string, size int64, after time.Duration) (out string, killed bool) {
	t.Helper()
	if what == "put" {
		after = time.Hour
	}
	ctx, cancel := context.WithTimeout(context.Background(), after)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestLargeBlob$", "-test.v", "-test.timeout=2h")
	cmd.Env = append(os.Environ(), "LOCKER_LARGE_CHILD="+what, "LOCKER_LARGE_DIR="+dir, fmt.Sprint("LOCKER_LARGE=", size))
	b, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return string(b), true
	}
	if err != nil {
		t.Fatalf("%s: %v: %s", what, err, b)
	}
	return string(b), false
}

func treeSize(t *testing.T, dir string) (sum int64) {
	t.Helper()
	err := filepath.Walk(dir, func(_ string, info os.FileInfo, err error) error {
		if err == nil && !info.IsDir() {
			sum += info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

// largeChild is one of the processes, with the store's memory that the daemon gives it.
func largeChild(t *testing.T) {
	dir := os.Getenv("LOCKER_LARGE_DIR")
	size, err := strconv.ParseInt(os.Getenv("LOCKER_LARGE"), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	fetch := os.Getenv("LOCKER_LARGE_CHILD") == "fetch"
	device := map[bool]string{false: "laptop", true: "phone"}[fetch]
	seed, keys := largeKeys(t, dir, device)
	s, err := store.Open(filepath.Join(dir, device), store.Options{Device: keys.Device(), BlobKey: keys.BlobKey(), Cache: 8 << 20, MemTable: 4 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if os.Getenv("LOCKER_LARGE_CHILD") == "put" {
		id, _, err := s.PutBlob(t.Context(), io.LimitReader(rand.NewChaCha8([32]byte{5}), size))
		if err != nil {
			t.Fatal(err)
		}
		writeLarge(t, filepath.Join(dir, "id"), id)
		report(t)
		return
	}
	folder := filepath.Join(dir, "remote")
	if err := remote.PrepareFolder(folder); err != nil {
		t.Fatal(err)
	}
	there, err := remote.Folder(folder)
	if err != nil {
		t.Fatal(err)
	}
	r, err := replica.New(t.Context(), replica.Config{
		Sealer: keys, State: s, Objects: filepath.Join(dir, map[bool]string{false: "sealed", true: "sealed-phone"}[fetch]),
		Remotes: []replica.Named{{Name: "folder", Remote: there}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if fetch {
		if err := keys.Hold(seed); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Restore(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		id, err := os.ReadFile(filepath.Join(dir, "id"))
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Blob(t.Context(), string(id)); err != nil {
			t.Fatal(err)
		}
		report(t)
		return
	}
	if err := r.Found(t.Context()); err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := r.Sync(t.Context(), replica.SyncOptions{}); err != nil {
			t.Fatal(err)
		}
		st, err := r.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if st.Remotes[0].Unsent+st.Blobs.Unsent == 0 {
			break
		}
	}
	report(t)
}

// report prints the most memory that this process had.
func report(t *testing.T) {
	t.Helper()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Skip("this system does not say how much memory a process had")
	}
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(line, "VmHWM") {
			fmt.Print(line)
		}
	}
}

// largeKeys are a device's keys, which its processes share.
func largeKeys(t *testing.T, dir, device string) (crypto.Seed, *crypto.Keyring) {
	t.Helper()
	var seed crypto.Seed
	name := filepath.Join(dir, "seed")
	if b, err := os.ReadFile(name); err == nil {
		if _, err := hex.Decode(seed[:], b); err != nil {
			t.Fatal(err)
		}
	} else {
		seed = crypto.NewSeed()
		writeLarge(t, name, hex.EncodeToString(seed[:]))
	}
	file := filepath.Join(dir, device+".keys")
	if b, err := os.ReadFile(file); err == nil {
		keys, err := crypto.Load(b)
		if err == nil {
			err = keys.Hold(seed)
		}
		if err != nil {
			t.Fatal(err)
		}
		return seed, keys
	}
	keys, err := crypto.Found(seed, device)
	if device == "phone" {
		keys, err = crypto.Recover(seed, device)
	}
	if err != nil {
		t.Fatal(err)
	}
	writeLarge(t, file, string(keys.Secret()))
	return seed, keys
}

func writeLarge(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
