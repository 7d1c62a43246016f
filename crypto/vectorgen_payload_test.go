package crypto

import (
	"crypto/ed25519"
	"fmt"
	"slices"
	"strings"

	"filippo.io/age"
)

// makeBadStatements spoils what doors and member objects say.
func (f *forger) makeBadStatements() {
	number := uint64(10)
	add := func(expect, kind, name, why, comment string, payload []byte) {
		f.t.Helper()
		r := Ref{kind, f.laptop.Device(), number, ""}
		if kind == "door" {
			r.Writer = phrase
		}
		number++
		object, _, err := f.laptop.Seal(r, nil, zstdFrames(f.t, payload))
		if err != nil {
			f.t.Fatal(err)
		}
		f.refused(expect, kind+"-"+name, why, comment, r, object)
	}
	tips := f.laptop.Tips()
	admit := func(name, why, comment string, change func(*statement)) {
		f.t.Helper()
		c := f.tablet.self
		s := &statement{Version: 1, Admit: &c, Tips: tips}
		change(s)
		add("bad", "member", name, why, comment, marshalExact(s))
	}
	other, err := Found(testSeed(99), "x")
	if err != nil {
		f.t.Fatal(err)
	}
	admit("proof", "proof", "the proof of possession is changed", func(s *statement) { s.Admit.Proof = mutate(s.Admit.Proof, 3) })
	admit("no-proof", "proof", "no proof of possession", func(s *statement) { s.Admit.Proof = nil })
	admit("proof-by-the-admitter", "proof", "the admitter signed for the device", func(s *statement) {
		s.Admit.Proof = ed25519.Sign(f.laptop.sign, f.laptop.message("device", s.Admit.proven()))
	})
	admit("proof-for-another-locker", "proof", "the device asked another locker", func(s *statement) {
		s.Admit.Proof = ed25519.Sign(f.tablet.sign, other.message("device", s.Admit.proven()))
	})
	admit("recipient-swapped", "proof", "the device's recipient is another's", func(s *statement) { s.Admit.Recipient = f.phone.self.Recipient })
	admit("recipient-cut", "recipient", "the recipient is cut", func(s *statement) { s.Admit.Recipient = s.Admit.Recipient[:100] })
	admit("renamed", "proof", "the admitter changed the device's name", func(s *statement) { s.Admit.Name = "mine" })
	admit("key-cut", "key", "the device's key is cut", func(s *statement) { s.Admit.Key = s.Admit.Key[:31] })
	admit("card-version", "version", "a card of version 2", func(s *statement) { s.Admit.Version = 2 })
	named := func(name, why, comment, text string) {
		f.t.Helper()
		admit(name, why, comment, func(s *statement) {
			s.Admit.Name = text
			s.Admit.Proof = ed25519.Sign(f.tablet.sign, f.tablet.message("device", s.Admit.proven()))
		})
	}
	named("name-empty", "name", "a device without a name", "")
	named("name-long", "name", "a name of 65 bytes", strings.Repeat("n", 65))
	named("name-control", "name", "a name with an escape sequence for terminals", "phone\x1b[2J")
	named("name-bidi", "name", "a name with a character that turns the direction of text", "phone\u202egnp")
	admit("tips-order", "sorted", "tips out of order", func(s *statement) { s.Tips = []string{strings.Repeat("b", 64), strings.Repeat("a", 64)} })
	admit("tips-twice", "sorted", "a tip twice", func(s *statement) { s.Tips = []string{tips[0], tips[0]} })
	admit("tips-form", "sorted", "a tip in upper case", func(s *statement) { s.Tips = []string{strings.ToUpper(tips[0])} })
	gone := removal{Device: f.phone.Device(), Pin: Pin{Number: 1, ID: strings.Repeat("a", 64)}}
	admit("both", "either", "an admission and a removal at once", func(s *statement) { s.Remove = &gone })
	admit("neither", "either", "neither an admission nor a removal", func(s *statement) { s.Admit = nil })

	remove := func(name, why, comment string, change func(*removal)) {
		f.t.Helper()
		r := gone
		change(&r)
		add("bad", "member", name, why, comment, marshalExact(&statement{Version: 1, Remove: &r, Tips: tips}))
	}
	remove("remove-the-phrase", "removal", "the phrase cannot be removed", func(r *removal) { r.Device = phrase })
	remove("remove-form", "removal", "a device that is no id", func(r *removal) { r.Device = "PHONE" })
	remove("pin-without-id", "removal", "a pin without an id", func(r *removal) { r.ID = "" })
	remove("pin-number", "removal", "a pin beyond every number", func(r *removal) { r.Number = maxNumber + 1 })
	remove("void", "phrase alone", "a device declares another's removal void", func(r *removal) { r.Void = []string{strings.Repeat("a", 64)} })

	right := string(marshalExact(&statement{Version: 1, Remove: &gone, Tips: tips}))
	const exact = "exact form"
	for _, c := range []struct{ expect, name, why, comment, old, new string }{
		{"bad", "json-blank", exact, "a blank in its JSON", `"v":1`, `"v": 1`},
		{"bad", "json-unknown-key", exact, "a key that version 1 does not have", `"v":1`, `"v":1,"w":2`},
		{"bad", "json-key-twice", exact, "a key twice", `"clock":0`, `"clock":1,"clock":0`},
		{"bad", "json-key-upper-case", exact, "a key in upper case", `"remove"`, `"Remove"`},
		{"bad", "json-cut", "JSON", "its JSON is cut", `"tips"`, ``},
		{"bad", "version-0", exact, "no version", `"v":1,`, ``},
		{"newer", "version", "version 2", "a later version", `"v":1`, `"v":2`},
	} {
		if !strings.Contains(right, c.old) {
			f.t.Fatalf("no %s in %s", c.old, right)
		}
		add(c.expect, "member", c.name, c.why, c.comment, []byte(strings.Replace(right, c.old, c.new, 1)))
	}
	c := f.tablet.self
	c.Proof = mutate(c.Proof, 0)
	add("bad", "door", "proof", "proof", "the phrase admits a device that did not prove its key", marshalExact(&statement{Version: 1, Admit: &c, Tips: tips}))
}

