package connectors_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/locker-project/locker/manifests"
	"github.com/locker-project/locker/plugins"
	"github.com/locker-project/locker/plugins/connectors"
	"github.com/locker-project/locker/plugins/connectors/connectortest"
	"github.com/locker-project/locker/plugins/connectors/contacts"
	"github.com/locker-project/locker/plugins/connectors/posts"
	"github.com/locker-project/locker/plugins/connectors/transactions"
)

var all = map[string]plugins.Connector{
	"contacts":     contacts.New(),
	"posts":        posts.New(),
	"transactions": transactions.New(),
}

// Every manifest is good, and every connector has one.
func TestManifests(t *testing.T) {
	paths, err := fs.Glob(connectors.Manifests, "*/manifest.json")
	if err != nil || len(paths) != len(all) {
		t.Fatalf("manifests %v for %d connectors: %v", paths, len(all), err)
	}
	for _, path := range paths {
		b, err := fs.ReadFile(connectors.Manifests, path)
		if err != nil {
			t.Fatal(err)
		}
		m, err := manifests.ParseManifest(b)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		if all[m.ID] == nil {
			t.Errorf("%s: there is no connector %q", path, m.ID)
		}
		if _, err := os.Stat(filepath.Join(filepath.Dir(path), "README.md")); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// claim returns the connectors that recognise a file.
func claim(t *testing.T, f *connectortest.File) []string {
	t.Helper()
	var names []string
	for name, c := range all {
		confidence, err := c.Recognise(t.Context(), f)
		if err != nil {
			t.Errorf("%s: %s: %v", f.Name(), name, err)
		}
		if confidence > 0 {
			names = append(names, name)
		}
	}
	return names
}

// The sample exports of the project are each claimed by one connector, and read
// without a failure.
func TestSampleExports(t *testing.T) {
	root := filepath.Join("..", "..", "testdata", "exports")
	counts := make(map[string]int)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		f := connectortest.ReadFile(t, path)
		names := claim(t, f)
		if len(names) != 1 {
			t.Errorf("%s is claimed by %v", path, names)
			return nil
		}
		sink := connectortest.MustParse(t, all[names[0]], f)
		for _, r := range sink.Records {
			counts[r.Collection]++
		}
		t.Logf("%s: %s, %d records, %d blobs, notes %q", path, names[0], len(sink.Records), len(sink.Blobs), sink.Notes)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for collection, least := range map[string]int{"contacts": 12, "posts": 14, "transactions": 200} {
		if counts[collection] < least {
			t.Errorf("%d %s, want at least %d", counts[collection], collection, least)
		}
	}
}

// Of the real exports, each is claimed by the connector of its kind, and those of
// other kinds by none.
func TestFixturesOfOtherKinds(t *testing.T) {
	own := map[string]string{
		"bank/wesabe-checking.ofx": "transactions", "bank/ofxparse-broken-decimal.ofx": "transactions", "bank/chase.csv": "transactions",
		"bank/french.csv": "transactions", "bank/two-money-columns.csv": "transactions",
		"contacts/gmail.vcf": "contacts", "contacts/iphone-with-photo.vcf": "contacts", "contacts/outlook-21.vcf": "contacts",
		"tweets/twitter-archive-2016-data-js.zip": "posts", "tweets/ytd-account.js": "posts",
		"tweets/mastodon-archive-outbox.json": "posts", "tweets/mastodon-archive-actor.json": "posts",
	}
	list := string(connectortest.Fixture(t, "SOURCES.md").Bytes())
	section, n := "", 0
	for line := range strings.Lines(list) {
		if name, ok := strings.CutPrefix(line, "## "); ok {
			section = strings.TrimSpace(name)
		}
		cells := strings.Split(line, "|")
		if section == "" || len(cells) < 3 || strings.HasPrefix(cells[1], "--") || strings.TrimSpace(cells[1]) == "file" {
			continue
		}
		name := section + "/" + strings.TrimSpace(cells[1])
		n++
		want := own[name]
		got := strings.Join(claim(t, connectortest.Fixture(t, name)), ",")
		if got != want {
			t.Errorf("%s is claimed by %q, want %q", name, got, want)
		}
	}
	if n < 30 {
		t.Errorf("only %d fixtures found in the list", n)
	}
}
