package ingest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/tenurehq/tenure/pkg/bus"
	"github.com/tenurehq/tenure/pkg/fault"
	"github.com/tenurehq/tenure/pkg/rpc"
	"github.com/tenurehq/tenure/pkg/telemetry"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
	peoplev1 "github.com/tenurehq/tenure/proto/gen/tenure/people/v1"
	"github.com/tenurehq/tenure/services/ingest/internal/store"
	"github.com/tenurehq/tenure/services/ingest/source"
)

// rostersListed is how many rosters of each source are listed.
const rostersListed = 20

// part is what a delivery says of the roster that it is a part of.
type part struct {
	source.Roster
	made    time.Time
	records []byte // SHA-256: the same part may come in another delivery
}

func newPart(e source.Envelope, made time.Time) *part {
	digest := sha256.New()
	for _, item := range e.Items {
		digest.Write(binary.BigEndian.AppendUint64(nil, uint64(len(item))))
		digest.Write(item)
	}
	return &part{Roster: *e.Roster, made: made.UTC().Truncate(time.Microsecond), records: digest.Sum(nil)}
}

// keep stores a delivery that was added as a part of its roster. Its records wait in its body until all parts are in; what
// cannot be understood of it is held at once, so that the sender is told.
func (s *Service) keep(ctx context.Context, tx store.Tx, d store.Delivery, r reading, cause bus.Cause) (outcome, error) {
	known, why, err := s.join(ctx, tx, d, r)
	switch {
	case err != nil:
		return outcome{}, err
	case known: // the same records in another delivery: a repeat
		return outcome{id: d.ID, items: r.results(), duplicate: true}, tx.HoldDelivery(ctx, d.ID, "", 0)
	case why != "":
		r = r.holdAll(why)
		d.Held, d.ItemsHeld = r.whole, len(r.held)
		if err := tx.HoldDelivery(ctx, d.ID, d.Held, d.ItemsHeld); err != nil {
			return outcome{}, err
		}
	}
	if err := s.hold(ctx, tx, d, r.held, cause); err != nil {
		return outcome{}, err
	}
	return outcome{id: d.ID, held: d.Held, items: r.results(), itemsHeld: d.ItemsHeld}, nil
}

// join makes a delivery a part of its roster. Known: the part is there already, with the same records. Why: it contradicts
// what came before.
func (s *Service) join(ctx context.Context, tx store.Tx, d store.Delivery, r reading) (known bool, why string, err error) {
	p := r.part
	roster, err := tx.OpenRoster(ctx, store.Roster{
		Source: d.Source, ID: p.ID, Parts: p.Parts, Total: p.Total, MadeAt: p.made, ReceivedAt: d.ReceivedAt, Delivery: d.ID,
	})
	if err != nil {
		return false, "", err
	}
	if roster.Parts != p.Parts || roster.Total != p.Total {
		return false, fmt.Sprintf("roster: %d records in %d parts, where another part says %d in %d", p.Total, p.Parts, roster.Total, roster.Parts), nil
	}
	before, found, err := tx.RosterPart(ctx, d.Source, p.ID, p.Part)
	if err != nil {
		return false, "", err
	}
	if found && bytes.Equal(before.Records, p.records) {
		return true, "", nil
	}
	if found {
		return false, fmt.Sprintf("roster: part %d came before with other records", p.Part), nil
	}
	err = tx.AddRosterPart(ctx, store.RosterPart{Source: d.Source, Roster: p.ID, Part: p.Part, Delivery: d.ID, Records: p.records})
	if err != nil {
		return false, "", err
	}
	roster.PartsIn++
	roster.Records += r.items
	if p.made.Before(roster.MadeAt) {
		roster.MadeAt = p.made
	}
	if !d.ReceivedAt.Before(roster.ReceivedAt) {
		roster.ReceivedAt, roster.Delivery = d.ReceivedAt, d.ID
	}
	if roster.PartsIn == roster.Parts && roster.State == store.RosterReceiving {
		roster.State = store.RosterWhole
		tx.AfterCommit(s.wakeJudge)
	}
	return false, "", tx.SaveRoster(ctx, roster)
}

func (s *Service) wakeJudge() {
	select {
	case s.whole <- struct{}{}:
	default: // it is awake already
	}
}

// replayPart reads a part of a roster again. Of a roster that is held the whole is judged again, with the mapping and the
// contract of now; of one that was taken, what is held of the part is taken in if it can be understood now.
func (s *Service) replayPart(ctx context.Context, tx store.Tx, d store.Delivery, read reading) ([]store.Item, error) {
	is, found, err := tx.PartOf(ctx, d.ID)
	if err != nil {
		return nil, err
	}
	action := bus.NewEvent(bus.OperatorSubject("replay"), &eventv1.OperatorAction{
		Actor: rpc.CallerFrom(ctx).Actor(), Action: "replay", Object: d.ID,
	}, bus.Cause{CorrelationID: d.ID, TraceParent: telemetry.TraceParent(ctx)})
	if err := s.outbox.Add(ctx, tx.Tx, eventv1.Lane_LANE_NORMAL, action); err != nil {
		return nil, err
	}
	if !found { // it could not be read before, or contradicted what came before
		known, why, err := s.join(ctx, tx, d, read)
		switch {
		case err != nil:
			return nil, err
		case known:
			read.held = nil
		case why != "":
			return nil, fault.New(fault.Refused, "%s", why)
		}
		return read.results(), tx.Settle(ctx, d.ID, "", read.items, read.held)
	}
	roster, _, err := tx.LockRoster(ctx, is.Source, is.Roster)
	if err != nil {
		return nil, err
	}
	switch roster.State {
	case store.RosterHeld:
		return nil, s.judgeAgain(ctx, tx, roster, "")
	case store.RosterTaken, store.RosterSuperseded:
	default:
		return nil, fault.New(fault.Refused, "it is a part of the roster %s, which is not judged yet", roster.ID)
	}
	before, err := tx.Items(ctx, d.ID)
	if err != nil {
		return nil, err
	}
	read = read.only(before)
	if err := tx.Settle(ctx, d.ID, "", d.Items, read.held); err != nil {
		return nil, err
	}
	cause := bus.Cause{CorrelationID: d.ID, CausationID: action.ID, TraceParent: telemetry.TraceParent(ctx)}
	return read.results(), s.understand(ctx, tx, d, read.facts, cause)
}

