package gate

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/locker-project/locker/daemon/store"
	"github.com/locker-project/locker/manifests"
	"github.com/locker-project/locker/plugins/locker"
)

const bankManifest = `{"id":"bank","kind":"connector","name":"Bank","vendor":"locker","version":"1","purpose":"Reads statements.","program":"connectors/bank","writes":["transactions"],"connector":{"reads":["ofx"]}}`

func bank(t *testing.T, b *bench, importID string, dry bool) *Intake {
	t.Helper()
	m, err := manifests.ParseManifest([]byte(bankManifest))
	if err != nil {
		t.Fatal(err)
	}
	in, err := b.gate.Connector(t.Context(), m, importID, dry)
	if err != nil {
		t.Fatal(err)
	}
	return in
}

func booking(id, fields string) locker.Record {
	return locker.Record{Collection: "transactions", ID: id, Time: start, Fields: json.RawMessage(fields)}
}

func TestIntake(t *testing.T) {
	b := newBench(t)
	claims := booking("2", `{"amount":"2"}`)
	claims.Source, claims.Import, claims.Rev = "CH93", "i-forged", 99
	elsewhere := booking("3", `{"text":"x"}`)
	elsewhere.Collection = "messages"
	system := booking("4", `{}`)
	system.Collection = "_grants"
	year := booking("5", `{"amount":"5"}`)
	year.Time = time.Date(12000, 1, 1, 0, 0, 0, 0, time.UTC)
	batch := []locker.Record{
		booking("1", `{"amount":"1","ofxTag":"kept"}`), claims, elsewhere, system, year,
		booking("6", `{"amount":1.5}`), booking("7", `{"currency":"CHF"}`), booking("", `{"amount":"8"}`), booking("9", `[]`),
		booking("10", `{"amount":"1","Currency":"CHF"}`), booking("11", `{"amount":"1","currency":"chf"}`),
	}
	failed := map[string]string{"3": "not granted", "4": "not granted", "5": "year", "6": "transactions.amount", "7": "amount", "": "no id", "9": "object", "10": "is written currency", "11": "transactions.currency"}
	for _, dry := range []bool{true, false} {
		in := bank(t, b, "i-1", dry)
		got, err := in.Put(t.Context(), batch...)
		if err != nil || got.New != 2 || got.Same != 0 || got.Changed != 0 || len(got.Failed) != len(failed) {
			t.Fatalf("dry %v: %+v, %v", dry, got, err)
		}
		for _, f := range got.Failed {
			if !strings.Contains(f.Why, failed[f.ID]) {
				t.Errorf("record %q failed because %q, want %q", f.ID, f.Why, failed[f.ID])
			}
		}
		counts, err := b.store.Collections()
		if want := map[bool]int64{true: 0, false: 2}[dry]; err != nil || counts["transactions"] != want || counts["messages"] != 0 {
			t.Errorf("dry %v: %v, %v", dry, counts, err)
		}
	}
	v := b.store.View(store.Author{})
	one, err := v.Get(t.Context(), "transactions", "bank:1")
	if err != nil || one.Source != "bank" || one.Import != "i-1" || !strings.Contains(string(one.Fields), `"ofxTag":"kept"`) {
		t.Errorf("%+v, %v", one, err)
	}
	two, err := v.Get(t.Context(), "transactions", "bank:2")
	if err != nil || two.Source != "bank/CH93" || two.Import != "i-1" {
		t.Errorf("%+v, %v", two, err)
	}
	again, err := bank(t, b, "i-2", false).Put(t.Context(), booking("1", `{"amount":"1","ofxTag":"kept"}`), booking("2", `{"amount":"3"}`))
	if err != nil || again.New != 0 || again.Changed == 0 {
		t.Errorf("again: %+v, %v", again, err)
	}
	// A connector writes as a source: what the owner said stands.
	if _, err := b.store.Write(t.Context(), store.Author{Class: store.Owner}, locker.Record{Collection: "transactions", ID: "bank:2", Fields: json.RawMessage(`{"category":"mine"}`)}); err != nil {
		t.Fatal(err)
	}
	if _, err := bank(t, b, "i-3", false).Put(t.Context(), booking("2", `{"amount":"3","category":"theirs"}`)); err != nil {
		t.Fatal(err)
	}
	if two, err = v.Get(t.Context(), "transactions", "bank:2"); err != nil || !strings.Contains(string(two.Fields), `"mine"`) {
		t.Errorf("%s, %v", two.Fields, err)
	}
}

func TestIntakeNeedsAConnectorAndAnImport(t *testing.T) {
	b := newBench(t)
	app, err := manifests.ParseManifest([]byte(spyManifest))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.gate.Connector(t.Context(), app, "i-1", false); !errors.Is(err, locker.ErrInvalid) {
		t.Errorf("an app: %v", err)
	}
	connector, err := manifests.ParseManifest([]byte(bankManifest))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.gate.Connector(t.Context(), connector, "", false); !errors.Is(err, locker.ErrInvalid) {
		t.Errorf("no import: %v", err)
	}
}

// A record that only the store refuses does not keep the others out.
func TestIntakeOneByOne(t *testing.T) {
	b := newBench(t)
	long := booking(strings.Repeat("x", 5000), `{"amount":"1"}`)
	got, err := bank(t, b, "i-1", false).Put(t.Context(), booking("1", `{"amount":"1"}`), long, booking("2", `{"amount":"2"}`))
	if err != nil || got.New != 2 || len(got.Failed) != 1 || got.Failed[0].ID != long.ID {
		t.Errorf("%d new, %d failed, %v", got.New, len(got.Failed), err)
	}
}

func TestIntakeBlob(t *testing.T) {
	b := newBench(t)
	id, err := bank(t, b, "i-1", false).Blob(t.Context(), strings.NewReader("picture"))
	if err != nil {
		t.Fatal(err)
	}
	r, size, err := b.store.OpenBlob(t.Context(), id)
	if err != nil || size != 7 {
		t.Fatal(size, err)
	}
	defer r.Close()
	if content, err := io.ReadAll(r); err != nil || string(content) != "picture" {
		t.Errorf("%q, %v", content, err)
	}
}

func BenchmarkIntake(bb *testing.B) {
	b := newBench(bb)
	m, err := manifests.ParseManifest([]byte(bankManifest))
	if err != nil {
		bb.Fatal(err)
	}
	in, err := b.gate.Connector(bb.Context(), m, "i-1", false)
	if err != nil {
		bb.Fatal(err)
	}
	n := 0
	for bb.Loop() {
		batch := make([]locker.Record, 1000)
		for i := range batch {
			n++
			batch[i] = booking(fmt.Sprint(n), fmt.Sprintf(`{"amount":"-%d.50","currency":"CHF","payee":"Shop %d","memo":"Card payment in a shop on some day","account":"CH93 0076 2011 6238 5295 7","reference":"%d"}`, n, n%50, n))
		}
		if _, err := in.Put(bb.Context(), batch...); err != nil {
			bb.Fatal(err)
		}
	}
	bb.ReportMetric(float64(n)/bb.Elapsed().Seconds(), "records/s")
}
