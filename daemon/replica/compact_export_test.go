package replica

// For tests outside the package.

// JoinLines joins lines as a run does.
func JoinLines(parts ...[]byte) ([]byte, error) {
	var j joiner
	for _, lines := range parts {
		if err := j.add(lines); err != nil {
			return nil, err
		}
	}
	var out []byte
	err := j.emit(func(_, lines []byte) error { out = append(out, lines...); return nil })
	return out, err
}

// CompactOften makes a device compact its log after a few entries, in small runs, with
// little memory, and keep entries of a few pages as they are.
func (c *Config) CompactOften() {
	c.tune = tuning{every: 4, spare: 2, wait: 2, fan: 2, large: 16 << 10, batch: 24 << 10, lines: 8 << 10, frames: 1<<20 + 8<<10, memory: 4 << 10}
}
