package remotetest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// Clouds are the servers of clouds, as far as signing in goes, under their own names:
// a proxy for HTTP that answers for all of them, with certificates of an authority of
// its own.
type Clouds struct {
	Proxy     string // address of the proxy, for override.http_proxy
	Authority string // file with the authority's certificate, for override.ca_cert
	Pool      *x509.CertPool

	Sign *Sign // who signs in
	// API answers what is no question of signing in and has a good token; nil: nothing is
	// there.
	API http.Handler

	key       *ecdsa.PrivateKey
	authority *x509.Certificate
}

// NewClouds starts clouds that end with the test.
func NewClouds(t testing.TB) *Clouds {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "clouds"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	c := &Clouds{key: key, authority: template, Pool: x509.NewCertPool(), Authority: filepath.Join(t.TempDir(), "authority.pem"), Sign: newSign()}
	encoded := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw})
	c.Pool.AppendCertsFromPEM(encoded)
	writeFile(t, c.Authority, string(encoded))
	server := httptest.NewServer(http.HandlerFunc(c.connect))
	t.Cleanup(server.Close)
	c.Proxy = server.URL
	return c
}

// Options are those with which a remote reaches these clouds.
func (c *Clouds) Options() string {
	return fmt.Sprintf("override.http_proxy='%s',override.ca_cert='%s'", c.Proxy, c.Authority)
}

// Browser is a client that reaches these clouds, and this computer, as a browser would.
func (c *Clouds) Browser() *http.Client {
	proxy, _ := url.Parse(c.Proxy)
	return &http.Client{Transport: &http.Transport{
		Proxy: func(r *http.Request) (*url.URL, error) {
			if ip := net.ParseIP(r.URL.Hostname()); r.URL.Hostname() == "localhost" || ip != nil && ip.IsLoopback() {
				return nil, nil
			}
			return proxy, nil
		},
		TLSClientConfig: &tls.Config{RootCAs: c.Pool, MinVersion: tls.VersionTLS12},
	}}
}

// certificate makes one for a host.
func (c *Clouds) certificate(host string) (*tls.Certificate, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, c.authority, &c.key.PublicKey, c.key)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: c.key}, nil
}

// connect is the proxy: it answers for the host that it was to connect to.
func (c *Clouds) connect(w http.ResponseWriter, r *http.Request) {
	host, _, err := net.SplitHostPort(r.Host)
	if r.Method != http.MethodConnect || err != nil {
		http.Error(w, "only CONNECT", http.StatusBadRequest)
		return
	}
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	_, _ = conn.Write([]byte("HTTP/1.1 200 OK\r\n\r\n"))
	certificate, err := c.certificate(host)
	if err != nil {
		conn.Close()
		return
	}
	secure := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{*certificate}, MinVersion: tls.VersionTLS12})
	server := &http.Server{Handler: http.HandlerFunc(c.answer), ReadHeaderTimeout: 10 * time.Second}
	_ = server.Serve(&oneConn{conn: secure, closed: make(chan struct{})})
}

// A oneConn is a listener with one connection.
type oneConn struct {
	conn   net.Conn
	once   sync.Once
	closed chan struct{}
}

func (l *oneConn) Accept() (net.Conn, error) {
	var c net.Conn
	l.once.Do(func() { c = &closingConn{l.conn, l.closed, &sync.Once{}} })
	if c != nil {
		return c, nil
	}
	<-l.closed
	return nil, net.ErrClosed
}

func (l *oneConn) Close() error   { return nil }
func (l *oneConn) Addr() net.Addr { return l.conn.LocalAddr() }

type closingConn struct {
	net.Conn
	closed chan struct{}
	once   *sync.Once
}

