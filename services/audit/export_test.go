package audit

import "time"

// TailEvery sets how often Run looks for what a stream lost at its end.
func (s *Service) TailEvery(d time.Duration) { s.tail = d }
