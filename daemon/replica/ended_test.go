package replica_test

import (
	"context"
	"errors"
	"testing"

	"github.com/locker-project/locker/daemon/replica"
)

// TestEnded: a pass whose context has ended before its turn came leaves the turn to
// the next one.
func TestEnded(t *testing.T) {
	w := newWorld(t)
	laptop := w.found("laptop", w.cloud)
	laptop.state.put("1", "x")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := laptop.Sync(ctx, replica.SyncOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v", err)
	}
	if s := laptop.sync(replica.SyncOptions{}); s.ObjectsUp == 0 {
		t.Error("the next pass sent nothing")
	}
}
