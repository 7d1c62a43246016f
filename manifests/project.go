package manifests

import (
	"encoding/json"
	"hash/maphash"
	"slices"
	"strings"
)

// A node is one step of the paths that a grant names. Lists are passed through: a
// path below a list means that field of each of its elements.
type node struct {
	leaf bool // a path ends here: a scalar, or a list of scalars, may be seen
	kids map[string]*node
}

// tree makes a node out of dotted paths.
func tree(paths []string) *node {
	root := &node{}
	for _, path := range paths {
		at := root
		for part := range strings.SplitSeq(path, ".") {
			if at.kids == nil {
				at.kids = map[string]*node{}
			}
			if at.kids[part] == nil {
				at.kids[part] = &node{}
			}
			at = at.kids[part]
		}
		at.leaf = true
	}
	return root
}

// find returns the node at a path, or nil.
func (n *node) find(path string) *node {
	for part := range strings.SplitSeq(path, ".") {
		if n == nil {
			return nil
		}
		n = n.kids[part]
	}
	return n
}

// only returns the tree cut down to some paths, each of them in the tree.
func (n *node) only(paths []string) *node {
	out := &node{}
	for _, path := range paths {
		from, to := n, out
		for part := range strings.SplitSeq(path, ".") {
			from = from.kids[part]
			if to.kids == nil {
				to.kids = map[string]*node{}
			}
			if to.kids[part] == nil {
				to.kids[part] = &node{}
			}
			to = to.kids[part]
		}
		*to = *from
	}
	return out
}

// names are the top-level names, sorted; never nil.
func (n *node) names() []string {
	names := make([]string, 0, len(n.kids))
	for name := range n.kids {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

var emptyObject = json.RawMessage("{}")

// project returns an object with nothing but what the tree names. The bytes of b
// are returned themselves where nothing has to go; what is no JSON object shows
// nothing. Objects and lists of which nothing is left are left out too, so that
// they do not tell that there was something.
func (n *node) project(b json.RawMessage) json.RawMessage {
	start := skipSpace(b, 0)
	if end := n.clean(b, start, 0, true); end > 0 && skipSpace(b, end) == len(b) {
		return b
	}
	out, end := n.rewriteObject(make([]byte, 0, len(b)), b, start, 0)
	if end < 0 || skipSpace(b, end) != len(b) {
		return emptyObject
	}
	return out
}

// clean reads a value that may be shown as it is; -1 says that it may not, or is
// no JSON. A nil node shows nothing.
func (n *node) clean(b []byte, i, depth int, top bool) int {
	if n == nil || i >= len(b) || depth > maxNesting {
		return -1
	}
	switch b[i] {
	case '{':
		if n.kids == nil && !top {
			return -1
		}
		empty := !top
		end := members(b, i, func(m member, at int) int {
			empty = false
			return n.kids[string(m.name)].clean(b, at, depth+1, false)
		})
		if empty {
			return -1
		}
		return end
	case '[':
		empty := !n.leaf
		end := elements(b, i, func(at int) int {
			empty = false
			return n.clean(b, at, depth+1, false)
		})
		if empty || top {
			return -1
		}
		return end
	}
	if !n.leaf {
		return -1
	}
	return skipValue(b, i, depth)
}

// rewrite appends what may be shown of the value at i, which may be nothing.
func (n *node) rewrite(out, b []byte, i, depth int) ([]byte, int) {
	switch {
	case i >= len(b) || depth > maxNesting:
		return out, -1
	case n == nil || b[i] == '{' && n.kids == nil || b[i] != '{' && b[i] != '[' && !n.leaf:
		return out, skipValue(b, i, depth)
	case b[i] == '{':
		start := len(out)
		out, end := n.rewriteObject(out, b, i, depth)
		if len(out) == start+len("{}") {
			out = out[:start]
		}
		return out, end
	case b[i] == '[':
		start := len(out)
		out = append(out, '[')
		end := elements(b, i, func(at int) (next int) {
			before := len(out)
			if before > start+1 {
				out = append(out, ',')
			}
			from := len(out)
			if out, next = n.rewrite(out, b, at, depth+1); len(out) == from {
				out = out[:before]
			}
			return next
		})
		if len(out) == start+1 && !n.leaf {
			return out[:start], end
		}
		return append(out, ']'), end
	}
	end := skipValue(b, i, depth)
	if end > 0 {
		out = append(out, b[i:end]...)
	}
	return out, end
}

func (n *node) rewriteObject(out, b []byte, i, depth int) ([]byte, int) {
	start := len(out)
	out = append(out, '{')
	end := members(b, i, func(m member, at int) (next int) {
		before := len(out)
		if before > start+1 {
			out = append(out, ',')
		}
		out = append(out, b[m.start:at]...)
		from := len(out)
		if out, next = n.kids[string(m.name)].rewrite(out, b, at, depth+1); len(out) == from {
			out = out[:before]
		}
		return next
	})
	return append(out, '}'), end
}

// digest is the same for two projected objects with the same members, in
// whatever order they come.
func digest(seed maphash.Seed, object json.RawMessage) uint64 {
	var sum uint64
	members(object, skipSpace(object, 0), func(m member, at int) int {
		end := skipValue(object, at, 0)
		if end > 0 {
			var h maphash.Hash
			h.SetSeed(seed)
			h.Write(m.name)
			h.WriteByte(0)
			h.Write(object[at:end])
			sum += h.Sum64()
		}
		return end
	})
	return sum
}
