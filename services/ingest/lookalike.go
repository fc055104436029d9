package ingest

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	peoplev1 "github.com/tenurehq/tenure/proto/gen/tenure/people/v1"
	"github.com/tenurehq/tenure/services/ingest/internal/store"
)

// birthDates are the own attributes that are read as a date of birth, where a source gives one.
var birthDates = []string{"birth_date", "date_of_birth"}

// sign is something that two people have in common only if they may be one.
type sign struct{ what, value string }

// signsOf are a person's signs, by each of their employments.
func signsOf(p store.Person) []sign {
	var signs []sign
	add := func(what, value string) {
		if s := (sign{what, value}); value != "" && !slices.Contains(signs, s) {
			signs = append(signs, s)
		}
	}
	fold := func(text string) string { return strings.ToLower(strings.Join(strings.Fields(text), " ")) }
	for _, e := range p.State.Employments {
		r := e.Record
		add("the same e-mail", fold(r.Email))
		if r.PersonKey != "" {
			add("the same person_key of "+e.Employment.Source, r.PersonKey)
		}
		for _, name := range birthDates {
			if born := r.Attributes[name]; born != "" && r.GivenName != "" && r.FamilyName != "" {
				add("the same name and date of birth", fold(r.GivenName)+"\n"+fold(r.FamilyName)+"\n"+born)
			}
		}
	}
	return signs
}

// lookAlikes finds people who may be one, and whom no operator has said to be two. Nobody is joined by it. Of several
// who look alike each is reported with the first, by user name. It reads everybody: an operator asks for it now and then.
func (s *Service) lookAlikes(ctx context.Context, send sendFindings) error {
	apart, err := s.store.Apart(ctx)
	if err != nil {
		return err
	}
	first := make(map[sign]string) // who has it, by id
	filter := store.PeopleFilter{Limit: peoplePage}
	for {
		page, err := s.store.PeoplePage(ctx, filter)
		if err != nil || len(page) == 0 {
			return err
		}
		filter.After = page[len(page)-1]
		var findings []*peoplev1.PeopleFinding
		for _, p := range page {
			alike := make(map[string][]string) // what is the same, by the other's id
			for _, sign := range signsOf(p) {
				if other, had := first[sign]; !had {
					first[sign] = p.ID
				} else if !apart[[2]string{min(other, p.ID), max(other, p.ID)}] {
					alike[other] = append(alike[other], sign.what)
				}
			}
			for _, other := range slices.Sorted(maps.Keys(alike)) {
				findings = append(findings, &peoplev1.PeopleFinding{
					Kind:     peoplev1.PeopleFindingKind_PEOPLE_FINDING_KIND_LOOK_ALIKE,
					PersonId: other, OtherPersonId: p.ID,
					Detail: strings.Join(alike[other], ", "),
					Since:  timestamp(madeAt(max(other, p.ID))),
				})
			}
		}
		if err := send(findings); err != nil {
			return err
		}
	}
}

// madeAt is when a person became known: their id says so.
func madeAt(id string) time.Time {
	parsed, err := uuid.Parse(id)
	if err != nil || parsed.Version() != 7 {
		return time.Time{}
	}
	return time.Unix(parsed.Time().UnixTime()).UTC()
}
