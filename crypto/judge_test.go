package crypto

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// A world makes statements as devices would that see each other's late or never.
type world struct {
	t       *testing.T
	rnd     *rand.Rand
	all     []*node           // in the order in which they were made
	views   map[string]*graph // what each device has seen
	numbers map[string]uint64
}

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{t: t, rnd: rand.New(rand.NewPCG(seed, 0)), views: map[string]*graph{}, numbers: map[string]uint64{}}
	w.admit(phrase, "genesis")
	return w
}

// seeds yields the seeds of a property test; LOCKER_SEED picks one, LOCKER_SOAK
// makes it long.
func seeds(t *testing.T, n uint64, f func(t *testing.T, seed uint64)) {
	if s, err := strconv.ParseUint(os.Getenv("LOCKER_SEED"), 10, 64); err == nil {
		f(t, s)
		return
	}
	if os.Getenv("LOCKER_SOAK") != "" {
		n *= 100
	}
	for seed := range n {
		if f(t, seed); t.Failed() {
			t.Fatalf("with LOCKER_SEED=%d", seed)
		}
	}
}

// view is what a writer has seen. The phrase has seen all.
func (w *world) view(writer string) *graph {
	if w.views[writer] == nil {
		g := newGraph(phrases{chain: []string{""}})
		w.views[writer] = &g
	}
	if writer == phrase {
		w.show(writer, w.all)
	}
	return w.views[writer]
}

// show lets a device see statements.
func (w *world) show(device string, nodes []*node) {
	for _, n := range nodes {
		fresh := *n
		w.views[device].add(&fresh)
	}
}

// say makes a statement of writer's, with what it has seen as its past.
func (w *world) say(writer string, n *node) *node {
	g := w.view(writer)
	n.id, n.writer, n.number, n.tips = w.id(), writer, w.numbers[writer], g.tips()
	w.numbers[writer]++
	w.all = append(w.all, n)
	w.show(writer, []*node{n})
	return n
}

func (w *world) id() string {
	return fmt.Sprintf("%016x%016x%016x%016x", w.rnd.Uint64(), w.rnd.Uint64(), w.rnd.Uint64(), w.rnd.Uint64())
}

func (w *world) admit(writer, device string) *node {
	n := w.say(writer, &node{admit: &card{Device: device, Name: device}})
	w.view(device)
	w.show(device, w.views[writer].order)
	return n
}

func (w *world) remove(writer, device string, void ...string) *node {
	slices.Sort(void)
	pin := Pin{Number: w.rnd.Uint64N(5), ID: w.id(), Clock: w.rnd.Uint64N(5)}
	return w.say(writer, &node{remove: &removal{device, pin, void}})
}

// live takes n random steps of honest devices, with names that begin with prefix.
func (w *world) live(n int, removals bool) {
	for range n {
		names := slices.Sorted(maps.Keys(w.views))
		writer := names[w.rnd.IntN(len(names))]
		members := w.view(writer).judge(nil).sorted
		switch w.rnd.IntN(6) {
		case 0, 1:
			if writer == phrase && w.rnd.IntN(3) > 0 {
				continue // doors are rare
			}
			if writer == phrase || slices.Contains(members, writer) {
				w.admit(writer, fmt.Sprintf("d%02d", len(w.views)))
			}
		case 2:
			if removals && slices.Contains(members, writer) && len(members) > 2 {
				w.remove(writer, members[w.rnd.IntN(len(members))])
			}
		default:
			if other := names[w.rnd.IntN(len(names))]; writer != phrase && other != phrase {
				w.show(writer, w.views[other].order)
			}
		}
	}
}

// judged is the verdict on nodes that arrive in the order given.
func judged(nodes []*node) (verdict, []string) {
	g := newGraph(phrases{chain: []string{""}})
	for _, n := range nodes {
		fresh := node{id: n.id, writer: n.writer, number: n.number, admit: n.admit, remove: n.remove, tips: n.tips}
		g.add(&fresh)
	}
	return g.judge(nil), g.tips()
}

