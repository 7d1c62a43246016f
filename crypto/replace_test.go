package crypto

import (
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"os"
	"slices"
	"testing"
)

// A board is a remote, as far as keyrings are concerned: objects, in the order in
// which they were put.
type board struct {
	t     testing.TB
	posts []post
	doors uint64
	made  map[string]uint64 // member objects by writer
	epoch int               // epochs made
}

type post struct {
	ref    Ref
	object []byte
	id     string
}

func newBoard(t testing.TB) *board { return &board{t: t, made: map[string]uint64{}} }

// put seals what a keyring says, and lets it absorb that.
func (b *board) put(k *Keyring, r Ref, payload []byte, err error) post {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
	switch r.Kind {
	case "door":
		r.Writer, r.Number = phrase, b.doors
		b.doors++
	case "member":
		b.made[k.Device()]++
		r.Writer, r.Number = k.Device(), b.made[k.Device()]
	}
	object, id, err := k.Seal(r, nil, payload)
	if err != nil {
		b.t.Fatal(err)
	}
	p := post{r, object, id}
	b.posts = append(b.posts, p)
	b.read(k, []post{p})
	return p
}

// read lets a keyring open and absorb what it can, again and again until nothing
// more opens. What is refused for good fails the test.
func (b *board) read(k *Keyring, posts []post) {
	b.t.Helper()
	left := slices.Clone(posts)
	for again := true; again; {
		again = false
		left = slices.DeleteFunc(left, func(p post) bool {
			_, payload, id, err := k.Open(p.ref, p.object)
			if isNotYet(err) {
				return false
			}
			if err == nil {
				_, err = k.Absorb(p.ref, id, nil, payload)
			}
			if err != nil {
				b.t.Fatalf("%s reads %v: %v", k.self.Name, p.ref, err)
			}
			again = true
			return true
		})
	}
}

// settle lets everybody read everything and make the epochs that are due, until
// there is nothing to do.
func (b *board) settle(all ...*Keyring) {
	b.t.Helper()
	for round := 0; ; round++ {
		before := len(b.posts)
		for _, k := range all {
			b.read(k, b.posts)
			if k.NeedsEpoch() {
				b.makeEpoch(k)
			}
		}
		if len(b.posts) == before {
			return
		}
		if round > 8 {
			b.t.Fatal("the devices make epochs without end")
		}
	}
}

func (b *board) makeEpoch(k *Keyring) {
	number, payloads, err := k.NewEpoch()
	b.epoch++
	for to, payload := range payloads {
		b.put(k, Ref{"epoch", k.Device(), number, to}, payload, err)
	}
}

// found makes a locker with devices that all know each other.
func (b *board) found(seed Seed, names ...string) (all []*Keyring) {
	b.t.Helper()
	for _, name := range names {
		all = append(all, b.enter(seed, name))
	}
	b.settle(all...)
	for _, k := range all {
		k.Forget()
	}
	return all
}

// enter makes a device by the phrase, which it holds; it has read everything.
func (b *board) enter(seed Seed, name string) *Keyring {
	b.t.Helper()
	k, err := Recover(seed, name)
	if err != nil {
		b.t.Fatal(err)
	}
	b.read(k, b.posts)
	payload, err := k.Door(b.doors)
	b.put(k, Ref{Kind: "door"}, payload, err)
	return k
}

// replace makes k say that another phrase takes the place of the one that stands.
func (b *board) replace(k *Keyring, next Seed) *NewPhrase {
	b.t.Helper()
	n, err := k.ReplacePhrase(next)
	if err != nil {
		b.t.Fatal(err)
	}
	if !n.Door {
		if err := k.AcceptPhrase(n.ID); err != nil {
			b.t.Fatal(err)
		}
	}
	b.put(k, Ref{Kind: map[bool]string{true: "door", false: "member"}[n.Door]}, n.Statement, nil)
	return n
}

