package crypto

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"filippo.io/age"
	"golang.org/x/crypto/chacha20poly1305"
)

// This file is how a device joins by a code, in five messages. The inviter makes
// those with even numbers, the joiner the others:
//
//	0  sid, share, commitment to the locker and the inviter
//	1  share, commitment to the joiner; confirmation; [name, key, recipient]
//	2  SHA-256 of message 1; confirmation; [invitation, sealed to the recipient too]
//	3  [request: the card, with its proof for this locker]
//	4  [the number of the epoch that was made for the joiner]
//
// What stands in brackets is sealed with a key from the exchange. The password of
// the exchange is the code's secret, its context who is who and the meeting; the
// commitments are its associated data. So:
//
//   - Nobody who lacks the code can go on, nor learn anything from the messages but
//     whether one guess was right, against each of the two sides: a side that met a
//     wrong confirmation is through with that code.
//   - Nothing that is secret is sent before both confirmations. The invitation is
//     sealed to the joiner's hybrid recipient as well, which travels sealed: so it
//     stays secret from who records today and can compute discrete logarithms later.
//   - Both know the whole exchange is the same; the fingerprint shows it to the owner.

var (
	// ErrWrongCode says that the other side has not the same code: the owner typed
	// another, or somebody guesses. The code is used up.
	ErrWrongCode = errors.New("the code is not the one that was shown, or somebody else tried it; nothing was handed over, and that code does not work any more")
	// ErrTaken says that the invitation was answered by somebody else first.
	ErrTaken = errors.New("somebody else answered that invitation first; make a new one on the device that invites")
	// ErrCancelled says that the other side gave up.
	ErrCancelled = errors.New("it was cancelled on the other device")

	errOrder = errors.New("the messages of a meeting come in their order, each once")
)

const (
	meetSize  = 4096
	meetMagic = "locker/1 meet"
	refused   = 0xff // instead of a message: what stands in it is why
)

// Why a side refuses. It is not secret, and the cloud can say so itself: then
// nobody joins, which it can have by showing nothing.
const (
	refusedCode   = 1
	refusedCancel = 2
)

// packMeet makes a message: always of the same size, and such that a part of it is
// not taken for it.
func packMeet(n byte, fields ...[]byte) []byte {
	out := append([]byte(meetMagic), n, byte(len(fields)))
	for _, f := range fields {
		out = append(binary.BigEndian.AppendUint16(out, uint16(len(f))), f...)
	}
	if len(out) > meetSize-sha256.Size {
		panic("crypto: a message of a meeting is too long")
	}
	out = append(out, make([]byte, meetSize-sha256.Size-len(out))...)
	sum := sha256.Sum256(out)
	return append(out, sum[:]...)
}

// room is how many bytes fields of a message may have in all.
func room(fields int) int { return meetSize - sha256.Size - len(meetMagic) - 2 - 2*fields }

// unpackMeet reads message n with so many fields. What is not whole may still be
// on its way.
func unpackMeet(n byte, fields int, message []byte) ([][]byte, error) {
	if len(message) != meetSize || !bytes.HasPrefix(message, []byte(meetMagic)) {
		return nil, notYet("it is no whole message of a meeting")
	}
	body, sum := message[:meetSize-sha256.Size], message[meetSize-sha256.Size:]
	if want := sha256.Sum256(body); !bytes.Equal(want[:], sum) {
		return nil, notYet("it is no whole message of a meeting")
	}
	body = body[len(meetMagic):]
	kind, count := body[0], int(body[1])
	body = body[2:]
	var out [][]byte
	for range count {
		if len(body) < 2 {
			return nil, bad("a message of the meeting is damaged")
		}
		length := int(binary.BigEndian.Uint16(body))
		if length > len(body)-2 {
			return nil, bad("a message of the meeting is damaged")
		}
		out, body = append(out, body[2:2+length]), body[2+length:]
	}
	switch {
	case !allZero(body):
		return nil, bad("a message of the meeting is damaged")
	case kind == refused && count == 1 && len(out[0]) == 1:
		if out[0][0] == refusedCode {
			return nil, ErrWrongCode
		}
		return nil, ErrCancelled
	case kind != n || count != fields:
		return nil, bad("a message of the meeting is out of place")
	}
	return out, nil
}

// A meeting is what both sides have in common.
type meeting struct {
	code  Code
	run   *cpace
	other []byte // the commitment that the other side made
	isk   []byte
	next  int // the message that is expected, or made, next
}

