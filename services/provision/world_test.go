package provision_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tenurehq/tenure/pkg/bus"
	"github.com/tenurehq/tenure/pkg/bus/bustest"
	"github.com/tenurehq/tenure/pkg/connector"
	"github.com/tenurehq/tenure/pkg/rpc"
	"github.com/tenurehq/tenure/pkg/sqldb"
	"github.com/tenurehq/tenure/pkg/sqldb/sqltest"
	accessv1 "github.com/tenurehq/tenure/proto/gen/tenure/access/v1"
	connectorv1 "github.com/tenurehq/tenure/proto/gen/tenure/connector/v1"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
	peoplev1 "github.com/tenurehq/tenure/proto/gen/tenure/people/v1"
	"github.com/tenurehq/tenure/services/provision"
	"github.com/tenurehq/tenure/services/provision/internal/store"
)

const patience = 20 * time.Second // for what must happen

const (
	none     = eventv1.AccessState_ACCESS_STATE_NONE
	disabled = eventv1.AccessState_ACCESS_STATE_DISABLED
	enabled  = eventv1.AccessState_ACCESS_STATE_ENABLED
	urgent   = eventv1.Lane_LANE_URGENT
	normal   = eventv1.Lane_LANE_NORMAL
)

// policy is policy as far as a worker sees it.
type policy struct {
	accessv1.UnimplementedAccessServiceServer
	bus *bus.Bus

	mu      sync.Mutex
	desired map[string]*accessv1.Desired // by app and person
	seq     uint64
	suffix  string // of every login and address
	plain   bool   // accounts have no mail
	name    string // what accounts call the login; default login
	asked   int    // how often desired access was asked for
	away    bool   // it answers nothing
	answer  chan struct{}

	permits int                        // how often what no decision ordered may be taken away
	wanted  []*accessv1.ReleaseRequest // what was asked for
}

// until waits until desired access was asked for so often.
func (p *policy) until(t *testing.T, asked int) {
	t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		p.mu.Lock()
		n, answer := p.asked, p.answer
		p.mu.Unlock()
		if n >= asked {
			return
		}
		select {
		case <-answer:
		case <-timer.C:
			t.Fatalf("asked %d times, want %d", n, asked)
		}
	}
}

// leave stops and starts answering.
func (p *policy) leave(away bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.away = away
}

func (p *policy) GetDesired(ctx context.Context, req *accessv1.GetDesiredRequest) (*accessv1.GetDesiredResponse, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.away {
		p.mu.Unlock()
		<-ctx.Done()
		p.mu.Lock()
		return nil, ctx.Err()
	}
	p.asked++
	close(p.answer)
	p.answer = make(chan struct{})
	out := &accessv1.GetDesiredResponse{}
	for _, person := range req.GetPersonIds() {
		if d := p.desired[req.GetApplication()+"/"+person]; d != nil {
			out.Desired = append(out.Desired, proto.CloneOf(d))
		}
	}
	return out, nil
}

// Release is asked for what no decision ordered.
func (p *policy) Release(_ context.Context, req *accessv1.ReleaseRequest) (*accessv1.ReleaseResponse, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wanted = append(p.wanted, proto.CloneOf(req))
	if len(req.GetSteps()) == 0 {
		return &accessv1.ReleaseResponse{}, nil
	}
	if p.permits > 0 {
		p.permits--
		return &accessv1.ReleaseResponse{Release: "permission"}, nil
	}
	return &accessv1.ReleaseResponse{Hold: "hold-1"}, nil
}

// permit lets so much of it be taken away.
func (p *policy) permit(times int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.permits = times
}

// releases is what was asked for so far.
func (p *policy) releases() []*accessv1.ReleaseRequest {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.wanted)
}

