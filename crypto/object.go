package crypto

import (
	"bytes"
	"cmp"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"filippo.io/age"
)

// MaxObject is the size of the largest object that Seal makes and Open takes.
const MaxObject = 32 << 20

const (
	magicHeader  = 0x184d2a50 // of the skippable zstd frame with the signed header
	magicPadding = 0x184d2a51 // of the one with the padding
	frameHead    = 8          // magic and length
	maxHeader    = 1 << 20
	doorEpoch    = "door" // what a door is sealed to, as its header says it
)

// A header is the signed header of an object.
type header struct {
	Version int             `json:"v"`
	Locker  string          `json:"locker"`
	Kind    string          `json:"kind"`
	Writer  string          `json:"writer"`
	Number  uint64          `json:"number"`
	To      string          `json:"to"`
	Epoch   string          `json:"epoch"`
	Log     json.RawMessage `json:"log"`
	Length  int64           `json:"length"`
	SHA256  string          `json:"sha256"`
}

// append appends the header's one JSON form. Its strings are ids, and need no
// escapes.
func (h *header) append(b []byte) []byte {
	text := func(key, value string) {
		b = append(b, `,"`+key+`":"`+value+`"`...)
	}
	b = append(b, `{"v":`...)
	b = strconv.AppendInt(b, int64(h.Version), 10)
	text("locker", h.Locker)
	text("kind", h.Kind)
	text("writer", h.Writer)
	b = append(b, `,"number":`...)
	b = strconv.AppendUint(b, h.Number, 10)
	if h.To != "" {
		text("to", h.To)
	}
	text("epoch", h.Epoch)
	b = append(append(b, `,"log":`...), h.Log...)
	b = append(b, `,"length":`...)
	b = strconv.AppendInt(b, h.Length, 10)
	text("sha256", h.SHA256)
	return append(b, '}')
}

// parseHeader reads a header in its one form.
func parseHeader(b []byte) (*header, error) {
	var h header
	if err := json.Unmarshal(b, &h); err != nil {
		return nil, bad("its header is no JSON")
	}
	if h.Version > 1 {
		return &h, nil
	}
	if h.Version != 1 {
		return nil, bad("its header has no version")
	}
	if len(h.Log) == 0 || h.Log[0] != '{' {
		return nil, bad("its header has no log")
	}
	if !bytes.Equal(h.append(make([]byte, 0, len(b))), b) {
		return nil, bad("its header is not in the one exact form")
	}
	return &h, nil
}

// checkRef refuses what no object can be.
func checkRef(r Ref) error {
	writer, to := isDevice(r.Writer), r.To == ""
	low, high := uint64(0), uint64(maxNumber)
	switch r.Kind {
	case "door":
		writer = r.Writer == phrase
	case "member":
		high = maxMember
	case "epoch":
		to = isDevice(r.To) || r.To == phrase
		low, high = 1, maxEpoch
	case "phrase":
		writer, to, high = r.Writer == phrase, isID(r.To, 52), 0
	case "mark", "entry", "run", "base", "pack":
	default:
		return bad("%q is no kind of object", r.Kind)
	}
	switch {
	case !writer:
		return bad("%q cannot write a %s", r.Writer, r.Kind)
	case r.Number < low || r.Number > high:
		return bad("%s %s: number %d is out of bounds", r.Kind, r.Writer, r.Number)
	case !to:
		return bad("%s %s/%d: %q cannot be whom it is for", r.Kind, r.Writer, r.Number, r.To)
	}
	return nil
}

