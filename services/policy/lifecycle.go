package policy

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/tenurehq/tenure/pkg/bus"
	"github.com/tenurehq/tenure/pkg/urgency"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
)

// trigger is what made a person worth deciding about.
type trigger struct {
	event   string    // its id; empty: nothing but repair
	cause   bus.Cause // what the access events inherit
	since   time.Time // when it was committed
	version int64     // ingest must know at least this version of the person; 0: any

	// Of a lifecycle event.
	known    time.Time // when the word was given that has come true; a last day may be known long before
	kind     eventv1.LifecycleKind
	source   string
	delivery string
	actor    string
	changed  []string // fields
}

// together is how many normal events are decided about in one transaction: enough to share its cost, and so few that an urgent
// one need not wait long for its end.
const together = 16

func (s *Service) onUrgent(ctx context.Context, batch []bus.Event) error {
	urgency.Hurry()
	return s.onLifecycle(ctx, batch)
}

func (s *Service) onNormal(ctx context.Context, batch []bus.Event) error {
	for some := range slices.Chunk(batch, together) {
		urgency.GiveWay(ctx)
		if err := s.onLifecycle(ctx, some); err != nil {
			return err
		}
	}
	return nil
}

// onLifecycle decides about the people of a batch. Many events may be about few people: each person is decided about
// once, from what ingest knows now, on account of the newest of their events.
func (s *Service) onLifecycle(ctx context.Context, batch []bus.Event) error {
	triggers := make(map[string]trigger, len(batch))
	for _, e := range batch {
		fact, err := e.Decode()
		if err != nil {
			return err
		}
		lifecycle, ok := fact.(*eventv1.Lifecycle)
		if !ok {
			return bus.Permanent(fmt.Errorf("a %s on a lifecycle subject", e.Type))
		}
		if lifecycle.GetPersonId() == "" {
			return bus.Permanent(fmt.Errorf("a lifecycle event about nobody"))
		}
		version := signed(lifecycle.GetPersonVersion())
		if known, ok := triggers[lifecycle.GetPersonId()]; ok && known.version > version {
			continue
		}
		triggers[lifecycle.GetPersonId()] = trigger{
			event: e.ID, cause: e.Cause(), since: e.Time, version: version,
			known: moment(lifecycle.GetKnownAt()), kind: lifecycle.GetKind(), source: lifecycle.GetSource(), delivery: lifecycle.GetDeliveryId(),
			actor: lifecycle.GetActor(), changed: lifecycle.GetChanged(),
		}
	}
	return s.decide(ctx, triggers)
}
