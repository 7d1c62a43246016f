package daemon

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// A Client sends calls to a locker: to its daemon where one runs, else to the
// locker that it has opened in this process.
type Client struct {
	http  *http.Client // to the daemon, or nil
	local *Locker      // opened here, or nil
}

// Connect returns a client for the locker in home. command says in the lock what
// this process is doing; options tell how to open the locker where no daemon has
// it open.
func Connect(ctx context.Context, home Home, command string, options Options) (*Client, error) {
	if ok, err := home.exists(); err != nil {
		return nil, err
	} else if !ok {
		return nil, home.missing()
	}
	if c := dial(ctx, home); c != nil {
		return &Client{http: c}, nil
	}
	l, err := Open(ctx, home, command, options)
	if err != nil {
		return nil, err
	}
	return &Client{local: l}, nil
}

// Daemon says whether the client talks to a daemon.
func (c *Client) Daemon() bool { return c.http != nil }

// Close closes the locker if it was opened here.
func (c *Client) Close() error {
	if c.local != nil {
		return c.local.Close()
	}
	c.http.CloseIdleConnections()
	return nil
}

// A Handler takes what a call answers. Either function may be nil.
type Handler struct {
	Row      func(json.RawMessage) error
	Progress func(Progress)
}

// Call sends one call with its parameters and input, hands over what comes back,
// and stores the summary in end unless that is nil. A call that failed returns an
// [*Error].
func (c *Client) Call(ctx context.Context, name string, params any, input io.Reader, h Handler, end any) error {
	line, err := json.Marshal(params)
	if err != nil {
		return err
	}
	body := io.Reader(bytes.NewReader(append(line, '\n')))
	if input != nil {
		body = io.MultiReader(body, input)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answer, err := c.send(ctx, name, body)
	if err != nil {
		return err
	}
	defer answer.Close()
	return receive(answer, h, end)
}

func (c *Client) send(ctx context.Context, name string, body io.Reader) (io.ReadCloser, error) {
	if c.local != nil {
		r, w := io.Pipe()
		go func() {
			buffered := bufio.NewWriterSize(w, 64<<10)
			dispatch(ctx, c.local, name, body, newAnswer(buffered, buffered.Flush))
			w.Close()
		}()
		return r, nil
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://locker/v1/"+name, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", contentType)
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, failed("see 'locker status' and the daemon's log", "the daemon did not answer: %v", err)
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
		return nil, failed("the daemon may be of another version: restart it", "the daemon refused %s: %s %s", name, resp.Status, strings.TrimSpace(string(text)))
	}
	return resp.Body, nil
}

// receive reads the events of an answer.
func receive(r io.Reader, h Handler, end any) error {
	dec := json.NewDecoder(bufio.NewReaderSize(r, 64<<10))
	for {
		var e Event
		if err := dec.Decode(&e); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return failed("see whether the daemon still runs, and try again", "the answer ended early: %v", err)
		}
		switch {
		case e.Error != nil:
			return e.Error
		case e.End != nil:
			if end == nil {
				return nil
			}
			return json.Unmarshal(e.End, end)
		case e.Progress != nil && h.Progress != nil:
			h.Progress(*e.Progress)
		case e.Row != nil && h.Row != nil:
			if err := h.Row(e.Row); err != nil {
				return err
			}
		}
	}
}

// dial returns an HTTP client for the daemon of home, or nil where none answers.
func dial(ctx context.Context, home Home) *http.Client {
	path := home.socket()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil
	}
	first := make(chan net.Conn, 1)
	first <- conn
	return &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			select {
			case c := <-first: // the connection that told that the daemon is there
				return c, nil
			default:
				return d.DialContext(ctx, "unix", path)
			}
		},
		ResponseHeaderTimeout: time.Minute,
	}}
}

// contentType is that of calls and answers: JSON lines.
const contentType = "application/x-ndjson"

// dispatch answers one call: it reads the parameters and the input from body and
// sends events through a.
func dispatch(ctx context.Context, l *Locker, name string, body io.Reader, a *answer) {
	do, ok := calls[name]
	if !ok {
		_ = a.end(nil, usage("the daemon may be of another version: restart it", "there is no call %q", name))
		return
	}
	in := bufio.NewReaderSize(body, 64<<10)
	line, err := in.ReadSlice('\n')
	if err != nil {
		_ = a.end(nil, fmt.Errorf("%w call %s: its parameters cannot be read: %v", errParams, name, err))
		return
	}
	v, err := do(ctx, l, bytes.Clone(line), in, a)
	// Where the answer cannot be written the caller has gone: nobody is left to tell.
	_ = a.end(v, err)
}

var errParams = errors.New("malformed")
