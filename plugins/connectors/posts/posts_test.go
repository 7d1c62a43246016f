package posts

import (
	"testing"

	"github.com/locker-project/locker/plugins/connectors/connectortest"
)

func TestFixtures(t *testing.T) {
	for _, tt := range []struct {
		name            string
		posts, contacts int
	}{
		{"tweets/twitter-archive-2016-data-js.zip", 2, 1},
		{"tweets/ytd-account.js", 0, 1},
		{"tweets/mastodon-archive-outbox.json", 2, 0},
		{"tweets/mastodon-archive-actor.json", 0, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			sink := connectortest.MustParse(t, New(), connectortest.Fixture(t, tt.name))
			n := map[string]int{}
			for _, r := range sink.Records {
				n[r.Collection]++
				t.Log(r.ID, r.Time, string(r.Fields))
			}
			t.Log(sink.Notes)
			if n["posts"] != tt.posts || n["contacts"] != tt.contacts {
				t.Errorf("%v", n)
			}
		})
	}
}
