package ingest

import (
	"context"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc"

	"github.com/tenurehq/tenure/pkg/bus"
	"github.com/tenurehq/tenure/pkg/fault"
	"github.com/tenurehq/tenure/pkg/rpc"
	"github.com/tenurehq/tenure/pkg/telemetry"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
	peoplev1 "github.com/tenurehq/tenure/proto/gen/tenure/people/v1"
	"github.com/tenurehq/tenure/services/ingest/internal/store"
)

const (
	// maxCutAlone is how many people one-operator orders may cut in cutWindow: one operator's token must not empty a company.
	maxCutAlone = 20
	// cutWindow is over which time they are counted, and for how long a second operator may confirm an order.
	cutWindow = time.Hour
	// maxReason is the greatest length of a reason, in bytes.
	maxReason = 1000
	// cutsPage is how many people's cuts are read and sent at a time.
	cutsPage = 1000
)

// CutPerson implements PeopleService. Who is cut is cut: the same order again changes nothing.
func (s *Service) CutPerson(ctx context.Context, req *peoplev1.CutPersonRequest) (*peoplev1.CutPersonResponse, error) {
	reason, err := reasonOf(req.GetReason())
	if err != nil {
		return nil, err
	}
	person, err := s.find(ctx, req.GetRef())
	if err != nil {
		return nil, err
	}
	answer := &peoplev1.CutPersonResponse{}
	err = s.store.InTx(ctx, func(tx store.Tx) (err error) {
		if err = tx.TakeCutTurn(ctx); err != nil {
			return err
		}
		if answer.NeedsSecond, err = s.cutIn(ctx, tx, person.ID, reason); err != nil {
			return err
		}
		answer.Person, err = shown(ctx, tx, person.ID)
		return err
	})
	if err != nil {
		return nil, err
	}
	return answer, nil
}

// reasonOf is an operator's reason as it is kept.
func reasonOf(text string) (string, error) {
	reason := strings.TrimSpace(text)
	if reason == "" || len(reason) > maxReason || !utf8.ValidString(reason) || strings.ContainsRune(reason, 0) {
		return "", fault.New(fault.Invalid, "a reason of 1 to %d bytes is needed", maxReason)
	}
	return reason, nil
}

// cutIn cuts a person who is not cut, or keeps the order for a second operator to confirm.
func (s *Service) cutIn(ctx context.Context, tx store.Tx, person, reason string) (needsSecond bool, err error) {
	standing, err := tx.Standing(ctx, []string{person})
	if err != nil || len(standing) > 0 {
		return false, err
	}
	now, caller := s.now(), rpc.CallerFrom(ctx).Actor()
	since := now.Add(-cutWindow)
	asked, waits, err := tx.CutRequest(ctx, person, since)
	if err != nil {
		return false, err
	}
	order := store.Cut{Person: person, At: now, Actor: caller, Reason: reason}
	if waits && asked.Actor != caller {
		order.Actor, order.Second, order.Reason = asked.Actor, caller, asked.Reason
		return false, s.cut(ctx, tx, order)
	}
	alone, err := tx.CutAlone(ctx, since, person)
	if err != nil {
		return false, err
	}
	if alone < maxCutAlone {
		return false, s.cut(ctx, tx, order)
	}
	if waits {
		return true, nil // the same order again
	}
	if err := tx.DropCutRequests(ctx, person, since); err != nil {
		return false, err
	}
	if err := tx.AddCutRequest(ctx, store.CutRequest{Person: person, At: now, Actor: caller, Reason: reason}); err != nil {
		return false, err
	}
	return true, s.act(ctx, tx, "cut-request", person, bus.Cause{TraceParent: telemetry.TraceParent(ctx)})
}

