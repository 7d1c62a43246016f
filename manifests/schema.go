package manifests

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
	"golang.org/x/text/language"
	"golang.org/x/text/message"

	"github.com/locker-project/locker/plugins/locker"
)

//go:embed schemas/*.json
var schemaFiles embed.FS

// wellKnown compiles the schemas of the well-known collections, once.
var wellKnown = sync.OnceValues(func() (map[string]*schema, error) {
	entries, err := schemaFiles.ReadDir("schemas")
	if err != nil {
		return nil, err
	}
	all := make(map[string]*schema, len(entries))
	for _, e := range entries {
		b, err := schemaFiles.ReadFile("schemas/" + e.Name())
		if err != nil {
			return nil, err
		}
		name := strings.TrimSuffix(e.Name(), ".json")
		if all[name], err = compileSchema(name, b); err != nil {
			return nil, fmt.Errorf("schema of %s: %w", name, err)
		}
	}
	return all, nil
})

// lookup returns the schema of a well-known collection, or nil.
func lookup(collection string) *schema {
	all, err := wellKnown()
	if err != nil {
		panic(err) // the embedded schemas are what the tests compiled
	}
	return all[collection]
}

// Collections are the names of the well-known collections, sorted.
func Collections() []string {
	all, err := wellKnown()
	if err != nil {
		panic(err) // the embedded schemas are what the tests compiled
	}
	return slices.Sorted(maps.Keys(all))
}

// Schema returns the JSON Schema of a well-known collection, or nil.
func Schema(collection string) json.RawMessage {
	if s := lookup(collection); s != nil {
		return s.text
	}
	return nil
}

// Validate checks fields, a JSON object, against the schema of a well-known
// collection. Fields that the schema does not know pass, and so does everything
// in a collection that is not well known. Errors are [locker.ErrInvalid] and name
// the field. It may be called from several goroutines at once.
func Validate(collection string, fields json.RawMessage) error {
	return lookup(collection).validate(fields)
}

// A Field is one leaf field of a collection: what a grant can name.
type Field struct {
	Name        string // dotted path, such as "address.postalCode"
	Type        string // such as "string", "list of string", "date-time", "decimal"
	Description string
	Required    bool // every record has it
}

// Fields are the leaf fields of a well-known collection, in the order of its
// schema; nil where it is not well known.
func Fields(collection string) []Field {
	s := lookup(collection)
	if s == nil {
		return nil
	}
	return slices.Clone(s.fields)
}

// A schema is a compiled JSON Schema of a collection. A nil schema takes any
// JSON object.
type schema struct {
	name   string
	text   json.RawMessage
	hash   string
	full   *jsonschema.Schema
	fast   *shape
	fields []Field
}

// refuseRemote loads nothing: a schema stands alone.
type refuseRemote struct{}

func (refuseRemote) Load(url string) (any, error) {
	return nil, fmt.Errorf("%s is not in the schema itself, and nothing is fetched", url)
}

// compileSchema compiles a collection's schema.
func compileSchema(name string, text []byte) (*schema, error) {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.AssertFormat()
	c.UseLoader(refuseRemote{})
	url := "urn:locker:collection:" + name
	if err := c.AddResource(url, doc); err != nil {
		return nil, err
	}
	full, err := c.Compile(url)
	var broken *jsonschema.SchemaValidationError
	if errors.As(err, &broken) {
		return nil, errors.New(explain("schema", broken.Err))
	}
	if err != nil {
		return nil, err
	}
	s := &schema{name: name, text: text, full: full}
	sum := sha256.Sum256(text)
	s.hash = hex.EncodeToString(sum[:])
	if s.fast, err = parseShape(text); err != nil {
		return nil, err
	}
	if s.fast.kinds != isObject {
		return nil, errors.New(`its "type" is not "object"`)
	}
	s.fields = s.fast.leaves(nil, "")
	s.fast.folded = map[string]string{}
	for name := range s.fast.props {
		s.fast.folded[strings.ToLower(name)] = name
	}
	return s, s.checkNames()
}

// checkNames refuses names that could stand for others.
func (s *schema) checkNames() error {
	seen := map[string]string{}
	for _, f := range s.fields {
		folded := strings.ToLower(f.Name)
		if other := seen[folded]; other != "" {
			return fmt.Errorf("%s and %s differ in case only", other, f.Name)
		}
		seen[folded] = f.Name
		if isPseudo(strings.SplitN(folded, ".", 2)[0]) {
			return fmt.Errorf("%s is a field of every record, and cannot be one of the collection", f.Name)
		}
	}
	return nil
}

// isPseudo says whether a name is a field of every record.
func isPseudo(name string) bool {
	return name == fieldID || name == fieldTime || name == fieldSource || name == fieldImport
}

