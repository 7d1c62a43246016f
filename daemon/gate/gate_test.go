package gate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/locker-project/locker/daemon/store"
	"github.com/locker-project/locker/manifests"
	"github.com/locker-project/locker/plugins/locker"
	"github.com/locker-project/locker/plugins/locker/lockertest"
)

const noteManifest = `{"id":"noter","kind":"app","name":"Noter","vendor":"maker","version":"1","purpose":"Notes.","program":"noter",
	"requests":[{"id":"r","collection":"notes","fields":["name"],"purpose":["dpv:RequestedServiceProvision"]}],
	"offers":[{"id":"permit","kind":"permit","requests":["r"]}]}`

// A session with everything granted is a View like any other.
func TestConformance(t *testing.T) {
	lockertest.View(t, func(t *testing.T) locker.View {
		b := newBench(t)
		b.install(noteManifest)
		a, err := b.gate.App(t.Context(), "noter")
		if err != nil {
			t.Fatal(err)
		}
		grant, err := a.Manifest.Accept("permit", nil, time.Time{}, start)
		if err != nil {
			t.Fatal(err)
		}
		// More than a manifest can ask for: the suite writes fields that no schema knows.
		grant.Reads[0].Fields = []string{"id", "time", "source", "import", "name", "text", "n", "list", "list.deep"}
		grant.Writes = []string{lockertest.Collection}
		grant.Signer, grant.Devices = laptop, []string{laptop}
		document, signature, err := grant.Sign(b.gate.Sign)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.gate.grants.append(t.Context(), event{Grant: string(document), Signature: signature}); err != nil {
			t.Fatal(err)
		}
		s, err := b.gate.Open(t.Context(), "noter")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		return s.View()
	})
}

func TestReadUnderAGrant(t *testing.T) {
	b := newBench(t)
	b.fill(2000)
	s, id := b.spy("permit")
	got, err := readAll(s.View(), money)
	if err != nil || len(got) != 2000 {
		t.Fatalf("%d rows, %v", len(got), err)
	}
	if r := got[7]; string(r.Fields) != `{"amount":"7.00","payee":"Shop 0"}` || r.ID != "" || r.Source != "" || r.Rev != 0 {
		t.Errorf("got %+v %s", r, r.Fields)
	}
	if few, err := readAll(s.View(), locker.Query{Collection: "transactions", Fields: []string{"amount"}, Where: `payee = "Shop 1"`, Limit: 3}); err != nil || len(few) != 3 {
		t.Fatalf("%d rows, %v", len(few), err)
	}
	lines := b.lines()
	if len(lines) != 2 {
		t.Fatalf("%d lines: %+v", len(lines), lines)
	}
	want := AuditLine{App: "spy", Grant: id, Purpose: "dpv:RequestedServiceProvision", Collection: "transactions", Fields: []string{"amount", "payee", "time"}, Rows: 2000, Decision: Allowed, Verb: "query", Device: laptop}
	for _, r := range got {
		want.Bytes += sizeOf(r)
	}
	want.Time = lines[0].Time
	if fmt.Sprintf("%+v", lines[0]) != fmt.Sprintf("%+v", want) {
		t.Errorf("got  %+v\nwant %+v", lines[0], want)
	}
	if l := lines[1]; l.Rows != 3 || l.Where != `payee = "Shop 1"` || !slices.Equal(l.Fields, []string{"amount"}) {
		t.Errorf("second line %+v", l)
	}
	b.whole()
}

func TestOpenNeedsAGrant(t *testing.T) {
	b := newBench(t)
	refused := func(when, says string) {
		t.Helper()
		s, err := b.gate.Open(t.Context(), "spy")
		if !errors.Is(err, ErrNoGrant) || !errors.Is(err, locker.ErrRevoked) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want an error that says %q", when, err, says)
		}
		if s != nil {
			t.Errorf("%s: there is a session", when)
		}
	}
	if _, err := b.gate.Open(t.Context(), "spy"); !errors.Is(err, locker.ErrNotFound) {
		t.Errorf("not installed: %v", err)
	}
	b.install(spyManifest)
	refused("never granted", "nothing is granted")
	g, err := b.gate.Grant(t.Context(), "spy", "permit", nil, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	b.install(strings.Replace(spyManifest, `"version":"1"`, `"version":"2"`, 1))
	refused("another manifest", "changed what it asks for")
	b.install(spyManifest)
	if _, err := b.gate.Revoke(t.Context(), g.ID); err != nil {
		t.Fatal(err)
	}
	refused("revoked", "is revoked")
	if _, err := b.gate.Grant(t.Context(), "spy", "permit", nil, time.Time{}); err != nil {
		t.Fatal(err)
	}
	b.setClock(start.AddDate(0, 0, 31))
	refused("expired", "is expired")
	if n := len(b.lines()); n != 4 {
		t.Errorf("%d refusals in the log, want 4", n)
	}
}

