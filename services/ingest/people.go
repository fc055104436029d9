package ingest

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/tenurehq/tenure/pkg/fault"
	peoplev1 "github.com/tenurehq/tenure/proto/gen/tenure/people/v1"
	"github.com/tenurehq/tenure/services/ingest/internal/store"
	"github.com/tenurehq/tenure/services/ingest/timeline"
)

const (
	// maxIDs is how many people may be asked for at once.
	maxIDs = 1000
	// peoplePage is how many people are read and sent at a time.
	peoplePage = 500
	// versionsPage is how many versions are read and sent at a time.
	versionsPage = 5000
	// maxCandidates is how many people an ambiguous reference lists.
	maxCandidates = 10
)

// GetPeople implements PeopleService.
func (s *Service) GetPeople(ctx context.Context, req *peoplev1.GetPeopleRequest) (*peoplev1.GetPeopleResponse, error) {
	if len(req.GetIds()) > maxIDs {
		return nil, fault.New(fault.Invalid, "at most %d people can be asked for at once", maxIDs)
	}
	people, err := s.store.People(ctx, req.GetIds())
	if err != nil {
		return nil, err
	}
	answer := &peoplev1.GetPeopleResponse{People: peopleProto(people)}
	return answer, addCuts(ctx, s.store, answer.GetPeople()...)
}

// Versions implements PeopleService. It reads page by page: what changes meanwhile is seen or not, and the caller
// compares all of it again later.
func (s *Service) Versions(_ *peoplev1.VersionsRequest, stream grpc.ServerStreamingServer[peoplev1.VersionsResponse]) error {
	for after := ""; ; {
		page, err := s.store.Versions(stream.Context(), after, versionsPage)
		if err != nil {
			return err
		}
		if len(page) == 0 {
			return nil
		}
		pairs := make([]*peoplev1.VersionsResponse_Pair, len(page))
		for i, v := range page {
			pairs[i] = &peoplev1.VersionsResponse_Pair{Id: v.ID, Version: count64(v.Version)}
		}
		if err := stream.Send(&peoplev1.VersionsResponse{Pairs: pairs}); err != nil {
			return err
		}
		after = page[len(page)-1].ID
	}
}

// ListPeople implements PeopleService. Whatever the number of people, a page of them is in memory.
func (s *Service) ListPeople(req *peoplev1.ListPeopleRequest, stream grpc.ServerStreamingServer[peoplev1.ListPeopleResponse]) error {
	filter := store.PeopleFilter{Department: req.GetDepartment(), Limit: peoplePage}
	if s := req.GetStatus(); s != peoplev1.PersonStatus_PERSON_STATUS_UNSPECIFIED {
		if filter.Status = timeline.Status(s); filter.Status > timeline.Terminated { //nolint:gosec // checked in the same line
			return fault.New(fault.Invalid, "no such status")
		}
	}
	query := strings.ToLower(req.GetQuery())
	for {
		page, err := s.store.PeoplePage(stream.Context(), filter)
		if err != nil {
			return err
		}
		if len(page) == 0 {
			return nil
		}
		filter.After = page[len(page)-1]
		if query != "" {
			page = slices.DeleteFunc(page, func(p store.Person) bool { return !matches(p, query) })
		}
		if len(page) == 0 {
			continue
		}
		answer := &peoplev1.ListPeopleResponse{People: peopleProto(page)}
		if err := addCuts(stream.Context(), s.store, answer.GetPeople()...); err != nil {
			return err
		}
		if err := stream.Send(answer); err != nil {
			return err
		}
	}
}

// matches tells whether query, in lower case, is part of a name, e-mail or user name.
func matches(p store.Person, query string) bool {
	r := p.State.Record
	return strings.Contains(strings.ToLower(r.GivenName+" "+r.FamilyName), query) ||
		strings.Contains(strings.ToLower(r.Email), query) || strings.Contains(p.UserName, query)
}

// FindPerson implements PeopleService.
func (s *Service) FindPerson(ctx context.Context, req *peoplev1.FindPersonRequest) (*peoplev1.FindPersonResponse, error) {
	person, err := s.find(ctx, req.GetRef())
	if err != nil {
		return nil, err
	}
	answer := &peoplev1.FindPersonResponse{Person: personProto(person)}
	return answer, addCuts(ctx, s.store, answer.GetPerson())
}

