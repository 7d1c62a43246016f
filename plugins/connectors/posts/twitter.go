package posts

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

var ytdName = regexp.MustCompile(`^window\.YTD\.([a-z_]+)\.part\d+\s*=\s*\[`)

// twitterKind says what a file of an archive of Twitter is, by its beginning.
func twitterKind(text []byte) kind {
	if bytes.HasPrefix(text, []byte("Grailbird.data.tweets_")) {
		return kindTweets
	}
	if bytes.HasPrefix(text, []byte("var user_details")) {
		return kindUserDetails
	}
	m := ytdName.FindSubmatch(text[:min(len(text), 200)])
	if m == nil {
		return kindNone
	}
	switch string(m[1]) {
	case "tweets", "tweet", "community_tweet":
		return kindTweets
	case "like":
		return kindTwitterLikes
	case "account":
		return kindTwitterAccount
	}
	return kindNone
}

// number reads a number, or one in quotes as the new archives have them.
type number float64

func (n *number) UnmarshalJSON(b []byte) error {
	s := strings.Trim(string(b), `"`)
	if s == "null" || s == "" {
		return nil
	}
	f, err := strconv.ParseFloat(s, 64)
	*n = number(f)
	return err
}

// A tweet has what old and new archives say of one.
type tweet struct {
	ID               string       `json:"id_str"`
	IDNumber         json.Number  `json:"id"`
	CreatedAt        string       `json:"created_at"`
	Text             string       `json:"text"`
	FullText         string       `json:"full_text"`
	Source           string       `json:"source"`
	Lang             string       `json:"lang"`
	ReplyTo          string       `json:"in_reply_to_status_id_str"`
	ReplyToName      string       `json:"in_reply_to_screen_name"`
	Likes            number       `json:"favorite_count"`
	Retweets         number       `json:"retweet_count"`
	Sensitive        bool         `json:"possibly_sensitive"`
	Entities         entities     `json:"entities"`
	ExtendedEntities entities     `json:"extended_entities"`
	Coordinates      point        `json:"coordinates"`
	Geo              point        `json:"geo"`
	Place            place        `json:"place"`
	User             *twitterUser `json:"user"`
	Retweeted        *struct {
		ID string `json:"id_str"`
	} `json:"retweeted_status"`
}

type twitterUser struct {
	ID         string `json:"id_str"`
	ScreenName string `json:"screen_name"`
}

// A point is where a tweet was sent from. Geo has latitude first, coordinates
// longitude; old archives write an empty object for none.
type point struct {
	Coordinates []number `json:"coordinates"`
}

type place struct {
	FullName string `json:"full_name"`
}

type entities struct {
	Hashtags []struct {
		Text string `json:"text"`
	} `json:"hashtags"`
	Mentions []struct {
		ScreenName string `json:"screen_name"`
	} `json:"user_mentions"`
	URLs []struct {
		URL      string `json:"url"`
		Expanded string `json:"expanded_url"`
	} `json:"urls"`
	Media []tweetMedia `json:"media"`
}

type tweetMedia struct {
	ID    string `json:"id_str"`
	URL   string `json:"url"` // its t.co link in the text
	HTTPS string `json:"media_url_https"`
	HTTP  string `json:"media_url"`
	Kind  string `json:"type"`
	Alt   string `json:"ext_alt_text"`
	Video struct {
		Variants []struct {
			Bitrate     number `json:"bitrate"`
			ContentType string `json:"content_type"`
			URL         string `json:"url"`
		} `json:"variants"`
	} `json:"video_info"`
}

// assignment reads "NAME =" before a value.
func assignment(s *stream) error {
	if _, err := s.peek(); err != nil {
		return s.cut(err)
	}
	_, err := s.until('=', 200)
	return err
}

// tweets reads a list of tweets.
func (p *parser) tweets(s *stream) error {
	return p.elements(s, func(element []byte, line int) error {
		var e struct {
			tweet        // in old archives
			Inner *tweet `json:"tweet"` // in new ones
		}
		if err := json.Unmarshal(element, &e); err != nil {
			p.fail(line, "the tweet is broken: "+err.Error())
			return nil
		}
		if e.Inner != nil {
			return p.tweet(e.Inner, line)
		}
		return p.tweet(&e.tweet, line)
	})
}

