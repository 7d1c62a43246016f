package transactions

import (
	"strings"
	"time"
	"unicode/utf8"
)

// An order says how a date of three numbers is read.
type order int

const (
	unknownOrder order = iota
	dayFirst
	monthFirst
)

// A date is a cell that holds one, before it is known which number is the day.
type date struct {
	year         int
	first, other int  // day and month, in the order of the cell where numeric is set
	numeric      bool // the order of day and month is open
	dotted       bool // 3.4.2026: always day first
	clock        time.Duration
	hasClock     bool
	zone         *time.Location
}

// parseDate reads the dates that banks write. ok is false for anything else.
func parseDate(s string) (d date, ok bool) {
	s = strings.TrimSpace(s)
	if len(s) < 6 || len(s) > 40 {
		return d, false
	}
	if t, err := parseOFXTime(s); err == nil && plausible(t.Year()) {
		return fromTime(t, len(s) > 8), true
	}
	day, clock := cutClock(s)
	if clock != "" && !d.setClock(clock) {
		return date{}, false
	}
	if !d.setDay(day) || !plausible(d.year) {
		return date{}, false
	}
	return d, true
}

func fromTime(t time.Time, clock bool) date {
	return date{year: t.Year(), first: t.Day(), other: int(t.Month()), zone: t.Location(), hasClock: clock,
		clock: time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute + time.Duration(t.Second())*time.Second}
}

func plausible(year int) bool { return year >= 1950 && year < 2100 }

// cutClock separates "2026-01-04T10:00:00Z" or "04.01.26 10:00" into day and time.
func cutClock(s string) (day, clock string) {
	i := strings.IndexByte(s, ':')
	if i < 0 {
		return s, ""
	}
	if j := strings.LastIndexAny(s[:i], "T \u00a0,"); j > 0 {
		return strings.TrimRight(s[:j], " ,"), strings.TrimLeft(s[j:], "T ,\u00a0")
	}
	return s, ""
}

var clockLayouts = []string{
	"15:04:05Z07:00", "15:04:05-0700", "15:04:05-07", "15:04:05", "15:04Z07:00", "15:04", "3:04:05 PM", "3:04 PM", "3:04PM", "15:04:05 MST",
}

func (d *date) setClock(s string) bool {
	s = strings.ToUpper(strings.TrimSpace(s))
	for _, layout := range clockLayouts {
		if layout == "15:04:05 MST" && !strings.HasSuffix(s, " UTC") && !strings.HasSuffix(s, " GMT") {
			continue // an abbreviation of a zone has no one meaning
		}
		t, err := time.Parse(layout, strings.Replace(s, " +", "+", 1))
		if err != nil {
			continue
		}
		d.clock = t.Sub(time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, t.Location()))
		d.hasClock = true
		if strings.ContainsAny(layout, "Z") || strings.Contains(layout, "-07") {
			_, offset := t.Zone()
			d.zone = time.FixedZone("", offset)
		}
		return true
	}
	return false
}

// setDay reads three numbers, or two numbers and the name of a month.
func (d *date) setDay(s string) bool {
	parts := strings.FieldsFunc(s, func(r rune) bool {
		return r == '-' || r == '/' || r == '.' || r == ',' || r == ' ' || r == '\'' || r == '\u00a0'
	})
	if len(parts) == 4 && !isNumber(parts[0]) && monthOf(parts[0]) == 0 {
		parts = parts[1:] // the name of a weekday
	}
	if len(parts) == 5 && parts[1] == "de" && parts[3] == "de" {
		parts = []string{parts[0], parts[2], parts[4]}
	}
	if len(parts) == 1 && len(s) == 8 && isNumber(s) { // 04012026
		parts = []string{s[:2], s[2:4], s[4:]}
	}
	if len(parts) != 3 {
		return false
	}
	for i, p := range parts {
		if m := monthOf(p); m > 0 {
			rest := append(append([]string{}, parts[:i]...), parts[i+1:]...)
			return d.setNamed(m, rest)
		}
	}
	n := [3]int{}
	for i, p := range parts {
		if !isNumber(p) || len(p) > 4 {
			return false
		}
		n[i] = number(p)
	}
	switch {
	case len(parts[0]) == 4: // 2026-01-04
		d.year, d.other, d.first = n[0], n[1], n[2]
		return realDay(d.year, d.other, d.first)
	case len(parts[2]) == 4 || len(parts[2]) == 2:
		d.year, d.first, d.other, d.numeric = fullYear(parts[2]), n[0], n[1], true
		d.dotted = strings.Contains(s, ".") && !strings.ContainsAny(s, "/-")
		return realDay(d.year, d.other, d.first) || !d.dotted && realDay(d.year, d.first, d.other)
	}
	return false
}

