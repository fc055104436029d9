package audit

import (
	"context"
	"time"

	"github.com/tenurehq/tenure/pkg/bus"
)

// TailEvery sets how often Run looks for what a stream lost at its end.
func (s *Service) TailEvery(d time.Duration) { s.tail = d }

// RecordAnew records as who has just got the lease.
func (s *Service) RecordAnew(ctx context.Context, events []bus.Event) error {
	s.forget()
	return s.record(ctx, events)
}
