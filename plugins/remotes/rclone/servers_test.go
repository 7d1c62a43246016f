package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/locker-project/locker/daemon/remote"
	"github.com/locker-project/locker/daemon/remote/remotetest"
	"github.com/locker-project/locker/daemon/replica"
	"github.com/locker-project/locker/daemon/replica/replicatest"
)

// TestServers: every kind of server is what the replica needs, on a line as across a
// continent: 50 ms for a question and its answer. Where time is short, only the usual
// things are done.
func TestServers(t *testing.T) {
	for _, kind := range remotetest.Servers {
		t.Run(kind.Name, func(t *testing.T) {
			t.Parallel()
			server, proxy := kind.Start(t).Behind(t, 1)
			proxy.Set(remotetest.Line{Delay: 25 * time.Millisecond})
			if testing.Short() {
				carries(t, open(t, server.Spec("locker")))
				return
			}
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

// A lineTrouble is what goes wrong between a remote and its server.
type lineTrouble struct {
	name string
	line remotetest.Line           // all the time
	now  func(p *remotetest.Proxy) // now and then
	then func(p *remotetest.Proxy) // soon after
}

var goodLine = remotetest.Line{Delay: 5 * time.Millisecond}

var lineTroubles = []lineTrouble{
	{"connections break", remotetest.Line{Delay: goodLine.Delay, Cut: 100, Within: 100_000}, nil, nil},
	{"a slow line", remotetest.Line{Delay: goodLine.Delay, Rate: 2_000_000}, nil, nil},
	{"all connections break", goodLine, (*remotetest.Proxy).Cut, nil},
	{"nothing moves", goodLine, func(p *remotetest.Proxy) { p.Set(remotetest.Line{Stalled: true}) }, func(p *remotetest.Proxy) { p.Set(goodLine) }},
	{"nobody answers", goodLine, func(p *remotetest.Proxy) { p.Set(remotetest.Line{Refused: true}) }, func(p *remotetest.Proxy) { p.Set(goodLine) }},
}

// during makes trouble a few times, or until ctx ends.
func (x lineTrouble) during(ctx context.Context, p *remotetest.Proxy, random *rand.Rand) {
	for n := 0; n < 5 && x.now != nil && ctx.Err() == nil; n++ {
		time.Sleep(time.Duration(500+random.IntN(3000)) * time.Millisecond)
		x.now(p)
		if x.then != nil {
			time.Sleep(time.Duration(random.IntN(700)) * time.Millisecond)
			x.then(p)
		}
	}
}

// TestServersOnBadLines: what goes wrong on the line is mended inside, and nothing of it
// shows. With LOCKER_SOAK it is the whole conformance suite that must not notice.
func TestServersOnBadLines(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("LOCKER_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("LOCKER_SEED=%d", seed)
	for i, trouble := range lineTroubles {
		for _, kind := range remotetest.Servers {
			t.Run(trouble.name+"/"+kind.Name, func(t *testing.T) {
				soak := os.Getenv("LOCKER_SOAK") != ""
				if !soak {
					t.Parallel()
				}
				server, proxy := kind.Start(t).Behind(t, seed)
				proxy.Set(trouble.line)
				go trouble.during(t.Context(), proxy, rand.New(rand.NewPCG(seed, uint64(i))))
				if !soak {
					carries(t, open(t, server.Spec("locker")))
					return
				}
				var n atomic.Int64
				replicatest.Remote(t, func(t *testing.T) replica.Remote {
					return open(t, server.Spec(fmt.Sprint("locker", n.Add(1))))
				})
			})
		}
	}
}

// carries puts objects of several sizes, over others too, reads them, lists and deletes
// them.
func carries(t *testing.T, r replica.Remote) {
	t.Helper()
	want := map[string][]byte{}
	for i, size := range []int{1, 4096, 4096, 100_000, 1 << 20, 3 << 20} {
		name := fmt.Sprintf("d/%s%c", strings.Repeat("a", 51), 'a'+i%4)
		want[name] = bytes.Repeat([]byte{byte(i), 1, 2, 3}, size/4+1)[:size]
		if err := r.Put(t.Context(), name, bytes.NewReader(want[name]), int64(size)); err != nil {
			t.Fatalf("put of %d bytes: %v", size, err)
		}
	}
	for name, object := range want {
		body, err := r.Get(t.Context(), name, 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(body)
		if err := errors.Join(err, body.Close()); err != nil || !bytes.Equal(got, object) {
			t.Fatalf("got %d bytes of %d, %v", len(got), len(object), err)
		}
	}
	listed := map[string]int64{}
	for info, err := range r.List(t.Context(), "d/") {
		if err != nil {
			t.Fatal(err)
		}
		listed[info.Name] = info.Size
	}
	for name, object := range want {
		if listed[name] != int64(len(object)) {
			t.Errorf("%s is listed with %d bytes, want %d", name, listed[name], len(object))
		}
		if err := r.Delete(t.Context(), name); err != nil {
			t.Error(err)
		}
		if _, err := r.Get(t.Context(), name, 0, -1); !errors.Is(err, replica.ErrNotFound) {
			t.Errorf("after the deletion: %v", err)
		}
	}
}
