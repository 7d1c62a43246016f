package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/locker-project/locker/daemon"
)

func (c *cli) initCommand() *cobra.Command {
	var remote, remoteFile, phraseOut, name, signIn string
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make a new locker on this device",
		Long: `Init makes a locker, and with --remote a place in a cloud for it.

It shows the recovery phrase once, or writes it to the file of --phrase-out. The
phrase and any one remote bring everything back; without it and without a device,
the data is lost. Nobody can reset it.

A remote is dir:PATH, or rclone: and what rclone calls a remote, as in
rclone:mycloud:locker.`,
		Example: `  locker init --remote dir:/mnt/cloud/locker
  locker init --remote rclone:mycloud:locker --phrase-out /media/usb/phrase`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			home, err := c.homeDir()
			if err != nil {
				return err
			}
			spec, err := c.signedIn(cmd.Context(), remote, remoteFile, signIn)
			if err != nil {
				return err
			}
			pass, err := c.newPassphrase()
			if err != nil {
				return err
			}
			made, err := daemon.Init(cmd.Context(), home, daemon.SetUp{Remote: spec, Name: name, Passphrase: pass, PhraseOut: phraseOut, Show: c.showNewPhrase(), Options: c.options()})
			if err != nil {
				return err
			}
			if c.json {
				return c.value(made)
			}
			c.say("Locker %s made in %s on device %q.", made.Locker, string(home), made.Name)
			c.showProtection(made.KeyProtection)
			if phraseOut != "" {
				c.say("The recovery phrase is in %s. Keep it off this device, and off the cloud.", phraseOut)
			}
			if spec == "" {
				c.say("Next: 'locker remote add NAME SPEC' for a copy in a cloud, then 'locker import PATH'.")
			} else {
				c.say("Next: 'locker import PATH', then 'locker sync'.")
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&remote, "remote", "", "where to keep sealed objects: dir:PATH or rclone:REMOTE:PATH")
	f.StringVar(&remoteFile, "remote-file", "", "file whose first line is the remote, for one that holds secrets")
	signInFlag(f, &signIn)
	f.StringVar(&phraseOut, "phrase-out", "", "write the recovery phrase to this new file instead of showing it")
	f.StringVar(&name, "name", "", "name of this device (default: the host's)")
	return cmd
}

func (c *cli) showProtection(p string) {
	if strings.HasPrefix(p, "file") {
		c.say("The keys of this device lie in a file that only your account can read; a passphrase would protect them further.")
	}
}

// showNewPhrase returns what shows the phrase of a locker that is being made:
// before it is there, so that no locker exists whose phrase nobody saw. With --json
// the phrase is in the answer instead.
func (c *cli) showNewPhrase() func(string) error {
	if c.json {
		return nil
	}
	return func(phrase string) error {
		c.showPhrase(phrase)
		return nil
	}
}

func (c *cli) showPhrase(phrase string) {
	c.say("Your recovery phrase. Write it down now: it is shown once.\n")
	words := strings.Fields(phrase)
	t := c.table()
	for row := range slices.Chunk(slices.Collect(numbered(words)), 6) {
		fmt.Fprintf(t, "  %s\n", strings.Join(row, "\t"))
	}
	t.Flush()
	c.say("")
}

func numbered(words []string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for i, w := range words {
			if !yield(fmt.Sprintf("%2d %s", i+1, w)) {
				return
			}
		}
	}
}

// remoteSpec returns the spec given directly or in a file.
func remoteSpec(spec, file string) (string, error) {
	if file == "" {
		return spec, nil
	}
	if spec != "" {
		return "", &daemon.Error{Code: daemon.CodeUsage, Message: "a remote is given twice, by --remote and by --remote-file"}
	}
	return firstLine(file, "remote")
}

