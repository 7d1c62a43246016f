package remote

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// hostKeysOption holds the keys of an SFTP server, as rclone writes them: a type, a
// blank and the key in base64, several with commas between.
const hostKeysOption = "host_keys"

// mostKept bounds how long a setting may be that a process hands back, in bytes.
const mostKept = 64 << 10

// renewed are the settings that a process may hand back: tokens and sessions that it
// renewed, and the keys of a server that it met for the first time. All others are the
// owner's: none may lead later processes elsewhere.
var renewed = []string{
	"token", "token_expiry", "access_token", "auth_token", "captcha_token", "refresh_token", "trust_token", "web_token",
	"client_access_token", "client_refresh_token", "client_salted_key_pass", "client_uid",
	"authorization", "authorization_expiry", "cookies", "master_key", "session_id", hostKeysOption,
}

// signedIn are the settings that may come of a sign-in beside those: which of several
// places in one account it is.
var signedIn = []string{"drive_id", "drive_type", "endpoint", "hostname", "root_folder_id", "team_drive", "client_id", "client_secret", "token_url"}

// Kept returns the spec with a setting that its process handed back, to be stored in
// place of s. The error says that the process may not change that setting. What an
// SFTP server's key is, a process may say once.
func (s Spec) Kept(key, value string) (Spec, error) {
	return s.keep(key, value, renewed)
}

// SignedIn returns the spec with the settings that came of a sign-in.
func (s Spec) SignedIn(settings map[string]string) (Spec, error) {
	may := slices.Concat(renewed, signedIn)
	var err error
	for _, key := range slices.Sorted(maps.Keys(settings)) {
		if s, err = s.keep(key, settings[key], may); err != nil {
			return s, err
		}
	}
	return s, nil
}

func (s Spec) keep(key, value string, may []string) (Spec, error) {
	switch {
	case s.Kind != KindRclone:
		return s, fmt.Errorf("%s has no settings", s)
	case !slices.Contains(may, key):
		return s, fmt.Errorf("the setting %.60q is the owner's", key)
	case len(value) > mostKept:
		return s, fmt.Errorf("the setting %s has %d bytes, more than %d", key, len(value), mostKept)
	case key == hostKeysOption && s.Options[key] != "" && s.Options[key] != value:
		return s, fmt.Errorf("the server's key is known: it does not change")
	}
	s.Options = withOptions(s.Options, map[string]string{key: value})
	s.Clear = slices.DeleteFunc(slices.Clone(s.Clear), func(k string) bool { return k == key })
	if !slices.Contains(s.Handed, key) {
		s.Handed = append(slices.Clone(s.Handed), key)
	}
	return s, nil
}

// HostKeys are the fingerprints of the keys by which an SFTP server is known, as
// OpenSSH prints them: "ssh-ed25519 SHA256:…". Nothing: none is known yet, or
// known_hosts_file names them.
func (s Spec) HostKeys() []string {
	var out []string
	for entry := range strings.SplitSeq(s.Options[hostKeysOption], ",") {
		kind, encoded, _ := strings.Cut(strings.Trim(entry, ` "`), " ")
		raw, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil || encoded == "" {
			continue
		}
		sum := sha256.Sum256(raw)
		out = append(out, kind+" SHA256:"+base64.RawStdEncoding.EncodeToString(sum[:]))
	}
	return out
}

// Text is the whole spec as [ParseSpec] reads it, credentials and all: it is a secret.
// What the owner's rclone.conf says of a named remote is left there.
func (s Spec) Text() string {
	if s.Kind != KindRclone {
		return s.String()
	}
	text := "rclone:" + s.Name
	if s.Name == "" {
		text = "rclone::" + s.Type
	}
	for _, key := range slices.Sorted(maps.Keys(s.Options)) {
		if s.Name == "" || slices.Contains(s.Clear, key) || slices.Contains(s.Handed, key) {
			text += "," + key + "=" + quoteOption(s.Options[key])
		}
	}
	return text + ":" + s.Root
}

// signers are the backends whose owners sign in with a browser.
var signers = []string{
	"box", "drive", "dropbox", "google cloud storage", "hidrive", "huaweidrive", "kdrive", "onedrive", "pcloud",
	"premiumizeme", "putio", "sharefile", "yandex", "zoho",
}

// instead are options that stand in for a sign-in.
var instead = []string{
	"token", "access_token", "client_credentials", "service_account_file", "service_account_credentials", "box_config_file",
	"config_credentials", "env_auth", "anonymous",
}

// NeedsSignIn says whether the owner has to sign in before the remote can be used.
func (s Spec) NeedsSignIn() bool {
	return s.Kind == KindRclone && slices.Contains(signers, s.Type) &&
		!slices.ContainsFunc(instead, func(option string) bool { return s.Options[option] != "" && s.Options[option] != "false" })
}
