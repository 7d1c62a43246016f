package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/gofrs/flock"

	"github.com/locker-project/locker/plugins/host"
)

// A Finding is what one check of [Examine] found.
type Finding struct {
	Check string `json:"check"`
	OK    bool   `json:"ok"`
	Found string `json:"found"`
	Do    string `json:"do,omitempty"` // what to do about it
}

// An examiner collects findings.
type examiner struct {
	home     Home
	options  Options
	findings []Finding
}

func (e *examiner) ok(check, format string, args ...any) {
	e.findings = append(e.findings, Finding{Check: check, OK: true, Found: fmt.Sprintf(format, args...)})
}

func (e *examiner) bad(check, do, format string, args ...any) {
	e.findings = append(e.findings, Finding{Check: check, Found: fmt.Sprintf(format, args...), Do: do})
}

// Examine looks for what is wrong with the locker in home and with what it needs
// on this device. It changes nothing but a probe on each remote.
func Examine(ctx context.Context, home Home, options Options) []Finding {
	harden()
	e := &examiner{home: home, options: options}
	e.programs()
	e.confinement(ctx)
	e.dumps()
	e.folder()
	if ok, err := home.exists(); err != nil || !ok {
		e.noLocker(err)
		return e.findings
	}
	e.space()
	e.keys()
	if e.lockAndSocket(ctx) {
		e.inside(ctx)
	}
	return e.findings
}

// programs looks for the programs beside this one.
func (e *examiner) programs() {
	for _, name := range []string{"locker-plugins", "locker-rclone"} {
		path, err := e.options.program(name)
		if err != nil {
			e.bad(name, asError(err).Next, "%v", err)
			continue
		}
		differs, err := sameBuild(path)
		switch {
		case err != nil:
			e.bad(name, "install the three programs again", "%s is no program of Locker: %v", path, err)
		case differs != "":
			e.bad(name, "install the three programs again, from one build", "%s is of another build than this one: %s", path, differs)
		default:
			e.ok(name, "%s, of the same build", path)
		}
	}
}

// confinement asks what confines plugins on this system.
func (e *examiner) confinement(ctx context.Context) {
	mode := host.Probe(ctx)
	if runtime.GOOS == "linux" && strings.HasPrefix(mode.String(), "none") {
		e.bad("sandbox", "allow user namespaces, or use a kernel with Landlock and seccomp", "%s", mode)
		return
	}
	e.ok("sandbox", "%s", mode)
}

func (e *examiner) dumps() {
	if coreDumps() {
		e.bad("core dumps", "run 'ulimit -c 0' before the daemon starts", "a crash would write memory, keys included, to a file")
		return
	}
	e.ok("core dumps", "off")
}

// folder checks that nobody else can look into the home.
func (e *examiner) folder() {
	info, err := os.Stat(string(e.home))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return // said by noLocker
	case err != nil:
		e.bad("folder", "check the path", "%v", err)
	case !info.IsDir():
		e.bad("folder", "name a folder with --home", "%s is no folder", string(e.home))
	case runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0:
		e.bad("folder", "chmod 700 "+string(e.home), "%s can be entered by others: %v", string(e.home), info.Mode())
	default:
		e.ok("folder", "%s is yours alone", string(e.home))
	}
}

func (e *examiner) noLocker(err error) {
	if err == nil {
		err = e.home.missing()
	}
	e.bad("locker", asError(err).Next, "%v", err)
}

// Little space makes the store refuse writes; less than this is worth a word.
const spaceWanted = 1 << 30

func (e *examiner) space() {
	free, err := freeSpace(string(e.home))
	switch {
	case err != nil:
		e.bad("disk", "check the file system", "%v", err)
	case free < spaceWanted:
		e.bad("disk", "free some: the store refuses writes before the disk is full", "%d MB are free", free>>20)
	default:
		e.ok("disk", "%d GB are free", free>>30)
	}
}

// keys looks at the device file, without opening it.
func (e *examiner) keys() {
	info, err := os.Stat(e.home.device())
	if err != nil {
		e.bad("keys", "check whose file it is", "%v", err)
		return
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
		e.bad("keys", "chmod 600 "+e.home.device(), "%s can be read by others: %v", e.home.device(), info.Mode())
		return
	}
	d, err := readDevice(e.home)
	switch {
	case err != nil:
		e.bad("keys", asError(err).Next, "%v", err)
	case d.Restoring != "":
		e.bad("keys", "run the same 'locker restore' again", "restoring this locker was cut off")
	default:
		e.ok("keys", "device %s (%s), protected by %s", d.Device, d.Name, d.protection())
	}
}

