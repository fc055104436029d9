package policy

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/tenurehq/tenure/pkg/bus"
	"github.com/tenurehq/tenure/pkg/fault"
	"github.com/tenurehq/tenure/pkg/rpc"
	"github.com/tenurehq/tenure/pkg/telemetry"
	accessv1 "github.com/tenurehq/tenure/proto/gen/tenure/access/v1"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
	"github.com/tenurehq/tenure/services/policy/brake"
	"github.com/tenurehq/tenure/services/policy/internal/store"
)

// holdTag keeps the hash of a hold from being taken for one of another sort.
const holdTag = "tenure.access.v1.Hold\x00"

// ListHolds returns what is kept back, by cause, the greatest first.
func (s *Service) ListHolds(ctx context.Context, request *accessv1.ListHoldsRequest) (*accessv1.ListHoldsResponse, error) {
	_, holds, err := s.holds(ctx, request.GetRejected())
	if err != nil {
		return nil, err
	}
	return &accessv1.ListHoldsResponse{Holds: holds}, nil
}

// holds returns what is open, or was rejected, and the same by cause.
func (s *Service) holds(ctx context.Context, rejected bool) ([]store.Held, []*accessv1.Hold, error) {
	if rejected { // nobody can ask for anything about it any more
		held, err := s.store.AllHeld(ctx, store.Rejected)
		return held, holdsOf(held, nil), err
	}
	held, err := s.store.AllHeld(ctx, store.Open)
	if err != nil {
		return nil, nil, err
	}
	requests, err := s.store.Requests(ctx)
	return held, holdsOf(held, requests), err
}

// ShowHold streams one hold with its people.
func (s *Service) ShowHold(request *accessv1.ShowHoldRequest, stream grpc.ServerStreamingServer[accessv1.ShowHoldResponse]) error {
	held, holds, err := s.holds(stream.Context(), request.GetRejected())
	if err != nil {
		return err
	}
	response := &accessv1.ShowHoldResponse{}
	for _, h := range holds {
		if h.GetId() == request.GetId() {
			response.Hold = h
		}
	}
	if response.GetHold() == nil {
		return noSuchHold(request.GetId(), request.GetRejected())
	}
	for _, h := range held {
		if h.Hold != request.GetId() {
			continue
		}
		response.People = append(response.People, h.Effects)
		if len(response.GetPeople()) == page {
			if err := stream.Send(response); err != nil {
				return err
			}
			response = &accessv1.ShowHoldResponse{}
		}
	}
	return stream.Send(response)
}

func noSuchHold(id string, rejected bool) error {
	if rejected {
		return fault.New(fault.NotFound, "nothing of a hold %q was rejected", id)
	}
	return fault.New(fault.NotFound, "no hold %q is open", id)
}

// holdsOf groups what is held by cause; all of it is open, or was rejected.
func holdsOf(held []store.Held, requests map[string]store.Request) []*accessv1.Hold {
	members := map[string][]store.Held{}
	changes := make([]brake.Change, len(held))
	for i, h := range held {
		members[h.Hold] = append(members[h.Hold], h)
		changes[i] = brake.Change{Person: h.Person, Cause: causeFromProto(h.Effects.GetCause())}
	}
	var all []*accessv1.Hold
	for _, c := range brake.Clusters(changes) {
		id := c.Cause.ID()
		hold := &accessv1.Hold{
			Id: id, Cause: causeToProto(c.Cause), Words: c.String(), People: uint64(len(members[id])), Hash: hashOf(id, members[id]),
			Rejected: members[id][0].Status == store.Rejected,
		}
		var since time.Time
		for _, h := range members[id] {
			since = earliest(since, h.OpenedAt)
		}
		hold.Since = timestamp(since)
		if r, ok := requests[id]; ok {
			hold.Request = &accessv1.HoldRequest{
				Reject: r.Verdict == store.Rejected, Actor: r.Actor, At: timestamp(r.At), Outdated: !bytes.Equal(r.Hash, hold.GetHash()),
			}
		}
		all = append(all, hold)
	}
	return all
}

// hashOf is SHA-256 over whom a hold keeps back and what would be done about each of them: a hold that gained, lost or
// changed somebody has another one. held must be in order of person and application.
func hashOf(id string, held []store.Held) []byte {
	h := sha256.New()
	fmt.Fprintf(h, "%s%s", holdTag, id)
	for _, one := range held {
		h.Write([]byte{0})
		h.Write(one.Digest) // which names the person and the application, too
	}
	return h.Sum(nil)
}

