package plugins

// denyUnixSockets is described with its filter.
func denyUnixSockets() {}
