package replica_test

import (
	"fmt"
	"strings"
	"testing"
)

// This is a model of how packs go, small enough to go through all of it: devices that
// refer to one blob and cease to, pack it, move it, condemn and delete packs, drop
// their bytes, are away, see entries late and out of order, and do not learn that what
// they did has happened. TestTidyModel holds that a blob to which a record refers is
// never lost, and that each rule is needed for that. The rules are in FORMAT.md,
// "When a pack goes"; tidy.go has them in earnest.

const (
	modelDevices = 3
	modelEntries = 3
	modelPacks   = 4
	modelOut     = 6
)

// modelRules are rules that are switched off.
type modelRules struct {
	condemnedCounts bool // a condemned pack counts as a copy
	noWait          bool // a pack goes without waiting for others' vectors
	overGaps        bool // an entry counts as passed though one before it is unread
	noConsent       bool // a device that loses the last copy does not pack it anew
	noCopy          bool // a pack goes though a record refers to the blob and no other copy counts
	earlyDrop       bool // bytes are dropped before all that was written is told
	unreadDrop      bool // bytes are dropped before all that is there is read
	unread          bool // who is away is not waited for though some of its log is unread
}

// A modelEntry is what an entry tells.
type modelEntry struct {
	vector    [modelDevices]uint8
	ref       uint8 // 0 nothing, 1 the device's record refers to the blob, 2 it does not
	copies    uint8 // packs, as bits
	condemned uint8
}

// An op is one line of an outbox: what it does << 4 | which.
type op uint8

const (
	putPack op = iota << 4
	putEntry
	deletePack
)

type modelDevice struct {
	applied   [modelDevices]uint8 // entries of each log, as bits
	ref, told bool                // its record refers to the blob; so it says in its log
	bytes     bool                // it has the blob's bytes
	fresh     bool                // they came, and were not looked at
	copies    uint8               // what its next entry tells
	condemned uint8
	out       [modelOut]op
	outs      uint8
	away      bool // for more than 90 days
	held      bool // what it seals is not put yet
}

// A model is a state of it. It is comparable, so that states can be told apart.
type model struct {
	devices [modelDevices]modelDevice
	logs    [modelDevices][modelEntries]modelEntry
	sealed  [modelDevices]uint8
	put     [modelDevices]uint8 // entries on the cloud
	owner   [modelPacks]uint8
	packs   uint8
	cloud   uint8 // packs on the cloud, as bits
	entries uint8 // that a device may seal
	budget  modelBudget
}

// A modelBudget is how often each thing may still happen.
type modelBudget struct{ add, link, unref, move, drop, away, hold, repeat, gap, split, fail uint8 }

// known is what a device knows: copies, and which of them are condemned.
func (m *model) known(d int) (copies, condemned uint8) {
	copies, condemned = m.devices[d].copies, m.devices[d].condemned
	for e := range m.logs {
		for i, entry := range m.logs[e] {
			if m.devices[d].applied[e]&(1<<i) != 0 {
				copies, condemned = copies|entry.copies, condemned|entry.condemned
			}
		}
	}
	return copies, condemned
}

// refers says whether a record refers to the blob, by what a device knows.
func (m *model) refers(d int) bool {
	for e := range m.logs {
		if e == d {
			if m.devices[d].ref {
				return true
			}
			continue
		}
		last := uint8(0)
		for i, entry := range m.logs[e] {
			if m.devices[d].applied[e]&(1<<i) != 0 && entry.ref != 0 {
				last = entry.ref
			}
		}
		if last == 1 {
			return true
		}
	}
	return false
}

// prefix is how far a device has read a log without a gap.
func (m *model) prefix(d, e int) uint8 {
	n := uint8(0)
	for m.devices[d].applied[e]&(1<<n) != 0 {
		n++
	}
	return n
}

// usable are the copies that count for a device.
func (m *model) usable(d int, r modelRules) uint8 {
	copies, condemned := m.known(d)
	if r.condemnedCounts {
		return copies
	}
	return copies &^ condemned
}

