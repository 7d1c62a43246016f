package replica_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"filippo.io/age"
	"filippo.io/age/armor"

	"github.com/locker-project/locker/daemon/replica"
)

// An attackClass is one way in which a cloud, or one who can write to it, attacks.
type attackClass struct {
	name string
	// do attacks, and returns the names that it touched; none where chance picked what
	// cannot be attacked so.
	do func(a *shot) (touched []string)
	// harmless attacks change nothing, and nobody is to say anything.
	harmless bool
	// open attacks may be noticed or not: what counts is that nothing is believed.
	open bool
	// judge is what is looked at instead of the usual.
	judge func(a *shot, what string)
}

// chunk is how many bytes of an age file are one chunk of ciphertext.
const ageChunk = 64<<10 + 16

// ageHeader is the length of the header of our age files, nonce included.
func ageHeader(object []byte) int {
	i := bytes.Index(object, []byte("\n--- "))
	return i + 5 + 43 + 1 + 16
}

var attackClasses = []attackClass{
	{name: "flip a bit", do: func(a *shot) []string {
		name := a.pick(a.names())
		data := slices.Clone(a.cloud.Object(name))
		data[a.rnd.IntN(len(data))] ^= 1 << a.rnd.IntN(8)
		a.cloud.Set(name, data)
		return []string{name}
	}},
	{name: "cut", do: func(a *shot) []string {
		name := a.pick(a.names())
		data := a.cloud.Object(name)
		a.cloud.Set(name, data[:a.rnd.IntN(len(data))])
		return []string{name}
	}},
	{name: "cut at a chunk", do: func(a *shot) []string {
		name := a.pick(a.large())
		data := a.cloud.Object(name)
		head, chunks := ageHeader(data), (len(data)-ageHeader(data))/ageChunk
		a.cloud.Set(name, data[:head+a.rnd.IntN(chunks+1)*ageChunk])
		return []string{name}
	}},
	{name: "extend", do: func(a *shot) []string {
		name := a.pick(a.names())
		more := make([]byte, []int{1, 16, 100, 4096, ageChunk}[a.rnd.IntN(5)])
		if a.rnd.IntN(2) == 0 {
			more[0] = byte(a.rnd.Uint32())
		}
		a.cloud.Set(name, slices.Concat(a.cloud.Object(name), more))
		return []string{name}
	}},
	{name: "swap", do: func(a *shot) []string {
		x, y := a.pick(a.names()), a.pick(a.names())
		if x == y {
			return nil
		}
		one, two := a.cloud.Object(x), a.cloud.Object(y)
		a.cloud.Set(x, two)
		a.cloud.Set(y, one)
		return []string{x, y}
	}},
	{name: "duplicate under another name", do: func(a *shot) []string {
		x, y := a.pick(a.names()), a.pick(a.names())
		if x == y {
			return nil
		}
		a.cloud.Set(x, a.cloud.Object(y))
		return []string{x}
	}},
	{name: "splice", do: func(a *shot) []string {
		x, y := a.pick(a.names()), a.pick(a.names())
		if x == y {
			return nil
		}
		one, two := a.cloud.Object(x), a.cloud.Object(y)
		cut := ageHeader(one)
		if a.rnd.IntN(2) == 0 {
			cut = a.rnd.IntN(min(len(one), len(two)))
		}
		a.cloud.Set(x, slices.Concat(one[:cut], two[min(cut, len(two)):]))
		return []string{x}
	}},
	{name: "chunks swapped, dropped, repeated", do: func(a *shot) []string {
		name := a.pick(a.large())
		data := slices.Clone(a.cloud.Object(name))
		head, n := ageHeader(data), (len(data)-ageHeader(data))/ageChunk
		at := func(i int) []byte { return data[head+i*ageChunk : head+(i+1)*ageChunk] }
		i, j := a.rnd.IntN(n), a.rnd.IntN(n)
		switch a.rnd.IntN(3) {
		case 0:
			if i == j {
				return nil
			}
			one := slices.Clone(at(i))
			copy(at(i), at(j))
			copy(at(j), one)
		case 1:
			data = slices.Delete(data, head+i*ageChunk, head+(i+1)*ageChunk)
		case 2:
			data = slices.Insert(data, head+i*ageChunk, slices.Clone(at(j))...)
		}
		a.cloud.Set(name, data)
		return []string{name}
	}},
	{name: "chunks of a blob", judge: judgeBlob, do: func(a *shot) []string {
		name := a.names("pack")[0]
		data := slices.Clone(a.cloud.Object(name))
		head, n := ageHeader(data), (len(data)-ageHeader(data))/ageChunk
		i := head + a.rnd.IntN(n)*ageChunk
		switch a.rnd.IntN(4) {
		case 0:
			data = slices.Delete(data, i, i+ageChunk)
		case 1:
			data = slices.Insert(data, i, slices.Clone(data[i:i+ageChunk])...)
		case 2:
			data[i+a.rnd.IntN(ageChunk)] ^= 1
		case 3: // by one who can encrypt
			plain, epoch := a.plain(data)
			plain[len(plain)/2+a.rnd.IntN(1000)] ^= 1
			data = a.reseal(plain, epoch)
		}
		a.cloud.Set(name, data)
		return []string{name}
	}},
	{name: "replay an old object as a new one", do: func(a *shot) []string {
		old := a.pick(a.names("entry", "run", "mark"))
		name := a.pick(a.news)
		if old == name {
			return nil
		}
		a.cloud.Set(name, a.cloud.Object(old))
		return []string{name}
	}},
	{name: "drop", do: func(a *shot) []string {
		name := a.pick(a.names())
		a.cloud.Remove(name)
		return []string{name}
	}},
	{name: "drop several", do: func(a *shot) (touched []string) {
		for range 2 + a.rnd.IntN(6) {
			name := a.pick(a.names())
			a.cloud.Remove(name)
			touched = append(touched, name)
		}
		return touched
	}},
	{name: "roll back one device", do: func(a *shot) (touched []string) {
		past := a.past[a.rnd.IntN(len(a.past)-1)]
		writer := a.target.devices[[]string{"laptop", "phone"}[a.rnd.IntN(2)]].keys.Device()
		for _, name := range a.names() {
			if past[name] == nil && a.refs[name].Writer == writer {
				a.cloud.Remove(name)
				touched = append(touched, name)
			}
		}
		return touched
	}},
	{name: "roll back everything", do: func(a *shot) (touched []string) {
		past := a.past[a.rnd.IntN(len(a.past)-1)]
		for _, name := range a.names() {
			if past[name] == nil {
				touched = append(touched, name)
			}
		}
		a.cloud.Reset(past)
		return touched
	}},
	{name: "empty", do: func(a *shot) []string {
		names := a.names()
		a.cloud.Reset(nil)
		return names
	}},
	{name: "shuffle all names", do: func(a *shot) []string {
		names := a.names()
		objects, order := a.cloud.Objects(), slices.Clone(names)
		a.rnd.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		for i, name := range names {
			a.cloud.Set(name, objects[order[i]])
		}
		return names
	}},
	{name: "forge with the recipient known", do: func(a *shot) []string {
		name := a.pick(a.sealedNames())
		plain, epoch := a.plain(a.cloud.Object(name))
		plain = slices.Clone(plain)
		a.forge(plain)
		a.cloud.Set(name, a.reseal(plain, epoch))
		return []string{name}
	}},
	{name: "a member forges for another", do: func(a *shot) []string {
		name := a.pick(a.news)
		ref := a.refs[name]
		own := replica.Ref{Kind: "entry", Writer: a.device("phone").keys.Device(), Number: ref.Number}
		change := `{"collection":"notes","id":"evil","class":"owner","clock":"0000000000000001","device":"x","fields":{"text":"\"evil\""}}` + "\n"
		object, _, err := a.device("phone").keys.Seal(own, []byte(`{"v":1,"bases":[],"clock":"0000000000000001"}`), raw(change))
		if err != nil {
			a.t.Fatal(err)
		}
		plain, epoch := a.plain(object)
		plain = bytes.Replace(slices.Clone(plain), []byte(own.Writer), []byte(ref.Writer), 1)
		a.cloud.Set(name, a.reseal(plain, epoch))
		return []string{name}
	}},
	{name: "substitute keys", do: func(a *shot) []string {
		name := a.pick(a.names("epoch", "door", "member"))
		other := a.foreignObject()
		switch a.rnd.IntN(3) {
		case 0:
			a.cloud.Set(name, other)
		case 1: // an epoch of the attacker's, sealed to what everybody has
			identity, err := age.GenerateHybridIdentity()
			if err != nil {
				a.t.Fatal(err)
			}
			plain, _ := a.plain(a.cloud.Object(a.news[0]))
			a.cloud.Set(name, a.reseal(plain, identity))
		case 2:
			a.cloud.Set(name, a.reseal([]byte(`{"v":1,"recipients":[],"identity":"AGE-SECRET-KEY-PQ-1"}`), a.epochs[0]))
		}
		return []string{name}
	}},
	{name: "downgrade", do: func(a *shot) []string {
		name := a.pick(a.sealedNames())
		plain, epoch := a.plain(a.cloud.Object(name))
		a.cloud.Set(name, a.downgraded(slices.Clone(plain), epoch))
		return []string{name}
	}},
	{name: "padding", do: func(a *shot) []string {
		name := a.pick(a.sealedNames())
		plain, epoch := a.plain(a.cloud.Object(name))
		plain = slices.Clone(plain)
		switch a.rnd.IntN(4) {
		case 0:
			plain = plain[:len(plain)-1-a.rnd.IntN(64)]
		case 1:
			plain = append(plain, make([]byte, 1+a.rnd.IntN(5000))...)
		case 2:
			plain[len(plain)-1] = 1
		case 3: // a second frame, which zstd would pass over
			plain = append(plain, 0x50, 0x2A, 0x4D, 0x18, 0, 0, 0, 0)
		}
		a.cloud.Set(name, a.reseal(plain, epoch))
		return []string{name}
	}},
	{name: "an insider encrypts anew", harmless: true, do: func(a *shot) []string {
		name := a.pick(a.sealedNames())
		plain, epoch := a.plain(a.cloud.Object(name))
		a.cloud.Set(name, a.reseal(plain, epoch))
		return []string{name}
	}},
	{name: "an insider encrypts anew to another epoch", do: func(a *shot) []string {
		name := a.pick(a.sealedNames())
		plain, epoch := a.plain(a.cloud.Object(name))
		other := a.epochs[a.rnd.IntN(len(a.epochs))]
		if other.String() == epoch.String() {
			return nil
		}
		a.cloud.Set(name, a.reseal(plain, other))
		return []string{name}
	}},
	{name: "part of the plaintext is good", do: func(a *shot) []string {
		name := a.news[2] // the one of several chunks
		data := slices.Clone(a.cloud.Object(name))
		head, n := ageHeader(data), (len(data)-ageHeader(data))/ageChunk
		at := head + (1+a.rnd.IntN(n-1))*ageChunk
		switch a.rnd.IntN(3) {
		case 0:
			data = data[:at]
		case 1:
			data[at+a.rnd.IntN(len(data)-at)] ^= 1
		case 2:
			copy(data[at:], make([]byte, 1+a.rnd.IntN(100)))
		}
		a.cloud.Set(name, data)
		return []string{name}
	}},
	{name: "bombs", do: func(a *shot) []string {
		name := a.pick(a.names())
		a.cloud.Set(name, a.bomb(name))
		return []string{name}
	}},
	{name: "a member's bomb", do: func(a *shot) []string {
		d := a.device("laptop")
		name := a.news[len(a.news)-1]
		frames := zeros(1 << (28 + a.rnd.IntN(6)))
		if a.rnd.IntN(2) == 0 {
			frames = bytes.Repeat(zeros(60<<20), 20)
		}
		object, _, err := d.keys.Seal(a.refs[name], []byte(`{"v":1,"bases":[],"clock":"0000000000000001"}`), frames)
		if err != nil {
			a.t.Fatal(err)
		}
		a.cloud.Set(name, object)
		return []string{name}
	}},
	{name: "names as weapons", open: true, do: func(a *shot) []string {
		a.device("phone").remote = &floodCloud{Cloud: a.cloud, names: 2000}
		a.device("phone").boot(a.t, nil)
		name := a.pick(a.names("entry"))
		a.cloud.Remove(name)
		return []string{name}
	}},
	{name: "a removed device writes on", open: true, do: func(a *shot) []string {
		return a.revoked()
	}},
	{name: "another locker's objects", do: func(a *shot) []string {
		name := a.pick(a.names())
		a.cloud.Set(name, a.foreignObject())
		for name, data := range a.foreign {
			if a.cloud.Object(name) == nil {
				a.cloud.Set(name, data)
			}
		}
		return []string{name}
	}},
	{name: "what was deleted is back", harmless: true, do: func(a *shot) (touched []string) {
		for _, name := range a.goneNames() {
			if a.rnd.IntN(3) == 0 {
				a.cloud.Set(name, a.before(name))
				touched = append(touched, name)
			}
		}
		return touched
	}},
	{name: "a member lies of others", open: true, do: func(a *shot) []string {
		return a.lie()
	}},
	{name: "a copy of the device", judge: judgeClone, do: func(a *shot) []string {
		d := a.device("phone")
		number := a.next(d)
		ref := replica.Ref{Kind: "entry", Writer: d.keys.Device(), Number: number}
		object, _, err := d.keys.Seal(ref, []byte(`{"v":1,"bases":[],"clock":"0000000000000001"}`), nil)
		if err != nil {
			a.t.Fatal(err)
		}
		a.cloud.Set(d.keys.Name(ref), object)
		return []string{d.keys.Name(ref)}
	}},
	{name: "freeze", judge: judgeFreeze, do: func(a *shot) []string { return a.news }},
	{name: "fork", judge: judgeFork, do: func(a *shot) []string { return a.news }},
}

