package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// FuzzFields holds the scanner against encoding/json: what one takes the other
// takes, with the same meaning.
func FuzzFields(f *testing.F) {
	for _, s := range []string{`{}`, ` { "a" : [ 1 , {"b":null} ] } `, `{"a":"\u00e9\n\"","b":-1.5e+3}`, `{"a":1,"a":2}`, `{"\ud800":"\ud83d\ude00"}`, `{"a":01}`, `[]`, `{"a":tru}`, `{"":""}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got := map[string]json.RawMessage{}
		err := fields(b, true, func(name, val []byte) error {
			got[string(name)] = bytes.Clone(val)
			return nil
		})
		var want map[string]any
		valid := json.Unmarshal(b, &want) == nil && want != nil && utf8.Valid(b)
		if valid != (err == nil) {
			if err == errNesting {
				return
			}
			t.Fatalf("%q: %v, encoding/json says %v", b, err, valid)
		}
		if !valid {
			return
		}
		if len(got) != len(want) {
			t.Fatalf("%q: %d fields, want %d", b, len(got), len(want))
		}
		for name, val := range got {
			var v any
			if err := json.Unmarshal(val, &v); err != nil || !reflect.DeepEqual(v, want[name]) {
				t.Fatalf("%q: field %q is %s, want %v (%v)", b, name, val, want[name], err)
			}
			again := normalise(val)
			if !bytes.Equal(again, val) {
				t.Fatalf("%q normalised again is %q", val, again)
			}
		}
	})
}

// FuzzLine: a line that is taken can be written again, and then means the same.
func FuzzLine(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 20 {
		f.Add([]byte(randomLine(r)))
	}
	f.Add([]byte(`{"blob":"x"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var (
			l  line
			lr lineReader
		)
		if lr.parse(b, &l) != nil || !l.hasRef {
			return
		}
		n := testNames()
		write := func(l *line) ([]byte, error) {
			at := stamp{class: l.class, clock: l.clock, device: n.number(string(l.device)), imp: n.number(string(l.imp))}
			rec := record{}
			if l.deleted {
				return appendTomb(nil, string(l.collection), l.id, at, n), nil
			}
			for _, p := range l.parts {
				rec.join(value{name: p.name, at: at, data: p.data}, n)
			}
			if len(rec.values) == 0 {
				return nil, errors.New("nothing")
			}
			var r row
			if err := r.read(rec.append(nil)); err != nil {
				t.Fatal(err)
			}
			return r.appendLine(nil, string(l.collection), l.id, at, n), nil
		}
		first, err := write(&l)
		if err != nil {
			return
		}
		var again line
		if err := lr.parse(bytes.TrimSuffix(first, []byte("\n")), &again); err != nil {
			t.Fatalf("%q gives %q: %v", b, first, err)
		}
		if second, err := write(&again); err != nil || !bytes.Equal(first, second) {
			t.Fatalf("%q gives %q and then %q, %v", b, first, second, err)
		}
	})
}

// FuzzRow: stored bytes never panic, whatever they are.
func FuzzRow(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 10 {
		rec := randomRecord(r)
		f.Add(rec.append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var row row
		if row.read(b) != nil {
			return
		}
		rec := row.record()
		for i := range row.shape.names {
			_, _ = row.value(i), row.stamp(i)
		}
		if len(rec.values) != len(row.shape.names) {
			t.Fatal("values are lost")
		}
	})
}

func FuzzPosition(f *testing.F) {
	f.Add(position{rev: 1, clock: 2, goal: 3, cursor: []byte("r"), device: "d"}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := decodePosition(b)
		if err != nil || len(b) == 0 {
			return
		}
		again, err := decodePosition(p.encode())
		if err != nil || !reflect.DeepEqual(p, again) {
			t.Fatalf("%+v becomes %+v, %v", p, again, err)
		}
	})
}

func testNames() *names { return &names{texts: []string{""}, ids: map[string]uint32{"": 0}} }

func randomRecord(r *rand.Rand) record {
	rec := record{rev: r.Uint64()}
	stamps := make([]stamp, 1+r.IntN(300))
	for i := range stamps {
		stamps[i] = stamp{class: Class(r.IntN(2)), clock: r.Uint64(), device: r.Uint32(), imp: r.Uint32()}
	}
	if rec.deleted = r.IntN(2) == 0; rec.deleted {
		rec.tomb = stamp{clock: r.Uint64()}
	}
	for i := range r.IntN(300) {
		rec.values = append(rec.values, value{name: fmt.Sprintf("field%05d", i), at: stamps[r.IntN(len(stamps))], data: []byte(strings.Repeat("v", r.IntN(200)))})
	}
	return rec
}

func TestRecordRoundTrip(t *testing.T) {
	r := rand.New(rand.NewPCG(seed(t), 4))
	var row row
	for range 300 {
		want := randomRecord(r)
		if err := row.read(want.append(nil)); err != nil {
			t.Fatal(err)
		}
		got := row.record()
		same := slices.EqualFunc(got.values, want.values, func(a, b value) bool {
			return a.name == b.name && a.at == b.at && bytes.Equal(a.data, b.data)
		})
		if got.rev != want.rev || got.deleted != want.deleted || got.tomb != want.tomb || !same {
			t.Fatalf("%+v became %+v", want, got)
		}
	}
}

// Times keep their instant and offset, and their keys their order.
func TestTimes(t *testing.T) {
	r := rand.New(rand.NewPCG(seed(t), 5))
	var times []time.Time
	for range 500 {
		sec := yearZero + 366*86400 + r.Int64N(9990*365*86400)
		times = append(times, time.Unix(sec, r.Int64N(1e9)).In(zone(int16(r.IntN(1440)-720))))
	}
	slices.SortFunc(times, time.Time.Compare)
	for i, want := range times {
		data := timeData(want)
		if got := timeOf(data); !got.Equal(want) || got.Format(time.RFC3339Nano) != want.Format(time.RFC3339Nano) {
			t.Fatalf("%v became %v", want, got)
		}
		if i > 0 && bytes.Compare(timeData(times[i-1])[:timeSize], data[:timeSize]) > 0 {
			t.Fatalf("%v is ordered after %v", times[i-1], want)
		}
		if place := timePlace(want); !bytes.Equal(place[1:], data[:timeSize]) {
			t.Fatalf("the bound of a query at %v lies elsewhere", want)
		}
	}
	for _, bound := range []time.Time{time.Unix(-1<<40, 0), time.Unix(1<<40, 0)} {
		if p := timePlace(bound); (bytes.Compare(p[1:], timeData(times[0])) < 0) != bound.Before(times[0]) {
			t.Errorf("the bound %v lies on the wrong side", bound)
		}
	}
}

func TestSumIsOfNoOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(seed(t), 6))
	hashes := make([][32]byte, 100)
	var up, down sum
	for i := range hashes {
		for j := range hashes[i] {
			hashes[i][j] = byte(r.Uint32()) | byte(r.IntN(2)*0xff)
		}
		up.add(hashes[i])
	}
	for _, h := range slices.Backward(hashes) {
		down.add(h)
	}
	if up != down {
		t.Fatal("the sum depends on order")
	}
	r.Shuffle(len(hashes), func(i, j int) { hashes[i], hashes[j] = hashes[j], hashes[i] })
	for _, h := range hashes {
		up.subtract(h)
	}
	if up != (sum{}) {
		t.Fatal("subtracting all does not give zero")
	}
}
