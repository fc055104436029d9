package ingest

import (
	"context"
	"fmt"
	"slices"

	"google.golang.org/grpc"

	peoplev1 "github.com/tenurehq/tenure/proto/gen/tenure/people/v1"
	"github.com/tenurehq/tenure/services/ingest/internal/store"
)

// findingsPage is how many findings are read and sent at a time.
const findingsPage = 500

// sendFindings hands over some findings.
type sendFindings func([]*peoplev1.PeopleFinding) error

// ListFindings implements PeopleService.
func (s *Service) ListFindings(req *peoplev1.ListFindingsRequest, stream grpc.ServerStreamingServer[peoplev1.ListFindingsResponse]) error {
	send := func(findings []*peoplev1.PeopleFinding) error {
		if len(findings) == 0 {
			return nil
		}
		return stream.Send(&peoplev1.ListFindingsResponse{Findings: findings})
	}
	for _, finder := range []struct {
		kind peoplev1.PeopleFindingKind
		find func(context.Context, sendFindings) error
	}{
		{peoplev1.PeopleFindingKind_PEOPLE_FINDING_KIND_LOOK_ALIKE, s.lookAlikes},
		{peoplev1.PeopleFindingKind_PEOPLE_FINDING_KIND_STALE, s.stale},
		{peoplev1.PeopleFindingKind_PEOPLE_FINDING_KIND_ABSENT, s.absent},
	} {
		if req.GetKind() != 0 && req.GetKind() != finder.kind {
			continue
		}
		if err := finder.find(stream.Context(), send); err != nil {
			return err
		}
	}
	return nil
}

// stale finds the sources that have sent no roster for longer than their contract allows.
func (s *Service) stale(ctx context.Context, send sendFindings) error {
	counts, err := s.store.CountRosters(ctx)
	if err != nil {
		return err
	}
	bySource := make(map[string]store.RosterCounts, len(counts))
	for _, c := range counts {
		bySource[c.Source] = c
	}
	var findings []*peoplev1.PeopleFinding
	now := s.now()
	for _, name := range s.sourceNames() {
		contract, made := s.sources[name].contract, bySource[name].Made
		if !contract.Stale(made, now) {
			continue
		}
		finding := &peoplev1.PeopleFinding{
			Kind: peoplev1.PeopleFindingKind_PEOPLE_FINDING_KIND_STALE, Source: name, Detail: "no roster was ever taken",
		}
		if !made.IsZero() {
			finding.Since = timestamp(made.Add(contract.Freshness))
			finding.Detail = fmt.Sprintf("the newest roster that was taken was made at %s", made.Format("2006-01-02 15:04:05Z"))
		}
		findings = append(findings, finding)
	}
	return send(findings)
}

// absent finds the people whom the newest roster of their source left out. It is no evidence that they left.
func (s *Service) absent(ctx context.Context, send sendFindings) error {
	for after := (store.Absence{}); ; {
		page, err := s.store.Absences(ctx, after, findingsPage)
		if err != nil || len(page) == 0 {
			return err
		}
		over, err := ended(ctx, s.store, page)
		if err != nil {
			return err
		}
		findings := make([]*peoplev1.PeopleFinding, 0, len(page))
		for _, a := range page {
			if !slices.Contains(over, a) {
				findings = append(findings, &peoplev1.PeopleFinding{
					Kind: peoplev1.PeopleFindingKind_PEOPLE_FINDING_KIND_ABSENT, PersonId: a.Person,
					Source: a.Source, ExternalId: a.ExternalID, Detail: "not in roster " + a.Roster, Since: timestamp(a.Since),
				})
			}
		}
		if err := send(findings); err != nil {
			return err
		}
		after = page[len(page)-1]
	}
}
