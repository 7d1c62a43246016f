package manifests

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/locker-project/locker/plugins/locker"
)

func TestPageIsCurrent(t *testing.T) {
	got, err := os.ReadFile("COLLECTIONS.md")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, Page()) {
		t.Error("COLLECTIONS.md is not what the schemas say: run go generate ./manifests")
	}
}

// purposeTable is the table of purposes as SPEC.md should have it.
func purposeTable() string {
	var b bytes.Buffer
	for _, p := range purposes {
		fmt.Fprintf(&b, "| `%s%s` | to %s |\n", dpv, p.term, p.words)
	}
	return b.String()
}

// SPEC.md lists the purposes, and shows a manifest that is valid.
func TestSpec(t *testing.T) {
	spec, err := os.ReadFile("SPEC.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(spec), purposeTable()) {
		t.Errorf("SPEC.md does not have the purposes:\n%s", purposeTable())
	}
	_, rest, _ := strings.Cut(string(spec), "```json\n")
	example, _, ok := strings.Cut(rest, "```")
	if !ok {
		t.Fatal("no example in SPEC.md")
	}
	if _, err := ParseManifest([]byte(example)); err != nil {
		t.Error(err)
	}
}

func TestCollections(t *testing.T) {
	want := "bookmarks checkins contacts events measurements messages notes pages photos places plays posts purchases tracks transactions"
	if got := strings.Join(Collections(), " "); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for _, name := range Collections() {
		var doc struct {
			Schema      string `json:"$schema"`
			ID          string `json:"$id"`
			Description string
			Comment     string `json:"$comment"`
			Additional  any    `json:"additionalProperties"`
		}
		if err := json.Unmarshal(Schema(name), &doc); err != nil {
			t.Fatal(err)
		}
		if doc.Schema != "https://json-schema.org/draft/2020-12/schema" || doc.ID != "urn:locker:collection:"+name || !strings.HasPrefix(doc.Comment, "time: ") || doc.Additional != nil {
			t.Errorf("%s: %+v", name, doc)
		}
		for _, f := range Fields(name) {
			if f.Description == "" || f.Type == "any" || strings.Contains(f.Type, "object") {
				t.Errorf("%s.%s: type %q, description %q", name, f.Name, f.Type, f.Description)
			}
		}
		if lookup(name).fast.partial {
			t.Errorf("%s has keywords that the fast check does not know", name)
		}
	}
	if Fields("nothing") != nil || Schema("nothing") != nil {
		t.Error("a collection that is not well known has fields")
	}
}

func TestFields(t *testing.T) {
	got := map[string]Field{}
	for _, f := range append(Fields("transactions"), Fields("contacts")...) {
		got[f.Name] = f
	}
	for name, want := range map[string]string{"amount": "decimal", "currency": "currency", "valueDate": "date", "transactionDate": "date-time", "pending": "boolean", "tags": "list of string", "address.postalCode": "string", "latitude": "number"} {
		if got[name].Type != want {
			t.Errorf("%s has the type %q, want %q", name, got[name].Type, want)
		}
	}
	if !got["amount"].Required || got["payee"].Required {
		t.Errorf("required: %+v %+v", got["amount"], got["payee"])
	}
	if _, there := got["address"]; there {
		t.Error("an object is a leaf")
	}
}

