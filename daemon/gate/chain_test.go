package gate

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/locker-project/locker/plugins/locker"
)

// Whatever is done to a link, VerifyChains names the first that is broken.
func TestTamperingIsFound(t *testing.T) {
	swap := func(from, to string) func(string) string {
		return func(s string) string { return strings.Replace(s, from, to, 1) }
	}
	for _, tt := range []struct {
		name   string
		log    string
		change func(t *testing.T, b *bench, links []locker.Record)
		number uint64
		says   string
	}{
		{"a line changed", auditCollection, edit(3, swap(`rows\":3`, `rows\":0`)), 4, "signature"},
		{"a link changed and signed by another", auditCollection, func(t *testing.T, b *bench, links []locker.Record) {
			resign(t, b, links[2], phone, swap(`"rows":3`, `"rows":0`))
		}, 3, "signature"},
		{"a link changed and signed again", auditCollection, func(t *testing.T, b *bench, links []locker.Record) {
			resign(t, b, links[2], laptop, swap(`"rows":3`, `"rows":0`))
		}, 4, "does not follow"},
		{"a link taken out", auditCollection, func(t *testing.T, b *bench, links []locker.Record) { remove(t, b, links[1]) }, 2, "missing"},
		{"the first taken out", auditCollection, func(t *testing.T, b *bench, links []locker.Record) { remove(t, b, links[0]) }, 1, "missing"},
		{"all taken out", auditCollection, func(t *testing.T, b *bench, links []locker.Record) { remove(t, b, links...) }, 1, "missing"},
		{"two exchanged", auditCollection, func(t *testing.T, b *bench, links []locker.Record) {
			links[1].Fields, links[2].Fields = links[2].Fields, links[1].Fields
			rewrite(t, b, links[1], links[2])
		}, 2, "not in its place"},
		{"a link put in", auditCollection, func(t *testing.T, b *bench, links []locker.Record) {
			extra := links[2]
			extra.ID = linkID(laptop, uint64(len(links))+1)
			rewrite(t, b, extra)
		}, 0, "not in its place"},
		{"a chain for a device that is none", auditCollection, func(t *testing.T, b *bench, links []locker.Record) {
			extra := links[0]
			extra.ID = "nobody"
			rewrite(t, b, extra)
		}, 1, "missing"},
		{"garbage", auditCollection, func(t *testing.T, b *bench, links []locker.Record) {
			links[1].Fields = json.RawMessage(`{"link":"","signature":""}`)
			rewrite(t, b, links[1])
		}, 2, "cannot be read"},
		{"a link of another log", auditCollection, func(t *testing.T, b *bench, links []locker.Record) {
			grant, err := b.store.View(system).Get(t.Context(), grantsCollection, linkID(laptop, 1))
			if err != nil {
				t.Fatal(err)
			}
			links[0].Fields = grant.Fields
			rewrite(t, b, links[0])
		}, 1, "not in its place"},
		{"a grant changed", grantsCollection, edit(0, swap(`payee`, `memo`)), 1, "signature"},
		{"a revocation taken out", grantsCollection, func(t *testing.T, b *bench, links []locker.Record) { remove(t, b, links[1]) }, 2, "missing"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t)
			b.fill(3)
			session, _ := b.spy("permit")
			for range 6 {
				if _, err := readAll(session.View(), money); err != nil {
					t.Fatal(err)
				}
			}
			spare, err := b.gate.Grant(t.Context(), "spy", "permit", nil, time.Time{})
			if err != nil {
				t.Fatal(err)
			}
			_, err = b.gate.Revoke(t.Context(), spare.ID)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := b.gate.Grant(t.Context(), "spy", "wide", nil, time.Time{}); err != nil {
				t.Fatal(err)
			}
			b.whole()
			var links []locker.Record
			for n := uint64(1); ; n++ {
				r, err := b.store.View(system).Get(t.Context(), tt.log, linkID(laptop, n))
				if err != nil {
					break
				}
				links = append(links, r)
			}
			if tt.log == grantsCollection {
				links = append(links[:1:1], links[2:]...) // grant, revocation, grant
			}
			tt.change(t, b, links)
			_, broken, err := b.gate.VerifyChains(t.Context())
			if err != nil || len(broken) != 1 {
				t.Fatalf("%v, %v", broken, err)
			}
			number := tt.number
			if number == 0 {
				number = uint64(len(links)) + 1
			}
			if tt.log == grantsCollection && number > 1 {
				number++ // the first of three grants was left out of links
			}
			if got := broken[0]; got.Log != tt.log || got.Number != number || !strings.Contains(got.Why, tt.says) || !strings.Contains(got.String(), got.Why) {
				t.Errorf("found %v, want link %d: %s", got, number, tt.says)
			}
		})
	}
}

