package host

import (
	"runtime"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Answers of a seccomp filter.
const (
	seccompAllow = 0x7fff0000
	seccompKill  = 0x80000000
	seccompDeny  = 0x00050000 | uint32(unix.EPERM)
)

// Offsets in the struct that a filter looks at. Arguments are 64 bits, the lower
// half first on the machines that Locker runs on.
const (
	seccompNumber = 0
	seccompArch   = 4
	seccompArgs   = 16
)

// allowed are the system calls, whatever their arguments, of a Go program that
// serves gRPC on a unix socket: memory, threads of its own, time, its open files,
// its socket. None of them makes a connection, a process or a new kind of file.
// Those that differ between machines are in allowedHere.
var allowed = []uintptr{
	unix.SYS_READ, unix.SYS_WRITE, unix.SYS_FUTEX, unix.SYS_EPOLL_PWAIT, unix.SYS_EPOLL_CTL,
	unix.SYS_NANOSLEEP, unix.SYS_CLOCK_GETTIME, unix.SYS_CLOCK_NANOSLEEP, unix.SYS_GETTIMEOFDAY, unix.SYS_CLOCK_GETRES,
	unix.SYS_READV, unix.SYS_WRITEV, unix.SYS_PREAD64, unix.SYS_PWRITE64, unix.SYS_CLOSE, unix.SYS_FSTAT,
	unix.SYS_NEWFSTATAT, unix.SYS_LSEEK, unix.SYS_FTRUNCATE, unix.SYS_FSYNC, unix.SYS_FDATASYNC,
	unix.SYS_OPENAT, unix.SYS_UNLINKAT, unix.SYS_MKDIRAT, unix.SYS_RENAMEAT, unix.SYS_RENAMEAT2, unix.SYS_GETDENTS64,
	unix.SYS_READLINKAT, unix.SYS_FACCESSAT, unix.SYS_FACCESSAT2, unix.SYS_GETCWD,
	unix.SYS_MUNMAP, unix.SYS_MADVISE, unix.SYS_BRK,
	unix.SYS_RT_SIGACTION, unix.SYS_RT_SIGPROCMASK, unix.SYS_RT_SIGRETURN, unix.SYS_SIGALTSTACK, unix.SYS_RESTART_SYSCALL,
	unix.SYS_EXIT, unix.SYS_EXIT_GROUP, unix.SYS_SET_ROBUST_LIST, unix.SYS_SET_TID_ADDRESS, unix.SYS_RSEQ,
	unix.SYS_SCHED_YIELD, unix.SYS_SCHED_GETAFFINITY, unix.SYS_GETPID, unix.SYS_GETTID,
	unix.SYS_GETUID, unix.SYS_GETEUID, unix.SYS_GETGID, unix.SYS_GETEGID, unix.SYS_UNAME, unix.SYS_GETRUSAGE,
	unix.SYS_EPOLL_CREATE1, unix.SYS_EVENTFD2, unix.SYS_PIPE2, unix.SYS_GETRANDOM,
	unix.SYS_BIND, unix.SYS_LISTEN, unix.SYS_ACCEPT, unix.SYS_ACCEPT4, unix.SYS_GETSOCKNAME, unix.SYS_GETPEERNAME,
	unix.SYS_SETSOCKOPT, unix.SYS_GETSOCKOPT, unix.SYS_SHUTDOWN,
	unix.SYS_RECVFROM, unix.SYS_RECVMSG,
}

// A condition allows a system call where one argument is right: argument & mask
// is one of values.
type condition struct {
	call   uintptr
	arg    int
	mask   uint32
	values []uint32
}

const anyBit = ^uint32(0)

// conditions are the calls that only some arguments make harmless.
func (p *plan) conditions() []condition {
	domains := []uint32{unix.AF_UNIX}
	if p.Network {
		domains = append(domains, unix.AF_INET, unix.AF_INET6)
	}
	own := uint32(unix.Getpid())
	return []condition{
		{unix.SYS_SOCKET, 0, anyBit, domains},
		// One bit: a mask of several would also match vfork.
		{unix.SYS_CLONE, 0, unix.CLONE_THREAD, []uint32{unix.CLONE_THREAD}},
		{unix.SYS_TGKILL, 0, anyBit, []uint32{own}},
		{unix.SYS_PRLIMIT64, 0, anyBit, []uint32{0, own}},
		{unix.SYS_PRCTL, 0, anyBit, []uint32{unix.PR_SET_VMA}},
		{unix.SYS_EXECVEAT, 0, anyBit, []uint32{fdProgram}},
		// Others would have the kernel send signals to processes that are not ours.
		{unix.SYS_FCNTL, 1, anyBit, []uint32{unix.F_GETFL, unix.F_SETFL, unix.F_GETFD, unix.F_SETFD, unix.F_DUPFD, unix.F_DUPFD_CLOEXEC}},
	}
}

// filter is the seccomp filter: calls of another machine's convention (such as
// int 0x80) end the process, what is not listed is refused.
func (p *plan) filter() ([]unix.SockFilter, error) {
	code := []bpf.Instruction{
		bpf.LoadAbsolute{Off: seccompArch, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: auditArch, SkipTrue: 1},
		bpf.RetConstant{Val: seccompKill},
		bpf.LoadAbsolute{Off: seccompNumber, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpLessThan, Val: 0x40000000, SkipTrue: 1}, // x32 begins here
		bpf.RetConstant{Val: seccompKill},
	}
	calls := append(append([]uintptr{}, allowed...), allowedHere...)
	if p.Network {
		calls = append(calls, unix.SYS_CONNECT, unix.SYS_SENDTO, unix.SYS_SENDMSG, unix.SYS_SENDMMSG, unix.SYS_RECVMMSG,
			unix.SYS_STATFS, unix.SYS_FSTATFS, unix.SYS_FALLOCATE, unix.SYS_SYSINFO)
	}
	for _, call := range calls {
		code = append(code,
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(call), SkipFalse: 1},
			bpf.RetConstant{Val: seccompAllow})
	}
	for _, c := range p.conditions() {
		code = append(code, c.code(seccompAllow, seccompDeny)...)
	}
	code = append(code, mappings()...)
	if p.Network {
		code = append(code, furtherFilters()...)
	}
	code = append(code, bpf.RetConstant{Val: seccompDeny})
	return assemble(code)
}

