package crypto

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"filippo.io/age"
)

// This file decides who is a member. The answer is a function of the set of
// statements and of nothing else: not of the order in which they came, nor of any
// clock.
//
//   - A statement is complete when all that it names, directly or through others,
//     is here. Its past is all of that. An incomplete statement waits.
//   - It counts if it is the phrase's (see replace.go for phrases that were
//     replaced), or if its writer is a member judging by its
//     past alone. That never changes. What does not count is as if it did not exist.
//   - A statement of a removed device is repudiated by a removal that has not seen
//     it, unless it rests on an admission of that device that has seen the removal.
//     A statement is upheld if it is the standing phrase's, or if it rests on an upheld
//     admission of its writer, in its past, with which no removal repudiates it.
//   - Writers are judged from the senior to the junior, and a writer's statements
//     are held against the removals that stand already: those of its seniors. Those
//     of its removals that are upheld stand; those of its admissions that are not
//     give no seniority.
//   - Seniority: the phrase, then by path of admissions. A path lists, from the
//     phrase on, each admission by its number (and id); a path is below those that
//     it begins; of several paths to a device its lowest is taken. An admission of
//     a device that has seen an upheld one of the same device gives seniority only
//     if no other does, and then after all others: bringing a device back does not
//     change how it stood to the rest before.
//   - The phrase may declare void what a device said that it removes. That is not
//     upheld.
//   - An admission that is not upheld against all standing removals is void.
//   - A device is a member if it has a valid admission that has seen every
//     standing removal of the device: so a removal beats the admissions that it has
//     seen or that are concurrent with it, and an admission made in its knowledge
//     brings the device back.
//   - The pin of who was admitted and is no member is the highest of the standing
//     removals', or zero where there is none.
//
// Why removals by seniors that do not stand themselves have no say: else a thief
// that a senior has removed could still undo, by removals of its own that it dates
// back, what the devices junior to it removed.

// A node is one statement in the graph.
type node struct {
	id       string
	writer   string
	number   uint64
	admit    *card
	remove   *removal
	replace  *replacement
	recovery *age.HybridRecipient // of replace
	phrase   string               // where writer is the phrase: which one
	tips     []string

	index  int // in graph.order, once complete
	past   bitset
	counts bool
}

// about is the device that n, which replaces no phrase, admits or removes.
func (n *node) about() string {
	if n.admit != nil {
		return n.admit.Device
	}
	return n.remove.Device
}

// above says whether the pin of a removal is higher than that of another one.
func (n *node) above(o *node) bool {
	return cmp.Or(comparePins(n.remove.Pin, o.remove.Pin), strings.Compare(n.id, o.id)) > 0
}

// A graph is a set of statements.
type graph struct {
	phrases phrases
	byID    map[string]*node
	order   []*node // the complete ones, each after all of its past
	waiting []*node
}

func newGraph(p phrases) graph { return graph{phrases: p, byID: map[string]*node{}} }

// add adds a statement, and says whether that completed one.
func (g *graph) add(n *node) bool {
	if g.byID[n.id] != nil {
		return false
	}
	g.byID[n.id] = n
	g.waiting = append(g.waiting, n)
	return g.settle()
}

// settle completes what can be, and says whether there was something.
func (g *graph) settle() (completed bool) {
	for again := true; again; {
		again = false
		g.waiting = slices.DeleteFunc(g.waiting, func(n *node) bool {
			done := g.complete(n)
			again = again || done
			return done
		})
		completed = completed || again
	}
	return completed
}

// complete puts n into the order if all that it names is there.
func (g *graph) complete(n *node) bool {
	var past bitset
	for _, tip := range n.tips {
		t := g.byID[tip]
		if t == nil || t.past == nil {
			return false
		}
		past = past.union(t.past)
		past = past.with(t.index)
	}
	n.index = len(g.order)
	n.past = past.with(-1)
	g.weigh(n)
	g.order = append(g.order, n)
	return true
}

// weigh finds whether n counts.
func (g *graph) weigh(n *node) {
	if n.writer == phrase {
		n.counts = g.phrases.counts(n)
		return
	}
	v := g.judge(n.past)
	n.counts = v.is(n.writer)
}

