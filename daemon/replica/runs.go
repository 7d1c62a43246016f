package replica

import (
	"bytes"
	"context"
	"fmt"
	"slices"
)

// A runNote is a run of this device, note run/NUMBER.
type runNote struct {
	Seq   uint64 `json:"seq"` // of the outbox
	Sum   string `json:"sum"` // SHA-256 of the sealed bytes
	First []byte `json:"first"`
	Last  []byte `json:"last"` // its first and last key
	Keys  sketch `json:"keys"`
	Lines int64  `json:"lines"` // bytes
}

func runKey(number uint64) string { return fmt.Sprintf("run/%016x", number) }

// An input is a sealed object of this device whose lines are joined.
type input struct {
	ref         Ref
	id, sum     string
	size        int64
	first, last []byte // keys, of a run
}

// holds says whether an object may have a line with a key from lo on and below hi,
// which may be nil.
func (in *input) holds(lo, hi []byte) bool {
	return in.last == nil || bytes.Compare(in.last, lo) >= 0 && (hi == nil || bytes.Compare(in.first, hi) < 0)
}

// eachLines calls f with the lines of an object, some at a time. What was banned is
// not among them. The bytes are only lent.
func (p *pass) eachLines(ctx context.Context, in input, f func(lines []byte) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	object, err := p.kept(in.ref, in.sum)
	if err != nil {
		if object, err = p.fromRemotes(ctx, outNote{Ref: in.ref, ID: in.id, Sum: in.sum}, err); err != nil {
			return err
		}
	}
	_, frames, _, err := p.sealer.Open(in.ref, object)
	if err != nil {
		return fmt.Errorf("%s %d of this device: %w", in.ref.Kind, in.ref.Number, err)
	}
	return p.codec.eachFrame(frames, nil, f)
}

// sampleEvery is after how many bytes of lines a key is noted, where the lines are
// more than can be joined at once.
const sampleEvery = 64 << 10

// joinInputs joins the lines of objects and gives them, in order of their keys, to a
// runMaker. Where they are more than fit into memory that is done in stretches of
// keys: each reads again the objects that may hold some of them.
func (p *pass) joinInputs(ctx context.Context, inputs []input, m *runMaker) error {
	var samples [][]byte
	total, since, over := 0, sampleEvery, false
	j := &joiner{}
	j.within = func(key []byte, size int) bool {
		total += size
		if since += size; since >= sampleEvery {
			samples, since = append(samples, bytes.Clone(key)), 0
		}
		if !over && j.size() > p.tune.memory {
			over, j.arena, j.spans = true, j.arena[:0], j.spans[:0]
		}
		return !over
	}
	if err := p.joinSome(ctx, inputs, j, nil, nil); err != nil {
		return err
	}
	if !over {
		return j.emit(m.add)
	}
	slices.SortFunc(samples, bytes.Compare)
	each := max(1, len(samples)*(p.tune.memory/2)/total)
	var lo []byte
	for at := each; ; at += each {
		var hi []byte
		if at < len(samples) {
			if hi = samples[at]; bytes.Equal(lo, hi) {
				continue
			}
		}
		j.within = func(key []byte, _ int) bool {
			return bytes.Compare(key, lo) >= 0 && (hi == nil || bytes.Compare(key, hi) < 0)
		}
		if err := p.joinSome(ctx, inputs, j, lo, hi); err != nil {
			return err
		}
		if err := j.emit(m.add); err != nil {
			return err
		}
		if lo = hi; hi == nil {
			return nil
		}
	}
}

// joinSome gives a joiner the lines of the objects that may hold keys of a stretch.
func (p *pass) joinSome(ctx context.Context, inputs []input, j *joiner, lo, hi []byte) error {
	for _, in := range inputs {
		if !in.holds(lo, hi) {
			continue
		}
		err := p.eachLines(ctx, in, func(lines []byte) error {
			lines, _, err := p.state.Clean(lines)
			if err != nil {
				return err
			}
			return j.add(lines)
		})
		if err != nil {
			return fmt.Errorf("joining %s %d: %w", in.ref.Kind, in.ref.Number, err)
		}
	}
	return nil
}

// A runMaker makes runs of lines that come in order of their keys. The runs are
// durable files, and are no part of anything until they are noted.
type runMaker struct {
	p      *pass
	self   *selfNote // counts the runs; not stored yet
	item   runItem   // what all have in common
	runs   []ownRun
	piece  []byte // not compressed yet
	frames []byte
	note   runNote // of the run that is being made
}

// runPiece is how many bytes of lines are in one zstd frame of a run, about.
const runPiece = 1 << 20

// add takes the lines of one key.
func (m *runMaker) add(key, lines []byte) error {
	if m.note.First == nil {
		m.note.First = bytes.Clone(key)
	}
	m.note.Last = append(m.note.Last[:0], key...)
	m.note.Keys.add(key)
	m.piece = append(m.piece, lines...)
	if len(m.piece) < runPiece {
		return nil
	}
	m.flush()
	if len(m.frames)+runPiece > m.p.tune.frames || m.note.Lines >= int64(m.p.tune.lines) {
		return m.seal()
	}
	return nil
}

// flush compresses what came.
func (m *runMaker) flush() {
	m.frames = m.p.codec.with(m.p.codec.better.Load(), m.frames, m.piece)
	m.note.Lines += int64(len(m.piece))
	m.piece = m.piece[:0]
}

// finish seals what came since the last run, if anything did.
func (m *runMaker) finish() error {
	if m.flush(); len(m.frames) == 0 {
		return nil
	}
	return m.seal()
}

// seal makes a run.
func (m *runMaker) seal() error {
	p := m.p
	number := m.self.Run + 1
	ref := Ref{Kind: "run", Writer: m.self.Device, Number: number}
	object, id, err := p.sealer.Seal(ref, p.newHeader(m.self).encode(), m.frames)
	if err != nil {
		return fmt.Errorf("sealing a run: %w", err)
	}
	if err := p.keep(ref, object); err != nil {
		return fmt.Errorf("keeping a sealed object: %w", err)
	}
	m.self.Run = number
	run := ownRun{runItem: m.item, note: m.note}
	run.N, run.ID, run.Size = number, id, int64(len(object))
	run.note.Sum, run.note.Last = sumOf(object), bytes.Clone(m.note.Last)
	m.runs = append(m.runs, run)
	m.frames, m.note = m.frames[:0], runNote{}
	return nil
}
