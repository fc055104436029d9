package policy

import (
	"bytes"
	"context"
	"errors"
	"slices"

	"github.com/tenurehq/tenure/pkg/bus"
	"github.com/tenurehq/tenure/pkg/fault"
	accessv1 "github.com/tenurehq/tenure/proto/gen/tenure/access/v1"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
	"github.com/tenurehq/tenure/services/policy/brake"
	"github.com/tenurehq/tenure/services/policy/internal/store"
)

// maxSteps is how much a worker may ask for at once.
const maxSteps = 1000

// Release gives a worker permission to take away what no decision ordered, or keeps it back: it counts in the brake's
// windows as decisions do. While a decision about the person is held nothing else is taken from them either.
func (s *Service) Release(ctx context.Context, request *accessv1.ReleaseRequest) (*accessv1.ReleaseResponse, error) {
	if _, ok := s.application(request.GetApplication()); !ok {
		return nil, noSuchApplication(request.GetApplication())
	}
	if request.GetPersonId() == "" || len(request.GetSteps()) > maxSteps {
		return nil, fault.New(fault.Invalid, "a release is for one person and at most %d steps", maxSteps)
	}
	asked := askedFor(request)
	response, err := s.releaseOnce(ctx, asked, false)
	if errors.Is(err, errDoubt) {
		response, err = s.releaseOnce(ctx, asked, true)
	}
	return response, err
}

// askedFor is what a worker wants to take away.
func askedFor(request *accessv1.ReleaseRequest) *impact {
	app := request.GetApplication()
	what := &accessv1.HeldAccess{Application: app}
	for _, step := range request.GetSteps() {
		target := step.GetTarget()
		if step.GetOp() != eventv1.Op_OP_REVOKE {
			target = "" // the account itself, or what lets somebody into it
		}
		what.Loses = append(what.Loses, target)
	}
	slices.Sort(what.Loses)
	what.Loses = slices.Compact(what.Loses)
	r := &impact{
		apps: []string{app}, cause: brake.Cause{Kind: "drift", Source: app},
		effects: &accessv1.HeldPerson{PersonId: request.GetPersonId(), Application: app, Applications: []*accessv1.HeldAccess{what}},
	}
	r.digest = digestOf(r.effects)
	if len(what.GetLoses()) == 0 {
		r.apps = nil
	}
	return r
}

// releaseOnce judges by a recent count of people. Unless that is sure nothing is held: it ends with errDoubt.
func (s *Service) releaseOnce(ctx context.Context, r *impact, sure bool) (*accessv1.ReleaseResponse, error) {
	population, err := s.population(ctx, sure)
	if err != nil {
		return nil, err
	}
	var response *accessv1.ReleaseResponse
	err = s.store.InTx(ctx, func(tx store.Tx) error {
		if err := tx.LockBrake(ctx); err != nil {
			return err
		}
		held, err := tx.HeldOf(ctx, r.effects.GetPersonId())
		if err != nil {
			return err
		}
		was := held[r.effects.GetApplication()]
		same := was.Status != store.NotHeld && bytes.Equal(was.Digest, r.digest)
		switch decision := held[""]; {
		case len(r.apps) == 0:
			response = &accessv1.ReleaseResponse{}
			return s.drop(ctx, tx, was)
		case decision.Status != store.NotHeld:
			response = &accessv1.ReleaseResponse{Hold: decision.Hold}
			return nil
		case same && was.Status == store.Released:
			response = &accessv1.ReleaseResponse{Release: was.Release}
			return nil
		case same:
			response = &accessv1.ReleaseResponse{Hold: was.Hold}
			return nil
		}
		verdicts, err := s.judge(ctx, tx, population, []brake.Change{r.change(r.effects.GetPersonId())})
		if err != nil {
			return err
		}
		if !verdicts[0].Released() && !sure {
			return errDoubt
		}
		now := s.now()
		hold := store.Held{
			Person: r.effects.GetPersonId(), Application: r.effects.GetApplication(), Hold: r.cause.ID(), Status: store.Open,
			Digest: r.digest, Effects: effectsOf(r.effects, r.cause, verdicts[0].String(), now), OpenedAt: now,
		}
		if verdicts[0].Released() {
			event := driftEvent(hold, eventv1.HoldState_HOLD_STATE_PERMITTED)
			response = &accessv1.ReleaseResponse{Release: event.ID}
			if err := s.drop(ctx, tx, was); err != nil {
				return err
			}
			return s.outbox.Add(ctx, tx.Tx, eventv1.Lane_LANE_NORMAL, event)
		}
		response = &accessv1.ReleaseResponse{Hold: hold.Hold}
		if err := tx.PutHeld(ctx, []store.Held{hold}); err != nil {
			return err
		}
		return s.outbox.Add(ctx, tx.Tx, eventv1.Lane_LANE_NORMAL, driftEvent(hold, eventv1.HoldState_HOLD_STATE_OPENED))
	})
	if err != nil {
		return nil, err
	}
	return response, nil
}

// drop ends what is held of a worker's wish: it is not asked for any more, or has room now.
func (s *Service) drop(ctx context.Context, tx store.Tx, was store.Held) error {
	if was.Status == store.NotHeld {
		return nil
	}
	if err := tx.DropHeld(ctx, was.Application, []string{was.Person}); err != nil {
		return err
	}
	return s.outbox.Add(ctx, tx.Tx, eventv1.Lane_LANE_NORMAL, driftEvent(was, eventv1.HoldState_HOLD_STATE_ENDED))
}

func driftEvent(h store.Held, state eventv1.HoldState) bus.Event {
	return bus.NewEvent(bus.HoldSubject(state), &eventv1.Hold{
		HoldId: h.Hold, State: state, PersonId: h.Person, Application: h.Application,
	}, bus.Cause{})
}
