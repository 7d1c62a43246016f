package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rclone/rclone/fs"

	"github.com/locker-project/locker/daemon/remote"
	"github.com/locker-project/locker/daemon/remote/fault"
	"github.com/locker-project/locker/daemon/remote/remotetest"
	"github.com/locker-project/locker/daemon/remote/signin"
	"github.com/locker-project/locker/daemon/replica"
	"github.com/locker-project/locker/daemon/replica/replicatest"
	"github.com/locker-project/locker/plugins"
)

func parseSpec(t *testing.T, text string) remote.Spec {
	t.Helper()
	s, err := remote.ParseSpec(text, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// browse is the owner with a browser, who opens the page and goes where it leads. It
// returns what the last page says.
func browse(client *http.Client, page string) (string, error) {
	r, err := client.Get(page)
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	return string(text), err
}

// oneWalk keeps walks apart, which share the port to which the pages lead.
var oneWalk sync.Mutex

// walkThrough signs in with a browser on this computer.
func walkThrough(t *testing.T, clouds *remotetest.Clouds, spec string) (remote.Spec, signin.Page, error) {
	t.Helper()
	oneWalk.Lock()
	defer oneWalk.Unlock()
	var page signin.Page
	says := make(chan string, 1)
	signed, err := signin.Walk(t.Context(), &cloud{}, parseSpec(t, spec), signin.UI{Show: func(p signin.Page) error {
		page = p
		if !p.Listens {
			return fmt.Errorf("it does not listen: %q", p.Notes)
		}
		go func() {
			text, err := browse(clouds.Browser(), p.URL)
			says <- fmt.Sprint(text, err)
		}()
		return nil
	}})
	if err == nil {
		if text := <-says; !strings.Contains(text, "Locker has what it needs") {
			t.Errorf("the browser shows %q", text)
		}
	}
	return signed, page, err
}

// TestSignIn: the whole way with a browser, for the clouds that people have most.
func TestSignIn(t *testing.T) {
	for _, test := range []struct {
		spec     string
		redirect string
		scope    string
		extra    url.Values
		settings map[string]string
		notes    string
	}{
		{spec: "drive", redirect: "http://127.0.0.1:53682/", scope: "https://www.googleapis.com/auth/drive.file", notes: "being retired"},
		{spec: "drive,scope=drive", redirect: "http://127.0.0.1:53682/", scope: "https://www.googleapis.com/auth/drive", notes: "being retired"},
		{spec: "drive,client_id=mine,client_secret=hush", redirect: "http://127.0.0.1:53682/"},
		{spec: "dropbox", redirect: "http://localhost:53682/", notes: "uses rclone's"},
		{spec: "onedrive", redirect: "http://localhost:53682/", settings: map[string]string{"drive_id": "drive1", "drive_type": "personal"}, notes: "uses rclone's"},
		{spec: "box", redirect: "http://127.0.0.1:53682/", notes: "uses rclone's"},
		{spec: "pcloud", redirect: "http://localhost:53682/", extra: url.Values{"hostname": {"eapi.pcloud.com"}, "locationid": {"2"}},
			settings: map[string]string{"hostname": "eapi.pcloud.com"}, notes: "uses rclone's"},
		{spec: "yandex", redirect: "http://127.0.0.1:53682/", notes: "uses rclone's"},
		{spec: "hidrive", redirect: "http://127.0.0.1:53682/", notes: "uses rclone's"},
	} {
		t.Run(test.spec, func(t *testing.T) {
			clouds := remotetest.NewClouds(t)
			clouds.Sign.Extra, clouds.Sign.Secret = test.extra, "hush"
			clouds.API = http.HandlerFunc(microsoftGraph)
			signed, page, err := walkThrough(t, clouds, fmt.Sprintf("rclone::%s,%s:locker", test.spec, clouds.Options()))
			if err != nil {
				t.Fatal(err)
			}
			asked := clouds.Sign.Page()
			if asked.Get("redirect_uri") != test.redirect || asked.Get("code_challenge_method") != "S256" || test.scope != "" && asked.Get("scope") != test.scope {
				t.Errorf("the page was asked with %v", asked)
			}
			if notes := strings.Join(page.Notes, "\n"); !strings.Contains(notes, test.notes) || test.notes == "" && notes != "" {
				t.Errorf("the notes are %q, want %q", notes, test.notes)
			}
			if !strings.Contains(signed.Options["token"], "access_token") {
				t.Errorf("the token is %q", signed.Options["token"])
			}
			for key, want := range test.settings {
				if got := signed.Options[key]; got != want {
					t.Errorf("%s is %q, want %q", key, got, want)
				}
			}
			if again := parseSpec(t, signed.Text()); again.NeedsSignIn() || again.Options["token"] != signed.Options["token"] {
				t.Errorf("the text of the spec does not hold the sign-in")
			}
		})
	}
}

// microsoftGraph is what OneDrive asks after a sign-in.
func microsoftGraph(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	switch r.URL.Path {
	case "/v1.0/me/drives":
		_, _ = io.WriteString(w, `{"value":[{"id":"drive1","driveType":"personal","name":"mine"},{"id":"drive2","driveType":"business","name":"other"}]}`)
	case "/v1.0/drives/drive1/root":
		_, _ = io.WriteString(w, `{"id":"root","name":"root","webUrl":"https://x","parentReference":{"driveType":"personal"},"folder":{}}`)
	default:
		http.NotFound(w, r)
	}
}

// TestSigners: package remote knows which backends have their owners sign in, and each
// of them has a page.
func TestSigners(t *testing.T) {
	// These ask for something else first, or keep no files.
	no := map[string]string{"google photos": "keeps pictures alone", "jottacloud": "asks for a token made by hand"}
	n := 0
	for _, info := range fs.Registry {
		if _, ok := refused[info.Name]; ok || info.Config == nil || no[info.Name] != "" {
			continue
		}
		spec := parseSpec(t, fmt.Sprintf("rclone::%s:x", info.Name))
		if info.Name == "zoho" {
			spec.Options["region"] = "eu"
		}
		page, err := (&cloud{}).BeginSignIn(t.Context(), plugins.RemoteConfig(spec.Config(nil)), "", false)
		switch {
		case (err == nil) != spec.NeedsSignIn():
			t.Errorf("%s: needs a sign-in %v; its page: %v", info.Name, spec.NeedsSignIn(), err)
		case err == nil && (!strings.HasPrefix(page.URL, "https://") || page.State == "" || page.Redirect == "" || !strings.Contains(page.URL, url.QueryEscape(page.Redirect))):
			t.Errorf("%s: the page is %+v", info.Name, page)
		case err == nil:
			n++
		}
	}
	if n < 10 {
		t.Errorf("only %d backends have a page", n)
	}
}

// TestSignInTrouble: what can go wrong, and what is told.
func TestSignInTrouble(t *testing.T) {
	clouds := remotetest.NewClouds(t)
	spec := fmt.Sprintf("rclone::dropbox,%s:locker", clouds.Options())

	clouds.Sign.Deny = true
	_, _, err := walkThrough(t, clouds, spec)
	wantFault(t, err, fault.Denied, "access_denied", "sign in again")
	clouds.Sign.Deny = false

	_, _, err = walkThrough(t, clouds, fmt.Sprintf("rclone::dropbox,client_id=mine,client_secret=wrong,%s:locker", clouds.Options()))
	wantFault(t, err, fault.Denied, "invalid_client")

	// Another program that knows the port brings a code of its own.
	oneWalk.Lock()
	defer oneWalk.Unlock()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err = signin.Walk(ctx, &cloud{}, parseSpec(t, spec), signin.UI{Show: func(p signin.Page) error {
		for _, address := range []string{"http://127.0.0.1:53682/?code=evil&state=evil", "http://localhost:53682/?code=evil", "http://localhost:53682/other?code=evil&state=" + url.QueryEscape(state(p))} {
			r, err := http.Get(address)
			if err != nil {
				return err
			}
			r.Body.Close()
			if r.StatusCode < 400 {
				t.Errorf("%s was taken", address)
			}
		}
		return nil
	}})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the walk ended with %v", err)
	}
	if granted, _ := clouds.Sign.Count(); granted != 0 {
		t.Errorf("%d tokens were granted", granted)
	}
}

func state(p signin.Page) string {
	u, _ := url.Parse(p.URL)
	return u.Query().Get("state")
}

// TestSignInPaste: on a machine without a browser the address is pasted, also where the
// port is taken; what cannot be right is asked for again.
func TestSignInPaste(t *testing.T) {
	clouds := remotetest.NewClouds(t)
	oneWalk.Lock()
	defer oneWalk.Unlock()
	stay := &http.Client{Transport: clouds.Browser().Transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	for _, test := range []struct {
		name string
		make func(address string) string
	}{
		{"address", func(address string) string { return address + "\n" }},
		{"query", func(address string) string { return address[strings.IndexByte(address, '?')+1:] }},
		{"token", func(string) string {
			return `Paste this: {"access_token":"a","token_type":"bearer","refresh_token":"r"} <--- end`
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var page signin.Page
			tries := 0
			signed, err := signin.Walk(t.Context(), &cloud{}, parseSpec(t, fmt.Sprintf("rclone::box,%s:", clouds.Options())), signin.UI{
				Show: func(p signin.Page) error { page = p; return nil },
				Paste: func(_ context.Context, why error) (string, error) {
					tries++
					wrong := []string{"", "abc", "http://127.0.0.1:53682/?code=x&state=other", "http://127.0.0.1:53682/?error=access_denied"}
					if tries <= len(wrong) {
						if (why == nil) != (tries == 1) {
							t.Errorf("try %d: the owner is told %v", tries, why)
						}
						return wrong[tries-1], nil
					}
					r, err := stay.Get(page.URL)
					if err != nil {
						return "", err
					}
					r.Body.Close()
					return test.make(r.Header.Get("Location")), nil
				},
			})
			if err != nil || !strings.Contains(signed.Options["token"], "access_token") || tries != 5 {
				t.Errorf("after %d tries: %v, token %.30q", tries, err, signed.Options["token"])
			}
		})
	}
}

// TestSignInDevice: a code that is typed elsewhere.
func TestSignInDevice(t *testing.T) {
	clouds := remotetest.NewClouds(t)
	clouds.API = http.HandlerFunc(microsoftGraph)
	for kind, ok := range map[string]bool{"drive": true, "onedrive": true, "dropbox": false} {
		signed, err := signin.Walk(t.Context(), &cloud{}, parseSpec(t, fmt.Sprintf("rclone::%s,%s:", kind, clouds.Options())), signin.UI{Device: true, Show: func(p signin.Page) error {
			if p.Code == "" || p.URL != "https://cloud.example/device" || time.Until(p.Until) < time.Minute {
				t.Errorf("the page is %+v", p)
			}
			time.AfterFunc(100*time.Millisecond, func() { clouds.Sign.Allow(p.Code) })
			return nil
		}})
		if !ok {
			wantFault(t, err, fault.Settings, "paste")
		} else if err != nil || !strings.Contains(signed.Options["token"], "refresh_token") {
			t.Errorf("%s: %v, token %.30q", kind, err, signed.Options["token"])
		}
	}
}

// A dropbox is a remote there whose owner signed in.
type dropbox struct {
	*remote.PluginRemote
	clouds *remotetest.Clouds
	api    *remotetest.Dropbox
	mu     sync.Mutex
	spec   remote.Spec
	opens  atomic.Int64
}

func newDropbox(t *testing.T, idle time.Duration) *dropbox {
	d := &dropbox{clouds: remotetest.NewClouds(t), api: remotetest.NewDropbox()}
	d.clouds.API = d.api
	signed, _, err := walkThrough(t, d.clouds, fmt.Sprintf("rclone::dropbox,%s:locker", d.clouds.Options()))
	if err != nil {
		t.Fatal(err)
	}
	d.spec = signed
	d.PluginRemote = remote.Plugin(func(ctx context.Context) (remote.Client[plugins.RemoteObject], func(), error) {
		d.opens.Add(1)
		d.mu.Lock()
		s := d.spec
		d.mu.Unlock()
		c := &cloud{}
		return c, func() {}, c.Open(ctx, plugins.RemoteConfig(s.Config(d.keep)))
	}, idle)
	t.Cleanup(func() { d.Close() })
	return d
}

func (d *dropbox) keep(_ context.Context, key, value string) (err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.spec, err = d.spec.Kept(key, value)
	return err
}

func TestDropboxConformance(t *testing.T) {
	replicatest.Remote(t, func(t *testing.T) replica.Remote { return newDropbox(t, time.Minute) })
}

// TestTokensAreKept: a token that was renewed is there for the next process, on a cloud
// where each renews once. What each process had in memory is lost.
func TestTokensAreKept(t *testing.T) {
	d := newDropbox(t, time.Nanosecond)
	for i := range 5 {
		d.clouds.Sign.Expire()
		d.mu.Lock()
		d.spec.Options["token"] = strings.Replace(d.spec.Options["token"], `"expiry":"2`, `"expiry":"1`, 1) // its time is over
		d.mu.Unlock()
		if err := d.Put(t.Context(), anyName, strings.NewReader("x"), 1); err != nil {
			t.Fatalf("after %d processes: %v", i, err)
		}
		time.Sleep(50 * time.Millisecond) // the process ends
	}
	if granted, renewed := d.clouds.Sign.Count(); granted != 1 || renewed < 5 {
		t.Errorf("%d tokens were granted and %d renewed, want 1 and at least 5", granted, renewed)
	}
	if n := d.opens.Load(); n < 5 {
		t.Errorf("%d processes, want 5", n)
	}
	d.mu.Lock()
	d.spec.Options["token"] = `{"access_token":"a","token_type":"bearer","refresh_token":"revoked","expiry":"1999-01-01T00:00:00Z"}`
	d.mu.Unlock()
	wantFault(t, d.Put(t.Context(), anyName, strings.NewReader("x"), 1), fault.Denied, "sign in again")
}

// TestDropboxManners: the pause that it asks for is kept, and a full one says so.
func TestDropboxManners(t *testing.T) {
	d := newDropbox(t, time.Minute)
	if err := d.Put(t.Context(), anyName, strings.NewReader("x"), 1); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	d.api.Busy, d.api.BusyFor = 2, 2*time.Second
	if err := d.Put(t.Context(), anyName, strings.NewReader("y"), 1); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < 2*time.Second {
		t.Errorf("it came back after %s", took)
	}
	d.api.Quota = 1000
	err := d.Put(t.Context(), "d/"+strings.Repeat("b", 52), strings.NewReader(strings.Repeat("x", 2000)), 2000)
	wantFault(t, err, fault.Full, "make room")
	traits, err := describe(t, d)
	if err != nil || !traits.Notifies || traits.NotifyEvery != 0 || !traits.FoldCase || !traits.Sized || traits.Free == 0 {
		t.Errorf("it describes itself as %+v, %v", traits, err)
	}
}

func describe(t *testing.T, d *dropbox) (plugins.RemoteTraits, error) {
	t.Helper()
	c := &cloud{}
	if err := c.Open(t.Context(), plugins.RemoteConfig(d.spec.Config(nil))); err != nil {
		t.Fatal(err)
	}
	return c.Describe(t.Context())
}

// TestDropboxTells: another device's object is told at once, and our own is not.
func TestDropboxTells(t *testing.T) {
	d := newDropbox(t, time.Minute)
	if err := d.Put(t.Context(), anyName, strings.NewReader("x"), 1); err != nil {
		t.Fatal(err)
	}
	usual := http.DefaultTransport // with which rclone waits for Dropbox's changes
	http.DefaultTransport = d.clouds.Browser().Transport
	t.Cleanup(func() { d.Close(); http.DefaultTransport = usual })
	changes := d.Changed(t.Context())
	time.Sleep(2500 * time.Millisecond) // the watch begins
	if err := d.Put(t.Context(), anyName, strings.NewReader("y"), 1); err != nil {
		t.Fatal(err)
	}
	select {
	case <-changes:
		t.Error("told of an object of our own")
	case <-time.After(2 * time.Second):
	}
	began := time.Now()
	d.api.Put("/locker/d/"+strings.Repeat("b", 52), "other")
	select {
	case _, ok := <-changes:
		if took := time.Since(began); !ok || took > 3*time.Second {
			t.Errorf("told after %s, %v", took, ok)
		}
	case <-time.After(10 * time.Second):
		t.Errorf("not told: %v", d.api.Requests)
	}
	if !slices.Contains(pushes, "dropbox") {
		t.Error("dropbox is asked again and again")
	}
}
