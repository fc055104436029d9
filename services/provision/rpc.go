package provision

import (
	"context"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tenurehq/tenure/pkg/fault"
	"github.com/tenurehq/tenure/pkg/rpc"
	accessv1 "github.com/tenurehq/tenure/proto/gen/tenure/access/v1"
	connectorv1 "github.com/tenurehq/tenure/proto/gen/tenure/connector/v1"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
	provisionv1 "github.com/tenurehq/tenure/proto/gen/tenure/provision/v1"
	"github.com/tenurehq/tenure/services/provision/internal/store"
	"github.com/tenurehq/tenure/services/provision/internal/worker"
	"github.com/tenurehq/tenure/services/provision/plan"
)

const (
	page           = 100 // targets read at a time
	defaultJournal = 100
	maxJournal     = 1000
)

// application returns one of this process's applications.
func (s *Service) application(name string) (application, error) {
	for _, a := range s.apps {
		if a.Name == name {
			return a, nil
		}
	}
	return application{}, fault.New(fault.NotFound, "this worker has no application %q", name)
}

// ListApplications implements provisionv1.ProvisionServiceServer.
func (s *Service) ListApplications(ctx context.Context, _ *provisionv1.ListApplicationsRequest) (*provisionv1.ListApplicationsResponse, error) {
	out := &provisionv1.ListApplicationsResponse{}
	for _, a := range s.apps {
		shown, _, err := s.show(ctx, a)
		if err != nil {
			return nil, err
		}
		out.Applications = append(out.Applications, shown)
	}
	for _, name := range s.unconfigured {
		out.Applications = append(out.Applications, &provisionv1.Application{Name: name, Health: "not configured"})
	}
	return out, nil
}

// ShowApplication implements provisionv1.ProvisionServiceServer.
func (s *Service) ShowApplication(ctx context.Context, req *provisionv1.ShowApplicationRequest) (*provisionv1.ShowApplicationResponse, error) {
	a, err := s.application(req.GetApplication())
	if err != nil {
		return nil, err
	}
	shown, lanes, err := s.show(ctx, a)
	if err != nil {
		return nil, err
	}
	return &provisionv1.ShowApplicationResponse{
		Application: shown, Lanes: lanes, Describe: a.worker.Describe(ctx), Check: a.worker.Check(ctx),
	}, nil
}

func (s *Service) show(ctx context.Context, a application) (*provisionv1.Application, []*provisionv1.LaneStatus, error) {
	people, settled, err := a.worker.Store().Count(ctx)
	if err != nil {
		return nil, nil, err
	}
	counts, err := a.worker.Store().Open(ctx)
	if err != nil {
		return nil, nil, err
	}
	out := &provisionv1.Application{
		Name: a.Name, Connector: a.Connector, Environment: a.Environment, Owner: a.Owner, Enforce: enforceLevels[a.Enforce].String(),
		People: uint64(people), Settled: uint64(settled), //nolint:gosec // counts
	}
	out.Health, out.HealthDetail = a.worker.Health()
	now := s.deps.Now()
	lanes := []*provisionv1.LaneStatus{{Lane: eventv1.Lane_LANE_URGENT}, {Lane: eventv1.Lane_LANE_NORMAL}}
	var oldest time.Duration
	for _, c := range counts {
		switch c.State {
		case store.Stuck:
			out.Stuck += uint64(c.Count) //nolint:gosec // a count
		case store.Due, store.Retrying:
			lane := lanes[c.Lane-1]
			out.Due += uint64(c.Count)  //nolint:gosec // a count
			lane.Due += uint64(c.Count) //nolint:gosec // a count
			lane.OldestDue = durationpb.New(max(lane.GetOldestDue().AsDuration(), now.Sub(c.Oldest)))
			oldest = max(oldest, now.Sub(c.Oldest))
		case store.Settled, store.Observing:
		}
	}
	if out.GetDue() > 0 {
		out.OldestDue = durationpb.New(oldest)
	}
	return out, lanes, nil
}

