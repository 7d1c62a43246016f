package main

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/fs/config/configmap"
	"github.com/rclone/rclone/fs/fshttp"
	"github.com/rclone/rclone/lib/oauthutil"
	"golang.org/x/oauth2"

	"github.com/locker-project/locker/daemon/remote/fault"
	"github.com/locker-project/locker/plugins"
)

// answerPrefix begins the options that answer rclone's questions of a sign-in, such as
// config_driveid. They are for that time alone.
const answerPrefix = "config_"

// A walk is an owner's sign-in: from the page that is opened in a browser to the
// settings that come of it. rclone's own server for that is not used: it would wait on
// a port inside the sandbox, and checks nothing but its state.
type walk struct {
	info     *fs.RegInfo
	ctx      context.Context // carries rclone's configuration
	settings *settings
	given    map[string]string // what the settings were before
	answers  map[string]string
	clean    func(string) string

	options  *oauthutil.Options
	config   *oauthutil.Config
	next     string // rclone's state after the sign-in
	state    string
	verifier string
	device   *oauth2.DeviceAuthResponse
	notes    []string
}

// BeginSignIn finds the page on which the owner signs in.
func (c *cloud) BeginSignIn(ctx context.Context, config plugins.RemoteConfig, redirect string, device bool) (plugins.SignInPage, error) {
	w, err := newWalk(ctx, config)
	if err != nil {
		return plugins.SignInPage{}, err
	}
	if err := w.begin(redirect); err != nil {
		return plugins.SignInPage{}, w.fault(ctx, err)
	}
	page := plugins.SignInPage{Redirect: w.config.RedirectURL, State: w.state, Notes: w.notes}
	if device {
		if err := w.askDevice(); err != nil {
			return plugins.SignInPage{}, w.fault(ctx, err)
		}
		page = plugins.SignInPage{URL: w.device.VerificationURI, Code: w.device.UserCode, Until: w.device.Expiry, Notes: w.notes}
	} else {
		page.URL = w.pageURL()
	}
	c.mu.Lock()
	c.walk = w
	c.mu.Unlock()
	return page, nil
}

func newWalk(ctx context.Context, config plugins.RemoteConfig) (*walk, error) {
	info, err := find(config.Type)
	if err != nil {
		return nil, err
	}
	if info.Config == nil {
		return nil, fmt.Errorf("nobody signs in to rclone's %s with a browser: %w", info.Name, errors.ErrUnsupported)
	}
	options, answers := map[string]string{}, map[string]string{}
	for key, value := range config.Options {
		if strings.HasPrefix(key, answerPrefix) {
			answers[key] = value
		} else {
			options[key] = value
		}
	}
	s, secrets, err := read(info, options)
	if err != nil {
		return nil, err
	}
	if _, ok := s.kv["scope"]; !ok && info.Name == "drive" {
		s.kv["scope"] = "drive.file" // what Locker itself stored there, and nothing else
	}
	lasting, err := configure(context.WithoutCancel(ctx), options)
	if err != nil {
		return nil, err
	}
	return &walk{info: info, ctx: lasting, settings: s, given: maps.Clone(s.kv), answers: answers, clean: cleaner(secrets, options)}, nil
}

// begin runs rclone's questions up to the sign-in and prepares for that.
func (w *walk) begin(redirect string) error {
	w.settings.Set("token", "")
	if err := w.run(fs.ConfigIn{}); err != nil {
		return err
	}
	if w.options == nil || w.options.OAuth2Config == nil {
		return fmt.Errorf("nobody signs in to rclone's %s with these settings: %w", w.info.Name, errors.ErrUnsupported)
	}
	w.config, _ = oauthutil.OverrideCredentials("locker", w.mapper(), w.options.OAuth2Config)
	if w.config.ClientCredentialFlow {
		return &fault.Fault{Kind: fault.Settings, What: "with client_credentials nobody signs in", Do: "leave that setting out"}
	}
	if w.config.RedirectURL == oauthutil.TitleBarRedirectURL {
		w.config.RedirectURL = oauthutil.RedirectURL
	}
	if redirect != "" {
		w.config.RedirectURL = redirect
	}
	w.state, w.verifier = oauth2.GenerateVerifier(), oauth2.GenerateVerifier()
	w.note()
	return nil
}

