package main

import (
	"context"
	"encoding/json"
	"errors"
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
	cmd := &cobra.Command{Use: "phrase", Short: "Check, use and replace the recovery phrase"}
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
	cmd.AddCommand(c.phraseReplaceCommand(), c.phraseAnswerCommand("accept", "Honour a new recovery phrase that another device made"), c.phraseAnswerCommand("refuse", "Do not honour a new recovery phrase"))
	for _, sub := range []*cobra.Command{check, identity} {
		sub.Flags().StringVar(&file, "phrase-file", "", "file that holds the recovery phrase")
		cmd.AddCommand(sub)
	}
	return cmd
}

func (c *cli) phraseReplaceCommand() *cobra.Command {
	var params daemon.ReplaceParams
	var oldFile, out string
	var noOld bool
	cmd := &cobra.Command{
		Use:   "replace",
		Short: "Replace the recovery phrase by a new one",
		Long: `Replace makes a new recovery phrase. With the old one, all devices follow by
themselves. Without it (--without-old: it is lost) each other device asks its owner
first, or a thief of one device could take the locker: 'locker phrase accept' there.

A phrase that was stolen is not mended by this: who had it may have read everything,
and what it signed before counts. Then make a new locker.`,
		Example: `  locker phrase replace --phrase-file /media/usb/phrase --phrase-out /media/usb/new
  locker phrase replace --without-old`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if c.json && out == "" {
				return &daemon.Error{Code: daemon.CodeUsage, Message: "a recovery phrase is not printed among JSON", Next: "name a new file with --phrase-out"}
			}
			var err error
			if params.Passphrase, err = c.confirm(cmd, "phrase replace"); err != nil {
				return err
			}
			if !noOld {
				if params.Old, err = c.phrase(oldFile); err != nil {
					return err
				}
			}
			params.New = daemon.NewPhrase()
			if err := c.handOver(params.New, out); err != nil {
				return err
			}
			err = one(c, cmd.Context(), "phrase replace", "phrase.replace", params, func(r daemon.Replaced) error {
				c.say("The new phrase stands. Its sign is %s: write it beside the words.", r.Phrase)
				if r.Asks {
					c.say("Each other device asks first: there, run 'locker phrase accept %s'. Until then it holds to the old one.", r.Phrase)
				}
				c.say("Destroy the old sheet once the other devices have synced.")
				return nil
			})
			if err != nil && out != "" {
				err = errors.Join(err, os.Remove(out)) // it opens nothing
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&oldFile, "phrase-file", "", "file that holds the old phrase")
	f.BoolVar(&noOld, "without-old", false, "the old phrase is lost")
	f.StringVar(&out, "phrase-out", "", "write the new phrase to this new file instead of showing it")
	return cmd
}

// handOver gives the owner a new phrase, before it is used: in a file, or on the screen,
// where the last word is asked for.
func (c *cli) handOver(phrase, out string) error {
	if out != "" {
		f, err := os.OpenFile(out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return &daemon.Error{Code: daemon.CodeUsage, Message: fmt.Sprintf("cannot write the new phrase: %v", err), Next: "name a file that does not exist with --phrase-out"}
		}
		_, err = fmt.Fprintln(f, phrase)
		return errors.Join(err, f.Sync(), f.Close())
	}
	c.showPhrase(phrase)
	if !isTerminal(c.in) {
		return nil
	}
	last := phrase[strings.LastIndexByte(phrase, ' ')+1:]
	typed, err := c.ask("Written down? Type the last word: ")
	if err == nil && strings.TrimSpace(strings.ToLower(typed)) != last {
		err = &daemon.Error{Code: daemon.CodeFailed, Message: "that is not the last word; the old phrase stands", Next: "run the command again: it makes another new phrase"}
	}
	return err
}

func (c *cli) phraseAnswerCommand(answer, short string) *cobra.Command {
	return &cobra.Command{
		Use:   answer + " SIGN",
		Short: short,
		Long: short + `.

Another device made it without the old phrase, so this one asks. Compare the sign with
the one on the new sheet: what 'locker status' shows, and nothing else, is meant.`,
		Example: "  locker phrase " + answer + " mfrggzdfmztwq2lk",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			params := daemon.AnswerParams{Phrase: args[0]}
			var err error
			if params.Passphrase, err = c.confirm(cmd, "phrase "+answer); err != nil {
				return err
			}
			return one(c, cmd.Context(), "phrase "+answer, "phrase."+answer, params, func(struct{}) error {
				c.say("This device says %s to the phrase %s.", map[string]string{"accept": "yes", "refuse": "no"}[answer], args[0])
				return nil
			})
		},
	}
}

