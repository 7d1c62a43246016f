package store

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/locker-project/locker/plugins/locker"
)

// seed returns the seed of a random test, which is printed: LOCKER_SEED repeats one.
func seed(t testing.TB) uint64 {
	t.Helper()
	n := rand.Uint64()
	if text := os.Getenv("LOCKER_SEED"); text != "" {
		var err error
		if n, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("LOCKER_SEED=%d", n)
	return n
}

// dump is all that a store holds of records, whatever cannot be seen included, but
// not in which order things came.
func dump(t testing.TB, s *Store) string {
	t.Helper()
	var (
		b strings.Builder
		r row
	)
	byID := map[string]string{}
	err := scan(s.db, []byte{spaceRecords}, func(key, val []byte) error {
		collection, place, id, err := splitRecordKey(key)
		if err != nil {
			return err
		}
		if err := r.read(val); err != nil {
			return err
		}
		rec := r.record()
		var one strings.Builder
		fmt.Fprintf(&one, "%x", place)
		if rec.deleted {
			fmt.Fprintf(&one, " deleted %d %d %s", rec.tomb.class, rec.tomb.clock, s.names.text(rec.tomb.device))
		}
		for _, v := range rec.values {
			fmt.Fprintf(&one, " %q=%q %d %d %s %s %s", v.name, v.data, v.at.class, v.at.clock, s.names.text(v.at.device), s.names.text(v.at.imp), s.names.text(v.at.lift))
		}
		byID[s.names.text(collection)+" "+string(id)] = one.String()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range sortedKeys(byID) {
		fmt.Fprintf(&b, "%s: %s\n", k, byID[k])
	}
	return b.String()
}

// randomLine is a change line in a world so small that everything collides.
func randomLine(r *rand.Rand) string {
	pick := func(from ...string) string { return from[r.IntN(len(from))] }
	clock := uint64(r.IntN(6))<<16 | uint64(r.IntN(2))
	head := func(collection, id string) string {
		return fmt.Sprintf(`{"collection":%q,"id":%q`, collection, id)
	}
	tail := fmt.Sprintf(`,"class":%q,"clock":"%016x","device":%q`, pick("owner", "source", "source"), clock, pick("a", "b"))
	if r.IntN(8) == 0 {
		state := pick("done", "undone", "undone")
		return head("_imports", pick("i", "j")) + tail + fmt.Sprintf(`,"fields":{"state":%q}}`, state)
	}
	b := head(pick("notes", "posts"), pick("1", "2"))
	if r.IntN(2) == 0 {
		b += fmt.Sprintf(`,"time":"2026-01-0%dT00:00:00%s"`, 1+r.IntN(3), pick("Z", "+01:00"))
	}
	if r.IntN(3) == 0 {
		b += fmt.Sprintf(`,"source":%q`, pick("s", "t"))
	}
	if r.IntN(2) == 0 {
		b += fmt.Sprintf(`,"import":%q`, pick("i", "j"))
	}
	b += tail
	if r.IntN(6) == 0 {
		return b + `,"deleted":true}`
	}
	return b + fmt.Sprintf(`,"fields":{%q:%s}}`, pick("x", "y"), pick("1", "2", `"one"`, "null", "[1]"))
}

// Equal sets of lines give equal states: in any order, in any portions, repeated.
func TestJoinIsAJoin(t *testing.T) {
	r := rand.New(rand.NewPCG(seed(t), 1))
	for round := range 150 {
		lines := make([]string, 1+r.IntN(40))
		for i := range lines {
			lines[i] = randomLine(r)
		}
		var want, wantHash string
		for variant := range 4 {
			s := testStore(t, "me", func(o *Options) { o.bulk = 300 << r.IntN(6) })
			order := append([]string(nil), lines...)
			if variant > 0 {
				for range r.IntN(20) {
					order = append(order, lines[r.IntN(len(lines))])
				}
				r.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
			}
			joinInPortions(t, r, s, order)
			if err := s.Check(t.Context()); err != nil {
				t.Fatalf("round %d: %v\n%s", round, err, strings.Join(order, "\n"))
			}
			got, hash := dump(t, s), s.StateHash()
			if variant == 0 {
				want, wantHash = got, hash
			}
			if got != want || hash != wantHash {
				t.Fatalf("round %d, variant %d: another state\n%s\ninstead of\n%s\nafter\n%s", round, variant, got, want, strings.Join(order, "\n"))
			}
		}
	}
}

func joinInPortions(t *testing.T, r *rand.Rand, s *Store, lines []string) {
	t.Helper()
	for len(lines) > 0 {
		n := 1 + r.IntN(len(lines))
		if _, _, err := s.Join(t.Context(), []byte(strings.Join(lines[:n], "\n")+"\n"), nil); err != nil {
			t.Fatal(err)
		}
		lines = lines[n:]
	}
}

// A world of devices that write, delete, import, undo and exchange what they cut,
// in random order, ends up in one state.
func TestDevicesConverge(t *testing.T) {
	r := rand.New(rand.NewPCG(seed(t), 2))
	for range 12 {
		w := newWorld(t, r, 3)
		for range 150 {
			w.step()
		}
		w.settle()
		for _, d := range w.devices[1:] {
			if got, want := dump(t, d.s), dump(t, w.devices[0].s); got != want {
				t.Fatalf("%s has\n%s\nand %s\n%s", d.name, got, w.devices[0].name, want)
			}
			if d.s.StateHash() != w.devices[0].s.StateHash() {
				t.Fatal("equal states have different hashes")
			}
		}
		for _, d := range w.devices {
			if err := d.s.Check(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
}

type world struct {
	t       *testing.T
	r       *rand.Rand
	devices []*worldDevice
	now     time.Time
	imports []string
}

type worldDevice struct {
	name string
	s    *Store
	pos  []byte
	log  [][]byte       // what it cut
	seen map[string]int // how many of the others' it joined
	skew time.Duration
}

func newWorld(t *testing.T, r *rand.Rand, n int) *world {
	w := &world{t: t, r: r, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	for i := range n {
		d := &worldDevice{name: fmt.Sprintf("device%d", i), seen: map[string]int{}, skew: time.Duration(r.IntN(40)) * time.Minute}
		d.s = testStore(t, d.name, func(o *Options) { o.Clock = func() time.Time { return w.now.Add(d.skew) } })
		w.devices = append(w.devices, d)
	}
	return w
}

func (w *world) step() {
	w.now = w.now.Add(time.Duration(w.r.IntN(100)) * time.Second)
	d := w.devices[w.r.IntN(len(w.devices))]
	switch n := w.r.IntN(20); {
	case n < 10:
		w.write(d)
	case n < 12:
		if _, err := d.s.Delete(w.t.Context(), w.author(), "notes", fmt.Sprint(w.r.IntN(5))); err != nil {
			w.t.Fatal(err)
		}
	case n == 12 && len(w.imports) > 0:
		if _, _, err := d.s.Undo(w.t.Context(), w.imports[w.r.IntN(len(w.imports))]); err != nil && !isNotFound(err) {
			w.t.Fatal(err)
		}
	case n < 16:
		w.cut(d, 1+w.r.IntN(2000))
	default:
		w.exchange(d, w.devices[w.r.IntN(len(w.devices))])
	}
}

func (w *world) author() Author {
	switch w.r.IntN(3) {
	case 0:
		return Author{Class: Owner}
	case 1:
		return Author{Class: Source, Source: "c"}
	}
	if len(w.imports) == 0 || w.r.IntN(6) == 0 {
		id := fmt.Sprintf("import%d", len(w.imports))
		w.imports = append(w.imports, id)
		d := w.devices[w.r.IntN(len(w.devices))]
		rec := note(id, `{"state":"running"}`)
		rec.Collection = importsCollection
		if _, err := d.s.Write(w.t.Context(), Author{Class: Owner, System: true}, rec); err != nil {
			w.t.Fatal(err)
		}
	}
	return Author{Class: Source, Source: "c", Import: w.imports[w.r.IntN(len(w.imports))]}
}

func (w *world) write(d *worldDevice) {
	var records []locker.Record
	for range 1 + w.r.IntN(3) {
		rec := note(fmt.Sprint(w.r.IntN(5)), fmt.Sprintf(`{"x":%d,"y":%d}`, w.r.IntN(3), w.r.IntN(3)))
		if w.r.IntN(4) == 0 {
			rec.Fields = []byte(`{"y":null,"z":"<é\u00e9>"}`)
		}
		if w.r.IntN(2) == 0 {
			rec = at(rec, w.r.IntN(5))
		}
		records = append(records, rec)
	}
	a := w.author()
	want, err := d.s.Compare(w.t.Context(), a, records...)
	if errors.Is(err, ErrBanned) {
		return
	}
	if err != nil {
		w.t.Fatal(err)
	}
	got, err := d.s.Write(w.t.Context(), a, records...)
	if err != nil {
		w.t.Fatal(err)
	}
	if got != want {
		w.t.Fatalf("Write counted %+v where Compare said %+v", got, want)
	}
	if again, err := d.s.Write(w.t.Context(), a, records...); err != nil || len(records) == 1 && again.Same+again.Banned != 1 {
		w.t.Fatalf("writing again: %+v, %v", again, err)
	}
}

func (w *world) cut(d *worldDevice, max int) bool {
	lines, next, _, err := d.s.Cut(w.t.Context(), d.pos, max)
	if err != nil {
		w.t.Fatal(err)
	}
	d.pos = next
	if len(lines) > 0 {
		d.log = append(d.log, bytes.Clone(lines))
	}
	return len(lines) > 0
}

func (w *world) exchange(to, from *worldDevice) {
	if n := to.seen[from.name]; to != from && n < len(from.log) {
		if _, _, err := to.s.Join(w.t.Context(), from.log[n], nil); err != nil {
			w.t.Fatal(err)
		}
		to.seen[from.name]++
	}
}

// settle hands out all that there is. It fails where devices go on for ever.
func (w *world) settle() {
	for round := range 20 {
		moved := false
		for _, d := range w.devices {
			for w.cut(d, 500) {
				moved = true
			}
		}
		for _, to := range w.devices {
			for _, from := range w.devices {
				for to != from && to.seen[from.name] < len(from.log) {
					w.exchange(to, from)
					moved = true
				}
			}
		}
		if !moved {
			return
		}
		if round > 2 {
			w.t.Fatal("devices keep on handing out what was handed out")
		}
	}
}
