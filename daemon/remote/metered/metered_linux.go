//go:build linux && !android

package metered

import (
	"context"
	"time"

	"github.com/godbus/dbus/v5"
)

// patience is how long the system may take to answer.
const patience = 2 * time.Second

// The answers of NetworkManager (NMMetered). It guesses where nobody told it: a phone's
// network is metered.
const (
	yes      = 1
	no       = 2
	guessYes = 3
	guessNo  = 4
)

// Network tells whether the network is metered. known is false where the system does not
// say. It connects anew each time: it is to be called now and then.
func Network(ctx context.Context) (metered, known bool) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	bus, err := dbus.ConnectSystemBus(dbus.WithContext(ctx))
	if err != nil {
		return false, false
	}
	defer bus.Close()
	manager := bus.Object("org.freedesktop.NetworkManager", "/org/freedesktop/NetworkManager")
	var answer dbus.Variant
	call := manager.CallWithContext(ctx, "org.freedesktop.DBus.Properties.Get", dbus.FlagNoAutoStart, "org.freedesktop.NetworkManager", "Metered")
	if call.Store(&answer) != nil {
		return false, false
	}
	switch value, _ := answer.Value().(uint32); value {
	case yes, guessYes:
		return true, true
	case no, guessNo:
		return false, true
	}
	return false, false
}
