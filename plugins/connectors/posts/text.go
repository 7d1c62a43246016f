package posts

import (
	"strings"

	"golang.org/x/net/html"
)

// plainText returns the text of a piece of HTML: paragraphs and breaks as lines,
// entities as characters, nothing of scripts.
func plainText(source string) string {
	var b strings.Builder
	z := html.NewTokenizer(strings.NewReader(source))
	hidden := 0
	for {
		kind := z.Next()
		if kind == html.ErrorToken {
			break
		}
		switch kind {
		case html.TextToken:
			if hidden == 0 {
				b.WriteString(string(z.Text()))
			}
		case html.StartTagToken, html.SelfClosingTagToken, html.EndTagToken:
			name, _ := z.TagName()
			switch string(name) {
			case "script", "style", "template":
				switch kind {
				case html.StartTagToken:
					hidden++
				case html.EndTagToken:
					hidden = max(0, hidden-1)
				}
			case "br", "li", "div", "tr":
				if kind != html.EndTagToken {
					newLines(&b, 1)
				}
			case "p", "blockquote", "pre", "ul", "ol", "h1", "h2", "h3", "h4", "h5", "h6":
				newLines(&b, 2)
			}
		}
	}
	return strings.TrimSpace(b.String())
}

// newLines ends the line, and leaves as many ends of lines as are asked for; a
// break within a paragraph always adds one.
func newLines(b *strings.Builder, n int) {
	if n == 1 {
		b.WriteByte('\n')
		return
	}
	s := b.String()
	have := len(s) - len(strings.TrimRight(s, "\n"))
	for range n - have {
		b.WriteByte('\n')
	}
}
