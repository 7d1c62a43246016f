package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/locker-project/locker/crypto"
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
