package replica_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/locker-project/locker/crypto"
	"github.com/locker-project/locker/daemon/replica"
	"github.com/locker-project/locker/daemon/replica/replicatest"
)

// A history is two devices that know each other's past, and a cloud with all of it.
type history struct {
	*world
	laptop, phone *device
	blob          string
}

func newHistory(t testing.TB) *history {
	w := newWorld(t)
	h := &history{world: w, laptop: w.found("laptop")}
	h.laptop.sync(full)
	h.phone = w.restore("phone")
	for i := range 3 {
		h.laptop.state.put(fmt.Sprint("laptop ", i), "x")
		h.laptop.sync(full)
		h.phone.state.put(fmt.Sprint("phone ", i), "x")
		h.phone.sync(full)
	}
	h.blob = h.laptop.state.addBlob(bytes.Repeat([]byte("picture "), 3000))
	h.laptop.sync(full)
	h.phone.sync(full)
	h.laptop.sync(full)
	w.same(h.laptop, h.phone)
	return h
}

// news is written by the laptop and not read by the phone.
func (h *history) news() {
	for i := range 3 {
		h.laptop.state.put(fmt.Sprint("news ", i), "x")
		h.laptop.sync(replica.SyncOptions{})
	}
}

// verifyBoth returns how much both devices find wrong or repair.
func (h *history) verifyBoth() (wrong int) {
	h.t.Helper()
	for _, d := range []*device{h.phone, h.laptop} {
		r, err := d.Verify(context.Background(), "", nil)
		if err != nil {
			h.t.Fatal(err)
		}
		wrong += len(r.Bad) + len(r.Missing) + r.Repaired
	}
	return wrong
}

// healed lets both devices repair what they can, and fails the test unless all is
// well then.
func (h *history) healed() {
	h.t.Helper()
	for range 3 {
		h.pass(61 * time.Minute) // so that acknowledgements are due
		h.verifyBoth()
		h.laptop.sync(full)
		h.phone.sync(full)
	}
	h.same(h.laptop, h.phone, h.restore("fresh"))
	h.laptop.well()
	h.phone.well()
}

// attacks are what a cloud does to one object. other is another object's name.
var attacks = map[string]func(c *replicatest.Cloud, name, other string){
	"flip": func(c *replicatest.Cloud, name, _ string) {
		data := slices.Clone(c.Object(name))
		data[len(data)/2] ^= 1
		c.Set(name, data)
	},
	"flip at the end": func(c *replicatest.Cloud, name, _ string) {
		data := slices.Clone(c.Object(name))
		data[len(data)-1] ^= 0x80
		c.Set(name, data)
	},
	"cut": func(c *replicatest.Cloud, name, _ string) {
		data := c.Object(name)
		c.Set(name, data[:len(data)-1])
	},
	"empty":  func(c *replicatest.Cloud, name, _ string) { c.Set(name, []byte{}) },
	"extend": func(c *replicatest.Cloud, name, _ string) { c.Set(name, append(slices.Clone(c.Object(name)), 0)) },
	"swap": func(c *replicatest.Cloud, name, other string) {
		a, b := c.Object(name), c.Object(other)
		c.Set(name, b)
		c.Set(other, a)
	},
	"duplicate": func(c *replicatest.Cloud, name, other string) { c.Set(name, c.Object(other)) },
	"splice": func(c *replicatest.Cloud, name, other string) {
		a, b := c.Object(name), c.Object(other)
		n := min(len(a), len(b)) / 2
		c.Set(name, slices.Concat(a[:n], b[n:]))
	},
	"drop": func(c *replicatest.Cloud, name, _ string) { c.Remove(name) },
	"junk": func(c *replicatest.Cloud, name, _ string) { c.Set(name, bytes.Repeat([]byte("junk"), 1024)) },
	"age file": func(c *replicatest.Cloud, name, _ string) {
		c.Set(name, append([]byte("age-encryption.org/v1\n-> X25519 abc\n"), make([]byte, 5000)...))
	},
}

