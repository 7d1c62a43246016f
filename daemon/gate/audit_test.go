package gate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/locker-project/locker/daemon/store"
	"github.com/locker-project/locker/manifests"
	"github.com/locker-project/locker/plugins/locker"
)

// A slowStore counts writes to the audit log, and can fail or hold them.
type slowStore struct {
	*store.Store
	writes atomic.Int64
	fail   atomic.Bool
	delay  time.Duration
}

var errDisk = errors.New("disk is full")

func (s *slowStore) Write(ctx context.Context, a store.Author, records ...locker.Record) (store.Counts, error) {
	if records[0].Collection == auditCollection {
		if s.fail.Load() {
			return store.Counts{}, errDisk
		}
		s.writes.Add(1)
		time.Sleep(s.delay)
	}
	return s.Store.Write(ctx, a, records...)
}

// slow puts a gate on a slowStore.
func (b *bench) slow(delay time.Duration) *slowStore {
	b.t.Helper()
	s := &slowStore{Store: b.store, delay: delay}
	g, err := New(context.Background(), b.config(s))
	if err != nil {
		b.t.Fatal(err)
	}
	b.gate = g
	return s
}

// Nothing goes out before its line is written.
func TestNothingWithoutALine(t *testing.T) {
	b := newBench(t)
	b.fill(5000)
	s := b.slow(0)
	session, _ := b.spy("wide")
	got, err := readAll(session.View(), money)
	if err != nil {
		t.Fatal(err)
	}
	s.fail.Store(true)
	v := session.View()
	if rows, err := readAll(v, money); !errors.Is(err, errUnavailable) || len(rows) != 0 {
		t.Errorf("a long read: %d rows, %v", len(rows), err)
	}
	if rows, err := readAll(v, locker.Query{Collection: "transactions", Limit: 1}); !errors.Is(err, errUnavailable) || len(rows) != 0 {
		t.Errorf("a short read: %d rows, %v", len(rows), err)
	}
	if r, err := v.Get(t.Context(), "transactions", got[0].ID); !errors.Is(err, errUnavailable) || r.ID != "" {
		t.Errorf("get: %+v, %v", r, err)
	}
	for r, err := range v.Changes(t.Context(), "transactions", 0) {
		if !errors.Is(err, errUnavailable) {
			t.Errorf("changes: %+v, %v", r, err)
		}
	}
	if err := v.Put(t.Context(), locker.Record{Collection: "evil/out", ID: "1", Fields: json.RawMessage(`{"total":"1"}`)}); !errors.Is(err, errUnavailable) {
		t.Errorf("put: %v", err)
	}
	if counts, err := b.store.Collections(); err != nil || counts["evil/out"] != 0 {
		t.Errorf("%v, %v", counts, err)
	}
	s.fail.Store(false)
	if rows, err := readAll(v, money); err != nil || len(rows) != 5000 {
		t.Errorf("later: %d rows, %v", len(rows), err)
	}
	b.whole()
}

