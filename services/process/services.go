package process

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
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
	"github.com/tenurehq/tenure/services/settings"
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
	now, err := p.clock(ctx, db)
	if err != nil {
		return err
	}
	service, err := ingest.New(cfg, ingest.Deps{
		DB: db, Bus: events, Recorded: p.recorded("ingest"), Log: p.log("ingest"), Registry: p.tel.Registry, Now: now,
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
	now, err := p.clock(ctx, db)
	if err != nil {
		return err
	}
	service, err := policy.New(cfg, policy.Deps{
		DB: db, Bus: events, People: peoplev1.NewPeopleServiceClient(p.peer("ingest", "policy")),
		Recorded: p.recorded("policy"), Log: p.log("policy"), Registry: p.tel.Registry, Now: now,
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
	dbs, clients, sole := map[string]*sqldb.DB{}, map[string]connectorv1.ConnectorClient{}, map[string]bool{}
	now := time.Now // without applications there is nothing to time
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
		if sole[app.Name], err = p.sole(dbs[app.Name], app.Name); err != nil {
			return err
		}
		if now, err = p.clock(ctx, dbs[app.Name]); err != nil {
			return err
		}
		how.Now = now
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
	if cfg.Unconfigured, err = p.unconfigured(ctx, dbs); err != nil {
		return err
	}
	service, err := provision.New(cfg, provision.Deps{
		DBs: dbs, Sole: sole, Bus: events, Access: accessv1.NewAccessServiceClient(p.peer("policy", "provision")),
		People: peoplev1.NewPeopleServiceClient(p.peer("ingest", "provision")), Connectors: clients,
		Recorded: p.recorded("provision"), Log: p.log("provision"), Registry: p.tel.Registry, Now: now,
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

// sole says that no other process works for the application: where the database is a file, a lock beside it tells.
func (p *Process) sole(db *sqldb.DB, application string) (bool, error) {
	if db.Engine() != sqldb.SQLite {
		return false, nil
	}
	lock, err := alone(p.settings.SQL(provision.DatabaseName(application)).SQLite + ".lock")
	if lock == nil || err != nil {
		return false, err
	}
	p.closed = append(p.closed, lock)
	return true, nil
}

// unconfigured are the applications that have a database and are not in the file any more.
func (p *Process) unconfigured(ctx context.Context, dbs map[string]*sqldb.DB) ([]string, error) {
	prefix := provision.DatabaseName("")
	var found []string
	if file := p.settings.SQL(prefix + "x").SQLite; file != "" {
		files, err := os.ReadDir(filepath.Dir(file))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		for _, f := range files {
			if name, ok := strings.CutSuffix(f.Name(), ".db"); ok {
				found = append(found, name)
			}
		}
	}
	for _, db := range dbs { // they are schemas of one database: any of them sees the others
		if db.Engine() == sqldb.SQLite {
			break
		}
		rows, err := db.Query(ctx, `SELECT nspname FROM pg_catalog.pg_namespace`)
		if found, err = sqldb.Collect(rows, err, func(scan func(...any) error) (name string, err error) { return name, scan(&name) }); err != nil {
			return nil, fmt.Errorf("look for databases of applications: %w", err)
		}
		break
	}
	var names []string
	for _, name := range found {
		name, ok := strings.CutPrefix(name, prefix)
		name = strings.ReplaceAll(name, "_", "-") // names of applications have none
		if ok && !slices.ContainsFunc(p.settings.Applications, func(a settings.Application) bool { return a.Name == name }) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
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
	now, err := p.clock(ctx, db)
	if err != nil {
		return err
	}
	service, err := audit.New(p.settings.AuditLog(), audit.Deps{
		DB: db, Bus: events, Origins: origins, Log: p.log("audit"), Registry: p.tel.Registry, Now: now,
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
