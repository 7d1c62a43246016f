package posts

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/locker-project/locker/plugins"
	"github.com/locker-project/locker/plugins/connectors/connectortest"
)

// zeros returns a zip with one member of so many blanks.
func zeros(t *testing.T, name string, size int64) *connectortest.File {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	m, err := w.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(m, "window.YTD.tweets.part0 = [ "); err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(m, blankReader{}, size); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return connectortest.NewFile("bomb.zip", b.Bytes())
}

type blankReader struct{}

func (blankReader) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

// overlapping returns a zip of which all members are the same bytes.
func overlapping(t *testing.T, members int, size int) *connectortest.File {
	t.Helper()
	var packed bytes.Buffer
	w, err := flate.NewWriter(&packed, 1)
	if err != nil {
		t.Fatal(err)
	}
	content := bytes.Repeat([]byte("0123456789abcdef, some text that packs by less than the bound; "), size/64)
	w.Write(content)
	w.Close()
	var b bytes.Buffer
	header := func(central bool, name string) {
		if central {
			b.WriteString("PK\x01\x02\x14\x00")
		} else {
			b.WriteString("PK\x03\x04")
		}
		binary.Write(&b, binary.LittleEndian, []uint16{20, 0, 8, 0, 0})
		binary.Write(&b, binary.LittleEndian, []uint32{crc32.ChecksumIEEE(content), uint32(packed.Len()), uint32(len(content))})
		binary.Write(&b, binary.LittleEndian, []uint16{uint16(len(name)), 0})
		if central {
			b.Write(make([]byte, 2+2+2+4+4)) // comment, disk, attributes; offset 0
		}
		b.WriteString(name)
	}
	header(false, "tweets_media/00000.jpg")
	b.Write(packed.Bytes())
	start := b.Len()
	for i := range members {
		header(true, fmt.Sprintf("tweets_media/%05d.jpg", i))
	}
	size = b.Len() - start
	b.WriteString("PK\x05\x06\x00\x00\x00\x00")
	binary.Write(&b, binary.LittleEndian, []uint16{uint16(members), uint16(members)})
	binary.Write(&b, binary.LittleEndian, []uint32{uint32(size), uint32(start)})
	b.Write([]byte{0, 0})
	return connectortest.NewFile("overlap.zip", b.Bytes())
}

// manyMembers returns a zip whose directory is larger than any real one.
func manyMembers(t *testing.T) *connectortest.File {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	long := strings.Repeat("n", 4000)
	for i := range maxDirectory/4000 + 100 {
		if _, err := w.CreateHeader(&zip.FileHeader{Name: fmt.Sprintf("%s%d", long, i)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return connectortest.NewFile("many.zip", b.Bytes())
}

// gzipped returns so many blanks as a gzip, which are no tar.
func gzipped(t *testing.T, size int64) *connectortest.File {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := io.CopyN(w, blankReader{}, size); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return connectortest.NewFile("bomb.gz", b.Bytes())
}

// A discarding sink reads blobs and forgets them.
type discarding struct{ connectortest.Sink }

func (d *discarding) Blob(_ context.Context, r io.Reader) (string, error) {
	_, err := io.Copy(io.Discard, r)
	return "x", err
}

// Bombs are refused soon and in little memory.
func TestBombs(t *testing.T) {
	for _, tt := range []struct {
		file *connectortest.File
		why  string
	}{
		{zeros(t, "data/tweets.js", 64<<20), "compressed more than any real file"},
		{overlapping(t, 3000, 1<<20), "unpacks to more than any real archive"},
		{manyMembers(t), "more members than any real archive"},
		{gzipped(t, 64<<20), ""},
	} {
		t.Run(tt.file.Name(), func(t *testing.T) {
			runtime.GC()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := time.Now()
			err := New().Parse(t.Context(), tt.file, new(discarding))
			connectortest.IsFileError(t, err, tt.why)
			runtime.ReadMemStats(&after)
			if took := time.Since(start); took > 10*time.Second {
				t.Errorf("it took %v", took)
			}
			if used := after.Sys - before.Sys; after.Sys > before.Sys && used > 64<<20 {
				t.Errorf("it took %d MiB", used>>20)
			}
		})
	}
}

// Names that point outside of the archive are names and never paths.
func TestNames(t *testing.T) {
	for in, want := range map[string]string{"../../etc/passwd": "etc/passwd", "/a/b": "a/b", `data\tweets.js`: "data/tweets.js", "a/./b//c": "a/b/c", "": ""} {
		if got := cleanName(in); got != want {
			t.Errorf("%q is %q, want %q", in, got, want)
		}
	}
	evil := zipped(t, files{{"../../data/tweets.js", newTweets}})
	if sink := connectortest.MustParse(t, New(), evil); len(sink.Records) != 2 {
		t.Errorf("%d records", len(sink.Records))
	}
}

// An error of the file is no fault of its content.
func TestReadErrors(t *testing.T) {
	lost := errors.New("the disk is gone")
	for _, f := range []*connectortest.File{zipped(t, files{{"outbox.json", outbox}}), tarred(t, files{{"outbox.json", outbox}}), single(outbox)} {
		for after := range 4 {
			err := New().Parse(t.Context(), &failing{f, after, lost}, new(connectortest.Sink))
			var broken *plugins.FileError
			if err != nil && (errors.As(err, &broken) || !errors.Is(err, lost)) {
				t.Errorf("%s, after %d reads: %v", f.Name(), after, err)
			}
			if err == nil && after < 2 {
				t.Errorf("%s, after %d reads: no error", f.Name(), after)
			}
		}
	}
}

type failing struct {
	plugins.File
	left int
	err  error
}

func (f *failing) ReadAt(p []byte, off int64) (int, error) {
	if f.left--; f.left < 0 {
		return 0, f.err
	}
	return f.File.ReadAt(p, off)
}

func TestPlainText(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "plain": "plain", "<p>one</p><p>two</p>": "one\n\ntwo", "a<br>b<br/>c": "a\nb\nc", "<p>a<br />b</p>": "a\nb",
		"x &amp; y &lt;z&gt;": "x & y <z>", "<script>alert(1)</script>text<style>p{}</style>": "text", "<ul><li>a</li><li>b</li></ul>": "a\nb",
		`<a href="https://e.example/long"><span class="invisible">https://</span><span class="ellipsis">e.example/</span><span class="invisible">long</span></a>`: "https://e.example/long",
		"&amp;lt;": "&lt;", "<p>unclosed": "unclosed", "a < b": "a < b", "<p": "",
	} {
		if got := plainText(in); got != want {
			t.Errorf("%q is %q, want %q", in, got, want)
		}
	}
}
