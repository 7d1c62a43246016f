// Package contacts reads address books: vCard files of versions 2.1, 3.0 and 4.0,
// as phones, mail programs and directories write them. Start with [New].
//
// The id of a contact is its UID where the card has one, so that the same person
// keeps it in every export of one address book. A card without UID gets the hash
// of its name, e-mail addresses and telephone numbers, each without what differs
// between programs (case, spaces, punctuation of numbers) and sorted; a second
// card of a file with the same hash but other content gets "-2" behind it.
//
// It reads lines by itself and not with emersion/go-vcard, which leaves out lines
// that it cannot read without a word and does not know quoted-printable, charsets
// and the unfolded photos of version 2.1; its tests compare the two where both
// can read.
package contacts

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/locker-project/locker/plugins"
	"github.com/locker-project/locker/plugins/connectors/internal/batch"
	"github.com/locker-project/locker/plugins/connectors/internal/charset"
)

// New returns the connector. It holds no state.
func New() plugins.Connector { return connector{} }

type connector struct{}

func (connector) Recognise(ctx context.Context, f plugins.File) (int, error) {
	head := make([]byte, min(f.Size(), 4096))
	n, err := f.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return 0, err
	}
	set := charset.Guess(head[:n], "")
	text, err := io.ReadAll(set.Reader(bytes.NewReader(head[:n]), int64(n)))
	if err != nil {
		return 0, err
	}
	l := newLexer(bytes.NewReader(text))
	first, err := l.next()
	if err != nil || !begins(first) {
		return 0, nil
	}
	return 95, nil
}

func begins(p *property) bool { return isCard(p, "BEGIN") }

func isCard(p *property, name string) bool {
	return p.name == name && strings.EqualFold(strings.TrimSpace(string(p.value)), "VCARD")
}

func (connector) Parse(ctx context.Context, f plugins.File, out plugins.Sink) error {
	r, err := reader(f)
	if err != nil {
		return err
	}
	p := &parser{ctx: ctx, lex: newLexer(r), out: out, batch: batch.New(ctx, out), seen: make(map[string][sha256.Size]byte)}
	if err := p.run(); err != nil {
		return err
	}
	return p.batch.Flush()
}

// reader returns the bytes of the cards. Only UTF-16 is decoded here: in other
// files each value may have an encoding of its own.
func reader(f plugins.File) (io.Reader, error) {
	head := make([]byte, min(f.Size(), 4096))
	n, err := f.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return nil, err
	}
	set := charset.Guess(head[:n], "")
	if strings.HasPrefix(set.String(), "utf-") {
		return set.Reader(f, f.Size()), nil
	}
	return io.NewSectionReader(f, 0, f.Size()), nil
}

// A parser makes a contact of each card of a file.
type parser struct {
	ctx   context.Context
	lex   *lexer
	out   plugins.Sink
	batch *batch.Writer
	cards int
	seen  map[string][sha256.Size]byte // the content of each id
	twice int
}

func (p *parser) run() error {
	for {
		if err := p.ctx.Err(); err != nil {
			return err
		}
		first, err := p.lex.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if !begins(first) {
			return &plugins.FileError{At: at(first.line), Why: fmt.Sprintf("a card must begin with BEGIN:VCARD, not with %q", shorten(string(first.value), first.name))}
		}
		for first != nil {
			if first, err = p.card(first); err != nil {
				return err
			}
		}
	}
	if p.twice > 0 {
		batch.Note(p.out, "%d cards were in the file twice and taken once", p.twice)
	}
	return nil
}

func at(line int) string { return "line " + strconv.Itoa(line) }

func shorten(s ...string) string {
	all := strings.TrimSpace(strings.Join(s, " "))
	if runes := []rune(strings.ToValidUTF8(all, "?")); len(runes) > 40 {
		return string(runes[:40]) + "…"
	}
	return strings.ToValidUTF8(all, "?")
}

// card reads the card that first begins, and puts it. It returns the beginning
// of the next card where this one had no end.
func (p *parser) card(first *property) (next *property, err error) {
	p.cards++
	c, next, err := p.read(first, 0)
	if err == io.EOF {
		return nil, &plugins.FileError{At: at(first.line), Why: "the file ends within this card: it was cut off; export it again"}
	}
	if err != nil {
		return nil, err
	}
	if c.problem == "" {
		c.problem, err = p.put(c)
	}
	if err != nil {
		return nil, err
	}
	if c.problem != "" {
		p.out.Fail(fmt.Sprintf("card %d, line %d", p.cards, first.line), c.problem)
	}
	return next, nil
}

