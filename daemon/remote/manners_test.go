package remote

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locker-project/locker/daemon/remote/fault"
	"github.com/locker-project/locker/daemon/replica"
	"github.com/locker-project/locker/daemon/replica/replicatest"
)

// TestWrappedConformance: what is put in front of a remote changes nothing.
func TestWrappedConformance(t *testing.T) {
	l := NewLimiter()
	l.Set(200<<20, 200<<20)
	replicatest.Remote(t, func(t *testing.T) replica.Remote { return NewBreaker(l.Limit(newFolder(t))) })
}

// TestLimit: bytes go and come at the rate that was set, all remotes taken together,
// and a limit that is lifted is noticed.
func TestLimit(t *testing.T) {
	const size = 100_000
	body := bytes.Repeat([]byte("x"), size)
	for _, test := range []struct {
		name     string
		up, down int64
		lift     time.Duration
		least    time.Duration
		most     time.Duration
	}{
		{"none", 0, 0, 0, 0, 300 * time.Millisecond},
		{"up", size, 0, 0, 1700 * time.Millisecond, 2500 * time.Millisecond},
		{"down", 0, size, 0, 1700 * time.Millisecond, 2500 * time.Millisecond},
		{"lifted", 1000, 0, 200 * time.Millisecond, 200 * time.Millisecond, 2500 * time.Millisecond},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			l := NewLimiter()
			l.Set(test.up, test.down)
			if test.lift > 0 {
				time.AfterFunc(test.lift, func() { l.Set(0, 0) })
			}
			began := time.Now()
			done := make(chan error, 2)
			for range 2 {
				r := l.Limit(newFolder(t))
				go func() {
					err := r.Put(t.Context(), testName, bytes.NewReader(body), size)
					if err == nil {
						var got []byte
						if got, err = get(t.Context(), r); err == nil && !bytes.Equal(got, body) {
							err = errors.New("other bytes came back")
						}
					}
					done <- err
				}()
			}
			if err := errors.Join(<-done, <-done); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(began); took < test.least || took > test.most {
				t.Errorf("twice %d bytes took %s, want %s to %s", size, took, test.least, test.most)
			}
		})
	}
}

func get(ctx context.Context, r replica.Remote) ([]byte, error) {
	body, err := r.Get(ctx, testName, 0, -1)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	return io.ReadAll(body)
}

// A moody remote fails with an error while it has one, and counts calls.
type moody struct {
	err   error
	calls atomic.Int64
}

func (m *moody) call() error                                             { m.calls.Add(1); return m.err }
func (m *moody) Put(context.Context, string, io.ReadSeeker, int64) error { return m.call() }
func (m *moody) Delete(context.Context, ...string) error                 { return m.call() }
func (m *moody) Get(context.Context, string, int64, int64) (io.ReadCloser, error) {
	return io.NopCloser(strings.NewReader("")), m.call()
}
func (m *moody) List(context.Context, string) iter.Seq2[replica.ObjectInfo, error] {
	return func(yield func(replica.ObjectInfo, error) bool) {
		if err := m.call(); err != nil {
			yield(replica.ObjectInfo{}, err)
		} else if yield(replica.ObjectInfo{Name: "1"}, nil) {
			yield(replica.ObjectInfo{Name: "2"}, nil)
		}
	}
}

// try makes one call of each kind and returns the last error.
func try(r replica.Remote) (err error) {
	for _, e := range r.List(context.Background(), "") {
		err = e
		break
	}
	_, getErr := r.Get(context.Background(), testName, 0, -1)
	return errors.Join(err, getErr, r.Put(context.Background(), testName, strings.NewReader(""), 0), r.Delete(context.Background(), testName))
}

