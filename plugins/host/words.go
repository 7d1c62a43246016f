package host

import (
	"bytes"
	"context"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/locker-project/locker/plugins/internal/wire"
)

const (
	lineMax   = 4 << 10   // bytes of one line; what is longer is cut
	wordRate  = 32 << 10  // bytes a second that a process may say
	wordBurst = 256 << 10 // bytes that it may say at once, such as a panic
)

// words takes what a process says on its standard output and error. It passes on
// plain lines, and makes the process wait when it says too much.
type words struct {
	line func(string) // never nil
	ctx  context.Context

	mu     sync.Mutex
	allow  float64
	filled time.Time
	closed bool
	last   string // the last line that was not empty
	panic  string // the line that says why a Go program died
}

func newWords(ctx context.Context, line func(string)) *words {
	if line == nil {
		line = func(string) {}
	}
	return &words{line: line, ctx: ctx, allow: wordBurst, filled: time.Now()}
}

// A mouth is one of the streams on which a process speaks; its lines are its own.
type mouth struct {
	*words
	rest []byte
}

// Write takes bytes. It fails when the process has ended.
func (m *mouth) Write(p []byte) (int, error) {
	if err := m.wait(len(p)); err != nil {
		return 0, err
	}
	for part := range bytes.Lines(p) {
		m.rest = append(m.rest, part[:min(len(part), lineMax-len(m.rest))]...)
		if part[len(part)-1] == '\n' {
			m.Flush()
		}
	}
	return len(p), nil
}

// Flush passes on the line that has not ended.
func (m *mouth) Flush() {
	if len(m.rest) > 0 {
		m.say(strings.TrimRight(string(m.rest), "\n"))
		m.rest = m.rest[:0]
	}
}

func (w *words) say(line string) {
	line = wire.Plain(line)
	w.mu.Lock()
	defer w.mu.Unlock()
	if strings.TrimSpace(line) != "" {
		w.last = line
	}
	if w.panic == "" && (strings.HasPrefix(line, "panic: ") || strings.HasPrefix(line, "fatal error: ") || strings.HasPrefix(line, "runtime: out of memory")) {
		w.panic = line
	}
	if !w.closed {
		w.line(line)
	}
}

// close makes an end: nothing is passed on after it returns.
func (w *words) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
}

// Last is the line that tells best why the process ended.
func (w *words) Last() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.panic != "" {
		return w.panic
	}
	return w.last
}

// wait waits until n more bytes may be said.
func (w *words) wait(n int) error {
	w.mu.Lock()
	now := time.Now()
	w.allow = min(wordBurst, w.allow+now.Sub(w.filled).Seconds()*wordRate) - float64(n)
	w.filled = now
	debt := -w.allow
	w.mu.Unlock()
	if debt <= 0 {
		return w.ctx.Err()
	}
	select {
	case <-time.After(time.Duration(debt / wordRate * float64(time.Second))):
		return nil
	case <-w.ctx.Done():
		return w.ctx.Err()
	}
}

// plainLines makes text plain but keeps its lines and tabs.
func plainLines(text string) string {
	var b strings.Builder
	for i, line := range strings.Split(strings.ReplaceAll(text, "\r\n", "\n"), "\n") {
		if i > 0 {
			b.WriteByte('\n')
		}
		for j, cell := range strings.Split(line, "\t") {
			if j > 0 {
				b.WriteByte('\t')
			}
			b.WriteString(wire.Plain(cell))
		}
	}
	return b.String()
}

// maxLine bounds the line in which a process says where it listens.
const maxLine = 8 << 10

// A firstLine reads up to the first line end, or maxLine bytes. What comes after
// it on a process's standard output has no meaning, and must not cost the host
// anything.
type firstLine struct {
	from  io.Reader
	taken int
	ended bool
}

func (f *firstLine) Read(p []byte) (int, error) {
	if f.ended || f.taken >= maxLine || len(p) == 0 {
		return 0, io.EOF
	}
	n, err := f.from.Read(p[:1])
	f.taken += n
	f.ended = n == 1 && p[0] == '\n'
	return n, err
}
