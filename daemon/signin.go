package daemon

import (
	"context"

	"github.com/locker-project/locker/daemon/remote/signin"
	"github.com/locker-project/locker/plugins"
	"github.com/locker-project/locker/plugins/host"
)

// NeedsSignIn says whether the owner has to sign in to the cloud of a remote's spec,
// with [SignIn], before the spec can be used.
func NeedsSignIn(spec string) bool {
	s, err := parseRemote(spec)
	return err == nil && s.NeedsSignIn()
}

// SignIn has the owner sign in to the cloud of a spec. What it returns is to be used in
// place of the spec; it holds a token and is a secret. No locker is needed: a restore
// begins with it too.
func SignIn(ctx context.Context, o Options, spec string, ui signin.UI) (string, error) {
	s, err := parseRemote(spec)
	if err != nil {
		return "", err
	}
	process, err := (&Locker{options: o, log: o.logger()}).programSpec("locker-rclone", "rclone")
	if err != nil {
		return "", err
	}
	process.Network, process.ReadOnly = true, s.Files
	p, err := host.Start(ctx, process)
	if err != nil {
		return "", err
	}
	defer p.Kill()
	s, err = signin.Walk(ctx, p.Remote().(plugins.RemoteSigner), s, ui)
	if err != nil {
		return "", err
	}
	return s.Text(), nil
}