func (m *model) push(d int, o op) bool {
	dev := &m.devices[d]
	if dev.outs == modelOut {
		return false
	}
	dev.out[dev.outs] = o
	dev.outs++
	return true
}

// pack packs the blob.
func (m *model) pack(d int) bool {
	if m.packs == modelPacks || !m.push(d, putPack|op(m.packs)) {
		return false
	}
	m.owner[m.packs] = uint8(d)
	m.devices[d].copies |= 1 << m.packs
	m.packs++
	return true
}

// seal is a pass of a device that writes: it packs what has to be, and seals an entry,
// or two, of which the second tells what is new. fail says that a pack cannot be read.
func (m *model) seal(d int, r modelRules, split, fail bool) bool {
	dev := &m.devices[d]
	usable := m.usable(d, r)
	lost := usable == 0 && m.refers(d) && !r.noConsent
	if lost && !dev.bytes {
		if copies, _ := m.known(d); copies&m.cloud == 0 || fail {
			lost = false // there is nothing to pack it from
		}
	} else if fail {
		return false
	}
	if (dev.fresh && usable == 0 || lost) && !m.pack(d) {
		return false
	}
	dev.fresh = false
	if split && !m.entry(d, modelEntry{}) {
		return false
	}
	e := modelEntry{copies: dev.copies, condemned: dev.condemned}
	switch {
	case dev.ref && !dev.told:
		e.ref = 1
	case dev.told && !dev.ref:
		e.ref = 2
	}
	dev.told, dev.copies, dev.condemned = dev.ref, 0, 0
	return m.entry(d, e)
}

// entry seals an entry.
func (m *model) entry(d int, e modelEntry) bool {
	if m.sealed[d] == m.entries {
		return false
	}
	for other := range m.logs {
		e.vector[other] = m.prefix(d, other)
	}
	m.logs[d][m.sealed[d]] = e
	m.devices[d].applied[d] |= 1 << m.sealed[d]
	m.sealed[d]++
	return m.push(d, putEntry|op(m.sealed[d]-1))
}

// passed says whether all others have passed an entry of a device, as far as it knows.
func (m *model) passed(d int, entry uint8, r modelRules, devices int) bool {
	for e := range devices {
		if e == d || r.noWait || m.devices[e].away && m.put[d] > entry && (m.prefix(d, e) == m.put[e] || r.unread) {
			continue
		}
		seen := uint8(0)
		for i := range m.logs[e] {
			if m.devices[d].applied[e]&(1<<i) != 0 && (r.overGaps || uint8(i) < m.prefix(d, e)) {
				seen = max(seen, m.logs[e][i].vector[d])
			}
		}
		if seen <= entry {
			return false
		}
	}
	return true
}

// mayGo says whether a device may delete a pack.
func (m *model) mayGo(d int, pack uint8, r modelRules, devices int) bool {
	condemnedIn, is := uint8(0), false
	for i := range m.sealed[d] {
		if m.logs[d][i].condemned&(1<<pack) != 0 {
			condemnedIn, is = i, true
		}
	}
	if !is || !m.passed(d, condemnedIn, r, devices) {
		return false
	}
	if !m.refers(d) || r.noCopy {
		return true
	}
	copies, condemned := m.known(d)
	others := copies &^ (1 << pack)
	if !r.condemnedCounts {
		others &^= condemned
	}
	for p := range m.packs {
		if others&(1<<p) != 0 && m.owner[p] == uint8(d) {
			return true
		}
	}
	return false
}

// send does the next line of an outbox. again says that the device does not learn of
// it, and will do it once more.
func (m *model) send(d int, again bool) (deleted bool) {
	dev := &m.devices[d]
	o := dev.out[0]
	switch which := uint8(o & 15); o &^ 15 {
	case putPack:
		m.cloud |= 1 << which
	case putEntry:
		m.put[d] = max(m.put[d], which+1)
	case deletePack:
		deleted = m.cloud&(1<<which) != 0
		m.cloud &^= 1 << which
	}
	if !again {
		copy(dev.out[:], dev.out[1:])
		dev.outs--
		dev.out[dev.outs] = 0
	}
	return deleted
}

