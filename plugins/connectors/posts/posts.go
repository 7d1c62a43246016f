// Package posts reads what a person posted: the archives of Mastodon (and of
// other servers that export an ActivityPub outbox), and those of Twitter, now X,
// in its old form (data/js, Grailbird) and its new one (window.YTD). Start with
// [New].
//
// An archive may be the zip or tar.gz as it was downloaded, or the files in it.
// It is read where it lies, within bounds: a file that unpacks to more than any
// real archive is refused.
//
// The id of a post is that of its service, in each form of its archive: the
// ActivityPub id (a URL) or the number of the tweet. Beside posts, the owner's own
// account is written as a contact.
package posts

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/locker-project/locker/plugins"
	"github.com/locker-project/locker/plugins/connectors/internal/batch"
	"github.com/locker-project/locker/plugins/connectors/internal/charset"
)

// sniffed is how much of a file, or of a member of an archive, tells what it is.
const sniffed = 64 << 10

// New returns the connector. It holds no state.
func New() plugins.Connector { return connector{} }

type connector struct{}

func (connector) Recognise(ctx context.Context, f plugins.File) (int, error) {
	head, err := headOf(f)
	if err != nil {
		return 0, err
	}
	if isZip(head) || isGzip(head) {
		return recogniseArchive(ctx, f, isGzip(head))
	}
	if kindOf(head) == kindNone {
		return 0, nil
	}
	return 95, nil
}

func headOf(f plugins.File) ([]byte, error) {
	b := make([]byte, min(f.Size(), sniffed))
	n, err := f.ReadAt(b, 0)
	if err != nil && err != io.EOF {
		return nil, err
	}
	return b[:n], nil
}

func (connector) Parse(ctx context.Context, f plugins.File, out plugins.Sink) error {
	p := &parser{ctx: ctx, out: out, batch: batch.New(ctx, out), seen: make(map[uint64]bool), skipped: make(map[string]int)}
	f = source{f}
	head, err := headOf(f)
	if err != nil {
		return err
	}
	if isZip(head) || isGzip(head) {
		err = p.archive(f)
	} else {
		err = p.single(f, kindOf(head))
	}
	if err != nil {
		return err
	}
	if err := p.batch.Flush(); err != nil {
		return err
	}
	p.notes()
	return nil
}

// A parser reads one file. What it learns of the owner's account and of media
// goes into the posts that follow.
type parser struct {
	ctx   context.Context
	out   plugins.Sink
	batch *batch.Writer
	where string // "entry data/tweets.js, " within an archive, else ""

	owner account           // the owner's account, as far as it is known
	media map[string]string // blobs by the path of their member, without the archive's root

	seen    map[uint64]bool // ids, by the first 8 bytes of their hash
	posts   int
	twice   int
	skipped map[string]int // what was read and is no post of the owner, by what it is
	unread  []string       // members that are not understood
	others  int            // how many there are beside those in unread
}

// An account is the owner's on one service.
type account struct {
	id     string // at its service: a number, or an ActivityPub id
	handle string // such as "@ada@example.org" or "@ada"
}

// post puts a post unless it was there before.
func (p *parser) post(id, source string, t time.Time, fields any) error {
	return p.put("posts", id, source, t, fields)
}

func (p *parser) put(collection, id, source string, t time.Time, fields any) error {
	sum := sha256.Sum256([]byte(collection + "\x00" + id))
	key := binary.BigEndian.Uint64(sum[:])
	if p.seen[key] {
		p.twice++
		return nil
	}
	p.seen[key] = true
	p.posts++
	return p.batch.Put(collection, id, source, t, fields)
}

func (p *parser) fail(line int, why string) {
	p.out.Fail(fmt.Sprintf("%sline %d", p.where, line), why)
}

// located adds the place to an error of the bytes.
func (p *parser) located(err error) error {
	var s *syntaxError
	if errors.As(err, &s) {
		return &plugins.FileError{At: fmt.Sprintf("%sline %d", p.where, s.line), Why: s.why}
	}
	return err
}

// single reads a file that is no archive.
func (p *parser) single(f plugins.File, k kind) error {
	if k == kindNone {
		return &plugins.FileError{At: "line 1", Why: "this is neither an archive of posts nor a file of one"}
	}
	set, err := charset.Detect(p.ctx, f, f.Size(), "")
	if err != nil {
		return err
	}
	return p.located(p.read(set.Reader(f, f.Size()), k))
}

// read reads one file of an archive.
func (p *parser) read(r io.Reader, k kind) error {
	s := newStream(r)
	switch k {
	case kindOutbox, kindLikes:
		return p.outbox(s)
	case kindActor:
		return p.actor(s)
	case kindTweets:
		return p.tweets(s)
	case kindTwitterLikes:
		return p.twitterLikes(s)
	case kindTwitterAccount:
		return p.twitterAccount(s)
	case kindUserDetails:
		return p.userDetails(s)
	}
	return nil
}

func (p *parser) notes() {
	if p.twice > 0 {
		batch.Note(p.out, "%d posts were in the archive twice and taken once", p.twice)
	}
	for _, what := range sortedKeys(p.skipped) {
		batch.Note(p.out, "%d %s", p.skipped[what], what)
	}
	if n := len(p.unread) + p.others; n > 0 {
		batch.Note(p.out, "%d files of the archive hold no posts or are of a kind that is not known yet: %s", n, p.listed())
	}
	if p.posts == 0 {
		batch.Note(p.out, "the archive has no posts")
	}
}

func (p *parser) listed() string {
	list := strings.Join(p.unread, ", ")
	if p.others > 0 {
		list += fmt.Sprintf(" and %d more", p.others)
	}
	return list
}

// A kind is what one file of an archive holds.
type kind int

const (
	kindNone kind = iota
	kindOutbox
	kindLikes
	kindActor
	kindTweets
	kindTwitterLikes
	kindTwitterAccount
	kindUserDetails
)

// kindOf looks at the beginning of a file.
func kindOf(head []byte) kind {
	set := charset.Guess(head, "")
	text, err := io.ReadAll(set.Reader(bytes.NewReader(head), int64(len(head))))
	if err != nil {
		return kindNone
	}
	text = bytes.TrimLeft(text, " \t\r\n")
	switch {
	case bytes.HasPrefix(text, []byte("window.YTD.")), bytes.HasPrefix(text, []byte("Grailbird.data.tweets_")), bytes.HasPrefix(text, []byte("var user_details")):
		return twitterKind(text)
	case bytes.HasPrefix(text, []byte("{")):
		return activityKind(text)
	}
	return kindNone
}