// TestHostileKnown attacks each object that is on the cloud, in each way, against
// devices that know it. They find it, nothing changes in what they hold, and they
// put it right.
func TestHostileKnown(t *testing.T) {
	for name, attack := range attacks {
		t.Run(name, func(t *testing.T) {
			h := newHistory(t)
			honest, before := h.cloud.Objects(), h.laptop.state.hash()
			names := h.cloud.Names()
			for i, object := range names {
				other := names[(i+1)%len(names)]
				attack(h.cloud, object, other)
				if h.verifyBoth() == 0 {
					t.Errorf("nobody noticed at %s", object)
				}
				if h.laptop.state.hash() != before || h.phone.state.hash() != before {
					t.Fatalf("%s: what the devices hold has changed", object)
				}
				for _, name := range []string{object, other} {
					if !bytes.Equal(h.cloud.Object(name), honest[name]) {
						t.Errorf("%s was not put right", name)
					}
				}
			}
			h.healed()
		})
	}
}

// TestHostileNews attacks each object of news, in each way, against a device that
// has not read it. What was not attacked arrives; what was is noticed, is never
// applied, becomes an alarm after a day, and is healed by its writer.
func TestHostileNews(t *testing.T) {
	for name, attack := range attacks {
		t.Run(name, func(t *testing.T) {
			for i := range 3 {
				h := newHistory(t)
				old := h.cloud.Objects()
				h.news()
				var news []string
				for object := range h.cloud.Objects() {
					if old[object] == nil && object[:2] == "d/" {
						news = append(news, object)
					}
				}
				slices.Sort(news)
				if len(news) != 3 {
					t.Fatalf("%d news", len(news))
				}
				attack(h.cloud, news[i], news[(i+1)%3])
				s := h.phone.sync(full)
				if h.phone.state.hash() == h.laptop.state.hash() {
					t.Error("the phone has all news")
				}
				h.alarmed(s, i, name)
				h.healed()
			}
		})
	}
}

// alarmed checks that the phone says what is wrong: at once as pending, and after a
// day as an alarm. An object at the end of the log that is simply not there is seen
// by the writer, which is not shown as read.
func (h *history) alarmed(s replica.Summary, i int, attack string) {
	h.t.Helper()
	for range 10 {
		h.pass(3 * time.Hour)
		h.laptop.state.put("later", h.now().String())
		last := h.phone.sync(full)
		if len(last.Alarms) > 0 {
			return
		}
		s = last
	}
	h.phone.state.put("from the phone", "x")
	h.phone.sync(full)
	if l := h.laptop.sync(replica.SyncOptions{}); len(l.Alarms) > 0 {
		return
	}
	h.t.Errorf("%s of news %d: after a day nobody has an alarm: %+v", attack, i, s)
}

// TestReplay serves each former entry under the next name of its writer's log.
func TestReplay(t *testing.T) {
	h := newHistory(t)
	old := h.cloud.Objects()
	h.news()
	var news []string
	for object := range h.cloud.Objects() {
		if old[object] == nil {
			news = append(news, object)
		}
	}
	for former, data := range old {
		for _, name := range news {
			h.cloud.Set(name, data)
		}
		before := h.phone.state.hash()
		if s := h.phone.sync(full); len(s.Pending) == 0 {
			t.Errorf("%s under other names was not noticed", former)
		}
		if h.phone.state.hash() != before {
			t.Fatalf("%s was applied under another name", former)
		}
	}
	h.healed()
}

