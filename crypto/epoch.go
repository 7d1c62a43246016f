package crypto

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"filippo.io/age"
)

// An epoch is one generation of the key that objects are sealed to. Only an epoch
// whose own object, by its maker, was absorbed can be sealed to; one that came
// along in another's object opens what was sealed to it.
//
// Since an epoch is handed on with every later one, those who know it are its
// recipients and those of every epoch that carries it, devices and phrases. And a device that was
// removed may have got it in a way that is not known here, unless the epoch's maker
// knew of the removal. So both are kept, and both are looked at in fit. (Devices
// whose admission is void do not count as removed here: a thief that is out already
// could make such admissions without end, each a reason for a new epoch. If somebody
// was taken in and made an epoch for one, that epoch says so.)
type epoch struct {
	maker     string
	number    uint64
	text      string // its identity
	identity  *age.HybridIdentity
	recipient *age.HybridRecipient
	knowers   []string // sorted: all devices that are known to have it
	phrases   []string // sorted: the phrases, too
	own       bool     // its maker's own object is here
	removed   []string // if own: sorted, the removed devices that its maker knew
}

func (e *epoch) name() string { return epochName(e.maker, e.number) }

func epochName(maker string, number uint64) string {
	return maker + "/" + strconv.FormatUint(number, 10)
}

// epochPayload is the payload of an epoch object.
type epochPayload struct {
	Version    int         `json:"v"`
	Recipients []string    `json:"recipients"`        // devices, sorted; the phrase is always one
	Phrase     string      `json:"phrase,omitempty"`  // which, unless the first
	Removed    []string    `json:"removed,omitempty"` // devices that its maker knows to be removed, sorted
	Identity   string      `json:"identity"`          // AGE-SECRET-KEY-PQ-1…
	Earlier    []earlierOf `json:"earlier,omitempty"`
}

// earlierOf is another epoch that an epoch's maker knew.
type earlierOf struct {
	Maker    string `json:"maker"`
	Number   uint64 `json:"number"`
	Identity string `json:"identity"`
	// Phrases are those that are known to have it, but for the one that has this epoch.
	Phrases []string `json:"phrases,omitempty"`
}

// maxEpoch bounds the epochs of one maker, and with it the work of trying them.
const maxEpoch = 1024

// NeedsEpoch says that this device, being a member, should make an epoch: there is
// none that it may seal to, or there is one that a member, or the phrase that stands, is
// not known to have. That
// may be another than the best: of two devices that join at the same time, unseen by
// each other, one makes an epoch for all that does not hand on the other's.
func (k *Keyring) NeedsEpoch() bool {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if !k.verdict.is(k.self.Device) {
		return false
	}
	if k.current == nil || k.lacks(k.current) {
		return true
	}
	return slices.ContainsFunc(k.epochs, func(e *epoch) bool {
		// What an offered phrase has is handed on by those who follow it.
		own := !slices.ContainsFunc(e.phrases, func(p string) bool { return !slices.Contains(k.phrases.chain, p) })
		return own && (k.lacks(e) || !slices.Contains(e.phrases, k.phrases.standing()))
	})
}

// lacks says whether a member is not known to have an epoch.
func (k *Keyring) lacks(e *epoch) bool {
	return slices.ContainsFunc(k.verdict.sorted, func(d string) bool {
		_, has := slices.BinarySearch(e.knowers, d)
		return !has
	})
}

// Epochs are the makers of the epochs that are known here, each with the highest
// number of one.
func (k *Keyring) Epochs() map[string]uint64 {
	k.mu.RLock()
	defer k.mu.RUnlock()
	out := map[string]uint64{}
	for _, e := range k.epochs {
		out[e.maker] = max(out[e.maker], e.number)
	}
	return out
}

// NewEpoch makes an epoch for the members as they are known now and the phrase. It
// returns a payload for each recipient, to be sealed as Ref{"epoch", this device,
// number, recipient}. It is sealed to once the one for this device is absorbed.
func (k *Keyring) NewEpoch() (number uint64, payloads map[string][]byte, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.verdict.is(k.self.Device) {
		return 0, nil, errors.New("this device is no member, so it cannot make an epoch")
	}
	identity, err := age.GenerateHybridIdentity()
	if err != nil {
		return 0, nil, err
	}
	p := epochPayload{Version: 1, Recipients: slices.Clone(k.verdict.sorted), Identity: identity.String()}
	p.Removed = slices.Clone(k.verdict.gone)
	if id := k.phrases.standing(); id != k.first {
		p.Phrase = id
	}
	has := cmp.Or(p.Phrase, k.first)
	number = k.lastMade
	for _, e := range k.epochs {
		own := e.maker == k.self.Device
		if own {
			number = max(number, e.number)
		}
		// What is for phrases alone that the owner refused here is not handed on: its
		// makers, who were told otherwise, would have to make another one.
		if own || slices.ContainsFunc(e.phrases, func(id string) bool { return !slices.Contains(k.refused, id) }) {
			p.Earlier = append(p.Earlier, earlierOf{e.maker, e.number, e.text, without(e.phrases, has)})
		}
	}
	number++
	if number > maxEpoch {
		return 0, nil, fmt.Errorf("this device has made %d epochs; remove it and join it anew", maxEpoch)
	}
	k.lastMade = number
	slices.SortFunc(p.Earlier, func(a, b earlierOf) int {
		return cmp.Or(cmp.Compare(a.Maker, b.Maker), cmp.Compare(a.Number, b.Number), cmp.Compare(a.Identity, b.Identity))
	})
	payload := marshalExact(&p)
	payloads = map[string][]byte{phrase: payload}
	for _, d := range p.Recipients {
		payloads[d] = payload
	}
	return number, payloads, nil
}