// tips lists, sorted, the newest of the statements that count.
func (g *graph) tips() []string {
	var seen bitset
	for _, n := range g.order {
		if n.counts {
			seen = seen.union(n.past)
		}
	}
	var tips []string
	for _, n := range g.order {
		if n.counts && !seen.has(n.index) {
			tips = append(tips, n.id)
		}
	}
	slices.Sort(tips)
	return tips
}

// missing lists, sorted, what waiting statements name and is not here.
func (g *graph) missing() []string {
	var out []string
	for _, n := range g.waiting {
		for _, tip := range n.tips {
			if g.byID[tip] == nil {
				out = append(out, tip)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// lastAdmission is an admission of a device that no other one has seen, or nil.
func (g *graph) lastAdmission(device string) *node {
	var last *node
	for _, n := range g.order {
		if n.counts && n.admit != nil && n.admit.Device == device && (last == nil || n.past.has(last.index)) {
			last = n
		}
	}
	return last
}

// A verdict is what a set of statements says.
type verdict struct {
	sorted  []string         // members
	cards   map[string]*card // of all devices that were ever admitted
	senior  []string         // members, the most senior first
	removed map[string]Pin
	gone    []string // of removed: sorted, those that a standing removal removed

	removals map[string]*node // of gone: the removal that sets the pin
	offers   []PhraseOffer
	phrase   string // that stands
}

func (v verdict) is(device string) bool {
	_, ok := slices.BinarySearch(v.sorted, device)
	return ok
}

func (v verdict) ever(device string) bool { return v.cards[device] != nil }

func (v verdict) equal(w verdict) bool {
	return slices.Equal(v.senior, w.senior) && maps.Equal(v.removed, w.removed) && slices.Equal(v.gone, w.gone) &&
		v.phrase == w.phrase && slices.Equal(v.offers, w.offers)
}

// judge judges the statements of a past, or all for nil.
func (g *graph) judge(past bitset) verdict {
	c := court{
		phrases: g.phrases,
		admits:  map[string][]*node{}, removes: map[string][]*node{}, by: map[string][]*node{},
		void: map[[2]string]bool{}, standing: map[*node]bool{},
	}
	for _, n := range g.order {
		if !n.counts || past != nil && !past.has(n.index) {
			continue
		}
		if n.replace != nil {
			c.replaces = append(c.replaces, n)
			continue
		}
		c.by[n.writer] = append(c.by[n.writer], n)
		if n.admit != nil {
			c.admits[n.about()] = append(c.admits[n.about()], n)
			continue
		}
		c.removes[n.about()] = append(c.removes[n.about()], n)
		if n.writer == phrase && !c.phrases.upheld(n) {
			continue
		}
		for _, id := range n.remove.Void {
			c.void[[2]string{n.remove.Device, id}] = true
		}
	}
	c.hear()
	v := c.verdict()
	if past == nil {
		v.offers, v.phrase = c.offers(), c.phrases.standing()
	}
	return v
}

// A court holds what judging needs.
type court struct {
	phrases  phrases
	replaces []*node
	admits   map[string][]*node // by the device that they are about
	removes  map[string][]*node
	by       map[string][]*node // by writer
	void     map[[2]string]bool // writers and ids of what the phrase declared void
	standing map[*node]bool     // removals
	heard    []string           // writers, the senior first
}

// hear judges the writers, the senior first. A path is above those that it extends,
// so the lowest one that is open is final (as Dijkstra has it).
func (c *court) hear() {
	done, open, later := map[string]bool{}, map[string]path{phrase: nil}, map[string]path{}
	for len(open) > 0 {
		next := lowest(open)
		p := open[next]
		delete(open, next)
		done[next] = true
		c.heard = append(c.heard, next)
		first, again := c.hearWriter(next)
		p.extend(open, first, done)
		p.extend(later, again, done)
		if len(open) == 0 {
			maps.DeleteFunc(later, func(device string, _ path) bool { return done[device] })
			open, later = later, map[string]path{}
		}
	}
}

// lowest finds the device with the lowest path.
func lowest(open map[string]path) string {
	var next string
	for writer, p := range open {
		if next == "" || p.compare(open[next]) < 0 {
			next = writer
		}
	}
	return next
}

// extend enters the paths that go on from p by some admissions, where they are
// lower than what is there.
func (p path) extend(open map[string]path, admits []*node, done map[string]bool) {
	for _, a := range admits {
		device, q := a.admit.Device, append(slices.Clip(p), a)
		if old, ok := open[device]; !done[device] && (!ok || q.compare(old) < 0) {
			open[device] = q
		}
	}
}

// hearWriter judges one writer's removals, and returns those of its admissions that
// its seniors uphold: the first ones of a device, and those that bring one back.
func (c *court) hearWriter(writer string) (first, again []*node) {
	var removals []*node
	memo := map[*node]bool{}
	for _, n := range c.by[writer] {
		switch {
		case !c.upheld(n, memo):
		case n.admit == nil:
			removals = append(removals, n)
		case slices.ContainsFunc(c.admits[n.admit.Device], func(b *node) bool { return n.past.has(b.index) && c.upheld(b, memo) }):
			again = append(again, n)
		default:
			first = append(first, n)
		}
	}
	for _, r := range removals {
		c.standing[r] = true
	}
	return first, again
}

func (c *court) verdict() verdict {
	v := verdict{cards: map[string]*card{}, removed: map[string]Pin{}, removals: map[string]*node{}}
	memo := map[*node]bool{}
	for device, admits := range c.admits {
		v.cards[device] = slices.MinFunc(admits, func(a, b *node) int { return strings.Compare(a.id, b.id) }).admit
		if c.isMember(device, memo) {
			v.sorted = append(v.sorted, device)
			continue
		}
		v.removed[device] = Pin{}
		for _, r := range c.removes[device] {
			if !c.standing[r] {
				continue
			}
			if old := v.removals[device]; old == nil || r.above(old) {
				v.removals[device], v.removed[device] = r, r.remove.Pin
			}
			v.gone = append(v.gone, device)
		}
	}
	slices.Sort(v.sorted)
	for _, device := range slices.Concat(c.heard, v.sorted) { // those that were not heard last
		if v.is(device) && !slices.Contains(v.senior, device) {
			v.senior = append(v.senior, device)
		}
	}
	slices.Sort(v.gone)
	v.gone = slices.Compact(v.gone)
	return v
}

func (c *court) isMember(device string, memo map[*node]bool) bool {
	return slices.ContainsFunc(c.admits[device], func(a *node) bool {
		return c.upheld(a, memo) && !slices.ContainsFunc(c.removes[device], func(r *node) bool {
			return c.standing[r] && !a.past.has(r.index)
		})
	})
}

// upheld says whether n rests on an admission that holds against the removals that
// stand. memo is valid as long as they are the same.
func (c *court) upheld(n *node, memo map[*node]bool) bool {
	if n.writer == phrase {
		return c.phrases.upheld(n)
	}
	if c.void[[2]string{n.writer, n.id}] {
		return false
	}
	if is, ok := memo[n]; ok {
		return is
	}
	is := slices.ContainsFunc(c.admits[n.writer], func(a *node) bool {
		return n.past.has(a.index) && c.upheld(a, memo) && !c.repudiated(n, a)
	})
	memo[n] = is
	return is
}

// repudiated says whether a removal of n's writer undoes n, which rests on the
// admission a.
func (c *court) repudiated(n, a *node) bool {
	return slices.ContainsFunc(c.removes[n.writer], func(r *node) bool {
		return c.standing[r] && !r.past.has(n.index) && !a.past.has(r.index)
	})
}

// A path leads from the phrase to a device, by the admissions between them.
type path []*node

func (p path) compare(q path) int {
	return slices.CompareFunc(p, q, func(a, b *node) int {
		return cmp.Or(cmp.Compare(a.number, b.number), strings.Compare(a.id, b.id))
	})
}

// A bitset is a set of small numbers. A nil bitset is not the same as an empty
// one: see with.
type bitset []uint64

func (b bitset) has(i int) bool { return i>>6 < len(b) && b[i>>6]>>(i&63)&1 == 1 }

// with returns b with i in it; for a negative i, b itself, but not nil.
func (b bitset) with(i int) bitset {
	if i < 0 {
		return append(bitset{}, b...)
	}
	out := append(make(bitset, 0, max(len(b), i>>6+1)), b...)
	for len(out) <= i>>6 {
		out = append(out, 0)
	}
	out[i>>6] |= 1 << (i & 63)
	return out
}

func (b bitset) union(c bitset) bitset {
	if len(b) < len(c) {
		b, c = c, b
	}
	out := append(make(bitset, 0, len(b)), b...)
	for i := range c {
		out[i] |= c[i]
	}
	return out
}
