// Command locker keeps a person's data: it takes it in, encrypts it, syncs it as
// ciphertext to any cloud, and lets apps see only what was granted to them.
//
// This file starts the command and turns errors into exit codes. Each command
// sends a call to the locker (package daemon) and prints what comes back.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/locker-project/locker/daemon"
)

// version is set by the linker.
var version = "unknown"

func main() {
	daemon.Shim() // a confined plugin starts as this program, and never comes back from here
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run runs the command and returns its exit code.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	c := &cli{in: stdin, out: stdout, err: stderr}
	root := c.root()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	c.clearProgress()
	if err == nil {
		return 0
	}
	var e *daemon.Error
	if !errors.As(err, &e) {
		e = &daemon.Error{Code: daemon.CodeFailed, Message: err.Error()}
	}
	if e.Code == daemon.CodeUsage && e.Next == "" {
		e = &daemon.Error{Code: e.Code, Message: e.Message, Next: "see 'locker help'"}
	}
	fmt.Fprintf(stderr, "locker: %s\n", plain(shorten(e.Message)))
	if e.Next != "" {
		fmt.Fprintf(stderr, "  next: %s\n", plain(e.Next))
	}
	return e.Code
}

// shorten cuts a message in which an argument, or what a file holds, takes all the
// screen.
func shorten(s string) string {
	const head, tail = 700, 300
	if len(s) <= head+tail {
		return s
	}
	return strings.ToValidUTF8(s[:head], "") + " … " + strings.ToValidUTF8(s[len(s)-tail:], "")
}

// A cli holds what all commands share.
type cli struct {
	in       io.Reader
	out, err io.Writer

	home           string
	json           bool
	passphraseFile string
	verbose        bool

	progressShown bool
}

// root builds the tree of commands.
func (c *cli) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "locker",
		Short: "Keep your own data: take it back, encrypted, on every device, and decide who sees what",
		Long: `Locker takes back the data that you leave everywhere, keeps it encrypted, syncs it
as ciphertext to any cloud, and lets apps see only the fields that you granted.

A first walk:
  locker init --remote dir:/mnt/cloud/locker   make a locker, and a place in the cloud for it
  locker import ~/Downloads                    take in exports; unknown files are named
  locker query transactions --limit 5          look at what came in
  locker sync                                  send it, sealed, to the remote
  locker app list                              apps that could answer questions about it`,
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	flags := root.PersistentFlags()
	flags.StringVar(&c.home, "home", "", "folder of the locker (or LOCKER_HOME)")
	flags.BoolVar(&c.json, "json", false, "print JSON, one object on each line")
	flags.StringVar(&c.passphraseFile, "passphrase-file", "", "file whose first line is the passphrase (or LOCKER_PASSPHRASE_FILE)")
	flags.BoolVarP(&c.verbose, "verbose", "v", false, "log what happens to standard error")
	root.AddGroup(
		&cobra.Group{ID: "start", Title: "Begin:"},
		&cobra.Group{ID: "data", Title: "Your data:"},
		&cobra.Group{ID: "sync", Title: "Devices and clouds:"},
		&cobra.Group{ID: "apps", Title: "Apps:"},
		&cobra.Group{ID: "run", Title: "Running it:"},
	)
	add := func(group string, cmds ...*cobra.Command) {
		for _, cmd := range cmds {
			cmd.GroupID = group
			root.AddCommand(cmd)
		}
	}
	add("start", c.initCommand(), c.restoreCommand(), c.phraseCommand(), c.sheetCommand())
	add("data", c.importCommand(), c.importsCommand(), c.undoCommand(), c.queryCommand(), c.getCommand(), c.putCommand(), c.deleteCommand(), c.purgeCommand(), c.blobCommand())
	add("sync", c.syncCommand(), c.statusCommand(), c.verifyCommand(), c.deviceCommand(), c.remoteCommand())
	add("apps", c.appCommand(), c.offersCommand(), c.grantCommand(), c.grantsCommand(), c.revokeCommand(), c.auditCommand())
	add("run", c.daemonCommand(), c.doctorCommand(), c.versionCommand(), c.completionCommand())
	root.SetHelpCommandGroupID("run")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return &daemon.Error{Code: daemon.CodeUsage, Message: err.Error(), Next: seeHelp(cmd)}
	})
	usageErrors(root)
	return root
}

// usageErrors gives wrong arguments and unknown commands the exit code of wrong usage.
func usageErrors(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return &daemon.Error{Code: daemon.CodeUsage, Message: err.Error(), Next: seeHelp(cmd)}
			}
			return nil
		}
	}
	if cmd.HasSubCommands() && cmd.RunE == nil {
		cmd.Args = cobra.ArbitraryArgs
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			e := &daemon.Error{Code: daemon.CodeUsage, Message: fmt.Sprintf("there is no command %q", strings.TrimSpace(path(cmd)+" "+args[0])), Next: seeHelp(cmd)}
			if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
				e.Next = "did you mean '" + strings.TrimSpace("locker "+path(cmd)) + " " + near[0] + "'?"
			}
			return e
		}
	}
	for _, sub := range cmd.Commands() {
		usageErrors(sub)
	}
}

// seeHelp says how to learn more of a command.
func seeHelp(cmd *cobra.Command) string {
	return "see '" + strings.TrimSpace("locker help "+path(cmd)) + "'"
}

// path is the command's name without the program's.
func path(cmd *cobra.Command) string {
	_, rest, _ := strings.Cut(cmd.CommandPath(), " ")
	return rest
}
