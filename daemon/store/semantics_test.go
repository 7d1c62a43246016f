package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/locker-project/locker/plugins/locker"
)

var (
	ownerAuthor  = Author{Class: Owner}
	systemAuthor = Author{Class: Owner, System: true}
)

func importAuthor(id string) Author { return Author{Class: Source, Source: "bank", Import: id} }

func write(t testing.TB, s *Store, a Author, records ...locker.Record) Counts {
	t.Helper()
	n, err := s.Write(t.Context(), a, records...)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// beginImport makes the record of an import.
func beginImport(t testing.TB, s *Store, id string) {
	t.Helper()
	write(t, s, systemAuthor, locker.Record{Collection: importsCollection, ID: id, Fields: []byte(`{"state":"running"}`)})
}

func undo(t testing.TB, s *Store, id string) (removed, restored int) {
	t.Helper()
	removed, restored, err := s.Undo(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return removed, restored
}

// state is what can be seen of notes: id, time and fields.
func state(t testing.TB, s *Store) string {
	t.Helper()
	var out []string
	for r, err := range s.View(ownerAuthor).Query(t.Context(), locker.Query{Collection: "notes"}) {
		if err != nil {
			t.Fatal(err)
		}
		hour := ""
		if !r.Time.IsZero() {
			hour = fmt.Sprintf("@%d", r.Time.Hour())
		}
		out = append(out, r.ID+hour+string(r.Fields))
	}
	return strings.Join(out, " ")
}

func wantState(t testing.TB, s *Store, want string) {
	t.Helper()
	if got := state(t, s); got != want {
		t.Fatalf("state\n%s\nwant\n%s", got, want)
	}
	if err := s.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestWriteCounts(t *testing.T) {
	s := testStore(t, "d")
	for _, tt := range []struct {
		name   string
		author Author
		record locker.Record
		want   Counts
		state  string
	}{
		{"new", importAuthor("i"), note("1", `{"x":1,"y":"a"}`), Counts{New: 1}, `1{"x":1,"y":"a"}`},
		{"again", importAuthor("j"), note("1", `{ "y": "\u0061", "x" : 1}`), Counts{Same: 1}, `1{"x":1,"y":"a"}`},
		{"part of it", ownerAuthor, note("1", `{"x":1}`), Counts{Same: 1}, `1{"x":1,"y":"a"}`},
		{"the owner edits", ownerAuthor, note("1", `{"x":2}`), Counts{Changed: 1}, `1{"x":2,"y":"a"}`},
		{"an import cannot undo that", importAuthor("k"), note("1", `{"x":1,"y":"a"}`), Counts{Same: 1}, `1{"x":2,"y":"a"}`},
		{"nor one of another value", importAuthor("k"), note("1", `{"x":3,"y":"b"}`), Counts{Changed: 1}, `1{"x":2,"y":"b"}`},
		{"a null removes", ownerAuthor, note("1", `{"y":null}`), Counts{Changed: 1}, `1{"x":2}`},
		{"an import cannot bring it back", importAuthor("l"), note("1", `{"y":"b"}`), Counts{Same: 1}, `1{"x":2}`},
		{"null of what is not there", ownerAuthor, note("1", `{"z":null}`), Counts{Same: 1}, `1{"x":2}`},
		{"null of a record that is not there", ownerAuthor, note("2", `{"z":null}`), Counts{Same: 1}, `1{"x":2}`},
		{"a time", ownerAuthor, at(note("1", `{}`), 3), Counts{Changed: 1}, `1@3{"x":2}`},
		{"the same time elsewhere differs", ownerAuthor, func() locker.Record {
			r := at(note("1", ``), 3)
			r.Time = r.Time.In(time.FixedZone("", 7200))
			return r
		}(), Counts{Changed: 1}, `1@5{"x":2}`},
		{"only a time", ownerAuthor, at(note("3", ``), 1), Counts{New: 1}, `3@1{} 1@5{"x":2}`},
	} {
		if compared, err := s.Compare(t.Context(), tt.author, tt.record); err != nil || compared != tt.want {
			t.Errorf("%s: Compare says %+v, %v, want %+v", tt.name, compared, err, tt.want)
		}
		if got := write(t, s, tt.author, tt.record); got != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
		wantState(t, s, tt.state)
	}
	if n, err := s.Delete(t.Context(), ownerAuthor, "notes", "1", "none"); n != 1 || err != nil {
		t.Errorf("Delete: %d, %v", n, err)
	}
	if n := write(t, s, importAuthor("m"), note("1", `{"new":1}`)); n != (Counts{Same: 1}) {
		t.Errorf("an import of what the owner deleted: %+v", n)
	}
	wantState(t, s, `3@1{}`)
	if n := write(t, s, ownerAuthor, note("1", `{"back":1}`)); n != (Counts{New: 1}) {
		t.Errorf("the owner writes what they deleted: %+v", n)
	}
	wantState(t, s, `1{"back":1} 3@1{}`)
}

func TestWriteRefuses(t *testing.T) {
	s := testStore(t, "d", func(o *Options) {
		o.Validate = func(r locker.Record) error {
			if strings.Contains(string(r.Fields), "forbidden") {
				return errors.New("not so")
			}
			return nil
		}
	})
	write(t, s, ownerAuthor, note("1", `{"a":1}`))
	for _, tt := range []struct {
		name   string
		author Author
		record locker.Record
	}{
		{"no collection", ownerAuthor, locker.Record{ID: "x", Fields: []byte(`{"a":1}`)}},
		{"no id", ownerAuthor, note("", `{"a":1}`)},
		{"nothing in it", ownerAuthor, note("x", `{}`)},
		{"a list", ownerAuthor, note("x", `[1]`)},
		{"a field twice", ownerAuthor, note("x", `{"a":1,"a":2}`)},
		{"a field twice, escaped", ownerAuthor, note("x", `{"a":1,"\u0061":2}`)},
		{"trailing", ownerAuthor, note("x", `{"a":1}}`)},
		{"not UTF-8", ownerAuthor, note("x", "{\"a\":\"\xff\"}")},
		{"a bad number", ownerAuthor, note("x", `{"a":01}`)},
		{"a control character", ownerAuthor, note("x", "{\"a\":\"\n\"}")},
		{"deep nesting", ownerAuthor, note("x", `{"a":`+strings.Repeat("[", 1000)+strings.Repeat("]", 1000)+`}`)},
		{"another's source", importAuthor("i"), locker.Record{Collection: "notes", ID: "x", Source: "banker", Fields: []byte(`{"a":1}`)}},
		{"a year that cannot be written", ownerAuthor, locker.Record{Collection: "notes", ID: "x", Time: time.Date(12000, 1, 1, 0, 0, 0, 0, time.UTC)}},
		{"against its schema", ownerAuthor, note("x", `{"a":"forbidden"}`)},
		{"a class that is none", Author{Class: 7}, note("x", `{"a":1}`)},
	} {
		if _, err := s.Write(t.Context(), tt.author, note("1", `{"a":2}`), tt.record); !errors.Is(err, locker.ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", tt.name, err)
		}
	}
	wantState(t, s, `1{"a":1}`)
}

func TestSystemCollectionsAreUnreachable(t *testing.T) {
	s := testStore(t, "d")
	grant := locker.Record{Collection: "_grants", ID: "g", Fields: []byte(`{"a":1}`)}
	write(t, s, systemAuthor, grant)
	v := s.View(ownerAuthor)
	denied := func(what string, err error) {
		t.Helper()
		if d := (*locker.Denied)(nil); !errors.As(err, &d) || d.Collection != "_grants" {
			t.Errorf("%s: %v, want a Denied", what, err)
		}
	}
	denied("put", v.Put(t.Context(), grant))
	_, err := v.Get(t.Context(), "_grants", "g")
	denied("get", err)
	for _, err := range v.Query(t.Context(), locker.Query{Collection: "_grants"}) {
		denied("query", err)
	}
	for _, err := range v.Changes(t.Context(), "_grants", 0) {
		denied("changes", err)
	}
	_, err = s.Delete(t.Context(), ownerAuthor, "_grants", "g")
	denied("delete", err)
	if counts, err := s.Collections(); err != nil || len(counts) != 0 {
		t.Errorf("counts %v, %v", counts, err)
	}
	if s.StateHash() != strings.Repeat("0", 64) {
		t.Error("a system record is part of the state hash")
	}
	if r, err := s.View(systemAuthor).Get(t.Context(), "_grants", "g"); err != nil || string(r.Fields) != `{"a":1}` {
		t.Errorf("the system's own get: %s, %v", r.Fields, err)
	}
}

func TestUndo(t *testing.T) {
	s := testStore(t, "d")
	write(t, s, Author{Source: "bank"}, at(note("old", `{"x":0,"y":0}`), 1), note("same", `{"x":0}`))
	before := state(t, s)
	beginImport(t, s, "i")
	write(t, s, importAuthor("i"), at(note("old", `{"x":1,"z":1}`), 2), note("new", `{"x":1}`), note("same", `{"x":0}`), note("edited", `{"x":1,"y":1}`))
	write(t, s, ownerAuthor, note("edited", `{"y":2}`))
	wantState(t, s, `edited{"x":1,"y":2} new{"x":1} same{"x":0} old@2{"x":1,"y":0,"z":1}`)
	if removed, restored := undo(t, s, "i"); removed != 1 || restored != 1 {
		t.Errorf("undo removed %d and restored %d", removed, restored)
	}
	wantState(t, s, `edited{"y":2} `+before)
	if removed, restored := undo(t, s, "i"); removed != 0 || restored != 0 {
		t.Errorf("undoing again removed %d and restored %d", removed, restored)
	}
	beginImport(t, s, "j")
	if n := write(t, s, importAuthor("j"), note("new", `{"x":1}`)); n.New != 1 {
		t.Errorf("importing again: %+v", n)
	}
	if _, _, err := s.Undo(t.Context(), "none"); !errors.Is(err, locker.ErrNotFound) {
		t.Errorf("undo of no import: %v", err)
	}
}

// Imports over imports, undone in either order.
func TestUndoInAnyOrder(t *testing.T) {
	for _, order := range [][]string{{"i", "j"}, {"j", "i"}} {
		s := testStore(t, "d")
		write(t, s, Author{Source: "bank"}, note("1", `{"x":0}`))
		beginImport(t, s, "i")
		beginImport(t, s, "j")
		write(t, s, importAuthor("i"), note("1", `{"x":1}`))
		write(t, s, importAuthor("j"), note("1", `{"x":2}`))
		undo(t, s, order[0])
		wantState(t, s, map[string]string{"i": `1{"x":2}`, "j": `1{"x":1}`}[order[0]])
		undo(t, s, order[1])
		wantState(t, s, `1{"x":0}`)
	}
}

func TestUndoOfDeleting(t *testing.T) {
	s := testStore(t, "d")
	write(t, s, Author{Source: "bank"}, at(note("1", `{"x":0}`), 4), note("2", `{"x":0}`))
	beginImport(t, s, "i")
	if n, err := s.Delete(t.Context(), importAuthor("i"), "notes", "1", "2"); n != 2 || err != nil {
		t.Fatal(n, err)
	}
	if _, err := s.Delete(t.Context(), ownerAuthor, "notes", "2"); err != nil {
		t.Fatal(err)
	}
	wantState(t, s, ``)
	undo(t, s, "i")
	wantState(t, s, `2{"x":0} 1@4{"x":0}`)
}

// A mark that another device set hides what arrives after it, and lifting it shows
// it again.
func TestMarksFromElsewhere(t *testing.T) {
	s := testStore(t, "d")
	join := func(lines ...string) {
		t.Helper()
		if _, _, err := s.Join(t.Context(), []byte(strings.Join(lines, "\n")), nil); err != nil {
			t.Fatal(err)
		}
	}
	mark := `{"collection":"_imports","id":"i","class":"owner","clock":"000000000%d000000","device":"e","fields":{"state":%q}}`
	join(fmt.Sprintf(mark, 5, "undone"))
	join(`{"collection":"notes","id":"1","time":"2026-01-01T07:00:00Z","import":"i","class":"source","clock":"0000000004000000","device":"e","fields":{"x":1}}`,
		`{"collection":"notes","id":"2","import":"i","class":"source","clock":"0000000006000000","device":"e","fields":{"x":1}}`)
	wantState(t, s, `2{"x":1}`)
	join(fmt.Sprintf(mark, 7, "done"))
	wantState(t, s, `2{"x":1} 1@7{"x":1}`)
	join(fmt.Sprintf(mark, 8, "undone"))
	wantState(t, s, ``)
}

func TestClocks(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	s := testStore(t, "d", func(o *Options) { o.Clock = func() time.Time { return now } })
	line := func(id string, ahead time.Duration) []byte {
		return fmt.Appendf(nil, `{"collection":"notes","id":%q,"class":"owner","clock":"%016x","device":"e","fields":{"x":1}}`, id, wall(now.Add(ahead)))
	}
	if _, ahead, err := s.Join(t.Context(), line("a", 9*time.Minute), nil); ahead || err != nil {
		t.Fatal(ahead, err)
	}
	if s.meta.clock != wall(now.Add(9*time.Minute)) {
		t.Error("a clock nine minutes ahead is not adopted")
	}
	if _, ahead, err := s.Join(t.Context(), line("b", 11*time.Minute), nil); !ahead || err != nil {
		t.Fatal(ahead, err)
	}
	if s.meta.clock != wall(now.Add(9*time.Minute)) {
		t.Error("a clock eleven minutes ahead is adopted")
	}
	write(t, s, ownerAuthor, note("a", `{"x":2}`), note("b", `{"x":2}`))
	wantState(t, s, `a{"x":2} b{"x":2}`)
	now = now.Add(-time.Hour)
	write(t, s, ownerAuthor, note("a", `{"x":3}`))
	wantState(t, s, `a{"x":3} b{"x":2}`)
	if _, _, err := s.Join(t.Context(), []byte(`{"collection":"notes","id":"a","class":"owner","clock":"8000000000000000","device":"e","fields":{"x":1}}`), nil); !errors.Is(err, locker.ErrInvalid) {
		t.Errorf("a clock out of range: %v", err)
	}
}

func TestJoinRefusesWhole(t *testing.T) {
	s := testStore(t, "d")
	good := `{"collection":"notes","id":"1","class":"owner","clock":"0000000004000000","device":"e","fields":{"x":1}}`
	for _, bad := range []string{
		`{`, `[]`, `"x"`, good + `x`,
		strings.Replace(good, `"owner"`, `"king"`, 1),
		strings.Replace(good, `"0000000004000000"`, `"4"`, 1),
		strings.Replace(good, `"0000000004000000"`, `"000000000400000G"`, 1),
		strings.Replace(good, `"e"`, `""`, 1),
		strings.Replace(good, `"id":"1"`, `"id":""`, 1),
		strings.Replace(good, `"id":"1"`, `"id":1`, 1),
		strings.Replace(good, `"id":"1"`, `"id":"1","time":"yesterday"`, 1),
		strings.Replace(good, `{"x":1}`, `{"x":}`, 1),
		strings.Replace(good, `{"x":1}`, `1`, 1),
	} {
		if _, _, err := s.Join(t.Context(), []byte(good+"\n"+bad+"\n"), map[string][]byte{"k": []byte("v")}); !errors.Is(err, locker.ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", bad, err)
		}
	}
	wantState(t, s, ``)
	if v, err := s.Note(t.Context(), "k"); v != nil || err != nil {
		t.Errorf("a note of a join that failed: %s, %v", v, err)
	}
	blob := `{"blob":"x","size":1,"chunks":[]}`
	if n, _, err := s.Join(t.Context(), []byte(good+"\n"+blob+"\n"+`{"news":1}`+"\n"), map[string][]byte{"k": []byte("v")}); n != 1 || err != nil {
		t.Errorf("lines of other kinds: %d, %v", n, err)
	}
	kept := 0
	if err := scan(s.db, []byte{spaceUnknown}, func(_, val []byte) error {
		kept++
		if string(val) != `{"news":1}` {
			t.Errorf("kept %s", val)
		}
		return nil
	}); err != nil || kept != 1 {
		t.Errorf("%d lines of a newer kind kept, %v", kept, err)
	}
	if v, err := s.Note(t.Context(), "k"); string(v) != "v" || err != nil {
		t.Errorf("the note: %s, %v", v, err)
	}
}

func TestQueryOverAll(t *testing.T) {
	s := testStore(t, "d")
	other := func(id string, hour int) locker.Record {
		r := at(note(id, `{"x":1}`), hour)
		r.Collection = "posts"
		return r
	}
	write(t, s, ownerAuthor, at(note("a", `{"x":1}`), 1), other("b", 2), at(note("c", `{"x":1}`), 3), other("d", 4), note("e", `{"x":1}`))
	write(t, s, systemAuthor, locker.Record{Collection: "_apps", ID: "z", Fields: []byte(`{"x":1}`)})
	for _, descending := range []bool{false, true} {
		var ids []string
		for r, err := range s.View(ownerAuthor).Query(t.Context(), locker.Query{Descending: descending}) {
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, r.ID)
		}
		want := []string{"e", "a", "b", "c", "d"}
		if descending {
			slices.Reverse(want)
		}
		if !slices.Equal(ids, want) {
			t.Errorf("order %q, want %q", ids, want)
		}
	}
}

func TestQueryFilterOnItsOwn(t *testing.T) {
	s := testStore(t, "d")
	beginImport(t, s, "i")
	write(t, s, importAuthor("i"), at(note("a", `{"x":1,"time":"field"}`), 1))
	write(t, s, ownerAuthor, at(note("b", `{"x":2}`), 2))
	for where, want := range map[string]string{
		`id = "a"`: "a", `source = "bank"`: "a", `import = "i"`: "a", `import = null`: "b",
		`time >= "2026-01-01T02:00:00Z"`: "b", `x > 1`: "b", `source = null`: "b",
	} {
		var got string
		for r, err := range s.View(ownerAuthor).Query(t.Context(), locker.Query{Collection: "notes", Where: where}) {
			if err != nil {
				t.Fatal(err)
			}
			got += r.ID
			if r.ID == "a" && (r.Source != "bank" || r.Import != "i" || r.Rev == 0) {
				t.Errorf("record %+v", r)
			}
		}
		if got != want {
			t.Errorf("%s selects %q, want %q", where, got, want)
		}
	}
}

func TestChangesTellOfDeletion(t *testing.T) {
	s := testStore(t, "d")
	write(t, s, ownerAuthor, note("a", `{"x":1}`), note("b", `{"x":1}`))
	if _, err := s.Delete(t.Context(), ownerAuthor, "notes", "a"); err != nil {
		t.Fatal(err)
	}
	var got []string
	for r, err := range s.View(ownerAuthor).Changes(t.Context(), "notes", 0) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprint(r.ID, r.Deleted))
	}
	if !slices.Equal(got, []string{"bfalse", "atrue"}) {
		t.Errorf("changes %q", got)
	}
}

