package manifests

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/locker-project/locker/plugins/locker"
)

var update = flag.Bool("update", false, "write the errors of the invalid manifests anew")

// vectors calls do for each manifest in a folder of vectors.
func vectors(t testing.TB, folder string, least int, do func(path string, text []byte)) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join("..", "testdata", "manifests", folder, "*.json"))
	if err != nil || len(paths) < least {
		t.Fatalf("%d %s manifests, %v: want at least %d", len(paths), folder, err, least)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		do(path, text)
	}
}

func TestValidManifests(t *testing.T) {
	vectors(t, "valid", 10, func(path string, text []byte) {
		m, err := ParseManifest(text)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			return
		}
		sum := sha256.Sum256(text)
		if m.Hash() != hex.EncodeToString(sum[:]) {
			t.Errorf("%s: hash %s", path, m.Hash())
		}
		for _, o := range m.Offers {
			if s := m.Sentence(o.ID); !strings.HasPrefix(s, m.Name) {
				t.Errorf("%s: sentence %q", path, s)
			}
		}
	})
}

// Each invalid manifest fails with just the error in the .err file beside it.
func TestInvalidManifests(t *testing.T) {
	vectors(t, "invalid", 60, func(path string, text []byte) {
		_, err := ParseManifest(text)
		if err == nil || !errors.Is(err, locker.ErrInvalid) {
			t.Errorf("%s: %v", path, err)
			return
		}
		beside := strings.TrimSuffix(path, ".json") + ".err"
		got := strings.TrimPrefix(err.Error(), "invalid manifest: ") + "\n"
		if *update {
			if err := os.WriteFile(beside, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(beside)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s:\ngot  %swant %s", path, got, want)
		}
		if strings.Count(got, "\n") != 1 {
			t.Errorf("%s fails more than once:\n%s", path, got)
		}
	})
}

// The manifests of what comes with Locker are valid.
func TestShippedManifests(t *testing.T) {
	paths, err := filepath.Glob("../plugins/*/*/manifest.json")
	if err != nil || len(paths) < 4 {
		t.Fatalf("%d manifests, %v", len(paths), err)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		m, err := ParseManifest(text)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		if m.ID != filepath.Base(filepath.Dir(path)) {
			t.Errorf("%s: id %s", path, m.ID)
		}
	}
}

func FuzzParseManifest(f *testing.F) {
	for _, folder := range []string{"valid", "invalid"} {
		vectors(f, folder, 10, func(_ string, text []byte) { f.Add(text) })
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := ParseManifest(text)
		if err != nil {
			if !errors.Is(err, locker.ErrInvalid) {
				t.Fatalf("error %v", err)
			}
			return
		}
		for _, o := range m.Offers {
			m.Sentence(o.ID)
			g, err := m.Accept(o.ID, nil, time.Time{}, day(0))
			if err != nil {
				continue
			}
			if g.Expires.After(day(91)) || g.Manifest != m.Hash() {
				t.Fatalf("grant %+v", g)
			}
			if v, ok := Limit(newMemory(), g, func() time.Time { return day(0) }).(*limited); !ok || v.broken != nil {
				t.Fatalf("the grant %+v makes no sense: %v", g, v.broken)
			}
		}
	})
}