// cut makes it so: it is a fact about the person like any other, so it raises their version.
func (s *Service) cut(ctx context.Context, tx store.Tx, order store.Cut) error {
	people, err := tx.Lock(ctx, []string{order.Person})
	if err != nil {
		return err
	}
	if len(people) != 1 || people[0].MergedInto != "" {
		return fault.New(fault.Conflict, "this person is gone: look and try again")
	}
	order.Version = people[0].Version
	if err := tx.AddCut(ctx, order); err != nil {
		return err
	}
	if err := tx.DropCutRequests(ctx, order.Person, order.At.Add(-cutWindow)); err != nil {
		return err
	}
	cause, err := s.announce(ctx, tx, eventv1.LifecycleKind_LIFECYCLE_KIND_CUT, order.Person, order.Version, order.Actor, order.Reason, order.At)
	if err != nil || order.Second == "" {
		return err
	}
	return s.act(ctx, tx, "cut-confirm", order.Person, cause)
}

// LiftPerson implements PeopleService. Who was lifted is lifted: the same order again changes nothing.
func (s *Service) LiftPerson(ctx context.Context, req *peoplev1.LiftPersonRequest) (*peoplev1.LiftPersonResponse, error) {
	reason, err := reasonOf(req.GetReason())
	if err != nil {
		return nil, err
	}
	person, err := s.find(ctx, req.GetRef())
	if err != nil {
		return nil, err
	}
	answer := &peoplev1.LiftPersonResponse{}
	err = s.store.InTx(ctx, func(tx store.Tx) (err error) {
		if err = tx.TakeCutTurn(ctx); err != nil {
			return err
		}
		if err = s.liftIn(ctx, tx, person.ID, reason); err != nil {
			return err
		}
		answer.Person, err = shown(ctx, tx, person.ID)
		return err
	})
	if err != nil {
		return nil, err
	}
	return answer, nil
}

func (s *Service) liftIn(ctx context.Context, tx store.Tx, person, reason string) error {
	newest, err := tx.NewestCuts(ctx, []string{person})
	if err != nil {
		return err
	}
	c, ever := newest[person]
	switch {
	case !ever:
		return fault.New(fault.Refused, "this person was never cut")
	case !c.Stands():
		return nil
	}
	people, err := tx.Lock(ctx, []string{person})
	if err != nil {
		return err
	}
	if len(people) != 1 {
		return fault.New(fault.Conflict, "this person is gone: look and try again")
	}
	c.LiftedVersion, c.LiftedAt, c.LiftedBy, c.LiftedReason = people[0].Version, s.now(), rpc.CallerFrom(ctx).Actor(), reason
	if err := tx.LiftCut(ctx, c); err != nil {
		return err
	}
	_, err = s.announce(ctx, tx, eventv1.LifecycleKind_LIFECYCLE_KIND_LIFT, person, c.LiftedVersion, c.LiftedBy, reason, c.LiftedAt)
	return err
}

// announce publishes a cut or a lift in the transaction that makes it so. The reason is among what the event leaves out.
// Both travel in the urgent lane, so that neither overtakes the other.
func (s *Service) announce(
	ctx context.Context, tx store.Tx, kind eventv1.LifecycleKind, person string, version int64, actor, reason string, at time.Time,
) (bus.Cause, error) {
	lifecycle := &eventv1.Lifecycle{
		PersonId: person, PersonVersion: count64(version), Kind: kind, EffectiveAt: timestamp(at), KnownAt: timestamp(at), Actor: actor,
	}
	happening, err := commit(lifecycle, []*peoplev1.Change{{Field: "reason", To: reason}}, at)
	if err != nil {
		return bus.Cause{}, err
	}
	if err := s.cutKey.Sign(lifecycle); err != nil {
		return bus.Cause{}, err
	}
	event := bus.NewEvent(bus.LifecycleSubject(eventv1.Lane_LANE_URGENT, kind, person), lifecycle, bus.Cause{TraceParent: telemetry.TraceParent(ctx)})
	happening.Person, happening.EventID = person, event.ID
	if err := tx.AddHappenings(ctx, []store.Happening{happening}); err != nil {
		return bus.Cause{}, err
	}
	if err := s.outbox.Add(ctx, tx.Tx, eventv1.Lane_LANE_URGENT, event); err != nil {
		return bus.Cause{}, err
	}
	name := strings.ToLower(strings.TrimPrefix(kind.String(), "LIFECYCLE_KIND_"))
	tx.AfterCommit(func() { s.metrics.lifecycle.WithLabelValues(name).Inc() })
	return event.Cause(), nil
}