// find resolves a reference, of those who turned out to be somebody else to that person; an id stands above all else. The error is a fault: NotFound, or Refused with the candidates.
func (s *Service) find(ctx context.Context, ref string) (store.Person, error) {
	if ref == "" {
		return store.Person{}, fault.New(fault.Invalid, "which person?")
	}
	ids := []string{strings.ToLower(ref)}
	if uuid.Validate(ref) != nil {
		var err error
		if ids, err = s.store.Find(ctx, ref, maxCandidates+1); err != nil {
			return store.Person{}, err
		}
	}
	people, err := s.living(ctx, ids)
	if err != nil {
		return store.Person{}, err
	}
	switch len(people) {
	case 0:
		return store.Person{}, fault.New(fault.NotFound, "no person has the id, external id, e-mail or user name %q", ref)
	case 1:
		return people[0], nil
	}
	return store.Person{}, fault.New(fault.Refused, "%q means several people: %s", ref, candidates(people))
}

// living returns the people with these ids; in place of those who were merged, who they turned out to be.
func (s *Service) living(ctx context.Context, ids []string) ([]store.Person, error) {
	people, err := s.store.People(ctx, ids)
	if err != nil {
		return nil, err
	}
	merged := false
	for i, p := range people {
		if ids[i] = p.ID; p.MergedInto != "" {
			ids[i], merged = p.MergedInto, true
		}
	}
	if !merged {
		return people, nil
	}
	ids = ids[:len(people)]
	slices.Sort(ids)
	return s.store.People(ctx, slices.Compact(ids))
}

// candidates lists people so that one can be chosen by id.
func candidates(people []store.Person) string {
	slices.SortFunc(people, func(a, b store.Person) int { return strings.Compare(a.ID, b.ID) })
	var list []string
	for i, p := range people {
		if i == maxCandidates {
			list = append(list, "…")
			break
		}
		name := p.UserName
		if name == "" {
			name = "no user name"
		}
		employments := make([]string, len(p.State.Employments))
		for i, e := range p.State.Employments {
			employments[i] = e.Employment.Source + " " + e.Employment.ExternalID
		}
		list = append(list, fmt.Sprintf("%s (%s, %s)", p.ID, name, strings.Join(employments, ", ")))
	}
	return strings.Join(list, ", ")
}

// Timeline implements PeopleService.
func (s *Service) Timeline(ctx context.Context, req *peoplev1.TimelineRequest) (*peoplev1.TimelineResponse, error) {
	people, err := s.store.People(ctx, []string{req.GetPersonId()})
	if err != nil {
		return nil, err
	}
	if len(people) == 0 {
		return nil, fault.New(fault.NotFound, "no person has the id %q", req.GetPersonId())
	}
	facts, err := s.store.Facts(ctx, []string{req.GetPersonId()})
	if err != nil {
		return nil, err
	}
	names, err := s.store.Names(ctx, req.GetPersonId())
	if err != nil {
		return nil, err
	}
	happenings, err := s.store.Happenings(ctx, append(names, req.GetPersonId())...)
	if err != nil {
		return nil, err
	}
	answer := &peoplev1.TimelineResponse{Person: personProto(people[0])}
	if err := addCuts(ctx, s.store, answer.GetPerson()); err != nil {
		return nil, err
	}
	said := make([]timeline.Fact, len(facts))
	for i, f := range facts {
		said[i] = f.Fact
	}
	said = timeline.Ordered(said)
	superseded := timeline.Superseded(said)
	for i, f := range said {
		answer.Facts = append(answer.Facts, factProto(f, superseded[i]))
	}
	for _, h := range happenings {
		happening, err := happeningProto(h)
		if err != nil {
			return nil, err
		}
		answer.Happenings = append(answer.Happenings, happening)
	}
	return answer, nil
}

// happeningProto gives an event back what was left out of it.
func happeningProto(h store.Happening) (*peoplev1.Happening, error) {
	happening := &peoplev1.Happening{}
	if err := proto.Unmarshal(h.Facts, happening); err != nil {
		return nil, fmt.Errorf("decode facts of event %s: %w", h.EventID, err)
	}
	happening.EventId = h.EventID
	happening.Lifecycle.Commitment = commitment(h.Nonce, h.Facts)
	return happening, nil
}

func peopleProto(people []store.Person) []*peoplev1.Person {
	out := make([]*peoplev1.Person, len(people))
	for i, p := range people {
		out[i] = personProto(p)
	}
	return out
}
