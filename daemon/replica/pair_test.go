package replica_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
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
	device          *device // the new one, if it joined
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
	}
	group.Wait()
	return p
}

// hurry is a clock for who looks for an invitation: the world's does not move.
func (w *world) hurry() func() time.Time {
	began := time.Now()
	return func() time.Time { return w.now().Add(time.Since(began) * 1000) }
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
	before := len(w.cloud.Names())
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
	for _, name := range w.cloud.Names()[:before] {
		if bytes.HasPrefix(w.cloud.Object(name), []byte("locker/1 meet")) {
			t.Errorf("%s of a meeting is left", name)
		}
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
			if !errors.Is(p.inviter, c.inviter) || !errors.Is(p.joiner, c.joiner) {
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

// A tamperer is a Remote that changes what is said at a meeting.
type tamperer struct {
	*replicatest.Cloud
	mu  sync.Mutex
	put func(name string, data []byte) []byte // nil: dropped
}

func (c *tamperer) tamper(name string, data []byte) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.put(name, data)
}
