package crypto_test

import (
	"github.com/locker-project/locker/crypto"
	"github.com/locker-project/locker/daemon/replica"
)

// A Keyring is the replica's Sealer.
var _ replica.Sealer = (*crypto.Keyring)(nil)