// TestRollback puts the whole cloud back to a former state. Devices with memory say
// so and put right what is theirs; one that has only the phrase cannot know, and is
// shown the newest sign of life.
func TestRollback(t *testing.T) {
	h := newHistory(t)
	var states []map[string][]byte
	for i := range 4 {
		states = append(states, h.cloud.Objects())
		h.pass(time.Hour)
		h.phone.state.put(fmt.Sprint("then ", i), "x")
		h.phone.sync(full)
		h.laptop.sync(full)
	}
	made := h.now()
	for i, state := range states {
		h.cloud.Reset(state)
		h.pass(time.Minute)
		if s := h.laptop.sync(full); len(s.Pending)+len(s.Alarms)+s.Mended == 0 {
			t.Errorf("rollback to %d was not noticed by who has read more", i)
		}
		h.pass(time.Minute)
		fresh := h.blank("fresh")
		h.cloud.Reset(state)
		r, err := fresh.Restore(context.Background(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if !r.Newest.Before(made) || r.Newest.IsZero() {
			t.Errorf("restored from rollback %d: newest sign of life %v, want before %v", i, r.Newest, made)
		}
		h.cloud.Reset(state)
		h.phone.sync(full)
		h.laptop.sync(full)
		h.healed()
	}
}

// TestDropTail withholds all that the phone writes from the laptop. The laptop has
// no proof; the phone sees that it is not shown.
func TestDropTail(t *testing.T) {
	h := newHistory(t)
	hidden := map[string]bool{}
	h.laptop.remotes[0].Remote = &filtered{h.cloud, hidden}
	h.laptop.restart()
	before := h.cloud.Objects()
	h.phone.state.put("withheld", "x")
	h.phone.sync(replica.SyncOptions{})
	for name := range h.cloud.Objects() {
		hidden[name] = before[name] == nil
	}
	for range 30 {
		h.pass(time.Hour)
		h.laptop.state.put("go on", h.now().String())
		h.laptop.sync(replica.SyncOptions{})
	}
	s := h.phone.sync(replica.SyncOptions{})
	if len(s.Alarms) != 1 || s.Alarms[0].Kind != "unseen" {
		t.Errorf("alarms of the sender: %+v", s.Alarms)
	}
	clear(hidden)
	h.laptop.sync(full)
	h.phone.sync(full)
	h.laptop.state.put("seen", "x")
	h.laptop.sync(full)
	h.phone.sync(full)
	h.healed()
}

// TestSilence: a device from which nothing comes is pending after days and an alarm
// after a month.
func TestSilence(t *testing.T) {
	h := newHistory(t)
	kinds := func(n []replica.Notice) (kinds []string) {
		for _, n := range n {
			kinds = append(kinds, n.Kind)
		}
		return kinds
	}
	for day := 1; day <= 31; day++ {
		h.pass(24 * time.Hour)
		s := h.laptop.sync(full)
		pending, alarms := kinds(s.Pending), kinds(s.Alarms)
		wantPending, wantAlarm := day >= 3 && day < 30, day >= 30
		if slices.Contains(pending, "silent") != wantPending || slices.Contains(alarms, "silent") != wantAlarm {
			t.Fatalf("day %d: pending %v, alarms %v", day, pending, alarms)
		}
	}
}

// filtered is a cloud that hides some names from one reader.
type filtered struct {
	*replicatest.Cloud
	hidden map[string]bool
}

func (f *filtered) Get(ctx context.Context, name string, off, n int64) (io.ReadCloser, error) {
	if f.hidden[name] {
		return nil, replica.ErrNotFound
	}
	return f.Cloud.Get(ctx, name, off, n)
}

// TestClone runs two copies of one device. The one that comes second is told, puts
// nothing, and becomes a device of its own that publishes what it had not sent.
func TestClone(t *testing.T) {
	h := newHistory(t)
	copied := h.laptop.copy()
	h.laptop.state.put("from the original", "x")
	h.laptop.sync(replica.SyncOptions{})
	copied.state.put("from the copy", "x")
	puts := h.cloud.Requests("put")
	_, err := copied.Sync(context.Background(), replica.SyncOptions{})
	var cloned *replica.Cloned
	if !errors.As(err, &cloned) || cloned.Device != h.laptop.keys.Device() {
		t.Fatalf("the copy syncs: %v", err)
	}
	if n := h.cloud.Requests("put") - puts; n != 0 {
		t.Errorf("the copy made %d puts", n)
	}
	if st, err := copied.Status(context.Background()); err != nil || len(st.Alarms) == 0 {
		t.Errorf("the copy has no alarm: %v", err)
	}
	keys, err := crypto.Recover(h.seed, "copy")
	if err != nil {
		t.Fatal(err)
	}
	copied.keys, copied.dir, copied.state.device = keys, fastDir(t), keys.Device()
	if err := copied.start(); err != nil {
		t.Fatal(err)
	}
	if _, err := copied.Restore(context.Background(), nil); err != nil {
		t.Fatal(err)
	}
	h.laptop.sync(full)
	h.phone.sync(full)
	h.same(h.laptop, h.phone, copied)
	if len(h.laptop.state.fields) == 0 || h.laptop.state.fields["notes\x00from the copy\x00text"].data == "" {
		t.Error("the unsent edit of the copy is lost")
	}
	h.healed()
	copied.well()
}

// copy returns a device with the same keys, data and objects.
func (d *device) copy() *device {
	c := *d
	c.state = d.state.copy()
	c.dir, c.remotes = fastDir(d.w.t), slices.Clone(d.remotes)
	copyFolder(d.w.t, d.dir, c.dir)
	c.restart()
	return &c
}

// TestFork shows two devices different continuations of a third one's log. Once one
// of them reads what the other saw, there is an alarm at once, and data still flows.
func TestFork(t *testing.T) {
	h := newHistory(t)
	tablet := h.restore("tablet")
	h.laptop.sync(full)
	h.phone.sync(full)
	twin := h.laptop.copy()
	second := &replicatest.Cloud{Now: h.now}
	second.Reset(h.cloud.Objects())
	twin.remotes[0].Remote, tablet.remotes[0].Remote = second, second
	twin.restart()
	tablet.restart()
	for i := range 2 {
		h.laptop.state.put(fmt.Sprint("one ", i), "x")
		h.laptop.sync(replica.SyncOptions{})
		twin.state.put(fmt.Sprint("two ", i), "x")
		twin.sync(replica.SyncOptions{})
	}
	h.phone.sync(replica.SyncOptions{})
	tablet.sync(replica.SyncOptions{})
	h.pass(2 * time.Hour)
	tablet.state.put("of the tablet", "x")
	tablet.sync(replica.SyncOptions{})
	for name, data := range second.Objects() { // the two views meet
		if h.cloud.Object(name) == nil {
			h.cloud.Set(name, data)
		}
	}
	s := h.phone.sync(full)
	if !slices.ContainsFunc(s.Alarms, func(n replica.Notice) bool { return n.Kind == "fork" }) {
		t.Errorf("no fork was noticed: %+v", s)
	}
	if h.phone.state.fields["notes\x00of the tablet\x00text"].data == "" {
		t.Error("honest data does not arrive after a fork")
	}
}

// seal makes an entry of a device that its replica would not make.
func (d *device) seal(number uint64, log string, frames []byte) {
	d.w.t.Helper()
	ref := replica.Ref{Kind: "entry", Writer: d.keys.Device(), Number: number}
	object, _, err := d.keys.Seal(ref, []byte(log), frames)
	if err != nil {
		d.w.t.Fatal(err)
	}
	d.w.cloud.Set(d.keys.Name(ref), object)
}

// next is the number of the next entry of a device.
func (d *device) next() uint64 {
	d.w.t.Helper()
	st, err := d.Status(context.Background())
	if err != nil {
		d.w.t.Fatal(err)
	}
	for _, s := range st.Devices {
		if s.This {
			return s.Entries + 1
		}
	}
	d.w.t.Fatal("the device is not listed")
	return 0
}

// raw is a zstd frame of raw blocks.
func raw(data string) []byte {
	f := binary.LittleEndian.AppendUint32(nil, 0xFD2FB528)
	f = append(f, 0xA0)
	f = binary.LittleEndian.AppendUint32(f, uint32(len(data)))
	head := uint32(len(data))<<3 | 1
	f = append(f, byte(head), byte(head>>8), byte(head>>16))
	return append(f, data...)
}

// zeros is a zstd frame that says it holds n zeros, in blocks of one repeated byte.
func zeros(n uint64) []byte {
	f := binary.LittleEndian.AppendUint32(nil, 0xFD2FB528)
	f = append(f, 0xC0, 0x50)
	f = binary.LittleEndian.AppendUint64(f, n)
	for left := n; left > 0; {
		size := min(left, 128<<10)
		left -= size
		head := uint32(size)<<3 | 1<<1
		if left == 0 {
			head |= 1
		}
		f = append(f, byte(head), byte(head>>8), byte(head>>16), 0)
	}
	return f
}

// TestHostileMember: a member may sign what it likes; it is bounded, not applied in
// part, and named.
func TestHostileMember(t *testing.T) {
	const clean = `{"v":1,"bases":[],"clock":"0000000000000001"}`
	change := `{"collection":"notes","id":"evil","class":"owner","clock":"0000000000000001","device":"x","fields":{"text":"\"evil\""}}` + "\n"
	for name, c := range map[string]struct {
		log    string
		frames []byte
		kind   string
	}{
		"bomb":               {clean, zeros(4 << 30), "bad"},
		"bomb in many":       {clean, bytes.Repeat(zeros(60<<20), 20), "bad"},
		"no lines":           {clean, raw("no json"), "bad"},
		"half a line":        {clean, raw(change + `{"collection":"notes"`), "bad"},
		"line without clock": {clean, raw(change + `{"collection":"notes","id":"2"}` + "\n"), "bad"},
		"blob beyond":        {clean, raw(`{"blob":"b","size":5,"chunks":[]}` + "\n"), "bad"},
		"damaged frames":     {clean, raw(change)[:40], "bad"},
		"no header":          {`{}`, raw(change), "bad"},
		"bad vector":         {`{"v":1,"vector":{"../x":[1,"y"]},"bases":[],"clock":"0000000000000001"}`, raw(change), "bad"},
		"unknown tip":        {`{"v":1,"tips":["` + strings.Repeat("a", 64) + `"],"bases":[],"clock":"0000000000000001"}`, raw(change), "members"},
		"newer":              {`{"v":2,"bases":{},"clock":0}`, raw(change), "newer"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHistory(t)
			before := h.laptop.state.hash()
			h.phone.seal(h.phone.next(), c.log, c.frames)
			start := time.Now()
			s := h.laptop.sync(full)
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("it took %v", took)
			}
			if h.laptop.state.hash() != before {
				t.Error("it was applied")
			}
			if len(s.Pending) != 1 || s.Pending[0].Kind != c.kind {
				t.Errorf("pending %+v, want one %q", s.Pending, c.kind)
			}
			tablet := h.restore // honest data around it still flows
			if c.kind == "members" {
				return
			}
			if d := tablet("tablet"); d.state.hash() != before {
				t.Error("a new device does not get the honest data")
			}
		})
	}
}

