package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/fs/config/configmap"
	"github.com/rclone/rclone/fs/config/obscure"
	"github.com/rclone/rclone/fs/fshttp"

	"github.com/locker-project/locker/daemon/remote/fault"
	"github.com/locker-project/locker/plugins"
)

// clearOption names, with commas between, the options whose passwords are in clear.
// All others are obscured already, as in rclone.conf.
const clearOption = "locker_clear"

// refused are the backends that cannot be used, each with what to do instead.
var refused = map[string]string{
	"local":    "write dir:PATH for a folder of this computer",
	"memory":   "it forgets everything; name another place",
	"alias":    "name the remote behind it",
	"archive":  "name the remote behind it",
	"cache":    "name the remote behind it",
	"chunker":  "name the remote behind it",
	"combine":  "name one of the remotes behind it",
	"compress": "name the remote behind it",
	"crypt":    "name the remote behind it: Locker seals all that it stores itself",
	"hasher":   "name the remote behind it",
	"union":    "name one of the remotes behind it, or add each of them",
}

// refusedOptions run a program, or reach beyond the network.
var refusedOptions = map[string]string{
	"bearer_token_command": "write bearer_token instead: no program can be run",
	"ssh":                  "leave it out: rclone's own ssh is used, and no program can be run",
	"unix_socket":          "write url instead: sockets of this computer cannot be reached",
	"key_use_agent":        "write key_file or pass instead: the agent of ssh cannot be reached",
	"ask_password":         "write pass instead: nobody can be asked",
	"use_az":               "write account and key instead: no program can be run",
}

// usual are settings that this use of a backend wants, unless the owner sets them.
var usual = map[string]map[string]string{
	// No commands in a shell of the server's, and no times: names are opaque and
	// contents are checked by their seal.
	"sftp": {"disable_hashcheck": "true", "shell_type": "none", "set_modtime": "false"},
	// An object is put when it is put, and not half a second later with others.
	"dropbox": {"batch_mode": "off"},
	// One request for a put, whose content the server checks against a hash that goes
	// with it, and one for a get.
	"s3": {"no_head": "true", "no_head_object": "true"},
}

// Options of SFTP by which a server is known.
const (
	knownHosts = "known_hosts_file"
	hostKeys   = "host_keys"
	pinHostKey = "pin_host_key"
)

// meet has an SFTP server's key kept when it is met for the first time, where the
// owner did not say how it is known. Without this rclone would trust any server.
func (s *settings) meet() {
	if s.kv[knownHosts] == "" && s.kv[hostKeys] == "" {
		s.kv[pinHostKey] = "true"
	} else {
		delete(s.kv, pinHostKey)
	}
}

// settings are those of an opened remote, as rclone reads and writes them. What
// changes, such as a token that is renewed, is handed to keep.
type settings struct {
	keep func(ctx context.Context, key, value string) error // nil: it lives on in here alone

	mu sync.Mutex
	kv map[string]string
}

// keepPatience is how long the host may take to keep a setting.
const keepPatience = 20 * time.Second

func (s *settings) Get(key string) (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.kv[key]
	return v, ok
}

// Set returns when the setting is kept: some clouds take a token back once a newer one
// was given, and so it must not be lost. That the host refuses to keep one is no error:
// rclone sets some that are of no use later.
func (s *settings) Set(key, value string) {
	s.mu.Lock()
	same := s.kv[key] == value
	s.kv[key] = value
	s.mu.Unlock()
	if s.keep == nil || same {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), keepPatience)
	defer cancel()
	_ = s.keep(ctx, key, value)
}

// secrets are the values that must not show in an error: all but those of which
// rclone says that they are public. Short ones cannot be told from ordinary text.
func (s *settings) secrets(info *fs.RegInfo) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for key, value := range s.kv {
		option := info.Options.Get(key)
		if len(value) >= 4 && (option == nil || option.IsPassword || option.Sensitive || key == "token" || key == "headers") {
			out = append(out, value)
		}
	}
	return out
}

