package host

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// shimName is the name (argument 0) under which the program is the shim. What it
// does then comes over a pipe, so the name alone does nothing.
const shimName = "locker-shim"

// Stages at which the shim may fail, as words in a message.
const (
	stageNamespaces = "namespaces"
	stageLimits     = "resource limits"
	stageLandlock   = "landlock"
	stageSeccomp    = "seccomp"
	stageProgram    = "the program"
)

// Shim must be the first call of main in a program that calls [Start] or [Probe].
// It returns at once, except in a process that is to become a confined plugin:
// there it does not return.
func Shim() {
	if len(os.Args) == 0 || os.Args[0] != shimName {
		return
	}
	// What confines a thread counts for this thread alone; the others end with exec.
	runtime.LockOSThread()
	stage, err := becomePlugin()
	if err != nil {
		report := os.NewFile(fdReport, "report")
		fmt.Fprintf(report, "%s\x00%v", stage, err)
		os.Exit(1)
	}
	os.Exit(0) // a probe
}

// becomePlugin replaces this process by the plugin; it returns in a probe and
// when it fails.
func becomePlugin() (stage string, err error) {
	// The host may have died before this was set; then the plan does not come.
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return stageProgram, err
	}
	p, err := readPlan()
	if err != nil {
		return stageProgram, err
	}
	if p.Layers.Environment {
		// They end with exec: until then some are the runtime's own.
		if err := unix.CloseRange(fdProgram+1, ^uint(0), unix.CLOSE_RANGE_CLOEXEC); err != nil {
			return stageProgram, err
		}
	}
	for fd := fdPlan; fd <= fdProgram; fd++ {
		unix.CloseOnExec(fd)
	}
	if p.Layers.Namespaces {
		if err := p.newRoot(); err != nil {
			return stageNamespaces, err
		}
	}
	if p.Layers != (layers{}) {
		if err := dropCapabilities(); err != nil {
			return stageNamespaces, err
		}
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return stageProgram, err
		}
	}
	if p.Layers.Landlock {
		if err := p.landlock(); err != nil {
			return stageLandlock, err
		}
	}
	return p.last()
}

// last takes the steps after which nothing else works, and runs the program.
func (p *plan) last() (stage string, err error) {
	args, err := syscall.SlicePtrFromStrings(p.Args)
	if err != nil {
		return stageProgram, err
	}
	env, err := syscall.SlicePtrFromStrings(p.Env)
	if err != nil {
		return stageProgram, err
	}
	filter, err := p.filter()
	if err != nil {
		return stageSeccomp, err
	}
	empty := [1]byte{}
	if p.Layers.Limits {
		for _, l := range p.Limits {
			if err := setLimit(l); err != nil {
				return stageLimits, fmt.Errorf("limit %d: %w", l.Resource, err)
			}
		}
	}
	// A change of credentials cleared it.
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return stageProgram, err
	}
	if p.Layers.Seccomp {
		if err := installFilter(filter); err != nil {
			return stageSeccomp, err
		}
	}
	if p.Probe {
		return "", nil
	}
	_, _, errno := syscall.RawSyscall6(unix.SYS_EXECVEAT, fdProgram, uintptr(unsafe.Pointer(&empty)),
		uintptr(unsafe.Pointer(&args[0])), uintptr(unsafe.Pointer(&env[0])), unix.AT_EMPTY_PATH, 0)
	switch errno {
	case unix.EACCES:
		return stageProgram, fmt.Errorf("%w: is its file executable for everybody (chmod a+rx)?", errno)
	case unix.ENOEXEC, unix.ENOENT:
		return stageProgram, fmt.Errorf("%w: it must be a static executable for this machine", errno)
	}
	return stageProgram, errno
}

func readPlan() (*plan, error) {
	pipe := os.NewFile(fdPlan, "plan")
	text, err := io.ReadAll(pipe)
	if err != nil {
		return nil, err
	}
	var p plan
	if err := json.Unmarshal(text, &p); err != nil {
		return nil, fmt.Errorf("no plan: %w", err)
	}
	return &p, nil
}

