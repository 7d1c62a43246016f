package replica_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/locker-project/locker/crypto"
	"github.com/locker-project/locker/daemon/remote"
	"github.com/locker-project/locker/daemon/replica"
	"github.com/locker-project/locker/daemon/store"
	"github.com/locker-project/locker/plugins/locker"
)

var _ replica.State = (*store.Store)(nil)

// A whole is a device with everything real: keys, store, folder.
type whole struct {
	*replica.Replica
	store *store.Store
	keys  *crypto.Keyring
}

func newWhole(t testing.TB, keys *crypto.Keyring, err error, folder string) *whole {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	w := &whole{keys: keys}
	w.store, err = store.Open(t.TempDir(), store.Options{Device: keys.Device(), BlobKey: keys.BlobKey()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.store.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := remote.PrepareFolder(folder); err != nil {
		t.Fatal(err)
	}
	r, err := remote.Folder(folder)
	if err != nil {
		t.Fatal(err)
	}
	w.Replica, err = replica.New(context.Background(), replica.Config{
		Sealer: keys, State: w.store, Objects: t.TempDir(), Remotes: []replica.Named{{Name: "folder", Remote: r}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *whole) sync(t testing.TB) {
	t.Helper()
	s, err := w.Sync(context.Background(), replica.SyncOptions{Full: true})
	if err != nil || len(s.Pending)+len(s.Alarms)+len(s.Failed) > 0 {
		t.Fatalf("sync: %+v, %v", s, err)
	}
}

func record(collection, id, text string) locker.Record {
	fields, err := json.Marshal(map[string]string{"text": text})
	if err != nil {
		panic(err)
	}
	return locker.Record{Collection: collection, ID: id, Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Fields: fields}
}

// TestWhole walks two devices through their life with the real store and a folder.
func TestWhole(t *testing.T) {
	ctx, folder, seed := context.Background(), t.TempDir(), crypto.NewSeed()
	keys, err := crypto.Found(seed, "laptop")
	laptop := newWhole(t, keys, err, folder)
	if err := laptop.Found(ctx); err != nil {
		t.Fatal(err)
	}
	owner := store.Author{Class: store.Owner}
	var records []locker.Record
	for i := range 3000 {
		records = append(records, record("notes", fmt.Sprint(i), "of the laptop"))
	}
	if _, err := laptop.store.Write(ctx, owner, records...); err != nil {
		t.Fatal(err)
	}
	id, _, err := laptop.store.PutBlob(ctx, strings.NewReader(strings.Repeat("a picture ", 300000)))
	if err != nil {
		t.Fatal(err)
	}
	laptop.sync(t)

	keys, err = crypto.Recover(seed, "phone")
	phone := newWhole(t, keys, err, folder)
	if _, err := phone.Restore(ctx, nil); err != nil {
		t.Fatal(err)
	}
	if a, b := laptop.store.StateHash(), phone.store.StateHash(); a != b || a == "" {
		t.Fatalf("state hashes %q and %q", a, b)
	}
	if err := phone.Blob(ctx, id); err != nil {
		t.Fatal(err)
	}
	body, size, err := phone.store.OpenBlob(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, body); n != size || err != nil {
		t.Errorf("the blob has %d bytes of %d: %v", n, size, err)
	}
	if err := body.Close(); err != nil {
		t.Error(err)
	}

	if _, err := phone.store.Write(ctx, owner, record("notes", "1", "of the phone")); err != nil {
		t.Fatal(err)
	}
	if _, err := phone.store.Delete(ctx, owner, "notes", "2"); err != nil {
		t.Fatal(err)
	}
	phone.sync(t)
	laptop.sync(t)
	if a, b := laptop.store.StateHash(), phone.store.StateHash(); a != b {
		t.Fatalf("state hashes %q and %q", a, b)
	}
	if _, err := laptop.store.View(owner).Get(ctx, "notes", "2"); !errors.Is(err, locker.ErrNotFound) {
		t.Errorf("the deleted note: %v", err)
	}
	report, err := laptop.Verify(ctx, "folder", nil)
	if err != nil || len(report.Missing)+len(report.Bad)+report.Misfits+report.Repaired > 0 || report.Objects < 8 {
		t.Errorf("verify: %+v, %v", report, err)
	}
}

// TestWholePurge: with the real store, a purged record, and what another device wrote
// to it meanwhile, is on no device and in no object any more.
func TestWholePurge(t *testing.T) {
	ctx, folder, seed := context.Background(), t.TempDir(), crypto.NewSeed()
	keys, err := crypto.Found(seed, "laptop")
	laptop := newWhole(t, keys, err, folder)
	if err := laptop.Found(ctx); err != nil {
		t.Fatal(err)
	}
	owner := store.Author{Class: store.Owner}
	if _, err := laptop.store.Write(ctx, owner, record("notes", "1", "secret"), record("notes", "2", "stays")); err != nil {
		t.Fatal(err)
	}
	laptop.sync(t)
	keys, err = crypto.Recover(seed, "phone")
	phone := newWhole(t, keys, err, folder)
	if _, err := phone.Restore(ctx, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := phone.store.Write(ctx, owner, record("notes", "1", "another secret")); err != nil {
		t.Fatal(err)
	}
	if got, err := laptop.store.Ban(ctx, "notes", "1"); err != nil || got.Records != 1 {
		t.Fatalf("purged %+v, %v", got, err)
	}
	for range 3 {
		phone.sync(t)
		laptop.sync(t)
	}
	for _, d := range []*whole{laptop, phone} {
		if err := d.store.Scrub(ctx); err != nil {
			t.Fatal(err)
		}
		d.sync(t)
		if _, err := d.store.View(owner).Get(ctx, "notes", "1"); !errors.Is(err, locker.ErrNotFound) {
			t.Errorf("the purged note: %v", err)
		}
		list, err := d.Cleanliness(ctx)
		if err != nil || len(list) != 2 || !list[0].Clean || !list[1].Clean {
			t.Errorf("clean: %+v, %v", list, err)
		}
	}
	keys, err = crypto.Recover(seed, "fresh")
	fresh := newWhole(t, keys, err, folder)
	if _, err := fresh.Restore(ctx, nil); err != nil {
		t.Fatal(err)
	}
	if a, b, c := laptop.store.StateHash(), phone.store.StateHash(), fresh.store.StateHash(); a != b || b != c || a == "" {
		t.Fatalf("state hashes %q, %q and %q", a, b, c)
	}
	if banned, err := fresh.store.Banned(ctx, "notes", "1"); err != nil || !banned {
		t.Errorf("the ban: %v, %v", banned, err)
	}
}
