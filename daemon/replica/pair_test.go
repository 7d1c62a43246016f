package replica_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/locker-project/locker/crypto"
	"github.com/locker-project/locker/daemon/replica"
	"github.com/locker-project/locker/daemon/replica/replicatest"
)

// soonest is the time between two looks in tests.
const soonest = time.Millisecond

// A pairing is what both sides of a meeting saw.
type pairing struct {
	keys            *crypto.Keyring // of the new device, where it kept any
	invited         replica.Invited
	epoch           uint64
	inviter, joiner error
	fingerprint     string
	code            crypto.Code
}

// meeting says how the two sides meet; the zero one is as it should be.
type meeting struct {
	ctx     context.Context        // of both sides
	code    crypto.Code            // zero: a new one
	typed   *crypto.Code           // what is typed, where it is something else
	ask     func() error           // of the owner on the inviting device
	keep    func() error           // before the keys of the new device are kept
	remotes []replica.Remote       // of the new device
	find    time.Duration          // how long the invitation is looked for
	shown   func(code crypto.Code) // once the invitation is there
}

// pair makes both sides of a meeting at once.
func (w *world) pair(inviter *device, name string, o meeting) *pairing {
	w.t.Helper()
	p := &pairing{code: o.code}
	if p.code == (crypto.Code{}) {
		p.code = crypto.NewCode()
	}
	if o.ctx == nil {
		o.ctx = context.Background()
	}
	if o.remotes == nil {
		o.remotes = []replica.Remote{w.cloud}
	}
	if o.find == 0 {
		o.find = time.Second
	}
	shown := make(chan bool, 1)
	var group sync.WaitGroup
	group.Go(func() {
		p.invited, p.inviter = inviter.Invite(o.ctx, func() (replica.Inviter, error) { return inviter.keys.Meet(p.code) }, replica.InviteOptions{
			Show: func(time.Time) error {
				if o.shown != nil {
					o.shown(p.code)
				}
				shown <- true
				return nil
			},
			Ask: func(context.Context, replica.Candidate) error {
				if o.ask != nil {
					return o.ask()
				}
				return nil
			},
			Every: soonest,
		})
		shown <- false
	})
	if <-shown {
		code := p.code
		if o.typed != nil {
			code = *o.typed
		}
		j, err := crypto.NewJoiner(code, name)
		if err != nil {
			w.t.Fatal(err)
		}
		p.epoch, p.joiner = replica.Meet(o.ctx, named(o.remotes), j, replica.MeetOptions{
			Keep: func() error {
				if o.keep != nil {
					if err := o.keep(); err != nil {
						return err
					}
				}
				p.keys = j.Keyring()
				return nil
			},
			Show:  func(f string) { p.fingerprint = f },
			Every: soonest, Find: o.find, Clock: w.hurry(),
		})
		if p.joiner != nil { // the inviter may wait for somebody else
			defer time.AfterFunc(100*time.Millisecond, func() { w.pass(11 * time.Minute) }).Stop()
		}
	}
	group.Wait()
	return p
}

// hurry is a clock for who looks for an invitation: the world's does not move.
func (w *world) hurry() func() time.Time {
	began := time.Now()
	return func() time.Time { return w.now().Add(time.Since(began) * 100) }
}

func named(remotes []replica.Remote) (list []replica.Named) {
	for i, remote := range remotes {
		list = append(list, replica.Named{Name: fmt.Sprint("remote", i), Remote: remote})
	}
	return list
}

