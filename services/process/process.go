// Package process builds Tenure's services out of the settings and runs them: one a process, or all in one. The
// services are the same in both; only how they reach each other differs, and that is decided here.
package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/tenurehq/tenure/pkg/bus"
	"github.com/tenurehq/tenure/pkg/rpc"
	"github.com/tenurehq/tenure/pkg/run"
	"github.com/tenurehq/tenure/pkg/sqldb"
	"github.com/tenurehq/tenure/pkg/telemetry"
	auditv1 "github.com/tenurehq/tenure/proto/gen/tenure/audit/v1"
	"github.com/tenurehq/tenure/services/console"
	"github.com/tenurehq/tenure/services/settings"
)

// callees are the services that others call, in the order of a fact's travel.
var callees = []string{"ingest", "policy", "provision", "audit"}

// Process is one process while it is being built, and then while it runs. Not for concurrent use before Run.
type Process struct {
	name     string
	settings *settings.Settings
	tel      *telemetry.Telemetry
	server   *bus.Server

	services map[string]func(grpc.ServiceRegistrar) // those in this process
	peers    map[[2]string]*later                   // by callee and caller
	door     bool

	tasks  []run.Task   // the services
	infra  []run.Task   // what the services stand on: stopped after them
	closed []io.Closer  // in the order of opening
	time   *sqldb.Clock // nil: no database is open yet
}

// Start begins a process of that name: its log and figures.
func Start(ctx context.Context, name string, s *settings.Settings) (*Process, error) {
	tel, err := telemetry.Start(ctx, name, s.Telemetry())
	if err != nil {
		return nil, err
	}
	return &Process{
		name: name, settings: s, tel: tel,
		services: map[string]func(grpc.ServiceRegistrar){}, peers: map[[2]string]*later{},
		infra: []run.Task{tel.Serve},
	}, nil
}

// log is a service's, named once: a process that is one service bears its name already.
func (p *Process) log(service string) *zap.Logger {
	if p.name == service {
		return p.tel.Log
	}
	return p.tel.Log.Named(service)
}

// Close closes what was opened, the last first. It is called after Run, or instead of it.
func (p *Process) Close() error {
	var errs []error
	for _, c := range slices.Backward(p.closed) {
		errs = append(errs, c.Close())
	}
	p.closed = nil
	p.tel.Stop()
	return errors.Join(errs...)
}

// closer is a Close without an error.
type closer func()

func (c closer) Close() error {
	c()
	return nil
}

// add makes a built service part of the process.
func (p *Process) add(name string, register func(grpc.ServiceRegistrar), task run.Task) {
	p.services[name] = register
	p.tasks = append(p.tasks, task)
}

// database opens a service's own.
func (p *Process) database(ctx context.Context, name string, sets ...sqldb.Migrations) (*sqldb.DB, error) {
	db, err := sqldb.Open(ctx, p.settings.SQL(name), sets...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	p.closed = append(p.closed, db)
	p.tel.Ready("database "+name, db.Ping)
	weak, err := db.Weaknesses(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if len(weak) > 0 {
		p.tel.Log.Warn("the database may lose what it has committed", zap.String("database", name), zap.Strings("settings", weak))
	}
	return db, nil
}

// clock is what all services of the process go by: their databases are files of this machine, or schemas of one server.
func (p *Process) clock(ctx context.Context, db *sqldb.DB) (func() time.Time, error) {
	if p.time != nil {
		return p.time.Now, nil
	}
	c, err := sqldb.NewClock(ctx, db, time.Now)
	if err != nil {
		return nil, err
	}
	steps := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "tenure_clock_steps_total", Help: "How often the clock that the services go by was set: the database's, or with SQLite the machine's.",
	})
	p.tel.Registry.MustRegister(steps, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "tenure_clock_off_seconds", Help: "By how much this machine's clock is ahead of the database's.",
	}, func() float64 { return c.Off().Seconds() }))
	p.infra = append(p.infra, func(ctx context.Context) error {
		return c.Keep(ctx, func(by time.Duration) {
			steps.Inc()
			p.tel.Log.Warn("the clock was set", zap.Duration("by", by))
		})
	})
	p.time = c
	return c.Now, nil
}

// stream connects a service to the event stream, starting the embedded one at first.
func (p *Process) stream(ctx context.Context, service string) (*bus.Bus, error) {
	if cfg, ok := p.settings.Embedded(); ok && p.server == nil {
		cfg.Log = p.tel.Log
		server, err := bus.StartServer(cfg)
		if err != nil {
			return nil, err
		}
		p.server = server
		p.closed = append(p.closed, closer(server.Close))
	}
	b, err := bus.Connect(ctx, p.settings.Bus(service, p.server), p.tel.Log)
	if err != nil {
		return nil, err
	}
	p.closed = append(p.closed, closer(b.Close))
	p.tel.Ready("stream of "+service, b.Ready)
	return b, nil
}

