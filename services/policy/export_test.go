package policy

import (
	"context"
	"time"

	"github.com/tenurehq/tenure/pkg/bus"
	"github.com/tenurehq/tenure/services/policy/decide"
)

// Decide decides about people as repair does, whatever events say.
func (s *Service) Decide(ctx context.Context, people ...string) error {
	triggers := map[string]trigger{}
	for _, id := range people {
		triggers[id] = trigger{}
	}
	return s.decide(ctx, triggers)
}

// Hear handles events as the consumers do.
func (s *Service) Hear(ctx context.Context, events ...bus.Event) error {
	return s.onLifecycle(ctx, events)
}

// Every is how often people are counted when it takes so long.
func Every(took time.Duration) time.Duration { return every(took) }

// ReleaseHeld is what repair does every second.
func (s *Service) ReleaseHeld(ctx context.Context) error { return s.releaseHeld(ctx) }

// SetBehind says how far audit lags, in the outbox's place.
func (s *Service) SetBehind(behind func() time.Duration) { s.behind = behind }

// Compare decides about everybody who is due.
func (s *Service) Compare(ctx context.Context) error {
	r, err := s.rules(ctx)
	if err != nil || r == nil {
		return err
	}
	return s.compare(ctx, r, true)
}

// ReleaseWithheld is what repair does every second.
func (s *Service) ReleaseWithheld(ctx context.Context) error { return s.releaseWithheld(ctx) }

// Commitment is what an Access event holds.
func Commitment(nonce []byte, person, app string, generation int64, access decide.Access) []byte {
	return commitment(nonce, person, app, generation, access)
}
