package crypto

import (
	"cmp"
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
)

// A card is what a device shows of itself: its name and public keys, with a
// signature by its own key. It is the form of a request to be admitted.
//
// It is kept short, so that an admission fits into the smallest object: the
// recipient in its raw form, the device's id not at all since it follows from the
// key, and the locker in what the proof covers.
type card struct {
	Version   int               `json:"v"`
	Name      string            `json:"name"`
	Key       ed25519.PublicKey `json:"key"`
	Recipient []byte            `json:"recipient"`
	Proof     []byte            `json:"proof"`

	Device string `json:"-"` // the id, set by check
}

// newCard makes this device's card.
func (k *Keyring) newCard(name string) card {
	key := k.sign.Public().(ed25519.PublicKey)
	c := card{
		Version: 1, Name: name, Key: key, Recipient: recipientBytes(k.identity.Recipient()),
		Device: deviceID(key),
	}
	c.Proof = ed25519.Sign(k.sign, k.message("device", c.proven()))
	return c
}

// proven is what a card's proof covers, beside the locker.
func (c *card) proven() []byte {
	out := append([]byte(c.Name), 0)
	out = append(out, c.Key...)
	return append(out, c.Recipient...)
}

// check says what is wrong with a card that came from elsewhere, and sets its
// device.
func (k *Keyring) check(c *card) error {
	switch {
	case c.Version != 1:
		return fmt.Errorf("version %d is not known here", c.Version)
	case len(c.Key) != ed25519.PublicKeySize:
		return errors.New("its key is damaged")
	}
	if err := checkName(c.Name); err != nil {
		return err
	}
	if _, err := recipientFrom(c.Recipient); err != nil {
		return errors.New("its recipient is damaged")
	}
	if !ed25519.Verify(c.Key, k.message("device", c.proven()), c.Proof) {
		return errors.New("the proof that the device holds its key is wrong, or it is meant for another locker")
	}
	c.Device = deviceID(c.Key)
	return nil
}

// A Pin says how far the log of a removed device counts: up to entry Number, whose
// id is ID. Clock is the greatest clock of that device's own revisions up to there.
// It is the same type as the replica's.
type Pin = struct {
	Number uint64 `json:"number"`
	ID     string `json:"id"`
	Clock  uint64 `json:"clock"`
}

// comparePins orders pins: the higher counts.
func comparePins(p, q Pin) int {
	for _, c := range [2][2]uint64{{p.Number, q.Number}, {p.Clock, q.Clock}} {
		if c[0] != c[1] {
			if c[0] < c[1] {
				return -1
			}
			return 1
		}
	}
	return slices.Compare([]byte(p.ID), []byte(q.ID))
}

func validPin(p Pin) bool {
	return p.Number <= maxNumber && (isHexID(p.ID) || p.Number == 0 && p.ID == "")
}

// A removal is the part of a payload that removes a device.
type removal struct {
	Device string `json:"device"`
	Pin
	Void []string `json:"void,omitempty"` // sorted ids of statements by Device; the phrase alone may
}

// A statement is the payload of a door or member object: it admits a device or
// removes one, and names the newest statements that its writer had seen.
type statement struct {
	Version int          `json:"v"`
	Admit   *card        `json:"admit,omitempty"`
	Remove  *removal     `json:"remove,omitempty"`
	Replace *replacement `json:"replace,omitempty"`
	Phrase  string       `json:"phrase,omitempty"` // doors: which phrase says so, unless the first
	Tips    []string     `json:"tips,omitempty"`   // sorted
}

const (
	maxNumber = 1<<53 - 1 // what every JSON reader takes exactly
	maxMember = 1024      // member objects of one device: far above what an owner does
)

