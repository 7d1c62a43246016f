package remote

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/locker-project/locker/daemon/remote/fault"
)

// conf is a rclone.conf as rclone writes it.
const conf = `
[mycloud]
type = webdav
url = https://dav.example.org/remote.php/dav/files/alice/
vendor = nextcloud
user = alice
pass = hBGVqHRpOxxxxxxxobscuredxxxxxx

# a comment
; another one
[with blank]
type = s3
provider=Other
secret_access_key = a=b:c
empty =
description = ` + "`back quoted`" + `

[no type]
url = x

[mycloud2]
type = drive
token = {"access_token":"ya29.x","expiry":"2026-01-01T00:00:00Z"}
`

func lookup(name string) (map[string]string, error) { return readConf(strings.NewReader(conf), name) }

func TestParseSpec(t *testing.T) {
	for _, test := range []struct {
		in      string
		typ     string
		root    string
		options string
		text    string // String()
	}{
		{"dir:/mnt/usb/locker", "", "/mnt/usb/locker", "", "dir:/mnt/usb/locker"},
		{"dir:/mnt/a/../b/", "", "/mnt/b", "", "dir:/mnt/b"},
		{" dir:/mnt/with blank ", "", "/mnt/with blank", "", "dir:/mnt/with blank"},
		{"rclone:mycloud:locker", "webdav", "locker",
			"pass=hBGVqHRpOxxxxxxxobscuredxxxxxx url=https://dav.example.org/remote.php/dav/files/alice/ user=alice vendor=nextcloud", "rclone:mycloud:locker"},
		{"rclone:mycloud,user=bob,pass='x''y,:':a/b", "webdav", "a/b",
			"pass=x'y,: url=https://dav.example.org/remote.php/dav/files/alice/ user=bob vendor=nextcloud", "rclone:mycloud,…:a/b"},
		{"rclone:with blank:bucket/locker", "s3", "bucket/locker", "description=back quoted empty= provider=Other secret_access_key=a=b:c", "rclone:with blank:bucket/locker"},
		{"rclone:mycloud2:", "drive", "", `token={"access_token":"ya29.x","expiry":"2026-01-01T00:00:00Z"}`, "rclone:mycloud2:"},
		{"rclone::webdav,url='http://127.0.0.1:8080',user=u,pass=p:path", "webdav", "path", "pass=p url=http://127.0.0.1:8080 user=u",
			"rclone::webdav,url='http://127.0.0.1:8080',…:path"},
		{`rclone::webdav,url="http://me:pw@host/a?sig=secret#f",no_check:p`, "webdav", "p", "no_check=true url=http://me:pw@host/a?sig=secret#f",
			"rclone::webdav,url='http://host/a',…:p"},
		{"rclone::memory:bucket:with:colons", "memory", "bucket:with:colons", "", "rclone::memory:bucket:with:colons"},
		{`rclone::s3,a="",b='say "hi"',c="it""s":`, "s3", "", `a= b=say "hi" c=it"s`, "rclone::s3,…:"},
	} {
		s, err := ParseSpec(test.in, lookup)
		if err != nil {
			t.Errorf("%s: %v", test.in, err)
			continue
		}
		var options []string
		for _, key := range slices.Sorted(maps.Keys(s.Options)) {
			options = append(options, key+"="+s.Options[key])
		}
		if s.Type != test.typ || s.Root != test.root || strings.Join(options, " ") != test.options {
			t.Errorf("%s: %q %q %q", test.in, s.Type, s.Root, options)
		}
		if s.String() != test.text {
			t.Errorf("%s: shown as %s, want %s", test.in, s, test.text)
		}
	}
}

func TestParseSpecErrors(t *testing.T) {
	for in, words := range map[string]string{
		"":                               "dir:PATH",
		"dir:":                           "no path",
		"/mnt/usb":                       "dir:PATH",
		"s3:bucket":                      "dir:PATH",
		"rclone:":                        "missing",
		"rclone:mycloud":                 `":" is missing`,
		"rclone:nobody:x":                "no such remote",
		"rclone:no type:x":               "no type",
		"rclone:-x:y":                    "letters",
		"rclone::webdav,url='secret:x":   "closing quote",
		"rclone::webdav,url='secret'x:y": "after the closing quote",
		"rclone::webdav,url=secret":      "must end",
		"rclone::webdav,url=http://h,pass=secret:x":              "into quotes",
		"rclone::webdav,u rl=secret:":                            "letters",
		"rclone::webdav,=secret:":                                "no name",
		"rclone::webdav,pass":                                    "the path there",
		"rclone::sftp,key_file=id_secret:x":                      "whole path",
		"rclone::sftp,key_file=/none/key:x":                      "no such file",
		"rclone::webdav,locker_clear=pass:":                      "no setting",
		"rclone::webdav,x=" + strings.Repeat("y", maxSpec) + ":": "too long",
	} {
		_, err := ParseSpec(in, lookup)
		wantFault(t, err, fault.Settings, words)
		if strings.Contains(err.Error(), "secret") && !strings.Contains(in, "key_file") {
			t.Errorf("%s: the error shows the value: %v", in, err)
		}
	}
}

