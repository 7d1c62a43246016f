package main

import (
	"github.com/spf13/cobra"

	"github.com/locker-project/locker/daemon"
)

func (c *cli) deviceCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "device", Short: "See the devices of the locker"}
	cmd.AddCommand(&cobra.Command{
		Use:     "list",
		Short:   "List the devices of the locker",
		Example: "  locker device list",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return list(c, cmd.Context(), "device list", "device.list", struct{}{}, func(d daemon.Device) error {
				c.showDevices([]daemon.Device{d})
				return nil
			})
		},
	})
	return cmd
}