// TestRandomOrder checks that members, pins and tips depend on the set of
// statements alone: not on the order in which they come, nor on repetition.
func TestRandomOrder(t *testing.T) {
	seeds(t, 300, func(t *testing.T, seed uint64) {
		w := newWorld(t, seed)
		w.live(40, true)
		devices := slices.Sorted(maps.Keys(w.views["genesis"].judge(nil).cards))
		w.plunder(devices[w.rnd.IntN(len(devices))], nil, 10)
		want, tips := judged(w.all)
		part := w.all[:w.rnd.IntN(len(w.all)+1)]
		wantPart, tipsPart := judged(part)
		for range 5 {
			mixed := slices.Concat(w.all, w.all[:len(w.all)/3])
			w.rnd.Shuffle(len(mixed), func(i, j int) { mixed[i], mixed[j] = mixed[j], mixed[i] })
			if got, gotTips := judged(mixed); !got.equal(want) || !slices.Equal(gotTips, tips) {
				t.Errorf("another order: %v and %v\nwant %v and %v", got.sorted, got.removed, want.sorted, want.removed)
			}
			mixed = slices.Clone(part)
			w.rnd.Shuffle(len(mixed), func(i, j int) { mixed[i], mixed[j] = mixed[j], mixed[i] })
			if got, gotTips := judged(mixed); !got.equal(wantPart) || !slices.Equal(gotTips, tipsPart) {
				t.Errorf("another order of the first %d: %v, want %v", len(part), got.sorted, wantPart.sorted)
			}
		}
	})
}

// plunder lets thieves make statements whose past is anything that they choose of
// what existed before, and never the statement hidden. It returns all devices that
// are the thieves'.
func (w *world) plunder(thief string, hidden *node, n int) []string {
	gang := []string{thief}
	honest := slices.Clone(w.all)
	for range n {
		writer := gang[w.rnd.IntN(len(gang))]
		g := newGraph(phrases{chain: []string{""}}) // what this statement claims to have seen
		w.views[writer] = &g
		cut := 1 + w.rnd.IntN(len(w.all))
		for _, n := range w.all {
			old := slices.Contains(honest, n)
			if (n != hidden || w.rnd.IntN(5) == 0) && (old && w.rnd.IntN(len(w.all)) < cut || !old && w.rnd.IntN(4) > 0) {
				w.show(writer, []*node{n})
			}
		}
		known := g.judge(nil)
		if !known.is(writer) {
			continue
		}
		// Any number is free to a thief, low ones too.
		w.numbers[writer] = w.rnd.Uint64N(4)
		switch w.rnd.IntN(4) {
		case 0:
			accomplice := fmt.Sprintf("thief%d", len(gang))
			gang = append(gang, accomplice)
			w.admit(writer, accomplice)
		case 1: // honest devices, to give them another seniority; removed ones, to have them back
			devices := slices.Sorted(maps.Keys(known.cards))
			w.admitAgain(writer, devices[w.rnd.IntN(len(devices))])
		default:
			w.remove(writer, known.sorted[w.rnd.IntN(len(known.sorted))])
		}
	}
	return gang
}

func (w *world) admitAgain(writer, device string) {
	w.say(writer, &node{admit: &card{Device: device, Name: device}})
}

// without is v without some devices.
func (v verdict) without(devices []string) verdict {
	gone := func(d string) bool { return slices.Contains(devices, d) }
	out := verdict{
		sorted: slices.DeleteFunc(slices.Clone(v.sorted), gone), senior: slices.DeleteFunc(slices.Clone(v.senior), gone), gone: slices.DeleteFunc(slices.Clone(v.gone), gone),
		removed: maps.Clone(v.removed),
	}
	maps.DeleteFunc(out.removed, func(d string, _ Pin) bool { return gone(d) })
	return out
}

