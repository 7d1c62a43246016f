package mobile_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/types"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/tools/go/packages"

	"github.com/locker-project/locker/mobile"
)

// keyStore stands for the platform's: it wraps with a key that it keeps.
type keyStore struct{ key byte }

func (k keyStore) turn(in []byte) ([]byte, error) {
	out := make([]byte, len(in))
	for i, b := range in {
		out[i] = b ^ k.key ^ byte(i)
	}
	return out, nil
}

func (k keyStore) Wrap(secret []byte) ([]byte, error)    { return k.turn(secret) }
func (k keyStore) Unwrap(wrapped []byte) ([]byte, error) { return k.turn(wrapped) }

// cloud is a remote as an app supplies it. It fails once when told to.
type cloud struct {
	mu      sync.Mutex
	objects map[string][]byte
	fail    int
}

func (c *cloud) Put(name string, object []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fail > 0 {
		if c.fail--; c.fail == 0 {
			return errors.New("no network")
		}
	}
	c.objects[name] = append([]byte(nil), object...)
	return nil
}

func (c *cloud) Get(name string, off, n int64) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	object := c.objects[name]
	if off >= int64(len(object)) {
		return nil, nil
	}
	object = object[off:]
	if n >= 0 && n < int64(len(object)) {
		object = object[:n]
	}
	return object, nil
}

func (c *cloud) List(prefix string) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	names := []string{}
	for name := range c.objects {
		if strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
	}
	raw, err := json.Marshal(names)
	return string(raw), err
}

func (c *cloud) Delete(name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.objects, name)
	return nil
}

// field reads one field of a JSON object.
func field(t *testing.T, raw, name string) string {
	t.Helper()
	var object map[string]any
	if err := json.Unmarshal([]byte(raw), &object); err != nil {
		t.Fatalf("%s: %v", raw, err)
	}
	return fmt.Sprint(object[name])
}

func must[T any](t *testing.T) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestPhone(t *testing.T) {
	text, lock, data := must[string](t), must[*mobile.Locker](t), must[[]byte](t)
	dir, keys, sky := t.TempDir(), keyStore{7}, &cloud{objects: map[string][]byte{}}
	phrase := mobile.NewPhrase()
	l := lock(mobile.Create(dir, phrase, "phone", keys))
	l.AddRemote("sky", sky)

	// One broken record: nothing of the batch is stored.
	if _, err := l.Put("notes", []byte(`{"id":"n1","fields":{"text":"one"}}`+"\n"+`{"id":"n2","fields":`)); err == nil {
		t.Error("a broken record was taken")
	}
	if got := data(l.Query(`{"collection":"notes"}`)); len(got) != 0 {
		t.Errorf("stored in part: %s", got)
	}
	got := text(l.Put("notes", []byte(`{"id":"n1","time":"2026-01-04T10:00:00Z","fields":{"text":"one"}}
		{"id":"n2","time":"2026-01-05T10:00:00Z","fields":{"text":"two hundred words"}}`)))
	if got != `{"changed":0,"new":2,"same":0}` {
		t.Errorf("put: %s", got)
	}
	if got := field(t, text(l.Status()), "unsent"); got == "0" {
		t.Error("what was just put counts as sent")
	}
	if got := field(t, text(l.Sync(60, 0, nil)), "complete"); got != "true" {
		t.Error("the sync is not complete")
	}
	if got := field(t, text(l.Status()), "unsent"); got != "0" {
		t.Errorf("after a complete sync %s objects are unsent", got)
	}
	text(l.Put("notes", []byte(`{"id":"n3","fields":{"text":"three"}}`)))
	if got := field(t, text(l.Status()), "unsent"); got != "1" {
		t.Errorf("with a change that is not sealed yet %s objects are unsent, want 1", got)
	}
	text(l.Sync(60, 0, nil))
	for name, object := range sky.objects {
		if strings.Contains(string(object), "hundred words") {
			t.Errorf("%s holds plain text", name)
		}
	}
	want := field(t, text(l.Status()), "state_hash")
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}

	if _, err := mobile.Open(dir, keyStore{8}); err == nil {
		t.Error("opened with another key")
	}
	if _, err := mobile.Create(dir, phrase, "phone", keys); err == nil {
		t.Error("made over a locker that is there")
	}
	l = lock(mobile.Open(dir, keys))
	defer l.Close()
	if got := data(l.Query(`{"collection":"notes","where":"text = \"two hundred words\"","fields":["text"],"limit":5}`)); !strings.Contains(string(got), `{"text":"two hundred words"}`) || strings.Contains(string(got), "one") {
		t.Errorf("query: %s", got)
	}

	tablet := lock(mobile.Restore(t.TempDir(), phrase, "tablet", keys, sky, nil))
	defer tablet.Close()
	if got := field(t, text(tablet.Status()), "state_hash"); got != want {
		t.Errorf("the tablet's state is %s, the phone's %s", got, want)
	}
	if err := tablet.Delete("notes", "n1"); err != nil {
		t.Fatal(err)
	}
	if err := tablet.Delete("notes", "n1"); err == nil {
		t.Error("deleted twice")
	}
	tablet.AddRemote("sky", sky)
	text(tablet.Sync(60, 0, nil))
	l.AddRemote("sky", sky)
	text(l.Sync(60, 0, nil))
	if _, err := l.Get("notes", "n1"); err == nil {
		t.Error("the phone still has what the tablet deleted")
	}
}

