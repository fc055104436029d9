package worker

import (
	"context"
	"sync"
)

// slots bound how many targets are worked on at a time. A quarter of them, at least one where there are two, is kept for
// urgent work; where there is only one, urgent work is next. Safe for concurrent use.
type slots struct {
	mu       sync.Mutex
	size     int
	used     int
	normal   int           // of used: by normal work
	hurrying int           // urgent ones that wait
	changed  chan struct{} // closed, and replaced, when a waiting one may be able to go on
}

func newSlots(size int) *slots {
	return &slots{size: max(1, size), changed: make(chan struct{})}
}

// resize changes how many there are; those in use stay.
func (s *slots) resize(size int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.size = max(1, size)
	s.tell()
}

func (s *slots) tell() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// take waits for a slot, until ctx ends.
func (s *slots) take(ctx context.Context, urgent bool) error {
	s.mu.Lock()
	if urgent {
		s.hurrying++
		defer func() { // under the lock, see the end of the loop
			s.hurrying--
			s.tell()
			s.mu.Unlock()
		}()
	} else {
		defer s.mu.Unlock()
	}
	for !s.free(urgent) {
		changed := s.changed
		s.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			s.mu.Lock()
			return ctx.Err()
		}
		s.mu.Lock()
	}
	s.used++
	if !urgent {
		s.normal++
	}
	return nil
}

func (s *slots) free(urgent bool) bool {
	if urgent {
		return s.used < s.size
	}
	return s.used < s.size && s.hurrying == 0 && s.normal < s.size-reserved(s.size)
}

// reserved is how many slots normal work may never have.
func reserved(size int) int {
	if size < 2 {
		return 0
	}
	return max(1, size/4)
}

// wanted says that something urgent waits for a slot.
func (s *slots) wanted() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hurrying > 0
}

func (s *slots) giveBack(urgent bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used--
	if !urgent {
		s.normal--
	}
	s.tell()
}

// busy returns how many are in use.
func (s *slots) busy() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.used
}

// count returns how many there are.
func (s *slots) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.size
}
