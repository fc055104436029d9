package ingest

import (
	"context"
	"errors"

	"github.com/tenurehq/tenure/services/ingest/internal/store"
)

// JudgeRosters judges and takes in what there is, as the task does when it wakes.
func (s *Service) JudgeRosters(ctx context.Context) error {
	return errors.Join(s.judgeAll(ctx), s.showRosters(ctx))
}

// BeginRoster judges a roster and takes in its first parts, as a process does that dies after them.
func (s *Service) BeginRoster(ctx context.Context, source, id string, parts int) error {
	found, err := s.store.Rosters(ctx, source, id, 1)
	if err != nil {
		return err
	}
	r := found[0]
	all, err := s.store.RosterParts(ctx, source, id)
	if err == nil && r.State == store.RosterWhole {
		r, err = s.judgeOne(ctx, r, all)
	}
	for _, p := range all[:parts] {
		if err == nil {
			r, err = s.takePart(ctx, r, p)
		}
	}
	return err
}