// isFieldName says whether a name can be one part of a field's path.
func isFieldName(s string) bool {
	for i := range len(s) {
		c := s[i] | 0x20
		if letter := c >= 'a' && c <= 'z'; !letter && (i == 0 || !(s[i] >= '0' && s[i] <= '9' || s[i] == '_' || s[i] == '-')) {
			return false
		}
	}
	return len(s) > 0 && len(s) <= 64
}

// expand returns the leaf fields that a path names, or nil.
func (s *schema) expand(path string) []string {
	if isPseudo(path) {
		return []string{path}
	}
	if s == nil {
		return nil
	}
	var out []string
	for _, f := range s.fields {
		if f.Name == path || strings.HasPrefix(f.Name, path+".") {
			out = append(out, f.Name)
		}
	}
	return out
}

// validate checks fields. The fast check says yes or maybe; the library decides
// and has the words.
func (s *schema) validate(fields json.RawMessage) error {
	if s != nil && s.fast.accepts(fields) {
		return nil
	}
	if s == nil {
		if !isJSONObject(fields) {
			return fmt.Errorf("%w: fields are no JSON object", locker.ErrInvalid)
		}
		return nil
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(fields))
	if err != nil {
		return fmt.Errorf("%w: fields are no JSON object: %v", locker.ErrInvalid, err)
	}
	if err := s.full.Validate(value); err != nil {
		return fmt.Errorf("%w: %s", locker.ErrInvalid, explain(s.name, err))
	}
	return s.twins(fields)
}

// twins refuses a field that only looks like one of the schema.
func (s *schema) twins(fields json.RawMessage) (err error) {
	members(fields, skipSpace(fields, 0), func(m member, at int) int {
		if twin := s.fast.twin(m.name); twin != "" {
			err = fmt.Errorf("%w: %s.%s: the field is written %s", locker.ErrInvalid, s.name, m.name, twin)
			return -1
		}
		return skipValue(fields, at, 0)
	})
	return err
}

// explain says which field is wrong, and why. Texts are not repeated.
func explain(collection string, err error) string {
	var invalid *jsonschema.ValidationError
	if !errors.As(err, &invalid) {
		return err.Error()
	}
	for len(invalid.Causes) > 0 {
		invalid = invalid.Causes[0]
	}
	where := strings.Join(append([]string{collection}, invalid.InstanceLocation...), ".")
	return where + ": " + reason(invalid)
}

var english = message.NewPrinter(language.English)

// forms are words for patterns of our schemas.
var forms = map[string]string{
	`^-?[0-9]{1,30}(\.[0-9]{1,18})?$`:       "is no decimal number with a point, such as -12.30",
	`^[A-Z]{3}$`:                            "is no currency: ISO 4217, three capital letters",
	`^[a-z][a-z0-9-]{0,39}$`:                "is no id: a letter, then letters, digits and -, all lower case",
	`^[a-z0-9]([a-z0-9.-]{0,60}[a-z0-9])?$`: "is no vendor: lower case letters, digits, . and -",
	`^[0-9A-Za-z][0-9A-Za-z.+-]{0,31}$`:     "is no version: letters, digits, ., + and -",
	`^[^\p{C}]+$`:                           "is empty, or has control or invisible characters",
	`^([a-z0-9]([a-z0-9.-]{0,60}[a-z0-9])?/)?[a-z][a-z0-9-]{0,39}$`:     "is no collection: NAME, or VENDOR/NAME, in lower case",
	`^[A-Za-z][A-Za-z0-9_-]{0,63}(\.[A-Za-z][A-Za-z0-9_-]{0,63}){0,7}$`: "is no field: ASCII letters and digits, with dots between the parts",
	`^P([0-9]{1,5}Y)?([0-9]{1,5}M)?([0-9]{1,5}W)?([0-9]{1,5}D)?$`:       "is no duration such as P30D, P2W, P6M or P1Y",
	`^dpv:`:                       "is no term such as dpv:RequestedServiceProvision",
	`^[0-9]{1,9}(\.[0-9]{1,8})?$`: "is no amount such as 4.99",
	`^[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*){0,7}$`: "is no program: a name without .., beside the manifest",
	`^([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z]([a-z0-9-]*[a-z0-9])?$`:   "is no host name such as api.example.org",
	`^[a-z0-9][a-z0-9.+-]{0,39}$`:                                      "is no kind of file such as vcard",
}

// reason is what the library says, without the text of a value.
func reason(e *jsonschema.ValidationError) string {
	switch k := e.ErrorKind.(type) {
	case *kind.Pattern:
		if words := forms[k.Want]; words != "" {
			return words
		}
		return "does not have the form " + k.Want
	case *kind.MinItems:
		return fmt.Sprintf("has fewer than %d", k.Want)
	case *kind.MinLength:
		return "is empty"
	case *kind.MaxLength:
		return fmt.Sprintf("is longer than %d characters", k.Want)
	case *kind.AdditionalProperties:
		return fmt.Sprintf("has %s, which this version of Locker does not know", list(k.Properties))
	case *kind.Format:
		return "is no " + k.Want
	}
	return e.ErrorKind.LocalizedString(english)
}
