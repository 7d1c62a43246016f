package replica_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locker-project/locker/crypto"
	"github.com/locker-project/locker/daemon/replica"
	"github.com/locker-project/locker/daemon/replica/replicatest"
)

// A sim is devices of one locker and their remotes in a bubble of its own time. All
// that happens follows from the seed: the requests of all devices wait until chance
// picks the one that is answered next, so passes of several devices run into each
// other in every way.
type sim struct {
	seed    uint64
	rnd     *rand.Rand
	phrase  crypto.Seed
	without replica.Rules
	small   bool // logs are compacted soon
	removal bool // somebody was removed
	clouds  []*simCloud
	nodes   []*node
	needles [][]byte // secrets and texts that no remote may ever see

	mu      sync.Mutex
	waiting []*call
	broken  error // the first thing that is not as it must be
	trace   []string
	tracing bool
	names   map[string]string // what they stand for, for the trace
	steps   int
	sum     uint64 // of the trace
}

// A simCloud is one remote as it is, and when it does not answer.
type simCloud struct {
	*replicatest.Cloud
	name       string
	delay      time.Duration
	fail       float64
	failGet    float64
	downFor    map[*node]time.Time // partitions
	disturbed  bool                // it lost what it had promised to keep
	maxObjects int
}

// A call is a request that waits for its turn.
type call struct {
	key string
	n   *node
	run chan struct{}
}

// A node is one device.
type node struct {
	s       *sim
	name    string
	secret  []byte
	keys    *crypto.Keyring
	state   local
	disk    *memDisk
	skew    time.Duration
	life    *life // of the process
	r       *replica.Replica
	clouds  []*simCloud
	joined  bool
	lost    bool // gone for good
	out     bool // removed from the locker
	busy    string
	holding bool // the phrase is typed in
	absent  time.Time
	writes  int
}

// A life is one run of a device's process. When it is over nothing that it still
// does has any effect.
type life struct {
	over atomic.Bool
	fuse atomic.Int64 // steps until it ends by itself
}

// A local is a State and what its owner does with it.
type local interface {
	replica.State
	// set writes a text as the owner, or deletes where it is empty; took brings one
	// from a source, which writes only a difference.
	set(id, text string)
	took(id, text string)
	addBlob(data []byte) string
	hash() string
	text(id string) string
	// powerFails leaves what is durable.
	powerFails(rnd *rand.Rand) local
	copy() local
}

var errDead = errors.New("the process is dead")

func (s *sim) now() time.Time { return time.Now() } // of the bubble

func (s *sim) fail(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken == nil {
		s.broken = fmt.Errorf(format, args...)
	}
}

func (s *sim) failed() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.broken
}

// log notes what happens, to compare two runs of one seed and to tell it.
func (s *sim) log(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	h := fnv.New64a()
	_, _ = io.WriteString(h, line)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sum = s.sum*1099511628211 ^ h.Sum64()
	if s.tracing {
		s.trace = append(s.trace, fmt.Sprintf("%s %s", s.now().Format("02 15:04:05"), line))
	}
}

// turn waits until chance picks this request.
func (s *sim) turn(n *node, l *life, key string) error {
	if l.over.Load() {
		return errDead
	}
	c := &call{key: n.name + " " + key, n: n, run: make(chan struct{})}
	s.mu.Lock()
	s.waiting = append(s.waiting, c)
	s.mu.Unlock()
	<-c.run
	return n.step(l)
}

// step is a durable or outward step of a device, at which its process may end.
func (n *node) step(l *life) error {
	if l.over.Load() {
		return errDead
	}
	if l.fuse.Load() > 0 && l.fuse.Add(-1) == 0 {
		l.over.Store(true)
		return errDead
	}
	return nil
}

// answer lets one request go on, if there is one.
func (s *sim) answer(of func(*node) bool) bool {
	synctest.Wait()
	s.mu.Lock()
	var ready []*call
	for _, c := range s.waiting {
		if of == nil || of(c.n) {
			ready = append(ready, c)
		}
	}
	if len(ready) == 0 {
		s.mu.Unlock()
		return false
	}
	slices.SortFunc(ready, func(a, b *call) int { return strings.Compare(a.key, b.key) })
	c := ready[s.rnd.IntN(len(ready))]
	s.waiting = slices.DeleteFunc(s.waiting, func(w *call) bool { return w == c })
	s.steps++
	s.mu.Unlock()
	s.log("%s", c.key)
	close(c.run)
	synctest.Wait()
	return true
}

// finish answers requests until the devices that of picks have nothing to do.
func (s *sim) finish(of func(*node) bool) {
	for s.failed() == nil {
		for s.answer(of) {
		}
		if !slices.ContainsFunc(s.nodes, func(n *node) bool { return n.busy != "" && of(n) }) {
			return
		}
		time.Sleep(time.Second) // what they wait for is time
	}
}

func everyNode(*node) bool { return true }

