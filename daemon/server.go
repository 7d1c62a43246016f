package daemon

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// listen opens the socket of home: in a folder that only its owner may enter, with
// the mode set before there is anything to connect to. A socket left by a daemon
// that died is removed; the lock, which the caller holds, tells that it did.
func listen(home Home) (net.Listener, error) {
	path := home.socket()
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the folder of the socket: %w", err)
	}
	if err := privateDir(dir); err != nil {
		return nil, err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("cannot remove the socket of a former daemon: %w", err)
	}
	l, err := listenPrivate(path)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s: %w", path, err)
	}
	return l, nil
}

// newServer returns the server of calls. It answers callers of the same user only,
// and calls end with ctx.
func newServer(ctx context.Context, l *Locker) *http.Server {
	logger := l.log
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/{name}", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Content-Type") != contentType {
			http.Error(w, "calls are "+contentType, http.StatusUnsupportedMediaType)
			return
		}
		// A call may go on reading its input after it began to answer.
		rc := http.NewResponseController(w)
		if err := rc.EnableFullDuplex(); err != nil {
			logger.Debug("full duplex", "err", err)
		}
		w.Header().Set("Content-Type", contentType)
		if err := rc.Flush(); err != nil { // the caller knows now that the call is heard
			return
		}
		buffered := bufio.NewWriterSize(w, 64<<10)
		signal(l.called)
		a := newAnswer(buffered, func() error { return errors.Join(buffered.Flush(), rc.Flush()) })
		dispatch(r.Context(), l, r.PathValue("name"), r.Body, a)
	})
	return &http.Server{
		Handler:           mux,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ReadHeaderTimeout: 10 * time.Second,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelWarn),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			if err := samePeer(c); err != nil {
				logger.Warn("a caller was refused", "err", err)
				c.Close()
			}
			return ctx
		},
	}
}
