package crypto

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"
)

// This file puts another recovery phrase in the place of one.
//
// The locker's id and name key stay those of its first phrase. What changes is whose
// signature doors have, and to whom epochs are sealed. A replacement is a statement,
// like an admission: a door where the phrase that goes signs it, else a member
// object. It names the phrase from which it leads, and the new one.
//
// Which phrase stands on a device follows from the statements and from what its
// owner said there. Beginning with the first phrase: of the replacements that lead
// on from it, that which the owner accepted last; where he accepted none, the one
// that the phrase itself signed, if there is one only; and so on from the phrase to
// which that one leads. What was once taken without asking counts as accepted from
// then on: a second replacement that the same phrase signed, unseen by the first,
// moves nothing by itself. Somebody else has the phrase then, or the owner replaced
// it twice; he is asked.
//
// What a phrase signed that was replaced counts as far as the replacement had seen
// it. So a sheet that is found later admits nobody. (Whoever has the phrase and the
// cloud before a device hears of the replacement can still be first with one of his
// own: a stolen phrase cannot be repaired by signatures. A new locker can.)
//
// An epoch may be sealed to only if the standing phrase has it, and no phrase that was
// replaced or refused. A device whose owner was not asked yet seals to epochs that its
// own phrase has, and bears that the offered phrase, and whom that admitted, have them
// too: they got them from a member, who can read everything anyway. So two devices of
// which one follows and the other does not yet come to rest.

// ErrReplaced says that a recovery phrase was replaced by another one.
var ErrReplaced = errors.New("this recovery phrase was replaced by another one: use that")

// A replacement is the part of a payload that replaces a phrase.
type replacement struct {
	From     ed25519.PublicKey `json:"from"`     // the root key of the phrase that goes
	Root     ed25519.PublicKey `json:"root"`     // that of the new one
	Recovery []byte            `json:"recovery"` // its recipient
	At       string            `json:"at"`       // where its object is, without the folder
	Sum      string            `json:"sum"`      // SHA-256 of that object
	Proof    []byte            `json:"proof"`    // by the new one
}

// proven is what a replacement's proof covers, beside the locker.
func (r *replacement) proven() []byte {
	return lvCat(r.From, r.Root, r.Recovery, []byte(r.At), []byte(r.Sum))
}

func (k *Keyring) checkReplacement(r *replacement) error {
	switch {
	case len(r.From) != ed25519.PublicKeySize || len(r.Root) != ed25519.PublicKeySize || r.From.Equal(r.Root):
		return errors.New("its keys are damaged")
	case !isID(r.At, 52) || !isHexID(r.Sum):
		return errors.New("what it says of the new phrase's object is damaged")
	}
	if _, err := recipientFrom(r.Recovery); err != nil {
		return errors.New("its recipient is damaged")
	}
	if !ed25519.Verify(r.Root, k.message("phrase", r.proven()), r.Proof) {
		return errors.New("the proof by the new phrase is wrong, or it is meant for another locker")
	}
	return nil
}

// phraseID is the id of the phrase with a root key.
func phraseID(root ed25519.PublicKey) string { return deviceID(root) }

// A rootKeys is the public half of a phrase.
type rootKeys struct {
	root    ed25519.PublicKey
	recover *age.HybridRecipient
}

// phrases are what is known of the locker's phrases. They are not changed but
// replaced.
type phrases struct {
	known map[string]rootKeys // by id
	// chain are the phrases that stood and, last, the one that stands. by has, for all
	// but the last, the replacements that lead to the next one.
	chain []string
	by    map[string][]*node
}

// standing is the phrase that stands.
func (p phrases) standing() string { return p.chain[len(p.chain)-1] }

// replaced says whether a phrase stood once, and does not any more.
func (p phrases) replaced(id string) bool {
	return slices.Contains(p.chain[:len(p.chain)-1], id)
}

// counts says whether a statement of a phrase is to be looked at.
func (p phrases) counts(n *node) bool { return slices.Contains(p.chain, n.phrase) }

// upheld says whether a statement of a phrase holds: that phrase stands, or what
// replaced it had seen the statement.
func (p phrases) upheld(n *node) bool {
	if n.phrase == p.standing() {
		return true
	}
	return slices.ContainsFunc(p.by[n.phrase], func(r *node) bool { return r == n || r.past.has(n.index) })
}

// follow finds which phrase stands, from what is known, accepted and not refused. It
// returns what is accepted then.
func (p phrases) follow(first string, nodes []*node, accepted, refused []string) (phrases, []string) {
	nodes = slices.DeleteFunc(slices.Clone(nodes), func(n *node) bool { return slices.Contains(refused, phraseID(n.replace.Root)) })
	p.chain, p.by = []string{first}, map[string][]*node{}
	for {
		next := p.next(nodes, accepted)
		if next == "" {
			return p, accepted
		}
		if !slices.Contains(accepted, next) { // below what the owner said himself
			accepted = slices.Concat([]string{next}, accepted)
		}
		at := p.standing()
		for _, n := range nodes {
			if n.leads(at, next) {
				p.by[at] = append(p.by[at], n)
			}
		}
		p.chain = append(p.chain, next)
	}
}