// lockAndSocket finds out who has the locker open. It returns whether its inside
// can be looked at.
func (e *examiner) lockAndSocket(ctx context.Context) bool {
	answers := dial(ctx, e.home) != nil
	lock := flock.New(e.home.lock())
	free, err := lock.TryLock()
	if free {
		err = lock.Unlock()
	}
	_, serr := os.Stat(e.home.socket())
	switch {
	case err != nil:
		e.bad("lock", "check whose file it is", "%v", err)
		return false
	case answers:
		e.ok("lock", "the daemon has the locker open, and answers")
	case !free:
		held := asError(e.home.inUse())
		e.bad("lock", held.Next, "%s, and no daemon answers on %s", held.Message, e.home.socket())
		return false
	case serr == nil:
		e.ok("lock", "free; a daemon that died left its socket, which the next one replaces")
	default:
		e.ok("lock", "free; no daemon runs")
	}
	return true
}

// inside opens the locker, or asks the daemon, and looks at what it says.
func (e *examiner) inside(ctx context.Context) {
	c, err := Connect(ctx, e.home, "locker doctor", e.options)
	if err != nil {
		e.bad("store", asError(err).Next, "it cannot be opened: %v", err)
		return
	}
	defer c.Close()
	var s Status
	if err := c.Call(ctx, "status", struct{}{}, nil, Handler{}, &s); err != nil {
		e.bad("store", asError(err).Next, "%v", err)
		return
	}
	e.ok("store", "%d records, state %.16s", s.Records, s.StateHash)
	if c.Daemon() && s.Version != e.options.Version {
		e.bad("daemon", "restart it", "it is version %s, this command is %s", s.Version, e.options.Version)
	}
	e.clock(s)
	e.reach(ctx, c, s)
	for _, n := range s.Alarms {
		e.bad("alarm", n.Do, "%s (%s)", n.What, n.Kind)
	}
	for _, n := range s.Pending {
		e.ok("pending", "%s (%s)", n.What, n.Kind)
	}
}

// clockSlack is how far a clock may be off before a locker suffers from it.
const clockSlack = 10 * time.Minute

// clock compares the clock of this device with what other devices and former
// syncs have seen, and with when the program was built.
func (e *examiner) clock(s Status) {
	now := time.Now()
	for _, d := range s.Devices {
		if d.LastSeen.After(now.Add(clockSlack)) {
			e.bad("clock", "set the clocks of both devices", "it is %v behind what %s wrote", d.LastSeen.Sub(now).Round(time.Minute), d.Name)
			return
		}
	}
	for _, r := range s.Remotes {
		if r.LastSync.After(now.Add(clockSlack)) {
			e.bad("clock", "set the clock of this device", "it is %v behind the time of the last sync", r.LastSync.Sub(now).Round(time.Minute))
			return
		}
	}
	if now.Year() < 2026 {
		e.bad("clock", "set the clock of this device", "it says %s, which is before this program was written", now.Format(time.DateOnly))
		return
	}
	e.ok("clock", "%s, and nothing contradicts it", now.Format("2006-01-02 15:04 -07:00"))
}

// reach checks each remote.
func (e *examiner) reach(ctx context.Context, c *Client, s Status) {
	if len(s.Remotes) == 0 {
		e.findings = append(e.findings, Finding{Check: "remote", OK: true, Found: "none: nothing is kept outside this device", Do: "add one with 'locker remote add NAME SPEC'"})
		return
	}
	for _, r := range s.Remotes {
		err := c.Call(ctx, "remote.check", RemoteParams{Name: r.Name, Quick: true}, nil, Handler{Row: func(raw json.RawMessage) error {
			var check RemoteCheck
			if err := json.Unmarshal(raw, &check); err != nil {
				return err
			}
			e.ok("remote "+r.Name, "%s takes and returns objects (put %d ms, get %d ms)", r.Spec, check.PutMS, check.GetMS)
			for _, w := range check.Warnings {
				e.ok("remote "+r.Name, "%s", w)
			}
			return nil
		}}, nil)
		if err != nil {
			e.bad("remote "+r.Name, asError(err).Next, "%v", err)
		}
	}
}
