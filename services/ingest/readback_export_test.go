package ingest

import (
	"context"

	"github.com/tenurehq/tenure/services/ingest/internal/store"
)

// ReadDue reads back everybody who is due, of all sources, as their tasks do when they wake.
func (s *Service) ReadDue(ctx context.Context) error {
	for _, r := range s.readers {
		if _, err := s.readDue(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

// ClaimAndDie takes who is due of a source, as a process does that dies before it has read them, and returns how many.
func (s *Service) ClaimAndDie(ctx context.Context, source string) (claimed int, err error) {
	err = s.store.InTx(ctx, func(tx store.Tx) error {
		taken, err := tx.ClaimReadbacks(ctx, source, newID(), s.now(), s.now().Add(claimFor), 10)
		claimed = len(taken)
		return err
	})
	return claimed, err
}
