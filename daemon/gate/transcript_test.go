package gate

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/locker-project/locker/daemon/store"
	"github.com/locker-project/locker/plugins/locker"
)

// asked runs the same calls on a view and writes down all that an app learns.
func asked(v locker.View, calls func(say func(string, ...any), v locker.View)) string {
	var b strings.Builder
	calls(func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }, v)
	return b.String()
}

// TestTranscripts makes two lockers that differ only in what is not granted: in
// other fields, sources, other collections, the order of arrival, and later changes
// to hidden fields. Whatever an app asks, it gets the
// same bytes from both.
func TestTranscripts(t *testing.T) {
	seed := rand.Uint64()
	for round := range 12 {
		random := rand.New(rand.NewPCG(seed, uint64(round)))
		fields := [][]string{{"amount"}, {"amount", "time"}, {"id", "amount", "payee"}, {"id", "time", "payee"}}[round%4]
		a, b := newBench(t), newBench(t)
		n := 20 + random.IntN(60)
		times, amounts := make([]time.Time, n), make([]string, n)
		for i := range n {
			times[i] = start.Add(-time.Duration(random.IntN(20)) * 24 * time.Hour)
			amounts[i] = fmt.Sprint(random.IntN(50))
		}
		visible := func(i int) string { return fmt.Sprintf(`{"amount":"%s","payee":"P%d"`, amounts[i], i%5) }
		hidden := func() string {
			return fmt.Sprintf(`,"memo":"%d","balance":"%d.5","tags":["%d"]}`, random.Uint32(), random.IntN(99), random.IntN(9))
		}
		owner := store.Author{Class: store.Owner}
		write := func(on *bench, author store.Author, i int, fields string) {
			t.Helper()
			r := locker.Record{Collection: "transactions", ID: fmt.Sprint("bank:", i), Time: times[i], Fields: json.RawMessage(fields)}
			if _, err := on.store.Write(context.Background(), author, r); err != nil {
				t.Fatal(err)
			}
		}
		for i := range n {
			write(a, owner, i, visible(i)+"}")
		}
		for _, i := range random.Perm(n) {
			author := owner
			if random.IntN(2) == 0 {
				author = store.Author{Class: store.Source, Source: fmt.Sprint("bank/", i), Import: "i-7"}
			}
			write(b, author, i, visible(i)+hidden())
			other := locker.Record{Collection: "messages", ID: fmt.Sprint(i), Fields: json.RawMessage(`{"text":"x"}`)}
			if _, err := b.store.Write(context.Background(), store.Author{}, other); err != nil {
				t.Fatal(err)
			}
		}
		// The same grant, to the key, on both.
		a.install(spyManifest)
		b.install(spyManifest)
		app, err := a.gate.App(t.Context(), "spy")
		if err != nil {
			t.Fatal(err)
		}
		grant, err := app.Manifest.Accept("wide", nil, time.Time{}, start)
		if err != nil {
			t.Fatal(err)
		}
		grant.Reads[0].Fields = fields
		grant.Signer, grant.Devices = laptop, []string{laptop}
		document, signature, err := grant.Sign(a.gate.Sign)
		if err != nil {
			t.Fatal(err)
		}
		var views []locker.View
		for _, on := range []*bench{a, b} {
			if _, err := on.gate.grants.append(t.Context(), event{Grant: string(document), Signature: signature}); err != nil {
				t.Fatal(err)
			}
			s, err := on.gate.Open(t.Context(), "spy")
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			views = append(views, s.View())
		}
		compare := func(when string) {
			t.Helper()
			x, y := asked(views[0], askEverything), asked(views[1], askEverything)
			if x != y {
				p, q := strings.Split(x, "\n"), strings.Split(y, "\n")
				i := 0
				for p[i] == q[i] {
					i++
				}
				t.Fatalf("seed %d round %d, %v, %s: the transcripts differ in line %d:\n%s\n%s", seed, round, fields, when, i, p[i], q[i])
			}
			if strings.Count(x, "\n") < n {
				t.Fatalf("a transcript of %d lines", strings.Count(x, "\n"))
			}
		}
		compare("at first")
		for range 10 { // hidden changes in one of them
			write(b, owner, random.IntN(n), "{"+hidden()[1:])
		}
		compare("after hidden changes")
		for i := range 5 { // the same visible changes in both, in another order
			write(a, owner, i, fmt.Sprintf(`{"amount":"%d"}`, 1000+i))
			write(b, owner, 4-i, fmt.Sprintf(`{"amount":"%d","memo":"%d"}`, 1004-i, random.Uint32()))
		}
		compare("after visible changes")
	}
}

// askEverything tries what an app can ask, and says all that comes back.
func askEverything(say func(string, ...any), v locker.View) {
	ctx := context.Background()
	var ids []string
	for _, q := range []locker.Query{
		{}, {Limit: 3}, {Limit: 1, Descending: true}, {Fields: []string{"amount"}}, {Fields: []string{"memo"}}, {Fields: []string{}},
		{Where: `amount > 20`}, {Where: `amount > 20`, Limit: 2}, {Where: `payee = "P1"`}, {Where: `memo ~ "1"`}, {Where: `balance > 5`},
		{Where: `id ~ "bank"`}, {Where: `source = null`}, {Where: `import != null`}, {Where: `time < "2026-01-01"`},
		{Since: start.AddDate(0, 0, -5)}, {Until: start.AddDate(0, 0, -5), Limit: 4},
	} {
		q.Collection = "transactions"
		say("query %+v", q)
		for r, err := range v.Query(ctx, q) {
			say("%+v %s %v", r, r.Fields, err)
			if r.ID != "" {
				ids = append(ids, r.ID)
			}
		}
	}
	for _, id := range append(ids, "bank:1", "bank:9999", "x") {
		r, err := v.Get(ctx, "transactions", id)
		say("get %s: %+v %s %v", id, r, r.Fields, err)
	}
	var first locker.Rev
	for r, err := range v.Changes(ctx, "transactions", 0) {
		if first == 0 {
			first = r.Rev - 1 // positions count from the start of the gate
		}
		position := r.Rev - first
		r.Rev = 0
		say("change %d: %+v %s %v", position, r, r.Fields, err)
	}
	for _, collection := range []string{"messages", "_grants", "nothing"} {
		for r, err := range v.Query(ctx, locker.Query{Collection: collection}) {
			say("query %s: %+v %v", collection, r, err)
		}
	}
}
