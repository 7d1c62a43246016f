// Package signin walks the owner of a cloud through signing in, so that Locker gets a
// token and never a password.
//
// Start with [Walk]. The page of the cloud is opened in a browser; it leads back to an
// address of this computer, on which Walk listens, with a code that only the process
// that made the page can turn into a token (RFC 7636) and a state that only this walk
// knows. On a machine without a browser the owner opens the page elsewhere and pastes
// the address to which it led, or, where the cloud has that, types a code there
// (RFC 8628).
//
// Whose registration with the cloud is used the pages' notes say: that of the owner,
// where the remote names a client_id, and rclone's otherwise. Locker has none.
package signin

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/locker-project/locker/daemon/remote"
	"github.com/locker-project/locker/daemon/remote/fault"
	"github.com/locker-project/locker/plugins"
)

// usualPort is where the pages lead of those who registered with a cloud as rclone's
// documentation says.
const usualPort = "53682"

// patience is how long an owner may take to sign in.
const patience = 15 * time.Minute

// A Page is what the owner has to open.
type Page struct {
	URL string
	// Code is what the owner types there; empty where nothing is typed.
	Code string
	// Until is when the page stops to work; zero is not known.
	Until time.Time
	// Notes are what the owner should know before, a sentence each.
	Notes []string
	// Listens says that a browser on this computer is enough: nothing is pasted.
	Listens bool
}

// A UI is how to speak to the owner.
type UI struct {
	// Show shows the page, and may open it.
	Show func(Page) error
	// Paste returns what the owner pasted, until ctx ends; nil: nobody can paste. It is
	// called again after what cannot be right, whose error it is given.
	Paste func(ctx context.Context, why error) (string, error)
	// Device asks for a page on which the owner types a code.
	Device bool
	// Redirect is where the page is to lead back to, for an owner with a registration
	// that says so; empty is the usual. Its host must be this computer.
	Redirect string
}

// Walk has the owner sign in to the cloud of a spec and returns the spec with what is
// needed from then on, a secret. signer is the remote's process, which needs not be open.
func Walk(ctx context.Context, signer plugins.RemoteSigner, spec remote.Spec, ui UI) (remote.Spec, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, &fault.Fault{Kind: fault.Denied, What: "nobody signed in", Do: "begin again"})
	defer cancel()
	page, err := signer.BeginSignIn(ctx, plugins.RemoteConfig(spec.Config(nil)), ui.Redirect, ui.Device)
	if err != nil {
		return spec, err
	}
	if u, err := url.Parse(page.URL); err != nil || u.Scheme != "https" {
		return spec, &fault.Fault{Kind: fault.Broken, What: "the remote names a page that no browser should open", Do: "check the remote's auth_url"}
	}
	w := &walk{page: page, answers: make(chan plugins.SignInAnswer, 1)}
	show := Page{URL: page.URL, Code: page.Code, Until: page.Until, Notes: page.Notes}
	if page.Code == "" {
		stop, err := w.listen()
		if err != nil {
			show.Notes = append(show.Notes, fmt.Sprintf("This computer cannot take the answer itself (%v): paste it.", err))
		} else {
			show.Listens = true
			defer stop()
		}
		if err != nil && ui.Paste == nil {
			return spec, &fault.Fault{Kind: fault.Settings, What: fmt.Sprintf("the answer of the cloud cannot be taken: %v", err), Do: "end the program that uses the port, or run this in a terminal", Err: err}
		}
	}
	if err := ui.Show(show); err != nil {
		return spec, err
	}
	answer, err := w.wait(ctx, ui)
	if err != nil {
		return spec, err
	}
	settings, err := signer.EndSignIn(ctx, answer)
	if err != nil {
		return spec, err
	}
	return spec.SignedIn(settings)
}

// A walk is one sign-in.
type walk struct {
	page    plugins.SignInPage
	answers chan plugins.SignInAnswer
}

