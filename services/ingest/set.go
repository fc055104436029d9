package ingest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/tenurehq/tenure/pkg/fault"
	"github.com/tenurehq/tenure/pkg/rpc"
	peoplev1 "github.com/tenurehq/tenure/proto/gen/tenure/people/v1"
	"github.com/tenurehq/tenure/services/ingest/internal/store"
	"github.com/tenurehq/tenure/services/ingest/mapping"
	"github.com/tenurehq/tenure/services/ingest/source"
	"github.com/tenurehq/tenure/services/ingest/timeline"
)

// SetPerson implements PeopleService. An operator's word about a person is a record like any other: the one that holds
// now with the fields changed, about the same employment, made now and effective now, unless effective_date says
// otherwise or nothing holds yet: then it holds with what is to come first. So it stands until somebody, HR or an
// operator, says something about a later instant, or later about the same one. Unless one of them is set, it says nothing
// of status, start_date and end_date.
func (s *Service) SetPerson(ctx context.Context, req *peoplev1.SetPersonRequest) (*peoplev1.SetPersonResponse, error) {
	if s.manual == nil {
		return nil, fault.New(fault.Refused, "no source of kind %s is configured, so nobody's word but HR's is taken", KindManual)
	}
	if err := checkFields(req.GetFields()); err != nil {
		return nil, err
	}
	person, err := s.find(ctx, req.GetRef())
	if fault.KindOf(err) == fault.NotFound {
		if err = mayCreate(req, err); err != nil {
			return nil, err
		}
		person = store.Person{}
	} else if err != nil {
		return nil, err
	}
	about := s.meant(person, req.GetRef())
	var answer *peoplev1.SetPersonResponse
	err = s.store.InTx(ctx, func(tx store.Tx) (err error) {
		answer, err = s.set(ctx, tx, person.ID, about, req.GetFields())
		return err
	})
	if err != nil {
		return nil, err
	}
	s.metrics.deliveries.WithLabelValues(s.manual.Name, resultAccepted).Inc()
	return answer, nil
}

// checkFields refuses names that a record does not have. What says who is meant cannot be changed.
func checkFields(fields map[string]string) error {
	var allowed []string
	for _, name := range timeline.FieldNames() {
		if !identifies(name) {
			allowed = append(allowed, name)
		}
	}
	if len(fields) == 0 {
		return fault.New(fault.Invalid, "nothing to set: fields are %s and attributes.<name>", strings.Join(allowed, ", "))
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		var any timeline.Record
		if identifies(name) || !any.Set(name, "x") {
			return fault.New(fault.Invalid, "no field %q: fields are %s and attributes.<name>", name, strings.Join(allowed, ", "))
		}
	}
	return nil
}

// identifies tells whether a field says who is meant.
func identifies(name string) bool { return name == "external_id" || name == "person_key" }

// meant is the employment that an operator speaks of who refers to a person so: the one of that external id, else the one
// that counts most; for nobody yet, a new one.
func (s *Service) meant(person store.Person, ref string) timeline.Employment {
	if person.ID == "" {
		return timeline.Employment{Source: s.manual.Name, ExternalID: ref}
	}
	var named []timeline.Employment
	for _, e := range person.State.Employments {
		if e.Employment.ExternalID == ref {
			named = append(named, e.Employment)
		}
	}
	if len(named) == 1 {
		return named[0]
	}
	return person.Main()
}

// mayCreate tells whether a reference to nobody may become a new person: it must be meant so, and a mistyped id is not.
func mayCreate(req *peoplev1.SetPersonRequest, notFound error) error {
	if uuid.Validate(req.GetRef()) == nil {
		return notFound
	}
	if req.GetFields()["status"] == "" {
		return fault.New(fault.NotFound, "%w; to make a new person with that external id, set status too", notFound)
	}
	return nil
}

