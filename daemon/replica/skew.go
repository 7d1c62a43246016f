package replica

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
)

// What a device writes whose program is newer may have header fields and lines that
// this one does not know. They are carried along; and because this program cannot
// know what they ask of it, it writes no base and deletes nothing until it is updated.

// skewMost bounds how many unknown things are noted.
const skewMost = 16

// noteSkew notes what an entry has that this version does not know.
func (p *pass) noteSkew(ctx context.Context, device string, h *header, carried []byte) error {
	var unknown []string
	for field := range h.more {
		unknown = append(unknown, "field/"+field)
	}
	for line := range strings.Lines(string(carried)) {
		unknown = append(unknown, "line/"+firstKey([]byte(line)))
	}
	slices.Sort(unknown)
	unknown = slices.Compact(unknown)
	for _, name := range unknown[:min(len(unknown), skewMost)] {
		if len(name) > 64 || p.skews() >= skewMost {
			name = "more"
		}
		if err := p.wait(ctx, "skew/"+name, waitNote{
			Kind: "newer", Device: device, Never: true,
			What: p.nameOf(device) + " writes with a newer version of Locker: this one keeps what it does not know, and neither compacts nor deletes",
			Do:   doUpdate,
		}); err != nil {
			return err
		}
	}
	return nil
}

// firstKey is the first key of a line.
func firstKey(line []byte) (key string) {
	_, err := eachMember(line, func(name, _ []byte) error {
		if key == "" && json.Unmarshal(name, &key) != nil {
			key = "?"
		}
		return nil
	})
	if err != nil {
		return "?"
	}
	return key
}

// skews counts the unknown things that are noted.
func (p *pass) skews() (n int) {
	p.waiting.Lock()
	defer p.waiting.Unlock()
	for key := range p.waits {
		if strings.HasPrefix(key, "skew/") {
			n++
		}
	}
	return n
}

// skewed says whether this device has met something of a newer version. What it knows
// by now, because it was updated, counts no longer.
func (p *pass) skewed(ctx context.Context) (bool, error) {
	known := func(key string) bool {
		name, ok := strings.CutPrefix(key, "skew/field/")
		if ok {
			return slices.Contains(headerFields, name)
		}
		name, ok = strings.CutPrefix(key, "skew/line/")
		return ok && slices.Contains(lineKinds, name)
	}
	if err := p.clearPrefix(ctx, "skew/", func(key string) bool { return !known(key) }); err != nil {
		return false, err
	}
	p.waiting.Lock()
	defer p.waiting.Unlock()
	for _, w := range p.waits {
		if w.Kind == "newer" {
			return true, nil
		}
	}
	return false, nil
}
