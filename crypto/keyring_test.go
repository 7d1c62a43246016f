package crypto

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	mrand "math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
)

// testSeed is a seed whose bytes are n, n+1, …
func testSeed(n byte) Seed {
	var s Seed
	for i := range s {
		s[i] = n + byte(i)
	}
	return s
}

// absorbSealed seals a payload as r with one keyring and lets others open and
// absorb it, as the replica does.
func absorbSealed(t testing.TB, from *Keyring, r Ref, payload []byte, into ...*Keyring) []byte {
	t.Helper()
	object, id, err := from.Seal(r, nil, payload)
	if err != nil {
		t.Fatalf("seal %v: %v", r, err)
	}
	for _, k := range into {
		_, got, gotID, err := k.Open(r, object)
		if err != nil {
			t.Fatalf("open %v: %v", r, err)
		}
		if gotID != id || !bytes.Equal(got, payload) {
			t.Fatalf("open %v: another object came back", r)
		}
		if _, err := k.Absorb(r, id, nil, got); err != nil {
			t.Fatalf("absorb %v: %v", r, err)
		}
	}
	return object
}

// founded is a new locker with its first device and its first epoch.
func founded(t testing.TB, seed Seed) *Keyring {
	t.Helper()
	k, err := Found(seed, "laptop")
	if err != nil {
		t.Fatal(err)
	}
	door, err := k.Door(0)
	if err != nil {
		t.Fatal(err)
	}
	absorbSealed(t, k, Ref{"door", "phrase", 0, ""}, door, k)
	makeEpoch(t, k, k)
	return k
}

// makeEpoch lets k make an epoch, which those of into that can open it absorb.
func makeEpoch(t testing.TB, k *Keyring, into ...*Keyring) map[string][]byte {
	t.Helper()
	number, payloads, err := k.NewEpoch()
	if err != nil {
		t.Fatal(err)
	}
	objects := map[string][]byte{}
	for _, to := range slices.Sorted(maps.Keys(payloads)) {
		r := Ref{"epoch", k.Device(), number, to}
		object, id, err := k.Seal(r, nil, payloads[to])
		if err != nil {
			t.Fatal(err)
		}
		objects[to] = object
		for _, other := range into {
			_, payload, _, err := other.Open(r, object)
			if isNotYet(err) {
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := other.Absorb(r, id, nil, payload); err != nil {
				t.Fatal(err)
			}
		}
	}
	return objects
}

func isNotYet(err error) bool {
	var e interface{ NotYet() bool }
	return errors.As(err, &e) && e.NotYet()
}

func isNewer(err error) bool {
	var e interface{ Newer() bool }
	return errors.As(err, &e) && e.Newer()
}

func TestLoadGivesTheSameDevice(t *testing.T) {
	k := founded(t, testSeed(1))
	again, err := Load(k.Secret())
	if err != nil {
		t.Fatal(err)
	}
	if again.Device() != k.Device() || again.Locker() != k.Locker() || again.DeviceName(k.Device()) != "laptop" {
		t.Errorf("loaded %v, want %v", again, k)
	}
	if !bytes.Equal(again.Secret(), k.Secret()) || !bytes.Equal(again.BlobKey(), k.BlobKey()) || !bytes.Equal(again.Request(), k.Request()) {
		t.Error("the loaded keyring has other keys")
	}
	if !again.CheckPhrase(testSeed(1)) || again.CheckPhrase(testSeed(2)) {
		t.Error("the loaded keyring does not know its phrase")
	}
	if _, err := again.Door(1); err == nil {
		t.Error("the loaded keyring makes a door without the phrase")
	}
	if err := again.Hold(testSeed(2)); err == nil {
		t.Error("the keyring takes another locker's phrase")
	}
	if err := again.Hold(testSeed(1)); err != nil {
		t.Error(err)
	}
	if _, err := again.Door(1); err != nil {
		t.Error(err)
	}
	again.Forget()
	if _, err := again.Door(1); err == nil {
		t.Error("the keyring still holds the phrase that it was to forget")
	}
	if _, err := Load(k.Invite()); err == nil {
		t.Error("an invitation loads as a device")
	}
	if _, err := Join(k.Secret(), "thief"); err == nil {
		t.Error("a device file is taken as an invitation")
	}
}

// TestNothingSecretIsPrinted formats what holds secrets in every usual way.
func TestNothingSecretIsPrinted(t *testing.T) {
	seed := testSeed(7)
	k := founded(t, seed)
	words := seed.Phrase()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		for _, v := range []any{seed, k} {
			out := fmt.Sprintf(verb, v)
			if len(out) > 80 || strings.Contains(out, words[:12]) || strings.Contains(out, "AGE-SECRET") {
				t.Errorf("%s of %T prints %q", verb, v, out)
			}
		}
	}
}