// TestBreaker: a dead remote gets a call now and then, fewer and fewer, and none from
// those who wait; one that is well again gets all.
func TestBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &moody{err: &fault.Fault{Kind: fault.Offline, What: "it is away", Again: true}}
		b := NewBreaker(m)
		for day := time.Now(); time.Since(day) < 24*time.Hour; time.Sleep(time.Second) {
			err := try(b)
			wantFault(t, err, fault.Offline)
			var later interface{ RetryAfter() time.Duration }
			if until, why := b.Open(); why == nil || !errors.As(err, &later) || until.Before(time.Now()) {
				t.Fatalf("not open: %v, %v", until, why)
			}
		}
		if n := m.calls.Load(); n < 48 || n > 120 {
			t.Errorf("%d calls in a day of a remote that is away", n)
		}
		m.err = nil
		time.Sleep(mostRest)
		m.calls.Store(0)
		if err := try(b); err != nil || m.calls.Load() != 4 {
			t.Errorf("when it is well again: %v, %d calls", err, m.calls.Load())
		}
		if _, why := b.Open(); why != nil {
			t.Errorf("still open: %v", why)
		}
	})
}

func TestBreakerKinds(t *testing.T) {
	for _, test := range []struct {
		err  error
		rest time.Duration // at least; 0: it is not left alone
		most time.Duration
	}{
		{&fault.Fault{Kind: fault.Offline, What: "x", Again: true}, firstRest / 2, firstRest + 1},
		{&fault.Fault{Kind: fault.Busy, What: "x", Again: true}, firstRest / 2, firstRest + 1},
		{&fault.Fault{Kind: fault.Busy, What: "x", Again: true, Pause: 7 * time.Minute}, 7 * time.Minute, 7 * time.Minute},
		{&fault.Fault{Kind: fault.Broken, What: "x", Again: true}, firstRest / 2, firstRest + 1},
		{&fault.Fault{Kind: fault.Broken, What: "x"}, 0, 0},
		{&fault.Fault{Kind: fault.Full, What: "x"}, 0, 0},
		{&fault.Fault{Kind: fault.Denied, What: "x"}, 0, 0},
		{replica.ErrNotFound, 0, 0},
		{context.Canceled, 0, 0},
		{errors.New("disk trouble on this side"), 0, 0},
		{nil, 0, 0},
	} {
		t.Run(fmt.Sprint(test.err), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := &moody{err: test.err}
				b := NewBreaker(m)
				_ = b.Delete(t.Context(), testName)
				until, why := b.Open()
				if rest := time.Until(until); test.rest > 0 && (why == nil || rest < test.rest || rest > test.most) || test.rest == 0 && why != nil {
					t.Errorf("left alone for %s: %v; want %s to %s", rest, why, test.rest, test.most)
				}
				b.Reset()
				_ = b.Delete(t.Context(), testName)
				if m.calls.Load() != 2 {
					t.Errorf("%d calls after a reset, want 2", m.calls.Load())
				}
			})
		})
	}
}