// parseStatement reads and checks a payload.
func (k *Keyring) parseStatement(kind string, payload []byte) (*statement, error) {
	var s statement
	if err := unmarshalExact(payload, &s); err != nil {
		return nil, err
	}
	if s.Version != 1 {
		return nil, bad("version %d is not known here", s.Version)
	}
	if !hexIDs(s.Tips) || s.Remove != nil && !hexIDs(s.Remove.Void) {
		return nil, bad("what it names are no sorted ids")
	}
	said := 0
	for _, is := range []bool{s.Admit != nil, s.Remove != nil, s.Replace != nil} {
		if is {
			said++
		}
	}
	switch {
	case said != 1:
		return nil, bad("it does not either admit or remove one device, or replace a phrase")
	case s.Phrase != "" && (kind != "door" || !isDevice(s.Phrase) || s.Phrase == k.first):
		return nil, bad("it says of which phrase it is, and cannot be")
	case s.Replace != nil:
		if err := k.checkReplacement(s.Replace); err != nil {
			return nil, bad("replacement: %v", err)
		}
	case s.Admit != nil:
		if err := k.check(s.Admit); err != nil {
			return nil, bad("admission: %v", err)
		}
	case len(s.Remove.Void) > 0 && kind != "door":
		return nil, bad("removal: the phrase alone may declare others void")
	case !isDevice(s.Remove.Device) || !validPin(s.Remove.Pin):
		return nil, bad("removal: its device or its pin is damaged")
	}
	return &s, nil
}

// Request returns what this device shows to a member that is to admit it: its name
// and public keys, with a proof that it holds them. It is no secret, but whoever
// admits it must be sure that it comes from the device that the owner means.
func (k *Keyring) Request() []byte { return marshalExact(&k.self) }

// Door is the payload of this device's own door: its admission by the phrase, to
// be sealed as Ref{"door", "phrase", number, ""}. It fails unless the keyring
// holds the phrase.
func (k *Keyring) Door(number uint64) ([]byte, error) {
	if err := k.mayDoor("make a door"); err != nil {
		return nil, err
	}
	return marshalExact(&statement{Version: 1, Admit: &k.self, Phrase: k.doorPhrase(), Tips: k.Tips()}), nil
}

// Admit is the payload of a member object that admits the device which made a
// request. This device has to be a member.
func (k *Keyring) Admit(request []byte) ([]byte, error) {
	var c card
	if err := unmarshalExact(request, &c); err != nil {
		return nil, fmt.Errorf("request: %w", err)
	}
	if err := k.check(&c); err != nil {
		return nil, fmt.Errorf("request: %w", err)
	}
	if !k.isMember(k.self.Device) {
		return nil, errors.New("this device is no member, so it cannot admit another")
	}
	if k.isMember(c.Device) {
		return nil, fmt.Errorf("device %s is a member already", c.Device)
	}
	return marshalExact(&statement{Version: 1, Admit: &c, Tips: k.Tips()}), nil
}

// Remove is the payload of a member object that removes a device, with the pin up
// to which its log counts. This device has to be a member. A device that is senior
// to this one, and removed it without having seen this removal, wins; [Keyring.Evict]
// always does. The owner must revoke the removed device's login to the remotes
// too: with it, objects can be deleted.
func (k *Keyring) Remove(device string, pin Pin) ([]byte, error) {
	if !k.isMember(k.self.Device) {
		return nil, errors.New("this device is no member, so it cannot remove another")
	}
	return k.removal(removal{Device: device, Pin: pin}, "")
}

// Evict is the payload of a door that removes a device with the phrase's word, to
// be sealed as Ref{"door", "phrase", number, ""} with the next free number. Nobody
// is senior to the phrase: what the device says of members that this keyring has
// not seen does not count any more. What it has seen counts, but for what the
// device said of the devices in undo: whom it removed is back, whom it admitted is
// out.
func (k *Keyring) Evict(device string, pin Pin, undo ...string) ([]byte, error) {
	if err := k.mayDoor("evict a device"); err != nil {
		return nil, err
	}
	var void []string
	k.mu.RLock()
	for _, n := range k.members.order {
		if n.counts && n.writer == device && n.replace == nil && slices.Contains(undo, n.about()) {
			void = append(void, n.id)
		}
	}
	k.mu.RUnlock()
	slices.Sort(void)
	return k.removal(removal{device, pin, void}, k.doorPhrase())
}

func (k *Keyring) removal(r removal, by string) ([]byte, error) {
	k.mu.RLock()
	known := k.verdict.ever(r.Device)
	k.mu.RUnlock()
	if !known {
		return nil, fmt.Errorf("device %q is not known here; see the list of devices", r.Device)
	}
	if !validPin(r.Pin) {
		return nil, fmt.Errorf("the pin of %s has no entry id", r.Device)
	}
	return marshalExact(&statement{Version: 1, Remove: &r, Phrase: by, Tips: k.Tips()}), nil
}

