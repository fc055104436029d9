package policy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/tenurehq/tenure/pkg/fault"
	accessv1 "github.com/tenurehq/tenure/proto/gen/tenure/access/v1"
	peoplev1 "github.com/tenurehq/tenure/proto/gen/tenure/people/v1"
	"github.com/tenurehq/tenure/services/policy/decide"
	"github.com/tenurehq/tenure/services/policy/model"
)

// simulation is what a proposed model would do to everybody.
type simulation struct {
	total    uint64 // people, as far as known beforehand
	done     uint64
	gaining  uint64
	losing   uint64
	erring   map[string]uint64 // people for whom a role cannot be decided, by role
	proposed decide.Rules
	current  *decide.Rules // nil: no model is applied
}

// simulate decides about everybody by both models, and tells after each batch of people what they would gain and
// lose. It stores nothing.
func (s *Service) simulate(
	ctx context.Context, current *rules, proposed *model.Model, tell func(*simulation, []*accessv1.PersonDiff) error,
) (*simulation, error) {
	sim := &simulation{
		proposed: decide.Rules{Model: proposed, Accounts: s.accounts},
		erring:   map[string]uint64{},
	}
	if current != nil {
		sim.current = &current.Rules
	}
	err := s.eachVersion(ctx, func(pairs []*peoplev1.VersionsResponse_Pair) error {
		sim.total += uint64(len(pairs))
		return nil
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the stream when tell fails
	stream, err := s.people.ListPeople(ctx, &peoplev1.ListPeopleRequest{})
	if err != nil {
		return nil, fault.FromStatus(err)
	}
	for {
		batch, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return sim, nil
		}
		if err != nil {
			return nil, fault.FromStatus(err)
		}
		var diffs []*accessv1.PersonDiff
		for _, p := range batch.GetPeople() {
			if d := sim.person(p); d != nil {
				diffs = append(diffs, d)
			}
		}
		if err := tell(sim, diffs); err != nil {
			return nil, err
		}
	}
}

// person returns what one person would gain and lose, nil when nothing. What the current model gives stands in for
// what was decided before, so that a rule that errs in the proposed one counts as taking nothing away.
func (sim *simulation) person(p *peoplev1.Person) *accessv1.PersonDiff {
	sim.done++
	person := personOf(p)
	var before decide.Decision
	if sim.current != nil {
		before = decide.Decide(*sim.current, person, nil)
	}
	after := decide.Decide(sim.proposed, person, before.Access)
	for _, e := range after.Errors {
		if e.Role != "" {
			sim.erring[e.Role]++
		}
	}
	gains, loses := decide.Diff(before.Access, after.Access)
	if len(gains) > 0 {
		sim.gaining++
	}
	if len(loses) > 0 {
		sim.losing++
	}
	if len(gains)+len(loses) == 0 {
		return nil
	}
	return &accessv1.PersonDiff{
		PersonId: p.GetId(), UserName: p.GetUserName(), Gains: refsToProto(gains), Loses: refsToProto(loses),
	}
}

// warnings are what an author should know and what does not keep a model from being applied.
func (sim *simulation) warnings() []string {
	var all []string
	for _, role := range slices.Sorted(maps.Keys(sim.erring)) {
		all = append(all, fmt.Sprintf("role %s cannot be decided for %d people: they keep what it gave, and get nothing new by it",
			role, sim.erring[role]))
	}
	for _, ref := range sim.proposed.Model.Unclassified() {
		all = append(all, fmt.Sprintf("%s of %s is not in the catalogue: unclassified", ref.Entitlement, ref.Application))
	}
	return all
}
