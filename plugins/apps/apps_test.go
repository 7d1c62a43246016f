package apps_test

import (
	"io/fs"
	"os"
	"path"
	"testing"

	"github.com/locker-project/locker/manifests"
	"github.com/locker-project/locker/plugins/apps"
)

// Every manifest is good, is of an app, and has a README beside it.
func TestManifests(t *testing.T) {
	paths, err := fs.Glob(apps.Manifests, "*/manifest.json")
	if err != nil || len(paths) == 0 {
		t.Fatalf("manifests %v: %v", paths, err)
	}
	for _, p := range paths {
		b, err := fs.ReadFile(apps.Manifests, p)
		if err != nil {
			t.Fatal(err)
		}
		m, err := manifests.ParseManifest(b)
		if err != nil {
			t.Errorf("%s: %v", p, err)
			continue
		}
		if m.Kind != manifests.App || m.ID != path.Dir(p) || len(m.Offers) == 0 {
			t.Errorf("%s: %s %q with %d offers", p, m.Kind, m.ID, len(m.Offers))
		}
		if _, err := os.Stat(path.Join(path.Dir(p), "README.md")); err != nil {
			t.Errorf("%s: %v", p, err)
		}
	}
}