func (c *cli) restoreCommand() *cobra.Command {
	var remote, remoteFile, phraseFile, name, sheet, signIn string
	var noWait bool
	cmd := &cobra.Command{
		Use:   "restore",
		Short: "Get your locker back on this device, from a remote and the recovery phrase",
		Long: `Restore brings a locker back, the newest data first.

From the first moment on it can be used: while restore goes on, other commands
show what has come, and 'locker status' how much is missing. Cut off, 'locker
daemon' goes on, or the same command. With --no-wait it ends once the newest
data is here, and leaves the rest to the daemon.`,
		Example: `  locker restore --remote rclone:mycloud:locker --phrase-file /media/usb/phrase
  locker restore --remote dir:/mnt/cloud/locker      (asks for the phrase)`,
		Args: cobra.NoArgs,
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
				return &daemon.Error{Code: daemon.CodeUsage, Message: "restore needs a remote", Next: "name it with --remote or --remote-file"}
			}
			phrase, err := c.phrase(phraseFile)
			if err != nil {
				return err
			}
			pass, err := c.newPassphrase()
			if err != nil {
				return err
			}
			restored, err := daemon.Restore(cmd.Context(), home, daemon.SetUp{Remote: spec, Name: name, Passphrase: pass, Phrase: phrase, NoWait: noWait, Progress: c.progress, Options: c.options()})
			c.clearProgress()
			if err != nil {
				return err
			}
			if c.json {
				return c.value(restored)
			}
			c.say("Locker %s restored to %s as device %q: %d records, state %s.", restored.Locker, string(home), restored.Name, restored.Records, short(restored.StateHash))
			c.showProtection(restored.KeyProtection)
			if restored.Restoring != nil {
				c.say("The newest is here. The rest comes while 'locker daemon' runs; 'locker status' tells how far it is.")
			}
			if n := len(restored.Pending) + len(restored.Alarms); n > 0 {
				c.say("This is not all of it: something is missing on the remote, damaged or not readable yet. The rest is here.")
				c.showNotices("pending", restored.Pending)
				c.showNotices("ALARM", restored.Alarms)
			}
			c.say("How fresh this is cannot be proved from one cloud alone. The newest sign of life of each device:")
			c.showDevices(restored.Devices)
			if sheet != "" {
				if err := c.checkSheet(cmd.Context(), sheet); err != nil {
					return err
				}
			}
			return c.stillYours(cmd.Context(), restored.Devices, phrase, pass)
		},
	}
	f := cmd.Flags()
	f.StringVar(&remote, "remote", "", "where the sealed objects are: dir:PATH or rclone:REMOTE:PATH")
	f.StringVar(&remoteFile, "remote-file", "", "file whose first line is the remote, for one that holds secrets")
	signInFlag(f, &signIn)
	f.StringVar(&phraseFile, "phrase-file", "", "file that holds the recovery phrase")
	f.StringVar(&name, "name", "", "name of this device (default: the host's)")
	f.StringVar(&sheet, "sheet-file", "", "compare with the groups of the recovery sheet in this file")
	f.BoolVar(&noWait, "no-wait", false, "end once the newest data is here; the daemon brings the rest")
	return cmd
}

func (c *cli) syncCommand() *cobra.Command {
	var params daemon.SyncParams
	cmd := &cobra.Command{
		Use:     "sync",
		Short:   "Exchange changes with every remote, once",
		Example: "  locker sync",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var raw json.RawMessage
			if err := c.call(cmd.Context(), "sync", "sync", params, nil, nil, &raw); err != nil {
				return err
			}
			var s daemon.SyncSummary
			if err := json.Unmarshal(raw, &s); err != nil {
				return err
			}
			if c.json {
				if err := c.line(raw); err != nil {
					return err
				}
			} else {
				c.say("up %d objects, %s; down %d objects, %s; %d records; %d requests", s.ObjectsUp, size(s.BytesUp), s.ObjectsDown, size(s.BytesDown), s.Records, s.Requests)
				c.showNotices("pending", s.Pending)
				c.showNotices("ALARM", s.Alarms)
			}
			if len(s.Alarms) > 0 {
				return &daemon.Error{Code: daemon.CodeIntegrity, Message: fmt.Sprintf("%d alarms: the cloud, or a device, did not return what was written", len(s.Alarms)), Next: "see 'locker status'"}
			}
			return failedRemotes(s.Failed)
		},
	}
	cmd.Flags().BoolVar(&params.Full, "full", false, "look at every device and every object named anywhere, not only at what is new")
	return cmd
}

func failedRemotes(failed map[string]string) error {
	var errs []error
	for name, why := range failed {
		errs = append(errs, fmt.Errorf("remote %s: %s", name, why))
	}
	if err := errors.Join(errs...); err != nil {
		return &daemon.Error{Code: daemon.CodeFailed, Message: err.Error(), Next: "nothing is lost: what is unsent is kept and sent by the next sync; see 'locker remote check'"}
	}
	return nil
}

func (c *cli) showNotices(label string, notices []daemon.Notice) {
	for _, n := range notices {
		c.say("%s: %s (%s)", label, n.What, n.Kind)
		if n.Do != "" {
			c.say("  next: %s", n.Do)
		}
	}
}

