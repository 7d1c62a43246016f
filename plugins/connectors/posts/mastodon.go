package posts

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"
)

// A post has the fields of the collection posts.
type post struct {
	Type             string       `json:"type"`
	Content          string       `json:"content,omitempty"`
	ContentHTML      string       `json:"contentHtml,omitempty"`
	Name             string       `json:"name,omitempty"`
	Summary          string       `json:"summary,omitempty"`
	URL              string       `json:"url,omitempty"`
	AttributedTo     string       `json:"attributedTo,omitempty"`
	Account          string       `json:"account,omitempty"`
	InReplyTo        string       `json:"inReplyTo,omitempty"`
	InReplyToAccount string       `json:"inReplyToAccount,omitempty"`
	Object           string       `json:"object,omitempty"`
	Conversation     string       `json:"conversation,omitempty"`
	To               []string     `json:"to,omitempty"`
	CC               []string     `json:"cc,omitempty"`
	Visibility       string       `json:"visibility,omitempty"`
	Sensitive        bool         `json:"sensitive,omitempty"`
	Language         string       `json:"language,omitempty"`
	Tags             []string     `json:"tags,omitempty"`
	Mentions         []string     `json:"mentions,omitempty"`
	Links            []string     `json:"links,omitempty"`
	Attachments      []attachment `json:"attachments,omitempty"`
	Updated          string       `json:"updated,omitempty"`
	Generator        string       `json:"generator,omitempty"`
	Likes            int          `json:"likes,omitempty"`
	Shares           int          `json:"shares,omitempty"`
	Replies          int          `json:"replies,omitempty"`
	Latitude         *float64     `json:"latitude,omitempty"`
	Longitude        *float64     `json:"longitude,omitempty"`
	Place            string       `json:"place,omitempty"`
	Options          []option     `json:"options,omitempty"` // of a poll
}

type attachment struct {
	MediaType string `json:"mediaType,omitempty"`
	URL       string `json:"url,omitempty"`
	Name      string `json:"name,omitempty"`
	Blob      string `json:"blob,omitempty"`
	Path      string `json:"path,omitempty"`
}

type option struct {
	Name  string `json:"name"`
	Votes int    `json:"votes"`
}

// A contact is what is written of the owner's own account.
type contact struct {
	Type          string           `json:"type"`
	Name          string           `json:"name,omitempty"`
	AlternateName []string         `json:"alternateName,omitempty"`
	Email         []map[string]any `json:"email,omitempty"`
	URL           []string         `json:"url,omitempty"`
	Note          string           `json:"note,omitempty"`
	Accounts      []accountField   `json:"accounts,omitempty"`
}

type accountField struct {
	Service string `json:"service"`
	ID      string `json:"id,omitempty"`
	Name    string `json:"name,omitempty"`
	URL     string `json:"url,omitempty"`
}

// refs reads what ActivityStreams may write in many ways: a URL, an object with
// one, or a list of either.
type refs []string

func (r *refs) UnmarshalJSON(b []byte) error {
	*r = nil
	switch b = bytes.TrimSpace(b); {
	case len(b) == 0 || b[0] == 'n':
	case b[0] == '"':
		var s string
		if err := json.Unmarshal(b, &s); err != nil {
			return err
		}
		*r = refs{s}
	case b[0] == '{':
		var o struct{ ID, Href, URL string }
		if err := json.Unmarshal(b, &o); err != nil {
			return nil // an object of another kind refers to nothing
		}
		for _, s := range []string{o.ID, o.Href, o.URL} {
			if s != "" {
				*r = refs{s}
				break
			}
		}
	case b[0] == '[':
		var list []json.RawMessage
		if err := json.Unmarshal(b, &list); err != nil {
			return err
		}
		for _, e := range list {
			var one refs
			if err := one.UnmarshalJSON(e); err != nil {
				return err
			}
			*r = append(*r, one...)
		}
	}
	return nil
}

func (r refs) first() string {
	if len(r) > 0 {
		return r[0]
	}
	return ""
}

// maxAccount is how many bytes an account's id and name may have, since they go
// into each post.
const maxAccount = 512

// An activity is an element of an outbox.
type activity struct {
	ID        string          `json:"id"`
	Type      string          `json:"type"`
	Actor     refs            `json:"actor"`
	Published string          `json:"published"`
	To        refs            `json:"to"`
	CC        refs            `json:"cc"`
	Object    json.RawMessage `json:"object"`
}