// join is pair that must work, and brings everything to the new device.
func (w *world) join(inviter *device, name string, remotes ...replica.Remote) *device {
	w.t.Helper()
	p := w.pair(inviter, name, meeting{remotes: remotes})
	if p.inviter != nil || p.joiner != nil {
		w.t.Fatalf("pairing: the inviter says %v, the joiner %v", p.inviter, p.joiner)
	}
	if p.fingerprint == "" || p.fingerprint != p.invited.Fingerprint || p.invited.Name != name {
		w.t.Fatalf("the joiner shows %q, the inviter %+v", p.fingerprint, p.invited)
	}
	d := w.device(name, p.keys, nil, remotes...)
	if _, err := d.Join(context.Background(), replica.JoinOptions{Epoch: p.epoch, Every: soonest, Patience: 10 * soonest}); err != nil {
		w.t.Fatalf("joining: %v", err)
	}
	return d
}

// TestPairing joins a device by a code, and another through that one. Both have
// everything, are known to all, and nothing of the meetings stays.
func TestPairing(t *testing.T) {
	w := newWorld(t)
	laptop := w.found("laptop")
	laptop.sync(full)
	desktop := w.restore("desktop")
	for i := range 40 {
		laptop.state.put(fmt.Sprint(i), "x")
		laptop.sync(replica.SyncOptions{})
		w.pass(time.Hour)
	}
	blob := laptop.state.addBlob(bytes.Repeat([]byte("picture"), 1000))
	laptop.sync(replica.SyncOptions{})
	phone := w.join(laptop, "phone")
	w.same(laptop, phone)
	if err := phone.Blob(context.Background(), blob); err != nil {
		t.Error(err)
	}
	phone.state.put("from the phone", "x")
	phone.sync(full)
	tablet := w.join(phone, "tablet")
	tablet.state.put("from the tablet", "x")
	tablet.sync(replica.SyncOptions{})
	all := []*device{laptop, desktop, phone, tablet}
	for range 2 {
		for _, d := range all {
			d.restart()
			d.sync(full)
		}
	}
	w.same(all...)
	for _, d := range all {
		d.well()
		if n := len(d.keys.Members()); n != 4 {
			t.Errorf("%s knows %d members", d.name, n)
		}
	}
	w.same(laptop, w.restore("from the phrase"))
	w.pass(11 * time.Minute)
	laptop.sync(replica.SyncOptions{})
	phone.sync(replica.SyncOptions{})
	if left := meetMessages(w.cloud); left != 0 {
		t.Errorf("%d messages of meetings are left", left)
	}
	r, err := laptop.Verify(context.Background(), "", nil)
	if err != nil || len(r.Missing)+len(r.Bad) != 0 {
		t.Errorf("verify: %+v, %v", r, err)
	}
}

// TestPairingRefused: what goes wrong is said on both sides, nobody gets in, and
// what is left is deleted once the invitation has expired.
func TestPairingRefused(t *testing.T) {
	no := errors.New("no, says the owner")
	wrong := crypto.NewCode()
	ctx, cancel := context.WithCancel(context.Background())
	for name, c := range map[string]struct {
		meeting
		inviter, joiner error
	}{
		"wrong words":           {meeting{typed: &wrong}, crypto.ErrWrongCode, crypto.ErrWrongCode},
		"another number":        {meeting{}, replica.ErrExpired, replica.ErrNoInvitation},
		"the owner says no":     {meeting{ask: func() error { return no }}, no, crypto.ErrCancelled},
		"the keys are not kept": {meeting{keep: func() error { return no }}, crypto.ErrCancelled, no},
		"cancelled":             {meeting{ctx: ctx, ask: func() error { cancel(); return ctx.Err() }}, context.Canceled, context.Canceled},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			laptop := w.found("laptop")
			laptop.sync(full)
			before := w.cloud.Names()
			code, m := crypto.NewCode(), c.meeting
			switch name {
			case "wrong words":
				typed := parse(t, code.Text()[:5]+wrong.Text()[5:])
				m.typed = &typed
			case "another number":
				typed := crypto.NewLongCode()
				m.typed = &typed
				m.find = time.Millisecond
				m.shown = func(crypto.Code) { time.AfterFunc(20*time.Millisecond, func() { w.pass(11 * time.Minute) }) }
			}
			m.code = code
			p := w.pair(laptop, "phone", m)
			told := name == "cancelled" && errors.Is(p.joiner, crypto.ErrCancelled) // by the other device, which was sooner
			if !errors.Is(p.inviter, c.inviter) || !errors.Is(p.joiner, c.joiner) && !told {
				t.Errorf("the inviter says %v, the joiner %v", p.inviter, p.joiner)
			}
			if n := len(laptop.keys.Members()); n != 1 {
				t.Errorf("%d members", n)
			}
			if p.keys != nil && name != "the owner says no" && name != "cancelled" {
				t.Error("the new device kept keys")
			}
			laptop.restart()
			w.pass(11 * time.Minute)
			laptop.sync(replica.SyncOptions{})
			if after := w.cloud.Names(); !slices.Equal(before, after) {
				t.Errorf("%d objects before, %d after", len(before), len(after))
			}
			laptop.well()
			w.join(laptop, "phone") // the next attempt is not in the way
		})
	}
}

