package transactions

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/locker-project/locker/plugins"
)

// maxRow is how many bytes one row may take: a quote that is never closed must
// not draw the rest of the file into memory.
const maxRow = 1 << 20

var errLongRow = errors.New("a row is longer than 1 MiB: a quote is not closed, or this is no table")

// A rowLimit lets maxRow bytes through between two calls of reset.
type rowLimit struct {
	r    io.Reader
	left int
}

func (l *rowLimit) reset() { l.left = maxRow }

func (l *rowLimit) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, errLongRow
	}
	n, err := l.r.Read(p[:min(len(p), l.left)])
	l.left -= n
	return n, err
}

// A table reads the rows of a CSV file.
type table struct {
	limit *rowLimit
	csv   *csv.Reader
}

func newTable(text io.Reader, delimiter rune) *table {
	limit := &rowLimit{r: text}
	r := csv.NewReader(limit)
	r.Comma = delimiter
	r.LazyQuotes = true
	r.FieldsPerRecord = -1
	r.ReuseRecord = true
	return &table{limit: limit, csv: r}
}

// next returns a row and the line where it begins. The row is good until the
// next call. The error is io.EOF at the end.
func (t *table) next() (row []string, line int, err error) {
	t.limit.reset()
	row, err = t.csv.Read()
	if err != nil {
		if err == io.EOF {
			return nil, 0, err
		}
		line := 0
		var p *csv.ParseError
		if errors.As(err, &p) {
			line, err = p.StartLine, p.Err
		} else {
			line, _ = t.csv.FieldPos(0)
		}
		return nil, 0, &tableError{line, err}
	}
	line, _ = t.csv.FieldPos(0)
	for i := range row {
		row[i] = strings.TrimSpace(row[i])
	}
	return row, line, nil
}

// A tableError is an error of reading a table, near a line.
type tableError struct {
	line int
	err  error
}

func (e *tableError) Error() string { return fmt.Sprintf("line %d: %v", e.line, e.err) }
func (e *tableError) Unwrap() error { return e.err }

// fileError returns what a broken table is to the host; errors of the file
// itself stay what they are.
func fileError(err error) error {
	var t *tableError
	if !errors.As(err, &t) {
		return err
	}
	for _, format := range []error{errLongRow, csv.ErrQuote, csv.ErrBareQuote, csv.ErrFieldCount} {
		if errors.Is(t.err, format) {
			return &plugins.FileError{At: fmt.Sprintf("line %d", t.line), Why: t.err.Error()}
		}
	}
	return t.err
}

// blank says whether a row holds nothing.
func blank(row []string) bool {
	for _, c := range row {
		if c != "" {
			return false
		}
	}
	return true
}

// cell returns the i-th cell, "" where the row has none.
func cell(row []string, i int) string {
	if i < 0 || i >= len(row) {
		return ""
	}
	return row[i]
}
