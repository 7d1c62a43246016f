package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/locker-project/locker/plugins"
)

// The list must be what go generate writes.
func TestListIsCurrent(t *testing.T) {
	want, err := exec.Command("go", "run", "./internal/genlist", "-").Output()
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("list.go")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("list.go is not current: run go generate ./plugins/locker-plugins")
	}
}

// Each manifest names a program that is there and is what the manifest says.
func TestManifestsNamePrograms(t *testing.T) {
	paths, err := filepath.Glob("../*/*/manifest.json")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no manifests: %v", err)
	}
	list := named()
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var m struct{ ID, Kind, Program string }
		if err := json.Unmarshal(b, &m); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		kind := filepath.Base(filepath.Dir(filepath.Dir(path)))
		if kind != "apps" && kind != "connectors" {
			continue
		}
		if m.Program != kind+"/"+m.ID || m.ID != filepath.Base(filepath.Dir(path)) {
			t.Errorf("%s: id %q and program %q do not fit the folder", path, m.ID, m.Program)
		}
		make := list[m.Program]
		if make == nil {
			t.Errorf("%s: there is no program %q", path, m.Program)
			continue
		}
		var is string
		switch make().(type) {
		case plugins.App:
			is = "app"
		case plugins.Connector:
			is = "connector"
		}
		if is != m.Kind {
			t.Errorf("%s: kind %q, but the program is a %q", path, m.Kind, is)
		}
	}
}