// context is the CI of the exchange: what this is, and who is who.
func (c Code) context() []byte {
	return lvCat([]byte("locker/1 pair"), []byte("inviter"), []byte("joiner"), []byte(c.meeting))
}

func (c Code) run(sid, ad []byte) *cpace {
	return newCPace([]byte(c.secret), c.context(), sid, ad)
}

// Name is the name under which a remote keeps message n, of 0 to 4.
func (m *meeting) Name(n int) string { return m.code.meetName(n) }

// Fingerprint is for both screens: eight digits that are the same if both sides
// finished the same exchange. It is empty before they confirmed it.
func (m *meeting) Fingerprint() string {
	if m.isk == nil {
		return ""
	}
	n := binary.BigEndian.Uint64(derive(m.isk, "pair fingerprint", 8)) % 1e8
	return fmt.Sprintf("%04d %04d", n/1e4, n%1e4)
}

// Refuse is the message that tells the other side that this one gave up. It is put
// under the name of a message that this side would have made next.
func (m *meeting) Refuse() []byte { return packMeet(refused, []byte{refusedCancel}) }

// seal seals what one message holds, with a key for it alone.
func (m *meeting) seal(n byte, plain []byte) []byte {
	return m.box(n).Seal(nil, make([]byte, chacha20poly1305.NonceSize), plain, nil)
}

func (m *meeting) open(n byte, sealed []byte) ([]byte, error) {
	plain, err := m.box(n).Open(nil, make([]byte, chacha20poly1305.NonceSize), sealed, nil)
	if err != nil {
		return nil, bad("a message of the meeting is not by the other side")
	}
	return plain, nil
}

func (m *meeting) box(n byte) interface {
	Seal(dst, nonce, plaintext, additionalData []byte) []byte
	Open(dst, nonce, ciphertext, additionalData []byte) ([]byte, error)
} {
	aead, err := chacha20poly1305.New(derive(m.isk, fmt.Sprintf("pair message %d", n), chacha20poly1305.KeySize))
	if err != nil {
		panic("crypto: " + err.Error()) // of the right length
	}
	return aead
}

// turn says whether message n is due, and goes on to the one after: each comes once.
func (m *meeting) turn(n int) error {
	if m.next != n {
		return errOrder
	}
	m.next++
	return nil
}

// commit is the commitment of a side to who it is.
func commit(role string, nonce []byte, parts ...[]byte) []byte {
	sum := sha256.Sum256(lvCat(append([][]byte{[]byte("locker/1 pair " + role), nonce}, parts...)...))
	return sum[:]
}

// An Inviter is the side of a member in one meeting. It is for one goroutine.
type Inviter struct {
	meeting
	keys   *Keyring
	nonce  []byte
	hello  []byte
	joiner card // without its proof
}