func TestNames(t *testing.T) {
	a, _ := Found(testSeed(1), "a")
	b, _ := Recover(testSeed(1), "b")
	other, _ := Found(testSeed(2), "a")
	seen := map[string]Ref{}
	for _, kind := range []string{"door", "member", "epoch", "mark", "entry", "run", "base", "pack"} {
		for _, writer := range []string{"phrase", a.Device(), b.Device()} {
			for _, number := range []uint64{0, 1, 256, 1 << 40} {
				for _, to := range []string{"", "phrase", b.Device()} {
					r := Ref{kind, writer, number, to}
					name := a.Name(r)
					if old, twice := seen[name]; twice {
						t.Fatalf("%v and %v have one name", r, old)
					}
					seen[name] = r
					want := "d/"
					if slices.Contains([]string{"door", "member", "epoch", "mark"}, kind) {
						want = "k/"
					}
					if !strings.HasPrefix(name, want) || !isID(name[2:], 52) {
						t.Errorf("%v has the name %q", r, name)
					}
					if b.Name(r) != name {
						t.Errorf("two devices of a locker name %v differently", r)
					}
					if other.Name(r) == name {
						t.Errorf("two lockers name %v alike", r)
					}
				}
			}
		}
	}
}

func TestSignatures(t *testing.T) {
	k := founded(t, testSeed(1))
	msg := []byte("spend may read payee")
	sig := k.Sign("grant", msg)
	if err := k.Verify(k.Device(), "grant", msg, sig); err != nil {
		t.Fatal(err)
	}
	other := founded(t, testSeed(2))
	for name, err := range map[string]error{
		"another context":   k.Verify(k.Device(), "audit", msg, sig),
		"another message":   k.Verify(k.Device(), "grant", msg[1:], sig),
		"another locker":    other.Verify(other.Device(), "grant", msg, sig),
		"an empty one":      k.Verify(k.Device(), "grant", msg, nil),
		"an unknown device": k.Verify(other.Device(), "grant", msg, other.Sign("grant", msg)),
	} {
		if err == nil {
			t.Errorf("the signature is accepted for %s", name)
		}
	}
	if err := k.Verify(other.Device(), "grant", msg, nil); !isNotYet(err) {
		t.Errorf("an unknown device: %v, which does not say NotYet", err)
	}
}

