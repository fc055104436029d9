// Package policy is the service that decides what people should have. It hears of lifecycle events, asks ingest for
// the person as known now, decides by the applied role model, and announces what changed.
//
// It promises that a decision is never replaced by one from an older version of the person or by an older model,
// whatever is redelivered, reordered or done by another replica at the same time; that every desired access and the
// event that announces it are stored together; that no more people lose access than the brake allows, however many
// replicas decide, unless it is corroborated or two people release it; and that whatever it missed it finds by comparing
// its decisions with ingest's versions. Before a model is applied it decides nothing.
package policy

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/tenurehq/tenure/pkg/bus"
	"github.com/tenurehq/tenure/pkg/outbox"
	"github.com/tenurehq/tenure/pkg/run"
	"github.com/tenurehq/tenure/pkg/sqldb"
	accessv1 "github.com/tenurehq/tenure/proto/gen/tenure/access/v1"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
	peoplev1 "github.com/tenurehq/tenure/proto/gen/tenure/people/v1"
	"github.com/tenurehq/tenure/services/policy/brake"
	"github.com/tenurehq/tenure/services/policy/internal/store"
	"github.com/tenurehq/tenure/services/policy/model"
)

// Origin is policy's name in the event log.
const Origin = "policy"

// Application is what policy needs to know of an application.
type Application struct {
	Name        string
	Environment string            // dev, staging, prod, …
	Account     map[string]string // attribute → CEL over person
}

// Config is the operator's part.
type Config struct {
	Applications []Application
	MaxBehind    time.Duration // audit.max_behind: while audit lags more, no new grants are released
	Brake        brake.Limits  // how many people may lose access before somebody looks
	Manual       string        // the source of operators' own words; empty: there is none
}

// Validate checks everything that can be known without a database. Problems of account expressions are
// model.Problems with the config file's keys.
func (c Config) Validate() error {
	if c.MaxBehind <= 0 {
		return errors.New("audit.max_behind must be greater than 0")
	}
	_, err := c.accounts()
	return err
}

func (c Config) accounts() (*model.AccountMapping, error) {
	applications := make([]model.Application, len(c.Applications))
	for i, app := range c.Applications {
		applications[i] = model.Application{Name: app.Name, Account: app.Account}
	}
	return model.NewAccountMapping(applications)
}

// Deps are policy's collaborators.
type Deps struct {
	DB     *sqldb.DB // with Migrations
	Bus    *bus.Bus
	People peoplev1.PeopleServiceClient
	// Recorded asks audit for the highest gap-free seq of an origin it has recorded, and how far it is behind.
	Recorded func(ctx context.Context, origin string) (seq uint64, behind time.Duration, err error)
	Log      *zap.Logger
	Registry prometheus.Registerer // nil: figures are not shown
	Now      func() time.Time      // the instant that is stored; nil: time.Now
}

// Migrations are what Deps.DB must have run.
func Migrations() []sqldb.Migrations {
	return []sqldb.Migrations{store.Migrations(), outbox.Migrations}
}

// Service is policy. Its methods may be called concurrently.
type Service struct {
	accessv1.UnimplementedAccessServiceServer

	cfg      Config
	accounts *model.AccountMapping
	basis    int64 // identifies accounts in decisions

	db      *sqldb.DB
	store   *store.Store
	outbox  *outbox.Outbox
	bus     *bus.Bus
	people  peoplev1.PeopleServiceClient
	behind  func() time.Duration // how far audit lags
	log     *zap.Logger
	now     func() time.Time
	metrics *metrics
	wake    chan struct{} // holds one element when everybody must be looked at

	loading sync.Mutex // held while the model is read
	census  census

	mu     sync.Mutex // guards what follows
	latest *rules     // the newest model seen; nil before the first
}

// New makes the service. Nothing runs until Run.
func New(cfg Config, deps Deps) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	accounts, err := cfg.accounts()
	if err != nil {
		return nil, err
	}
	out, err := outbox.New(outbox.Config{Origin: Origin}, outbox.Deps{
		DB: deps.DB, Bus: deps.Bus, Recorded: deps.Recorded, Log: deps.Log, Now: deps.Now,
	})
	if err != nil {
		return nil, err
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	digest := accounts.Digest()
	s := &Service{
		cfg:      cfg,
		accounts: accounts,
		basis:    int64(binary.BigEndian.Uint64(digest[:]) >> 1),
		db:       deps.DB,
		store:    store.New(deps.DB),
		outbox:   out,
		bus:      deps.Bus,
		people:   deps.People,
		behind:   out.Behind,
		log:      deps.Log,
		now:      deps.Now,
		metrics:  newMetrics(deps.Registry),
		wake:     make(chan struct{}, 1),
	}
	s.wakeRepair()
	deps.Bus.OnNewStream(s.wakeRepair)
	return s, nil
}

// Run decides until ctx ends. It fails at once when the applied model cannot be read.
func (s *Service) Run(ctx context.Context) error {
	if _, err := s.rules(ctx); err != nil {
		return err
	}
	return run.All(ctx,
		s.consumer("policy-urgent", eventv1.Lane_LANE_URGENT, s.onUrgent),
		s.consumer("policy-normal", eventv1.Lane_LANE_NORMAL, s.onNormal),
		s.repair,
		s.recount,
		s.outbox.Relay,
	)
}

func (s *Service) consumer(name string, lane eventv1.Lane, handle bus.Handler) run.Task {
	return s.bus.Consumer(bus.ConsumerConfig{
		Name:     name,
		Subjects: []string{bus.LifecycleSubject(lane, eventv1.LifecycleKind_LIFECYCLE_KIND_UNSPECIFIED, "")},
		Park:     s.outbox,
	}, handle)
}

// Register adds policy's gRPC services.
func (s *Service) Register(r grpc.ServiceRegistrar) {
	accessv1.RegisterAccessServiceServer(r, s)
	eventv1.RegisterEventLogServer(r, outbox.NewEventLog(s.outbox))
}

// Outbox is where policy's events leave, for a process that serves the event logs of several services at once.
func (s *Service) Outbox() *outbox.Outbox { return s.outbox }

// Ready says what keeps policy from deciding: a database out of reach, or no applied model.
func (s *Service) Ready(ctx context.Context) error {
	r, err := s.rules(ctx)
	if err != nil {
		return err
	}
	if r == nil {
		return errors.New("no role model is applied yet: nothing is desired")
	}
	return nil
}

// application returns the configured application of this name.
func (s *Service) application(name string) (Application, bool) {
	i := slices.IndexFunc(s.cfg.Applications, func(a Application) bool { return a.Name == name })
	if i < 0 {
		return Application{}, false
	}
	return s.cfg.Applications[i], true
}

// names are the configured applications, sorted.
func (s *Service) names() []string { return s.accounts.Applications() }

// wakeRepair has everybody looked at again. It does not block.
func (s *Service) wakeRepair() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}
