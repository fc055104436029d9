package process

import (
	"context"
	"crypto/tls"
	"net"
	"os"
	"time"

	"github.com/tenurehq/tenure/pkg/sqldb"
	accessv1 "github.com/tenurehq/tenure/proto/gen/tenure/access/v1"
	connectorv1 "github.com/tenurehq/tenure/proto/gen/tenure/connector/v1"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
	peoplev1 "github.com/tenurehq/tenure/proto/gen/tenure/people/v1"
	"github.com/tenurehq/tenure/services/audit"
	"github.com/tenurehq/tenure/services/connectors"
	"github.com/tenurehq/tenure/services/ingest"
	"github.com/tenurehq/tenure/services/policy"
	"github.com/tenurehq/tenure/services/provision"
)

// Ingest adds the ingest service and its webhooks.
func (p *Process) Ingest(ctx context.Context) error {
	cfg, err := p.settings.Ingest()
	if err != nil {
		return err
	}
	db, err := p.database(ctx, "ingest", ingest.Migrations()...)
	if err != nil {
		return err
	}
	events, err := p.stream(ctx, "ingest")
	if err != nil {
		return err
	}
	service, err := ingest.New(cfg, ingest.Deps{
		DB: db, Bus: events, Recorded: p.recorded("ingest"), Log: p.log("ingest"), Registry: p.tel.Registry, Now: time.Now,
	})
	if err != nil {
		return err
	}
	p.tel.Registry.MustRegister(service.Outbox())
	p.add("ingest", service.Register, service.Run)
	return p.webhooks(ctx, service.Serve)
}

// Policy adds the policy service.
func (p *Process) Policy(ctx context.Context) error {
	cfg, err := p.settings.Policy()
	if err != nil {
		return err
	}
	db, err := p.database(ctx, "policy", policy.Migrations()...)
	if err != nil {
		return err
	}
	events, err := p.stream(ctx, "policy")
	if err != nil {
		return err
	}
	service, err := policy.New(cfg, policy.Deps{
		DB: db, Bus: events, People: peoplev1.NewPeopleServiceClient(p.peer("ingest", "policy")),
		Recorded: p.recorded("policy"), Log: p.log("policy"), Registry: p.tel.Registry, Now: time.Now,
	})
	if err != nil {
		return err
	}
	p.tel.Registry.MustRegister(service.Outbox())
	p.add("policy", service.Register, service.Run)
	return nil
}

// Provision adds the connector workers of the applications named; none: of all.
func (p *Process) Provision(ctx context.Context, only ...string) error {
	cfg, err := p.settings.Provision(only...)
	if err != nil {
		return err
	}
	dbs, clients := map[string]*sqldb.DB{}, map[string]connectorv1.ConnectorClient{}
	for i, app := range p.settings.Applications {
		if !served(cfg, app.Name) {
			continue
		}
		how, err := p.settings.Connector(i)
		if err != nil {
			return err
		}
		if dbs[app.Name], err = p.database(ctx, "provision_"+app.Name, provision.Migrations()...); err != nil {
			return err
		}
		if err := os.MkdirAll(how.Dir, 0o700); err != nil {
			return err
		}
		client, closer, err := connectors.Open(ctx, how)
		if err != nil {
			return err
		}
		clients[app.Name] = client
		p.closed = append(p.closed, closer)
	}
	events, err := p.stream(ctx, "provision")
	if err != nil {
		return err
	}
	service, err := provision.New(cfg, provision.Deps{
		DBs: dbs, Bus: events, Access: accessv1.NewAccessServiceClient(p.peer("policy", "provision")), Connectors: clients,
		Recorded: p.recorded("provision"), Log: p.log("provision"), Registry: p.tel.Registry, Now: time.Now,
	})
	if err != nil {
		return err
	}
	for _, box := range service.Outboxes() {
		p.tel.Registry.MustRegister(box)
	}
	p.add("provision", service.Register, service.Run)
	return nil
}

func served(cfg provision.Config, name string) bool {
	for _, app := range cfg.Applications {
		if app.Name == name {
			return true
		}
	}
	return false
}

// Audit adds the audit service.
func (p *Process) Audit(ctx context.Context) error {
	db, err := p.database(ctx, "audit", audit.Migrations()...)
	if err != nil {
		return err
	}
	events, err := p.stream(ctx, "audit")
	if err != nil {
		return err
	}
	origins := map[string]eventv1.EventLogClient{}
	for _, name := range []string{"ingest", "policy", "audit"} {
		origins[name] = eventv1.NewEventLogClient(p.peer(name, "audit"))
	}
	for _, app := range p.settings.Applications {
		origins["provision/"+app.Name] = eventv1.NewEventLogClient(p.peer("provision", "audit"))
	}
	service, err := audit.New(p.settings.AuditLog(), audit.Deps{
		DB: db, Bus: events, Origins: origins, Log: p.log("audit"), Registry: p.tel.Registry, Now: time.Now,
	})
	if err != nil {
		return err
	}
	p.tel.Registry.MustRegister(service.Outbox())
	p.add("audit", service.Register, service.Run)
	return nil
}

// Console makes the process the front door: its gRPC listener is for operators, and forwards in their name.
func (p *Process) Console(context.Context) error {
	p.door = true
	for _, callee := range callees {
		p.peer(callee, "console")
	}
	return nil
}

// httpListener is the webhooks' listener, with TLS where it is not loopback.
func (p *Process) httpListener(ctx context.Context) (net.Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", p.settings.Listen.HTTP)
	if err != nil || p.settings.TLS.CertFile == "" {
		return l, err
	}
	cfg, err := p.settings.RPCTLS().Server()
	if err != nil {
		return nil, err
	}
	cfg.ClientAuth = tls.NoClientCert // HR systems prove themselves by signature
	return tls.NewListener(l, cfg), nil
}
