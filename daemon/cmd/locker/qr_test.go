package main

import (
	"strings"
	"testing"

	"rsc.io/qr"
)

// TestQR: what is drawn is the code, with light around it.
func TestQR(t *testing.T) {
	const text = "locker:17-ABCDEFGHJKMNPQRSTVWXYZ2345"
	drawn, err := qrLines(text)
	if err != nil {
		t.Fatal(err)
	}
	code, err := qr.Encode(text, qr.M)
	if err != nil {
		t.Fatal(err)
	}
	var rows [][]bool
	for line := range strings.Lines(drawn) {
		line = strings.TrimSuffix(strings.TrimPrefix(line, "\x1b[30;107m"), "\x1b[0m\n")
		var upper, lower []bool
		for _, c := range line {
			upper, lower = append(upper, c == '▀' || c == '█'), append(lower, c == '▄' || c == '█')
		}
		rows = append(rows, upper, lower)
	}
	side := code.Size + 2*quietZone
	if len(rows) < side || len(rows[0]) != side {
		t.Fatalf("%d rows of %d, want at least %d of %d", len(rows), len(rows[0]), side, side)
	}
	for y, row := range rows {
		for x, dark := range row {
			if want := module(code, x-quietZone, y-quietZone) == 1; dark != want {
				t.Fatalf("module %d,%d: dark is %v, want %v", x, y, dark, want)
			}
		}
	}
}
