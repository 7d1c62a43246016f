// Package connectors holds the manifests of the connectors that ship with
// Locker. Each connector is one folder: manifest, recogniser, parser, tests with
// samples of its own, and a README that says by which clicks a person gets the
// export.
//
// The connectors themselves are packages below this one, linked into the program
// locker-plugins and run as processes of their own. This package links none of
// them, so that the daemon can know what there is without their parsers.
package connectors

import "embed"

// Manifests holds NAME/manifest.json for each connector.
//
//go:embed */manifest.json
var Manifests embed.FS