func parse(t testing.TB, text string) crypto.Code {
	t.Helper()
	code, err := crypto.ParseCode(text)
	if err != nil {
		t.Fatal(err)
	}
	return code
}

// A meddler is a Remote that meddles with what one side of a meeting says and hears.
type meddler struct {
	*replicatest.Cloud
	mu   sync.Mutex
	put  func(name string, data []byte) []byte // what is kept instead; nil: nothing
	dead int                                   // requests until everything fails; 0: never
}

var errKilled = errors.New("the process was killed")

// alive counts a request.
func (c *meddler) alive() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead == 1 {
		return errKilled
	}
	c.dead = max(0, c.dead-1)
	return nil
}

func (c *meddler) Put(ctx context.Context, name string, r io.ReadSeeker, size int64) error {
	if err := c.alive(); err != nil {
		return err
	}
	if c.put == nil {
		return c.Cloud.Put(ctx, name, r, size)
	}
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	c.mu.Lock()
	data = c.put(name, data)
	c.mu.Unlock()
	if data != nil {
		c.Cloud.Set(name, data)
	}
	return nil
}

func (c *meddler) Get(ctx context.Context, name string, off, n int64) (io.ReadCloser, error) {
	if err := c.alive(); err != nil {
		return nil, err
	}
	return c.Cloud.Get(ctx, name, off, n)
}

func (c *meddler) Delete(ctx context.Context, names ...string) error {
	if err := c.alive(); err != nil {
		return err
	}
	return c.Cloud.Delete(ctx, names...)
}

// meetMessages counts the messages of meetings on a cloud.
func meetMessages(c *replicatest.Cloud) (left int) {
	for _, object := range c.Objects() {
		if bytes.HasPrefix(object, []byte("locker/1 meet")) {
			left++
		}
	}
	return left
}

