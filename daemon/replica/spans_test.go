package replica

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"
	"time"
)

func TestStampOf(t *testing.T) {
	good := map[string]string{
		`{"collection":"notes","id":"1","class":"owner","clock":"000000000000000a","device":"abc","fields":{"x":1}}`:                                     "abc 10",
		`{"collection":"notes","id":"a\"b\\","time":"2026-01-01T00:00:00Z","source":"s","class":"source","clock":"0000000000000001","device":"d"}`:       "d 1",
		`{"class":"owner","clock":"0000000000000001","device":"d","collection":"notes","id":"\\\\\"}","deleted":true}`:                                   "d 1",
		`{"collection":"notes","id":"\"device\":\"x\"","class":"owner","clock":"0000000000000001","device":"d","fields":{"device":"other","clock":"x"}}`: "d 1",
	}
	for line, want := range good {
		device, at, err := stampOf([]byte(line))
		if got := fmt.Sprintf("%s %d", device, at); err != nil || got != want {
			t.Errorf("%s: %s, %v; want %s", line, got, err, want)
		}
	}
	for _, line := range []string{
		``, `{`, `{}`, `[]`, `{"collection"`, `{"collection":"n"`, `{"collection":"n\`, `{"collection":"n","id":1,"class":"owner","clock":"0000000000000001","device":"d"}`,
		`{"collection":"n","id":"1","fields":{},"class":"owner","clock":"0000000000000001","device":"d"}`,
		`{"collection":"n","id":"1","class":"owner","device":"d","clock":"0000000000000001"}`,
		`{"collection":"n","id":"1","class":"owner","clock":"1","device":"d"}`,
		`{"collection":"n","id":"1","class":"owner","clock":"000000000000000z","device":"d"}`,
		`{"collection":"n","id":"1","class":"owner","clock":"0000000000000001","device":"\u0064"}`,
		`{"collection":"n","id":"1","class":"owner","clock":"0000000000000001","device":""}`,
		`{ "collection":"n","id":"1","class":"owner","clock":"0000000000000001","device":"d"}`,
		`{"collection":"n","id":"1","class":"owner","clock":"0000000000000001"}`,
	} {
		if device, at, err := stampOf([]byte(line)); err == nil {
			t.Errorf("%s: %s, %d", line, device, at)
		}
	}
}

// TestSpans: whatever the order in which the entries of a log are read, its spans are
// few, in order, and reach at least as far as the entries do; the newest stay apart.
func TestSpans(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	rnd := rand.New(rand.NewPCG(seed, 1))
	for range 200 {
		var n peerNote
		devices := []string{"a", "b", "c"}
		entries := map[uint64]reach{}
		top := uint64(1 + rnd.IntN(300))
		for _, i := range rnd.Perm(int(top)) {
			number := uint64(i + 1)
			if rnd.IntN(3) > 0 { // mostly in order
				for number = 1; entries[number] != nil; number++ {
				}
			}
			if entries[number] != nil {
				continue
			}
			by := reach{}
			for range rnd.IntN(3) {
				low := clock(rnd.Uint64N(1000))
				by.add(devices[rnd.IntN(3)], clocks{low, low + clock(rnd.Uint64N(50))})
			}
			entries[number] = by
			n.took(number, number, payload{by: by})
		}
		if len(n.Spans) > maxSpans {
			t.Fatalf("seed %d: %d spans", seed, len(n.Spans))
		}
		for i, s := range n.Spans {
			if s.From > s.To || i > 0 && s.From <= n.Spans[i-1].To {
				t.Fatalf("seed %d: spans %+v", seed, n.Spans)
			}
		}
		for range 20 {
			pin := rnd.Uint64N(top + 2)
			by, _ := n.reachOf(pin+1, top)
			for number, want := range entries {
				for device, c := range want {
					if got, ok := by[device]; number > pin && (!ok || got[0] > c[0] || got[1] < c[1]) {
						t.Fatalf("seed %d: entry %d of %d reaches %v, beyond %d there is %v", seed, number, top, want, pin, by)
					}
				}
			}
		}
		if top > 100 && len(entries) == int(top) {
			if last := n.Spans[len(n.Spans)-1]; last.To-last.From > 40 {
				t.Errorf("seed %d: the newest span is %+v of %d entries", seed, last, top)
			}
		}
		if n.end() != slicesMax(maps.Keys(entries)) {
			t.Errorf("seed %d: the end is %d", seed, n.end())
		}
	}
}

func slicesMax(keys func(func(uint64) bool)) (top uint64) {
	for k := range keys {
		top = max(top, k)
	}
	return top
}
