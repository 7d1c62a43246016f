//go:build linux && !android

package metered

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/godbus/dbus/v5/prop"
)

// newBus starts a bus of its own, and has it stand for the system's.
func newBus(t *testing.T) string {
	t.Helper()
	program, err := exec.LookPath("dbus-daemon")
	if err != nil {
		t.Skip("dbus-daemon is not installed: on Debian, apt-get install dbus-daemon")
	}
	dir := t.TempDir()
	conf, socket := filepath.Join(dir, "conf"), filepath.Join(dir, "bus")
	if err := os.WriteFile(conf, fmt.Appendf(nil, `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>session</type><listen>unix:path=%s</listen><policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>`, socket), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "--nofork", "--config-file="+conf)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	for range 200 {
		if _, err := os.Stat(socket); err == nil {
			return "unix:path=" + socket
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatal("the bus does not run")
	return ""
}

// TestNetwork asks a bus on which something answers as NetworkManager does, and one
// where nothing does.
func TestNetwork(t *testing.T) {
	address := newBus(t)
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", address)
	if _, known := Network(t.Context()); known {
		t.Error("known without NetworkManager")
	}
	bus, err := dbus.Connect(address)
	if err != nil {
		t.Fatal(err)
	}
	defer bus.Close()
	const name = "org.freedesktop.NetworkManager"
	properties, err := prop.Export(bus, "/org/freedesktop/NetworkManager", prop.Map{name: {"Metered": {Value: uint32(0), Emit: prop.EmitFalse}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bus.RequestName(name, dbus.NameFlagDoNotQueue); err != nil {
		t.Fatal(err)
	}
	for value, want := range map[uint32][2]bool{0: {false, false}, yes: {true, true}, no: {false, true}, guessYes: {true, true}, guessNo: {false, true}, 99: {false, false}} {
		properties.SetMust(name, "Metered", value)
		if metered, known := Network(t.Context()); metered != want[0] || known != want[1] {
			t.Errorf("%d: metered %v, known %v; want %v", value, metered, known, want)
		}
	}
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nowhere")
	if _, known := Network(t.Context()); known {
		t.Error("known without a bus")
	}
}