func TestValidate(t *testing.T) {
	for _, tt := range []struct{ collection, fields, want string }{
		{"transactions", `{"amount":"-12.30","currency":"CHF"}`, ""},
		{"transactions", ` { "amount" : "0" , "unknown" : { "kept" : [ 1 , null ] } } `, ""},
		{"transactions", `{"amount":"-12.30","payee":"M\u00fcller \"&\" <Co>"}`, ""},
		{"transactions", `{"amount":-12.3}`, "transactions.amount: got number, want string"},
		{"transactions", `{"amount":"12,30"}`, "transactions.amount: is no decimal number"},
		{"transactions", `{"amount":"1e5"}`, "transactions.amount: is no decimal number"},
		{"transactions", `{"amount":"1","currency":"Fr."}`, "transactions.currency: is no currency"},
		{"transactions", `{"currency":"CHF"}`, "transactions: missing property 'amount'"},
		{"transactions", `{"amount":"1","valueDate":"2026-02-30"}`, "transactions.valueDate: is no date"},
		{"transactions", `{"amount":"1","valueDate":"30.1.2026"}`, "transactions.valueDate: is no date"},
		{"transactions", `{"amount":"1","transactionDate":"2026-01-01 10:00"}`, "transactions.transactionDate: is no date-time"},
		{"transactions", `{"amount":"1","accountType":"piggybank"}`, "transactions.accountType: value must be one of"},
		{"transactions", `{"amount":"1","tags":["a",2]}`, "transactions.tags.1: got number"},
		{"transactions", `{"amount":"1","AMOUNT":"2"}`, "transactions.AMOUNT: the field is written amount"},
		{"transactions", `[]`, "want object"},
		{"transactions", `{`, "no JSON object"},
		{"transactions", ``, "no JSON object"},
		{"photos", `{"latitude":91}`, "photos.latitude: maximum"},
		{"photos", `{"width":1.5}`, "photos.width: got number, want integer"},
		{"photos", `{"width":2.0}`, ""},
		{"contacts", `{"email":[{"address":5}]}`, "contacts.email.0.address: got number"},
		{"acme/own", `{"anything":1}`, ""},
		{"acme/own", `[1]`, "no JSON object"},
	} {
		err := Validate(tt.collection, json.RawMessage(tt.fields))
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%s %s: %v", tt.collection, tt.fields, err)
		case tt.want != "" && (err == nil || !errors.Is(err, locker.ErrInvalid) || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s %s: %v, want %q", tt.collection, tt.fields, err, tt.want)
		}
	}
}

// slow is what the library alone says.
func slow(s *schema, fields []byte) bool {
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(fields))
	return err == nil && s.full.Validate(value) == nil
}

// FuzzFastCheck tests that the fast check never accepts what the library refuses.
func FuzzFastCheck(f *testing.F) {
	for _, fields := range []string{`{"amount":"-12.30"}`, `{"amount":"1","valueDate":"2026-01-01","tags":["a"],"transactionDate":"2026-01-01T00:00:00Z"}`, `{"amount":"\u0031","latitude":1e400}`, `{"email":[{"address":"x"}],"points":[{"time":"2026-01-01T24:00:00Z"}]}`} {
		for i := range Collections() {
			f.Add(uint8(i), []byte(fields))
		}
	}
	f.Fuzz(func(t *testing.T, collection uint8, fields []byte) {
		names := Collections()
		s := lookup(names[int(collection)%len(names)])
		if s.fast.accepts(fields) && !slow(s, fields) {
			t.Errorf("%s: the fast check accepts %q", s.name, fields)
		}
	})
}

// TestFastCheckAgrees tries random values on every field of every collection.
func TestFastCheckAgrees(t *testing.T) {
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	values := []string{`"text"`, `"-12.30"`, `"1."`, `".5"`, `"+1"`, `"CHF"`, `"chf"`, `"CHFX"`, `"2026-01-31"`, `"2026-02-30"`, `"2026-1-1"`, `"2026-01-31T10:20:30Z"`, `"2026-01-31T10:20:30.5+02:00"`, `"2026-01-31T10:20:30+2"`, `"2026-01-31t10:20:30z"`, `"2016-12-31T23:59:60Z"`, `"2026-01-31T25:20:30Z"`, `"2026-01-31T10:20:30,5Z"`, `"public"`, `"Person"`, `1`, `-1`, `0`, `1.5`, `1.0`, `90.1`, `-181`, `1e2`, `true`, `false`, `null`, `[]`, `["a"]`, `["a",1]`, `[["a"]]`, `{}`, `{"a":1}`, `"\u0041BC"`, `"ä"`, "\"\xff\""}
	fast := 0
	for range 20000 {
		names := Collections()
		s := lookup(names[random.IntN(len(names))])
		fields := map[string]json.RawMessage{}
		if s.name == "transactions" && random.IntN(4) > 0 {
			fields["amount"] = json.RawMessage(`"1"`)
		}
		if s.name == "pages" || s.name == "bookmarks" {
			fields["url"] = json.RawMessage(`"u"`)
		}
		for range random.IntN(4) {
			field := s.fields[random.IntN(len(s.fields))].Name
			value := values[random.IntN(len(values))]
			top, below, nested := strings.Cut(field, ".")
			if nested {
				value = fmt.Sprintf(`{"%s":%s}`, below, value)
				if random.IntN(2) == 0 {
					value = "[" + value + "]"
				}
			}
			fields[top] = json.RawMessage(value)
		}
		var parts []string
		for name, value := range fields {
			parts = append(parts, fmt.Sprintf("%q:%s", name, value))
		}
		text := []byte("{" + strings.Join(parts, ",") + "}")
		if s.fast.accepts(text) {
			fast++
			if !slow(s, text) {
				t.Fatalf("seed %d: %s: the fast check accepts %s", seed, s.name, text)
			}
		}
		if (s.validate(text) == nil) != slow(s, text) {
			t.Fatalf("seed %d: %s: the verdicts on %s differ", seed, s.name, text)
		}
	}
	if fast < 2000 {
		t.Errorf("seed %d: the fast check accepted %d of 20000", seed, fast)
	}
}

