package remote

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/locker-project/locker/daemon/remote/fault"
	"github.com/locker-project/locker/daemon/replica"
)

// A Report says what a remote can do, and how well it did in [Examine]. Times are in
// milliseconds; -1 is not known, or not within the time that was given to it.
type Report struct {
	// Objects of 4 KiB: the median of several. Miss is a look for what is not there,
	// which is how news are asked for.
	PutMS    int64 `json:"put_ms"`
	GetMS    int64 `json:"get_ms"`
	MissMS   int64 `json:"miss_ms"`
	ListMS   int64 `json:"list_ms"`
	DeleteMS int64 `json:"delete_ms"`
	// Megabytes (10^6) a second, of one large object.
	UpMBs   float64 `json:"up_mb_s"`
	DownMBs float64 `json:"down_mb_s"`

	// How long it takes until what was put can be read and is listed, and until what was
	// deleted is gone.
	ReadAfterMS int64 `json:"read_after_ms"`
	ListAfterMS int64 `json:"list_after_ms"`
	GoneAfterMS int64 `json:"gone_after_ms"`
	// Partial says whether a large object shows while it is being put: "hidden", "visible".
	Partial string `json:"partial_uploads"`
	// ClockAheadMS is by how much the remote's clock is ahead of ours.
	ClockAheadMS int64 `json:"clock_ahead_ms"`

	// These are what is known of that kind of place; absent where nothing is.
	Traits *ReportTraits `json:"traits,omitempty"`

	// Warnings are what the owner should know though the remote can be used.
	Warnings []string `json:"warnings,omitempty"`
}

// ReportTraits are [Traits] for a report.
type ReportTraits struct {
	Notifies     string `json:"notifies"` // "at once", "every 10s", "no"
	FoldsCase    bool   `json:"folds_case"`
	Duplicates   bool   `json:"duplicates"`
	Conditional  bool   `json:"conditional_put"`
	ResolutionMS int64  `json:"time_resolution_ms"` // -1: no times
	FreeBytes    int64  `json:"free_bytes"`         // -1: not known
	UsedBytes    int64  `json:"used_bytes"`
}

const (
	rounds   = 5                // objects of each latency
	lateness = 20 * time.Second // how long something that shows late is waited for
	firstLot = 2 << 20          // bytes of the object by which the line is measured first,
	largeLot = 16 << 20         // and where that took less than a second, of another one
)

// Examine finds out what a remote can do and measures it. It takes some seconds, moves
// some ten megabytes each way, and leaves nothing behind. The error says what does not work.
func Examine(ctx context.Context, r replica.Remote) (Report, error) {
	e := &examiner{remote: r}
	defer e.clean(ctx)
	for _, step := range []func(context.Context) error{e.small, e.shows, e.partial, e.line, e.remove, e.traits} {
		if err := step(ctx); err != nil {
			return e.report, err
		}
	}
	return e.report, nil
}

// An examiner is one run of Examine.
type examiner struct {
	remote replica.Remote
	report Report
	made   []string // names that are there
}

func (e *examiner) warn(text string) { e.report.Warnings = append(e.report.Warnings, text) }

// put puts an object of random bytes.
func (e *examiner) put(ctx context.Context, size int) (string, []byte, time.Duration, error) {
	body := make([]byte, size)
	_, _ = rand.Read(body)
	name := probeName()
	e.made = append(e.made, name)
	began := time.Now()
	if err := e.remote.Put(ctx, name, bytes.NewReader(body), int64(size)); err != nil {
		return name, body, 0, fmt.Errorf("writing: %w", err)
	}
	return name, body, time.Since(began), nil
}

// get reads an object whole.
func (e *examiner) get(ctx context.Context, name string) ([]byte, time.Duration, error) {
	began := time.Now()
	body, err := e.remote.Get(ctx, name, 0, -1)
	if err != nil {
		return nil, time.Since(began), err
	}
	got, err := io.ReadAll(io.LimitReader(body, largeLot+1))
	return got, time.Since(began), errors.Join(err, body.Close())
}

// getSoon is get for an object that may show late.
func (e *examiner) getSoon(ctx context.Context, name string) (got []byte, took time.Duration, err error) {
	_, stop := until(ctx, func() (bool, error) {
		got, took, err = e.get(ctx, name)
		return !errors.Is(err, replica.ErrNotFound), nil
	})
	return got, took, errors.Join(err, stop)
}

