package bus

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tenurehq/tenure/pkg/fault"
)

const (
	publishTimeout = 10 * time.Second
	// maxPending bounds what is under way unacknowledged, over all publishers of the process.
	maxPending = 4096
)

// PublishChunk publishes events in order, pipelined, and returns nil when the stream has acknowledged every one. An
// event that the stream holds already counts as published, so a chunk may be published again. On an error any part
// of the chunk may have been stored: publish the whole of it again. It waits at most ten seconds.
//
// Errors: Unavailable when the stream is away or slow; TooLarge when an event can never be published.
func (b *Bus) PublishChunk(ctx context.Context, events []Event) error {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	for _, e := range events {
		if len(e.Data) > MaxData {
			return fault.New(fault.TooLarge, "event %s has a body of %d bytes, more than %d", e.ID, len(e.Data), MaxData)
		}
	}
	futures := make([]jetstream.PubAckFuture, 0, len(events))
	var failed error
	for i := range events {
		future, err := b.js.PublishMsgAsync(toMsg(&events[i]), jetstream.WithRetryAttempts(0), jetstream.WithStallWait(publishTimeout))
		if err != nil {
			failed = err
			break
		}
		futures = append(futures, future)
	}
	// All are waited for, also after a failure: the next attempt must not overtake this one.
	for _, future := range futures {
		select {
		case <-future.Ok(): // stored now, or earlier (Duplicate)
		case err := <-future.Err():
			failed = cmp.Or(failed, err) // the first: later ones follow from it
		case <-ctx.Done():
			failed = cmp.Or(failed, ctx.Err())
		}
	}
	if failed == nil {
		return nil
	}
	if errors.Is(failed, jetstream.ErrNoStreamResponse) || errors.Is(failed, nats.ErrDisconnected) {
		b.lookNow()
	}
	return fault.New(fault.Unavailable, "publish %d events: %w", len(events), failed)
}
