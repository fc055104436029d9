// Package batch lets what several callers want at the same time be done at once: a commit, and each round trip to a
// database, cost about as much for ten as for one.
package batch

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// Batch has things done together that are asked for while others are being done. Nobody waits for company: who comes first
// is served at once and alone. Safe for concurrent use.
type Batch[T any] struct {
	do   func(ctx context.Context, items []T) error
	most int

	mu      sync.Mutex
	busy    bool
	waiting []*call[T] // while busy
}

// call is one Do.
type call[T any] struct {
	item T
	turn chan bool // true: serve those who wait; false: err says what became of it
	err  error
}

// New returns a batch that is done by do, with at most most items at a time, one time after the other. When do fails for
// several items it is called again for each alone, so that only those suffer that cannot be done.
func New[T any](most int, do func(ctx context.Context, items []T) error) *Batch[T] {
	return &Batch[T]{do: do, most: most}
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
	if first || <-c.turn {
		b.serve(context.WithoutCancel(ctx))
	}
	return c.err
}

var errPanic = errors.New("what it was done with panicked")

// serve does what waits, up to most, the caller's own first, and hands over to the next one that waits.
func (b *Batch[T]) serve(ctx context.Context) {
	b.mu.Lock()
	n := min(b.most, len(b.waiting))
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
