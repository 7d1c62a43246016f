package replica

// SmallPacks makes packs as large as that many bytes of frames, and keeps as few of
// them as that.
func (c *Config) SmallPacks(most int, held int64) {
	c.packs = packTuning{most: most, small: int64(most) / 2, held: held}
}