// flush does what is in an outbox, unless that is held back. The last of it, of so
// many, is done and not learned of.
func (m *model) flush(d int, again uint8) (deleted bool) {
	for m.devices[d].outs > again && (!m.devices[d].held || again > 0) {
		deleted = m.send(d, false) || deleted
	}
	if m.devices[d].outs > 0 && again > 0 {
		deleted = m.send(d, true) || deleted
	}
	return deleted
}

// A step is a state that follows, and whether bytes went.
type step struct {
	what  string
	to    model
	going bool
}

// steps are all that can happen next.
func (m *model) steps(r modelRules, devices int) (all []step) {
	try := func(what string, d int, f func(n *model) (ok, going bool)) {
		n := *m
		if ok, going := f(&n); ok {
			all = append(all, step{fmt.Sprint(what, " ", d), n, going})
		}
	}
	for d := range devices {
		dev := m.devices[d]
		if m.budget.add > 0 && !dev.ref {
			try("add", d, func(n *model) (bool, bool) {
				n.budget.add--
				n.devices[d].ref, n.devices[d].bytes, n.devices[d].fresh = true, true, true
				return true, false
			})
		}
		if m.budget.link > 0 && !dev.ref && m.usable(d, r) != 0 {
			try("link", d, func(n *model) (bool, bool) {
				n.budget.link--
				n.devices[d].ref = true
				return true, false
			})
		}
		if m.budget.unref > 0 && dev.ref {
			try("unref", d, func(n *model) (bool, bool) {
				n.budget.unref--
				n.devices[d].ref = false
				return true, false
			})
		}
		if m.budget.away > 0 && !dev.away {
			try("away", d, func(n *model) (bool, bool) {
				n.budget.away--
				n.devices[d].away = true
				return true, false
			})
		}
		if dev.away {
			try("back", d, func(n *model) (bool, bool) {
				n.devices[d].away = false
				return true, false
			})
			continue
		}
		if dev.fresh || dev.ref != dev.told || dev.condemned != 0 || dev.copies != 0 || m.unacknowledged(d) {
			try("seal", d, func(n *model) (bool, bool) { return n.seal(d, r, false, false), n.flush(d, 0) })
			if m.budget.hold > 0 {
				try("seal and hold back", d, func(n *model) (bool, bool) {
					n.budget.hold--
					n.devices[d].held = true
					return n.seal(d, r, false, false), false
				})
			}
			if m.budget.split > 0 {
				try("seal two", d, func(n *model) (bool, bool) {
					n.budget.split--
					return n.seal(d, r, true, false), n.flush(d, 0)
				})
			}
			if m.budget.fail > 0 {
				try("seal, and the pack cannot be read,", d, func(n *model) (bool, bool) {
					n.budget.fail--
					return n.seal(d, r, false, true), n.flush(d, 0)
				})
			}
		}
		if dev.held {
			try("send", d, func(n *model) (bool, bool) {
				n.devices[d].held = false
				return true, n.flush(d, 0)
			})
			if m.budget.repeat > 0 {
				try("send and not learn of it", d, func(n *model) (bool, bool) {
					n.budget.repeat--
					return true, n.flush(d, 1)
				})
			}
		}
		all = append(all, m.reads(d)...)
		all = append(all, m.tidies(d, r, devices)...)
	}
	return all
}

// unacknowledged says whether a device has read what its log does not say yet.
func (m *model) unacknowledged(d int) bool {
	for e := range m.logs {
		said := uint8(0)
		if n := m.sealed[d]; n > 0 {
			said = m.logs[d][n-1].vector[e]
		}
		if e != d && m.prefix(d, e) > said {
			return true
		}
	}
	return false
}

// reads are the entries that a device can read next.
func (m *model) reads(d int) (all []step) {
	for e := range m.logs {
		for i := range m.put[e] {
			if e == d || m.devices[d].applied[e]&(1<<i) != 0 {
				continue
			}
			n := *m
			if i > m.prefix(d, e) {
				if n.budget.gap == 0 {
					continue
				}
				n.budget.gap--
			}
			n.devices[d].applied[e] |= 1 << i
			all = append(all, step{fmt.Sprintf("read %d of %d by %d", i, e, d), n, false})
		}
	}
	return all
}