// do lets a device begin something, beside what others do.
func (n *node) do(what string, f func(r *replica.Replica, l *life) error) {
	n.busy = what
	n.s.log("%s begins: %s", n.name, what)
	r, l := n.r, n.life
	go func() {
		defer func() {
			if p := recover(); p != nil {
				n.s.fail("%s: %s: panic: %v\n%s", n.name, what, p, debug.Stack())
			}
			n.busy = ""
		}()
		err := f(r, l)
		n.s.log("%s ends: %s: %v", n.name, what, err)
	}()
	synctest.Wait()
}

// boot starts the process of a device on what is durable.
func (n *node) boot() {
	keys, err := crypto.Load(n.secret)
	if err == nil && n.holding {
		err = keys.Hold(n.s.phrase)
	}
	if err != nil {
		n.s.fail("%s: keys: %v", n.name, err)
		return
	}
	n.keys, n.life = keys, &life{}
	l := n.life
	n.disk.before = func(op, _ string) error {
		if op == "read" || op == "names" {
			return nil
		}
		return n.step(l)
	}
	c := replica.Config{
		Sealer: tracer{keys, n.s}, State: &mortal{n.state, n, l}, Objects: "/objects", Clock: func() time.Time { return n.s.now().Add(n.skew) },
	}
	if n.s.seed%4 != 0 {
		c.CompactOften()
	}
	for _, cloud := range n.clouds {
		c.Remotes = append(c.Remotes, replica.Named{Name: cloud.name, Remote: n.view(cloud, l)})
	}
	c = c.On(n.disk).Without(n.s.without)
	if n.s.small {
		c = c.Small()
	}
	if n.r, err = replica.New(context.Background(), c); err != nil && !l.over.Load() {
		n.s.fail("%s: start: %v", n.name, err)
	}
}

// tracer is a keyring that tells the trace what names stand for.
type tracer struct {
	*crypto.Keyring
	s *sim
}

func (k tracer) Name(r replica.Ref) string {
	name := k.Keyring.Name(r)
	if !k.s.tracing {
		return name
	}
	text := fmt.Sprintf("%s %s/%d", r.Kind, k.s.nameOf(r.Writer), r.Number)
	if r.To != "" {
		text += " for " + k.s.nameOf(r.To)
	}
	k.s.mu.Lock()
	k.s.names[name] = text
	k.s.mu.Unlock()
	return name
}

// nameOf is what the trace calls a device.
func (s *sim) nameOf(device string) string {
	for _, n := range s.nodes {
		if n.keys != nil && n.keys.Device() == device {
			return n.name
		}
	}
	return device
}

// told is the end of the trace, with what names stand for.
func (s *sim) told(lines int) string {
	var b strings.Builder
	for _, line := range s.trace[max(0, len(s.trace)-lines):] {
		for word := range strings.FieldsSeq(line) {
			if name, ok := s.names[word]; ok {
				line = strings.Replace(line, word, name, 1)
			}
		}
		fmt.Fprintln(&b, line)
	}
	return b.String()
}

// view is what a device sees of a cloud.
func (n *node) view(c *simCloud, l *life) replica.Remote {
	v := &replicatest.View{Cloud: c.Cloud, Seed: n.s.seed ^ uint64(len(n.name))<<32 ^ uint64(slices.Index(n.s.clouds, c))<<40, Delay: c.delay, Fail: c.fail, FailGet: c.failGet}
	for _, b := range []byte(n.name) {
		v.Seed = v.Seed*31 + uint64(b)
	}
	v.Before = func(ctx context.Context, op, name string) error {
		if err := n.s.turn(n, l, op+" "+c.name+" "+name); err != nil {
			return err
		}
		if n.s.now().Before(c.downFor[n]) {
			return replicatest.ErrDropped
		}
		return ctx.Err()
	}
	return &scanned{v, n}
}

// Get tells the trace whether there is something.
func (r *scanned) Get(ctx context.Context, name string, off, n int64) (io.ReadCloser, error) {
	body, err := r.View.Get(ctx, name, off, n)
	if r.n.s.tracing && err == nil {
		r.n.s.log("  %s is there", name)
	} else if err != nil && !errors.Is(err, replica.ErrNotFound) {
		r.n.s.log("  %s: %v", name, err)
	}
	return body, err
}

// scanned is a view that looks at all that is put for what must stay secret.
type scanned struct {
	*replicatest.View
	n *node
}

func (r *scanned) Put(ctx context.Context, name string, body io.ReadSeeker, size int64) error {
	data, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	for _, needle := range r.n.s.needles {
		if bytes.Contains(data, needle) {
			r.n.s.fail("%s puts %q in %s", r.n.name, needle, name)
		}
	}
	return r.View.Put(ctx, name, bytes.NewReader(data), size)
}

// mortal is a State of a process that may end.
type mortal struct {
	local
	n *node
	l *life
}

func (m *mortal) Join(ctx context.Context, lines []byte, notes map[string][]byte) (int, bool, error) {
	if err := m.n.step(m.l); err != nil {
		return 0, false, err
	}
	changed, ahead, err := m.local.Join(ctx, lines, notes)
	return changed, ahead, errors.Join(err, m.n.step(m.l))
}