func edit(i int, change func(string) string) func(*testing.T, *bench, []locker.Record) {
	return func(t *testing.T, b *bench, links []locker.Record) {
		before := string(links[i].Fields)
		links[i].Fields = json.RawMessage(change(before))
		if string(links[i].Fields) == before {
			t.Fatalf("nothing was changed in %s", before)
		}
		rewrite(t, b, links[i])
	}
}

func rewrite(t *testing.T, b *bench, links ...locker.Record) {
	t.Helper()
	for i := range links {
		links[i].Source, links[i].Import = "", ""
	}
	if _, err := b.store.Write(t.Context(), system, links...); err != nil {
		t.Fatal(err)
	}
}

func resign(t *testing.T, b *bench, r locker.Record, device string, change func(string) string) {
	t.Helper()
	var s sealed
	if err := r.Decode(&s); err != nil {
		t.Fatal(err)
	}
	before := s.Link
	if s.Link = change(before); s.Link == before {
		t.Fatalf("nothing was changed in %s", before)
	}
	s.Signature = signAs(device)(linkContext, []byte(s.Link))
	var err error
	if r.Fields, err = json.Marshal(s); err != nil {
		t.Fatal(err)
	}
	rewrite(t, b, r)
}

func remove(t *testing.T, b *bench, links ...locker.Record) {
	t.Helper()
	for _, l := range links {
		if n, err := b.store.Delete(t.Context(), system, l.Collection, l.ID); err != nil || n != 1 {
			t.Fatal(n, err)
		}
	}
}

// A chain that was cut at its end is noticed by the device that made it, and goes
// on behind the cut.
func TestCutChain(t *testing.T) {
	b := newBench(t)
	b.fill(3)
	session, _ := b.spy("permit")
	for range noteEvery + 2 {
		if _, err := readAll(session.View(), money); err != nil {
			t.Fatal(err)
		}
	}
	for n := uint64(noteEvery - 3); n <= noteEvery+2; n++ {
		remove(t, b, locker.Record{Collection: auditCollection, ID: linkID(laptop, n)})
	}
	b.reopen()
	again, err := b.gate.Open(t.Context(), "spy")
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if _, err := readAll(again.View(), money); err != nil {
		t.Fatal(err)
	}
	_, broken, err := b.gate.VerifyChains(t.Context())
	if err != nil || len(broken) != 1 || broken[0].Number != noteEvery-3 || broken[0].Why != "it is missing" {
		t.Errorf("%v, %v", broken, err)
	}
}

// What was once seen to be revoked stays so, whatever becomes of the log.
func TestRevocationIsForEver(t *testing.T) {
	b := newBench(t)
	other := newBenchOn(t, phone)
	b.install(spyManifest)
	grant, err := b.gate.Grant(t.Context(), "spy", "permit", nil, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	syncStores(t, b.store, other.store)
	if _, err := other.gate.Revoke(t.Context(), grant.ID); err != nil {
		t.Fatal(err)
	}
	syncStores(t, other.store, b.store)
	if err := b.gate.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	remove(t, b, locker.Record{Collection: grantsCollection, ID: linkID(phone, 1)})
	for _, when := range []string{"running", "after a restart"} {
		if _, err := b.gate.Open(t.Context(), "spy"); !errors.Is(err, ErrNoGrant) {
			t.Errorf("%s: %v", when, err)
		}
		b.reopen()
	}
}

// A gap or a change in this device's own grant log makes what it granted void.
func TestOwnGrantLogTamperedWith(t *testing.T) {
	for name, change := range map[string]func(*testing.T, *bench, []locker.Record){
		"removed": func(t *testing.T, b *bench, l []locker.Record) { remove(t, b, l[0]) },
		"changed": edit(0, func(s string) string { return strings.Replace(s, "payee", "memo", 1) }),
	} {
		b := newBench(t)
		b.install(spyManifest)
		if _, err := b.gate.Grant(t.Context(), "spy", "wide", nil, time.Time{}); err != nil {
			t.Fatal(err)
		}
		s, _ := b.spy("permit")
		first, err := b.store.View(system).Get(t.Context(), grantsCollection, linkID(laptop, 1))
		if err != nil {
			t.Fatal(err)
		}
		change(t, b, []locker.Record{first})
		if _, err := readAll(s.View(), money); !errors.Is(err, locker.ErrRevoked) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := b.gate.Open(t.Context(), "spy"); !errors.Is(err, ErrNoGrant) {
			t.Errorf("%s: open: %v", name, err)
		}
	}
}
