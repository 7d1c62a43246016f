package daemon

import (
	"slices"
	"testing"
	"time"

	"github.com/locker-project/locker/daemon/replica"
)

// A paced daemon is one whose time is made up.
type pacedDaemon struct {
	*pace
	now          time.Time
	took         time.Duration // by a pass
	looks, sends []time.Time
	answer       func(o replica.SyncOptions) (replica.Summary, error)
}

func newPacedDaemon() *pacedDaemon {
	d := &pacedDaemon{now: time.Date(2026, 11, 25, 8, 0, 0, 0, time.UTC), took: 50 * time.Millisecond}
	d.answer = func(replica.SyncOptions) (replica.Summary, error) {
		return replica.Summary{Within: 9 * time.Minute}, nil
	}
	d.pace = newPace(d.now)
	return d
}

// until lets time pass.
func (d *pacedDaemon) until(end time.Time) {
	for !d.next().After(end) {
		d.now = later(d.now, d.next())
		o, due := d.due(d.now)
		if !due {
			panic("a pass is due and is not")
		}
		waiting := !d.changed.IsZero()
		s, err := d.answer(o)
		d.now = d.now.Add(d.took)
		d.passed(d.now, o, s, err)
		if err == nil && !o.Push {
			d.looks = append(d.looks, d.now)
		}
		if err == nil && waiting && d.changed.IsZero() {
			d.sends = append(d.sends, d.now)
		}
	}
	d.now = later(d.now, end)
}

func (d *pacedDaemon) wait(t time.Duration) { d.until(d.now.Add(t)) }

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// TestPaceIdle: the longer nothing happens the more rarely is looked, and never more
// rarely than the replica asks for.
func TestPaceIdle(t *testing.T) {
	d := newPacedDaemon()
	d.wait(30 * time.Second)
	if n := len(d.looks); n < 30 || n > 60 {
		t.Errorf("%d looks in the first 30 s", n)
	}
	d.wait(24 * time.Hour)
	after := slices.Clone(d.looks)
	if n := len(after); n > 600 {
		t.Errorf("%d looks in an idle day", n)
	}
	for i := 1; i < len(after); i++ {
		if gap := after[i].Sub(after[i-1]); gap > 9*time.Minute+time.Second {
			t.Fatalf("nobody looked for %v", gap)
		}
	}
	d.answer = func(replica.SyncOptions) (replica.Summary, error) { return replica.Summary{Within: time.Minute}, nil }
	d.wait(20 * time.Minute) // a look that was planned before
	d.looks = nil
	d.wait(time.Hour)
	if n := len(d.looks); n < 60 || n > 76 {
		t.Errorf("%d looks in an hour of ten devices", n)
	}
	d.act(d.now)
	d.looks = nil
	d.wait(10 * time.Second)
	if n := len(d.looks); n < 10 {
		t.Errorf("%d looks in ten seconds after a call", n)
	}
}

// TestPaceNews: the replica says how frequent looks are for the sake of others, and a
// remote that tells of news is heard at once.
func TestPaceNews(t *testing.T) {
	d := newPacedDaemon()
	d.wait(10 * time.Hour)
	d.answer = func(replica.SyncOptions) (replica.Summary, error) { return replica.Summary{Within: time.Second}, nil }
	d.wait(15 * time.Minute)
	d.looks = nil
	d.wait(time.Minute)
	if n := len(d.looks); n < 60 {
		t.Errorf("%d looks in a minute of news", n)
	}
	d = newPacedDaemon()
	d.wait(10 * time.Hour)
	d.looks = nil
	d.tell(d.now)
	d.wait(time.Second)
	if len(d.looks) != 1 {
		t.Errorf("%d looks after a remote told of news", len(d.looks))
	}
}

// TestPaceSend: what was written is sent at once, before anything is looked for, and
// who goes on writing sends less often than that.
func TestPaceSend(t *testing.T) {
	d := newPacedDaemon()
	d.wait(time.Hour)
	d.looks = nil
	wrote := d.now
	d.change(d.now)
	for len(d.sends) == 0 && d.now.Sub(wrote) < time.Minute {
		d.wait(time.Millisecond)
	}
	if took := d.sends[0].Sub(wrote) - d.took; took < settle || took > settle+10*time.Millisecond {
		t.Errorf("a change is sent after %v", took)
	}
	if len(d.looks) > 0 && d.looks[0].Before(d.sends[0]) {
		t.Error("a look comes before what is to be sent")
	}
	d = newPacedDaemon()
	d.wait(time.Hour)
	for end := d.now.Add(time.Hour); d.now.Before(end); {
		d.change(d.now)
		d.wait(50 * time.Millisecond)
	}
	if n := len(d.sends); n < 300 || n > inARow+360+10 {
		t.Errorf("%d passes that send in an hour of writing", n)
	}
	if gap := d.sends[1].Sub(d.sends[0]); gap > 2*time.Second {
		t.Errorf("the second of many changes waits %v", gap)
	}
	d.sends = nil
	for range 20 { // changes of a person
		d.wait(12 * time.Second)
		wrote := d.now
		d.change(d.now)
		d.wait(time.Second)
		if n := len(d.sends); n == 0 || d.sends[n-1].Before(wrote) {
			t.Fatal("a change waits though few came before it")
		}
	}
}

// TestPaceOffline: while no remote is reached the tries become rarer, and what waits
// goes with the first that works.
func TestPaceOffline(t *testing.T) {
	d := newPacedDaemon()
	d.wait(time.Minute)
	tries := 0
	d.answer = func(replica.SyncOptions) (replica.Summary, error) {
		tries++
		return replica.Summary{}, replica.ErrUnreachable
	}
	for end := d.now.Add(time.Hour); d.now.Before(end); {
		d.act(d.now)
		d.change(d.now)
		d.wait(time.Second)
	}
	if tries < 50 || tries > 70 {
		t.Errorf("%d tries in an hour without network", tries)
	}
	d.answer = func(replica.SyncOptions) (replica.Summary, error) { return replica.Summary{}, nil }
	d.sends = nil
	d.wait(retryMost + time.Second)
	if len(d.sends) == 0 {
		t.Error("what waited was not sent once the network was back")
	}
}
