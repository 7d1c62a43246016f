package replica_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/locker-project/locker/daemon/replica"
	"github.com/locker-project/locker/daemon/store"
)

// seedOf is the seed of a random test: LOCKER_SEED, or a new one, which is printed.
func seedOf(t testing.TB) uint64 {
	seed := uint64(time.Now().UnixNano())
	if again := os.Getenv("LOCKER_SEED"); again != "" {
		var err error
		if seed, err = strconv.ParseUint(again, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("LOCKER_SEED=%d", seed)
	return seed
}

// randomLine is a change line about one of few records of a round, with one of few
// revisions, so that lines meet each other.
func randomLine(rnd *rand.Rand, round int) string {
	pick := func(of ...string) string { return of[rnd.IntN(len(of))] }
	var b strings.Builder
	collection, imp := pick("notes", "notes", "posts", "_imports"), ""
	id := fmt.Sprintf("%d-%d", round, rnd.IntN(3))
	if collection == "_imports" {
		id = fmt.Sprintf("imp-%d-%d", round, rnd.IntN(2))
	}
	fmt.Fprintf(&b, `{"collection":%q,"id":%q`, collection, id)
	if rnd.IntN(3) == 0 {
		fmt.Fprintf(&b, `,"time":%q`, pick("2026-01-02T03:04:05Z", "2026-01-02T04:04:05+01:00", "2020-02-03T04:05:06.7Z", ""))
	}
	if rnd.IntN(3) == 0 {
		fmt.Fprintf(&b, `,"source":%q`, pick("mail", "bank", ""))
	}
	if rnd.IntN(2) == 0 {
		imp = fmt.Sprintf("imp-%d-%d", round, rnd.IntN(2))
		fmt.Fprintf(&b, `,"import":%q`, imp)
	}
	if rnd.IntN(4) == 0 {
		fmt.Fprintf(&b, `,"lift":"%016x %s"`, 1<<40+rnd.IntN(2), pick("deva", "devb"))
	}
	fmt.Fprintf(&b, `,"class":%q,"clock":"%016x","device":%q`, pick("owner", "source"), 1<<40+rnd.IntN(4), pick("deva", "devb"))
	if rnd.IntN(5) == 0 {
		b.WriteString(`,"deleted":true`)
	}
	var fields []string
	for _, name := range []string{"a", "b", "state"} {
		if rnd.IntN(2) == 0 {
			fields = append(fields, fmt.Sprintf("%q:%s", name, pick("1", "2", `"undone"`, "null", `{"x":[1,"}"]}`, `"\"\u00e4,}"`)))
		}
	}
	if len(fields) > 0 {
		b.WriteString(`,"fields":{` + strings.Join(fields, ",") + "}")
	}
	b.WriteString("}\n")
	return b.String()
}

// dump is all that a store knows of records and their revisions, and its state hash.
func dump(t *testing.T, s *store.Store) string {
	t.Helper()
	var all []string
	for after, first := []byte(nil), true; first || after != nil; first = false {
		lines, next, err := s.Written(context.Background(), "", 0, 1<<62, after, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(lines)) {
			all = append(all, line)
		}
		after = next
	}
	slices.Sort(all)
	return strings.Join(slices.Compact(all), "") + s.StateHash()
}

func openStore(t *testing.T) *store.Store {
	t.Helper()
	s, err := store.Open(fastDir(t), store.Options{Device: "self", BlobKey: make([]byte, 32)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// TestJoinTells: a store that is given joined lines, of one log or of parts of it that
// were joined before, in any order and among lines of others, knows what one knows
// that is given all lines one by one.
func TestJoinTells(t *testing.T) {
	seeds := uint64(3)
	if soak() {
		seeds = 100
	}
	for seed, i := seedOf(t), uint64(0); i < seeds; i++ {
		t.Run(fmt.Sprint("seed=", seed+i), func(t *testing.T) { joinTells(t, rand.New(rand.NewPCG(seed+i, 3))) })
	}
}

func joinTells(t *testing.T, rnd *rand.Rand) {
	single, joined := openStore(t), openStore(t)
	give := func(s *store.Store, lines []byte) {
		t.Helper()
		if _, _, err := s.Join(context.Background(), lines, nil); err != nil {
			t.Fatalf("%v in\n%s", err, lines)
		}
	}
	for round := range 60 {
		var own, others [][]byte
		for range 2 + rnd.IntN(14) {
			own = append(own, []byte(randomLine(rnd, round)))
		}
		for range rnd.IntN(4) {
			others = append(others, []byte(randomLine(rnd, round)))
		}
		all := slices.Concat(own, others)
		rnd.Shuffle(len(all), func(i, k int) { all[i], all[k] = all[k], all[i] })
		for _, line := range all {
			give(single, line)
		}
		cut := rnd.IntN(len(own))
		first, err := replica.JoinLines(own[:cut]...)
		if err != nil {
			t.Fatal(err)
		}
		second, err := replica.JoinLines(own[cut:]...)
		if err != nil {
			t.Fatal(err)
		}
		both, err := replica.JoinLines(first, second)
		if err != nil {
			t.Fatal(err)
		}
		whole, err := replica.JoinLines(own...)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(both, whole) {
			t.Fatalf("joined in two parts:\n%s\njoined at once:\n%s", both, whole)
		}
		parts := append(others, whole)
		if rnd.IntN(2) == 0 {
			parts = append(others, second, first)
		}
		rnd.Shuffle(len(parts), func(i, k int) { parts[i], parts[k] = parts[k], parts[i] })
		for _, lines := range parts {
			give(joined, lines)
		}
		a, b := dump(t, single), dump(t, joined)
		for line := range strings.Lines(a) { // what they agree in is not shown
			if rest := strings.Replace(b, line, "", 1); rest != b {
				a, b = strings.Replace(a, line, "", 1), rest
			}
		}
		if a != b {
			t.Fatalf("round %d\nlines:\n%sothers:\n%sjoined:\n%sone by one:\n%s\nin runs:\n%s", round, bytes.Join(own, nil), bytes.Join(others, nil), whole, a, b)
		}
	}
}

// TestJoinKeeps: what is not known is kept, each line once and in its order, and what
// is below another value or a tombstone goes.
func TestJoinKeeps(t *testing.T) {
	head := func(rest string) string {
		return `{"collection":"notes","id":"1","class":"owner","clock":"0000000000000001","device":"deva"` + rest + "}\n"
	}
	for name, c := range map[string]struct{ in, want string }{
		"unknown kinds":    {`{"condemn":7}` + "\n" + `{"x":1}` + "\n" + `{"condemn":7}` + "\n", `{"condemn":7}` + "\n" + `{"x":1}` + "\n"},
		"unknown members":  {head(`,"later":{"a":1},"fields":{"a":1}`) + head(`,"fields":{"a":1}`), head(`,"fields":{"a":1}`) + head(`,"later":{"a":1},"fields":{"a":1}`)},
		"unknown class":    {strings.Replace(head(""), "owner", "ruler", 1), strings.Replace(head(""), "owner", "ruler", 1)},
		"nothing":          {head(""), ""},
		"below":            {head(`,"fields":{"a":1}`) + strings.Replace(head(`,"deleted":true`), "01\"", "02\"", 1), strings.Replace(head(`,"deleted":true`), "01\"", "02\"", 1)},
		"two copies":       {head(`,"fields":{"a":1}`) + head(`,"fields":{"a":2}`), head(`,"fields":{"a":1}`) + head(`,"fields":{"a":2}`)},
		"blobs":            {`{"blob":"b1","size":0,"chunks":[]}` + "\n" + `{"blob":"b1","size":0,"chunks":[]}` + "\n", `{"blob":"b1","size":0,"chunks":[]}` + "\n"},
		"lifted":           {head(`,"fields":{"a":1}`) + strings.Replace(head(`,"fields":{"a":0}`), `"owner","clock":"0000000000000001","device":"deva"`, `"source","clock":"0000000000000001","device":"deva","lift":"0000000000000009 deva"`, 1), strings.Replace(head(`,"fields":{"a":0}`), `"owner","clock":"0000000000000001","device":"deva"`, `"source","clock":"0000000000000001","device":"deva","lift":"0000000000000009 deva"`, 1)},
		"one revision":     {head(`,"fields":{"a":1}`) + head(`,"fields":{"b":"}"}`), head(`,"fields":{"a":1,"b":"}"}`)},
		"device of escape": {strings.Replace(head(`,"fields":{"a":1}`), "deva", `dev\u0061`, 1), strings.Replace(head(`,"fields":{"a":1}`), "deva", `dev\u0061`, 1)},
	} {
		got, err := replica.JoinLines([]byte(c.in))
		if err != nil || string(got) != c.want {
			t.Errorf("%s: %v\n%s\nwant\n%s", name, err, got, c.want)
		}
	}
	for _, in := range []string{"{", "1\n", `{"collection":"notes"` + "\n", `{"collection":"a","id":"1"} x` + "\n", `{"blob":"b","size":7}` + "\n", "{}"} {
		if out, err := replica.JoinLines([]byte(in)); err == nil {
			t.Errorf("%q is joined: %q", in, out)
		}
	}
}

// FuzzJoin: whatever the lines are, joining what was joined changes nothing more, and
// the order of two parts matters only to lines that are kept as they are.
func FuzzJoin(f *testing.F) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		f.Add([]byte(randomLine(rnd, 1)+randomLine(rnd, 1)), []byte(randomLine(rnd, 1)))
	}
	f.Add([]byte(`{"condemn":1}`+"\n"), []byte(`{"collection":"a","id":"b","zz":[{}]}`+"\n"))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		first, err := replica.JoinLines(a, b)
		if err != nil {
			return
		}
		again, err := replica.JoinLines(first)
		if err != nil || !bytes.Equal(first, again) {
			t.Fatalf("%v\n%q\n%q", err, first, again)
		}
		joined, err := replica.JoinLines(a)
		if err != nil {
			t.Fatal(err)
		}
		parts, err := replica.JoinLines(joined, b)
		if err != nil || !bytes.Equal(first, parts) {
			t.Fatalf("%v\n%q\n%q", err, first, parts)
		}
	})
}