// attack makes the n-th attack of a class, if chance picked what can be attacked.
func (c *attackClass) attack(a *shot, n int) (made bool) {
	touched := c.do(a)
	if len(touched) == 0 {
		return false
	}
	what := fmt.Sprintf("%s (LOCKER_SEED=%d, %+v)", c.name, a.seed0, a.refs[touched[0]])
	if c.judge != nil {
		c.judge(a, what)
	} else {
		c.judgeUsual(a, touched, what, n)
	}
	return true
}

// large are the objects of several chunks.
func (a *shot) large() (names []string) {
	for name, data := range a.target.cloud {
		if len(data) > 2*ageChunk {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// forge changes a plaintext: its header, its signature, or its payload.
func (a *shot) forge(plain []byte) {
	length := int(binary.LittleEndian.Uint32(plain[4:]))
	header := plain[8 : 8+length-64]
	switch a.rnd.IntN(6) {
	case 0: // a signature of the attacker's
		for i := range 64 {
			plain[8+length-64+i] = byte(a.rnd.Uint32())
		}
	case 1: // another number
		i := bytes.Index(header, []byte(`"number":`)) + len(`"number":`)
		header[i] = '1' + (header[i]-'1'+1)%9
	case 2: // another payload, with its hash
		i := bytes.Index(header, []byte(`"sha256":"`)) + len(`"sha256":"`)
		header[i] ^= 1
	case 3:
		plain[8+length+a.rnd.IntN(len(plain)-8-length)] ^= 1
	case 4:
		i := bytes.Index(header, []byte(`"clock":"`)) + len(`"clock":"`)
		header[i] = 'f'
	case 5: // a payload as long as the one that was signed, and in good form
		payload := plain[8+length : 8+length+payloadLength(header)]
		change := `{"collection":"notes","id":"evil","class":"owner","clock":"0000000000000001","device":"x","fields":{"text":"\"evil\""}`
		if room := len(payload) - len(raw(change+"}\n")); room >= 0 {
			copy(payload, raw(change+strings.Repeat(" ", room)+"}\n"))
		} else {
			plain[8+length-64] ^= 1
		}
	}
}

// payloadLength is what a header says of its payload.
func payloadLength(header []byte) (n int) {
	_, rest, _ := bytes.Cut(header, []byte(`,"length":`))
	for _, c := range rest {
		if c < '0' || c > '9' {
			return n
		}
		n = n*10 + int(c-'0')
	}
	return n
}

// downgraded is a plaintext in a form that no version has, or a weaker one would.
func (a *shot) downgraded(plain []byte, epoch *age.HybridIdentity) []byte {
	var b bytes.Buffer
	encrypt := func(to age.Recipient) []byte {
		w, err := age.Encrypt(&b, to)
		if err == nil {
			_, err = w.Write(plain)
		}
		if err := errors.Join(err, w.Close()); err != nil {
			a.t.Fatal(err)
		}
		return b.Bytes()
	}
	switch a.rnd.IntN(6) {
	case 0: // version 0
		return a.reseal(bytes.Replace(plain, []byte(`{"v":1`), []byte(`{"v":0`), 1), epoch)
	case 1: // no signed header at all
		length := int(binary.LittleEndian.Uint32(plain[4:]))
		return a.reseal(plain[8+length:], epoch)
	case 2: // plaintext
		return plain
	case 3: // a passphrase
		r, err := age.NewScryptRecipient("password")
		if err != nil {
			a.t.Fatal(err)
		}
		r.SetWorkFactor(1)
		return encrypt(r)
	case 4: // a classic recipient
		identity, err := age.GenerateX25519Identity()
		if err != nil {
			a.t.Fatal(err)
		}
		return encrypt(identity.Recipient())
	}
	w := armor.NewWriter(&b)
	_, err := w.Write(a.reseal(plain, epoch))
	if err := errors.Join(err, w.Close()); err != nil {
		a.t.Fatal(err)
	}
	return b.Bytes()
}

// bomb is an object that costs who opens it dearly, if it lets itself be made to.
func (a *shot) bomb(name string) []byte {
	switch a.rnd.IntN(5) {
	case 0: // stanzas
		var b bytes.Buffer
		b.WriteString("age-encryption.org/v1\n")
		stanza := "-> mlkem768x25519 " + strings.Repeat("A", 1494) + "\n" + strings.Repeat("B", 43) + "\n"
		for b.Len() < 1<<20 {
			b.WriteString(stanza)
		}
		b.WriteString("--- " + strings.Repeat("C", 43) + "\n")
		return b.Bytes()
	case 1: // work factor
		return []byte("age-encryption.org/v1\n-> scrypt " + strings.Repeat("A", 22) + " 30\n" + strings.Repeat("B", 43) + "\n--- " + strings.Repeat("C", 43) + "\n" + strings.Repeat("x", 4096))
	case 2: // a line without an end
		return append([]byte("age-encryption.org/v1\n-> "), bytes.Repeat([]byte("a"), 2<<20)...)
	case 3: // large
		return make([]byte, 4<<20)
	}
	plain := binary.LittleEndian.AppendUint32(nil, 0x184D2A50)
	plain = binary.LittleEndian.AppendUint32(plain, 0xFFFFFFFF) // a header of 4 GiB
	return a.reseal(append(plain, make([]byte, 3000)...), a.epochs[0])
}

// foreignObject is an object of another locker.
func (a *shot) foreignObject() []byte {
	var names []string
	for name := range a.foreign {
		names = append(names, name)
	}
	slices.Sort(names)
	return a.foreign[a.pick(names)]
}

// goneNames are those of objects that were deleted.
func (a *shot) goneNames() (names []string) {
	for _, past := range a.past {
		for name := range past {
			if a.target.cloud[name] == nil {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func (a *shot) before(name string) []byte {
	for _, past := range a.past {
		if past[name] != nil {
			return past[name]
		}
	}
	return nil
}

// next is the number of the next entry of a device.
func (a *shot) next(d *victim) uint64 {
	st, err := d.Status(context.Background())
	if err != nil {
		a.t.Fatal(err)
	}
	for _, s := range st.Devices {
		if s.ID == d.keys.Device() {
			return s.Entries + 1
		}
	}
	a.t.Fatal("the device is not listed")
	return 0
}

// revoked lets the tablet, which does not know that it is out, or does not care, go on:
// beyond its pin, under it, and as a member that admits and removes.
func (a *shot) revoked() (touched []string) {
	d := a.device("tablet")
	own := d.keys.Device()
	change := `{"collection":"notes","id":"evil","class":"owner","clock":"0000000000000001","device":"` + own + `","fields":{"text":"\"evil\""}}` + "\n"
	put := func(ref replica.Ref, log string, frames []byte) {
		object, _, err := d.keys.Seal(ref, []byte(log), frames)
		if err != nil {
			a.t.Fatal(err)
		}
		a.cloud.Set(d.keys.Name(ref), object)
		touched = append(touched, d.keys.Name(ref))
	}
	const log = `{"v":1,"bases":[],"clock":"0000000000000001"}`
	number := a.next(d)
	switch a.rnd.IntN(3) {
	case 0: // beyond
		for i := range uint64(1 + a.rnd.IntN(3)) {
			put(replica.Ref{Kind: "entry", Writer: own, Number: number + i}, log, raw(change))
		}
	case 1: // a mark that names much more
		put(replica.Ref{Kind: "mark", Writer: own, Number: 1 + uint64(a.rnd.IntN(5))}, `{"v":1,"entry":[1000000,"`+strings.Repeat("a", 64)+`"],"bases":[],"clock":"0000000000000001"}`, nil)
	case 2: // it removes the phone, dating that back
		payload, err := d.keys.Remove(a.device("phone").keys.Device(), replica.Pin{})
		if err != nil {
			a.t.Fatal(err)
		}
		put(replica.Ref{Kind: "member", Writer: own, Number: 1}, log, raw(string(payload)))
	}
	return touched
}

// lie lets the phone, a member, say of the laptop's log what is not so.
func (a *shot) lie() []string {
	d := a.device("phone")
	laptop := a.device("laptop").keys.Device()
	ref := replica.Ref{Kind: "entry", Writer: d.keys.Device(), Number: a.next(d)}
	id := strings.Repeat("b", 64)
	log := []string{
		fmt.Sprintf(`{"v":1,"vector":{%q:[%d,%q]},"bases":[],"clock":"0000000000000001"}`, laptop, 1+a.rnd.IntN(1<<30), id),
		fmt.Sprintf(`{"v":1,"prev":%q,"bases":[],"clock":"0000000000000001"}`, id),
		fmt.Sprintf(`{"v":1,"tips":[%q],"bases":[],"clock":"0000000000000001"}`, id),
		fmt.Sprintf(`{"v":1,"bases":[[%d,%q]],"clock":"0000000000000001"}`, 1+a.rnd.IntN(100), id),
		`{"v":1,"bases":[],"clock":"ffffffffffffffff"}`,
	}[a.rnd.IntN(5)]
	object, _, err := d.keys.Seal(ref, []byte(log), nil)
	if err != nil {
		a.t.Fatal(err)
	}
	a.cloud.Set(d.keys.Name(ref), object)
	return []string{d.keys.Name(ref)}
}

// judgeUsual is what must be so after an attack: somebody with memory notices, nothing
// that nobody wrote is held, nothing in part, and what was not touched arrives.
func (c *attackClass) judgeUsual(a *shot, touched []string, what string, n int) {
	phone := a.device("phone")
	found, kinds, err := a.look(phone)
	if err != nil {
		a.t.Errorf("%s: the phone: %v", what, err)
		return
	}
	a.whole(phone, what)
	blocked := slices.ContainsFunc(touched, func(name string) bool { return a.refs[name].Kind == "member" || a.refs[name].Kind == "door" })
	if !blocked && !c.open && c.name != "empty" && c.name != "shuffle all names" {
		a.flows(phone, touched, what)
	}
	switch {
	case c.harmless && len(kinds) > 0:
		a.t.Errorf("%s: false alarm of the phone: %v", what, kinds)
	case !c.harmless && !c.open && found == 0:
		found, _, err = a.look(a.device("laptop"))
		if err != nil || found == 0 && !a.overtaken(touched) {
			a.t.Errorf("%s: nobody notices (%v)", what, err)
		}
	}
	if n%3 == 0 {
		a.newcomer(touched, what)
	} else if n%8 == 1 && !c.open && c.name != "a member's bomb" {
		a.healed(what)
	}
}

// overtaken says that what was attacked is as it was, or is not needed any more, so that
// one may do without it: its writer, in the pass in which it would have noticed, put a
// newer base over it.
func (a *shot) overtaken(touched []string) bool {
	for _, name := range touched {
		if !bytes.Equal(a.cloud.Object(name), a.target.cloud[name]) {
			a.cloud.Remove(name)
		}
	}
	fresh := a.fresh()
	_, err := fresh.Restore(context.Background(), nil)
	return err == nil && fresh.state.hash() == a.device("laptop").state.hash()
}

// newcomer restores a device that has the phrase alone.
func (a *shot) newcomer(touched []string, what string) {
	fresh := a.fresh()
	_, err := fresh.Restore(context.Background(), nil)
	a.whole(fresh, what)
	if err != nil {
		return // it says so, and holds nothing that is not good
	}
	if !slices.ContainsFunc(touched, func(name string) bool {
		return name[:2] == "k/" || a.refs[name].Kind == "base" || a.refs[name].Kind == ""
	}) {
		a.flows(fresh, touched, what)
	}
}

// judgeBlob: wrong bytes of a blob are never taken.
func judgeBlob(a *shot, what string) {
	phone := a.device("phone")
	if err := phone.Blob(context.Background(), a.blob); err == nil {
		a.t.Errorf("%s: the blob is taken", what)
	}
	if phone.state.blobs[a.blob] != nil {
		a.t.Errorf("%s: the blob is there", what)
	}
	if found, _, err := a.look(phone); err != nil || found == 0 {
		a.t.Errorf("%s: nobody notices: %v", what, err)
	}
}

// judgeClone: a device whose log goes on without it says so, and puts nothing.
func judgeClone(a *shot, what string) {
	phone := a.device("phone")
	phone.state.put("mine", "x")
	puts := a.cloud.Requests("put")
	found, _, err := a.look(phone)
	if err != nil || found == 0 {
		a.t.Errorf("%s: not noticed: %v", what, err)
	}
	if n := a.cloud.Requests("put") - puts; n > 0 {
		a.t.Errorf("%s: %d puts", what, n)
	}
}

// judgeFreeze hides from the phone all that the laptop wrote last. The phone has no
// proof; the laptop sees that it is not shown.
func judgeFreeze(a *shot, what string) {
	laptop, phone := a.device("laptop"), a.device("phone")
	hidden := map[string]bool{}
	for name, ref := range a.refs { // all but what the phone has seen
		if ref.Writer == laptop.keys.Device() && (a.past[len(a.past)-5][name] == nil || ref.Kind == "mark") {
			hidden[name] = true
		}
	}
	phone.remote = &filtered{a.cloud, hidden}
	phone.boot(a.t, nil)
	for range 7 {
		a.time = a.time.Add(5 * time.Hour)
		phone.state.put("go on", a.time.String())
		for _, d := range []*victim{phone, laptop} {
			if _, err := d.Sync(context.Background(), replica.SyncOptions{}); err != nil {
				a.t.Errorf("%s: %v", what, err)
			}
		}
	}
	st, err := laptop.Status(context.Background())
	if err != nil || !slices.ContainsFunc(st.Alarms, func(n replica.Notice) bool { return n.Kind == "unseen" }) {
		a.t.Errorf("%s: the laptop does not say that it is not shown: %+v %v", what, st.Alarms, err)
	}
}

// judgeFork shows the phone another continuation of the laptop's log than the one
// that is there; when the two views meet somebody says so at once.
func judgeFork(a *shot, what string) {
	laptop, phone := a.device("laptop"), a.device("phone")
	name := a.news[a.rnd.IntN(len(a.news)-1)]
	object, _, err := laptop.keys.Seal(a.refs[name], []byte(`{"v":1,"bases":[],"clock":"0000000000000001"}`), nil)
	if err != nil {
		a.t.Fatal(err)
	}
	honest := a.cloud.Object(name)
	a.cloud.Set(name, object)
	if _, err := phone.Sync(context.Background(), full); err != nil {
		a.t.Errorf("%s: %v", what, err)
	}
	a.time = a.time.Add(61 * time.Minute)
	if _, err := phone.Sync(context.Background(), full); err != nil { // says what it has read
		a.t.Errorf("%s: %v", what, err)
	}
	a.cloud.Set(name, honest)
	found := 0
	for _, d := range []*victim{laptop, phone} {
		n, kinds, err := a.look(d)
		if err != nil {
			a.t.Errorf("%s: %v", what, err)
		}
		if slices.Contains(kinds, "fork") {
			found += n
		}
	}
	if found == 0 {
		a.t.Errorf("%s: no fork is noticed", what)
	}
}

// TestHostile attacks copies of one locker in every way, again and again.
func TestHostile(t *testing.T) {
	each := howMany(4, 40, 170)
	g := newTarget(t)
	t.Logf("the target has %d objects", len(g.cloud))
	base := seeds(t, 1)[0]
	var next atomic.Int64
	var group sync.WaitGroup
	counts, times := make([]atomic.Int64, len(attackClasses)), make([]atomic.Int64, len(attackClasses))
	start := time.Now()
	work := func() {
		for i := next.Add(1) - 1; i < int64(each*len(attackClasses)); i = next.Add(1) - 1 {
			at, seed := int(i)%len(attackClasses), base+uint64(i)
			begin := time.Now()
			if attackClasses[at].attack(g.shoot(t, seed), int(i)/len(attackClasses)) {
				counts[at].Add(1)
				times[at].Add(int64(time.Since(begin)))
			}
			if t.Failed() {
				return
			}
		}
	}
	for range runtime.GOMAXPROCS(0) {
		group.Go(work)
	}
	group.Wait()
	total := int64(0)
	for i := range attackClasses {
		n := counts[i].Load()
		total += n
		if n == 0 && !t.Failed() {
			t.Errorf("%s: no store was attacked", attackClasses[i].name)
		}
		if n == 0 {
			continue
		}
		t.Logf("%5d stores, %8v each: %s", n, time.Duration(times[i].Load()/max(n, 1)).Round(10*time.Microsecond), attackClasses[i].name)
	}
	t.Logf("%d stores in %d classes, %v", total, len(attackClasses), time.Since(start).Round(time.Millisecond))
}
