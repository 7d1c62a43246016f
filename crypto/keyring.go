package crypto

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"unicode"
	"unicode/utf8"

	"filippo.io/age"
)

// A Ref names one object of the protocol: its kind, who wrote it, the
// how-manieth of that kind it is, and, for an epoch, whom it is for. It is the
// same type as the replica's.
type Ref = struct {
	Kind   string // "door", "member", "epoch", "mark", "entry", "run", "base", "pack"
	Writer string // device id, or "phrase" for a door
	Number uint64
	To     string // epoch only: device id, or "phrase"
}

// phrase stands where a device id would, for the recovery phrase.
const phrase = "phrase"

// A Keyring holds the keys of one device of one locker, and what it knows of the
// locker's members and epochs. Its methods may be called concurrently.
//
// [Found], [Recover], [Join] and [Load] make one. What a Keyring knows of members
// and epochs is in memory alone: whoever loads it calls Absorb again with every
// door, member and epoch object that it keeps.
type Keyring struct {
	locker  string
	nameKey []byte
	root    ed25519.PublicKey // the first phrase's
	recover *age.HybridRecipient
	first   string              // its id
	door    *age.HybridIdentity // seals doors; from the name key

	sign     ed25519.PrivateKey
	identity *age.HybridIdentity
	seed     []byte // of identity
	self     card

	mu       sync.RWMutex
	holds    *phraseKeys                  // nil unless the phrase is held
	keys     map[string]ed25519.PublicKey // of every device ever heard of
	invited  []ed25519.PublicKey          // of which those that the invitation named
	accepted []string                     // phrases, see replace.go
	refused  []string                     // sorted
	guests   func() []string              // sorted: devices that an offered phrase would make members
	phrases  phrases
	doors    map[string]string // ids of doors that were opened, and the phrases that signed them
	members  graph
	verdict  verdict // over members
	epochs   []*epoch
	current  *epoch // nil: none to seal to
	lastMade uint64 // highest number that NewEpoch gave out
	lastUsed map[string]*epoch
}

// phraseKeys are the secret keys that come from the phrase alone.
type phraseKeys struct {
	root    ed25519.PrivateKey
	recover *age.HybridIdentity
}

func phraseKeysFrom(seed Seed) *phraseKeys {
	return &phraseKeys{
		root:    ed25519.NewKeyFromSeed(derive(seed[:], "root key", ed25519.SeedSize)),
		recover: identityFrom(derive(seed[:], "recovery identity", 32)),
	}
}

// Found begins a new locker with a seed that no locker has yet. The keyring is of
// its first device, called name, and holds the phrase until [Keyring.Forget]. The
// device is a member once its door, number 0, is absorbed.
func Found(seed Seed, name string) (*Keyring, error) { return Recover(seed, name) }

// Recover makes the keyring of a new device, called name, for the locker of a
// phrase; it holds the phrase until [Keyring.Forget]. The device is a member once
// its door is absorbed.
func Recover(seed Seed, name string) (*Keyring, error) {
	holds := phraseKeysFrom(seed)
	return newKeyring(secrets{
		Locker:  lowerBase32(derive(seed[:], "locker id", 16)),
		NameKey: derive(seed[:], "name key", 32),
		Root:    holds.root.Public().(ed25519.PublicKey),
		Recover: recipientBytes(holds.recover.Recipient()),
	}.fresh(name), holds)
}

// Join makes the keyring of a new device, called name, from another device's
// [Keyring.Invite]. It becomes a member when that device admits its
// [Keyring.Request].
func Join(invite []byte, name string) (*Keyring, error) {
	var s secrets
	if err := unmarshalExact(invite, &s); err != nil {
		return nil, fmt.Errorf("invitation: %w", err)
	}
	if len(s.Sign) != 0 || len(s.Identity) != 0 || s.Name != "" {
		return nil, errors.New("invitation: it holds a device's own keys; use one that Invite made")
	}
	return newKeyring(s.fresh(name), nil)
}