// next is the phrase in whose favour the standing one was replaced, or empty.
func (p phrases) next(nodes []*node, accepted []string) string {
	best, signed := -1, map[string]bool{}
	for _, n := range nodes {
		if phraseID(n.replace.From) != p.standing() || slices.Contains(p.chain, phraseID(n.replace.Root)) {
			continue
		}
		to := phraseID(n.replace.Root)
		best = max(best, slices.Index(accepted, to))
		if n.writer == phrase && n.phrase == p.standing() {
			signed[to] = true
		}
	}
	if best >= 0 {
		return accepted[best]
	}
	if len(signed) != 1 {
		return ""
	}
	for to := range signed {
		return to
	}
	return ""
}

// leads says whether n, a replacement, leads from one phrase to another.
func (n *node) leads(from, to string) bool {
	return phraseID(n.replace.From) == from && phraseID(n.replace.Root) == to
}

// Finders are the objects by which the phrases that stood, but the first, find the
// locker: the names, without their folder, and SHA-256 of the bytes.
func (k *Keyring) Finders() map[string]string {
	k.mu.RLock()
	defer k.mu.RUnlock()
	out := map[string]string{}
	for _, list := range k.phrases.by {
		for _, n := range list {
			out[n.replace.At] = n.replace.Sum
		}
	}
	return out
}

// A PhraseOffer is a replacement of the recovery phrase that waits for the owner's
// yes. It is the same type as the replica's.
type PhraseOffer = struct {
	ID        string // of the new phrase; the device that made it shows it
	By        string // the device that says so, or "phrase"
	Statement string // the id of the object
	// Conflict says that another phrase took the place already that this one wants:
	// two were made at once, or somebody else has the phrase that went.
	Conflict bool
}

// PendingPhrases are the replacements of the recovery phrase that this device does
// not honour, and that are not settled: the owner has to say whether they are his.
func (k *Keyring) PendingPhrases() []PhraseOffer {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return slices.DeleteFunc(slices.Clone(k.verdict.offers), func(o PhraseOffer) bool { return slices.Contains(k.refused, o.ID) })
}

// offers lists the replacements that hold and are not settled.
func (c *court) offers() (list []PhraseOffer) {
	memo := map[*node]bool{}
	for _, n := range c.replaces {
		from, to := phraseID(n.replace.From), phraseID(n.replace.Root)
		if !slices.Contains(c.phrases.chain, from) || slices.Contains(c.phrases.chain, to) || !c.upheldReplacement(n, memo) {
			continue
		}
		settled := slices.ContainsFunc(c.phrases.by[from], func(r *node) bool { return r.past.has(n.index) })
		if !settled && !slices.ContainsFunc(list, func(o PhraseOffer) bool { return o.ID == to }) {
			list = append(list, PhraseOffer{to, n.writer, n.id, from != c.phrases.standing() || n.writer == phrase})
		}
	}
	slices.SortFunc(list, func(a, b PhraseOffer) int { return slices.Compare([]byte(a.ID), []byte(b.ID)) })
	return list
}

// upheldReplacement says whether a replacement is to be shown to the owner. One that
// a replaced phrase signed behind the back of the other is, as a warning.
func (c *court) upheldReplacement(n *node, memo map[*node]bool) bool {
	if n.writer == phrase {
		return n.phrase == phraseID(n.replace.From)
	}
	return c.upheld(n, memo)
}

// Phrase is the id of the recovery phrase that stands on this device.
func (k *Keyring) Phrase() string {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.phrases.standing()
}

// AcceptedPhrases are the ids of the phrases that the owner said yes to on this
// device, or that came with the signature of the one before, in that order. Who loads
// the keyring says so again, with AcceptPhrase, before it absorbs anything.
func (k *Keyring) AcceptedPhrases() []string {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return slices.Clone(k.accepted)
}