// reads says whether a phrase alone can read what a device writes now. finder is
// for one that replaced another.
func (b *board) reads(seed Seed, finder []byte, k *Keyring) bool {
	b.t.Helper()
	fresh, err := Recover(seed, "reader")
	if finder != nil {
		fresh, err = RecoverReplaced(seed, finder, "reader")
	}
	if err != nil {
		b.t.Fatal(err)
	}
	b.read(fresh, b.posts)
	r := Ref{"entry", k.Device(), 1, ""}
	object, _, err := k.Seal(r, nil, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	_, _, _, err = fresh.Open(r, object)
	return err == nil
}

func members(k *Keyring) string { return fmt.Sprint(k.Members(), k.Removed(), k.Phrase()) }

// read are the ids of the statements that a keyring has read.
func read(k *Keyring) (ids []string) {
	for _, n := range k.members.order {
		ids = append(ids, n.id)
	}
	slices.Sort(ids)
	return ids
}

// TestReplaceSigned: the phrase signs that another takes its place. The other
// devices follow by themselves; the new one finds the locker alone and brings in a
// device; the old one reads and admits nothing that comes after.
func TestReplaceSigned(t *testing.T) {
	b, first, second := newBoard(t), testSeed(1), testSeed(2)
	all := b.found(first, "laptop", "phone")
	laptop, phone := all[0], all[1]
	old := laptop.Phrase()
	if err := laptop.Hold(first); err != nil {
		t.Fatal(err)
	}
	seen := b.enter(first, "tablet") // before: it stays
	b.read(laptop, b.posts)
	late, err := Recover(first, "late") // has not heard of it
	if err != nil {
		t.Fatal(err)
	}
	b.read(late, b.posts)
	n := b.replace(laptop, second)
	if !n.Door || n.At != FinderName(second) || n.ID == old {
		t.Errorf("door %v, at %s, id %s", n.Door, n.At, n.ID)
	}
	payload, err := late.Door(b.doors)
	b.put(late, Ref{Kind: "door"}, payload, err)
	b.settle(laptop, phone, seen)
	for _, k := range []*Keyring{laptop, phone, seen} {
		if k.Phrase() != n.ID || len(k.PendingPhrases()) != 0 || !k.CheckPhrase(second) || k.CheckPhrase(first) {
			t.Errorf("%s: the phrase is %s, offered are %v", k.self.Name, k.Phrase(), k.PendingPhrases())
		}
		if k.isMember(late.Device()) || !k.isMember(seen.Device()) {
			t.Errorf("%s: the members are %v", k.self.Name, k.Members())
		}
		if b.reads(first, nil, k) {
			t.Errorf("the old phrase reads what %s writes", k.self.Name)
		}
		if !b.reads(second, n.Finder, k) {
			t.Errorf("the new phrase does not read what %s writes", k.self.Name)
		}
	}
	if err := laptop.Hold(first); !errors.Is(err, ErrReplaced) {
		t.Errorf("the old phrase can be held: %v", err)
	}
	if _, err := laptop.Door(9); err == nil {
		t.Error("a door without the phrase")
	}
	stale, err := Recover(first, "stale")
	if err != nil {
		t.Fatal(err)
	}
	b.read(stale, b.posts)
	if _, err := stale.Door(9); !errors.Is(err, ErrReplaced) {
		t.Errorf("the old phrase makes a door: %v", err)
	}
	if _, err := stale.ReplacePhrase(testSeed(3)); !errors.Is(err, ErrReplaced) {
		t.Errorf("the old phrase is replaced again: %v", err)
	}
	fresh, err := RecoverReplaced(second, n.Finder, "fresh")
	if err != nil {
		t.Fatal(err)
	}
	b.read(fresh, b.posts)
	payload, err = fresh.Door(b.doors)
	b.put(fresh, Ref{Kind: "door"}, payload, err)
	b.settle(laptop, phone, seen, fresh)
	for _, k := range []*Keyring{laptop, phone, seen, fresh} {
		if members(k) != members(laptop) || !k.isMember(fresh.Device()) {
			t.Errorf("%s: the members are %v", k.self.Name, k.Members())
		}
	}
	// And once more: a replaced phrase is replaced.
	third := testSeed(3)
	m := b.replace(fresh, third)
	b.settle(laptop, phone, seen, fresh)
	if laptop.Phrase() != m.ID || !b.reads(third, m.Finder, phone) || b.reads(second, n.Finder, phone) {
		t.Errorf("the third phrase is %s, the laptop's %s", m.ID, laptop.Phrase())
	}
	// A keyring that is loaded and told what was accepted is the same.
	again, err := Load(phone.Secret())
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range phone.AcceptedPhrases() {
		if err := again.AcceptPhrase(id); err != nil {
			t.Fatal(err)
		}
	}
	posts := slices.Clone(b.posts)
	slices.Reverse(posts)
	b.read(again, posts)
	if members(again) != members(phone) {
		t.Errorf("loaded anew it has %s, not %s", members(again), members(phone))
	}
}

// TestReplaceAsked: without the old phrase a device says so, and each other one goes
// on as before until its owner says yes.
func TestReplaceAsked(t *testing.T) {
	b, first, second := newBoard(t), testSeed(1), testSeed(2)
	all := b.found(first, "laptop", "phone", "tablet")
	laptop, phone := all[0], all[1]
	n := b.replace(laptop, second)
	if n.Door || laptop.Phrase() != n.ID {
		t.Fatalf("door %v, the laptop has %s", n.Door, laptop.Phrase())
	}
	b.settle(all...)
	newcomer, err := RecoverReplaced(second, n.Finder, "newcomer")
	if err != nil {
		t.Fatal(err)
	}
	b.read(newcomer, b.posts)
	payload, err := newcomer.Door(b.doors)
	b.put(newcomer, Ref{Kind: "door"}, payload, err)
	b.settle(append(all, newcomer)...)
	for _, k := range all[1:] {
		offers := k.PendingPhrases()
		if len(offers) != 1 || offers[0].ID != n.ID || offers[0].By != laptop.Device() || offers[0].Conflict {
			t.Errorf("%s: offered are %+v", k.self.Name, offers)
		}
		if k.isMember(newcomer.Device()) || !k.CheckPhrase(first) {
			t.Errorf("%s follows without having been asked", k.self.Name)
		}
		if !b.reads(first, nil, k) {
			t.Errorf("the phrase that stands on %s does not read what it writes", k.self.Name)
		}
	}
	if !laptop.isMember(newcomer.Device()) || b.reads(first, nil, laptop) || !b.reads(second, n.Finder, laptop) {
		t.Error("the laptop does not go by the new phrase")
	}
	made := b.epoch
	b.settle(append(all, newcomer)...)
	if b.epoch != made {
		t.Errorf("%d epochs are made though nothing happens", b.epoch-made)
	}
	for _, k := range all[1:] {
		if err := k.AcceptPhrase(n.ID); err != nil {
			t.Fatal(err)
		}
	}
	b.settle(append(all, newcomer)...)
	for _, k := range append(all, newcomer) {
		if members(k) != members(laptop) || len(k.PendingPhrases()) != 0 || b.reads(first, nil, k) || !b.reads(second, n.Finder, k) {
			t.Errorf("%s: %s, offered %v", k.self.Name, members(k), k.PendingPhrases())
		}
	}
	if err := phone.AcceptPhrase("not an id"); err == nil {
		t.Error("anything is accepted")
	}
}

// TestReplaceThief: who has a device can say that the phrase is another, before it is
// removed or dated back. Nobody follows; after its removal nobody is even asked.
func TestReplaceThief(t *testing.T) {
	b, first, theirs := newBoard(t), testSeed(1), testSeed(7)
	all := b.found(first, "laptop", "phone", "stolen")
	laptop, phone, stolen := all[0], all[1], all[2]
	payload, err := laptop.Remove(stolen.Device(), Pin{})
	removal := b.put(laptop, Ref{Kind: "member"}, payload, err)
	n := b.replace(stolen, theirs) // dated back: it has not read of the removal
	posts := b.posts
	crony, err := RecoverReplaced(theirs, n.Finder, "crony")
	if err != nil {
		t.Fatal(err)
	}
	b.makeEpoch(stolen)
	b.read(crony, b.posts)
	payload, err = crony.Door(b.doors)
	b.put(crony, Ref{Kind: "door"}, payload, err)
	// The phone sees what the thief says first, and asks at most.
	b.read(phone, slices.DeleteFunc(slices.Clone(posts), func(p post) bool { return p.id == removal.id }))
	if phone.Phrase() == n.ID || len(phone.PendingPhrases()) != 1 {
		t.Errorf("the phone has %s and offers %v", phone.Phrase(), phone.PendingPhrases())
	}
	b.settle(laptop, phone)
	for _, k := range []*Keyring{laptop, phone} {
		if offers := k.PendingPhrases(); k.Phrase() == n.ID || len(offers) != 0 {
			t.Errorf("%s has %s and offers %v", k.self.Name, k.Phrase(), offers)
		}
		if len(k.Members()) != 2 || b.reads(theirs, n.Finder, k) || !b.reads(first, nil, k) {
			t.Errorf("%s: the members are %v", k.self.Name, k.Members())
		}
	}
}

// TestReplaceTwice: the phrase signed two replacements, unseen by each other. A
// device stays with the one that it saw first and asks; once the owner has said the
// same everywhere, all devices say the same.
func TestReplaceTwice(t *testing.T) {
	b, first, mine, other := newBoard(t), testSeed(1), testSeed(2), testSeed(3)
	all := b.found(first, "laptop", "phone", "tablet")
	laptop, phone, tablet := all[0], all[1], all[2]
	for _, k := range all[:2] {
		if err := k.Hold(first); err != nil {
			t.Fatal(err)
		}
	}
	m, o := b.replace(laptop, mine), b.replace(phone, other)
	b.settle(laptop, phone)
	b.read(tablet, b.posts)
	for _, c := range []struct {
		k    *Keyring
		has  string
		asks string
	}{{laptop, m.ID, o.ID}, {phone, o.ID, m.ID}} {
		offers := c.k.PendingPhrases()
		if c.k.Phrase() != c.has || len(offers) != 1 || offers[0].ID != c.asks || !offers[0].Conflict {
			t.Errorf("%s has %s and offers %+v", c.k.self.Name, c.k.Phrase(), offers)
		}
	}
	if has := tablet.Phrase(); has != m.ID && has != o.ID || len(tablet.PendingPhrases()) != 1 {
		t.Errorf("the tablet has %s and offers %v", has, tablet.PendingPhrases())
	}
	for _, k := range all {
		k.Forget()
		if err := k.AcceptPhrase(m.ID); err != nil {
			t.Fatal(err)
		}
	}
	b.settle(all...)
	for _, k := range all {
		if k.Phrase() != m.ID || members(k) != members(laptop) || b.reads(other, o.Finder, k) || b.reads(first, nil, k) || !b.reads(mine, m.Finder, k) {
			t.Errorf("%s: %s", k.self.Name, members(k))
		}
	}
}

// TestReplaceRefused: what a replacement must not be.
func TestReplaceRefused(t *testing.T) {
	b := newBoard(t)
	laptop := b.found(testSeed(1), "laptop")[0]
	n, err := laptop.ReplacePhrase(testSeed(2))
	if err != nil {
		t.Fatal(err)
	}
	var good statement
	if err := unmarshalExact(n.Statement, &good); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(r *replacement){
		"another locker's proof": func(r *replacement) { r.Proof[3] ^= 1 },
		"other recipient":        func(r *replacement) { r.Recovery = recipientBytes(phraseKeysFrom(testSeed(3)).recover.Recipient()) },
		"damaged recipient":      func(r *replacement) { r.Recovery = r.Recovery[1:] },
		"another from":           func(r *replacement) { r.From = phraseKeysFrom(testSeed(3)).root.Public().([]byte) },
		"itself":                 func(r *replacement) { r.From = r.Root },
		"short key":              func(r *replacement) { r.Root = r.Root[1:] },
		"another place":          func(r *replacement) { r.At = "b" + r.At[1:] },
		"no place":               func(r *replacement) { r.At = "../x" },
		"another sum":            func(r *replacement) { r.Sum = "0" + r.Sum[1:] },
	} {
		s := good
		r := *good.Replace
		r.Proof, r.Root = slices.Clone(r.Proof), slices.Clone(r.Root)
		func() {
			defer func() {
				if recover() != nil { // a key of another type
					r.From = slices.Clone(r.From)
					r.From[0] ^= 1
				}
			}()
			change(&r)
		}()
		s.Replace = &r
		if _, err := laptop.Absorb(Ref{"member", laptop.Device(), 1, ""}, n.ID, nil, marshalExact(&s)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for name, seed := range map[string]Seed{"the same phrase": testSeed(1)} {
		if _, err := laptop.ReplacePhrase(seed); err == nil {
			t.Errorf("%s takes its own place", name)
		}
	}
	outsider, err := Join(laptop.Invite(), "outsider")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := outsider.ReplacePhrase(testSeed(2)); err == nil {
		t.Error("who is no member replaces the phrase")
	}
	if _, err := RecoverReplaced(testSeed(3), n.Finder, "x"); err == nil {
		t.Error("another phrase reads the finder")
	}
	if err := laptop.Hold(testSeed(2)); err == nil {
		t.Error("a phrase that is offered can be held")
	}
}

// TestReplaceProperty lets devices come, go, replace the phrase and say yes at
// random, each with what it happens to have read. Whoever has read the same and said
// the same yes judges the same, in whatever order it came; nothing that a replaced
// phrase said behind its replacement's back counts; epochs come to rest.
func TestReplaceProperty(t *testing.T) {
	n := uint64(30)
	if testing.Short() {
		n = 10
	}
	compared := uint64(0)
	defer func() {
		if compared < n && os.Getenv("LOCKER_SEED") == "" {
			t.Errorf("only %d keyrings were compared", compared)
		}
	}()
	seeds(t, n, func(t *testing.T, seed uint64) {
		defer func() {
			if t.Failed() {
				t.Logf("LOCKER_SEED=%d", seed)
			}
		}()
		rnd := mrand.New(mrand.NewPCG(seed, 5))
		b, held := newBoard(t), testSeed(1)
		all := b.found(held, "a", "b", "c")
		seeded := map[string]Seed{all[0].Phrase(): held}
		finders := map[string][]byte{}
		for i := range 12 {
			k := all[rnd.IntN(len(all))]
			b.read(k, b.posts[:rnd.IntN(len(b.posts)+1)])
			if !k.isMember(k.Device()) {
				continue
			}
			if k.current == nil {
				b.makeEpoch(k)
			}
			switch rnd.IntN(6) {
			case 0, 1:
				next := testSeed(byte(10 + i))
				if rnd.IntN(2) == 0 {
					if err := k.Hold(seeded[k.Phrase()]); err != nil {
						t.Fatal(err)
					}
				}
				p := b.replace(k, next)
				k.Forget()
				seeded[p.ID], finders[p.ID] = next, p.Finder
			case 2:
				if offers := k.PendingPhrases(); len(offers) > 0 {
					if err := k.AcceptPhrase(offers[rnd.IntN(len(offers))].ID); err != nil {
						t.Fatal(err)
					}
				}
			case 3:
				if other := all[rnd.IntN(len(all))].Device(); other != k.Device() && k.isMember(other) && len(k.Members()) > 2 {
					payload, err := k.Remove(other, Pin{})
					b.put(k, Ref{Kind: "member"}, payload, err)
				}
			case 4:
				id := k.Phrase()
				fresh, err := Recover(seeded[id], fmt.Sprint("new", i))
				if finders[id] != nil {
					fresh, err = RecoverReplaced(seeded[id], finders[id], fmt.Sprint("new", i))
				}
				if err != nil {
					t.Fatal(err)
				}
				b.read(fresh, b.posts)
				payload, err := fresh.Door(b.doors)
				if err != nil {
					continue // it was replaced meanwhile
				}
				b.put(fresh, Ref{Kind: "door"}, payload, nil)
				fresh.Forget()
				all = append(all, fresh)
			}
		}
		b.settle(all...)
		say := map[string]string{}
		for _, k := range all {
			yes := fmt.Sprint(k.AcceptedPhrases(), k.RefusedPhrases(), read(k))
			if was, ok := say[yes]; ok && was != members(k) {
				t.Errorf("two devices accepted %s: one has %s, %s has %s", yes, was, k.self.Name, members(k))
			}
			say[yes] = members(k)
			again, err := Load(k.Secret())
			if err != nil {
				t.Fatal(err)
			}
			posts := slices.Clone(b.posts)
			rnd.Shuffle(len(posts), func(i, j int) { posts[i], posts[j] = posts[j], posts[i] })
			b.read(again, posts)
			if fmt.Sprint(read(again)) != fmt.Sprint(read(k)) {
				continue // some of it could be read with the phrase alone
			}
			compared++
			if members(again) != members(k) {
				t.Errorf("in another order %s has %s, not %s", k.self.Name, members(again), members(k))
			}
		}
		// The owner says the same everywhere: all members agree, and go by it.
		at := slices.IndexFunc(all, func(k *Keyring) bool { return k.isMember(k.Device()) })
		if at < 0 {
			return
		}
		chosen := all[at]
		final := chosen.Phrase()
		for _, k := range all {
			for _, id := range chosen.AcceptedPhrases() {
				if err := k.AcceptPhrase(id); err != nil {
					t.Fatal(err)
				}
			}
			for id := range seeded {
				if !slices.Contains(chosen.phrases.chain, id) {
					if err := k.RefusePhrase(id); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		b.settle(all...)
		for _, k := range all {
			if !chosen.isMember(k.Device()) {
				continue // it may not be able to read what others say
			}
			if members(k) != members(chosen) || k.Phrase() != final {
				t.Errorf("%s has %s, %s has %s", chosen.self.Name, members(chosen), k.self.Name, members(k))
			}
			if !b.reads(seeded[final], finders[final], k) {
				t.Errorf("the phrase that stands does not read what %s writes", k.self.Name)
			}
			for id, s := range seeded {
				if id != final && slices.Contains(k.phrases.chain, id) && b.reads(s, finders[id], k) {
					t.Errorf("a phrase that was replaced reads what %s writes", k.self.Name)
				}
			}
		}
	})
}
