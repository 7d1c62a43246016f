package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/fs/config"
	"github.com/rclone/rclone/fs/config/obscure"

	"github.com/locker-project/locker/daemon/remote"
	"github.com/locker-project/locker/daemon/remote/fault"
	"github.com/locker-project/locker/plugins"
)

// TestNoRcloneConfig: importing rclone looked for no settings of its owner's.
func TestNoRcloneConfig(t *testing.T) {
	if path, ok := os.LookupEnv("RCLONE_CONFIG"); !ok || path != "" {
		t.Fatalf("RCLONE_CONFIG is %q, %v", path, ok)
	}
	if path := config.GetConfigPath(); path != "" {
		t.Errorf("rclone would read %s", path)
	}
}

func TestRefused(t *testing.T) {
	for _, test := range []struct{ kind, option, words string }{
		{"local", "", "dir:PATH"},
		{"memory", "", "forgets"},
		{"crypt", "", "seals"},
		{"union", "", "behind it"},
		{"nonsense", "", "no backend"},
		{"webdav", "bearer_token_command=cat /etc/passwd", "bearer_token instead"},
		{"webdav", "unix_socket=/run/x", "sockets"},
		{"sftp", "ssh=ssh -v", "rclone's own ssh"},
		{"sftp", "key_use_agent=true", "agent"},
		{"azureblob", "use_az=true", "no program"},
		{"webdav", "urll=http://x", "no setting"},
		{"webdav", "override.dump=auth", "cannot be used"},
		{"webdav", "override.ca_cert=/none/ca.pem", "no such file"},
		{"webdav", "override.client_cert=/none/a.pem", "belong together"},
	} {
		key, value, _ := strings.Cut(test.option, "=")
		options := map[string]string{}
		if key != "" {
			options[key], options[clearOption] = value, key
		}
		err := (&cloud{}).Open(t.Context(), plugins.RemoteConfig{Type: test.kind, Options: options})
		wantFault(t, err, fault.Settings, test.words)
	}
}

// TestWrappersAreRefused looks at every backend: none that wraps another, or names this
// computer's files, is forgotten.
func TestWrappersAreRefused(t *testing.T) {
	n := 0
	for _, info := range fs.Registry {
		n++
		for _, o := range info.Options {
			wraps := (o.Name == "remote" || o.Name == "upstreams") && !slices.Contains([]string{"doi"}, info.Name)
			if _, ok := refused[info.Name]; wraps && !ok {
				t.Errorf("%s has an option %s: it wraps another remote", info.Name, o.Name)
			}
		}
	}
	if n < 60 {
		t.Errorf("only %d backends are linked", n)
	}
}

// TestOptionsThatReachOut looks at the options of every backend: those that run programs
// are refused, and those that name files are known to package remote.
func TestOptionsThatReachOut(t *testing.T) {
	runs := regexp.MustCompile(`(?i)command to run|run (a|an|the|this) (command|program|external)|external ssh|unix domain socket|\baz\b.*(cli|command)`)
	fileName := regexp.MustCompile(`_file$|_path$|ccache$`)
	// Those that are something else, and why.
	innocent := map[string]string{"sftp.server_command": "runs on the server"}
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, info := range fs.Registry {
		if _, ok := refused[info.Name]; ok {
			continue
		}
		for _, o := range info.Options {
			id := info.Name + "." + o.Name
			first, _, _ := strings.Cut(o.Help, "\n")
			if _, ok := refusedOptions[o.Name]; !ok && innocent[id] == "" && runs.MatchString(first) {
				t.Errorf("%s runs something? %s", id, first)
			}
			if !fileName.MatchString(o.Name) || innocent[id] != "" {
				continue
			}
			spec, err := remote.ParseSpec(fmt.Sprintf("rclone::%s,%s='%s':", strings.ReplaceAll(info.Name, " ", ""), o.Name, file), nil)
			if err != nil || !slices.Contains(spec.Files, file) {
				t.Errorf("%s names a file, but the process may not read it: %v (%s)", id, err, first)
			}
		}
	}
}

func TestPasswords(t *testing.T) {
	info, err := fs.Find("webdav")
	if err != nil {
		t.Fatal(err)
	}
	hidden := obscure.MustObscure("swordfish")
	for _, test := range []struct{ pass, clear string }{{"swordfish", "pass,url"}, {hidden, ""}, {hidden, "url"}} {
		s, secrets, err := read(info, map[string]string{"url": "http://x", "pass": test.pass, clearOption: test.clear})
		if err != nil {
			t.Fatal(err)
		}
		got, _ := s.Get("pass")
		if plain, err := obscure.Reveal(got); err != nil || plain != "swordfish" {
			t.Errorf("%q: rclone gets %q, %v", test.clear, plain, err)
		}
		if !slices.Contains(secrets, "swordfish") || !slices.Contains(secrets, got) {
			t.Errorf("%q: the secrets are %q", test.clear, secrets)
		}
		if slices.Contains(secrets, "http://x") {
			t.Error("the address is taken for a secret")
		}
	}
	_, _, err = read(info, map[string]string{"pass": "not obscured"})
	wantFault(t, err, fault.Settings, "rclone config")
}

