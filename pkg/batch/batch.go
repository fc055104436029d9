// Package batch lets what several callers want at the same time be done at once: a commit, and each round trip to a
// database, cost about as much for ten as for one.
package batch

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Config says what is done together. The zero value of each field but Most means that nobody waits for company: who comes first
// is served at once and alone, and those who come meanwhile after that.
type Config struct {
	Most     int           // items at a time
	Wait     time.Duration // for company, at most
	Expected func() int    // how many may come soon, those who wait already among them: nobody waits for more; nil: nobody
}

// Batch has things done together that are asked for at the same time, one batch after the other. Safe for concurrent use.
type Batch[T any] struct {
	do  func(ctx context.Context, items []T) error
	cfg Config

	mu      sync.Mutex
	busy    bool
	waiting []*call[T]    // while busy
	came    chan struct{} // holds one token when somebody came
}

// call is one Do.
type call[T any] struct {
	item T
	turn chan bool // true: serve those who wait; false: err says what became of it
	err  error
}

// New returns a batch that is done by do. When do fails for several items it is called again for each alone, so that only those
// suffer that cannot be done.
func New[T any](cfg Config, do func(ctx context.Context, items []T) error) *Batch[T] {
	return &Batch[T]{cfg: cfg, do: do, came: make(chan struct{}, 1)}
}

// Do has item done, perhaps with those of others, and returns what became of it. It does not end with ctx, whose values only
// count: others may depend on what is done with it.
func (b *Batch[T]) Do(ctx context.Context, item T) error {
	c := &call[T]{item: item, turn: make(chan bool, 1)}
	b.mu.Lock()
	b.waiting = append(b.waiting, c)
	first := !b.busy
	b.busy = true
	b.mu.Unlock()
	select {
	case b.came <- struct{}{}:
	default:
	}
	if first || <-c.turn {
		b.gather()
		b.serve(context.WithoutCancel(ctx))
	}
	return c.err
}

// gather waits for company.
func (b *Batch[T]) gather() {
	if b.cfg.Wait <= 0 || b.cfg.Expected == nil {
		return
	}
	over := time.NewTimer(b.cfg.Wait)
	defer over.Stop()
	for {
		b.mu.Lock()
		n := len(b.waiting)
		b.mu.Unlock()
		if n >= b.cfg.Most || n >= b.cfg.Expected() {
			return
		}
		select {
		case <-b.came:
		case <-over.C:
			return
		}
	}
}

var errPanic = errors.New("what it was done with panicked")

// serve does what waits, up to the most at a time, the caller's own first, and hands over to the next one that waits.
func (b *Batch[T]) serve(ctx context.Context) {
	b.mu.Lock()
	n := min(b.cfg.Most, len(b.waiting))
	calls := b.waiting[:n:n]
	b.waiting = b.waiting[n:]
	b.mu.Unlock()
	for _, c := range calls {
		c.err = errPanic // unless do returns
	}
	defer func() {
		for _, c := range calls[1:] {
			c.turn <- false
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.busy = len(b.waiting) > 0; b.busy {
			b.waiting[0].turn <- true
		}
	}()
	items := make([]T, n)
	for i, c := range calls {
		items[i] = c.item
	}
	err := b.do(ctx, items)
	if err != nil && n > 1 {
		for i, c := range calls {
			if c.err = b.do(ctx, items[i:i+1]); c.err != nil {
				c.err = fmt.Errorf("%w (with %d others: %w)", c.err, n-1, err)
			}
		}
		return
	}
	for _, c := range calls {
		c.err = err
	}
}