// code answers match where the condition holds for its call, and otherwise where
// not. Other calls fall through to what follows.
func (c condition) code(match, otherwise uint32) []bpf.Instruction {
	check := []bpf.Instruction{
		bpf.LoadAbsolute{Off: uint32(seccompArgs + 8*c.arg), Size: 4},
		bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: c.mask},
	}
	for _, v := range c.values {
		check = append(check,
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: v, SkipFalse: 1},
			bpf.RetConstant{Val: match})
	}
	check = append(check, bpf.RetConstant{Val: otherwise})
	return append([]bpf.Instruction{
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(c.call), SkipFalse: uint8(len(check))},
	}, check...)
}

// mappings allows private memory that is not executable, and so neither shared
// memory, which no limit counts, nor new code.
func mappings() []bpf.Instruction {
	return []bpf.Instruction{
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(unix.SYS_MMAP), SkipFalse: 6},
		bpf.LoadAbsolute{Off: seccompArgs + 8*2, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: unix.PROT_EXEC, SkipTrue: 3},
		bpf.LoadAbsolute{Off: seccompArgs + 8*3, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: unix.MAP_SHARED, SkipTrue: 1},
		bpf.RetConstant{Val: seccompAllow},
		bpf.RetConstant{Val: seccompDeny},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(unix.SYS_MPROTECT), SkipFalse: 4},
		bpf.LoadAbsolute{Off: seccompArgs + 8*2, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: unix.PROT_EXEC, SkipTrue: 1},
		bpf.RetConstant{Val: seccompAllow},
		bpf.RetConstant{Val: seccompDeny},
	}
}

// furtherFilters lets a remote confine itself further (see package plugins):
// seccomp(SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, …).
func furtherFilters() []bpf.Instruction {
	return []bpf.Instruction{
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(unix.SYS_SECCOMP), SkipFalse: 6},
		bpf.LoadAbsolute{Off: seccompArgs, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.SECCOMP_SET_MODE_FILTER, SkipFalse: 3},
		bpf.LoadAbsolute{Off: seccompArgs + 8, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.SECCOMP_FILTER_FLAG_TSYNC, SkipFalse: 1},
		bpf.RetConstant{Val: seccompAllow},
		bpf.RetConstant{Val: seccompDeny},
	}
}

func assemble(code []bpf.Instruction) ([]unix.SockFilter, error) {
	raw, err := bpf.Assemble(code)
	if err != nil {
		return nil, err
	}
	filter := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		filter[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	return filter, nil
}

// installFilter binds this thread, and all that it becomes, to the filter.
func installFilter(filter []unix.SockFilter) error {
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	_, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&program)))
	runtime.KeepAlive(filter)
	if errno != 0 {
		return errno
	}
	return nil
}
