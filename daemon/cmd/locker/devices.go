package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/locker-project/locker/daemon"
)

func (c *cli) deviceCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "device", Short: "See and change the devices of the locker"}
	cmd.AddCommand(&cobra.Command{
		Use:     "list",
		Short:   "List the devices of the locker",
		Example: "  locker device list",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var devices []daemon.Device
			err := list(c, cmd.Context(), "device list", "device.list", struct{}{}, func(d daemon.Device) error {
				devices = append(devices, d)
				return nil
			})
			c.showDevices(devices)
			return err
		},
	}, c.inviteCommand(), c.joinCommand(), c.removeCommand())
	return cmd
}

func (c *cli) inviteCommand() *cobra.Command {
	var params daemon.InviteParams
	cmd := &cobra.Command{
		Use:   "invite",
		Short: "Show a code with which another device joins this locker",
		Long: `Invite shows a code and waits until another device has joined with it, for ten
minutes at most. The code goes from screen to screen, and never through the cloud;
whoever has the cloud has one guess at it. Both screens then show the same
fingerprint.`,
		Example: `  locker device invite
  locker device invite --qr        (a code to be scanned with a phone)`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if params.Passphrase, err = c.confirm(cmd, "device invite"); err != nil {
				return err
			}
			var end json.RawMessage
			err = c.call(cmd.Context(), "device invite", "device.invite", params, nil, func(raw json.RawMessage) error {
				if c.json {
					return c.line(raw)
				}
				var in daemon.Invitation
				if err := json.Unmarshal(raw, &in); err != nil {
					return err
				}
				return c.showInvitation(in, params.Long)
			}, &end)
			if err != nil {
				return err
			}
			return printOne(c, end, func(done daemon.Invited) error {
				c.say("%s is now a device of this locker. Both screens show %s.", done.Name, done.Fingerprint)
				c.say("If the other screen shows something else, or that was not you: 'locker device list', and remove it.")
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&params.Long, "qr", false, "show a longer code, as a QR code too")
	return cmd
}

func (c *cli) showInvitation(in daemon.Invitation, drawn bool) error {
	c.say("The code, good for one device until %s:\n\n    %s\n", in.Until.Local().Format("15:04"), in.Code)
	if drawn {
		picture, err := qrLines(in.Code)
		if err != nil {
			return err
		}
		fmt.Fprintln(c.out, picture)
	}
	c.say("On the other device:")
	for _, spec := range in.Remotes {
		c.say("    locker device join --remote '%s'", spec)
	}
	return nil
}

func (c *cli) joinCommand() *cobra.Command {
	var remote, remoteFile, codeFile, name, signIn string
	cmd := &cobra.Command{
		Use:   "join",
		Short: "Make this device one of a locker, with a code that another device shows",
		Long: `Join makes this device one of a locker. On a device that is one already,
'locker device invite' shows a code; join asks for it, meets that device through the
remote, and brings everything here. The recovery phrase is not needed. Cut off, it
goes on with the same command.`,
		Example: "  locker device join --remote dir:/mnt/cloud/locker\n  locker device join --remote rclone:mycloud:locker --name phone",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			home, err := c.homeDir()
			if err != nil {
				return err
			}
			spec, err := c.signedIn(cmd.Context(), remote, remoteFile, signIn)
			if err != nil {
				return err
			}
			if spec == "" {
				return &daemon.Error{Code: daemon.CodeUsage, Message: "the remote through which the devices meet is missing", Next: "name it with --remote or --remote-file"}
			}
			pass, err := c.newPassphrase()
			if err != nil {
				return err
			}
			joined, err := daemon.JoinDevice(cmd.Context(), home, daemon.SetUp{Remote: spec, Name: name, Passphrase: pass, Progress: c.progress, Options: c.options()}, daemon.Join{
				Code: func() (string, error) { return c.code(codeFile) },
				Meet: func(fingerprint, other string) {
					c.clearProgress()
					fmt.Fprintln(c.err, plain(fmt.Sprintf("Met device %s. Both screens show %s.", other, fingerprint)))
				},
			})
			c.clearProgress()
			if err != nil {
				return err
			}
			if c.json {
				return c.value(joined)
			}
			c.say("This device, %q, is now one of the locker %s: %d records, state %s.", joined.Name, joined.Locker, joined.Records, short(joined.StateHash))
			c.showProtection(joined.KeyProtection)
			c.showNotices("pending", joined.Pending)
			c.showNotices("ALARM", joined.Alarms)
			c.showDevices(joined.Devices)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&remote, "remote", "", "where the sealed objects are: dir:PATH or rclone:REMOTE:PATH")
	f.StringVar(&remoteFile, "remote-file", "", "file whose first line is the remote, for one that holds secrets")
	signInFlag(f, &signIn)
	f.StringVar(&codeFile, "code-file", "", "file whose first line is the code")
	f.StringVar(&name, "name", "", "name of this device (default: the host's)")
	return cmd
}

func (c *cli) removeCommand() *cobra.Command {
	var params daemon.RemoveParams
	var phraseFile string
	var phrase bool
	cmd := &cobra.Command{
		Use:   "remove DEVICE",
		Short: "Remove a device that is lost, sold or stolen",
		Long: `Remove makes a device one of this locker no more: nothing that it writes from now on
counts, nothing is sealed so that it could read it, and what it granted is revoked.
It cannot take back what the device has read, nor its login to your clouds: revoke
that there, or it can delete what lies on them.

A device that is senior to this one and removed it before wins. The recovery phrase
settles such a fight: with --phrase-file, or --phrase to type it, nobody can undo the
removal, and --undo names devices that the removed one had removed, or let in.`,
		Example: `  locker device remove phone
  locker device remove 7k2m --phrase-file /media/usb/phrase --undo tablet`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			params.Device = args[0]
			var err error
			if params.Passphrase, err = c.confirm(cmd, "device remove"); err != nil {
				return err
			}
			if phrase || phraseFile != "" {
				if params.Phrase, err = c.phrase(phraseFile); err != nil {
					return err
				}
			}
			return one(c, cmd.Context(), "device remove", "device.remove", params, func(r daemon.Removed) error {
				return c.showRemoval(r)
			})
		},
	}
	f := cmd.Flags()
	f.BoolVar(&phrase, "phrase", false, "remove it with the word of the recovery phrase, which is asked for")
	f.StringVar(&phraseFile, "phrase-file", "", "the same, with the phrase in this file")
	f.StringSliceVar(&params.Undo, "undo", nil, "with the phrase: devices about which the removed one's word does not count")
	return cmd
}

func (c *cli) showRemoval(r daemon.Removed) error {
	if !r.Standing {
		return &daemon.Error{Code: daemon.CodeRefused, Message: fmt.Sprintf("%s (%s) is still in: a device senior to this one has removed this one before", r.Name, r.Device),
			Next: "settle it with the recovery phrase: 'locker device remove " + r.Device + " --phrase'"}
	}
	c.say("%s (%s) is removed. Of what it wrote, %d entries count: those that this device had read.", r.Name, r.Device, r.Entries)
	c.say("What this does not do:")
	for _, left := range r.Left {
		c.say("- %s", left)
	}
	return nil
}

// code reads the code of an invitation: from a file, or from standard input, where it
// may be seen: it is good once, and the other screen shows it anyway.
func (c *cli) code(file string) (string, error) {
	if file != "" {
		return firstLine(file, "code")
	}
	if isTerminal(c.in) {
		fmt.Fprint(c.err, "Code on the other screen: ")
	}
	line, err := bufio.NewReader(io.LimitReader(c.in, 4<<10)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	if line = strings.TrimSpace(line); line == "" {
		return "", &daemon.Error{Code: daemon.CodeUsage, Message: "there is no code", Next: "run 'locker device invite' on the other device, and type what it shows, or name a file with --code-file"}
	}
	return line, nil
}

// lastSeen says when a device last showed that it lives.
func lastSeen(d daemon.Device) string {
	switch {
	case d.This:
		return "this device"
	case d.Removed:
		return "removed" + because(d.Why)
	}
	return "last seen " + ago(d.LastSeen, time.Now())
}

func because(why string) string {
	if why == "" {
		return ""
	}
	return ": " + why
}

// stillYours asks which devices are still the owner's after a restore, which is the one
// defence against a cloud that keeps a removal back. Those that are not are removed with
// the phrase's word.
func (c *cli) stillYours(ctx context.Context, devices []daemon.Device, phrase, passphrase string) error {
	others := slices.DeleteFunc(slices.Clone(devices), func(d daemon.Device) bool { return d.This || d.Removed })
	if len(others) == 0 || !isTerminal(c.in) {
		c.say("Is that what you expect, and are all of them still yours? If not: 'locker device remove', a live device nearby, or a second remote.")
		return nil
	}
	in := bufio.NewReader(c.in)
	for _, d := range others {
		fmt.Fprint(c.err, plain(fmt.Sprintf("Is %s (%s) still yours? [Y/n] ", d.Name, lastSeen(d))))
		line, err := in.ReadString('\n')
		if err != nil {
			return err
		}
		if answer := strings.ToLower(strings.TrimSpace(line)); answer != "n" && answer != "no" {
			continue
		}
		err = one(c, ctx, "device remove", "device.remove", daemon.RemoveParams{Device: d.ID, Phrase: phrase, Passphrase: passphrase}, c.showRemoval)
		if err != nil {
			return err
		}
	}
	return nil
}
