package ingest

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/tenurehq/tenure/pkg/bus"
	"github.com/tenurehq/tenure/pkg/sqldb"
	"github.com/tenurehq/tenure/pkg/telemetry"
	"github.com/tenurehq/tenure/services/ingest/internal/store"
)

const (
	// leaseTTL is how long a replica that died keeps others from taking over.
	leaseTTL = 10 * time.Second
	// timerPoll bounds how late a due time is noticed that another process stored.
	timerPoll = time.Second
	// timerBatch is how many people are decided about in one transaction.
	timerBatch = 200
)

// timers makes true what was said to come, in one replica at a time.
func (s *Service) timers(ctx context.Context) error {
	return s.db.Lease(ctx, "timers", leaseTTL, func(ctx context.Context, _ int64) error {
		// Without the epoch: people are decided about under their rows' locks and only while they are due, so that a
		// holder that does not know yet that it lost the lease does nothing twice.
		defer s.metrics.nextDue.Store(0)
		for ctx.Err() == nil {
			wait, err := s.fire(ctx)
			if err != nil {
				if ctx.Err() != nil {
					return nil
				}
				s.log.Error("what is due could not be decided; it will be tried again", zap.Error(err))
				wait = timerPoll
			}
			s.sleep(ctx, wait)
		}
		return nil
	})
}

// sleep waits for d, for ctx to end, or for something that became due earlier.
func (s *Service) sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-s.wake:
	}
}

// fire decides about everybody who is due, batch by batch, and returns how long nothing will be.
func (s *Service) fire(ctx context.Context) (time.Duration, error) {
	for {
		due, err := s.store.NextDue(ctx)
		if err != nil {
			return 0, err
		}
		s.metrics.nextDue.Store(sqldb.Micros(due))
		switch wait := due.Sub(s.now()); {
		case due.IsZero() || wait > timerPoll:
			return timerPoll, nil
		case wait > 0:
			return wait, nil
		}
		if err := s.fireBatch(ctx); err != nil {
			return 0, err
		}
	}
}

func (s *Service) fireBatch(ctx context.Context) error {
	return s.store.InTx(ctx, func(tx store.Tx) error {
		now := s.now()
		people, err := tx.LockDue(ctx, now, timerBatch)
		if err != nil || len(people) == 0 {
			return err
		}
		return s.settle(ctx, tx, people, nil, because(bus.Cause{TraceParent: telemetry.TraceParent(telemetry.Span(ctx))}), now)
	})
}

const (
	// retentionEvery is how often raw bodies are looked at.
	retentionEvery = 10 * time.Minute
	// retentionBatch is how many bodies are dropped in one transaction.
	retentionBatch = 500
)

// retention forgets raw bodies whose time has passed, in one replica at a time.
func (s *Service) retention(ctx context.Context) error {
	return s.db.Lease(ctx, "retention", leaseTTL, func(ctx context.Context, _ int64) error {
		tick := time.NewTicker(retentionEvery)
		defer tick.Stop()
		for {
			if err := s.dropRaw(ctx); err != nil && ctx.Err() == nil {
				s.log.Error("raw bodies could not be dropped; it will be tried again", zap.Error(err))
			}
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
			}
		}
	})
}

func (s *Service) dropRaw(ctx context.Context) error {
	for _, name := range s.sourceNames() {
		before := s.now().Add(-s.sources[name].RawRetention)
		for {
			dropped := 0
			err := s.store.InTx(ctx, func(tx store.Tx) (err error) {
				dropped, err = tx.DropRaw(ctx, name, before, retentionBatch)
				return err
			})
			if err != nil {
				return err
			}
			if dropped < retentionBatch {
				break
			}
		}
	}
	return nil
}
