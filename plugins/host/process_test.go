package host

import (
	"context"
	"testing"
	"time"

	"github.com/locker-project/locker/plugins"
)

// start starts the test plugin; args are its role and more.
func start(t testing.TB, args ...string) *Process {
	t.Helper()
	return startWith(t, Spec{}, args...)
}

func startWith(t testing.TB, spec Spec, args ...string) *Process {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	spec.Name, spec.Path, spec.Args, spec.Network = args[0], pluginPath, args, args[0] == "remote"
	p, err := Start(ctx, spec)
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
