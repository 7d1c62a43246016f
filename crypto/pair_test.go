package crypto

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// A talk is one meeting, message by message.
type talk struct {
	inviter  *Inviter
	joiner   *Joiner
	messages [meetObjects][]byte
	request  []byte
	epoch    uint64
}

const meetObjects = 5

func newTalk(t testing.TB, k *Keyring, shown, typed Code) *talk {
	t.Helper()
	i, err := k.Meet(shown)
	if err != nil {
		t.Fatal(err)
	}
	j, err := NewJoiner(typed, "phone")
	if err != nil {
		t.Fatal(err)
	}
	return &talk{inviter: i, joiner: j}
}

// run lets both sides talk; change, where it is not nil, is the cloud between them.
// It ends at the first error.
func (x *talk) run(change func(n int, message []byte) []byte) (err error) {
	at := func(n int) []byte {
		if change == nil {
			return x.messages[n]
		}
		return change(n, slices.Clone(x.messages[n]))
	}
	x.messages[0] = x.inviter.Hello()
	if x.messages[1], err = x.joiner.Answer(at(0)); err != nil {
		return err
	}
	if x.messages[2], _, err = x.inviter.Answer(at(1)); err != nil {
		return err
	}
	if err = x.joiner.Enter(at(2)); err != nil {
		return err
	}
	if x.messages[3], err = x.joiner.Request(); err != nil {
		return err
	}
	if x.request, err = x.inviter.Request(at(3)); err != nil {
		return err
	}
	if x.messages[4], err = x.inviter.Outcome(7); err != nil {
		return err
	}
	x.epoch, err = x.joiner.Outcome(at(4))
	return err
}

