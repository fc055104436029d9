package ingest

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/tenurehq/tenure/pkg/bus"
	"github.com/tenurehq/tenure/pkg/fault"
	"github.com/tenurehq/tenure/pkg/rpc"
	"github.com/tenurehq/tenure/pkg/telemetry"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
	peoplev1 "github.com/tenurehq/tenure/proto/gen/tenure/people/v1"
	"github.com/tenurehq/tenure/services/ingest/internal/store"
	"github.com/tenurehq/tenure/services/ingest/timeline"
)

// MergePeople implements PeopleService. All that was said about the employments of `from` becomes `into`'s; what was told
// of `from` stays told of it. Its accounts become nobody's but its own: it has no employment left, so they end.
func (s *Service) MergePeople(ctx context.Context, req *peoplev1.MergePeopleRequest) (*peoplev1.MergePeopleResponse, error) {
	into, err := s.find(ctx, req.GetInto())
	if err != nil {
		return nil, err
	}
	from, err := s.find(ctx, req.GetFrom())
	if err != nil {
		return nil, err
	}
	if into.ID == from.ID {
		return nil, fault.New(fault.Refused, "%q and %q are one person already", req.GetInto(), req.GetFrom())
	}
	answer := &peoplev1.MergePeopleResponse{}
	err = s.store.InTx(ctx, func(tx store.Tx) error {
		people, err := s.take(ctx, tx, into.ID, from.ID)
		if err != nil {
			return err
		}
		merged, err := s.merge(ctx, tx, &people[0], &people[1])
		answer.Person = merged
		return err
	})
	if err != nil {
		return nil, err
	}
	return answer, nil
}

// take locks people whose employments are to change hands, in the order given, and lets time pass for them until now, so
// that all which fell due is told of whom it fell due for.
func (s *Service) take(ctx context.Context, tx store.Tx, ids ...string) ([]store.Person, error) {
	people, err := tx.Lock(ctx, ids)
	if err != nil {
		return nil, err
	}
	if len(people) != len(ids) || slices.ContainsFunc(people, func(p store.Person) bool { return p.MergedInto != "" }) {
		return nil, fault.New(fault.Conflict, "somebody else merged this person at the same time: look and try again")
	}
	cuts, err := tx.Standing(ctx, ids)
	if err != nil {
		return nil, err
	}
	for id := range cuts {
		return nil, fault.New(fault.Refused, "person %s is cut: lift the cut first", id)
	}
	if err := s.settle(ctx, tx, people, nil, because(bus.Cause{TraceParent: telemetry.TraceParent(ctx)}), s.now()); err != nil {
		return nil, err
	}
	slices.SortFunc(people, func(a, b store.Person) int { return slices.Index(ids, a.ID) - slices.Index(ids, b.ID) })
	return people, nil
}

// merge makes one person of two who are taken.
func (s *Service) merge(ctx context.Context, tx store.Tx, into, from *store.Person) (*peoplev1.Person, error) {
	if err := tx.Transfer(ctx, employmentsOf(from.State), from.ID, into.ID); err != nil {
		return nil, err
	}
	if err := tx.Merge(ctx, into.ID, from.ID); err != nil {
		return nil, err
	}
	r := &regrouping{at: from.State.At}
	if into.State.At.After(r.at) {
		r.at = into.State.At
	}
	if err := r.gather(ctx, tx, into); err != nil {
		return nil, err
	}
	gone := timeline.State{
		At: r.at, Status: timeline.Terminated, Record: from.State.Record, StartedAt: from.State.StartedAt, EndedAt: from.State.EndedAt,
	}
	if gone.EndedAt.IsZero() {
		gone.EndedAt = r.at
	}
	r.add(from, gone)
	return s.regroup(ctx, tx, "merge", from.ID, r)
}

