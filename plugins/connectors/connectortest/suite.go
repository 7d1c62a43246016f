package connectortest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/locker-project/locker/plugins"
	"github.com/locker-project/locker/plugins/locker"
)

// readBound is how many bytes of a file a recogniser may read.
const readBound = 1 << 20

// Suite tests what every connector promises about files that it reads (own) and
// files that it must leave to others (foreign): that it goes by content and not
// by name, finds the same in the same bytes, gives no id twice, stops when told
// to, and stays whole whatever the bytes are.
func Suite(t *testing.T, c plugins.Connector, own, foreign []*File) {
	if len(own) == 0 || len(foreign) == 0 {
		t.Fatal("no files to test with")
	}
	for _, f := range own {
		t.Run("own "+f.Name(), func(t *testing.T) {
			recognises(t, c, f)
			parsesTheSame(t, c, f)
			stops(t, c, f)
			survives(t, c, f)
		})
	}
	for _, f := range append(foreign, odd()...) {
		t.Run("foreign "+f.Name(), func(t *testing.T) { leaves(t, c, f) })
	}
}

// odd returns content that no connector reads.
func odd() []*File {
	return []*File{
		NewFile("empty", nil),
		NewFile("blank", []byte(" \r\n\n\t")),
		NewFile("zeros", make([]byte, 5000)),
		NewFile("text", []byte("no export of anything\n")),
		NewFile("object.json", []byte(`{"a":[1,2,3]}`)),
		NewFile("list.json", []byte(`[]`)),
		NewFile("page.html", []byte("<!doctype html><title>OFX</title><p>BEGIN:VCARD, window.YTD, outbox")),
		NewFile("xml", []byte(`<?xml version="1.0"?><a>1</a>`)),
	}
}

func recognises(t *testing.T, c plugins.Connector, f *File) {
	for _, name := range []string{f.Name(), "x", "misleading.jpg", ""} {
		renamed := NewFile(name, f.Bytes())
		got, err := c.Recognise(t.Context(), renamed)
		if err != nil || got <= 0 || got > 100 {
			t.Errorf("as %q: confidence %d, error %v", name, got, err)
		}
		if renamed.read > readBound {
			t.Errorf("recognising read %d bytes", renamed.read)
		}
	}
}

func leaves(t *testing.T, c plugins.Connector, f *File) {
	f.read = 0
	if got, err := c.Recognise(t.Context(), f); got != 0 || err != nil {
		t.Errorf("confidence %d, error %v: want 0 and none", got, err)
	}
	if f.read > readBound {
		t.Errorf("recognising read %d bytes", f.read)
	}
}

func parsesTheSame(t *testing.T, c plugins.Connector, f *File) {
	first, second := new(Sink), new(Sink)
	for _, s := range []*Sink{first, second} {
		if err := c.Parse(t.Context(), f, s); err != nil {
			t.Fatalf("parse: %v", err)
		}
	}
	if !reflect.DeepEqual(first, second) {
		t.Error("two parses of the same bytes differ")
	}
	if len(first.Records)+len(first.Failed)+len(first.Notes) == 0 {
		t.Error("nothing found and nothing said")
	}
	seen := make(map[string]bool)
	for _, r := range first.Records {
		key := r.Collection + " " + r.ID
		if seen[key] {
			t.Errorf("id %q twice", key)
		}
		seen[key] = true
	}
}

// errFull is the error of a sink that takes no more.
var errFull = errors.New("sink is full")

type fullSink struct{ Sink }

func (s *fullSink) Put(context.Context, ...locker.Record) error { return errFull }

func stops(t *testing.T, c plugins.Connector, f *File) {
	if sink := new(Sink); c.Parse(t.Context(), f, sink) == nil && len(sink.Records) > 0 {
		if err := c.Parse(t.Context(), f, new(fullSink)); !errors.Is(err, errFull) {
			t.Errorf("the sink's error came back as %v", err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Parse(ctx, f, new(Sink)); !errors.Is(err, context.Canceled) {
		t.Errorf("parse in a cancelled context: %v", err)
	}
}

// survives parses damaged copies.
func survives(t *testing.T, c plugins.Connector, f *File) {
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 1))
	whole := f.Bytes()
	for range 200 {
		if Survive(t, c, NewFile(f.Name(), damage(random, whole))); t.Failed() {
			t.Fatalf("the seed was %d", seed)
		}
	}
}

// Survive parses a file of any bytes, for fuzz targets. It fails the test for an
// error that is no *plugins.FileError, for an id given twice and for a record
// that the gate would refuse.
func Survive(t *testing.T, c plugins.Connector, f *File) {
	t.Helper()
	if _, err := c.Recognise(t.Context(), f); err != nil {
		t.Fatalf("recognise: %v", err)
	}
	sink := new(Sink)
	err := c.Parse(t.Context(), f, sink)
	var broken *plugins.FileError
	if err != nil && !errors.As(err, &broken) {
		t.Fatalf("%v is no *plugins.FileError", err)
	}
	if err := unique(sink); err != nil {
		t.Fatal(err)
	}
}

func unique(s *Sink) error {
	seen := make(map[string]bool)
	for _, r := range s.Records {
		key := r.Collection + " " + r.ID
		if seen[key] {
			return fmt.Errorf("id %q twice", key)
		}
		seen[key] = true
	}
	return nil
}

// damage cuts, flips or repeats a part of b.
func damage(random *rand.Rand, b []byte) []byte {
	out := append([]byte(nil), b...)
	if len(out) == 0 {
		return out
	}
	switch at := random.IntN(len(out)); random.IntN(3) {
	case 0:
		return out[:at]
	case 1:
		for range 1 + random.IntN(20) {
			out[random.IntN(len(out))] = byte(random.Uint32())
		}
		return out
	default:
		end := at + random.IntN(len(out)-at)
		return append(out[:end:end], b[at:]...)
	}
}