func (c *closingConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// answer is what the clouds say.
func (c *Clouds) answer(w http.ResponseWriter, r *http.Request) {
	switch {
	case c.Sign.serve(w, r):
	case c.API == nil:
		http.NotFound(w, r)
	case !c.Sign.knows(r) && !open(r):
		writeJSON(w, http.StatusUnauthorized, map[string]any{"error_summary": "expired_access_token/..", "error": map[string]string{".tag": "expired_access_token", "code": "InvalidAuthenticationToken"}})
	default:
		c.API.ServeHTTP(w, r)
	}
}

// open says that a request needs no token: to wait for changes, on Dropbox.
func open(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/longpoll") }

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

// A Sign is how owners sign in: the pages and tokens of OAuth 2, for any cloud. Every
// token that renews is good for once, as on the strictest clouds.
type Sign struct {
	// Deny makes the owner say no. Lifetime is that of a token.
	Deny     bool
	Lifetime time.Duration
	// Extra is added to what the page leads back with.
	Extra url.Values
	// Secret is the client_secret that is asked for where a client_id is "mine".
	Secret string

	mu      sync.Mutex
	pages   map[string]url.Values // by code
	renew   map[string]bool       // tokens that renew
	access  map[string]time.Time  // tokens that are good, and until when
	granted int
	renewed int
	allowed map[string]bool // codes of devices that the owner allowed
	last    url.Values
}

func newSign() *Sign {
	return &Sign{Lifetime: time.Hour, pages: map[string]url.Values{}, renew: map[string]bool{}, access: map[string]time.Time{}, allowed: map[string]bool{}}
}

// Count is how many tokens were granted to owners, and how many renewed.
func (s *Sign) Count() (granted, renewed int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.granted, s.renewed
}

// Page is what the page shown last was asked for.
func (s *Sign) Page() url.Values {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

// Expire makes all tokens expire that do not renew.
func (s *Sign) Expire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.access)
}

// Allow is the owner who types a device's code.
func (s *Sign) Allow(code string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.allowed[code] = true
}

// knows says whether a request has a good token.
func (s *Sign) knows(r *http.Request) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	const bearer = "Bearer "
	header := r.Header.Get("Authorization")
	return len(header) > len(bearer) && time.Now().Before(s.access[header[len(bearer):]])
}

// serve answers questions of signing in, and says whether this was one.
func (s *Sign) serve(w http.ResponseWriter, r *http.Request) bool {
	_ = r.ParseForm()
	switch {
	case r.Method == http.MethodGet && r.Form.Has("client_id") && r.Form.Has("redirect_uri"):
		s.page(w, r)
	case r.Method == http.MethodPost && r.PostForm.Has("grant_type"):
		s.token(w, r)
	case r.Method == http.MethodPost && r.PostForm.Has("client_id") && !r.PostForm.Has("code"):
		s.device(w, r)
	default:
		return false
	}
	return true
}

func random() string {
	b := make([]byte, 24)
	_, _ = rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)
}

// page is the owner who says yes or no.
func (s *Sign) page(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = r.Form
	back := url.Values{"state": {r.Form.Get("state")}}
	for key, values := range s.Extra {
		back[key] = values
	}
	if s.Deny {
		back.Set("error", "access_denied")
	} else {
		code := random()
		s.pages[code] = r.Form
		back.Set("code", code)
	}
	http.Redirect(w, r, r.Form.Get("redirect_uri")+"?"+back.Encode(), http.StatusFound)
}

func (s *Sign) refuse(w http.ResponseWriter, why string) {
	writeJSON(w, http.StatusBadRequest, map[string]string{"error": why})
}

// token grants or renews.
func (s *Sign) token(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := r.PostForm
	id, secret, ok := r.BasicAuth()
	if !ok {
		id, secret = f.Get("client_id"), f.Get("client_secret")
	}
	if id == "mine" && secret != s.Secret {
		s.refuse(w, "invalid_client")
		return
	}
	switch f.Get("grant_type") {
	case "authorization_code":
		page := s.pages[f.Get("code")]
		delete(s.pages, f.Get("code"))
		sum := sha256.Sum256([]byte(f.Get("code_verifier")))
		if page == nil || page.Get("code_challenge_method") != "S256" || page.Get("code_challenge") != base64.RawURLEncoding.EncodeToString(sum[:]) ||
			page.Get("redirect_uri") != f.Get("redirect_uri") || page.Get("client_id") != id {
			s.refuse(w, "invalid_grant")
			return
		}
	case "refresh_token":
		if !s.renew[f.Get("refresh_token")] {
			s.refuse(w, "invalid_grant")
			return
		}
		delete(s.renew, f.Get("refresh_token"))
		s.renewed++
	case "urn:ietf:params:oauth:grant-type:device_code":
		if !s.allowed[f.Get("device_code")] {
			s.refuse(w, "authorization_pending")
			return
		}
	default:
		s.refuse(w, "unsupported_grant_type")
		return
	}
	if f.Get("grant_type") != "refresh_token" {
		s.granted++
	}
	access, renew := random(), random()
	s.access[access], s.renew[renew] = time.Now().Add(s.Lifetime), true
	writeJSON(w, http.StatusOK, map[string]any{"access_token": access, "refresh_token": renew, "token_type": "bearer", "expires_in": int(s.Lifetime.Seconds())})
}

// device gives a code for another machine. The owner types the same code that the
// device waits with.
func (s *Sign) device(w http.ResponseWriter, _ *http.Request) {
	code := random()
	writeJSON(w, http.StatusOK, map[string]any{"device_code": code, "user_code": code, "verification_uri": "https://cloud.example/device", "expires_in": 600, "interval": 1})
}
