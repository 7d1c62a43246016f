package host

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"github.com/hashicorp/go-plugin/runner"
	"google.golang.org/grpc"

	"github.com/locker-project/locker/plugins"
	"github.com/locker-project/locker/plugins/internal/wire"
)

// startTimeout is how long a process may take until it answers.
const startTimeout = 20 * time.Second

// A Process is a running plugin. Its methods may be called from several
// goroutines at once.
type Process struct {
	spec     Spec
	child    *child
	client   *plugin.Client
	conn     *wire.Conn
	kind     string
	sessions sessions
	serving  chan *grpc.Server // has the Host service once it runs
	stop     sync.Once
}

// Start starts a plugin and waits until it answers. The process lives until Kill,
// until a limit, or until the host ends, however that ends; ctx bounds the start only.
//
// Where the machine cannot give a process namespaces of its own, the other layers
// confine it, and [Process.Mode] tells. Errors are [ErrUnconfined], [ErrHash] and
// those that say what the process did instead of answering.
func Start(ctx context.Context, spec Spec) (*Process, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	spec = spec.withDefaults()
	program, err := openProgram(spec)
	if err != nil {
		return nil, fmt.Errorf("plugin %s: %w", spec.Name, err)
	}
	defer program.Close()
	p, err := attempt(ctx, spec, program)
	if err != nil {
		return nil, fmt.Errorf("plugin %s: %w", spec.Name, err)
	}
	return p, nil
}

// launch starts one process, confined by the given layers, and waits until it
// answers.
func launch(ctx context.Context, spec Spec, program *program, l layers) (*Process, error) {
	life, end := context.WithCancel(context.Background())
	c := &child{spec: spec, program: program, layers: l, words: newWords(life, spec.Stderr), end: end, done: make(chan struct{})}
	p := &Process{spec: spec, child: c, serving: make(chan *grpc.Server, 1)}
	p.client = plugin.NewClient(p.config())
	failed := make(chan error, 1)
	go func() { failed <- p.connect(ctx) }()
	var err error
	select {
	case err = <-failed:
	case <-ctx.Done():
		c.kill()
		<-failed
	}
	switch {
	case ctx.Err() != nil:
		err = fmt.Errorf("it did not answer: %w", context.Cause(ctx))
	case err == nil:
	case c.failure != nil:
		err = c.failure
	default:
		err = p.explain(err)
	}
	if err != nil {
		p.Kill()
		return nil, err
	}
	if d := spec.Limits.Wall; d > 0 {
		timer := time.AfterFunc(d, p.Kill)
		context.AfterFunc(life, func() { timer.Stop() })
	}
	return p, nil
}

// config is how go-plugin starts and reaches the process.
func (p *Process) config() *plugin.ClientConfig {
	return &plugin.ClientConfig{
		HandshakeConfig:     wire.Handshake(),
		Plugins:             plugin.PluginSet{wire.PluginName: &wire.Glue{}},
		AllowedProtocols:    []plugin.Protocol{plugin.ProtocolGRPC},
		AutoMTLS:            true,
		GRPCBrokerMultiplex: true,
		SkipHostEnv:         true,
		StartTimeout:        startTimeout,
		Logger:              hclog.NewNullLogger(),
		SyncStdout:          &mouth{words: p.child.words},
		SyncStderr:          &mouth{words: p.child.words},
		GRPCDialOptions: []grpc.DialOption{
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(wire.MaxToHost)),
			grpc.WithMaxHeaderListSize(maxHeader),
			grpc.WithIdleTimeout(0),
			grpc.WithChainStreamInterceptor(boundBroker),
		},
		RunnerFunc: func(_ hclog.Logger, cmd *exec.Cmd, dir string) (runner.Runner, error) {
			p.child.prepare(cmd.Env, dir)
			return p.child, nil
		},
	}
}

const (
	maxHeader     = 32 << 10 // bytes of gRPC metadata, in which errors travel
	maxStreams    = 32       // calls of the process that the host serves at once
	maxBrokerTalk = 16       // messages with which the process may set up connections
)