// tidies are what a device can do with its packs and bytes.
func (m *model) tidies(d int, r modelRules, devices int) (all []step) {
	copies, condemned := m.known(d)
	for p := range m.packs {
		bit := uint8(1) << p
		if m.owner[p] != uint8(d) || copies&bit == 0 {
			continue
		}
		queued := false
		for _, o := range m.devices[d].out[:m.devices[d].outs] {
			queued = queued || o == deletePack|op(p)
		}
		if condemned&bit != 0 {
			if n := *m; m.cloud&bit != 0 && !queued && m.mayGo(d, p, r, devices) && n.push(d, deletePack|op(p)) {
				all = append(all, step{fmt.Sprintf("delete %d by %d", p, d), n, false})
				all[len(all)-1].going = all[len(all)-1].to.flush(d, 0)
			}
			if n := *m; m.cloud&bit != 0 && m.refers(d) && !m.ownUsable(d) && m.budget.move > 0 && n.pack(d) {
				n.budget.move--
				n.flush(d, 0)
				all = append(all, step{fmt.Sprintf("pack again what is in %d by %d", p, d), n, false})
			}
			continue
		}
		n := *m
		if n.budget.move == 0 {
			continue
		}
		n.budget.move--
		if m.refers(d) && (!m.devices[d].bytes && m.cloud&bit == 0 || !n.pack(d)) {
			continue
		}
		n.devices[d].condemned |= bit
		n.flush(d, 0)
		all = append(all, step{fmt.Sprintf("condemn %d by %d", p, d), n, false})
	}
	told := m.devices[d].outs == 0 && m.devices[d].ref == m.devices[d].told
	if n := *m; m.devices[d].bytes && !m.devices[d].fresh && m.usable(d, r)&m.cloud != 0 && n.budget.drop > 0 && (told || r.earlyDrop) && (m.readAll(d) || r.unreadDrop) {
		n.budget.drop--
		n.devices[d].bytes = false
		all = append(all, step{fmt.Sprint("drop by ", d), n, true})
	}
	return all
}

// readAll says whether a device has read all that is on the cloud.
func (m *model) readAll(d int) bool {
	for e := range m.logs {
		if e != d && m.prefix(d, e) < m.put[e] {
			return false
		}
	}
	return true
}

func (m *model) ownUsable(d int) bool {
	copies, condemned := m.known(d)
	for p := range m.packs {
		if m.owner[p] == uint8(d) && copies&^condemned&(1<<p) != 0 {
			return true
		}
	}
	return false
}

// lost says whether the blob cannot be had any more though a record refers to it,
// once everybody is back, has sent and read everything, and has packed what it must.
func (m model) lost(r modelRules, devices int) bool {
	for d := range devices {
		m.devices[d].away = false
		for m.devices[d].outs > 0 {
			m.send(d, false)
		}
	}
	refers := false
	for d := range devices {
		refers = refers || m.devices[d].ref
	}
	if !refers || m.cloud != 0 && m.reachable(devices) {
		return false
	}
	for d := range devices {
		if m.devices[d].bytes && (m.devices[d].ref && !r.noConsent || m.devices[d].fresh) {
			return false // it packs it with its next entry: nothing counts any more
		}
	}
	return true
}

// reachable says whether a pack on the cloud is one of which an entry told or will.
func (m *model) reachable(devices int) bool {
	told := uint8(0)
	for d := range devices {
		told |= m.devices[d].copies
		for _, e := range m.logs[d] {
			told |= e.copies
		}
	}
	return told&m.cloud != 0
}