func TestGrantRefusesToPay(t *testing.T) {
	b := newBench(t)
	b.install(spyManifest)
	if _, err := b.gate.Grant(t.Context(), "spy", "pay", nil, time.Time{}); !errors.Is(err, manifests.ErrPayment) {
		t.Errorf("got %v", err)
	}
	if list, err := b.gate.Grants(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
}

// A revocation cuts a stream in its middle, at once.
func TestRevokeCutsARunningStream(t *testing.T) {
	b := newBench(t)
	b.fill(5000)
	s, id := b.spy("permit")
	n := 0
	var last error
	for _, err := range s.View().Query(t.Context(), money) {
		last = err
		if err != nil {
			break
		}
		if n++; n == 1000 {
			if _, err := b.gate.Revoke(t.Context(), id); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n != 1000 || !errors.Is(last, locker.ErrRevoked) {
		t.Errorf("%d rows, then %v", n, last)
	}
	select {
	case <-s.Context().Done():
	default:
		t.Error("the session's context goes on")
	}
	if !errors.Is(context.Cause(s.Context()), locker.ErrRevoked) {
		t.Errorf("cause %v", context.Cause(s.Context()))
	}
	v := s.View()
	if _, err := readAll(v, money); !errors.Is(err, locker.ErrRevoked) {
		t.Errorf("query: %v", err)
	}
	if _, err := v.Get(t.Context(), "transactions", "x"); !errors.Is(err, locker.ErrRevoked) {
		t.Errorf("get: %v", err)
	}
	if err := v.Put(t.Context(), locker.Record{Collection: "evil/out", ID: "1", Fields: json.RawMessage(`{"total":"1"}`)}); !errors.Is(err, locker.ErrRevoked) {
		t.Errorf("put: %v", err)
	}
	for _, err := range v.Changes(t.Context(), "transactions", 0) {
		if !errors.Is(err, locker.ErrRevoked) {
			t.Errorf("changes: %v", err)
		}
	}
	lines := b.lines()
	if lines[0].Decision != Cut || lines[0].Rows != 1000 || len(lines) != 5 || lines[1].Decision != Denied {
		t.Errorf("log: %+v", lines)
	}
	if again, err := b.gate.Revoke(t.Context(), id); err != nil || again.ID != id {
		t.Errorf("revoking again: %v", err)
	}
	b.whole()
}

// A revocation that another device made cuts too, within a second, and one that a
// reader waits in is cut while it waits.
func TestRevocationFromAnotherDevice(t *testing.T) {
	b := newBench(t)
	b.fill(2000)
	s, id := b.spy("permit")
	other := newBenchOn(t, phone)
	syncStores(t, b.store, other.store)
	if list, err := other.gate.Grants(t.Context()); err != nil || len(list) != 1 || list[0].State != Elsewhere {
		t.Fatalf("on the phone: %+v, %v", list, err)
	}
	if _, err := other.gate.Revoke(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	n := 0
	var last error
	for _, err := range s.View().Query(t.Context(), money) {
		if last = err; err != nil {
			break
		}
		if n++; n == 700 {
			syncStores(t, other.store, b.store)
			select {
			case <-s.Context().Done():
			case <-time.After(5 * time.Second):
				t.Fatal("not cut")
			}
		}
	}
	if n != 700 || !errors.Is(last, locker.ErrRevoked) {
		t.Errorf("%d rows, then %v", n, last)
	}
}

func TestExpiryCutsARunningStream(t *testing.T) {
	b := newBench(t)
	b.fill(5000)
	s, _ := b.spy("permit")
	n := 0
	var last error
	for _, err := range s.View().Query(t.Context(), money) {
		last = err
		if n++; n == 1000 {
			b.setClock(start.AddDate(0, 0, 30))
		}
	}
	if !errors.Is(last, locker.ErrRevoked) || n > 1600 {
		t.Errorf("%d rows, then %v", n, last)
	}
}

// The clock of expiry does not run backwards, not even over a restart.
func TestClockDoesNotRunBackwards(t *testing.T) {
	b := newBench(t)
	b.fill(1)
	s, _ := b.spy("permit")
	b.setClock(start.AddDate(0, 0, 29))
	if _, err := readAll(s.View(), money); err != nil {
		t.Fatal(err)
	}
	b.setClock(start.AddDate(0, 0, 31))
	if _, err := readAll(s.View(), money); !errors.Is(err, locker.ErrRevoked) {
		t.Fatalf("after the expiry: %v", err)
	}
	if err := s.Close(); err != nil { // writes the refusal down
		t.Fatal(err)
	}
	b.setClock(start)
	if _, err := b.gate.Open(t.Context(), "spy"); !errors.Is(err, ErrNoGrant) {
		t.Errorf("with the clock set back: %v", err)
	}
	b.reopen()
	if _, err := b.gate.Open(t.Context(), "spy"); !errors.Is(err, ErrNoGrant) {
		t.Errorf("with the clock set back, after a restart: %v", err)
	}
}

// A grant works on the devices that it names, by whomever it is signed.
func TestGrantOfAStolenDevice(t *testing.T) {
	thief := newBenchOn(t, phone)
	thief.install(spyManifest)
	if _, err := thief.gate.Grant(t.Context(), "spy", "wide", nil, time.Time{}); err != nil {
		t.Fatal(err)
	}
	b := newBench(t)
	b.install(spyManifest)
	syncStores(t, thief.store, b.store)
	if _, err := b.gate.Open(t.Context(), "spy"); !errors.Is(err, ErrNoGrant) {
		t.Errorf("a grant for the phone works on the laptop: %v", err)
	}
	// One that names the laptop works until the phone is removed, and then no more.
	a, err := thief.gate.App(t.Context(), "spy")
	if err != nil {
		t.Fatal(err)
	}
	grant, err := a.Manifest.Accept("wide", nil, time.Time{}, start)
	if err != nil {
		t.Fatal(err)
	}
	grant.Signer, grant.Devices = phone, []string{phone, laptop}
	document, signature, err := grant.Sign(thief.gate.Sign)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := thief.gate.grants.append(t.Context(), event{Grant: string(document), Signature: signature}); err != nil {
		t.Fatal(err)
	}
	syncStores(t, thief.store, b.store)
	s, err := b.gate.Open(t.Context(), "spy")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	b.mu.Lock()
	b.removed[phone] = true
	b.mu.Unlock()
	if _, err := readAll(s.View(), money); !errors.Is(err, locker.ErrRevoked) {
		t.Errorf("after the phone was removed: %v", err)
	}
	if list, err := b.gate.Grants(t.Context()); err != nil || list[0].State != Revoked || !strings.Contains(list[0].Why, "removed") {
		t.Errorf("%+v, %v", list, err)
	}
}

// A grant that nobody signed, or that was changed, is none.
func TestForgedGrants(t *testing.T) {
	b := newBench(t)
	b.fill(1)
	b.install(spyManifest)
	a, err := b.gate.App(t.Context(), "spy")
	if err != nil {
		t.Fatal(err)
	}
	grant, err := a.Manifest.Accept("permit", nil, time.Time{}, start)
	if err != nil {
		t.Fatal(err)
	}
	grant.Signer, grant.Devices = laptop, []string{laptop}
	document, signature, err := grant.Sign(b.gate.Sign)
	if err != nil {
		t.Fatal(err)
	}
	widened := strings.Replace(string(document), `"payee"`, `"payee","memo"`, 1)
	longer := strings.Replace(string(document), `"expires":"2026`, `"expires":"2036`, 1)
	foreign := grant
	foreign.Signer = phone
	foreignDocument, foreignSignature, err := foreign.Sign(signAs(phone))
	if err != nil {
		t.Fatal(err)
	}
	for name, e := range map[string]event{
		"no signature":                 {Grant: string(document)},
		"more fields":                  {Grant: widened, Signature: signature},
		"a later expiry":               {Grant: longer, Signature: signature},
		"in another device's chain":    {Grant: string(foreignDocument), Signature: foreignSignature},
		"signed by who it says it not": {Grant: string(foreignDocument), Signature: signature},
		"no grant":                     {Grant: "{}"},
	} {
		if widened == string(document) || longer == string(document) {
			t.Fatal("nothing was changed")
		}
		if _, err := b.gate.grants.append(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		if s, err := b.gate.Open(t.Context(), "spy"); !errors.Is(err, ErrNoGrant) {
			t.Errorf("%s: %v, %v", name, s, err)
		}
	}
}

// Who reads what an app made needs what it was made from.
func TestDerivedRecordsCarryTheirInputs(t *testing.T) {
	b := newBench(t)
	b.fill(3)
	s, id := b.spy("permit")
	put := locker.Record{Collection: "evil/out", ID: "sum", Fields: json.RawMessage(`{"total":"3.00"}`)}
	if err := s.View().Put(t.Context(), put); err != nil {
		t.Fatal(err)
	}
	var made locker.Record
	for r, err := range b.store.View(store.Author{}).Query(t.Context(), locker.Query{Collection: "evil/out"}) {
		if err != nil {
			t.Fatal(err)
		}
		made = r
	}
	if made.ID != "apps/spy:sum" || made.Source != "apps/spy/"+id {
		t.Errorf("the record is %+v", made)
	}
	b.install(readerManifest)
	for offer, missing := range map[string]string{"derived": "transactions.{amount,payee,time}", "late": "older transactions"} {
		if _, err := b.gate.Grant(t.Context(), "reader", offer, nil, time.Time{}); err == nil || !strings.Contains(err.Error(), missing) {
			t.Errorf("offer %s: %v, want an error that says %q", offer, err, missing)
		}
	}
	if _, err := b.gate.Grant(t.Context(), "reader", "both", []string{"evil/out", "transactions.time", "transactions.amount"}, time.Time{}); err == nil {
		t.Error("narrowed to less than the inputs: granted")
	}
	if _, err := b.gate.Grant(t.Context(), "reader", "both", nil, time.Time{}); err != nil {
		t.Fatal(err)
	}
	r, err := b.gate.Open(t.Context(), "reader")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got, err := readAll(r.View(), locker.Query{Collection: "evil/out"}); err != nil || len(got) != 1 {
		t.Errorf("%v, %v", got, err)
	}
	// Once spy may read more, what it makes may hold more, and the reader is refused.
	if _, err := b.gate.Grant(t.Context(), "spy", "wide", nil, time.Time{}); err != nil {
		t.Fatal(err)
	}
	var denied *locker.Denied
	if got, err := readAll(r.View(), locker.Query{Collection: "evil/out"}); !errors.As(err, &denied) || denied.Collection != "evil/out" || len(got) != 0 {
		t.Errorf("after spy may read more: %v, %v", got, err)
	}
	if got, err := readAll(r.View(), money); err != nil || len(got) != 3 {
		t.Errorf("its other collection: %d, %v", len(got), err)
	}
}

func TestPutUnderAGrant(t *testing.T) {
	b := newBench(t)
	s, _ := b.spy("permit")
	v := s.View()
	rec := func(collection, fields string) locker.Record {
		return locker.Record{Collection: collection, ID: "1", Fields: json.RawMessage(fields)}
	}
	for _, tt := range []struct {
		name string
		r    locker.Record
		ok   bool
	}{
		{"against the schema", rec("evil/out", `{"total":5}`), false},
		{"without what is required", rec("evil/out", `{"note":"x"}`), false},
		{"whole", rec("evil/out", `{"total":"5"}`), true},
		{"a part of what is there", rec("evil/out", `{"note":"x"}`), true},
		{"removing what is required", rec("evil/out", `{"total":null}`), false},
		{"a well-known collection", rec("transactions", `{"amount":"1"}`), false},
		{"grants", rec("_grants", `{}`), false},
		{"audit", rec("_audit", `{}`), false},
		{"another's collection", rec("other/out", `{}`), false},
	} {
		if err := v.Put(t.Context(), tt.r); (err == nil) != tt.ok {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	decisions := map[string]string{}
	for line, err := range b.gate.Audit(t.Context(), "spy", time.Time{}) {
		if err != nil {
			t.Fatal(err)
		}
		decisions[line.Collection+" "+line.Decision] = line.Verb
	}
	for _, want := range []string{"evil/out allowed", "evil/out denied", "transactions denied", "_grants denied", "other/out denied"} {
		if decisions[want] != "put" {
			t.Errorf("the log has no line of %s: %v", want, decisions)
		}
	}
	for _, never := range []string{"transactions allowed", "_grants allowed", "other/out allowed"} {
		if decisions[never] != "" {
			t.Errorf("the log has %s, which was refused", never)
		}
	}
	counts, err := b.store.Collections()
	if err != nil || counts["evil/out"] != 1 || counts["transactions"] != 0 || counts["other/out"] != 0 {
		t.Errorf("%v, %v", counts, err)
	}
	// It is of class source: the owner's word stands.
	if _, err := b.store.Write(t.Context(), store.Author{Class: store.Owner}, locker.Record{Collection: "evil/out", ID: "apps/spy:1", Fields: json.RawMessage(`{"total":"owner"}`)}); err != nil {
		t.Fatal(err)
	}
	if err := v.Put(t.Context(), rec("evil/out", `{"total":"app"}`)); err != nil {
		t.Fatal(err)
	}
	got, err := b.store.View(store.Author{}).Get(t.Context(), "evil/out", "apps/spy:1")
	if err != nil || !strings.Contains(string(got.Fields), `"owner"`) {
		t.Errorf("%s, %v", got.Fields, err)
	}
}

func TestInstall(t *testing.T) {
	b := newBench(t)
	ctx := t.Context()
	for name, manifest := range map[string]string{
		"broken":            `{`,
		"claims to be ours": strings.Replace(strings.ReplaceAll(spyManifest, "evil/", "locker/"), `"vendor":"evil"`, `"vendor":"locker"`, 1),
		"a connector":       bankManifest,
	} {
		if err := b.gate.Install(ctx, []byte(manifest), Program{Path: "/x"}); !errors.Is(err, locker.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	b.install(spyManifest)
	squatter := strings.Replace(strings.ReplaceAll(spyManifest, "evil/", "worse/"), `"vendor":"evil"`, `"vendor":"worse"`, 1)
	if err := b.gate.Install(ctx, []byte(squatter), Program{Path: "/x"}); !errors.Is(err, locker.ErrInvalid) {
		t.Errorf("another vendor's app of the same name: %v", err)
	}
	b.install(noteManifest)
	apps, err := b.gate.Apps(ctx)
	if err != nil || len(apps) != 2 || apps[0].Manifest.ID != "noter" || apps[1].Program.Path != "/x" {
		t.Errorf("%+v, %v", apps, err)
	}
	g, err := b.gate.Grant(ctx, "spy", "permit", nil, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.gate.Uninstall(ctx, "spy"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.gate.App(ctx, "spy"); !errors.Is(err, locker.ErrNotFound) {
		t.Errorf("after removal: %v", err)
	}
	if err := b.gate.Uninstall(ctx, "spy"); !errors.Is(err, locker.ErrNotFound) {
		t.Errorf("removing again: %v", err)
	}
	list, err := b.gate.Grants(ctx)
	if err != nil || len(list) != 1 || list[0].ID != g.ID || list[0].State != Revoked {
		t.Errorf("%+v, %v", list, err)
	}
}

// Another device cannot exchange the program or the manifest of an app here.
func TestInstalledAppsAreSigned(t *testing.T) {
	b := newBench(t)
	b.install(spyManifest)
	r, err := b.store.View(system).Get(t.Context(), appsCollection, laptop+"/spy")
	if err != nil {
		t.Fatal(err)
	}
	r.Fields = json.RawMessage(strings.Replace(string(r.Fields), `/x`, `/y`, 1))
	if _, err := b.store.Write(t.Context(), system, r); err != nil {
		t.Fatal(err)
	}
	if a, err := b.gate.App(t.Context(), "spy"); err == nil {
		t.Errorf("got %+v", a)
	}
	if list, err := b.gate.Apps(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("%+v, %v", list, err)
	}
}
