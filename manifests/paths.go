package manifests

import (
	"slices"
	"strings"
)

// filterPaths are the fields that a filter expression names, with what follows
// their dots, sorted. The expression is one that [locker.ParseFilter] has taken:
// there a field is the word before an operator, and nothing else is.
func filterPaths(expression string) []string {
	var paths []string
	word := ""
	for i := 0; i < len(expression); {
		switch c := expression[i]; {
		case strings.IndexByte(" \t\r\n", c) >= 0:
			i++
		case c == '"' || c == '\'':
			i = skipQuoted(expression, i)
			word = ""
		case strings.IndexByte("=<>~!", c) >= 0:
			if word != "" {
				paths = append(paths, word)
			}
			word = ""
			i++
		case c == '(' || c == ')':
			word = ""
			i++
		default:
			end := strings.IndexAny(expression[i:], " \t\r\n\"'=<>~()!")
			if end < 0 {
				end = len(expression) - i
			}
			word = expression[i : i+end]
			i += end
		}
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}

// skipQuoted returns the index after a quoted text, in which a backslash takes the
// next character as it is.
func skipQuoted(s string, i int) int {
	quote := s[i]
	for i++; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case quote:
			return i + 1
		}
	}
	return len(s)
}