func TestDeclaredSchemas(t *testing.T) {
	for _, tt := range []struct{ schema, want string }{
		{`{"type":"object","properties":{"a":{"$ref":"#/$defs/x"}},"$defs":{"x":{"type":"string"}}}`, ""},
		{`{"type":"object","properties":{"a":{"$ref":"https://example.org/x.json"}}}`, "nothing is fetched"},
		{`{"type":"object","properties":{"a":{"$ref":"file:///etc/passwd"}}}`, "nothing is fetched"},
		{`{"type":"object","properties":{"a":{"$ref":"#/$defs/none"}}}`, "none"},
		{`{"$schema":"https://example.org/meta","type":"object","properties":{"a":{}}}`, "nothing is fetched"},
		{`{"type":"array"}`, `"type" is not "object"`},
		{`{"type":["object","null"],"properties":{"a":{}}}`, `"type" is not "object"`},
		{`{"type":"object","properties":{"id":{"type":"string"}}}`, "field of every record"},
		{`{"type":"object","properties":{"Time":{"type":"string"}}}`, "field of every record"},
		{`{"type":"object","properties":{"a":{},"A":{}}}`, "differ in case only"},
		{`{"type":"object","properties":{"a":{},"a":{}}}`, "twice"},
		{`{"type":"object","properties":{"аmount":{}}}`, "no field name"}, // a Cyrillic letter
		{`{"type":"object","properties":{"a.b":{}}}`, "no field name"},
		{`{"type":"object","properties":{"":{}}}`, "no field name"},
		{`{"type":"object","properties":{"a":{"type":"object","properties":{"b":{},"B":{}}}}}`, "differ in case only"},
		{`{"type":"object","properties":{"a":{"pattern":"("}}}`, "regex"},
		{`{"type":"objekt"}`, ""},
	} {
		_, err := compileSchema("acme/x", []byte(tt.schema))
		if tt.schema == `{"type":"objekt"}` {
			if err == nil {
				t.Errorf("%s: taken", tt.schema)
			}
			continue
		}
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%s: %v", tt.schema, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s: %v, want %q", tt.schema, err, tt.want)
		}
	}
}

var benchTransaction = json.RawMessage(`{"amount":"-42.50","currency":"CHF","payee":"Migros Zürich","memo":"Card payment in a shop","account":"CH93 0076 2011 6238 5295 7","bankId":"POFICHBE","kind":"debit","reference":"0123456789","valueDate":"2026-01-05","bookingDate":"2026-01-04","balance":"1234.55","fitId":"20260104-1234"}`)

func BenchmarkValidate(b *testing.B) {
	for name, check := range map[string]func() bool{
		"fast":    func() bool { return Validate("transactions", benchTransaction) == nil },
		"library": func() bool { return slow(lookup("transactions"), benchTransaction) },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if !check() {
					b.Fatal("not valid")
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
		})
	}
}
