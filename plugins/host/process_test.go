package host

import (
	"context"
	"testing"
	"time"

	"github.com/locker-project/locker/plugins"
)

func start(t testing.TB, args ...string) *Process {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	p, err := Start(ctx, Spec{Name: args[0], Path: pluginPath, Args: args, Network: args[0] == "remote", Stderr: func(line string) { t.Log("plugin:", line) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return p
}

func TestQuick(t *testing.T) {
	t.Log(Probe(context.Background()))
	p := start(t, "app")
	t.Log(p.Mode())
	err := p.App(context.Background(), plugins.AppEnv{Args: []string{"print"}})
	t.Log(err)
	r := start(t, "remote")
	t.Log(r.Remote().Open(context.Background(), plugins.RemoteConfig{Options: map[string]string{"secret": "open sesame"}}))
}
