package contacts

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/emersion/go-vcard"

	"github.com/locker-project/locker/plugins/connectors/connectortest"
	"github.com/locker-project/locker/plugins/locker"
)

func decoded(t testing.TB, r locker.Record) contact {
	t.Helper()
	var c contact
	if err := json.Unmarshal(r.Fields, &c); err != nil {
		t.Fatal(err)
	}
	return c
}

// parse reads cards of which none is broken.
func parse(t testing.TB, cards string) (*connectortest.Sink, []contact) {
	t.Helper()
	sink := connectortest.MustParse(t, New(), connectortest.NewFile("x.vcf", []byte(cards)))
	var all []contact
	for _, r := range sink.Records {
		all = append(all, decoded(t, r))
	}
	return sink, all
}

// one reads one card, given by what stands between its BEGIN and END.
func one(t testing.TB, version string, lines ...string) contact {
	t.Helper()
	_, all := parse(t, "BEGIN:VCARD\r\nVERSION:"+version+"\r\n"+strings.Join(lines, "\r\n")+"\r\nEND:VCARD\r\n")
	if len(all) != 1 {
		t.Fatalf("%d contacts", len(all))
	}
	return all[0]
}

func TestFixtures(t *testing.T) {
	for _, tt := range []struct {
		name, image string // the first bytes of the image
		phones      int
		want        contact
	}{
		{"contacts/gmail.vcf", "", 2, contact{Name: "Mr. John Richter, James Doe Sr.", BirthDate: "1980-03-22", Anniversary: "1975-03-01", URL: []string{"http://www.ibm.com"}}},
		{"contacts/iphone-with-photo.vcf", "\xff\xd8\xff", 7, contact{Name: "Mr. John Richter James Doe Sr.", BirthDate: "2012-06-06", URL: []string{"http://www.ibm.com"}}},
		{"contacts/outlook-21.vcf", "\xff\xd8\xff", 2, contact{Name: "Mr. John Richter James Doe Sr.", BirthDate: "1980-03-22", Anniversary: "2011-01-13", URL: []string{"http://www.ibm.com"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			sink, all := parse(t, string(connectortest.Fixture(t, tt.name).Bytes()))
			if len(all) != 1 {
				t.Fatalf("%d contacts", len(all))
			}
			c := all[0]
			if c.Name != tt.want.Name || c.BirthDate != tt.want.BirthDate || c.Anniversary != tt.want.Anniversary || !slices.Equal(c.URL, tt.want.URL) || len(c.Telephone) != tt.phones {
				t.Errorf("got %+v", c)
			}
			if c.FamilyName != "Doe" || c.GivenName != "John" || c.WorksFor != "IBM" || c.JobTitle != "Money Counter" {
				t.Errorf("got %+v", c)
			}
			if image := string(sink.Blobs[c.Image]); (c.Image == "") != (tt.image == "") || !strings.HasPrefix(image, tt.image) {
				t.Errorf("image %q of %d bytes", c.Image, len(image))
			}
		})
	}
}

func TestSuite(t *testing.T) {
	own := []*connectortest.File{
		connectortest.NewFile("old.vcf", []byte(old)),
		connectortest.NewFile("many.vcf", []byte(strings.Repeat("BEGIN:VCARD\nVERSION:3.0\nFN:Ada\nTEL:1\nEND:VCARD\n\n", 3)+"BEGIN:VCARD\nVERSION:4.0\nUID:urn:uuid:7\nFN:Bob\nEND:VCARD\n")),
	}
	foreign := []*connectortest.File{
		connectortest.NewFile("contacts.vcf", []byte("Name;Phone\nAda;1\n")),
		connectortest.NewFile("event.vcf", []byte("BEGIN:VCALENDAR\nVERSION:2.0\nEND:VCALENDAR\n")),
		connectortest.NewFile("mail.vcf", []byte("From: ada@example.org\n\nBEGIN:VCARD\nFN:Ada\nEND:VCARD\n")),
	}
	connectortest.Suite(t, New(), own, foreign)
}

// old is a file of version 2.1 with all that makes it hard.
var old = strings.ReplaceAll(`BEGIN:VCARD
VERSION:2.1
N;CHARSET=ISO-8859-1;ENCODING=QUOTED-PRINTABLE:M=FCller;J=FCrg;;Dr.;
FN;CHARSET=UTF-8;QUOTED-PRINTABLE:Dr. J=C3=BCrg M=C3=BC=
ller
TEL;CELL;PREF:+41 79 555 01 01
TEL;WORK;FAX:+41 44 555 01 02
ADR;HOME;ENCODING=QUOTED-PRINTABLE;CHARSET=UTF-8:;;Bahnhofstr. 1=0D=0A2. Stock;Z=C3=BC=
rich;;8001;Schweiz
NOTE;ENCODING=QUOTED-PRINTABLE:a=3Db; c=0D=0Ad =
e
PHOTO;JPEG;BASE64:
  /9j/4AAQSkZJRgABAQEAYABg
  AAD/2Q==

AGENT:
BEGIN:VCARD
VERSION:2.1
FN:The Agent
TEL:+41 44 555 01 03
END:VCARD
URL;WORK:http://example.ch/?a=b;c
TITLE:Head of C:\new things
X-CUSTOM;CHARSET=UTF-8:kept
END:VCARD
`, "\n", "\r\n")

func TestOldCards(t *testing.T) {
	sink, all := parse(t, old)
	if len(all) != 1 {
		t.Fatalf("%d contacts", len(all))
	}
	want := contact{
		Name: "Dr. Jürg Müller", FamilyName: "Müller", GivenName: "Jürg", HonorificPrefix: "Dr.",
		Telephone: []telephone{{"+41 79 555 01 01", "mobile"}, {"+41 44 555 01 02", "work fax"}},
		Address:   []address{{Label: "home", StreetAddress: "Bahnhofstr. 1\n2. Stock", AddressLocality: "Zürich", PostalCode: "8001", AddressCountry: "Schweiz"}},
		Note:      "a=b; c\nd e", RelatedTo: []related{{"The Agent", "agent"}}, URL: []string{"http://example.ch/?a=b;c"},
		JobTitle: `Head of C:\new things`, Image: all[0].Image, Other: map[string][]string{"X-CUSTOM": {"kept"}},
	}
	if !reflect.DeepEqual(all[0], want) {
		t.Errorf("got\n%+v, want\n%+v", all[0], want)
	}
	if image := sink.Blobs[all[0].Image]; !bytes.HasPrefix(image, []byte("\xff\xd8\xff\xe0")) || len(image) != 22 {
		t.Errorf("the photo is %x", image)
	}
}

func TestFolding(t *testing.T) {
	if c := one(t, "3.0", "FN:Ada Love", " lace", "NOTE:one\\n", "\ttwo\\, three\\; \\\\ four"); c.Name != "Ada Lovelace" || c.Note != "one\ntwo, three; \\ four" {
		t.Errorf("version 3.0: %+v", c)
	}
	if c := one(t, "2.1", "FN:Ada", " Lovelace"); c.Name != "Ada Lovelace" {
		t.Errorf("version 2.1: %+v", c)
	}
	// A photo folded or not, with or without a blank line after it.
	data := bytes.Repeat([]byte("photo"), 100)
	text := base64.StdEncoding.EncodeToString(data)
	for name, lines := range map[string][]string{
		"folded":         {"PHOTO;ENCODING=BASE64;JPEG:" + text[:70], " " + text[70:], ""},
		"not folded":     {"PHOTO;ENCODING=BASE64;JPEG:", text[:76], text[76:152], text[152:], ""},
		"no blank line":  {"PHOTO;ENCODING=BASE64;JPEG:", text[:76], text[76:152], text[152:]},
		"no continuance": {"PHOTO;ENCODING=BASE64;JPEG:" + text},
	} {
		sink, all := parse(t, "BEGIN:VCARD\nVERSION:2.1\nN:Lovelace;Ada\n"+strings.Join(lines, "\n")+"\nTEL:1\nEND:VCARD\n")
		if !bytes.Equal(sink.Blobs[all[0].Image], data) || len(all[0].Telephone) != 1 || all[0].Name != "Ada Lovelace" {
			t.Errorf("%s: %+v", name, all[0])
		}
	}
}

func TestNewCards(t *testing.T) {
	c := one(t, "4.0", "UID:urn:uuid:4f", "KIND:org", `TEL;VALUE=uri;PREF=2;TYPE="voice,home":tel:+1-555-0102`, "TEL;VALUE=uri;PREF=1;TYPE=cell:tel:+1-555-0101",
		"N:Public,van;Ann;Mary,Jane;;M.D.,PhD", "FN:Ann", `ADR;LABEL="1, Main St: north":;;1 Main St;Any Town;CA;91921;USA`, "BDAY:--0229", "GENDER:F;woman",
		"GEO:geo:37.386,-122.08;u=10", "LANG:fr", "IMPP:xmpp:ann@example.org", "PHOTO:https://example.org/a.jpg", "item1.X-ABLabel:Cabin", "item1.EMAIL:ann@example.org", "X-A:1", "X-A:2")
	lat, lon := 37.386, -122.08
	want := contact{
		Type: "Organization", UID: "urn:uuid:4f", Name: "Ann", FamilyName: "Public van", GivenName: "Ann", AdditionalName: "Mary Jane", HonorificSuffix: "M.D. PhD",
		Telephone: []telephone{{"+1-555-0101", "mobile"}, {"+1-555-0102", "home"}}, Email: []email{{"ann@example.org", "Cabin"}},
		Address:   []address{{StreetAddress: "1 Main St", AddressLocality: "Any Town", AddressRegion: "CA", PostalCode: "91921", AddressCountry: "USA"}},
		BirthDate: "--02-29", Gender: "female, woman", Latitude: &lat, Longitude: &lon, KnowsLanguage: []string{"fr"}, SameAs: []string{"xmpp:ann@example.org"},
		ImageURL: "https://example.org/a.jpg", Other: map[string][]string{"X-A": {"1", "2"}},
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got\n%+v, want\n%+v", c, want)
	}
}

func TestDates(t *testing.T) {
	for in, want := range map[string]string{
		"1980-03-22": "1980-03-22", "19800322": "1980-03-22", "1980-03-22T00:00:00Z": "1980-03-22", "--0412": "--04-12", "--04-12": "--04-12",
		"1604-03-03": "--03-03", "": "", "circa 1800": "", "1980-13-01": "", "--0230": "",
	} {
		if got := calendarDate(in, ""); got != want {
			t.Errorf("%q is %q, want %q", in, got, want)
		}
	}
	// What is no date is kept and not lost.
	if c := one(t, "4.0", "FN:A", "BDAY;VALUE=text:circa 1800"); c.BirthDate != "" || !slices.Equal(c.Other["BDAY"], []string{"circa 1800"}) {
		t.Errorf("got %+v", c)
	}
}

func TestIDs(t *testing.T) {
	id := func(lines ...string) string {
		sink, _ := parse(t, "BEGIN:VCARD\nVERSION:3.0\n"+strings.Join(lines, "\n")+"\nEND:VCARD\n")
		return sink.Records[0].ID
	}
	if a, b := id("UID:urn:uuid:7", "FN:A"), id("UID:7", "FN:B", "TEL:1"); a != "7" || a != b {
		t.Errorf("ids by UID: %q, %q", a, b)
	}
	a := id("FN:Ada  Lovelace", "TEL:+44 20 7946", "EMAIL:ada@example.org", "EMAIL:b@example.org")
	if b := id("FN:ada lovelace", "EMAIL:B@example.org", "EMAIL:ADA@example.org", "TEL:+44-(20)-7946", "NOTE:more"); a != b {
		t.Errorf("ids of the same person: %q, %q", a, b)
	}
	for _, other := range []string{id("FN:Ada Lovelace"), id("FN:Ada Lovelace", "TEL:+44 20 7947", "EMAIL:ada@example.org", "EMAIL:b@example.org")} {
		if other == a {
			t.Errorf("another person has the id %q too", a)
		}
	}
	// Two cards alike are one, two that differ are two.
	card := func(note string) string { return "BEGIN:VCARD\nVERSION:3.0\nFN:Kim\nNOTE:" + note + "\nEND:VCARD\n" }
	sink, _ := parse(t, card("a")+card("b")+card("a"))
	if len(sink.Records) != 2 || sink.Records[0].ID == sink.Records[1].ID || len(sink.Notes) != 1 {
		t.Errorf("%v, notes %q", sink.Records, sink.Notes)
	}
}

// Cards that are broken fail alone; what is around them goes in.
func TestBrokenCards(t *testing.T) {
	const good = "BEGIN:VCARD\nVERSION:3.0\nFN:Good %d\nEND:VCARD\n"
	for _, tt := range []struct{ name, card, why string }{
		{"no name", "BEGIN:VCARD\nVERSION:3.0\nNOTE:x\nEND:VCARD\n", "neither a name"},
		{"no end", "BEGIN:VCARD\nVERSION:3.0\nFN:Bad\n", "no END:VCARD"},
		{"photo", "BEGIN:VCARD\nVERSION:3.0\nFN:Bad\nPHOTO;ENCODING=b:?***\nEND:VCARD\n", "PHOTO on line 8 is no base64"},
		{"not a property", "BEGIN:VCARD\nhello\nVERSION:3.0\nFN:Bad\nEND:VCARD\n", "line 6 is no property"},
		{"endless", "BEGIN:VCARD\nVERSION:3.0\nFN:" + strings.Repeat("x", maxLine+10) + "\nEND:VCARD\n", "longer than 12 MiB"},
		{"endless unknown", "BEGIN:VCARD\nVERSION:3.0\nFN:Bad\nX-A:" + strings.Repeat("x", maxKept+1) + "\nEND:VCARD\n", "longer than 64 KiB"},
		{"too many", "BEGIN:VCARD\nVERSION:3.0\nFN:Bad\n" + strings.Repeat("TEL:1\n", maxProperties+1) + "END:VCARD\n", "more than 10000 lines"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cards := fmt.Sprintf(good, 1) + tt.card + fmt.Sprintf(good, 2)
			sink, err := connectortest.Parse(t, New(), connectortest.NewFile("x", []byte(cards)))
			if err != nil {
				t.Fatal(err)
			}
			if len(sink.Records) != 2 || len(sink.Failed) != 1 || sink.Failed[0].At != "card 2, line 5" || !strings.Contains(sink.Failed[0].Why, tt.why) {
				t.Errorf("%d records, failed %v", len(sink.Records), sink.Failed)
			}
		})
	}
}

