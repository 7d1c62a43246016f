package remote

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/locker-project/locker/daemon/remote/fault"
)

// The kinds of a [Spec].
const (
	KindFolder = "dir"
	KindRclone = "rclone"
)

// A Spec says where a remote is. What ParseSpec returned can be kept as JSON, which
// then holds the credentials and must be kept as a secret; String holds none.
type Spec struct {
	// Kind is KindFolder or KindRclone.
	Kind string `json:"kind"`
	// Name is that of the remote in rclone.conf; empty for others.
	Name string `json:"name,omitempty"`
	// Type is rclone's name of the backend, such as "webdav".
	Type string `json:"type,omitempty"`
	// Root is the folder or bucket in which the objects lie; of a folder, its
	// absolute path.
	Root string `json:"root"`
	// Options are the backend's own.
	Options map[string]string `json:"options,omitempty"`
	// Clear are the names of the options that the owner typed, whose passwords
	// are as they are. Passwords in rclone.conf are obscured.
	Clear []string `json:"clear,omitempty"`
	// Handed are the names of the options that the process handed back, see Kept.
	Handed []string `json:"handed,omitempty"`
	// Files are the files that the options name, with their absolute paths: the
	// process must be let to read them.
	Files []string `json:"files,omitempty"`
}

// clearOption is the option by which the process is told which are in clear.
const clearOption = "locker_clear"

// fileOptions are the options of all backends that name a file.
var fileOptions = []string{
	"box_config_file", "client_certificate_path", "config_file", "kerberos_ccache", "key_file", "known_hosts_file",
	"pubkey_file", "service_account_file", "service_principal_file", "shared_credentials_file", "sse_customer_key_file",
	"override.ca_cert", "override.client_cert", "override.client_key",
}

// publicOptions are shown by String.
var publicOptions = []string{"url", "host", "endpoint", "provider", "region", "vendor"}

// ParseSpec reads what the owner typed: dir:PATH, or rclone: and a remote in rclone's
// notation, rclone:NAME:PATH or rclone::BACKEND,key=value,…:PATH. lookup finds the
// settings of a named remote, as [RcloneConfig] does; nil knows none.
//
// Unlike rclone, the notation takes passwords in clear. The errors hold no secret.
func ParseSpec(s string, lookup func(name string) (map[string]string, error)) (Spec, error) {
	s = strings.TrimSpace(s)
	kind, rest, ok := strings.Cut(s, ":")
	switch {
	case ok && kind == KindFolder:
		return folderSpec(rest)
	case ok && kind == KindRclone:
		spec, err := rcloneSpec(rest, lookup)
		if err != nil {
			return Spec{}, &fault.Fault{Kind: fault.Settings, What: err.Error(),
				Do: "write rclone:NAME:PATH, or rclone::BACKEND,key=value:PATH with values that hold , or : in quotes", Err: err}
		}
		return spec, nil
	}
	return Spec{}, &fault.Fault{Kind: fault.Settings, What: "that is no remote", Do: "write dir:PATH, or rclone: and a remote of rclone"}
}

func folderSpec(path string) (Spec, error) {
	path, err := expand(path)
	if err == nil && path == "" {
		err = errors.New("the folder has no path")
	}
	if err == nil && strings.ContainsRune(path, 0) {
		err = errors.New("the path of the folder holds a zero byte")
	}
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return Spec{}, &fault.Fault{Kind: fault.Settings, What: err.Error(), Do: "write dir:PATH", Err: err}
	}
	return Spec{Kind: KindFolder, Root: path}, nil
}

func rcloneSpec(s string, lookup func(string) (map[string]string, error)) (Spec, error) {
	c, err := parseConnection(s)
	if err != nil {
		return Spec{}, err
	}
	spec := Spec{Kind: KindRclone, Root: c.path, Options: c.options, Clear: slices.Sorted(maps.Keys(c.options))}
	if c.onFly {
		spec.Type = c.name
	} else {
		if lookup == nil {
			return Spec{}, fmt.Errorf("there is no remote %q", c.name)
		}
		base, err := lookup(c.name)
		if err != nil {
			return Spec{}, err
		}
		spec.Name, spec.Options = c.name, withOptions(base, c.options)
		spec.Type = spec.Options["type"]
		delete(spec.Options, "type")
		if spec.Type == "" {
			return Spec{}, fmt.Errorf("the settings of the remote %q have no type", c.name)
		}
	}
	if _, ok := spec.Options[clearOption]; ok {
		return Spec{}, fmt.Errorf("there is no setting %s", clearOption)
	}
	return spec, spec.findFiles()
}