// AcceptPhrase is the owner's yes, on this device, to a phrase that replaces another.
// Of several it is the last that counts, and those that wanted the same place are
// refused. It may be said before the replacement was absorbed.
func (k *Keyring) AcceptPhrase(id string) error {
	if !isDevice(id) {
		return fmt.Errorf("%q is no recovery phrase's id", id)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	isIt := func(other string) bool { return other == id }
	k.accepted = append(slices.DeleteFunc(slices.Clone(k.accepted), isIt), id)
	k.refused = slices.DeleteFunc(slices.Clone(k.refused), isIt)
	k.rejudge()
	for _, o := range k.verdict.offers {
		if o.Conflict && slices.Contains(k.phrases.chain, id) {
			k.refused = union(k.refused, []string{o.ID})
		}
	}
	k.rejudge()
	return nil
}

// RefusePhrase is the owner's no, also after a yes: the phrase is not offered any more,
// does not stand, and nothing is sealed so that it can be read with it.
func (k *Keyring) RefusePhrase(id string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !isDevice(id) || id == k.first {
		return fmt.Errorf("%q is no recovery phrase that can be refused", id)
	}
	k.accepted = slices.DeleteFunc(slices.Clone(k.accepted), func(a string) bool { return a == id })
	k.refused = union(k.refused, []string{id})
	k.rejudge()
	return nil
}

// RefusedPhrases are the ids of the phrases that the owner refused on this device. They
// are to be kept like [Keyring.AcceptedPhrases].
func (k *Keyring) RefusedPhrases() []string {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return slices.Clone(k.refused)
}

// rejudge finds which phrase stands, and judges everything by that.
func (k *Keyring) rejudge() {
	known := map[string]rootKeys{k.first: k.phrases.known[k.first]}
	var nodes []*node
	for _, n := range k.members.order {
		if n.replace == nil {
			continue
		}
		nodes = append(nodes, n)
		id := phraseID(n.replace.Root)
		if _, ok := known[id]; !ok && id != k.first {
			known[id] = rootKeys{n.replace.Root, n.recovery}
		}
	}
	next, accepted := phrases{known: known}.follow(k.first, nodes, k.accepted, k.refused)
	same := slices.Equal(next.chain, k.phrases.chain)
	for from, list := range next.by {
		same = same && len(list) == len(k.phrases.by[from])
	}
	k.phrases, k.accepted, k.members.phrases = next, accepted, next
	if !same { // what counts by its own past may be something else now
		k.members = k.members.again()
	}
	k.verdict = k.members.judge(nil)
	k.guests = sync.OnceValue(func() []string { return k.bear(nodes) })
	k.choose()
}

// maxBorne is how many phrases that do not stand are borne at once.
const maxBorne = 8

// bear finds whom the phrases would make members that do not stand here and were not
// refused.
func (k *Keyring) bear(replaces []*node) (guests []string) {
	borne := 0
	for _, id := range slices.Sorted(maps.Keys(k.phrases.known)) {
		path := k.path(id, replaces)
		if slices.Contains(k.phrases.chain, id) || path == nil || borne >= maxBorne {
			continue
		}
		borne++
		g := k.members
		g.phrases, _ = phrases{known: k.phrases.known}.follow(k.first, replaces, slices.Concat(k.accepted, path), k.refused)
		g = g.again()
		guests = union(guests, g.judge(nil).sorted)
	}
	return guests
}

// path are the phrases from the first one, which is not listed, to another, or nil
// where one of them was refused.
func (k *Keyring) path(id string, replaces []*node) (path []string) {
	for id != k.first {
		i := slices.IndexFunc(replaces, func(n *node) bool { return phraseID(n.replace.Root) == id })
		if i < 0 || slices.Contains(k.refused, id) || slices.Contains(path, id) {
			return nil
		}
		path = slices.Insert(path, 0, id)
		id = phraseID(replaces[i].replace.From)
	}
	return path
}

// barred says whether a phrase must not have what this device seals.
func (k *Keyring) barred(phrase string) bool {
	return k.phrases.replaced(phrase) || slices.Contains(k.refused, phrase)
}

// again is the graph of the same statements, judged anew by the phrases.
func (g *graph) again() graph {
	next := newGraph(g.phrases)
	fresh := func(list []*node) []*node {
		out := make([]*node, 0, len(list))
		for _, n := range list {
			m := *n
			next.byID[m.id] = &m
			out = append(out, &m)
		}
		return out
	}
	order := fresh(g.order)
	next.waiting = fresh(g.waiting)
	for _, list := range g.phrases.by {
		for i, n := range list {
			list[i] = next.byID[n.id]
		}
	}
	for _, n := range order {
		next.weigh(n)
		next.order = append(next.order, n)
	}
	return next
}

// A NewPhrase is all that puts another recovery phrase in the place of the one that
// stands. It is the same type as the replica's.
type NewPhrase = struct {
	// ID is for the owner, who sees it again on the other devices.
	ID string
	// Finder is the object by which the new phrase alone finds the locker, and At the
	// name under which a remote keeps it.
	Finder []byte
	At     string
	// Statement is the payload of a door, if Door, and else of a member object.
	Statement []byte
	Door      bool
}

// ReplacePhrase prepares that another phrase takes the place of the one that stands.
// Where the keyring holds that one, it signs, and other devices follow by themselves.
// Else this device says so, which has to be a member, and on each other device the
// owner is asked; this one honours it once [Keyring.AcceptPhrase] was called.
func (k *Keyring) ReplacePhrase(next Seed) (*NewPhrase, error) {
	keys := phraseKeysFrom(next)
	root := keys.root.Public().(ed25519.PublicKey)
	k.mu.RLock()
	from, chain, holds := k.phrases.known[k.phrases.standing()].root, k.phrases.chain, k.holds
	k.mu.RUnlock()
	switch {
	case slices.Contains(chain, phraseID(root)):
		return nil, errors.New("that is a phrase that this locker has, or had: make a new one")
	case holds == nil && !k.isMember(k.self.Device):
		return nil, errors.New("this device is no member, so it cannot replace the recovery phrase")
	case holds != nil && !from.Equal(holds.root.Public()):
		return nil, ErrReplaced
	}
	r := &replacement{From: from, Root: root, Recovery: recipientBytes(keys.recover.Recipient())}
	n := &NewPhrase{ID: phraseID(root), Door: holds != nil}
	var err error
	if n.Finder, r.At, err = k.finder(next, n.ID); err != nil {
		return nil, err
	}
	n.At = "k/" + r.At
	sum := sha256.Sum256(n.Finder)
	r.Sum = hex.EncodeToString(sum[:])
	r.Proof = ed25519.Sign(keys.root, k.message("phrase", r.proven()))
	s := &statement{Version: 1, Replace: r, Tips: k.Tips()}
	if n.Door {
		s.Phrase = k.doorPhrase()
	}
	n.Statement = marshalExact(s)
	return n, nil
}

// finder is the object that leads from a new phrase to this locker: of the locker that
// the phrase would found, and readable with it alone.
func (k *Keyring) finder(seed Seed, id string) (object []byte, at string, err error) {
	other, err := Recover(seed, "phrase")
	if err != nil {
		return nil, "", err
	}
	s := k.shared()
	s.Phrases = append(s.Phrases, id)
	z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, "", err
	}
	r := finderRef(other)
	object, _, err = other.Seal(r, nil, z.EncodeAll(marshalExact(s), nil))
	return object, r.To, errors.Join(err, z.Close())
}

