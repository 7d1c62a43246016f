package manifests

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// Page is COLLECTIONS.md: the well-known collections and their fields, from their
// schemas.
func Page() []byte {
	var b bytes.Buffer
	b.WriteString(`# Collections

<!-- Made from schemas/*.json by go generate; do not edit. -->

What Locker knows by name. Field names are those of schema.org and ActivityStreams
where they have a term. Each record has, beside the fields of its collection, an id, a
time, and where it came from (source, import). Fields that are not listed are kept as
they are, and cannot be granted to apps. Money is a decimal string beside an ISO 4217
currency, never a floating-point number.

`)
	for _, name := range Collections() {
		s := lookup(name)
		var about struct {
			Title       string `json:"title"`
			Description string `json:"description"`
			Time        string `json:"$comment"`
		}
		if err := json.Unmarshal(s.text, &about); err != nil {
			continue // the embedded schemas are objects with these texts
		}
		fmt.Fprintf(&b, "## %s\n\n%s The %s.\n\n", name, about.Description, about.Time)
		b.WriteString("| field | type | what it is |\n| --- | --- | --- |\n")
		for _, f := range s.fields {
			required := ""
			if f.Required {
				required = " Always there."
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s%s |\n", f.Name, f.Type, f.Description, required)
		}
		b.WriteByte('\n')
	}
	return append(bytes.TrimRight(b.Bytes(), "\n"), '\n')
}
