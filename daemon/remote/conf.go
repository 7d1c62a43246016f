package remote

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// maxConf bounds the size of rclone.conf, in bytes.
const maxConf = 4 << 20

// RcloneConfig reads the settings of one remote from the owner's rclone.conf. That
// file is where RCLONE_CONFIG says, or else in rclone's usual places. Remotes can be
// defined by the environment too, as rclone allows: RCLONE_CONFIG_NAME_KEY=value.
func RcloneConfig(name string) (map[string]string, error) {
	env := environmentRemote(name, os.Environ())
	path := rcloneConf(os.Getenv, exists)
	if path == "" {
		if len(env) > 0 {
			return env, nil
		}
		return nil, errors.New("rclone has no settings here: make some with 'rclone config', or set RCLONE_CONFIG to the path of rclone.conf")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("rclone's settings cannot be read: %w", err)
	}
	defer f.Close()
	section, err := readConf(f, name)
	if err != nil && !errors.Is(err, errNoSection) {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(section)+len(env) == 0 {
		return nil, fmt.Errorf("%s: there is no remote %q: 'rclone listremotes' lists them", path, name)
	}
	return withOptions(section, env), nil
}

func exists(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// rcloneConf is the path of rclone.conf; empty if there is none. The order of places
// is rclone's.
func rcloneConf(env func(string) string, exists func(string) bool) string {
	if path := env("RCLONE_CONFIG"); path != "" {
		return path // also if it is not there: the owner named it
	}
	var places []string
	add := func(dir string, parts ...string) {
		if dir != "" {
			places = append(places, filepath.Join(append([]string{dir}, parts...)...))
		}
	}
	home := env("HOME")
	if runtime.GOOS == "windows" {
		add(env("APPDATA"), "rclone", "rclone.conf")
		home = env("USERPROFILE")
	}
	add(env("XDG_CONFIG_HOME"), "rclone", "rclone.conf")
	add(home, ".config", "rclone", "rclone.conf")
	add(home, ".rclone.conf")
	for _, place := range places {
		if exists(place) {
			return place
		}
	}
	return ""
}

// environmentRemote collects the settings of a remote from the environment.
func environmentRemote(name string, environ []string) map[string]string {
	prefix := "RCLONE_CONFIG_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_")) + "_"
	out := map[string]string{}
	for _, line := range environ {
		key, value, _ := strings.Cut(line, "=")
		if key, ok := strings.CutPrefix(key, prefix); ok && key != "" {
			out[strings.ToLower(key)] = value
		}
	}
	return out
}

var errNoSection = errors.New("no such remote")

// errEncrypted is told of a file that rclone encrypted.
var errEncrypted = errors.New("it is encrypted: Locker does not ask for rclone's password. " +
	"Write the remote out instead, as rclone::BACKEND,key=value:PATH, in a file for --remote-file, " +
	"or remove the password with 'rclone config encryption remove'")

// readConf reads one section of a file in rclone's format: lines [name], and below
// each, lines key = value. Lines that begin with # or ; are comments. The last of two
// sections or keys of the same name counts. Secrets are left as they are: obscured.
func readConf(r io.Reader, name string) (map[string]string, error) {
	lines := bufio.NewScanner(io.LimitReader(r, maxConf))
	lines.Buffer(nil, maxConf)
	section, found := map[string]string{}, false
	inside := false
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(strings.TrimPrefix(lines.Text(), "\ufeff"))
		switch {
		case strings.HasPrefix(line, "RCLONE_ENCRYPT_V"):
			return nil, errEncrypted
		case line == "" || line[0] == '#' || line[0] == ';':
		case line[0] == '[':
			title, ok := strings.CutSuffix(line[1:], "]")
			if !ok {
				return nil, fmt.Errorf("line %d: a %q is missing", n, "]")
			}
			inside = strings.TrimSpace(title) == name
			found = found || inside
		case inside:
			key, value, ok := cutSetting(line)
			if !ok {
				return nil, fmt.Errorf("line %d: it is no setting: write key = value", n)
			}
			section[key] = value
		}
	}
	switch err := lines.Err(); {
	case err != nil:
		return nil, err
	case !found:
		return nil, errNoSection
	}
	return section, nil
}

// cutSetting splits a line at its first "=" or ":". A value may be in backquotes or in
// double quotes.
func cutSetting(line string) (key, value string, ok bool) {
	i := strings.IndexAny(line, "=:")
	if i < 1 {
		return "", "", false
	}
	key, value = strings.TrimSpace(line[:i]), strings.TrimSpace(line[i+1:])
	for _, quote := range []string{"`", `"""`} {
		if inner, cut := strings.CutPrefix(value, quote); cut {
			if inner, cut = strings.CutSuffix(inner, quote); cut {
				value = inner
			}
		}
	}
	return key, value, key != ""
}

// existing tells how a file that the settings name cannot be used; nil if it can.
func existing(path string) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return errors.New("there is no such file")
	}
	if err != nil {
		return plain(err)
	}
	if info.IsDir() {
		return errors.New("it is a folder")
	}
	f, err := os.Open(path)
	if err != nil {
		return plain(err)
	}
	return f.Close()
}
