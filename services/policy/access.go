package policy

import (
	"context"
	"maps"
	"slices"

	"google.golang.org/grpc"

	"github.com/tenurehq/tenure/pkg/fault"
	accessv1 "github.com/tenurehq/tenure/proto/gen/tenure/access/v1"
	"github.com/tenurehq/tenure/services/policy/internal/store"
	"github.com/tenurehq/tenure/services/policy/model"
)

// page is how many rows one message of a stream holds.
const page = 1000

// GetDesired answers a worker.
func (s *Service) GetDesired(
	ctx context.Context, request *accessv1.GetDesiredRequest,
) (*accessv1.GetDesiredResponse, error) {
	if len(request.GetPersonIds()) > maxPeople {
		return nil, fault.New(fault.TooLarge, "%d people at once, and at most %d are allowed", len(request.GetPersonIds()), maxPeople)
	}
	if _, ok := s.application(request.GetApplication()); !ok {
		return nil, noSuchApplication(request.GetApplication())
	}
	found, err := s.store.InApplication(ctx, request.GetApplication(), request.GetPersonIds())
	if err != nil {
		return nil, err
	}
	response := &accessv1.GetDesiredResponse{}
	for _, d := range found {
		response.Desired = append(response.Desired, desiredToProto(d))
	}
	return response, nil
}

// Generations answers a worker's repair.
func (s *Service) Generations(
	request *accessv1.GenerationsRequest, stream grpc.ServerStreamingServer[accessv1.GenerationsResponse],
) error {
	if _, ok := s.application(request.GetApplication()); !ok {
		return noSuchApplication(request.GetApplication())
	}
	after := ""
	for {
		found, err := s.store.Generations(stream.Context(), request.GetApplication(), after, page)
		if err != nil || len(found) == 0 {
			return err
		}
		response := &accessv1.GenerationsResponse{}
		for _, g := range found {
			response.Pairs = append(response.Pairs, &accessv1.GenerationsResponse_Pair{
				PersonId: g.Person, Generation: unsigned(g.Generation), Lane: g.Lane,
			})
		}
		if err := stream.Send(response); err != nil {
			return err
		}
		after = found[len(found)-1].Person
	}
}

// ShowAccess shows everything about one person; somebody never decided about has nothing.
func (s *Service) ShowAccess(
	ctx context.Context, request *accessv1.ShowAccessRequest,
) (*accessv1.ShowAccessResponse, error) {
	rules, err := s.rules(ctx)
	if err != nil {
		return nil, err
	}
	decided, errs, err := s.store.Latest(ctx, request.GetPersonId())
	if err != nil {
		return nil, err
	}
	found, err := s.store.OfPeople(ctx, []string{request.GetPersonId()})
	if err != nil {
		return nil, err
	}
	response := &accessv1.ShowAccessResponse{
		Errors:        errorsToProto(errs),
		PersonVersion: unsigned(decided.PersonVersion),
		Decision:      unsigned(decided.N),
		ModelSeq:      unsigned(decided.ModelSeq),
	}
	var m *model.Model
	if rules != nil {
		m = rules.Model
	}
	if decided.Held {
		held, err := s.store.Held(ctx, []string{request.GetPersonId()})
		if err != nil {
			return nil, err
		}
		response.Hold = held[request.GetPersonId()].Hold
	}
	applications := found[request.GetPersonId()]
	for _, app := range slices.Sorted(maps.Keys(applications)) {
		if _, ok := s.application(app); !ok {
			continue
		}
		shown := &accessv1.DesiredWithReasons{Desired: desiredToProto(applications[app])}
		for _, r := range applications[app].Access.Reasons {
			shown.Reasons = append(shown.Reasons, reasonToProto(m, r))
		}
		response.Applications = append(response.Applications, shown)
	}
	return response, nil
}

// Who reads the desired access of the applications in question and picks what was asked for. It reads rows and keeps
// no index of its own: who has what is asked seldom, and an index would be written with every decision.
func (s *Service) Who(request *accessv1.WhoRequest, stream grpc.ServerStreamingServer[accessv1.WhoResponse]) error {
	ctx := stream.Context()
	if verb := request.GetCan(); verb != "" && !slices.Contains(model.Verbs[:], verb) {
		return fault.New(fault.Usage, "can %q is none of %v", verb, model.Verbs)
	}
	rules, err := s.rules(ctx)
	if err != nil {
		return err
	}
	applications, err := s.asked(request)
	if err != nil || rules == nil {
		return err
	}
	for _, app := range applications {
		after := ""
		for {
			found, err := s.store.Page(ctx, app, after, page)
			if err != nil {
				return err
			}
			if len(found) == 0 {
				break
			}
			response := &accessv1.WhoResponse{}
			for _, d := range found {
				response.Holders = append(response.Holders, holders(rules.Model, d, request)...)
			}
			if len(response.GetHolders()) > 0 {
				if err := stream.Send(response); err != nil {
					return err
				}
			}
			after = found[len(found)-1].Person
		}
	}
	return nil
}

// asked returns the applications that a question is about.
func (s *Service) asked(request *accessv1.WhoRequest) ([]string, error) {
	if app := request.GetApplication(); app != "" {
		if _, ok := s.application(app); !ok {
			return nil, noSuchApplication(app)
		}
	}
	var names []string
	for _, name := range s.names() {
		app, _ := s.application(name)
		if (request.GetApplication() == "" || request.GetApplication() == name) &&
			(request.GetEnvironment() == "" || request.GetEnvironment() == app.Environment) {
			names = append(names, name)
		}
	}
	return names, nil
}

// holders returns what of one person's access in one application was asked for.
func holders(m *model.Model, d store.Desired, request *accessv1.WhoRequest) []*accessv1.WhoResponse_Holder {
	one := func(entitlement, level string) *accessv1.WhoResponse_Holder {
		h := &accessv1.WhoResponse_Holder{
			PersonId:    d.Person,
			Application: d.Application,
			Entitlement: entitlement,
			State:       stateToProto(d.Access.State),
			Level:       level,
		}
		for _, r := range d.Access.Reasons {
			if r.Entitlement == entitlement && !slices.Contains(h.GetRoles(), r.Role) {
				h.Roles = append(h.Roles, r.Role)
			}
		}
		return h
	}
	if len(d.Access.Entitlements) == 0 {
		if request.GetEntitlement() != "" || request.GetCan() != "" {
			return nil
		}
		return []*accessv1.WhoResponse_Holder{one("", "")}
	}
	var found []*accessv1.WhoResponse_Holder
	for _, id := range d.Access.Entitlements {
		if request.GetEntitlement() != "" && request.GetEntitlement() != id {
			continue
		}
		known, _ := m.Entitlement(model.Ref{Application: d.Application, Entitlement: id})
		if request.GetCan() != "" && !slices.Contains(known.Can, request.GetCan()) {
			continue
		}
		found = append(found, one(id, known.Level))
	}
	return found
}

func noSuchApplication(name string) error {
	return fault.New(fault.NotFound, "no application %q is configured", name)
}
