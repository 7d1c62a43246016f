package replicatest

import (
	"fmt"
	"math"
	"strings"
)

// A Plot shows how costs grow with a size, both on logarithmic scales.
type Plot struct {
	Title, X, Y string
	Lines       []PlotLine
}

// A PlotLine is one curve of a [Plot].
type PlotLine struct {
	Name   string
	Points [][2]float64 // in order of x; what is not above zero is drawn at the bottom
}

const (
	plotWidth, plotHeight = 640, 400
	plotLeft, plotRight   = 80, 190
	plotTop, plotBottom   = 40, 50
)

var plotColours = []string{"#1f5fa8", "#c2571a", "#2c8a4b", "#8a3a8f", "#777777"}

// SVG draws the plot.
func (p Plot) SVG() []byte {
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">`+"\n", plotWidth, plotHeight)
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" fill="white"/><text x="%d" y="22" font-size="15">%s</text>`+"\n", plotLeft, p.Title)
	x0, x1 := p.span(0)
	y0, y1 := p.span(1)
	px := func(v float64) float64 {
		return plotLeft + (math.Log10(max(v, x0))-math.Log10(x0))/math.Log10(x1/x0)*(plotWidth-plotLeft-plotRight)
	}
	py := func(v float64) float64 {
		return plotHeight - plotBottom - (math.Log10(max(v, y0))-math.Log10(y0))/math.Log10(y1/y0)*(plotHeight-plotTop-plotBottom)
	}
	for v := x0; v <= x1*1.001; v *= 10 {
		fmt.Fprintf(&b, `<path d="M%.1f %d V%d" stroke="#ddd"/><text x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n", px(v), plotTop, plotHeight-plotBottom, px(v), plotHeight-plotBottom+16, short(v))
	}
	for v := y0; v <= y1*1.001; v *= 10 {
		fmt.Fprintf(&b, `<path d="M%d %.1f H%d" stroke="#ddd"/><text x="%d" y="%.1f" text-anchor="end">%s</text>`+"\n", plotLeft, py(v), plotWidth-plotRight, plotLeft-6, py(v)+4, short(v))
	}
	fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="middle">%s</text>`+"\n", (plotLeft+plotWidth-plotRight)/2, plotHeight-12, p.X)
	fmt.Fprintf(&b, `<text transform="translate(18 %d) rotate(-90)" text-anchor="middle">%s</text>`+"\n", (plotTop+plotHeight-plotBottom)/2, p.Y)
	for i, line := range p.Lines {
		colour := plotColours[i%len(plotColours)]
		path := ""
		for j, at := range line.Points {
			path += fmt.Sprintf("%c%.1f %.1f", "ML"[min(j, 1)], px(at[0]), py(at[1]))
			fmt.Fprintf(&b, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>`+"\n", px(at[0]), py(at[1]), colour)
		}
		fmt.Fprintf(&b, `<path d="%s" fill="none" stroke="%s" stroke-width="1.5"/>`+"\n", path, colour)
		y := plotTop + 14 + 18*i
		fmt.Fprintf(&b, `<text x="%d" y="%d" fill="%s">%s</text>`+"\n", plotWidth-plotRight+12, y, colour, line.Name)
	}
	b.WriteString("</svg>\n")
	return []byte(b.String())
}

// span are the powers of ten around all values of an axis.
func (p Plot) span(axis int) (low, high float64) {
	low, high = math.Inf(1), 1
	for _, line := range p.Lines {
		for _, at := range line.Points {
			if v := at[axis]; v > 0 {
				low, high = min(low, v), max(high, v)
			}
		}
	}
	if math.IsInf(low, 1) {
		low = 1
	}
	low, high = math.Pow(10, math.Floor(math.Log10(low))), math.Pow(10, math.Ceil(math.Log10(high)))
	if high <= low {
		high = 10 * low
	}
	return low, high
}

// short writes a power of ten.
func short(v float64) string {
	switch {
	case v >= 1e9:
		return fmt.Sprintf("%g G", v/1e9)
	case v >= 1e6:
		return fmt.Sprintf("%g M", v/1e6)
	case v >= 1e3:
		return fmt.Sprintf("%g k", v/1e3)
	}
	return fmt.Sprintf("%g", v)
}