// finderRef names the finder of the phrase of which a keyring was made.
func finderRef(other *Keyring) Ref {
	return Ref{"phrase", phrase, 0, other.Name(Ref{Kind: "phrase", Writer: phrase})[2:]}
}

// FinderName is the name under which a remote keeps the object by which a phrase that
// replaced another one finds its locker.
func FinderName(seed Seed) string {
	other, err := Recover(seed, "phrase")
	if err != nil {
		panic("crypto: " + err.Error()) // the name of the device is good
	}
	return "k/" + finderRef(other).To
}

// RecoverReplaced is [Recover] for a phrase that replaced another one, with the object
// of its [FinderName].
func RecoverReplaced(seed Seed, finder []byte, name string) (*Keyring, error) {
	other, err := Recover(seed, "phrase")
	if err != nil {
		return nil, err
	}
	_, frames, _, err := other.Open(finderRef(other), finder)
	if err != nil {
		return nil, err
	}
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxPayload))
	if err != nil {
		return nil, err
	}
	defer z.Close()
	payload, err := z.DecodeAll(frames, nil)
	if err != nil {
		return nil, bad("the new phrase's object is damaged")
	}
	var s secrets
	if err := unmarshalExact(payload, &s); err != nil {
		return nil, fmt.Errorf("the new phrase's object: %w", err)
	}
	if len(s.Sign) != 0 || len(s.Identity) != 0 || s.Name != "" || len(s.Phrases) == 0 {
		return nil, bad("the new phrase's object is not one that a device makes")
	}
	return newKeyring(s.fresh(name), phraseKeysFrom(seed))
}

// doorPhrase is what a door says of the phrase that makes it: nothing for the first.
func (k *Keyring) doorPhrase() string {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if id := k.phrases.standing(); id != k.first {
		return id
	}
	return ""
}

// mayDoor fails unless the keyring holds the phrase that stands.
func (k *Keyring) mayDoor(what string) error {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if k.holds == nil {
		return fmt.Errorf("the recovery phrase is needed to %s", what)
	}
	return k.holdsStanding()
}

// holdsStanding fails unless the phrase that is held is the one that stands.
func (k *Keyring) holdsStanding() error {
	id := phraseID(k.holds.root.Public().(ed25519.PublicKey))
	switch {
	case id == k.phrases.standing():
		return nil
	case !k.phrases.replaced(id) && slices.Contains(k.accepted, id):
		return errors.New("what put this recovery phrase in the place of the former one is not on the remote; try another remote, or again later")
	}
	return ErrReplaced
}