// Plan implements provisionv1.ProvisionServiceServer. Nothing that changes anything is called.
func (s *Service) Plan(req *provisionv1.PlanRequest, stream grpc.ServerStreamingServer[provisionv1.PlanResponse]) error {
	ctx := stream.Context()
	a, err := s.application(req.GetApplication())
	if err != nil {
		return err
	}
	if person := req.GetPersonId(); person != "" {
		t, _, err := a.worker.Store().Target(ctx, person)
		if err != nil {
			return err
		}
		t.Person = person
		sent, err := s.plan(ctx, a, []store.Target{t}, stream)
		if err == nil && sent == 0 {
			return fault.New(fault.NotFound, "nothing was ever desired for this person in %s", a.Name)
		}
		return err
	}
	for after := ""; ; {
		targets, err := a.worker.Store().Targets(ctx, after, page)
		if err != nil || len(targets) == 0 {
			return err
		}
		if _, err := s.plan(ctx, a, targets, stream); err != nil {
			return err
		}
		after = targets[len(targets)-1].Person
	}
}

func (s *Service) plan(ctx context.Context, a application, targets []store.Target, stream grpc.ServerStreamingServer[provisionv1.PlanResponse]) (int, error) {
	people := make([]string, len(targets))
	for i, t := range targets {
		people[i] = t.Person
	}
	desired, err := a.worker.Desired(ctx, people)
	if err != nil {
		return 0, err
	}
	sent := 0
	for _, t := range targets {
		d := desired[t.Person]
		if d == nil {
			continue
		}
		p, problem := a.worker.Preview(ctx, t, d)
		if err := stream.Send(planned(t.Person, d, p, problem)); err != nil {
			return sent, err
		}
		sent++
	}
	return sent, nil
}

func planned(person string, d *accessv1.Desired, p plan.Plan, problem string) *provisionv1.PlanResponse {
	out := &provisionv1.PlanResponse{PersonId: person, Desired: d, Problem: problem}
	if p.Problem != nil && problem == "" {
		out.Problem = p.Problem.Code + " " + p.Problem.Reason
	}
	for _, st := range p.Steps {
		step := &provisionv1.PlannedStep{Op: eventv1.Op(st.Op), Target: st.Target, Destructive: st.Op.Destructive()} //nolint:gosec // the numbers are the same
		for name := range st.Attributes {
			step.Attributes = append(step.Attributes, name)
		}
		slices.Sort(step.GetAttributes())
		out.Steps = append(out.Steps, step)
	}
	for _, n := range p.Notes {
		out.Notes = append(out.Notes, n.String())
	}
	if !p.Wait.IsZero() {
		out.Notes = append(out.Notes, "waits: an account that was asked for may not be visible yet")
	}
	return out
}

