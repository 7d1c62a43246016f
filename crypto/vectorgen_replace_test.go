package crypto

import (
	"crypto/ed25519"
	"strings"
)

// makeReplacements adds what belongs to the replacement of the phrase. It needs what
// makeSetup left, and can be added to vectors that are there.
func (f *forger) makeReplacements() {
	number := uint64(40)
	device := f.laptop.Device()
	put := func(expect, kind, name, why, comment string, payload []byte) {
		f.t.Helper()
		r := Ref{kind, device, number, ""}
		if kind == "door" {
			r.Writer = phrase
		}
		if kind == "epoch" {
			r.To = device
		}
		number++
		frames := zstdFrames(f.t, payload)
		object, id, err := f.laptop.Seal(r, nil, frames)
		if err != nil {
			f.t.Fatal(err)
		}
		if expect == "ok" {
			f.okObject(kind+"-"+name, comment, r, object, id, nil, frames)
			return
		}
		f.refused(expect, kind+"-"+name, why, comment, r, object)
	}
	n, err := f.laptop.ReplacePhrase(testSeed(newPhraseSeed))
	if err != nil {
		f.t.Fatal(err)
	}
	var good statement
	if err := unmarshalExact(n.Statement, &good); err != nil {
		f.t.Fatal(err)
	}
	put("ok", "door", "replace", "", "the phrase says that another one takes its place", n.Statement)
	put("ok", "member", "replace", "", "the laptop says that another phrase takes the first one's place", n.Statement)
	finder := Ref{"phrase", phrase, 0, n.At[2:]}
	f.refused("not yet", "phrase", "no key", "what leads the new phrase to the locker: the phrase of bytes that count from 50 opens it", finder, n.Finder)

	replace := func(name, why, comment string, change func(*replacement)) {
		f.t.Helper()
		s, r := good, *good.Replace
		change(&r)
		s.Replace = &r
		put("bad", "member", "replace-"+name, why, comment, marshalExact(&s))
	}
	resign := func(r *replacement) {
		r.Proof = ed25519.Sign(phraseKeysFrom(testSeed(newPhraseSeed)).root, f.laptop.message("phrase", r.proven()))
	}
	other := phraseKeysFrom(testSeed(51))
	replace("proof", "proof", "the proof by the new phrase is changed", func(r *replacement) { r.Proof = mutate(r.Proof, 3) })
	replace("proof-by-another", "proof", "another phrase's proof", func(r *replacement) {
		r.Proof = ed25519.Sign(other.root, f.laptop.message("phrase", r.proven()))
	})
	replace("recipient-swapped", "proof", "the recipient is another phrase's", func(r *replacement) { r.Recovery = recipientBytes(other.recover.Recipient()) })
	replace("recipient-cut", "recipient", "the recipient is cut", func(r *replacement) { r.Recovery = r.Recovery[:100]; resign(r) })
	replace("from-another", "proof", "it leads from another phrase than the new one said", func(r *replacement) { r.From = other.root.Public().(ed25519.PublicKey) })
	replace("from-itself", "keys", "a phrase takes its own place", func(r *replacement) { r.From = r.Root; resign(r) })
	replace("at-form", "object", "the name is none", func(r *replacement) { r.At = "../" + r.At[3:]; resign(r) })
	replace("sum-form", "object", "the hash in upper case", func(r *replacement) { r.Sum = strings.ToUpper(r.Sum); resign(r) })

	claimed := good
	claimed.Phrase = n.ID
	put("bad", "door", "phrase-claimed", "another phrase", "it says that it is of another phrase than that which signed it", marshalExact(&claimed))
	put("bad", "member", "of-a-phrase", "which phrase", "a member object says of which phrase it is", marshalExact(&claimed))
	claimed.Phrase = f.laptop.first
	put("bad", "door", "phrase-first", "which phrase", "the first phrase has its id said", marshalExact(&claimed))

	door := func(expect, name, why, comment, to string) {
		f.t.Helper()
		r := Ref{"door", phrase, number, ""}
		number++
		signed, _ := f.signed(f.laptop, func(h *header) {
			h.Kind, h.Writer, h.Number, h.Epoch, h.To = "door", phrase, r.Number, doorEpoch, to
		})
		front := f.frame(signed, ed25519.Sign(f.laptop.holds.root, f.laptop.message("object", signed)))
		object, err := encrypt(f.laptop.door.Recipient(), front, f.frames)
		if err != nil {
			f.t.Fatal(err)
		}
		f.refused(expect, "door-"+name, why, comment, r, object)
	}
	door("not yet", "by-an-unknown-phrase", "not known yet", "its header names a phrase that is not known", n.ID)
	door("bad", "header-phrase-first", "somebody else", "its header names the first phrase", f.laptop.first)
	door("bad", "header-phrase-form", "somebody else", "its header names what is no phrase", phrase)

	epoch := func(expect, name, why, comment, id string) {
		f.t.Helper()
		put(expect, "epoch", name, why, comment, marshalExact(&epochPayload{Version: 1, Recipients: f.laptop.Members(), Phrase: id, Identity: f.elsewhere.String()}))
	}
	epoch("ok", "for-another-phrase", "", "an epoch that another phrase than the first one has", n.ID)
	epoch("bad", "phrase-first", "phrase", "the first phrase has its id said", f.laptop.first)
	epoch("bad", "phrase-form", "phrase", "it is for what is no phrase", phrase)
}

// newPhraseSeed makes the seed of the new phrase in the vectors.
const newPhraseSeed = 50