// explore goes through all states, and returns how the blob is lost, or "".
func explore(t *testing.T, first model, r modelRules, devices, most int) (trace string, states int) {
	t.Helper()
	type link struct {
		from int
		what string
	}
	seen := map[model]bool{first: true}
	queue, links := []model{first}, []link{{-1, "begin"}}
	for at := 0; at < len(queue); at++ {
		if len(queue) > most {
			t.Fatalf("more than %d states", most)
		}
		m := queue[at]
		for _, s := range m.steps(r, devices) {
			if seen[s.to] {
				continue
			}
			seen[s.to] = true
			if s.going && s.to.lost(r, devices) {
				list := []string{s.what}
				for i := at; i > 0; i = links[i].from {
					list = append([]string{links[i].what}, list...)
				}
				return strings.Join(list, "; "), len(queue)
			}
			queue, links = append(queue, s.to), append(links, link{at, s.what})
		}
	}
	return "", len(queue)
}

// modelStart is a state in which device 0 has packed the blob, and all know that.
// Device 0's record refers to it, if need be.
func modelStart(s modelScene) model {
	m := model{budget: s.budget, entries: modelEntries}
	if s.devices > 2 {
		m.entries = 2
	}
	m.devices[0].ref, m.devices[0].bytes, m.devices[0].fresh = s.refers, true, true
	m.seal(0, modelRules{}, false, false)
	m.flush(0, 0)
	for d := 1; d < s.devices; d++ {
		m.devices[d].applied[0] = 1
	}
	return m
}

// A modelScene is what may happen.
type modelScene struct {
	name    string
	devices int
	refers  bool
	budget  modelBudget
}

func TestTidyModel(t *testing.T) {
	scenes := []modelScene{
		{"one adds", 2, false, modelBudget{add: 1, unref: 1, move: 1, drop: 1}},
		{"two entries at once", 2, false, modelBudget{add: 1, move: 1, drop: 1, split: 1}},
		{"two entries and a link", 2, false, modelBudget{link: 1, move: 1, split: 1}},
		{"absence", 2, false, modelBudget{add: 1, move: 1, drop: 1, away: 1}},
		{"held back", 2, false, modelBudget{add: 1, move: 1, drop: 1, hold: 1, repeat: 1}},
		{"held back in absence", 2, false, modelBudget{add: 1, move: 1, drop: 1, hold: 1, away: 1}},
		{"gaps", 2, false, modelBudget{add: 1, move: 1, drop: 1, gap: 1, fail: 1}},
		{"two copies", 2, true, modelBudget{add: 1, unref: 1, move: 2}},
		{"links", 2, true, modelBudget{link: 1, unref: 1, move: 1, drop: 1}},
		{"held back and gaps", 2, false, modelBudget{add: 2, move: 1, drop: 1, hold: 1, gap: 1}},
		{"three devices", 3, false, modelBudget{add: 1, move: 1, drop: 1}},
		{"three and a first link", 3, false, modelBudget{link: 1, move: 1}},
		{"three and a link", 3, true, modelBudget{link: 1, unref: 1, move: 1}},
	}
	for _, scene := range scenes {
		t.Run(scene.name, func(t *testing.T) {
			if scene.devices > 2 && testing.Short() {
				t.Skip("long")
			}
			trace, states := explore(t, modelStart(scene), modelRules{}, scene.devices, 2_000_000)
			if trace != "" {
				t.Errorf("the blob is lost: %s", trace)
			}
			t.Logf("%d states", states)
		})
	}
	rules := map[string]modelRules{
		"condemned packs count":               {condemnedCounts: true},
		"nobody is waited for":                {noWait: true},
		"gaps are passed over":                {overGaps: true},
		"no consent":                          {noConsent: true},
		"no copy is needed":                   {noCopy: true},
		"bytes are dropped early":             {earlyDrop: true},
		"bytes are dropped unread":            {unreadDrop: true},
		"what the absent wrote may be unread": {unread: true},
	}
	for name, r := range rules {
		t.Run("without: "+name, func(t *testing.T) {
			for _, s := range scenes {
				if trace, states := explore(t, modelStart(s), r, s.devices, 2_000_000); trace != "" {
					t.Logf("%s, after %d states: %s", s.name, states, trace)
					return
				}
			}
			t.Error("nothing is lost without this rule: either it is not needed or the model is too small")
		})
	}
}
