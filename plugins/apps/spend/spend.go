// Package spend is an app that adds up what its owner spends: by month, and by
// merchant. It sees the time, amount, currency and payee of transactions and
// nothing else.
//
// Amounts are added as exact decimals, each currency for itself. Money that left
// an account (a negative amount) is spent, money that came is received; what was
// moved between own accounts counts on both sides, since the app cannot see that.
//
// Beside the tables it writes one record a month into the collection
// locker/spend, with the month as id.
package spend

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/locker-project/locker/plugins"
	"github.com/locker-project/locker/plugins/locker"
)

// usualTop is how many merchants are shown where the owner does not say, and how
// many are kept of each month.
const usualTop = 10

const usage = "usage: spend [YEAR] [--top N]"

// New returns the app. It holds no state.
func New() plugins.App { return app{} }

type app struct{}

// Options are what the owner asks for.
type options struct {
	year int // 0: all
	top  int
}

func parseArgs(args []string) (options, error) {
	o := options{top: usualTop}
	for i := 0; i < len(args); i++ {
		value, given := strings.CutPrefix(args[i], "--top=")
		if args[i] == "--top" && i+1 < len(args) {
			i++
			value, given = args[i], true
		}
		if given {
			n, err := strconv.Atoi(value)
			if err != nil || n < 1 || n > 1000 {
				return o, fmt.Errorf("--top %q is no number from 1 to 1000; %s: %w", value, usage, locker.ErrInvalid)
			}
			o.top = n
			continue
		}
		year, err := strconv.Atoi(args[i])
		if err != nil || year < 1900 || year > 2200 || o.year != 0 {
			return o, fmt.Errorf("%q is not understood; %s: %w", args[i], usage, locker.ErrInvalid)
		}
		o.year = year
	}
	return o, nil
}

func (app) Run(ctx context.Context, env plugins.AppEnv) error {
	o, err := parseArgs(env.Args)
	if err != nil {
		return err
	}
	l, err := readAll(ctx, env.View, o)
	if err != nil {
		return err
	}
	if err := l.show(env.Out, o); err != nil {
		return err
	}
	return l.store(ctx, env.View)
}

// readAll adds up the transactions that the options select. Where the owner did
// not grant the payee or the currency it does without.
func readAll(ctx context.Context, view locker.View, o options) (*ledger, error) {
	fields := []string{"time", "amount", "currency", "payee"}
	for {
		l, err := read(ctx, view, o, fields)
		var denied *locker.Denied
		if !errors.As(err, &denied) || denied.Field != "payee" && denied.Field != "currency" || !slices.Contains(fields, denied.Field) {
			return l, err
		}
		fields = slices.DeleteFunc(slices.Clone(fields), func(f string) bool { return f == denied.Field })
	}
}

func read(ctx context.Context, view locker.View, o options, fields []string) (*ledger, error) {
	q := locker.Query{Collection: "transactions", Fields: fields}
	if o.year != 0 {
		// A day more on either side: a year begins at another moment in each zone.
		q.Since = time.Date(o.year, 1, 1, 0, 0, 0, 0, time.UTC).AddDate(0, 0, -1)
		q.Until = time.Date(o.year+1, 1, 1, 0, 0, 0, 0, time.UTC).AddDate(0, 0, 1)
	}
	l := &ledger{months: make(map[string]map[string]*total), payees: slices.Contains(fields, "payee"), currencies: slices.Contains(fields, "currency")}
	for r, err := range view.Query(ctx, q) {
		if err != nil {
			return nil, err
		}
		if o.year == 0 || r.Time.Year() == o.year {
			l.add(r)
		}
	}
	return l, nil
}
