package main

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/locker-project/locker/daemon/remote/remotetest"
	"github.com/locker-project/locker/daemon/replica"
	"github.com/locker-project/locker/daemon/replica/replicatest"
)

// TestServers: every kind of server is what the replica needs, on a line as across a
// continent: 50 ms for a question and its answer, or 20 where time is short.
func TestServers(t *testing.T) {
	delay := 25 * time.Millisecond
	if testing.Short() {
		delay = 10 * time.Millisecond
	}
	for _, kind := range remotetest.Servers {
		t.Run(kind.Name, func(t *testing.T) {
			t.Parallel()
			server, proxy := kind.Start(t).Behind(t, 1)
			proxy.Set(remotetest.Line{Delay: delay})
			var n atomic.Int64
			replicatest.Remote(t, func(t *testing.T) replica.Remote {
				return open(t, server.Spec(fmt.Sprint("locker", n.Add(1))))
			})
		})
	}
}