// Seal makes the object r: an age file with one recipient, which holds the signed
// header, the frames as they are, and padding. log is a JSON object that is signed
// with the header (nil stands for an empty one); frames are zstd frames, and may be
// empty. The id is SHA-256 of the signed header, in hex.
//
// A door is sealed to a key that every device and the phrase have, an epoch to the
// one whom it is for, everything else to the epoch that suits the members as they
// are known now. Sealing the same thing twice makes two different objects with
// the same id.
func (k *Keyring) Seal(r Ref, log, frames []byte) (object []byte, id string, err error) {
	if err := checkRef(r); err != nil {
		return nil, "", err
	}
	signer, recipient, epoch, err := k.sealTo(r)
	if err != nil {
		return nil, "", fmt.Errorf("seal %s %s/%d: %w", r.Kind, r.Writer, r.Number, err)
	}
	if log, err = compactObject(log); err != nil {
		return nil, "", fmt.Errorf("seal %s %s/%d: %w", r.Kind, r.Writer, r.Number, err)
	}
	sum := sha256.Sum256(frames)
	h := header{
		Version: 1, Locker: k.locker, Kind: r.Kind, Writer: r.Writer, Number: r.Number, To: r.To,
		Epoch: epoch, Log: log, Length: int64(len(frames)), SHA256: hex.EncodeToString(sum[:]),
	}
	if r.Kind == "door" {
		h.To = k.doorPhrase()
	}
	signed := h.append(nil)
	if len(signed) > maxHeader {
		return nil, "", fmt.Errorf("seal %s %s/%d: its header has %d bytes, more than %d", r.Kind, r.Writer, r.Number, len(signed), maxHeader)
	}
	front := make([]byte, 0, frameHead+len(signed)+ed25519.SignatureSize)
	front = appendFrameHead(front, magicHeader, len(signed)+ed25519.SignatureSize)
	front = append(front, signed...)
	front = append(front, ed25519.Sign(signer, k.message("object", signed))...)
	object, err = encrypt(recipient, front, frames)
	if err != nil {
		return nil, "", fmt.Errorf("seal %s %s/%d: %w", r.Kind, r.Writer, r.Number, err)
	}
	return object, headerID(signed), nil
}

func headerID(signed []byte) string {
	sum := sha256.Sum256(signed)
	return hex.EncodeToString(sum[:])
}

// compactObject returns a JSON object without blanks.
func compactObject(log []byte) (json.RawMessage, error) {
	if len(log) == 0 {
		return json.RawMessage("{}"), nil
	}
	var b bytes.Buffer
	if err := json.Compact(&b, log); err != nil {
		return nil, fmt.Errorf("its log is no JSON: %w", err)
	}
	if b.Bytes()[0] != '{' {
		return nil, errors.New("its log is no JSON object")
	}
	return b.Bytes(), nil
}

// sealTo says who signs r, to whom it is sealed, and how its header calls that.
func (k *Keyring) sealTo(r Ref) (ed25519.PrivateKey, age.Recipient, string, error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if r.Kind == "door" || r.Kind == "phrase" {
		if k.holds == nil {
			return nil, nil, "", errors.New("the recovery phrase is needed to make a door")
		}
		if r.Kind == "phrase" {
			return k.holds.root, k.recover, phrase, nil
		}
		if err := k.holdsStanding(); err != nil {
			return nil, nil, "", err
		}
		return k.holds.root, k.door.Recipient(), doorEpoch, nil
	}
	if r.Writer != k.self.Device {
		return nil, nil, "", errors.New("a device seals its own objects only")
	}
	switch {
	case r.Kind == "epoch" && r.To == phrase:
		return k.sign, k.phrases.known[k.phrases.standing()].recover, r.To, nil
	case r.Kind == "epoch":
		c := k.verdict.cards[r.To]
		if c == nil || !k.verdict.is(r.To) {
			return nil, nil, "", fmt.Errorf("device %s is no member", r.To)
		}
		recipient, err := recipientFrom(c.Recipient)
		return k.sign, recipient, r.To, err
	case k.current == nil:
		return nil, nil, "", errors.New("there is no epoch for the members as they are; make one first")
	}
	return k.sign, k.current.recipient, k.current.name(), nil
}