// TestJuniorThiefNeverWins lets a senior remove a device, and the device then date
// back whatever it likes, with any number of accomplices. For everybody else nothing
// may change, and no thief may stay.
func TestJuniorThiefNeverWins(t *testing.T) {
	tried := 0
	seeds(t, 1000, func(t *testing.T, seed uint64) {
		w := newWorld(t, seed)
		w.live(25, true)
		w.show("genesis", w.all)
		members := w.views["genesis"].judge(nil).senior
		if len(members) < 3 {
			return
		}
		i := 1 + w.rnd.IntN(len(members)-1)
		senior, thief := members[w.rnd.IntN(i)], members[i]
		w.show(senior, w.all)
		tried++
		hidden := w.remove(senior, thief)
		before, _ := judged(w.all)
		gang := w.plunder(thief, hidden, 12)
		w.rnd.Shuffle(len(w.all), func(i, j int) { w.all[i], w.all[j] = w.all[j], w.all[i] })
		after, _ := judged(w.all)
		for _, d := range gang {
			if after.is(d) {
				t.Errorf("%s of %v is a member", d, gang)
			}
		}
		if got, want := after.without(gang), before.without(gang); !got.equal(want) {
			t.Errorf("the thieves %v changed\n%v %v into\n%v %v", gang, want.sorted, want.removed, got.sorted, got.removed)
		}
	})
	if tried < 50 && os.Getenv("LOCKER_SEED") == "" {
		t.Errorf("only %d histories had a thief", tried)
	}
}

// TestThePhraseAlwaysEvicts steals any device, the most senior too, which removes
// and admits what it likes. The phrase evicts it and its accomplices; whom they
// removed is back; and dating back helps them no more.
func TestThePhraseAlwaysEvicts(t *testing.T) {
	tried := 0
	seeds(t, 500, func(t *testing.T, seed uint64) {
		w := newWorld(t, seed)
		w.live(20, true)
		before, _ := judged(w.all)
		if len(before.sorted) < 3 {
			return
		}
		tried++
		thief := before.sorted[w.rnd.IntN(len(before.sorted))]
		first := len(w.all)
		gang := w.plunder(thief, nil, 8)
		for _, d := range gang {
			var void []string
			for _, n := range w.all[first:] {
				if n.writer == d {
					void = append(void, n.id)
				}
			}
			w.remove(phrase, d, void...)
		}
		check := func(when string) {
			t.Helper()
			after, _ := judged(w.all)
			for _, d := range gang {
				if after.is(d) {
					t.Errorf("%s: %s of %v is a member", when, d, gang)
				}
			}
			for _, d := range before.sorted {
				if !slices.Contains(gang, d) && !after.is(d) {
					t.Errorf("%s: %s, removed by thieves, is no member", when, d)
				}
			}
		}
		check("after the eviction")
		was, _ := judged(w.all)
		hidden := w.all[len(w.all)-1]
		more := w.plunder(thief, hidden, 8)
		after, _ := judged(w.all)
		all := union(gang, more)
		if got, want := after.without(all), was.without(all); !got.equal(want) {
			t.Errorf("dating back after the eviction changed\n%v into\n%v", want.sorted, got.sorted)
		}
		check("after dating back")
	})
	if tried < 50 && os.Getenv("LOCKER_SEED") == "" {
		t.Errorf("only %d histories had a thief", tried)
	}
}