// makeBadEpochs spoils what epochs hold.
func (f *forger) makeBadEpochs() {
	number := uint64(20)
	device := f.laptop.Device()
	add := func(name, why, comment string, change func(*epochPayload)) {
		f.t.Helper()
		p := &epochPayload{Version: 1, Recipients: slices.Clone(f.laptop.Members()), Identity: f.elsewhere.String()}
		change(p)
		r := Ref{"epoch", device, number, device}
		number++
		object, _, err := f.laptop.Seal(r, nil, zstdFrames(f.t, marshalExact(p)))
		if err != nil {
			f.t.Fatal(err)
		}
		f.bad("epoch-"+name, why, comment, r, object)
	}
	classic, err := age.GenerateX25519Identity()
	if err != nil {
		f.t.Fatal(err)
	}
	text := f.elsewhere.String()
	add("identity-cut", "identity", "the identity is cut", func(p *epochPayload) { p.Identity = text[:60] })
	add("identity-lower-case", "identity", "the identity in lower case", func(p *epochPayload) { p.Identity = strings.ToLower(text) })
	add("identity-classic", "identity", "an X25519 identity", func(p *epochPayload) { p.Identity = classic.String() })
	add("without-its-maker", "maker", "its maker is not among its recipients", func(p *epochPayload) { p.Recipients = []string{f.phone.Device()} })
	add("recipients-order", "sorted", "its recipients out of order", func(p *epochPayload) { slices.Reverse(p.Recipients) })
	add("recipients-twice", "sorted", "a recipient twice", func(p *epochPayload) { p.Recipients = []string{device, device} })
	add("recipients-form", "sorted", "a recipient that is no device", func(p *epochPayload) { p.Recipients = append(p.Recipients, phrase) })
	add("earlier-identity", "identity", "an earlier epoch's identity is damaged", func(p *epochPayload) { p.Earlier = []earlierOf{{device, 19, "AGE-SECRET-KEY-PQ-1", nil}} })
	add("earlier-number", "number", "an earlier epoch has number 0", func(p *epochPayload) { p.Earlier = []earlierOf{{device, 0, text, nil}} })
	add("earlier-maker", "maker", "an earlier epoch is the phrase's", func(p *epochPayload) { p.Earlier = []earlierOf{{phrase, 1, text, nil}} })
	add("version-0", "version", "no version", func(p *epochPayload) { p.Version = 0 })

	for _, to := range []string{phrase, f.phone.Device()} {
		number++
		_, front := f.signed(f.laptop, func(h *header) { h.Kind, h.Number, h.To, h.Epoch = "epoch", number, to, to })
		comment := fmt.Sprintf("an epoch for %s served as the laptop's", map[bool]string{true: "the phrase", false: "the phone"}[to == phrase])
		name := map[bool]string{true: "phrase", false: "phone"}[to == phrase]
		f.bad("epoch-for-the-"+name, "somebody else", comment, Ref{"epoch", device, number, device}, f.must(encrypt(f.laptop.identity.Recipient(), front, f.frames)))
	}
}