// A note is the object of an activity.
type note struct {
	ID           string            `json:"id"`
	Type         string            `json:"type"`
	Summary      string            `json:"summary"`
	Name         string            `json:"name"`
	Content      string            `json:"content"`
	ContentMap   map[string]string `json:"contentMap"`
	URL          refs              `json:"url"`
	AttributedTo refs              `json:"attributedTo"`
	InReplyTo    refs              `json:"inReplyTo"`
	Published    string            `json:"published"`
	Updated      string            `json:"updated"`
	Sensitive    bool              `json:"sensitive"`
	Conversation string            `json:"conversation"`
	To           refs              `json:"to"`
	CC           refs              `json:"cc"`
	Attachment   list[media]       `json:"attachment"`
	Tag          list[tag]         `json:"tag"`
	OneOf        []choice          `json:"oneOf"`
	AnyOf        []choice          `json:"anyOf"`
	Likes        count             `json:"likes"`
	Shares       count             `json:"shares"`
	Replies      count             `json:"replies"`
}

type media struct {
	MediaType string `json:"mediaType"`
	URL       refs   `json:"url"`
	Name      string `json:"name"`
}

type tag struct {
	Type string `json:"type"`
	Href string `json:"href"`
	Name string `json:"name"`
}

type choice struct {
	Name    string `json:"name"`
	Replies count  `json:"replies"`
}

// A list is one element or several.
type list[T any] []T

func (l *list[T]) UnmarshalJSON(b []byte) error {
	if b = bytes.TrimSpace(b); len(b) > 0 && b[0] == '{' {
		var one T
		if err := json.Unmarshal(b, &one); err != nil {
			return err
		}
		*l = list[T]{one}
		return nil
	}
	return json.Unmarshal(b, (*[]T)(l))
}

// A count is a collection of which the size alone is of interest.
type count int

func (c *count) UnmarshalJSON(b []byte) error {
	var o struct {
		TotalItems int `json:"totalItems"`
	}
	if json.Unmarshal(b, &o) == nil { // a link to a collection has no size
		*c = count(max(0, o.TotalItems))
	}
	return nil
}

// activityKind says what a JSON object of ActivityStreams is, by its beginning.
func activityKind(text []byte) kind {
	var top struct {
		kind, id, user string
		inbox, outbox  bool
		items          kind
	}
	s := newStream(bytes.NewReader(text))
	str := func(field *string) error {
		raw, err := s.value(maxKey)
		if err == nil {
			json.Unmarshal(raw, field) // what is no string is not what is looked for
		}
		return err
	}
	s.object(func(name string) error { // the text may be cut: what came before counts
		switch name {
		case "type":
			return str(&top.kind)
		case "id":
			return str(&top.id)
		case "preferredUsername":
			return str(&top.user)
		case "inbox", "outbox":
			top.inbox, top.outbox = top.inbox || name == "inbox", top.outbox || name == "outbox"
		case "orderedItems":
			top.items = itemsKind(s)
			return errStop
		}
		_, err := s.value(sniffed)
		return err
	})
	collection := top.kind == "OrderedCollection" || top.kind == "OrderedCollectionPage"
	switch {
	case collection && top.items == kindOutbox:
		return kindOutbox
	case collection && top.items == kindLikes && path.Base(top.id) == "likes.json":
		return kindLikes
	case slices.Contains([]string{"Person", "Service", "Organization", "Group", "Application"}, top.kind) && top.inbox && top.outbox && top.user != "":
		return kindActor
	}
	return kindNone
}

// itemsKind looks at the first element of a list: an activity, or a link as in a
// list of likes. An empty list counts as an outbox.
func itemsKind(s *stream) kind {
	if s.expect('[') != nil {
		return kindNone
	}
	switch c, err := s.peek(); {
	case err != nil:
		return kindNone
	case c == ']':
		return kindOutbox
	case c == '"':
		return kindLikes
	case c != '{':
		return kindNone
	}
	raw, err := s.value(sniffed)
	if err != nil { // the first activity is longer than what is looked at
		return kindOutbox
	}
	var a activity
	if json.Unmarshal(raw, &a) != nil || a.Type == "" || len(a.Object) == 0 && !isNote(a.Type) {
		return kindNone
	}
	return kindOutbox
}