// Open checks that object is r and nothing else, and returns the log and the frames
// that it was sealed with. It looks at size, stanza, recipient, format, locker,
// kind, writer, number, epoch, signature and payload hash, in this order, and
// decompresses nothing.
//
// An error with a method NotYet() bool that returns true says that the object may
// be good, but its epoch or its writer is not known yet; one whose method Newer()
// bool returns true, that it is of a later version of the format. Any other error
// says that it is bad.
func (k *Keyring) Open(r Ref, object []byte) (log, frames []byte, id string, err error) {
	if err := checkRef(r); err != nil {
		return nil, nil, "", err
	}
	log, frames, id, err = k.open(r, object)
	if err != nil {
		return nil, nil, "", fmt.Errorf("%s %s/%d: %w", r.Kind, r.Writer, r.Number, err)
	}
	return log, frames, id, nil
}

func (k *Keyring) open(r Ref, object []byte) (log, frames []byte, id string, err error) {
	keys, err := k.openWith(r)
	if err != nil {
		return nil, nil, "", err
	}
	plain, key, err := decrypt(object, keys)
	if err != nil {
		return nil, nil, "", err
	}
	signed, signature, rest, err := splitHeader(plain)
	if err != nil {
		return nil, nil, "", err
	}
	h, err := k.checkHeader(r, signed, signature, key.name)
	if err != nil {
		return nil, nil, "", err
	}
	if frames, err = splitFrames(rest, h); err != nil {
		return nil, nil, "", err
	}
	if len(object) != sealedSize(len(plain)-len(rest)+len(frames)) {
		return nil, nil, "", bad("it is not padded as it should be")
	}
	switch id = headerID(signed); r.Kind {
	case "door":
		k.mu.Lock()
		k.doors[id] = cmp.Or(h.To, k.first)
		k.mu.Unlock()
	case "epoch", "phrase":
	default:
		k.remember(r.Writer, key)
	}
	return h.Log, frames, id, nil
}

// checkHeader reads a signed header of an object that was sealed to an epoch, and
// checks that it is r's.
func (k *Keyring) checkHeader(r Ref, signed, signature []byte, epoch string) (*header, error) {
	h, err := parseHeader(signed)
	if err != nil {
		return nil, err
	}
	if h.Version == 1 {
		if err := k.match(h, r, epoch); err != nil {
			return nil, err
		}
	}
	by := r.Writer
	if r.Kind == "door" && h.Version == 1 {
		by = cmp.Or(h.To, k.first)
	}
	if err := k.checkSigned(r, by, signed, signature); err != nil {
		return nil, err
	}
	if h.Version != 1 {
		return nil, newer(h.Version)
	}
	return h, nil
}

// match compares what a header says with what was asked for.
func (k *Keyring) match(h *header, r Ref, epoch string) error {
	switch {
	case h.Locker != k.locker:
		return bad("it is of another locker")
	case h.Kind != r.Kind:
		return bad("it is another kind of object")
	case h.Writer != r.Writer:
		return bad("it is another writer's")
	case h.Number != r.Number:
		return bad("it has another number")
	case h.To != r.To && (r.Kind != "door" || !isDevice(h.To) || h.To == k.first): // a door says which phrase it is of
		return bad("it is for somebody else")
	case h.Epoch != epoch:
		return bad("its header names another epoch than the one it is sealed to")
	}
	return nil
}

// checkSigned checks that r's writer signed a header: by, for a door, is the phrase
// that it says made it.
func (k *Keyring) checkSigned(r Ref, by string, signed, signature []byte) error {
	key := k.root
	if r.Kind == "door" && isDevice(by) {
		k.mu.RLock()
		keys, known := k.phrases.known[by]
		k.mu.RUnlock()
		if !known {
			return notYet("the phrase that made it is not known yet")
		}
		key = keys.root
	} else if r.Writer != phrase {
		k.mu.RLock()
		key = k.keys[r.Writer]
		// What a member object says is judged with all others when it is absorbed.
		// A device that joins needs an epoch before it can read who is a member.
		known := r.Writer == k.self.Device || k.verdict.ever(r.Writer) || r.Kind == "member" ||
			r.Kind == "epoch" && slices.ContainsFunc(k.invited, func(i ed25519.PublicKey) bool { return i.Equal(key) })
		k.mu.RUnlock()
		if key == nil || !known {
			return notYet("its writer is not known yet")
		}
	}
	if !ed25519.Verify(key, k.message("object", signed), signature) {
		return bad("its signature is wrong")
	}
	return nil
}

