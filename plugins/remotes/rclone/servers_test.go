package main

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/locker-project/locker/daemon/remote"
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

// TestExamineServers: what 'locker remote check' says of each kind of server.
func TestExamineServers(t *testing.T) {
	for _, kind := range remotetest.Servers {
		t.Run(kind.Name, func(t *testing.T) {
			t.Parallel()
			server, proxy := kind.Start(t).Behind(t, 1)
			proxy.Set(remotetest.Line{Delay: 25 * time.Millisecond})
			r, err := remote.Examine(t.Context(), open(t, server.Spec("locker")))
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%+v, %+v", r, r.Traits)
			if r.PutMS < 50 || r.PutMS > 1000 || r.MissMS < 50 || r.MissMS > 400 || r.UpMBs <= 0 || r.DownMBs <= 0 || r.Partial != "hidden" || r.ListAfterMS != 0 || r.Traits == nil {
				t.Errorf("the report is %+v, %+v", r, r.Traits)
			}
		})
	}
}
