package ingest

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/tenurehq/tenure/pkg/bus"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
	peoplev1 "github.com/tenurehq/tenure/proto/gen/tenure/people/v1"
	"github.com/tenurehq/tenure/services/ingest/internal/store"
	"github.com/tenurehq/tenure/services/ingest/timeline"
)

// newID makes an id for a person or a delivery: a UUIDv7, in order of time and never used again.
func newID() string { return uuid.Must(uuid.NewV7()).String() }

// settle works out what was said about people who are locked or new, lets time pass for them until now, stores what
// became of it and hands the events to the outbox. It is all one transaction with whatever brought it.
func (s *Service) settle(ctx context.Context, tx store.Tx, people []store.Person, said []store.Fact, cause func(person string) bus.Cause, now time.Time) error {
	slices.SortFunc(people, func(a, b store.Person) int { return strings.Compare(a.ID, b.ID) })
	known, err := s.known(ctx, tx, people)
	if err != nil {
		return err
	}
	news := make(map[string][]timeline.Fact, len(people))
	for _, f := range said {
		news[f.Person] = append(news[f.Person], f.Fact)
	}
	var accepted []store.Fact
	var story chapter
	for i := range people {
		p := &people[i]
		decision := timeline.Step(known[p.ID], news[p.ID], p.State, now)
		p.State = decision.State
		for _, f := range decision.Accepted {
			accepted = append(accepted, store.Fact{Person: p.ID, Fact: f})
		}
		for _, e := range decision.Events {
			from := cause(p.ID)
			if from.CorrelationID == "" {
				from.CorrelationID = origin(e, known[p.ID])
			}
			if err := story.tell(*p, e, from, now); err != nil {
				return err
			}
		}
	}
	if err := s.nameThem(ctx, tx, people, now); err != nil {
		return err
	}
	if err := tx.AddFacts(ctx, accepted); err != nil {
		return err
	}
	if err := tx.SavePeople(ctx, people); err != nil {
		return err
	}
	if err := s.publish(ctx, tx, story); err != nil {
		return err
	}
	if slices.ContainsFunc(people, func(p store.Person) bool { return soon(p.State.Next, now) }) {
		tx.AfterCommit(s.wakeTimers)
	}
	return nil
}

// because is the cause of all that one delivery, or time, brings.
func because(cause bus.Cause) func(person string) bus.Cause {
	return func(string) bus.Cause { return cause }
}

// known loads what was said before about those of the people who are not new.
func (s *Service) known(ctx context.Context, tx store.Tx, people []store.Person) (map[string][]timeline.Fact, error) {
	var ids []string
	for _, p := range people {
		if p.Version > 1 {
			ids = append(ids, p.ID)
		}
	}
	facts, err := tx.Facts(ctx, ids)
	if err != nil {
		return nil, err
	}
	known := make(map[string][]timeline.Fact, len(ids))
	for _, f := range facts {
		known[f.Person] = append(known[f.Person], f.Fact)
	}
	return known, nil
}

// origin is the delivery that led to an event which time alone brought: the one whose word holds then.
func origin(e timeline.Event, known []timeline.Fact) string {
	delivery := ""
	for _, f := range timeline.Ordered(known) {
		if f.Effective.After(e.Effective) {
			break
		}
		delivery = f.DeliveryID
	}
	return delivery
}

// chapter collects the events of one transaction with what they leave out.
type chapter struct {
	urgent, normal []bus.Event
	happenings     []store.Happening
	kinds          []timeline.Kind
}

// tell adds what an event of the timeline means for p.
func (c *chapter) tell(p store.Person, e timeline.Event, cause bus.Cause, now time.Time) error {
	lifecycle := lifecycleProto(p, e)
	changes := make([]*peoplev1.Change, len(e.Changes))
	for i, change := range e.Changes {
		changes[i] = &peoplev1.Change{Field: change.Field, From: change.From, To: change.To}
	}
	happening, err := commit(lifecycle, changes, now)
	if err != nil {
		return err
	}
	lane := eventv1.Lane_LANE_NORMAL
	if e.Kind.Lane() == timeline.Urgent {
		lane = eventv1.Lane_LANE_URGENT
	}
	event := bus.NewEvent(bus.LifecycleSubject(lane, lifecycle.GetKind(), p.ID), lifecycle, cause)
	happening.Person, happening.EventID = p.ID, event.ID
	c.happenings = append(c.happenings, happening)
	c.kinds = append(c.kinds, e.Kind)
	if lane == eventv1.Lane_LANE_URGENT {
		c.urgent = append(c.urgent, event)
	} else {
		c.normal = append(c.normal, event)
	}
	return nil
}

func (s *Service) publish(ctx context.Context, tx store.Tx, c chapter) error {
	if err := tx.AddHappenings(ctx, c.happenings); err != nil {
		return err
	}
	if len(c.urgent) > 0 {
		if err := s.outbox.Add(ctx, tx.Tx, eventv1.Lane_LANE_URGENT, c.urgent...); err != nil {
			return err
		}
	}
	if len(c.normal) > 0 {
		if err := s.outbox.Add(ctx, tx.Tx, eventv1.Lane_LANE_NORMAL, c.normal...); err != nil {
			return err
		}
	}
	if len(c.kinds) > 0 {
		tx.AfterCommit(func() {
			for _, kind := range c.kinds {
				s.metrics.lifecycle.WithLabelValues(kind.String()).Inc()
			}
		})
	}
	return nil
}

// soon tells whether something becomes due before the scheduler looks by itself.
func soon(next, now time.Time) bool { return !next.IsZero() && next.Sub(now) < timerPoll }

func (s *Service) wakeTimers() {
	select {
	case s.wake <- struct{}{}:
	default: // it is awake already
	}
}

// lifecycleProto is the event as the bus has it: names of what changed, never values.
func lifecycleProto(p store.Person, e timeline.Event) *eventv1.Lifecycle {
	return &eventv1.Lifecycle{
		PersonId:      p.ID,
		PersonVersion: count64(p.Version),
		Kind:          eventv1.LifecycleKind(e.Kind),
		Source:        cmp.Or(e.Source, p.Main().Source),
		DeliveryId:    e.DeliveryID,
		Item:          e.Item,
		EffectiveAt:   timestamp(e.Effective),
		KnownAt:       timestamp(e.Known),
		Changed:       e.Changed(),
		Backdated:     e.Backdated,
		Actor:         e.Actor,
	}
}
