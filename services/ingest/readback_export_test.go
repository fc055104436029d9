package ingest

import "context"

// ReadDue reads back everybody who is due, of all sources, as their tasks do when they wake.
func (s *Service) ReadDue(ctx context.Context) error {
	for _, r := range s.readers {
		if _, err := s.readDue(ctx, r); err != nil {
			return err
		}
	}
	return nil
}
