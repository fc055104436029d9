package outbox

import (
	"context"
	"math/rand/v2"
	"time"

	"go.uber.org/zap"

	"github.com/tenurehq/tenure/pkg/telemetry"
)

const (
	// askEvery is how often audit is asked.
	askEvery   = 3 * time.Second
	askTimeout = 5 * time.Second
)

// follow asks audit how far it is, until ctx ends. Every process does, whether it holds the lease or not: each has to
// know how far audit is behind, and forgetting twice is forgetting once.
func (o *Outbox) follow(ctx context.Context) error {
	answered := true
	for pause(ctx, askEvery/2+rand.N(askEvery)) { //nolint:gosec // G404: jitter needs no secrecy
		err := o.ask(ctx)
		switch {
		case ctx.Err() != nil:
		case err != nil && answered: // once per trouble
			o.log.Warn("audit does not answer, nothing is forgotten", zap.Error(err))
		case err == nil && !answered:
			o.log.Info("audit answers again")
		}
		answered = err == nil
	}
	return nil
}

// ask asks audit once and forgets what it has recorded.
func (o *Outbox) ask(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	seq, behind, err := o.recorded(ctx, o.origin)
	if err != nil {
		return err
	}
	// Audit knows of the holes that it has seen. That it has stopped recording shows only here.
	waiting, err := o.store.unrecorded(ctx, seq)
	if err != nil {
		return err
	}
	if !waiting.IsZero() {
		behind = max(behind, o.now().Sub(waiting))
	}
	o.mu.Lock()
	o.behind, o.heard = behind, time.Now()
	o.mu.Unlock()
	if seq == 0 {
		return nil
	}
	raised, err := o.store.raise(ctx, seq+1)
	if err != nil {
		return err
	}
	if raised {
		o.log.Error("audit has recorded events that this database does not know: was it restored from a backup?", zap.Uint64(telemetry.FieldSeq, seq))
	}
	return o.store.forget(ctx, seq)
}
