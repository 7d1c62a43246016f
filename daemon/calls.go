package daemon

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"regexp"
	"strings"

	"github.com/locker-project/locker/daemon/store"
	"github.com/locker-project/locker/plugins/locker"
)

// A callFunc answers one call: it sends rows through a and returns the summary.
// params is a JSON object; in is what the caller sent after it.
type callFunc func(ctx context.Context, l *Locker, params []byte, in *bufio.Reader, a *answer) (any, error)

// calls are all that a locker answers, by name.
var calls = map[string]callFunc{
	"import":         call((*Locker).importFiles),
	"imports":        call((*Locker).imports),
	"undo":           call((*Locker).undo),
	"query":          call((*Locker).query),
	"get":            call((*Locker).get),
	"put":            put,
	"delete":         call((*Locker).delete),
	"blob.get":       call((*Locker).blob),
	"sync":           call((*Locker).syncNow),
	"status":         call((*Locker).status),
	"verify":         call((*Locker).verify),
	"device.list":    call((*Locker).devices),
	"device.invite":  call((*Locker).deviceInvite),
	"device.remove":  call((*Locker).deviceRemove),
	"purge":          call((*Locker).purge),
	"remote.list":    call((*Locker).remoteList),
	"remote.add":     call((*Locker).remoteAdd),
	"remote.remove":  call((*Locker).remoteRemove),
	"remote.check":   call((*Locker).remoteCheck),
	"phrase.check":   call((*Locker).phraseCheck),
	"phrase.replace": call((*Locker).phraseReplace),
	"phrase.accept":  call((*Locker).phraseAccept),
	"phrase.refuse":  call((*Locker).phraseRefuse),
	"settings":       call((*Locker).changeSettings),
	"sheet":          call((*Locker).sheet),
	"sheet.check":    call((*Locker).sheetCheck),
	"app.install":    call((*Locker).appInstall),
	"app.list":       call((*Locker).appList),
	"app.run":        call((*Locker).appRun),
	"app.remove":     call((*Locker).appRemove),
	"offers":         call((*Locker).offers),
	"grant":          call((*Locker).grant),
	"grants":         call((*Locker).grants),
	"revoke":         call((*Locker).revoke),
	"audit":          call((*Locker).audit),
}

// call makes a call of a function that takes parameters of type P and no input.
func call[P any](do func(l *Locker, ctx context.Context, params P, a *answer) (any, error)) callFunc {
	return func(ctx context.Context, l *Locker, params []byte, _ *bufio.Reader, a *answer) (any, error) {
		p, err := parse[P](params)
		if err != nil {
			return nil, err
		}
		return do(l, ctx, p, a)
	}
}

// parse reads parameters. An unknown one is an error: it would be ignored by a
// daemon that is older than the command.
func parse[P any](params []byte) (p P, err error) {
	dec := json.NewDecoder(bytes.NewReader(params))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&p); err != nil {
		return p, usage("the daemon may be of another version: restart it", "the parameters of the call cannot be read: %v", err)
	}
	return p, nil
}

// owner is the author of what the owner does in person.
var owner = store.Author{Class: store.Owner}

// public refuses the collections that the locker keeps for itself.
func public(collection string) error {
	if strings.HasPrefix(collection, "_") {
		return refused("see 'locker audit', 'locker grants', 'locker imports' and 'locker app list' for what it keeps", "collections whose names begin with '_' are the locker's own")
	}
	return nil
}

