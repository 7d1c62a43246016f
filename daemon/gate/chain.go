package gate

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/locker-project/locker/plugins/locker"
)

// A chain is this device's part of a log that all devices write. Each link is a
// record of the log's collection that is never changed:
//
//	id      DEVICE/NUMBER, the number in 16 hexadecimal digits, counted from 1
//	time    when the link was made, never earlier than the link before
//	fields  {"link": TEXT, "signature": BASE64}
//
// TEXT is a JSON object {"log","device","number","time","previous","body"}, and
// previous the SHA-256 of the TEXT of the link before, empty in the first. The
// signature is by the device, over TEXT.
//
// The number and hash that were last reached are kept in a note on this device as
// well, now and then, so that a chain that was cut at its end is noticed.
type chain struct {
	gate *Gate
	log  string

	mu     sync.Mutex
	number uint64 // of the last link
	hash   string // of the last link
	noted  uint64
}

// A link is one step of a chain.
type link struct {
	Log      string          `json:"log"`
	Device   string          `json:"device"`
	Number   uint64          `json:"number"`
	Time     time.Time       `json:"time"`
	Previous string          `json:"previous"`
	Body     json.RawMessage `json:"body"`

	hash string
	bad  string // why it cannot be believed
}

// A head is the note on where a chain was.
type head struct {
	Number uint64 `json:"number"`
	Hash   string `json:"hash"`
}

const (
	linkContext = "locker gate link v1"
	noteEvery   = 64 // links
)

func linkID(device string, number uint64) string { return fmt.Sprintf("%s/%016x", device, number) }

