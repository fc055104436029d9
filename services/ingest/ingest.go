// Package ingest is the service that hears what happens to people: it takes deliveries from sources and operators,
// works out by the timeline what they mean, and says so in lifecycle events.
//
// It promises that what was answered with 202 is durable and understood, or durable and kept for review with a reason;
// that a delivery has one effect however often it is sent; and that what people come to be depends on what was said
// about them, never on the order in which it arrived. No event that it publishes holds a person's data.
package ingest

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/tenurehq/tenure/pkg/batch"
	"github.com/tenurehq/tenure/pkg/bus"
	"github.com/tenurehq/tenure/pkg/outbox"
	"github.com/tenurehq/tenure/pkg/run"
	"github.com/tenurehq/tenure/pkg/sqldb"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
	peoplev1 "github.com/tenurehq/tenure/proto/gen/tenure/people/v1"
	"github.com/tenurehq/tenure/services/ingest/cut"
	"github.com/tenurehq/tenure/services/ingest/internal/store"
	"github.com/tenurehq/tenure/services/ingest/mapping"
	"github.com/tenurehq/tenure/services/ingest/roster"
	"github.com/tenurehq/tenure/services/ingest/source"
	"github.com/tenurehq/tenure/services/ingest/source/standardwebhooks"
	"github.com/tenurehq/tenure/services/ingest/username"
)

// Origin is ingest's name in the event log.
const Origin = "ingest"

// The kinds of source.
const (
	KindStandardWebhooks = "standard-webhooks" // posts to /v1/webhooks/<name>
	KindCSV              = "csv"               // only what an operator imports
	KindManual           = "manual"            // operators' own words; one source at most
	KindBambooHR         = "bamboohr"          // posts whose record changed, which is then read from its API
	KindHiBob            = "hibob"             // the same
)

// defaultRawRetention is how long raw bodies are kept when a source does not say.
const defaultRawRetention = 30 * 24 * time.Hour

// Source is one system that says what happens to people.
type Source struct {
	Name         string                 // [a-z0-9-]{1,40}
	Kind         string                 // one of the Kind constants
	Keys         *standardwebhooks.Keys // kind standard-webhooks only
	Vendor       Vendor                 // kinds bamboohr and hibob only
	Zone         *time.Location         // for dates of people without a zone; nil: UTC
	RawRetention time.Duration          // how long bodies and headers are kept; 0: 30 days
	Mapping      *mapping.Mapping       // nil: the generic form
	Contract     *roster.Contract       // of its rosters; nil: roster.Default
}

// Config is the operator's part.
type Config struct {
	Sources  []Source
	UserName []string // CEL candidates for user names, best first
	// CutKeyFile holds the key that signs cuts and lifts; it is made at the first start.
	CutKeyFile string
}

var sourceName = regexp.MustCompile(`^[a-z0-9-]{1,40}$`)

// Validate says what is wrong with c; an error names the source.
func (c Config) Validate() error {
	names := make(map[string]bool, len(c.Sources))
	manual := false
	for _, s := range c.Sources {
		if err := s.validate(); err != nil {
			return err
		}
		if names[s.Name] {
			return fmt.Errorf("source %s: there are two of that name", s.Name)
		}
		names[s.Name] = true
		if s.Kind == KindManual && manual {
			return fmt.Errorf("source %s: there may be one source of kind manual only", s.Name)
		}
		manual = manual || s.Kind == KindManual
	}
	if len(c.UserName) == 0 {
		return errors.New("people.user_name: at least one candidate is needed")
	}
	if c.CutKeyFile == "" {
		return errors.New("people.cut_key_file: needed")
	}
	return nil
}

func (s Source) validate() error {
	if !sourceName.MatchString(s.Name) {
		return fmt.Errorf("source %q: a name is 1 to 40 of a-z, 0-9 and -", s.Name)
	}
	switch s.Kind {
	case KindStandardWebhooks:
		if s.Keys == nil {
			return fmt.Errorf("source %s: kind %s needs a secret", s.Name, s.Kind)
		}
	case KindCSV, KindManual:
		if s.Keys != nil {
			return fmt.Errorf("source %s: kind %s takes no secret", s.Name, s.Kind)
		}
		if s.Kind == KindManual && s.Mapping != nil {
			return fmt.Errorf("source %s: kind %s takes no mapping", s.Name, s.Kind)
		}
		if s.Kind == KindManual && s.Contract != nil {
			return fmt.Errorf("source %s: kind %s has no rosters", s.Name, s.Kind)
		}
	case KindBambooHR, KindHiBob:
		switch {
		case s.Vendor == nil:
			return fmt.Errorf("source %s: kind %s needs a secret and an API", s.Name, s.Kind)
		case s.Mapping == nil:
			return fmt.Errorf("source %s: kind %s needs a mapping", s.Name, s.Kind)
		}
	case "scim":
		return fmt.Errorf("source %s: kind %s: not built yet", s.Name, s.Kind)
	default:
		return fmt.Errorf("source %s: no such kind %q: want %s, %s, %s, %s or %s",
			s.Name, s.Kind, KindStandardWebhooks, KindBambooHR, KindHiBob, KindCSV, KindManual)
	}
	if s.Vendor != nil && s.Kind != KindBambooHR && s.Kind != KindHiBob {
		return fmt.Errorf("source %s: kind %s has no API that is read", s.Name, s.Kind)
	}
	if s.RawRetention < 0 {
		return fmt.Errorf("source %s: raw_retention is negative", s.Name)
	}
	return nil
}