// Load reads what [Keyring.Secret] wrote. The keyring does not hold the phrase.
func Load(secret []byte) (*Keyring, error) {
	var s secrets
	if err := unmarshalExact(secret, &s); err != nil {
		return nil, fmt.Errorf("device keys: %w", err)
	}
	k, err := newKeyring(s, nil)
	if err != nil {
		return nil, fmt.Errorf("device keys: %w", err)
	}
	return k, nil
}

// secrets is the form of a device file, and without the device's own keys of an
// invitation.
type secrets struct {
	Version  int                 `json:"v"`
	Locker   string              `json:"locker"`
	NameKey  []byte              `json:"name_key"`
	Root     ed25519.PublicKey   `json:"root"`
	Recover  []byte              `json:"recovery"`
	Keys     []ed25519.PublicKey `json:"keys,omitempty"`
	Phrases  []string            `json:"phrases,omitempty"` // accepted replacements of the phrase
	Sign     []byte              `json:"sign,omitempty"`
	Identity []byte              `json:"identity,omitempty"`
	Name     string              `json:"name,omitempty"`
}

// fresh gives s the keys of a new device.
func (s secrets) fresh(name string) secrets {
	s.Version, s.Name = 1, name
	s.Sign, s.Identity = make([]byte, ed25519.SeedSize), make([]byte, 32)
	rand.Read(s.Sign)
	rand.Read(s.Identity)
	return s
}

func newKeyring(s secrets, holds *phraseKeys) (*Keyring, error) {
	switch {
	case s.Version != 1:
		return nil, fmt.Errorf("version %d is not known here; a newer Locker may read it", s.Version)
	case !isID(s.Locker, 26) || len(s.NameKey) != 32 || len(s.Root) != ed25519.PublicKeySize:
		return nil, errors.New("the locker's keys are damaged")
	case len(s.Sign) != ed25519.SeedSize || len(s.Identity) != 32:
		return nil, errors.New("the device's keys are damaged")
	}
	if err := checkName(s.Name); err != nil {
		return nil, err
	}
	recover, err := recipientFrom(s.Recover)
	if err != nil {
		return nil, errors.New("the phrase's recipient is damaged")
	}
	k := &Keyring{
		locker: s.Locker, nameKey: s.NameKey, root: s.Root, recover: recover,
		door:     identityFrom(derive(s.NameKey, "door identity", 32)),
		sign:     ed25519.NewKeyFromSeed(s.Sign),
		identity: identityFrom(s.Identity),
		seed:     s.Identity,
		holds:    holds,
		keys:     map[string]ed25519.PublicKey{},
		invited:  s.Keys,
		first:    phraseID(s.Root),
		accepted: s.Phrases,
		doors:    map[string]string{},
		lastUsed: map[string]*epoch{},
	}
	for _, id := range s.Phrases {
		if !isDevice(id) {
			return nil, errors.New("the id of a phrase is damaged")
		}
	}
	k.phrases = phrases{known: map[string]rootKeys{k.first: {k.root, k.recover}}, chain: []string{k.first}}
	k.members = newGraph(k.phrases)
	k.verdict.phrase = k.first
	k.guests = func() []string { return nil }
	k.self = k.newCard(s.Name)
	k.keys[k.self.Device] = k.self.Key
	for _, key := range s.Keys {
		if len(key) != ed25519.PublicKeySize {
			return nil, errors.New("a member's key is damaged")
		}
		k.keys[deviceID(key)] = key
	}
	return k, nil
}

// Secret returns what [Load] needs: the locker's id and name key, the phrase's
// public half, and the device's keys and name. It is secret.
func (k *Keyring) Secret() []byte {
	s := k.shared()
	s.Keys = k.invited
	s.Sign, s.Identity, s.Name = k.sign.Seed(), k.seed, k.self.Name
	return marshalExact(s)
}

