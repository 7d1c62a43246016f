package main

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/locker-project/locker/daemon"
	"github.com/locker-project/locker/daemon/remote"
)

// settings reads or changes the settings of this device. change is given what they are.
func (c *cli) settings(cmd *cobra.Command, command string, change func(s *daemon.Settings) (daemon.SettingsParams, error), show func(daemon.Settings) error) error {
	var now daemon.Settings
	if err := c.call(cmd.Context(), command, "settings", daemon.SettingsParams{}, nil, nil, &now); err != nil {
		return err
	}
	params, err := change(&now)
	if err != nil {
		return err
	}
	var raw json.RawMessage
	if err := c.call(cmd.Context(), command, "settings", params, nil, nil, &raw); err != nil {
		return err
	}
	return printOne(c, raw, show)
}

func (c *cli) limitCommand() *cobra.Command {
	var up, down, metered string
	var quiet []string
	cmd := &cobra.Command{
		Use:   "limit",
		Short: "Say how much of the network, and when, syncing may use by itself",
		Long: `Limit shows or sets what this device does with its network by itself. What you ask for
(sync, verify, blob get) is done in any case, within the bounds of speed. In quiet hours
nothing is sent or fetched. On a metered connection changes go, but nothing is rewritten
for the sake of order.`,
		Example: `  locker remote limit --up 500kB --down 2MB
  locker remote limit --quiet 08:00-12:00 --quiet 13:00-17:30 --metered auto
  locker remote limit --up 0 --quiet ''      (no limits)`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.settings(cmd, "remote limit", func(s *daemon.Settings) (daemon.SettingsParams, error) {
				if !anyChanged(cmd, "up", "down", "quiet", "metered") {
					return daemon.SettingsParams{}, nil
				}
				return daemon.SettingsParams{Network: &s.Network}, setPolicy(cmd, &s.Network, up, down, metered, quiet)
			}, func(s daemon.Settings) error {
				c.showPolicy(s.Network)
				return nil
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&up, "up", "", "bytes a second that are sent at most: 500kB, 2MB; 0 is no bound")
	f.StringVar(&down, "down", "", "bytes a second that are fetched at most")
	f.StringArrayVar(&quiet, "quiet", nil, "hours in which nothing is done by itself, such as 22:00-07:00; empty for none")
	f.StringVar(&metered, "metered", "", "whether the network is paid by volume: auto, yes or no")
	return cmd
}

func anyChanged(cmd *cobra.Command, flags ...string) bool {
	for _, f := range flags {
		if cmd.Flags().Changed(f) {
			return true
		}
	}
	return false
}

func setPolicy(cmd *cobra.Command, p *remote.Policy, up, down, metered string, quiet []string) (err error) {
	wrong := func(err error) error {
		if err == nil {
			return nil
		}
		return &daemon.Error{Code: daemon.CodeUsage, Message: err.Error(), Next: seeHelp(cmd)}
	}
	if cmd.Flags().Changed("up") {
		if p.Up, err = parseSize(up); err != nil {
			return wrong(err)
		}
	}
	if cmd.Flags().Changed("down") {
		if p.Down, err = parseSize(down); err != nil {
			return wrong(err)
		}
	}
	if cmd.Flags().Changed("metered") {
		if p.Metered, err = remote.ParseMetered(metered); err != nil {
			return wrong(err)
		}
	}
	if cmd.Flags().Changed("quiet") {
		p.Quiet = nil
		for _, text := range quiet {
			if text == "" {
				continue
			}
			h, err := remote.ParseHours(text)
			if err != nil {
				return wrong(err)
			}
			p.Quiet = append(p.Quiet, h)
		}
	}
	return nil
}

func (c *cli) showPolicy(p remote.Policy) {
	bound := func(n int64) string {
		if n == 0 {
			return "no bound"
		}
		return size(n) + " a second"
	}
	quiet := "none"
	if len(p.Quiet) > 0 {
		var hours []string
		for _, h := range p.Quiet {
			hours = append(hours, h.String())
		}
		quiet = strings.Join(hours, ", ")
	}
	metered := p.Metered
	if metered == "" {
		metered = remote.Auto
	}
	c.say("up           %s", bound(p.Up))
	c.say("down         %s", bound(p.Down))
	c.say("quiet hours  %s", quiet)
	c.say("metered      %s", metered)
}

func (c *cli) cacheCommand() *cobra.Command {
	var mode, most string
	var pins []string
	var days int
	cmd := &cobra.Command{
		Use:   "cache",
		Short: "Say which pictures and attachments are kept on this device",
		Long: `Cache shows or sets what of large bytes lies on this device. The remotes have all of
them. Lazy fetches one when it is asked for, all keeps every one here. With a bound, what
was not asked for longest goes first; what no remote has, and what is pinned, stays.`,
		Example: `  locker blob cache --blobs lazy --max 2GB --pin contacts --pin-days 90
  locker blob cache --blobs all`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.settings(cmd, "blob cache", func(s *daemon.Settings) (daemon.SettingsParams, error) {
				if !anyChanged(cmd, "blobs", "max", "pin", "pin-days") {
					return daemon.SettingsParams{}, nil
				}
				return daemon.SettingsParams{Blobs: &s.Blobs}, setBlobs(cmd, &s.Blobs, mode, most, pins, days)
			}, func(s daemon.Settings) error {
				c.showBlobs(s.Blobs)
				return nil
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&mode, "blobs", "", "lazy or all")
	f.StringVar(&most, "max", "", "bytes that are kept at most: 500MB, 2GB; 0 is no bound")
	f.StringArrayVar(&pins, "pin", nil, "a collection whose blobs stay here; empty for none")
	f.IntVar(&days, "pin-days", 0, "blobs of records of so many days stay here")
	return cmd
}

func setBlobs(cmd *cobra.Command, b *daemon.BlobSettings, mode, most string, pins []string, days int) (err error) {
	if cmd.Flags().Changed("blobs") {
		if mode != "lazy" && mode != "all" {
			return &daemon.Error{Code: daemon.CodeUsage, Message: fmt.Sprintf("%q is no way to keep blobs", mode), Next: "write --blobs lazy or --blobs all"}
		}
		b.All = mode == "all"
	}
	if cmd.Flags().Changed("max") {
		if b.Bytes, err = parseSize(most); err != nil {
			return &daemon.Error{Code: daemon.CodeUsage, Message: err.Error(), Next: seeHelp(cmd)}
		}
	}
	if cmd.Flags().Changed("pin") {
		b.Collections = nil
		for _, pin := range pins {
			if pin != "" {
				b.Collections = append(b.Collections, pin)
			}
		}
	}
	if cmd.Flags().Changed("pin-days") {
		b.Days = max(days, 0)
	}
	return nil
}

func (c *cli) showBlobs(b daemon.BlobSettings) {
	mode, most := "lazy: fetched when asked for", "no bound"
	if b.All {
		mode = "all: every one is fetched"
	}
	if b.Bytes > 0 {
		most = size(b.Bytes)
	}
	c.say("blobs   %s", mode)
	c.say("at most %s", most)
	if len(b.Collections) > 0 {
		c.say("pinned  %s", strings.Join(b.Collections, ", "))
	}
	if b.Days > 0 {
		c.say("pinned  records of the last %d days", b.Days)
	}
}

// parseSize reads a number of bytes: 500kB, 2MB, 1.5GB, or a plain number.
func parseSize(s string) (int64, error) {
	number, unit := strings.TrimRight(s, "kKMGTBi "), strings.TrimSpace(s[len(strings.TrimRight(s, "kKMGTBi ")):])
	factors := map[string]float64{"": 1, "B": 1, "kB": 1e3, "KB": 1e3, "k": 1e3, "MB": 1e6, "M": 1e6, "GB": 1e9, "G": 1e9, "TB": 1e12, "T": 1e12,
		"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
	n, err := strconv.ParseFloat(number, 64)
	factor, ok := factors[unit]
	if err != nil || !ok || n < 0 || n*factor > 1<<60 {
		return 0, fmt.Errorf("%.40q is no number of bytes: write 500kB, 2MB or 1GB", s)
	}
	return int64(n * factor), nil
}
