package replicatest

import (
	"bytes"
	"context"
	"encoding/base32"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/locker-project/locker/daemon/replica"
)

// Remote tests what package replica expects of every remote, several things at once.
// open returns an empty remote that is the subtest's own, and may be called
// concurrently; what it takes to close it belongs to t.Cleanup.
func Remote(t *testing.T, open func(t *testing.T) replica.Remote) {
	for _, op := range operations {
		t.Run(op.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			op.test(&bench{t: t, ctx: ctx, remote: open(t)})
		})
	}
}

// operations are what is tested, each on a remote of its own.
var operations = []struct {
	name string
	test func(*bench)
}{
	{"put and get", (*bench).putAndGet},
	{"ranges", (*bench).ranges},
	{"missing", (*bench).missing},
	{"put again", (*bench).putAgain},
	{"overwrite", (*bench).overwrite},
	{"put reads from where the reader is", (*bench).putFromPosition},
	{"size mismatch", (*bench).sizeMismatch},
	{"a body that fails", (*bench).failingBody},
	{"list", (*bench).list},
	{"list an empty remote", (*bench).listEmpty},
	{"list, but not to the end", (*bench).listBreak},
	{"delete", (*bench).deletes},
	{"delete what is not there", (*bench).deleteMissing},
	{"foreign names", (*bench).foreignNames},
	{"large object", (*bench).large},
	{"concurrent", (*bench).concurrent},
	{"same name concurrently", (*bench).sameName},
	{"cancelled", (*bench).cancelled},
	{"random operations", (*bench).random},
}

// A bench is one operation under test.
type bench struct {
	t      *testing.T
	ctx    context.Context
	remote replica.Remote
}

// name makes the name of an object.
func name(folder string, n uint64) string {
	var raw [32]byte
	r := rand.New(rand.NewPCG(n, 7))
	for i := range raw {
		raw[i] = byte(r.Uint32())
	}
	return folder + "/" + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(raw[:]))
}

// bytesOf makes bytes that do not compress and differ with n.
func bytesOf(n uint64, size int) []byte {
	b := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{byte(n), byte(n >> 8), byte(n >> 16), 1}).Read(b)
	return b
}

func (b *bench) put(name string, object []byte) {
	b.t.Helper()
	if err := b.remote.Put(b.ctx, name, bytes.NewReader(object), int64(len(object))); err != nil {
		b.t.Fatalf("Put(%s, %d bytes): %v", name, len(object), err)
	}
}

// get reads an object, or a part of it.
func (b *bench) get(name string, off, n int64) ([]byte, error) {
	body, err := b.remote.Get(b.ctx, name, off, n)
	if err != nil {
		if body != nil {
			b.t.Errorf("Get(%s) returned a body beside its error %v", name, err)
		}
		return nil, err
	}
	got, err := io.ReadAll(body)
	if closeErr := body.Close(); closeErr != nil {
		b.t.Errorf("closing %s: %v", name, closeErr)
	}
	return got, err
}

// want reads an object and compares it.
func (b *bench) want(name string, object []byte) {
	b.t.Helper()
	got, err := b.get(name, 0, -1)
	if err != nil {
		b.t.Fatalf("Get(%s): %v", name, err)
	}
	if !bytes.Equal(got, object) {
		b.t.Fatalf("Get(%s) returned %d bytes, which are not the %d that were put", name, len(got), len(object))
	}
}

// wantMissing checks that there is no such object.
func (b *bench) wantMissing(name string) {
	b.t.Helper()
	got, err := b.get(name, 0, -1)
	if !errors.Is(err, replica.ErrNotFound) {
		b.t.Fatalf("Get(%s), which is not there: %d bytes and %v, not ErrNotFound", name, len(got), err)
	}
}

// names lists the names that begin with prefix, sorted.
func (b *bench) names(prefix string) []string {
	b.t.Helper()
	var names []string
	for info, err := range b.remote.List(b.ctx, prefix) {
		if err != nil {
			b.t.Fatalf("List(%q): %v", prefix, err)
		}
		names = append(names, info.Name)
	}
	slices.Sort(names)
	return names
}

func (b *bench) wantNames(prefix string, want ...string) {
	b.t.Helper()
	slices.Sort(want)
	if got := b.names(prefix); !slices.Equal(got, want) {
		b.t.Fatalf("List(%q) = %q, want %q", prefix, got, want)
	}
}