// Deps are ingest's collaborators.
type Deps struct {
	DB  *sqldb.DB // with Migrations
	Bus *bus.Bus
	// Recorded asks audit for the highest gap-free seq of an origin it has recorded, and how far it is behind.
	Recorded func(ctx context.Context, origin string) (seq uint64, behind time.Duration, err error)
	Log      *zap.Logger
	Registry prometheus.Registerer // nil: figures are not shown
	Now      func() time.Time      // the instant that is stored and decided by; nil: time.Now
}

// Migrations are what Deps.DB must have run.
func Migrations() []sqldb.Migrations {
	return []sqldb.Migrations{store.Migrations(), outbox.Migrations}
}

// Service is ingest. Its methods may be called concurrently.
type Service struct {
	peoplev1.UnimplementedPeopleServiceServer

	sources map[string]*feed
	manual  *feed                  // nil: operators cannot say anything
	nobody  *standardwebhooks.Keys // judges requests for sources that are not there, so that they take as long
	names   *username.Rule
	cutKey  *cut.Key

	db       *sqldb.DB
	store    *store.Store
	outbox   *outbox.Outbox
	log      *zap.Logger
	now      func() time.Time
	metrics  *metrics
	unproven chan struct{} // one element for each body whose sender is not known yet
	wake     chan struct{} // holds one element when something became due earlier
	whole    chan struct{} // holds one element when all parts of a roster are in
	readers  []*backReader // of the sources that are read back
}

// feed is a source made ready.
type feed struct {
	Source
	form     source.Form
	mapping  *mapping.Mapping
	contract roster.Contract
	arrivals *batch.Batch[*arrival]
}

// New makes the service. Nothing runs until Run.
func New(cfg Config, deps Deps) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	names, err := username.Compile(cfg.UserName)
	if err != nil {
		return nil, fmt.Errorf("people.user_name: %w", err)
	}
	nobody, err := randomKeys()
	if err != nil {
		return nil, err
	}
	cutKey, err := cut.Open(cfg.CutKeyFile)
	if err != nil {
		return nil, err
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	s := &Service{
		sources:  make(map[string]*feed, len(cfg.Sources)),
		nobody:   nobody,
		names:    names,
		cutKey:   cutKey,
		db:       deps.DB,
		store:    store.New(deps.DB),
		log:      deps.Log,
		now:      func() time.Time { return deps.Now().UTC().Truncate(time.Microsecond) },
		unproven: make(chan struct{}, maxUnproven),
		wake:     make(chan struct{}, 1),
		whole:    make(chan struct{}, 1),
	}
	for _, src := range cfg.Sources {
		f := &feed{Source: src, form: source.Own, mapping: src.Mapping, contract: roster.Default(), arrivals: s.newArrivals()}
		if src.Contract != nil {
			f.contract = *src.Contract
		}
		if src.Mapping == nil {
			f.form, f.mapping = source.Generic, mapping.Generic(src.Zone)
		}
		if src.RawRetention == 0 {
			f.RawRetention = defaultRawRetention
		}
		s.sources[src.Name] = f
		if f.Vendor != nil {
			s.readers = append(s.readers, newBackReader(f))
		}
		if src.Kind == KindManual {
			s.manual = f
		}
	}
	if s.metrics, err = newMetrics(deps.Registry, s.now); err != nil {
		return nil, err
	}
	s.outbox, err = outbox.New(outbox.Config{Origin: Origin}, outbox.Deps{
		DB: deps.DB, Bus: deps.Bus, Recorded: deps.Recorded, Log: s.log, Now: s.now,
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Outbox is the service's, whose figures who owns the registry may register.
func (s *Service) Outbox() *outbox.Outbox { return s.outbox }

// Run does what goes on by itself: events to the bus, what becomes due, rosters, reading back, and forgetting raw bodies.
// Requests are answered whether it runs or not.
func (s *Service) Run(ctx context.Context) error {
	tasks := []run.Task{s.outbox.Relay, s.timers, s.judgeRosters, s.retention, s.setBack}
	for _, r := range s.readers {
		tasks = append(tasks, func(ctx context.Context) error { return s.readBack(ctx, r) })
	}
	return run.All(ctx, tasks...)
}

// Register offers PeopleService and ingest's EventLog.
func (s *Service) Register(r grpc.ServiceRegistrar) {
	peoplev1.RegisterPeopleServiceServer(r, s)
	eventv1.RegisterEventLogServer(r, outbox.NewEventLog(s.outbox))
}

// sourceNames lists the configured sources, for messages.
func (s *Service) sourceNames() []string {
	names := make([]string, 0, len(s.sources))
	for name := range s.sources {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func randomKeys() (*standardwebhooks.Keys, error) {
	secret := make([]byte, 32)
	_, _ = rand.Read(secret) // never fails
	return standardwebhooks.ParseKeys([]byte("whsec_" + base64.StdEncoding.EncodeToString(secret)))
}
