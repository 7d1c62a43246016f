package host

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// landlockVersion is the version of the kernel's Landlock interface; 0 is none.
func landlockVersion() int {
	v, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0
	}
	return int(v)
}

const (
	landlockRead = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR
	// landlockRun is what go-plugin needs to make its socket: it makes a file of the
	// socket's name and removes it first.
	landlockRun = unix.LANDLOCK_ACCESS_FS_MAKE_SOCK | unix.LANDLOCK_ACCESS_FS_MAKE_REG |
		unix.LANDLOCK_ACCESS_FS_REMOVE_FILE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_READ_FILE
	landlockScratch = landlockRead | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE |
		unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_MAKE_DIR |
		unix.LANDLOCK_ACCESS_FS_REMOVE_FILE | unix.LANDLOCK_ACCESS_FS_REMOVE_DIR
	// landlockFile are the rights that make sense on a file.
	landlockFile = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE |
		unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE
)

// landlockAttr is what a kernel of this version is asked to deny: all that it
// can, except that a process with network dials.
func (p *plan) landlockAttr(version int) *unix.LandlockRulesetAttr {
	attr := &unix.LandlockRulesetAttr{Handled_access_fs: 1<<13 - 1}
	for _, added := range []struct {
		version int
		access  uint64
	}{
		{2, unix.LANDLOCK_ACCESS_FS_REFER},
		{3, unix.LANDLOCK_ACCESS_FS_TRUNCATE},
		{5, unix.LANDLOCK_ACCESS_FS_IOCTL_DEV},
		{9, unix.LANDLOCK_ACCESS_FS_RESOLVE_UNIX},
	} {
		if version >= added.version {
			attr.Handled_access_fs |= added.access
		}
	}
	if version >= 4 {
		attr.Handled_access_net = unix.LANDLOCK_ACCESS_NET_BIND_TCP
		if !p.Network {
			attr.Handled_access_net |= unix.LANDLOCK_ACCESS_NET_CONNECT_TCP
		}
	}
	if version >= 10 && !p.Network {
		attr.Handled_access_net |= unix.LANDLOCK_ACCESS_NET_BIND_UDP | unix.LANDLOCK_ACCESS_NET_CONNECT_SEND_UDP
	}
	if version >= 6 {
		attr.Scoped = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | unix.LANDLOCK_SCOPE_SIGNAL
	}
	return attr
}

// landlock denies the files and connections that the process needs not. Without
// namespaces it is what keeps the process from the owner's files.
func (p *plan) landlock() error {
	version := landlockVersion()
	if version == 0 {
		if p.Layers.Namespaces {
			return nil // there is nothing to reach; Mode says so
		}
		return unix.ENOSYS
	}
	attr := p.landlockAttr(version)
	// The kernel takes a longer structure than it knows as long as the rest is zero.
	ruleset, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(attr)), unsafe.Sizeof(*attr), 0)
	if errno != 0 {
		return fmt.Errorf("ruleset: %w", errno)
	}
	defer unix.Close(int(ruleset))
	allow := func(fd int, access uint64) error {
		rule := unix.LandlockPathBeneathAttr{Allowed_access: access & attr.Handled_access_fs, Parent_fd: int32(fd)}
		_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, ruleset, unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&rule)), 0, 0, 0)
		if errno != 0 {
			return errno
		}
		return nil
	}
	if err := allow(fdProgram, unix.LANDLOCK_ACCESS_FS_EXECUTE|unix.LANDLOCK_ACCESS_FS_READ_FILE); err != nil {
		return fmt.Errorf("the program's file: %w", err)
	}
	if err := p.landlockPaths(allow); err != nil {
		return err
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, ruleset, 0, 0); errno != 0 {
		return fmt.Errorf("restrict: %w", errno)
	}
	return nil
}

func (p *plan) landlockPaths(allow func(fd int, access uint64) error) error {
	type rule struct {
		path   string
		access uint64
	}
	rules := []rule{{p.Run, landlockRun}, {p.Scratch, landlockScratch}}
	for _, path := range p.Readable {
		rules = append(rules, rule{path, landlockRead})
	}
	if p.Layers.Namespaces && p.Network {
		rules = append(rules, rule{"/", landlockRead})
	}
	for _, r := range rules {
		if r.path == "" {
			continue
		}
		fd, err := unix.Open(r.path, unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("%s: %w", r.path, err)
		}
		var stat unix.Stat_t
		if err := unix.Fstat(fd, &stat); err == nil && stat.Mode&unix.S_IFMT != unix.S_IFDIR {
			r.access &= landlockFile
		}
		err = allow(fd, r.access)
		unix.Close(fd)
		if err != nil {
			return fmt.Errorf("%s: %w", r.path, err)
		}
	}
	return nil
}