// newRoot makes a file system in memory the root, and lets go of the old one.
func (p *plan) newRoot() error {
	if err := unix.Sethostname([]byte("locker")); err != nil {
		return fmt.Errorf("name of the machine: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("mount /: %w", err)
	}
	base, err := someFolder()
	if err != nil {
		return err
	}
	folders, err := openFolders(p.Folders) // before the new root hides some of them
	if err != nil {
		return err
	}
	size := int64(1 << 20)
	for _, f := range p.Files {
		size += int64(len(f.Data)) + 4096
	}
	const plain = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	if err := unix.Mount("tmpfs", base, "tmpfs", plain, fmt.Sprintf("size=%d,nr_inodes=512,mode=755", size)); err != nil {
		return fmt.Errorf("mount root: %w", err)
	}
	for _, dir := range []string{innerRun, innerScratch} {
		if err := os.MkdirAll(base+dir, 0o755); err != nil {
			return err
		}
	}
	if err := p.furnish(base, folders); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", base+innerRun, "tmpfs", plain, "size=64k,nr_inodes=16,mode=700"); err != nil {
		return fmt.Errorf("mount %s: %w", innerRun, err)
	}
	scratch := fmt.Sprintf("size=%d,nr_inodes=1024,mode=700", p.ScratchSize)
	if err := unix.Mount("tmpfs", base+innerScratch, "tmpfs", plain, scratch); err != nil {
		return fmt.Errorf("mount %s: %w", innerScratch, err)
	}
	if err := unix.Mount("", base, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|plain, ""); err != nil {
		return fmt.Errorf("remount root: %w", err)
	}
	return pivot(base)
}

func openFolders(paths []string) ([]int, error) {
	var folders []int
	for _, path := range paths {
		fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		folders = append(folders, fd)
	}
	return folders, nil
}

// someFolder is a folder to mount on: what it holds is not needed.
func someFolder() (string, error) {
	for _, dir := range []string{"/tmp", "/mnt", "/run", "/dev"} {
		if info, err := os.Lstat(dir); err == nil && info.IsDir() {
			return dir, nil
		}
	}
	return "", errors.New("no folder to mount on")
}

func pivot(base string) error {
	if err := unix.Chdir(base); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount the old root: %w", err)
	}
	return unix.Chdir("/")
}

// furnish puts the files and folders into the new root that the process may read.
func (p *plan) furnish(base string, folders []int) error {
	for i, dir := range p.Folders {
		if err := os.MkdirAll(base+dir, 0o755); err != nil {
			return err
		}
		source := fmt.Sprintf("/proc/self/fd/%d", folders[i])
		if err := unix.Mount(source, base+dir, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("bind %s: %w", dir, err)
		}
		unix.Close(folders[i])
		attr := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC}
		if err := unix.MountSetattr(unix.AT_FDCWD, base+dir, 0, attr); err != nil {
			return fmt.Errorf("make %s read-only: %w", dir, err)
		}
	}
	for _, f := range p.Files {
		if err := os.MkdirAll(filepath.Dir(base+f.Path), 0o755); err != nil {
			return err
		}
		err := os.WriteFile(base+f.Path, f.Data, 0o444)
		if errors.Is(err, unix.EROFS) || errors.Is(err, os.ErrPermission) {
			continue // it lies in a folder that is bound
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// dropCapabilities gives up every capability for good.
func dropCapabilities() error {
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("ambient capabilities: %w", err)
	}
	for c := uintptr(0); c < 64; c++ {
		switch err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err {
		case nil:
		case unix.EINVAL, unix.EPERM: // past the last; or an ordinary user, who has none to drop
		default:
			return fmt.Errorf("bounding set: %w", err)
		}
	}
	_ = unix.Prctl(unix.PR_SET_SECUREBITS, secureAll, 0, 0, 0) // needs a capability, which an ordinary user has not
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	if err := unix.Capset(&header, &none[0]); err != nil {
		return fmt.Errorf("capset: %w", err)
	}
	return nil
}

// secureAll are the secure bits no-root, no-setuid-fixup and no-ambient-raise,
// each with its lock.
const secureAll = 1<<0 | 1<<1 | 1<<2 | 1<<3 | 1<<6 | 1<<7

// setLimit lowers a limit; where it is lower already it stays.
func setLimit(l planLimit) error {
	var old unix.Rlimit
	if err := unix.Prlimit(0, l.Resource, nil, &old); err != nil {
		return err
	}
	value := min(l.Value, old.Max)
	return unix.Prlimit(0, l.Resource, &unix.Rlimit{Cur: value, Max: value}, nil)
}

// chownScratch gives the scratch folder to the user of the process.
func chownScratch(p *plan, id int) error {
	if p.Scratch == "" {
		return nil
	}
	return os.Chown(p.Scratch, id, id)
}