// absorbEpoch takes in an epoch object's payload.
func (k *Keyring) absorbEpoch(r Ref, payload []byte) (changed bool, err error) {
	var p epochPayload
	if err := unmarshalExact(payload, &p); err != nil {
		return false, err
	}
	if p.Version != 1 {
		return false, bad("version %d is not known here", p.Version)
	}
	if p.Phrase != "" && (!isDevice(p.Phrase) || p.Phrase == k.first) {
		return false, bad("the phrase that it is for is damaged")
	}
	if !devices(p.Recipients) || !devices(p.Removed) || !slices.Contains(p.Recipients, r.Writer) {
		return false, bad("its recipients are no sorted list of devices with its maker among them")
	}
	found := make([]*epoch, 0, 1+len(p.Earlier))
	has := cmp.Or(p.Phrase, k.first)
	for i, x := range append([]earlierOf{{r.Writer, r.Number, p.Identity, nil}}, p.Earlier...) {
		if !devices(x.Phrases) || slices.Contains(x.Phrases, has) {
			return false, bad("the phrases that have an earlier epoch are damaged")
		}
		e, err := k.parseEpoch(x)
		if err != nil {
			return false, err
		}
		e.knowers, e.phrases = p.Recipients, union(x.Phrases, []string{has})
		if i == 0 {
			e.own, e.removed = true, p.Removed
		}
		found = append(found, e)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, e := range found {
		changed = k.addEpoch(e) || changed
	}
	k.choose()
	return changed, nil
}

// devices says whether list is a sorted list of different device ids.
func devices(list []string) bool {
	for i, d := range list {
		if !isDevice(d) || i > 0 && list[i-1] >= d {
			return false
		}
	}
	return true
}

// parseEpoch reads one epoch, or takes its keys from what is known: parsing an
// identity is work.
func (k *Keyring) parseEpoch(x earlierOf) (*epoch, error) {
	e := &epoch{maker: x.Maker, number: x.Number, text: x.Identity}
	if !isDevice(e.maker) || e.number == 0 || e.number > maxEpoch {
		return nil, bad("an epoch's maker or number is damaged")
	}
	k.mu.RLock()
	i := slices.IndexFunc(k.epochs, e.same)
	if i >= 0 {
		e.identity, e.recipient = k.epochs[i].identity, k.epochs[i].recipient
	}
	k.mu.RUnlock()
	if i >= 0 {
		return e, nil
	}
	identity, err := age.ParseHybridIdentity(e.text)
	if err != nil || identity.String() != e.text {
		return nil, bad("the identity of epoch %s is damaged", e.name())
	}
	e.identity, e.recipient = identity, identity.Recipient()
	return e, nil
}

func (e *epoch) same(f *epoch) bool {
	return e.text == f.text && e.maker == f.maker && e.number == f.number
}

// addEpoch adds e to what is known, and says whether that was new. An epoch is not
// changed but replaced: Open may be using it.
func (k *Keyring) addEpoch(e *epoch) bool {
	i := slices.IndexFunc(k.epochs, e.same)
	if i < 0 {
		k.epochs = append(k.epochs, e)
		return true
	}
	old := k.epochs[i]
	next := *old
	next.knowers, next.phrases = union(old.knowers, e.knowers), union(old.phrases, e.phrases)
	switch {
	case !old.own:
		next.own, next.removed = e.own, e.removed
	case e.own: // told differently to different devices: what both say holds
		next.removed = slices.DeleteFunc(slices.Clone(old.removed), func(d string) bool { return !slices.Contains(e.removed, d) })
	}
	k.epochs[i] = &next
	return next.own != old.own || !slices.Equal(next.knowers, old.knowers) || !slices.Equal(next.phrases, old.phrases) || !slices.Equal(next.removed, old.removed)
}

// without is a list without one of its members.
func without(list []string, one string) (rest []string) {
	for _, s := range list {
		if s != one {
			rest = append(rest, s)
		}
	}
	return rest
}

func union(a, b []string) []string {
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}

// choose picks the epoch to seal to: one that members alone have, as far as is
// known, and whose maker, being one of them, knew of every removal. One that all
// members have is preferred, then the highest number; the rest makes the choice the
// same everywhere.
func (k *Keyring) choose() {
	k.current = nil
	all := func(e *epoch) int {
		if slices.Equal(e.knowers, k.verdict.sorted) {
			return 1
		}
		return 0
	}
	for _, e := range k.epochs {
		if !k.fit(e) {
			continue
		}
		if k.current == nil || cmp.Or(cmp.Compare(all(e), all(k.current)), cmp.Compare(e.number, k.current.number),
			cmp.Compare(e.maker, k.current.maker), cmp.Compare(e.text, k.current.text)) > 0 {
			k.current = e
		}
	}
}

// fit says whether e may be sealed to.
func (k *Keyring) fit(e *epoch) bool {
	if !e.own || !k.verdict.is(e.maker) {
		return false
	}
	if !slices.Contains(e.phrases, k.phrases.standing()) || slices.ContainsFunc(e.phrases, k.barred) {
		return false
	}
	for _, d := range e.knowers {
		if k.verdict.is(d) {
			continue
		}
		if _, guest := slices.BinarySearch(k.guests(), d); !guest {
			return false
		}
	}
	for _, d := range k.verdict.gone {
		if _, knew := slices.BinarySearch(e.removed, d); !knew {
			return false
		}
	}
	return true
}