func (b *bench) putAndGet() {
	for i, size := range []int{1, 4096, 4097, 70_000, 1 << 20} {
		for _, folder := range []string{"k", "d"} {
			n := uint64(i)
			b.put(name(folder, n), bytesOf(n, size))
			b.want(name(folder, n), bytesOf(n, size))
		}
	}
}

func (b *bench) ranges() {
	const size = 100_000
	object := bytesOf(1, size)
	b.put(name("d", 1), object)
	for _, r := range []struct{ off, n int64 }{
		{0, 1}, {0, 4096}, {0, size}, {1, 1}, {999, 1001}, {65_536, 10_000}, {size - 1, 1}, {size - 10, 10},
		{0, size + 5}, {size - 10, 500}, {0, -1}, {1, -1}, {size - 1, -1}, {50_000, 0},
	} {
		want := object[r.off:]
		if r.n >= 0 {
			want = want[:min(r.n, int64(len(want)))]
		}
		got, err := b.get(name("d", 1), r.off, r.n)
		if err != nil || !bytes.Equal(got, want) {
			b.t.Errorf("Get(%d, %d): %d bytes, %v; want %d bytes", r.off, r.n, len(got), err, len(want))
		}
	}
	// Where there is nothing to read, there are no bytes; an error is allowed, but
	// the object is there.
	for _, off := range []int64{size, size + 1, size * 10} {
		got, err := b.get(name("d", 1), off, 10)
		if len(got) > 0 || errors.Is(err, replica.ErrNotFound) {
			b.t.Errorf("Get(%d, 10) of an object of %d bytes: %d bytes, %v", off, size, len(got), err)
		}
	}
}

func (b *bench) missing() {
	b.wantMissing(name("k", 1)) // in a folder that nothing was put into
	b.put(name("k", 2), bytesOf(2, 4096))
	b.wantMissing(name("k", 1))
	if _, err := b.get(name("k", 1), 10, 10); !errors.Is(err, replica.ErrNotFound) {
		b.t.Errorf("Get of a part of what is not there: %v", err)
	}
}

func (b *bench) putAgain() {
	object := bytesOf(1, 10_000)
	for range 3 {
		b.put(name("d", 1), object)
		b.want(name("d", 1), object)
	}
	b.wantNames("", name("d", 1))
}

func (b *bench) overwrite() {
	for _, size := range []int{10_000, 4096, 50_000, 1} {
		object := bytesOf(uint64(size), size)
		b.put(name("d", 1), object)
		b.want(name("d", 1), object)
	}
	b.wantNames("d/", name("d", 1))
}

func (b *bench) putFromPosition() {
	object := bytesOf(1, 10_000)
	r := bytes.NewReader(object)
	if _, err := r.Seek(1000, io.SeekStart); err != nil {
		b.t.Fatal(err)
	}
	if err := b.remote.Put(b.ctx, name("d", 1), r, 9000); err != nil {
		b.t.Fatal(err)
	}
	b.want(name("d", 1), object[1000:])
}

func (b *bench) sizeMismatch() {
	old := bytesOf(1, 8000)
	b.put(name("d", 1), old)
	for _, size := range []int64{8999, 9001} {
		for i, n := range []string{name("d", 1), name("d", 2)} {
			if err := b.remote.Put(b.ctx, n, bytes.NewReader(bytesOf(2, 9000)), size); err == nil {
				b.t.Errorf("Put of 9000 bytes as %d succeeded (object %d)", size, i)
			}
		}
	}
	b.want(name("d", 1), old)
	b.wantMissing(name("d", 2))
}

// errBody is that of a body that fails.
var errBody = errors.New("this body fails")

type failing struct {
	io.ReadSeeker
	left int
}

func (f *failing) Read(p []byte) (int, error) {
	if f.left <= 0 {
		return 0, errBody
	}
	n, err := f.ReadSeeker.Read(p[:min(len(p), f.left)])
	f.left -= n
	return n, err
}

func (b *bench) failingBody() {
	old := bytesOf(1, 8000)
	b.put(name("d", 1), old)
	for _, n := range []string{name("d", 1), name("d", 2)} {
		body := &failing{bytes.NewReader(bytesOf(2, 300_000)), 150_000}
		if err := b.remote.Put(b.ctx, n, body, 300_000); err == nil {
			b.t.Fatal("Put succeeded though its body failed")
		}
	}
	b.want(name("d", 1), old)
	b.wantMissing(name("d", 2))
	b.wantNames("", name("d", 1))
}

