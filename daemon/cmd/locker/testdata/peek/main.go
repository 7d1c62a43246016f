// Command peek is an app that tries to see what it was not granted: the tests of
// the command install it and look at what comes of that.
package main

import (
	"context"
	"fmt"
	"time"

	"github.com/locker-project/locker/plugins"
	"github.com/locker-project/locker/plugins/locker"
)

func main() { plugins.Serve(peek{}) }

type peek struct{}

// Run does what its arguments say: "fields A B…" queries these fields of the
// transactions, "all" asks for all fields, "where EXPR" filters, "collection C"
// queries another collection, "wait" reads again and again until it is stopped,
// "count A B…" queries these fields and says how many records and bytes came, and in
// how many nanoseconds.
func (peek) Run(ctx context.Context, env plugins.AppEnv) error {
	if len(env.Args) == 0 {
		return fmt.Errorf("%w arguments", locker.ErrInvalid)
	}
	q := locker.Query{Collection: "transactions", Fields: []string{"amount"}}
	switch env.Args[0] {
	case "fields":
		q.Fields = env.Args[1:]
	case "all":
		q.Fields = nil
	case "where":
		q.Where = env.Args[1]
	case "collection":
		q = locker.Query{Collection: env.Args[1]}
	case "wait":
		return wait(ctx, env, q)
	case "count":
		return count(ctx, env, env.Args[1:])
	}
	n := 0
	for r, err := range env.View.Query(ctx, q) {
		if err != nil {
			return err
		}
		if n == 0 {
			if err := env.Out.Text(fmt.Sprintf("the first record: id %q time %q source %q fields %s", r.ID, r.Time, r.Source, r.Fields)); err != nil {
				return err
			}
		}
		n++
	}
	return env.Out.Text(fmt.Sprintf("%d records", n))
}

func wait(ctx context.Context, env plugins.AppEnv, q locker.Query) error {
	for i := 0; ; i++ {
		for _, err := range env.View.Query(ctx, q) {
			if err != nil {
				return err
			}
		}
		if i == 0 {
			if err := env.Out.Text("reading"); err != nil {
				return err
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func count(ctx context.Context, env plugins.AppEnv, fields []string) error {
	began, rows, bytes := time.Now(), 0, 0
	for r, err := range env.View.Query(ctx, locker.Query{Collection: "transactions", Fields: fields}) {
		if err != nil {
			return err
		}
		rows++
		bytes += len(r.Fields)
	}
	return env.Out.Text(fmt.Sprintf("%d %d %d", rows, bytes, time.Since(began)))
}
