// Command plugin is what the tests of package host start: well-behaved plugins
// that show what the host offers, and a hostile one that tries to break out.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/locker-project/locker/plugins"
	"github.com/locker-project/locker/plugins/locker"
)

func main() {
	if len(os.Args) > 1 && strings.HasPrefix(os.Args[1], "raw-") {
		raw(os.Args[1])
		return
	}
	plugins.ServeNamed(map[string]func() any{
		"app":       func() any { return app{} },
		"connector": func() any { return connector{} },
		"remote":    func() any { return &remote{objects: map[string][]byte{}} },
		"hostile":   func() any { return hostile{} },
		"spy":       func() any { return &spy{} },
	})
}

// An app does what its first argument says.
type app struct{}

func (app) Run(ctx context.Context, env plugins.AppEnv) error {
	switch env.Args[0] {
	case "copy": // every record of a collection into another
		var records []locker.Record
		for r, err := range env.View.Query(ctx, locker.Query{Collection: "in", Fields: []string{"a"}, Where: "a > 0", Limit: 5000}) {
			if err != nil {
				return err
			}
			r.Collection = "out"
			records = append(records, r)
		}
		return env.View.Put(ctx, records...)
	case "get":
		r, err := env.View.Get(ctx, env.Args[1], env.Args[2])
		if err != nil {
			return fmt.Errorf("getting: %w", err)
		}
		return env.Out.Text(string(r.Fields))
	case "changes":
		n := 0
		for r, err := range env.View.Changes(ctx, "in", 7) {
			if err != nil {
				return err
			}
			if r.Deleted {
				n++
			}
		}
		return env.Out.Text(fmt.Sprint(n, " deleted"))
	case "count":
		n, size := 0, 0
		for r, err := range env.View.Query(ctx, locker.Query{Collection: "in"}) {
			if err != nil {
				return err
			}
			n, size = n+1, size+len(r.Fields)
		}
		return env.Out.Text(fmt.Sprint(n, " ", size))
	case "table":
		return env.Out.Table(plugins.Table{Title: "T\x1b[31m", Columns: []string{"a", "b"}, Rows: [][]string{{"1", "2\n3"}, {"4"}}})
	case "text":
		return env.Out.Text("one\ttwo\nthree\x1b[2J\u202edrawkcab")
	case "print":
		fmt.Println("printed")
		fmt.Fprintln(os.Stderr, "complained")
		return nil
	case "panic":
		panic("for the test")
	case "wait":
		<-ctx.Done()
		return ctx.Err()
	case "hang":
		for {
			time.Sleep(time.Hour)
		}
	case "spin":
		for {
		}
	case "error":
		return fmt.Errorf("app says: %w", &plugins.FileError{At: "line 3", Why: "no\x07 good"})
	case "exit":
		os.Exit(3)
	}
	return errors.New("no such thing")
}

// A connector reads lines "id text"; "!" fails a record, "#" the file, "@" stores a blob, "%" is a note.
type connector struct{}

func (connector) Recognise(ctx context.Context, f plugins.File) (int, error) {
	head := make([]byte, 5)
	if _, err := f.ReadAt(head, 0); err != nil && err != io.EOF {
		return 0, err
	}
	if string(head) == "lines" {
		return 90, nil
	}
	return 0, nil
}

func (connector) Parse(ctx context.Context, f plugins.File, out plugins.Sink) error {
	all, err := io.ReadAll(io.NewSectionReader(f, 0, f.Size()))
	if err != nil {
		return err
	}
	for i, line := range strings.Split(strings.TrimSpace(string(all)), "\n")[1:] {
		at := "line " + strconv.Itoa(i+2)
		switch line[0] {
		case '!':
			out.Fail(at, line[1:])
			continue
		case '%':
			out.Note(line[1:])
			continue
		case '#':
			return &plugins.FileError{At: at, Why: line[1:]}
		case '@':
			id, err := out.Blob(ctx, strings.NewReader(strings.Repeat(line[1:], 100_000)))
			if err != nil {
				return err
			}
			line = "blob " + id
		}
		id, text, _ := strings.Cut(line, " ")
		fields, err := json.Marshal(map[string]string{"text": text, "file": f.Name()})
		if err != nil {
			return err
		}
		if err := out.Put(ctx, locker.Record{Collection: "notes", ID: id, Fields: fields}); err != nil {
			return err
		}
	}
	return nil
}

// A remote keeps objects in memory, in the manner of a cloud.
type remote struct {
	objects map[string][]byte
	opened  bool
	keep    func(ctx context.Context, key, value string) error
}

func (r *remote) Open(ctx context.Context, c plugins.RemoteConfig) error {
	if c.Options["secret"] != "open sesame" {
		return fmt.Errorf("%w: wrong secret", locker.ErrInvalid)
	}
	r.opened, r.keep = true, c.Keep
	return c.Keep(ctx, "token", "at the start")
}

// Changes tells of one object, and keeps a setting meanwhile.
func (r *remote) Changes(ctx context.Context, changed func(name string)) error {
	if err := r.keep(ctx, "token", "later"); err != nil {
		return err
	}
	if err := r.keep(ctx, "url", "http://evil"); err == nil {
		return errors.New("a setting was kept that should not be")
	}
	changed("k/new")
	<-ctx.Done()
	return ctx.Err()
}

func (r *remote) Put(ctx context.Context, name string, body io.Reader, size int64) error {
	data, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	if int64(len(data)) != size {
		return io.ErrUnexpectedEOF
	}
	r.objects[name] = data
	return nil
}

func (r *remote) Get(ctx context.Context, name string, off, n int64) (io.ReadCloser, error) {
	data, ok := r.objects[name]
	if !ok {
		return nil, fmt.Errorf("%s: %w", name, locker.ErrNotFound)
	}
	if name == "long" {
		return io.NopCloser(bytes.NewReader(data)), nil // more than asked for
	}
	data = data[min(off, int64(len(data))):]
	if n >= 0 {
		data = data[:min(n, int64(len(data)))]
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

func (r *remote) List(ctx context.Context, prefix string) iter.Seq2[plugins.RemoteObject, error] {
	return func(yield func(plugins.RemoteObject, error) bool) {
		var names []string
		for name := range r.objects {
			if strings.HasPrefix(name, prefix) {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		for _, name := range names {
			if !yield(plugins.RemoteObject{Name: name, Size: int64(len(r.objects[name])), ModTime: time.Unix(1e9, 5)}, nil) {
				return
			}
		}
	}
}

func (r *remote) Delete(ctx context.Context, names ...string) error {
	for _, name := range names {
		delete(r.objects, name)
	}
	return nil
}
