package ingest

import (
	"context"

	"github.com/tenurehq/tenure/services/ingest/internal/store"
)

// Fire decides about everybody who is due, as the scheduler does when it wakes.
func (s *Service) Fire(ctx context.Context) error {
	_, err := s.fire(ctx)
	return err
}

// DropRaw forgets what raw_retention has passed for, as the task does when it wakes.
func (s *Service) DropRaw(ctx context.Context) error { return s.dropRaw(ctx) }

// Happenings are the rows behind a timeline.
func (s *Service) Happenings(ctx context.Context, person string) ([]store.Happening, error) {
	return s.store.Happenings(ctx, person)
}

// MaxUnproven is how many bodies may be in flight whose sender is not known yet.
const MaxUnproven = maxUnproven
