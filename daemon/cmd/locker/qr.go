package main

import (
	"strings"

	"rsc.io/qr"
)

// quietZone is how many light modules surround a QR code, by its standard.
const quietZone = 4

// qrLines draws text as a QR code for a terminal, two rows of modules a line. The
// colours are set outright, so that it is dark on light whatever the terminal's are.
func qrLines(text string) (string, error) {
	code, err := qr.Encode(text, qr.M)
	if err != nil {
		return "", err
	}
	const dark, light = "\x1b[30;107m", "\x1b[0m"
	var b strings.Builder
	for y := -quietZone; y < code.Size+quietZone; y += 2 {
		b.WriteString(dark)
		for x := -quietZone; x < code.Size+quietZone; x++ {
			b.WriteString([]string{" ", "▄", "▀", "█"}[2*module(code, x, y)+module(code, x, y+1)])
		}
		b.WriteString(light + "\n")
	}
	return b.String(), nil
}

// module is 1 where a module is dark; around the code all are light.
func module(code *qr.Code, x, y int) int {
	if x >= 0 && y >= 0 && x < code.Size && y < code.Size && code.Black(x, y) {
		return 1
	}
	return 0
}