// TestLifeOfALocker goes from founding over joining, removal, and restoring with
// the phrase, and reads everything everywhere.
func TestLifeOfALocker(t *testing.T) {
	seed := testSeed(1)
	laptop := founded(t, seed)
	laptop.Forget()
	var objects []struct {
		ref    Ref
		object []byte
	}
	write := func(k *Keyring, number uint64) {
		t.Helper()
		r := Ref{"entry", k.Device(), number, ""}
		object, _, err := k.Seal(r, []byte(`{"seen":{}}`), []byte("frames"))
		if err != nil {
			t.Fatal(err)
		}
		objects = append(objects, struct {
			ref    Ref
			object []byte
		}{r, object})
	}
	write(laptop, 1)

	// A phone joins. It reads the past only once it has an epoch.
	phone, err := Join(laptop.Invite(), "phone")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := phone.Open(objects[0].ref, objects[0].object); !isNotYet(err) {
		t.Fatalf("the phone opens before it has the epoch: %v", err)
	}
	admission, err := laptop.Admit(phone.Request())
	if err != nil {
		t.Fatal(err)
	}
	member := Ref{"member", laptop.Device(), 1, ""}
	sealed := absorbSealed(t, laptop, member, admission, laptop)
	if !laptop.NeedsEpoch() {
		t.Fatal("nobody makes an epoch for the new member")
	}
	doorOfLaptop, id := openedDoor(t, laptop, seed, 0)
	if _, err := phone.Absorb(Ref{"door", "phrase", 0, ""}, id, nil, doorOfLaptop); err != nil {
		t.Fatal(err)
	}
	makeEpoch(t, laptop, laptop, phone)
	if laptop.NeedsEpoch() {
		t.Fatal("the epoch for all members is not enough")
	}
	_, payload, memberID, err := phone.Open(member, sealed)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := phone.Absorb(member, memberID, nil, payload); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(phone.Members(), laptop.Members()) || len(phone.Members()) != 2 {
		t.Fatalf("members: %v on the phone, %v on the laptop", phone.Members(), laptop.Members())
	}
	if laptop.DeviceName(phone.Device()) != "phone" || phone.DeviceName(laptop.Device()) != "laptop" {
		t.Error("the devices do not know each other's names")
	}
	write(phone, 1)

	// The phone is stolen. It cannot read what comes after its removal.
	removal, err := laptop.Remove(phone.Device(), Pin{Number: 1, ID: strings.Repeat("a", 64), Clock: 9})
	if err != nil {
		t.Fatal(err)
	}
	absorbSealed(t, laptop, Ref{"member", laptop.Device(), 2, ""}, removal, laptop)
	if _, _, err := laptop.Seal(Ref{"entry", laptop.Device(), 2, ""}, nil, nil); err == nil {
		t.Fatal("the laptop seals to an epoch that a removed device has")
	}
	if !laptop.NeedsEpoch() {
		t.Fatal("nobody makes an epoch after the removal")
	}
	makeEpoch(t, laptop, laptop, phone)
	write(laptop, 2)
	if got := laptop.Removed(); !maps.Equal(got, map[string]uint64{phone.Device(): 1}) {
		t.Errorf("removed: %v", got)
	}
	if pin, ok := laptop.PinOf(phone.Device()); !ok || pin.Clock != 9 {
		t.Errorf("pin: %v %v", pin, ok)
	}
	if _, _, _, err := phone.Open(objects[2].ref, objects[2].object); !isNotYet(err) {
		t.Errorf("the removed phone reads on: %v", err)
	}
	if err := laptop.Verify(phone.Device(), "grant", []byte("x"), phone.Sign("grant", []byte("x"))); err != nil {
		t.Errorf("what the removed phone signed cannot be checked any more: %v", err)
	}

	for i, o := range objects {
		if _, _, _, err := laptop.Open(o.ref, o.object); err != nil {
			t.Errorf("object %d: %v", i, err)
		}
	}
}

// openedDoor makes k's door anew, as an object, and returns its payload and id.
func openedDoor(t *testing.T, k *Keyring, seed Seed, number uint64) ([]byte, string) {
	t.Helper()
	if err := k.Hold(seed); err != nil {
		t.Fatal(err)
	}
	defer k.Forget()
	s := &statement{Version: 1, Admit: &k.self}
	r := Ref{"door", "phrase", number, ""}
	object, id, err := k.Seal(r, nil, marshalExact(s))
	if err != nil {
		t.Fatal(err)
	}
	_, payload, again, err := k.Open(r, object)
	if err != nil || again != id {
		t.Fatal(err)
	}
	return payload, id
}

// TestRestore opens everything with the phrase alone, and takes a door of its own,
// which the other device accepts.
func TestRestore(t *testing.T) {
	seed := testSeed(3)
	old, err := Found(seed, "old")
	if err != nil {
		t.Fatal(err)
	}
	payload, err := old.Door(0)
	if err != nil {
		t.Fatal(err)
	}
	door0 := absorbSealed(t, old, Ref{"door", "phrase", 0, ""}, payload, old)
	epoch := makeEpoch(t, old, old)
	old.Forget()
	entryRef := Ref{"entry", old.Device(), 1, ""}
	entry, _, err := old.Seal(entryRef, nil, []byte("data"))
	if err != nil {
		t.Fatal(err)
	}

	again, err := Recover(seed, "new")
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range []struct {
		ref    Ref
		object []byte
	}{
		{Ref{"door", "phrase", 0, ""}, door0},
		{Ref{"epoch", old.Device(), 1, "phrase"}, epoch["phrase"]},
	} {
		_, payload, id, err := again.Open(o.ref, o.object)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := again.Absorb(o.ref, id, nil, payload); err != nil {
			t.Fatal(err)
		}
	}
	if _, frames, _, err := again.Open(entryRef, entry); err != nil || string(frames) != "data" {
		t.Fatalf("restored %q, %v", frames, err)
	}
	if again.NeedsEpoch() {
		t.Error("a device that is no member yet wants to make an epoch")
	}
	payload, err = again.Door(1)
	if err != nil {
		t.Fatal(err)
	}
	absorbSealed(t, again, Ref{"door", "phrase", 1, ""}, payload, again, old)
	if want := 2; len(old.Members()) != want || len(again.Members()) != want {
		t.Errorf("members: %v and %v", old.Members(), again.Members())
	}
	if !again.NeedsEpoch() {
		t.Error("the restored device does not make an epoch for itself")
	}
	makeEpoch(t, again, again, old)
	r := Ref{"entry", again.Device(), 1, ""}
	object, _, err := again.Seal(r, nil, []byte("more"))
	if err != nil {
		t.Fatal(err)
	}
	if _, frames, _, err := old.Open(r, object); err != nil || string(frames) != "more" {
		t.Errorf("the old device reads %q, %v", frames, err)
	}
}

