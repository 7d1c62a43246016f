package crypto

import (
	"slices"
	"strings"
	"testing"
)

// TestAnEpochOfAForeignMakerIsNotSealedTo lets members and others offer epochs.
func TestAnEpochOfAForeignMakerIsNotSealedTo(t *testing.T) {
	a, b := two(t)
	was := a.current
	offer := func(maker string, number uint64, p epochPayload) {
		t.Helper()
		p.Version = 1
		if p.Identity == "" {
			seed := NewSeed()
			p.Identity = identityText(seed[:])
		}
		r := Ref{"epoch", maker, number, a.Device()}
		if _, err := a.Absorb(r, strings.Repeat("e", 64), nil, marshalExact(&p)); err != nil {
			t.Fatal(err)
		}
	}
	stranger, err := Join(a.Invite(), "stranger")
	if err != nil {
		t.Fatal(err)
	}
	with := func(d ...string) []string { slices.Sort(d); return d }
	offer(stranger.Device(), 9, epochPayload{Recipients: with(stranger.Device(), a.Device(), b.Device())})
	if a.current != was {
		t.Error("it seals to a stranger's epoch")
	}
	offer(b.Device(), 9, epochPayload{Recipients: with(stranger.Device(), a.Device(), b.Device())})
	if a.current != was {
		t.Error("it seals to an epoch that a stranger has")
	}
	// b claims that an epoch of a's has another secret.
	seed := NewSeed()
	offer(b.Device(), 1, epochPayload{Recipients: with(b.Device()),
		Earlier: []earlierOf{{a.Device(), was.number + 1, identityText(seed[:]), nil}}})
	if a.current != was {
		t.Error("it seals to an epoch that another claims to be its own")
	}
	// b hands a's epochs on to a stranger, one by one.
	for number := was.number; number > 0; number-- {
		i := slices.IndexFunc(a.epochs, func(e *epoch) bool { return e.own && e.maker == a.Device() && e.number == number })
		offer(b.Device(), 20-number, epochPayload{Recipients: with(stranger.Device(), b.Device()),
			Earlier: []earlierOf{{a.Device(), number, a.epochs[i].text, nil}}})
		if a.current != nil && a.current.text == a.epochs[i].text {
			t.Error("it seals to an epoch that was handed on to a stranger")
		}
	}
	if !a.NeedsEpoch() {
		t.Error("no epoch is needed")
	}
}

// TestWhoMayMakeEpochs: only devices that are or were members, and those that an
// invitation named.
func TestWhoMayMakeEpochs(t *testing.T) {
	a, b := two(t)
	stranger, err := Join(a.Invite(), "stranger")
	if err != nil {
		t.Fatal(err)
	}
	// b's admission of the stranger waits for what it names, so the key is known.
	s := &statement{Version: 1, Admit: &stranger.self, Tips: []string{strings.Repeat("0", 64)}}
	if changed, err := a.Absorb(Ref{"member", b.Device(), 1, ""}, strings.Repeat("1", 64), nil, marshalExact(s)); err != nil || changed {
		t.Fatal(changed, err)
	}
	if got := a.Missing(); !slices.Equal(got, s.Tips) {
		t.Errorf("missing %v", got)
	}
	r := Ref{"epoch", stranger.Device(), 1, a.Device()}
	h := header{Version: 1, Locker: a.locker, Kind: "epoch", Writer: r.Writer, Number: 1, To: r.To, Epoch: r.To, Log: []byte("{}"), SHA256: strings.Repeat("0", 64)}
	if _, _, _, err := a.Open(r, forge(t, stranger, stranger.sign, h, nil, a.identity.Recipient())); !isNotYet(err) {
		t.Errorf("a stranger's epoch: %v", err)
	}
	// The stranger's invitation named a, so a's epoch is good to it at once.
	for to, object := range makeEpoch(t, a, a) {
		if to != b.Device() {
			continue
		}
		joining, err := Load(b.Secret())
		if err != nil {
			t.Fatal(err)
		}
		if _, _, _, err := joining.Open(Ref{"epoch", a.Device(), a.current.number, to}, object); err != nil {
			t.Errorf("an epoch by a device that the invitation named: %v", err)
		}
	}
}