// set takes in an operator's word about an employment of a person; one without an id is new.
func (s *Service) set(
	ctx context.Context, tx store.Tx, id string, about timeline.Employment, fields map[string]string,
) (*peoplev1.SetPersonResponse, error) {
	now, fresh := s.now(), id == ""
	said := []store.Fact{{Person: id, Fact: timeline.Fact{Employment: about}}}
	var people []store.Person
	var err error
	if fresh {
		people, err = s.open(ctx, tx, s.manual.Name, said)
	} else {
		people, err = tx.Lock(ctx, []string{id})
	}
	if err != nil {
		return nil, err
	}
	if len(people) != 1 || fresh && people[0].Version > 1 {
		return nil, fault.New(fault.Conflict, "somebody else made this person at the same time: look and try again")
	}
	var record timeline.Record
	if !fresh {
		if !people[0].Has(about) {
			return nil, fault.New(fault.Conflict, "somebody else merged or split this person at the same time: look and try again")
		}
		record = people[0].State.Of(about).Record.Clone()
	}
	record.ExternalID, record.EffectiveDate = about.ExternalID, ""
	for name, value := range fields {
		record.Set(name, value)
	}
	if !fresh && fields["status"] == "" && record.EffectiveDate == "" {
		if record.EffectiveDate, err = s.toCome(ctx, tx, id, about, now); err != nil {
			return nil, err
		}
	}
	fact, err := s.readerOf(about.Source).Check(record, mapping.Event{Type: source.TypeChanged, Timestamp: now})
	var held *mapping.Held
	switch {
	case errors.As(err, &held):
		return nil, fault.New(fault.Invalid, "%s", held.Reason)
	case err != nil:
		return nil, fmt.Errorf("check record: %w", err)
	}
	if !fresh && !saysWhen(fields) {
		fact.Record.Status, fact.Record.StartDate, fact.Record.EndDate = "", "", ""
		fact.Start, fact.End = time.Time{}, time.Time{}
	}
	body, err := manualBody(fact.Record, now)
	if err != nil {
		return nil, err
	}
	key := newID()
	delivery := newDelivery(s.manual.Name, "set-"+key, rpc.CallerFrom(ctx).Actor(), body, now, now)
	delivery.ID, delivery.Items = key, 1
	if _, err := tx.AddDelivery(ctx, delivery); err != nil {
		return nil, err
	}
	fact.Employment = about
	said[0].Fact = fact
	attribute(delivery, said, now)
	cause := causeOf(ctx, delivery)
	if err := s.settle(ctx, tx, people, said, because(cause), now); err != nil {
		return nil, err
	}
	answer := &peoplev1.SetPersonResponse{DeliveryId: delivery.ID, Person: personProto(people[0])}
	return answer, addCuts(ctx, tx, answer.GetPerson())
}

// saysWhen tells whether an operator says something of when the employment runs. Who does not leaves that to those who
// do: a word about a department must not bring back somebody of whom HR says, before or after, that they have left.
func saysWhen(fields map[string]string) bool {
	for _, name := range []string{"status", "start_date", "end_date"} {
		if _, said := fields[name]; said {
			return true
		}
	}
	return false
}

// toCome is the instant from which anything said about an employment holds at all, when that lies after now; else empty. A
// word about somebody who is to come, other than about their status, must not bring them early.
func (s *Service) toCome(ctx context.Context, tx store.Tx, person string, about timeline.Employment, now time.Time) (string, error) {
	facts, err := tx.Facts(ctx, []string{person})
	facts = slices.DeleteFunc(facts, func(f store.Fact) bool { return f.Employment != about })
	if err != nil || len(facts) == 0 {
		return "", err
	}
	first := slices.MinFunc(facts, func(a, b store.Fact) int { return a.Effective.Compare(b.Effective) }).Effective
	if !first.After(now) {
		return "", nil
	}
	return first.Format(time.RFC3339Nano), nil
}

// readerOf is the mapping, and with it the zone, of an employment's source; the manual source's when that is gone.
func (s *Service) readerOf(name string) *mapping.Mapping {
	if feed, ok := s.sources[name]; ok {
		return feed.mapping
	}
	return s.manual.mapping
}

// manualBody is an operator's word in the generic form, so that it reads like any other delivery.
func manualBody(record timeline.Record, at time.Time) ([]byte, error) {
	data := make(map[string]any)
	for _, name := range timeline.FieldNames() {
		if value, _ := record.Get(name); value != "" {
			data[name] = value
		}
	}
	if len(record.Attributes) > 0 {
		data["attributes"] = record.Attributes
	}
	body, err := json.Marshal(map[string]any{"type": source.TypeChanged, "timestamp": at, "data": data})
	if err != nil {
		return nil, fmt.Errorf("encode record: %w", err)
	}
	return body, nil
}