func (l *Locker) query(ctx context.Context, p QueryParams, a *answer) (any, error) {
	if err := public(p.Collection); err != nil {
		return nil, err
	}
	q := locker.Query{Collection: p.Collection, Fields: p.Fields, Since: p.Since, Until: p.Until, Where: p.Where, Limit: p.Limit, Descending: p.Descending}
	for r, err := range l.store.View(owner).Query(ctx, q) {
		if err != nil {
			return nil, err
		}
		if err := a.row(r); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

func (l *Locker) get(ctx context.Context, p RecordParams, _ *answer) (any, error) {
	if err := public(p.Collection); err != nil {
		return nil, err
	}
	r, err := l.store.View(owner).Get(ctx, p.Collection, p.ID)
	if errors.Is(err, locker.ErrNotFound) {
		return nil, failed("'locker query "+p.Collection+"' lists what is there", "not found: %s %s", p.Collection, p.ID)
	}
	return r, err
}

// The most that one put takes, since it is one write.
const (
	putBytes = 64 << 20
	putLine  = 16 << 20
)

// collectionName is how a collection may be named. Whatever else lies in the store
// can be read and deleted.
var collectionName = regexp.MustCompile(`^([A-Za-z0-9]([A-Za-z0-9.-]{0,60}[A-Za-z0-9])?/)?[A-Za-z][A-Za-z0-9_-]{0,63}$`)

// put writes the records of its input, all of them or none.
func put(ctx context.Context, l *Locker, params []byte, in *bufio.Reader, _ *answer) (any, error) {
	p, err := parse[RecordParams](params)
	if err != nil {
		return nil, err
	}
	if err := public(p.Collection); err != nil {
		return nil, err
	}
	if !collectionName.MatchString(p.Collection) {
		return nil, usage("write a NAME such as notes, or VENDOR/NAME, of letters, digits, - and _", "%q is no name of a collection", clip(p.Collection))
	}
	author := owner
	if p.Source != "" {
		author = store.Author{Class: store.Source, Source: p.Source}
	}
	records, err := readRecords(in, p.Collection)
	if err != nil || len(records) == 0 {
		return PutSummary{}, err
	}
	counts, err := l.store.Write(ctx, author, records...)
	return PutSummary{New: counts.New, Same: counts.Same, Changed: counts.Changed}, err
}

// readRecords reads JSON lines.
func readRecords(in io.Reader, collection string) ([]locker.Record, error) {
	const next = "write one JSON object a line, with \"id\", \"time\" and \"fields\"; nothing was written"
	limited := &io.LimitedReader{R: in, N: putBytes + 1}
	lines := bufio.NewScanner(limited)
	lines.Buffer(make([]byte, 0, 64<<10), putLine)
	var records []locker.Record
	n := 1
	for ; lines.Scan(); n++ {
		line := bytes.TrimSpace(lines.Bytes())
		if len(line) == 0 {
			continue
		}
		dec := json.NewDecoder(bytes.NewReader(line))
		dec.DisallowUnknownFields()
		var r locker.Record
		err := dec.Decode(&r)
		if err == nil && dec.More() {
			err = errors.New("there is more than one value")
		}
		switch {
		case limited.N == 0:
			return nil, usage("write them in parts", "the records are more than %d MB", putBytes>>20)
		case errors.Is(err, io.ErrUnexpectedEOF):
			return nil, usage(next, "line %d: the JSON object has no end", n)
		case err != nil:
			return nil, usage(next, "line %d: %v", n, err)
		case r.ID == "":
			return nil, usage(next, "line %d has no id", n)
		case r.Collection != "" && r.Collection != collection:
			return nil, usage("", "line %d is of collection %q, not %q", n, r.Collection, collection)
		}
		records = append(records, locker.Record{Collection: collection, ID: r.ID, Time: r.Time, Fields: r.Fields})
	}
	if limited.N == 0 {
		return nil, usage("write them in parts", "the records are more than %d MB", putBytes>>20)
	}
	switch err := lines.Err(); {
	case errors.Is(err, context.Canceled):
		return nil, err
	case errors.Is(err, bufio.ErrTooLong):
		return nil, usage("keep large bytes out of records; nothing was written", "line %d is longer than %d MB", n, putLine>>20)
	case err != nil:
		return nil, usage(next, "the input cannot be read: %v", err)
	}
	return records, nil
}

func (l *Locker) delete(ctx context.Context, p RecordParams, _ *answer) (any, error) {
	if err := public(p.Collection); err != nil {
		return nil, err
	}
	n, err := l.store.Delete(ctx, owner, p.Collection, p.ID)
	if err == nil && n == 0 {
		err = failed("'locker query "+p.Collection+"' lists what is there", "not found: %s %s", p.Collection, p.ID)
	}
	return PutSummary{Deleted: n}, err
}
