package replica_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/locker-project/locker/crypto"
	"github.com/locker-project/locker/daemon/replica"
	"github.com/locker-project/locker/daemon/replica/replicatest"
)

// A target is a locker with a past, made once: a laptop that compacts its log, a phone
// that has read all but the laptop's last entries, and a tablet that was removed.
// Attacks begin from copies of it.
type target struct {
	seed    crypto.Seed
	now     time.Time
	cloud   map[string][]byte
	past    []map[string][]byte // former states of the cloud, the oldest first
	foreign map[string][]byte   // another locker
	devices map[string]*victim  // "laptop", "phone", "tablet"
	refs    map[string]replica.Ref
	news    []string        // names of the laptop's entries that the phone has not read
	texts   []string        // what each of them wrote, twice
	final   string          // hash of all that was written
	written map[string]bool // all values that were written
	blob    string
	opened  *sync.Map
	off     replica.Rules
	epochs  []*age.HybridIdentity // of the locker, as a former member has them
}

// A victim is a device of a target.
type victim struct {
	name   string
	secret []byte
	keys   *crypto.Keyring
	state  *memState
	disk   *memDisk
	remote replica.Remote
	now    *time.Time
	opened *sync.Map
	off    replica.Rules
	// What breaks its calls, and the phrase where it is typed in.
	breaker *breaker
	phrase  *crypto.Seed
	same    bool // it keeps its keyring: nothing changes in what that knows
	*replica.Replica
}

// memo is a keyring that remembers what it opened: the honest objects of a target are
// opened once, and not by each copy of a device again. What an attack made is new.
type memo struct {
	*crypto.Keyring
	opened *sync.Map
}

type memoKey struct {
	device string
	ref    replica.Ref
	sum    [sha256.Size]byte
}

type memoOpened struct {
	log, frames []byte
	id          string
}

func (m memo) Open(r replica.Ref, object []byte) (log, frames []byte, id string, err error) {
	key := memoKey{m.Device(), r, sha256.Sum256(object)}
	if o, ok := m.opened.Load(key); ok {
		o := o.(memoOpened)
		return slices.Clone(o.log), slices.Clone(o.frames), o.id, nil
	}
	log, frames, id, err = m.Keyring.Open(r, object)
	if err == nil {
		m.opened.Store(key, memoOpened{slices.Clone(log), slices.Clone(frames), id})
	}
	return log, frames, id, err
}

// A shot is one attack: a copy of the target.
type shot struct {
	*target
	t       testing.TB
	seed0   uint64
	rnd     *rand.Rand
	cloud   *replicatest.Cloud
	time    time.Time
	devices map[string]*victim
}

func incompressible(n int) string {
	r := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, n)
	for i := range b {
		b[i] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/"[r.IntN(64)]
	}
	return string(b)
}

func (a *victim) boot(t testing.TB, seed *crypto.Seed) {
	t.Helper()
	keys, err := a.keys, error(nil)
	if !a.same {
		keys, err = crypto.Load(a.secret)
	}
	if err == nil && seed != nil {
		err = keys.Hold(*seed)
	}
	if err != nil {
		t.Fatal(err)
	}
	a.keys = keys
	var sealer replica.Sealer = keys
	if a.opened != nil {
		sealer = memo{keys, a.opened}
	}
	var state replica.State = a.state
	remote := a.remote
	if a.breaker != nil {
		state, remote = brokenState{a.state, a.breaker}, brokenRemote{remote, a.breaker}
	}
	c := replica.Config{Sealer: sealer, State: state, Objects: "/objects", Remotes: []replica.Named{{Name: "cloud", Remote: remote}}, Clock: func() time.Time { return *a.now }}
	if a.Replica, err = replica.New(context.Background(), c.On(a.disk).Small().Without(a.off)); err != nil {
		t.Fatal(err)
	}
}