// ListStuck implements provisionv1.ProvisionServiceServer.
func (s *Service) ListStuck(req *provisionv1.ListStuckRequest, stream grpc.ServerStreamingServer[provisionv1.ListStuckResponse]) error {
	apps := s.apps
	if name := req.GetApplication(); name != "" {
		a, err := s.application(name)
		if err != nil {
			return err
		}
		apps = []application{a}
	}
	for _, a := range apps {
		stuck, err := a.worker.Store().StuckTargets(stream.Context())
		if err != nil {
			return err
		}
		for _, t := range stuck {
			err := stream.Send(&provisionv1.ListStuckResponse{
				Application: a.Name, PersonId: t.Person, Problem: t.Problem, Detail: detail(t), Advice: Advice(t.Problem, t.Reason),
				Owner: a.Owner, Since: when(t.StuckSince), Attempts: uint32(t.Attempts), NextTry: when(t.DueAt), Removal: t.Removal, //nolint:gosec // a count
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// Retry implements provisionv1.ProvisionServiceServer.
func (s *Service) Retry(ctx context.Context, req *provisionv1.RetryRequest) (*provisionv1.RetryResponse, error) {
	a, err := s.application(req.GetApplication())
	if err != nil {
		return nil, err
	}
	found, err := a.worker.Retry(ctx, req.GetPersonId(), rpc.CallerFrom(ctx).Actor())
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, fault.New(fault.NotFound, "nothing was ever desired for this person in %s", a.Name)
	}
	return &provisionv1.RetryResponse{}, nil
}

// ShowAccounts implements provisionv1.ProvisionServiceServer.
func (s *Service) ShowAccounts(ctx context.Context, req *provisionv1.ShowAccountsRequest) (*provisionv1.ShowAccountsResponse, error) {
	out := &provisionv1.ShowAccountsResponse{}
	for _, a := range s.apps {
		t, found, err := a.worker.Store().Target(ctx, req.GetPersonId())
		if err != nil {
			return nil, err
		}
		if !found {
			continue
		}
		out.Targets = append(out.Targets, &provisionv1.Target{
			Application: a.Name, PersonId: t.Person, State: provisionv1.TargetState(t.State), //nolint:gosec // the numbers are the same
			Generation: uint64(t.Generation), SettledGeneration: uint64(t.SettledGeneration), //nolint:gosec // counters
			Observed: worker.Observed(t.Observed), ObservedAt: when(t.ObservedAt), DueAt: when(t.DueAt), Attempts: uint32(t.Attempts), //nolint:gosec // a count
			Problem: t.Problem, Detail: detail(t), Notes: t.Notes,
			EndedAt: when(t.EndedAt), EndKnownAt: when(t.EndKnownAt), CutOffAt: when(t.CutOffAt),
		})
	}
	return out, nil
}

// Journal implements provisionv1.ProvisionServiceServer.
func (s *Service) Journal(ctx context.Context, req *provisionv1.JournalRequest) (*provisionv1.JournalResponse, error) {
	a, err := s.application(req.GetApplication())
	if err != nil {
		return nil, err
	}
	limit := int(req.GetLimit())
	if limit == 0 {
		limit = defaultJournal
	}
	entries, err := a.worker.Store().Journal(ctx, req.GetPersonId(), min(limit, maxJournal))
	if err != nil {
		return nil, err
	}
	out := &provisionv1.JournalResponse{}
	for _, e := range entries {
		shown, err := entry(e)
		if err != nil {
			return nil, err
		}
		out.Entries = append(out.Entries, shown)
	}
	return out, nil
}

func entry(e store.Entry) (*provisionv1.JournalEntry, error) {
	request, response := &connectorv1.ApplyRequest{}, &connectorv1.ApplyResponse{}
	if err := proto.Unmarshal(e.Intent, request); err != nil {
		return nil, fault.Wrap(fault.Internal, err)
	}
	if err := proto.Unmarshal(e.Results, response); err != nil {
		return nil, fault.Wrap(fault.Internal, err)
	}
	return &provisionv1.JournalEntry{
		OperationId: e.Operation, Generation: uint64(e.Generation), PersonVersion: uint64(e.PersonVersion), //nolint:gosec // counters
		Decision: uint64(e.Decision), ModelSeq: uint64(e.ModelSeq), //nolint:gosec // counters
		Steps: request.GetSteps(), Results: response.GetResults(), State: eventv1.OutcomeState(e.State), //nolint:gosec // the numbers are the same
		IntentAt: when(e.IntentAt), OutcomeAt: when(e.OutcomeAt), Observed: worker.Observed(e.Observed),
		IntentEventId: e.IntentEvent, OutcomeEventId: e.OutcomeEvent,
	}, nil
}

// detail is what the application said, with its own token for it.
func detail(t store.Target) string {
	if t.Detail == "" || t.Reason == "" {
		return t.Reason + t.Detail
	}
	return t.Reason + ": " + t.Detail
}

func when(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}
