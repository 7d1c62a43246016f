package manifests

import (
	"fmt"
	"strings"
)

// Sentence says in plain words what an offer lets the app do and what it costs. It
// is written from the parts of the manifest that bind, not from the vendor's words;
// empty where there is no such offer.
func (m *Manifest) Sentence(offer string) string {
	o, err := m.offer(offer)
	if err != nil {
		return ""
	}
	var parts []string
	for _, r := range m.requestsOf(o) {
		parts = append(parts, m.Name+" may read "+m.readWords(r))
	}
	if len(parts) == 0 {
		parts = append(parts, m.Name+" may read nothing")
	}
	if len(m.Writes) > 0 {
		parts = append(parts, "It keeps its results in "+list(m.Writes))
	}
	parts = append(parts, "It has no network: nothing leaves your locker")
	if o.Price != nil {
		parts = append(parts, "It costs "+o.Price.String())
	}
	parts = append(parts, "Permission ends after "+o.span().words())
	return strings.Join(parts, ". ") + "."
}

// readWords is "time, amount and payee of your transactions of the last 90 days, to …".
func (m *Manifest) readWords(r Request) string {
	s := fmt.Sprintf("%s of your %s", list(r.Fields), r.Collection)
	if r.Window != "" {
		if d, err := parseSpan(r.Window); err == nil {
			s += " of the last " + strings.TrimPrefix(d.words(), "1 ")
		}
	}
	var why []string
	for _, p := range r.Purpose {
		if p, ok := findPurpose(p); ok {
			why = append(why, p.words)
		}
	}
	return s + ", to " + list(why)
}

// String is the price in words, such as "4.99 EUR every 1 month".
func (p *Price) String() string {
	if p == nil {
		return ""
	}
	s := p.Amount + " " + p.Currency
	d, err := parseSpan(p.Per)
	switch {
	case err != nil:
		return s + " once"
	case d == span{months: 1}:
		return s + " a month"
	case d == span{years: 1}:
		return s + " a year"
	}
	return s + " every " + d.words()
}

// list joins words as a sentence does.
func list(words []string) string {
	switch n := len(words); n {
	case 0:
		return "nothing"
	case 1:
		return words[0]
	default:
		return strings.Join(words[:n-1], ", ") + " and " + words[n-1]
	}
}