func (p *policy) Generations(req *accessv1.GenerationsRequest, stream grpc.ServerStreamingServer[accessv1.GenerationsResponse]) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := &accessv1.GenerationsResponse{}
	for _, d := range p.desired {
		if d.GetApplication() == req.GetApplication() {
			out.Pairs = append(out.Pairs, &accessv1.GenerationsResponse_Pair{PersonId: d.GetPersonId(), Generation: d.GetGeneration(), Lane: d.GetLane()})
		}
	}
	return stream.Send(out)
}

// want is one decision of policy.
type want struct {
	app, person  string
	state        eventv1.AccessState
	entitlements []string
	lane         eventv1.Lane // default: urgent when nothing is wanted
	noRelease    bool
	sameVersion  bool      // of the person as before
	version      uint64    // of the person; default: one more than before
	run          uint64    // of employment; default: as before
	ended, known time.Time // of a leaver
	login        string    // default: the person
}

// decide makes decisions and returns the events that announce them.
func (p *policy) decide(wants ...want) []bus.Event {
	p.mu.Lock()
	defer p.mu.Unlock()
	var events []bus.Event
	for _, w := range wants {
		key := w.app + "/" + w.person
		old := p.desired[key]
		d := &accessv1.Desired{
			PersonId: w.person, Application: w.app, Generation: old.GetGeneration() + 1, Decision: old.GetDecision() + 1,
			PersonVersion: old.GetPersonVersion() + 1, ModelSeq: 1, State: w.state, Entitlements: w.entitlements,
			Account: map[string]string{"login": w.person + p.suffix, "mail": w.person + p.suffix + "@acme.example"}, Release: "release",
			Lane: w.lane, Since: timestamppb.Now(),
		}
		if p.plain {
			delete(d.Account, "mail")
		}
		if d.GetLane() == eventv1.Lane_LANE_UNSPECIFIED {
			d.Lane = normal
			if w.state == none {
				d.Lane = urgent
			}
		}
		if d.Employment = w.run; w.run == 0 {
			d.Employment = old.GetEmployment()
		}
		if !w.ended.IsZero() {
			d.EndedAt, d.EndKnownAt = timestamppb.New(w.ended), timestamppb.New(w.known)
		}
		if w.login != "" {
			d.Account["login"] = w.login
		}
		if p.name != "" {
			d.Account[p.name] = d.GetAccount()["login"]
			delete(d.Account, "login")
		}
		if w.noRelease {
			d.Release = ""
		}
		if w.sameVersion {
			d.PersonVersion = old.GetPersonVersion()
		}
		if w.version > 0 {
			d.PersonVersion = w.version
		}
		p.seq++
		e := bus.NewEvent(bus.AccessSubject(d.GetLane(), w.app, w.person), &eventv1.Access{
			PersonId: w.person, Application: w.app, Generation: d.GetGeneration(), Decision: d.GetDecision(),
			PersonVersion: d.GetPersonVersion(), State: d.GetState(), Release: d.GetRelease(),
		}, bus.Cause{})
		e.Origin, e.Seq, e.Time = "policy", p.seq, time.Now().UTC()
		d.EventId, d.CorrelationId = e.ID, e.CorrelationID
		p.desired[key] = d
		events = append(events, e)
	}
	return events
}

// world is a bus, a policy, applications, and a worker for them.
type world struct {
	t      testing.TB
	bus    *bus.Bus
	policy *policy
	ingest *ingest
	dbs    map[string]*sqldb.DB
	cfg    provision.Config
	sole   map[string]bool
	figure *prometheus.Registry // of the service started last
	access accessv1.AccessServiceClient
	people peoplev1.PeopleServiceClient

	connectors map[string]connectorv1.ConnectorClient
	log        *zap.Logger
	now        func() time.Time // of the services started from now on

	mu     sync.Mutex
	heard  []bus.Event // what the workers said
	change chan struct{}
}

