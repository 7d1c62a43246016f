package host

import (
	"fmt"
	"strings"
)

// A Mode says what confines a process.
type Mode struct {
	Namespaces bool   // its own users, files, processes and network
	Landlock   int    // version of the kernel's Landlock interface; 0 is none
	Seccomp    bool   // only the system calls that a plugin needs
	Limits     bool   // resource limits
	Why        string // what is missing, and why; empty where all is well
}

// String is one line, beginning with "full", "fallback" or "none".
func (m Mode) String() string {
	var layers []string
	if m.Namespaces {
		layers = append(layers, "namespaces")
	}
	if m.Landlock > 0 {
		layers = append(layers, fmt.Sprintf("landlock %d", m.Landlock))
	}
	if m.Seccomp {
		layers = append(layers, "seccomp")
	}
	if m.Limits {
		layers = append(layers, "rlimits")
	}
	word := "none"
	switch {
	case m.Namespaces && m.Seccomp && m.Limits:
		word = "full"
	case m.Seccomp && m.Landlock > 0:
		word = "fallback"
	}
	if len(layers) > 0 {
		word += ": " + strings.Join(layers, ", ")
	}
	if m.Why != "" {
		word += " (" + m.Why + ")"
	}
	return word
}
