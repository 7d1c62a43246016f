package daemon

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
)

// writeFile makes a file hold data, readable by this user alone: after a crash it
// holds either what it held before or all of data.
func writeFile(path string, data []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*.tmp")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes what was created, renamed or removed in a folder durable.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" { // folders cannot be opened for that there
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