// A sync that runs out of bytes, or of network, goes on with the next.
func TestPhoneBudget(t *testing.T) {
	text, lock := must[string](t), must[*mobile.Locker](t)
	sky := &cloud{objects: map[string][]byte{}}
	l := lock(mobile.Create(t.TempDir(), mobile.NewPhrase(), "phone", keyStore{1}))
	defer l.Close()
	l.AddRemote("sky", sky)
	text(l.Put("notes", []byte(`{"id":"n1","fields":{"text":"one"}}`)))
	passes := 0
	for complete := "false"; complete != "true"; passes++ {
		if passes > 50 {
			t.Fatal("never complete")
		}
		complete = field(t, text(l.Sync(60, 6000, nil)), "complete")
	}
	if passes < 2 {
		t.Errorf("complete in %d pass, so the budget did not bound it", passes)
	}
	text(l.Put("notes", []byte(`{"id":"n2","fields":{"text":"two hundred words"}}`)))
	sky.fail = 1
	if got := field(t, text(l.Sync(60, 0, nil)), "failed"); !strings.Contains(got, "no network") {
		t.Errorf("failed: %s", got)
	}
	if got := field(t, text(l.Sync(60, 0, nil)), "failed"); got != "<nil>" {
		t.Errorf("failed again: %s", got)
	}
	if got := field(t, text(l.Status()), "unsent"); got != "0" {
		t.Errorf("unsent: %s", got)
	}
}

func TestPhoneFolder(t *testing.T) {
	lock := must[*mobile.Locker](t)
	dir := t.TempDir()
	folder := filepath.Join(dir, "cloud")
	if err := mobile.PrepareFolder(folder); err != nil {
		t.Fatal(err)
	}
	l := lock(mobile.Create(filepath.Join(dir, "locker"), mobile.NewPhrase(), "phone", keyStore{1}))
	defer l.Close()
	if err := l.AddFolder("card", folder); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Sync(60, 0, nil); err != nil {
		t.Fatal(err)
	}
	found, err := filepath.Glob(filepath.Join(folder, "*", "*"))
	if err != nil || len(found) == 0 {
		t.Errorf("%d objects in the folder, %v", len(found), err)
	}
}

// TestBindable looks at everything exported: gomobile binds some types only, skips
// functions with others silently, and fails on more than two results.
func TestBindable(t *testing.T) {
	pkgs, err := packages.Load(&packages.Config{Mode: packages.NeedTypes | packages.NeedImports | packages.NeedDeps | packages.NeedName}, "github.com/locker-project/locker/mobile")
	if err != nil || len(pkgs) != 1 || len(pkgs[0].Errors) > 0 {
		t.Fatalf("load: %v %v", err, pkgs)
	}
	pkg, checked := pkgs[0].Types, 0
	for _, name := range pkg.Scope().Names() {
		object := pkg.Scope().Lookup(name)
		if !object.Exported() {
			continue
		}
		switch object := object.(type) {
		case *types.Func:
			checked++
			bindable(t, pkg, name, object.Signature())
		case *types.TypeName:
			for method := range types.NewMethodSet(types.NewPointer(object.Type())).Methods() {
				if method.Obj().Exported() {
					checked++
					bindable(t, pkg, name+"."+method.Obj().Name(), method.Obj().(*types.Func).Signature())
				}
			}
			if i, ok := object.Type().Underlying().(*types.Interface); ok {
				for method := range i.Methods() {
					checked++
					bindable(t, pkg, name+"."+method.Name(), method.Signature())
				}
			}
		default:
			t.Errorf("%s: a phone's app cannot bind it", name)
		}
	}
	if checked < 15 {
		t.Errorf("only %d functions were looked at", checked)
	}
}

func bindable(t *testing.T, pkg *types.Package, name string, s *types.Signature) {
	for v := range s.Params().Variables() {
		if !bindableType(pkg, v.Type()) {
			t.Errorf("%s: parameter %s of type %s", name, v.Name(), v.Type())
		}
	}
	n := s.Results().Len()
	for i := range n {
		typ := s.Results().At(i).Type()
		if isError := typ.String() == "error"; isError && i == n-1 {
			continue
		} else if i > 0 || isError || !bindableType(pkg, typ) {
			t.Errorf("%s: result %d of type %s", name, i, typ)
		}
	}
}

func bindableType(pkg *types.Package, typ types.Type) bool {
	switch typ := typ.(type) {
	case *types.Basic:
		return typ.Info()&types.IsUnsigned == 0 && typ.Kind() != types.Complex128 && typ.Kind() != types.UnsafePointer
	case *types.Slice:
		basic, ok := typ.Elem().(*types.Basic)
		return ok && basic.Kind() == types.Byte
	case *types.Pointer:
		named, ok := typ.Elem().(*types.Named)
		return ok && named.Obj().Pkg() == pkg
	case *types.Named:
		_, isInterface := typ.Underlying().(*types.Interface)
		return isInterface && typ.Obj().Pkg() == pkg
	}
	return false
}