// note tells whose registration with the cloud is used.
func (w *walk) note() {
	if id, _ := w.settings.Get("client_id"); id != "" {
		return
	}
	w.notes = append([]string{"The page will say that rclone asks: Locker has no registration with this cloud of its own and uses rclone's. " +
		"To use one of yours, make a client id there and add client_id=…,client_secret=… to the remote."}, w.notes...)
}

func (w *walk) mapper() *configmap.Map {
	m := configmap.New()
	m.AddGetter(w.settings, configmap.PriorityNormal)
	m.AddGetter(defaults{w.info.Options}, configmap.PriorityDefault)
	m.AddSetter(w.settings)
	return m
}

// mostSteps bounds how many questions a backend asks.
const mostSteps = 100

// run answers rclone's questions until the owner has to sign in or there are no more.
func (w *walk) run(in fs.ConfigIn) error {
	for range mostSteps {
		out, err := w.info.Config(w.ctx, "locker", w.mapper(), in)
		switch {
		case err != nil:
			return err
		case out == nil:
			return nil
		case out.Error != "":
			return errors.New(out.Error)
		case out.OAuth != nil:
			if w.options != nil {
				return errors.New("it asks to sign in twice")
			}
			w.options, _ = out.OAuth.(*oauthutil.Options)
			w.next = out.State
			return nil
		}
		in = fs.ConfigIn{State: out.State, Result: out.Result}
		if out.Option != nil {
			if in.Result, err = w.answer(out.Option); err != nil {
				return err
			}
		}
		if in.State == "" {
			return nil
		}
	}
	return errors.New("it asks too many questions")
}

// registrations finds the address with which rclone tells of its registrations.
var registrations = regexp.MustCompile(`https://\S+`)

// answer answers a question: as the owner's settings do, or with rclone's default.
func (w *walk) answer(o *fs.Option) (string, error) {
	if given, ok := w.answers[o.Name]; ok {
		return given, nil
	}
	if given, ok := w.settings.Get(o.Name); ok && given != "" {
		return given, nil
	}
	if o.Name == "config_shared_client_id" {
		w.notes = append(w.notes, "rclone's registration with this cloud is being retired and may not work: then a client id of your own is needed, see "+registrations.FindString(o.Help))
		return "true", nil
	}
	usual := fmt.Sprint(o.Default)
	if o.Default == nil || usual == "" && o.Required {
		question, _, _ := strings.Cut(o.Help, "\n")
		return "", &fault.Fault{Kind: fault.Settings, What: fmt.Sprintf("the cloud asks for %q", question), Do: fmt.Sprintf("add %s=… to the remote", o.Name)}
	}
	return usual, nil
}

// pageURL is the page, with a challenge that only this process can meet.
func (w *walk) pageURL() string {
	options := append([]oauth2.AuthCodeOption{oauth2.S256ChallengeOption(w.verifier)}, w.options.OAuth2Opts...)
	if !w.options.NoOffline {
		options = append(options, oauth2.AccessTypeOffline)
	}
	return w.config.MakeOauth2Config().AuthCodeURL(w.state, options...)
}

// deviceURL is where a code for another machine is asked for; empty where the cloud
// has no such thing.
func deviceURL(authURL string) string {
	u, err := url.Parse(authURL)
	if err != nil {
		return ""
	}
	switch {
	case u.Host == "accounts.google.com":
		return "https://oauth2.googleapis.com/device/code"
	case strings.HasPrefix(u.Host, "login.microsoftonline.") || strings.HasPrefix(u.Host, "login.chinacloudapi."):
		return strings.Replace(authURL, "/authorize", "/devicecode", 1)
	}
	return ""
}