// TestPairingKilled kills either side at each of its requests. The next run of the
// new device goes on, if the other had admitted it, or says that it was not; then a
// new code works. Nobody is left half in.
func TestPairingKilled(t *testing.T) {
	joined, refused := 0, 0
	for _, side := range []string{"inviter", "joiner"} {
		step := 12
		if testing.Short() {
			step = 4
		}
		for n := 2; n < 80; n += 1 + n/step {
			w := newWorld(t)
			mine, theirs := &meddler{Cloud: w.cloud}, &meddler{Cloud: w.cloud}
			laptop := w.found("laptop", mine)
			laptop.state.put("1", "x")
			laptop.sync(full)
			killed := theirs
			if side == "inviter" {
				killed = mine
			}
			killed.dead = n
			// Who lives waits until its time is over.
			hurried := time.AfterFunc(200*time.Millisecond, func() { w.pass(11 * time.Minute) })
			p := w.pair(laptop, "phone", meeting{remotes: []replica.Remote{theirs}})
			hurried.Stop()
			mine.dead, theirs.dead = 0, 0
			laptop.restart()
			laptop.sync(full)
			if p.keys != nil {
				phone := w.device("phone", p.keys, nil)
				phone.restart()
				_, err := phone.Join(context.Background(), replica.JoinOptions{Every: soonest, Patience: 3 * soonest})
				member := slices.Contains(laptop.keys.Members(), p.keys.Device())
				switch {
				case err == nil && member:
					joined++
					phone.state.put("2", "x")
					phone.sync(full)
					laptop.sync(full)
					w.same(laptop, phone)
					phone.well()
				case errors.Is(err, replica.ErrNotAdmitted) && !member:
					refused++
				default:
					t.Fatalf("%s killed at request %d: member %v, joining says %v (before: %v, %v)", side, n, member, err, p.inviter, p.joiner)
				}
			} else if members := laptop.keys.Members(); len(members) != 1 {
				t.Fatalf("%s killed at request %d: a device without keys is admitted", side, n)
			}
			tablet := w.join(laptop, "tablet")
			w.same(laptop, tablet)
			w.pass(11 * time.Minute)
			laptop.sync(full)
			if left := meetMessages(w.cloud); left != 0 {
				t.Fatalf("%s killed at request %d: %d messages are left", side, n, left)
			}
			laptop.well()
		}
	}
	if joined == 0 || refused == 0 && !testing.Short() {
		t.Errorf("%d joined, %d were refused: that is no test of both", joined, refused)
	}
}

