package worker

import (
	"context"
	"sync"
	"time"

	"github.com/tenurehq/tenure/pkg/connector"
	connectorv1 "github.com/tenurehq/tenure/proto/gen/tenure/connector/v1"
)

// Failures in a row after which the trouble is the application's, not a person's.
const tripAfter = 5

// breaker keeps calls from an application that as a whole does not work: it is down, or our credential is dead. While
// it is open no target is worked on, nobody's attempts are counted, and the worker asks the application itself
// (Check) whether it is back. Safe for concurrent use.
type breaker struct {
	mu       sync.Mutex
	cause    *connector.Problem // set: open
	failures int                // in a row
	delay    time.Duration      // before the next Check
	changed  chan struct{}      // closed, and replaced, when it opens or closes
}

const (
	firstProbe = 100 * time.Millisecond
	lastProbe  = 30 * time.Second
)

func newBreaker() *breaker {
	return &breaker{delay: firstProbe, changed: make(chan struct{})}
}

// report counts what a call showed; nil is a call that worked. It reports whether the breaker opened by it.
func (b *breaker) report(p *connector.Problem) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if p == nil || !tellsOfInstance(p) {
		b.failures = 0
		if b.cause == nil {
			b.delay = firstProbe
		}
		return false
	}
	b.failures++
	if b.cause != nil || p.Scope != connectorv1.Scope_SCOPE_INSTANCE && b.failures < tripAfter {
		return false
	}
	b.cause = p
	b.tell()
	return true
}

// tellsOfInstance says that a problem may be the whole application's. What the application answered about one account
// shows that it works.
func tellsOfInstance(p *connector.Problem) bool {
	switch p.Code {
	case connectorv1.Code_CODE_RATE_LIMITED:
		return false // throttling is not an outage
	case connectorv1.Code_CODE_TARGET_UNAVAILABLE, connectorv1.Code_CODE_OUTCOME_UNKNOWN,
		connectorv1.Code_CODE_DENIED, connectorv1.Code_CODE_AUTH:
		return true
	default:
		return p.Scope == connectorv1.Scope_SCOPE_INSTANCE
	}
}

func (b *breaker) tell() {
	close(b.changed)
	b.changed = make(chan struct{})
}

// open returns why the breaker is open; nil: it is closed.
func (b *breaker) open() *connector.Problem {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.cause
}

// waitFor waits until the breaker is open, or closed, or ctx ends.
func (b *breaker) waitFor(ctx context.Context, open bool) error {
	for {
		b.mu.Lock()
		is, changed := b.cause != nil, b.changed
		b.mu.Unlock()
		if is == open {
			return ctx.Err()
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// nextProbe returns how long to wait before the next Check; longer every time, until a call has worked again.
func (b *breaker) nextProbe() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	d := b.delay
	b.delay = min(2*d, lastProbe)
	return d
}

// close lets calls through again. The next failure of the whole application opens it at once.
func (b *breaker) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cause, b.failures = nil, tripAfter-1
	b.tell()
}
