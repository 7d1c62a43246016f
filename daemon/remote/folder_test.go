package remote

import (
	"testing"

	"github.com/locker-project/locker/daemon/replica"
	"github.com/locker-project/locker/daemon/replica/replicatest"
)

func TestFolderConformance(t *testing.T) {
	replicatest.Remote(t, func(t *testing.T) replica.Remote {
		dir := t.TempDir()
		if err := PrepareFolder(dir); err != nil {
			t.Fatal(err)
		}
		f, err := Folder(dir)
		if err != nil {
			t.Fatal(err)
		}
		return f
	})
}
