package ingest

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/tenurehq/tenure/pkg/batch"
	"github.com/tenurehq/tenure/pkg/bus"
	"github.com/tenurehq/tenure/pkg/telemetry"
	"github.com/tenurehq/tenure/services/ingest/internal/store"
)

const (
	// togetherMax is how many deliveries share a transaction at most.
	togetherMax = 32
	// togetherWait is how long they have together. One who is held up, by somebody else's transaction, holds up the others for as long;
	// then each has the rest of commitWait by itself.
	togetherWait = 2 * time.Second
)

// arrival is a delivery of one fact, on its way into a transaction that it may share with others of its source.
type arrival struct {
	delivery store.Delivery
	fact     store.Fact
	cause    bus.Cause
	over     <-chan struct{} // closed when its sender is not answered any more
	stored   bool            // else it has to be looked at by itself
}

func newArrival(ctx context.Context, d store.Delivery, r reading) *arrival {
	d.Items = r.items
	return &arrival{delivery: d, fact: r.facts[0], cause: causeOf(ctx, d), over: ctx.Done()}
}

func (a *arrival) isOver() bool {
	select {
	case <-a.over:
		return true
	default:
		return false
	}
}

// newArrivals stores what arrives at a source while an earlier transaction of it is under way in the next one.
func (s *Service) newArrivals() *batch.Batch[*arrival] {
	return batch.New(batch.Config{Most: togetherMax}, func(ctx context.Context, all []*arrival) error {
		ctx, cancel := context.WithTimeout(ctx, togetherWait)
		defer cancel()
		all = slices.DeleteFunc(all, (*arrival).isOver) // many, after a database that hung: nobody waits for them
		_ = s.acceptTogether(ctx, distinct(all))        // when it fails, each is tried by itself and told of its own error
		return nil
	})
}

// distinct returns those of all that speak of nobody of whom one before speaks, in the order of their keys, as employments, person keys
// and user names are written, too: two transactions that meet wait for one another.
func distinct(all []*arrival) []*arrival {
	spoken := make(map[[2]string]bool, 2*len(all))
	var out []*arrival
	for _, a := range all {
		id, key := [2]string{"id", a.fact.Employment.ExternalID}, [2]string{"key", a.fact.Record.PersonKey}
		if spoken[id] || key[1] != "" && spoken[key] {
			continue
		}
		spoken[id], spoken[key] = true, true
		out = append(out, a)
	}
	slices.SortFunc(out, func(a, b *arrival) int { return cmp.Compare(a.delivery.Key, b.delivery.Key) })
	return out
}

// errOnePerson is for a transaction of deliveries that turn out to speak of the same person: what each led to must be told apart.
var errOnePerson = errors.New("two deliveries speak of one person")

// acceptTogether stores deliveries of one source with all that they mean, in one transaction, and says of each that was new that
// it is stored.
func (s *Service) acceptTogether(ctx context.Context, all []*arrival) error {
	if len(all) == 0 {
		return nil
	}
	deliveries := make([]store.Delivery, len(all))
	for i, a := range all {
		deliveries[i] = a.delivery
	}
	var added map[string]bool
	err := s.store.InTx(ctx, func(tx store.Tx) (err error) {
		if added, err = tx.AddDeliveries(ctx, deliveries); err != nil {
			return err
		}
		now := s.now()
		var facts []store.Fact
		causes := make(map[string]bus.Cause, len(all)) // by delivery
		for _, a := range all {
			if !added[a.delivery.ID] {
				continue
			}
			said := []store.Fact{a.fact}
			attribute(a.delivery, said, now)
			facts = append(facts, said...)
			causes[a.delivery.ID] = a.cause
		}
		if len(facts) == 0 {
			return nil
		}
		people, err := s.open(ctx, tx, all[0].delivery.Source, facts)
		if err != nil {
			return err
		}
		of := make(map[string]bus.Cause, len(people))
		for _, f := range facts {
			if _, twice := of[f.Person]; twice {
				return errOnePerson
			}
			of[f.Person] = causes[f.DeliveryID]
		}
		return s.settle(ctx, tx, people, facts, func(person string) bus.Cause { return of[person] }, now)
	})
	if err != nil {
		return err
	}
	for _, a := range all {
		a.stored = added[a.delivery.ID]
	}
	return nil
}

// because is the cause of all that one delivery, or time, brings.
func because(cause bus.Cause) func(person string) bus.Cause {
	return func(string) bus.Cause { return cause }
}

// accept stores a delivery with all that it means, in one transaction, or finds what became of it before. What it
// returns without error is durable. One of a single fact, as most are, may share the transaction.
func (s *Service) accept(ctx context.Context, f *feed, d store.Delivery, r reading) (out outcome, err error) {
	if r.single() {
		if f.together(ctx, newArrival(ctx, d, r)) {
			return outcome{id: d.ID, items: r.results()}, nil
		}
	}
	err = s.store.InTx(ctx, func(tx store.Tx) (err error) {
		out, err = s.acceptIn(ctx, tx, d, r)
		return err
	})
	return out, err
}

// together stores a delivery with others that arrive, and tells whether it did. It takes no longer than ctx: then nobody knows, and
// the delivery's sender has to send it again.
func (f *feed) together(ctx context.Context, a *arrival) bool {
	done := make(chan bool, 1)
	go func() {
		defer close(done)
		defer func() { _ = recover() }() // what panics does so again, where it is reported, when it is tried by itself
		if err := f.arrivals.Do(ctx, a); err == nil {
			done <- a.stored
		}
	}()
	select {
	case stored := <-done:
		return stored
	case <-ctx.Done():
		return false
	}
}

// single tells whether a reading is of one fact and nothing else.
func (r reading) single() bool {
	return r.part == nil && r.whole == "" && len(r.held) == 0 && len(r.facts) == 1
}

// causeOf is what a delivery is to the events that it brings.
func causeOf(ctx context.Context, d store.Delivery) bus.Cause {
	return bus.Cause{CorrelationID: d.ID, TraceParent: telemetry.TraceParent(ctx)}
}
