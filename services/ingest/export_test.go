package ingest

import (
	"context"
	"fmt"

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

// Sent is what a source sent.
type Sent struct{ ID, Body string }

// AcceptTogether stores what would wait for the same transaction, and returns the ids of the deliveries; empty: it was not
// stored.
func (s *Service) AcceptTogether(ctx context.Context, source string, all ...Sent) ([]string, error) {
	arrivals := make([]*arrival, len(all))
	for i, sent := range all {
		d := newDelivery(source, sent.ID, "source:"+source, []byte(sent.Body), s.now(), s.now())
		read, err := s.sources[source].read(d.Body, d.SourceTime)
		if err != nil || !read.single() {
			return nil, fmt.Errorf("%s is not of one fact: %w", sent.ID, err)
		}
		arrivals[i] = newArrival(ctx, d, read)
	}
	err := s.acceptTogether(ctx, distinct(arrivals))
	ids := make([]string, len(all))
	for i, a := range arrivals {
		if a.stored {
			ids[i] = a.delivery.ID
		}
	}
	return ids, err
}
