package remote

import (
	"context"
	"errors"
	"time"
)

// A notifier is what a process can beside, whose place tells of changes.
type notifier interface {
	Changes(ctx context.Context, changed func(name string)) error
}

// watchAgain is how long after a watch broke off the next one begins.
const watchAgain = 30 * time.Second

// Changed tells of changes, where the cloud can. While somebody listens the process is
// kept, which takes memory; without it clouds are not asked.
func (p *PluginRemote) Changed(ctx context.Context) <-chan struct{} {
	events := make(signal, 1)
	out := debounce(ctx, events)
	go func() {
		defer close(events)
		for failures := 1; ; failures++ {
			err := p.listen(ctx, events)
			if ctx.Err() != nil || errors.Is(err, errors.ErrUnsupported) || errors.Is(err, errClosed) {
				return
			}
			events.raise() // what changed meanwhile was not told
			if sleep(ctx, watchAgain/2+jitter(watchAgain, mostRest, failures)) != nil {
				return
			}
		}
	}()
	return out
}

// listen listens until the process ends or cannot.
func (p *PluginRemote) listen(ctx context.Context, events signal) error {
	c, done, err := p.acquire(ctx)
	if err != nil {
		return err
	}
	n, ok := c.(notifier)
	if !ok {
		done(false)
		return errors.ErrUnsupported
	}
	err = n.Changes(ctx, func(name string) {
		if !p.own.has(name) {
			events.raise()
		}
	})
	done(ctx.Err() == nil && unusable(err) && !errors.Is(err, errors.ErrUnsupported))
	return err
}