// defaults are what a backend takes where nothing is set.
type defaults struct{ options fs.Options }

func (d defaults) Get(key string) (string, bool) {
	if o := d.options.Get(key); o != nil {
		return o.String(), true
	}
	return "", false
}

// find returns a backend that may be used.
func find(kind string) (*fs.RegInfo, error) {
	if do, ok := refused[kind]; ok {
		return nil, &fault.Fault{Kind: fault.Settings, What: fmt.Sprintf("rclone's %q is no place for a locker", kind), Do: do}
	}
	info, err := fs.Find(kind)
	if err != nil {
		return nil, &fault.Fault{Kind: fault.Settings, What: fmt.Sprintf("rclone has no backend %.40q", kind),
			Do: "'rclone help backends' lists them; the name of a remote of rclone.conf has no colon before it"}
	}
	return info, nil
}

// read checks the options for a backend and makes rclone's settings of them. secrets
// are what must not show in an error, passwords both obscured and not.
func read(info *fs.RegInfo, options map[string]string) (s *settings, secrets []string, err error) {
	s = &settings{kv: maps.Clone(usual[info.Name])}
	if s.kv == nil {
		s.kv = map[string]string{}
	}
	clear := strings.Split(options[clearOption], ",")
	for _, key := range slices.Sorted(maps.Keys(options)) {
		value := options[key]
		if key == clearOption || strings.HasPrefix(key, "override.") {
			continue
		}
		if do, ok := refusedOptions[key]; ok && value != "" && value != "false" {
			return nil, nil, &fault.Fault{Kind: fault.Settings, What: fmt.Sprintf("the setting %s cannot be used here", key), Do: do}
		}
		option := info.Options.Get(key)
		typed := slices.Contains(clear, key)
		if option == nil && typed {
			return nil, nil, &fault.Fault{Kind: fault.Settings, What: fmt.Sprintf("rclone's %s has no setting %.60q", info.Name, key),
				Do: fmt.Sprintf("'rclone help backend %s' lists them", info.Name)}
		}
		if option != nil && option.IsPassword && value != "" {
			other := ""
			if value, other, err = password(value, typed); err != nil {
				return nil, nil, &fault.Fault{Kind: fault.Settings, What: fmt.Sprintf("the setting %s is not obscured as rclone does it", key), Do: "set it anew with 'rclone config'"}
			}
			secrets = append(secrets, other)
		}
		s.kv[key] = value
	}
	if info.Name == "sftp" {
		s.meet()
	}
	return s, append(secrets, s.secrets(info)...), nil
}

// password returns a password as rclone wants it, obscured, and as it is.
func password(value string, clear bool) (obscured, plain string, err error) {
	if clear {
		obscured, err = obscure.Obscure(value)
		return obscured, value, err
	}
	plain, err = obscure.Reveal(value)
	return value, plain, err
}

// configure returns a context with rclone's general configuration for this remote.
func configure(ctx context.Context, options map[string]string) (context.Context, error) {
	ctx, c := fs.AddConfig(ctx)
	c.AskPassword = false
	c.UserAgent = "locker"
	c.LowLevelRetries = 3 // of small requests; whole objects are tried again by Locker
	c.ConnectTimeout = fs.Duration(20 * time.Second)
	c.Timeout = fs.Duration(2 * time.Minute)
	c.Transfers, c.Checkers = 4, 4
	for _, key := range slices.Sorted(maps.Keys(options)) {
		name, ok := strings.CutPrefix(key, "override.")
		if !ok {
			continue
		}
		value := options[key]
		switch name {
		case "ca_cert":
			c.CaCert = []string{value}
		case "client_cert":
			c.ClientCert = value
		case "client_key":
			c.ClientKey = value
		case "client_pass":
			c.ClientPass = value
			if slices.Contains(strings.Split(options[clearOption], ","), key) {
				c.ClientPass = obscure.MustObscure(value)
			}
		case "http_proxy":
			c.HTTPProxy = value
		default:
			return nil, &fault.Fault{Kind: fault.Settings, What: fmt.Sprintf("the setting override.%.40s cannot be used here", name),
				Do: "ca_cert, client_cert, client_key, client_pass and http_proxy can"}
		}
	}
	return ctx, checkCertificates(c)
}

