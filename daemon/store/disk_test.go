package store

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// Writes are refused before the disk is full, and accepted again when there is room.
func TestDiskNearlyFull(t *testing.T) {
	mem := vfs.NewMem()
	free := func(n uint64) { mem.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: n, TotalBytes: 1 << 40}) }
	free(1 << 30)
	o := options(mem, "d")
	o.ballast, o.reserve = 1<<20, 8<<20
	s, err := Open("store", o)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	write(t, s, ownerAuthor, note("1", `{"x":1}`))
	free(4 << 20)
	s.disk.asked = time.Time{}
	if _, err := s.Write(t.Context(), ownerAuthor, note("2", `{"x":1}`)); !errors.Is(err, ErrDiskFull) {
		t.Fatalf("a write to a disk that is nearly full: %v", err)
	}
	if err := s.SetNotes(t.Context(), map[string][]byte{"k": {1}}); !errors.Is(err, ErrDiskFull) {
		t.Fatalf("a note: %v", err)
	}
	if _, _, err := s.PutBlob(t.Context(), &endless{1 << 20}); !errors.Is(err, ErrDiskFull) {
		t.Fatalf("a blob: %v", err)
	}
	wantStateNoCheck(t, s, `1{"x":1}`)
	free(1 << 30)
	write(t, s, ownerAuthor, note("2", `{"x":1}`))
	wantState(t, s, `1{"x":1} 2{"x":1}`)
}

func wantStateNoCheck(t *testing.T, s *Store, want string) {
	t.Helper()
	if got := state(t, s); got != want {
		t.Fatalf("state %s, want %s", got, want)
	}
}

// endless gives n zeros.
type endless struct{ n int }

func (e *endless) Read(p []byte) (int, error) {
	if e.n -= len(p); e.n < 0 {
		return 0, errors.New("read too far")
	}
	return len(p), nil
}

// fault makes operations that write fail for want of space: the n-th, and for a
// disk that stays full all after it.
type fault struct {
	stays  bool
	left   atomic.Int64
	failed atomic.Int64
}

func (f *fault) String() string { return "fault" }

func (f *fault) MaybeError(op errorfs.Op) error {
	switch op.Kind {
	case errorfs.OpFileWrite, errorfs.OpCreate, errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpRename, errorfs.OpFilePreallocate, errorfs.OpReuseForWrite, errorfs.OpMkdirAll:
	default:
		return nil
	}
	left := f.left.Add(-1)
	if left == 0 || left < 0 && f.stays {
		f.failed.Add(1)
		return syscall.ENOSPC
	}
	return nil
}

// TestDiskFull lets operations fail in turn, once and for ever, in a process of its
// own, since Pebble ends it where it cannot go on. Whatever happens to the process,
// what was acknowledged is there when it comes back.
func TestDiskFull(t *testing.T) {
	if os.Getenv(faultVariable) != "" {
		writeUntilFull(t)
		return
	}
	outcomes := map[string]int{}
	r := rand.New(rand.NewPCG(seed(t), 7))
	for _, stays := range []bool{false, true} {
		for n := 1; ; n += 1 + r.IntN(8) {
			outcome := fillUp(t, n, stays)
			outcomes[fmt.Sprintf("stays %v: %s", stays, outcome)]++
			if outcome == "no fault" {
				break
			}
		}
	}
	t.Logf("%v", outcomes)
	if len(outcomes) < 4 {
		t.Error("the faults had no effect")
	}
}

const faultVariable = "LOCKER_TEST_FAULT"

// fillUp lets a process write until a fault stops it, and looks at what is left.
func fillUp(t *testing.T, n int, stays bool) string {
	dir := t.TempDir()
	child := exec.Command(os.Args[0], "-test.run", "^TestDiskFull$", "-test.v")
	child.Env = append(os.Environ(), fmt.Sprintf("%s=%d %v %s", faultVariable, n, stays, dir))
	output, err := child.CombinedOutput()
	acknowledged, outcome := 0, "the process ended"
	for line := range strings.Lines(string(output)) {
		if strings.HasPrefix(line, "acknowledged") {
			acknowledged++
		}
		if text, ok := strings.CutPrefix(line, "outcome: "); ok && err == nil {
			outcome = strings.TrimSpace(text)
		}
	}
	if acknowledged == 0 {
		return outcome
	}
	s, err := Open(dir, options(nil, "d"))
	if err != nil {
		t.Fatalf("fault at %d (stays %v), %s: %v\n%s", n, stays, outcome, err, output)
	}
	defer s.Close()
	for i := range acknowledged {
		if _, err := s.View(ownerAuthor).Get(t.Context(), "notes", fmt.Sprint(i)); err != nil {
			t.Fatalf("fault at %d (stays %v), %s: acknowledged and lost: %v", n, stays, outcome, err)
		}
	}
	if err := s.Check(t.Context()); err != nil {
		t.Fatalf("fault at %d (stays %v), %s: %v", n, stays, outcome, err)
	}
	return outcome
}

// writeUntilFull is the process that fillUp looks at.
func writeUntilFull(t *testing.T) {
	var (
		f   fault
		n   int64
		dir string
	)
	if _, err := fmt.Sscan(os.Getenv(faultVariable), &n, &f.stays, &dir); err != nil {
		t.Fatal(err)
	}
	f.left.Store(n)
	o := options(errorfs.Wrap(vfs.Default, &f), "d")
	o.MemTable, o.ballast, o.reserve, o.exit = 64<<10, 1<<16, 1<<16, func() { os.Exit(1) }
	s, err := Open(dir, o)
	if err != nil {
		fmt.Println("outcome: not opened")
		return
	}
	for i := range 30 {
		fields := fmt.Sprintf(`{"x":%q}`, fmt.Sprintf("%08000d", i))
		if _, err = s.Write(t.Context(), ownerAuthor, note(fmt.Sprint(i), fields)); err != nil {
			break
		}
		fmt.Println("acknowledged")
	}
	switch closed := s.Close(); {
	case errors.Is(err, ErrDiskFull):
		fmt.Println("outcome: refused")
	case err != nil || closed != nil:
		fmt.Println("outcome: an error")
	case f.failed.Load() == 0:
		fmt.Println("outcome: no fault")
	default:
		fmt.Println("outcome: done all the same")
	}
}
