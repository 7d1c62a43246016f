package remote

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

func parse(t *testing.T, text string) Spec {
	t.Helper()
	s, err := ParseSpec(text, func(string) (map[string]string, error) {
		return map[string]string{"type": "drive", "client_secret": "obscured", "token": "old"}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestKept(t *testing.T) {
	s := parse(t, "rclone::drive,token='{\"a\":1}':locker")
	for _, test := range []struct{ key, value, words string }{
		{"token", `{"a":2}`, ""},
		{"host_keys", "ssh-ed25519 AAAA", ""},
		{"host_keys", "ssh-ed25519 BBBB", "does not change"},
		{"host_keys", "ssh-ed25519 AAAA", ""}, // the same again
		{"url", "http://evil", "owner's"},
		{"bearer_token_command", "rm", "owner's"},
		{"override.http_proxy", "http://evil", "owner's"},
		{clearOption, "token", "owner's"},
		{"client_id", "x", "owner's"},
		{"token", strings.Repeat("x", mostKept+1), "bytes"},
	} {
		before := s.Options[test.key]
		kept, err := s.Kept(test.key, test.value)
		if test.words != "" {
			if err == nil || !strings.Contains(err.Error(), test.words) || kept.Options[test.key] != before {
				t.Errorf("%s: %v, now %.20q", test.key, err, kept.Options[test.key])
			}
			continue
		}
		if err != nil || kept.Options[test.key] != test.value || slices.Contains(kept.Clear, test.key) {
			t.Errorf("%s: %v, now %q, clear %q", test.key, err, kept.Options[test.key], kept.Clear)
		}
		s = kept
	}
	if _, err := parse(t, "dir:/x").Kept("token", "x"); err == nil {
		t.Error("a folder kept a token")
	}
	if _, err := s.SignedIn(map[string]string{"drive_id": "1", "client_id": "mine"}); err != nil {
		t.Error(err)
	}
	if _, err := s.SignedIn(map[string]string{"known_hosts_file": "/etc/passwd"}); err == nil {
		t.Error("a sign-in named a file")
	}
}

// TestSpecText: what Text writes, ParseSpec reads, and a named remote's other settings
// stay in the owner's file.
func TestSpecText(t *testing.T) {
	for _, text := range []string{
		"dir:/a/b", "rclone::drive:locker", "rclone::drive,scope=drive:a/b", "rclone::sftp,host=h,user='it''s, me:':x",
		"rclone:mine:locker", "rclone:mine,scope=drive:locker",
	} {
		s := parse(t, text)
		if s.Kind == KindRclone {
			var err error
			if s, err = s.SignedIn(map[string]string{"token": `{"access_token":"a,b:'c'"}`, "drive_id": "d"}); err != nil {
				t.Fatal(err)
			}
		}
		again := parse(t, s.Text())
		if again.Kind != s.Kind || again.Name != s.Name || again.Type != s.Type || again.Root != s.Root || !maps.Equal(again.Options, s.Options) {
			t.Errorf("%s became %s", text, s.Text())
		}
		if s.Name != "" && strings.Contains(s.Text(), "obscured") {
			t.Errorf("%s holds what the owner's file holds", s.Text())
		}
	}
}

func TestHostKeys(t *testing.T) {
	key := "AAAAC3NzaC1lZDI1NTE5AAAAIJ5uRbgcZ7r2kkSKrFEStj5MIzJzJqgxnSDrPXQHv7vX"
	s := Spec{Kind: KindRclone, Options: map[string]string{"host_keys": "ssh-ed25519 " + key + ",rsa !!"}}
	if got := s.HostKeys(); len(got) != 1 || !strings.HasPrefix(got[0], "ssh-ed25519 SHA256:") || len(got[0]) != len("ssh-ed25519 SHA256:")+43 {
		t.Errorf("the fingerprints are %q", got)
	}
	if got := (Spec{}).HostKeys(); got != nil {
		t.Errorf("none known: %q", got)
	}
}