// Invite returns what another device needs for [Join]. It is secret: it must
// reach that device by a way that nobody else reads or changes, as a code on the
// screen does.
func (k *Keyring) Invite() []byte {
	s := k.shared()
	s.Keys = k.memberKeys()
	return marshalExact(s)
}

// memberKeys are the public keys of the members, this device's first and the others
// by seniority.
func (k *Keyring) memberKeys() []ed25519.PublicKey {
	k.mu.RLock()
	defer k.mu.RUnlock()
	var keys []ed25519.PublicKey
	if k.verdict.is(k.self.Device) {
		keys = append(keys, k.self.Key)
	}
	for _, d := range k.verdict.senior {
		if d != k.self.Device {
			keys = append(keys, k.keys[d])
		}
	}
	return keys
}

func (k *Keyring) shared() secrets {
	return secrets{
		Version: 1, Locker: k.locker, NameKey: k.nameKey, Root: k.root, Recover: recipientBytes(k.recover), Phrases: k.AcceptedPhrases(),
	}
}

// Invited are the devices that the invitation named by which this one came: the one
// that made it first. There are none where it came by the phrase.
func (k *Keyring) Invited() []string {
	var out []string
	for _, key := range k.invited {
		out = append(out, deviceID(key))
	}
	return out
}

// String says which device and locker the keyring is of, and none of its keys.
func (k *Keyring) String() string { return "keyring of " + k.self.Device + " in " + k.locker }

// GoString is like String.
func (k *Keyring) GoString() string { return k.String() }

// Device is this device's id: 16 letters and digits.
func (k *Keyring) Device() string { return k.self.Device }

// Locker is the locker's id: 26 letters and digits.
func (k *Keyring) Locker() string { return k.locker }

// DeviceName is what the owner calls a device; empty where it is not known.
func (k *Keyring) DeviceName(id string) string {
	if id == k.self.Device {
		return k.self.Name
	}
	k.mu.RLock()
	defer k.mu.RUnlock()
	if c := k.verdict.cards[id]; c != nil {
		return c.Name
	}
	return ""
}

// Name is the name under which a remote keeps an object: a folder, "k/" or "d/",
// and 52 letters and digits that say nothing to whoever lacks the name key.
func (k *Keyring) Name(r Ref) string {
	mac := hmac.New(sha256.New, k.nameKey)
	msg := append([]byte(r.Kind), 0)
	msg = append(append(msg, r.Writer...), 0)
	msg = binary.BigEndian.AppendUint64(msg, r.Number)
	msg = append(append(msg, 0), r.To...)
	mac.Write(msg)
	folder := "d/"
	switch r.Kind {
	case "door", "member", "epoch", "mark":
		folder = "k/"
	case "phrase":
		if folder = "k/"; r.To != "" {
			return folder + r.To // it follows from another name key
		}
	}
	return folder + lowerBase32(mac.Sum(nil))
}

// CheckPhrase says whether seed is the locker's, and stands on this device.
func (k *Keyring) CheckPhrase(seed Seed) bool {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.phrases.known[k.phrases.standing()].root.Equal(phraseKeysFrom(seed).root.Public())
}

// Hold lets the keyring act for the phrase, until [Keyring.Forget]: make doors,
// remove devices with the phrase's word, open epochs that are for the phrase. The
// error is [ErrReplaced] where the phrase was replaced.
func (k *Keyring) Hold(seed Seed) error {
	keys := phraseKeysFrom(seed)
	id := phraseID(keys.root.Public().(ed25519.PublicKey))
	k.mu.Lock()
	defer k.mu.Unlock()
	switch _, known := k.phrases.known[id]; {
	case k.phrases.replaced(id):
		return ErrReplaced
	case !known && !slices.Contains(k.accepted, id):
		return errors.New("this recovery phrase is of another locker")
	case known && id != k.phrases.standing():
		return errors.New("this recovery phrase is not one that this device honours: accept it first")
	}
	k.holds = keys
	return nil
}

