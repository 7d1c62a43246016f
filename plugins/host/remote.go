package host

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc"

	"github.com/locker-project/locker/plugins"
	"github.com/locker-project/locker/plugins/internal/wire"
)

const (
	maxSettings = 1000      // that one process may hand back
	maxSetting  = 256 << 10 // bytes of each, a key and its value
	maxChanges  = 4 << 10   // bytes of an object's name in a notice
)

var (
	_ plugins.RemoteNotifier  = (*remote)(nil)
	_ plugins.RemoteDescriber = (*remote)(nil)
	_ plugins.RemoteSigner    = (*remote)(nil)
)

// open has the process connect. The call lasts for the life of the process, which
// hands back settings over it.
func (r *remote) open(ctx context.Context, config plugins.RemoteConfig) error {
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, end) // until it is open
	stream, err := r.p.conn.Client.OpenRemote(life)
	if err == nil {
		err = stream.Send(&wire.OpenPart{Open: openRequest(config)})
		if err == io.EOF {
			_, err = stream.Recv() // which says why
		}
	}
	opened := false
	for n := 0; err == nil && !opened; n++ {
		opened, err = r.news(life, stream, config, n)
	}
	if err == nil && !stop() {
		err = context.Cause(ctx)
	}
	if err != nil {
		end()
		return r.p.result(ctx, err)
	}
	go func() {
		defer end()
		for n := 0; ; n++ {
			if again, err := r.news(life, stream, config, n); err != nil || again {
				return
			}
		}
	}()
	return nil
}

func openRequest(config plugins.RemoteConfig) *wire.OpenRequest {
	return &wire.OpenRequest{Type: config.Type, Root: config.Root, Options: config.Options, Known: config.Known}
}

// news takes the next thing that the process says: that the remote is open, or a
// setting to keep.
func (r *remote) news(ctx context.Context, stream grpc.BidiStreamingClient[wire.OpenPart, wire.OpenNews], config plugins.RemoteConfig, n int) (opened bool, err error) {
	news, err := stream.Recv()
	if err != nil {
		return false, err
	}
	key, value := news.GetKey(), news.GetValue()
	if key == "" {
		return true, nil
	}
	answer := &wire.OpenPart{}
	switch {
	case config.Keep == nil:
	case n >= maxSettings || len(key)+len(value) > maxSetting:
		answer.Failed = "too much"
	default:
		if err := config.Keep(ctx, key, value); err != nil {
			answer.Failed = wire.Cut(err.Error())
		}
	}
	return false, stream.Send(answer)
}

// Changes is for a remote that tells of changes; see [plugins.RemoteNotifier].
func (r *remote) Changes(ctx context.Context, changed func(name string)) error {
	if err := r.p.need("remote"); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := r.p.conn.Client.WatchObjects(ctx, &wire.Nothing{})
	for err == nil {
		var list *wire.ObjectList
		if list, err = stream.Recv(); err != nil {
			break
		}
		for _, o := range list.GetObjects() {
			if len(o.GetName()) <= maxChanges {
				changed(o.GetName())
			}
		}
	}
	if err == io.EOF {
		return errors.New("the remote tells of no more changes")
	}
	return r.p.result(ctx, err)
}

// Describe tells what the place is like; see [plugins.RemoteDescriber].
func (r *remote) Describe(ctx context.Context) (plugins.RemoteTraits, error) {
	if err := r.p.need("remote"); err != nil {
		return plugins.RemoteTraits{}, err
	}
	t, err := r.p.conn.Client.DescribeRemote(ctx, &wire.Nothing{})
	if err != nil {
		return plugins.RemoteTraits{}, r.p.result(ctx, err)
	}
	return plugins.RemoteTraits{
		Notifies: t.GetNotifies(), NotifyEvery: time.Duration(t.GetNotifyEvery()), FoldCase: t.GetFoldCase(), Duplicates: t.GetDuplicates(), Moves: t.GetMoves(),
		Conditional: t.GetConditional(), Precision: time.Duration(t.GetPrecision()), Sized: t.GetSized(), Free: t.GetFree(), Used: t.GetUsed(),
	}, nil
}

// BeginSignIn is the first half of a sign-in; see [plugins.RemoteSigner].
func (r *remote) BeginSignIn(ctx context.Context, config plugins.RemoteConfig, redirect string, device bool) (plugins.SignInPage, error) {
	if err := r.p.need("remote"); err != nil {
		return plugins.SignInPage{}, err
	}
	p, err := r.p.conn.Client.BeginSignIn(ctx, &wire.SignInRequest{Open: openRequest(config), Redirect: redirect, Device: device})
	if err != nil {
		return plugins.SignInPage{}, r.p.result(ctx, err)
	}
	page := plugins.SignInPage{URL: wire.Plain(p.GetUrl()), Redirect: wire.Plain(p.GetRedirect()), State: p.GetState(), Code: wire.Plain(p.GetCode())}
	if t := p.GetUntil(); t != 0 {
		page.Until = time.Unix(0, t)
	}
	for _, note := range p.GetNotes() {
		page.Notes = append(page.Notes, wire.Plain(wire.Cut(note)))
	}
	return page, nil
}

// EndSignIn is the second half of a sign-in; see [plugins.RemoteSigner].
func (r *remote) EndSignIn(ctx context.Context, answer plugins.SignInAnswer) (map[string]string, error) {
	if err := r.p.need("remote"); err != nil {
		return nil, err
	}
	reply, err := r.p.conn.Client.EndSignIn(ctx, &wire.SignInAnswer{Query: answer.Query, Token: answer.Token})
	if err != nil {
		return nil, r.p.result(ctx, err)
	}
	return reply.GetSettings(), nil
}