// TestNewerKinds: lines and header fields that this version does not know are kept
// as they are, and what it knows is applied.
func TestNewerKinds(t *testing.T) {
	h := newHistory(t)
	n := h.phone.next()
	future := `{"future":{"z":1,"a":[2, 3]}}` + "\n"
	change := `{"collection":"notes","id":"new","class":"owner","clock":"0000000000000001","device":"x","fields":{"text":"1"}}` + "\n"
	h.phone.seal(n, `{"v":1,"color":{"b":1, "a":2},"prev":"`+lastID(h.phone, n-1)+`","bases":[],"clock":"0000000000000001"}`, raw(change+future+change))
	h.laptop.sync(full)
	if h.laptop.state.fields["notes\x00new\x00text"].data != `"1"` {
		t.Error("the known line was not applied")
	}
	key := fmt.Sprintf("%s/%016x", h.phone.keys.Device(), n)
	if got := string(h.laptop.state.notes["carry/"+key]); got != future {
		t.Errorf("carried %q, want %q", got, future)
	}
	if got := string(h.laptop.state.notes["log/"+key]); !strings.Contains(got, `"color":{"b":1,`) {
		t.Errorf("the header's unknown field is lost: %s", got)
	}
}

func lastID(d *device, n uint64) string {
	note := string(d.state.notes[fmt.Sprintf("log/%s/%016x", d.keys.Device(), n)])
	_, id, _ := strings.Cut(note, `"id":"`)
	return id[:64]
}