func isNote(kind string) bool {
	switch kind {
	case "Note", "Article", "Question", "Page", "Image", "Video", "Audio", "Event":
		return true
	}
	return false
}

// outbox reads an ordered collection of activities, or of links to what was
// liked.
func (p *parser) outbox(s *stream) error {
	err := s.object(func(name string) error {
		if name != "orderedItems" {
			_, err := s.value(maxElement)
			return err
		}
		return s.list(func(element []byte, line int, err error) error {
			if line%256 == 0 && p.ctx.Err() != nil {
				return p.ctx.Err()
			}
			if err != nil {
				p.fail(line, "the activity "+err.Error())
				return nil
			}
			return p.activity(element, line)
		})
	})
	if err != nil {
		return err
	}
	return s.end()
}

// activity puts what one element of an outbox published.
func (p *parser) activity(element []byte, line int) error {
	if element[0] == '"' {
		return p.likedURL(element, line)
	}
	var a activity
	if err := json.Unmarshal(element, &a); err != nil {
		p.fail(line, "the activity is broken: "+err.Error())
		return nil
	}
	if p.owner.id == "" && a.Type == "Create" && len(a.Actor.first()) <= maxAccount {
		p.owner.id = a.Actor.first()
	}
	switch {
	case a.Type == "Create":
		return p.created(a, a.Object, line)
	case isNote(a.Type):
		return p.created(activity{Published: a.Published, To: a.To, CC: a.CC}, element, line)
	case a.Type == "Announce", a.Type == "Like":
		if p.owner.id != "" && a.Actor.first() != p.owner.id {
			p.skipped["activities in it are of others"]++
			return nil
		}
		return p.shared(a, line)
	}
	p.skipped[fmt.Sprintf("activities of type %.20q are no posts", a.Type)]++
	return nil
}

// created puts a post of the owner's own.
func (p *parser) created(a activity, object json.RawMessage, line int) error {
	var n note
	if err := json.Unmarshal(object, &n); err != nil {
		p.fail(line, "the post is broken: "+err.Error())
		return nil
	}
	if n.ID == "" {
		n.ID = a.ID
	}
	when, err := parseTime(n.Published, a.Published)
	if n.ID == "" || err != nil {
		p.fail(line, fmt.Sprintf("the post %.80q has no id or no time: %q", n.ID, n.Published+a.Published))
		return nil
	}
	author := refs(append(slices.Clone(n.AttributedTo), a.Actor...)).first()
	if len(n.To) == 0 && len(n.CC) == 0 {
		n.To, n.CC = a.To, a.CC
	}
	o := post{
		Type: n.Type, Content: plainText(n.Content), ContentHTML: n.Content, Name: n.Name, Summary: n.Summary,
		URL: n.URL.first(), AttributedTo: author, Account: p.handleOf(author), InReplyTo: n.InReplyTo.first(),
		Conversation: n.Conversation, To: n.To, CC: n.CC, Visibility: visibility(n.To, n.CC),
		Sensitive: n.Sensitive, Language: n.language(), Likes: int(n.Likes), Shares: int(n.Shares), Replies: int(n.Replies),
	}
	if t, err := parseTime(n.Updated); err == nil && !t.IsZero() && !t.Equal(when) {
		o.Updated = t.Format(time.RFC3339)
	}
	p.addTags(&o, n.Tag)
	p.attach(&o, n.Attachment)
	for _, c := range append(n.OneOf, n.AnyOf...) {
		o.Options = append(o.Options, option{c.Name, int(c.Replies)})
	}
	return p.post(n.ID, author, when, o)
}

func (n *note) language() string {
	if len(n.ContentMap) != 1 {
		return ""
	}
	for l := range n.ContentMap {
		return l
	}
	return ""
}

func (p *parser) addTags(o *post, tags []tag) {
	for _, t := range tags {
		switch t.Type {
		case "Hashtag":
			o.Tags = append(o.Tags, strings.TrimPrefix(t.Name, "#"))
		case "Mention":
			o.Mentions = append(o.Mentions, t.Name)
		}
	}
}

