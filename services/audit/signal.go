package audit

import "sync"

// signal wakes everybody who waits for the next tell. Safe for concurrent use.
type signal struct{ s *signalState }

type signalState struct {
	mu sync.Mutex
	ch chan struct{}
}

func newSignal() signal { return signal{&signalState{ch: make(chan struct{})}} }

// next returns a channel that the next tell closes.
func (s signal) next() <-chan struct{} {
	s.s.mu.Lock()
	defer s.s.mu.Unlock()
	return s.s.ch
}

func (s signal) tell() {
	s.s.mu.Lock()
	defer s.s.mu.Unlock()
	close(s.s.ch)
	s.s.ch = make(chan struct{})
}