// Meet begins a meeting, to which the code invites. This device has to be a member.
func (k *Keyring) Meet(code Code) (*Inviter, error) {
	if !k.isMember(k.self.Device) {
		return nil, errors.New("this device is no member, so it cannot invite another")
	}
	i := &Inviter{keys: k, nonce: random(32)}
	sid := random(16)
	i.meeting = meeting{code: code, run: code.run(sid, commit("inviter", i.nonce, []byte(k.locker), k.self.Key)), next: 1}
	i.hello = packMeet(0, sid, i.run.share, i.run.ad)
	return i, nil
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// Code is what the owner types on the other device.
func (i *Inviter) Code() string { return i.code.Text() }

// Hello is message 0.
func (i *Inviter) Hello() []byte { return i.hello }

// Answer takes message 1 and returns message 2, and what the joining device calls
// itself. An error with a method NotYet() bool that returns true says that the
// message is not whole yet. After any other error reply, where it is not nil, tells
// the joiner, and the code is used up.
func (i *Inviter) Answer(message []byte) (reply []byte, name string, err error) {
	fields, err := unpackMeet(1, 4, message)
	if err != nil {
		return nil, "", err
	}
	if err := i.turn(1); err != nil {
		return nil, "", err
	}
	share, ad, tag, sealed := fields[0], fields[1], fields[2], fields[3]
	if bytes.Equal(share, i.run.share) {
		return nil, "", bad("a message of the meeting is this device's own")
	}
	isk, ours, theirs, err := i.run.finish(share, ad, true)
	if err != nil {
		return nil, "", err
	}
	if !hmac.Equal(tag, theirs) {
		return packMeet(refused, []byte{refusedCode}), "", ErrWrongCode
	}
	i.isk = isk
	if err := i.readJoiner(sealed, ad); err != nil {
		return nil, "", err
	}
	if err := i.turn(2); err != nil {
		return nil, "", err
	}
	invitation, err := i.invitation()
	if err != nil {
		return nil, "", err
	}
	sum := sha256.Sum256(message)
	return packMeet(2, sum[:], ours, i.seal(2, append(i.nonce, invitation...))), i.joiner.Name, nil
}

// readJoiner reads who the joiner is.
func (i *Inviter) readJoiner(sealed, commitment []byte) error {
	plain, err := i.open(1, sealed)
	if err != nil {
		return err
	}
	const keyAt, recipientAt, nameAt = 32, 32 + ed25519.PublicKeySize, 32 + ed25519.PublicKeySize + 1216
	if len(plain) < nameAt {
		return bad("a message of the meeting is damaged")
	}
	c := card{Name: string(plain[nameAt:]), Key: plain[keyAt:recipientAt], Recipient: plain[recipientAt:nameAt]}
	if !bytes.Equal(commitment, commit("joiner", plain[:keyAt], c.Key, c.Recipient, []byte(c.Name))) {
		return bad("the joining device is not the one that it said it is")
	}
	if err := checkName(c.Name); err != nil {
		return bad("%v", err)
	}
	c.Device, i.joiner = deviceID(c.Key), c
	return nil
}

// invitation is what Join takes, sealed to the joiner's recipient: with as many of
// the members' keys as there is room for, this device's first.
func (i *Inviter) invitation() ([]byte, error) {
	recipient, err := recipientFrom(i.joiner.Recipient)
	if err != nil {
		return nil, bad("the recipient of the joining device is damaged")
	}
	s := i.keys.shared()
	s.Keys = i.keys.memberKeys()
	most := room(3) - sha256.Size - tagSize - chacha20poly1305.Overhead - len(i.nonce)
	for ageSize(len(marshalExact(s))) > most {
		s.Keys = s.Keys[:len(s.Keys)-1]
	}
	var out bytes.Buffer
	w, err := age.Encrypt(&out, recipient)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(marshalExact(s)); err != nil {
		return nil, err
	}
	err = w.Close()
	return out.Bytes(), err
}

// Request takes message 3 and returns what [Keyring.Admit] takes. The device that
// asks is the one that answered.
func (i *Inviter) Request(message []byte) ([]byte, error) {
	fields, err := unpackMeet(3, 1, message)
	if err != nil {
		return nil, err
	}
	if err := i.turn(3); err != nil {
		return nil, err
	}
	request, err := i.open(3, fields[0])
	if err != nil {
		return nil, err
	}
	var c card
	if err := unmarshalExact(request, &c); err != nil {
		return nil, fmt.Errorf("request: %w", err)
	}
	if err := i.keys.check(&c); err != nil {
		return nil, fmt.Errorf("request: %w", err)
	}
	if c.Name != i.joiner.Name || !c.Key.Equal(i.joiner.Key) || !bytes.Equal(c.Recipient, i.joiner.Recipient) {
		return nil, bad("the device that asks is another than the one that answered")
	}
	return request, nil
}

// Outcome is message 4: this device admitted the other, and made this epoch for it.
func (i *Inviter) Outcome(epoch uint64) ([]byte, error) {
	if err := i.turn(4); err != nil {
		return nil, err
	}
	return packMeet(4, i.seal(4, binary.BigEndian.AppendUint64(nil, epoch))), nil
}

// A Joiner is the side of the device that joins. It is for one goroutine.
type Joiner struct {
	meeting
	own     secrets
	card    card // without its proof
	said    []byte
	inviter string
	keys    *Keyring
	tag     []byte // what confirms the inviter's side
	pending []byte // ISK, until that is confirmed
}

// NewJoiner begins the side of a new device, called name, with the code that the
// other one shows.
func NewJoiner(code Code, name string) (*Joiner, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	j := &Joiner{meeting: meeting{code: code}, own: secrets{}.fresh(name)}
	key := ed25519.NewKeyFromSeed(j.own.Sign).Public().(ed25519.PublicKey)
	j.card = card{Name: name, Key: key, Recipient: recipientBytes(identityFrom(j.own.Identity).Recipient())}
	return j, nil
}

// Answer takes message 0 and returns message 1. The error is as of
// [Inviter.Answer].
func (j *Joiner) Answer(message []byte) ([]byte, error) {
	fields, err := unpackMeet(0, 3, message)
	if err != nil {
		return nil, err
	}
	if err := j.turn(0); err != nil {
		return nil, err
	}
	sid, share, ad := fields[0], fields[1], fields[2]
	nonce := random(32)
	j.run, j.other = j.code.run(sid, commit("joiner", nonce, j.card.Key, j.card.Recipient, []byte(j.card.Name))), ad
	isk, ours, theirs, err := j.run.finish(share, ad, false)
	if err != nil {
		return nil, err
	}
	j.pending, j.tag = isk, theirs
	if err := j.turn(1); err != nil {
		return nil, err
	}
	plain := append(append(append(nonce, j.card.Key...), j.card.Recipient...), j.card.Name...)
	sealing := meeting{isk: isk}
	j.said = packMeet(1, j.run.share, j.run.ad, ours, sealing.seal(1, plain))
	return j.said, nil
}

// Enter takes message 2: from then on there is a [Joiner.Keyring]. The error is as
// of [Inviter.Answer].
func (j *Joiner) Enter(message []byte) error {
	fields, err := unpackMeet(2, 3, message)
	if err != nil {
		return err
	}
	if err := j.turn(2); err != nil {
		return err
	}
	if sum := sha256.Sum256(j.said); !bytes.Equal(sum[:], fields[0]) {
		return ErrTaken
	}
	if !hmac.Equal(fields[1], j.tag) {
		return ErrWrongCode
	}
	j.isk = j.pending
	plain, err := j.open(2, fields[2])
	if err != nil || len(plain) < 32 {
		return errors.Join(err, bad("the invitation is damaged"))
	}
	nonce, sealed := plain[:32], plain[32:]
	invitation, err := j.unseal(sealed)
	if err != nil {
		return err
	}
	var s secrets
	if err := unmarshalExact(invitation, &s); err != nil {
		return fmt.Errorf("invitation: %w", err)
	}
	if len(s.Sign) != 0 || len(s.Identity) != 0 || s.Name != "" || len(s.Keys) == 0 || len(s.Keys[0]) != ed25519.PublicKeySize {
		return bad("the invitation is not one that a device makes")
	}
	if !bytes.Equal(j.other, commit("inviter", nonce, []byte(s.Locker), s.Keys[0])) {
		return bad("the invitation is not by the device that made the code")
	}
	s.Sign, s.Identity, s.Name = j.own.Sign, j.own.Identity, j.own.Name
	j.inviter = deviceID(s.Keys[0])
	j.keys, err = newKeyring(s, nil)
	return err
}

// unseal opens what is sealed to this device's recipient.
func (j *Joiner) unseal(sealed []byte) ([]byte, error) {
	if err := checkAgeHeader(sealed); err != nil {
		return nil, bad("the invitation is damaged")
	}
	r, err := age.Decrypt(bytes.NewReader(sealed), identityFrom(j.own.Identity))
	if err != nil {
		return nil, bad("the invitation is not for this device")
	}
	invitation, err := io.ReadAll(io.LimitReader(r, meetSize))
	if err != nil {
		return nil, bad("the invitation is damaged")
	}
	return invitation, nil
}

// Keyring is that of the new device, once Enter took the invitation. It has to be
// kept before the request is sent: the other device may admit it at any time then.
func (j *Joiner) Keyring() *Keyring { return j.keys }

// Inviter is the id of the device that invites, once Enter took the invitation.
func (j *Joiner) Inviter() string { return j.inviter }

// Request is message 3.
func (j *Joiner) Request() ([]byte, error) {
	if err := j.turn(3); err != nil {
		return nil, err
	}
	return packMeet(3, j.seal(3, j.keys.Request())), nil
}

// Outcome takes message 4: the device is admitted, and this is the number of the
// inviter's epoch that was made for it. The error is as of [Inviter.Answer].
func (j *Joiner) Outcome(message []byte) (epoch uint64, err error) {
	fields, err := unpackMeet(4, 1, message)
	if err != nil {
		return 0, err
	}
	if err := j.turn(4); err != nil {
		return 0, err
	}
	plain, err := j.open(4, fields[0])
	if err != nil {
		return 0, err
	}
	if len(plain) != 8 {
		return 0, bad("a message of the meeting is damaged")
	}
	return binary.BigEndian.Uint64(plain), nil
}
