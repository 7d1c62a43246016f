package contacts

import (
	"encoding/json"
	"testing"

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

func TestFixtures(t *testing.T) {
	for _, name := range []string{"contacts/gmail.vcf", "contacts/iphone-with-photo.vcf", "contacts/outlook-21.vcf"} {
		t.Run(name, func(t *testing.T) {
			sink := connectortest.MustParse(t, New(), connectortest.Fixture(t, name))
			if len(sink.Records) != 1 {
				t.Fatalf("%d records", len(sink.Records))
			}
			t.Log(sink.Records[0].ID, sink.Records[0].Time, string(sink.Records[0].Fields), len(sink.Blobs), sink.Notes)
		})
	}
}
