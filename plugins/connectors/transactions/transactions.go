// Package transactions reads the statements of banks and cards: OFX 1.x, OFX 2.x
// and QFX files, and the CSV files of any bank, whose columns it finds out by
// their names and content. Start with [New].
//
// What it promises: an amount is a decimal string as the bank wrote it, negative
// when money left the account. A record's time is the time that the file gives;
// where that is a day alone it is midnight in the file's zone, and in UTC where
// the file has none. The id of a transaction is the same in every export that has
// it (see writer). A file that can be read in two ways is refused with what is
// missing, never guessed.
package transactions

import (
	"bytes"
	"context"
	"io"
	"slices"

	"github.com/locker-project/locker/plugins"
	"github.com/locker-project/locker/plugins/connectors/internal/charset"
)

// sample is how much of a file the recogniser reads.
const sample = 64 << 10

// New returns the connector. It holds no state.
func New() plugins.Connector { return connector{} }

type connector struct{}

func (connector) Recognise(ctx context.Context, f plugins.File) (int, error) {
	text, cut, err := head(f)
	if err != nil {
		return 0, err
	}
	if looksLikeOFX(text) {
		return 95, nil
	}
	return recogniseCSV(text, cut), nil
}

func (connector) Parse(ctx context.Context, f plugins.File, out plugins.Sink) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	text, _, err := head(f)
	if err != nil {
		return err
	}
	if looksLikeOFX(text) {
		return parseOFX(ctx, f, out)
	}
	return parseCSV(ctx, f, out)
}

// head returns the beginning of a file as text, and whether there is more.
func head(f plugins.File) (text string, cut bool, err error) {
	b := make([]byte, min(f.Size(), sample))
	n, err := f.ReadAt(b, 0)
	if err != nil && err != io.EOF {
		return "", false, err
	}
	b = b[:n]
	set := charset.Guess(b, "")
	r := set.Reader(bytes.NewReader(b), int64(len(b)))
	s, err := io.ReadAll(r)
	return string(s), f.Size() > int64(n), err
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
