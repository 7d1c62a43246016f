package plugins

import "os"

// Serve serves v, an [App], a [Connector] or a [Remote], to the host that started
// this process. It is all that a plugin's main function calls, and does not return.
func Serve(v any) { os.Exit(2) }

// ServeNamed serves one of several plugins that share a program: the one that the
// first argument names. Only that one is made. It does not return.
func ServeNamed(named map[string]func() any) { os.Exit(2) }