func (c *cli) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "status",
		Short:   "Show devices, remotes, what waits and what is wrong",
		Example: "  locker status\n  locker status --json | jq .alarms",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return one(c, cmd.Context(), "status", "status", struct{}{}, c.showStatus)
		},
	}
}

func (c *cli) showStatus(s daemon.Status) error {
	t := c.table()
	row := func(label, format string, args ...any) {
		fmt.Fprintf(t, "%s\t%s\n", label, plain(fmt.Sprintf(format, args...)))
	}
	row("locker", "%s in %s", s.Locker, s.Home)
	row("records", "%d, state %s", s.Records, short(s.StateHash))
	expected := map[string]int64{}
	if r := s.Restoring; r != nil {
		expected = r.Expected
		row("restoring", "%d of %d objects are here, the newest first%s", r.Objects, r.Of, left(time.Duration(r.Left)*time.Second))
	}
	for name, n := range sorted(s.Collections) {
		if all := expected[name]; all > n {
			row("", "%d of about %d %s", n, all, name)
		} else {
			row("", "%d %s", n, name)
		}
		delete(expected, name)
	}
	for name, all := range sorted(expected) {
		row("", "0 of about %d %s", all, name)
	}
	for _, r := range s.Remotes {
		row("remote", "%s: %s, %d unsent, last sync %s", r.Name, r.Spec, r.Unsent, ago(r.LastSync, time.Now()))
		if r.Problem != "" {
			row("", "%s", r.Problem)
		}
	}
	if len(s.Remotes) == 0 {
		row("remote", "none: nothing is kept outside this device; see 'locker remote add'")
	}
	row("sandbox", "%s", s.Sandbox)
	row("keys", "%s", s.KeyProtection)
	if s.Daemon != 0 {
		row("daemon", "process %d, version %s", s.Daemon, s.Version)
	} else {
		row("daemon", "not running")
	}
	if err := t.Flush(); err != nil {
		return err
	}
	c.showDevices(s.Devices)
	c.showNotices("pending", s.Pending)
	c.showNotices("ALARM", s.Alarms)
	if len(s.Alarms) > 0 {
		return &daemon.Error{Code: daemon.CodeIntegrity, Message: fmt.Sprintf("%d alarms", len(s.Alarms)), Next: "do what each says"}
	}
	return nil
}

// left says how long a restore will still take, where that is known.
func left(d time.Duration) string {
	switch {
	case d <= 0:
		return ""
	case d < 2*time.Minute:
		return fmt.Sprintf(", about %d s left", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf(", about %d minutes left", int(d.Minutes()))
	}
	return fmt.Sprintf(", about %d hours left", int(d.Hours()))
}

func (c *cli) showDevices(devices []daemon.Device) {
	t := c.table()
	for _, d := range devices {
		fmt.Fprintf(t, "device\t%s\t%s\t%s\n", plain(d.Name), d.ID, lastSeen(d))
	}
	t.Flush()
}

func (c *cli) verifyCommand() *cobra.Command {
	var params daemon.RemoteParams
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Read a whole remote back and check everything",
		Long: `Verify reads every object of a remote back, checks its signature and its place, and
puts again what this device wrote and the remote has lost.`,
		Example: "  locker verify",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			bad := 0
			err := list(c, cmd.Context(), "verify", "verify", params, func(v daemon.VerifySummary) error {
				c.say("%s: %d objects, %s read and checked; %d missing, %d bad, %d repaired, %d names not ours", v.Remote, v.Objects, size(v.Bytes), len(v.Missing), len(v.Bad), v.Repaired, v.Misfits)
				for _, m := range v.Missing {
					c.say("! missing: %s", m)
				}
				for _, m := range v.Bad {
					c.say("! bad: %s", m)
				}
				bad += len(v.Bad) + len(v.Missing)
				return nil
			})
			if err == nil && bad > 0 {
				err = &daemon.Error{Code: daemon.CodeIntegrity, Message: fmt.Sprintf("%d objects are missing or bad", bad), Next: "run 'locker sync' on the device that wrote them, or check the remote's own history"}
			}
			return err
		},
	}
	cmd.Flags().StringVar(&params.Name, "remote", "", "name of the remote (default: all)")
	return cmd
}

// short is the beginning of a hash, enough for two people to compare.
func short(hash string) string { return hash[:min(16, len(hash))] }