// TestSpecShowsNoSecret, however it is printed; and JSON keeps everything.
func TestSpecShowsNoSecret(t *testing.T) {
	s, err := ParseSpec("rclone::webdav,url='http://u:hunter2@host/?hunter2',user=alice,pass=hunter2,bearer_token=hunter2:root", nil)
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "spec", s)
	for _, shown := range []string{s.String(), fmt.Sprintf("%v %+v %#v %s %q", s, s, s, s, s), log.String()} {
		if strings.Contains(shown, "hunter2") {
			t.Errorf("shown: %s", shown)
		}
	}
	raw, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var again Spec
	if err := json.Unmarshal(raw, &again); err != nil {
		t.Fatal(err)
	}
	if c := again.Config(nil); c.Options["pass"] != "hunter2" || c.Options[clearOption] != "bearer_token,pass,url,user" || c.Root != "root" || c.Type != "webdav" {
		t.Errorf("after JSON: %q, %q, %q", c.Type, c.Root, c.Options)
	}
}

func TestSpecFiles(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	t.Setenv("USERPROFILE", dir)
	for _, name := range []string{"key", "ca.pem"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, err := ParseSpec("rclone::sftp,host=h,key_file=~/key,known_hosts_file=none,override.ca_cert='"+filepath.Join(dir, "ca.pem")+"':", nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{filepath.Join(dir, "ca.pem"), filepath.Join(dir, "key")}; !slices.Equal(s.Files, want) || s.Options["key_file"] != want[1] {
		t.Errorf("files %q, options %q", s.Files, s.Options)
	}
}

func TestReadConfErrors(t *testing.T) {
	for text, words := range map[string]string{
		"# Encrypted rclone configuration File\n\nRCLONE_ENCRYPT_V0:\nabc=": "encrypted",
		"[a\ntype = x":              "line 1",
		"[mycloud]\nno setting":     "line 2",
		"[other]\nwhatever it is\n": "no such remote",
		"":                          "no such remote",
	} {
		_, err := readConf(strings.NewReader(text), "mycloud")
		if err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%q: %v, want %q", text, err, words)
		}
	}
	got, err := readConf(strings.NewReader("\ufeff[mycloud]\r\ntype = s3\r\n[mycloud]\r\ntype = b2"), "mycloud")
	if err != nil || got["type"] != "b2" {
		t.Errorf("two sections: %v, %v", got, err)
	}
}

func TestRcloneConfig(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"HOME", "USERPROFILE", "APPDATA", "XDG_CONFIG_HOME"} {
		t.Setenv(name, dir)
	}
	t.Setenv("RCLONE_CONFIG", "")
	if _, err := RcloneConfig("mycloud"); err == nil || !strings.Contains(err.Error(), "rclone config") {
		t.Errorf("without a file: %v", err)
	}
	place := filepath.Join(dir, "rclone", "rclone.conf")
	if err := errors.Join(os.MkdirAll(filepath.Dir(place), 0o700), os.WriteFile(place, []byte(conf), 0o600)); err != nil {
		t.Fatal(err)
	}
	t.Setenv("RCLONE_CONFIG_MYCLOUD_USER", "carol")
	got, err := RcloneConfig("mycloud")
	if err != nil || got["type"] != "webdav" || got["user"] != "carol" {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := RcloneConfig("nobody"); err == nil || !strings.Contains(err.Error(), "listremotes") {
		t.Errorf("an unknown remote: %v", err)
	}
	t.Setenv("RCLONE_CONFIG", filepath.Join(dir, "other.conf"))
	if _, err := RcloneConfig("mycloud2"); err == nil {
		t.Error("a file that is not there was not missed")
	}
}

// FuzzParseSpec: no input makes it panic; what it accepts shows no more than it should,
// and the options can be written down and read back.
func FuzzParseSpec(f *testing.F) {
	for _, s := range []string{
		"dir:/x", "rclone:mycloud:locker", "rclone:mycloud,a=b:c", `rclone::webdav,url='http://x:1',pass="a""b":p`,
		"rclone::s3,x,y=:z", "rclone::", "rclone:a,b='", "rclone::webdav,url=''':", "rclone::x,é=1:",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		s, err := ParseSpec(in, lookup)
		if err != nil {
			if _, ok := fault.Parse(err); !ok {
				t.Errorf("%q: %v is no fault", in, err)
			}
			return
		}
		if s.Kind == KindFolder {
			if !filepath.IsAbs(s.Root) {
				t.Errorf("%q: %q is not absolute", in, s.Root)
			}
			return
		}
		if s.Name != "" {
			return
		}
		var b strings.Builder
		b.WriteString("rclone::" + s.Type)
		for _, key := range slices.Sorted(maps.Keys(s.Options)) {
			b.WriteString("," + key + "='" + strings.ReplaceAll(s.Options[key], "'", "''") + "'")
		}
		again, err := ParseSpec(b.String()+":"+s.Root, nil)
		if err != nil && len(b.String())+len(s.Root) < maxSpec {
			t.Fatalf("%q: written as %q: %v", in, b.String(), err)
		}
		if err == nil && (again.Type != s.Type || !maps.Equal(again.Options, s.Options)) {
			t.Errorf("%q: read back as %q", in, again.Options)
		}
	})
}

// FuzzReadConf: no file makes it panic or read what is not there.
func FuzzReadConf(f *testing.F) {
	f.Add(conf, "mycloud")
	f.Add("[a]\nb=`c`\nd=\"\"\"e\"\"\"", "a")
	f.Add("RCLONE_ENCRYPT_V0:\nx", "a")
	f.Fuzz(func(t *testing.T, text, name string) {
		got, err := readConf(strings.NewReader(text), name)
		if err != nil {
			return
		}
		for key, value := range got {
			if !strings.Contains(text, key) || !strings.Contains(text, value) {
				t.Errorf("%q = %q is not in the file", key, value)
			}
		}
	})
}
