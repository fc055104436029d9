package policy_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap/zaptest"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/tenurehq/tenure/pkg/bus"
	"github.com/tenurehq/tenure/pkg/bus/bustest"
	"github.com/tenurehq/tenure/pkg/rpc"
	"github.com/tenurehq/tenure/pkg/run"
	"github.com/tenurehq/tenure/pkg/sqldb"
	"github.com/tenurehq/tenure/pkg/sqldb/sqltest"
	accessv1 "github.com/tenurehq/tenure/proto/gen/tenure/access/v1"
	authv1 "github.com/tenurehq/tenure/proto/gen/tenure/auth/v1"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
	peoplev1 "github.com/tenurehq/tenure/proto/gen/tenure/people/v1"
	"github.com/tenurehq/tenure/services/policy"
	"github.com/tenurehq/tenure/services/policy/brake"
)

const patience = 20 * time.Second // far longer than anything takes; only a broken test waits for it

const (
	active     = peoplev1.PersonStatus_PERSON_STATUS_ACTIVE
	onLeave    = peoplev1.PersonStatus_PERSON_STATUS_ON_LEAVE
	pending    = peoplev1.PersonStatus_PERSON_STATUS_PENDING
	terminated = peoplev1.PersonStatus_PERSON_STATUS_TERMINATED

	urgent = eventv1.Lane_LANE_URGENT
	normal = eventv1.Lane_LANE_NORMAL
)

// company is the model that most tests apply.
const company = `
entitlements:
  - {app: warehouse, id: readonly, level: read, can: [export]}
roles:
  - {name: everyone, members: 'person.status in ["active", "on_leave"]', grants: [{app: wiki, entitlement: staff}]}
  - name: developer
    members: person.department == "d005"
    grants: [{app: code, entitlement: developers}, {app: warehouse, entitlement: readonly}]
  - {name: researcher, members: 'person.department == "d008"', grants: [{app: warehouse, entitlement: readonly}]}
  - name: rota
    members: person.attributes["rota"] == "yes" && person.employment_type == "employee"
    grants: [{app: code, entitlement: on-call}]
tests:
  - given: {department: d005}
    expect: {wiki: [staff], code: [developers], warehouse: [readonly]}
`

func config() policy.Config {
	return policy.Config{
		Applications: []policy.Application{
			{Name: "wiki", Environment: "prod", Account: map[string]string{"login": "person.user_name"}},
			{Name: "code", Environment: "staging"},
			{Name: "warehouse", Environment: "prod"},
		},
		MaxBehind: time.Minute,
		Brake:     limits("100%", "100%", "100%"), // what most tests are about is not the brake
	}
}

// limits are the brake's.
func limits(perHour, perDay, perAppDay string) brake.Limits {
	parse := func(text string) brake.Limit {
		l, err := brake.ParseLimit(text)
		if err != nil {
			panic(err)
		}
		return l
	}
	return brake.Limits{PerHour: parse(perHour), PerDay: parse(perDay), PerAppDay: parse(perAppDay), PrivilegedPerDay: parse("100%")}
}

// world is policy with a database, a bus and an ingest that knows what it is told.
type world struct {
	t      testing.TB
	db     *sqldb.DB
	bus    *bus.Bus
	people *people
	client peoplev1.PeopleServiceClient
	seq    uint64
}

func onBoth(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	sqltest.Run(t, policy.Migrations(), func(t *testing.T, db *sqldb.DB) { test(t, newWorld(t, db)) })
}

func newWorld(tb testing.TB, db *sqldb.DB) *world {
	tb.Helper()
	w := &world{t: tb, db: db, bus: bustest.New(tb), people: &people{known: map[string]*peoplev1.Person{}}}
	local := rpc.NewLocal(zaptest.NewLogger(tb), func(r grpc.ServiceRegistrar) {
		peoplev1.RegisterPeopleServiceServer(r, w.people)
	})
	background(tb, local.Serve)
	conn, err := local.Dial("policy")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.Close() })
	w.client = peoplev1.NewPeopleServiceClient(conn)
	return w
}

// background runs tasks until the test ends or stop is called.
func background(tb testing.TB, tasks ...run.Task) (stop func()) {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run.All(ctx, tasks...) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			tb.Errorf("a task failed: %v", err)
		}
	})
	tb.Cleanup(stop)
	return stop
}

