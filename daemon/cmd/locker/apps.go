package main

import (
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/locker-project/locker/daemon"
	"github.com/locker-project/locker/plugins"
)

func (c *cli) appCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "app", Short: "Install and run apps, each in a sandbox of its own"}
	install := &cobra.Command{
		Use:   "install PATH",
		Short: "Install an app: one that ships with Locker by name, another by its folder",
		Long: `Install records an app and its manifest. It gets nothing yet: see 'locker offers',
then 'locker grant'. A folder holds manifest.json and the program that it names.`,
		Example: "  locker app install spend\n  locker app install ./my-app",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			params := daemon.AppParams{Path: args[0]}
			if strings.ContainsAny(args[0], `/\.`) {
				abs, err := filepath.Abs(args[0])
				if err != nil {
					return err
				}
				params.Path = abs
			}
			return one(c, cmd.Context(), "app install", "app.install", params, func(a daemon.AppInfo) error {
				c.say("%s %s by %s is installed; see what it asks with 'locker offers %s'", a.ID, a.Version, a.Vendor, a.ID)
				return nil
			})
		},
	}
	ls := &cobra.Command{
		Use: "list", Short: "List apps, installed or not", Example: "  locker app list", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			t := c.table()
			if !c.json {
				fmt.Fprintln(t, "APP\tVERSION\tVENDOR\tINSTALLED\tGRANTS\tWHAT")
			}
			err := list(c, cmd.Context(), "app list", "app.list", struct{}{}, func(a daemon.AppInfo) error {
				fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d\t%s\n", plain(a.ID), plain(a.Version), plain(a.Vendor), yes(a.Installed), a.Grants, plain(a.Name))
				return nil
			})
			if err != nil || c.json {
				return err
			}
			return t.Flush()
		},
	}
	run := &cobra.Command{
		Use: "run ID [ARGS...]", Short: "Run an app on what was granted to it", Example: "  locker app run spend", Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return list(c, cmd.Context(), "app run", "app.run", daemon.AppParams{App: args[0], Args: args[1:]}, c.showOutput)
		},
	}
	run.Flags().SetInterspersed(false)
	remove := &cobra.Command{
		Use: "remove ID", Short: "Remove an app and revoke its grants", Example: "  locker app remove spend", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return one(c, cmd.Context(), "app remove", "app.remove", daemon.AppParams{App: args[0]}, func(a daemon.AppInfo) error {
				c.say("%s is removed, and its grants are revoked", a.ID)
				return nil
			})
		},
	}
	cmd.AddCommand(install, ls, run, remove)
	return cmd
}

// showOutput prints what an app said: text as it is, tables with aligned columns.
func (c *cli) showOutput(o daemon.AppOutput) error {
	if o.Table == nil {
		c.say("%s", o.Text)
		return nil
	}
	var table plugins.Table
	if err := json.Unmarshal(o.Table, &table); err != nil {
		return err
	}
	if table.Title != "" {
		c.say("%s", table.Title)
	}
	t := c.table()
	for _, row := range append([][]string{table.Columns}, table.Rows...) {
		for i, cell := range row {
			if i > 0 {
				fmt.Fprint(t, "\t")
			}
			fmt.Fprint(t, strings.NewReplacer("\t", " ", "\n", " ").Replace(plain(cell)))
		}
		fmt.Fprintln(t)
	}
	return t.Flush()
}

func (c *cli) offersCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "offers APP",
		Short: "Show the ways to accept an app, and what each would let it see",
		Long: `Offers lists each way in which you may accept an app: what it would see, what for,
and what it costs. Neither is always possible: do nothing.`,
		Example: "  locker offers spend",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return list(c, cmd.Context(), "offers", "offers", daemon.AppParams{App: args[0]}, func(o daemon.OfferInfo) error {
				price := "free of charge"
				if o.Price != "" {
					price = o.Price
				}
				c.say("offer %s (%s, %s): %s", o.Offer, o.Kind, price, o.Sentence)
				for _, r := range o.Requests {
					c.say("  reads %s.{%s}%s, for %s", r.Collection, strings.Join(r.Fields, ","), windowText(r.Window), strings.Join(r.Purpose, ", "))
					if r.Plain != "" {
						c.say("    why, says its vendor: %s", r.Plain)
					}
					if len(r.Required) > 0 && len(r.Required) < len(r.Fields) {
						c.say("    it cannot do without %s; leave the rest out with --only if you like", strings.Join(r.Required, ", "))
					}
				}
				return nil
			})
		},
	}
}

func windowText(w string) string {
	if w == "" {
		return ""
	}
	return ", " + w
}

