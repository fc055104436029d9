package policy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"runtime"
	"slices"
	"sync"

	"github.com/tenurehq/tenure/pkg/fault"
	accessv1 "github.com/tenurehq/tenure/proto/gen/tenure/access/v1"
	peoplev1 "github.com/tenurehq/tenure/proto/gen/tenure/people/v1"
	"github.com/tenurehq/tenure/services/policy/brake"
	"github.com/tenurehq/tenure/services/policy/decide"
	"github.com/tenurehq/tenure/services/policy/model"
)

// simulation is what a proposed model would do to everybody.
type simulation struct {
	total    uint64 // people, as far as known beforehand
	done     uint64
	gaining  uint64
	losing   uint64
	changes  []brake.Change    // that the brake looks at
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
		diffs := sim.batch(batch.GetPeople())
		if err := tell(sim, diffs); err != nil {
			return nil, err
		}
	}
}

// batch decides about people, on every core, and returns who would gain or lose something.
func (sim *simulation) batch(people []*peoplev1.Person) []*accessv1.PersonDiff {
	outcomes := make([]outcome, len(people))
	var wait sync.WaitGroup
	cores := runtime.GOMAXPROCS(0)
	for core := range cores {
		wait.Go(func() {
			for i := core; i < len(people); i += cores {
				outcomes[i] = sim.person(people[i])
			}
		})
	}
	wait.Wait()
	var diffs []*accessv1.PersonDiff
	for i, o := range outcomes {
		sim.done++
		for _, role := range o.erring {
			sim.erring[role]++
		}
		if len(o.gains) > 0 {
			sim.gaining++
		}
		if len(o.loses) > 0 {
			sim.losing++
		}
		if len(o.loses) > 0 || o.privileged {
			sim.changes = append(sim.changes, brake.Change{
				Person: people[i].GetId(), Loses: len(o.loses) > 0, Apps: applicationsOf(o.loses), Privileged: o.privileged,
			})
		}
		if len(o.gains)+len(o.loses) > 0 {
			diffs = append(diffs, &accessv1.PersonDiff{
				PersonId: people[i].GetId(), UserName: people[i].GetUserName(),
				Gains: refsToProto(o.gains), Loses: refsToProto(o.loses),
			})
		}
	}
	return diffs
}

// applicationsOf are the applications of these, which are sorted by them, each once.
func applicationsOf(refs []model.Ref) []string {
	apps := make([]string, len(refs))
	for i, r := range refs {
		apps[i] = r.Application
	}
	return slices.Compact(apps)
}

// wouldHold is of how many people the brake would keep back what the model does, if it took effect now.
func (s *Service) wouldHold(ctx context.Context, sim *simulation) (uint64, error) {
	if len(sim.changes) == 0 {
		return 0, nil
	}
	population, err := s.population(ctx, true)
	if err != nil {
		return 0, err
	}
	now := s.now()
	removed, err := s.store.RemovedSince(ctx, now.Add(-day))
	if err != nil {
		return 0, err
	}
	given, err := s.store.ElevatedSince(ctx, now.Add(-day))
	if err != nil {
		return 0, err
	}
	before, changes := windows(sim.changes, removed, given, now)
	var held uint64
	for _, v := range brake.Judge(s.cfg.Brake, population, before, changes) {
		if !v.Released() {
			held++
		}
	}
	return held, nil
}

// outcome is what a proposed model would do to one person.
type outcome struct {
	gains, loses []model.Ref
	privileged   bool     // of the gains
	erring       []string // roles
}

// person may be called concurrently. What the current model gives stands in for what was decided before, so that a
// rule that errs in the proposed one counts as taking nothing away.
func (sim *simulation) person(p *peoplev1.Person) outcome {
	var before decide.Decision
	if sim.current != nil {
		before = decideFor(*sim.current, p, nil)
	}
	after := decideFor(sim.proposed, p, before.Access)
	var o outcome
	o.gains, o.loses = decide.Diff(before.Access, after.Access)
	o.privileged = slices.ContainsFunc(o.gains, sim.proposed.Model.Privileged)
	for _, e := range after.Errors {
		if e.Role != "" {
			o.erring = append(o.erring, e.Role)
		}
	}
	return o
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