func (b *bench) list() {
	var all []string
	for i := range uint64(7) {
		b.put(name("d", i), bytesOf(i, 4096+int(i)))
		all = append(all, name("d", i))
	}
	b.put(name("k", 100), bytesOf(100, 5000))
	b.wantNames("d/", all...)
	b.wantNames("k/", name("k", 100))
	b.wantNames("", append(all, name("k", 100))...)
	b.wantNames(all[3], all[3])
	b.wantNames(all[3][:20], all[3])
	b.wantNames("d/" + strings.Repeat("a", 52))
	b.wantNames("x/")
	for info, err := range b.remote.List(b.ctx, "k/") {
		if err != nil || info.Size != 5000 {
			b.t.Errorf("List shows %d bytes, %v; want 5000", info.Size, err)
		}
		if age := time.Since(info.ModTime); !info.ModTime.IsZero() && (age > time.Hour || age < -time.Hour) {
			b.t.Errorf("List shows a time %s ago", age)
		}
	}
}

func (b *bench) listEmpty() {
	for _, prefix := range []string{"", "k/", "d/", name("d", 1)} {
		b.wantNames(prefix)
	}
}

func (b *bench) listBreak() {
	for i := range uint64(5) {
		b.put(name("d", i), bytesOf(i, 4096))
	}
	seen := 0
	for _, err := range b.remote.List(b.ctx, "d/") {
		if err != nil {
			b.t.Fatal(err)
		}
		if seen++; seen == 2 {
			break
		}
	}
	if seen != 2 {
		b.t.Fatalf("saw %d names", seen)
	}
	b.want(name("d", 1), bytesOf(1, 4096)) // the remote still works
}

func (b *bench) deletes() {
	for i := range uint64(5) {
		b.put(name("d", i), bytesOf(i, 4096))
	}
	if err := b.remote.Delete(b.ctx, name("d", 0)); err != nil {
		b.t.Fatal(err)
	}
	b.wantMissing(name("d", 0))
	if err := b.remote.Delete(b.ctx, name("d", 1), name("d", 2), name("d", 0)); err != nil {
		b.t.Fatal(err)
	}
	b.wantNames("", name("d", 3), name("d", 4))
	b.put(name("d", 0), bytesOf(9, 6000)) // a name can be put again
	b.want(name("d", 0), bytesOf(9, 6000))
}

func (b *bench) deleteMissing() {
	for range 2 {
		if err := b.remote.Delete(b.ctx, name("k", 1), name("d", 1)); err != nil {
			b.t.Fatalf("Delete of what is not there: %v", err)
		}
	}
	if err := b.remote.Delete(b.ctx); err != nil {
		b.t.Fatalf("Delete of nothing: %v", err)
	}
}

// foreignNames: nothing but an object's name is accepted, and a refusal changes nothing.
func (b *bench) foreignNames() {
	good := name("d", 1)
	b.put(good, bytesOf(1, 4096))
	for _, n := range []string{
		"", "/", "d", "d/", good[2:], "/" + good, "./" + good, "d/../" + good, "../" + good, good + "/x", good + "a",
		good[:53], "D" + good[1:], strings.ToUpper(good), "d\\" + good[2:], good + "\x00", good + "\n", "d/" + strings.Repeat("1", 52),
		"d/.." + strings.Repeat("a", 50), "x" + good[1:],
	} {
		if err := b.remote.Put(b.ctx, n, bytes.NewReader(bytesOf(2, 4096)), 4096); err == nil {
			b.t.Errorf("Put(%q) succeeded", n)
		}
		if got, err := b.get(n, 0, -1); err == nil {
			b.t.Errorf("Get(%q) returned %d bytes", n, len(got))
		}
		if err := b.remote.Delete(b.ctx, n); err == nil {
			b.t.Errorf("Delete(%q) succeeded", n)
		}
	}
	b.want(good, bytesOf(1, 4096))
	b.wantNames("", good)
}

