// Package early keeps rclone from looking for its owner's settings. Importing rclone
// makes a folder for them, runs programs to find out where, and reads them.
//
// Go initialises packages that are ready in the order of their paths. This one needs
// nothing but os, and its path sorts before rclone's: it comes first.
package early

import "os"

func init() {
	if err := os.Setenv("RCLONE_CONFIG", ""); err != nil {
		panic(err) // only a malformed name can do that
	}
}