// scenarios are histories written down. Each line is a statement: a name for it, who
// makes it, + or - and the device, and after < the statements that it names. Numbers
// count per writer; "@n" sets one.
var scenarios = []struct {
	name    string
	history []string
	members string
	removed map[string]uint64 // pins are the position of the removal's line, from 1
}{
	{"founding", []string{"0 phrase +a"}, "a", nil},
	{"joining", []string{"0 phrase +a", "1 a +b <0"}, "a b", nil},
	{"a stranger admits itself", []string{"0 phrase +a", "1 x +x <0"}, "a", nil},
	{"a stranger admits another", []string{"0 phrase +a", "1 x +y <0"}, "a", nil},
	{"a junior removes a senior", []string{"0 phrase +a", "1 a +b <0", "2 b -a <1"}, "b", map[string]uint64{"a": 3}},
	{"a senior and a junior remove each other",
		[]string{"0 phrase +a", "1 a +b <0", "2 b -a <1", "3 a -b <1"}, "a", map[string]uint64{"b": 4}},
	{"a senior removes a junior whose removal of it had been seen: it stands",
		[]string{"0 phrase +a", "1 a +b <0", "2 a +c <1", "3 b -c <2", "4 a -b <3"}, "a", map[string]uint64{"b": 5, "c": 4}},
	{"a removal void because a senior removed its writer",
		[]string{"0 phrase +a", "1 a +b <0", "2 a +c <1", "3 b -c <2", "4 a -b <2"}, "a c", map[string]uint64{"b": 5}},
	{"an admission void because its writer was removed",
		[]string{"0 phrase +a", "1 a +b <0", "2 b +c <1", "3 a -b <1"}, "a", map[string]uint64{"b": 4, "c": 0}},
	{"an admission that the removal had seen is valid",
		[]string{"0 phrase +a", "1 a +b <0", "2 b +c <1", "3 a -b <2"}, "a c", map[string]uint64{"b": 4}},
	{"a void admission and all that hangs on it",
		[]string{"0 phrase +a", "1 a +b <0", "2 b +c <1", "3 c +d <2", "4 d -a <3", "5 a -b <1"}, "a",
		map[string]uint64{"b": 6, "c": 0, "d": 0}},
	{"two pins: the higher",
		[]string{"0 phrase +a", "1 a +b <0", "2 a +c <1", "3 a -c <2", "4 b -c <2"}, "a b", map[string]uint64{"c": 5}},
	{"who was removed can be admitted again",
		[]string{"0 phrase +a", "1 a +b <0", "2 a -b <1", "3 a +b <2"}, "a b", nil},
	{"and then what it says counts again",
		[]string{"0 phrase +a", "1 a +b <0", "2 a -b <1", "3 a +b <2", "4 b +c <3"}, "a b c", nil},
	{"an admission that is concurrent with the removal does not help",
		[]string{"0 phrase +a", "1 a +b <0", "2 a +c <1", "3 a -b <2", "4 c +b <2"}, "a c", map[string]uint64{"b": 4}},
	{"who was removed cannot admit itself again",
		[]string{"0 phrase +a", "1 a +b <0", "2 a -b <1", "3 b +b <2"}, "a", map[string]uint64{"b": 3}},
	{"nor by an accomplice",
		[]string{"0 phrase +a", "1 a +b <0", "2 b +c <1", "3 a -b <1", "4 c +b <2 3"}, "a", map[string]uint64{"b": 4, "c": 0}},
	{"the most senior thief beats juniors",
		[]string{"0 phrase +a", "1 a +b <0", "2 b -a <1", "3 a -b <1"}, "a", map[string]uint64{"b": 4}},
	{"but not the phrase",
		[]string{"0 phrase +a", "1 a +b <0", "2 b -a <1", "3 a -b <1", "4 phrase -a <1"}, "b", map[string]uint64{"a": 5}},
	{"not even when the phrase had seen it, if it says so",
		[]string{"0 phrase +a", "1 a +b <0", "2 a -b <1", "3 phrase -a !2 <2"}, "b", map[string]uint64{"a": 4}},
	{"which it can say only of the device that it removes",
		[]string{"0 phrase +a", "1 a +b <0", "2 a +c <1", "3 a -b <2", "4 phrase -c !3 <3"}, "a", map[string]uint64{"b": 4, "c": 5}},
	{"a removed thief gives nobody seniority",
		[]string{"0 phrase +a", "1 a +x <0", "2 a +b <1", "3 a +c <2", "4 b -c <3", "5 c -b <3", "6 a -x <3", "7 x +c <3"}, "a b",
		map[string]uint64{"x": 7, "c": 5}},
	{"nor undoes what juniors removed",
		[]string{"0 phrase +a", "1 a +x <0", "2 a +b <1", "3 a +y <2", "4 b -y <3", "5 a -x <3", "6 x -b <3"}, "a b",
		map[string]uint64{"x": 6, "y": 5}},
	{"a low number by a junior is no seniority",
		[]string{"0 phrase +a", "1 a +b @5 <0", "2 b +c @0 <1", "3 c -b <2", "4 b -c <2"}, "a b", map[string]uint64{"c": 5}},
	{"the lower of two paths counts",
		[]string{"0 phrase +a", "1 a +b <0", "2 a +c <1", "3 b +d <2", "4 a +d @7 <2", "5 c -d <3 4", "6 d -c <3 4"}, "a b d", map[string]uint64{"c": 7}},
	{"a later door is junior", []string{"0 phrase +a", "1 phrase +b <0", "2 a -b <1", "3 b -a <1"}, "a", map[string]uint64{"b": 3}},
	{"the phrase can undo what it had seen a device admit",
		[]string{"0 phrase +a", "1 a +b <0", "2 b +c <1", "3 phrase -b !2 <2"}, "a", map[string]uint64{"b": 4, "c": 0}},
	{"bringing a device back does not change the past",
		[]string{"0 phrase +a", "1 phrase +b <0", "2 b +c <1", "3 b -c <2", "4 c -b <2", "5 a +c <3 4"}, "a b c", nil},
	{"nor does the device get its admitter's seniority",
		[]string{"0 phrase +a", "1 phrase +b <0", "2 b +c <1", "3 b -c <2", "4 a +c <3", "5 b -c <4", "6 c -b <4"}, "a b", map[string]uint64{"c": 6}},
	{"who is back after a void admission can remove again",
		[]string{"0 phrase +a", "1 a +b <0", "2 a +d <1", "3 b +c <2", "4 a -b <2", "5 a +c <3 4", "6 c -d <5"}, "a c", map[string]uint64{"b": 5, "d": 7}},
	{"what a removed device says, knowing that, does not count even when it is back",
		[]string{"0 phrase +a", "1 a +b <0", "2 a +c <1", "3 c -b <2", "4 b +d <3", "5 a -c <2"}, "a b", map[string]uint64{"c": 6}},
	{"leaving", []string{"0 phrase +a", "1 a +b <0", "2 b -b <1"}, "a", map[string]uint64{"b": 3}},
	{"what is missing is waited for", []string{"0 phrase +a", "1 a +b <0 99"}, "a", nil},
}

