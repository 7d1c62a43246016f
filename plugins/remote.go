package plugins

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"google.golang.org/grpc"

	"github.com/locker-project/locker/plugins/internal/wire"
)

// OpenRemote opens the remote and stays, to hand back settings that change.
func (s *server) OpenRemote(stream grpc.BidiStreamingServer[wire.OpenPart, wire.OpenNews]) error {
	if err := s.needRemote(); err != nil {
		return err
	}
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	k := &keeper{stream: stream}
	config := remoteConfig(first.GetOpen())
	config.Keep = k.keep
	if err := s.remote.Open(stream.Context(), config); err != nil {
		return status(err)
	}
	k.mu.Lock()
	err = stream.Send(&wire.OpenNews{})
	k.mu.Unlock()
	if err != nil {
		return err
	}
	<-stream.Context().Done()
	return nil
}

func remoteConfig(r *wire.OpenRequest) RemoteConfig {
	return RemoteConfig{Type: r.GetType(), Root: r.GetRoot(), Options: r.GetOptions(), Known: r.GetKnown()}
}

// A keeper hands settings to the host, one at a time.
type keeper struct {
	mu     sync.Mutex
	stream grpc.BidiStreamingServer[wire.OpenPart, wire.OpenNews]
}

func (k *keeper) keep(_ context.Context, key, value string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.stream.Send(&wire.OpenNews{Key: wire.Valid(key), Value: wire.Valid(value)}); err != nil {
		return wire.Error(err)
	}
	reply, err := k.stream.Recv()
	if err == io.EOF {
		return errors.New("the host keeps no settings")
	}
	if err != nil {
		return wire.Error(err)
	}
	if why := reply.GetFailed(); why != "" {
		return fmt.Errorf("the setting %s was not kept: %s", key, why)
	}
	return nil
}

func (s *server) WatchObjects(_ *wire.Nothing, stream grpc.ServerStreamingServer[wire.ObjectList]) error {
	if err := s.needRemote(); err != nil {
		return err
	}
	notifier, ok := s.remote.(RemoteNotifier)
	if !ok {
		return wire.Status(errors.ErrUnsupported)
	}
	ctx, stop := context.WithCancel(stream.Context())
	defer stop()
	return status(notifier.Changes(ctx, func(name string) {
		list := &wire.ObjectList{Objects: []*wire.ObjectList_Object{{Name: wire.Valid(name)}}}
		if stream.Send(list) != nil {
			stop()
		}
	}))
}

func (s *server) DescribeRemote(ctx context.Context, _ *wire.Nothing) (*wire.RemoteTraits, error) {
	if err := s.needRemote(); err != nil {
		return nil, err
	}
	describer, ok := s.remote.(RemoteDescriber)
	if !ok {
		return nil, wire.Status(errors.ErrUnsupported)
	}
	t, err := describer.Describe(ctx)
	if err != nil {
		return nil, status(err)
	}
	return &wire.RemoteTraits{
		Notifies: t.Notifies, NotifyEvery: int64(t.NotifyEvery), FoldCase: t.FoldCase, Duplicates: t.Duplicates, Moves: t.Moves,
		Conditional: t.Conditional, Precision: int64(t.Precision), Sized: t.Sized, Free: t.Free, Used: t.Used,
	}, nil
}

func (s *server) signer() (RemoteSigner, error) {
	if err := s.needRemote(); err != nil {
		return nil, err
	}
	signer, ok := s.remote.(RemoteSigner)
	if !ok {
		return nil, wire.Status(errors.ErrUnsupported)
	}
	return signer, nil
}

func (s *server) BeginSignIn(ctx context.Context, r *wire.SignInRequest) (*wire.SignInPage, error) {
	signer, err := s.signer()
	if err != nil {
		return nil, err
	}
	page, err := signer.BeginSignIn(ctx, remoteConfig(r.GetOpen()), r.GetRedirect(), r.GetDevice())
	if err != nil {
		return nil, status(err)
	}
	reply := &wire.SignInPage{Url: page.URL, Redirect: page.Redirect, State: page.State, Code: page.Code}
	if !page.Until.IsZero() {
		reply.Until = page.Until.UnixNano()
	}
	for _, note := range page.Notes {
		reply.Notes = append(reply.Notes, wire.Cut(note))
	}
	return reply, nil
}

func (s *server) EndSignIn(ctx context.Context, r *wire.SignInAnswer) (*wire.Settings, error) {
	signer, err := s.signer()
	if err != nil {
		return nil, err
	}
	settings, err := signer.EndSignIn(ctx, SignInAnswer{Query: r.GetQuery(), Token: r.GetToken()})
	if err != nil {
		return nil, status(err)
	}
	return &wire.Settings{Settings: settings}, nil
}
