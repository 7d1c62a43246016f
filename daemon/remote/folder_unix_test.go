//go:build unix

package remote

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// TestFolderNoFile: what has an object's name and is no file holds nothing. Above all
// a pipe, at which opening waits for ever, holds nobody up.
func TestFolderNoFile(t *testing.T) {
	for name, place := range map[string]func(path string) error{
		"pipe":            func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"folder":          func(path string) error { return os.Mkdir(path, 0o700) },
		"endless link":    func(path string) error { return os.Symlink("/dev/zero", path) },
		"link to nothing": func(path string) error { return os.Symlink("nothing", path) },
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			f := newFolder(t)
			if err := place(filepath.Join(f.dir, testName)); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() {
				body, err := f.Get(ctx, testName, 0, -1)
				if err == nil {
					var got []byte
					if got, err = io.ReadAll(body); err == nil && len(got) > 0 {
						err = errors.New("it holds something")
					}
					err = errors.Join(err, body.Close())
				}
				ended <- err
			}()
			select {
			case err := <-ended:
				if err != nil && !errors.Is(err, os.ErrNotExist) && name != "link to nothing" {
					t.Error(err)
				}
			case <-ctx.Done():
				t.Fatal("Get does not end")
			}
		})
	}
}