// TestRandomOrderOfAbsorb gives a keyring what a locker with removals and several
// epochs has, in many orders: members, pins, tips and the epoch to seal to are
// always the same.
func TestRandomOrderOfAbsorb(t *testing.T) {
	type item struct {
		ref     Ref
		id      string
		payload []byte
	}
	seed := testSeed(4)
	k, err := Found(seed, "laptop")
	if err != nil {
		t.Fatal(err)
	}
	var items []item
	say := func(r Ref, payload []byte, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		_, id, err := k.Seal(r, nil, payload)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := k.Absorb(r, id, nil, payload); err != nil {
			t.Fatal(err)
		}
		items = append(items, item{r, id, payload})
	}
	epoch := func() {
		t.Helper()
		number, payloads, err := k.NewEpoch()
		say(Ref{"epoch", k.Device(), number, k.Device()}, payloads[k.Device()], err)
	}
	door, err := k.Door(0)
	say(Ref{"door", "phrase", 0, ""}, door, err)
	epoch()
	var devices []string
	for i := range 4 {
		other, err := Join(k.Invite(), fmt.Sprint("device ", i))
		if err != nil {
			t.Fatal(err)
		}
		payload, err := k.Admit(other.Request())
		say(Ref{"member", k.Device(), uint64(i), ""}, payload, err)
		epoch()
		devices = append(devices, other.Device())
	}
	payload, err := k.Remove(devices[1], Pin{Number: 3, ID: strings.Repeat("a", 64)})
	say(Ref{"member", k.Device(), 4, ""}, payload, err)
	epoch()
	payload, err = k.Evict(devices[2], Pin{}, devices[1])
	say(Ref{"door", "phrase", 1, ""}, payload, err)
	if !k.NeedsEpoch() {
		t.Error("no epoch is needed after a removal")
	}
	state := func(k *Keyring) string {
		current := "none"
		if k.current != nil {
			current = k.current.name()
		}
		return fmt.Sprint(k.Members(), k.Removed(), k.Tips(), current, k.NeedsEpoch(), len(k.epochs))
	}
	if k.current != nil {
		t.Errorf("it seals to %s, which a removed device has", k.current.name())
	}
	epoch()
	want := state(k)
	for seed := range uint64(200) {
		rnd := mrand.New(mrand.NewPCG(seed, 0))
		again, err := Load(k.Secret())
		if err != nil {
			t.Fatal(err)
		}
		mixed := slices.Concat(items, items[:3])
		rnd.Shuffle(len(mixed), func(i, j int) { mixed[i], mixed[j] = mixed[j], mixed[i] })
		for _, i := range mixed {
			if _, err := again.Absorb(i.ref, i.id, nil, i.payload); err != nil {
				t.Fatal(err)
			}
		}
		if got := state(again); got != want {
			t.Fatalf("with seed %d it is\n%s\nand not\n%s", seed, got, want)
		}
		for _, i := range mixed {
			if changed, err := again.Absorb(i.ref, i.id, nil, i.payload); err != nil || changed {
				t.Fatalf("absorbing again: %v, %v", changed, err)
			}
		}
	}
}

// TestConcurrentUse is for the race detector.
func TestConcurrentUse(t *testing.T) {
	a, b := two(t)
	r := Ref{"entry", a.Device(), 1, ""}
	object, _, err := a.Seal(r, nil, []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for range 10 {
				if _, _, _, err := b.Open(r, object); err != nil {
					t.Error(err)
				}
				if _, _, err := b.Seal(Ref{"entry", b.Device(), uint64(i), ""}, nil, []byte("y")); err != nil {
					t.Error(err)
				}
				number, payloads, err := b.NewEpoch()
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := b.Absorb(Ref{"epoch", b.Device(), number, b.Device()}, strings.Repeat("f", 64), nil, payloads[b.Device()]); err != nil {
					t.Error(err)
				}
				b.Members()
				b.Removed()
				b.Tips()
				b.DeviceName(a.Device())
				b.Invite()
			}
		})
	}
	wg.Wait()
}
