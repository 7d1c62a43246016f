package replica_test

import (
	"bytes"
	"context"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/locker-project/locker/daemon/replica"
)

// TestStockTools opens what lies in a remote as FORMAT.md says, with the age and
// zstd commands and nothing of ours but the 24 words: from the phrase the name of an
// epoch, from the epoch the key of an entry, from the entry the records.
func TestStockTools(t *testing.T) {
	w := newWorld(t)
	laptop := w.found("laptop")
	laptop.state.put("1", "a line to be found again")
	laptop.state.put("2", "and another")
	laptop.sync(replica.SyncOptions{})
	want, _, _, err := laptop.state.Cut(context.Background(), nil, 1<<20)
	if err != nil {
		t.Fatal(err)
	}

	age, _ := stockAge(t)
	dir := t.TempDir()
	file := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	open := func(identity, name string) []byte {
		t.Helper()
		object := file("object", w.cloud.Object(name))
		key := file("key", []byte(identity+"\n"))
		plain, err := exec.Command(age, "-d", "-i", key, object).Output()
		if err != nil {
			t.Fatalf("age -d: %v", err)
		}
		return unzstd(t, plain)
	}

	nameKey, err := hkdf.Key(sha256.New, w.seed[:], nil, "locker/1 name key", 32)
	if err != nil {
		t.Fatal(err)
	}
	device := laptop.keys.Device() // a reader finds it in the door
	name := func(folder, kind string, number uint64, to string) string {
		h := hmac.New(sha256.New, nameKey)
		h.Write([]byte(kind + "\x00" + device + "\x00"))
		h.Write(binary.BigEndian.AppendUint64(nil, number))
		h.Write([]byte("\x00" + to))
		return folder + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(h.Sum(nil)))
	}
	var epoch struct{ Identity string }
	if err := json.Unmarshal(open(w.seed.Identity(), name("k/", "epoch", 1, "phrase")), &epoch); err != nil {
		t.Fatal(err)
	}
	if got := open(epoch.Identity, name("d/", "entry", 1, "")); !bytes.Equal(got, want) {
		t.Errorf("the entry holds %q, want %q", got, want)
	}
}

// unzstd opens frames with the zstd command, where it is installed, and in any case
// with the Go package.
func unzstd(t *testing.T, frames []byte) []byte {
	t.Helper()
	dec, err := zstd.NewReader(bytes.NewReader(frames))
	if err != nil {
		t.Fatal(err)
	}
	defer dec.Close()
	var out bytes.Buffer
	if _, err := dec.WriteTo(&out); err != nil {
		t.Fatal(err)
	}
	if _, err := exec.LookPath("zstd"); err != nil {
		t.Log("the zstd command is not installed: opened with the Go package only")
		return out.Bytes()
	}
	cmd := exec.Command("zstd", "-q", "-d", "-c")
	cmd.Stdin = bytes.NewReader(frames)
	stock, err := cmd.Output()
	if err != nil {
		t.Fatalf("zstd -d: %v", err)
	}
	if !bytes.Equal(stock, out.Bytes()) {
		t.Error("zstd -d prints something else")
	}
	return stock
}
