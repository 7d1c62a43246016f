package remotetest

import (
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// A Trouble gets in the way of some requests.
type Trouble struct {
	Method string
	Times  int64 // how often
	Do     func(w http.ResponseWriter, r *http.Request, next http.Handler)
	seen   atomic.Int64
}

// Seen is how many requests of its method came since the trouble began.
func (x *Trouble) Seen() int64 { return x.seen.Load() }

// Trouble puts a trouble in front of the server, in place of an earlier one; nil takes
// that away.
func (d *WebDAV) Trouble(x *Trouble) *Trouble {
	if x == nil {
		d.wrap.Store(nil)
		return nil
	}
	wrap := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == x.Method && x.seen.Add(1) <= x.Times {
				x.Do(w, r, next)
				return
			}
			next.ServeHTTP(w, r)
		})
	}
	d.wrap.Store(&wrap)
	return x
}

// Answer is the trouble of a server that answers so.
func Answer(status int, header ...string) func(http.ResponseWriter, *http.Request, http.Handler) {
	return func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		_, _ = io.Copy(io.Discard, r.Body)
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
	}
}

// Reset is the trouble of a connection that breaks after so many bytes of the request
// were read.
func Reset(after int64) func(http.ResponseWriter, *http.Request, http.Handler) {
	return func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		_, _ = io.CopyN(io.Discard, r.Body, after)
		cut(w)
	}
}

// cut resets the connection.
func cut(w http.ResponseWriter) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(err)
	}
	_ = conn.(*net.TCPConn).SetLinger(0)
	conn.Close()
}

// Short is the trouble of a download that breaks after so many bytes.
func Short(after int) func(http.ResponseWriter, *http.Request, http.Handler) {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		next.ServeHTTP(&shortWriter{ResponseWriter: w, left: after}, r)
	}
}

type shortWriter struct {
	http.ResponseWriter
	left int
	off  bool
}

func (s *shortWriter) Write(p []byte) (int, error) {
	if s.off {
		return 0, io.ErrClosedPipe
	}
	n, err := s.ResponseWriter.Write(p[:min(len(p), s.left)])
	if s.left -= n; s.left == 0 && err == nil {
		s.off = true
		_ = http.NewResponseController(s.ResponseWriter).Flush()
		cut(s.ResponseWriter)
		err = io.ErrClosedPipe
	}
	return n, err
}

// Slowly is the trouble of a line that carries little.
func Slowly(w http.ResponseWriter, r *http.Request, next http.Handler) {
	r.Body = struct {
		io.Reader
		io.Closer
	}{slowReader{r.Body}, r.Body}
	next.ServeHTTP(w, r)
}

type slowReader struct{ r io.Reader }

func (s slowReader) Read(p []byte) (int, error) {
	time.Sleep(20 * time.Millisecond)
	return s.r.Read(p[:min(len(p), 8<<10)])
}
