// Package provision brings applications to what policy desires, and keeps the record of having done so.
//
// Each application has a worker and a database of its own, so that one that is down, slow, throttling or lying delays
// only itself. The worker is in internal/worker, what it decides by in plan; this package builds the workers of a
// process and answers operators.
package provision

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/tenurehq/tenure/pkg/bus"
	"github.com/tenurehq/tenure/pkg/outbox"
	"github.com/tenurehq/tenure/pkg/run"
	"github.com/tenurehq/tenure/pkg/sqldb"
	"github.com/tenurehq/tenure/pkg/telemetry"
	accessv1 "github.com/tenurehq/tenure/proto/gen/tenure/access/v1"
	connectorv1 "github.com/tenurehq/tenure/proto/gen/tenure/connector/v1"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
	peoplev1 "github.com/tenurehq/tenure/proto/gen/tenure/people/v1"
	provisionv1 "github.com/tenurehq/tenure/proto/gen/tenure/provision/v1"
	"github.com/tenurehq/tenure/services/provision/internal/store"
	"github.com/tenurehq/tenure/services/provision/internal/worker"
)

// gather is how long intents and outcomes gather before they leave: nobody waits for them but the record.
const gather = 50 * time.Millisecond

// Deps is what the service works with.
type Deps struct {
	DBs        map[string]*sqldb.DB // by application, each with Migrations
	Sole       map[string]bool      // by application: no other process that works for it is alive
	Bus        *bus.Bus
	Access     accessv1.AccessServiceClient
	People     peoplev1.PeopleServiceClient
	Connectors map[string]connectorv1.ConnectorClient // by application
	// Recorded asks audit what it has recorded of an origin; see outbox.Deps.
	Recorded func(ctx context.Context, origin string) (seq uint64, behind time.Duration, err error)
	Log      *zap.Logger
	Registry prometheus.Registerer
	Now      func() time.Time
}

// Service holds the workers of this process. Safe for concurrent use.
type Service struct {
	provisionv1.UnimplementedProvisionServiceServer
	deps     Deps
	apps     []application // by name
	outboxes []*outbox.Outbox

	unconfigured []string
}

type application struct {
	Application
	worker *worker.Worker
}

// Origin is the origin of an application's events.
func Origin(application string) string { return "provision/" + application }

// DatabaseName is the name of an application's database: a file, or a schema and role.
func DatabaseName(application string) string { return "provision_" + application }

// Migrations are what each of Deps.DBs must have run.
func Migrations() []sqldb.Migrations {
	return []sqldb.Migrations{store.Migrations(), outbox.Migrations}
}

// New builds the workers of the configured applications. It makes no call.
func New(cfg Config, deps Deps) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Service{deps: deps, unconfigured: cfg.Unconfigured}
	for _, name := range cfg.Unconfigured {
		deps.Log.Warn("an application is not configured any more: nobody takes anything away there", zap.String(telemetry.FieldApplication, name))
	}
	metrics := worker.NewMetrics(deps.Registry)
	for _, a := range cfg.Applications {
		db, client := deps.DBs[a.Name], deps.Connectors[a.Name]
		if db == nil || client == nil {
			return nil, fmt.Errorf("application %s lacks a database or a connector", a.Name)
		}
		box, err := outbox.New(outbox.Config{Origin: Origin(a.Name), Gather: gather}, outbox.Deps{DB: db, Bus: deps.Bus, Recorded: deps.Recorded, Log: deps.Log, Now: deps.Now})
		if err != nil {
			return nil, err
		}
		s.outboxes = append(s.outboxes, box)
		s.apps = append(s.apps, application{a, worker.New(a.worker(cfg.Timing), worker.Deps{
			Store: store.New(db), Outbox: box, Bus: deps.Bus, Access: deps.Access, People: deps.People, Connector: client,
			Metrics: metrics, Log: deps.Log, Now: deps.Now, Sole: deps.Sole[a.Name],
		})})
	}
	slices.SortFunc(s.apps, func(a, b application) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return s, nil
}

// Outboxes are those of the applications, whose figures who owns the registry may register.
func (s *Service) Outboxes() []*outbox.Outbox { return s.outboxes }

// Run works until ctx ends and what was taken is finished.
func (s *Service) Run(ctx context.Context) error {
	tasks := make([]func(context.Context) error, len(s.apps))
	for i, a := range s.apps {
		tasks[i] = a.worker.Run
	}
	if len(tasks) == 0 {
		<-ctx.Done()
		return nil
	}
	return run.All(ctx, tasks...)
}

// Register adds the service's RPCs.
func (s *Service) Register(r grpc.ServiceRegistrar) {
	provisionv1.RegisterProvisionServiceServer(r, s)
	eventv1.RegisterEventLogServer(r, outbox.NewEventLog(s.outboxes...))
}
