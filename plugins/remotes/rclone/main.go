// The command locker-rclone keeps sealed objects in any cloud that rclone speaks to.
// Locker starts it, confined, with nothing but the settings of one remote; it holds
// no key, and no object that it could read.
//
// rclone is used as a library: the constructor of a backend is called with settings
// of our own, so that neither rclone's configuration file nor its global state come
// into play. Backends that lead back to this computer's files, that wrap another one,
// and settings that run a program are refused.
package main

import (
	"log/slog"

	"github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/fs/config"

	_ "github.com/rclone/rclone/backend/all"

	"github.com/locker-project/locker/plugins"
	_ "github.com/locker-project/locker/plugins/remotes/rclone/early"
)

func main() {
	detach()
	plugins.Serve(&cloud{})
}

// detach keeps rclone from its owner's configuration file, and drops what it logs,
// which may hold addresses and headers with secrets. Errors are returned, and are
// cleaned on their way.
func detach() {
	_ = config.SetConfigPath("") // an empty path is no error
	fs.SetLogger(slog.DiscardHandler)
}