// Forget drops the phrase's secret keys.
func (k *Keyring) Forget() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.holds = nil
}

// BlobKey returns 32 bytes that are the same on all devices of the locker and
// known to them alone, for the ids of blobs.
func (k *Keyring) BlobKey() []byte { return derive(k.nameKey, "blob key", 32) }

// Sign signs msg with this device's key for one context, such as "grant": what is
// signed for one context, or in one locker, is not valid in another. A context
// holds no NUL byte.
func (k *Keyring) Sign(context string, msg []byte) []byte {
	return ed25519.Sign(k.sign, k.message("statement "+context, msg))
}

// Verify checks what Sign made on a device that is a member or once was one.
func (k *Keyring) Verify(device, context string, msg, sig []byte) error {
	k.mu.RLock()
	key, known := k.keys[device], device == k.self.Device || k.verdict.ever(device)
	k.mu.RUnlock()
	if !known {
		return &objectError{what: fmt.Sprintf("device %q is not known to have been a member", device), notYet: true}
	}
	if !ed25519.Verify(key, k.message("statement "+context, msg), sig) {
		return fmt.Errorf("the signature of %s is not by device %s", context, device)
	}
	return nil
}

// message is what a signature covers: a label, the locker, and the bytes.
func (k *Keyring) message(label string, msg []byte) []byte {
	out := make([]byte, 0, len("locker/1 ")+len(label)+len(k.locker)+len(msg)+2)
	out = append(append(append(out, "locker/1 "...), label...), 0)
	out = append(append(out, k.locker...), 0)
	return append(out, msg...)
}

// deviceID is the id of the device with a public key.
func deviceID(key ed25519.PublicKey) string {
	sum := sha256.Sum256(key)
	return lowerBase32(sum[:10])
}

const base32Charset = "abcdefghijklmnopqrstuvwxyz234567"

var base32Lower = base32.NewEncoding(base32Charset).WithPadding(base32.NoPadding)

func lowerBase32(b []byte) string { return base32Lower.EncodeToString(b) }

// isID says whether s is n characters of lower-case base32.
func isID(s string, n int) bool {
	if len(s) != n {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '2' || c > '7') {
			return false
		}
	}
	return true
}

func isDevice(s string) bool { return isID(s, 16) }

// checkName refuses names of devices that could garble what shows them.
func checkName(name string) error {
	if name == "" || len(name) > 64 || !utf8.ValidString(name) {
		return errors.New("a device's name has 1 to 64 bytes")
	}
	for _, r := range name {
		if !unicode.IsPrint(r) {
			return fmt.Errorf("a device's name has printable characters only, not %U", r)
		}
	}
	return nil
}

// marshalExact is the one JSON form of v: its fields in their order, no blanks, no
// escapes but those that JSON needs.
func marshalExact(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic("crypto: " + err.Error()) // our own structs
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// maxPayload bounds what is parsed as JSON.
const maxPayload = 1 << 20

// unmarshalExact reads what marshalExact wrote, and refuses every other form:
// what two readers could take differently does not exist.
func unmarshalExact[T any](data []byte, v *T) error {
	if len(data) > maxPayload {
		return fmt.Errorf("%d bytes are too many", len(data))
	}
	var form struct {
		Version int `json:"v"`
	}
	if err := json.Unmarshal(data, &form); err != nil {
		return errors.New("this is not its JSON form") // the parser's error may quote secrets
	}
	if form.Version > 1 {
		return newer(form.Version)
	}
	if err := json.Unmarshal(data, v); err != nil {
		return errors.New("this is not its JSON form")
	}
	if !bytes.Equal(marshalExact(v), data) {
		return errors.New("its JSON is not in the one exact form")
	}
	return nil
}
