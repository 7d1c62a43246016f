package contacts

import (
	"slices"
	"strconv"
	"strings"
)

// groupLabels returns what X-ABLabel says of each group, as in "item1.TEL" and
// "item1.X-ABLabel:_$!<AssistantPhone>!$_".
func (c *card) groupLabels() map[string]string {
	labels := make(map[string]string)
	for _, p := range c.properties {
		if p.name != "X-ABLABEL" || p.group == "" {
			continue
		}
		label := c.text(p)
		if own, ok := strings.CutPrefix(label, "_$!<"); ok {
			label = strings.ToLower(strings.TrimSuffix(own, ">!$_"))
		}
		labels[strings.ToLower(p.group)] = label
	}
	return labels
}

// labelOf makes a word of the types of a property: what kind of line before
// whose, so that "TYPE=WORK,FAX" is "work fax".
func labelOf(p *property) string {
	var words []string
	for _, t := range p.params["TYPE"] {
		t = strings.ToLower(t)
		switch t {
		case "pref", "internet", "voice", "x400", "dom", "intl", "postal", "parcel", "msg", "text", "video", "":
			continue
		case "cell":
			t = "mobile"
		}
		if t = strings.TrimPrefix(t, "x-"); !slices.Contains(words, t) {
			words = append(words, t)
		}
	}
	slices.SortFunc(words, func(a, b string) int { return weight(a) - weight(b) })
	return strings.Join(words, " ")
}

func weight(label string) int {
	if label == "home" || label == "work" {
		return 0
	}
	return 1
}

// preferredFirst returns the properties with the preferred ones first and
// otherwise in their order. PREF=1 is before PREF=2.
func (c *card) preferredFirst() []*property {
	sorted := slices.Clone(c.properties)
	slices.SortStableFunc(sorted, func(a, b *property) int { return preference(a) - preference(b) })
	return sorted
}

func preference(p *property) int {
	if p.is("TYPE", "pref") {
		return 1
	}
	if n, err := strconv.Atoi(p.param("PREF")); err == nil && n >= 1 && n <= 100 {
		return n
	}
	return 101
}

// formattedName returns the name of a card that lies within another.
func (c *card) formattedName() string {
	for _, name := range []string{"FN", "N", "ORG", "EMAIL", "TEL"} {
		for _, p := range c.properties {
			if p.name != name {
				continue
			}
			if name == "N" {
				part := c.components(p, " ")
				return joinFilled([]string{part(1), part(2), part(0)}, " ")
			}
			return c.text(p)
		}
	}
	return ""
}

// agent returns the name of an agent: a nested card (read before), a card in the
// value as version 3.0 has it, or a link.
func (c *card) agent(p *property) string {
	s := c.text(p)
	if !strings.HasPrefix(strings.ToUpper(s), "BEGIN:VCARD") {
		return s
	}
	for line := range strings.Lines(s) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "FN:"); ok {
			return name
		}
	}
	return ""
}
