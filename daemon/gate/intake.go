package gate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/locker-project/locker/daemon/store"
	"github.com/locker-project/locker/manifests"
	"github.com/locker-project/locker/plugins/locker"
)

// An Intake takes what a connector finds into the locker. It is safe for
// concurrent use.
type Intake struct {
	gate     *Gate
	manifest *manifests.Manifest
	author   store.Author
	dry      bool
}

// A Taken says what became of records: how many are new, the same, changed, left out
// because they were purged, and which were not taken.
type Taken struct {
	store.Counts
	Failed []Untaken
}

// An Untaken is a record that was not taken, and why.
type Untaken struct {
	ID  string // as the connector gave it
	Why string
}

// Connector returns the way in for a connector, as a part of an import. dry only
// counts.
func (g *Gate) Connector(ctx context.Context, m *manifests.Manifest, importID string, dry bool) (*Intake, error) {
	switch {
	case m.Kind != manifests.Connector:
		return nil, fmt.Errorf("%w: %s is a %s and no connector", locker.ErrInvalid, m.ID, m.Kind)
	case importID == "":
		return nil, fmt.Errorf("%w: a connector writes for an import, and none is named", locker.ErrInvalid)
	}
	return &Intake{gate: g, manifest: m, dry: dry, author: store.Author{Class: store.Source, Source: m.ID, Import: importID}}, ctx.Err()
}

// Put takes records in. Whatever a connector says, the gate sets the import, the
// class, and puts the connector's name before id and source; so a connector reaches
// no record but its own. A record for a collection that the manifest does not name,
// or that its schema refuses, is among the failed; the others are written, all or
// none.
func (i *Intake) Put(ctx context.Context, records ...locker.Record) (Taken, error) {
	var taken Taken
	good := make([]locker.Record, 0, len(records))
	for _, r := range records {
		out, err := i.prepare(r)
		if err != nil {
			taken.Failed = append(taken.Failed, Untaken{r.ID, err.Error()})
			continue
		}
		good = append(good, out)
	}
	if len(good) == 0 {
		return taken, ctx.Err()
	}
	counts, err := i.write(ctx, good...)
	if errors.Is(err, locker.ErrInvalid) {
		return i.oneByOne(ctx, taken, good)
	}
	taken.Counts = counts
	return taken, err
}

func (i *Intake) write(ctx context.Context, records ...locker.Record) (store.Counts, error) {
	if i.dry {
		return i.gate.Store.Compare(ctx, i.author, records...)
	}
	return i.gate.Store.Write(ctx, i.author, records...)
}

// oneByOne finds out which record the store refuses.
func (i *Intake) oneByOne(ctx context.Context, taken Taken, records []locker.Record) (Taken, error) {
	for _, r := range records {
		counts, err := i.write(ctx, r)
		if errors.Is(err, locker.ErrInvalid) {
			taken.Failed = append(taken.Failed, Untaken{r.ID[len(i.manifest.ID)+1:], err.Error()})
			continue
		}
		if err != nil {
			return taken, err
		}
		taken.New += counts.New
		taken.Same += counts.Same
		taken.Changed += counts.Changed
		taken.Banned += counts.Banned
	}
	return taken, nil
}

// prepare checks a record and makes it the connector's.
func (i *Intake) prepare(r locker.Record) (locker.Record, error) {
	if !slices.Contains(i.manifest.Writes, r.Collection) {
		return r, &locker.Denied{Collection: r.Collection, Verb: "write"}
	}
	if r.ID == "" {
		return r, fmt.Errorf("%w: a record for %s has no id", locker.ErrInvalid, r.Collection)
	}
	if y := r.Time.UTC().Year(); !r.Time.IsZero() && (y < 1 || y > 9999) {
		return r, fmt.Errorf("%w: the year %d", locker.ErrInvalid, y)
	}
	if err := i.manifest.Validate(r.Collection, r.Fields); err != nil {
		return r, err
	}
	source := i.manifest.ID
	if r.Source != "" {
		source += "/" + r.Source
	}
	return locker.Record{Collection: r.Collection, ID: i.manifest.ID + ":" + r.ID, Time: r.Time, Source: source, Fields: r.Fields}, nil
}

// Blob stores bytes that a record refers to and returns their id. Where the intake
// only counts they are stored too: a later sweep removes what nothing refers to.
func (i *Intake) Blob(ctx context.Context, r io.Reader) (id string, err error) {
	id, _, err = i.gate.Store.PutBlob(ctx, r)
	return id, err
}