// act says that an operator did something that is no other fact.
func (s *Service) act(ctx context.Context, tx store.Tx, action, object string, cause bus.Cause) error {
	event := bus.NewEvent(bus.OperatorSubject(action), &eventv1.OperatorAction{
		Actor: rpc.CallerFrom(ctx).Actor(), Action: action, Object: object,
	}, cause)
	return s.outbox.Add(ctx, tx.Tx, eventv1.Lane_LANE_NORMAL, event)
}

// GetCuts implements PeopleService. It reads page by page, as Versions does.
func (s *Service) GetCuts(req *peoplev1.GetCutsRequest, stream grpc.ServerStreamingServer[peoplev1.GetCutsResponse]) error {
	if len(req.GetPersonIds()) > maxIDs {
		return fault.New(fault.Invalid, "at most %d people can be asked for at once", maxIDs)
	}
	answer := &peoplev1.GetCutsResponse{PublicKey: s.cutKey.Public()}
	if len(req.GetPersonIds()) > 0 {
		cuts, err := s.store.NewestCuts(stream.Context(), req.GetPersonIds())
		if err != nil {
			return err
		}
		for _, c := range cuts {
			answer.Cuts = append(answer.Cuts, cutState(c))
		}
		return stream.Send(answer)
	}
	for after := ""; ; {
		page, err := s.store.CutsPage(stream.Context(), after, cutsPage)
		if err != nil {
			return err
		}
		for _, c := range page {
			answer.Cuts = append(answer.Cuts, cutState(c))
		}
		if err := stream.Send(answer); err != nil { // the first one also where nobody was ever cut: it has the key
			return err
		}
		if len(page) < cutsPage {
			return nil
		}
		after, answer = page[len(page)-1].Person, &peoplev1.GetCutsResponse{}
	}
}

func cutState(c store.Cut) *peoplev1.CutState {
	if c.Stands() {
		return &peoplev1.CutState{PersonId: c.Person, PersonVersion: count64(c.Version), Cut: true, At: timestamp(c.At)}
	}
	return &peoplev1.CutState{PersonId: c.Person, PersonVersion: count64(c.LiftedVersion), At: timestamp(c.LiftedAt)}
}

// cutReader reads the cuts that stand, in a transaction or outside.
type cutReader interface {
	Standing(ctx context.Context, people []string) (map[string]store.Cut, error)
}

// addCuts adds to people the cuts that stand. It comes after people were read: who was cut meanwhile is shown as cut at the
// version before, and never as not cut at the version after.
func addCuts(ctx context.Context, from cutReader, people ...*peoplev1.Person) error {
	ids := make([]string, len(people))
	for i, p := range people {
		ids[i] = p.GetId()
	}
	standing, err := from.Standing(ctx, ids)
	if err != nil {
		return err
	}
	for _, p := range people {
		if c, ok := standing[p.GetId()]; ok {
			p.Cut = &peoplev1.Cut{At: timestamp(c.At), Actor: c.Actor, Second: c.Second, Reason: c.Reason, PersonVersion: count64(c.Version)}
		}
	}
	return nil
}

// shown is a person as the transaction leaves them.
func shown(ctx context.Context, tx store.Tx, id string) (*peoplev1.Person, error) {
	people, err := tx.People(ctx, []string{id})
	if err != nil {
		return nil, err
	}
	if len(people) != 1 {
		return nil, fault.New(fault.NotFound, "no person has the id %q", id)
	}
	person := personProto(people[0])
	return person, addCuts(ctx, tx, person)
}
