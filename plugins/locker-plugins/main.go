// Locker-plugins holds the connectors and apps that ship with Locker. Its first
// argument names the one that it is to be ("connectors/contacts", "apps/spend"),
// as the program of a manifest does. The host starts a process for each, in a
// sandbox of its own; it is of no use by hand.
package main

import "github.com/locker-project/locker/plugins"

//go:generate go run ./internal/genlist

func main() { plugins.ServeNamed(named()) }
