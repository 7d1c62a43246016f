package posts

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/locker-project/locker/plugins/connectors/connectortest"
	"github.com/locker-project/locker/plugins/locker"
)

func decoded(t testing.TB, r locker.Record) post {
	t.Helper()
	var p post
	if err := json.Unmarshal(r.Fields, &p); err != nil {
		t.Fatal(err)
	}
	return p
}

// of returns the records of a collection.
func of(s *connectortest.Sink, collection string) []locker.Record {
	return slices.DeleteFunc(slices.Clone(s.Records), func(r locker.Record) bool { return r.Collection != collection })
}

type files []struct{ name, content string }

func zipped(t testing.TB, all files) *connectortest.File {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, f := range all {
		m, err := w.Create(f.name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.Write([]byte(f.content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return connectortest.NewFile("archive.zip", b.Bytes())
}

func tarred(t testing.TB, all files) *connectortest.File {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for _, f := range all {
		if err := w.WriteHeader(&tar.Header{Name: f.name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(f.content))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(f.content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return connectortest.NewFile("archive.tar.gz", b.Bytes())
}

func single(content string) *connectortest.File { return connectortest.NewFile("x", []byte(content)) }

const outbox = `{"@context":"https://www.w3.org/ns/activitystreams","id":"outbox.json","type":"OrderedCollection","totalItems":4,"orderedItems":[
{"id":"https://a.example/users/ada/statuses/1/activity","type":"Create","actor":"https://a.example/users/ada","published":"2026-01-05T10:00:00Z","to":["https://www.w3.org/ns/activitystreams#Public"],"cc":["https://a.example/users/ada/followers"],
 "object":{"id":"https://a.example/users/ada/statuses/1","type":"Note","published":"2026-01-05T10:00:00Z","url":"https://a.example/@ada/1","attributedTo":"https://a.example/users/ada","inReplyTo":null,"sensitive":true,"summary":"Food","to":["https://www.w3.org/ns/activitystreams#Public"],"cc":[],
  "content":"<p>Bread &amp; <a href=\"https://a.example/tags/jam\">#<span>jam</span></a><br>every day</p><p>Yes</p>","contentMap":{"en":"…"},"tag":[{"type":"Hashtag","name":"#jam"},{"type":"Mention","name":"@bob@b.example"}],
  "attachment":[{"type":"Document","mediaType":"image/png","url":"/media_attachments/files/1/original/a.png","name":"A loaf"},{"type":"Document","mediaType":"image/png","url":"https://cdn.example/b.png","name":null}]}},
{"id":"https://a.example/users/ada/statuses/2/activity","type":"Announce","actor":"https://a.example/users/ada","published":"2026-01-06T10:00:00Z","to":["https://www.w3.org/ns/activitystreams#Public"],"object":"https://b.example/users/bob/statuses/9"},
{"id":"https://a.example/users/ada/statuses/3/activity","type":"Create","actor":"https://a.example/users/ada","published":"2026-01-07T10:00:00+01:00","to":["https://a.example/users/ada/followers"],"cc":[],
 "object":{"id":"https://a.example/users/ada/statuses/3","type":"Question","published":"2026-01-07T10:00:00+01:00","content":"Tea?","oneOf":[{"type":"Note","name":"yes","replies":{"type":"Collection","totalItems":3}},{"type":"Note","name":"no","replies":{"totalItems":1}}]}},
{"id":"https://a.example/follow/4","type":"Follow","actor":"https://a.example/users/ada","object":"https://b.example/users/bob"}
]}`

const actor = `{"@context":[],"id":"https://a.example/users/ada","type":"Person","inbox":"i","outbox":"outbox.json","preferredUsername":"ada","name":"Ada","summary":"<p>Hello</p>","url":"https://a.example/@ada"}`

const newTweets = `window.YTD.tweets.part0 = [ {
  "tweet" : { "id_str" : "727367542772133888", "id" : "727367542772133888", "created_at" : "Tue May 03 05:21:50 +0000 2016", "lang" : "en", "favorite_count" : "3", "retweet_count" : "1",
    "source" : "<a href=\"http://twitter.com\" rel=\"nofollow\">Twitter Web Client</a>", "in_reply_to_status_id_str" : "5", "in_reply_to_screen_name" : "bob",
    "full_text" : "&lt;Bread&gt; \\ \"jam\" https://t.co/abc https://t.co/pic #jam",
    "entities" : { "hashtags" : [ { "text" : "jam" } ], "user_mentions" : [ ], "urls" : [ { "url" : "https://t.co/abc", "expanded_url" : "https://example.org/bread" } ] },
    "extended_entities" : { "media" : [ { "id_str" : "6", "url" : "https://t.co/pic", "type" : "photo", "media_url_https" : "https://pbs.twimg.com/media/A.jpg" },
      { "id_str" : "7", "url" : "https://t.co/pic", "type" : "video", "media_url_https" : "https://pbs.twimg.com/media/B.jpg", "video_info" : { "variants" : [ { "content_type" : "application/x-mpegURL", "url" : "https://v.example/pl.m3u8" }, { "bitrate" : "256", "content_type" : "video/mp4", "url" : "https://v.example/small.mp4" }, { "bitrate" : "832", "content_type" : "video/mp4", "url" : "https://v.example/big.mp4?tag=1" } ] } } ] },
    "coordinates" : { "type" : "Point", "coordinates" : [ "8.54", "47.37" ] } } }, {
  "tweet" : { "id_str" : "8", "created_at" : "Tue May 03 05:21:50 +0000 2016", "full_text" : "RT @bob: tea", "lang" : "und" } } ]
`

const oldTweets = `Grailbird.data.tweets_2016_05 =
[ { "source" : "\u003Ca href=\"http:\/\/twitter.com\" rel=\"nofollow\"\u003ETwitter Web Client\u003C\/a\u003E", "geo" : { }, "id_str" : "727367542772133888", "id" : 727367542772133888,
  "text" : "&lt;Bread&gt;", "created_at" : "2016-05-03 05:21:50 +0000", "user" : { "screen_name" : "ada", "id_str" : "9" },
  "entities" : { "user_mentions" : [ ], "media" : [ ], "hashtags" : [ ], "urls" : [ ] } } ]`

const accountJS = `window.YTD.account.part0 = [ { "account" : { "email" : "ada@example.org", "username" : "ada", "accountId" : "9", "accountDisplayName" : "Ada" } } ]`

func TestFixtures(t *testing.T) {
	for _, tt := range []struct {
		name            string
		posts, contacts int
		first           string
	}{
		{"tweets/twitter-archive-2016-data-js.zip", 2, 1, "& <> . $ % ^ * && /\\/\\()! @Camlistore camlistore. https://github.com/camlistore/camlistore/issues/476"},
		{"tweets/ytd-account.js", 0, 1, ""},
		{"tweets/mastodon-archive-outbox.json", 2, 0, "Hello, world!"},
		{"tweets/mastodon-archive-actor.json", 0, 1, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			sink := connectortest.MustParse(t, New(), connectortest.Fixture(t, tt.name))
			posts, contacts := of(sink, "posts"), of(sink, "contacts")
			if len(posts) != tt.posts || len(contacts) != tt.contacts {
				t.Fatalf("%d posts and %d contacts, want %d and %d", len(posts), len(contacts), tt.posts, tt.contacts)
			}
			if tt.posts > 0 && decoded(t, posts[0]).Content != tt.first {
				t.Errorf("the first is %q, want %q", decoded(t, posts[0]).Content, tt.first)
			}
		})
	}
}

func TestSuite(t *testing.T) {
	own := []*connectortest.File{
		single(outbox), single(actor), single(newTweets), single(oldTweets), single(accountJS),
		single(`{"id":"likes.json","type":"OrderedCollection","orderedItems":["https://b.example/1"]}`),
		single(`window.YTD.like.part0 = [ { "like" : { "tweetId" : "7", "expandedUrl" : "https://twitter.com/i/web/status/7" } } ]`),
		zipped(t, files{{"outbox.json", outbox}, {"actor.json", actor}, {"media_attachments/files/1/original/a.png", "png"}}),
		tarred(t, files{{"media_attachments/files/1/original/a.png", "png"}, {"outbox.json", outbox}, {"actor.json", actor}}),
	}
	foreign := []*connectortest.File{
		single(`window.YTD.follower.part0 = [ { "follower" : { "accountId" : "1" } } ]`),
		single(`window.YTD.tweets`), single(`var x = [ ];`), single(`Grailbird.data.other = [ ]`),
		single(`{"type":"OrderedCollection","orderedItems":[1,2]}`),
		single(`{"type":"OrderedCollection","id":"bookmarks.json","orderedItems":["https://b.example/1"]}`),
		single(`{"type":"FeatureCollection","orderedItems":[{"type":"Create","object":{}}]}`),
		single(`{"type":"Person","name":"Ada"}`),
		single(`[{"type":"Create","object":{"type":"Note"}}]`),
		zipped(t, files{{"photos/a.jpg", "x"}, {"index.js", "var a"}}),
		zipped(t, files{{"outbox.json", `{"messages":[]}`}}),
		tarred(t, files{{"a.txt", "x"}}),
		connectortest.NewFile("cut.zip", []byte("PK\x03\x04")), connectortest.NewFile("cut.gz", []byte("\x1f\x8b\x08")),
	}
	for i, f := range foreign {
		foreign[i] = connectortest.NewFile(fmt.Sprintf("%s %d", f.Name(), i), f.Bytes())
	}
	connectortest.Suite(t, New(), own, foreign)
}

func TestOutbox(t *testing.T) {
	sink := connectortest.MustParse(t, New(), zipped(t, files{{"archive/outbox.json", outbox}, {"archive/actor.json", actor}, {"archive/media_attachments/files/1/original/a.png", "png"}, {"archive/bookmarks.json", "{}"}}))
	posts := of(sink, "posts")
	if len(posts) != 3 {
		t.Fatalf("%d posts", len(posts))
	}
	a := decoded(t, posts[0])
	if posts[0].ID != "https://a.example/users/ada/statuses/1" || !posts[0].Time.Equal(time.Date(2026, 1, 5, 10, 0, 0, 0, time.UTC)) || posts[0].Source != "https://a.example/users/ada" {
		t.Errorf("the first is %+v", posts[0])
	}
	if a.Content != "Bread & #jam\nevery day\n\nYes" || !strings.HasPrefix(a.ContentHTML, "<p>Bread") || a.Summary != "Food" || !a.Sensitive || a.Account != "@ada@a.example" ||
		a.Visibility != "public" || a.Language != "en" || !slices.Equal(a.Tags, []string{"jam"}) || !slices.Equal(a.Mentions, []string{"@bob@b.example"}) {
		t.Errorf("the first is %+v", a)
	}
	if len(a.Attachments) != 2 || string(sink.Blobs[a.Attachments[0].Blob]) != "png" || a.Attachments[0].Name != "A loaf" || a.Attachments[1].URL != "https://cdn.example/b.png" {
		t.Errorf("attached are %+v", a.Attachments)
	}
	if b := decoded(t, posts[1]); b.Type != "Announce" || b.Object != "https://b.example/users/bob/statuses/9" || posts[1].ID != "https://a.example/users/ada/statuses/2/activity" {
		t.Errorf("the second is %+v", b)
	}
	if c := decoded(t, posts[2]); c.Type != "Question" || c.Visibility != "followers" || !slices.Equal(c.Options, []option{{"yes", 3}, {"no", 1}}) {
		t.Errorf("the third is %+v", c)
	}
	notes := strings.Join(sink.Notes, "\n")
	if !strings.Contains(notes, `1 activities of type "Follow"`) || !strings.Contains(notes, "archive/bookmarks.json") {
		t.Errorf("notes %q", sink.Notes)
	}
}

func TestTweets(t *testing.T) {
	sink := connectortest.MustParse(t, New(), zipped(t, files{{"data/tweets.js", newTweets}, {"data/account.js", accountJS}, {"data/tweets_media/727367542772133888-A.jpg", "jpeg"},
		{"data/tweets_media/727367542772133888-big.mp4", "film"}, {"data/ad-impressions.js", "window.YTD.ad_impressions.part0 = [ ]"}}))
	posts := of(sink, "posts")
	if len(posts) != 2 {
		t.Fatalf("%d posts", len(posts))
	}
	a := decoded(t, posts[0])
	if posts[0].ID != "727367542772133888" || !posts[0].Time.Equal(time.Date(2016, 5, 3, 5, 21, 50, 0, time.UTC)) {
		t.Errorf("the first is %+v", posts[0])
	}
	if a.Content != `<Bread> \ "jam" https://example.org/bread  #jam` || a.Account != "@ada" || a.InReplyTo != "5" || a.InReplyToAccount != "@bob" || a.Generator != "Twitter Web Client" ||
		a.Likes != 3 || a.Shares != 1 || *a.Latitude != 47.37 || *a.Longitude != 8.54 || !slices.Equal(a.Links, []string{"https://example.org/bread"}) {
		t.Errorf("the first is %+v", a)
	}
	if len(a.Attachments) != 2 || string(sink.Blobs[a.Attachments[0].Blob]) != "jpeg" || string(sink.Blobs[a.Attachments[1].Blob]) != "film" || a.Attachments[1].MediaType != "video/mp4" {
		t.Errorf("attached are %+v", a.Attachments)
	}
	if b := decoded(t, posts[1]); b.Type != "Announce" || b.Language != "" {
		t.Errorf("the second is %+v", b)
	}
	if c := of(sink, "contacts"); len(c) != 1 || !strings.Contains(string(c[0].Fields), "ada@example.org") {
		t.Errorf("contacts %v", c)
	}
}

// A post has one id in each form of its archive, and is taken once where an
// archive has it twice.
func TestIDsOverFormats(t *testing.T) {
	ids := func(f *connectortest.File) map[string]bool {
		all := make(map[string]bool)
		for _, r := range of(connectortest.MustParse(t, New(), f), "posts") {
			all[r.ID] = true
		}
		return all
	}
	before, now := ids(single(oldTweets)), ids(single(newTweets))
	for id := range before {
		if !now[id] {
			t.Errorf("the old archive's %s is not in the new one: %v", id, now)
		}
	}
	inFolder := ids(single(outbox))
	for _, f := range []*connectortest.File{zipped(t, files{{"outbox.json", outbox}}), tarred(t, files{{"x/outbox.json", outbox}})} {
		if got := ids(f); fmt.Sprint(got) != fmt.Sprint(inFolder) {
			t.Errorf("%s: ids %v, want %v", f.Name(), got, inFolder)
		}
	}
	twice := connectortest.MustParse(t, New(), zipped(t, files{{"data/tweets.js", newTweets}, {"data/tweets-part1.js", newTweets}}))
	if len(twice.Records) != 2 || !strings.Contains(twice.Notes[0], "2 posts were in the archive twice") {
		t.Errorf("%d records, notes %q", len(twice.Records), twice.Notes)
	}
}

// Posts that are broken fail alone.
func TestBrokenPosts(t *testing.T) {
	tweets := strings.Replace(newTweets, "[ {", `[ { "tweet" : { "id_str" : "x" } }, { "tweet" : { "id_str" : "9", "created_at" : "soon" } }, { "tweet" : 5 }, {`, 1)
	sink, err := connectortest.Parse(t, New(), single(tweets))
	if err != nil || len(sink.Records) != 2 || len(sink.Failed) != 3 || sink.Failed[0].At != "line 1" || !strings.Contains(sink.Failed[1].Why, `"soon" is no time`) {
		t.Errorf("%d records, failed %v, error %v", len(sink.Records), sink.Failed, err)
	}
	activities := strings.Replace(outbox, `"published":"2026-01-05T10:00:00Z","url"`, `"published":"yesterday","url"`, 1)
	sink, err = connectortest.Parse(t, New(), zipped(t, files{{"outbox.json", activities}}))
	if err != nil || len(sink.Records) != 2 || len(sink.Failed) != 1 || sink.Failed[0].At != "entry outbox.json, line 2" {
		t.Errorf("%d records, failed %v, error %v", len(sink.Records), sink.Failed, err)
	}
	long := strings.Replace(newTweets, "RT @bob", strings.Repeat("x", maxElement), 1)
	sink, err = connectortest.Parse(t, New(), single(long))
	if err != nil || len(sink.Records) != 1 || len(sink.Failed) != 1 || !strings.Contains(sink.Failed[0].Why, "longer than 2 MiB") {
		t.Errorf("%d records, failed %v, error %v", len(sink.Records), sink.Failed, err)
	}
}

// Files that are cut or no JSON fail as a whole, with their place.
func TestBrokenFiles(t *testing.T) {
	for _, tt := range []struct {
		name string
		file *connectortest.File
		at   string
		why  string
	}{
		{"cut outbox", single(outbox[:len(outbox)-40]), "line 9", "cut off"},
		{"cut tweets", single(newTweets[:400]), "line 4", "cut off"},
		{"text after", single(newTweets + "and more"), "line 10", "'a' stands where the file should end"},
		{"no comma", single(strings.Replace(newTweets, "}, {\n", "} {\n", 1)), "line 8", "'{' stands where ',' should be"},
		{"cut member", zipped(t, files{{"data/account.js", accountJS}, {"data/tweets.js", newTweets[:400]}}), "entry data/tweets.js, line 4", "cut off"},
		{"nothing known", zipped(t, files{{"a.txt", "x"}}), "archive", "none of its files"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			sink := new(connectortest.Sink)
			err := New().Parse(t.Context(), tt.file, sink)
			connectortest.IsFileError(t, err, tt.at, tt.why)
		})
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{outbox, actor, newTweets, oldTweets, accountJS} {
		f.Add([]byte(s))
	}
	f.Add(zipped(f, files{{"outbox.json", outbox}, {"media_attachments/a", "b"}}).Bytes())
	f.Add(tarred(f, files{{"data/tweets.js", newTweets}, {"data/tweets_media/1-a.jpg", "b"}}).Bytes())
	f.Fuzz(func(t *testing.T, b []byte) { connectortest.Survive(t, New(), connectortest.NewFile("x", b)) })
}

func BenchmarkTweets(b *testing.B) {
	const n = 20_000
	var file bytes.Buffer
	file.WriteString("window.YTD.tweets.part0 = [ ")
	for i := range n {
		if i > 0 {
			file.WriteString(", ")
		}
		fmt.Fprintf(&file, `{ "tweet" : { "retweeted" : false, "source" : "<a href=\"https://mobile.twitter.com\" rel=\"nofollow\">Twitter Web App</a>", "entities" : { "hashtags" : [ ], "symbols" : [ ], "user_mentions" : [ { "name" : "Bob", "screen_name" : "bob", "indices" : [ "0", "4" ], "id_str" : "1", "id" : "1" } ], "urls" : [ ] }, "display_text_range" : [ "0", "60" ], "favorite_count" : "3", "id_str" : "%d", "truncated" : false, "retweet_count" : "0", "id" : "%d", "created_at" : "Wed Feb 02 18:22:03 +0000 2022", "favorited" : false, "full_text" : "@bob a tweet of some length, with number %d and a word more", "lang" : "en" } }`, i+1, i+1, i)
	}
	file.WriteString(" ]\n")
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
