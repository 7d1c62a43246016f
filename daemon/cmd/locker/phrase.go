package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/locker-project/locker/daemon"
)

// phrase reads the recovery phrase from a file or the terminal.
func (c *cli) phrase(file string) (string, error) {
	if file != "" {
		raw, err := os.ReadFile(file)
		if err != nil {
			return "", &daemon.Error{Code: daemon.CodeUsage, Message: fmt.Sprintf("cannot read the phrase: %v", err)}
		}
		return string(raw), nil
	}
	if isTerminal(c.in) {
		return c.ask("Recovery phrase (24 words): ")
	}
	raw, err := io.ReadAll(io.LimitReader(c.in, 4<<10))
	if err == nil && len(strings.TrimSpace(string(raw))) == 0 {
		err = &daemon.Error{Code: daemon.CodeUsage, Message: "there is no recovery phrase", Next: "name a file with --phrase-file, or give the words on standard input"}
	}
	return string(raw), err
}

func (c *cli) phraseCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "phrase", Short: "Check and use the recovery phrase"}
	var file string
	check := &cobra.Command{
		Use:     "check",
		Short:   "See whether a phrase is the one of this locker",
		Example: "  locker phrase check --phrase-file /media/usb/phrase\n  locker phrase check            (asks for it)",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			phrase, err := c.phrase(file)
			if err != nil {
				return err
			}
			return one(c, cmd.Context(), "phrase check", "phrase.check", daemon.PhraseParams{Phrase: phrase}, func(struct{}) error {
				c.say("That is the phrase of this locker.")
				return nil
			})
		},
	}
	var out string
	identity := &cobra.Command{
		Use:   "identity --out FILE",
		Short: "Write the phrase as an age identity, for the stock age command",
		Long: `Identity writes the age identity that the recovery phrase stands for. With it, age
and zstd alone open what lies on a remote, as daemon/replica/FORMAT.md shows: you
are never bound to this program. The file is as secret as the phrase itself. It
needs no locker on this device.`,
		Example: "  locker phrase identity --out /media/usb/identity.txt --phrase-file /media/usb/phrase",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if out == "" {
				return &daemon.Error{Code: daemon.CodeUsage, Message: "an identity is a secret, so it is not printed", Next: "name a new file with --out"}
			}
			phrase, err := c.phrase(file)
			if err != nil {
				return err
			}
			if err := daemon.WriteIdentity(out, phrase); err != nil {
				return err
			}
			c.say("The age identity of the phrase is in %s. Keep it as safe as the phrase.", out)
			return nil
		},
	}
	identity.Flags().StringVar(&out, "out", "", "a new file for the identity")
	for _, sub := range []*cobra.Command{check, identity} {
		sub.Flags().StringVar(&file, "phrase-file", "", "file that holds the recovery phrase")
		cmd.AddCommand(sub)
	}
	return cmd
}