func TestMeeting(t *testing.T) {
	for _, code := range []Code{NewCode(), NewLongCode()} {
		laptop := founded(t, testSeed(1))
		typed, err := ParseCode(code.Text())
		if err != nil {
			t.Fatal(err)
		}
		x := newTalk(t, laptop, code, typed)
		if x.inviter.Fingerprint() != "" || x.joiner.Fingerprint() != "" {
			t.Error("there is a fingerprint before anything was confirmed")
		}
		if err := x.run(nil); err != nil {
			t.Fatal(err)
		}
		if f := x.inviter.Fingerprint(); len(f) != 9 || f != x.joiner.Fingerprint() {
			t.Errorf("fingerprints %q and %q", f, x.joiner.Fingerprint())
		}
		phone := x.joiner.Keyring()
		if x.epoch != 7 || x.joiner.Inviter() != laptop.Device() || !slices.Equal(phone.Invited(), []string{laptop.Device()}) {
			t.Errorf("epoch %d by %s, invited by %v", x.epoch, x.joiner.Inviter(), phone.Invited())
		}
		admission, err := laptop.Admit(x.request)
		if err != nil {
			t.Fatal(err)
		}
		r := Ref{"member", laptop.Device(), 1, ""}
		object, id, err := laptop.Seal(r, nil, admission)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := laptop.Absorb(r, id, nil, admission); err != nil {
			t.Fatal(err)
		}
		// By the inviter's key in the invitation; who is a member it learns from that.
		ref := Ref{"epoch", laptop.Device(), 2, phone.Device()}
		_, payload, _, err := phone.Open(ref, makeEpoch(t, laptop, laptop)[phone.Device()])
		if err == nil {
			_, err = phone.Absorb(ref, strings.Repeat("0", 64), nil, payload)
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, _, _, err := phone.Open(r, object); err != nil {
			t.Fatal(err)
		}
		door := laptop.members.order[0]
		_, err = phone.Absorb(Ref{"door", "phrase", 0, ""}, door.id, nil, marshalExact(&statement{Version: 1, Admit: door.admit}))
		if err == nil {
			_, err = phone.Absorb(r, id, nil, admission)
		}
		if err != nil {
			t.Fatal(err)
		}
		if !phone.isMember(phone.Device()) || phone.DeviceName(phone.Device()) != "phone" {
			t.Errorf("the members are %v", phone.Members())
		}
	}
}

// TestMeetingTampered changes every message in every place, and repairs what is
// only there to tell a part from the whole: nobody goes on to the end.
func TestMeetingTampered(t *testing.T) {
	laptop := founded(t, testSeed(1))
	used := 0
	for n := range meetObjects {
		for at := 0; at < meetSize; at += 3 + at/32 {
			x := newTalk(t, laptop, Code{"4821", "a b c"}, Code{"4821", "a b c"})
			err := x.run(func(m int, message []byte) []byte {
				if m == n {
					message[at] ^= 1 << (at % 8)
				}
				return message
			})
			if !isNotYet(err) {
				t.Fatalf("message %d, byte %d: %v", n, at, err)
			}
			x = newTalk(t, laptop, Code{"4821", "a b c"}, Code{"4821", "a b c"})
			err = x.run(func(m int, message []byte) []byte {
				if m == n {
					message[at] ^= 1 << (at % 8)
					sum := sha256.Sum256(message[:meetSize-sha256.Size])
					copy(message[meetSize-sha256.Size:], sum[:])
				}
				return message
			})
			if at < meetSize-sha256.Size && err == nil {
				t.Fatalf("message %d, byte %d: the meeting goes on to its end", n, at)
			}
			used++
		}
	}
	if used < 400 {
		t.Errorf("only %d changes were tried", used)
	}
}

// TestMeetingCut: a part of a message is waited for, whatever part it is.
func TestMeetingCut(t *testing.T) {
	laptop := founded(t, testSeed(1))
	x := newTalk(t, laptop, NewCode(), NewCode())
	x.joiner.code = x.inviter.code
	if err := x.run(func(n int, message []byte) []byte {
		parts := [][]byte{nil, {}, message[:1], message[:meetSize-1], bytes.Repeat([]byte{0}, meetSize), append(message, 0)}
		for _, part := range parts {
			var err error
			switch n {
			case 0:
				_, err = x.joiner.Answer(part)
			case 1:
				_, _, err = x.inviter.Answer(part)
			case 2:
				err = x.joiner.Enter(part)
			case 3:
				_, err = x.inviter.Request(part)
			case 4:
				_, err = x.joiner.Outcome(part)
			}
			if !isNotYet(err) {
				t.Errorf("%d bytes of message %d: %v", len(part), n, err)
			}
		}
		return message
	}); err != nil {
		t.Error(err)
	}
}

// TestMeetingGuess: the cloud that puts itself between has one guess against each
// side, and both say what happened.
func TestMeetingGuess(t *testing.T) {
	laptop := founded(t, testSeed(1))
	code := Code{"4821", "anchor lunar tissue"}
	guess := Code{"4821", "anchor lunar zoo"}

	asJoiner := newTalk(t, laptop, code, guess)
	if err := asJoiner.run(nil); !errors.Is(err, ErrWrongCode) {
		t.Errorf("a wrong guess at the inviter: %v", err)
	}
	if asJoiner.messages[2] == nil {
		t.Fatal("the inviter says nothing")
	}
	if err := asJoiner.joiner.Enter(asJoiner.messages[2]); !errors.Is(err, ErrWrongCode) {
		t.Errorf("the joiner hears %v", err)
	}
	// The right one comes too late.
	late, err := NewJoiner(code, "phone")
	if err != nil {
		t.Fatal(err)
	}
	answer, err := late.Answer(asJoiner.inviter.Hello())
	if err != nil {
		t.Fatal(err)
	}
	if reply, _, err := asJoiner.inviter.Answer(answer); err == nil || reply != nil {
		t.Errorf("a code serves for a second attempt: %v", err)
	}

	// And at the joiner: the cloud has a member's keyring of another locker, even.
	asInviter := newTalk(t, founded(t, testSeed(9)), guess, code)
	err = asInviter.run(nil)
	if !errors.Is(err, ErrWrongCode) {
		t.Errorf("a wrong guess at the joiner: %v", err)
	}
	if asInviter.joiner.Keyring() != nil {
		t.Error("the joiner takes an invitation of the cloud's")
	}
}

// TestMeetingsCrossed: ten meetings at once, with one code even, and every message
// of one shown in every other, also those of the same side.
func TestMeetingsCrossed(t *testing.T) {
	laptop := founded(t, testSeed(1))
	code := NewCode()
	var all []*talk
	for range 10 {
		x := newTalk(t, laptop, code, code)
		if err := x.run(nil); err != nil {
			t.Fatal(err)
		}
		all = append(all, x)
	}
	for n := range meetObjects {
		for _, from := range all[:4] {
			for m := range meetObjects {
				x := newTalk(t, laptop, code, code)
				err := x.run(func(at int, message []byte) []byte {
					if at == m {
						return from.messages[n]
					}
					return message
				})
				if err == nil || isNotYet(err) {
					t.Errorf("message %d of another meeting as message %d: %v", n, m, err)
				}
			}
		}
	}
	// A side's own messages come back to it.
	for n := range meetObjects {
		for m := range n {
			x := newTalk(t, laptop, code, code)
			if err := x.run(func(at int, message []byte) []byte {
				if at == n {
					return x.messages[m]
				}
				return message
			}); err == nil {
				t.Errorf("message %d of the same meeting as message %d is accepted", m, n)
			}
		}
	}
}

// TestMeetingTells: what the cloud sees says nothing of who meets.
func TestMeetingTells(t *testing.T) {
	laptop := founded(t, testSeed(1))
	x := newTalk(t, laptop, Code{"4821", "anchor lunar tissue"}, Code{"4821", "anchor lunar tissue"})
	if err := x.run(nil); err != nil {
		t.Fatal(err)
	}
	phone := x.joiner.Keyring()
	secrets := map[string][]byte{
		"locker": []byte(laptop.locker), "name key": laptop.nameKey, "root": laptop.root, "recipient": recipientBytes(laptop.recover),
		"inviter": []byte(laptop.Device()), "inviter's key": laptop.self.Key, "name": []byte("phone"),
		"joiner": []byte(phone.Device()), "joiner's key": phone.self.Key, "joiner's recipient": phone.self.Recipient[:64], "code": []byte("anchor"),
	}
	names := map[string]bool{}
	for n, message := range x.messages {
		if len(message) != meetSize {
			t.Errorf("message %d has %d bytes", n, len(message))
		}
		for what, secret := range secrets {
			if bytes.Contains(message, secret) {
				t.Errorf("message %d shows the %s", n, what)
			}
		}
		name := x.inviter.Name(n)
		if names[name] || name != x.joiner.Name(n) || len(name) != 54 {
			t.Errorf("message %d is at %q", n, name)
		}
		names[name] = true
	}
	// Who breaks the exchange later has the invitation still before it, sealed.
	fields, err := unpackMeet(2, 3, x.messages[2])
	if err != nil {
		t.Fatal(err)
	}
	plain, err := x.inviter.open(2, fields[2])
	if err != nil || bytes.Contains(plain, laptop.nameKey) || !bytes.Contains(plain, []byte("mlkem768x25519")) {
		t.Errorf("the invitation is not sealed to the joiner's hybrid recipient (%v)", err)
	}
	if s := fmt.Sprintf("%v %+v %#v", x.inviter.code, x.inviter.code, x.inviter.code); strings.Contains(s, "anchor") {
		t.Errorf("a code prints as %s", s)
	}
}

// TestMeetingRoom: an invitation has room for some keys of members, whatever their
// number.
func TestMeetingRoom(t *testing.T) {
	laptop := founded(t, testSeed(1))
	for n := range 12 {
		k, err := Join(laptop.Invite(), fmt.Sprintf("device %d", n))
		if err != nil {
			t.Fatal(err)
		}
		payload, err := laptop.Admit(k.Request())
		if err != nil {
			t.Fatal(err)
		}
		absorbSealed(t, laptop, Ref{"member", laptop.Device(), uint64(n + 1), ""}, payload, laptop)
		makeEpoch(t, laptop, laptop)
	}
	code := NewCode()
	x := newTalk(t, laptop, code, code)
	if err := x.run(nil); err != nil {
		t.Fatal(err)
	}
	if invited := x.joiner.Keyring().Invited(); len(invited) < 5 || len(invited) > 12 || invited[0] != laptop.Device() {
		t.Errorf("the invitation names %d devices, the first %s", len(invited), invited[0])
	}
}

func TestCode(t *testing.T) {
	code := Code{"4821", "anchor lunar tissue"}
	for _, text := range []string{
		"4821-anchor-lunar-tissue", "4821 anchor lunar tissue", " 4821 Anchor  LUNAR-tissue\n", "4821anchor-lunar-tissue",
		"4821-anch-luna-tiss", "4821, anchor, lunar, tissue.", "4821–anchor–lunar–tissue",
	} {
		if got, err := ParseCode(text); err != nil || got != code {
			t.Errorf("%q is read as %q, %v", text, got.Text(), err)
		}
	}
	for text, want := range map[string]string{
		"":                                       "begins with a number",
		"anchor-lunar-tissue":                    "begins with a number",
		"482-anchor-lunar-tissue":                "begins with a number",
		"0821-anchor-lunar-tissue":               "begins with a number",
		"48211-anchor-lunar-tissue":              "begins with a number",
		"4821-anchor-lunar":                      "2 words",
		"4821-anchor-lunar-tissue-tissue":        "4 words",
		"4821-anchor-lunar-tissu1":               `is it "tissue"?`,
		"4821-anchor-lunar-tis":                  "word 3",
		strings.Repeat("a", 300):                 "too long",
		"LOCKER-JOIN-":                           "it is cut",
		"LOCKER-JOIN-" + strings.Repeat("A", 40): "a character of it is wrong",
	} {
		if _, err := ParseCode(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	seen := map[string]bool{}
	for range 200 {
		for _, code := range []Code{NewCode(), NewLongCode()} {
			text := code.Text()
			got, err := ParseCode(strings.ToLower(text))
			if err != nil || got != code || seen[text] {
				t.Fatalf("%q is read as %q, %v", text, got.Text(), err)
			}
			seen[text] = true
			if code.long() && strings.Trim(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567-") != "" {
				t.Errorf("%q is not for a QR code of capitals", text)
			}
		}
	}
	long := NewLongCode().Text()
	for i := len(codePrefix); i < len(long); i++ {
		wrong := []byte(long)
		wrong[i] = 'A' + (wrong[i]+1)%26
		if _, err := ParseCode(string(wrong)); err == nil && string(wrong) != long {
			t.Errorf("%s is read though character %d is wrong", wrong, i)
		}
	}
}

func FuzzParseCode(f *testing.F) {
	f.Add("4821-anchor-lunar-tissue")
	f.Add(NewLongCode().Text())
	f.Fuzz(func(t *testing.T, text string) {
		code, err := ParseCode(text)
		if err != nil {
			return
		}
		if again, err := ParseCode(code.Text()); err != nil || again != code {
			t.Errorf("%q is read as %q, which is another code", text, code.Text())
		}
	})
}

// FuzzMeeting gives each side a message that is whole and made up.
func FuzzMeeting(f *testing.F) {
	laptop := founded(f, testSeed(1))
	code := Code{"4821", "anchor lunar tissue"}
	good := newTalk(f, laptop, code, code)
	if err := good.run(nil); err != nil {
		f.Fatal(err)
	}
	for n, message := range good.messages {
		f.Add(byte(n), message[len(meetMagic):200])
	}
	f.Fuzz(func(t *testing.T, n byte, body []byte) {
		message := append([]byte(meetMagic), body...)
		message = append(message, make([]byte, max(0, meetSize-sha256.Size-len(message)))...)[:meetSize-sha256.Size]
		sum := sha256.Sum256(message)
		message = append(message, sum[:]...)
		x := newTalk(t, laptop, code, code)
		err := x.run(func(m int, honest []byte) []byte {
			if m == int(n) {
				return message
			}
			return honest
		})
		if err == nil && int(n) < meetObjects {
			t.Errorf("message %d is made up, and the meeting ends well", n)
		}
	})
}
