package bus

import (
	"context"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// inbox holds what the server has given to a consumer: what waits for the handler and what the handler has. The
// server's clock runs for both, so both are reported as in progress.
type inbox struct {
	ready chan struct{} // one token when something waits

	mu      sync.Mutex // guards what follows
	waiting []jetstream.Msg
	handled []jetstream.Msg
}

func newInbox() *inbox { return &inbox{ready: make(chan struct{}, 1)} }

func (i *inbox) put(m jetstream.Msg) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.waiting = append(i.waiting, m)
	i.signal()
}

// signal leaves one token.
func (i *inbox) signal() {
	select {
	case i.ready <- struct{}{}:
	default:
	}
}

// size is how many messages wait.
func (i *inbox) size() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return len(i.waiting)
}

// take moves up to n waiting messages to the handler, whose former ones are settled by now. There may be none: a
// message can come, with a token of its own, between the taking of a token and this.
func (i *inbox) take(n int) []jetstream.Msg {
	i.mu.Lock()
	defer i.mu.Unlock()
	n = min(n, len(i.waiting))
	i.handled = i.waiting[:n:n]
	i.waiting = i.waiting[n:]
	if len(i.waiting) > 0 {
		i.signal()
	}
	return i.handled
}

// keep restarts the server's clock for everything held, three times in ackWait, until ctx ends. An error means the
// connection is away: the server will deliver again, which is harmless.
func (i *inbox) keep(ctx context.Context) {
	ticker := time.NewTicker(ackWait / 3)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		i.mu.Lock()
		for _, m := range i.handled {
			_ = m.InProgress() // refused for what is settled already
		}
		for _, m := range i.waiting {
			_ = m.InProgress()
		}
		i.mu.Unlock()
	}
}

// giveBack returns what no handler has seen, for another replica or the next start to take at once.
func (i *inbox) giveBack() {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, m := range i.waiting {
		_ = m.Nak()
	}
	i.waiting, i.handled = nil, nil
}