// until waits until something is so, and says how long that took: 0 if it was at once,
// -1 if it was not in time.
func until(ctx context.Context, is func() (bool, error)) (int64, error) {
	began := time.Now()
	for pause := 50 * time.Millisecond; ; pause *= 2 {
		ok, err := is()
		switch took := time.Since(began); {
		case err != nil:
			return -1, err
		case ok && pause == 50*time.Millisecond:
			return 0, nil
		case ok:
			return took.Milliseconds(), nil
		case took > lateness:
			return -1, nil
		}
		if err := sleep(ctx, pause); err != nil {
			return -1, err
		}
	}
}

// small measures objects of the smallest size, and checks that one replaces another.
func (e *examiner) small(ctx context.Context) error {
	var puts, gets, misses []time.Duration
	for range rounds {
		name, body, took, err := e.put(ctx, probeSize)
		if err != nil {
			return err
		}
		puts = append(puts, took)
		got, took, err := e.getSoon(ctx, name)
		if err == nil && !bytes.Equal(got, body) {
			err = &fault.Fault{Kind: fault.Broken, What: "what was read is not what was written", Do: "do not use this place"}
		}
		if err != nil {
			return fmt.Errorf("reading: %w", err)
		}
		gets = append(gets, took)
		began := time.Now()
		if body, err := e.remote.Get(ctx, probeName(), 0, -1); err == nil {
			body.Close()
			return &fault.Fault{Kind: fault.Broken, What: "the remote has an object that nobody put", Do: "do not use this place"}
		} else if !errors.Is(err, replica.ErrNotFound) {
			return fmt.Errorf("looking for what is not there: %w", err)
		}
		misses = append(misses, time.Since(began))
	}
	e.report.PutMS, e.report.GetMS, e.report.MissMS = median(puts), median(gets), median(misses)
	return nil
}

func median(times []time.Duration) int64 {
	if len(times) == 0 {
		return -1
	}
	slices.Sort(times)
	return times[len(times)/2].Milliseconds()
}

// shows finds out when what was put can be read, is listed, and is replaced, and what
// the remote's clock says.
func (e *examiner) shows(ctx context.Context) (err error) {
	name, body, _, err := e.put(ctx, probeSize)
	if err != nil {
		return err
	}
	put := time.Now()
	e.report.ReadAfterMS, err = until(ctx, func() (bool, error) {
		got, _, err := e.get(ctx, name)
		if errors.Is(err, replica.ErrNotFound) {
			err = nil
		}
		return bytes.Equal(got, body), err
	})
	if err != nil {
		return fmt.Errorf("reading: %w", err)
	}
	e.report.ListAfterMS, err = until(ctx, func() (found bool, err error) {
		began := time.Now()
		for info, err := range e.remote.List(ctx, name[:len(probePrefix)+4]) {
			if err != nil {
				return false, err
			}
			if info.Name == name {
				found = true
				if !info.ModTime.IsZero() {
					e.report.ClockAheadMS = info.ModTime.Sub(put).Milliseconds()
				}
			}
		}
		e.report.ListMS = time.Since(began).Milliseconds()
		return found, nil
	})
	if err != nil {
		return fmt.Errorf("listing: %w", err)
	}
	if e.report.ReadAfterMS != 0 {
		e.warn("what was written can be read only after a while")
	}
	if e.report.ListAfterMS != 0 {
		e.warn("what was written is listed only after a while")
	}
	if ahead := time.Duration(e.report.ClockAheadMS) * time.Millisecond; ahead > time.Minute || ahead < -time.Minute {
		e.warn(fmt.Sprintf("its clock and ours are %s apart: check this device's", ahead.Abs().Round(time.Second)))
	}
	return e.replaces(ctx, name)
}

// replaces puts another object of the same name.
func (e *examiner) replaces(ctx context.Context, name string) error {
	other := make([]byte, probeSize)
	_, _ = rand.Read(other)
	if err := e.remote.Put(ctx, name, bytes.NewReader(other), probeSize); err != nil {
		return fmt.Errorf("writing over an object: %w", err)
	}
	after, err := until(ctx, func() (bool, error) {
		got, _, err := e.get(ctx, name)
		if errors.Is(err, replica.ErrNotFound) {
			err = nil
		}
		return bytes.Equal(got, other), err
	})
	if err == nil && after < 0 {
		err = &fault.Fault{Kind: fault.Broken, What: "what was written over an object does not replace it", Do: "do not use this place"}
	}
	return err
}

// A halfway body stops in its middle until it is let go.
type halfway struct {
	r     *bytes.Reader
	size  int64
	there chan struct{} // closed in the middle
	goOn  chan struct{}
	once  sync.Once
}

