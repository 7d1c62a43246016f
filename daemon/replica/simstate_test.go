package replica_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
)

// simState is a memState whose owner lives in a sim. Each of its writes is durable
// when it returns, as State demands.
type simState struct{ *memState }

func (m *simState) powerFails(*rand.Rand) local { return m }
func (m *simState) copy() local                 { return &simState{m.memState.copy()} }

func (m *simState) set(id, text string) {
	if text == "" {
		m.write("notes", id, nil)
	} else {
		m.put(id, text)
	}
}

func (m *simState) took(id, text string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	old := m.fields["notes\x00"+id+"\x00text"]
	quoted := strconv.Quote(text)
	if tomb := m.fields["notes\x00"+id+"\x00"]; old.data == quoted || old.rev > "1" || tomb.rev > "1" {
		return
	}
	m.writeLine(line{Collection: "notes", ID: id, Class: "source", Fields: map[string]json.RawMessage{"text": json.RawMessage(quoted)}})
}

func (m *simState) text(id string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	v := m.fields["notes\x00"+id+"\x00text"]
	if tomb := m.fields["notes\x00"+id+"\x00"]; v.data == "" || v.rev < tomb.rev {
		return ""
	}
	text, err := strconv.Unquote(v.data)
	if err != nil {
		panic(err)
	}
	return text
}

func (s *memState) copy() *memState {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &memState{
		device: s.device, now: s.now, clock: s.clock, log: slices.Clone(s.log), order: slices.Clone(s.order),
		fields: maps.Clone(s.fields), notes: maps.Clone(s.notes), blobs: maps.Clone(s.blobs), purged: maps.Clone(s.purged),
	}
}

// lacks names a line that was written and that the state neither holds nor has
// something newer for, or is empty.
func (s *memState) lacks(log [][]byte) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, text := range log {
		var l line
		if err := json.Unmarshal(text, &l); err != nil {
			panic(err)
		}
		one := newMemState("", nil)
		one.apply(l)
		for key, v := range one.fields {
			tomb := s.fields[l.Collection+"\x00"+l.ID+"\x00"]
			if have := s.fields[key]; have.rev < v.rev && tomb.rev < v.rev {
				return fmt.Sprintf("%s (it has %q)", text, have)
			}
		}
	}
	return ""
}

// invented names a value that nobody wrote, or is empty.
func (s *memState) invented(logs ...[][]byte) string { return s.beyond(written(logs...)) }

// written are all values that were written.
func written(logs ...[][]byte) map[string]bool {
	all := newMemState("", nil)
	revs := map[string]bool{}
	for _, log := range logs {
		for _, text := range log {
			var l line
			if err := json.Unmarshal(text, &l); err != nil {
				panic(err)
			}
			clear(all.fields)
			all.apply(l)
			for key, v := range all.fields {
				revs[key+v.rev+v.data] = true
			}
		}
	}
	return revs
}

// beyond names a value that is not among some, or is empty.
func (s *memState) beyond(revs map[string]bool) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, v := range s.fields {
		if !revs[key+v.rev+v.data] {
			return fmt.Sprintf("%q: %q", key, v)
		}
	}
	return ""
}

// differs lists what one state has otherwise than another.
func (s *memState) differs(other *memState) string {
	var b strings.Builder
	all := maps.Clone(s.fields)
	maps.Copy(all, other.fields)
	for _, key := range slices.Sorted(maps.Keys(all)) {
		if s.fields[key] != other.fields[key] {
			fmt.Fprintf(&b, "%q: %q here, %q there\n", key, s.fields[key], other.fields[key])
		}
	}
	return b.String()
}