// ReleaseHold has what is kept back done, once two people agree.
func (s *Service) ReleaseHold(ctx context.Context, request *accessv1.ReleaseHoldRequest) (*accessv1.ReleaseHoldResponse, error) {
	people, needsSecond, err := s.conclude(ctx, request.GetId(), request.GetHash(), store.Released)
	if err != nil {
		return nil, err
	}
	return &accessv1.ReleaseHoldResponse{NeedsSecond: needsSecond, People: people}, nil
}

// RejectHold has people keep what they have, once two people agree.
func (s *Service) RejectHold(ctx context.Context, request *accessv1.RejectHoldRequest) (*accessv1.RejectHoldResponse, error) {
	people, needsSecond, err := s.conclude(ctx, request.GetId(), request.GetHash(), store.Rejected)
	if err != nil {
		return nil, err
	}
	return &accessv1.RejectHoldResponse{NeedsSecond: needsSecond, People: people}, nil
}

// conclude keeps the first operator's word as a request and carries it out at the second one's. Both must have been shown
// exactly what is kept back now.
func (s *Service) conclude(ctx context.Context, id string, hash []byte, verdict store.Status) (people uint64, needsSecond bool, err error) {
	actor := rpc.CallerFrom(ctx).Actor()
	err = s.store.InTx(ctx, func(tx store.Tx) error {
		if err := tx.LockBrake(ctx); err != nil {
			return err
		}
		held, err := tx.OfHold(ctx, id)
		if err != nil {
			return err
		}
		if people = uint64(len(held)); people == 0 {
			return noSuchHold(id, false)
		}
		if !bytes.Equal(hash, hashOf(id, held)) {
			return fault.New(fault.Conflict, "hold %s is not what was shown any more: look at it again", id)
		}
		asked, err := tx.Request(ctx, id)
		if err != nil {
			return err
		}
		needsSecond = asked.Actor == "" || asked.Verdict != verdict || !bytes.Equal(asked.Hash, hash)
		if !needsSecond && asked.Actor == actor {
			return fault.New(fault.Refused, "%s asked for this: another operator has to agree", actor)
		}
		event := holdEvent(ctx, id, verdict, needsSecond, hash, held, actor)
		if needsSecond {
			err = tx.PutRequest(ctx, store.Request{Hold: id, Verdict: verdict, Hash: hash, Actor: actor, At: s.now()})
		} else if err = tx.Conclude(ctx, id, verdict, event.ID); err == nil {
			err = tx.DropRequest(ctx, id)
		}
		if err != nil {
			return err
		}
		return s.outbox.Add(ctx, tx.Tx, eventv1.Lane_LANE_URGENT, event)
	})
	if err != nil {
		return 0, false, err
	}
	s.log.Info("an operator decided about a hold", zap.String("hold", id), zap.String(telemetry.FieldCaller, actor),
		zap.Bool("reject", verdict == store.Rejected), zap.Bool("needs_second", needsSecond), zap.Uint64("people", people))
	return people, needsSecond, nil
}

func holdEvent(ctx context.Context, id string, verdict store.Status, needsSecond bool, hash []byte, held []store.Held, actor string) bus.Event {
	state := eventv1.HoldState_HOLD_STATE_RELEASED
	switch {
	case needsSecond && verdict == store.Rejected:
		state = eventv1.HoldState_HOLD_STATE_REJECT_REQUESTED
	case needsSecond:
		state = eventv1.HoldState_HOLD_STATE_RELEASE_REQUESTED
	case verdict == store.Rejected:
		state = eventv1.HoldState_HOLD_STATE_REJECTED
	}
	return bus.NewEvent(bus.HoldSubject(state), &eventv1.Hold{
		HoldId: id, State: state, Hash: hash, People: count(len(held)), Actor: actor,
	}, bus.Cause{TraceParent: telemetry.TraceParent(ctx)})
}

// releaseHeld decides about those whose hold two people released, and counts what is open.
func (s *Service) releaseHeld(ctx context.Context) error {
	holds, people, err := s.store.CountHeld(ctx)
	if err != nil {
		return err
	}
	s.metrics.holds.Set(float64(holds))
	s.metrics.held.Set(float64(people))
	after := ""
	for {
		released, err := s.store.ReleasedPeople(ctx, after, repairBatch)
		if err != nil || len(released) == 0 {
			return err
		}
		due := make(map[string]trigger, len(released))
		for _, id := range released {
			due[id] = trigger{}
		}
		if err := s.decide(ctx, due); err != nil {
			return err
		}
		after = released[len(released)-1]
	}
}