// TestPolicy: quiet hours over midnight and within a day, and who says what of the
// network.
func TestPolicy(t *testing.T) {
	zurich, err := time.LoadLocation("Europe/Zurich")
	if err != nil {
		t.Skip("this system knows no time zones")
	}
	clock := func(day int, hour, minute int) time.Time { return time.Date(2026, 3, day, hour, minute, 0, 0, zurich) }
	var p Policy
	if err := json.Unmarshal([]byte(`{"up":1,"quiet":["22:00-07:00","12:30-13:00"],"metered":"auto"}`), &p); err != nil {
		t.Fatal(err)
	}
	if raw, err := json.Marshal(p); err != nil || string(raw) != `{"up":1,"quiet":["22:00-07:00","12:30-13:00"],"metered":"auto"}` {
		t.Errorf("as JSON: %s, %v", raw, err)
	}
	for _, test := range []struct {
		at             time.Time
		as             Metered
		metered, known bool
		sync, bulk     bool
		until          time.Time
	}{
		{clock(2, 21, 59), Auto, false, false, true, true, time.Time{}},
		{clock(2, 22, 0), Auto, false, false, false, false, clock(3, 7, 0)},
		{clock(3, 6, 59), Auto, false, false, false, false, clock(3, 7, 0)},
		{clock(3, 7, 0), Auto, false, false, true, true, time.Time{}},
		{clock(3, 12, 45), No, false, false, false, false, clock(3, 13, 0)},
		{clock(28, 23, 0), Auto, false, false, false, false, clock(29, 7, 0)}, // a night of eight hours
		{clock(3, 9, 0), Auto, true, true, true, false, time.Time{}},
		{clock(3, 9, 0), Auto, true, false, true, true, time.Time{}},
		{clock(3, 9, 0), No, true, true, true, true, time.Time{}},
		{clock(3, 9, 0), Yes, false, true, true, false, time.Time{}},
	} {
		p.Metered = test.as
		a := p.Now(test.at, test.metered, test.known)
		if a.Sync != test.sync || a.Bulk != test.bulk || !a.Until.Equal(test.until) || (a.Why == "") != (test.sync && test.bulk) {
			t.Errorf("%s, %s, %v/%v: %+v, want sync %v, bulk %v until %s", test.at, test.as, test.metered, test.known, a, test.sync, test.bulk, test.until)
		}
	}
	if a := (Policy{}).Now(time.Now(), false, false); !a.Sync || !a.Bulk {
		t.Errorf("no policy allows %+v", a)
	}
	for _, bad := range []string{"", "22:00", "22-7", "25:00-07:00", "22:00-07:61", "a-b"} {
		if h, err := ParseHours(bad); err == nil {
			t.Errorf("%q was read as %s", bad, h)
		}
	}
	if _, err := ParseMetered("perhaps"); err == nil {
		t.Error("metered: perhaps")
	}
}

// told waits for news of changes.
func told(t *testing.T, changes <-chan struct{}, most time.Duration) bool {
	t.Helper()
	select {
	case _, ok := <-changes:
		return ok
	case <-time.After(most):
		return false
	}
}

// TestFolderChanged: what another program puts is told once, soon, and what this side
// puts is not; also after the folder went away and came back.
func TestFolderChanged(t *testing.T) {
	f := newFolder(t)
	other, err := Folder(f.dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	changes := f.Changed(ctx)
	time.Sleep(100 * time.Millisecond) // the watch begins
	name := func(i int) string { return fmt.Sprintf("%s%02d", testName[:len(testName)-2], 22+i) }
	if err := f.Put(ctx, testName, strings.NewReader("own"), 3); err != nil {
		t.Fatal(err)
	}
	if told(t, changes, settle+500*time.Millisecond) {
		t.Error("told of an object of our own")
	}
	began := time.Now()
	for i := range 5 {
		if err := other.Put(ctx, name(i), strings.NewReader("x"), 1); err != nil {
			t.Fatal(err)
		}
	}
	if !told(t, changes, 5*time.Second) {
		t.Fatal("not told of another's objects")
	}
	if took := time.Since(began); took > time.Second+mostSettle {
		t.Errorf("told after %s", took)
	}
	if told(t, changes, settle+300*time.Millisecond) {
		t.Error("told twice of one burst")
	}
	cancel()
	for range changes {
	}
}

// TestPluginChanged: what a process tells is passed on; a process that ends is started
// again, and one that cannot tell says so.
func TestPluginChanged(t *testing.T) {
	r := newFake(t, 10*time.Millisecond)
	news := make(chan string)
	r.changes = func(ctx context.Context, changed func(string)) error {
		for {
			select {
			case name := <-news:
				changed(name)
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	if err := r.Put(t.Context(), testName, strings.NewReader("own"), 3); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	changes := r.Changed(ctx)
	news <- testName
	if told(t, changes, 2*settle) {
		t.Error("told of an object of our own")
	}
	news <- "d/other"
	news <- ""
	if !told(t, changes, 5*time.Second) {
		t.Error("not told")
	}
	if r.starts.Load() > 2 { // of the put and of the watch
		t.Errorf("%d processes", r.starts.Load())
	}
	cancel()
	for range changes {
	}
	r.changes = nil
	if told(t, r.Changed(t.Context()), time.Second) {
		t.Error("a remote that tells nothing told something")
	}
}