// elements reads "NAME = [ … ]".
func (p *parser) elements(s *stream, do func(element []byte, line int) error) error {
	if err := assignment(s); err != nil {
		return err
	}
	n := 0
	err := s.list(func(element []byte, line int, err error) error {
		if n++; n%256 == 0 && p.ctx.Err() != nil {
			return p.ctx.Err()
		}
		if err != nil {
			p.fail(line, "the entry "+err.Error())
			return nil
		}
		return do(element, line)
	})
	if err != nil {
		return err
	}
	return s.end()
}

// tweet puts one tweet.
func (p *parser) tweet(t *tweet, line int) error {
	id := t.ID
	if id == "" {
		id = t.IDNumber.String()
	}
	if _, err := strconv.ParseUint(id, 10, 64); err != nil {
		p.fail(line, fmt.Sprintf("the tweet has no id, but %.40q", id))
		return nil
	}
	when, err := tweetTime(t.CreatedAt)
	if err != nil {
		p.fail(line, fmt.Sprintf("tweet %s: %.60q is no time", id, t.CreatedAt))
		return nil
	}
	text := t.FullText
	if text == "" {
		text = t.Text
	}
	handle := p.owner.handle
	if t.User != nil && t.User.ScreenName != "" {
		handle = "@" + t.User.ScreenName
	}
	o := post{
		Type: "Note", Content: t.content(text), URL: "https://twitter.com/i/status/" + id,
		AttributedTo: handle, Account: handle, InReplyTo: t.ReplyTo, InReplyToAccount: prefixed(t.ReplyToName),
		Sensitive: t.Sensitive, Language: t.Lang, Generator: plainText(t.Source), Place: t.Place.FullName,
		Likes: max(0, int(t.Likes)), Shares: max(0, int(t.Retweets)),
	}
	if o.Language == "und" || strings.HasPrefix(o.Language, "q") && len(o.Language) == 3 || o.Language == "zxx" {
		o.Language = "" // Twitter's words for "not known"
	}
	if t.Retweeted != nil {
		o.Type, o.Object = "Announce", t.Retweeted.ID
	} else if strings.HasPrefix(text, "RT @") {
		o.Type = "Announce"
	}
	t.where(&o)
	t.entities(&o)
	p.attachTweet(&o, id, t.allMedia())
	return p.post(id, "twitter", when, o)
}

func prefixed(name string) string {
	if name == "" {
		return ""
	}
	return "@" + name
}