func TestScenarios(t *testing.T) {
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			v, _ := judged(history(t, s.history))
			if got := strings.Join(v.sorted, " "); got != s.members {
				t.Errorf("members are %q, want %q", got, s.members)
			}
			got := map[string]uint64{}
			for d, pin := range v.removed {
				got[d] = pin.Number
			}
			if !maps.Equal(got, s.removed) && len(got)+len(s.removed) > 0 {
				t.Errorf("removed are %v, want %v", got, s.removed)
			}
		})
	}
}

// history reads the lines of a scenario.
func history(t *testing.T, lines []string) (nodes []*node) {
	t.Helper()
	id := func(name string) string { return strings.Repeat("0", 64-len(name)) + name }
	numbers := map[string]uint64{}
	for i, line := range lines {
		said, past, _ := strings.Cut(line, "<")
		words := strings.Fields(said)
		n := &node{id: id(words[0]), writer: words[1], number: numbers[words[1]]}
		for _, tip := range strings.Fields(past) {
			n.tips = append(n.tips, id(tip))
		}
		for _, word := range words[2:] {
			switch device := word[1:]; word[0] {
			case '+':
				n.admit = &card{Device: device}
			case '-':
				n.remove = &removal{Device: device, Pin: Pin{Number: uint64(i + 1)}}
			case '!':
				n.remove.Void = append(n.remove.Void, id(device))
			case '@':
				n.number, _ = strconv.ParseUint(device, 10, 64)
			default:
				t.Fatalf("%q in %q", word, line)
			}
		}
		numbers[n.writer] = n.number + 1
		nodes = append(nodes, n)
	}
	return nodes
}

func TestMissing(t *testing.T) {
	nodes := history(t, []string{"0 phrase +a", "1 a +b <0", "2 b +c <1"})
	g := newGraph(phrases{chain: []string{""}})
	g.add(nodes[2])
	g.add(nodes[0])
	if got := g.missing(); len(got) != 1 || got[0] != nodes[1].id {
		t.Errorf("missing %v, want %s", got, nodes[1].id)
	}
	if got := g.tips(); len(got) != 1 || got[0] != nodes[0].id {
		t.Errorf("tips %v name what is not complete", got)
	}
	g.add(nodes[1])
	if got := g.missing(); len(got) != 0 {
		t.Errorf("missing %v although all is here", got)
	}
	if got := g.judge(nil).sorted; !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Errorf("members %v", got)
	}
}

// BenchmarkJudge judges a locker with far more history than an owner makes.
func BenchmarkJudge(b *testing.B) {
	w := newWorld(nil, 1)
	w.live(600, true)
	b.Logf("%d statements", len(w.all))
	for b.Loop() {
		judged(w.all)
	}
}
