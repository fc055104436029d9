package ingest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc"

	"github.com/tenurehq/tenure/pkg/bus"
	"github.com/tenurehq/tenure/pkg/fault"
	"github.com/tenurehq/tenure/pkg/rpc"
	"github.com/tenurehq/tenure/pkg/telemetry"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
	peoplev1 "github.com/tenurehq/tenure/proto/gen/tenure/people/v1"
	"github.com/tenurehq/tenure/services/ingest/internal/store"
	"github.com/tenurehq/tenure/services/ingest/source"
)

const (
	// deliveriesListed is how many deliveries are listed when the caller does not say.
	deliveriesListed = 100
	// deliveriesPage is how many deliveries are read and sent at a time.
	deliveriesPage = 500
	// maxKey is the greatest length of a submission's key, in bytes.
	maxKey = 256
)

// Submit implements PeopleService. The records are stored as one delivery in the form of a batch, so that a replay reads
// them as it reads any other.
func (s *Service) Submit(ctx context.Context, req *peoplev1.SubmitRequest) (*peoplev1.SubmitResponse, error) {
	feed, ok := s.sources[req.GetSource()]
	if !ok {
		return nil, fault.New(fault.NotFound, "no source %q: sources are %s", req.GetSource(), strings.Join(s.sourceNames(), ", "))
	}
	if key := req.GetKey(); key == "" || len(key) > maxKey || strings.ContainsRune(key, 0) {
		return nil, fault.New(fault.Invalid, "a key of 1 to %d bytes is needed", maxKey)
	}
	if req.GetRoster() != nil && feed == s.manual {
		return nil, fault.New(fault.Invalid, "operators' own words are no roster")
	}
	if n := len(req.GetRecordsJson()); n == 0 && req.GetRoster() == nil || n > source.MaxItems {
		return nil, fault.New(fault.Invalid, "1 to %d records can be handed in at once, not %d", source.MaxItems, n)
	}
	for n, record := range req.GetRecordsJson() {
		if !json.Valid([]byte(record)) { // else it could close the list that it is put into
			return nil, fault.New(fault.Invalid, "record %d is not JSON", n)
		}
	}
	now := s.now()
	made := now
	if req.GetSourceTime() != nil {
		made = req.GetSourceTime().AsTime()
	}
	body, err := batchBody(req.GetRecordsJson(), req.GetRoster())
	if err != nil {
		return nil, err
	}
	read, err := feed.read(body, made)
	var wrong *source.Error
	switch {
	case errors.As(err, &wrong):
		return nil, fault.New(fault.Invalid, "the records are not what they must be: %s", wrong.Error())
	case err != nil:
		return nil, err
	case req.GetRoster() != nil && read.whole != "":
		return nil, fault.New(fault.Invalid, "%s", read.whole)
	}
	delivery := newDelivery(feed.Name, req.GetKey(), rpc.CallerFrom(ctx).Actor(), body, made, now)
	var out outcome
	err = s.store.InTx(ctx, func(tx store.Tx) (err error) {
		if out, err = s.acceptIn(ctx, tx, delivery, read); err == nil && out.held == heldReused {
			// Whoever is at a prompt can be told; a system that cannot is answered by keeping it for review.
			return fault.New(fault.Exists, "the key %q was used for other records", req.GetKey())
		}
		if err == nil && out.held != "" && req.GetRoster() != nil {
			return fault.New(fault.Refused, "%s", out.held)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	s.count(feed.Name, out)
	return &peoplev1.SubmitResponse{DeliveryId: out.id, Items: itemsProto(out.items)}, nil
}

// batchBody puts records into the generic form's envelope.
func batchBody(records []string, roster *peoplev1.Roster) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString(`{"type":"` + source.TypeBatch + `","data":{`)
	if roster != nil {
		said, err := json.Marshal(map[string]any{
			"id": roster.GetId(), "part": roster.GetPart(), "parts": roster.GetParts(), "total": roster.GetTotal(),
		})
		if err != nil {
			return nil, fmt.Errorf("encode roster: %w", err)
		}
		b.WriteString(`"roster":`)
		b.Write(said)
		b.WriteByte(',')
	}
	b.WriteString(`"people":[`)
	for i, record := range records {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(record)
	}
	b.WriteString(`]}}`)
	return b.Bytes(), nil
}

// ListDeliveries implements PeopleService.
func (s *Service) ListDeliveries(req *peoplev1.ListDeliveriesRequest, stream grpc.ServerStreamingServer[peoplev1.ListDeliveriesResponse]) error {
	left := int(req.GetLimit())
	if left == 0 {
		left = deliveriesListed
	}
	filter := store.DeliveryFilter{Source: req.GetSource(), HeldOnly: req.GetHeldOnly()}
	for left > 0 {
		filter.Limit = min(left, deliveriesPage)
		page, err := s.store.Deliveries(stream.Context(), filter)
		if err != nil {
			return err
		}
		if len(page) == 0 {
			return nil
		}
		answer := &peoplev1.ListDeliveriesResponse{}
		for _, d := range page {
			answer.Deliveries = append(answer.Deliveries, deliveryProto(d))
		}
		if err := stream.Send(answer); err != nil {
			return err
		}
		left -= len(page)
		filter.Before = page[len(page)-1].ID
	}
	return nil
}

// ShowDelivery implements PeopleService.
func (s *Service) ShowDelivery(ctx context.Context, req *peoplev1.ShowDeliveryRequest) (*peoplev1.ShowDeliveryResponse, error) {
	delivery, found, err := s.store.Delivery(ctx, req.GetId())
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, fault.New(fault.NotFound, "no delivery %q", req.GetId())
	}
	items, err := s.store.Items(ctx, delivery.ID)
	if isNotice(delivery) {
		items, err = s.store.Noticed(ctx, delivery.ID)
	}
	if err != nil {
		return nil, err
	}
	return &peoplev1.ShowDeliveryResponse{
		Delivery: deliveryProto(delivery), Items: itemsProto(items), Body: delivery.Body,
	}, nil
}

// ReplayDelivery implements PeopleService. What is understood now is taken in as if it had been when it arrived, except
// that it is known only now. A body under a key that was used before is taken in too: the operator has looked at it.
func (s *Service) ReplayDelivery(ctx context.Context, req *peoplev1.ReplayDeliveryRequest) (*peoplev1.ReplayDeliveryResponse, error) {
	var items []store.Item
	err := s.store.InTx(ctx, func(tx store.Tx) error {
		delivery, found, err := tx.LockDelivery(ctx, req.GetId())
		switch {
		case err != nil:
			return err
		case !found:
			return fault.New(fault.NotFound, "no delivery %q", req.GetId())
		case delivery.Held == "" && delivery.ItemsHeld == 0:
			return fault.New(fault.Refused, "nothing of this delivery is held")
		}
		items, err = s.replay(ctx, tx, delivery)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &peoplev1.ReplayDeliveryResponse{Items: itemsProto(items)}, nil
}

// replay reads what is held of a delivery again and returns what became of it.
func (s *Service) replay(ctx context.Context, tx store.Tx, d store.Delivery) ([]store.Item, error) {
	feed, ok := s.sources[d.Source]
	if !ok {
		return nil, fault.New(fault.Refused, "the source %s is no longer configured", d.Source)
	}
	if isNotice(d) {
		return s.replayNotice(ctx, tx, feed, d)
	}
	read, err := feed.read(d.Body, d.SourceTime)
	var wrong *source.Error
	switch {
	case errors.As(err, &wrong):
		return nil, fault.New(fault.Refused, "the body is not what the source sends now: %s", wrong.Error())
	case err != nil:
		return nil, err
	}
	if read.part != nil {
		return s.replayPart(ctx, tx, d, read)
	}
	before, err := tx.Items(ctx, d.ID)
	if err != nil {
		return nil, err
	}
	read = read.without(before)
	caller := rpc.CallerFrom(ctx).Actor()
	cause := bus.Cause{CorrelationID: d.ID, TraceParent: telemetry.TraceParent(ctx)}
	action := bus.NewEvent(bus.OperatorSubject("replay"), &eventv1.OperatorAction{Actor: caller, Action: "replay", Object: d.ID}, cause)
	if err := s.outbox.Add(ctx, tx.Tx, eventv1.Lane_LANE_NORMAL, action); err != nil {
		return nil, err
	}
	if err := tx.Settle(ctx, d.ID, read.whole, read.items, read.held); err != nil {
		return nil, err
	}
	cause.CausationID = action.ID
	if err := s.understand(ctx, tx, d, read.facts, cause); err != nil {
		return nil, err
	}
	return read.results(), nil
}

// without leaves out the items that were understood before.
func (r reading) without(before []store.Item) reading {
	done := make(map[int]bool)
	for _, item := range before {
		done[item.N] = item.Held == ""
	}
	var facts []store.Fact
	for _, f := range r.facts {
		if !done[int(f.Item)] {
			facts = append(facts, f)
		}
	}
	var held []store.HeldItem
	for _, h := range r.held {
		if !done[h.N] {
			held = append(held, h)
		}
	}
	r.facts, r.held = facts, held
	return r
}