func TestBrokenFiles(t *testing.T) {
	for _, tt := range []struct{ name, cards, at, why string }{
		{"cut in a card", "BEGIN:VCARD\nVERSION:3.0\nFN:A\nEND:VCARD\nBEGIN:VCARD\nFN:B\n", "line 5", "cut off"},
		{"cut in a photo", old[:strings.Index(old, "AAD/")], "line 1", "cut off"},
		{"text between", "BEGIN:VCARD\nFN:A\nEND:VCARD\n\nhello\n", "line 5", `not with "hello"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := New().Parse(t.Context(), connectortest.NewFile("x", []byte(tt.cards)), new(connectortest.Sink))
			connectortest.IsFileError(t, err, tt.at, tt.why)
		})
	}
}

// A line that is no property belongs to the value before it.
func TestUnfoldedNote(t *testing.T) {
	if c := one(t, "3.0", "FN:A", "NOTE:first line", "second line, not folded", "TEL:1"); c.Note != "first line\nsecond line, not folded" || len(c.Telephone) != 1 {
		t.Errorf("got %+v", c)
	}
}

// Where go-vcard can read a card, both find the same.
func TestAgainstGoVCard(t *testing.T) {
	for _, name := range []string{"contacts/gmail.vcf", "contacts/iphone-with-photo.vcf"} {
		file := connectortest.Fixture(t, name)
		want, err := vcard.NewDecoder(bytes.NewReader(file.Bytes())).Decode()
		if err != nil {
			t.Fatal(err)
		}
		_, all := parse(t, string(file.Bytes()))
		if c := all[0]; c.Name != want.PreferredValue(vcard.FieldFormattedName) || len(c.Telephone) != len(want.Values(vcard.FieldTelephone)) ||
			len(c.Email) != len(want.Values(vcard.FieldEmail)) || c.FamilyName != want.Name().FamilyName {
			t.Errorf("%s: %+v, but go-vcard finds %+v", name, c, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(old))
	f.Add([]byte("BEGIN:VCARD\nVERSION:4.0\nFN:A\nPHOTO:data:image/png;base64,AAAA\nGEO:geo:1,2\nX:\\n\nEND:VCARD\n"))
	f.Add([]byte("\xff\xfeB\x00E\x00G\x00I\x00N\x00:\x00V\x00C\x00A\x00R\x00D\x00\n\x00"))
	f.Fuzz(func(t *testing.T, b []byte) { connectortest.Survive(t, New(), connectortest.NewFile("x", b)) })
}

func BenchmarkParse(b *testing.B) {
	const n = 20_000
	var file bytes.Buffer
	for i := range n {
		fmt.Fprintf(&file, "BEGIN:VCARD\r\nVERSION:3.0\r\nUID:%d\r\nN:Person;Number %d;;;\r\nFN:Number %d Person\r\nEMAIL;TYPE=HOME:p%d@example.org\r\nTEL;TYPE=CELL:+1 555 %d\r\nADR;TYPE=WORK:;;1 Main St;Any Town;CA;91921;USA\r\nNOTE:a note that goes on\\, and on\r\nEND:VCARD\r\n", i, i, i, i, i)
	}
	b.SetBytes(int64(file.Len()))
	b.ReportAllocs()
	for b.Loop() {
		sink := &connectortest.Sink{Drop: true}
		if err := New().Parse(b.Context(), connectortest.NewFile("x", file.Bytes()), sink); err != nil || sink.Dropped != n {
			b.Fatalf("%d records: %v", sink.Dropped, err)
		}
	}
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "records/s")
}