func (m *mortal) SetNotes(ctx context.Context, notes map[string][]byte) error {
	if notes["self"] != nil { // sealing: requests come between
		if err := m.n.s.turn(m.n, m.l, "notes"); err != nil {
			return err
		}
	} else if err := m.n.step(m.l); err != nil {
		return err
	}
	return errors.Join(m.local.SetNotes(ctx, notes), m.n.step(m.l))
}

// crash ends the process of a device, lets the power fail if it is to, and starts
// it again.
func (n *node) crash(power bool) {
	n.s.log("%s crashes, power %v", n.name, power)
	n.life.over.Store(true)
	n.s.finish(func(m *node) bool { return m == n })
	if power {
		n.disk.powerFails(n.s.rnd)
		n.state = n.state.powerFails(n.s.rnd)
	}
	n.boot()
	if n.life.over.Load() {
		n.s.fail("%s does not start", n.name)
	}
}

// newKeys makes the keyring of a new device from the phrase. Its keys follow from the
// seed, so that ids of devices sort alike each time.
func (s *sim) newKeys(name string) ([]byte, error) {
	keys, err := crypto.Recover(s.phrase, name)
	if err != nil {
		return nil, err
	}
	secret := keys.Secret()
	for _, field := range []string{"sign", "identity"} {
		key := make([]byte, 32)
		for i := range key {
			key[i] = byte(s.rnd.Uint32())
		}
		s.needles = append(s.needles, key)
		secret = regexp.MustCompile(`"`+field+`":"[^"]*"`).ReplaceAll(secret, []byte(`"`+field+`":"`+base64.StdEncoding.EncodeToString(key)+`"`))
	}
	return secret, nil
}

// newSim is a locker without devices.
func newSim(seed uint64, clouds int) *sim {
	s := &sim{seed: seed, rnd: rand.New(rand.NewPCG(seed, 1)), names: map[string]string{}}
	for i := range s.phrase {
		s.phrase[i] = byte(s.rnd.Uint32())
	}
	s.needles = [][]byte{s.phrase[:], []byte("canary"), []byte(`"collection"`), []byte("AGE-SECRET-KEY")}
	for i := range clouds {
		s.clouds = append(s.clouds, &simCloud{Cloud: &replicatest.Cloud{Now: s.now}, name: fmt.Sprint("cloud", i), downFor: map[*node]time.Time{}})
	}
	return s
}

// node makes a device that holds the phrase and nothing else.
func (s *sim) node(clouds ...*simCloud) *node {
	n := &node{s: s, name: fmt.Sprint("node", len(s.nodes)), disk: newMemDisk(), clouds: clouds, holding: true}
	var err error
	if n.secret, err = s.newKeys(n.name); err != nil {
		s.fail("keys: %v", err)
		return n
	}
	keys, err := crypto.Load(n.secret)
	if err != nil {
		s.fail("keys: %v", err)
		return n
	}
	n.state = &simState{newMemState(keys.Device(), func() time.Time { return s.now().Add(n.skew) })}
	s.nodes = append(s.nodes, n)
	n.boot()
	return n
}

// sync lets a device make a pass.
func (n *node) sync(o replica.SyncOptions) {
	n.do(fmt.Sprintf("sync %+v", o), func(r *replica.Replica, l *life) error {
		sum, err := r.Sync(context.Background(), o)
		n.check(l, sum, err)
		return err
	})
}

// check looks at how a pass went: on honest clouds nothing is an alarm.
func (n *node) check(l *life, sum replica.Summary, err error) {
	var cloned *replica.Cloned
	switch {
	case l.over.Load():
		return
	case errors.Is(err, replica.ErrRemoved) && n.s.removal:
		return
	case errors.As(err, &cloned):
		n.s.fail("%s: false alarm: %v", n.name, err)
	case err != nil && !errors.Is(err, replica.ErrUnreachable) && !errors.Is(err, replicatest.ErrDropped):
		n.s.fail("%s: a pass fails: %v", n.name, err)
	}
	for _, a := range sum.Alarms {
		if !n.expected(a) {
			n.s.fail("%s: false alarm: %+v", n.name, a)
		}
	}
}

// expected says whether an alarm is as it should be.
func (n *node) expected(a replica.Notice) bool {
	switch a.Kind {
	case "silent":
		return true // somebody was away for a month
	case "removed":
		return n.s.removal
	}
	return slices.ContainsFunc(n.s.clouds, func(c *simCloud) bool { return c.disturbed })
}

// inBubble runs f in a bubble of its own and returns what was broken.
func inBubble(t *testing.T, f func() *sim) (s *sim, err error) {
	synctest.Test(t, func(*testing.T) {
		s = f()
		err = s.failed()
		for _, n := range s.nodes { // whatever still runs ends
			n.life.over.Store(true)
		}
		s.mu.Lock()
		s.broken = nil
		s.mu.Unlock()
		s.finish(everyNode)
	})
	return s, err
}
