package replica_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/locker-project/locker/daemon/replica"
	"github.com/locker-project/locker/daemon/replica/replicatest"
)

// TestSheet: a restore from a cloud that was rolled back looks whole by itself; with
// what the recovery sheet says it tells which device's log is older, asks for what is
// missing, and takes it once it turns up.
func TestSheet(t *testing.T) {
	w := newWorld(t)
	laptop := w.found("laptop")
	laptop.sync(full)
	phone := w.restore("phone")
	var before map[string][]byte
	for i := range 6 {
		if i == 3 {
			phone.sync(full)
			before = w.cloud.Objects()
		}
		laptop.state.put(fmt.Sprint(i), "x")
		laptop.sync(full)
	}
	phone.sync(full)
	laptop.sync(full)
	sheet, err := laptop.Sheet(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if len(sheet) > 80 || strings.Contains(sheet, "\n") {
		t.Errorf("the sheet is %q", sheet)
	}
	now := w.cloud.Objects()
	w.cloud.Reset(before)
	fresh := w.restore("fresh")
	fresh.well()
	typed := strings.ToUpper(strings.ReplaceAll(sheet, " ", "\n "))
	report, err := fresh.CheckSheet(context.Background(), typed)
	if err != nil {
		t.Fatal(err)
	}
	if !report.Behind() || len(report.Lines) != 2 || report.Printed.Format(time.DateOnly) != w.now().Format(time.DateOnly) {
		t.Fatalf("the report is %+v", report)
	}
	for _, l := range report.Lines {
		if older := l.Device == laptop.keys.Device(); !l.Known || l.Differs || l.Name == "" || l.Older() != older {
			t.Errorf("%+v", l)
		}
	}
	fresh.sync(full)
	st, err := fresh.Status(context.Background())
	if err != nil || len(st.Pending) == 0 || st.Pending[0].Kind != "missing" {
		t.Errorf("pending are %+v, %v", st.Pending, err)
	}
	for name, object := range now {
		if w.cloud.Object(name) == nil {
			w.cloud.Set(name, object)
		}
	}
	fresh.sync(full)
	fresh.sync(full)
	w.same(laptop, fresh)
	fresh.well()
	if report, err = fresh.CheckSheet(context.Background(), sheet); err != nil || report.Behind() {
		t.Errorf("when all is there: %+v, %v", report, err)
	}
}

// TestSheetOtherCloud: the sheet tells a log that goes on in another way, and a device
// that the cloud does not show at all.
func TestSheetOtherCloud(t *testing.T) {
	w := newWorld(t)
	laptop := w.found("laptop")
	laptop.sync(full)
	before := w.cloud.Objects()
	phone := w.restore("phone")
	phone.sync(full)
	laptop.state.put("1", "one")
	laptop.sync(full)
	sheet, err := laptop.Sheet(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	w.cloud.Reset(before)
	fresh := w.restore("fresh")
	report, err := fresh.CheckSheet(context.Background(), sheet)
	if err != nil || !report.Behind() {
		t.Fatalf("%+v, %v", report, err)
	}
	unknown := 0
	for _, l := range report.Lines {
		if !l.Known {
			unknown++
			if !strings.HasPrefix(phone.keys.Device(), l.Device) || !l.Older() {
				t.Errorf("%+v", l)
			}
		}
	}
	if unknown != 1 {
		t.Errorf("%d devices are not known: %+v", unknown, report.Lines)
	}
	// The laptop's own log, as a copy of it would go on.
	other, err := phone.CheckSheet(context.Background(), sheet)
	if err != nil || slices.ContainsFunc(other.Lines, func(l replica.SheetLine) bool { return l.Differs }) {
		t.Errorf("%+v, %v", other, err)
	}
}

// TestSheetTypos: every wrong character, group or order is noticed, and said where.
func TestSheetTypos(t *testing.T) {
	w := newWorld(t)
	laptop := w.found("laptop")
	laptop.sync(full)
	phone := w.restore("phone")
	phone.sync(full)
	laptop.sync(full)
	sheet, err := laptop.Sheet(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := laptop.CheckSheet(context.Background(), sheet); err != nil {
		t.Fatal(err)
	}
	said, where := 0, 0
	for i := range sheet {
		for _, c := range "a7z0- " {
			typo := sheet[:i] + string(c) + sheet[i+1:]
			if typo == sheet {
				continue
			}
			said++
			_, err := laptop.CheckSheet(context.Background(), typo)
			if err == nil {
				t.Errorf("%q is taken for %q", typo, sheet)
			} else if strings.Contains(err.Error(), "group ") || strings.Contains(err.Error(), "is no day") {
				where++
			}
		}
	}
	if where < said*2/3 {
		t.Errorf("of %d mistakes %d are located", said, where)
	}
	parts := strings.Fields(sheet)
	for name, typo := range map[string][]string{
		"nothing": nil, "a day": parts[:1], "one group less": slices.Delete(slices.Clone(parts), 1, 2),
		"another order": {parts[0], parts[2], parts[1], parts[3]}, "too much": append(slices.Clone(parts), parts...),
		"long": {strings.Repeat("a", 1<<17)},
	} {
		if _, err := laptop.CheckSheet(context.Background(), strings.Join(typo, " ")); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	stranger := newWorld(t).found("stranger")
	if _, err := stranger.CheckSheet(context.Background(), sheet); err == nil {
		t.Error("another locker's sheet is accepted")
	}
}

func FuzzSheet(f *testing.F) {
	w := newWorld(f)
	laptop := w.found("laptop")
	laptop.sync(full)
	sheet, err := laptop.Sheet(context.Background())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sheet)
	f.Add("2026-11-25 aaaaaa-1-0000002a abcd")
	f.Fuzz(func(t *testing.T, text string) {
		report, err := laptop.CheckSheet(context.Background(), text)
		if groups := len(strings.Fields(text)) - 2; err == nil && len(report.Lines) != groups {
			t.Errorf("%q has %d groups, and is read as %+v", text, groups, report)
		}
	})
}

// TestRemoteAgainstRemote: one remote is put back to an old state. A device that only
// has that one sees an old state; once it sees the other, what that one names is
// missing on the first, is read, and is copied there, so that the first one alone is
// whole again.
func TestRemoteAgainstRemote(t *testing.T) {
	w := newWorld(t)
	second := &replicatest.Cloud{Now: w.now}
	laptop := w.found("laptop", w.cloud, second)
	laptop.sync(full)
	phone := w.restore("phone", w.cloud, second)
	for i := range 5 {
		phone.state.put(fmt.Sprint("phone", i), "x")
		phone.sync(full)
		if i == 1 {
			laptop.sync(full)
		}
	}
	blob := phone.state.addBlob([]byte("picture"))
	phone.sync(full)
	laptop.sync(full)
	old := map[string][]byte{}
	for name, object := range second.Objects() {
		if !slices.Contains(ownNames(phone, second)[2:], name) { // two entries of the phone, no pack
			old[name] = object
		}
	}
	pack := phone.keys.Name(replica.Ref{Kind: "pack", Writer: phone.keys.Device(), Number: 1})
	delete(old, pack)
	second.Reset(old)

	// The phone, which would put its own again, is off.
	fresh := w.restore("fresh", second)
	if fresh.state.hash() == laptop.state.hash() {
		t.Fatal("the second remote is whole")
	}
	fresh.sync(full)
	fresh.SetRemotes([]replica.Named{{Name: "remote0", Remote: second}, {Name: "first", Remote: w.cloud}})
	fresh.sync(full)
	s := fresh.sync(full)
	w.same(laptop, phone, fresh)
	if len(s.Pending)+len(s.Alarms) != 0 {
		t.Errorf("pending %+v, alarms %+v", s.Pending, s.Alarms)
	}
	if got, want := len(ownNames(phone, second)), len(ownNames(phone, w.cloud)); got != want {
		t.Errorf("the second remote has %d entries of the phone, the first %d", got, want)
	}
	if _, err := fresh.Verify(context.Background(), "remote0", nil); err != nil {
		t.Fatal(err)
	}
	again := w.restore("again", second)
	w.same(laptop, again)
	if err := again.Blob(context.Background(), blob); err != nil {
		t.Error(err)
	}
}

// TestRemoteAgainstRemotePending: what is named on one remote and is on none is
// pending, and an alarm after a day; its writer heals it.
func TestRemoteAgainstRemotePending(t *testing.T) {
	w := newWorld(t)
	second := &replicatest.Cloud{Now: w.now}
	laptop := w.found("laptop", w.cloud, second)
	laptop.sync(full)
	phone := w.restore("phone", w.cloud, second)
	phone.state.put("1", "x")
	phone.sync(full)
	laptop.sync(full)
	laptop.state.put("2", "x") // names the phone's entries
	laptop.sync(full)
	gone := ownNames(phone, w.cloud)
	for _, name := range gone[1:] {
		w.cloud.Remove(name)
		second.Remove(name)
	}
	fresh := w.restore("fresh", second)
	fresh.sync(full)
	st, err := fresh.Status(context.Background())
	if err != nil || len(st.Alarms) != 0 || len(st.Pending) == 0 || st.Pending[0].Kind != "missing" || st.Pending[0].Device != phone.keys.Device() {
		t.Fatalf("pending %+v, alarms %+v, %v", st.Pending, st.Alarms, err)
	}
	for range 10 {
		w.pass(5 * time.Hour)
		fresh.sync(full)
	}
	if st, err = fresh.Status(context.Background()); err != nil || !slices.ContainsFunc(st.Alarms, func(n replica.Notice) bool { return n.Kind == "missing" }) {
		t.Errorf("alarms %+v, %v", st.Alarms, err)
	}
	phone.sync(full)
	fresh.sync(full)
	fresh.well()
	w.same(laptop, phone, fresh)
}