// newTarget makes the target.
func newTarget(t testing.TB) *target {
	g := &target{seed: crypto.NewSeed(), now: time.Date(2026, 11, 25, 8, 0, 0, 0, time.UTC), devices: map[string]*victim{}, refs: map[string]replica.Ref{}, opened: &sync.Map{}}
	cloud := &replicatest.Cloud{Now: func() time.Time { return g.now }}
	join := func(name string, seed crypto.Seed, cloud replica.Remote) *victim {
		keys, err := crypto.Recover(seed, name)
		if err != nil {
			t.Fatal(err)
		}
		a := &victim{name: name, secret: keys.Secret(), state: newMemState(keys.Device(), func() time.Time { return g.now }), disk: newMemDisk(), remote: cloud, now: &g.now}
		a.boot(t, &seed)
		return a
	}
	pass := func(list ...*victim) {
		t.Helper()
		for _, a := range list {
			g.now = g.now.Add(7 * time.Minute)
			if _, err := a.Sync(context.Background(), full); err != nil {
				t.Fatalf("%s: %v", a.name, err)
			}
		}
		g.past = append(g.past, cloud.Objects())
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	laptop := join("laptop", g.seed, cloud)
	must(laptop.Found(context.Background()))
	pass(laptop)
	phone, tablet := join("phone", g.seed, cloud), join("tablet", g.seed, cloud)
	for _, a := range []*victim{phone, tablet} {
		_, err := a.Restore(context.Background(), nil)
		must(err)
		pass(laptop, a)
	}
	for i := range 14 {
		laptop.state.put(fmt.Sprint("laptop ", i%4), fmt.Sprint("x", i))
		phone.state.put(fmt.Sprint("phone ", i%4), fmt.Sprint("x", i))
		if i < 2 {
			tablet.state.put(fmt.Sprint("tablet ", i), "x")
			pass(tablet)
		}
		if i == 3 {
			g.blob = laptop.state.addBlob([]byte(incompressible(260 << 10)))
			laptop.state.put("picture", g.blob)
		}
		pass(laptop, phone)
	}
	_, err := laptop.Remove(context.Background(), tablet.keys.Device())
	must(err)
	pass(laptop, phone)
	g.now = g.now.Add(40 * 24 * time.Hour)
	for range 3 {
		pass(laptop, phone)
		g.now = g.now.Add(2 * time.Hour)
	}
	before := cloud.Objects()
	g.devices["laptop"], g.devices["phone"], g.devices["tablet"] = laptop, phone, tablet
	for _, a := range g.devices {
		g.name(a)
	}
	for i := range 4 {
		text := fmt.Sprint("news ", i)
		if i == 2 {
			text = incompressible(200 << 10)
		}
		laptop.state.put(fmt.Sprint("a", i), text)
		laptop.state.put(fmt.Sprint("b", i), text)
		pass(laptop)
		g.texts = append(g.texts, text)
		for name := range cloud.Objects() {
			if before[name] == nil && g.refs[name].Kind == "entry" && !slices.Contains(g.news, name) {
				g.news = append(g.news, name)
			}
		}
	}
	if len(g.news) != 4 {
		t.Fatalf("%d news", len(g.news))
	}
	g.cloud, g.final = cloud.Objects(), laptop.state.hash()
	g.written = written(laptop.state.log, phone.state.log, tablet.state.log)
	g.openEpochs(laptop)
	other := &replicatest.Cloud{Now: cloud.Now}
	seed := crypto.NewSeed()
	stranger := join("laptop", seed, other)
	must(stranger.Found(context.Background()))
	for i := range 4 {
		stranger.state.put(fmt.Sprint(i), "of another locker")
		_, err := stranger.Sync(context.Background(), full)
		must(err)
	}
	g.foreign = other.Objects()
	return g
}

// name notes what the names of a device's objects stand for.
func (g *target) name(a *victim) {
	for number := uint64(0); number < 120; number++ {
		for _, kind := range []string{"entry", "mark", "run", "base", "pack", "member"} {
			ref := replica.Ref{Kind: kind, Writer: a.keys.Device(), Number: number}
			g.refs[a.keys.Name(ref)] = ref
		}
		ref := replica.Ref{Kind: "door", Writer: "phrase", Number: number}
		g.refs[a.keys.Name(ref)] = ref
		for _, to := range []string{"phrase", g.devices["laptop"].keys.Device(), g.devices["phone"].keys.Device(), g.devices["tablet"].keys.Device()} {
			ref := replica.Ref{Kind: "epoch", Writer: a.keys.Device(), Number: number, To: to}
			g.refs[a.keys.Name(ref)] = ref
		}
	}
}

// openEpochs finds the identities that a device was told.
func (g *target) openEpochs(a *victim) {
	for _, note := range a.state.notes {
		var m struct {
			Ref     struct{ Kind string } `json:"ref"`
			Payload []byte                `json:"payload"`
		}
		if json.Unmarshal(note, &m) != nil || m.Ref.Kind != "epoch" {
			continue
		}
		var p struct {
			Identity string `json:"identity"`
		}
		if json.Unmarshal(m.Payload, &p) != nil {
			continue
		}
		if identity, err := age.ParseHybridIdentity(p.Identity); err == nil {
			g.epochs = append(g.epochs, identity)
		}
	}
}

// shoot copies the target.
func (g *target) shoot(t testing.TB, seed uint64) *shot {
	a := &shot{target: g, t: t, seed0: seed, rnd: rand.New(rand.NewPCG(seed, 3)), cloud: &replicatest.Cloud{}, time: g.now, devices: map[string]*victim{}}
	a.cloud.Now = func() time.Time { return a.time }
	a.cloud.Reset(g.cloud)
	return a
}

// device is a device of the shot, begun when it is first needed.
func (a *shot) device(name string) *victim { return a.deviceOn(name, a.cloud) }

// deviceOn is device with what it sees of the cloud.
func (a *shot) deviceOn(name string, remote replica.Remote) *victim {
	if d := a.devices[name]; d != nil {
		return d
	}
	was := a.target.devices[name]
	d := &victim{name: name, secret: was.secret, state: was.state.copy(), disk: was.disk.copy(), remote: remote, now: &a.time, opened: a.opened, off: a.off}
	d.state.now = func() time.Time { return a.time }
	if d.same = was.same; d.same {
		d.keys = was.keys
	}
	d.boot(a.t, nil)
	a.devices[name] = d
	return d
}

// fresh is a device that has the phrase alone.
func (a *shot) fresh() *victim {
	keys, err := crypto.Recover(a.seed, "fresh")
	if err != nil {
		a.t.Fatal(err)
	}
	d := &victim{name: "fresh", secret: keys.Secret(), state: newMemState(keys.Device(), func() time.Time { return a.time }), disk: newMemDisk(), remote: a.cloud, now: &a.time, off: a.off}
	d.boot(a.t, &a.seed)
	return d
}

// names are the names on the cloud of objects of some kinds, or of all.
func (a *shot) names(kinds ...string) (names []string) {
	for _, name := range a.cloud.Names() {
		if len(kinds) == 0 || slices.Contains(kinds, a.refs[name].Kind) {
			names = append(names, name)
		}
	}
	return names
}

func (a *shot) pick(names []string) string { return names[a.rnd.IntN(len(names))] }

// notices is what a device has found: what it says is pending or an alarm, and what
// it put again or could not.
func (a *shot) look(d *victim) (found int, kinds []string, err error) {
	r, err := d.Verify(context.Background(), "", nil) // a full pass, and all is read back
	var cloned *replica.Cloned
	if errors.As(err, &cloned) {
		return 1, []string{"cloned"}, nil
	}
	if err != nil {
		return 0, nil, err
	}
	st, err := d.Status(context.Background())
	for _, n := range append(st.Pending, st.Alarms...) {
		if n.Kind != "silent" {
			found++
			kinds = append(kinds, n.Kind)
		}
	}
	return found + len(r.Bad) + len(r.Missing) + r.Repaired + r.Misfits, kinds, err
}

// whole fails the test if a device holds what nobody wrote, or an entry in part.
func (a *shot) whole(d *victim, what string) {
	if bad := d.state.beyond(a.written); bad != "" {
		a.t.Errorf("%s: %s holds what nobody wrote: %.300s", what, d.name, bad)
	}
	for i := range a.texts {
		if x, y := d.text(fmt.Sprint("a", i)), d.text(fmt.Sprint("b", i)); x != y {
			a.t.Errorf("%s: %s has applied entry %d in part", what, d.name, i)
		}
	}
}

func (d *victim) text(id string) string { return (&simState{d.state}).text(id) }

// flows fails the test if a device lacks news that was not touched. Where an entry and
// marks are gone, nothing tells that there is more: that is withheld, and the sender's
// watch finds it.
func (a *shot) flows(d *victim, touched []string, what string) {
	marks := slices.ContainsFunc(touched, func(name string) bool { return a.refs[name].Kind == "mark" })
	for i, name := range a.news {
		switch {
		case slices.Contains(touched, name):
			if marks {
				return
			}
		case d.text(fmt.Sprint("a", i)) != a.texts[i]:
			a.t.Errorf("%s: %s does not get news %d, which was not touched", what, d.name, i)
		}
	}
}

// healed fails the test unless all is well again once the devices had their turns.
func (a *shot) healed(what string) {
	for range 4 {
		a.time = a.time.Add(61 * time.Minute)
		for _, name := range []string{"laptop", "phone"} {
			d := a.device(name)
			if _, err := d.Verify(context.Background(), "", nil); err != nil {
				a.t.Errorf("%s: %s: %v", what, name, err)
				return
			}
		}
	}
	for _, name := range []string{"laptop", "phone"} {
		d := a.device(name)
		if d.state.hash() != a.final {
			a.t.Errorf("%s: %s does not have everything once it is healed", what, name)
		}
		st, err := d.Status(context.Background())
		gone := func(n replica.Notice) bool { return n.Device == a.target.devices["tablet"].keys.Device() }
		st.Pending, st.Alarms = slices.DeleteFunc(st.Pending, gone), slices.DeleteFunc(st.Alarms, gone) // nobody can put its objects again
		if err != nil || len(st.Pending)+len(st.Alarms) > 0 {
			a.t.Errorf("%s: %s is not well once it is healed: %+v %+v %v", what, name, st.Pending, st.Alarms, err)
		}
	}
}

// plain opens an object as one does who has all epochs of the locker.
func (a *shot) plain(object []byte) (plain []byte, epoch *age.HybridIdentity) {
	for _, e := range a.epochs {
		r, err := age.Decrypt(bytes.NewReader(object), e)
		if err != nil {
			continue
		}
		if plain, err = io.ReadAll(r); err == nil {
			return plain, e
		}
	}
	return nil, nil
}

// reseal encrypts a plaintext anew: whoever knows a recipient can.
func (a *shot) reseal(plain []byte, to *age.HybridIdentity) []byte {
	var b bytes.Buffer
	w, err := age.Encrypt(&b, to.Recipient())
	if err == nil {
		_, err = w.Write(plain)
	}
	if err := errors.Join(err, w.Close()); err != nil {
		a.t.Fatal(err)
	}
	return b.Bytes()
}

// sealedNames are names of objects that an insider can open.
func (a *shot) sealedNames() []string {
	return a.names("entry", "mark", "run", "base", "pack", "member")
}