// quick are clocks for tests: what takes seconds in production takes hundredths of them.
var quick = provision.Timing{
	Skew: 20 * time.Millisecond, Poll: 10 * time.Millisecond, RetryMin: 10 * time.Millisecond, RetryMax: 50 * time.Millisecond,
	Slow: time.Hour, Attempts: 4, PollEvery: 10 * time.Millisecond, CreateGrace: 300 * time.Millisecond,
}

// app is one application of a world.
type app struct {
	provision.Application
	impl connector.Connector
}

func newWorld(tb testing.TB, engine string, apps ...app) *world {
	tb.Helper()
	w := &world{
		t: tb, bus: bustest.New(tb), dbs: map[string]*sqldb.DB{}, connectors: map[string]connectorv1.ConnectorClient{},
		cfg: provision.Config{Timing: quick}, change: make(chan struct{}), now: time.Now,
		log: zaptest.NewLogger(tb, zaptest.Level(zap.ErrorLevel)),
	}
	w.policy = &policy{bus: w.bus, desired: map[string]*accessv1.Desired{}, answer: make(chan struct{})}
	for _, a := range apps {
		if a.Enforce == "" {
			a.Enforce = "full"
		}
		if a.Limits.Timeout == 0 {
			a.Limits.Timeout = 5 * time.Second
		}
		w.cfg.Applications = append(w.cfg.Applications, a.Application)
		w.dbs[a.Name] = sqltest.New(tb, engine, provision.Migrations()...)
		client, closeAll, err := connector.InProcess(a.impl)
		if err != nil {
			tb.Fatal(err)
		}
		tb.Cleanup(func() { _ = closeAll() })
		w.connectors[a.Name] = &lossy{ConnectorClient: client}
	}
	w.ingest = newIngest(tb, w.bus)
	local := rpc.NewLocal(zap.NewNop(), func(r grpc.ServiceRegistrar) {
		accessv1.RegisterAccessServiceServer(r, w.policy)
		peoplev1.RegisterPeopleServiceServer(r, w.ingest)
	})
	w.background(local.Serve)
	conn, err := local.Dial("provision")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.Close() })
	w.access, w.people = accessv1.NewAccessServiceClient(conn), peoplev1.NewPeopleServiceClient(conn)
	w.background(w.bus.Consumer(bus.ConsumerConfig{
		Name: "test", Subjects: []string{"tenure.intent.>", "tenure.outcome.>", "tenure.finding.>", "tenure.operator.>"},
	}, w.hear))
	return w
}

// background runs a task until the test ends, and returns what ends it sooner.
func (w *world) background(task func(context.Context) error) (stop func()) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.t.Context()))
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := task(ctx); err != nil && ctx.Err() == nil {
			w.t.Errorf("a task ended: %v", err)
		}
	}()
	stop = func() { cancel(); <-done }
	w.t.Cleanup(stop)
	return stop
}

// start starts a worker process for all applications.
func (w *world) start() (*provision.Service, func()) {
	w.t.Helper()
	w.figure = prometheus.NewRegistry()
	svc, err := provision.New(w.cfg, provision.Deps{
		DBs: w.dbs, Sole: w.sole, Bus: w.bus, Access: w.access, People: w.people, Connectors: w.connectors, Log: w.log, Registry: w.figure, Now: w.now,
		Recorded: func(context.Context, string) (uint64, time.Duration, error) { return 0, 0, nil },
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return svc, w.background(svc.Run)
}

func (w *world) hear(_ context.Context, batch []bus.Event) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.heard = append(w.heard, batch...)
	close(w.change)
	w.change = make(chan struct{})
	return nil
}

// publish announces decisions.
func (w *world) publish(wants ...want) {
	w.t.Helper()
	events := w.policy.decide(wants...)
	for chunk := range slices.Chunk(events, 500) {
		if err := w.bus.PublishChunk(w.t.Context(), chunk); err != nil {
			w.t.Fatal(err)
		}
	}
}

// until waits for the events heard to satisfy a condition.
func (w *world) until(what string, is func([]bus.Event) bool) {
	w.t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		w.mu.Lock()
		ok, change := is(w.heard), w.change
		w.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-change:
		case <-timer.C:
			w.t.Fatalf("not within %s: %s; heard %v", patience, what, w.summary())
		}
	}
}

