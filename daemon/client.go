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
		return nil, withCode(err)
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
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	body := io.Reader(bytes.NewReader(append(line, '\n')))
	if input != nil {
		body = io.MultiReader(body, during(ctx, input))
	}
	answer, err := c.send(ctx, name, body)
	if err != nil {
		return err
	}
	defer answer.Close()
	return receive(ctx, answer, h, end)
}

// during reads from r until ctx ends, also while r, such as a terminal, has nothing
// to give.
func during(ctx context.Context, r io.Reader) io.Reader {
	out, in := io.Pipe()
	go func() {
		_, err := io.Copy(in, r)
		in.CloseWithError(err)
	}()
	context.AfterFunc(ctx, func() { in.CloseWithError(ctx.Err()) })
	return out
}

func (c *Client) send(ctx context.Context, name string, body io.Reader) (io.ReadCloser, error) {
	if c.local != nil {
		return c.answerHere(ctx, name, body), nil
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

// answerHere answers a call in this process.
func (c *Client) answerHere(ctx context.Context, name string, body io.Reader) io.ReadCloser {
	ctx, cancel := context.WithCancel(ctx)
	r, w := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		buffered := bufio.NewWriterSize(w, 64<<10)
		dispatch(ctx, c.local, name, body, newAnswer(buffered, buffered.Flush))
		w.Close()
	}()
	return &localAnswer{r, cancel, done}
}

// A localAnswer is the answer to a call of this process. Close ends the call and
// waits for that, so that the locker can be closed after it.
type localAnswer struct {
	*io.PipeReader
	cancel context.CancelFunc
	done   chan struct{}
}

func (a *localAnswer) Close() error {
	a.cancel()
	a.PipeReader.Close()
	<-a.done
	return nil
}

// receive reads the events of an answer.
func receive(ctx context.Context, r io.Reader, h Handler, end any) error {
	dec := json.NewDecoder(bufio.NewReaderSize(r, 64<<10))
	for {
		var e Event
		if err := dec.Decode(&e); err != nil {
			if ctx.Err() != nil {
				return failed("nothing that was acknowledged is lost; run the command again", "interrupted")
			}
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
	line, err := readLine(in)
	if err != nil {
		_ = a.end(nil, fmt.Errorf("%w call %s: its parameters cannot be read: %v", errParams, name, err))
		return
	}
	v, err := do(ctx, l, line, in, a)
	// Where the answer cannot be written the caller has gone: nobody is left to tell.
	_ = a.end(v, err)
}

// maxParams bounds the parameters of a call; an import may name many paths.
const maxParams = 16 << 20

func readLine(in *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := in.ReadSlice('\n')
		line = append(line, part...)
		if err == nil || !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
		if len(line) > maxParams {
			return nil, errors.New("they are too long")
		}
	}
}

var errParams = errors.New("malformed")
