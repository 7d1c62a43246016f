package remotetest

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A Line says how a [Proxy] carries what goes through it. The zero Line carries it as
// it is.
type Line struct {
	// Delay is how long each byte is on its way, in each direction: the latency of a
	// question and its answer is twice that.
	Delay time.Duration
	// Rate bounds the bytes a second of each connection, in each direction; 0 is none.
	Rate int64
	// Stalled holds back all that is sent.
	Stalled bool
	// Refused resets new connections at once.
	Refused bool
	// Cut is the chance, of 1,000, that a new connection is reset after some bytes, and
	// Stall that it is held back then, until the line changes. Within is how many bytes
	// it lives at most until then.
	Cut, Stall int
	Within     int64
}

// A Proxy is a TCP proxy in front of a server, which carries connections badly. Its
// methods may be called concurrently.
type Proxy struct {
	target string
	ftp    bool

	mu        sync.Mutex
	listeners []net.Listener
	line      Line
	changed   chan struct{} // closed when line changes
	conns     map[net.Conn]bool
	random    *rand.Rand
	up, down  atomic.Int64
	opened    atomic.Int64
}

// NewProxy starts a proxy in front of target that ends with the test. seed decides
// what becomes of each connection.
func NewProxy(t testing.TB, target string, seed uint64) *Proxy {
	t.Helper()
	p := &Proxy{target: target, changed: make(chan struct{}), conns: map[net.Conn]bool{}, random: rand.New(rand.NewPCG(seed, 1))}
	t.Cleanup(p.close)
	if _, err := p.listen(target, false); err != nil {
		t.Fatal(err)
	}
	return p
}

// FTP makes the proxy carry the data connections of FTP too, which the server names in
// its replies.
func (p *Proxy) FTP() *Proxy {
	p.ftp = true
	return p
}

// Addr is where the proxy listens, as host:port.
func (p *Proxy) Addr() string { return p.listeners[0].Addr().String() }

// Set changes the line, for connections that are open too.
func (p *Proxy) Set(line Line) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.line = line
	close(p.changed)
	p.changed = make(chan struct{})
}

// Cut resets all connections.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		reset(c)
	}
}

// Traffic is how many connections were opened, and how many bytes went to the server
// and came from it.
func (p *Proxy) Traffic() (connections, up, down int64) {
	return p.opened.Load(), p.up.Load(), p.down.Load()
}

func (p *Proxy) close() {
	p.mu.Lock()
	for _, l := range p.listeners {
		l.Close()
	}
	p.mu.Unlock()
	p.Cut()
	p.Set(Line{})
}

// listen carries connections to target, all of them or one.
func (p *Proxy) listen(target string, once bool) (net.Listener, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	p.listeners = append(p.listeners, l)
	p.mu.Unlock()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go p.carry(c, target, once)
			if once {
				l.Close()
				return
			}
		}
	}()
	return l, nil
}

// reset closes a connection as a crash would.
func reset(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	c.Close()
}

// A fate is what becomes of a connection after some bytes.
type fate struct {
	left       atomic.Int64
	cut, stall bool
}

func (p *Proxy) fate() *fate {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := &fate{}
	n := p.random.IntN(1000)
	f.cut, f.stall = n < p.line.Cut, n >= p.line.Cut && n < p.line.Cut+p.line.Stall
	f.left.Store(1 + p.random.Int64N(max(p.line.Within, 1)))
	return f
}

// state is the line now, and what is closed when it changes.
func (p *Proxy) state() (Line, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.line, p.changed
}