func (b *bench) large() {
	const size = 16 << 20
	object := bytesOf(3, size)
	b.put(name("d", 3), object)
	b.want(name("d", 3), object)
	got, err := b.get(name("d", 3), size-5000, 4000)
	if err != nil || !bytes.Equal(got, object[size-5000:size-1000]) {
		b.t.Fatalf("a part of a large object: %d bytes, %v", len(got), err)
	}
	body, err := b.remote.Get(b.ctx, name("d", 3), 0, -1)
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := io.ReadFull(body, make([]byte, 100)); err != nil {
		b.t.Fatal(err)
	}
	if err := body.Close(); err != nil { // long before its end
		b.t.Fatal(err)
	}
	b.want(name("d", 3), object)
}

func (b *bench) concurrent() {
	var wg sync.WaitGroup
	errs := make(chan error, 8)
	for i := range uint64(8) {
		wg.Go(func() { errs <- b.worker(i) })
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			b.t.Error(err)
		}
	}
	if got := b.names(""); len(got) != 8*2 {
		b.t.Errorf("%d objects are left, want %d", len(got), 8*2)
	}
}

// worker puts three objects, reads them back and deletes one.
func (b *bench) worker(i uint64) error {
	for j := range uint64(3) {
		n, object := name("d", i*10+j), bytesOf(i*10+j, 5000+int(i))
		if err := b.remote.Put(b.ctx, n, bytes.NewReader(object), int64(len(object))); err != nil {
			return fmt.Errorf("worker %d: put: %w", i, err)
		}
		if got, err := b.get(n, 0, -1); err != nil || !bytes.Equal(got, object) {
			return fmt.Errorf("worker %d: got %d bytes, %w", i, len(got), err)
		}
	}
	return b.remote.Delete(b.ctx, name("d", i*10))
}

// sameName: who puts the same object at once gets that object.
func (b *bench) sameName() {
	object := bytesOf(1, 200_000)
	var wg sync.WaitGroup
	errs := make(chan error, 4)
	for range 4 {
		wg.Go(func() {
			errs <- b.remote.Put(b.ctx, name("d", 1), bytes.NewReader(object), int64(len(object)))
		})
	}
	wg.Wait()
	close(errs)
	failed := 0
	for err := range errs {
		if err != nil {
			b.t.Logf("one of four: %v", err)
			failed++
		}
	}
	if failed == 4 {
		b.t.Fatal("all four failed")
	}
	b.want(name("d", 1), object)
	b.wantNames("", name("d", 1))
}

func (b *bench) cancelled() {
	b.put(name("d", 1), bytesOf(1, 4096))
	ctx, cancel := context.WithCancel(b.ctx)
	cancel()
	began := time.Now()
	if err := b.remote.Put(ctx, name("d", 2), bytes.NewReader(bytesOf(2, 4096)), 4096); !errors.Is(err, context.Canceled) {
		b.t.Errorf("Put: %v", err)
	}
	if body, err := b.remote.Get(ctx, name("d", 1), 0, -1); err == nil {
		if _, err = io.ReadAll(body); !errors.Is(err, context.Canceled) {
			b.t.Errorf("Get: reading: %v", err)
		}
		body.Close()
	} else if !errors.Is(err, context.Canceled) {
		b.t.Errorf("Get: %v", err)
	}
	for _, err := range b.remote.List(ctx, "d/") {
		if !errors.Is(err, context.Canceled) {
			b.t.Errorf("List: %v", err)
		}
	}
	if err := b.remote.Delete(ctx, name("d", 1)); !errors.Is(err, context.Canceled) {
		b.t.Errorf("Delete: %v", err)
	}
	if took := time.Since(began); took > 5*time.Second {
		b.t.Errorf("that took %s", took)
	}
	b.want(name("d", 1), bytesOf(1, 4096))
	b.wantMissing(name("d", 2))
}

// random does what a map would do too, and compares.
func (b *bench) random() {
	seed := rand.Uint64()
	b.t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	model := map[string][]byte{}
	for range 60 {
		n := name([]string{"k", "d"}[r.IntN(2)], uint64(r.IntN(6)))
		switch r.IntN(5) {
		case 0, 1:
			model[n] = bytesOf(r.Uint64(), 1+r.IntN(20_000))
			b.put(n, model[n])
		case 2:
			if err := b.remote.Delete(b.ctx, n); err != nil {
				b.t.Fatal(err)
			}
			delete(model, n)
		case 3:
			if model[n] == nil {
				b.wantMissing(n)
			} else {
				b.want(n, model[n])
			}
		case 4:
			var want []string
			for name := range model {
				if name[0] == n[0] {
					want = append(want, name)
				}
			}
			b.wantNames(n[:2], want...)
		}
	}
}