// A namedKey is an identity and what a header calls it.
type namedKey struct {
	name     string
	identity *age.HybridIdentity
	epoch    *epoch
}

// openWith lists the identities that r may be sealed to, the likeliest first.
func (k *Keyring) openWith(r Ref) ([]namedKey, error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	switch {
	case r.Kind == "door":
		return []namedKey{{name: doorEpoch, identity: k.door}}, nil
	case r.Kind == "phrase" && k.holds != nil:
		return []namedKey{{name: phrase, identity: k.holds.recover}}, nil
	case r.Kind == "phrase":
		return nil, notYet("only the phrase that it is for can open it")
	case r.Kind == "epoch" && r.To == k.self.Device:
		return []namedKey{{name: r.To, identity: k.identity}}, nil
	case r.Kind == "epoch" && r.To == phrase && k.holds != nil:
		return []namedKey{{name: r.To, identity: k.holds.recover}}, nil
	case r.Kind == "epoch":
		return nil, notYet("only its recipient can open it")
	}
	keys := make([]namedKey, 0, len(k.epochs)+1)
	for _, e := range k.epochs {
		keys = append(keys, namedKey{e.name(), e.identity, e})
	}
	slices.Reverse(keys)
	for _, likely := range []*epoch{k.current, k.lastUsed[r.Writer]} {
		if i := slices.IndexFunc(keys, func(n namedKey) bool { return n.epoch == likely }); i > 0 {
			likely := keys[i]
			copy(keys[1:i+1], keys[:i])
			keys[0] = likely
		}
	}
	return keys, nil
}

// remember notes which epoch a writer used: its next object is likely sealed to it.
func (k *Keyring) remember(writer string, key namedKey) {
	k.mu.RLock()
	same := k.lastUsed[writer] == key.epoch
	k.mu.RUnlock()
	if same {
		return
	}
	k.mu.Lock()
	k.lastUsed[writer] = key.epoch
	k.mu.Unlock()
}

func appendFrameHead(b []byte, magic uint32, length int) []byte {
	b = binary.LittleEndian.AppendUint32(b, magic)
	return binary.LittleEndian.AppendUint32(b, uint32(length))
}

// cutFrame splits the skippable frame with a magic number off b.
func cutFrame(b []byte, magic uint32) (content, rest []byte, ok bool) {
	if len(b) < frameHead || binary.LittleEndian.Uint32(b) != magic {
		return nil, nil, false
	}
	n := int64(binary.LittleEndian.Uint32(b[4:]))
	if n > int64(len(b)-frameHead) {
		return nil, nil, false
	}
	return b[frameHead : frameHead+n], b[frameHead+n:], true
}

// splitHeader splits the signed header and its signature off a plaintext.
func splitHeader(plain []byte) (signed, signature, rest []byte, err error) {
	content, rest, ok := cutFrame(plain, magicHeader)
	n := len(content) - ed25519.SignatureSize
	if !ok || n < 2 || n > maxHeader {
		return nil, nil, nil, bad("it does not begin with a signed header")
	}
	return content[:n], content[n:], rest, nil
}

// splitFrames splits what follows the header into payload and padding, and checks both.
func splitFrames(rest []byte, h *header) (frames []byte, err error) {
	if h.Length < 0 || h.Length > int64(len(rest)) {
		return nil, bad("its payload is shorter than its header says")
	}
	frames, rest = rest[:h.Length:h.Length], rest[h.Length:]
	padding, rest, ok := cutFrame(rest, magicPadding)
	if !ok || len(rest) != 0 {
		return nil, bad("its payload does not end where its header says")
	}
	if !allZero(padding) {
		return nil, bad("its padding is not empty")
	}
	if sum := sha256.Sum256(frames); hex.EncodeToString(sum[:]) != h.SHA256 {
		return nil, bad("its payload is not the one that was signed")
	}
	return frames, nil
}

func allZero(b []byte) bool {
	var all byte
	for _, c := range b {
		all |= c
	}
	return all == 0
}
