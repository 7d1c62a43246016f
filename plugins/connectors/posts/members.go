package posts

import (
	"bufio"
	"context"
	"errors"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/locker-project/locker/plugins"
)

// errStop ends a walk that has seen enough.
var errStop = errors.New("enough")

// recogniseArchive looks at the members of an archive, and into those whose names
// could be of one that is known. packed says that it is a tar, which has no
// directory.
func recogniseArchive(ctx context.Context, f plugins.File, packed bool) (int, error) {
	confidence, looked := 0, 0
	if packed {
		f = &firstBytes{File: f}
	}
	err := walk(ctx, f, func(m member) error {
		switch {
		case packed && isMedia(m.name):
			confidence = max(confidence, 40) // media may come before all else, and more than is read here
		case mayHold(m.name):
			if looked++; looked > 50 {
				return errStop
			}
			k, _, err := sniffMember(m)
			if err != nil {
				return err
			}
			if k != kindNone {
				confidence = 95
				return errStop
			}
		}
		return nil
	})
	var broken *plugins.FileError
	if err != nil && err != errStop && !errors.As(err, &broken) {
		return 0, err
	}
	return confidence, nil
}

// mayHold says whether a member can be one that is read, by its name.
func mayHold(name string) bool {
	switch base := path.Base(name); path.Ext(base) {
	case ".json":
		return base == "outbox.json" || base == "actor.json" || base == "likes.json"
	case ".js":
		return true
	}
	return false
}

// isMedia says whether a member is a picture or film that posts refer to.
func isMedia(name string) bool {
	return mediaKey(name) != ""
}

// mediaKey returns by what posts refer to a medium: the path below
// media_attachments in archives of Mastodon, the name of the file in those of
// Twitter. It is "" for other members.
func mediaKey(name string) string {
	if i := strings.Index(name, "media_attachments/"); i == 0 || i > 0 && name[i-1] == '/' {
		return name[i:]
	}
	switch path.Base(path.Dir(name)) {
	case "tweets_media", "tweet_media", "community_tweet_media":
		if !strings.EqualFold(path.Ext(name), ".zip") {
			return path.Base(name)
		}
	}
	return ""
}

// sniffMember opens a member and says what it is; r holds all of it.
func sniffMember(m member) (k kind, r io.Reader, err error) {
	opened, err := m.open()
	if err != nil {
		return k, nil, err
	}
	b := bufio.NewReaderSize(opened, sniffed)
	head, err := b.Peek(sniffed)
	if err != nil && err != io.EOF {
		return k, nil, err
	}
	return kindOf(head), b, nil
}

// archive reads the members twice: first the owner's account and the media, then
// the posts.
func (p *parser) archive(f plugins.File) error {
	p.media = make(map[string]string)
	found := make(map[string]kind)
	unread := make(map[string]bool)
	err := walk(p.ctx, f, func(m member) error {
		if key := mediaKey(m.name); key != "" {
			return p.store(m, key)
		}
		if !mayHold(m.name) {
			unread[m.name] = true
			return nil
		}
		k, r, err := sniffMember(m)
		if err != nil {
			return err
		}
		switch k {
		case kindNone:
			unread[m.name] = true
		case kindActor, kindTwitterAccount, kindUserDetails:
			found[m.name] = k
			return p.member(m, k, r)
		default:
			found[m.name] = k
		}
		return nil
	})
	if err != nil {
		return err
	}
	if len(found) == 0 {
		return &plugins.FileError{At: "archive", Why: "none of its files holds posts of Mastodon or Twitter"}
	}
	p.listUnread(unread)
	return walk(p.ctx, f, func(m member) error {
		switch k := found[m.name]; k {
		case kindNone, kindActor, kindTwitterAccount, kindUserDetails:
			return nil
		default:
			r, err := m.open()
			if err != nil {
				return err
			}
			return p.member(m, k, r)
		}
	})
}

// member reads one member that is understood.
func (p *parser) member(m member, k kind, r io.Reader) error {
	p.where = "entry " + m.name + ", "
	defer func() { p.where = "" }()
	return p.located(p.read(skipMark(r), k))
}

// skipMark passes over a byte order mark.
func skipMark(r io.Reader) io.Reader {
	b := bufio.NewReader(r)
	if head, _ := b.Peek(3); string(head) == "\xEF\xBB\xBF" {
		b.Discard(3) // cannot fail: it was peeked
	}
	return b
}

// store keeps a medium as a blob.
func (p *parser) store(m member, key string) error {
	r, err := m.open()
	if err != nil {
		return err
	}
	id, err := p.out.Blob(p.ctx, r)
	if err != nil {
		return err
	}
	p.media[key] = id
	return nil
}

// listUnread keeps the names of some members for the note.
func (p *parser) listUnread(names map[string]bool) {
	const most = 12
	sorted := slices.Sorted(maps.Keys(names))
	p.unread = sorted[:min(most, len(sorted))]
	p.others = len(sorted) - len(p.unread)
}

// firstBytes is a file of which a recogniser reads little: what it reads beyond
// is cut off.
type firstBytes struct {
	plugins.File
	read int
}

const maxSniff = 768 << 10

func (f *firstBytes) ReadAt(b []byte, off int64) (int, error) {
	if f.read += len(b); f.read > maxSniff {
		return 0, io.ErrUnexpectedEOF
	}
	return f.File.ReadAt(b, off)
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
