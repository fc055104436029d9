package policy

import (
	"context"
	"fmt"

	"go.uber.org/zap"

	"github.com/tenurehq/tenure/pkg/bus"
	"github.com/tenurehq/tenure/services/policy/decide"
	"github.com/tenurehq/tenure/services/policy/internal/store"
	"github.com/tenurehq/tenure/services/policy/model"
)

// rules is the applied model, ready to decide by.
type rules struct {
	decide.Rules
	applied store.Model // without its files
}

// trigger makes the model's taking effect the cause of a decision.
func (r *rules) trigger() trigger {
	return trigger{
		event: r.applied.EventID,
		cause: bus.Cause{CorrelationID: r.applied.CorrelationID, CausationID: r.applied.EventID},
		since: r.applied.AppliedAt,
	}
}

// rules returns what holds now, nil before a model was applied. Another replica may have applied one, so the database
// is asked each time; the model itself is read and checked once.
func (s *Service) rules(ctx context.Context) (*rules, error) {
	seq, err := s.store.ModelSeq(ctx)
	if err != nil {
		return nil, err
	}
	if r := s.known(); r != nil && r.applied.Seq >= seq {
		return r, nil
	}
	if seq == 0 {
		return nil, nil //nolint:nilnil // no model is no error: nothing is decided yet
	}
	s.loading.Lock()
	defer s.loading.Unlock()
	if r := s.known(); r != nil && r.applied.Seq >= seq {
		return r, nil
	}
	applied, err := s.store.CurrentModel(ctx)
	if err != nil {
		return nil, err
	}
	// It was checked when it was applied. An application that is no longer configured must not stop decisions about the
	// others: what the model gives there is given to nobody.
	m, err := model.Load(applied.Files, nil)
	if err != nil {
		return nil, fmt.Errorf("the applied model %d: %w", applied.Seq, err)
	}
	for _, name := range m.Applications() {
		if _, ok := s.application(name); !ok {
			s.log.Warn("the model names an application that is not configured", zap.String("application", name))
		}
	}
	applied.Files = nil
	return s.use(&rules{Rules: decide.Rules{Model: m, Accounts: s.accounts}, applied: applied}), nil
}

func (s *Service) known() *rules {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.latest
}

// use makes r what is decided by, unless something newer is, and returns what is.
func (s *Service) use(r *rules) *rules {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.latest == nil || s.latest.applied.Seq < r.applied.Seq {
		s.latest = r
		s.metrics.model.Set(float64(r.applied.Seq))
	}
	return s.latest
}