func hashText(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// openChain finds the end of this device's chain.
func openChain(ctx context.Context, g *Gate, log string) (*chain, error) {
	c := &chain{gate: g, log: log}
	h, err := c.readNote(ctx)
	if err != nil {
		return nil, err
	}
	c.number, c.hash, c.noted = h.Number, h.Hash, h.Number
	if c.number > 0 {
		c.number-- // read the noted link again, for its time
	}
	view := g.Store.View(system)
	for {
		r, err := view.Get(ctx, log, linkID(g.Device, c.number+1))
		if errors.Is(err, locker.ErrNotFound) {
			c.number = max(c.number, h.Number)
			return c, nil
		}
		if err != nil {
			return nil, err
		}
		l, _ := readLink(r)
		c.number++
		if l.hash != "" && c.number >= h.Number {
			c.hash = l.hash
		}
		g.time.saw(l.Time)
	}
}

func (c *chain) noteKey() string { return "gate/head/" + c.log }

func (c *chain) readNote(ctx context.Context) (h head, err error) {
	raw, err := c.gate.Store.Note(ctx, c.noteKey())
	if err != nil || raw == nil {
		return h, err
	}
	if err := json.Unmarshal(raw, &h); err != nil {
		return head{}, fmt.Errorf("the note on the end of %s is damaged: %w", c.log, err)
	}
	return h, nil
}

// append adds a link, durably, and returns its time.
func (c *chain) append(ctx context.Context, body any) (time.Time, error) {
	raw, err := json.Marshal(body)
	if err != nil {
		return time.Time{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	l := link{Log: c.log, Device: c.gate.Device, Number: c.number + 1, Time: c.gate.time.Now().UTC(), Previous: c.hash, Body: raw}
	text, err := json.Marshal(l)
	if err != nil {
		return time.Time{}, err
	}
	fields, err := json.Marshal(sealed{Link: string(text), Signature: c.gate.Sign(linkContext, text)})
	if err != nil {
		return time.Time{}, err
	}
	if _, err := c.gate.Store.Write(ctx, system, locker.Record{Collection: c.log, ID: linkID(l.Device, l.Number), Time: l.Time, Fields: fields}); err != nil {
		return time.Time{}, err
	}
	c.number, c.hash = l.Number, hashText(string(text))
	if c.noted == 0 || c.number >= c.noted+noteEvery {
		c.note(ctx)
	}
	return l.Time, nil
}

// note remembers the end of the chain. Without it the chain is as good, but a cut
// of its end might not be noticed; so a failure is logged and no more.
func (c *chain) note(ctx context.Context) {
	raw, err := json.Marshal(head{c.number, c.hash})
	if err == nil {
		err = c.gate.Store.SetNotes(ctx, map[string][]byte{c.noteKey(): raw})
	}
	if err != nil {
		c.gate.Logger.Warn("cannot note the end of a log", "log", c.log, "error", err)
		return
	}
	c.noted = c.number
}

// A sealed is the fields of a link's record.
type sealed struct {
	Link      string `json:"link"`
	Signature []byte `json:"signature"`
}

// readLink reads a link's record without judging it.
func readLink(r locker.Record) (link, sealed) {
	var s sealed
	l := link{bad: "it cannot be read"}
	if r.Decode(&s) != nil || json.Unmarshal([]byte(s.Link), &l) != nil {
		return l, s
	}
	l.hash, l.bad = hashText(s.Link), ""
	return l, s
}

// checkLink reads a link's record and says in its bad field why it cannot be believed.
func (g *Gate) checkLink(r locker.Record, verified map[string]bool) link {
	l, s := readLink(r)
	if l.bad != "" {
		return l
	}
	switch {
	case l.Log != r.Collection || linkID(l.Device, l.Number) != r.ID:
		l.bad = "it is not in its place"
	case verified[l.hash+string(s.Signature)]:
	default:
		if err := g.Verify(l.Device, linkContext, []byte(s.Link), s.Signature); err != nil {
			l.bad = fmt.Sprintf("its signature is not good: %v", err)
		} else if verified != nil {
			verified[l.hash+string(s.Signature)] = true
		}
	}
	return l
}

// A Break is the first place at which a chain cannot be believed.
type Break struct {
	Log    string // "_grants" or "_audit"
	Device string
	Number uint64
	Why    string
}

func (b Break) String() string {
	return fmt.Sprintf("%s of device %s, link %d: %s", b.Log, b.Device, b.Number, b.Why)
}

// VerifyChains checks the grant log and the audit log of all devices: signatures,
// and that no link is missing, changed or added. It returns how many links there
// are, and for each chain that is broken its first broken link.
//
// A chain of another device that has not arrived whole shows as broken where the
// links are missing, until they come.
func (g *Gate) VerifyChains(ctx context.Context) (links int, broken []Break, err error) {
	for _, c := range []*chain{g.grants, g.audit.chain} {
		n, b, err := g.verifyChain(ctx, c)
		if err != nil {
			return links, broken, fmt.Errorf("%s: %w", c.log, err)
		}
		links, broken = links+n, append(broken, b...)
	}
	return links, broken, nil
}

func (g *Gate) verifyChain(ctx context.Context, c *chain) (links int, broken []Break, err error) {
	noted, err := c.readNote(ctx)
	if err != nil {
		return 0, nil, err
	}
	chains := map[string][]link{}
	for r, err := range g.Store.View(system).Query(ctx, locker.Query{Collection: c.log}) {
		if err != nil {
			return 0, nil, err
		}
		l := g.checkLink(r, nil)
		l.Body = nil
		if l.bad != "" { // its own words are not to be trusted
			l.Device, l.Number = splitLinkID(r.ID)
		}
		chains[l.Device] = append(chains[l.Device], l)
		links++
	}
	if noted.Number > 0 && chains[g.Device] == nil {
		broken = append(broken, Break{c.log, g.Device, 1, "it is missing"})
	}
	for device, chain := range chains {
		h := head{}
		if device == g.Device {
			h = noted
		}
		if b := firstBreak(chain, h); b != nil {
			broken = append(broken, Break{c.log, device, b.Number, b.Why})
		}
	}
	slices.SortFunc(broken, func(a, b Break) int { return cmp.Compare(a.Device, b.Device) })
	return links, broken, nil
}

// splitLinkID reads the id of a link's record.
func splitLinkID(id string) (device string, number uint64) {
	if n := len(id) - 17; n >= 0 && id[n] == '/' {
		if _, err := fmt.Sscanf(id[n+1:], "%016x", &number); err == nil {
			return id[:n], number
		}
	}
	return id, 0
}

// firstBreak checks the links of one device. noted is what this device remembers of
// its own chain.
func firstBreak(chain []link, noted head) *Break {
	slices.SortFunc(chain, func(a, b link) int { return cmp.Compare(a.Number, b.Number) })
	previous := ""
	for i, l := range chain {
		switch {
		case l.Number != uint64(i)+1:
			return &Break{Number: uint64(i) + 1, Why: "it is missing"}
		case l.bad != "":
			return &Break{Number: l.Number, Why: l.bad}
		case l.Previous != previous:
			return &Break{Number: l.Number, Why: "it does not follow the link before it"}
		case i > 0 && l.Time.Before(chain[i-1].Time):
			return &Break{Number: l.Number, Why: "it is earlier than the link before it"}
		case l.Number == noted.Number && l.hash != noted.Hash:
			return &Break{Number: l.Number, Why: "it is not the link that this device made"}
		}
		previous = l.hash
	}
	if n := uint64(len(chain)); n < noted.Number {
		return &Break{Number: n + 1, Why: "it is missing"}
	}
	return nil
}