// connect starts the process and joins it to the Host service.
func (p *Process) connect(ctx context.Context) error {
	protocol, err := p.client.Client()
	if err != nil {
		return errors.New(wire.Plain(wire.Cut(err.Error()))) // go-plugin quotes the process
	}
	p.child.connected()
	dispensed, err := protocol.Dispense(wire.PluginName)
	if err != nil {
		return err
	}
	p.conn = dispensed.(*wire.Conn)
	stream := p.conn.Broker.NextId()
	serving := make(chan struct{})
	go func() {
		p.conn.Broker.AcceptAndServe(stream, func(options []grpc.ServerOption) *grpc.Server {
			server := grpc.NewServer(append(options,
				grpc.MaxRecvMsgSize(wire.MaxToHost), grpc.MaxSendMsgSize(wire.MaxToPlugin),
				grpc.MaxConcurrentStreams(maxStreams), grpc.MaxHeaderListSize(maxHeader),
				grpc.ConnectionTimeout(startTimeout))...)
			wire.RegisterHostServer(server, &p.sessions)
			p.serving <- server
			close(serving)
			return server
		})
	}()
	select {
	case <-serving:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	reply, err := p.conn.Client.Attach(ctx, &wire.AttachRequest{Stream: stream})
	if err != nil {
		return wire.Error(err)
	}
	p.kind = wire.Plain(wire.Cut(reply.GetKind()))
	return nil
}

// boundBroker lets the process say only so much on go-plugin's own stream, which
// keeps every number it is sent.
func boundBroker(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	stream, err := streamer(ctx, desc, cc, method, opts...)
	if err != nil || method != "/plugin.GRPCBroker/StartStream" {
		return stream, err
	}
	return &boundedStream{ClientStream: stream, left: maxBrokerTalk}, nil
}

type boundedStream struct {
	grpc.ClientStream
	left int
}

func (s *boundedStream) RecvMsg(m any) error {
	if s.left--; s.left < 0 {
		return errors.New("the plugin sets up too many connections")
	}
	return s.ClientStream.RecvMsg(m)
}

// need checks what the process serves.
func (p *Process) need(kind string) error {
	if p.kind != kind {
		return fmt.Errorf("plugin %s serves %q, not %q", p.spec.Name, p.kind, kind)
	}
	return nil
}

// App runs the app that the process serves, with env as all that it has, and
// returns what the app's Run returns. When ctx ends nothing more goes to the app,
// and its process is killed; App then returns the cause, as soon as the calls of env
// that were going on have noticed.
func (p *Process) App(ctx context.Context, env plugins.AppEnv) error {
	if err := p.need("app"); err != nil {
		return err
	}
	id, end := p.sessions.begin(ctx, &session{view: env.View, out: env.Out})
	_, err := p.conn.Client.RunApp(ctx, &wire.RunRequest{Session: id, Args: env.Args})
	if ctx.Err() != nil {
		p.Kill() // before waiting for a View that is slow to notice
	}
	end()
	return p.result(ctx, err)
}

// result is the error of a call to the process as the caller sees it.
func (p *Process) result(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	problem, ok := wire.FromStatus(err)
	if !ok {
		return fmt.Errorf("plugin %s: %w", p.spec.Name, p.explain(wire.Error(err)))
	}
	if problem.GetKind() != wire.Problem_FILE {
		return problem.Err(nil)
	}
	return problem.Err(&plugins.FileError{At: wire.Plain(wire.Cut(problem.GetAt())), Why: wire.Plain(wire.Cut(problem.GetWhy()))})
}

// explain adds to err how the process ended, if it has.
func (p *Process) explain(err error) error {
	if !p.child.started() {
		return err
	}
	select {
	case <-p.child.done:
	case <-time.After(500 * time.Millisecond):
		return err
	}
	words := ""
	if last := p.child.words.Last(); last != "" {
		words = ": " + last
	}
	return fmt.Errorf("it ended (%s)%s: %w", p.child.ended(), words, err)
}

// Mode tells how the process is confined.
func (p *Process) Mode() Mode { return p.child.mode() }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.child.done }

// Kill ends the process at once, and returns when it has ended and Spec.Stderr is
// not called any more. It may be called more than once.
func (p *Process) Kill() {
	// The process goes first: go-plugin asks it to end, and would wait for an
	// answer for ever.
	p.child.kill()
	p.stop.Do(func() {
		select {
		case server := <-p.serving:
			server.Stop()
		default:
		}
		p.client.Kill()
		p.child.clean()
	})
	if p.child.started() {
		<-p.child.done
	}
	p.child.words.close()
}

// withDefaults fills in the limits.
func (s Spec) withDefaults() Spec {
	d := Limits{Memory: 256 << 20, Scratch: 16 << 20, Threads: 32, Files: 64, CPU: 10 * time.Minute}
	if s.Network {
		d = Limits{Memory: 512 << 20, Scratch: 64 << 20, Threads: 128, Files: 512}
	}
	l := &s.Limits
	l.Memory = cmp.Or(l.Memory, d.Memory)
	l.Scratch = cmp.Or(l.Scratch, d.Scratch)
	l.Threads = cmp.Or(l.Threads, d.Threads)
	l.Files = cmp.Or(l.Files, d.Files)
	l.CPU = cmp.Or(l.CPU, d.CPU)
	if s.Name == "" {
		s.Name = s.Path
	}
	return s
}

// someUID is a user id that nobody has: one of those that systemd gives to
// services for as long as they run.
func someUID() int { return 61184 + rand.IntN(65520-61184) }
