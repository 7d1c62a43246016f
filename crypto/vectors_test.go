package crypto

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

var (
	updateVectors = flag.Bool("update-vectors", false, "make the files of testdata/format anew")
	newVectors    = flag.Bool("add-vectors", false, "make those files of testdata/format that are not there")
)

const vectorDir = "../testdata/format"

// vectorKeys is keys.json: the locker that all vectors are of.
type vectorKeys struct {
	Comment string            `json:"comment"`
	Phrase  string            `json:"phrase"`
	Derived map[string]string `json:"derived"`
	Names   map[string]string `json:"names"`
	Device  json.RawMessage   `json:"device"` // the reader's device file
	Setup   []string          `json:"setup"`  // vectors that the reader has absorbed
}

// A vector is one file: lines of "key: value", a blank line, and the object.
type vector struct {
	Comment string
	Expect  string // "ok", "bad", "not yet", "newer"
	Why     string // part of the error
	Ref     Ref
	ID      string // if ok
	Log     string
	SHA256  string // of the frames
	Object  []byte
}

func (v *vector) encode() []byte {
	var b bytes.Buffer
	line := func(key, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%s: %s\n", key, value)
		}
	}
	line("comment", v.Comment)
	line("expect", v.Expect)
	line("why", v.Why)
	line("ref", strings.TrimSpace(fmt.Sprintf("%s %s %d %s", v.Ref.Kind, v.Ref.Writer, v.Ref.Number, v.Ref.To)))
	line("id", v.ID)
	line("log", v.Log)
	line("sha256", v.SHA256)
	b.WriteString("\n")
	b.Write(v.Object)
	return b.Bytes()
}

func decodeVector(data []byte) (*vector, error) {
	v := new(vector)
	for {
		line, rest, ok := bytes.Cut(data, []byte("\n"))
		if !ok {
			return nil, errors.New("no blank line before the object")
		}
		data = rest
		if len(line) == 0 {
			v.Object = data
			return v, nil
		}
		key, value, ok := strings.Cut(string(line), ": ")
		if !ok {
			return nil, fmt.Errorf("%q is no line of a header", line)
		}
		switch key {
		case "comment":
			v.Comment = value
		case "expect":
			v.Expect = value
		case "why":
			v.Why = value
		case "id":
			v.ID = value
		case "log":
			v.Log = value
		case "sha256":
			v.SHA256 = value
		case "ref":
			words := append(strings.Fields(value), "")
			if len(words) < 4 {
				return nil, fmt.Errorf("ref %q", value)
			}
			n, err := strconv.ParseUint(words[2], 10, 64)
			if err != nil {
				return nil, err
			}
			v.Ref = Ref{words[0], words[1], n, words[3]}
		default:
			return nil, fmt.Errorf("unknown key %q", key)
		}
	}
}

// take opens a vector's object and, if it is one for the keyring, absorbs it.
func (v *vector) take(k *Keyring) (log, frames []byte, id string, err error) {
	log, frames, id, err = k.Open(v.Ref, v.Object)
	if err != nil || v.Ref.Kind != "door" && v.Ref.Kind != "member" && v.Ref.Kind != "epoch" {
		return log, frames, id, err
	}
	d, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(1<<24))
	if err != nil {
		return nil, nil, "", err
	}
	defer d.Close()
	payload, err := d.DecodeAll(frames, nil)
	if err != nil {
		return nil, nil, "", err
	}
	_, err = k.Absorb(v.Ref, id, log, payload)
	return log, frames, id, err
}

func readVector(t testing.TB, name string) *vector {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(vectorDir, name))
	if err != nil {
		t.Fatal(err)
	}
	v, err := decodeVector(data)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return v
}

// reader is the keyring with which vectors are read.
func (keys *vectorKeys) reader(t testing.TB) *Keyring {
	t.Helper()
	k, err := Load(keys.Device)
	if err != nil {
		t.Fatal(err)
	}
	seed, err := ParsePhrase(keys.Phrase)
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Hold(seed); err != nil {
		t.Fatal(err)
	}
	for _, name := range keys.Setup {
		if _, _, _, err := readVector(t, name).take(k); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	return k
}

func readKeys(t testing.TB) *vectorKeys {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(vectorDir, "keys.json"))
	if err != nil {
		t.Fatal(err)
	}
	var keys vectorKeys
	if err := json.Unmarshal(data, &keys); err != nil {
		t.Fatal(err)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, keys.Device); err != nil {
		t.Fatal(err)
	}
	keys.Device = compact.Bytes()
	return &keys
}