func (h *halfway) Seek(offset int64, whence int) (int64, error) { return h.r.Seek(offset, whence) }

func (h *halfway) Read(p []byte) (int, error) {
	if at := h.size - int64(h.r.Len()); at < h.size/2 {
		return h.r.Read(p[:min(int64(len(p)), h.size/2-at)])
	}
	h.once.Do(func() {
		close(h.there)
		<-h.goOn
	})
	return h.r.Read(p)
}

// partial looks for a large object while it is being put.
func (e *examiner) partial(ctx context.Context) error {
	body := make([]byte, firstLot)
	_, _ = rand.Read(body)
	name := probeName()
	e.made = append(e.made, name)
	h := &halfway{r: bytes.NewReader(body), size: firstLot, there: make(chan struct{}), goOn: make(chan struct{})}
	done := make(chan error, 1)
	go func() { done <- e.remote.Put(ctx, name, h, firstLot) }()
	select {
	case <-h.there:
	case err := <-done:
		return fmt.Errorf("writing: %w", err)
	}
	e.report.Partial = "hidden"
	for range 3 {
		if got, _, err := e.get(ctx, name); err == nil && len(got) < firstLot {
			e.report.Partial = "visible"
		}
		_ = sleep(ctx, 200*time.Millisecond)
	}
	close(h.goOn)
	if err := <-done; err != nil {
		return fmt.Errorf("writing: %w", err)
	}
	return nil
}

// line measures how much goes through.
func (e *examiner) line(ctx context.Context) error {
	for _, size := range []int{firstLot, largeLot} {
		name, body, up, err := e.put(ctx, size)
		if err != nil {
			return err
		}
		got, down, err := e.getSoon(ctx, name)
		if err == nil && !bytes.Equal(got, body) {
			err = &fault.Fault{Kind: fault.Broken, What: "a large object came back as another", Do: "do not use this place"}
		}
		if err != nil {
			return fmt.Errorf("reading a large object: %w", err)
		}
		e.report.UpMBs, e.report.DownMBs = speed(size, up), speed(size, down)
		if up+down > time.Second {
			break
		}
	}
	return nil
}

// speed is in megabytes a second, with two digits after the point.
func speed(bytes int, took time.Duration) float64 {
	return float64(int(float64(bytes)/max(took.Seconds(), 1e-6)/1e6*100)) / 100
}

// remove deletes what was made, one by one at first.
func (e *examiner) remove(ctx context.Context) error {
	var times []time.Duration
	for range rounds {
		began := time.Now()
		if err := e.remote.Delete(ctx, e.made[0]); err != nil {
			return fmt.Errorf("deleting: %w", err)
		}
		times = append(times, time.Since(began))
		e.made = e.made[1:]
	}
	e.report.DeleteMS = median(times)
	last := e.made[0]
	if err := e.remote.Delete(ctx, e.made...); err != nil {
		return fmt.Errorf("deleting: %w", err)
	}
	e.made = nil
	var err error
	e.report.GoneAfterMS, err = until(ctx, func() (bool, error) {
		_, _, err := e.get(ctx, last)
		if errors.Is(err, replica.ErrNotFound) {
			return true, nil
		}
		return false, err
	})
	return err
}

// clean deletes what is left when Examine ended early.
func (e *examiner) clean(ctx context.Context) {
	if len(e.made) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	_ = e.remote.Delete(ctx, e.made...) // an error is told already
}

// traits adds what is known of that kind of place.
func (e *examiner) traits(ctx context.Context) error {
	t, err := describe(ctx, e.remote)
	if errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("asking what the remote can do: %w", err)
	}
	r := &ReportTraits{Notifies: "no", FoldsCase: t.FoldCase, Duplicates: t.Duplicates, Conditional: t.Conditional, ResolutionMS: -1, FreeBytes: -1, UsedBytes: -1}
	switch {
	case t.Notifies && t.NotifyEvery > 0:
		r.Notifies = "every " + t.NotifyEvery.String()
	case t.Notifies:
		r.Notifies = "at once"
	}
	if t.Precision > 0 {
		r.ResolutionMS = t.Precision.Milliseconds()
	}
	if t.Sized {
		r.FreeBytes, r.UsedBytes = t.Free, t.Used
		if t.Free < 1<<30 {
			e.warn(fmt.Sprintf("it has room for %d MB more", t.Free/1e6))
		}
	}
	e.report.Traits = r
	return nil
}