// tweetTime reads the times of new, newest and old archives.
func tweetTime(s string) (time.Time, error) {
	for _, layout := range []string{"Mon Jan 02 15:04:05 -0700 2006", time.RFC3339, "2006-01-02 15:04:05 -0700"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	return time.Time{}, errors.New("is no time")
}

// content is the text with its characters unescaped, its links expanded, and
// without the links to its own media.
func (t *tweet) content(text string) string {
	for _, u := range t.Entities.URLs {
		if u.URL != "" && u.Expanded != "" {
			text = strings.ReplaceAll(text, u.URL, u.Expanded)
		}
	}
	for _, m := range t.allMedia() {
		if m.URL != "" {
			text = strings.ReplaceAll(text, m.URL, "")
		}
	}
	return strings.TrimSpace(html.UnescapeString(text))
}

// where sets where a tweet was sent from.
func (t *tweet) where(o *post) {
	var lat, lon float64
	switch {
	case len(t.Geo.Coordinates) == 2:
		lat, lon = float64(t.Geo.Coordinates[0]), float64(t.Geo.Coordinates[1])
	case len(t.Coordinates.Coordinates) == 2:
		lat, lon = float64(t.Coordinates.Coordinates[1]), float64(t.Coordinates.Coordinates[0])
	default:
		return
	}
	if lat >= -90 && lat <= 90 && lon >= -180 && lon <= 180 {
		o.Latitude, o.Longitude = &lat, &lon
	}
}

func (t *tweet) entities(o *post) {
	for _, h := range t.Entities.Hashtags {
		o.Tags = append(o.Tags, h.Text)
	}
	for _, m := range t.Entities.Mentions {
		o.Mentions = append(o.Mentions, prefixed(m.ScreenName))
	}
	for _, u := range t.Entities.URLs {
		if u.Expanded != "" {
			o.Links = append(o.Links, u.Expanded)
		}
	}
}

// allMedia returns the media of a tweet; only the extended list has all of
// several.
func (t *tweet) allMedia() []tweetMedia {
	if len(t.ExtendedEntities.Media) > 0 {
		return t.ExtendedEntities.Media
	}
	return t.Entities.Media
}

// attachTweet refers to media. In the archive they are named ID-NAME, with the
// name that they have on the web.
func (p *parser) attachTweet(o *post, id string, all []tweetMedia) {
	for _, m := range all {
		a := attachment{URL: m.HTTPS, Name: m.Alt, MediaType: "image/jpeg"}
		if a.URL == "" {
			a.URL = m.HTTP
		}
		best := number(-1)
		for _, v := range m.Video.Variants {
			if v.Bitrate > best && strings.HasPrefix(v.ContentType, "video/") {
				best, a.URL, a.MediaType = v.Bitrate, v.URL, v.ContentType
			}
		}
		if strings.HasSuffix(a.URL, ".png") {
			a.MediaType = "image/png"
		}
		base, _, _ := strings.Cut(path.Base(a.URL), "?")
		if blob := p.media[id+"-"+base]; blob != "" {
			a.Blob, a.Path = blob, id+"-"+base
		}
		if !slices.Contains(o.Attachments, a) {
			o.Attachments = append(o.Attachments, a)
		}
	}
}

// twitterLikes reads a list of what the owner liked.
func (p *parser) twitterLikes(s *stream) error {
	return p.elements(s, func(element []byte, line int) error {
		var e struct {
			Like struct {
				ID  string `json:"tweetId"`
				URL string `json:"expandedUrl"`
			} `json:"like"`
		}
		if err := json.Unmarshal(element, &e); err != nil || e.Like.ID == "" {
			p.fail(line, "the like does not say of what")
			return nil
		}
		return p.post("like:"+e.Like.ID, "twitter", time.Time{}, post{Type: "Like", Object: e.Like.ID, AttributedTo: p.owner.handle, Account: p.owner.handle})
	})
}

// twitterAccount reads the owner's account from a new archive.
func (p *parser) twitterAccount(s *stream) error {
	return p.elements(s, func(element []byte, line int) error {
		var e struct {
			Account struct {
				ID    string `json:"accountId"`
				User  string `json:"username"`
				Name  string `json:"accountDisplayName"`
				Email string `json:"email"`
			} `json:"account"`
		}
		if err := json.Unmarshal(element, &e); err != nil || e.Account.ID == "" || len(e.Account.ID+e.Account.User) > maxAccount {
			p.fail(line, "the account has no id, or one too long")
			return nil
		}
		return p.twitterOwner(e.Account.ID, e.Account.User, e.Account.Name, e.Account.Email)
	})
}

// userDetails reads the owner's account from an old archive.
func (p *parser) userDetails(s *stream) error {
	if err := assignment(s); err != nil {
		return err
	}
	line := s.line
	raw, err := s.value(maxElement)
	if err != nil {
		return err
	}
	var u struct {
		ID   string `json:"id"`
		User string `json:"screen_name"`
		Name string `json:"full_name"`
	}
	if err := json.Unmarshal(raw, &u); err != nil {
		return &syntaxError{line, err.Error()}
	}
	if err := s.end(); err != nil {
		return err
	}
	if u.ID == "" || len(u.ID+u.User) > maxAccount {
		p.fail(line, "the account has no id, or one too long")
		return nil
	}
	return p.twitterOwner(u.ID, u.User, u.Name, "")
}

func (p *parser) twitterOwner(id, user, name, email string) error {
	p.owner = account{id: id, handle: prefixed(user)}
	c := contact{Type: "Person", Name: name, Accounts: []accountField{{Service: "twitter.com", ID: id, Name: p.owner.handle}}}
	if user != "" {
		c.AlternateName = []string{p.owner.handle}
		c.URL = []string{"https://twitter.com/" + user}
		c.Accounts[0].URL = c.URL[0]
	}
	if c.Name == "" {
		c.Name = user
	}
	if email != "" {
		c.Email = []map[string]any{{"address": email}}
	}
	return p.put("contacts", "twitter:"+id, "", time.Time{}, c)
}
