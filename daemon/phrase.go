package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/locker-project/locker/crypto"
	"github.com/locker-project/locker/daemon/replica"
)

// phraseCheck is the call phrase.check.
func (l *Locker) phraseCheck(_ context.Context, p PhraseParams, _ *answer) (any, error) {
	seed, err := parsePhrase(p.Phrase)
	if err != nil {
		return nil, err
	}
	if !l.keys.CheckPhrase(seed) {
		return nil, refused("look for the sheet of this locker: "+l.keys.Locker(), "that is a recovery phrase, but not the one of this locker")
	}
	return nil, nil
}

// parsePhrase reads a phrase that somebody typed.
func parsePhrase(words string) (crypto.Seed, error) {
	seed, err := crypto.ParsePhrase(words)
	if err != nil {
		return seed, refused("check the words on your sheet: 24 of them, in their order", "that is no recovery phrase: %v", err)
	}
	return seed, nil
}

// WriteIdentity writes the age identity of a recovery phrase to a new file, for the
// stock age command. It needs no locker.
func WriteIdentity(path, phrase string) error {
	seed, err := parsePhrase(phrase)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return usage("name a file that does not exist with --out", "%s exists", path)
	}
	if err != nil {
		return usage("name another file with --out", "cannot write the identity: %v", err)
	}
	_, err = fmt.Fprintln(f, seed.Identity())
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(fmt.Errorf("cannot write the identity: %w", err), os.Remove(path))
	}
	return syncDir(filepath.Dir(path))
}

// NewPhrase draws a recovery phrase that no locker has yet.
func NewPhrase() string { return crypto.NewSeed().Phrase() }

// ReplaceParams are the parameters of the call phrase.replace.
type ReplaceParams struct {
	// New is the phrase that is to stand, which the owner has written down.
	New string `json:"new"`
	// Old is the phrase that stands. With its word all devices follow by themselves;
	// without it each asks its owner.
	Old        string `json:"old,omitempty"`
	Passphrase string `json:"passphrase,omitempty"`
}

// A Replaced ends the call phrase.replace.
type Replaced struct {
	// Phrase is the id of the new phrase: it belongs on the sheet, and other devices
	// show it when they ask.
	Phrase string `json:"phrase"`
	// Asks says that each other device asks its owner before it honours it.
	Asks bool `json:"asks"`
}

// phraseReplace is the call phrase.replace.
func (l *Locker) phraseReplace(ctx context.Context, p ReplaceParams, _ *answer) (any, error) {
	if err := l.confirm(p.Passphrase); err != nil {
		return nil, err
	}
	next, err := parsePhrase(p.New)
	if err != nil {
		return nil, err
	}
	if p.Old != "" {
		if err := l.hold(p.Old); err != nil {
			return nil, err
		}
		defer l.keys.Forget()
	}
	var made *crypto.NewPhrase
	_, err = l.replica.ReplacePhrase(ctx, func() (n *replica.NewPhrase, err error) {
		made, err = l.keys.ReplacePhrase(next)
		return made, err
	})
	if err != nil {
		return nil, err
	}
	return Replaced{Phrase: made.ID, Asks: p.Old == ""}, nil
}

// hold has the keyring hold the phrase that somebody typed, until it is forgotten.
func (l *Locker) hold(phrase string) error {
	seed, err := parsePhrase(phrase)
	if err != nil {
		return err
	}
	if err := l.keys.Hold(seed); err != nil {
		return refused("look for the sheet of this locker: "+l.keys.Locker(), "that phrase does not stand for this locker: %v", err)
	}
	return nil
}

// AnswerParams are the parameters of the calls phrase.accept and phrase.refuse.
type AnswerParams struct {
	Phrase     string `json:"phrase"`
	Passphrase string `json:"passphrase,omitempty"`
}

func (l *Locker) phraseAccept(ctx context.Context, p AnswerParams, _ *answer) (any, error) {
	return l.answerPhrase(ctx, p, l.replica.AcceptPhrase)
}

func (l *Locker) phraseRefuse(ctx context.Context, p AnswerParams, _ *answer) (any, error) {
	return l.answerPhrase(ctx, p, l.replica.RefusePhrase)
}

func (l *Locker) answerPhrase(ctx context.Context, p AnswerParams, answer func(ctx context.Context, id string) error) (any, error) {
	if err := l.confirm(p.Passphrase); err != nil {
		return nil, err
	}
	if err := answer(ctx, p.Phrase); err != nil {
		return nil, failed("'locker status' shows the phrases that are offered", "%v", err)
	}
	l.touch()
	return nil, nil
}

// A Sheet is the summary of the call sheet: what to print beside the recovery phrase.
type Sheet struct {
	Locker  string   `json:"locker"`
	Phrase  string   `json:"phrase,omitempty"` // id of the phrase that stands
	Remotes []string `json:"remotes"`
	// Text is the date, a group for each device and a check; sheet.check reads it again.
	Text string `json:"text"`
}

// sheet is the call sheet.
func (l *Locker) sheet(ctx context.Context, _ struct{}, _ *answer) (any, error) {
	text, err := l.replica.Sheet(ctx)
	if err != nil {
		return nil, err
	}
	s := Sheet{Locker: l.keys.Locker(), Phrase: l.keys.Phrase(), Remotes: []string{}, Text: text}
	_, list, _ := l.remotes.get("")
	for _, o := range list {
		s.Remotes = append(s.Remotes, o.spec().String())
	}
	return s, nil
}

// SheetParams are the parameters of the call sheet.check.
type SheetParams struct {
	Text string `json:"text"`
}

// A SheetLine is a row of the call sheet.check: a device as the sheet knew it, and as it
// is here.
type SheetLine struct {
	Device  string `json:"device"`
	Name    string `json:"name,omitempty"`
	Known   bool   `json:"known"`
	Sheet   uint64 `json:"sheet"`
	Here    uint64 `json:"here"`
	Differs bool   `json:"differs,omitempty"`
}

// A SheetSummary ends the call sheet.check.
type SheetSummary struct {
	Printed time.Time `json:"printed"`
	// Behind says that what is here is older than the sheet, or another.
	Behind bool `json:"behind"`
}

// sheetCheck is the call sheet.check.
func (l *Locker) sheetCheck(ctx context.Context, p SheetParams, a *answer) (any, error) {
	report, err := l.replica.CheckSheet(ctx, p.Text)
	if err != nil {
		return nil, usage("type the groups of the sheet as they are printed, from the date on", "%v", err)
	}
	for _, s := range report.Lines {
		if err := a.row(SheetLine{Device: s.Device, Name: s.Name, Known: s.Known, Sheet: s.Sheet, Here: s.Here, Differs: s.Differs}); err != nil {
			return nil, err
		}
	}
	return SheetSummary{Printed: report.Printed, Behind: report.Behind()}, nil
}