func (c *cli) sheetCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "sheet",
		Short: "Print what belongs beside the recovery phrase, or compare with it",
		Long: `Sheet prints a few lines for the paper on which the recovery phrase is: how far each
device had written when it was printed. One cloud alone cannot prove that it shows the
newest; with the sheet a restored device can tell what is older than the paper. Print
it anew now and then. It holds no secret, but belongs to the phrase.`,
		Example: "  locker sheet | lp\n  locker sheet --check sheet.txt      (after a restore)",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file != "" {
				return c.checkSheet(cmd.Context(), file)
			}
			return one(c, cmd.Context(), "sheet", "sheet", struct{}{}, func(s daemon.Sheet) error {
				c.say("Locker        %s", s.Locker)
				if s.Phrase != "" {
					c.say("Phrase        %s", s.Phrase)
				}
				for _, r := range s.Remotes {
					c.say("Remote        %s", r)
				}
				c.say("As it was     %s", s.Text)
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&file, "check", "", "compare with the groups of a sheet in this file")
	return cmd
}

// checkSheet compares the locker with a sheet that somebody typed.
func (c *cli) checkSheet(ctx context.Context, file string) error {
	raw, err := os.ReadFile(file)
	if err != nil {
		return &daemon.Error{Code: daemon.CodeUsage, Message: fmt.Sprintf("cannot read the sheet: %v", err)}
	}
	text := string(raw)
	if _, after, ok := strings.Cut(text, "As it was"); ok {
		text = after
	}
	var end json.RawMessage
	err = c.call(ctx, "sheet", "sheet.check", daemon.SheetParams{Text: text}, nil, func(raw json.RawMessage) error {
		if c.json {
			return c.line(raw)
		}
		var s daemon.SheetLine
		if err := json.Unmarshal(raw, &s); err != nil {
			return err
		}
		c.say("%s", sheetText(s))
		return nil
	}, &end)
	if err != nil {
		return err
	}
	var sum daemon.SheetSummary
	if err := json.Unmarshal(end, &sum); err != nil {
		return err
	}
	if c.json {
		if err := c.line(end); err != nil {
			return err
		}
	}
	if sum.Behind {
		return &daemon.Error{Code: daemon.CodeIntegrity, Message: "what is here is older than the sheet of " + sum.Printed.Format("2 January 2006") + ", or another",
			Next: "bring a device near that has the rest, or add a second remote; what is missing shows in 'locker status' until it is there"}
	}
	return nil
}

func sheetText(s daemon.SheetLine) string {
	name := s.Name
	if name == "" {
		name = s.Device
	}
	switch {
	case !s.Known:
		return fmt.Sprintf("! %s is not known here", name)
	case s.Differs:
		return fmt.Sprintf("! %s: entry %d is another one here", name, s.Sheet)
	case s.Here < s.Sheet:
		return fmt.Sprintf("! %s: here up to entry %d, on the sheet %d", name, s.Here, s.Sheet)
	}
	return fmt.Sprintf("  %s: as on the sheet, or newer (entry %d; sheet %d)", name, s.Here, s.Sheet)
}
