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
// whose own object, by its maker, was absorbed has recipients and can be sealed to;
// one that came along in another's object opens what was sealed to it.
type epoch struct {
	maker      string
	number     uint64
	text       string // its identity
	identity   *age.HybridIdentity
	recipient  *age.HybridRecipient
	recipients []string // sorted; nil: not known from its maker
}

func (e *epoch) name() string { return epochName(e.maker, e.number) }

func epochName(maker string, number uint64) string {
	return maker + "/" + strconv.FormatUint(number, 10)
}

// epochPayload is the payload of an epoch object.
type epochPayload struct {
	Version    int         `json:"v"`
	Recipients []string    `json:"recipients"` // devices, sorted; the phrase is always one
	Identity   string      `json:"identity"`   // AGE-SECRET-KEY-PQ-1…
	Earlier    []earlierOf `json:"earlier,omitempty"`
}

// earlierOf is another epoch that an epoch's maker knew.
type earlierOf struct {
	Maker    string `json:"maker"`
	Number   uint64 `json:"number"`
	Identity string `json:"identity"`
}

// maxEpoch bounds the epochs of one maker, and with it the work of trying them.
const maxEpoch = 1024

// NeedsEpoch says that this device, being a member, should make an epoch: there is
// none that it may seal to, or the best one leaves out a member.
func (k *Keyring) NeedsEpoch() bool {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if !k.verdict.is(k.self.Device) {
		return false
	}
	return k.current == nil || !slices.Equal(k.current.recipients, k.verdict.sorted)
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
	number = k.lastMade
	for _, e := range k.epochs {
		p.Earlier = append(p.Earlier, earlierOf{e.maker, e.number, e.text})
		if e.maker == k.self.Device {
			number = max(number, e.number)
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
	if !slices.IsSorted(p.Recipients) || !slices.Contains(p.Recipients, r.Writer) ||
		slices.ContainsFunc(p.Recipients, func(d string) bool { return !isDevice(d) }) {
		return false, bad("its recipients are no sorted list of devices with its maker among them")
	}
	found := make([]*epoch, 0, 1+len(p.Earlier))
	e, err := parseEpoch(r.Writer, r.Number, p.Identity)
	if err != nil {
		return false, err
	}
	e.recipients = p.Recipients
	found = append(found, e)
	for _, x := range p.Earlier {
		if k.knowsEpoch(x) {
			continue
		}
		e, err := parseEpoch(x.Maker, x.Number, x.Identity)
		if err != nil {
			return false, err
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

// knowsEpoch saves the work of parsing an identity again.
func (k *Keyring) knowsEpoch(x earlierOf) bool {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return slices.ContainsFunc(k.epochs, func(e *epoch) bool {
		return e.text == x.Identity && e.maker == x.Maker && e.number == x.Number
	})
}

func parseEpoch(maker string, number uint64, text string) (*epoch, error) {
	if !isDevice(maker) || number == 0 || number > maxEpoch {
		return nil, bad("an epoch's maker or number is damaged")
	}
	identity, err := age.ParseHybridIdentity(text)
	if err != nil || identity.String() != text {
		return nil, bad("the identity of epoch %s is damaged", epochName(maker, number))
	}
	return &epoch{maker: maker, number: number, text: text, identity: identity, recipient: identity.Recipient()}, nil
}

// addEpoch adds e to what is known, and says whether that was new.
func (k *Keyring) addEpoch(e *epoch) bool {
	for i, old := range k.epochs {
		if old.text != e.text || old.maker != e.maker || old.number != e.number {
			continue
		}
		all := slices.Concat(old.recipients, e.recipients)
		slices.Sort(all)
		all = slices.Compact(all)
		if slices.Equal(all, old.recipients) {
			return false
		}
		// Objects are being opened with the old one: it is not changed but replaced.
		next := *old
		next.recipients = all
		k.epochs[i] = &next
		return true
	}
	k.epochs = append(k.epochs, e)
	return true
}

// choose picks the epoch to seal to: one whose recipients, its maker among them,
// are all members. One for exactly the members is preferred, then the highest
// number; the rest makes the choice the same everywhere.
func (k *Keyring) choose() {
	k.current = nil
	exact := func(e *epoch) int {
		if slices.Equal(e.recipients, k.verdict.sorted) {
			return 1
		}
		return 0
	}
	for _, e := range k.epochs {
		if e.recipients == nil || !k.verdict.is(e.maker) ||
			slices.ContainsFunc(e.recipients, func(d string) bool { return !k.verdict.is(d) }) {
			continue
		}
		if k.current == nil || cmp.Or(cmp.Compare(exact(e), exact(k.current)), cmp.Compare(e.number, k.current.number),
			cmp.Compare(e.maker, k.current.maker), cmp.Compare(e.text, k.current.text)) > 0 {
			k.current = e
		}
	}
}
