// Package metered asks the system whether the network is paid by volume.
//
// [Network] is all of it. Only Linux with NetworkManager tells; elsewhere it is not
// known, and the owner can say (see remote.Policy).
package metered
