package transactions

import (
	"encoding/json"
	"testing"

	"github.com/locker-project/locker/plugins/connectors/connectortest"
	"github.com/locker-project/locker/plugins/locker"
)

// decoded returns the fields of a record.
func decoded(t testing.TB, r locker.Record) transaction {
	t.Helper()
	var tr transaction
	if err := json.Unmarshal(r.Fields, &tr); err != nil {
		t.Fatal(err)
	}
	tr.time = r.Time
	return tr
}

func TestFixtures(t *testing.T) {
	for _, tt := range []struct {
		name    string
		records int
		failed  int
	}{
		{"bank/wesabe-checking.ofx", 106, 0},
		{"bank/ofxparse-broken-decimal.ofx", 0, 1},
		{"bank/chase.csv", 9, 0},
		{"bank/french.csv", 9, 0},
		{"bank/two-money-columns.csv", 5, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			sink, err := connectortest.Parse(t, New(), connectortest.Fixture(t, tt.name))
			if err != nil {
				t.Fatal(err)
			}
			if len(sink.Records) != tt.records || len(sink.Failed) != tt.failed {
				t.Errorf("%d records and %d failures, want %d and %d: %v", len(sink.Records), len(sink.Failed), tt.records, tt.failed, sink.Failed)
			}
			for _, r := range sink.Records[:min(5, len(sink.Records))] {
				t.Log(r.ID, r.Time, r.Source, string(r.Fields))
			}
			t.Log(sink.Notes, sink.Failed)
		})
	}
}

func TestForeignFixtures(t *testing.T) {
	for _, name := range []string{"multi/places.csv", "multi/spotify-streaming.csv", "sensor/garmin-fenix-5-run-records.csv", "bank/quiffen.qif", "bank/camt053.v2.xml", "bank/mt940-abnamro.sta", "contacts/gmail.vcf", "sensor/apple-health-export.xml", "web/pinboard-posts.json", "mail/rlug.mbox", "calendar/google-alarm.ics"} {
		t.Run(name, func(t *testing.T) {
			got, err := New().Recognise(t.Context(), connectortest.Fixture(t, name))
			if got != 0 || err != nil {
				t.Errorf("confidence %d, error %v", got, err)
			}
		})
	}
}
