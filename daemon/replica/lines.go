package replica

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
)

// A blobLine tells where the bytes of a blob lie.
type blobLine struct {
	Blob   string  `json:"blob"`
	Size   int64   `json:"size"`
	Chunks []chunk `json:"chunks"`
	// Sums are the SHA-256 hashes of the chunks, one after the other, of which the id is
	// made. Objects are the sizes of the packs' objects, in the order in which the chunks
	// first name them. Both are needed to read a part; lines of earlier versions, and of
	// blobs with an id of an earlier version, have none.
	Sums    []byte  `json:"sums,omitempty"`
	Objects []int64 `json:"objects,omitempty"`
}

// A chunk is one zstd frame in a pack: up to chunkSize bytes of a blob.
type chunk struct {
	Pack   uint64 `json:"pack"`
	Writer string `json:"writer"`
	Offset int64  `json:"offset"` // from the first frame of the pack on
	Length int64  `json:"length"` // of the frame
}

// A condemnLine says that a pack will go: as a place of blobs it does not count any
// more. It is written by the writer of the pack.
type condemnLine struct {
	Pack   uint64 `json:"condemn"`
	Writer string `json:"writer"`
}

// A forgetLine says that a blob was purged: where no record refers to it, its bytes
// go at once.
type forgetLine struct {
	Blob string `json:"forget"`
}

// payload is what an entry's lines hold.
type payload struct {
	changes []byte     // change lines, for State.Join
	blobs   []blobLine // where blobs lie, for the notes
	condemn []condemnLine
	forget  []forgetLine
	carried []byte // lines of kinds that this version does not know, verbatim
	by      reach  // in whose name the change lines have values
}

var (
	changePrefix = []byte(`{"collection":`)
	blobPrefix   = []byte(`{"blob":`)
)

// lineKinds are the keys that tell the kinds of lines which this version knows.
var lineKinds = []string{"collection", "blob", "condemn", "forget"}

// splitLines sorts the lines of an entry by their kind.
func splitLines(lines []byte) (payload, error) {
	p := payload{by: reach{}}
	var last lastStamp
	start, rest := 0, lines // lines[start:] up to rest are change lines not yet taken
	take := func(to int) {
		if start < to && p.changes == nil && to == len(lines) && start == 0 {
			p.changes = lines // the common case: nothing else is there
		} else if start < to {
			p.changes = append(p.changes, lines[start:to]...)
		}
	}
	for len(rest) > 0 {
		at := len(lines) - len(rest)
		end := bytes.IndexByte(rest, '\n')
		if end < 0 {
			return payload{}, errors.New("its last line has no end")
		}
		line := rest[:end]
		rest = rest[end+1:]
		kind, err := "collection", error(nil)
		if !bytes.HasPrefix(line, changePrefix) {
			if kind, err = lineKind(line); err != nil {
				return payload{}, err
			}
		}
		if kind == "collection" {
			if err := last.add(p.by, line); err != nil {
				return payload{}, err
			}
			continue
		}
		take(at)
		start = at + end + 1
		if err := p.addOther(kind, line); err != nil {
			return payload{}, err
		}
	}
	take(len(lines))
	last.flush(p.by)
	return p, nil
}

// A lastStamp gathers the stamps of lines that follow each other and are of one device.
type lastStamp struct {
	device []byte
	at     clocks
}

func (l *lastStamp) add(by reach, line []byte) error {
	device, at, err := stampOf(line)
	if err != nil {
		return err
	}
	if !bytes.Equal(device, l.device) {
		l.flush(by)
		l.device, l.at = device, clocks{at, at}
	}
	l.at = clocks{min(l.at[0], at), max(l.at[1], at)}
	return nil
}

func (l *lastStamp) flush(by reach) {
	if l.device != nil {
		by.add(string(l.device), l.at)
	}
}

// addOther takes a line that is no change line.
func (p *payload) addOther(kind string, line []byte) error {
	switch kind {
	case "blob":
		b, err := parseBlobLine(line)
		p.blobs = append(p.blobs, b)
		return err
	case "condemn":
		var c condemnLine
		if err := json.Unmarshal(line, &c); err != nil || c.Pack == 0 || !validDevice(c.Writer) {
			return errors.New("a line condemns what cannot be a pack")
		}
		p.condemn = append(p.condemn, c)
	case "forget":
		var f forgetLine
		if err := json.Unmarshal(line, &f); err != nil || !validDevice(f.Blob) {
			return errors.New("a line forgets what cannot be a blob")
		}
		p.forget = append(p.forget, f)
	default:
		p.carried = append(append(p.carried, line...), '\n')
	}
	return nil
}

// lineKind is "collection", "blob", "condemn", "forget", or empty for a kind that is
// not known here.
func lineKind(line []byte) (string, error) {
	if bytes.HasPrefix(line, blobPrefix) {
		return "blob", nil
	}
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(line, &keys); err != nil || keys == nil {
		return "", errors.New("a line is no JSON object")
	}
	for _, kind := range lineKinds {
		if _, ok := keys[kind]; ok {
			return kind, nil
		}
	}
	return "", nil
}

// parseBlobLine reads a line that tells of a blob.
func parseBlobLine(line []byte) (blobLine, error) {
	var b blobLine
	if err := json.Unmarshal(line, &b); err != nil {
		return b, fmt.Errorf("a line that tells of a blob is not as it should be: %w", err)
	}
	if !validDevice(b.Blob) || b.Size < 0 || int64(len(b.Chunks)) != (b.Size+chunkSize-1)/chunkSize {
		return b, errors.New("a line tells of what cannot be a blob")
	}
	for _, c := range b.Chunks {
		if !validDevice(c.Writer) || c.Pack == 0 || c.Offset < 0 || c.Length <= 0 || c.Offset > maxObject || c.Length > maxObject {
			return b, errors.New("a line tells of what cannot be a chunk of a blob")
		}
	}
	if len(b.Sums) != 0 && len(b.Sums) != sha256.Size*len(b.Chunks) || len(b.Objects) != 0 && len(b.Objects) != len(b.packs()) {
		return b, errors.New("a line tells of what cannot be the hashes of a blob")
	}
	return b, nil
}

// packs are those in which the blob lies, in the order in which its chunks first name
// them.
func (b blobLine) packs() (packs []Ref) {
	seen := map[Ref]bool{}
	for i, c := range b.Chunks {
		if i > 0 && c.Pack == b.Chunks[i-1].Pack && c.Writer == b.Chunks[i-1].Writer {
			continue
		}
		if !seen[c.ref()] {
			seen[c.ref()] = true
			packs = append(packs, c.ref())
		}
	}
	return packs
}

func (c chunk) ref() Ref { return Ref{Kind: "pack", Writer: c.Writer, Number: c.Pack} }

func encodeLine(line any) []byte {
	b, err := json.Marshal(line)
	if err != nil {
		panic(err) // strings and numbers only
	}
	return append(b, '\n')
}

func (b blobLine) encode() []byte {
	if b.Chunks == nil {
		b.Chunks = []chunk{}
	}
	return encodeLine(b)
}
