package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/locker-project/locker/daemon"
)

func (c *cli) purgeCommand() *cobra.Command {
	var params daemon.PurgeParams
	var sure bool
	cmd := &cobra.Command{
		Use:   "purge [COLLECTION ID | --import IMPORT | --deleted]",
		Short: "Delete for good: here, on every device and every remote",
		Long: `Purge makes what it names be gone: the record, what it was before, what an import kept
of it, pictures that nothing else needs, from the files of this device, and from what
its devices put on every remote. It stays out: importing it again does not bring it
back. The answer says for each place whether it is clean, or what is in the way. Alone,
purge goes on with what is in the way and purges nothing more.

A delete keeps a mark so that other devices learn of it, and old values stay in sealed
objects until those are rewritten; a purge is for what must not exist any more.`,
		Example: `  locker purge notes n1
  locker purge --import 2026-03-01-a1b2
  locker purge --deleted
  locker purge                     (how far is it?)`,
		Args: func(_ *cobra.Command, args []string) error {
			if n := len(args); n != 0 && n != 2 {
				return fmt.Errorf("purge takes a collection and an id")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			ways := 0
			if len(args) == 2 {
				params.Collection, params.ID, ways = args[0], args[1], 1
			}
			if params.Import != "" {
				ways++
			}
			if params.Deleted {
				ways++
			}
			if ways > 1 || params.Lift && len(args) != 2 {
				return &daemon.Error{Code: daemon.CodeUsage, Message: "name one thing to purge: a record, an import, or all that was deleted", Next: seeHelp(cmd)}
			}
			var err error
			if params.Passphrase, err = c.confirm(cmd, "purge"); err != nil {
				return err
			}
			if ways == 1 && !params.Lift && !sure {
				if err := c.sure("This cannot be undone, on no device. Purge it? [y/N] "); err != nil {
					return err
				}
			}
			return c.purge(cmd, params)
		},
	}
	f := cmd.Flags()
	f.StringVar(&params.Import, "import", "", "everything that this import brought")
	f.BoolVar(&params.Deleted, "deleted", false, "everything that was deleted")
	f.BoolVar(&params.Lift, "lift", false, "let a purged record be written and imported again")
	f.BoolVar(&sure, "yes", false, "do not ask")
	return cmd
}

func (c *cli) purge(cmd *cobra.Command, params daemon.PurgeParams) error {
	var end json.RawMessage
	err := c.call(cmd.Context(), "purge", "purge", params, nil, func(raw json.RawMessage) error {
		if c.json {
			return c.line(raw)
		}
		var p daemon.PurgePlace
		if err := json.Unmarshal(raw, &p); err != nil {
			return err
		}
		place := "this device's disk"
		if p.Remote != "" {
			place = fmt.Sprintf("what %s put on %s", p.Name, p.Remote)
		}
		if p.Clean {
			c.say("clean      %s%s", place, since(p.Since))
			return nil
		}
		c.say("not clean  %s: %s", place, p.What)
		if p.Do != "" {
			c.say("  next: %s", p.Do)
		}
		return nil
	}, &end)
	if err != nil {
		return err
	}
	return printOne(c, end, func(s daemon.PurgeSummary) error {
		switch {
		case params.Lift:
			c.say("%s %s may be written and imported again.", params.Collection, params.ID)
		case params != (daemon.PurgeParams{Passphrase: params.Passphrase}):
			c.say("%d records purged; %d ids stay out.", s.Records, s.Bans)
		}
		if !s.Clean {
			c.say("Not every place is clean yet; the daemon goes on, and 'locker purge' tells how far it is.")
		}
		return nil
	})
}

// sure asks the owner to confirm, where there is a terminal to ask.
func (c *cli) sure(question string) error {
	if !isTerminal(c.in) {
		return nil
	}
	fmt.Fprint(c.err, question)
	line, err := bufio.NewReader(io.LimitReader(c.in, 1<<10)).ReadString('\n')
	if err != nil {
		return err
	}
	if answer := strings.ToLower(strings.TrimSpace(line)); answer != "y" && answer != "yes" {
		return &daemon.Error{Code: daemon.CodeFailed, Message: "nothing was done"}
	}
	return nil
}

// since says since when something holds.
func since(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return " since " + t.Local().Format("2006-01-02 15:04")
}