// SplitPerson implements PeopleService. Who stays keeps the id, the user name and the accounts.
func (s *Service) SplitPerson(ctx context.Context, req *peoplev1.SplitPersonRequest) (*peoplev1.SplitPersonResponse, error) {
	person, err := s.find(ctx, req.GetRef())
	if err != nil {
		return nil, err
	}
	var leaving []timeline.Employment
	for _, key := range req.GetEmployments() {
		leaving = append(leaving, timeline.Employment{Source: key.GetSource(), ExternalID: key.GetExternalId()})
	}
	answer := &peoplev1.SplitPersonResponse{}
	err = s.store.InTx(ctx, func(tx store.Tx) error {
		people, err := s.take(ctx, tx, person.ID)
		if err != nil {
			return err
		}
		if err := checkSplit(people[0], leaving); err != nil {
			return err
		}
		fresh := store.Person{ID: newID(), Version: 1}
		if answer.Person, err = s.split(ctx, tx, &people[0], &fresh, leaving); err != nil {
			return err
		}
		answer.Split = personProto(fresh)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return answer, nil
}

// checkSplit refuses what would not make two people of one.
func checkSplit(p store.Person, leaving []timeline.Employment) error {
	var names []string
	for _, e := range employmentsOf(p.State) {
		names = append(names, e.String())
	}
	list := strings.Join(names, ", ")
	for i, e := range leaving {
		if !p.Has(e) {
			return fault.New(fault.Refused, "%s is no employment of this person: they have %s", e, list)
		}
		if slices.Contains(leaving[:i], e) {
			return fault.New(fault.Invalid, "%s is named twice", e)
		}
	}
	switch {
	case len(names) < 2:
		return fault.New(fault.Refused, "this person has one employment, %s: there is nothing to split", list)
	case len(leaving) == 0:
		return fault.New(fault.Refused, "say which employments become another person's: this one has %s", list)
	case len(leaving) == len(names):
		return fault.New(fault.Refused, "at least one employment stays: this person has %s", list)
	}
	return nil
}

// split makes another person of some employments of one who is taken.
func (s *Service) split(ctx context.Context, tx store.Tx, stays, fresh *store.Person, leaving []timeline.Employment) (*peoplev1.Person, error) {
	before := stays.State
	if err := tx.Transfer(ctx, leaving, stays.ID, fresh.ID); err != nil {
		return nil, err
	}
	r := &regrouping{at: before.At}
	for _, p := range []*store.Person{stays, fresh} {
		if err := r.gather(ctx, tx, p); err != nil {
			return nil, err
		}
	}
	for _, e := range leaving { // a person key goes with the employment, unless one that stays has it too
		key := before.Of(e).Record.PersonKey
		shared := func(s timeline.Standing) bool { return s.Employment.Source == e.Source && s.Record.PersonKey == key }
		if key == "" || slices.ContainsFunc(stays.State.Employments, shared) {
			continue
		}
		if err := tx.MoveKey(ctx, e.Source, key, stays.ID, fresh.ID); err != nil {
			return nil, err
		}
	}
	if err := tx.AddApart(ctx, stays.ID, fresh.ID, r.at, rpc.CallerFrom(ctx).Actor()); err != nil {
		return nil, err
	}
	return s.regroup(ctx, tx, "split", stays.ID, r)
}

func employmentsOf(s timeline.State) []timeline.Employment {
	all := make([]timeline.Employment, len(s.Employments))
	for i, e := range s.Employments {
		all[i] = e.Employment
	}
	return all
}

// regrouping is what people come to whose employments change hands.
type regrouping struct {
	at     time.Time
	people []*store.Person
	before []timeline.State // of each
}

// gather works out what a person comes to by all that is said of the employments that are now theirs.
func (r *regrouping) gather(ctx context.Context, tx store.Tx, p *store.Person) error {
	facts, err := tx.Facts(ctx, []string{p.ID})
	if err != nil {
		return err
	}
	said := make([]timeline.Fact, len(facts))
	for i, f := range facts {
		said[i] = f.Fact
	}
	r.add(p, timeline.At(said, r.at))
	return nil
}

func (r *regrouping) add(p *store.Person, after timeline.State) {
	r.people, r.before = append(r.people, p), append(r.before, p.State)
	p.State = after
}

// regroup stores what people came to, and tells it as an operator's deed. It returns the first of them.
func (s *Service) regroup(ctx context.Context, tx store.Tx, action, object string, r *regrouping) (*peoplev1.Person, error) {
	actor := rpc.CallerFrom(ctx).Actor()
	deed := bus.NewEvent(bus.OperatorSubject(action), &eventv1.OperatorAction{Actor: actor, Action: action, Object: object},
		bus.Cause{TraceParent: telemetry.TraceParent(ctx)})
	if err := s.outbox.Add(ctx, tx.Tx, eventv1.Lane_LANE_NORMAL, deed); err != nil {
		return nil, err
	}
	people := make([]store.Person, len(r.people))
	for i, p := range r.people {
		people[i] = *p
	}
	if err := s.nameThem(ctx, tx, people, r.at); err != nil {
		return nil, err
	}
	var story chapter
	for i := range people {
		r.people[i].UserName = people[i].UserName
		e, tells := timeline.Regrouped(r.before[i], people[i].State, r.at, actor)
		if !tells {
			continue
		}
		if err := story.tell(people[i], e, deed.Cause(), r.at); err != nil {
			return nil, err
		}
	}
	if err := tx.SavePeople(ctx, people); err != nil {
		return nil, err
	}
	if err := s.publish(ctx, tx, story); err != nil {
		return nil, err
	}
	if slices.ContainsFunc(people, func(p store.Person) bool { return soon(p.State.Next, r.at) }) {
		tx.AfterCommit(s.wakeTimers)
	}
	return personProto(people[0]), nil
}
