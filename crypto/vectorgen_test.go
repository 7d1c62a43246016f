package crypto

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"
	"filippo.io/age/armor"
)

// A forger makes the vectors: a locker with a laptop (the reader), a phone (a
// member), and a tablet that nobody admitted.
type forger struct {
	t                     *testing.T
	seed                  Seed
	laptop, phone, tablet *Keyring
	setup                 []string
	frames                []byte // of the usual entry
	ref                   Ref    // the usual entry
	count                 int
	elsewhere             *age.HybridIdentity
	adding                bool // what is there stays as it is
}

// fixedDevice is a device of the locker whose keys are bytes that count from n.
func fixedDevice(t *testing.T, like *Keyring, name string, n byte) *Keyring {
	t.Helper()
	s := like.shared()
	a, b := testSeed(n), testSeed(n+32)
	s.Sign, s.Identity, s.Name = a[:], b[:], name
	k, err := Load(marshalExact(s))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func makeVectors(t *testing.T) {
	old, err := filepath.Glob(filepath.Join(vectorDir, "*-*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range old {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(vectorDir, 0o755); err != nil {
		t.Fatal(err)
	}
	seed := testSeed(0)
	founder, err := Found(seed, "x")
	if err != nil {
		t.Fatal(err)
	}
	f := &forger{t: t, seed: seed,
		laptop: fixedDevice(t, founder, "laptop", 1), phone: fixedDevice(t, founder, "phone", 2), tablet: fixedDevice(t, founder, "tablet", 3),
		elsewhere: identityFrom(bytes.Repeat([]byte{7}, 32)),
	}
	for _, k := range []*Keyring{f.laptop, f.phone, f.tablet} {
		if err := k.Hold(seed); err != nil {
			t.Fatal(err)
		}
	}
	f.makeSetup()
	f.ref = Ref{"entry", f.laptop.Device(), 3, ""}
	f.frames = zstdFrames(t, []byte(strings.Repeat(`{"collection":"posts","id":"1","class":"owner","fields":{"text":"hello"}}`+"\n", 10)))
	f.makeValid()
	f.makeBadFiles()
	f.makeBadHeaders()
	f.makeBadContents()
	f.makeBadStatements()
	f.makeBadEpochs()
	f.makeReplacements()
	f.writeKeys()
	t.Logf("made %d vectors", f.count)
}

// addVectors makes those that are not there yet, and leaves the others alone.
func addVectors(t *testing.T) {
	keys := readKeys(t)
	f := &forger{t: t, seed: testSeed(0), laptop: keys.reader(t), elsewhere: identityFrom(bytes.Repeat([]byte{7}, 32)), adding: true}
	f.ref = Ref{"entry", f.laptop.Device(), 3, ""}
	f.frames = zstdFrames(t, []byte(strings.Repeat(`{"collection":"posts","id":"1","class":"owner","fields":{"text":"hello"}}`+"\n", 10)))
	f.makeReplacements()
	t.Logf("made %d vectors", f.count)
}

func (f *forger) write(name string, v *vector) {
	f.t.Helper()
	if _, err := os.Stat(filepath.Join(vectorDir, name)); err == nil && f.adding {
		return
	}
	f.count++
	if err := os.WriteFile(filepath.Join(vectorDir, name), v.encode(), 0o644); err != nil {
		f.t.Fatal(err)
	}
}

func (f *forger) writeKeys() {
	data, err := json.MarshalIndent(vectorKeys{
		Comment: "The locker of all vectors. The reader is the device below; it holds the phrase and has absorbed the vectors named in setup, in this order.",
		Phrase:  f.seed.Phrase(), Derived: derivedValues(f.laptop, f.seed), Names: vectorNames(f.laptop),
		Device: f.laptop.Secret(), Setup: f.setup,
	}, "", "  ")
	if err != nil {
		f.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(vectorDir, "keys.json"), append(data, '\n'), 0o644); err != nil {
		f.t.Fatal(err)
	}
}

// ok writes a vector that opens.
func (f *forger) ok(name, comment string, from *Keyring, r Ref, log, frames []byte) []byte {
	f.t.Helper()
	object, id, err := from.Seal(r, log, frames)
	if err != nil {
		f.t.Fatalf("%s: %v", name, err)
	}
	f.okObject(name, comment, r, object, id, log, frames)
	return object
}

func (f *forger) okObject(name, comment string, r Ref, object []byte, id string, log, frames []byte) {
	f.t.Helper()
	if log == nil {
		log = []byte("{}")
	}
	sum := sha256.Sum256(frames)
	f.write("ok-"+name, &vector{Comment: comment, Expect: "ok", Ref: r, ID: id, Log: string(log), SHA256: hex.EncodeToString(sum[:]), Object: object})
}

// bad writes a vector that is refused.
func (f *forger) bad(name, why, comment string, r Ref, object []byte) {
	f.t.Helper()
	f.refused("bad", name, why, comment, r, object)
}

func (f *forger) refused(expect, name, why, comment string, r Ref, object []byte) {
	f.t.Helper()
	f.write(strings.ReplaceAll(expect, " ", "")+"-"+name, &vector{Comment: comment, Expect: expect, Why: why, Ref: r, Object: object})
}

// makeSetup founds the locker: a door, an epoch, the phone's admission, another
// epoch. All three devices know it.
func (f *forger) makeSetup() {
	step := func(name, comment string, r Ref, from *Keyring, payload []byte) {
		f.t.Helper()
		object := f.ok(name, comment, from, r, nil, zstdFrames(f.t, payload))
		f.setup = append(f.setup, "ok-"+name)
		for _, k := range []*Keyring{f.laptop, f.phone, f.tablet} {
			v := &vector{Ref: r, Object: object}
			if _, _, _, err := v.take(k); err != nil && !isNotYet(err) {
				f.t.Fatalf("%s: %v", name, err)
			}
		}
	}
	epoch := func(name, comment string) {
		f.t.Helper()
		number, payloads, err := f.laptop.NewEpoch()
		if err != nil {
			f.t.Fatal(err)
		}
		for _, to := range []string{"phrase", f.laptop.Device()} {
			who := map[bool]string{true: "phrase", false: "device"}[to == "phrase"]
			step(name+"-for-"+who, comment+", for the "+who, Ref{"epoch", f.laptop.Device(), number, to}, f.laptop, payloads[to])
		}
	}
	door, err := f.laptop.Door(0)
	if err != nil {
		f.t.Fatal(err)
	}
	step("door", "the genesis: the phrase admits the laptop", Ref{"door", "phrase", 0, ""}, f.laptop, door)
	epoch("epoch1", "the first epoch")
	admission, err := f.laptop.Admit(f.phone.Request())
	if err != nil {
		f.t.Fatal(err)
	}
	step("member-admit", "the laptop admits the phone", Ref{"member", f.laptop.Device(), 0, ""}, f.laptop, admission)
	epoch("epoch2", "an epoch for two, which carries the first one")
	if got := f.phone.Members(); len(got) != 2 {
		f.t.Fatalf("members %v", got)
	}
}

func (f *forger) makeValid() {
	device := f.laptop.Device()
	f.ok("entry", "an entry with records", f.laptop, f.ref, []byte(`{"clock":"0001","seen":{"x":[1,"y"]}}`), f.frames)
	f.ok("entry-empty", "an entry without records", f.laptop, Ref{"entry", device, 4, ""}, nil, nil)
	f.ok("entry-odd-log", "a log is any JSON object, kept as it is signed", f.laptop, Ref{"entry", device, 5, ""}, []byte(`{"<&>":"\u2028\"é","n":1.50e+3,"":null}`), nil)
	f.ok("entry-largest-number", "2^53-1", f.laptop, Ref{"entry", device, maxNumber, ""}, nil, nil)
	f.ok("entry-by-another-member", "an entry of the phone's", f.phone, Ref{"entry", f.phone.Device(), 1, ""}, nil, f.frames)
	for _, kind := range []string{"mark", "run", "base", "pack"} {
		f.ok(kind, "a "+kind, f.laptop, Ref{kind, device, 1, ""}, nil, f.frames)
	}
	noise := make([]byte, 150_000)
	rnd := rand.NewChaCha8(testSeed(9))
	_, _ = rnd.Read(noise)
	f.ok("pack-of-three-chunks", "a payload of more than two of age's chunks", f.laptop, Ref{"pack", device, 2, ""}, nil, noise)
	// What is left for a full last chunk of age's: the plaintext is 65,536 bytes.
	f.ok("pack-at-a-chunk", "a payload that just fits before age's second chunk", f.laptop, Ref{"pack", device, 3, ""}, nil, noise[:65536-320])

	signed, front := f.signed(f.laptop, nil)
	object, err := encrypt(f.phone.current.recipient, front, f.frames)
	if err != nil {
		f.t.Fatal(err)
	}
	f.okObject("entry-encrypted-by-another", "another member encrypted anew what the laptop signed: the same object", f.ref, object, headerID(signed), nil, f.frames)

	pin := Pin{Number: 4, ID: strings.Repeat("ab", 32), Clock: 77}
	gone, err := f.laptop.Remove(f.phone.Device(), pin)
	if err != nil {
		f.t.Fatal(err)
	}
	f.ok("member-remove", "the laptop removes the phone", f.laptop, Ref{"member", device, 1, ""}, nil, zstdFrames(f.t, gone))
	evict := marshalExact(&statement{Version: 1, Remove: &removal{f.laptop.Device(), pin, []string{strings.Repeat("cd", 32)}}, Tips: f.laptop.Tips()})
	f.ok("door-evict", "the phrase removes the laptop and declares one of its removals void", f.laptop, Ref{"door", "phrase", 1, ""}, nil, zstdFrames(f.t, evict))
}

// head is the right header of the usual entry.
func (f *forger) head() header {
	sum := sha256.Sum256(f.frames)
	return header{Version: 1, Locker: f.laptop.locker, Kind: f.ref.Kind, Writer: f.ref.Writer, Number: f.ref.Number,
		Epoch: f.laptop.current.name(), Log: []byte("{}"), Length: int64(len(f.frames)), SHA256: hex.EncodeToString(sum[:])}
}

// signed is the usual entry's header, changed by change, and the frame with it and
// k's signature.
func (f *forger) signed(k *Keyring, change func(*header)) (signed, front []byte) {
	h := f.head()
	if change != nil {
		change(&h)
	}
	signed = h.append(nil)
	return signed, f.frame(signed, ed25519.Sign(k.sign, k.message("object", signed)))
}

func (f *forger) frame(signed, signature []byte) []byte {
	front := appendFrameHead(nil, magicHeader, len(signed)+len(signature))
	return append(append(front, signed...), signature...)
}

// seal encrypts front and frames to the epoch.
func (f *forger) seal(front, frames []byte) []byte {
	f.t.Helper()
	object, err := encrypt(f.laptop.current.recipient, front, frames)
	if err != nil {
		f.t.Fatal(err)
	}
	return object
}

// age encrypts a plaintext as it is to any recipients.
func (f *forger) age(plain []byte, to ...age.Recipient) []byte {
	f.t.Helper()
	var b bytes.Buffer
	w, err := age.Encrypt(&b, to...)
	if err != nil {
		f.t.Fatal(err)
	}
	if _, err := w.Write(plain); err != nil {
		f.t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		f.t.Fatal(err)
	}
	return b.Bytes()
}

// plain is a plaintext of n bytes with the usual content and padding.
func (f *forger) plain(n int) []byte {
	_, front := f.signed(f.laptop, nil)
	out := append(slices.Clone(front), f.frames...)
	out = appendFrameHead(out, magicPadding, n-len(out)-frameHead)
	return append(out, make([]byte, n-len(out))...)
}

// makeBadFiles spoils the age file.
func (f *forger) makeBadFiles() {
	const stanzas, size, damaged = "exactly one hybrid stanza", "bytes", "damaged"
	good := f.seal(f.plainFront(), f.frames)
	n, _ := agePlain(len(good))
	epoch := f.laptop.current.recipient
	add := func(name, why, comment string, object []byte) {
		f.t.Helper()
		f.bad("age-"+name, why, comment, f.ref, object)
	}
	add("empty", size, "nothing at all", nil)
	add("zeros", stanzas, "4096 zeros", make([]byte, minObject))
	add("not-encrypted", stanzas, "the plaintext of an object", slices.Concat(f.plain(minObject)))
	add("truncated-header", size, "cut in age's header", good[:1000])
	add("truncated-by-one", size, "cut by a byte", good[:len(good)-1])
	large := f.seal(f.plainFront(), make([]byte, 9000))
	add("truncated-to-a-size", damaged, "cut to a size that objects have", large[:minObject])
	add("truncated-at-a-chunk", size, "cut where age's second chunk begins", f.seal(f.plainFront(), make([]byte, 70_000))[:ageSize(65536)])
	add("extended-by-one", size, "a byte more", append(slices.Clone(good), 0))
	add("extended-to-a-size", damaged, "zeros up to the next size that objects have", append(slices.Clone(good), make([]byte, padme(len(good)+1)-len(good))...))
	add("too-small", size, "a valid age file of fewer than 4096 bytes", f.age(f.plain(n-64), epoch))
	add("size-not-padme", size, "a valid age file whose size is no Padmé size", f.age(f.plain(n+64), epoch))
	add("two-stanzas", stanzas, "two hybrid stanzas, both right", f.fitting(epoch, epoch))
	add("extra-stanza", stanzas, "a stanza of an unknown type beside the right one", f.fitting(epoch, greaseRecipient{}))
	add("extra-stanza-first", stanzas, "the same before the right one", f.fitting(greaseRecipient{}, epoch))
	classic, err := age.GenerateX25519Identity()
	if err != nil {
		f.t.Fatal(err)
	}
	add("x25519-stanza", stanzas, "an X25519 stanza", f.fitting(classic.Recipient()))
	password, err := age.NewScryptRecipient("password")
	if err != nil {
		f.t.Fatal(err)
	}
	password.SetWorkFactor(10)
	add("scrypt-stanza", stanzas, "a scrypt stanza", f.fitting(password))
	var armored bytes.Buffer
	w := armor.NewWriter(&armored)
	_, _ = w.Write(good)
	_ = w.Close()
	text := armored.Bytes()
	add("armored", size, "an armored file", text)
	add("armored-of-a-size", stanzas, "the same, in a file of a right size", append(text, bytes.Repeat([]byte("\n"), sealedSize(len(text))-len(text))...))
	add("version-2", stanzas, "age's version line says v2", bytes.Replace(good, []byte("encryption.org/v1"), []byte("encryption.org/v2"), 1))
	add("no-stanza", size, "age's header without a stanza", append([]byte("age-encryption.org/v1\n"), good[ageMAC:]...))
	add("crlf", size, "age's header with CRLF", bytes.Replace(good, []byte("v1\n"), []byte("v1\r\n"), 1))
	add("crlf-in-place", damaged, "a CR in place of a character of the stanza", slices.Concat(good[:ageStanza-1], []byte("\r"), good[ageStanza:]))
	add("bad-mac", damaged, "the MAC of age's header is wrong", f.swapChar(good, ageMAC+4))
	add("bad-base64", damaged, "a character of the stanza is no base64", slices.Concat(good[:ageStanza-9], []byte("!"), good[ageStanza-8:]))
	add("nonce", damaged, "the nonce of the payload is changed", mutate(good, ageHeader))
	add("first-byte-of-payload", damaged, "the first byte of the payload is changed", mutate(good, ageOverhead))
	add("last-byte", damaged, "the last byte is changed", mutate(good, len(good)-1))
	chunks := f.seal(f.plainFront(), make([]byte, 140_000))
	c := ageChunk + ageTag
	add("chunks-swapped", damaged, "the first two chunks of the payload have changed places",
		slices.Concat(chunks[:ageOverhead], chunks[ageOverhead+c:ageOverhead+2*c], chunks[ageOverhead:ageOverhead+c], chunks[ageOverhead+2*c:]))

	const noKey = "no key"
	f.refused("not yet", "stanza-share", noKey, "the share in the stanza is changed: it may be to a key not known here", f.ref, f.swapChar(good, len(ageIntro)+40))
	f.refused("not yet", "stanza-body", noKey, "the wrapped file key is changed: it may be to a key not known here", f.ref, f.swapChar(good, ageStanza+3))
	f.refused("not yet", "unknown-epoch", noKey, "sealed to an epoch that is not known", f.ref, f.must(encrypt(f.elsewhere.Recipient(), f.plainFront(), f.frames)))
	f.refused("not yet", "sealed-to-the-phrase", noKey, "an entry is sealed to an epoch, not to the phrase", f.ref, f.must(encrypt(f.laptop.recover, f.plainFront(), f.frames)))
	f.refused("not yet", "sealed-to-the-door-key", noKey, "nor to the key of doors", f.ref, f.must(encrypt(f.laptop.door.Recipient(), f.plainFront(), f.frames)))
}

func (f *forger) must(object []byte, err error) []byte {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
	return object
}

func (f *forger) plainFront() []byte {
	_, front := f.signed(f.laptop, nil)
	return front
}

// fitting is an age file to any recipients that has a size which objects have.
func (f *forger) fitting(to ...age.Recipient) []byte {
	f.t.Helper()
	overhead := len(f.age(nil, to...))
	size := sealedSize(len(f.plainFront()) + len(f.frames) + overhead)
	object := f.age(f.plain(size-overhead), to...)
	if len(object) != size {
		f.t.Fatalf("%d bytes, want %d", len(object), size)
	}
	return object
}

// swapChar changes a character of base64 for another.
func (f *forger) swapChar(object []byte, at int) []byte {
	object = slices.Clone(object)
	if object[at] == 'A' {
		object[at] = 'B'
	} else {
		object[at] = 'A'
	}
	return object
}

// greaseRecipient adds a stanza that nobody knows.
type greaseRecipient struct{}

func (greaseRecipient) Wrap([]byte) ([]*age.Stanza, error) {
	return []*age.Stanza{{Type: "grease", Args: []string{"a"}, Body: []byte("body")}}, nil
}

// WrapWithLabels lets it stand beside a hybrid one.
func (g greaseRecipient) WrapWithLabels(key []byte) ([]*age.Stanza, []string, error) {
	s, err := g.Wrap(key)
	return s, []string{"postquantum"}, err
}

// makeBadHeaders spoils the signed header.
func (f *forger) makeBadHeaders() {
	const exact = "exact form"
	signed := func(name, why, comment string, change func(*header)) {
		f.t.Helper()
		_, front := f.signed(f.laptop, change)
		f.bad("header-"+name, why, comment, f.ref, f.seal(front, f.frames))
	}
	signed("locker", "another locker", "of another locker", func(h *header) { h.Locker = strings.Repeat("a", 26) })
	signed("kind", "another kind", "a run served as an entry", func(h *header) { h.Kind = "run" })
	signed("writer", "another writer", "it names another writer", func(h *header) { h.Writer = f.phone.Device() })
	signed("number", "another number", "an older entry served as a new one", func(h *header) { h.Number = 2 })
	signed("to", "somebody else", "an entry is for nobody in particular", func(h *header) { h.To = f.laptop.Device() })
	signed("epoch", "another epoch", "it names the epoch before", func(h *header) { h.Epoch = f.laptop.Device() + "/1" })
	signed("epoch-form", "another epoch", "the epoch's number with a zero before it", func(h *header) { h.Epoch = f.laptop.Device() + "/02" })
	signed("no-epoch", "another epoch", "no epoch", func(h *header) { h.Epoch = "" })
	signed("no-version", "version", "version 0", func(h *header) { h.Version = 0 })
	signed("negative-version", "version", "version -1", func(h *header) { h.Version = -1 })
	signed("sha256", "not the one that was signed", "the hash of another payload", func(h *header) { h.SHA256 = strings.Repeat("0", 64) })
	signed("sha256-upper-case", "not the one that was signed", "the hash in upper case", func(h *header) { h.SHA256 = strings.ToUpper(h.SHA256) })
	signed("length-short", "end where", "a length that is too short", func(h *header) { h.Length-- })
	signed("length-long", "end where", "a length that is too long", func(h *header) { h.Length++ })
	signed("length-huge", "shorter than", "a length beyond the object", func(h *header) { h.Length = 1 << 40 })
	signed("length-negative", "shorter than", "a negative length", func(h *header) { h.Length = -1 })
	signed("log-array", "no log", "the log is no object", func(h *header) { h.Log = []byte("[]") })
	signed("log-null", "no log", "the log is null", func(h *header) { h.Log = []byte("null") })
	signed("log-broken", "no JSON", "the log is no JSON", func(h *header) { h.Log = []byte(`{"a":}`) })
	signed("log-two", "exact form", "the log smuggles in another number", func(h *header) { h.Log = []byte(`{},"number":4`) })

	raw := func(name, why, comment string, change func(string) string) {
		f.t.Helper()
		h := f.head()
		bytes := []byte(change(string(h.append(nil))))
		front := f.frame(bytes, ed25519.Sign(f.laptop.sign, f.laptop.message("object", bytes)))
		f.bad("header-"+name, why, comment, f.ref, f.seal(front, f.frames))
	}
	replace := func(old, new string) func(string) string {
		return func(s string) string {
			if !strings.Contains(s, old) {
				f.t.Fatalf("no %s in %s", old, s)
			}
			return strings.Replace(s, old, new, 1)
		}
	}
	raw("blank", exact, "a blank in its JSON", replace(`"v":1`, `"v": 1`))
	raw("newline", exact, "a line break at the end", func(s string) string { return s + "\n" })
	raw("order", exact, "its keys in another order", replace(`"kind":"entry","writer":"`+f.ref.Writer+`"`, `"writer":"`+f.ref.Writer+`","kind":"entry"`))
	raw("key-twice", exact, "a key twice", replace(`"number":3`, `"number":4,"number":3`))
	raw("key-unknown", exact, "a key that version 1 does not have", replace(`"number":3`, `"number":3,"more":1`))
	raw("key-upper-case", exact, "a key in upper case", replace(`"number"`, `"Number"`))
	raw("escape", exact, "an escape where none is needed", replace(`"entry"`, `"\u0065ntry"`))
	raw("number-form", exact, "a number in another form", replace(`"number":3,"epoch"`, `"number":3,"to":"","epoch"`))
	raw("number-exponent", "no JSON", "a number with an exponent", replace(`"number":3`, `"number":3e0`))
	raw("number-text", "no JSON", "a number as text", replace(`"number":3`, `"number":"3"`))
	raw("cut", "no JSON", "its JSON is cut", func(s string) string { return s[:len(s)-1] })
	raw("null", "version", "null in place of a header", func(string) string { return "null" })

	h := f.head()
	bytes := h.append(nil)
	sign := func(name, comment string, signature []byte) {
		f.t.Helper()
		f.bad("signature-"+name, "signature", comment, f.ref, f.seal(f.frame(bytes, signature), f.frames))
	}
	right := ed25519.Sign(f.laptop.sign, f.laptop.message("object", bytes))
	sign("changed", "a changed signature", mutate(right, 5))
	sign("zero", "a signature of zeros", make([]byte, ed25519.SignatureSize))
	sign("by-another-member", "signed by the phone", ed25519.Sign(f.phone.sign, f.phone.message("object", bytes)))
	sign("by-the-phrase", "signed by the phrase", ed25519.Sign(f.laptop.holds.root, f.laptop.message("object", bytes)))
	sign("as-a-statement", "signed as something else than an object", f.laptop.Sign("object", bytes))
	sign("without-label", "signed without a label", ed25519.Sign(f.laptop.sign, bytes))
	other, err := Found(testSeed(99), "x")
	if err != nil {
		f.t.Fatal(err)
	}
	sign("for-another-locker", "signed by the same device for another locker", ed25519.Sign(f.laptop.sign, other.message("object", bytes)))

	next := func(expect, name, why, comment string, k *Keyring) {
		f.t.Helper()
		h := f.head()
		h.Version = 2
		bytes := []byte(strings.Replace(string(h.append(nil)), `"v":2`, `"v":2,"new":true`, 1))
		front := f.frame(bytes, ed25519.Sign(k.sign, k.message("object", bytes)))
		f.refused(expect, name, why, comment, f.ref, f.seal(front, f.frames))
	}
	next("newer", "version", "version 2", "a later version, authentic", f.laptop)
	next("bad", "header-version-forged", "signature", "a later version, not authentic", f.phone)

	r := Ref{"entry", f.tablet.Device(), 1, ""}
	_, front := f.signed(f.tablet, func(h *header) { h.Writer, h.Number = f.tablet.Device(), 1 })
	f.refused("not yet", "unknown-writer", "writer is not known", "by a device that nobody has admitted", r, f.seal(front, f.frames))

	door := Ref{"door", "phrase", 1, ""}
	_, front = f.signed(f.phone, func(h *header) { h.Kind, h.Writer, h.Number, h.Epoch = "door", "phrase", 1, doorEpoch })
	f.bad("door-by-a-device", "signature", "a door that a member signed", door, f.must(encrypt(f.laptop.door.Recipient(), front, f.frames)))
}

// makeBadContents spoils what is around the header.
func (f *forger) makeBadContents() {
	front := f.plainFront()
	add := func(name, why, comment string, object []byte) {
		f.t.Helper()
		f.bad("content-"+name, why, comment, f.ref, object)
	}
	n, _ := agePlain(sealedSize(len(front) + len(f.frames)))
	plain := func(build func() []byte) []byte {
		b := build()
		if len(b) > n {
			f.t.Fatalf("%d bytes, more than %d", len(b), n)
		}
		return f.age(append(b, make([]byte, n-len(b))...), f.laptop.current.recipient)
	}
	const first, end = "begin with a signed header", "end where"
	whole := f.plain(n)
	add("header-not-first", first, "the frames before the header", plain(func() []byte { return slices.Concat(f.frames, front) }))
	add("header-magic", first, "the header in a frame with the padding's number", plain(func() []byte { return mutate(whole, 0) }))
	add("header-frame-length", first, "a header frame that is longer than the object", plain(func() []byte {
		b := slices.Clone(whole)
		binary.LittleEndian.PutUint32(b[4:], 1<<31)
		return b
	}))
	add("header-frame-short", first, "a header frame that has no room for a signature", plain(func() []byte {
		return appendFrameHead(nil, magicHeader, 65)
	}))
	add("header-twice", end, "the header frame twice", plain(func() []byte { return slices.Concat(front, front, f.frames) }))
	add("no-padding-frame", end, "zeros in place of a padding frame", plain(func() []byte { return slices.Concat(front, f.frames) }))
	at := len(front) + len(f.frames)
	add("padding-magic", end, "the padding in a frame with the header's number", plain(func() []byte { return mutate(whole, at) }))
	add("padding-short", end, "bytes after the padding", plain(func() []byte {
		b := slices.Clone(whole)
		binary.LittleEndian.PutUint32(b[at+4:], uint32(n-at-frameHead-1))
		return b
	}))
	add("padding-long", end, "a padding frame that is longer than the object", plain(func() []byte {
		b := slices.Clone(whole)
		binary.LittleEndian.PutUint32(b[at+4:], uint32(n-at-frameHead+1))
		return b
	}))
	add("padding-not-zero", "padding is not empty", "something in the padding", plain(func() []byte { return mutate(whole, n-1) }))
	larger := sealedSize(n + 1000)
	m, _ := agePlain(larger)
	add("padding-too-large", "not padded", "padded to a larger size than needed", f.age(f.plain(m), f.laptop.current.recipient))
	add("payload", "not the one that was signed", "another payload of the same length", f.seal(front, mutate(f.frames, 20)))
	add("nothing", first, "no plaintext but zeros", plain(func() []byte { return nil }))
}
