package bus

import (
	"context"
	"errors"
	"time"
)

// Handler processes one fetched batch, in one transaction where it has one. nil acknowledges all of it; an error
// makes the consumer try the events one by one; an event that fails alone is retried with backoff for ever, or parked,
// visibly, when the error is Permanent. The stream never gives up: only our code may.
//
// Batches of one consumer are handled one after the other. ctx goes on for a short while after the consumer has been
// told to stop, so that what was taken can be finished; it ends when that time is over. With a single event ctx
// carries the event's traceparent and a logger that names it.
type Handler func(ctx context.Context, batch []Event) error

// Parker keeps an event that cannot be handled where people can see it. Park is called before the event is
// acknowledged, may be called again for the same consumer and event, and must then change nothing.
type Parker interface {
	Park(ctx context.Context, consumer string, e Event, cause error) error
}

// ConsumerConfig says what a consumer takes.
type ConsumerConfig struct {
	Name     string   // of the durable; replicas of a service share it
	Subjects []string // filters that do not overlap
	Park     Parker   // nil: never parks, retries for ever
	Batch    int      // most events in one call of the handler; 0 means 256
	// Gather is how long the handler's call waits for more events while the batch is not full: fewer, larger calls
	// for a handler that is in no hurry.
	Gather time.Duration
}

// permanent marks an error that no retry can cure.
type permanent struct{ error }

func (p permanent) Unwrap() error { return p.error }

// Permanent says of err that trying the event again cannot help. Its text is kept with a parked event and shown, so it
// must hold no personal value. Permanent of nil is nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return permanent{err}
}

// IsPermanent reports whether err, or what it wraps, was marked by Permanent.
func IsPermanent(err error) bool {
	var p permanent
	return errors.As(err, &p)
}
