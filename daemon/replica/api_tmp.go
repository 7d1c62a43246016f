package replica

import (
	"context"
	"errors"
)

type selfNote struct{}
type codec struct{}

func newCodec() (*codec, error)                  { return nil, nil }
func (r *Replica) load(ctx context.Context) error { return errors.ErrUnsupported }

// Found begins a new locker.
func (r *Replica) Found(ctx context.Context) error { return errors.ErrUnsupported }

// Restore brings a locker back.
func (r *Replica) Restore(ctx context.Context, p Progress) (Restored, error) {
	return Restored{}, errors.ErrUnsupported
}

// Rejoin makes a new device of a cloned one.
func (r *Replica) Rejoin(ctx context.Context, p Progress) (Restored, error) {
	return Restored{}, errors.ErrUnsupported
}

// Sync is one pass.
func (r *Replica) Sync(ctx context.Context, o SyncOptions) (Summary, error) {
	return Summary{}, errors.ErrUnsupported
}

// Verify reads a remote back.
func (r *Replica) Verify(ctx context.Context, remote string, p Progress) (Report, error) {
	return Report{}, errors.ErrUnsupported
}

// Status is what is known without asking a remote.
func (r *Replica) Status(ctx context.Context) (Status, error) { return Status{}, errors.ErrUnsupported }

// Blob fetches a blob.
func (r *Replica) Blob(ctx context.Context, id string) error { return errors.ErrUnsupported }