// A card is what lies between BEGIN and END.
type card struct {
	line       int
	version    string
	properties []*property
	problem    string // why it cannot be taken
}

// read reads the rest of a card. next is set where another begins before this
// one ends.
func (p *parser) read(first *property, depth int) (c *card, next *property, err error) {
	c = &card{line: first.line}
	p.lex.old = false
	for {
		prop, err := p.lex.next()
		if err != nil {
			return nil, nil, err
		}
		switch {
		case isCard(prop, "END"):
			return c, nil, nil
		case c.agentBegins(prop) && depth < maxDepth:
			agent, next, err := p.read(prop, depth+1)
			if err != nil || next != nil {
				return c, next, err
			}
			p.lex.old = c.version == "2.1"
			c.properties[len(c.properties)-1].value = []byte(agent.formattedName())
		case begins(prop):
			c.problem = "has no END:VCARD before the next card begins"
			return c, prop, nil
		default:
			c.add(prop, p.lex)
		}
	}
}

// agentBegins says whether a card within this one begins: after the line AGENT:,
// or on it.
func (c *card) agentBegins(p *property) bool {
	if p.name == "AGENT" && strings.EqualFold(strings.TrimSpace(string(p.value)), "BEGIN:VCARD") {
		c.properties = append(c.properties, p)
		return true
	}
	n := len(c.properties)
	return begins(p) && n > 0 && c.properties[n-1].name == "AGENT" && len(c.properties[n-1].value) == 0
}

// add takes one property into the card. A line that is none belongs to the value
// before it: some programs break notes without folding them.
func (c *card) add(prop *property, l *lexer) {
	switch {
	case prop.long:
		c.problem = fmt.Sprintf("%s on line %d: %v", prop.name, prop.line, errLong)
	case prop.name == "VERSION":
		c.version = strings.TrimSpace(string(prop.value))
		l.old = c.version == "2.1"
	case prop.name == "" && len(c.properties) == 0:
		c.problem = fmt.Sprintf("line %d is no property of a card", prop.line)
	case prop.name == "":
		last := c.properties[len(c.properties)-1]
		if len(last.value)+len(prop.value) > maxLine {
			c.problem = fmt.Sprintf("%s on line %d: %v", last.name, last.line, errLong)
			return
		}
		last.value = append(append(last.value, '\n'), prop.value...)
	case len(c.properties) >= maxProperties:
		c.problem = fmt.Sprintf("has more than %d lines", maxProperties)
	default:
		c.properties = append(c.properties, prop)
	}
}

// put makes a record of a card. problem says why that cannot be.
func (p *parser) put(c *card) (problem string, err error) {
	con, problem, err := p.contact(c)
	if problem != "" || err != nil {
		return problem, err
	}
	if con.Name == "" && len(con.Email) == 0 && len(con.Telephone) == 0 {
		return "has neither a name nor an e-mail address nor a telephone number", nil
	}
	content, err := json.Marshal(con)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(content)
	id, free := con.id(), ""
	for n := 1; ; n++ {
		free = id
		if n > 1 {
			free = id + "-" + strconv.Itoa(n)
		}
		before, taken := p.seen[free]
		if !taken {
			break
		}
		if before == sum {
			p.twice++
			return "", nil
		}
	}
	p.seen[free] = sum
	var revised time.Time
	if con.Revised != "" {
		revised, _ = time.Parse(time.RFC3339, con.Revised) // it was written by format
	}
	return "", p.batch.Put("contacts", free, "", revised, con)
}

// id returns what the package comment promises.
func (c *contact) id() string {
	if c.UID != "" {
		uid := strings.TrimPrefix(strings.TrimSpace(c.UID), "urn:uuid:")
		if len(uid) <= 128 && strings.IndexFunc(uid, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }) < 0 {
			return uid
		}
		return "u-" + shortHash(uid)
	}
	var emails, phones []string
	for _, e := range c.Email {
		emails = append(emails, strings.ToLower(strings.TrimSpace(e.Address)))
	}
	for _, t := range c.Telephone {
		phones = append(phones, strings.Map(func(r rune) rune {
			if unicode.IsDigit(r) || r == '+' {
				return r
			}
			return -1
		}, t.Number))
	}
	slices.Sort(emails)
	slices.Sort(phones)
	name := strings.ToLower(strings.Join(strings.Fields(c.Name), " "))
	return "h-" + shortHash(name+"\x00"+strings.Join(emails, "\x01")+"\x00"+strings.Join(phones, "\x01"))
}

var alphabet = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

func shortHash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return alphabet.EncodeToString(sum[:15])
}
