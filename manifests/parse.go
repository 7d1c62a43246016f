package manifests

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/locker-project/locker/plugins/locker"
)

//go:embed manifest.schema.json
var manifestSchemaText []byte

var manifestSchema = sync.OnceValues(func() (*jsonschema.Schema, error) {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(manifestSchemaText))
	if err != nil {
		return nil, err
	}
	c := jsonschema.NewCompiler()
	c.UseLoader(refuseRemote{})
	if err := c.AddResource("urn:locker:manifest:0", doc); err != nil {
		return nil, err
	}
	return c.Compile("urn:locker:manifest:0")
})

// maxManifest is the largest manifest, in bytes.
const maxManifest = 256 << 10

// ParseManifest reads a manifest. Errors are [locker.ErrInvalid] and name the
// place in the document and what is wrong there.
func ParseManifest(text []byte) (*Manifest, error) {
	m, err := parseManifest(text)
	if err != nil {
		return nil, fmt.Errorf("%w manifest: %w", locker.ErrInvalid, err)
	}
	return m, nil
}

// at is an error at a place of the document.
func at(place, format string, args ...any) error {
	return fmt.Errorf("%s: %s", place, fmt.Sprintf(format, args...))
}

func parseManifest(text []byte) (*Manifest, error) {
	if len(text) > maxManifest {
		return nil, fmt.Errorf("longer than %d KiB", maxManifest>>10)
	}
	if !isJSONObject(text) {
		return nil, errors.New("no JSON object, or one that nests too deep")
	}
	if twin := findTwin(text, skipSpace(text, 0), ""); twin != "" {
		return nil, at(twin, "is there twice")
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	form, err := manifestSchema()
	if err != nil {
		return nil, err
	}
	if err := form.Validate(doc); err != nil {
		return nil, located(err)
	}
	sum := sha256.Sum256(text)
	m := &Manifest{hash: hex.EncodeToString(sum[:]), schemas: map[string]*schema{}}
	if err := json.Unmarshal(text, m); err != nil {
		return nil, err
	}
	return m, errors.Join(m.check()...)
}

// findTwin returns the place of a member that an object has twice, or "".
func findTwin(b []byte, i int, path string) (twin string) {
	seen := map[string]bool{}
	n := 0
	deeper := func(at int, path string) int {
		if b[at] == '{' || b[at] == '[' {
			if twin = findTwin(b, at, path); twin != "" {
				return -1
			}
		}
		return skipValue(b, at, 0)
	}
	if b[i] == '[' {
		elements(b, i, func(at int) int {
			n++
			return deeper(at, path+"["+strconv.Itoa(n-1)+"]")
		})
		return twin
	}
	members(b, i, func(m member, at int) int {
		name := string(m.name)
		here := strings.TrimPrefix(path+"."+name, ".")
		if seen[name] {
			twin = here
			return -1
		}
		seen[name] = true
		return deeper(at, here)
	})
	return twin
}

// located turns an error of the schema into one with a path such as
// requests[0].fields[2].
func located(err error) error {
	var invalid *jsonschema.ValidationError
	if !errors.As(err, &invalid) {
		return err
	}
	for len(invalid.Causes) > 0 {
		invalid = invalid.Causes[0]
	}
	path := ""
	for _, part := range invalid.InstanceLocation {
		if _, err := strconv.Atoi(part); err == nil {
			path += "[" + part + "]"
			continue
		}
		path += "." + part
	}
	if path = strings.TrimPrefix(path, "."); path == "" {
		path = "the document"
	}
	return at(path, "%s", reason(invalid))
}

// check tests what the schema cannot say.
func (m *Manifest) check() []error {
	var errs []error
	add := func(err error) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	add(m.checkKind())
	for name, text := range m.Collections {
		add(m.checkCollection(name, text))
	}
	for i, c := range m.Writes {
		add(m.checkWrite(i, c))
	}
	seen := map[string]bool{}
	for i := range m.Requests {
		where := fmt.Sprintf("requests[%d]", i)
		if id := m.Requests[i].ID; seen[id] {
			add(at(where+".id", "%q is there twice", id))
		} else {
			seen[id] = true
		}
		add(m.checkRequest(where, &m.Requests[i]))
	}
	offers := map[string]bool{}
	for i := range m.Offers {
		where := fmt.Sprintf("offers[%d]", i)
		if id := m.Offers[i].ID; offers[id] {
			add(at(where+".id", "%q is there twice", id))
		} else {
			offers[id] = true
		}
		add(m.checkOffer(where, &m.Offers[i], seen))
	}
	return errs
}

func (m *Manifest) checkKind() error {
	switch {
	case m.Kind == App && m.Connector != nil:
		return at("connector", "is for connectors, and this is an app")
	case m.Kind == App && len(m.Offers) == 0:
		return at("offers", "an app has at least one")
	case m.Kind != App && len(m.Requests) > 0:
		return at("requests", "only an app has requests, and this is a %s", m.Kind)
	case m.Kind != App && len(m.Offers) > 0:
		return at("offers", "only an app has offers, and this is a %s", m.Kind)
	case m.Kind == Remote && len(m.Writes)+len(m.Collections) > 0:
		return at("writes", "a remote sees no records")
	case m.Kind == Remote && m.Connector != nil:
		return at("connector", "is for connectors, and this is a remote")
	case m.Kind != Connector:
		return nil
	case len(m.Writes) == 0:
		return at("writes", "a connector names at least one collection")
	case m.Connector == nil || len(m.Connector.Reads)+len(m.Connector.Hosts) == 0:
		return at("connector", "says neither which files it reads nor which hosts it asks")
	case len(m.Connector.Reads) > 0 && len(m.Connector.Hosts) > 0:
		return at("connector", "asks for files and for hosts: a process gets one or the other")
	}
	return nil
}

// checkCollection compiles a declared schema.
func (m *Manifest) checkCollection(name string, text json.RawMessage) error {
	where := fmt.Sprintf("collections[%q]", name)
	if err := m.checkOwn(where, name); err != nil {
		return err
	}
	s, err := compileSchema(name, text)
	if err != nil {
		return at(where, "%v", err)
	}
	if len(s.fields) == 0 {
		return at(where, "has no fields")
	}
	m.schemas[name] = s
	return nil
}

// checkOwn refuses a collection that is not the vendor's.
func (m *Manifest) checkOwn(where, name string) error {
	vendor, rest, ok := strings.Cut(name, "/")
	if !ok || vendor != m.Vendor || !isFieldName(rest) {
		return at(where, "%q is not named %s/NAME", name, m.Vendor)
	}
	return nil
}

func (m *Manifest) checkWrite(i int, name string) error {
	where := fmt.Sprintf("writes[%d]", i)
	if m.Kind == Connector && lookup(name) != nil {
		return nil
	}
	if m.Kind == App && !strings.Contains(name, "/") {
		return at(where, "an app writes to collections of its own, named %s/NAME, and not to %s", m.Vendor, name)
	}
	if !strings.Contains(name, "/") {
		return at(where, "%q is no collection that Locker knows; declare one of your own, named %s/NAME", name, m.Vendor)
	}
	return m.checkOwn(where, name)
}

// schemaOf is the schema of a collection as the manifest sees it, or nil.
func (m *Manifest) schemaOf(collection string) *schema {
	if s := m.schemas[collection]; s != nil {
		return s
	}
	return lookup(collection)
}

// expand returns the leaf fields that a path names in a collection. Of a
// collection whose schema is elsewhere a path names itself alone.
func (m *Manifest) expand(collection, path string) []string {
	s := m.schemaOf(collection)
	if s == nil && strings.Contains(collection, "/") {
		return []string{path}
	}
	return s.expand(path)
}

func (m *Manifest) checkRequest(where string, r *Request) error {
	if !strings.Contains(r.Collection, "/") && lookup(r.Collection) == nil {
		return at(where+".collection", "%q is no collection that Locker knows (it knows %s)", r.Collection, list(Collections()))
	}
	seen := map[string]string{}
	for i, path := range r.Fields {
		leaves := m.expand(r.Collection, path)
		if len(leaves) == 0 {
			return at(fmt.Sprintf("%s.fields[%d]", where, i), "%s has no field %q", r.Collection, path)
		}
		for _, leaf := range leaves {
			folded := strings.ToLower(leaf)
			if seen[folded] != "" {
				return at(fmt.Sprintf("%s.fields[%d]", where, i), "%q names what %q names already", path, seen[folded])
			}
			seen[folded] = path
		}
	}
	for i, path := range r.Required {
		if !m.asks(r, path) {
			return at(fmt.Sprintf("%s.required[%d]", where, i), "%q is not among the fields", path)
		}
	}
	for i, p := range r.Purpose {
		if _, ok := findPurpose(p); !ok {
			return at(fmt.Sprintf("%s.purpose[%d]", where, i), "%q is no purpose that Locker knows; SPEC.md lists them", p)
		}
	}
	if r.Window != "" {
		if _, err := parseSpan(r.Window); err != nil {
			return at(where+".window", "%v", err)
		}
	}
	return nil
}

// asks says whether a request asks for all that a path names.
func (m *Manifest) asks(r *Request, path string) bool {
	leaves := m.expand(r.Collection, path)
	asked := m.leaves(r)
	for _, leaf := range leaves {
		if !slices.Contains(asked, leaf) {
			return false
		}
	}
	return len(leaves) > 0
}

// leaves are the leaf fields that a request asks for.
func (m *Manifest) leaves(r *Request) []string {
	var out []string
	for _, path := range r.Fields {
		out = append(out, m.expand(r.Collection, path)...)
	}
	return out
}

func (m *Manifest) checkOffer(where string, o *Offer, requests map[string]bool) error {
	for i, id := range o.Requests {
		if !requests[id] {
			return at(fmt.Sprintf("%s.requests[%d]", where, i), "there is no request %q", id)
		}
	}
	switch {
	case o.Kind == Permit && o.Price != nil:
		return at(where+".price", "an offer of kind permit is free; say mixed")
	case o.Kind != Permit && o.Price == nil:
		return at(where+".price", "an offer of kind %s has one", o.Kind)
	case o.Kind != Pay && len(o.Requests) == 0:
		return at(where+".requests", "an offer of kind %s has at least one", o.Kind)
	}
	if o.Price != nil {
		if strings.Trim(o.Price.Amount, "0.") == "" {
			return at(where+".price.amount", "is nothing; say permit")
		}
		if _, err := parseSpan(o.Price.Per); o.Price.Per != "" && err != nil {
			return at(where+".price.per", "%v", err)
		}
	}
	if o.Expires != "" {
		d, err := parseSpan(o.Expires)
		if err != nil {
			return at(where+".expires", "%v", err)
		}
		if d.approximateDays() > defaultDays {
			return at(where+".expires", "is more than %d days", defaultDays)
		}
	}
	windows := map[string]string{}
	for _, r := range m.requestsOf(o) {
		if w, ok := windows[r.Collection]; ok && w != r.Window {
			return at(where+".requests", "asks for %s twice, with different windows", r.Collection)
		}
		windows[r.Collection] = r.Window
	}
	return nil
}

// defaultDays is how long a grant lasts where neither offer nor owner say less.
const defaultDays = 90

// offer finds an offer by its id.
func (m *Manifest) offer(id string) (*Offer, error) {
	var ids []string
	for i := range m.Offers {
		if m.Offers[i].ID == id {
			return &m.Offers[i], nil
		}
		ids = append(ids, m.Offers[i].ID)
	}
	return nil, fmt.Errorf("%w: %s has no offer %q (it has %s)", locker.ErrInvalid, m.ID, id, list(ids))
}

// requestsOf are the requests of an offer.
func (m *Manifest) requestsOf(o *Offer) []Request {
	var out []Request
	for _, id := range o.Requests {
		for _, r := range m.Requests {
			if r.ID == id {
				out = append(out, r)
			}
		}
	}
	return out
}

// span is how long a grant of the offer lasts where the owner says nothing.
func (o *Offer) span() span {
	if d, err := parseSpan(o.Expires); err == nil {
		return d
	}
	return span{days: defaultDays}
}

// Validate checks fields against the schema that the manifest declares for a
// collection, else as [Validate] does.
func (m *Manifest) Validate(collection string, fields json.RawMessage) error {
	return m.schemaOf(collection).validate(fields)
}