// service makes a replica that nothing runs yet.
func (w *world) service(change ...func(*policy.Config, *policy.Deps)) *policy.Service {
	w.t.Helper()
	cfg := config()
	deps := policy.Deps{
		DB: w.db, Bus: w.bus, People: w.client, Log: zaptest.NewLogger(w.t),
		Recorded: func(context.Context, string) (uint64, time.Duration, error) { return 0, 0, nil },
	}
	for _, c := range change {
		c(&cfg, &deps)
	}
	s, err := policy.New(cfg, deps)
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// admin is the context of a call by an administrator.
func (w *world) admin() context.Context {
	return rpc.WithCaller(w.t.Context(), rpc.Caller{Operator: "ada", Role: authv1.Role_ROLE_ADMIN})
}

func files(text string) []*accessv1.ModelFile {
	return []*accessv1.ModelFile{{Name: "roles.yaml", Content: []byte(text)}}
}

// apply applies a model after the one that holds.
func (w *world) apply(s *policy.Service, text string) *accessv1.ApplyModelResponse {
	w.t.Helper()
	shown, err := s.ShowModel(w.admin(), &accessv1.ShowModelRequest{})
	if err != nil {
		w.t.Fatal(err)
	}
	applied, err := s.ApplyModel(w.admin(), &accessv1.ApplyModelRequest{Files: files(text), BaseSeq: shown.GetModelSeq()})
	if err != nil {
		w.t.Fatal(err)
	}
	return applied
}

// say tells ingest of a person and publishes the lifecycle event.
func (w *world) say(lane eventv1.Lane, kind eventv1.LifecycleKind, p *peoplev1.Person) bus.Event {
	w.t.Helper()
	p = w.people.put(p)
	w.seq++
	e := bus.NewEvent(bus.LifecycleSubject(lane, kind, p.GetId()), &eventv1.Lifecycle{
		PersonId: p.GetId(), PersonVersion: p.GetVersion(), Kind: kind,
	}, bus.Cause{CorrelationID: "delivery-of-" + p.GetId()})
	e.Origin, e.Seq, e.Time = "ingest", w.seq, time.Now().UTC().Truncate(time.Microsecond)
	w.publish(e)
	return e
}

func (w *world) publish(e bus.Event) {
	w.t.Helper()
	if err := w.bus.PublishChunk(w.t.Context(), []bus.Event{e}); err != nil {
		w.t.Fatal(err)
	}
}

// person is somebody in a department.
func person(status peoplev1.PersonStatus, department string) *peoplev1.Person {
	id := uuid.Must(uuid.NewV7()).String()
	return &peoplev1.Person{
		Id: id, UserName: "u-" + id, Status: status,
		Record: &peoplev1.Record{ExternalId: "x-" + id, Department: department, GivenName: "Ada"},
	}
}

// show returns what policy says of a person: entitlements by application, with the state where it is not ENABLED.
func (w *world) show(s *policy.Service, id string) map[string]string {
	w.t.Helper()
	shown, err := s.ShowAccess(w.t.Context(), &accessv1.ShowAccessRequest{PersonId: id})
	if err != nil {
		w.t.Fatal(err)
	}
	access := map[string]string{}
	for _, a := range shown.GetApplications() {
		text := fmt.Sprint(a.GetDesired().GetEntitlements())
		if state := a.GetDesired().GetState(); state != eventv1.AccessState_ACCESS_STATE_ENABLED {
			text = state.String() + text
		}
		access[a.GetDesired().GetApplication()] = text
	}
	return access
}

// heard collects the access and model events on the bus.
type heard struct {
	t      testing.TB
	events chan bus.Event
}

func (w *world) listen() *heard {
	w.t.Helper()
	h := &heard{t: w.t, events: make(chan bus.Event, 1000)}
	background(w.t, w.bus.Consumer(bus.ConsumerConfig{
		Name: "listener", Subjects: []string{"tenure.access.>", bus.ModelApplied},
	}, func(_ context.Context, batch []bus.Event) error {
		for _, e := range batch {
			h.events <- e
		}
		return nil
	}))
	return h
}

// access returns the next so many access events, by application.
func (h *heard) access(n int) map[string]bus.Event {
	h.t.Helper()
	found := map[string]bus.Event{}
	for range n {
		select {
		case e := <-h.events:
			found[h.fact(e).GetApplication()] = e
		case <-time.After(patience):
			h.t.Fatalf("%d access events did not come, only those for %v", n, slices.Sorted(maps.Keys(found)))
		}
	}
	return found
}

func (h *heard) model() *eventv1.ModelApplied {
	h.t.Helper()
	select {
	case e := <-h.events:
		fact, err := e.Decode()
		if err != nil {
			h.t.Fatal(err)
		}
		applied, ok := fact.(*eventv1.ModelApplied)
		if !ok {
			h.t.Fatalf("heard a %s instead of ModelApplied", e.Type)
		}
		return applied
	case <-time.After(patience):
		h.t.Fatal("ModelApplied did not come")
	}
	return nil
}

func (h *heard) fact(e bus.Event) *eventv1.Access {
	h.t.Helper()
	fact, err := e.Decode()
	if err != nil {
		h.t.Fatal(err)
	}
	access, ok := fact.(*eventv1.Access)
	if !ok {
		h.t.Fatalf("heard a %s instead of Access", e.Type)
	}
	return access
}

// until tries a condition as often as it takes.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		select {
		case <-t.Context().Done():
		case <-time.After(5 * time.Millisecond):
		}
	}
}