// findFiles makes the paths in the options absolute and collects them.
func (s *Spec) findFiles() error {
	for _, option := range fileOptions {
		value := strings.TrimPrefix(s.Options[option], "FILE:") // as Kerberos writes it
		if value == "" || (option == "known_hosts_file" && value == "none") {
			continue
		}
		path, err := expand(value)
		if err == nil && !filepath.IsAbs(path) {
			err = errors.New("write its whole path")
		}
		if err == nil {
			err = existing(path)
		}
		if err != nil {
			return fmt.Errorf("the file %q of the setting %s cannot be used: %w", value, option, err)
		}
		s.Options[option] = path
		s.Files = append(s.Files, path)
	}
	slices.Sort(s.Files)
	s.Files = slices.Compact(s.Files)
	return nil
}

// expand replaces ~ and ~/ at the beginning of a path by the owner's folder.
func expand(path string) (string, error) {
	rest, ok := strings.CutPrefix(path, "~")
	if !ok || (rest != "" && rest[0] != '/' && rest[0] != filepath.Separator) {
		return path, nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", errors.New("it is not known where ~ is: write the whole path")
	}
	return filepath.Join(home, rest), nil
}

// Prepare makes the place ready where that is Locker's to do: of a folder, see
// [PrepareFolder]. It is called when the owner adds the remote and at no other time.
func (s Spec) Prepare() error {
	if s.Kind == KindFolder {
		return PrepareFolder(s.Root)
	}
	return nil
}

// A Config is what the process is told. It is plugins.RemoteConfig by another name.
type Config struct {
	Type    string
	Root    string
	Options map[string]string
	Known   bool
	Keep    func(ctx context.Context, key, value string) error
}

// Config is what the process is told; it holds the credentials. keep takes settings that
// the process hands back, see [Spec.Kept]; nil drops them.
func (s Spec) Config(keep func(ctx context.Context, key, value string) error) Config {
	options := withOptions(s.Options, nil)
	if len(s.Clear) > 0 {
		options[clearOption] = strings.Join(s.Clear, ",")
	}
	return Config{Type: s.Type, Root: s.Root, Options: options, Keep: keep}
}

// String is the spec for people, without what is or could be secret: "…" stands for
// options that are not shown.
func (s Spec) String() string {
	switch {
	case s.Kind == KindFolder:
		return "dir:" + s.Root
	case s.Kind != KindRclone:
		return "no remote"
	}
	head, shown, hidden := "rclone:"+s.Name, []string(nil), len(s.Clear) > 0
	if s.Name == "" {
		head, hidden = "rclone::"+s.Type, false
		for _, key := range slices.Sorted(maps.Keys(s.Options)) {
			if !slices.Contains(publicOptions, key) {
				hidden = true
				continue
			}
			shown = append(shown, key+"="+quoteOption(public(s.Options[key])))
		}
	}
	if hidden {
		shown = append(shown, "…")
	}
	return strings.Join(append([]string{head}, shown...), ",") + ":" + s.Root
}

// GoString is String, so that no way of printing shows a secret.
func (s Spec) GoString() string { return s.String() }

// LogValue is String, so that no log holds a secret.
func (s Spec) LogValue() slog.Value { return slog.StringValue(s.String()) }

// public removes user, password, query and fragment from an address.
func public(value string) string {
	u, err := url.Parse(value)
	if err != nil {
		return "…"
	}
	if u.Scheme == "" || u.Opaque != "" {
		if strings.ContainsAny(value, "@?#") {
			return "…"
		}
		return value
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}

// quoteOption puts a value into quotes if it must be.
func quoteOption(value string) string {
	if value != "" && !strings.ContainsAny(value, `,:'"`) {
		return value
	}
	return "'" + strings.ReplaceAll(value, "'", "''") + "'"
}
