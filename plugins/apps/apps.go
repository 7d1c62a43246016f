// Package apps holds the manifests of the apps that ship with Locker. Each app
// is one folder with its manifest, code and tests, linked into the program
// locker-plugins and run as a process of its own. This package links none of
// them.
package apps

import "embed"

// Manifests holds NAME/manifest.json for each app.
//
//go:embed */manifest.json
var Manifests embed.FS