// TestPairingCloud: a cloud that shows messages late, cut or never, or others in
// their place. Whatever it does, both sides end, and the device is in or is not.
func TestPairingCloud(t *testing.T) {
	code := crypto.NewCode()
	at := func(n int, name string) bool {
		in, err := crypto.NewJoiner(code, "x")
		return err == nil && in.Name(n) == name
	}
	for name, c := range map[string]struct {
		theirs, mine func(name string, data []byte, cloud *replicatest.Cloud) []byte
		joins        bool
		inviter      error
		joiner       error
	}{
		"cut uploads are seen first": {joins: true, theirs: func(name string, data []byte, cloud *replicatest.Cloud) []byte {
			cloud.Set(name, data[:len(data)/2])
			time.Sleep(5 * soonest)
			return data
		}},
		"the answer is withheld": {inviter: replica.ErrExpired, theirs: func(name string, data []byte, _ *replicatest.Cloud) []byte {
			if at(1, name) {
				return nil
			}
			return data
		}},
		"the invitation is withheld": {inviter: replica.ErrExpired, joiner: replica.ErrNoInvitation, mine: func(name string, data []byte, _ *replicatest.Cloud) []byte {
			if at(0, name) {
				return nil
			}
			return data
		}},
		"the outcome is withheld": {joins: true, joiner: replica.ErrExpired, mine: func(name string, data []byte, _ *replicatest.Cloud) []byte {
			if at(4, name) {
				return nil
			}
			return data
		}},
		"the cloud answers itself": {inviter: crypto.ErrWrongCode, joiner: crypto.ErrWrongCode, theirs: func(name string, data []byte, cloud *replicatest.Cloud) []byte {
			if !at(1, name) {
				return data
			}
			guess, err := crypto.NewJoiner(parse(t, code.Text()[:4]+"-zoo-zoo-zoo"), "mallory")
			if err != nil {
				t.Fatal(err)
			}
			hello, err := crypto.NewJoiner(code, "x")
			if err != nil {
				t.Fatal(err)
			}
			answer, err := guess.Answer(cloud.Object(hello.Name(0)))
			if err != nil {
				t.Fatal(err)
			}
			return answer
		}},
		"the cloud shows the answer as the invitation": {inviter: replica.ErrExpired, joiner: nil, theirs: func(name string, data []byte, cloud *replicatest.Cloud) []byte {
			if at(1, name) {
				in, _ := crypto.NewJoiner(code, "x")
				cloud.Set(in.Name(2), data)
				return nil
			}
			return data
		}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			mine, theirs := &meddler{Cloud: w.cloud}, &meddler{Cloud: w.cloud}
			laptop := w.found("laptop", mine)
			laptop.sync(full)
			hook := func(meddle func(string, []byte, *replicatest.Cloud) []byte) func(string, []byte) []byte {
				if meddle == nil {
					return nil
				}
				return func(name string, data []byte) []byte { return meddle(name, data, w.cloud) }
			}
			mine.put, theirs.put = hook(c.mine), hook(c.theirs)
			hurried := time.AfterFunc(500*time.Millisecond, func() { w.pass(11 * time.Minute) })
			defer hurried.Stop()
			p := w.pair(laptop, "phone", meeting{code: code, remotes: []replica.Remote{theirs}, find: 100 * time.Second})
			mine.put = nil
			if c.inviter != nil && !errors.Is(p.inviter, c.inviter) || c.inviter == nil && p.inviter != nil {
				t.Errorf("the inviter says %v, want %v", p.inviter, c.inviter)
			}
			if c.joiner != nil && !errors.Is(p.joiner, c.joiner) || !c.joins && p.joiner == nil {
				t.Errorf("the joiner says %v, want %v", p.joiner, c.joiner)
			}
			if n := len(laptop.keys.Members()); n == 2 != c.joins {
				t.Errorf("%d members", n)
			}
			if c.joins {
				phone := w.device("phone", p.keys, nil)
				if _, err := phone.Join(context.Background(), replica.JoinOptions{Every: soonest}); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// TestPairingTwoAnswer: two devices have the code. One gets in, the other is told.
func TestPairingTwoAnswer(t *testing.T) {
	w := newWorld(t)
	laptop := w.found("laptop")
	laptop.sync(full)
	second := make(chan error, 1)
	var other *crypto.Joiner
	p := w.pair(laptop, "phone", meeting{shown: func(code crypto.Code) {
		var err error
		if other, err = crypto.NewJoiner(code, "other phone"); err != nil {
			t.Fatal(err)
		}
		go func() {
			_, err := replica.Meet(context.Background(), named([]replica.Remote{w.cloud}), other, replica.MeetOptions{
				Keep: func() error { return nil }, Every: soonest, Clock: w.hurry(),
			})
			second <- err
		}()
		time.Sleep(time.Duration(time.Now().UnixNano()%3) * soonest)
	}})
	err := <-second
	won, lost := p.joiner, err
	if won != nil {
		won, lost = lost, won
	}
	if p.inviter != nil || won != nil || !errors.Is(lost, crypto.ErrTaken) {
		t.Errorf("the inviter says %v, the phone %v, the other %v", p.inviter, p.joiner, err)
	}
	if n := len(laptop.keys.Members()); n != 2 {
		t.Errorf("%d members", n)
	}
}

// TestPairingSlow joins through a cloud that shows everything late, and parts of it.
func TestPairingSlow(t *testing.T) {
	w := newWorld(t)
	w.cloud.Now = time.Now
	seed := seeds(t, 1)[0]
	view := func(n uint64) *replicatest.View {
		return &replicatest.View{Cloud: w.cloud, Seed: seed + n, Delay: 20 * time.Millisecond}
	}
	laptop := w.found("laptop")
	laptop.state.put("1", "x")
	laptop.sync(full)
	laptop.SetRemotes(named([]replica.Remote{view(1)}))
	slow := view(2)
	slow.FailGet = 0.1
	p := w.pair(laptop, "phone", meeting{remotes: []replica.Remote{slow}, find: 500 * time.Second})
	if p.inviter != nil || p.joiner != nil {
		t.Fatalf("seed %d: the inviter says %v, the joiner %v", seed, p.inviter, p.joiner)
	}
	slow.FailGet = 0
	phone := w.device("phone", p.keys, nil, slow)
	if _, err := phone.Join(context.Background(), replica.JoinOptions{Epoch: p.epoch, Every: 5 * time.Millisecond}); err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	time.Sleep(30 * time.Millisecond)
	phone.sync(full)
	w.same(laptop, phone)
}

// TestPairingCrash kills the inviter at steps of its disk and of its remote: what it
// had decided it goes on with, and the new device is in or is not.
func TestPairingCrash(t *testing.T) {
	joined, refused, step := 0, 0, int64(2)
	if testing.Short() {
		step = 7
	}
	for at := int64(1); ; at += step {
		w := newWorld(t)
		laptop := w.found("laptop")
		laptop.state.put("1", "x")
		laptop.sync(full)
		f := &fuse{}
		laptop.fragile(f)
		laptop.restart()
		f.left.Store(at)
		hurried := time.AfterFunc(150*time.Millisecond, func() { w.pass(11 * time.Minute) })
		p := w.pair(laptop, "phone", meeting{})
		hurried.Stop()
		done := !f.blown.Load()
		f.left.Store(0)
		f.blown.Store(false)
		laptop.restart()
		laptop.sync(full)
		if done && (p.inviter != nil || p.joiner != nil) {
			t.Fatalf("step %d: nothing was killed, and they say %v and %v", at, p.inviter, p.joiner)
		}
		switch {
		case p.keys == nil && len(laptop.keys.Members()) == 1:
			refused++
		case p.keys == nil:
			t.Fatalf("step %d: a device without keys is admitted", at)
		default:
			phone := w.device("phone", p.keys, nil)
			_, err := phone.Join(context.Background(), replica.JoinOptions{Every: soonest, Patience: 3 * soonest})
			switch member := slices.Contains(laptop.keys.Members(), p.keys.Device()); {
			case err == nil && member:
				joined++
				laptop.sync(full)
				w.same(laptop, phone)
				laptop.well()
				phone.well()
			case errors.Is(err, replica.ErrNotAdmitted) && !member:
				refused++
			default:
				t.Fatalf("step %d: member %v, joining says %v", at, member, err)
			}
		}
		if done {
			break
		}
	}
	if joined < 2 || refused < 1 {
		t.Errorf("%d joined, %d did not: that is no test of both", joined, refused)
	}
}

// TestCrashJoin kills a device that was admitted at every step of filling itself; the
// same call completes it.
func TestCrashJoin(t *testing.T) {
	step := int64(1)
	if testing.Short() {
		step = 5
	}
	for at := int64(1); ; at += step {
		w := newWorld(t)
		laptop := w.found("laptop")
		for i := range 3 {
			laptop.state.put(fmt.Sprint(i), "x")
			laptop.sync(full)
		}
		p := w.pair(laptop, "phone", meeting{})
		if p.inviter != nil || p.joiner != nil {
			t.Fatal(p.inviter, p.joiner)
		}
		phone := w.device("phone", p.keys, nil)
		f := &fuse{}
		phone.fragile(f)
		phone.restart()
		f.left.Store(at)
		o := replica.JoinOptions{Epoch: p.epoch, Every: soonest, Patience: 3 * soonest}
		if _, err := phone.Join(context.Background(), o); err == nil && !f.blown.Load() {
			if at < 10 {
				t.Fatalf("joining has only %d steps", at)
			}
			return
		}
		f.left.Store(0)
		f.blown.Store(false)
		phone.restart()
		o.Epoch = 0 // not known any more
		if _, err := phone.Join(context.Background(), o); err != nil {
			t.Fatalf("crash at %d: joining again: %v", at, err)
		}
		phone.state.put("of phone", "x")
		phone.sync(full)
		laptop.sync(full)
		w.same(laptop, phone)
		laptop.well()
		phone.well()
		if t.Failed() {
			t.Fatalf("crash at step %d", at)
		}
	}
}