// spendManifest is the valid manifest "app" of the vectors.
func spendManifest(t *testing.T) *Manifest {
	t.Helper()
	text, err := os.ReadFile("../testdata/manifests/valid/app.json")
	if err != nil {
		t.Fatal(err)
	}
	m, err := ParseManifest(text)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

const contactsLeaves = "address.addressCountry address.addressLocality address.addressRegion address.extendedAddress address.label address.postOfficeBox address.postalCode address.streetAddress"

func TestAccept(t *testing.T) {
	m := spendManifest(t)
	now := day(0)
	for _, tt := range []struct {
		name  string
		offer string
		only  []string
		until time.Time
		reads string // collection:fields;…
		ends  time.Time
		err   string
	}{
		{name: "as it is", offer: "permit", reads: "transactions:amount payee time;contacts:" + contactsLeaves + " name", ends: day(30)},
		{name: "narrowed", offer: "permit", only: []string{"transactions.amount", "transactions.time"}, reads: "transactions:amount time", ends: day(30)},
		{name: "a whole collection", offer: "permit", only: []string{"transactions"}, reads: "transactions:amount payee time", ends: day(30)},
		{name: "a nested leaf", offer: "permit", only: []string{"transactions.amount", "contacts.address.postalCode"}, reads: "transactions:amount;contacts:address.postalCode", ends: day(30)},
		{name: "an object", offer: "permit", only: []string{"transactions.amount", "contacts.address"}, reads: "transactions:amount;contacts:" + contactsLeaves, ends: day(30)},
		{name: "until", offer: "permit", until: day(3).Add(time.Hour), reads: "transactions:amount payee time;contacts:" + contactsLeaves + " name", ends: day(3).Add(time.Hour)},
		{name: "until longer than the offer says", offer: "permit", until: day(300), reads: "transactions:amount payee time;contacts:" + contactsLeaves + " name", ends: day(300)},
		{name: "required left out", offer: "permit", only: []string{"transactions.payee"}, err: "cannot do without transactions.amount"},
		{name: "the required collection left out", offer: "permit", only: []string{"contacts.name"}, err: "cannot do without transactions.amount"},
		{name: "not asked", offer: "permit", only: []string{"transactions.memo"}, err: `does not ask for "transactions.memo"; name fields as COLLECTION.FIELD, as in "transactions.time"`},
		{name: "part of a name", offer: "permit", only: []string{"transactions.am"}, err: "does not ask for"},
		{name: "another collection", offer: "permit", only: []string{"posts.content"}, err: "does not ask for"},
		{name: "no collection", offer: "permit", only: []string{"amount"}, err: "does not ask for"},
		{name: "empty name", offer: "permit", only: []string{""}, err: "does not ask for"},
		{name: "no such offer", offer: "steal", err: `spend has no offer "steal" (it has permit and pay)`},
		{name: "pay", offer: "pay", err: "payment is not there yet: offer pay of spend costs 4.99 EUR a month"},
		{name: "in the past", offer: "permit", until: day(-1), err: "which is past"},
		{name: "too long", offer: "permit", until: day(400), err: "a year at most"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g, err := m.Accept(tt.offer, tt.only, tt.until, now)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("error %v, want %q", err, tt.err)
				}
				if !errors.Is(err, locker.ErrInvalid) && !errors.Is(err, ErrPayment) {
					t.Errorf("error %v is of no class", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var reads []string
			for _, r := range g.Reads {
				reads = append(reads, r.Collection+":"+strings.Join(r.Fields, " "))
				if r.Schema != lookup(r.Collection).hash {
					t.Errorf("schema of %s: %s", r.Collection, r.Schema)
				}
			}
			if got := strings.Join(reads, ";"); got != tt.reads {
				t.Errorf("reads %s, want %s", got, tt.reads)
			}
			if !g.Expires.Equal(tt.ends) || !g.Issued.Equal(now) || g.Manifest != m.Hash() || g.App != "spend" || len(g.Key) != 32 || len(g.Writes) != 1 {
				t.Errorf("grant %+v", g)
			}
			if g.Reads[0].Window != "P1Y" || g.Reads[0].Purpose[0] != "dpv:RequestedServiceProvision" {
				t.Errorf("read %+v", g.Reads[0])
			}
			again, err := m.Accept(tt.offer, tt.only, tt.until, now)
			if err != nil || again.ID == g.ID || bytes.Equal(again.Key, g.Key) || !strings.HasPrefix(g.ID, "g-") {
				t.Errorf("ids %s and %s, %v", g.ID, again.ID, err)
			}
		})
	}
}

// parse makes a manifest of the valid vector "app", with texts replaced.
func parse(t *testing.T, replace ...string) *Manifest {
	t.Helper()
	text, err := os.ReadFile("../testdata/manifests/valid/app.json")
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.NewReplacer(replace...).Replace(string(text))
	if changed == string(text) {
		t.Fatalf("%q is not there", replace)
	}
	m, err := ParseManifest([]byte(changed))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestAcceptDefaults(t *testing.T) {
	m := parse(t, `"expires": "P30D"`, `"expires": "P3M"`)
	g, err := m.Accept("permit", nil, time.Time{}, day(0))
	if err != nil || !g.Expires.Equal(day(90)) {
		t.Errorf("three months are %v, %v", g.Expires, err)
	}
	for _, term := range []string{"SellDataToThirdParties", "SellInsightsFromData"} {
		m = parse(t, "dpv:ServicePersonalisation", "dpv:"+term)
		if _, err := m.Accept("permit", nil, time.Time{}, day(0)); err == nil || !strings.Contains(err.Error(), "does not grant") {
			t.Errorf("%s: %v", term, err)
		}
	}
}

func TestSentence(t *testing.T) {
	m := spendManifest(t)
	for offer, want := range map[string]string{
		"permit": "Spend may read time, amount and payee of your transactions of the last year, to give you what you ask it for. Spend may read name and address of your contacts, to fit its service to you. It keeps its results in acme.example/spend. It has no network: nothing leaves your locker. Permission ends after 30 days.",
		"pay":    "Spend may read nothing. It keeps its results in acme.example/spend. It has no network: nothing leaves your locker. It costs 4.99 EUR a month. Permission ends after 90 days.",
		"none":   "",
	} {
		if got := m.Sentence(offer); got != want {
			t.Errorf("%s:\ngot  %s\nwant %s", offer, got, want)
		}
	}
	// The vendor's words are not in it.
	m = parse(t, "To add up the amounts.", "TRUST ME", "Adds up what you spend.", "TRUST ME")
	if got := m.Sentence("permit"); strings.Contains(got, "TRUST") {
		t.Errorf("got %s", got)
	}
}

func TestPrice(t *testing.T) {
	for want, p := range map[string]*Price{
		"":                    nil,
		"5 EUR once":          {Amount: "5", Currency: "EUR"},
		"5 EUR a month":       {Amount: "5", Currency: "EUR", Per: "P1M"},
		"5 EUR a year":        {Amount: "5", Currency: "EUR", Per: "P1Y"},
		"5 EUR every 90 days": {Amount: "5", Currency: "EUR", Per: "P90D"},
	} {
		if got := p.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestSignedGrant(t *testing.T) {
	sign := func(label string, message []byte) []byte {
		sum := sha256.Sum256(append([]byte("laptop"+label), message...))
		return sum[:]
	}
	verify := func(device, label string, message, signature []byte) error {
		sum := sha256.Sum256(append([]byte(device+label), message...))
		if !bytes.Equal(sum[:], signature) {
			return errors.New("bad signature")
		}
		return nil
	}
	g, err := spendManifest(t).Accept("permit", nil, time.Time{}, day(0))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := g.Sign(sign); err == nil {
		t.Error("a grant that names no device is signed")
	}
	g.Signer, g.Devices = "laptop", []string{"laptop"}
	document, signature, err := g.Sign(sign)
	if err != nil {
		t.Fatal(err)
	}
	back, err := OpenGrant(document, signature, verify)
	if err != nil {
		t.Fatal(err)
	}
	a, _ := json.Marshal(g)
	b, _ := json.Marshal(back)
	if !bytes.Equal(a, b) {
		t.Errorf("got %s, want %s", b, a)
	}
	for name, bad := range map[string]string{
		"another signer": strings.Replace(string(document), `"signer":"laptop"`, `"signer":"phone"`, 1),
		"more fields":    strings.Replace(string(document), `"payee"`, `"payee","memo"`, 1),
		"spaces":         string(document) + " ",
		"nothing":        "",
	} {
		if bad == string(document) {
			t.Fatal(name + ": nothing was changed")
		}
		if _, err := OpenGrant([]byte(bad), signature, verify); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func TestMissing(t *testing.T) {
	g := Grant{Reads: []Read{{Collection: "a", Fields: []string{"x", "y"}, Window: "P2M"}}}
	for _, tt := range []struct {
		r    Read
		want string
	}{
		{Read{Collection: "a", Fields: []string{"x"}, Window: "P1M"}, ""},
		{Read{Collection: "a", Fields: []string{"x"}, Window: "P2M"}, ""},
		{Read{Collection: "a", Fields: []string{"x"}, Window: "P60D"}, "older a"}, // two months can be 59 days
		{Read{Collection: "a", Fields: []string{"x"}, Window: "P56D"}, ""},
		{Read{Collection: "a", Fields: []string{"x"}}, "older a"},
		{Read{Collection: "a", Fields: []string{"x", "z"}, Window: "P1M"}, "a.{z}"},
		{Read{Collection: "b", Fields: []string{"x", "z"}}, "b.{x,z}"},
	} {
		if got := g.Missing(tt.r); got != tt.want {
			t.Errorf("%+v: %q, want %q", tt.r, got, tt.want)
		}
	}
}

func TestSpan(t *testing.T) {
	for s, want := range map[string]string{"P1D": "1 day", "P2W": "14 days", "P1Y6M": "1 year and 6 months", "P1Y1M1W1D": "1 year, 1 month and 8 days"} {
		d, err := parseSpan(s)
		if err != nil || d.words() != want {
			t.Errorf("%s: %q, %v; want %q", s, d.words(), err, want)
		}
	}
	for _, s := range []string{"", "P", "P0D", "PD", "1D", "P1", "P1H", "PT1H", "P1D1D", "P1D1Y", "P-1D", "P1.5D", "P101Y", "P99999D9", "P123456D", " P1D"} {
		if d, err := parseSpan(s); err == nil {
			t.Errorf("%q is %+v", s, d)
		}
	}
}
