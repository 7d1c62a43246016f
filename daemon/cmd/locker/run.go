package main

import (
	"fmt"
	"io"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/locker-project/locker/daemon"
)

func (c *cli) daemonCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "daemon",
		Short: "Keep the locker open, sync changes, and serve the other commands",
		Long: `The daemon holds the locker open, sends changes to the remotes soon after they
were made, looks for changes of other devices every minute, and answers the other
commands over a unix socket. It runs until it gets SIGTERM or an interrupt; killed
at any other point, it loses nothing that was acknowledged.`,
		Example: "  locker daemon",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			home, err := c.homeDir()
			if err != nil {
				return err
			}
			return daemon.Run(cmd.Context(), daemon.Config{Home: home, Options: c.options(), Ready: func() {
				fmt.Fprintf(c.err, "locker %s: serving %s\n", version, string(home))
			}})
		},
	}
}

func (c *cli) doctorCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "doctor",
		Short:   "Look for what is wrong, and say how to mend it",
		Example: "  locker doctor",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			home, err := c.homeDir()
			if err != nil {
				return err
			}
			bad := 0
			for _, f := range daemon.Examine(cmd.Context(), home, c.options()) {
				if !f.OK {
					bad++
				}
				if c.json {
					if err := c.value(f); err != nil {
						return err
					}
					continue
				}
				mark := "ok  "
				if !f.OK {
					mark = "BAD "
				}
				c.say("%s %s: %s", mark, f.Check, f.Found)
				if f.Do != "" {
					c.say("     next: %s", f.Do)
				}
			}
			if bad > 0 {
				return &daemon.Error{Code: daemon.CodeFailed, Message: fmt.Sprintf("%d checks found something wrong", bad), Next: "do what each says"}
			}
			return nil
		},
	}
}

func (c *cli) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Example: "  locker version --json", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if c.json {
				return c.value(map[string]string{"version": version, "go": runtime.Version(), "os": runtime.GOOS, "arch": runtime.GOARCH})
			}
			c.say("locker %s (%s, %s/%s)", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return nil
		},
	}
}

func (c *cli) completionCommand() *cobra.Command {
	shells := map[string]func(*cobra.Command, io.Writer) error{
		"bash":       func(r *cobra.Command, w io.Writer) error { return r.GenBashCompletionV2(w, true) },
		"zsh":        (*cobra.Command).GenZshCompletion,
		"fish":       func(r *cobra.Command, w io.Writer) error { return r.GenFishCompletion(w, true) },
		"powershell": (*cobra.Command).GenPowerShellCompletionWithDesc,
	}
	names := []string{"bash", "zsh", "fish", "powershell"}
	return &cobra.Command{
		Use:       "completion SHELL",
		Short:     "Print a script that completes commands in your shell",
		Example:   "  source <(locker completion bash)\n  locker completion fish > ~/.config/fish/completions/locker.fish",
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		ValidArgs: names,
		RunE: func(cmd *cobra.Command, args []string) error {
			return shells[args[0]](cmd.Root(), c.out)
		},
	}
}
