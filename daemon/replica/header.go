package replica

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
)

// logVersion is the version of the protocol's part of a header. An object of a
// newer one waits until this program is newer too.
const logVersion = 1

// Bounds of a header and of lines.
const (
	maxHeader  = 256 << 10
	maxDevices = 1024
	maxTips    = 1024
)

var errNewer = errors.New("it was written by a newer version of Locker")

// seen is an object of a log: its number and its id. In JSON it is [number,"id"].
type seen struct {
	N  uint64
	ID string
}

func (s seen) MarshalJSON() ([]byte, error) {
	return fmt.Appendf(nil, `[%d,%q]`, s.N, s.ID), nil
}

func (s *seen) UnmarshalJSON(b []byte) error {
	var parts []json.RawMessage
	if err := json.Unmarshal(b, &parts); err != nil {
		return err
	}
	if len(parts) < 2 {
		return errors.New("want [number, id]")
	}
	if err := json.Unmarshal(parts[0], &s.N); err != nil {
		return err
	}
	return json.Unmarshal(parts[1], &s.ID)
}

// A header is the protocol's part of what is signed with an object.
type header struct {
	Version int              `json:"v"`
	Prev    string           `json:"prev,omitempty"`   // id of the former entry (mark) of this log
	Vector  map[string]seen  `json:"vector,omitempty"` // what the writer had read, without gaps, of others
	Tips    []string         `json:"tips,omitempty"`   // membership statements that no other one names
	Entry   *seen            `json:"entry,omitempty"`  // of a mark: the newest entry
	Bases   []seen           `json:"bases"`            // the bases by which the writer stands
	Adopts  map[string]seen  `json:"adopts,omitempty"` // removed devices, and up to which entry of theirs this log holds what counts
	Clean   string           `json:"clean,omitempty"`  // State.Bans: nothing of that is left in what the writer put on remotes
	Clock   clock            `json:"clock"`
	Counts  map[string]int64 `json:"counts,omitempty"` // of a mark: how many records the largest collections have

	more map[string]json.RawMessage // fields of newer versions
}

// A clock is a hybrid logical clock: milliseconds since 1970 << 16 | counter, in
// JSON 16 hexadecimal digits.
type clock uint64

func (c clock) MarshalJSON() ([]byte, error) { return fmt.Appendf(nil, `"%016x"`, uint64(c)), nil }

func (c *clock) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	if len(s) != 16 {
		return errors.New("a clock has 16 hexadecimal digits")
	}
	n, err := strconv.ParseUint(s, 16, 64)
	*c = clock(n)
	return err
}

// millis is the physical part of a clock.
func (c clock) millis() int64 { return int64(c >> 16) }

var headerFields = []string{"v", "prev", "vector", "tips", "entry", "bases", "adopts", "clean", "clock", "counts"}

// encode returns the header as JSON.
func (h *header) encode() []byte {
	if h.Bases == nil {
		h.Bases = []seen{}
	}
	b, err := json.Marshal(h)
	if err != nil {
		panic(err) // strings and numbers only
	}
	return b
}

// parseHeader reads a header that a member signed. The error is errNewer where a
// newer version wrote it.
func parseHeader(log []byte) (*header, error) {
	if len(log) > maxHeader {
		return nil, errors.New("its header is too long")
	}
	var h header
	if err := json.Unmarshal(log, &h.more); err != nil {
		return nil, fmt.Errorf("its header is no JSON object: %w", err)
	}
	var v struct {
		Version int `json:"v"`
	}
	if err := json.Unmarshal(log, &v); err != nil || v.Version < 1 {
		return nil, errors.New("its header has no version")
	}
	if v.Version > logVersion {
		return nil, errNewer
	}
	if err := json.Unmarshal(log, &h); err != nil {
		return nil, fmt.Errorf("its header is not as it should be: %w", err)
	}
	for _, f := range headerFields {
		delete(h.more, f)
	}
	return &h, h.check()
}

func (h *header) check() error {
	if len(h.Vector) > maxDevices || len(h.Adopts) > maxDevices || len(h.Tips) > maxTips || len(h.Bases) > maxDevices {
		return errors.New("its header names too many devices")
	}
	for device, s := range h.Vector {
		if !validDevice(device) || !validID(s.ID) || s.N == 0 {
			return errors.New("its header names what cannot be an entry")
		}
	}
	for device, s := range h.Adopts {
		if !validDevice(device) || !validID(s.ID) || s.N == 0 {
			return errors.New("its header adopts what cannot be a log")
		}
	}
	if len(h.Clean) > 64 {
		return errors.New("its header names what cannot be bans")
	}
	for _, tip := range h.Tips {
		if len(tip) > 128 {
			return errors.New("its header names what cannot be a member")
		}
	}
	for _, b := range h.Bases {
		if b.N == 0 || !validID(b.ID) {
			return errors.New("its header names what cannot be a base")
		}
	}
	if h.Prev != "" && !validID(h.Prev) || h.Entry != nil && h.Entry.N > 0 && !validID(h.Entry.ID) {
		return errors.New("its header names what cannot be an object")
	}
	return nil
}

// validDevice says whether s may be the id of a device.
func validDevice(s string) bool {
	return s != "" && len(s) <= 64 && !bytes.ContainsFunc([]byte(s), func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < '0' || c > '9')
	})
}

// validID says whether s may be the id of an object: 64 hexadecimal digits.
func validID(s string) bool {
	return len(s) == 64 && !bytes.ContainsFunc([]byte(s), func(c rune) bool {
		return (c < 'a' || c > 'f') && (c < '0' || c > '9')
	})
}

// validName says whether s may be the name of an object: k/ or d/ and 52 letters
// of base 32. Nothing else is ever asked for, listed as ours or made a path.
func validName(s string) bool {
	if len(s) != 54 || s[:2] != "k/" && s[:2] != "d/" {
		return false
	}
	for _, c := range s[2:] {
		if (c < 'a' || c > 'z') && (c < '2' || c > '7') {
			return false
		}
	}
	return true
}