func (w *world) summary() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	for _, e := range w.heard {
		m, _ := e.Decode()
		out = append(out, fmt.Sprintf("%s %v", e.Subject, m))
	}
	return out[max(0, len(out)-20):]
}

// untilTarget waits until a worker's row about a person is as it should be.
func (w *world) untilTarget(app, person, what string, is func(store.Target) bool) {
	w.t.Helper()
	until(w.t, fmt.Sprintf("target of %s in %s to be %s", person, app, what), func() bool {
		target, found, err := store.New(w.dbs[app]).Target(w.t.Context(), person)
		return err == nil && found && is(target)
	})
}

// until asks again and again whether it is so.
func until(tb testing.TB, what string, ask func() bool) {
	tb.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !ask(); <-tick.C {
		if time.Now().After(deadline) {
			tb.Fatalf("waited %s in vain for the %s", patience, what)
		}
	}
}

func (w *world) untilMarked(app, person string, generation int64) {
	w.t.Helper()
	w.untilTarget(app, person, fmt.Sprintf("marked with generation %d", generation), func(t store.Target) bool { return t.Generation >= generation })
}

func (w *world) untilState(app, person string, states ...store.State) {
	w.t.Helper()
	w.untilTarget(app, person, fmt.Sprintf("in state %v", states), func(t store.Target) bool { return slices.Contains(states, t.State) })
}

// facts are the facts of one kind about a person, in the order heard.
func facts[T proto.Message](events []bus.Event, about func(T) bool) []T {
	var out []T
	for _, e := range events {
		m, err := e.Decode()
		if fact, ok := m.(T); err == nil && ok && about(fact) {
			out = append(out, fact)
		}
	}
	return out
}

func outcomes(events []bus.Event, person string) []*eventv1.Outcome {
	return facts(events, func(o *eventv1.Outcome) bool { return o.GetPersonId() == person })
}

// outcome waits for an outcome about a person with a state, for the newest generation decided.
func (w *world) outcome(app, person string, state eventv1.OutcomeState) *eventv1.Outcome {
	w.t.Helper()
	w.policy.mu.Lock()
	generation := w.policy.desired[app+"/"+person].GetGeneration()
	w.policy.mu.Unlock()
	var found *eventv1.Outcome
	w.until(fmt.Sprintf("outcome %s of generation %d of %s in %s", state, generation, person, app), func(events []bus.Event) bool {
		for _, o := range outcomes(events, person) {
			if o.GetApplication() == app && o.GetGeneration() == generation && o.GetState() == state {
				found = o
				return true
			}
		}
		return false
	})
	return found
}

func (w *world) done(app, person string) *eventv1.Outcome {
	w.t.Helper()
	return w.outcome(app, person, eventv1.OutcomeState_OUTCOME_STATE_DONE)
}

// finding waits for the newest finding to be of a kind.
func (w *world) finding(kind eventv1.FindingKind) *eventv1.Finding {
	w.t.Helper()
	var found *eventv1.Finding
	w.until(fmt.Sprintf("finding %s", kind), func(events []bus.Event) bool {
		all := facts(events, func(*eventv1.Finding) bool { return true })
		if len(all) == 0 || all[len(all)-1].GetKind() != kind {
			return false
		}
		found = all[len(all)-1]
		return true
	})
	return found
}

// sink collects what a streaming RPC sends.
type sink[T any] struct {
	grpc.ServerStream
	ctx  context.Context
	sent []*T
}

func (s *sink[T]) Context() context.Context { return s.ctx }

func (s *sink[T]) Send(m *T) error {
	s.sent = append(s.sent, m)
	return nil
}