func (c *cli) grantCommand() *cobra.Command {
	var params daemon.GrantParams
	var only, until string
	cmd := &cobra.Command{
		Use:   "grant APP --offer ID",
		Short: "Accept an offer, as it is or narrowed, until a day",
		Example: `  locker grant spend --offer permit
  locker grant spend --offer permit --only transactions.time,transactions.amount,transactions.currency,transactions.payee --until 30d`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			params.App = args[0]
			params.Only = splitList(only)
			if params.Offer == "" {
				return &daemon.Error{Code: daemon.CodeUsage, Message: "which offer of " + args[0] + " is accepted?", Next: "name it with --offer; 'locker offers " + args[0] + "' lists them"}
			}
			var err error
			if params.Until, err = parseExpiry(until, time.Now()); err != nil {
				return err
			}
			if params.Passphrase, err = c.confirm(cmd, "grant"); err != nil {
				return err
			}
			return one(c, cmd.Context(), "grant", "grant", params, func(g daemon.GrantInfo) error {
				c.say("granted as %s until %s", g.Grant, g.Expires.Local().Format("2006-01-02"))
				for name, fields := range sorted(g.Fields) {
					c.say("  %s.{%s}", name, strings.Join(fields, ","))
				}
				c.say("run it with 'locker app run %s'; take it back with 'locker revoke %s'", g.App, g.Grant)
				return nil
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&params.Offer, "offer", "", "which offer to accept (see 'locker offers')")
	f.StringVar(&only, "only", "", "grant only these, as collection.field, separated by commas")
	f.StringVar(&until, "until", "", "end of the grant: 2026-12-31, or 30d from now (default: what the offer says, at most 90 days)")
	return cmd
}

// parseExpiry reads a time to come: like parseTime, with 30d counted forward.
func parseExpiry(s string, now time.Time) (time.Time, error) {
	t, err := parseTime(s, now)
	if err != nil || t.IsZero() || t.After(now) {
		return t, err
	}
	if t = now.Add(now.Sub(t)); strings.HasSuffix(s, "h") || strings.HasSuffix(s, "d") || strings.HasSuffix(s, "w") || strings.HasSuffix(s, "y") {
		return t, nil
	}
	return time.Time{}, &daemon.Error{Code: daemon.CodeUsage, Message: fmt.Sprintf("%s is in the past", s), Next: "write a day to come, or 30d for thirty days from now"}
}

func (c *cli) grantsCommand() *cobra.Command {
	return &cobra.Command{
		Use: "grants", Short: "List grants and their state", Example: "  locker grants", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			t := c.table()
			if !c.json {
				fmt.Fprintln(t, "GRANT\tAPP\tOFFER\tSTATE\tUNTIL\tREADS")
			}
			err := list(c, cmd.Context(), "grants", "grants", struct{}{}, func(g daemon.GrantInfo) error {
				var reads []string
				for name, fields := range sorted(g.Fields) {
					reads = append(reads, name+".{"+strings.Join(fields, ",")+"}")
				}
				fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", g.Grant, plain(g.App), plain(g.Offer), g.State, g.Expires.Local().Format("2006-01-02"), plain(strings.Join(reads, " ")))
				return nil
			})
			if err != nil || c.json {
				return err
			}
			return t.Flush()
		},
	}
}

func (c *cli) revokeCommand() *cobra.Command {
	return &cobra.Command{
		Use: "revoke GRANT", Short: "Take a grant back, at once and for ever", Example: "  locker grants\n  locker revoke g-7f3k", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return one(c, cmd.Context(), "revoke", "revoke", daemon.GrantInfo{Grant: args[0]}, func(g daemon.GrantInfo) error {
				c.say("%s is revoked: %s reads nothing more under it", g.Grant, g.App)
				return nil
			})
		},
	}
}

// whatOf is what a line of the audit log is about: a collection and its fields.
func whatOf(a daemon.AuditLine) string {
	if len(a.Fields) == 0 {
		return plain(a.Collection)
	}
	return plain(a.Collection + ".{" + strings.Join(a.Fields, ",") + "}")
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func (c *cli) auditCommand() *cobra.Command {
	var params daemon.AuditParams
	var since string
	cmd := &cobra.Command{
		Use: "audit", Short: "Show who read what, when and what for", Example: "  locker audit --app spend --since 7d", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if params.Since, err = parseTime(since, time.Now()); err != nil {
				return err
			}
			t := c.table()
			if !c.json {
				fmt.Fprintln(t, "TIME\tAPP\tGRANT\tREAD\tROWS\tBYTES\tDECISION\tPURPOSE")
			}
			err = list(c, cmd.Context(), "audit", "audit", params, func(a daemon.AuditLine) error {
				fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d\t%d\t%s\t%s\n", a.Time.Local().Format("2006-01-02 15:04:05"), plain(a.App), dash(a.Grant), dash(whatOf(a)), a.Rows, a.Bytes, a.Decision, plain(a.Purpose))
				return nil
			})
			if err != nil || c.json {
				return err
			}
			return t.Flush()
		},
	}
	cmd.Flags().StringVar(&params.App, "app", "", "only reads of this app")
	cmd.Flags().StringVar(&since, "since", "", "from this time on (2026-01-01, or 7d)")
	return cmd
}

// confirm asks for the passphrase again before a command that gives something
// away, where the locker has one.
func (c *cli) confirm(cmd *cobra.Command, command string) (string, error) {
	home, err := c.homeDir()
	if err != nil {
		return "", err
	}
	protected, err := daemon.HasPassphrase(home)
	if err != nil || !protected {
		return "", err
	}
	if isTerminal(c.in) && c.passphraseFile == "" {
		fmt.Fprintf(c.err, "'locker %s' asks for the passphrase again.\n", command)
	}
	return c.passphrase()
}

// sorted yields a map in order of its keys.
func sorted[V any](m map[string]V) iter.Seq2[string, V] {
	return func(yield func(string, V) bool) {
		for _, k := range slices.Sorted(maps.Keys(m)) {
			if !yield(k, m[k]) {
				return
			}
		}
	}
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
