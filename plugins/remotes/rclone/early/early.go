// Package early keeps rclone from looking for its owner's settings. Importing rclone
// makes a folder for them, runs programs to find out where, and reads them.
//
// Go initialises packages that are ready in the order of their paths. This one needs
// nothing but os, and its path sorts before rclone's: it comes first.
package early

import "os"

func init() {
	for name, value := range map[string]string{
		"RCLONE_CONFIG": "",    // no configuration file
		"RCLONE_UMASK":  "077", // importing rclone asks the system, which the sandbox forbids, and ends the process
	} {
		if err := os.Setenv(name, value); err != nil {
			panic(err) // only a malformed name can do that
		}
	}
}