// setNamed takes the numbers beside a month's name: day and year, in this order
// unless the first has four digits.
func (d *date) setNamed(month int, rest []string) bool {
	day, year := rest[0], rest[1]
	if len(day) == 4 {
		day, year = year, day
	}
	for _, suffix := range []string{"st", "nd", "rd", "th", "er"} {
		day = strings.TrimSuffix(day, suffix)
	}
	if !isNumber(day) || !isNumber(year) || len(day) > 2 || len(year) != 4 && len(year) != 2 {
		return false
	}
	d.year, d.first, d.other = fullYear(year), number(day), month
	return realDay(d.year, d.other, d.first)
}

// time returns the moment. The zone is that of the cell, else UTC.
func (d date) time(o order) (t time.Time, ok bool) {
	day, month := d.first, d.other
	if d.numeric && !d.dotted && o == monthFirst {
		day, month = month, day
	}
	if !realDay(d.year, month, day) {
		return time.Time{}, false
	}
	zone := d.zone
	if zone == nil {
		zone = time.UTC
	}
	return time.Date(d.year, time.Month(month), day, 0, 0, 0, 0, zone).Add(d.clock), true
}

func realDay(year, month, day int) bool {
	if month < 1 || month > 12 || day < 1 || day > 31 {
		return false
	}
	return time.Date(year, time.Month(month), day, 0, 0, 0, 0, time.UTC).Day() == day
}

func fullYear(s string) int {
	n := number(s)
	switch {
	case len(s) == 4:
		return n
	case n < 70:
		return 2000 + n
	}
	return 1900 + n
}

func isNumber(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// number reads digits that isNumber has seen.
func number(s string) int {
	n := 0
	for i := range min(len(s), 9) {
		n = n*10 + int(s[i]-'0')
	}
	return n
}

// months holds the beginnings by which a month is known in English, German,
// French, Spanish, Italian, Portuguese, Dutch, Swedish, Norwegian, Danish and
// Polish.
var months = [12][]string{
	{"jan", "ene", "gen", "sty"},
	{"feb", "fev", "fév", "lut"},
	{"mar", "mär", "mrz", "maa", "mrt"},
	{"apr", "avr", "abr", "kwi"},
	{"may", "mai", "mag", "mei", "maj"},
	{"jun", "juin", "giu", "cze"},
	{"jul", "juil", "lug", "lip"},
	{"aug", "aou", "aoû", "ago", "sie"},
	{"sep", "set", "wrz"},
	{"oct", "okt", "ott", "out", "paź", "paz"},
	{"nov", "lis"},
	{"dec", "dez", "déc", "dic", "des", "gru"},
}

// monthOf returns 1 to 12, or 0 for what is no name of a month.
func monthOf(s string) int {
	if c, _ := utf8.DecodeRuneInString(s); c < 'A' {
		return 0
	}
	s = strings.ToLower(s)
	for i, names := range months {
		for _, name := range names {
			if strings.HasPrefix(s, name) && len(s) < 13 {
				return i + 1
			}
		}
	}
	return 0
}
