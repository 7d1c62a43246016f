package replica

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// A device compacts its own log. A run is an object that holds the join of some of its
// entries and of older runs; a base is an object that lists runs, and entries that stay
// as they are, which together hold all of its log up to one entry. What a base
// covers may go. The headers of a device's entries and marks name the bases by which
// it stands.

// baseVersion is the version of the payload of a base.
const baseVersion = 1

// Bounds of a base.
const (
	maxRuns  = 4096
	maxStays = 4096
	maxLevel = 64
)

// A base is the payload of a base object.
type base struct {
	Version int       `json:"v"`
	Upto    seen      `json:"upto"` // the last entry that it covers
	Runs    []runItem `json:"runs"` // older ones first
	Entries []seen    `json:"entries,omitempty"`
}

// A runItem is a run in a base.
type runItem struct {
	N     uint64 `json:"n"`
	ID    string `json:"id"`
	From  uint64 `json:"from"` // the entries whose join it is a part of
	To    uint64 `json:"to"`
	Level int    `json:"level"` // how often what it holds was joined
	Size  int64  `json:"size"`  // of the object
}

// encode returns the base in its one form.
func (b *base) encode() []byte {
	b.Version = baseVersion
	if b.Runs == nil {
		b.Runs = []runItem{}
	}
	out, err := json.Marshal(b)
	if err != nil {
		panic(err) // strings and numbers only
	}
	return out
}

// parseBase reads the payload of a base. The error is errNewer where a newer version
// wrote it.
func parseBase(payload []byte) (*base, error) {
	var v struct {
		Version int `json:"v"`
	}
	if err := json.Unmarshal(payload, &v); err != nil || v.Version < 1 {
		return nil, errors.New("it is no base")
	}
	if v.Version > baseVersion {
		return nil, errNewer
	}
	var b base
	if err := json.Unmarshal(payload, &b); err != nil {
		return nil, fmt.Errorf("it is no base: %w", err)
	}
	if err := b.check(); err != nil {
		return nil, err
	}
	if !bytes.Equal(b.encode(), payload) {
		return nil, errors.New("it is not in the one exact form")
	}
	return &b, nil
}

func (b *base) check() error {
	if b.Upto.N == 0 || !validID(b.Upto.ID) || len(b.Runs) > maxRuns || len(b.Entries) > maxStays {
		return errors.New("it says what no base can say")
	}
	numbers := map[uint64]bool{}
	for _, r := range b.Runs {
		if r.N == 0 || numbers[r.N] || !validID(r.ID) || r.From == 0 || r.From > r.To || r.To > b.Upto.N || r.Level < 1 || r.Level > maxLevel || r.Size < 0 {
			return errors.New("it lists what cannot be a run")
		}
		numbers[r.N] = true
	}
	last := uint64(0)
	for _, e := range b.Entries {
		if e.N <= last || e.N > b.Upto.N || !validID(e.ID) {
			return errors.New("it lists what cannot be an entry")
		}
		last = e.N
	}
	return nil
}

// stays says whether the base leaves an entry as it is.
func (b *base) stays(number uint64) bool {
	_, ok := slices.BinarySearchFunc(b.Entries, number, func(e seen, n uint64) int {
		switch {
		case e.N < n:
			return -1
		case e.N > n:
			return 1
		}
		return 0
	})
	return ok
}

// numbers are those of the runs.
func (b *base) numbers() map[uint64]bool {
	numbers := map[uint64]bool{}
	for _, r := range b.Runs {
		numbers[r.N] = true
	}
	return numbers
}
