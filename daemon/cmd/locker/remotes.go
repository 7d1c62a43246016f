package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/locker-project/locker/daemon"
)

func (c *cli) remoteCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "remote", Short: "Manage the places that keep sealed objects"}
	var params daemon.RemoteParams
	var file, signIn string
	add := &cobra.Command{
		Use:   "add NAME [SPEC]",
		Short: "Add a remote",
		Example: `  locker remote add usb dir:/media/usb/locker
  locker remote add cloud --remote-file spec.txt`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			params.Name = args[0]
			if len(args) == 2 {
				params.Spec = args[1]
			}
			var err error
			if params.Spec, err = c.signedIn(cmd.Context(), params.Spec, file, signIn); err != nil {
				return err
			}
			if params.Spec == "" {
				return &daemon.Error{Code: daemon.CodeUsage, Message: "the remote's spec is missing", Next: "write dir:PATH or rclone:REMOTE:PATH, or name a file with --remote-file"}
			}
			if params.Passphrase, err = c.confirm(cmd, "remote add"); err != nil {
				return err
			}
			return one(c, cmd.Context(), "remote add", "remote.add", params, func(r daemon.RemoteInfo) error {
				c.say("remote %s added: %s; 'locker sync' sends everything there", r.Name, r.Spec)
				return nil
			})
		},
	}
	signInFlag(add.Flags(), &signIn)
	add.Flags().StringVar(&file, "remote-file", "", "file whose first line is the spec, for one that holds secrets")
	ls := &cobra.Command{
		Use: "list", Short: "List the remotes", Example: "  locker remote list", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return list(c, cmd.Context(), "remote list", "remote.list", struct{}{}, func(r daemon.RemoteInfo) error {
				c.say("%s  %s  %d unsent, last sync %s", r.Name, r.Spec, r.Unsent, ago(r.LastSync, time.Now()))
				return nil
			})
		},
	}
	check := &cobra.Command{
		Use:   "check [NAME]",
		Short: "Find out what a remote can do, and measure it",
		Long: `Check puts objects of random bytes on a remote, reads them back, looks for them while
they are put, lists and deletes them. It takes some seconds and moves some 20 MB each
way; with --quick it only tries whether the remote works.`,
		Example: "  locker remote check\n  locker remote check cloud --json | jq .traits",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				params.Name = args[0]
			}
			return list(c, cmd.Context(), "remote check", "remote.check", params, func(r daemon.RemoteCheck) error {
				c.showCheck(r, params.Quick)
				return nil
			})
		},
	}
	check.Flags().BoolVar(&params.Quick, "quick", false, "only try whether the remote works")
	remove := &cobra.Command{
		Use:   "remove NAME",
		Short: "Use a remote no more",
		Long: `Remove forgets a remote and its credentials on this device. What lies there stays,
sealed as it is; delete the folder yourself if you want it gone. Other devices that
use the same place go on using it.`,
		Example: "  locker remote remove usb",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			params.Name = args[0]
			var err error
			if params.Passphrase, err = c.confirm(cmd, "remote remove"); err != nil {
				return err
			}
			return one(c, cmd.Context(), "remote remove", "remote.remove", params, func(r daemon.RemoteInfo) error {
				c.say("remote %s removed; what lies at %s stays there", r.Name, r.Spec)
				return nil
			})
		},
	}
	cmd.AddCommand(add, ls, remove, check, c.limitCommand())
	return cmd
}

// showCheck prints what a remote can do and how it did.
func (c *cli) showCheck(r daemon.RemoteCheck, quick bool) {
	c.say("%s works: put %d ms, get %d ms, list %d ms, delete %d ms", r.Name, r.PutMS, r.GetMS, r.ListMS, r.DeleteMS)
	if !quick {
		c.say("  looking for news takes %d ms; %.1f MB/s up, %.1f MB/s down", r.MissMS, r.UpMBs, r.DownMBs)
		c.say("  what was put can be read %s and is listed %s; a large object is %s while it is put", after(r.ReadAfterMS), after(r.ListAfterMS), r.Partial)
	}
	if t := r.Traits; t != nil {
		room := "how much room there is is not known"
		if t.FreeBytes >= 0 {
			room = size(t.FreeBytes) + " are free"
		}
		c.say("  tells of changes: %s; %s", t.Notifies, room)
	}
	for _, w := range r.Warnings {
		c.say("  note: %s", w)
	}
}

func after(ms int64) string {
	switch {
	case ms == 0:
		return "at once"
	case ms < 0:
		return "only much later"
	}
	return fmt.Sprintf("after %d ms", ms)
}
