//go:build !linux

package plugins

// denyUnixSockets has nothing to do here: only Linux confines a remote.
func denyUnixSockets() {}