// checkCertificates reads the files that rclone would end the process over.
func checkCertificates(c *fs.ConfigInfo) error {
	bad := func(option string, err error) error {
		return &fault.Fault{Kind: fault.Settings, What: fmt.Sprintf("the setting override.%s cannot be used: %v", option, err),
			Do: "name files with certificates and keys in PEM form", Err: err}
	}
	for _, path := range c.CaCert {
		pem, err := os.ReadFile(path)
		if err == nil && !x509.NewCertPool().AppendCertsFromPEM(pem) {
			err = errors.New("the file holds no certificate")
		}
		if err != nil {
			return bad("ca_cert", err)
		}
	}
	if (c.ClientCert == "") != (c.ClientKey == "") {
		return bad("client_cert", errors.New("client_cert and client_key belong together"))
	}
	if c.ClientCert != "" {
		if _, err := fshttp.LoadKeyPair(c.ClientCert, c.ClientKey, c.ClientPass); err != nil {
			return bad("client_cert", err)
		}
	}
	return nil
}

// construct calls the backend's constructor. The Fs keeps ctx and the settings.
func construct(ctx context.Context, info *fs.RegInfo, root string, s *settings) (fs.Fs, error) {
	m := configmap.New()
	m.AddGetter(s, configmap.PriorityNormal)
	m.AddGetter(defaults{info.Options}, configmap.PriorityDefault)
	m.AddSetter(s)
	f, err := info.NewFs(ctx, "locker", root, m)
	if errors.Is(err, fs.ErrorIsFile) {
		return nil, &fault.Fault{Kind: fault.Settings, What: "the path of the remote is a file, or the remote does not let us look", Do: "name a folder, and check the credentials", Err: err}
	}
	return f, err
}

// rootPath are the paths that make sense on every backend.
var rootPath = regexp.MustCompile(`^[^\x00-\x1f\x7f]*$`)

// Open connects. It lists the root once where that was never done, since some backends
// look at their credentials only when they need them.
func (c *cloud) Open(ctx context.Context, config plugins.RemoteConfig) error {
	info, err := find(config.Type)
	if err != nil {
		return err
	}
	return c.open(ctx, info, config)
}

func (c *cloud) open(ctx context.Context, info *fs.RegInfo, config plugins.RemoteConfig) error {
	if !rootPath.MatchString(config.Root) {
		return &fault.Fault{Kind: fault.Settings, What: "the path of the remote holds control characters", Do: "name another folder"}
	}
	s, secrets, err := read(info, config.Options)
	if err != nil {
		return err
	}
	s.keep = config.Keep
	// The remote outlives this call, and the Fs keeps its context.
	lasting, err := configure(context.WithoutCancel(ctx), config.Options)
	if err != nil {
		return err
	}
	o := &opened{ctx: lasting, clean: cleaner(secrets, config.Options)}
	if o.fs, err = construct(lasting, info, config.Root, s); err == nil && !config.Known {
		_, err = o.fs.List(o.with(ctx), "")
		if errors.Is(err, fs.ErrorDirNotFound) {
			err = nil // it is made by the first Put
		}
	}
	if err != nil {
		return o.fault(ctx, err, atOpen)
	}
	o.kind, o.move = info.Name, movesInPlace(info.Name, o.fs)
	o.duplicates = o.fs.Features().DuplicateFiles
	blind, _ := s.Get("no_head_object")
	o.blind = info.Name == "s3" && blind == "true"
	c.set(o)
	return nil
}

// movesInPlace says whether to upload under another name and rename: where a file that
// is being written can be seen, or where writing over one cuts it first.
func movesInPlace(kind string, f fs.Fs) bool {
	return f.Features().Move != nil && (f.Features().PartialUploads || kind == "webdav" || kind == "hdfs")
}
