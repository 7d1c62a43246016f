package manifests

import (
	"fmt"
	"strconv"
	"time"
)

// A span is a length of time by the calendar, written in ISO 8601 as P30D, P2W,
// P6M, P1Y or in several parts, as P1Y6M.
type span struct{ years, months, days int }

// parseSpan reads a duration of whole days, at least one and at most 100 years.
func parseSpan(s string) (span, error) {
	var d span
	bad := fmt.Errorf("%q is no duration such as P30D, P2W, P6M or P1Y", s)
	if len(s) < 3 || s[0] != 'P' {
		return d, bad
	}
	units := "YMWD"
	for rest := s[1:]; rest != ""; {
		n := 0
		for n < len(rest) && n < 5 && rest[n] >= '0' && rest[n] <= '9' {
			n++
		}
		count, err := strconv.Atoi(rest[:n])
		if err != nil || n == len(rest) {
			return d, bad
		}
		unit := rest[n]
		for units != "" && units[0] != unit {
			units = units[1:]
		}
		if units == "" {
			return d, bad
		}
		units = units[1:]
		switch unit {
		case 'Y':
			d.years = count
		case 'M':
			d.months = count
		case 'W':
			d.days += 7 * count
		case 'D':
			d.days += count
		}
		rest = rest[n+1:]
	}
	if days := d.approximateDays(); days < 1 || days > 36525 {
		return d, bad
	}
	return d, nil
}

// approximateDays counts months as 30 days and years as 365, for comparing.
func (d span) approximateDays() int { return 365*d.years + 30*d.months + d.days }

func (d span) after(t time.Time) time.Time { return t.AddDate(d.years, d.months, d.days) }

// words is the span in words, such as "90 days" or "1 year and 6 months".
func (d span) words() string {
	var parts []string
	for _, p := range []struct {
		n    int
		unit string
	}{{d.years, "year"}, {d.months, "month"}, {d.days, "day"}} {
		switch {
		case p.n == 1:
			parts = append(parts, "1 "+p.unit)
		case p.n > 1:
			parts = append(parts, strconv.Itoa(p.n)+" "+p.unit+"s")
		}
	}
	return list(parts)
}

// since is the beginning of a window that ends now; zero where there is none.
func since(window string, now time.Time) (time.Time, error) {
	if window == "" {
		return time.Time{}, nil
	}
	d, err := parseSpan(window)
	if err != nil {
		return time.Time{}, err
	}
	return now.AddDate(-d.years, -d.months, -d.days), nil
}

// windowCovers says whether all that a window shows is in another, at any time.
func windowCovers(outer, inner string) bool {
	if outer == "" || outer == inner {
		return true
	}
	o, err := parseSpan(outer)
	if err != nil || inner == "" {
		return false
	}
	i, err := parseSpan(inner)
	return err == nil && 365*o.years+28*o.months+o.days >= 366*i.years+31*i.months+i.days
}
