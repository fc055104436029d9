package ingest

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/tenurehq/tenure/pkg/batch"
	"github.com/tenurehq/tenure/pkg/bus"
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
	stored   bool            // else, without an error, it has to be looked at by itself
	err      error           // of a transaction that was its own
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
		switch err := s.acceptTogether(ctx, distinct(all)); {
		case err == nil:
		case len(all) == 1 && ctx.Err() == nil:
			all[0].err = err
		default:
			s.log.Debug("deliveries are stored one by one, not together", zap.Int("deliveries", len(all)), zap.Error(err))
		}
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
		if added, err = tx.AddDeliveries(ctx, deliveries); err != nil || len(added) == 0 {
			return err
		}
		now := s.now()
		var facts []store.Fact
		var causes []bus.Cause // of the facts
		for _, a := range all {
			if added[a.delivery.ID] {
				facts, causes = append(facts, a.fact), append(causes, a.cause)
				attribute(a.delivery, facts[len(facts)-1:], now)
			}
		}
		people, err := s.open(ctx, tx, all[0].delivery.Source, facts)
		if err != nil {
			return err
		}
		of := make(map[string]bus.Cause, len(people))
		for i, f := range facts {
			if _, twice := of[f.Person]; twice {
				return errOnePerson
			}
			of[f.Person] = causes[i]
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

// together stores a delivery with others that arrive, and tells whether it did; without an error it may still be stored by itself. It
// takes no longer than ctx: then nobody knows, and the delivery's sender has to send it again.
func (s *Service) together(ctx context.Context, f *feed, a *arrival) (stored bool, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if value := recover(); value != nil { // as a request that panics does not end the process either
				s.log.Error("storing deliveries together panicked", zap.Any("panic", value), zap.Stack("stack"))
			}
		}()
		_ = f.arrivals.Do(ctx, a) // fails only when another one's call panicked, and then nothing is stored
	}()
	select {
	case <-done:
		return a.stored, a.err
	case <-ctx.Done():
		return false, ctx.Err()
	}
}