// TestVectors reads every file of testdata/format.
func TestVectors(t *testing.T) {
	if *updateVectors {
		makeVectors(t)
	}
	if *newVectors {
		addVectors(t)
	}
	keys := readKeys(t)
	files, err := os.ReadDir(vectorDir)
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for _, f := range files {
		if f.Name() == "keys.json" || f.Name() == "README.md" {
			continue
		}
		v := readVector(t, f.Name())
		count[v.Expect]++
		t.Run(f.Name(), func(t *testing.T) { testVector(t, keys.reader(t), v) })
	}
	if count["ok"] < 10 || count["bad"] < 40 || count["not yet"] < 3 || count["newer"] < 1 {
		t.Errorf("there are too few vectors: %v", count)
	}
}

func testVector(t *testing.T, k *Keyring, v *vector) {
	log, frames, id, err := v.take(k)
	got := "ok"
	switch {
	case isNewer(err):
		got = "newer"
	case isNotYet(err):
		got = "not yet"
	case err != nil:
		got = "bad"
	}
	if got != v.Expect {
		t.Fatalf("%s: it is %q, expected %q (%v)", v.Comment, got, v.Expect, err)
	}
	if err != nil {
		if !strings.Contains(err.Error(), v.Why) || v.Why == "" {
			t.Errorf("%s: the error is %q, expected %q in it", v.Comment, err, v.Why)
		}
		return
	}
	sum := sha256.Sum256(frames)
	if id != v.ID || string(log) != v.Log || hex.EncodeToString(sum[:]) != v.SHA256 {
		t.Errorf("id %s, log %s, frames %x", id, log, sum)
	}
}

// TestFinderVector reads the object by which a new phrase finds the locker.
func TestFinderVector(t *testing.T) {
	v, keys := readVector(t, "notyet-phrase"), readKeys(t)
	seed := testSeed(newPhraseSeed)
	if name := "k/" + v.Ref.To; name != FinderName(seed) {
		t.Errorf("the object is at %s, the phrase looks for %s", name, FinderName(seed))
	}
	k, err := RecoverReplaced(seed, v.Object, "fresh")
	if err != nil {
		t.Fatal(err)
	}
	if derived := derivedValues(k, seed); k.Locker() != keys.Derived["locker"] || derived["name_key"] != keys.Derived["name_key"] || derived["root"] != keys.Derived["root"] {
		t.Errorf("it leads to %v", derived)
	}
	if accepted := k.AcceptedPhrases(); len(accepted) != 1 || accepted[0] != phraseID(phraseKeysFrom(seed).root.Public().(ed25519.PublicKey)) {
		t.Errorf("it accepts %v", accepted)
	}
}

// derivedValues are what an implementation can check its derivations against.
func derivedValues(k *Keyring, seed Seed) map[string]string {
	return map[string]string{
		"locker":            k.Locker(),
		"name_key":          hex.EncodeToString(k.nameKey),
		"blob_key":          hex.EncodeToString(k.BlobKey()),
		"root":              hex.EncodeToString(k.root),
		"recovery_identity": seed.Identity(),
		"door_identity":     k.door.String(),
		"device":            k.Device(),
		"device_identity":   k.identity.String(),
	}
}

func vectorNames(k *Keyring) map[string]string {
	names := map[string]string{}
	for _, r := range []Ref{
		{"door", "phrase", 0, ""}, {"door", "phrase", 1, ""}, {"member", k.Device(), 0, ""}, {"epoch", k.Device(), 1, "phrase"},
		{"epoch", k.Device(), 1, k.Device()}, {"mark", k.Device(), 16, ""}, {"entry", k.Device(), 300, ""},
		{"run", k.Device(), 1, ""}, {"base", k.Device(), 1, ""}, {"pack", k.Device(), 1 << 40, ""},
	} {
		names[strings.TrimSpace(fmt.Sprintf("%s %s %d %s", r.Kind, r.Writer, r.Number, r.To))] = k.Name(r)
	}
	return names
}

// TestDerivedKeys checks what is derived from the phrase against keys.json.
func TestDerivedKeys(t *testing.T) {
	keys := readKeys(t)
	k := keys.reader(t)
	seed, err := ParsePhrase(keys.Phrase)
	if err != nil {
		t.Fatal(err)
	}
	compare := func(got, want map[string]string) {
		t.Helper()
		if len(want) < 8 {
			t.Errorf("keys.json has only %d values", len(want))
		}
		for name := range got {
			if got[name] != want[name] {
				t.Errorf("%s is %q, want %q", name, got[name], want[name])
			}
		}
	}
	compare(derivedValues(k, seed), keys.Derived)
	compare(vectorNames(k), keys.Names)
}

// mutate returns a copy of b with one byte changed.
func mutate(b []byte, at int) []byte {
	b = slices.Clone(b)
	b[at] ^= 1
	return b
}