// Members are the devices that count as members now, sorted, this one included if
// it does.
func (k *Keyring) Members() []string {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return slices.Clone(k.verdict.sorted)
}

// Seniority are the members, the most senior first: the order in which they win
// when they remove each other unawares.
func (k *Keyring) Seniority() []string {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return slices.Clone(k.verdict.senior)
}

// Removed are the devices that were admitted once and do not count as members now,
// each with the highest entry number that still counts: that of its pin, and zero
// where its admission itself is void.
func (k *Keyring) Removed() map[string]uint64 {
	k.mu.RLock()
	defer k.mu.RUnlock()
	out := make(map[string]uint64, len(k.verdict.removed))
	for d, pin := range k.verdict.removed {
		out[d] = pin.Number
	}
	return out
}

// PinOf returns the pin of a removed device, and false for any other.
func (k *Keyring) PinOf(device string) (Pin, bool) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	pin, ok := k.verdict.removed[device]
	return pin, ok
}

// RemovedBy tells who removed a device that is no member any more, and the id of the
// statement: of several, that which sets the pin. Both are empty where nobody did and
// the device's admission is void.
func (k *Keyring) RemovedBy(device string) (by, statement string) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if r := k.verdict.removals[device]; r != nil {
		return r.writer, r.id
	}
	return "", ""
}

// AdmittedBy tells who admitted a device, most lately where it was more than once,
// and the id of the statement. Both are empty for a device that nobody admitted.
func (k *Keyring) AdmittedBy(device string) (by, statement string) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if a := k.members.lastAdmission(device); a != nil {
		return a.writer, a.id
	}
	return "", ""
}

// Tips are the ids of the membership objects that no other one names, sorted.
func (k *Keyring) Tips() []string {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.members.tips()
}

// Missing are the ids of membership objects that others name and that were not
// absorbed: until they are, who is a member is not known for good.
func (k *Keyring) Missing() []string {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.members.missing()
}

func (k *Keyring) isMember(device string) bool {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.verdict.is(device)
}

// Absorb takes the payload (decompressed frames) of an object that Open accepted
// into the keyring: a door, a member object or an epoch. It reports whether the
// set of members or of known epochs changed. Neither the order of calls nor their
// repetition matters.
func (k *Keyring) Absorb(r Ref, id string, log, payload []byte) (changed bool, err error) {
	if err := checkRef(r); err != nil {
		return false, err
	}
	if !isHexID(id) {
		return false, bad("%q is no object's id", id)
	}
	switch r.Kind {
	case "door", "member":
		s, err := k.parseStatement(r.Kind, payload)
		if err != nil {
			return false, fmt.Errorf("%s %s/%d: %w", r.Kind, r.Writer, r.Number, err)
		}
		return k.absorbStatement(r, id, s)
	case "epoch":
		changed, err := k.absorbEpoch(r, payload)
		if err != nil {
			return false, fmt.Errorf("epoch %s/%d: %w", r.Writer, r.Number, err)
		}
		return changed, nil
	}
	return false, bad("%s objects have nothing for the keyring", r.Kind)
}

func (k *Keyring) absorbStatement(r Ref, id string, s *statement) (changed bool, err error) {
	n := &node{id: id, writer: r.Writer, number: r.Number, admit: s.Admit, remove: s.Remove, replace: s.Replace, tips: s.Tips}
	if s.Replace != nil {
		if n.recovery, err = recipientFrom(s.Replace.Recovery); err != nil {
			return false, bad("replacement: %v", err)
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if r.Kind == "door" {
		n.phrase = cmp.Or(s.Phrase, k.first)
		if by, ok := k.doors[id]; ok && by != n.phrase {
			return false, bad("door %d: it says that it is of another phrase than that which signed it", r.Number)
		}
	}
	if s.Admit != nil {
		k.keys[s.Admit.Device] = s.Admit.Key
	}
	if !k.members.add(n) {
		return false, nil
	}
	before := k.verdict
	k.rejudge()
	return !before.equal(k.verdict), nil
}

// isHexID says whether s is a SHA-256 in lower-case hex.
func isHexID(s string) bool {
	if len(s) != 64 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// hexIDs says whether list is a sorted list of different ids.
func hexIDs(list []string) bool {
	for i, id := range list {
		if !isHexID(id) || i > 0 && list[i-1] >= id {
			return false
		}
	}
	return true
}