// carry carries one connection. expected: the server waits for it, and learns when it
// is refused.
func (p *Proxy) carry(client net.Conn, target string, expected bool) {
	p.opened.Add(1)
	line, _ := p.state()
	if line.Refused && !expected {
		reset(client)
		return
	}
	server, err := net.Dial("tcp", target)
	if err != nil || line.Refused {
		if err == nil {
			reset(server)
		}
		reset(client)
		return
	}
	p.mu.Lock()
	p.conns[client], p.conns[server] = true, true
	p.mu.Unlock()
	fate := p.fate()
	var wg sync.WaitGroup
	wg.Go(func() { p.pipe(server, client, fate, &p.up, nil) })
	wg.Go(func() { p.pipe(client, server, fate, &p.down, p.rewrite()) })
	wg.Wait()
	client.Close()
	server.Close()
	p.mu.Lock()
	delete(p.conns, client)
	delete(p.conns, server)
	p.mu.Unlock()
}

// A piece is on its way.
type piece struct {
	data []byte
	due  time.Time
}

// onTheWay bounds how many pieces of at most 16 KiB a line holds.
const onTheWay = 4096

// pipe carries one direction.
func (p *Proxy) pipe(to, from net.Conn, f *fate, count *atomic.Int64, rewrite func([]byte) []byte) {
	pieces := make(chan piece, onTheWay)
	go func() {
		defer close(pieces)
		buffer := make([]byte, 16<<10)
		for {
			n, err := from.Read(buffer)
			if n > 0 {
				line, _ := p.state()
				pieces <- piece{bytes.Clone(buffer[:n]), time.Now().Add(line.Delay)}
			}
			if err != nil {
				return
			}
		}
	}()
	ok := true
	for x := range pieces {
		if ok && rewrite != nil {
			x.data = rewrite(x.data)
		}
		if ok = ok && p.deliver(to, from, x, f); ok {
			count.Add(int64(len(x.data)))
		}
	}
	if c, is := to.(*net.TCPConn); is {
		_ = c.CloseWrite()
	}
}

// deliver writes a piece when it is due, or does what the fate of the connection is.
func (p *Proxy) deliver(to, from net.Conn, x piece, f *fate) bool {
	time.Sleep(time.Until(x.due))
	p.held()
	if (f.cut || f.stall) && f.left.Add(-int64(len(x.data))) < 0 {
		if f.cut {
			reset(to)
			reset(from)
			return false
		}
		_, changed := p.state()
		<-changed
	}
	for len(x.data) > 0 {
		n := len(x.data)
		if line, _ := p.state(); line.Rate > 0 {
			n = int(min(int64(n), max(line.Rate/50, 1)))
			time.Sleep(time.Duration(n) * time.Second / time.Duration(line.Rate))
		}
		if _, err := to.Write(x.data[:n]); err != nil {
			return false
		}
		x.data = x.data[n:]
	}
	return true
}

// held waits while the line is stalled.
func (p *Proxy) held() {
	for {
		line, changed := p.state()
		if !line.Stalled {
			return
		}
		<-changed
	}
}

// passive are the replies by which an FTP server names a port for data.
var passive = regexp.MustCompile(`(?m)^(229 .*\(\|\|\|)(\d+)(\|\).*)$|^(227 .*\(127,0,0,1,)(\d+),(\d+)(\).*)$`)

// rewrite returns what puts ports of this proxy into the replies of an FTP server; nil
// where there is nothing to rewrite. A reply is in one piece.
func (p *Proxy) rewrite() func([]byte) []byte {
	if !p.ftp {
		return nil
	}
	return func(data []byte) []byte {
		m := passive.FindSubmatch(data)
		if m == nil {
			return data
		}
		port, extended := 0, len(m[1]) > 0
		if extended {
			port, _ = strconv.Atoi(string(m[2]))
		} else {
			high, _ := strconv.Atoi(string(m[5]))
			low, _ := strconv.Atoi(string(m[6]))
			port = high<<8 | low
		}
		l, err := p.listen(fmt.Sprintf("127.0.0.1:%d", port), true)
		if err != nil {
			return data
		}
		mine := l.Addr().(*net.TCPAddr).Port
		if extended {
			return passive.ReplaceAll(data, fmt.Appendf(nil, "${1}%d${3}", mine))
		}
		return passive.ReplaceAll(data, fmt.Appendf(nil, "${4}%d,%d${7}", mine>>8, mine&255))
	}
}