// One durable write for a call, however many rows it has; and calls that wait at
// the same time share one.
func TestWritesOfTheLog(t *testing.T) {
	b := newBench(t)
	b.fill(5000)
	s := b.slow(20 * time.Millisecond)
	session, _ := b.spy("permit")
	before := s.writes.Load()
	if rows, err := readAll(session.View(), money); err != nil || len(rows) != 5000 {
		t.Fatal(len(rows), err)
	}
	if n := s.writes.Load() - before; n != 1 {
		t.Errorf("%d writes before the end of a long read, want 1", n)
	}
	before = s.writes.Load()
	var group sync.WaitGroup
	for range 50 {
		group.Go(func() {
			if _, err := readAll(session.View(), locker.Query{Collection: "transactions", Limit: 2}); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if n := s.writes.Load() - before; n > 20 {
		t.Errorf("%d writes for 50 calls at once", n)
	}
	if n := len(b.lines()); n != 51 {
		t.Errorf("%d lines, want 51", n)
	}
	b.whole()
}

// A read that was going on when the process ended stays in the log, as what it may
// have been.
func TestCrashWhileReading(t *testing.T) {
	b := newBench(t)
	b.fill(5000)
	session, id := b.spy("permit")
	n := 0
	for _, err := range session.View().Query(t.Context(), money) {
		if err != nil {
			t.Fatal(err)
		}
		if n++; n == 600 {
			if l := b.lines(); len(l) != 1 || l[0].Decision != Running || l[0].Rows != 0 {
				t.Errorf("while it goes on: %+v", l)
			}
			b.reopen() // the old gate never writes the end: its process is gone
			break
		}
	}
	lines := b.lines()
	if len(lines) != 1 || lines[0].Decision != Interrupted || lines[0].Grant != id || lines[0].Where != "" {
		t.Errorf("after the crash: %+v", lines)
	}
	b.whole()
}

func TestStopEarly(t *testing.T) {
	b := newBench(t)
	b.fill(5000)
	session, _ := b.spy("permit")
	for range session.View().Query(t.Context(), money) {
		break
	}
	for r, err := range session.View().Query(t.Context(), money) {
		if err != nil {
			t.Fatal(err)
		}
		if string(r.Fields) == `{"amount":"999.00","payee":"Shop 5"}` {
			break
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var last error
	for _, err := range session.View().Query(ctx, money) {
		cancel()
		last = err
	}
	if !errors.Is(last, context.Canceled) {
		t.Errorf("a cancelled read ends with %v", last)
	}
	lines := b.lines()
	if len(lines) != 3 || lines[1].Rows != 1000 || lines[1].Decision != Allowed || lines[2].Rows == 5000 {
		t.Errorf("%+v", lines)
	}
}

// Refusals are in the log, and a flood of them does not fill it.
func TestRefusalsAreWritten(t *testing.T) {
	b := newBench(t)
	b.fill(3)
	session, id := b.spy("permit")
	v := session.View()
	for range 1000 {
		if _, err := readAll(v, locker.Query{Collection: "transactions", Where: `memo ~ "secret"`}); err == nil {
			t.Fatal("not refused")
		}
	}
	for i := range 2000 {
		if _, err := readAll(v, locker.Query{Collection: fmt.Sprint("x", i)}); err == nil {
			t.Fatal("not refused")
		}
	}
	if _, err := readAll(v, locker.Query{Collection: "transactions", Where: strings.Repeat("(", 1000)}); err == nil {
		t.Fatal("not refused")
	}
	if err := session.Close(); err != nil {
		t.Fatal(err)
	}
	lines := b.lines()
	if len(lines) > 2*maxRefused || lines[0].Decision != Denied || lines[0].Grant != id || lines[0].Rows != 0 || !strings.Contains(lines[0].Why, "transactions.memo") {
		t.Errorf("%d lines, the first %+v", len(lines), lines[0])
	}
	most := 0
	for _, l := range lines {
		most = max(most, l.Times)
		if len(l.Where) > maxClip+10 || len(l.Why) > maxClip+10 {
			t.Errorf("a line of %d bytes", len(l.Where)+len(l.Why))
		}
	}
	if most < 1000 {
		t.Errorf("the repeated refusals count %d", most)
	}
	b.whole()
}

func TestAuditSinceAndApp(t *testing.T) {
	b := newBench(t)
	b.fill(3)
	session, _ := b.spy("permit")
	for i := range 5 {
		b.setClock(start.Add(time.Duration(i) * time.Hour))
		if _, err := readAll(session.View(), money); err != nil {
			t.Fatal(err)
		}
	}
	count := func(app string, since time.Time) (n int) {
		for _, err := range b.gate.Audit(t.Context(), app, since) {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
		return n
	}
	if n := count("spy", start.Add(3*time.Hour)); n != 2 {
		t.Errorf("since the third hour: %d, want 2", n)
	}
	if n := count("other", time.Time{}); n != 0 {
		t.Errorf("of another app: %d", n)
	}
	if n := count("", time.Time{}); n != 5 {
		t.Errorf("in all: %d, want 5", n)
	}
}

// Reads, revocations and restarts in random order keep the chains whole, and no
// read goes unlogged.
func TestRandomRuns(t *testing.T) {
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	b := newBench(t)
	b.fill(700)
	b.install(spyManifest)
	var session *Session
	rows, grants := int64(0), 0
	for range 300 {
		switch n := random.IntN(10); {
		case n == 0:
			if _, err := b.gate.Grant(t.Context(), "spy", "permit", nil, time.Time{}); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			grants++
		case n == 1 && session != nil:
			if _, err := b.gate.Revoke(t.Context(), session.Grant().ID); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
		case n == 2:
			if session != nil {
				if err := session.Close(); err != nil {
					t.Fatalf("seed %d: %v", seed, err)
				}
			}
			b.reopen()
			session = nil
		case session == nil || session.Context().Err() != nil:
			s, err := b.gate.Open(t.Context(), "spy")
			if err != nil && !errors.Is(err, ErrNoGrant) {
				t.Fatalf("seed %d: %v", seed, err)
			}
			if session = s; err != nil {
				session = nil
			}
		default:
			got, err := readAll(session.View(), locker.Query{Collection: "transactions", Limit: 1 + random.IntN(700)})
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			rows += int64(len(got))
		}
	}
	logged := int64(0)
	for _, l := range b.lines() {
		logged += l.Rows
	}
	if logged != rows {
		t.Errorf("seed %d: %d rows in the log, %d went out", seed, logged, rows)
	}
	if list, err := b.gate.Grants(t.Context()); err != nil || len(list) != grants {
		t.Errorf("seed %d: %d grants, want %d: %v", seed, len(list), grants, err)
	}
	b.whole()
}

// A start writes nothing, and what was refused before an end is in the log.
func TestStartAndClose(t *testing.T) {
	b := newBench(t)
	b.install(spyManifest)
	grant, err := b.gate.Grant(t.Context(), "spy", "permit", nil, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	session, err := b.gate.Open(t.Context(), "spy")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := readAll(session.View(), locker.Query{Collection: "messages"}); err == nil {
		t.Fatal("not refused")
	}
	if err := b.gate.Close(); err != nil {
		t.Fatal(err)
	}
	if session.Context().Err() == nil {
		t.Error("a session goes on after Close")
	}
	b.reopen()
	if lines := b.lines(); len(lines) != 1 || lines[0].Collection != "messages" || lines[0].Decision != Denied {
		t.Errorf("%+v", lines)
	}
	if _, err := b.gate.Revoke(t.Context(), grant.ID); err != nil {
		t.Fatal(err)
	}
	counting := &countingStore{Store: b.store}
	if _, err := New(t.Context(), b.config(counting)); err != nil {
		t.Fatal(err)
	}
	if counting.writes.Load() != 0 {
		t.Errorf("a start wrote %d times", counting.writes.Load())
	}
}

// A countingStore counts all writes.
type countingStore struct {
	*store.Store
	writes atomic.Int64
}

func (s *countingStore) Write(ctx context.Context, a store.Author, records ...locker.Record) (store.Counts, error) {
	s.writes.Add(1)
	return s.Store.Write(ctx, a, records...)
}

func (s *countingStore) SetNotes(ctx context.Context, notes map[string][]byte) error {
	s.writes.Add(1)
	return s.Store.SetNotes(ctx, notes)
}

// FuzzLink reads links as another device may have written them.
func FuzzLink(f *testing.F) {
	b := newBench(f)
	b.install(spyManifest)
	if _, err := b.gate.Grant(context.Background(), "spy", "permit", nil, time.Time{}); err != nil {
		f.Fatal(err)
	}
	good, err := b.store.View(system).Get(context.Background(), grantsCollection, linkID(laptop, 1))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good.ID, []byte(good.Fields))
	f.Add(linkID(phone, 1), []byte(good.Fields))
	f.Add("x/0000000000000001", []byte(`{"link":"{\"body\":5}","signature":"AA=="}`))
	f.Fuzz(func(t *testing.T, id string, fields []byte) {
		l := b.gate.checkLink(locker.Record{Collection: grantsCollection, ID: id, Fields: fields}, nil)
		if l.bad == "" && (id != good.ID || l.hash == "") {
			t.Fatalf("%q %q is believed", id, fields)
		}
		book := &grantBook{revoked: map[string]string{}, checked: &checked{map[string]bool{}, map[string]manifests.Grant{}}}
		device, _ := splitLinkID(id)
		b.gate.take(book, device, []link{l})
		if l.bad != "" && len(book.grants) > 0 {
			t.Fatalf("%q %q makes a grant", id, fields)
		}
	})
}