// askDevice asks for a code that the owner types elsewhere.
func (w *walk) askDevice() error {
	config := w.config.MakeOauth2Config()
	config.Endpoint.DeviceAuthURL = deviceURL(config.Endpoint.AuthURL)
	if config.Endpoint.DeviceAuthURL == "" {
		return &fault.Fault{Kind: fault.Settings, What: "this cloud gives no codes for other machines", Do: "open the page in any browser and paste the address back to which it leads"}
	}
	var err error
	w.device, err = config.DeviceAuth(w.httpContext(w.ctx))
	return err
}

// httpContext is for oauth2, which takes its client from there.
func (w *walk) httpContext(ctx context.Context) context.Context {
	return oauthutil.Context(fs.CopyConfig(ctx, w.ctx), fshttp.NewClient(w.ctx))
}

// EndSignIn takes what came back and makes settings of it.
func (c *cloud) EndSignIn(ctx context.Context, answer plugins.SignInAnswer) (map[string]string, error) {
	c.mu.Lock()
	w := c.walk
	c.walk = nil // a state is good for one answer
	c.mu.Unlock()
	if w == nil {
		return nil, &fault.Fault{Kind: fault.Broken, What: "nobody is signing in", Do: "begin again"}
	}
	token, err := w.token(ctx, answer)
	if err == nil {
		err = oauthutil.PutToken("locker", w.mapper(), token, true)
	}
	if err == nil && w.next != "" {
		err = w.run(fs.ConfigIn{State: w.next})
	}
	if err != nil {
		return nil, w.fault(ctx, err)
	}
	changed := map[string]string{}
	for key, value := range w.settings.kv {
		if w.given[key] != value && value != "" {
			changed[key] = value
		}
	}
	return changed, nil
}

// token gets the token for what came back.
func (w *walk) token(ctx context.Context, answer plugins.SignInAnswer) (*oauth2.Token, error) {
	switch {
	case answer.Token != "":
		token := new(oauth2.Token)
		if err := json.Unmarshal([]byte(answer.Token), token); err != nil || token.AccessToken == "" {
			return nil, &fault.Fault{Kind: fault.Settings, What: "that is no token", Do: "paste the whole line with access_token in it"}
		}
		return token, nil
	case w.device != nil:
		config := w.config.MakeOauth2Config()
		return config.DeviceAccessToken(w.httpContext(ctx), w.device)
	}
	query, err := url.ParseQuery(answer.Query)
	if err != nil {
		return nil, err
	}
	if subtle.ConstantTimeCompare([]byte(query.Get("state")), []byte(w.state)) != 1 {
		return nil, &fault.Fault{Kind: fault.Denied, What: "what came back belongs to another sign-in", Do: "begin again, and use the newest page"}
	}
	if why := query.Get("error"); why != "" {
		return nil, &fault.Fault{Kind: fault.Denied, What: fmt.Sprintf("the cloud says %.100q %.200s", why, query.Get("error_description")), Do: "sign in again and allow it"}
	}
	code := query.Get("code")
	if code == "" {
		return nil, &fault.Fault{Kind: fault.Denied, What: "what came back holds no code", Do: "paste the whole address to which the page led"}
	}
	if w.options.CheckAuth != nil {
		if err := w.options.CheckAuth(w.config, &oauthutil.AuthResult{OK: true, Code: code, Form: query}); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(w.httpContext(ctx), time.Minute)
	defer cancel()
	return w.config.MakeOauth2Config().Exchange(ctx, code, oauth2.VerifierOption(w.verifier))
}

// fault says what an error of a sign-in means.
func (w *walk) fault(ctx context.Context, err error) error {
	if errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	return (&opened{clean: w.clean}).fault(ctx, err, atSignIn)
}
