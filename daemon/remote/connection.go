package remote

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"strings"
)

// A connection is a remote in rclone's notation, taken apart.
//
//	name:path                      a remote of the owner's rclone.conf
//	name,key=value,…:path          the same, with some settings changed
//	:backend,key=value,…:path      a remote that is in no file
//
// A value ends before the next "," or ":", or it is in quotes, ' or ", in which the
// quote itself is doubled. A key without a value means "true".
type connection struct {
	name    string // without the leading colon
	onFly   bool   // there was a leading colon: name is the kind of backend
	options map[string]string
	path    string
}

// connectionName is what rclone allows as the name of a remote.
var connectionName = regexp.MustCompile(`^[\w\p{L}\p{N}.+@]+(?:[ -]+[\w\p{L}\p{N}.+@-]+)*$`)

var optionName = regexp.MustCompile(`^[0-9A-Za-z_.]+$`)

// maxSpec bounds the length of a spec, in bytes.
const maxSpec = 64 << 10

// parseConnection takes rclone's notation apart. Its errors repeat nothing of the
// text but names of settings, since the rest may be secret.
func parseConnection(s string) (c connection, err error) {
	if len(s) > maxSpec {
		return c, errors.New("it is too long")
	}
	rest, onFly := strings.CutPrefix(s, ":")
	end := strings.IndexAny(rest, ",:")
	if end < 0 {
		return c, errors.New(`a ":" is missing after the name of the remote`)
	}
	c = connection{name: rest[:end], onFly: onFly, options: map[string]string{}}
	if !connectionName.MatchString(c.name) {
		return c, errors.New("the name of a remote is made of letters, digits, _ - . + @ and blanks, and does not begin with - or a blank")
	}
	for rest = rest[end:]; rest[0] == ','; {
		if rest, err = c.option(rest[1:]); err != nil {
			return connection{}, err
		}
	}
	c.path = strings.TrimPrefix(rest, ":")
	return c, nil
}

// option reads one key and its value, and returns what is after it, which begins with
// "," or ":".
func (c *connection) option(s string) (rest string, err error) {
	end := strings.IndexAny(s, "=,:")
	if end < 0 {
		return "", errors.New(`after the settings of a remote comes a ":" and the path there`)
	}
	key, rest := s[:end], s[end:]
	if key == "" {
		return "", errors.New("a setting has no name")
	}
	if !optionName.MatchString(key) {
		return "", errors.New("the name of a setting is made of letters, digits, dots and _")
	}
	value := "true"
	if rest[0] == '=' {
		if value, rest, err = optionValue(rest[1:]); err != nil {
			return "", fmt.Errorf("the setting %s: %w", key, err)
		}
	}
	c.options[key] = value
	return rest, nil
}

// optionValue reads a value, quoted or not.
func optionValue(s string) (value, rest string, err error) {
	if s == "" || (s[0] != '\'' && s[0] != '"') {
		end := strings.IndexAny(s, ",:")
		if end < 0 {
			return "", "", errors.New(`its value must end with "," or ":"; put one that holds these into quotes`)
		}
		if strings.HasPrefix(s[end:], "://") { // all that follows would be the path, and shown
			return "", "", errors.New("put a value that is an address into quotes")
		}
		return s[:end], s[end:], nil
	}
	quote := s[:1]
	var b strings.Builder
	for s = s[1:]; ; {
		end := strings.Index(s, quote)
		if end < 0 {
			return "", "", errors.New("the closing quote is missing")
		}
		b.WriteString(s[:end])
		s = s[end+1:]
		switch {
		case strings.HasPrefix(s, quote): // a doubled quote
			b.WriteString(quote)
			s = s[1:]
		case strings.HasPrefix(s, ",") || strings.HasPrefix(s, ":"):
			return b.String(), s, nil
		default:
			return "", "", errors.New(`after the closing quote comes "," or ":"; double a quote that belongs to the value`)
		}
	}
}

// withOptions returns the settings of a remote with some of them changed.
func withOptions(base, change map[string]string) map[string]string {
	out := map[string]string{}
	maps.Copy(out, base)
	maps.Copy(out, change)
	return out
}
