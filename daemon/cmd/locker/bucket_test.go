package main

import (
	"crypto/md5"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// A bucket is as much of an S3 server as a locker needs, in memory. It counts what it
// is asked, and may be far away.
type bucket struct {
	url   string
	delay time.Duration // before each answer

	mu       sync.Mutex
	objects  map[string][]byte
	requests map[string]int // by method; a listing counts as LIST
	up, down int64
}

func newBucket(t testing.TB, delay time.Duration) *bucket {
	t.Helper()
	b := &bucket{delay: delay, objects: map[string][]byte{}, requests: map[string]int{}}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: b}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { server.Close() })
	b.url = "http://" + listener.Addr().String()
	return b
}

// spec is the remote spec of the bucket.
func (b *bucket) spec() string {
	return fmt.Sprintf("rclone::s3,provider=Other,endpoint='%s',access_key_id=key,secret_access_key=secret,force_path_style=true:bucket/locker", b.url)
}

// counted returns the requests since the last time, by method, and the bytes of bodies.
func (b *bucket) counted() (requests map[string]int, up, down int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	requests, up, down = b.requests, b.up, b.down
	b.requests, b.up, b.down = map[string]int{}, 0, 0
	return requests, up, down
}

func (b *bucket) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	time.Sleep(b.delay)
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	if strings.HasPrefix(r.Header.Get("Content-Encoding"), "aws-chunked") || strings.HasPrefix(r.Header.Get("X-Amz-Content-Sha256"), "STREAMING") {
		http.Error(w, "chunked uploads are not understood", http.StatusNotImplemented)
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.up += int64(len(body))
	key := strings.TrimPrefix(r.URL.Path, "/bucket")
	if key = strings.Trim(key, "/"); key == "" && r.Method == http.MethodGet {
		b.requests["LIST"]++
		b.list(w, r)
		return
	}
	b.requests[r.Method]++
	object, there := b.objects[key]
	switch r.Method {
	case http.MethodPut:
		b.objects[key] = body
		w.Header().Set("ETag", etag(body))
	case http.MethodDelete:
		delete(b.objects, key)
		w.WriteHeader(http.StatusNoContent)
	case http.MethodGet, http.MethodHead:
		if !there {
			w.Header().Set("Content-Type", "application/xml")
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, `<?xml version="1.0"?><Error><Code>NoSuchKey</Code><Message>no such key</Message></Error>`)
			return
		}
		w.Header().Set("ETag", etag(object))
		b.down += int64(len(object))
		http.ServeContent(w, r, "", time.Unix(1.7e9, 0), strings.NewReader(string(object)))
	}
}

func etag(body []byte) string {
	sum := md5.Sum(body)
	return `"` + hex.EncodeToString(sum[:]) + `"`
}

// list answers ListObjects.
func (b *bucket) list(w http.ResponseWriter, r *http.Request) {
	type content struct {
		Key, LastModified, ETag string
		Size                    int
	}
	type common struct{ Prefix string }
	answer := struct {
		XMLName        xml.Name `xml:"ListBucketResult"`
		Name           string
		Prefix         string
		MaxKeys        int
		IsTruncated    bool
		Contents       []content
		CommonPrefixes []common
	}{Name: "bucket", Prefix: r.URL.Query().Get("prefix"), MaxKeys: 1000}
	delimiter := r.URL.Query().Get("delimiter")
	var keys, prefixes []string
	for key := range b.objects {
		rest, ok := strings.CutPrefix(key, answer.Prefix)
		if !ok {
			continue
		}
		if dir, _, ok := strings.Cut(rest, delimiter); ok && delimiter != "" {
			prefixes = append(prefixes, answer.Prefix+dir+delimiter)
		} else {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	slices.Sort(prefixes)
	for _, key := range keys {
		answer.Contents = append(answer.Contents, content{key, "2026-01-01T00:00:00.000Z", etag(b.objects[key]), len(b.objects[key])})
	}
	for _, p := range slices.Compact(prefixes) {
		answer.CommonPrefixes = append(answer.CommonPrefixes, common{p})
	}
	w.Header().Set("Content-Type", "application/xml")
	_ = xml.NewEncoder(w).Encode(answer)
}