// only leaves out the items that were not held before.
func (r reading) only(before []store.Item) reading {
	held := make(map[int]bool)
	for _, item := range before {
		held[item.N] = item.Held != ""
	}
	var others []store.Item
	for _, item := range r.results() {
		if !held[item.N] {
			others = append(others, store.Item{N: item.N})
		}
	}
	return r.without(others)
}

// judgeAgain lets a roster that is held be judged once more; with the name of who accepts it, it will be taken in whatever
// clause it breaks.
func (s *Service) judgeAgain(ctx context.Context, tx store.Tx, roster store.Roster, acceptedBy string) error {
	if err := tx.ForgetRosterPeople(ctx, roster.Source, roster.ID); err != nil {
		return err
	}
	if err := tx.HoldParts(ctx, roster.Source, roster.ID, ""); err != nil {
		return err
	}
	roster.State, roster.JudgedAt, roster.Held, roster.AcceptedBy = store.RosterWhole, time.Time{}, "", acceptedBy
	tx.AfterCommit(s.wakeJudge)
	return tx.SaveRoster(ctx, roster)
}

// AcceptRoster implements PeopleService.
func (s *Service) AcceptRoster(ctx context.Context, req *peoplev1.AcceptRosterRequest) (*peoplev1.AcceptRosterResponse, error) {
	caller := rpc.CallerFrom(ctx).Actor()
	err := s.store.InTx(ctx, func(tx store.Tx) error {
		roster, found, err := tx.LockRoster(ctx, req.GetSource(), req.GetId())
		switch {
		case err != nil:
			return err
		case !found:
			return fault.New(fault.NotFound, "no roster %q of a source %q", req.GetId(), req.GetSource())
		case roster.State != store.RosterHeld:
			return fault.New(fault.Refused, "the roster %s of %s is not held", roster.ID, roster.Source)
		case s.sources[roster.Source] == nil:
			return fault.New(fault.Refused, "the source %s is no longer configured", roster.Source)
		}
		// The id is the source's own text: the record names the roster by its newest part.
		action := bus.NewEvent(bus.OperatorSubject("accept-roster"), &eventv1.OperatorAction{
			Actor: caller, Action: "accept-roster", Object: roster.Delivery,
		}, bus.Cause{CorrelationID: roster.Delivery, TraceParent: telemetry.TraceParent(ctx)})
		if err := s.outbox.Add(ctx, tx.Tx, eventv1.Lane_LANE_NORMAL, action); err != nil {
			return err
		}
		return s.judgeAgain(ctx, tx, roster, caller)
	})
	if err != nil {
		return nil, err
	}
	rosters, err := s.rosters(ctx, req.GetSource(), req.GetId())
	if err != nil || len(rosters) != 1 {
		return nil, err
	}
	return &peoplev1.AcceptRosterResponse{Roster: rosters[0]}, nil
}

// ListRosters implements PeopleService.
func (s *Service) ListRosters(ctx context.Context, req *peoplev1.ListRostersRequest) (*peoplev1.ListRostersResponse, error) {
	rosters, err := s.rosters(ctx, req.GetSource(), req.GetId())
	if err != nil {
		return nil, err
	}
	return &peoplev1.ListRostersResponse{Rosters: rosters}, nil
}

// rosters are those asked for; the deliveries are told of one that is asked for by id.
func (s *Service) rosters(ctx context.Context, source, id string) ([]*peoplev1.RosterState, error) {
	limit := rostersListed
	if id != "" {
		limit = 1 << 30
	}
	found, err := s.store.Rosters(ctx, source, id, limit)
	if err != nil {
		return nil, err
	}
	states := make([]*peoplev1.RosterState, len(found))
	for i, r := range found {
		states[i] = rosterProto(r)
		if id == "" || source == "" {
			continue
		}
		parts, err := s.store.RosterParts(ctx, r.Source, r.ID)
		if err != nil {
			return nil, err
		}
		for _, part := range parts {
			states[i].Deliveries = append(states[i].Deliveries, part.Delivery)
		}
	}
	return states, nil
}

func rosterProto(r store.Roster) *peoplev1.RosterState {
	return &peoplev1.RosterState{
		Source: r.Source, Id: r.ID, Parts: count32(r.Parts), PartsIn: count32(r.PartsIn),
		Total: count64(int64(r.Total)), Records: count64(int64(r.Records)),
		ReceivedAt: timestamp(r.ReceivedAt), JudgedAt: timestamp(r.JudgedAt), Held: r.Held,
		Changed: count64(int64(r.Changed)), Absent: count64(int64(r.Absent)), MadeAt: timestamp(r.MadeAt),
		TakenAt: timestamp(r.TakenAt), AcceptedBy: r.AcceptedBy, Superseded: r.State == store.RosterSuperseded,
	}
}