// attach refers to media, by the blob where the archive has the bytes.
func (p *parser) attach(o *post, all []media) {
	for _, m := range all {
		a := attachment{MediaType: m.MediaType, Name: m.Name, URL: m.URL.first()}
		if u, err := url.Parse(a.URL); err == nil && !u.IsAbs() {
			a.Path, a.URL = cleanName(u.Path), ""
			a.Blob = p.media[mediaKey(a.Path)]
		}
		o.Attachments = append(o.Attachments, a)
	}
}

// shared puts a share or a like of another's post.
func (p *parser) shared(a activity, line int) error {
	var object refs
	if err := json.Unmarshal(a.Object, &object); err != nil || object.first() == "" || a.ID == "" {
		p.fail(line, fmt.Sprintf("the %s does not say of what", a.Type))
		return nil
	}
	when, err := parseTime(a.Published)
	if err != nil {
		p.fail(line, fmt.Sprintf("%q is no time", a.Published))
		return nil
	}
	actor := a.Actor.first()
	return p.post(a.ID, actor, when, post{Type: a.Type, AttributedTo: actor, Account: p.handleOf(actor), Object: object.first(),
		To: a.To, CC: a.CC, Visibility: visibility(a.To, a.CC)})
}

// likedURL puts an element of likes.json.
func (p *parser) likedURL(element []byte, line int) error {
	var link string
	if err := json.Unmarshal(element, &link); err != nil || link == "" {
		p.fail(line, "the like is no link")
		return nil
	}
	return p.post("like:"+link, p.owner.id, time.Time{}, post{Type: "Like", Object: link, AttributedTo: p.owner.id, Account: p.owner.handle})
}

const public = "https://www.w3.org/ns/activitystreams#Public"

// visibility is what Mastodon makes of the addresses.
func visibility(to, cc refs) string {
	isPublic := func(s string) bool { return s == public || s == "as:Public" || s == "Public" }
	followers := func(s string) bool { return strings.HasSuffix(s, "/followers") }
	switch {
	case slices.ContainsFunc(to, isPublic):
		return "public"
	case slices.ContainsFunc(cc, isPublic):
		return "unlisted"
	case slices.ContainsFunc(to, followers), slices.ContainsFunc(cc, followers):
		return "followers"
	case len(to)+len(cc) > 0:
		return "direct"
	}
	return ""
}

// handleOf returns @name@host of an account: as the archive says for the owner,
// else as the usual URLs have it.
func (p *parser) handleOf(id string) string {
	if id == p.owner.id && p.owner.handle != "" {
		return p.owner.handle
	}
	u, err := url.Parse(id)
	if err != nil || u.Host == "" {
		return ""
	}
	dir, name := path.Split(u.Path)
	if dir == "/users/" || dir == "/" {
		return "@" + strings.TrimPrefix(name, "@") + "@" + u.Host
	}
	return ""
}

// actor reads the owner's account.
func (p *parser) actor(s *stream) error {
	line := s.line
	raw, err := s.value(maxElement)
	if err != nil {
		return err
	}
	var a struct {
		ID                string `json:"id"`
		Name              string `json:"name"`
		Summary           string `json:"summary"`
		PreferredUsername string `json:"preferredUsername"`
		URL               refs   `json:"url"`
	}
	if err := json.Unmarshal(raw, &a); err != nil {
		return &syntaxError{line, err.Error()}
	}
	if err := s.end(); err != nil {
		return err
	}
	u, err := url.Parse(a.ID)
	if err != nil || u.Host == "" || len(a.ID) > maxAccount || len(a.PreferredUsername) > maxAccount {
		p.fail(line, fmt.Sprintf("the account's id %.80q is no URL, or too long for one", a.ID))
		return nil
	}
	p.owner = account{id: a.ID, handle: "@" + a.PreferredUsername + "@" + u.Host}
	c := contact{Type: "Person", Name: a.Name, AlternateName: []string{p.owner.handle}, URL: a.URL, Note: plainText(a.Summary),
		Accounts: []accountField{{Service: u.Host, ID: a.ID, Name: p.owner.handle, URL: a.URL.first()}}}
	if c.Name == "" {
		c.Name = a.PreferredUsername
	}
	return p.put("contacts", a.ID, "", time.Time{}, c)
}

// parseTime reads the first of the texts that is not empty. None is the zero time.
func parseTime(texts ...string) (time.Time, error) {
	for _, s := range texts {
		if s != "" {
			return time.Parse(time.RFC3339, s)
		}
	}
	return time.Time{}, nil
}
