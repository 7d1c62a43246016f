package replica

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// A blobLine tells where the bytes of a blob lie.
type blobLine struct {
	Blob   string  `json:"blob"`
	Size   int64   `json:"size"`
	Chunks []chunk `json:"chunks"`
}

// A chunk is one zstd frame in a pack: up to chunkSize bytes of a blob.
type chunk struct {
	Pack   uint64 `json:"pack"`
	Writer string `json:"writer"`
	Offset int64  `json:"offset"` // from the first frame of the pack on
	Length int64  `json:"length"` // of the frame
}

// payload is what an entry's lines hold.
type payload struct {
	changes []byte     // change lines, for State.Join
	blobs   []blobLine // where blobs lie, for the notes
	carried []byte     // lines of kinds that this version does not know, verbatim
	by      reach      // in whose name the change lines have values
}

var (
	changePrefix = []byte(`{"collection":`)
	blobPrefix   = []byte(`{"blob":`)
)

// lineKinds are the keys that tell the kinds of lines which this version knows.
var lineKinds = []string{"collection", "blob"}

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
		if kind == "blob" {
			b, err := parseBlobLine(line)
			if err != nil {
				return payload{}, err
			}
			p.blobs = append(p.blobs, b)
		} else {
			p.carried = append(append(p.carried, line...), '\n')
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

// lineKind is "collection", "blob", or empty for a kind that is not known here.
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
	return b, nil
}

func (b blobLine) encode() []byte {
	if b.Chunks == nil {
		b.Chunks = []chunk{}
	}
	line, err := json.Marshal(b)
	if err != nil {
		panic(err) // strings and numbers only
	}
	return append(line, '\n')
}