// later is a connection that is made once all services of the process are built: they refer to each other in a circle.
// It must not be called before.
type later struct{ grpc.ClientConnInterface }

// peer is how one service calls another.
func (p *Process) peer(callee, caller string) grpc.ClientConnInterface {
	key := [2]string{callee, caller}
	if p.peers[key] == nil {
		p.peers[key] = &later{}
	}
	return p.peers[key]
}

// connect makes all connections that were asked for, in memory where the callee is in this process.
func (p *Process) connect() error {
	locals := map[string]*rpc.Local{}
	for name, register := range p.services {
		locals[name] = rpc.NewLocal(p.tel.Log, register)
		p.infra = append(p.infra, locals[name].Serve)
	}
	for key, conn := range p.peers {
		made, err := p.dial(locals[key[0]], key[0], key[1])
		if err != nil {
			return err
		}
		conn.ClientConnInterface = made
		p.closed = append(p.closed, made)
	}
	return nil
}

func (p *Process) dial(local *rpc.Local, callee, caller string) (*grpc.ClientConn, error) {
	if local != nil {
		return local.Dial(caller)
	}
	cfg, ok := p.settings.Peer(callee)
	if !ok {
		return nil, p.settings.Errorf("peers."+callee, "needed: %s is not in this process", callee)
	}
	return rpc.Dial(cfg)
}

// recorded asks audit what it has recorded of an origin.
func (p *Process) recorded(caller string) func(ctx context.Context, origin string) (uint64, time.Duration, error) {
	client := auditv1.NewAuditServiceClient(p.peer("audit", caller))
	return func(ctx context.Context, origin string) (uint64, time.Duration, error) {
		answer, err := client.Recorded(ctx, &auditv1.RecordedRequest{Origin: origin})
		if err != nil {
			return 0, 0, err
		}
		return answer.GetSeq(), answer.GetBehind().AsDuration(), nil
	}
}

// Run makes the connections, listens, and runs everything until ctx ends or something fails. Services end first, then
// what they stand on.
func (p *Process) Run(ctx context.Context) error {
	if err := p.connect(); err != nil {
		return err
	}
	if err := p.listen(); err != nil { //nolint:contextcheck // a listener lasts as long as the process
		return err
	}
	infra, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	return run.All(ctx,
		func(ctx context.Context) error {
			defer stop()
			if len(p.tasks) == 0 { // the console is a door and nothing else
				<-ctx.Done()
			}
			return run.All(ctx, p.tasks...)
		},
		func(context.Context) error { return run.All(infra, p.infra...) },
	)
}

// listen takes the gRPC address: for operators where this process is the front door, for the other services where it
// is one of them.
func (p *Process) listen() error {
	address, tls := p.settings.Listen.GRPC, p.settings.RPCTLS()
	if p.door {
		peers := map[string]grpc.ClientConnInterface{}
		for _, callee := range callees {
			peers[callee] = p.peer(callee, "console")
		}
		door, err := console.New(console.Config{Listen: address, TLS: tls, Operators: p.settings.Callers()}, console.Deps{Peers: peers, Log: p.log("console")})
		if err != nil {
			return err
		}
		p.infra = append(p.infra, door.Run)
		return nil
	}
	if address == "" {
		return nil
	}
	registers := make([]func(grpc.ServiceRegistrar), 0, len(p.services))
	for _, register := range p.services {
		registers = append(registers, register)
	}
	server, err := rpc.Listen(rpc.Config{Listen: address, TLS: tls}, p.tel.Log, registers...)
	if err != nil {
		return err
	}
	p.infra = append(p.infra, server.Serve)
	return nil
}

// webhooks takes the HTTP address.
func (p *Process) webhooks(ctx context.Context, serve func(context.Context, net.Listener) error) error {
	if p.settings.Listen.HTTP == "" {
		return nil
	}
	l, err := p.httpListener(ctx)
	if err != nil {
		return fmt.Errorf("listen for webhooks: %w", err)
	}
	p.tasks = append(p.tasks, func(ctx context.Context) error { return serve(ctx, l) })
	return nil
}

// Beside adds a task of the process's own that runs with the services, such as loading a demo company.
func (p *Process) Beside(task run.Task) { p.tasks = append(p.tasks, task) }