func TestChanged(t *testing.T) {
	s := testStore(t, "d")
	signalled := func() bool {
		select {
		case <-s.Changed():
			return true
		default:
			return false
		}
	}
	put := func(collection string) {
		write(t, s, systemAuthor, locker.Record{Collection: collection, ID: "x", Fields: []byte(`{"x":1}`)})
	}
	put("_audit")
	put("vendor/own")
	_, _, urgent, err := s.Cut(t.Context(), nil, 1<<20)
	if signalled() || urgent || err != nil {
		t.Errorf("audit and app records are urgent: %v", err)
	}
	put("notes")
	lines, _, urgent, err := s.Cut(t.Context(), nil, 1<<20)
	if !signalled() || !urgent || err != nil {
		t.Errorf("a record of the owner's is not urgent: %v, %s", err, lines)
	}
	line := `{"collection":"notes","id":"1","class":"owner","clock":"0000000004000000","device":"e","fields":{"x":1}}`
	if _, _, err := s.Join(t.Context(), []byte(line), nil); err != nil || signalled() {
		t.Errorf("what came from elsewhere signals: %v", err)
	}
}

func TestClose(t *testing.T) {
	s := testStore(t, "d")
	for i := range 600 {
		write(t, s, ownerAuthor, note(fmt.Sprint(i), `{"x":1}`))
	}
	closed := make(chan error)
	n := 0
	var failed error
	for _, err := range s.View(ownerAuthor).Query(t.Context(), locker.Query{Collection: "notes"}) {
		if n++; n == 1 {
			go func() { closed <- s.Close() }()
			<-s.closing
		}
		failed = err
	}
	if !errors.Is(failed, ErrClosed) || n == 600 {
		t.Errorf("a query while the store closes: %d records, %v", n, failed)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if _, err := s.Write(context.Background(), ownerAuthor, note("1", `{"x":1}`)); !errors.Is(err, ErrClosed) {
		t.Errorf("a write after Close: %v", err)
	}
}
