package transactions

import (
	"errors"
	"strconv"
	"strings"
	"time"
)

var errNoDate = errors.New("is no date")

// parseOFXTime reads YYYYMMDD[HHMM[SS[.mmm]]][[offset:name]]. Where the file
// gives no time of day it is midnight, and where it gives no zone UTC, as the
// standard has it.
func parseOFXTime(s string) (time.Time, error) {
	s = strings.TrimSpace(s)
	digits, zone, zoned := strings.Cut(s, "[")
	loc := time.UTC
	if zoned {
		var err error
		if loc, err = ofxZone(strings.TrimSuffix(zone, "]")); err != nil {
			return time.Time{}, err
		}
	}
	digits, _, _ = strings.Cut(strings.TrimSpace(digits), ".")
	for _, layout := range []string{"20060102150405", "200601021504", "2006010215", "20060102"} {
		if len(digits) == len(layout) {
			t, err := time.ParseInLocation(layout, digits, loc)
			if err != nil || t.Year() < 1900 {
				return time.Time{}, errNoDate
			}
			return t, nil
		}
	}
	return time.Time{}, errNoDate
}

// ofxZone reads "-5:EST", "+5.30:IST" (hours and minutes, or hours and a
// fraction: "5.5") and "0:GMT".
func ofxZone(s string) (*time.Location, error) {
	offset, name, _ := strings.Cut(s, ":")
	offset = strings.TrimSpace(offset)
	hours, part, _ := strings.Cut(strings.TrimLeft(offset, "+-"), ".")
	h, err := strconv.Atoi(hours)
	if err != nil || h > 14 {
		return nil, errNoDate
	}
	minutes := 0
	if part != "" {
		n, err := strconv.Atoi(part)
		if err != nil || n < 0 {
			return nil, errNoDate
		}
		switch {
		case len(part) == 2 && n < 60 && n != 50 && n != 25 && n != 75:
			minutes = n
		default:
			f, err := strconv.ParseFloat("0."+part, 64)
			if err != nil {
				return nil, errNoDate
			}
			minutes = int(f*60 + 0.5)
		}
	}
	seconds := h*3600 + minutes*60
	if strings.HasPrefix(offset, "-") {
		seconds = -seconds
	}
	if seconds == 0 {
		return time.UTC, nil
	}
	if len(name) > 8 {
		name = ""
	}
	return time.FixedZone(name, seconds), nil
}

// parseOFXAmount reads a decimal with a point or a comma. The standard has no
// thousands separators; what banks write against it is taken only where it has
// one meaning.
func parseOFXAmount(s string) (string, error) {
	s = strings.ReplaceAll(strings.TrimSpace(s), "−", "-")
	if s == "" {
		return "", errors.New("is missing")
	}
	sign := ""
	switch s[0] {
	case '+':
		s = s[1:]
	case '-':
		sign, s = "-", s[1:]
	}
	point, comma := strings.Count(s, "."), strings.Count(s, ",")
	switch {
	case point <= 1 && comma == 0:
	case comma == 1 && point == 0:
		if i := strings.IndexByte(s, ','); len(s)-i-1 == 3 {
			return "", errors.New("can be read as thousands or as a fraction")
		}
		s = strings.Replace(s, ",", ".", 1)
	case comma >= 1 && point == 1 && strings.LastIndexByte(s, ',') < strings.IndexByte(s, '.'):
		s = strings.ReplaceAll(s, ",", "")
	case point >= 1 && comma == 1 && strings.LastIndexByte(s, '.') < strings.IndexByte(s, ','):
		s = strings.Replace(strings.ReplaceAll(s, ".", ""), ",", ".", 1)
	default:
		return "", errors.New("is no amount")
	}
	return plainDecimal(sign + s)
}

// What the schema of the collection allows.
const (
	maxDigits = 30
	maxPlaces = 18
)

// plainDecimal checks that s is a decimal of digits alone and returns it as it
// is written, so that "20.00" stays "20.00"; zeros in front, a bare point and the
// sign of zero go.
func plainDecimal(s string) (string, error) {
	digits, negative := strings.CutPrefix(s, "-")
	whole, part, _ := strings.Cut(digits, ".")
	if whole+part == "" || whole != "" && !isNumber(whole) || part != "" && !isNumber(part) {
		return "", errors.New("is no amount")
	}
	whole = strings.TrimLeft(whole, "0")
	if len(part) > maxPlaces || len(whole)+len(part) > maxDigits {
		return "", errors.New("is too long for an amount")
	}
	out := "0"
	if whole != "" {
		out = whole
	}
	if part != "" {
		out += "." + part
	}
	if negative && strings.Trim(out, "0.") != "" {
		out = "-" + out
	}
	return out, nil
}
