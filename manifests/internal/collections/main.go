// Collections writes COLLECTIONS.md, the page about the well-known collections,
// from their schemas. Run it with go generate in package manifests.
package main

import (
	"fmt"
	"os"

	"github.com/locker-project/locker/manifests"
)

func main() {
	if err := os.WriteFile("COLLECTIONS.md", manifests.Page(), 0o644); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