var errAway = errors.New("ingest is away")

// people is an ingest that knows what it was told.
type people struct {
	peoplev1.UnimplementedPeopleServiceServer
	mu    sync.Mutex
	known map[string]*peoplev1.Person
	away  bool
	told  map[string]*peoplev1.TimelineResponse
}

// tell makes what changed with an event known.
func (s *people) tell(person, event string, changes ...*peoplev1.Change) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.told == nil {
		s.told = map[string]*peoplev1.TimelineResponse{}
	}
	s.told[person] = &peoplev1.TimelineResponse{Happenings: []*peoplev1.Happening{{EventId: event, Changes: changes}}}
}

func (s *people) Timeline(_ context.Context, r *peoplev1.TimelineRequest) (*peoplev1.TimelineResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.told[r.GetPersonId()], nil
}

// put raises the person's version and returns what is known now.
func (s *people) put(p *peoplev1.Person) *peoplev1.Person {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := proto.CloneOf(p)
	now.Version = s.known[p.GetId()].GetVersion() + 1
	s.known[p.GetId()] = now
	return now
}

// restore makes an older version what is known.
func (s *people) restore(p *peoplev1.Person) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known[p.GetId()] = p
}

func (s *people) leave(away bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away = away
}

func (s *people) all() ([]*peoplev1.Person, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away {
		return nil, errAway
	}
	return slices.SortedFunc(maps.Values(s.known), func(a, b *peoplev1.Person) int {
		return strings.Compare(a.GetUserName(), b.GetUserName())
	}), nil
}

func (s *people) GetPeople(_ context.Context, r *peoplev1.GetPeopleRequest) (*peoplev1.GetPeopleResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away {
		return nil, errAway
	}
	response := &peoplev1.GetPeopleResponse{}
	for _, id := range r.GetIds() {
		if p, ok := s.known[id]; ok {
			response.People = append(response.People, p)
		}
	}
	return response, nil
}

func (s *people) Versions(_ *peoplev1.VersionsRequest, stream grpc.ServerStreamingServer[peoplev1.VersionsResponse]) error {
	all, err := s.all()
	if err != nil {
		return err
	}
	for chunk := range slices.Chunk(all, 1000) {
		response := &peoplev1.VersionsResponse{}
		for _, p := range chunk {
			response.Pairs = append(response.Pairs, &peoplev1.VersionsResponse_Pair{Id: p.GetId(), Version: p.GetVersion()})
		}
		if err := stream.Send(response); err != nil {
			return err
		}
	}
	return nil
}

func (s *people) ListPeople(_ *peoplev1.ListPeopleRequest, stream grpc.ServerStreamingServer[peoplev1.ListPeopleResponse]) error {
	all, err := s.all()
	if err != nil {
		return err
	}
	for chunk := range slices.Chunk(all, 500) {
		if err := stream.Send(&peoplev1.ListPeopleResponse{People: chunk}); err != nil {
			return err
		}
	}
	return nil
}

// stream collects what a streaming method sends.
type stream[T any] struct {
	grpc.ServerStream
	ctx  context.Context
	sent []*T
}

func (s *stream[T]) Context() context.Context { return s.ctx }

func (s *stream[T]) Send(m *T) error {
	s.sent = append(s.sent, m)
	return nil
}
