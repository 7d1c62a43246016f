package replica_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/locker-project/locker/daemon/replica"
)

// A liar is a member that writes what its program never would.
type liar struct {
	*device
	enc         *zstd.Encoder
	entry, base uint64
	id          string // of its newest entry
}

func newLiar(t *testing.T, d *device) *liar {
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	l := &liar{device: d, enc: enc}
	for {
		object := d.w.cloud.Object(d.ref("entry", l.entry+1))
		if object == nil {
			return l
		}
		l.entry++
		if _, _, l.id, err = d.keys.Open(replica.Ref{Kind: "entry", Writer: d.keys.Device(), Number: l.entry}, object); err != nil {
			t.Fatal(err)
		}
	}
}

// put seals and puts an object and returns its id.
func (l *liar) put(kind string, number uint64, log, payload string) string {
	l.w.t.Helper()
	ref := replica.Ref{Kind: kind, Writer: l.keys.Device(), Number: number}
	object, id, err := l.keys.Seal(ref, []byte(log), l.enc.EncodeAll([]byte(payload), nil))
	if err != nil {
		l.w.t.Fatal(err)
	}
	l.w.cloud.Set(l.keys.Name(ref), object)
	return id
}

func (l *liar) log(more string) string {
	return fmt.Sprintf(`{"v":1%s,"clock":"%012x0000"}`, more, l.w.now().UnixMilli())
}

// claim puts a base of that payload, and an entry and a mark that name it.
func (l *liar) claim(payload string) {
	l.base++
	id := l.put("base", l.base, l.log(`,"bases":[]`), payload)
	l.w.pass(time.Second)
	l.entry++
	bases := fmt.Sprintf(`,"bases":[[%d,%q]]`, l.base, id)
	l.id = l.put("entry", l.entry, l.log(fmt.Sprintf(`,"prev":%q`, l.id)+bases), "")
	l.w.pass(time.Second)
	l.put("mark", 50, l.log(fmt.Sprintf(`,"entry":[%d,%q]`, l.entry, l.id)+bases), "")
}

// TestLiar: a base that lies hurts the log of its writer, and nobody else's: neither on
// devices that read on, nor on one that is restored from what is left.
func TestLiar(t *testing.T) {
	other := strings.Repeat("ab", 32)
	line := `{"collection":"notes","id":"a","class":"owner","clock":"0000000000000001","device":"x","fields":{"text":1}}` + "\n"
	for name, lie := range map[string]func(l *liar, laptop *device) string{
		"nothing in it": func(l *liar, _ *device) string {
			return fmt.Sprintf(`{"v":1,"upto":[%d,%q],"runs":[]}`, l.entry, l.id)
		},
		"beyond its end": func(l *liar, _ *device) string {
			return fmt.Sprintf(`{"v":1,"upto":[%d,%q],"runs":[]}`, l.entry+1000, other)
		},
		"another entry": func(l *liar, _ *device) string {
			return fmt.Sprintf(`{"v":1,"upto":[%d,%q],"runs":[]}`, l.entry, other)
		},
		"a run that is not there": func(l *liar, _ *device) string {
			return fmt.Sprintf(`{"v":1,"upto":[%d,%q],"runs":[{"n":9,"id":%q,"from":1,"to":%d,"level":1,"size":5000}]}`, l.entry, l.id, other, l.entry)
		},
		"a run of another device": func(l *liar, laptop *device) string {
			object := l.w.cloud.Object(laptop.ref("entry", 2))
			l.w.cloud.Set(l.ref("run", 1), object)
			_, _, id, _ := laptop.keys.Open(replica.Ref{Kind: "entry", Writer: laptop.keys.Device(), Number: 2}, object)
			return fmt.Sprintf(`{"v":1,"upto":[%d,%q],"runs":[{"n":1,"id":%q,"from":1,"to":%d,"level":1,"size":5000}]}`, l.entry, l.id, id, l.entry)
		},
		"a run that is no lines": func(l *liar, _ *device) string {
			id := l.put("run", 1, l.log(`,"bases":[]`), line+"{")
			return fmt.Sprintf(`{"v":1,"upto":[%d,%q],"runs":[{"n":1,"id":%q,"from":1,"to":%d,"level":1,"size":5000}]}`, l.entry, l.id, id, l.entry)
		},
		"a run that is a bomb": func(l *liar, _ *device) string {
			id := l.put("run", 1, l.log(`,"bases":[]`), strings.Repeat(" ", 70<<20))
			return fmt.Sprintf(`{"v":1,"upto":[%d,%q],"runs":[{"n":1,"id":%q,"from":1,"to":%d,"level":1,"size":5000}]}`, l.entry, l.id, id, l.entry)
		},
		"a base that is a bomb": func(l *liar, _ *device) string { return strings.Repeat(" ", 20<<20) },
		"another form": func(l *liar, _ *device) string {
			return fmt.Sprintf(`{"v":1,"upto":[%d,%q],"runs":[], "x":1}`, l.entry, l.id)
		},
		"a newer form": func(l *liar, _ *device) string { return `{"v":2,"all":true}` },
		"no base":      func(l *liar, _ *device) string { return "not JSON" },
		"twice the same run": func(l *liar, _ *device) string {
			run := fmt.Sprintf(`{"n":1,"id":%q,"from":1,"to":1,"level":1,"size":5000}`, other)
			return fmt.Sprintf(`{"v":1,"upto":[%d,%q],"runs":[%s,%s]}`, l.entry, l.id, run, run)
		},
		"a number that is too high": func(l *liar, _ *device) string {
			return fmt.Sprintf(`{"v":1,"upto":[18446744073709551615,%q],"runs":[]}`, l.id)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.often = true
			laptop := w.found("laptop")
			laptop.sync(full)
			phone := w.restore("phone")
			laptop.edit(5, "l")
			for i := range 3 {
				phone.state.put(fmt.Sprint("phone ", i), "x")
				phone.sync(full)
			}
			laptop.sync(full)
			w.pass(time.Hour)
			l := newLiar(t, phone)
			l.claim(lie(l, laptop))
			for number := uint64(1); number < l.entry; number++ {
				w.cloud.Remove(l.ref("entry", number))
			}
			before := laptop.state.hash()
			laptop.sync(full)
			if laptop.state.hash() != before {
				t.Error("the lie changed what the laptop holds")
			}
			laptop.edit(12, "later")
			laptop.sync(full)
			fresh := w.blank("fresh")
			if _, err := fresh.Restore(context.Background(), nil); err != nil {
				t.Fatal(err)
			}
			for key, v := range laptop.state.fields {
				if !strings.Contains(key, "phone ") && fresh.state.fields[key] != v && v.data != "" {
					if fresh.state.fields[key[:strings.LastIndexByte(key, 0)+1]].rev < v.rev {
						t.Errorf("%q is %+v on the laptop and %+v on the fresh device", key, v, fresh.state.fields[key])
					}
				}
			}
			if fresh.state.fields["notes\x00a\x00text"].data != "" {
				t.Error("a part of a run was applied")
			}
			laptop.sync(full) // still works, and still deletes what it covers itself
			if n := laptop.objects(w.cloud, "entry"); n > 24 {
				t.Errorf("the laptop has %d entries on the cloud", n)
			}
		})
	}
}
