package store

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/locker-project/locker/plugins/locker"
)

func ban(t testing.TB, s *Store, ids ...string) Purged {
	t.Helper()
	p, err := s.Ban(t.Context(), "notes", ids...)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func lift(t testing.TB, s *Store, ids ...string) {
	t.Helper()
	if n, err := s.Lift(t.Context(), "notes", ids...); err != nil || n != len(ids) {
		t.Fatalf("lifted %d of %d, %v", n, len(ids), err)
	}
}

// lines are all that was written on a device.
func lines(t testing.TB, s *Store) []byte {
	t.Helper()
	b, _, _, err := s.Cut(t.Context(), nil, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func join(t testing.TB, s *Store, lines []byte) {
	t.Helper()
	if _, _, err := s.Join(t.Context(), lines, nil); err != nil {
		t.Fatal(err)
	}
}

func TestBan(t *testing.T) {
	s := testStore(t, "a")
	write(t, s, ownerAuthor, note("1", `{"x":1}`), at(note("2", `{"x":2}`), 3))
	if got, want := ban(t, s, "1", "9"), (Purged{Bans: 2, Records: 1}); got != want {
		t.Fatalf("%+v, want %+v", got, want)
	}
	wantState(t, s, `2@3{"x":2}`)
	if got := ban(t, s, "1"); got != (Purged{}) {
		t.Fatalf("banned twice: %+v", got)
	}
	if got := write(t, s, importAuthor("i"), note("1", `{"x":3}`), note("3", `{"x":3}`)); got != (Counts{New: 1, Banned: 1}) {
		t.Fatalf("an import: %+v", got)
	}
	_, err := s.Write(t.Context(), ownerAuthor, note("1", `{"x":3}`))
	if !errors.Is(err, ErrBanned) || !errors.Is(err, locker.ErrInvalid) {
		t.Fatalf("the owner wrote what is banned: %v", err)
	}
	for id, want := range map[string]bool{"1": true, "2": false, "9": true} {
		if got, err := s.Banned(t.Context(), "notes", id); got != want || err != nil {
			t.Fatalf("%s banned: %v, %v", id, got, err)
		}
	}
	if _, err := s.Ban(t.Context(), importsCollection, "i"); err == nil {
		t.Fatal("a system record was banned")
	}
	if bytes.Contains(lines(t, s), []byte(`"id":"1"`)) {
		t.Fatal("what was purged before it was sent is sent")
	}
}

// After a lift a record is as if it had never been, for those who know of the lift.
func TestLift(t *testing.T) {
	a, b := testStore(t, "a"), testStore(t, "b")
	write(t, a, ownerAuthor, note("1", `{"x":1,"y":1}`))
	join(t, b, lines(t, a))
	ban(t, a, "1")
	lift(t, a, "1")
	wantState(t, a, "")
	write(t, b, ownerAuthor, note("1", `{"y":2}`)) // newer than the lift, but not knowing of the ban
	write(t, a, importAuthor("i"), note("1", `{"x":3}`))
	wantState(t, a, `1{"x":3}`)
	join(t, a, lines(t, b))
	join(t, b, lines(t, a))
	for _, s := range []*Store{a, b} {
		wantState(t, s, `1{"x":3}`)
	}
	write(t, b, ownerAuthor, note("1", `{"y":4}`))
	join(t, a, lines(t, b))
	wantState(t, a, `1{"x":3,"y":4}`)
	ban(t, b, "1")
	join(t, a, lines(t, b))
	wantState(t, a, "")
	if a.StateHash() != b.StateHash() {
		t.Fatal("state hashes differ")
	}
}

func TestBanOfWhatWasReplaced(t *testing.T) {
	s := testStore(t, "a")
	beginImport(t, s, "i")
	beginImport(t, s, "j")
	write(t, s, importAuthor("i"), note("1", `{"x":"first"}`), note("2", `{"x":"first"}`))
	write(t, s, importAuthor("j"), note("1", `{"x":"second"}`), note("2", `{"x":"second"}`))
	ban(t, s, "1")
	if got := dump(t, s); strings.Contains(got, "notes/1") || !strings.Contains(got, "notes/2") {
		t.Fatalf("the store has\n%s", got)
	}
	undo(t, s, "j")
	wantState(t, s, `2{"x":"first"}`)
}

func TestBanImport(t *testing.T) {
	a, b := testStore(t, "a"), testStore(t, "b")
	beginImport(t, a, "i")
	beginImport(t, a, "j")
	write(t, a, importAuthor("i"), note("1", `{"x":"first"}`))
	write(t, a, importAuthor("j"), note("1", `{"x":"purged","y":"purged"}`), note("2", `{"x":"purged"}`), note("3", `{"x":"purged"}`))
	write(t, a, ownerAuthor, note("3", `{"z":"mine"}`))
	beginImport(t, a, "k")
	write(t, a, importAuthor("k"), note("1", `{"x":"third"}`))
	before := lines(t, a)
	join(t, b, before)
	got, err := a.BanImport(t.Context(), "j")
	if err != nil || got != (Purged{Bans: 1, Records: 1}) {
		t.Fatalf("%+v, %v", got, err)
	}
	join(t, b, lines(t, a))
	join(t, b, before) // late
	fresh := testStore(t, "c")
	join(t, fresh, lines(t, a))
	hash := a.StateHash()
	for _, s := range []*Store{a, b, fresh} {
		wantState(t, s, `1{"x":"third"} 3{"z":"mine"}`)
		if strings.Contains(dump(t, s), "purged\\") || strings.Contains(dump(t, s), `"\"purged`) {
			t.Fatalf("the store has\n%s", dump(t, s))
		}
		if s.StateHash() != hash || s.Bans() != a.Bans() || a.Bans() == "" {
			t.Fatal("state hashes differ, or what is banned does")
		}
		undo(t, s, "k")
		wantState(t, s, `1{"x":"first"} 3{"z":"mine"}`)
	}
	if got := write(t, a, importAuthor("l"), note("2", `{"x":"again"}`), note("3", `{"x":"again"}`)); got != (Counts{Changed: 1, Banned: 1}) {
		t.Fatalf("importing again: %+v", got)
	}
	if _, err := a.BanImport(t.Context(), "none"); !isNotFound(err) {
		t.Fatalf("an import that never was: %v", err)
	}
}

func TestBanDeleted(t *testing.T) {
	s := testStore(t, "a")
	beginImport(t, s, "i")
	var ids []string
	for i := range purgeBatch + 10 {
		ids = append(ids, fmt.Sprint(i))
		write(t, s, ownerAuthor, note(fmt.Sprint(i), `{"x":1}`))
	}
	write(t, s, importAuthor("i"), note("undone", `{"x":1}`))
	write(t, s, ownerAuthor, note("stays", `{"x":1}`))
	if _, err := s.Delete(t.Context(), ownerAuthor, "notes", ids...); err != nil {
		t.Fatal(err)
	}
	undo(t, s, "i")
	got, err := s.BanDeleted(t.Context())
	if want := (Purged{Bans: len(ids) + 1, Records: len(ids) + 1}); err != nil || got != want {
		t.Fatalf("%+v, %v, want %+v", got, err, want)
	}
	wantState(t, s, `stays{"x":1}`)
	if got := dump(t, s); strings.Count(got, "notes ") != 1 {
		t.Fatalf("the store has\n%s", got)
	}
}

func TestClean(t *testing.T) {
	s := testStore(t, "a")
	write(t, s, importAuthor("i"), at(note("1", `{"x":1}`), 2), note("2", `{"x":2}`))
	beginImport(t, s, "i")
	all := append(lines(t, s), "{\"blob\":\"x\"}\n{\"newer\":1}\n"...)
	same, changed, err := s.Clean(all)
	if changed || err != nil || &same[0] != &all[0] {
		t.Fatalf("nothing was purged: %v, %v", changed, err)
	}
	ban(t, s, "2")
	got, changed, err := s.Clean(all)
	if err != nil || !changed || bytes.Contains(got, []byte(`"id":"2"`)) || !bytes.Contains(got, []byte(`"id":"1"`)) || !bytes.HasSuffix(got, []byte("{\"blob\":\"x\"}\n{\"newer\":1}\n")) {
		t.Fatalf("cleaned %v, %v: %s", changed, err, got)
	}
	write(t, s, ownerAuthor, note("1", `{"y":1}`))
	if _, err := s.BanImport(t.Context(), "i"); err != nil {
		t.Fatal(err)
	}
	got, changed, err = s.Clean(all)
	if err != nil || !changed {
		t.Fatal(err)
	}
	fresh := testStore(t, "b")
	join(t, fresh, got)
	if d := dump(t, fresh); !strings.Contains(d, `"x"="null"`) || !strings.Contains(d, `"\xff\x01"="null"`) {
		t.Fatalf("cleaned lines give\n%s", d)
	}
	if again, changed, err := s.Clean(got); changed || err != nil || !bytes.Equal(again, got) {
		t.Fatalf("cleaned twice: %v, %v\n%s\n%s", changed, err, got, again)
	}
}

// randomBanLine is a line in a world of bans, lifts and purged imports.
func randomBanLine(r *rand.Rand, h *banHasher) (line string) {
	pick := func(from ...string) string { return from[r.IntN(len(from))] }
	device := pick("a", "b")
	stamp := func() string { return fmt.Sprintf("%016x", uint64(1+r.IntN(5))<<16) }
	tail := func() string {
		return fmt.Sprintf(`,"class":%q,"clock":%q,"device":%q`, pick("owner", "source"), stamp(), device)
	}
	collection, id := pick("notes", "posts"), pick("1", "2")
	switch r.IntN(8) {
	case 0:
		return fmt.Sprintf(`{"collection":"_bans","id":%q,"class":"owner","clock":%q,"device":%q,"fields":{%q:true}}`, h.record(collection, id).text(), stamp(), device, pick("ban", "ban", "lift"))
	case 1:
		return `{"collection":"_imports","id":"` + pick("i", "j") + `"` + tail() + pick(`,"fields":{"state":"done"}}`, `,"fields":{"state":"undone","purged":true}}`)
	case 2:
		device = pick("i", "j") // no two values of different imports have one revision
		b := `{"collection":"_prior","id":"` + pick("i", "j") + "/" + collection + "/" + id + `"` + tail()
		return b + fmt.Sprintf(`,"fields":{"collection":%q,"id":%q,"f.x":{"value":%s,"clock":"0000000000000001","device":"a","import":%q}}}`, collection, id, pick("1", "2"), device)
	}
	b := fmt.Sprintf(`{"collection":%q,"id":%q`, collection, id)
	if r.IntN(3) == 0 {
		b += fmt.Sprintf(`,"time":"2026-01-0%dT00:00:00Z"`, 1+r.IntN(3))
	}
	if r.IntN(2) == 0 {
		device = pick("i", "j") // an import runs on one device
		b += fmt.Sprintf(`,"import":%q`, device)
	}
	b += tail()
	if r.IntN(3) == 0 {
		clock, by := stamp(), pick("a", "b")
		b += fmt.Sprintf(`,"lift":"%s %s"`, clock, by)
		// The lift itself is somewhere too.
		defer func() {
			line += "\n" + fmt.Sprintf(`{"collection":"_bans","id":%q,"class":"owner","clock":%q,"device":%q,"fields":{"lift":true}}`, h.record(collection, id).text(), clock, by)
		}()
	}
	if r.IntN(6) == 0 {
		return b + `,"deleted":true}`
	}
	return b + fmt.Sprintf(`,"fields":{%q:%s}}`, pick("x", "y"), pick("1", "2", "null", "[1]"))
}

// With bans, too, equal sets of lines give equal states in any order; and cleaned
// lines give what the lines gave.
func TestJoinWithBansIsAJoin(t *testing.T) {
	r := rand.New(rand.NewPCG(seed(t), 2))
	for round := range 300 {
		var all []string
		h := newBanHasher([]byte("blob key"))
		for range 1 + r.IntN(40) {
			all = append(all, strings.Split(randomBanLine(r, h), "\n")...)
		}
		var want string
		for variant := range 4 {
			s := testStore(t, "me", func(o *Options) { o.bulk = 300 << r.IntN(6) })
			order := slices.Clone(all)
			if variant > 0 {
				for range r.IntN(20) {
					order = append(order, all[r.IntN(len(all))])
				}
				r.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
			}
			joinInPortions(t, r, s, order)
			if variant == 2 {
				cleaned, _, err := s.Clean([]byte(strings.Join(order, "\n") + "\n"))
				if err != nil {
					t.Fatal(err)
				}
				fresh := testStore(t, "me")
				join(t, fresh, cleaned)
				s = fresh
			}
			if err := s.Check(t.Context()); err != nil {
				t.Fatalf("round %d: %v\n%s", round, err, strings.Join(order, "\n"))
			}
			got := dump(t, s) + s.StateHash() + s.Bans()
			if variant == 0 {
				want = got
			}
			if got != want {
				t.Fatalf("round %d, variant %d: another state\n%s\ninstead of\n%s\nafter\n%s", round, variant, got, want, strings.Join(order, "\n"))
			}
		}
	}
}

// Devices that purge and lift while others write come to the same state.
func TestDevicesConvergeWithBans(t *testing.T) {
	n := seed(t)
	for round := range uint64(40) {
		r := rand.New(rand.NewPCG(n, 100+round))
		w := newWorld(t, r, 2+r.IntN(2))
		for range 60 {
			w.stepWithBans()
		}
		w.settle()
		hashes := map[string]string{}
		for _, d := range w.devices {
			hashes[d.s.StateHash()+d.s.Bans()] = dump(t, d.s)
			if err := d.s.Check(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if len(hashes) != 1 {
			t.Fatalf("round %d: states differ\n%s", round, strings.Join(slices.Collect(maps.Values(hashes)), "\n\n"))
		}
	}
}

func (w *world) stepWithBans() {
	d := w.devices[w.r.IntN(len(w.devices))]
	id := fmt.Sprint(w.r.IntN(5))
	var err error
	switch w.r.IntN(24) {
	case 0, 1:
		_, err = d.s.Ban(w.t.Context(), "notes", id)
	case 2, 3:
		_, err = d.s.Lift(w.t.Context(), "notes", id)
	case 4:
		if len(w.imports) > 0 {
			if _, err = d.s.BanImport(w.t.Context(), w.imports[w.r.IntN(len(w.imports))]); isNotFound(err) {
				err = nil
			}
		}
	case 5:
		_, err = d.s.BanDeleted(w.t.Context())
	default:
		w.step()
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// TestBanFromElsewhere: what another device purged is not read any more once its ban
// came, not even at once and not though nothing looked for it yet.
func TestBanFromElsewhere(t *testing.T) {
	a, b := testStore(t, "a"), testStore(t, "b")
	write(t, a, ownerAuthor, note("1", `{"x":1}`), note("2", `{"x":2}`))
	join(t, b, lines(t, a))
	for _, id := range []string{"1", "2"} { // the second comes while the first is just dealt with
		ban(t, a, id)
		b.huntTook = time.Hour
		join(t, b, lines(t, a))
		if r, err := b.View(ownerAuthor).Get(t.Context(), "notes", id); !errors.Is(err, locker.ErrNotFound) {
			t.Errorf("still there: %+v, %v", r, err)
		}
	}
	for r, err := range b.View(ownerAuthor).Query(t.Context(), locker.Query{Collection: "notes"}) {
		t.Errorf("a query still shows %+v, %v", r, err)
	}
}
