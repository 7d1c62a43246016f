package gate

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/locker-project/locker/daemon/store"
	"github.com/locker-project/locker/plugins/locker"
)

// A bench is a gate on a real store in memory, with a clock and devices of the test.
type bench struct {
	t      testing.TB
	store  *store.Store
	gate   *Gate
	device string

	mu      sync.Mutex
	now     time.Time
	removed map[string]bool
}

const (
	laptop = "laptoplaptoplapt"
	phone  = "phonephonephonep"
)

var start = time.Date(2026, 1, 10, 12, 0, 0, 0, time.UTC)

// deviceKey is the key of a device of the tests.
func deviceKey(device string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte(device))
	return ed25519.NewKeyFromSeed(seed[:])
}

func signAs(device string) func(string, []byte) []byte {
	return func(label string, message []byte) []byte {
		return ed25519.Sign(deviceKey(device), append([]byte(label+"\x00"), message...))
	}
}

func verify(device, label string, message, signature []byte) error {
	if device != laptop && device != phone {
		return fmt.Errorf("no device %q", device)
	}
	if !ed25519.Verify(deviceKey(device).Public().(ed25519.PublicKey), append([]byte(label+"\x00"), message...), signature) {
		return errors.New("bad signature")
	}
	return nil
}

func openStore(t testing.TB, device string, fs vfs.FS) *store.Store {
	t.Helper()
	s, err := store.Open("store", store.Options{Key: [32]byte{1}, Device: device, BlobKey: make([]byte, 32), FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil && !errors.Is(err, store.ErrClosed) {
			t.Error(err)
		}
	})
	return s
}

func newBench(t testing.TB) *bench { return newBenchOn(t, laptop) }

func newBenchOn(t testing.TB, device string) *bench {
	t.Helper()
	b := &bench{t: t, store: openStore(t, device, vfs.NewMem()), device: device, now: start, removed: map[string]bool{}}
	b.reopen()
	return b
}

// reopen makes a new gate on the same store, as a restart does.
func (b *bench) reopen() {
	b.t.Helper()
	g, err := New(context.Background(), b.config(b.store))
	if err != nil {
		b.t.Fatal(err)
	}
	b.gate = g
}

func (b *bench) config(s Store) Config {
	return Config{Store: s, Sign: signAs(b.device), Verify: verify, Device: b.device, Clock: b.clock, Member: b.member}
}

func (b *bench) clock() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.now
}

func (b *bench) setClock(t time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now = t
}

func (b *bench) member(device string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.removed[device]
}

// sync merges what one bench's store wrote into another's.
func syncStores(t testing.TB, from, to *store.Store) {
	t.Helper()
	lines, _, _, err := from.Cut(context.Background(), nil, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := to.Join(context.Background(), lines, nil); err != nil {
		t.Fatal(err)
	}
}

const spyManifest = `{"id":"spy","kind":"app","name":"Spy","vendor":"evil","version":"1","purpose":"Looks.","program":"spy",
	"requests":[{"id":"money","collection":"transactions","fields":["time","amount","payee"],"required":["amount"],"purpose":["dpv:RequestedServiceProvision"]},
		{"id":"all","collection":"transactions","fields":["id","time","source","import","amount","payee","memo"],"purpose":["dpv:ServicePersonalisation"]}],
	"writes":["evil/out"],
	"collections":{"evil/out":{"type":"object","required":["total"],"properties":{"total":{"type":"string"},"note":{"type":"string"}}}},
	"offers":[{"id":"permit","kind":"permit","requests":["money"],"expires":"P30D"},{"id":"wide","kind":"permit","requests":["all"]},
		{"id":"pay","kind":"pay","price":{"amount":"3.00","currency":"EUR","per":"P1M"}}]}`

// readerManifest is an app that reads what spy made.
const readerManifest = `{"id":"reader","kind":"app","name":"Reader","vendor":"other","version":"1","purpose":"Reads on.","program":"reader",
	"requests":[{"id":"derived","collection":"evil/out","fields":["total"],"purpose":["dpv:RequestedServiceProvision"]},
		{"id":"money","collection":"transactions","fields":["time","amount","payee"],"purpose":["dpv:RequestedServiceProvision"]},
		{"id":"less","collection":"transactions","fields":["time","amount","payee"],"window":"P30D","purpose":["dpv:RequestedServiceProvision"]}],
	"offers":[{"id":"derived","kind":"permit","requests":["derived"]},{"id":"both","kind":"permit","requests":["derived","money"]},{"id":"late","kind":"permit","requests":["derived","less"]}]}`

func (b *bench) install(manifest string) {
	b.t.Helper()
	if err := b.gate.Install(context.Background(), []byte(manifest), Program{Path: "/x", SHA256: "00"}); err != nil {
		b.t.Fatal(err)
	}
}

// fill writes n transactions, one a day, as the owner.
func (b *bench) fill(n int) {
	b.t.Helper()
	var records []locker.Record
	for i := range n {
		records = append(records, locker.Record{Collection: "transactions", ID: fmt.Sprintf("bank:%06d", i), Time: start.Add(time.Duration(i-n) * time.Minute),
			Fields: json.RawMessage(fmt.Sprintf(`{"amount":"%d.00","currency":"CHF","payee":"Shop %d","memo":"secret %d"}`, i, i%7, i))})
	}
	if _, err := b.store.Write(context.Background(), store.Author{Class: store.Owner}, records...); err != nil {
		b.t.Fatal(err)
	}
}

// spy installs and grants the app, and opens a session.
func (b *bench) spy(offer string) (*Session, string) {
	b.t.Helper()
	b.install(spyManifest)
	g, err := b.gate.Grant(context.Background(), "spy", offer, nil, time.Time{})
	if err != nil {
		b.t.Fatal(err)
	}
	s, err := b.gate.Open(context.Background(), "spy")
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = s.Close() })
	return s, g.ID
}

func readAll(v locker.View, q locker.Query) (out []locker.Record, err error) {
	for r, err := range v.Query(context.Background(), q) {
		if err != nil {
			return out, err
		}
		out = append(out, r)
	}
	return out, nil
}

var money = locker.Query{Collection: "transactions"}

// lines returns the audit log.
func (b *bench) lines() []AuditLine {
	b.t.Helper()
	var out []AuditLine
	for l, err := range b.gate.Audit(context.Background(), "", time.Time{}) {
		if err != nil {
			b.t.Fatal(err)
		}
		out = append(out, l)
	}
	return out
}

func (b *bench) whole() {
	b.t.Helper()
	_, broken, err := b.gate.VerifyChains(context.Background())
	if err != nil || len(broken) > 0 {
		b.t.Errorf("chains: %v, %v", broken, err)
	}
}
