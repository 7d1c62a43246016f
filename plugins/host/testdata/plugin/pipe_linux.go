package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/locker-project/locker/plugins"
	"github.com/locker-project/locker/plugins/internal/wire"
	"github.com/locker-project/locker/plugins/locker"
)

// hostAttempts go through the pipe.
var hostAttempts = map[string]attempt{
	"a giant text": func(_ context.Context, _ *Targets, env plugins.AppEnv) error {
		return env.Out.Text(strings.Repeat("x", 64<<20))
	},
	"a giant table": func(_ context.Context, _ *Targets, env plugins.AppEnv) error {
		return env.Out.Table(plugins.Table{Rows: make([][]string, 1<<20)})
	},
	"a giant write": func(ctx context.Context, _ *Targets, env plugins.AppEnv) error {
		w := env.View.(*wire.View)
		stream, err := w.Host.Put(ctx)
		if err != nil {
			return err
		}
		part := &wire.PutPart{Session: w.Session, Rows: make([]byte, 512<<10)}
		for range 256 {
			if stream.Send(part) != nil {
				break
			}
		}
		_, err = stream.CloseAndRecv()
		return wire.Error(err)
	},
	"a write of garbage": func(ctx context.Context, _ *Targets, env plugins.AppEnv) error {
		w := env.View.(*wire.View)
		stream, err := w.Host.Put(ctx)
		if err != nil {
			return err
		}
		_ = stream.Send(&wire.PutPart{Session: w.Session, Rows: []byte(strings.Repeat("\xff", 4000))})
		_, err = stream.CloseAndRecv()
		return wire.Error(err)
	},
	"another's session": func(ctx context.Context, t *Targets, env plugins.AppEnv) error {
		w := *env.View.(*wire.View)
		for w.Session = 0; w.Session < 100; w.Session++ {
			if w.Session == env.View.(*wire.View).Session {
				continue
			}
			if _, err := w.Get(ctx, "in", "1"); err == nil {
				return nil
			}
		}
		return errors.New("none answers")
	},
	"what is not given": func(ctx context.Context, _ *Targets, env plugins.AppEnv) error {
		w := env.View.(*wire.View)
		_, err := w.Host.ReadFile(ctx, &wire.ReadRequest{Session: w.Session, Length: 10})
		return wire.Error(err)
	},
	"many calls": func(ctx context.Context, _ *Targets, env plugins.AppEnv) error {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		var wg sync.WaitGroup
		var mu sync.Mutex
		most, now := 0, 0
		for range 500 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				for _, err := range env.View.Query(ctx, locker.Query{Collection: "endless"}) {
					if err != nil {
						return
					}
					mu.Lock()
					now++
					most = max(most, now)
					mu.Unlock()
					<-ctx.Done() // the host may send, but nobody reads
					return
				}
			}()
		}
		wg.Wait()
		if most > 32 {
			return nil
		}
		return fmt.Errorf("%d at once", most)
	},
}
