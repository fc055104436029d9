package worker

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/tenurehq/tenure/services/provision/internal/store"
)

// claimed are targets, and when they were claimed.
type claimed struct {
	targets []store.Claimed
	at      time.Time
}

// line is one queue of due targets.
type line struct {
	lane   store.Lane
	cut    bool // of people who are cut, whichever lane theirs is in: they are not kept by what others wait for
	bell   chan struct{}
	lookAt time.Time // of the feed: there is nothing to claim before then, unless the bell rings

	// Whoever marks targets while the feed waits may claim them for it. Who took waits back sends one batch, if it is empty, too.
	waits  atomic.Bool
	handed chan claimed
}

func newLine(lane store.Lane, cut bool) *line {
	return &line{lane: lane, cut: cut, bell: make(chan struct{}, 1), handed: make(chan claimed, 1)}
}

// wait waits for a batch that somebody claimed for the feed, for the bell, or for the time at which another worker's mark or a retry may
// be due.
func (l *line) wait(ctx context.Context) claimed {
	timer := time.NewTimer(time.Until(l.lookAt))
	defer timer.Stop()
	l.waits.Store(true)
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-l.bell:
	case taken := <-l.handed:
		return taken
	}
	if l.waits.CompareAndSwap(true, false) {
		return claimed{}
	}
	return <-l.handed
}

// hand returns where to send a batch to, which has to be done then, or nil: the feed has something to do.
func (l *line) hand() chan<- claimed {
	if !l.waits.CompareAndSwap(true, false) {
		return nil
	}
	return l.handed
}
