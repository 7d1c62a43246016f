package host

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"strings"
)

// A program is the open file that is to run. It stays open from the hashing to
// the start, so that what runs is what was hashed.
type program struct {
	*os.File
	hashed bool
}

func openProgram(spec Spec) (*program, error) {
	f, err := os.Open(spec.Path)
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		f.Close()
		return nil, fmt.Errorf("%s is not a program", spec.Path)
	}
	if spec.SHA256 == "" {
		return &program{File: f}, nil
	}
	hash := sha256.New()
	if _, err := io.Copy(hash, f); err != nil {
		f.Close()
		return nil, err
	}
	if got := hex.EncodeToString(hash.Sum(nil)); got != strings.ToLower(spec.SHA256) {
		f.Close()
		return nil, fmt.Errorf("%w: %s has SHA-256 %s, and %s was installed", ErrHash, spec.Path, got, spec.SHA256)
	}
	return &program{File: f, hashed: true}, nil
}
