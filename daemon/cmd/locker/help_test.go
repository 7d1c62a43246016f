package main

import (
	"io"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// TestHelp: every command says what it does, and shows at least one way to call it.
func TestHelp(t *testing.T) {
	c := &cli{in: strings.NewReader(""), out: io.Discard, err: io.Discard}
	n := 0
	var visit func(cmd *cobra.Command)
	visit = func(cmd *cobra.Command) {
		for _, sub := range cmd.Commands() {
			n++
			if sub.Short == "" || strings.HasSuffix(sub.Short, ".") {
				t.Errorf("%s: short help %q", sub.CommandPath(), sub.Short)
			}
			if !strings.Contains(sub.Example, "locker "+path(sub)) && !sub.HasSubCommands() {
				t.Errorf("%s: no example", sub.CommandPath())
			}
			visit(sub)
		}
	}
	visit(c.root())
	if n < 30 {
		t.Errorf("only %d commands were looked at", n)
	}
}
