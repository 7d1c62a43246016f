// Package crypto holds the keys of a locker: it makes and opens sealed objects,
// and judges who is a member.
//
// Start with [Keyring], which [Found], [Recover], [Join] and [Load] make, and its
// methods Seal, Open and Absorb. A [Seed] is the recovery phrase.
package crypto
