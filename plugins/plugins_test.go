package plugins

import (
	"context"
	"strings"
	"testing"

	"github.com/locker-project/locker/plugins/internal/wire"
)

type anApp struct{}

func (anApp) Run(context.Context, AppEnv) error { return nil }

// TestByHand starts plugins as a curious person would.
func TestByHand(t *testing.T) {
	t.Setenv(wire.Cookie, "")
	made := 0
	named := map[string]func() any{
		"apps/spend":          func() any { made++; return anApp{} },
		"connectors/contacts": func() any { made += 10; return 5 },
	}
	for _, tt := range []struct {
		name  string
		args  []string
		says  []string
		makes int
	}{
		{"no name", []string{"locker-plugins"}, []string{"apps/spend, connectors/contacts", "Locker starts its plugins itself"}, 0},
		{"unknown", []string{"locker-plugins", "apps/none"}, []string{`no plugin "apps/none"`, "apps/spend, connectors/contacts"}, 0},
		{"an app", []string{"locker-plugins", "apps/spend"}, []string{"apps/spend is a plugin of Locker (app)", "locker app list"}, 1},
		{"no plugin at all", []string{"locker-plugins", "connectors/contacts"}, []string{"Serve was given a int"}, 10},
	} {
		t.Run(tt.name, func(t *testing.T) {
			made = 0
			var stderr strings.Builder
			if code := serveNamed(tt.args, named, &stderr); code != 2 {
				t.Errorf("exit code %d", code)
			}
			for _, want := range tt.says {
				if !strings.Contains(stderr.String(), want) {
					t.Errorf("it says %q, without %q", stderr.String(), want)
				}
			}
			if made != tt.makes {
				t.Errorf("made %d, want %d", made, tt.makes)
			}
		})
	}
}

func TestKind(t *testing.T) {
	if _, err := newServer(nil); err == nil {
		t.Error("nil is served")
	}
	type both struct {
		App
		Remote
	}
	if _, err := newServer(both{}); err == nil {
		t.Error("an app that is a remote is served")
	}
	if s, err := newServer(anApp{}); err != nil || s.kind() != "app" {
		t.Errorf("an app: %v", err)
	}
}

func TestCallsBeforeAttach(t *testing.T) {
	s, err := newServer(anApp{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.RunApp(t.Context(), &wire.RunRequest{}); err == nil {
		t.Error("an app ran without a host")
	}
	if _, err := s.Parse(t.Context(), &wire.FileRequest{}); err == nil {
		t.Error("an app parsed")
	}
	if err := wire.Error(s.OpenRemote(nil)); err == nil || !strings.Contains(err.Error(), "not a remote") {
		t.Errorf("an app opened as remote: %v", err)
	}
}