// wait returns what came back first.
func (w *walk) wait(ctx context.Context, ui UI) (plugins.SignInAnswer, error) {
	if w.page.Code != "" {
		return plugins.SignInAnswer{}, nil // EndSignIn waits
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	failed := make(chan error, 1)
	if ui.Paste != nil {
		go func() {
			if err := w.paste(ctx, ui.Paste); err != nil {
				failed <- err
			}
		}()
	}
	select {
	case answer := <-w.answers:
		return answer, nil
	case err := <-failed:
		return plugins.SignInAnswer{}, err
	case <-ctx.Done():
		return plugins.SignInAnswer{}, context.Cause(ctx)
	}
}

// paste takes what the owner pastes, until it can be right.
func (w *walk) paste(ctx context.Context, paste func(context.Context, error) (string, error)) error {
	var why error
	for ctx.Err() == nil {
		text, err := paste(ctx, why)
		if err != nil {
			return err
		}
		var answer plugins.SignInAnswer
		if answer, why = w.read(text); why == nil {
			w.take(answer)
			return nil
		}
	}
	return context.Cause(ctx)
}

// take takes the first answer.
func (w *walk) take(answer plugins.SignInAnswer) bool {
	select {
	case w.answers <- answer:
		return true
	default:
		return false
	}
}

// read reads what was pasted: the address to which the page led, or a token that
// 'rclone authorize' made elsewhere.
func (w *walk) read(text string) (plugins.SignInAnswer, error) {
	text = strings.TrimSpace(text)
	if i := strings.IndexByte(text, '{'); i >= 0 && strings.Contains(text, "access_token") {
		return plugins.SignInAnswer{Token: text[i : strings.LastIndexByte(text, '}')+1]}, nil
	}
	query := text
	if u, err := url.Parse(text); err == nil && u.RawQuery != "" {
		query = u.RawQuery
	}
	values, err := url.ParseQuery(query)
	switch {
	case err != nil || !values.Has("state"):
		return plugins.SignInAnswer{}, errors.New("that is not it: paste the whole address from the browser's address line, also if the browser says that it cannot open it")
	case !w.ours(values):
		return plugins.SignInAnswer{}, errors.New("that address belongs to another sign-in: open the page shown last")
	}
	return plugins.SignInAnswer{Query: query}, nil
}

// ours says whether what came back holds this walk's state.
func (w *walk) ours(values url.Values) bool {
	return subtle.ConstantTimeCompare([]byte(values.Get("state")), []byte(w.page.State)) == 1
}

// listen waits where the page leads back to.
func (w *walk) listen() (stop func(), err error) {
	u, err := url.Parse(w.page.Redirect)
	if err != nil {
		return nil, err
	}
	port, hosts := u.Port(), []string{"127.0.0.1", "::1"}
	switch u.Hostname() {
	case "127.0.0.1":
		hosts = hosts[:1]
	case "::1":
		hosts = hosts[1:]
	case "localhost":
	default:
		port, u = usualPort, nil // a page of rclone's leads on to this computer
	}
	server := &http.Server{Handler: w.handler(u), ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: 64 << 10}
	opened := 0
	for _, host := range hosts {
		l, listenErr := net.Listen("tcp", net.JoinHostPort(host, port))
		if listenErr != nil {
			err = listenErr
			continue
		}
		opened++
		go func() { _ = server.Serve(l) }()
	}
	if opened == 0 {
		return nil, err
	}
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second) // the browser gets its answer
		defer cancel()
		_ = server.Shutdown(ctx)
	}, nil
}

// handler takes the answer that a browser brings. Other pages that the browser shows,
// and other programs, can bring nothing: they do not know the state.
func (w *walk) handler(redirect *url.URL) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		h := rw.Header()
		h.Set("Content-Type", "text/plain; charset=utf-8")
		h.Set("Content-Security-Policy", "default-src 'none'")
		h.Set("Cache-Control", "no-store")
		h.Set("Referrer-Policy", "no-referrer")
		values, err := url.ParseQuery(r.URL.RawQuery)
		path := "/"
		if redirect != nil && redirect.Path != "" {
			path = redirect.Path
		}
		switch {
		case r.Method != http.MethodGet || r.URL.Path != path || redirect != nil && r.Host != redirect.Host:
			rw.WriteHeader(http.StatusNotFound)
		case err != nil || !w.ours(values):
			rw.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(rw, "This belongs to no sign-in that is going on. Begin again.\n")
		case !w.take(plugins.SignInAnswer{Query: r.URL.RawQuery}):
			_, _ = io.WriteString(rw, "Locker has an answer already. You can close this page.\n")
		case values.Has("error"):
			_, _ = io.WriteString(rw, "The cloud did not let Locker in: Locker says why. You can close this page.\n")
		default:
			_, _ = io.WriteString(rw, "Locker has what it needs. You can close this page.\n")
		}
	})
}
