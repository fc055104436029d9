package ingest

import (
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	peoplev1 "github.com/tenurehq/tenure/proto/gen/tenure/people/v1"
	"github.com/tenurehq/tenure/services/ingest/internal/store"
	"github.com/tenurehq/tenure/services/ingest/internal/wire"
	"github.com/tenurehq/tenure/services/ingest/timeline"
)

func timestamp(t time.Time) *timestamppb.Timestamp { return wire.Time(t) }

// count32 and count64 are for numbers that only count, and so are never negative.
func count32(n int) uint32   { return uint32(max(n, 0)) } //nolint:gosec // what a delivery holds
func count64(n int64) uint64 { return uint64(max(n, 0)) }

func personProto(p store.Person) *peoplev1.Person {
	employments := make([]*peoplev1.Employment, len(p.State.Employments))
	for i, e := range p.State.Employments {
		employments[i] = wire.Employment(e)
	}
	return &peoplev1.Person{
		Id:          p.ID,
		Version:     count64(p.Version),
		UserName:    p.UserName,
		Status:      peoplev1.PersonStatus(p.State.Status),
		Record:      wire.Record(p.State.Record),
		Employments: employments,
		NextDue:     timestamp(p.State.Next),
		StartedAt:   timestamp(p.State.StartedAt),
		EndedAt:     timestamp(p.State.EndedAt),
		MergedInto:  p.MergedInto,
	}
}

func factProto(f timeline.Fact, superseded bool) *peoplev1.Fact {
	return &peoplev1.Fact{
		Record:      wire.Record(f.Record),
		EffectiveAt: timestamp(f.Effective),
		SourceTime:  timestamp(f.SourceTime),
		KnownAt:     timestamp(f.Known),
		Source:      f.Source,
		DeliveryId:  f.DeliveryID,
		Item:        f.Item,
		Actor:       f.Actor,
		Superseded:  superseded,
	}
}

func deliveryProto(d store.Delivery) *peoplev1.Delivery {
	return &peoplev1.Delivery{
		Id:         d.ID,
		Source:     d.Source,
		Key:        d.Key,
		ReceivedAt: timestamp(d.ReceivedAt),
		Held:       d.Held,
		Items:      count32(d.Items),
		ItemsHeld:  count32(d.ItemsHeld),
		Actor:      d.Actor,
	}
}

func itemProto(item store.Item) *peoplev1.ItemResult {
	return &peoplev1.ItemResult{
		Item: count32(item.N), ExternalId: item.ExternalID, PersonId: item.Person, Held: item.Held,
	}
}

func itemsProto(items []store.Item) []*peoplev1.ItemResult {
	results := make([]*peoplev1.ItemResult, len(items))
	for i, item := range items {
		results[i] = itemProto(item)
	}
	return results
}
