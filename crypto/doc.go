// Package crypto holds the keys of a locker: it makes and opens sealed objects,
// and judges who is a member.
//
// Start with [Keyring], which [Found], [Recover], [Join] and [Load] make, and its
// methods Seal, Open and Absorb. A [Seed] is the recovery phrase; [Protect] is for
// the file in which a device keeps its keys.
//
// It promises this. An object that Open accepts was made by the device that the
// caller asked for, as the object that the caller asked for, of this locker, whole;
// an object that was not is refused at little cost, whoever made it. Who is a
// member depends on the set of objects absorbed and on nothing else. Nothing is
// sealed so that a device known to be removed can read it. What Open accepts today
// every later version accepts.
//
// It does not keep anything: callers keep the objects, and absorb doors, member
// objects and epochs anew at each start. It does not hide who wrote an object from
// those that can open it, and it cannot take back what a removed device has read.
//
// # Terms
//
// Numbers in binary are big-endian unless it says otherwise. ‖ joins bytes. base32
// is RFC 4648's in lower case without padding; base64 is RFC 4648's standard one
// with padding. HKDF is HKDF-SHA-256 without salt.
//
// "Exact JSON" is the one form that is accepted: the keys in the order given here,
// no other keys, no key twice, no blanks; optional keys left out when empty; byte
// strings in base64; integers in plain decimal; of escapes only \" \\ in what is
// otherwise UTF-8. A reader parses, writes its own form, and refuses what differs.
//
// # Keys
//
// From the 32 bytes of the phrase (24 words of BIP-39, English, no passphrase; the
// entropy itself, not the seed that BIP-39 would stretch from it):
//
//	locker id          base32(HKDF(phrase, "locker/1 locker id", 16))      26 characters
//	name key           HKDF(phrase, "locker/1 name key", 32)
//	root key           Ed25519, seed HKDF(phrase, "locker/1 root key", 32)
//	recovery identity  age hybrid, seed HKDF(phrase, "locker/1 recovery identity", 32)
//
// From the name key, which every device has:
//
//	blob key           HKDF(name key, "locker/1 blob key", 32)
//	door identity      age hybrid, seed HKDF(name key, "locker/1 door identity", 32)
//
// An age hybrid identity with seed s is the text bech32("AGE-SECRET-KEY-PQ-", s). A
// device has an Ed25519 key and an age hybrid identity, both random. Its id is
// base32 of the first 10 bytes of SHA-256 of its public Ed25519 key, 16 characters.
// "phrase" stands for the phrase where an id stands for a device. A phrase's id is
// made from its root key as a device's is from its own.
//
// A phrase may be replaced. Locker id, name key and what follows from it stay those
// of the first one; root key and recovery identity are those of the one that stands.
//
// # Names
//
// The name of an object is a folder, "k/" for the kinds door, member, epoch, mark,
// phrase and "d/" for entry, run, base, pack, and
//
//	base32(HMAC-SHA-256(name key, kind ‖ 0x00 ‖ writer ‖ 0x00 ‖ number (8 bytes) ‖ 0x00 ‖ to))
//
// where to is the recipient of an epoch, "phrase" or a device, and else empty.
//
// # Objects
//
// An object is an age file (age-encryption.org/v1, binary) with exactly one stanza,
// of type mlkem768x25519. Its plaintext is
//
//	frame A    zstd skippable frame 0x184D2A50: signed header ‖ signature (64 bytes)
//	payload    zstd frames, as the caller gave them; may be empty
//	frame B    zstd skippable frame 0x184D2A51: zeros
//
// A skippable frame is its number and its length, both 4 bytes little-endian, and
// the content; so "age -d | zstd -d" prints what the payload holds. The object's
// size is the smallest that has room for frame A, the payload and a frame B of at
// least 8 bytes, is a Padmé size, at least 4096, and can be an age file's size
// (1643 + n + 16·max(1, ⌈n/65536⌉) for a plaintext of n bytes); frame B fills it
// up. Padmé: with e = ⌊log2 L⌋ and s = ⌊log2 e⌋ + 1, L is rounded up to a multiple
// of 2^(e-s). Objects have at most 32 MiB.
//
// The header is exact JSON, at most 1 MiB:
//
//	v        1
//	locker   the locker's id
//	kind     "door", "member", "epoch", "mark", "entry", "run", "base", "pack" or "phrase"
//	writer   a device's id; "phrase" for a door and a phrase
//	number   up to 2^53-1; member: up to 1024; epoch: 1 to 1024; phrase: 0
//	to       epochs: the recipient, a device's id or "phrase"; doors: the id of the
//	         phrase that made it, unless the first; phrase: its name without the folder
//	epoch    what it is sealed to: "MAKER/NUMBER" of an epoch; for an epoch the same
//	         as to; for a door "door"
//	log      a JSON object, the replica's part; kept byte for byte
//	length   of the payload
//	sha256   of the payload, in lower-case hex
//
// The id of an object is SHA-256 of the header's bytes, in lower-case hex. The
// signature is by the writer's key (the root key for a door), over
//
//	"locker/1 object" ‖ 0x00 ‖ locker id ‖ 0x00 ‖ header
//
// A door is sealed to the door identity, an epoch to its recipient's identity
// (the recovery identity for the phrase), everything else to an epoch. A header of
// version 2 or more with a good signature is authentic, and not read further.
//
// Other signatures by devices are over "locker/1 statement CONTEXT" ‖ 0x00 ‖ locker
// id ‖ 0x00 ‖ message, where CONTEXT names what is signed.
//
// # Doors and member objects
//
// The payload, decompressed, is exact JSON and admits a device, or removes one, or
// replaces the phrase. A door says it in a phrase's name, a member object in its
// writer's.
//
//	v        1
//	admit    a card
//	remove   {"device": id, "number": n, "id": hex, "clock": n, "void": [ids]}
//	replace  see below
//	phrase   doors: the id of the phrase that made it, as in the header; optional
//	tips     ids of the newest doors and member objects that the writer had seen and
//	         that count, sorted; optional
//
// number, id and clock are the pin: the last entry of the removed device that
// counts (0 and "" if none does) and the greatest clock of its own revisions up to it. void (optional, sorted, in
// doors alone) lists member objects by the removed device that are not to be upheld.
//
// A card is what a device shows of itself, and the form of a request to be admitted:
//
//	v          1
//	name       1 to 64 bytes of printable UTF-8
//	key        its public Ed25519 key
//	recipient  its age recipient, the 1,216 bytes of which bech32("age1pq", …) is the text
//	proof      its signature over "locker/1 device" ‖ 0x00 ‖ locker id ‖ 0x00 ‖
//	           name ‖ 0x00 ‖ key ‖ recipient
//
// Which of these statements count, and who is a member, is said in judge.go, and in
// short: a statement counts if its writer is a member judging by what it names,
// directly or through others; a removal is void if a senior's standing removal, not
// having seen it, removed its writer, or, not having seen the admission, its
// admitter, and so up; an admission is void if any standing removal did. Seniority
// is the path of admissions from the phrase.
//
// # Replacing the phrase
//
// replace is {"from", "root", "recovery", "at", "sum", "proof"}: the root key of the
// phrase that goes, root key and recipient (1,216 bytes) of the new one, the name
// (without the folder) and the SHA-256 (hex) of the new one's object, and a signature
// by root over "locker/1 phrase" ‖ 0x00 ‖ locker id ‖ 0x00 ‖ lv(from, root, recovery,
// at, sum), where lv joins strings, each after its length in LEB128.
//
// That object is of kind phrase. It is sealed as one of the locker that the new
// phrase would found: its locker id, its name key, its root key and recovery identity
// ("epoch" is "phrase"), number 0, the name being that of an empty to. Its payload is
// an invitation (below) to this locker, without keys. So the new phrase, which has
// this locker's name key from nowhere else, finds and reads it alone.
//
// Which phrase stands, and which statements of phrases count, is said in replace.go:
// a replacement that the old phrase signed is followed at once, one that a member
// signed once the owner said yes on that device; and of what a replaced phrase said,
// that counts which its replacement had seen.
//
// # Epochs
//
// An epoch is named by its maker and a number, and there is an object for each
// recipient: each member, and the phrase that stands. The payload is exact JSON:
//
//	v           1
//	recipients  devices, the maker among them, sorted; the phrase is always one too
//	phrase      its id, unless it is the first
//	removed     devices that the maker knows to be removed, sorted; optional
//	identity    the epoch's age hybrid identity, AGE-SECRET-KEY-PQ-1…
//	earlier     every other epoch that its maker knows, but for those of others that
//	            only phrases have which the owner refused there; optional:
//	            [{"maker": id, "number": n, "identity": text, "phrases": [ids]}],
//	            where phrases (sorted, optional) are those that are known to have it
//	            beside the one that has this epoch
//
// An epoch is sealed to only if its own object, by its maker, is here; its maker,
// its recipients and the recipients of all epochs that carry it are members, and the
// phrase that stands is one of them, and none that was replaced; and no
// device is removed that its maker did not know to be. So "age -d" with the
// recovery identity opens the epochs, and with the identities in them all the rest.
//
// # Device file and invitation
//
// [Keyring.Secret] and [Keyring.Invite] are exact JSON: v, locker, name_key, root
// and recovery (public key and recipient, 1,216 bytes, of the first phrase), keys
// (public keys of members that an invitation named, the one that made it first,
// optional), phrases (ids of those that were accepted, optional), and in a device file
// sign, identity (seeds of the device's keys) and name.
//
// # Meetings
//
// A device joins by a [Code]: a meeting, which is public, and a secret. A short code
// is a number of four digits and three words of BIP-39's list; its meeting is the
// number, its secret the words with blanks between them. A long one is 5 bytes, of
// which base32 is the meeting, 16 bytes of secret, and the first 4 bytes of SHA-256
// of "locker/1 code" ‖ 0x00 ‖ those 21; it is written "LOCKER-JOIN-" and base32 in
// capitals.
//
// The two devices exchange five messages, as objects of 4096 bytes under the names
//
//	"k/" base32(SHA-256("locker/1 meet" ‖ 0x00 ‖ meeting ‖ 0x00 ‖ n))      n: "0" to "4"
//
// A message is "locker/1 meet" ‖ n (one byte) ‖ how many fields (one byte) ‖ each
// field after its length (two bytes) ‖ zeros ‖ SHA-256 of all before. lv joins
// strings, each after its length in LEB128; commit(role, nonce, …) is SHA-256 of
// lv("locker/1 pair " ‖ role, nonce, …).
//
//	0  inviter  sid (16 random bytes), share, ADa
//	1  joiner   share, ADb, tag, sealed(nonce ‖ key ‖ recipient ‖ name)
//	2  inviter  SHA-256 of message 1, tag, sealed(nonce ‖ age file: the invitation)
//	3  joiner   sealed(the card)
//	4  inviter  sealed(number of the inviter's epoch for the joiner, 8 bytes)
//
// share, the key ISK and the tags are those of CPACE-RISTR255-SHA512 in
// draft-irtf-cfrg-cpace-21 with its key confirmation (10.4), where PRS is the
// secret, CI is lv("locker/1 pair", "inviter", "joiner", meeting), ADa is
// commit("inviter", nonce, locker id, the inviter's key) and ADb is
// commit("joiner", nonce, key, recipient, name): 32-byte nonces, opened in messages 2
// and 1. sealed is ChaCha20-Poly1305 with the key HKDF(ISK, "locker/1 pair message
// n", 32), a nonce of zeros, and no associated data. The age file is sealed to the
// joiner's recipient. The fingerprint is HKDF(ISK, "locker/1 pair fingerprint", 8)
// mod 10^8. Instead of any message a side may say 0xff, with one field of one byte:
// 1 the code is wrong, 2 cancelled.
package crypto
