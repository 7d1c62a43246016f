package remote

import (
	"fmt"
	"strings"
	"time"
)

// A Policy is what the owner allows of the network, for all remotes of this device. The
// zero Policy allows everything.
type Policy struct {
	// Up and Down bound the bytes a second; 0 is no bound. See [Limiter].
	Up   int64 `json:"up,omitempty"`
	Down int64 `json:"down,omitempty"`
	// Quiet are the hours in which nothing is sent or fetched but what the owner asks for.
	Quiet []Hours `json:"quiet,omitempty"`
	// Metered says whether the network is paid by volume; empty is Auto.
	Metered Metered `json:"metered,omitempty"`
}

// Metered says whether the network is paid by volume.
type Metered string

// The values of Metered.
const (
	Auto Metered = "auto" // as the system says, and no where it does not say
	Yes  Metered = "yes"
	No   Metered = "no"
)

// ParseMetered reads auto, yes or no.
func ParseMetered(s string) (Metered, error) {
	switch m := Metered(s); m {
	case Auto, Yes, No:
		return m, nil
	case "":
		return Auto, nil
	}
	return "", fmt.Errorf("%.40q: write auto, yes or no", s)
}

// Hours are from one time of day to another, in the local time of this device: "22:00-07:00".
// They go over midnight where the end is not after the beginning.
type Hours struct{ From, To time.Duration } // since midnight

// ParseHours reads hours such as 22:00-07:00.
func ParseHours(s string) (Hours, error) {
	from, to, ok := strings.Cut(s, "-")
	h := Hours{}
	var err error
	if !ok {
		return h, fmt.Errorf("%.40q: write hours such as 22:00-07:00", s)
	}
	if h.From, err = ofDay(from); err == nil {
		h.To, err = ofDay(to)
	}
	return h, err
}

func ofDay(s string) (time.Duration, error) {
	s = strings.TrimSpace(s)
	if s == "24:00" {
		return 24 * time.Hour, nil
	}
	t, err := time.Parse("15:04", s)
	if err != nil {
		return 0, fmt.Errorf("%.40q is no time of day: write 22:00", s)
	}
	return time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute, nil
}

func (h Hours) String() string { return clock(h.From) + "-" + clock(h.To) }

func clock(d time.Duration) string {
	return fmt.Sprintf("%02d:%02d", int(d/time.Hour), int(d%time.Hour/time.Minute))
}

// MarshalText and UnmarshalText are for JSON.
func (h Hours) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (h *Hours) UnmarshalText(text []byte) (err error) {
	*h, err = ParseHours(string(text))
	return err
}

// end is when the hours end in which t lies; zero: t lies outside.
func (h Hours) end(t time.Time) time.Time {
	for _, day := range []int{-1, 0} { // of those that began yesterday and today
		from := at(t, day, h.From)
		to := at(t, day, h.To)
		if h.To <= h.From {
			to = at(t, day+1, h.To)
		}
		if !t.Before(from) && t.Before(to) {
			return to
		}
	}
	return time.Time{}
}

// at is a time of day, so many days from t's, also on days that are not 24 hours long.
func at(t time.Time, days int, d time.Duration) time.Time {
	return time.Date(t.Year(), t.Month(), t.Day()+days, 0, int(d/time.Minute), 0, 0, t.Location())
}

// An Allowance is what may be done of itself at one moment. What the owner asks for is
// done in any case.
type Allowance struct {
	// Sync: changes may be exchanged.
	Sync bool
	// Bulk: large things may be moved too: pictures, compaction, verification.
	Bulk bool
	// Until is when that ends for a reason that is known now; zero is not known.
	Until time.Time
	// Why says why not everything is allowed; empty where it is.
	Why string
}

// Now is what may be done of itself at t. metered and known are what the system says of
// the network.
func (p Policy) Now(t time.Time, metered, known bool) Allowance {
	for _, h := range p.Quiet {
		if end := h.end(t); !end.IsZero() {
			return Allowance{Until: end, Why: fmt.Sprintf("quiet hours (%s)", h)}
		}
	}
	switch {
	case p.Metered == Yes:
		return Allowance{Sync: true, Why: "the network counts as metered, as you set it"}
	case p.Metered != No && known && metered:
		return Allowance{Sync: true, Why: "the network is metered, as the system says"}
	}
	return Allowance{Sync: true, Bulk: true}
}