func TestCleaner(t *testing.T) {
	clean := cleaner([]string{"p@ss word", "abc"}, nil)
	for in, want := range map[string]string{
		`Get "http://u:p@h/x?sig=AAAA&x=1": EOF`: `Get "http://…@h/x?…": EOF`,
		"login p@ss word failed":                 "login … failed",
		"p%40ss+word p@ss%20word":                "… …",
		"a\nb\tc":                                "a b c",
		"abc stays: it is too short":             "abc stays: it is too short",
	} {
		if got := clean(in); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
	if got := clean(strings.Repeat("x", 10*maxText)); len(got) > maxText+5 {
		t.Errorf("%d bytes are left", len(got))
	}
}

// A twins is a remote where several objects can have one name, as on Google Drive.
type twins struct {
	fs.Fs
	objects []*twin
}

type twin struct {
	fs.Object
	of      *twins
	content string
	at      time.Time
}

func (w *twin) Remote() string                    { return anyName }
func (w *twin) Size() int64                       { return int64(len(w.content)) }
func (w *twin) Fs() fs.Info                       { return w.of }
func (w *twin) ModTime(context.Context) time.Time { return w.at }
func (w *twin) Open(context.Context, ...fs.OpenOption) (io.ReadCloser, error) {
	return io.NopCloser(strings.NewReader(w.content)), nil
}
func (w *twin) Remove(context.Context) error {
	w.of.objects = slices.DeleteFunc(w.of.objects, func(o *twin) bool { return o == w })
	return nil
}

func (w *twins) Features() *fs.Features   { return &fs.Features{DuplicateFiles: true} }
func (w *twins) Precision() time.Duration { return time.Second }
func (w *twins) List(context.Context, string) (entries fs.DirEntries, err error) {
	for _, o := range w.objects {
		entries = append(entries, o)
	}
	return entries, nil
}
func (w *twins) NewObject(context.Context, string) (fs.Object, error) {
	if len(w.objects) == 0 {
		return nil, fs.ErrorObjectNotFound
	}
	return w.objects[0], nil
}

// TestDuplicates: the newest of several objects of a name counts, and all are deleted.
func TestDuplicates(t *testing.T) {
	w := &twins{}
	for i, content := range []string{"old", "newest", "older"} {
		w.objects = append(w.objects, &twin{of: w, content: content, at: time.Unix(int64(1000+[]int{1, 5, 0}[i]), 0)})
	}
	c := &cloud{}
	c.set(&opened{fs: w, ctx: t.Context(), clean: cleaner(nil, nil), duplicates: true})
	n := 0
	for o, err := range c.List(t.Context(), "d/") {
		if n++; err != nil || o.Size != int64(len("newest")) {
			t.Errorf("listed: %+v, %v", o, err)
		}
	}
	if n != 1 {
		t.Errorf("%d lines for one name", n)
	}
	body, err := c.Get(t.Context(), anyName, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(body); err != nil || string(got) != "newest" {
		t.Errorf("read %q, %v", got, err)
	}
	if err := c.Delete(t.Context(), anyName); err != nil || len(w.objects) > 0 {
		t.Errorf("%d objects are left, %v", len(w.objects), err)
	}
	if err := c.Delete(t.Context(), anyName); err != nil {
		t.Errorf("deleting again: %v", err)
	}
}

// TestExact: the last bytes of a body are not handed out before its size is known.
func TestExact(t *testing.T) {
	for _, test := range []struct {
		size int64
		ok   bool
	}{{5, true}, {4, false}, {6, false}, {1, false}} {
		e := &exact{r: strings.NewReader("12345"), left: test.size, size: test.size}
		got, err := io.ReadAll(e)
		if (err == nil) != test.ok || test.ok && string(got) != "12345" || !test.ok && int64(len(got)) >= test.size {
			t.Errorf("as %d bytes: %q, %v", test.size, got, err)
		}
	}
}

func FuzzOptions(f *testing.F) {
	f.Add("webdav", "pass", "secret", true)
	f.Add("sftp", "ssh", "x", false)
	f.Fuzz(func(t *testing.T, kind, key, value string, clear bool) {
		info, err := find(kind)
		if err != nil {
			return
		}
		options := map[string]string{key: value}
		if clear {
			options[clearOption] = key
		}
		s, _, err := read(info, options)
		if err != nil {
			return
		}
		for option := range refusedOptions {
			if v, ok := s.Get(option); ok && v != "" && v != "false" {
				t.Errorf("%s = %q was let through", option, v)
			}
		}
	})
}
