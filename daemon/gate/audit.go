package gate

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/locker-project/locker/plugins/locker"
)

// An AuditLine says what an app read or wrote, or was refused.
type AuditLine struct {
	Time       time.Time `json:"time"`
	App        string    `json:"app"`
	Grant      string    `json:"grant"`
	Purpose    string    `json:"purpose"` // terms of the Data Privacy Vocabulary
	Collection string    `json:"collection"`
	Fields     []string  `json:"fields"`
	Rows       int64     `json:"rows"`
	Bytes      int64     `json:"bytes"`
	// Decision is Allowed, Denied, Running, Interrupted or Cut.
	Decision string `json:"decision"`
	Verb     string `json:"verb"` // open, get, query, changes or put
	// Where, Since and Until are those of the query.
	Where string    `json:"where,omitempty"`
	Since time.Time `json:"since,omitzero"`
	Until time.Time `json:"until,omitzero"`
	// Why says more of what was not allowed, or failed.
	Why string `json:"why,omitempty"`
	// Times is how often the same was refused, where it was more than once.
	Times  int    `json:"times,omitempty"`
	Device string `json:"device"`
}

// What a line's Decision can be.
const (
	Allowed = "allowed"
	Denied  = "denied"
	Running = "running" // rows are going out now
	// Cut is a read that was going on when the grant ended.
	Cut = "cut"
	// Interrupted is a read that was going on when the process ended: the rows and
	// bytes are not known, and may be all that was asked for.
	Interrupted = "interrupted"
)

// An entry is a line as it is kept. A read that takes long has two: one is durable
// before the first row goes out, one is written when it has ended.
type entry struct {
	AuditLine
	// Read joins the two entries of a read: a number that is unique in the chain.
	Read string `json:"read,omitempty"`
	// Ended marks the second.
	Ended bool `json:"ended,omitempty"`
}

// opened is the Decision of the first entry of a read that has two.
const opened = "opened"

// An auditor writes entries into this device's chain. Entries that wait at the same
// time become one link, so that many readers cost no more than one.
type auditor struct {
	*chain
	logger *slog.Logger

	mu      sync.Mutex
	queue   []*entry
	waiting []chan error
	busy    bool
	timer   *time.Timer
	running map[string]bool // reads that go on in this process
	reads   uint64
}

// lazy is how long an entry that nobody waits for may stay in memory.
const lazy = time.Second

// start makes the name of a read that will have two entries.
func (a *auditor) start() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.reads++
	read := fmt.Sprintf("%d-%d", a.gate.time.Now().UnixNano(), a.reads)
	if a.running == nil {
		a.running = map[string]bool{}
	}
	a.running[read] = true
	return read
}

// later takes an entry for which nothing waits to go out; it is written soon.
func (a *auditor) later(e entry) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.running, e.Read)
	a.queue = append(a.queue, &e)
	if a.timer == nil {
		a.timer = time.AfterFunc(lazy, func() {
			if err := a.flush(); err != nil {
				a.logger.Error("cannot write the audit log", "error", err)
			}
		})
	}
}

// write returns when the entry is durable.
func (a *auditor) write(e entry) error {
	a.mu.Lock()
	a.queue = append(a.queue, &e)
	a.mu.Unlock()
	return a.flush()
}

// flush returns when all that is queued is durable.
func (a *auditor) flush() error {
	done := make(chan error, 1)
	a.mu.Lock()
	if len(a.queue) == 0 && !a.busy {
		a.mu.Unlock()
		return nil
	}
	a.waiting = append(a.waiting, done)
	if a.busy {
		a.mu.Unlock()
		return <-done
	}
	a.busy = true
	a.mu.Unlock()
	a.drain()
	return <-done
}

// drain writes links until nothing is queued. The writes do not end with the call
// that waits for them: what went out must be in the log.
func (a *auditor) drain() {
	for {
		a.mu.Lock()
		queue, waiting := a.queue, a.waiting
		a.queue, a.waiting = nil, nil
		if a.timer != nil {
			a.timer.Stop()
			a.timer = nil
		}
		if len(waiting) == 0 && len(queue) == 0 {
			a.busy = false
			a.mu.Unlock()
			return
		}
		a.mu.Unlock()
		var err error
		if len(queue) > 0 {
			_, err = a.append(context.Background(), map[string][]*entry{"lines": queue})
		}
		for _, done := range waiting {
			done <- err
		}
	}
}

// Audit yields what apps read, wrote and were refused, the oldest first, from a
// time on; app is one app's id, or empty for all.
func (g *Gate) Audit(ctx context.Context, app string, since time.Time) iter.Seq2[AuditLine, error] {
	return func(yield func(AuditLine, error) bool) {
		lines, err := g.auditLines(ctx, app, since)
		if err != nil {
			yield(AuditLine{}, fmt.Errorf("reading the audit log: %w", err))
			return
		}
		for _, l := range lines {
			if !yield(l, nil) {
				return
			}
		}
	}
}

func (g *Gate) auditLines(ctx context.Context, app string, since time.Time) ([]AuditLine, error) {
	if err := g.audit.flush(); err != nil {
		return nil, err
	}
	var lines []AuditLine
	open := map[string]int{} // by device and read: index into lines
	for r, err := range g.Store.View(system).Query(ctx, locker.Query{Collection: auditCollection, Since: since}) {
		if err != nil {
			return nil, err
		}
		l, _ := readLink(r)
		var body struct{ Lines []entry }
		if l.bad != "" || json.Unmarshal(l.Body, &body) != nil {
			continue // VerifyChains names it
		}
		for _, e := range body.Lines {
			e.Device = l.Device
			key := l.Device + " " + e.Read
			i, ok := open[key]
			switch {
			case app != "" && e.App != app, e.Ended && !ok:
			case e.Ended:
				begun := lines[i].Time
				lines[i] = e.AuditLine
				lines[i].Time = begun
			default:
				if e.Decision == opened {
					open[key] = len(lines)
					e.Decision = g.unfinished(l.Device, e.Read)
				}
				lines = append(lines, e.AuditLine)
			}
		}
	}
	slices.SortStableFunc(lines, func(a, b AuditLine) int {
		return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.Device, b.Device))
	})
	return lines, nil
}

// unfinished is what a read is whose end is not written.
func (g *Gate) unfinished(device, read string) string {
	g.audit.mu.Lock()
	defer g.audit.mu.Unlock()
	if device == g.Device && g.audit.running[read] {
		return Running
	}
	return Interrupted
}
